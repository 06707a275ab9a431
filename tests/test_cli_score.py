"""`kexue-hf score`: texts, files in every form, n-best lists, tables, and one line for everything that goes wrong."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from kexue_hf.cli import main
from kexue_hf.pipelines import text_scoring
from kexue_hf.pipelines.text_scoring import score_texts
from tests.pipelines.test_text_scoring import LONG, TEXTS, make

LINES = [*TEXTS, LONG, ""]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from transformers import BertModel, GPT2Config, GPT2LMHeadModel

    made = {}
    for kind in ("tta", "bert"):
        made[kind] = tmp_path_factory.mktemp(kind)
        model, tokenizer = make(kind, made[kind])
        model.save_pretrained(made[kind])
        tokenizer.save_pretrained(made[kind])
    made["headless"], made["gpt"], made["mixed"] = (tmp_path_factory.mktemp(name) for name in ("h", "g", "m"))
    BertModel(model.config).save_pretrained(made["headless"])
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=20)).save_pretrained(made["gpt"])
    model.resize_token_embeddings(9)
    model.save_pretrained(made["mixed"])
    for name in ("headless", "gpt", "mixed"):
        tokenizer.save_pretrained(made[name])
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """stdout, or stderr where `code` is not 0."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["score", *map(str, arguments)])
    captured = capsys.readouterr()
    assert stop.value.code == code, captured.err
    return captured.err if code else captured.out


def rows_of(output: str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines()]


def assert_scores(rows: list[dict], kind: str, texts: list[str], tmp_path: Path, **options) -> None:
    expected = score_texts(*make(kind, tmp_path), texts, **options)
    assert [row["text"] for row in rows] == texts
    for row, score in zip(rows, expected, strict=True):
        assert row["log_prob"] == pytest.approx(score.log_prob, abs=1e-4)
        assert (row["num_tokens"], row["num_windows"]) == (len(score.tokens), score.windows)


@pytest.mark.parametrize("kind", ["tta", "bert"])
def test_texts_are_scored_in_their_order(kind: str, folders, capsys, tmp_path: Path) -> None:
    rows = rows_of(run(capsys, folders[kind], *LINES))
    assert_scores(rows, kind, LINES, tmp_path)
    assert rows[0]["method"] == ("one_pass" if kind == "tta" else "masking") and "tokens" not in rows[0]
    rows = rows_of(run(capsys, folders[kind], "今天", "--tokens", "--include-specials", "--method", "masking"))
    assert_scores(rows, kind, ["今天"], tmp_path, include_specials=True)
    assert [token["start"] for token in rows[0]["tokens"]] == [None, 0, 1, None]


@pytest.mark.parametrize("form", ["txt", "txt.gz", "stdin", "jsonl", "parquet"])
def test_line_n_of_the_output_is_that_of_the_input(
    form: str, folders, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexue_hf.cli_score._TEXTS_AT_ONCE", 4)  # several pieces
    path, options = tmp_path / f"texts.{form}", []
    content = "".join(f"{line}\n" for line in LINES).encode()
    if form == "txt":
        path.write_bytes(b"\xef\xbb\xbf" + content.removesuffix(b"\n").replace(b"\n", b"\r\n"))
    elif form == "txt.gz":
        path.write_bytes(gzip.compress(content))
    elif form == "stdin":
        path = Path("-")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    elif form == "jsonl":
        options = ["--text-column", "sentence"]
        rows = [json.dumps({"sentence": line}) if line else "" for line in LINES]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"text": LINES}), path)
    lines = LINES[:-1] if form == "txt" else LINES  # Nothing after the last line's end is no line.
    output = tmp_path / "new" / "scores.jsonl"
    assert run(capsys, folders["tta"], "--file", path, "--output", output, "--quiet", *options) == ""
    assert_scores(rows_of(output.read_text("utf-8")), "tta", lines, tmp_path)
    assert [file.name for file in output.parent.iterdir()] == ["scores.jsonl"]


def test_lists_are_ranked(folders, capsys, tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    lists = [{"candidates": ["今天", "好", "天气"], "scores": [-1, -2, -3]}, None, {"candidates": ["好", "天气"]}]
    path.write_text("".join(f"{json.dumps(row) if row else ''}\n" for row in lists), encoding="utf-8")
    rows = rows_of(run(capsys, folders["tta"], "--nbest", "--file", path, "--weight", 0.25))
    assert [len(row["candidates"]) for row in rows] == [3, 0, 2]
    for row in rows:
        totals = [candidate["total"] for candidate in row["candidates"]]
        assert totals == sorted(totals, reverse=True)
    for candidate in rows[0]["candidates"]:
        score = score_texts(*make("tta", tmp_path), [candidate["text"]])[0].log_prob
        assert candidate["total"] == pytest.approx(0.75 * [-1, -2, -3][candidate["place"]] + 0.25 * score, abs=1e-4)
    (row,) = rows_of(run(capsys, folders["tta"], "--nbest", "--length-normalized", "今天天气", "好"))
    assert {candidate["score"] for candidate in row["candidates"]} == {None}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_table(folders, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for arguments in (["今天", "龘", "", LONG, "--tokens"], ["今天", "", "--nbest"]):
        monkeypatch.setattr(sys, "stdout", Terminal())
        with pytest.raises(SystemExit):
            main(["score", str(folders["tta"]), *arguments])
        shown.append(sys.stdout.getvalue())
    texts, lists = shown
    head, first, token, *_ = texts.splitlines()
    assert head.split() == ["log_prob", "perplexity", "tokens", "text"]
    assert first.endswith("2  今天") and token.endswith("今")
    assert "龘  (1 unknown)" in texts and "windows)" in texts and "       -" in texts
    assert lists.splitlines()[0].split() == ["total", "log_prob", "score", "text"]


def test_an_interruption_leaves_nothing(folders, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments, **options):
        yield from score_texts(*arguments[:2], ["今天"])
        raise KeyboardInterrupt

    monkeypatch.setattr(text_scoring, "score_stream", interrupted)
    output = tmp_path / "scores.jsonl"
    output.write_text("old")
    arguments = (folders["tta"], "今天", "--output", output, "--overwrite")
    assert "interrupted; nothing was written" in run(capsys, *arguments, code=2)
    assert [file.name for file in tmp_path.iterdir()] == ["scores.jsonl"] and output.read_text() == "old"


def test_output_is_replaced_only_when_told(folders, capsys, tmp_path: Path) -> None:
    output = tmp_path / "scores.jsonl"
    output.write_text("old")
    assert "pass --overwrite" in run(capsys, folders["tta"], "今天", "--output", output, code=2)
    assert output.read_text() == "old"
    run(capsys, folders["tta"], "今天", "--output", output, "--overwrite")
    assert len(rows_of(output.read_text("utf-8"))) == 1
    assert "no ordinary file" in run(capsys, folders["tta"], "今天", "--output", tmp_path, code=2)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("no-such-model", ["x"], "no folder here, and not to be had from the Hub"),
        ("headless", ["x"], "lacks weights of a masked language model (cls.predictions.bias"),
        ("gpt", ["x"], "is no masked language model (GPT2Config)"),
        ("mixed", ["x"], "the tokenizer does not belong to the model: it knows 18 tokens, the model has 9"),
        ("bert", ["x", "--method", "one_pass"], "BertForMaskedLM sees the token that it is to predict"),
        ("bert", ["x", "--method", "two"], "method must be one of"),
        ("bert", [], "give either texts or --file"),
        ("bert", ["x", "--file", "LATIN"], "give either texts or --file"),
        ("bert", ["--file", "no.txt"], "no.txt does not exist"),
        ("bert", ["--file", "."], ". is a folder"),
        ("bert", ["--file", "LATIN"], "latin.txt, line 2: not UTF-8"),
        ("bert", ["--file", "JSON"], "rows.jsonl, line 1: has no column 'text', only a"),
        ("bert", ["--file", "JSON", "--nbest"], 'rows.jsonl, line 1: expected {"candidates"'),
        ("bert", ["--nbest", "x", "--weight", "3"], "weight must be from 0 to 1"),
        ("bert", ["x", "--batch-tokens", "0"], "batch_tokens must be at least 1"),
        ("bert", ["x", "--device", "tpu9"], "device 'tpu9' is none"),
        ("bert", ["x", "--dtype", "int8"], "dtype must be one of"),
    ],
    ids=lambda value: None if isinstance(value, list) else value.replace(" ", "_")[:30],
)
def test_what_goes_wrong_is_one_line(
    model: str, arguments: list[str], message: str, folders, capsys, tmp_path: Path
) -> None:
    (tmp_path / "latin.txt").write_bytes(b"a\n\xe9\n")
    (tmp_path / "rows.jsonl").write_text('{"a": "b"}\n')
    names = {"LATIN": tmp_path / "latin.txt", "JSON": tmp_path / "rows.jsonl"}
    output = run(capsys, folders.get(model, model), *(names.get(word, word) for word in arguments), code=2)
    assert len(output.strip().splitlines()) == 1 and output.startswith("kexue-hf: error: ")
    assert message in output


def test_a_tokenizer_of_another_vocabulary_is_refused(folders, capsys, tmp_path: Path) -> None:
    from kexue_hf.models.wobert.vocabulary_wobert import vocabulary_fingerprint

    model, tokenizer = make("tta", tmp_path)
    model.config.vocab_fingerprint = vocabulary_fingerprint(["something", "else"])
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert "fingerprint" in run(capsys, tmp_path / "model", "x", code=2)
