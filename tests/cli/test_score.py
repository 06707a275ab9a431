"""`kexue-hf score`: texts, files of every format, n-best lists, tables, one-line errors."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from kexue_hf.cli.main import main
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
    hot, _ = make("tta", made["tta"])
    hot.bert.embeddings.LayerNorm.weight.data.fill_(6e4)
    made["hot"] = tmp_path_factory.mktemp("hot")
    hot.save_pretrained(made["hot"])
    for name in ("headless", "gpt", "mixed", "hot"):
        tokenizer.save_pretrained(made[name])
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run the command and return stdout, or stderr if `code` is not 0."""
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
def test_texts_are_scored_in_order(kind: str, folders, capsys, tmp_path: Path) -> None:
    rows = rows_of(run(capsys, folders[kind], *LINES))
    assert_scores(rows, kind, LINES, tmp_path)
    assert rows[0]["method"] == ("one_pass" if kind == "tta" else "masking") and "tokens" not in rows[0]
    rows = rows_of(run(capsys, folders[kind], "今天", "--tokens", "--include-specials", "--method", "masking"))
    assert_scores(rows, kind, ["今天"], tmp_path, include_specials=True)
    assert [token["start"] for token in rows[0]["tokens"]] == [None, 0, 1, None]


@pytest.mark.parametrize("form", ["txt", "txt.gz", "stdin", "jsonl", "csv", "parquet"])
def test_line_n_of_the_output_belongs_to_line_n_of_the_input(
    form: str, folders, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexue_hf.cli.text_input._TEXTS_AT_ONCE", 4)  # several chunks
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
    elif form == "csv":
        options = ["--text-column", "sentence"]
        path.write_text("".join(["id,sentence\n", *(f'1,"{line}"\n' for line in LINES)]), encoding="utf-8")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"text": LINES}), path)
    lines = LINES[:-1] if form == "txt" else LINES  # the .txt has no line break after its last empty line
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


def test_an_interruption_leaves_no_files(folders, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments, **options):
        yield from score_texts(*arguments[:2], [next(iter(arguments[2]))])
        raise KeyboardInterrupt

    monkeypatch.setattr(text_scoring, "score_stream", interrupted)
    output = tmp_path / "scores.jsonl"
    output.write_text("old")
    arguments = (folders["tta"], "今天", "--output", output, "--overwrite")
    assert "interrupted; nothing was written" in run(capsys, *arguments, code=2)
    assert [file.name for file in tmp_path.iterdir()] == ["scores.jsonl"] and output.read_text() == "old"


def test_output_is_replaced_only_with_overwrite(folders, capsys, tmp_path: Path) -> None:
    output = tmp_path / "scores.jsonl"
    output.write_text("old")
    assert "pass --overwrite" in run(capsys, folders["tta"], "今天", "--output", output, code=2)
    assert output.read_text() == "old"
    run(capsys, folders["tta"], "今天", "--output", output, "--overwrite")
    assert len(rows_of(output.read_text("utf-8"))) == 1
    assert "not a regular file" in run(capsys, folders["tta"], "今天", "--output", tmp_path, code=2)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("no-such-model", ["x"], "is not a folder, and cannot be downloaded from the Hub"),
        ("headless", ["x"], "lacks weights of a masked language model (cls.predictions.bias"),
        ("gpt", ["x"], "is not a masked language model (GPT2Config)"),
        (
            "mixed",
            ["x"],
            "does not belong to the model: the tokenizer knows 18 tokens, the model's embedding has 9 rows",
        ),
        (
            "bert",
            ["x", "--method", "one_pass"],
            "method one_pass needs a model that does not see",
        ),
        ("bert", ["x", "--method", "two"], "method must be one of"),
        ("bert", [], "expected either texts or --file"),
        ("bert", ["x", "--file", "LATIN"], "expected either texts or --file"),
        ("bert", ["--file", "no.txt"], "no.txt does not exist"),
        ("bert", ["--file", "."], ". is a folder"),
        ("bert", ["--file", "LATIN"], "latin.txt, line 2: not UTF-8"),
        ("bert", ["--file", "JSON"], "rows.jsonl, line 1: has no column 'text', only a; name the text column"),
        ("bert", ["--file", "JSON", "--nbest"], 'rows.jsonl, line 1: expected {"candidates"'),
        ("bert", ["--nbest", "x", "--weight", "3"], "weight must be from 0 to 1"),
        ("bert", ["x", "--batch-tokens", "0"], "batch_tokens must be at least 1"),
        ("bert", ["x", "--device", "tpu9"], "no device 'tpu9'; expected auto, cpu"),
        ("bert", ["x", "--dtype", "int8"], "dtype must be one of"),
        ("bert", ["x", "--device", "meta"], "no device 'meta'; expected auto, cpu"),
        ("", ["x"], "no model: expected a folder or a name on the Hub"),
        ("bert", ["x", "--weight", "0.7"], "--weight without --nbest has no effect"),
        ("bert", ["x", "--length-normalized"], "--length-normalized without --nbest has no effect"),
        ("bert", ["x", "--nbest", "--tokens"], "--tokens with --nbest has no effect"),
        ("bert", ["--file", "JSON", "--nbest", "--text-column", "a"], "--text-column with --nbest has no effect"),
        ("bert", ["x", "--text-column", "a"], "--text-column without --file has no effect"),
        ("bert", ["--file", "LATIN", "--text-column", "a"], "no effect on lines of text ("),
        ("bert", ["--file", "-", "--text-column", "a"], "no effect on lines of text (stdin)"),
        ("bert", ["--file", "XLS"], "table.xls: expected .txt, .jsonl, .csv, .tsv, .parquet"),
        ("bert", ["--nbest", "--file", "SURROGATE"], "half.jsonl, line 2, candidate 1: half a surrogate pair"),
        ("bert", ["--nbest", "--file", "HUGE"], "huge.jsonl, line 1: scores must be finite numbers, got 1000"),
        ("bert", ["x", "--output", "new/x.jsonl.gz"], "x.jsonl.gz: cannot write .gz, only .jsonl;"),
        ("bert", ["x", "--output", "x.txt"], "x.txt: cannot write .txt"),
        ("hot", ["今天", "--dtype", "float16"], "scores are not finite in float16: its largest number is 65,504: use"),
    ],
    ids=lambda value: None if isinstance(value, list) else value.replace(" ", "_")[:30],
)
def test_errors_are_one_line(model: str, arguments: list[str], message: str, folders, capsys, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"a\n\xe9\n")
    (tmp_path / "rows.jsonl").write_text('{"a": "b"}\n')
    (tmp_path / "table.xls").write_text("text,label\n")
    (tmp_path / "half.jsonl").write_text('{"candidates": ["a"]}\n{"candidates": ["\\ud800"]}\n')
    (tmp_path / "huge.jsonl").write_text('{"candidates": ["a"], "scores": [1%s]}\n' % ("0" * 400))
    files = {"LATIN": "latin.txt", "JSON": "rows.jsonl", "XLS": "table.xls"}
    files |= {"SURROGATE": "half.jsonl", "HUGE": "huge.jsonl"}
    names = {word: tmp_path / file for word, file in files.items()}
    output = run(capsys, folders.get(model, model), *(names.get(word, word) for word in arguments), code=2)
    assert len(output.strip().splitlines()) == 1 and output.startswith("kexue-hf: error: ")
    assert message in output and len(output) < 250


def test_a_tokenizer_with_another_vocabulary_is_refused(folders, capsys, tmp_path: Path) -> None:
    from kexue_hf.models.wobert.vocabulary_wobert import vocabulary_fingerprint

    model, tokenizer = make("tta", tmp_path)
    model.config.vocab_fingerprint = vocabulary_fingerprint(["something", "else"])
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert "fingerprint" in run(capsys, tmp_path / "model", "x", code=2)


@pytest.mark.parametrize("name", ["a.parquet.txt", "a.jsonl.txt", "a.JSONL.TXT", "a"])
@pytest.mark.parametrize("command", ["score", "correct", "embed"])
def test_the_last_suffix_gives_the_format(command: str, name: str, folders, capsys, tmp_path: Path) -> None:
    (tmp_path / name).write_text("今天\n\n好\n", encoding="utf-8")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([command, str(folders["tta"]), "--file", str(tmp_path / name), "--quiet"])
    captured = capsys.readouterr()
    assert [row["text"] for row in rows_of(captured.out)] == ["今天", "", "好"], captured.err


@pytest.mark.parametrize("command", ["score", "correct", "embed"])
def test_suffixes_are_case_insensitive(command: str, folders, capsys, tmp_path: Path) -> None:
    (tmp_path / "A.JSONL.GZ").write_bytes(gzip.compress('{"text": "今天"}'.encode()))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([command, str(folders["tta"]), "--file", str(tmp_path / "A.JSONL.GZ"), "--quiet"])
    captured = capsys.readouterr()
    assert [row["text"] for row in rows_of(captured.out)] == ["今天"], captured.err


@pytest.mark.parametrize("output", [(), ("--output", "-")], ids=["default", "dash"])
def test_redirected_output_is_utf_8_in_any_locale(
    output: tuple[str, ...], folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with pytest.raises(SystemExit):
        main(["score", str(folders["tta"]), "今天", *output])
    assert [row["text"] for row in rows_of(written.getvalue().decode())] == ["今天"]
    assert not list(tmp_path.iterdir())


def test_lists_are_read_in_chunks_of_bounded_size(folders, capsys, tmp_path: Path, monkeypatch) -> None:
    from kexue_hf.generation import reranking

    monkeypatch.setattr("kexue_hf.cli.score._CHARACTERS_AT_ONCE", 5)
    sizes, rerank_lists = [], reranking.rerank_lists

    def spied(model, tokenizer, lists, **options):
        sizes.append(len(lists))
        return rerank_lists(model, tokenizer, lists, **options)

    monkeypatch.setattr(reranking, "rerank_lists", spied)
    rows = [["今天"], ["好", "天"], [], ["今天天气不错"], ["", "", "", "", ""], ["好"]]
    (tmp_path / "lists.jsonl").write_text("".join(f"{json.dumps({'candidates': row})}\n" for row in rows))
    found = rows_of(run(capsys, folders["tta"], "--nbest", "--file", tmp_path / "lists.jsonl"))
    assert [len(row["candidates"]) for row in found] == [len(row) for row in rows]
    assert sizes == [2, 2, 1, 1]


@pytest.mark.parametrize("shown", ["terminal", "pipe"])
def test_the_bar_counts_batches_and_is_cleared_before_each_result(
    shown: str, folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.txt").write_text("今天\n" * 40, encoding="utf-8")
    monkeypatch.setattr("kexue_hf.cli.result_output._BAR_AFTER", 0)
    monkeypatch.setattr("kexue_hf.cli.result_output._BAR_EVERY", 0)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", screen if shown == "terminal" else io.StringIO())
    with pytest.raises(SystemExit):
        main(["score", str(folders["tta"]), "--file", str(tmp_path / "texts.txt")])
    written = screen.getvalue()
    assert "0 texts [" in written and "1 batches]" in written
    assert "16 texts [" in written and "32 texts [" in written and "3 batches]" in written
    for line in written.split("\n"):
        # A bar on this line must have been overwritten with spaces.
        assert "batches]" not in line.rpartition("\r")[2]
