"""`kexue-hf doctor FOLDER` as the check before an upload: each fault is one line, and the exit code says it."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors

from kexue_hf.hub import private_traces
from kexue_hf.hub.folder_files import FolderFile
from kexue_hf.hub.folder_report import folder_report
from kexue_hf.hub.remote_code import import_problems
from kexue_hf.integrations.auto_classes import MODEL_TYPES
from tests.hub.hub_types import TOKENS, TYPES, word_tokenizer
from tests.hub.test_hub_copy import auto_classes
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
def folder(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def without_entry(folder: Path, auto: str) -> dict[str, str]:
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    return {name: reference for name, reference in auto_map.items() if name != auto}


def rename_class(folder: Path) -> None:
    path = folder / "modeling_wobert.py"
    path.write_text(path.read_text("utf-8").replace("class WoBertForCausalLM", "class Other"), encoding="utf-8")


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text("utf-8") + text, encoding="utf-8")


def in_shards(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir()
    names = safetensors.safe_open(folder / "model.safetensors", "np").keys()
    (folder / "model.safetensors").rename(folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, name)}))


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def secret_beside(folder: Path) -> Path:
    path = folder.parent / "secret"
    path.write_text("hf_secret")
    return path


def card(folder: Path, front: str) -> None:
    (folder / "README.md").write_text(f"---\n{front}\n---\n# A model\n", encoding="utf-8")


def test_a_ready_folder(folder: Path, command: Command) -> None:
    code, out, error = command("doctor", folder)
    assert (code, error) == (0, "") and "error: " not in out and "warning: " not in out
    assert "transformers" not in out and json.loads(command("doctor", folder, "--json")[1])["versions"]["transformers"]
    assert " files to publish, " in out and "configuration, weights, vocabulary and code fit together" in out


FAULTS = [
    (lambda f: (f / "layers.py").write_text("x") and edit_json(
        f / "config.json", auto_map={**without_entry(f, ""), "AutoModel": "layers.Missing"}),
     "AutoModel names Missing, which layers.py does not define"),
    (rename_class, "AutoModelForCausalLM names WoBertForCausalLM, which modeling_wobert.py does not define"),
    (lambda f: edit_json(f / "config.json", auto_map=without_entry(f, "AutoModelForMaskedLM")),
     "auto_map of config.json lacks AutoModelForMaskedLM"),
    (lambda f: edit_json(f / "config.json", auto_map={**without_entry(f, ""), "AutoModel": "a/b--modeling.X"}),
     "AutoModel uses code of another repository, a/b--modeling.X"),
    (lambda f: edit_json(f / "config.json", auto_map={**without_entry(f, ""), "AutoModel": "WoBertModel"}),
     "AutoModel should name MODULE.CLASS, got 'WoBertModel'"),
    (lambda f: edit_json(f / "config.json", custom_pipelines={"x": {"impl": "score.Pipe"}}) or
     (f / "score.py").write_text("class Other: pass\n"), "pipeline x names Pipe, which score.py does not define"),
    (lambda f: (f / "losses_wobert.py").unlink(), "imports losses_wobert.py, which is not in the folder"),
    (lambda f: (f / "losses_wobert.py").write_text("def ("), "losses_wobert.py is not valid Python"),
    (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    (lambda f: (f / "tokenizer_config.json").unlink(), "no tokenizer_config.json: save the tokenizer"),
    (lambda f: (f / "vocab.txt").write_text("a\nb\n"), "vocab.txt is not the vocabulary that the weights"),
    (lambda f: (f / "README.md").unlink(), "no README.md: kexue-hf card"),
    (lambda f: card(f, "language: zh"), "README.md names no license: kexue-hf card"),
    (lambda f: card(f, "license: [mit, x]"), "README.md should name one license as a text, got ['mit', 'x']"),
    (lambda f: card(f, "license: mit\nbase_model: /data/x"), "base_model should be a name on the Hub, got '/data/x'"),
    (lambda f: card(f, "license: : mit"), "the metadata at the top of README.md cannot be read"),
    (lambda f: card(f, "- mit"), "the metadata at the top of README.md cannot be read"),
    (lambda f: card(f, "license: mit\nmodel-index: 5"), "the metadata at the top of README.md cannot be read"),
    (lambda f: (f / "README.md").write_bytes(b"\xff"), "README.md is not UTF-8"),
    (lambda f: edit_json(f / "config.json", _name_or_path="/home/me/runs/1"),
     "config.json names a path of this machine, /home/me/runs/1"),
    (lambda f: edit_json(f / "tokenizer_config.json", name_or_path=str(f)),
     "tokenizer_config.json names a path of this machine"),
    (lambda f: (f / "notes.md").write_text("C:\\Users\\me\\x"),
     "notes.md names a path of this machine, C:\\Users\\me\\x"),
    (lambda f: (f / "notes.md").write_text("token hf_" + "a" * 34), "notes.md holds an access token of the Hub"),
    # Needed files whose names are those of training state.
    (lambda f: append(f / "modeling_wobert.py", "from .optimizer_notes import x\n") or
     (f / "optimizer_notes.py").write_text("x = 1\n"),
     "optimizer_notes.py is needed, and is not published because of its name (training state): rename it"),
    (lambda f: in_shards(f, "runs/part.safetensors"),
     "runs/ is needed, and is not published because of its name (training state): rename it"),
    (lambda f: edit_json(f / "config.json", custom_pipelines={"x": {"impl": "score.Pipe"}}),
     "pipeline x names score.py, which is not in the folder"),
    (lambda f: (f / "losses_wobert.py").write_text("-" * 500_000 + "1"), "losses_wobert.py is too deeply nested"),
    # Links that leave the folder, lead nowhere, to a folder, or to what is not published.
    (lambda f: link(f / "notes", secret_beside(f)), "notes is a link, and not to a published file"),
    (lambda f: link(f / "broken", f / "nothing"), "broken is a link, and not to a published file"),
    (lambda f: (f / "sub").mkdir() or link(f / "linked", f / "sub"), "linked is a link, and not to a published file"),
    (lambda f: (f / ".env").write_text("x") and link(f / "env.txt", f / ".env"),
     "env.txt is a link, and not to a published file"),
    (lambda f: link(f / "a.json", f / "a.json"), "a.json is a link, and not to a published file"),
    (lambda f: os.mkfifo(f / "pipe"), "pipe is a pipe, a socket or a device, not a file: remove it"),
    (lambda f: edit_json(f / "config.json", auto_map={**without_entry(f, ""), "AutoModel\x1b]0;x\x07": "a.b.c"}),
     r"AutoModel\x1b]0;x\x07 should name MODULE.CLASS"),
    (lambda f: card(f, "license: mit\nbase_model: runs/model"), "base_model should be a name on the Hub"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), FAULTS, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_a_fault_is_one_line_and_exit_code_2(
    damage: Callable[[Path], object],
    message: str,
    folder: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # `base_model: runs/model` names a local folder only where there is one.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "model").mkdir(parents=True)
    damage(folder)
    code, out, error = command("doctor", folder)
    assert out.replace("\n", "").isprintable()
    (line,) = (line for line in out.splitlines() if line.startswith("error: ") and message in line)
    assert code == 2 and error.count("\n") == 1 and line.removeprefix("error: ") not in error
    assert re.search(rf"{re.escape(str(folder))} is not ready for the Hub: \d+ errors?, listed above$", error)
    code, out, _ = command("doctor", folder, "--json")
    assert code == 2 and line.removeprefix("error: ") in json.loads(out)["errors"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: card(f, "license: mit\nbase_model: a/b\ndatasets: [c]"), "README.md names no language"),
        (lambda f: card(f, "license: mit\nlanguage: zh\ndatasets: [c]"), "README.md names no base_model"),
        (lambda f: card(f, "license: mit\nlanguage: zh\nbase_model: a/b"), "README.md names no datasets"),
        (lambda f: card(f, "license: other"), "README.md: license other needs license_name and license_link"),
        (lambda f: (f / "optimizer.pt").write_bytes(b"x"), "optimizer.pt (1 B) is of use for training only"),
        (lambda f: (f / "training_args.bin").write_bytes(b"x"), "training_args.bin (1 B) is of use for training only"),
        (lambda f: (f / "old.pkl").write_bytes(b"x"), "old.pkl (1 B) is a pickle"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_warning_does_not_fail(
    damage: Callable[[Path], object], message: str, folder: Path, command: Command
) -> None:
    damage(folder)
    code, out, error = command("doctor", folder)
    assert (code, error) == (0, "") and any(line.startswith(f"warning: {message}") for line in out.splitlines())


def test_urls_and_common_paths_are_no_traces(folder: Path) -> None:
    text = "https://kexue.fm/archives/7758 and/or </a/b> `/usr/bin/python` a/b/c ![x](docs/x.svg) s3://home/me/x\n"
    text += "../home/me/x https://a.b/home/me hf_hub_download_with_a_long_name task-0123456789012345678901\n"
    (folder / "notes.md").write_text(text)
    assert folder_report(folder).all_errors == []


TRACES = [
    ("run.sh", "PYTHONPATH=/usr/lib:/home/me/x", "names a path of this machine, /home/me/x"),
    ("a.ipynb", '{"a": "file:///home/me/x"}', "names a path of this machine, /home/me/x"),
    ("a.toml", "x = '/Users/me/x'", "names a path of this machine, /Users/me/x"),
    ("train.log", "saved to //home/me/x", "names a path of this machine, /home/me/x"),
    ("Makefile", "hf_jwt_" + "aB3" * 12, "holds an access token of the Hub"),
    ("a.ini", "hf_oauth_" + "aB3" * 12, "holds an access token of the Hub"),
    ("a.cfg", "AKIA" + "Z7" * 8, "holds an access key of AWS"),
    ("a.html", "ghp_" + "a1" * 18, "holds an access token of GitHub"),
    ("a.env.txt", "OPENAI=sk-proj-" + "a1" * 18, "holds an API key (sk-...)"),
    ("key", "-----BEGIN RSA PRIVATE KEY-----", "holds a private key"),
    ("vocab.txt.old", "hf_" + "a" * 34, "holds an access token of the Hub"),
]


@pytest.mark.parametrize(("name", "text", "message"), TRACES, ids=[name for name, _, _ in TRACES])
def test_traces_are_found_in_any_text_file(
    name: str, text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also far into a large file, across the parts in which it is read, in UTF-16 and in GB18030."""
    monkeypatch.setattr(private_traces, "_BLOCK", 1 << 12)
    files = [FolderFile(name, 0)]
    for before in (0, private_traces._BLOCK - 10, 3 * private_traces._BLOCK - 20):
        (tmp_path / name).write_text("\n" * before + text + "\n", encoding="utf-8")
        (line,) = private_traces.private_traces(tmp_path, files)
        assert line.startswith(f"{name} {message}")
    for encoding in ("utf-16", "gb18030", "latin-1"):
        (tmp_path / name).write_text(f"{'é ' if encoding == 'latin-1' else '笔记 '}{text}", encoding=encoding)
        assert private_traces.private_traces(tmp_path, files) == [line]
    (tmp_path / name).write_bytes(b"\0\xff" + text.encode())
    assert private_traces.private_traces(tmp_path, files) == []


def test_a_path_is_shown_as_it_was_written(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16", "gb18030"):
        (tmp_path / "说明.txt").write_text("训练集在 /home/zhang/数据/训练.txt", encoding=encoding)
        (line,) = private_traces.private_traces(tmp_path, [FolderFile("说明.txt", 0)])
        assert "/home/zhang/数据/训练.txt" in line


def test_the_edge_of_a_part_makes_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path, or a part of a URL, at each place around the edges of the parts."""
    monkeypatch.setattr(private_traces, "_BLOCK", 1 << 12)
    block, overlap = private_traces._BLOCK, private_traces._OVERLAP
    for text in ("x../home/me/x", "https://a.b/home/me/x", "s3://home/me/x"):
        for place in (*range(block - 20, block + 4, 3), *range(block - overlap - 30, block - overlap + 4, 3)):
            (tmp_path / "a").write_text(" " * place + text + " " * block)
            assert private_traces.private_traces(tmp_path, [FolderFile("a", 0)]) == [], (text, place)


def test_links_within_the_folder_and_in_the_cache_are_published(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").symlink_to("README.md")
    assert folder_report(folder).all_errors == []
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / ("1" * 40)
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        shutil.copy(path, blobs / path.name)
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    report = folder_report(snapshot)
    assert report.all_errors == [] == report.left_out and len(report.files) == len(list(folder.iterdir()))


def test_a_model_of_another_library(folder: Path, command: Command) -> None:
    """`recover_performer.py` saves a BERT as a BERT. Its files, card and traces are examined, not its weights."""
    config = json.loads((folder / "config.json").read_text())
    del config["auto_map"]
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    (folder / "notes.sh").write_text("cd /home/me/x\n")
    code, out, error = command("doctor", folder)
    assert code == 2 and "warning: 'gpt2' is not a model type of kexue_hf: weights and vocabulary were not" in out
    assert "is not ready for the Hub: 1 error, listed above" in error and "error: notes.sh names a path of this" in out
    assert "fit together" not in out
    (folder / "notes.sh").unlink()
    assert command("doctor", folder)[0] == 0
    (folder / "model.safetensors").unlink()
    assert "no file of weights" in command("doctor", folder)[1]


def test_an_adapter_is_named_as_what_it_is(tmp_path: Path, command: Command) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    for name in ("doctor", "card"):
        code, _, error = command(name, tmp_path)
        assert code == 2 and "an adapter of PEFT; expected a whole model" in error


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    import none\nexcept ImportError:\n    class Pipe: pass\n",
        "try:\n    import os\nexcept ImportError:\n    pass\nelse:\n    class Pipe: pass\n",
        "if 0:\n    pass\nelif 1:\n    class Pipe: pass\n",
        "from .layers import *\n",
        "try:\n    pass\nfinally:\n    class Pipe: pass\n",
        "A, Pipe = 1, type\n",
        "Pipe: type = object\n",
        "import contextlib\nwith contextlib.suppress(ImportError):\n    class Pipe: pass\n",
        "for Pipe in [int]:\n    pass\n",
    ],
    ids=["except", "else", "elif", "star", "finally", "tuple", "annotated", "with", "for"],
)
def test_a_class_defined_below_the_top(code: str, folder: Path) -> None:
    (folder / "score.py").write_text(code)
    (folder / "layers.py").write_text("class Pipe: pass\n")
    edit_json(folder / "config.json", custom_pipelines={"x": {"impl": "score.Pipe"}})
    assert folder_report(folder).all_errors == []


@pytest.mark.parametrize("arguments", [("doctor",), ("push", "a/model", "--no-load")], ids=["doctor", "push"])
@pytest.mark.parametrize("content", [None, "{", '{"model_type": 3}'], ids=["missing", "damaged", "untyped"])
def test_json_of_a_folder_that_cannot_be_examined(
    arguments: tuple[str, ...], content: str | None, folder: Path, command: Command
) -> None:
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    name, *others = arguments
    code, out, error = command(name, folder, *others, "--json")
    assert code == 2 and error.count("\n") == 1
    report = json.loads(out)
    assert len(report["errors"]) == 1 and "config.json" in report["errors"][0] and report["files"] == []
    assert ("versions" in report) == (name == "doctor") and ("commit" in report) == (name == "push")


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_saved_model_is_complete(model_type: str, tmp_path: Path) -> None:
    kind = TYPES[model_type]
    tokenizer, name = kind.tokenizer(), list(auto_classes(model_type).values())[-1]
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
    tiny_model(name, **sizes, **kind.options(0)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(CARD)
    report = folder_report(tmp_path)
    assert report.all_errors == [] == report.warnings == report.left_out


@pytest.mark.slow
def test_the_code_is_imported_in_a_fresh_process(folder: Path) -> None:
    """One process for each folder: an undamaged one, and one whose faults only an import shows."""
    config = json.loads((folder / "config.json").read_text())
    assert import_problems(folder, config) == []
    path = folder / "losses_wobert.py"
    path.write_text(f"{path.read_text('utf-8')}\nimport kexue_hf\n", encoding="utf-8")
    problems = import_problems(folder, config)
    assert len(problems) == len({*config["auto_map"].values()}) - 1  # the configuration alone still loads
    assert all("cannot be loaded without kexue_hf: " in problem for problem in problems)


@pytest.mark.slow
def test_the_import_has_the_published_files_and_no_token(folder: Path, command: Command, monkeypatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (folder / "latest").write_text("x")
    append(
        folder / "configuration_wobert.py",
        """
import os, pathlib
from huggingface_hub import get_token
seen = [name for name in os.environ if "KEY" in name or name == "HF_TOKEN"], get_token()
raise RuntimeError(f"{seen} {os.path.exists(os.path.join(sys.argv[1], 'latest'))} {os.listdir(sys.argv[1])[:0]}")
""".replace("import os", "import os, sys"),
    )
    out = command("doctor", folder, "--load")[1]
    assert "RuntimeError: ([], None) False []" in out


def test_code_that_waits_is_one_line(folder: Path, command: Command, monkeypatch) -> None:
    monkeypatch.setattr("kexue_hf.hub.remote_code._SECONDS", 1)
    append(folder / "configuration_wobert.py", "\nimport time\ntime.sleep(60)\n")
    code, out, error = command("doctor", folder, "--load")
    assert code == 2 and error.count("\n") == 1 and "the code was not imported within 1 seconds" in out


@pytest.mark.slow
def test_load_reports_what_reading_does_not_show(folder: Path, command: Command) -> None:
    path = folder / "configuration_wobert.py"
    path.write_text(path.read_text("utf-8") + "\nraise RuntimeError('at import')\n", encoding="utf-8")
    assert command("doctor", folder)[0] == 0
    code, out, _ = command("doctor", folder, "--load")
    assert code == 2 and "cannot be loaded without kexue_hf: RuntimeError: at import" in out
