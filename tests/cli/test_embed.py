"""`kexue-hf embed`: texts and files to JSON lines or an array, one-line errors."""

import json
from pathlib import Path

import numpy as np
import pytest

from kexue_hf import sentence_vectors
from kexue_hf.cli.main import main
from tests.pipelines.test_text_scoring import LONG, TEXTS, make

LINES = [*TEXTS, "", LONG]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tta")
    for part in make("tta", made):
        part.save_pretrained(made)
    return made


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES), encoding="utf-8")
    return file


def expected(tmp_path: Path, **options) -> np.ndarray:
    return sentence_vectors(*make("tta", tmp_path), LINES, **options)


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run the command and return stdout, or stderr if `code` is not 0."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["embed", *map(str, arguments)])
    captured = capsys.readouterr()
    assert stop.value.code == code, captured.err
    return captured.err if code else captured.out


def test_texts_become_json_lines(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in run(capsys, folder, *LINES, "--normalize").splitlines()]
    assert [row["text"] for row in rows] == LINES
    np.testing.assert_allclose([row["vector"] for row in rows], expected(tmp_path, normalize=True), atol=1e-5)


@pytest.mark.parametrize("texts_at_once", [1024, 2], ids=["one-chunk", "chunks"])
def test_a_file_becomes_an_array(
    folder: Path,
    lines: Path,
    tmp_path: Path,
    texts_at_once: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kexue_hf.cli.embed._TEXTS_AT_ONCE", texts_at_once)
    output = tmp_path / "vectors.npy"
    assert run(capsys, folder, "--file", lines, "--output", output, "--max-length", 6, "--batch-tokens", 20) == ""
    found = np.load(output)
    assert found.dtype == np.float32 and found.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(found, expected(tmp_path, max_length=6), atol=1e-5)
    assert not found[LINES.index("")].any()


@pytest.mark.parametrize("name", ["lines.txt", "lines.jsonl"])
def test_row_n_belongs_to_line_n(folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    written = [LONG, "", TEXTS[0]]
    as_line = {"lines.txt": str, "lines.jsonl": lambda text: json.dumps({"text": text}) if text else ""}[name]
    (tmp_path / name).write_text("".join(f"{as_line(text)}\n" for text in written), encoding="utf-8")
    rows = [json.loads(line) for line in run(capsys, folder, "--file", tmp_path / name).splitlines()]
    assert [row["text"] for row in rows] == written
    assert [any(row["vector"]) for row in rows] == [True, False, True]


def test_an_empty_file_is_an_array_without_rows(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").touch()
    run(capsys, folder, "--file", tmp_path / "empty.txt", "--output", tmp_path / "vectors.npy")
    assert np.load(tmp_path / "vectors.npy").shape == (0, make("tta", tmp_path)[0].config.hidden_size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either texts or --file"),
        (["a", "--file", "b.txt"], "expected either texts or --file"),
        (["--file", "missing.txt"], "does not exist"),
        (["a", "--batch-tokens", "0"], "batch_tokens must be at least 1"),
        (["a", "--max-length", "1000"], "max_length must be from"),
        (["a", "--output", "."], "name another"),
        (["a", "--output", "x.parquet"], "x.parquet: cannot write .parquet, only .jsonl or .npy"),
        (["a", "--text-column", "b"], "--text-column without --file has no effect"),
    ],
    ids=["nothing", "both", "no-file", "no-batch", "too-long", "a-folder", "other-format", "no-column"],
)
def test_errors_are_one_line(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = run(capsys, folder, *arguments, code=2)
    assert message in error and len(error.splitlines()) == 1


def test_a_failure_leaves_no_partial_array(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"words": 1}\n', encoding="utf-8")
    error = run(capsys, folder, "--file", tmp_path / "bad.jsonl", "--output", tmp_path / "vectors.npy", code=2)
    assert "bad.jsonl, line 2" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl"]


def save(model, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    make("tta", tmp_path)[1].save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_non_finite_vectors_are_refused(tmp_path: Path, capsys) -> None:
    model = make("tta", tmp_path)[0]
    model.bert.embeddings.LayerNorm.weight.data.fill_(6e4)
    name = save(model, tmp_path)
    error = run(capsys, name, "今天", "--dtype", "float16", "--output", tmp_path / "new" / "v.npy", code=2)
    assert "the vectors are not finite in float16: its largest number is 65,504: use dtype float32" in error
    assert not (tmp_path / "new").exists()


def encoder_decoder(tokens: int):
    from transformers import BartConfig, BartModel

    return BartModel(
        BartConfig(vocab_size=tokens, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
                   decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2)
    )  # fmt: skip


def text_and_image_encoder(tokens: int):
    from transformers import CLIPConfig, CLIPModel

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    pictures = {**sizes, "image_size": 16, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config={**sizes, "vocab_size": tokens}, vision_config=pictures))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (encoder_decoder, "is an encoder with a decoder (BartConfig); expected an encoder only"),
        (text_and_image_encoder, "is not a text encoder (CLIPConfig has no vocab_size); expected one"),
    ],
)
def test_models_that_are_not_text_encoders_are_refused(build, message: str, tmp_path: Path, capsys) -> None:
    error = run(capsys, save(build(18), tmp_path), "今天", code=2)
    assert message in error and len(error.splitlines()) == 1
