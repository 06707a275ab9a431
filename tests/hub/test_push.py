"""`kexue-hf push`: what is uploaded, and one line and no commit where it fails."""

import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.hub.hub_types import TOKENS, word_tokenizer
from tests.hub.loopback_hub import OWNER, TOKEN, Commit, LoopbackHub
from tests.models.tiny_models import tiny_model

Command = Callable[..., tuple[int, str, str]]
CARD = "---\nlicense: mit\nlanguage: zh\nbase_model: a/b\ndatasets:\n- a/c\n---\n# A model\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny_model("WoBertForMaskedLM", vocab_size=len(TOKENS)).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder; the Hub is empty and works, and nobody waits between two tries."""
    hub.repositories.clear()
    hub.objects.clear()
    hub.tokens.clear()
    hub.repair()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def published(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_one_commit_of_all_files(folder: Path, hub: LoopbackHub, command: Command) -> None:
    expected = published(folder)
    code, out, error = command("push", folder, "model", "--no-load", "--message", "First", "--private")
    assert (code, error) == (0, "") and f"uploaded: {hub.address}/{OWNER}/model/commit/" in out
    assert hub.files(f"{OWNER}/model") == expected
    assert hub.commits(f"{OWNER}/model") == ["First"] and hub.repositories[f"{OWNER}/model"].private
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_training_state_pickles_and_hidden_files_are_left_out(
    folder: Path, hub: LoopbackHub, command: Command
) -> None:
    expected = published(folder)
    left_out = ("checkpoint-3/optimizer.pt", "checkpoint-3/model.safetensors", "optimizer.pt", "scheduler.pt",
                "training_args.bin", "pytorch_model.bin", "rng_state.pth", ".git/config", ".cache/x", ".env",
                "__pycache__/a.pyc", "runs/events.out.tfevents.1", "trainer_state.json", "sub/rng_state_0.pth",
                "_README.new.md")  # fmt: skip
    for name in left_out:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x" * 1500)
    (folder / "sub" / "notes.txt").write_text("kept")
    code, out, _ = command("push", folder, "model", "--no-load")
    assert code == 0
    assert hub.files(f"{OWNER}/model") == {**expected, "sub/notes.txt": b"kept"}
    assert "3.0 kB  checkpoint-3/  left out: training state\n" in out and ".git/  left out: hidden" in out
    assert "warning: optimizer.pt (1.5 kB) is of use for training only; kexue-hf push leaves it out\n" in out
    assert "warning: pytorch_model.bin (1.5 kB) is a pickle, which can run any code when it is loaded" in out


def test_a_dry_run_needs_no_network(folder: Path, hub: LoopbackHub, command: Command, monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    code, out, _ = command("push", folder, "model", "--no-load", "--dry-run")
    assert code == 0 and "model.safetensors\n" in out and "error" not in out
    assert "nothing was uploaded; without --dry-run, it goes to OWNER/model, where OWNER is the account of your" in out
    code, out, _ = command("push", folder, "a/model", "--no-load", "--dry-run")
    assert code == 0 and out.endswith("nothing was uploaded; without --dry-run, it goes to a/model\n")
    code, out, _ = command("push", folder, "model", "--no-load", "--dry-run", "--json")
    report = json.loads(out)
    assert report["commit"] is None and report["errors"] == [] == report["left_out"]
    assert {file["path"]: file["bytes"] for file in report["files"]} == {
        name: len(content) for name, content in published(folder).items()
    }
    assert hub.requests == []


def test_a_branch_and_a_second_push(folder: Path, hub: LoopbackHub, command: Command) -> None:
    assert command("push", folder, "model", "--no-load")[0] == 0
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    code, out, _ = command("push", folder, f"{OWNER}/model", "--no-load", "--revision", "next/one", "--json")
    assert code == 0 and json.loads(out)["commit"].startswith(hub.address)
    assert hub.commits(f"{OWNER}/model") == ["Upload model"]
    assert len(hub.commits(f"{OWNER}/model", "next/one")) == 2
    assert hub.files(f"{OWNER}/model", "next/one") == published(folder)
    # Nothing has changed: no empty commit, and no claim of one.
    code, out, _ = command("push", folder, f"{OWNER}/model", "--no-load", "--revision", "next/one")
    assert code == 0 and "\nno new commit, all files are in http" in out and "uploaded: " not in out
    assert len(hub.commits(f"{OWNER}/model", "next/one")) == 2


# Route, status (0: the connection breaks half-way), what the line says.
FAILURES = [
    ("whoami", 401, "401: the token is missing or no longer valid: run `hf auth login`, or set HF_TOKEN"),
    ("whoami", 500, "500 (as asked by the test): the Hub has a problem: try again later"),
    ("create", 403, "403 (as asked by the test): the token may not write there"),
    ("create", 429, "429 (as asked by the test): too many requests"),
    ("validate", 500, "500"),
    ("validate", 0, "cannot be reached, or the connection broke"),
    ("preupload", 500, "500 (as asked by the test)"),
    ("preupload", 404, "404 (as asked by the test): there is no such repository or revision"),
    ("batch", 0, "cannot be reached, or the connection broke"),
    ("put", 500, "500 (as asked by the test)"),
    ("put", 0, "cannot be reached, or the connection broke"),
    ("commit", 401, "401 (as asked by the test): the token is missing or no longer valid"),
    ("commit", 409, "409 (as asked by the test): another change of the repository was in progress: try again"),
    ("commit", 412, "412 (as asked by the test): the repository changed meanwhile: try again"),
]


@pytest.mark.parametrize(("route", "status", "message"), FAILURES, ids=lambda value: str(value).split(":")[0][:20])
def test_a_failure_is_one_line_and_no_commit(
    route: str, status: int, message: str, folder: Path, hub: LoopbackHub, command: Command
) -> None:
    hub.fail(route, status)
    code, out, error = command("push", folder, "model", "--no-load")
    assert code == 2 and error.count("\n") == 1 and error.startswith("kexue-hf: error: model: ")
    assert message in error and error.endswith("no commit was made\n") and "uploaded" not in out
    assert hub.commits(f"{OWNER}/model") == [] == list(hub.files(f"{OWNER}/model"))
    # The same command succeeds once the Hub works.
    hub.repair()
    assert command("push", folder, "model", "--no-load")[0] == 0
    assert hub.files(f"{OWNER}/model") == published(folder) and len(hub.commits(f"{OWNER}/model")) == 1


@pytest.mark.parametrize(("route", "status"), [("whoami", 401), ("put", 0), ("commit", 500)])
def test_json_of_a_failure(route: str, status: int, folder: Path, hub: LoopbackHub, command: Command) -> None:
    hub.fail(route, status)
    code, out, error = command("push", folder, "model", "--no-load", "--json")
    report = json.loads(out)
    assert code == 2 and report["commit"] is None and report["files"]
    assert error == f"kexue-hf: error: {report['errors'][-1]}\n"


@pytest.mark.parametrize("status", [0, 500, 504])
@pytest.mark.parametrize("revision", ["main", "next"])
def test_a_lost_answer_to_a_commit(
    status: int, revision: str, folder: Path, hub: LoopbackHub, command: Command
) -> None:
    """The commit is made and the answer is lost: the branch shows that the files are there."""
    hub.fail("commit", status, lost=True)
    code, out, error = command("push", folder, "model", "--no-load", "--revision", revision)
    head = hub.repositories[f"{OWNER}/model"].branches[revision][-1]
    assert (code, error) == (0, "") and f"uploaded: {hub.address}/{OWNER}/model/commit/{head.oid}\n" in out
    assert hub.files(f"{OWNER}/model", revision) == published(folder)


@pytest.mark.parametrize("status", [0, 500])
def test_a_commit_that_failed_without_a_refusal(status: int, folder: Path, hub: LoopbackHub, command: Command) -> None:
    hub.fail("commit", status)
    code, out, error = command("push", folder, "model", "--no-load")
    assert code == 2 and error.count("\n") == 1 and "no commit is on the branch" in error and "uploaded" not in out
    assert f"see {hub.address}/{OWNER}/model/commits/main)" in error
    hub.repair()
    assert command("push", folder, "model", "--no-load")[0] == 0 and len(hub.commits(f"{OWNER}/model")) == 1


@pytest.mark.parametrize("kind", ["the Hub is gone", "another's commit"])
def test_a_commit_that_cannot_be_confirmed(
    kind: str, folder: Path, hub: LoopbackHub, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def create_commit(*_: object, **__: object) -> None:
        if kind == "the Hub is gone":
            hub.fail("info", 500)
        else:
            hub.repositories[f"{OWNER}/model"].branches["main"].append(Commit("9" * 40, "Upload model", {}, set()))
        raise ConnectionError("lost")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", create_commit)
    code, out, error = command("push", folder, "model", "--no-load")
    assert code == 2 and error.count("\n") == 1 and "uploaded" not in out
    assert f"whether a commit was made is not known: see {hub.address}/{OWNER}/model/commits/main\n" in error


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_gitignore_drops_no_file(place: str, folder: Path, hub: LoopbackHub, command: Command) -> None:
    expected = published(folder)
    if place == "folder":
        (folder / ".gitignore").write_text("*.safetensors\nREADME.md\n")
    else:
        command("push", folder, "model", "--no-load")
        rules = {".gitignore": b"*.safetensors\nREADME.md\n"}
        head = Commit("8" * 40, "rules", rules, set())
        hub.repositories[f"{OWNER}/model"].branches["main"].append(head)
        expected |= rules
    code, out, error = command("push", folder, "model", "--no-load")
    assert (code, error) == (0, "") and "\nuploaded: " in out
    assert hub.files(f"{OWNER}/model") == expected


def test_a_commit_without_a_file_is_an_error(
    folder: Path, hub: LoopbackHub, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexue_hf.hub.upload._IGNORE_NOTHING", "vocab.txt\n")
    code, out, error = command("push", folder, "model", "--no-load")
    assert code == 2 and "uploaded" not in out and "was made without 1 of " in error and ": vocab.txt\n" in error


@pytest.mark.parametrize(("there", "asked"), [("--public", "--private"), ("--private", "--public")])
def test_an_existing_repository_of_the_other_visibility(
    there: str, asked: str, folder: Path, hub: LoopbackHub, command: Command
) -> None:
    command("push", folder, "model", "--no-load", there)
    (folder / "notes.txt").write_text("new")
    code, _, error = command("push", folder, "model", "--no-load", asked, "--revision", "next")
    assert code == 2 and f"model exists and is {there[2:]}: change that in its settings" in error
    assert f"leave out {asked}; no commit was made\n" in error
    assert list(hub.repositories[f"{OWNER}/model"].branches) == ["main"]
    assert command("push", folder, "model", "--no-load", there)[0] == 0


@pytest.mark.parametrize("edited", [False, True])
def test_the_code_of_the_card_loads_the_repository(
    edited: bool, folder: Path, hub: LoopbackHub, command: Command
) -> None:
    readme = folder / "README.md"
    readme.unlink()
    command("card", folder, "--license", "mit")
    local = readme.read_text("utf-8") + ("\nMine.\n" if edited else "")
    readme.write_text(local, "utf-8")
    assert f'from_pretrained("{folder.name}"' in local and folder.name == "model"
    assert "warning: the code in README.md loads 'model', which only you have" in command("doctor", folder)[1]
    out = command("push", folder, "model", "--no-load")[1]
    there = hub.files(f"{OWNER}/model")["README.md"].decode()
    assert readme.read_text("utf-8") == local
    if edited:
        assert there == local
    else:
        assert "the code in the uploaded README.md loads the repository" in out
        assert there.count(f'from_pretrained("{OWNER}/model"') == 4 and 'from_pretrained("model"' not in there
        # The same push changes nothing.
        assert "no new commit" in command("push", folder, "model", "--no-load")[1]


def test_a_short_failure_is_tried_again(folder: Path, hub: LoopbackHub, command: Command) -> None:
    hub.fail("put", 500, times=2)
    code, _, error = command("push", folder, "model", "--no-load")
    assert (code, error) == (0, "") and len(hub.commits(f"{OWNER}/model")) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a--b", "a--b cannot be a repository's name: Cannot have -- or .. in repo_id"),
        ("a/b/c", "a/b/c cannot be a repository's name"),
        ("", "cannot be a repository's name"),
        ("模型", "cannot be a repository's name"),
        ("models", "the Hub answered 400 (Invalid name: models is reserved); no commit was made"),
        ("else/model", "You don't have the rights to create a model under else): the token may not write there"),
    ],
)
def test_a_name_that_is_refused(name: str, message: str, folder: Path, hub: LoopbackHub, command: Command) -> None:
    code, _, error = command("push", folder, name, "--no-load")
    assert code == 2 and message in error and error.count("\n") == 1 and not hub.repositories


def test_no_token(folder: Path, hub: LoopbackHub, command: Command, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    code, _, error = command("push", folder, "model", "--no-load")
    assert code == 2 and "no access token: run `hf auth login`, or set HF_TOKEN; no commit was made" in error
    assert hub.requests == []


@pytest.mark.parametrize("kind", ["closed port", "offline"])
def test_no_network(kind: str, folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", kind == "offline")
    code, _, error = command("push", folder, "model", "--no-load")
    assert code == 2 and error.count("\n") == 1 and error.endswith("no commit was made\n")
    assert ("HF_HUB_OFFLINE is set" if kind == "offline" else f"{constants.ENDPOINT} cannot be reached") in error


@pytest.mark.parametrize("force", [False, True])
def test_errors_stop_the_push_unless_forced(force: bool, folder: Path, hub: LoopbackHub, command: Command) -> None:
    (folder / "README.md").write_text("# no metadata\n")
    code, out, error = command("push", folder, "model", "--no-load", *(["--force"] if force else []))
    assert "error: README.md names no license" in out
    if force:
        assert (code, error) == (0, "") and len(hub.commits(f"{OWNER}/model")) == 1
    else:
        assert code == 2 and error.endswith("not ready for the Hub: 1 error, listed above; nothing was uploaded\n")
        assert hub.requests == []


def test_the_hubs_refusal_of_a_card(folder: Path, hub: LoopbackHub, command: Command) -> None:
    (folder / "README.md").write_text("---\nlicense: 5\n---\n# x\n")
    code, _, error = command("push", folder, "model", "--no-load", "--force")
    assert (
        code == 2
        and 'the Hub refuses README.md: "license" must be a string; no commit was made\n' in error
        and not hub.objects
    )
    assert hub.commits(f"{OWNER}/model") == [] and not hub.objects


def test_a_broken_download_is_completed_by_the_next(folder: Path, hub: LoopbackHub, command: Command) -> None:
    from kexue_hf.files.hub_names import local_source

    command("push", folder, "model", "--no-load")
    hub.fail("resolve", 0, times=1)
    found = Path(local_source(f"{OWNER}/model"))
    assert (found / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
