"""`kexue-hf correct`: texts, files of every format, evaluation, calibration, the report, one-line errors."""

import csv
import gzip
import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from kexue_hf import Corrector
from kexue_hf.cli.main import main
from kexue_hf.evaluation.correction import correction_metrics
from kexue_hf.evaluation.correction_report import correction_report, metrics_report
from kexue_hf.pipelines.confusion import is_han
from tests.pipelines.correction_models import LONG, TEXTS, make

LINES = [*TEXTS, LONG, ""]
THRESHOLD = 0.5
PAIRS = [("遇到逆竟时", "遇到逆境时"), ("", ""), ("今天天汽不错", "今天天气不错"), ("我们", "我们")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tta")
    for part in make("tta", made):
        part.save_pretrained(made)
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run the command and return stdout, or stderr if `code` is not 0."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["correct", *map(str, arguments)])
    captured = capsys.readouterr()
    assert stop.value.code == code, captured.err
    return captured.err if code else captured.out


def expected(texts: list[str], folder: Path, **options) -> list[dict]:
    return [
        found.to_dict() for found in Corrector(*make("tta", folder), threshold=THRESHOLD, **options).correct(texts)
    ]


def assert_same(output: str, wanted: list[dict]) -> None:
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["corrected"] for row in rows] == [row["corrected"] for row in wanted]
    assert [row["text"] for row in rows] == [row["text"] for row in wanted]
    for row, other in zip(rows, wanted, strict=True):
        places = [[(one["start"], one["replacement"]) for one in each["corrections"]] for each in (row, other)]
        assert places[0] == places[1]


def test_texts_are_corrected_in_order(folder: Path, capsys, tmp_path: Path) -> None:
    wanted = expected(LINES, tmp_path)
    assert sum(len(row["corrections"]) for row in wanted) > 5
    assert_same(run(capsys, folder, *LINES, "--threshold", THRESHOLD), wanted)
    wanted = expected(LINES, tmp_path, candidates="top_k", rounds=2, method="masking")
    options = ["--candidates", "top_k", "--rounds", 2, "--method", "masking", "--threshold", THRESHOLD]
    assert_same(run(capsys, folder, *LINES, *options), wanted)


@pytest.mark.parametrize("form", ["txt", "txt.gz", "stdin", "jsonl", "csv"])
@pytest.mark.parametrize("to", ["jsonl", "txt"])
def test_line_n_of_the_output_belongs_to_line_n_of_the_input(
    form: str, to: str, folder: Path, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexue_hf.cli.text_input._TEXTS_MASKED_AT_ONCE", 4)  # several chunks
    path, options = tmp_path / f"texts.{form}", ["--threshold", THRESHOLD]
    content = "".join(f"{line}\n" for line in LINES).encode()
    if form == "txt":
        path.write_bytes(content)
    elif form == "txt.gz":
        path.write_bytes(gzip.compress(content))
    elif form == "stdin":
        path = Path("-")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    else:
        options += ["--text-column", "sentence"]
        rows = [json.dumps({"sentence": line}) if line else "" for line in LINES]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    if form == "csv":
        rows = ["id,sentence", *(f'1,"{line}"' for line in LINES)]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    output = tmp_path / "new" / f"corrected.{to}"
    assert run(capsys, folder, "--file", path, "--output", output, "--quiet", *options) == ""
    wanted = expected(LINES, tmp_path)
    if to == "txt":
        assert output.read_text("utf-8").split("\n")[:-1] == [row["corrected"] for row in wanted]
    else:
        assert_same(output.read_text("utf-8"), wanted)
    run(capsys, folder, "--file", path, "--output", output, code=2)  # not overwritten without --overwrite


# Characters at which str.splitlines splits but a file's lines do not end, in the middle and at the end.
BREAKS = [f"遇到{char}逆竟时{char}" for char in "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"]
BREAKS += ["\u2028", " 今天  a\t", ""]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_text_file_keeps_all_other_characters(end: str, folder: Path, capsys, tmp_path: Path) -> None:
    path, output = tmp_path / "texts.txt", tmp_path / "corrected.txt"
    lines = [line for line in BREAKS if not line.endswith("\r")]  # \r would become part of the line break
    path.write_bytes(("\ufeff" + "".join(line + end for line in lines)).encode())
    for threshold, changed in ((1000, False), (-1000, True)):
        run(capsys, folder, "--file", path, "--output", output, "--threshold", threshold, "--overwrite", "--quiet")
        made = output.read_bytes().decode().split("\n")
        assert made.pop() == ""
        assert (made != lines) == changed
        for line, other in zip(lines, made, strict=True):
            assert len(line) == len(other)
            for before, after in zip(line, other, strict=True):
                assert before == after or (is_han(before) and is_han(after))


def test_line_breaks_within_a_text_become_spaces(folder: Path, capsys, tmp_path: Path) -> None:
    output = tmp_path / "corrected.txt"
    run(capsys, folder, *BREAKS, "a\n\r\n\nb\n", "--output", output, "--threshold", 1000)
    assert output.read_bytes().decode().split("\n") == [*BREAKS, "a    b ", ""]


def test_evaluation_equals_the_metrics(folder: Path, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("kexue_hf.cli.text_input._TEXTS_MASKED_AT_ONCE", 3)
    rows = [json.dumps({"source": source, "target": target}) for source, target in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join([rows[0], "", *rows[2:]]) + "\n", encoding="utf-8")
    command = [folder, "--file", tmp_path / "pairs.jsonl", "--evaluate", "--threshold", THRESHOLD]
    sources, targets = zip(*PAIRS, strict=True)
    made = [row["corrected"] for row in expected(list(sources), tmp_path)]
    metrics = correction_metrics(zip(sources, targets, made, strict=True))
    assert json.loads(run(capsys, *command, "--json")) == metrics
    assert run(capsys, *command) == metrics_report(metrics)  # also in a pipe
    with (tmp_path / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("target", "source"), *(pair[::-1] for pair in PAIRS)])
    command[2] = tmp_path / "pairs.csv"
    assert json.loads(run(capsys, *command, "--json")) == metrics
    run(capsys, *command, "--output", tmp_path / "made.jsonl")
    assert len((tmp_path / "made.jsonl").read_text("utf-8").splitlines()) == len(PAIRS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either texts or --file FILE"),
        (["天", "--file", "texts.txt"], "expected either texts or --file FILE"),
        (["--file", "none.txt"], "none.txt does not exist"),
        (["--file", "."], "is a folder"),
        (["--file", "a.parquet"], "a.parquet: expected .txt, .jsonl, .csv, .tsv"),
        (["--file", "bad.jsonl"], "bad.jsonl, line 2: not JSON"),
        (["--file", "gb.txt"], "gb.txt, line 1: not UTF-8"),
        (["--file", "texts.txt", "--evaluate"], "--evaluate needs --file with a .jsonl"),
        (["--file", "a.jsonl.txt", "--evaluate"], "--evaluate needs --file with a .jsonl"),
        (
            ["--file", "good.jsonl", "--text-column", "b"],
            "has no column 'b', only text; name the text column (--",
        ),
        (["--file", "null.jsonl"], "null.jsonl, line 1: column 'text' is null, expected a string"),
        (["--file", "good.jsonl", "--evaluate", "--text-column", "text"], "no column 'target', which --evaluate"),
        (["--file", "none.jsonl", "--evaluate"], "none.jsonl does not exist"),
        (["--file", "empty.jsonl", "--evaluate"], "empty.jsonl has no rows to evaluate; expected source and"),
        (["--file", "blank.jsonl", "--evaluate"], "blank.jsonl has no rows to evaluate; expected source and"),
        (["--file", "texts.txt", "--json"], "--json without --evaluate or --calibrate has no effect"),
        (["天", "--text-column", "b"], "--text-column without --file has no effect"),
        (["--file", "texts.txt", "--text-column", "b"], "no effect on lines of text"),
        (["--file", "uneven.jsonl", "--evaluate"], "uneven.jsonl, line 1: source has 2 characters, target 1"),
        (["天", "--candidates", "none.tsv"], "candidates must be confusion, top_k"),
        (["天", "--candidates", "mine.tsv"], "mine.tsv, line 1: expected a text, a tab"),
        (["天", "--rounds", "0"], "rounds must be at least 1"),
        (["天", "--method", "guess"], "method must be one of"),
        (["天", "--threshold", "nan"], "threshold must be a number"),
        (["天", "--threshold", "much"], "--threshold"),
        (["天", "--batch-tokens", "0"], "batch_tokens must be at least 1"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "_".join(value) or "nothing",
)
def test_errors_are_one_line(
    arguments: list[str], message: str, folder: Path, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("天\n", encoding="utf-8")
    Path("a.parquet").write_text("", encoding="utf-8")
    Path("good.jsonl").write_text('{"text": "天"}\n', encoding="utf-8")
    Path("null.jsonl").write_text('{"text": null}\n', encoding="utf-8")
    Path("empty.jsonl").write_text("", encoding="utf-8")
    Path("blank.jsonl").write_text("\n\n", encoding="utf-8")
    Path("bad.jsonl").write_text('{"text": "天"}\n{\n', encoding="utf-8")
    Path("gb.txt").write_bytes("天\n".encode("gb18030"))
    Path("uneven.jsonl").write_text('{"source": "天气", "target": "天"}\n', encoding="utf-8")
    Path("mine.tsv").write_text("天 气\n", encoding="utf-8")
    said = run(capsys, folder, *arguments, code=2)
    assert message in said
    assert len(said.splitlines()) == 1


RESULT = {
    "text": "ab遇到逆竟时",
    "corrected": "ab遇到逆境时",
    "corrections": [
        {
            "start": 5,
            "end": 6,
            "original": "竟",
            "replacement": "境",
            "log_prob_original": -9.2103,
            "log_prob_replacement": -0.0953,
            "candidates": [{"text": "境", "probability": 0.909}, {"text": "竞", "probability": 0.00004}],
        }
    ],
}
MARKED = "ab遇到逆竟时\n        ^^\n   6: 竟 -> 境  90.9 %, was 0.01 % (or 竞 0.004 %)\n"


def test_the_report_marks_corrections_by_terminal_columns() -> None:
    assert correction_report(RESULT) == MARKED
    assert correction_report(RESULT, "a.txt, line 3") == f"a.txt, line 3\n{MARKED}"
    unchanged = {"text": "好\tab", "corrections": []}
    assert correction_report(unchanged) == "好 ab  (nothing to correct)\n"
    assert correction_report(unchanged, "a.txt, line 3") == ""


def test_the_report_shows_only_changed_lines_of_a_long_text() -> None:
    shift = 100
    moved = {**RESULT["corrections"][0], "start": 5 + shift, "end": 6 + shift}
    lines = correction_report({"text": "长" * shift + RESULT["text"], "corrections": [moved]}).splitlines()
    assert len(lines) == 3
    assert lines[0].index("竟") * 2 - 2 == lines[1].index("^")  # two narrow letters come before
    assert lines[2].strip().startswith("106: 竟 -> 境")


def test_the_table_of_metrics() -> None:
    table = metrics_report(correction_metrics([("aB", "AB", "AB"), ("aB", "AB", "aB"), ("AB", "AB", "AB")]))
    assert "sentences, strict     detection       1.000   0.500   0.667   1 / 1 / 2" in table
    assert table.splitlines()[-1] == "3 sentences, 1 without errors; false positive rate 0.000"
    assert "no sentence is without errors" in metrics_report(correction_metrics([("a", "A", "A")]))


def test_protected_names_are_not_changed(folder: Path, capsys, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("遇到\n\n逆竟\n", encoding="utf-8")
    free, protected = (
        json.loads(run(capsys, folder, "遇到逆竟时", "--threshold", -100, *more))["corrected"]
        for more in ((), ("--protect", tmp_path / "names.txt"))
    )
    assert free[:4] != "遇到逆竟" and protected[:4] == "遇到逆竟"


class TestCalibrate:
    def test_the_result_is_stored_in_the_folder_and_used(self, folder: Path, capsys, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "model")
        (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in LINES * 40), encoding="utf-8")
        found = json.loads(run(capsys, tmp_path / "model", "--file", tmp_path / "texts.txt", "--calibrate", "--json"))
        kept = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
        assert kept["correction"] == found and {"threshold", "precision", "recall", "texts"} <= set(found)
        assert kept["model_type"] == "tta"
        settings = kept | {"correction": found | {"threshold": None}}
        (tmp_path / "model" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        assert "too weak for correction" in run(capsys, tmp_path / "model", "遇到逆竟时", code=2)

    @pytest.mark.parametrize(
        "more", [["遇到"], ["--threshold", "1"], ["--output", "out.txt"]], ids=["texts", "threshold", "output"]
    )
    def test_it_excludes_other_options(self, folder: Path, capsys, tmp_path: Path, more: list[str]) -> None:
        (tmp_path / "texts.txt").write_text("遇到\n", encoding="utf-8")
        given = [] if more == ["遇到"] else ["--file", tmp_path / "texts.txt"]
        assert "--calibrate needs --file" in run(capsys, folder, *more, *given, "--calibrate", code=2)


def test_a_model_without_calibration_gives_a_warning(folder: Path, capsys, caplog) -> None:
    run(capsys, folder, "遇到逆竟时")
    assert "was never calibrated for correction" in caplog.text
