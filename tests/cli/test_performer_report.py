"""`kexue-hf performer-report`: the table, figures as JSON, the plot, one-line errors."""

import json
from pathlib import Path

import pytest
import torch
import transformers

import kexue_hf
from kexue_hf.cli.main import main
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FEATURE_MAPS
from tests.performer.test_report import SIZES, TEXTS, tiny, tokenizer_of_words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny-bert")
    tiny().save_pretrained(made)
    tokenizer_of_words().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("texts") / "text.txt"
    # All lines of a .txt form one text.
    file.write_text("\n".join(TEXTS).replace(" w1", "\nw1"), encoding="utf-8")
    return file


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run the command and return stdout, or stderr if `code` is not 0."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["performer-report", *map(str, arguments)])
    captured = capsys.readouterr()
    assert stop.value.code == code, captured.err
    if code:
        assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
    return captured.err if code else captured.out


def test_a_report(folder: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    made = tmp_path / "report.json"
    arguments = (folder, "--file", text, "--lengths", "8,16", "--pieces", 4, "--max-length", 20, "--output", made)
    shown = run(capsys, *arguments, "--features", 32, "--layers", "0-1", "--feature-map", "favor+", "--quiet")
    found = json.loads(made.read_text("utf-8"))
    assert f"{folder.name} (BertForMaskedLM)" in shown and "Verdict" in shown
    assert (found["feature_map"], found["num_features"], found["max_length"]) == ("favor+", 32, 20)
    assert found["pieces_found"] == 11  # 200 tokens, 18 in a piece, the last of 2 left out: the lines are one text
    assert [bool(layer["errors"]) for layer in found["layers"]] == [True, True, False]
    assert found["loss_kind"] == "masked-word"
    assert [at["length"] for at in found["speed"]["lengths"]] == [8, 16]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert "exists" in run(capsys, *arguments, code=2)


def test_rows_of_json_without_speed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row is a text, and reading stops after a number of characters."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"body": row}) + "\n" for row in [*TEXTS, "", "w1"]), encoding="utf-8")
    shown = run(capsys, folder, "--file", file, "--text-column", "body", "--no-speed")
    assert "8 pieces of up to 32 tokens" in shown and "times faster" not in shown
    monkeypatch.setattr("kexue_hf.cli.performer_report._CHARACTERS", len(TEXTS[0]) + 1)
    assert "4 pieces of up to 32 tokens" in run(capsys, folder, "--file", file, "--text-column", "body", "--no-speed")


def test_a_causal_model(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, vocab_size=50)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt")
    tokenizer_of_words().save_pretrained(tmp_path / "gpt")
    assert "next-word loss" in run(capsys, tmp_path / "gpt", "--file", text, "--no-speed", "--pieces", 2)


def test_a_swapped_model_keeps_its_settings(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kexue_hf import use_performer

    use_performer(tiny(), "favor++", 24, layers=[0]).save_pretrained(tmp_path)
    tokenizer_of_words().save_pretrained(tmp_path)
    shown = run(capsys, tmp_path, "--file", text, "--no-speed")
    assert "map favor++, 24 features" in shown and "as saved" in shown and "uncalibrated" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--file", "none.txt"), "does not exist"),
        (("--file", "empty.txt"), "is empty"),
        (("--file", "short.txt"), "too few for two pieces"),
        (("--file", "short.txt", "--text-column", "text"), "no effect"),
        (("--layers", "7"), "3 attention layers"),
        (("--layers", "a"), "--layers"),
        (("--layers", "0-99999999"), "is too large"),
        (("--lengths", ""), "--lengths"),
        (("--lengths", "0"), "at least 1"),
        (("--pieces", "1"), "at least 2"),
        (("--features", "0"), "at least 1"),
        (("--max-length", "100"), "from 3 to 32"),
        (("--feature-map", "best"), "low_order"),
        (("--picture", "picture.txt"), ".png"),
        (("--picture", "short.txt/picture.png"), "its parent is a file"),
        (("--device", "abacus"), "no device"),
    ],
    ids=lambda value: "-".join(value).replace("--", "") if isinstance(value, tuple) else "",
)
def test_errors_are_one_line(
    folder: Path,
    text: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text(" \n\n", encoding="utf-8")
    Path("short.txt").write_text("w1 w2 w3", encoding="utf-8")
    given = () if "--file" in arguments else ("--file", text)
    speed = () if "--lengths" in arguments else ("--no-speed",)
    assert message in run(capsys, folder, *given, *speed, "--output", "made.json", *arguments, code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.txt", "short.txt"]


def test_the_help_names_all_feature_maps(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = run(capsys, "--help")
    assert all(name in shown for name in FEATURE_MAPS)


def test_a_matcher_of_several_tasks_is_refused_in_one_line(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = kexue_hf.ClnMatcherConfig(**SIZES, task_names=["a", "b"])
    kexue_hf.ClnMatcherForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer_of_words().save_pretrained(tmp_path)
    assert "model.fold_task('a')" in run(capsys, tmp_path, "--file", text, "--no-speed", code=2)


def test_models_that_cannot_be_reported_on(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a folder" in run(capsys, tmp_path / "none", "--file", text, code=2)
    tiny().save_pretrained(tmp_path / "bare")
    assert "tokenizer" in run(capsys, tmp_path / "bare", "--file", text, code=2)
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, vocab_size=50)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer_of_words().save_pretrained(tmp_path)
    assert "decoder" in run(capsys, tmp_path, "--file", text, code=2)


def test_missing_matplotlib_is_reported_at_once(
    folder: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = run(capsys, folder, "--file", text, "--picture", tmp_path / "picture.png", code=2)
    assert "pip install matplotlib" in message


def test_out_of_memory_is_one_line_that_names_the_right_options(
    folder: Path, text: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr("kexue_hf.performer.report.report.compare_variants", fails)
    assert "lower --max-length or --pieces" in run(capsys, folder, "--file", text, "--no-speed", code=2)
