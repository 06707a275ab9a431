"""Model names that are neither a folder nor on the Hub give one line, at once."""

import time
from pathlib import Path

import pytest
from huggingface_hub import constants, utils

from kexue_hf.cli.main import main
from kexue_hf.errors import InputError
from kexue_hf.files import hub_names


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make the Hub unreachable and the cache empty."""

    class Session:
        def head(self, *arguments: object, **options: object) -> None:
            raise OSError("Name or service not known\nand more")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(utils, "get_session", Session)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("bert-base-chinese", True),
        ("google-bert/bert-base-chinese", True),
        ("./modle", False),
        ("/nowhere/modle", False),
        ("~/modle", False),
        ("out/checkpoints/last", False),
        ("here/modle", True),
        ("here/model", False),
        ("modle/", False),
        ("..", False),
        ("a..b", False),
        ("模型", False),
        ("bert_model.ckpt", False),
        ("chinese_wobert.zip", False),
        ("best_model.h5", False),
        ("", False),
    ],
)
def test_valid_hub_names(name: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_names.is_hub_name(name) is known


COMMANDS = (
    ("score", "NAME", "texts.txt"),
    ("embed", "NAME", "texts.txt"),
    ("match", "NAME", "甲", "乙"),
    ("correct", "NAME", "texts.txt"),
    ("extend", "NAME", "out"),
    ("convert", "NAME", "out"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("name", ["./modle", "modle", "org/modle"])
def test_a_mistyped_folder_gives_one_line_at_once(
    command: tuple[str, ...],
    name: str,
    unreachable: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("今天\n", encoding="utf-8")
    started = time.perf_counter()
    with pytest.raises(SystemExit) as stop:
        main([name if word == "NAME" else word for word in command])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1, error
    assert error.startswith(
        (f"kexue-hf: error: {name} is not a folder", "kexue-hf: error: modle: no such file, folder")
    )
    if name != "./modle":
        assert "cannot be downloaded from the Hub (https://huggingface.co: Name or service not known)" in error
    assert time.perf_counter() - started < 30, "no retries"


def cached_model(cache: Path, name: str) -> None:
    commit = "0" * 40
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "config.json").write_text("{}")


def test_cached_models_load_without_the_hub(unreachable: None, tmp_path: Path) -> None:
    cached_model(tmp_path / "cache", "org/model")
    for place in (hub_names.check_model_name("org/model"), hub_names.local_source("org/model")):
        assert Path(place, "config.json").read_text() == "{}"


def test_the_commit_comes_from_the_cache(unreachable: None, tmp_path: Path) -> None:
    cached_model(tmp_path / "cache", "org/model")
    place = hub_names.check_model_name("org/model")
    assert hub_names.commit_of("org/model") == hub_names.commit_of(place) == "0" * 40
    assert hub_names.commit_of("org/other") is hub_names.commit_of(str(tmp_path)) is None


def test_offline_mode_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"cannot be downloaded from the Hub \(HF_HUB_OFFLINE is set\)"):
        hub_names.check_model_name("kexue-hf-no-such-model")
    assert hub_names.check_model_name(str(tmp_path)) == str(tmp_path)


def test_local_sources_are_returned_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.index").touch()
    Path("folder").mkdir()
    for source in ("model", "folder", "none.h5", "./none", tmp_path):
        assert hub_names.local_source(source) == source


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_pytorch_file_is_fetched_only_without_safetensors(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, asked = {"config.json", weights, "flax_model.msgpack"}, []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        for file in sorted(there & set(allow_patterns)):
            (tmp_path / file).touch()
            asked.append(file)
        return str(tmp_path)

    monkeypatch.setattr(hub_names, "_unreachable", lambda: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert hub_names.local_source("org/model") == tmp_path
    assert asked == ["config.json", weights]
