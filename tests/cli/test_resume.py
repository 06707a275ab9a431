"""`--resume` of score, embed and match: the same file as from an uninterrupted run, wherever the run was stopped."""

import importlib
import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kexue_hf import WoBertTokenizer
from kexue_hf.batch import model_loading
from kexue_hf.cli import embed as cli_embed
from kexue_hf.cli import match as cli_match
from kexue_hf.cli import run_facts, text_input
from kexue_hf.cli import score as cli_score
from kexue_hf.cli.main import main
from kexue_hf.files.resumable_results import ResumableResults
from kexue_hf.models.wobert import segmentation_wobert
from tests.pipelines import matchers, test_text_scoring

TEXTS = [*test_text_scoring.TEXTS, "", test_text_scoring.LONG, "今天", "好的今天", "天"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a T-TA, a matcher, and input files for both."""
    made = tmp_path_factory.mktemp("models")
    for name, make, kind in (("tta", test_text_scoring.make, "tta"), ("matcher", matchers.make, "matcher")):
        (made / name).mkdir()
        for part in make(kind, made / name):
            part.save_pretrained(made / name)
    pairs = matchers.PAIRS * 2
    write = {
        "lines.txt": TEXTS,
        "rows.jsonl": [json.dumps({"text": text}) for text in TEXTS],
        "lists.jsonl": [json.dumps({"candidates": [text, "今天"], "scores": [-1, -2]}) for text in TEXTS],
        "pairs.jsonl": [json.dumps({"text_a": a, "text_b": b}) for a, b in pairs],
        "a.txt": [a for a, _ in pairs],
        "b.txt": [b for _, b in pairs],
    }
    for name, lines in write.items():
        (made / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return made


COMMANDS = {
    "score": (["score", "tta", "--file", "lines.txt", "--tokens"], "out.jsonl"),
    "nbest": (["score", "tta", "--file", "lists.jsonl", "--nbest"], "out.jsonl"),
    "embed": (["embed", "tta", "--file", "rows.jsonl"], "out.jsonl"),
    "array": (["embed", "tta", "--file", "lines.txt", "--normalize"], "out.npy"),
    "match": (["match", "matcher", "--file", "pairs.jsonl"], "out.jsonl"),
    "files": (["match", "matcher", "--files", "a.txt", "b.txt"], "out.jsonl"),
}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    for module, name in (
        (text_input, "_TEXTS_AT_ONCE"),
        (cli_score, "_LISTS_AT_ONCE"),
        (cli_embed, "_TEXTS_AT_ONCE"),
        (cli_match, "_PAIRS_AT_ONCE"),
    ):
        monkeypatch.setattr(module, name, 3)


def run(arguments: list[str], output: Path, *options: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--output", str(output), *options])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def interrupt(monkeypatch: pytest.MonkeyPatch, row: int, error: BaseException | None = None) -> None:
    write = ResumableResults.write

    def stopped(self: ResumableResults, result: str | bytes) -> None:
        if self.rows == row:
            monkeypatch.setattr(ResumableResults, "write", write)
            raise error or KeyboardInterrupt
        write(self, result)

    monkeypatch.setattr(ResumableResults, "write", stopped)


@pytest.mark.parametrize("command", [*COMMANDS, "correct"])
@pytest.mark.parametrize("quiet", [False, True])
def test_an_empty_file_has_an_empty_result(
    command: str, quiet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given, name = COMMANDS.get(command, (["correct", "tta", "--file", "lines.txt", "--threshold", "1"], "out.jsonl"))
    for file in [file for file in given if file.endswith((".txt", ".jsonl"))]:
        (tmp_path / file).touch()
    given = [str(tmp_path / part) if part.endswith((".txt", ".jsonl")) else part for part in given]
    assert run(given, tmp_path / name, *["--quiet"] * quiet) == 0
    if name.endswith(".npy"):
        assert np.load(tmp_path / name).shape[0] == 0
    else:
        assert (tmp_path / name).read_bytes() == b""
    error = capsys.readouterr().err
    assert error == "" if quiet else error.endswith(": the result is empty\n") and error.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("row", [3, 7])
def test_a_resumed_file_equals_an_uninterrupted_one(
    command: str, row: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, name = COMMANDS[command]
    assert run(arguments, tmp_path / f"whole_{name}") == 0
    interrupt(monkeypatch, row)
    assert run(arguments, tmp_path / name) == 2
    assert "the results so far are kept" in capsys.readouterr().err
    assert run(arguments, tmp_path / name, "--resume") == 0
    assert f"{row - row % 3} rows already have results" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole_{name}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"whole_{name}"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory; the results so far are kept"),
        (RuntimeError("CUDA out of memory"), "not enough memory; the results so far are kept"),
        (ValueError("a row is odd"), "a row is odd; the results so far are kept"),
        (OSError(28, "full"), "out.jsonl: the disk is full (full); free some space and try again; the results so far"),
    ],
    ids=["memory", "gpu_memory", "row", "disk"],
)
def test_an_error_keeps_the_results_and_says_so(
    error: BaseException,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, name = COMMANDS["score"]
    interrupt(monkeypatch, 5, error)
    assert run(arguments, tmp_path / name) == 2
    assert message in capsys.readouterr().err
    assert run(arguments, tmp_path / name, "--resume") == 0
    assert "3 rows already have results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "function"),
    [
        ("score", "pipelines.text_scoring.score_texts"),
        ("nbest", "generation.reranking.rerank_lists"),
        ("embed", "pipelines.sentence_vectors.sentence_vectors"),
        ("match", "pipelines.text_matching._match"),
    ],
)
def test_chunk_sizes_continue_after_an_interruption(
    command: str, function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last digits of a result depend on the other texts in its chunk."""
    monkeypatch.setattr("kexue_hf.pipelines.chunks._FIRST_TEXTS", 1)
    place, _, function = function.rpartition(".")
    module = importlib.import_module(f"kexue_hf.{place}")
    compute, sizes = getattr(module, function), []

    def spied(model: Any, tokenizer: Any, chunk: list[Any], *more: Any, **options: Any) -> Any:
        sizes.append(len(chunk))
        return compute(model, tokenizer, chunk, *more, **options)

    monkeypatch.setattr(module, function, spied)
    arguments, name = COMMANDS[command]
    assert run(arguments, tmp_path / f"whole_{name}") == 0
    whole = sizes[:]
    assert whole[:4] == [1, 1, 2, 3]
    interrupt(monkeypatch, 3)
    assert run(arguments, tmp_path / name) == 2
    sizes.clear()
    assert run(arguments, tmp_path / name, "--resume") == 0
    assert sizes == whole[2:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "tta", "--file", "lines.txt"], "had --tokens True, this one has False"),
        (
            ["score", "tta", "--file", "lines.txt", "--tokens", "--batch-tokens", "50"],
            "had --batch-tokens as its default",
        ),
        (["score", "tta", "--file", "lists.jsonl", "--nbest"], "this one has "),
        (["embed", "tta", "--file", "lines.txt"], "this one has "),
        (["score", "tta", "--file", "a.txt", "--tokens"], "row 3 of the input has changed"),
    ],
    ids=["option", "batch", "form", "command", "input"],
)
def test_a_changed_command_or_input_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupt(monkeypatch, 5)
    assert run(COMMANDS["score"][0], tmp_path / "out.jsonl") == 2
    capsys.readouterr()
    assert run(arguments, tmp_path / "out.jsonl", "--resume") == 2
    assert message in capsys.readouterr().err
    assert run(COMMANDS["score"][0], tmp_path / "out.jsonl", "--resume", "--quiet") == 0


@pytest.mark.parametrize(
    ("file", "counts"),
    [("parts/weights.safetensors", True), ("vocab.txt.bak", False), (".parts/config.json", False), ("x.jsonl", False)],
)
def test_files_of_a_model_in_subfolders_count(
    file: str,
    counts: bool,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(folder / "tta", tmp_path / "tta")
    arguments = ["score", str(tmp_path / "tta"), "--file", "lines.txt"]
    output = tmp_path / "tta" / "out.jsonl"
    interrupt(monkeypatch, 5)
    assert run(arguments, output) == 2
    (tmp_path / "tta" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "tta" / file).touch()
    capsys.readouterr()
    assert run(arguments, output, "--resume") == 2 * counts
    assert ("the interrupted run had model" in capsys.readouterr().err) is counts


def test_an_interrupted_evaluation_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.dumps({"text_a": a, "text_b": b, "label": 1}) for a, b in matchers.PAIRS * 2]
    (tmp_path / "judged.jsonl").write_text("\n".join(rows), encoding="utf-8")

    def stopped(results: Any, *_: Any) -> Any:
        yield from itertools.islice(results, 5)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_match, "with_progress", stopped)
    arguments = ["match", "matcher", "--file", str(tmp_path / "judged.jsonl"), "--evaluate", "--task", "loose"]
    assert run(arguments, tmp_path / "out.jsonl") == 2
    assert capsys.readouterr().err == "kexue-hf: error: interrupted; nothing was written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["judged.jsonl"]


def test_the_choices_of_auto_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(monkeypatch, 5)
    arguments = COMMANDS["embed"][0]
    assert run(arguments, tmp_path / "out.jsonl") == 2
    load = model_loading.load_encoder
    with monkeypatch.context() as patch:

        def loaded(*names: str) -> tuple[Any, Any]:
            model, tokenizer = load(*names)
            return model.to(torch.bfloat16), tokenizer

        patch.setattr(model_loading, "load_encoder", loaded)
        assert run(arguments, tmp_path / "out.jsonl", "--resume") == 2
    assert "the interrupted run had dtype 'float32', this one has 'bfloat16'" in capsys.readouterr().err
    assert run(arguments, tmp_path / "out.jsonl", "--resume") == 0


@pytest.mark.parametrize("installed", ["rjieba", "jieba"])
def test_the_segmenter_and_the_commit_are_part_of_the_facts(
    installed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", encoding="utf-8")
    tokenizer = WoBertTokenizer(str(tmp_path / "vocab.txt"))
    monkeypatch.setattr(segmentation_wobert, "installed", lambda backend: (installed, None))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.2")
    config = SimpleNamespace(name_or_path="org/model", _commit_hash="abc")
    model = SimpleNamespace(config=config, device=torch.device("cuda:1"), dtype=torch.float16)
    facts = {"device": "cuda", "dtype": "float16", "commit": "abc", "segmenter": f"{installed} 1.2"}
    assert run_facts.loaded_model_facts(model, tokenizer) == facts
    assert run_facts.loaded_model_facts(model, None) == {**facts, "segmenter": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "tta", "今天", "--resume"], "--resume without --output"),
        (["embed", "tta", "今天", "--output", "-", "--resume"], "--resume without --output"),
        (["match", "matcher", "--file", "pairs.jsonl", "--evaluate", "--resume"], "--resume does not work with"),
    ],
    ids=["stdout", "dash", "evaluate"],
)
def test_resume_without_effect_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err
