"""`kexue-hf match`: a pair, files of every format, evaluation, the table, one-line errors."""

import gzip
import io
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from transformers import BertForMaskedLM, BertForSequenceClassification, BertModel

from kexue_hf import match_texts
from kexue_hf.cli.main import main
from kexue_hf.evaluation.matching import reliability
from kexue_hf.pipelines import text_matching
from tests.pipelines.matchers import NAMES, PAIRS, make
from tests.pipelines.test_text_matching import assert_same

STRICT = "strict"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind in ("matcher", "bert"):
        made[kind] = tmp_path_factory.mktemp(kind)
        model, tokenizer = make(kind, made[kind])
        model.save_pretrained(made[kind])
    others = {
        "headless": BertModel(model.config),
        "masked": BertForMaskedLM(model.config),
        "three": BertForSequenceClassification(type(model.config)(**{**model.config.to_dict(), "num_labels": 3})),
    }
    matcher, _ = make("matcher", made["matcher"])
    matcher.classifier.weight.data.fill_(6e4)
    others["hot"] = matcher
    for name, other in others.items():
        made[name] = tmp_path_factory.mktemp(name)
        other.save_pretrained(made[name])
    for folder in made.values():
        tokenizer.save_pretrained(folder)
    return made


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    return list(match_texts(*make("matcher", tmp_path_factory.mktemp("expected")), PAIRS))


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run the command and return stdout, or stderr if `code` is not 0."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["match", *map(str, arguments)])
    captured = capsys.readouterr()
    assert stop.value.code == code, captured.err
    return captured.err if code else captured.out


def assert_rows(output: str, expected: list[dict[str, float]], pairs=PAIRS) -> None:
    rows = [json.loads(line) for line in output.splitlines()]
    assert [(row["text_a"], row["text_b"]) for row in rows] == list(pairs)
    assert_same([row["probabilities"] for row in rows], expected)


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_a_pair_is_judged_by_all_tasks_or_some(folders, expected, capsys) -> None:
    assert_rows(run(capsys, folders["matcher"], *PAIRS[0]), expected[:1], PAIRS[:1])
    some = {name: expected[0][name] for name in (STRICT, "loose")}
    for names in ((STRICT, "loose"), ("1", "0")):
        assert_rows(
            run(capsys, folders["matcher"], *PAIRS[0], "--task", names[0], "--task", names[1]), [some], PAIRS[:1]
        )
    row = json.loads(run(capsys, folders["bert"], *PAIRS[0]))
    assert list(row["probabilities"]) == ["match"]


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "stdin", "columns", "files", "files-stdin"])
def test_line_n_of_the_output_belongs_to_line_n_of_the_input(
    form: str, folders, expected, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexue_hf.cli.match._PAIRS_AT_ONCE", 3)  # several chunks
    names = ("source", "target") if form == "columns" else ("text_a", "text_b")
    content = "".join(f"{json.dumps(dict(zip(names, pair, strict=True)))}\n" for pair in PAIRS).encode()
    sides = ["".join(f"{pair[side]}\n" for pair in PAIRS).encode() for side in (0, 1)]
    given: list[object] = ["--file", tmp_path / f"pairs.{'txt' if form == 'columns' else form}"]
    if form == "stdin":
        given[1] = "-"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    elif form.startswith("files"):
        given = ["--files", tmp_path / "a.txt", tmp_path / "b.txt"]
        (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + sides[0].replace(b"\n", b"\r\n"))
        (tmp_path / "b.txt").write_bytes(sides[1].removesuffix(b"\n"))
        if form == "files-stdin":
            given[1] = "-"
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sides[0])))
    else:
        Path(str(given[1])).write_bytes(gzip.compress(content) if form == "jsonl.gz" else content)
    options = ["--columns", *names] if form == "columns" else []
    output = tmp_path / "new" / "found.jsonl"
    assert run(capsys, folders["matcher"], *given, *options, "--output", output, "--quiet") == ""
    assert_rows(output.read_text("utf-8"), expected)
    assert [file.name for file in output.parent.iterdir()] == ["found.jsonl"]


def test_rows_are_judged_by_their_own_task_unless_one_is_given(folders, expected, capsys, tmp_path: Path) -> None:
    own = ["loose", None, STRICT, 2]
    rows = [{"text_a": a, "text_b": b, "task": task} for (a, b), task in zip(PAIRS, own, strict=False)]
    file = write(tmp_path / "pairs.jsonl", rows)
    names = [["loose"], NAMES, [STRICT], [NAMES[2]]]
    wanted = [{name: one[name] for name in its} for one, its in zip(expected, names, strict=False)]
    assert_rows(run(capsys, folders["matcher"], "--file", file), wanted, PAIRS[:4])
    wanted = [{STRICT: one[STRICT]} for one in expected[:4]]
    assert_rows(run(capsys, folders["matcher"], "--file", file, "--task", STRICT), wanted, PAIRS[:4])


def f1_above(values: list[float], labels: list[int], threshold: float) -> float:
    right = sum(label for value, label in zip(values, labels, strict=True) if value > threshold)
    return 2 * right / (sum(value > threshold for value in values) + sum(labels))


def test_figures_equal_those_of_the_labels(folders, expected, capsys, tmp_path: Path, monkeypatch) -> None:
    tasks = ["loose", STRICT]
    labels = {"loose": [1, 0, 1, 0, 0, 1, 0], STRICT: [0, 1, 0, 1, 0, 1, 1]}
    rows = [
        {"text_a": a, "text_b": b, "task": task, "label": label}
        for task in tasks
        for (a, b), label in zip(PAIRS, labels[task], strict=True)
    ]
    file = write(tmp_path / "pairs.jsonl", rows)
    output, picture = tmp_path / "found.jsonl", tmp_path / "new" / "reliability.svg"
    drawn = [] if find_spec("matplotlib") is None else ["--picture", picture]
    figures = json.loads(
        run(capsys, folders["matcher"], "--file", file, "--evaluate", "--json", "--output", output, *drawn)
    )
    if drawn:
        assert all(f"<!-- {task} -->" in picture.read_text("utf-8") for task in tasks)
    assert_rows(output.read_text("utf-8"), [{task: one[task]} for task in tasks for one in expected], PAIRS * 2)
    assert figures["pairs"] == 2 * len(PAIRS)
    for task in tasks:
        values = [one[task] for one in expected]
        assert figures[f"f1 of {task}"] == pytest.approx(f1_above(values, labels[task], 0.5))
        best = max(f1_above(values, labels[task], threshold - 1e-4) for threshold in values)
        assert figures[f"best f1 of {task}"] == pytest.approx(best)
        assert f1_above(values, labels[task], figures[f"best threshold of {task}"]) == pytest.approx(best)
        assert figures[f"calibration error of {task}"] == pytest.approx(
            reliability(np.array(values), np.array(labels[task])).calibration_error, abs=1e-4
        )
    assert figures["f1"] == pytest.approx((figures["f1 of loose"] + figures["f1 of strict"]) / 2)
    # The table is printed to a pipe too.
    head, loose, strict, *means = run(capsys, folders["matcher"], "--file", file, "--evaluate").splitlines()
    assert head.split("  ")[-2:] == ["calibration error", "task"] and len(head) < 120
    figure = {name: f"{value:.3f}" for name, value in figures.items()}
    names = ("f1", "best f1", "best threshold", "average precision", "calibration error")
    assert loose.split() == ["7", "0.429", *(figure[f"{name} of loose"] for name in names), "loose"]
    assert strict.split()[0] == "7" and strict.endswith("  strict")
    for name in names:
        assert loose[: head.index(name) + len(name)].endswith(figure[f"{name} of loose"])
    assert means == [f"f1: {figure['f1']}", f"average precision: {figure['average precision']}"]


def test_the_contests_folders_are_evaluated(folders, expected, capsys, tmp_path: Path) -> None:
    rows = [{"source": a, "target": b, "labelA": str(n % 2)} for n, (a, b) in enumerate(PAIRS)]
    write(tmp_path / NAMES[2] / "valid.txt", rows)
    values = [one[NAMES[2]] for one in expected]
    wanted = f1_above(values, [n % 2 for n in range(len(PAIRS))], 0.5)
    for where in (tmp_path, tmp_path / NAMES[2], tmp_path / NAMES[2] / "valid.txt"):
        figures = json.loads(run(capsys, folders["matcher"], "--file", where, "--evaluate", "--json"))
        assert figures[f"f1 of {NAMES[2]}"] == pytest.approx(wanted)


def evaluated(capsys, *arguments: object) -> tuple[dict, str]:
    """Run `match --evaluate --json` and return the figures and stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["match", *map(str, arguments), "--evaluate", "--json"])
    said = capsys.readouterr()
    assert stop.value.code == 0, said.err
    return json.loads(said.out), said.err


def test_rows_of_one_task_are_judged_by_the_given_task(folders, expected, capsys, tmp_path: Path) -> None:
    """For a folder of several tasks, for a task that the model does not have, and for a model with a single task."""
    labels = [n % 2 for n in range(len(PAIRS))]
    rows = [{"source": a, "target": b, "labelA": str(label)} for (a, b), label in zip(PAIRS, labels, strict=True)]
    other, all_of_them = tmp_path / "短短匹配A类", tmp_path
    write(other / "valid.txt", rows[:3])
    figures, said = evaluated(capsys, folders["matcher"], "--file", other, "--task", STRICT)
    wanted = f1_above([one[STRICT] for one in expected[:3]], labels[:3], 0.5)
    assert figures["pairs"] == 3 and figures[f"f1 of {STRICT}"] == pytest.approx(wanted)
    assert f"短短匹配A类: rows of '短短匹配A类' are judged by '{STRICT}'\n" in said
    assert evaluated(capsys, folders["bert"], "--file", other)[0]["pairs"] == 3
    write(tmp_path / NAMES[2] / "valid.txt", rows)
    figures, said = evaluated(capsys, folders["matcher"], "--file", all_of_them, "--task", "2")
    wanted = f1_above([one[NAMES[2]] for one in expected], labels, 0.5)
    assert figures["pairs"] == len(PAIRS) and figures[f"f1 of {NAMES[2]}"] == pytest.approx(wanted)
    assert f": 3 rows of tasks other than '{NAMES[2]}' are left out\n" in said
    assert "left out" not in evaluated(capsys, folders["matcher"], "--file", all_of_them, "--task", "2", "-q")[1]
    for model, task in (("bert", "match"), ("matcher", STRICT)):
        error = run(capsys, folders[model], "--file", all_of_them, "--evaluate", "--task", task, code=2)
        assert f"has rows of '短短匹配A类', '{NAMES[2]}' and none of '{task}': name" in error
        assert len(error.splitlines()) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_table(folders, expected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(SystemExit):
        main(["match", str(folders["matcher"]), *PAIRS[0]])
    head, *lines = sys.stdout.getvalue().splitlines()
    assert head == "今天天气不错 | 今天天气很好"
    assert [line.split() for line in lines] == [[f"{expected[0][name]:.3f}", name] for name in NAMES]


def test_an_interruption_leaves_no_files(folders, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(model, tokenizer, pairs, *arguments, **options):
        yield dict.fromkeys(NAMES, float(next(iter(pairs)) is not None))
        raise KeyboardInterrupt

    monkeypatch.setattr(text_matching, "match_texts", interrupted)
    output = tmp_path / "found.jsonl"
    assert "interrupted; nothing" in run(capsys, folders["matcher"], *PAIRS[0], "--output", output, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (
            "matcher",
            [],
            "expected two texts, --file PAIRS.jsonl or --files A.txt B.txt, two files separated by a space",
        ),
        ("matcher", ["a"], "a pair needs two texts, got one"),
        ("matcher", ["a", "b", "--file", "GOOD"], "expected two texts"),
        ("matcher", ["a", " "], "text_b is empty; a pair needs two texts"),
        (
            "matcher",
            ["a", "b", "--task", "lose"],
            "unknown task 'lose'; this model has 'loose', 'strict', '短长匹配A类'",
        ),
        ("bert", ["a", "b", "--task", "strict"], "unknown task 'strict'; this model has 'match'"),
        ("matcher", ["--file", "TASK"], "task.jsonl, line 2: unknown task 'x'; this model has 'loose'"),
        (
            "matcher",
            ["--file", "FIELD"],
            "field.jsonl, line 2: no column 'text_b', only text_a; name both: --columns",
        ),
        (
            "matcher",
            ["--file", "GOOD", "--columns", "a", "b"],
            "good.jsonl, line 1: no column 'a', only text_a, text_b",
        ),
        ("matcher", ["--file", "EMPTY"], "empty.jsonl, line 2: text_a is empty"),
        (
            "matcher",
            ["--file", "BLANK"],
            "blank.jsonl, line 2: is empty; expected a JSON object with text_a and text_b",
        ),
        ("matcher", ["--file", "LINES"], "lines.txt, line 1: not JSON"),
        ("matcher", ["--file", "LIST"], "list.jsonl, line 1: expected a JSON object, got list"),
        ("matcher", ["--file", "no.jsonl"], "no.jsonl does not exist"),
        ("matcher", ["--files", "LINES", "LINE"], "line.txt has 1 lines, "),
        ("matcher", ["--files", "LINE", "GAP"], "line.txt has 1 lines, "),
        ("matcher", ["--files", "LINES", "GAP"], "gap.txt, line 2: is empty; a pair needs two texts"),
        ("matcher", ["--files", "LINES", "no.txt"], "no.txt does not exist"),
        ("matcher", ["--files", "LINES", "GOOD"], "good.jsonl: expected .txt"),
        (
            "matcher",
            ["--files", "LINES", "--task", "loose"],
            "expected --files A.txt B.txt, two files separated by a space; got ",
        ),
        ("matcher", ["--files", "lines.txt,", "line.txt"], "two files separated by a space; got lines.txt, and line"),
        ("matcher", ["--files", "lines.txt,line.txt", "LINES"], "two files separated by a space; got lines.txt,line"),
        ("matcher", ["--file", "VOID", "--evaluate"], "void.jsonl holds no rows"),
        ("matcher", ["a", "b", "--json"], "--json without --evaluate has no effect"),
        ("matcher", ["--file", "SOURCE"], "source.jsonl, line 1: has source and target, not text_a and text_b: add"),
        ("matcher", ["--files", "-", "-"], "only one of the two files can be stdin (-)"),
        ("matcher", ["a", "b", "--evaluate"], "--evaluate without --file has no effect"),
        ("matcher", ["--file", "GOOD", "--picture", "x.svg"], "--picture without --evaluate has no effect"),
        (
            "matcher",
            ["--file", "GOOD", "--evaluate", "--picture", "x.jpg"],
            "x.jpg: expected a name that ends in",
        ),
        ("matcher", ["a", "b", "--columns", "x", "y"], "--columns without --file has no effect"),
        (
            "matcher",
            ["--file", "GOOD", "--evaluate", "--columns", "x", "y"],
            "--columns with --evaluate has no effect",
        ),
        (
            "matcher",
            ["--file", "GOOD", "--evaluate", "--task", "loose", "--task", "strict"],
            "takes one --task, got 2",
        ),
        ("matcher", ["--file", "GOOD", "--evaluate", "--task", "loose"], "good.jsonl, line 1: no label"),
        ("matcher", ["--file", "LABEL", "--evaluate"], "label.jsonl, line 2: 'label' must be 0 or 1, got 2"),
        ("matcher", ["--file", "EMPTY", "--evaluate", "--task", "loose"], "empty.jsonl, line 2: text_a is empty"),
        (
            "matcher",
            ["--file", "-", "--evaluate"],
            "--evaluate cannot read stdin (-); name a file or folder with --file",
        ),
        ("matcher", ["a", "b", "--task", "3"], "task id must be from 0 to 2 for this model, got 3"),
        ("matcher", ["--file", "NO_TASK", "--evaluate"], "no_task.jsonl, line 1: 'task' is missing"),
        ("matcher", ["a", "b", "--max-length", "5"], "max_length must be from 6 to 16"),
        ("matcher", ["a", "b", "--batch-tokens", "0"], "batch_tokens must be at least 1"),
        ("matcher", ["a", "b", "--output", "x.csv"], "x.csv: cannot write .csv, only .jsonl"),
        ("hot", ["a", "b", "--dtype", "float16"], "the probabilities are not finite in float16"),
        (
            "headless",
            ["a", "b"],
            "lacks weights of a two-class classifier of text pairs (classifier.",
        ),
        ("masked", ["a", "b"], "lacks weights of a two-class classifier of text pairs"),
        (
            "three",
            ["a", "b"],
            "three0: expected a text matcher, a classifier of pairs with two classes (0 no match, 1 match), got a "
            "BertForSequenceClassification with 3 classes",
        ),
        ("no-such-model", ["a", "b"], "is not a folder, and cannot be downloaded from the Hub"),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else value.replace(" ", "_")[:30],
)
def test_errors_are_one_line(
    model: str, arguments: list[str], message: str, folders, capsys, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = {"text_a": "好", "text_b": "不好"}
    files = {
        "good.jsonl": [good, good],
        "task.jsonl": [good, {**good, "task": "x"}],
        "field.jsonl": [good, {"text_a": "好"}],
        "empty.jsonl": [{**good, "label": 1}, {**good, "text_a": " ", "label": 1}],
        "list.jsonl": [["好", "不好"]],
        "label.jsonl": [{**good, "task": "loose", "label": label} for label in (1, 2)],
        "no_task.jsonl": [{**good, "label": 1}],
        "void.jsonl": [],
        "source.jsonl": [{"source": "好", "target": "不好", "labelA": "1"}],
    }
    for name, rows in files.items():
        write(tmp_path / name, rows)
    (tmp_path / "blank.jsonl").write_text(f"{json.dumps(good)}\n\n")
    for name, text in {
        "lines.txt": "好\n好\n",
        "line.txt": "好\n",
        "gap.txt": "好\n \n",
        "void_a.txt": "",
        "void_b.txt": "",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    names = {path.stem.upper(): path for path in tmp_path.iterdir()}
    before = sorted(tmp_path.iterdir())
    output = [] if "--output" in arguments else ["--output", "new.jsonl"]
    given = [names.get(word, word) for word in arguments]
    error = run(capsys, folders.get(model, model), *given, *output, code=2)
    assert len(error.strip().splitlines()) == 1 and error.startswith("kexue-hf: error: ")
    assert message in error
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["m", "--files", "a.txt,b.txt"],
            "'--files' requires 2 arguments. Expected --files A.txt B.txt, two files separated by",
        ),
        (["m", "--file", "x.jsonl", "--columns", "a"], "'--columns' requires 2 arguments. Expected --columns source"),
        (["m", "--nonsense"], "No such option: --nonsense"),
        ([], "Missing argument"),
    ],
    ids=["files", "columns", "option", "model"],
)
def test_usage_errors_name_the_help_of_the_command(arguments: list[str], message: str, capsys) -> None:
    error = run(capsys, *arguments, code=2)
    assert message in error and error.endswith("(see kexue-hf match --help)\n")


def test_pairs_of_a_table(folders, expected, capsys, tmp_path: Path) -> None:
    lines = ["b,a", *(f'"{b}","{a}"' for a, b in PAIRS)]
    (tmp_path / "pairs.csv").write_text("\n".join(lines), encoding="utf-8")
    assert_rows(run(capsys, folders["matcher"], "--file", tmp_path / "pairs.csv", "--columns", "a", "b"), expected)
    error = run(capsys, folders["matcher"], "--file", tmp_path / "pairs.csv", code=2)
    assert "pairs.csv, line 2: no column 'text_a', only b, a; name both: --columns FIRST SECOND" in error


def test_a_written_file_gets_one_line(folders: dict[str, Path], tmp_path: Path, capsys) -> None:
    output = tmp_path / "out.jsonl"
    line = rf"1 pair in .* s, wrote {re.escape(str(output))}\n"
    for quiet in ([], ["--quiet", "--overwrite"]):
        with pytest.raises(SystemExit) as stop:
            main(["match", str(folders["matcher"]), "天", "今", "--output", str(output), *quiet])
        said = capsys.readouterr()
        assert not stop.value.code and said.out == ""
        assert said.err == "" if quiet else re.fullmatch(line, said.err)
