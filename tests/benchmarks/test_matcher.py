"""What the matcher's benchmarks promise about baseline, rows and tables, without training anything."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kexue_hf import ClnMatcherConfig
from kexue_hf.corpora.matching_rows import MatchingRow
from kexue_hf.errors import InputError

ROOT = Path(__file__).parents[2]
NAMES = ["短短匹配A类", "短短匹配B类"]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    # The scripts put these there as well; what they put is gone after the test.
    monkeypatch.setattr(sys, "path", [*sys.path])


def row(first: str, second: str, label: int, task: str = NAMES[0]) -> MatchingRow:
    return MatchingRow(first, second, task, label)


def test_overlap_is_of_the_text_with_fewer_bigrams() -> None:
    import matcher_tasks as script

    # 今天 天气 against 今天 天下 下雨 雨了: one of two.
    assert script.overlap(row("今天气", "今天下雨了", 0)) == script.overlap(row("今天下雨了", "今天气", 0)) == 0.5
    assert script.overlap(row("今", "今天", 0)) == 0


def test_an_encoder_is_asked_what_the_other_text_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    import matcher_encoder as script

    from kexue_hf import WoBertTokenizer

    packaged = ROOT / "kexue_hf" / "assets" / "wobert_tiny"
    tokenizer = WoBertTokenizer(str(packaged / "vocab.txt"))
    texts = ["今天天气很好，我们去公园。", "他喜欢读书；她喜欢音乐！", "公园里有很多人，天气也很好。"]
    clauses = script.clauses_of(texts, tokenizer)
    assert [len(text) for text in clauses] == [2, 2, 2]
    monkeypatch.setattr(script, "MASKED", 0.3)
    batches = script.Batches(script.Pairs(clauses, 0), tokenizer, 60)
    batch = next(batches)
    shown, words, shared = (batch[name].tolist() for name in ("input_ids", "words", "shared"))
    answers = set()
    for ids, kinds, hidden, found, real in zip(
        shown, batch["token_type_ids"].tolist(), words, shared, batch["attention_mask"].tolist(), strict=True
    ):
        length = sum(real)
        special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
        sides = [{i for i, kind in zip(ids[:length], kinds, strict=False) if kind == side} for side in (0, 1)]
        for number, (word, kind) in enumerate(zip(ids, kinds, strict=True)):
            if number >= length or word in special:
                expected: tuple = (script.IGNORED, script.IGNORED)
            elif word == tokenizer.mask_token_id:
                assert hidden[number] not in (script.IGNORED, *special)
                expected = (hidden[number], script.IGNORED)
            else:
                expected = (script.IGNORED, float(word in sides[1 - kind]))
            assert (hidden[number], found[number]) == expected
            answers.add(found[number])
    assert answers == {0.0, 1.0, script.IGNORED} and len(shown[0]) <= 2 * script.SIZES[-1] + 3


def test_each_task_has_the_threshold_that_is_best_on_the_rows_it_is_chosen_on() -> None:
    import matcher_tasks as script

    rows = [row("", "", label, task) for task in NAMES for label in (1, 1, 0)]
    scores = [0.9, 0.3, 0.1, 0.9, 0.8, 0.7]
    at = script.thresholds(rows, scores)
    assert 0.1 < at[NAMES[0]] < 0.3 and 0.7 < at[NAMES[1]] < 0.8
    assert script.figures_of(rows, scores, at, NAMES)["f1"] == 1
    # 0.5: of A one of two found; of B all three, one wrongly.
    assert script.figures_of(rows, scores, dict.fromkeys(NAMES, 0.5), NAMES)["f1"] == round((2 / 3 + 4 / 5) / 2, 4)


def test_differences_are_of_means_and_their_error_of_rows_drawn_within_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    import matcher_tasks as script

    monkeypatch.setattr(script, "DRAWN", 300)
    rows = [row("", "", int(n < 50), task) for task in NAMES for n in range(100)]
    right = np.array([row.label for row in rows])
    wrong = right.copy()
    wrong[:20] = 0  # of the first task 30 of 50 found: F1 .75; of the second all
    found = script.differences(rows, [right], [wrong], NAMES)
    assert found["f1_A"]["difference"] == 1 - 0.75 and found["f1_B"]["difference"] == 0
    assert found["f1"]["difference"] == (1 - 0.75) / 2
    # F1 = 2r / (1 + r), r of 50 matches that vary in number: its error by the delta method.
    error = 2 / 1.6**2 * (0.6 * 0.4 / 50) ** 0.5
    assert found["f1_A"]["standard error"] == pytest.approx(error, rel=0.15)
    assert found["f1_B"]["standard error"] == 0


def test_the_error_of_differences_is_of_seeds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import matcher_tasks as script

    monkeypatch.setattr(script, "DRAWN", 300)
    rows = [row("", "", 1) for _ in range(500)]
    runs = [np.array([1] * found + [0] * (500 - found)) for found in (500, 400, 300)]
    figures = [2 * r / (1 + r) for r in (1, 0.8, 0.6)]
    found = script.differences(rows, runs, runs, NAMES)["f1"]
    assert found["difference"] == 0
    # Of two means of three: as little as pairs matter here, that of the seeds.
    assert found["standard error"] == pytest.approx((2 * np.var(figures, ddof=1) / 3) ** 0.5, rel=0.15)
    assert script.differences(rows, runs[:1], runs, NAMES)["f1"]["difference"] == round(1 - np.mean(figures), 4)


def contest(folder: Path, texts: dict[str, dict[str, list[tuple[str, str]]]]) -> Path:
    """The contest's folders of tasks, parts, pairs; every second pair matches."""
    for name, parts in texts.items():
        (folder / name).mkdir()
        for part, pairs in parts.items():
            rows = [{"source": a, "target": b, f"label{name[-2]}": str(n % 2)} for n, (a, b) in enumerate(pairs)]
            lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rows)
            (folder / name / f"{part}.txt").write_text(lines, encoding="utf-8")
    return folder


def test_no_two_texts_are_in_two_parts_of_whatever_task(tmp_path: Path) -> None:
    import matcher_tasks as script

    loose, strict = NAMES
    pairs = {
        name: {part: [(f"{part}{n}", name) for n in range(count)] for part, count in (("train", 25), ("valid", 4))}
        for name in NAMES
    }
    held_out, kept = pairs[loose]["valid"][1], pairs[loose]["train"][10]
    pairs[strict]["train"][3] = held_out[::-1]  # in whichever order
    pairs[strict]["train"][20] = (f" {held_out[0].upper()}", held_out[1].replace("A", "Ａ"))  # would be kept out
    pairs[strict]["train"][4] = kept
    pairs[loose]["train"][7] = pairs[loose]["train"][8]  # twice in one part: stays
    parts, left_out = script.divided(SimpleNamespace(data=[contest(tmp_path, pairs)], quick=False))
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 42, "kept": 5, "held-out": 8}
    assert left_out == {"kept": {strict: 1}, "train": {strict: 2}}
    texts = {part: {script.pair_of(row) for row in rows} for part, rows in parts.items()}
    assert not (texts["train"] | texts["kept"]) & texts["held-out"] and not texts["train"] & texts["kept"]


def settings_of(folder: Path, **changes: Any) -> SimpleNamespace:
    settings = {"epochs": 5, "batch_size": 16, "rates": ["1", "2"], "seeds": 2, "bf16": False, "device": "cpu"}
    return SimpleNamespace(**{"output": folder, "model": folder / "tiny", "quick": False} | settings | changes)


def encoder(folder: Path, weights: bytes = b"weights", **config: Any) -> Path:
    """As far as the script looks at one."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "wobert", **config}), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ({}, None),
        ({"epochs": 1}, "--num_train_epochs 5 (now 1)"),
        ({"bf16": True}, "--bf16 none (now yes)"),
        ({"how": ["--seed=1"]}, "--seed 0 (now 1)"),
        ({"rows": 1}, "training rows "),
        ({"model": b"others"}, "encoder "),
    ],
    ids=["the same", "epochs", "bf16", "seed", "rows", "encoder"],
)
def test_a_training_that_was_made_otherwise_is_not_taken(
    what: dict[str, Any], named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matcher_tasks as script

    from examples import finetune_matcher

    trained: list[Any] = []

    def run(options: Any, arguments: Any) -> None:
        trained.append(arguments)
        Path(options.report).write_text("{}")

    monkeypatch.setattr(finetune_matcher, "run", run)
    rows = [row(str(n), "", n % 2) for n in range(4)]
    folder, model = tmp_path / "trained", encoder(tmp_path / "tiny")
    script.train(settings_of(tmp_path), model, folder, {"train": rows}, None, ["--seed=0"])
    changes = dict(what)
    how, rows = changes.pop("how", ["--seed=0"]), rows[: changes.pop("rows", None)]
    if "model" in changes:
        model = encoder(tmp_path / "another", changes.pop("model"))
    options = settings_of(tmp_path, **changes)
    if named is None:
        script.train(options, model, folder, {"train": rows}, None, how)
    else:
        with pytest.raises(InputError, match=f"{re.escape(str(folder))} .* with other settings, {re.escape(named)}"):
            script.train(options, model, folder, {"train": rows}, None, how)
    assert len(trained) == 1 and trained[0].save_strategy == "no"


def test_models_of_one_task_start_without_conditions(tmp_path: Path) -> None:
    import matcher_tasks as script

    options = settings_of(tmp_path, model=encoder(tmp_path / "tiny", hidden_size=8))
    folder = script.plain(options)
    assert json.loads((folder / "config.json").read_text()) == {
        "model_type": "wobert",
        "hidden_size": 8,
        "conditional": False,
    }
    assert (folder / "model.safetensors").read_bytes() == b"weights" and script.plain(options) == folder
    assert not ClnMatcherConfig.from_pretrained(folder, task_names=NAMES[:1]).conditional
    options.model = encoder(tmp_path / "matcher", model_type="cln_matcher")
    with pytest.raises(InputError, match="is a matcher"):
        script.plain(options)


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A result of which only training and probabilities are made up: the rate 2 is better; seeds differ."""
    import matcher_tasks as script

    rows = [row(str(n), "", n % 2, task) for task in NAMES for n in range(40)]
    parts = {"train": rows, "kept": rows[::3], "held-out": rows}
    monkeypatch.setattr(script, "divided", lambda options: (parts, {"train": {NAMES[0]: 1}}))

    def train(options: Any, model: Path, folder: Path, parts: Any, task: str | None, how: list[str]) -> None:
        assert (model == options.model) == ("one_matcher" in folder.parts)  # the others start without conditions
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps({"parameters": 1000, "seconds": 60.0, "steps": 5}))

    def scores(folder: Path, rows: Any, task: str | None, device: str) -> list[float]:
        rate, seed = next(part for part in reversed(folder.parts) if re.fullmatch(r"\d_\d", part)).split("_")
        rng = np.random.default_rng(int(seed))
        return [float(np.clip(rng.normal(0.5 + (row.label - 0.5) * int(rate) / 3, 0.2), 0, 1)) for row in rows]

    monkeypatch.setattr(script, "DRAWN", 20)
    monkeypatch.setattr(script, "train", train)
    monkeypatch.setattr(script, "scores_of", scores)
    options = settings_of(tmp_path, model=encoder(tmp_path / "tiny"))
    written: list[str] = []
    found = script.compare(options, lambda result: written.append(json.dumps(result)))
    assert ["reliability" in json.loads(each) for each in written] == [False, True, True, True]
    expected = script.reliability_of(rows, scores(tmp_path / "2_0", rows, None, "cpu"), NAMES)
    assert found["reliability"]["tasks"] == expected
    one = found["contenders"]["one matcher"]
    assert one["learning_rate"] == "2"
    assert found["matches"]["kept"] == {NAMES[0]: 7, NAMES[1]: 6}
    return found


def test_the_picture_is_drawn_of_the_result(tasks: dict[str, Any], tmp_path: Path, monkeypatch) -> None:
    import matcher_tasks as script

    pytest.importorskip("matplotlib")
    monkeypatch.setattr(script, "PICTURE", tmp_path / "picture.svg")
    monkeypatch.setattr(script, "write_result", lambda name, found: None)
    script.keep({name: part for name, part in tasks.items() if name != "reliability"})
    assert not script.PICTURE.exists()
    script.keep(json.loads(json.dumps(tasks)))
    # As text, or in a comment beside the outlines of the letters: matplotlib's versions differ.
    picture = script.PICTURE.read_text("utf-8")
    assert all(name in picture for name in NAMES)


def speed_settings(**changes: Any) -> SimpleNamespace:
    settings = {"hidden_size": 64, "bucketing_hidden_size": 64, "layers": 1, "rows": 4, "length": 8, "repetitions": 2}
    return SimpleNamespace(**settings | {"device": "cpu", "windows": 5, "quick": True} | changes)


def test_each_contender_is_timed_after_an_untimed_call_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import matcher as script

    calls: list[str] = []

    def interleave(contenders: Any, repetitions: int) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {name: [] for name in contenders}
        for name, run in contenders.items():
            del timed[:]
            found[name] = [run()]
            calls.append(f"{name}: {len(timed)}")
            assert found[name] == timed[-1:]  # the later one counts
        return found

    timed: list[float] = []
    clocked = script.timed
    monkeypatch.setattr(script, "timed", lambda *call: timed.append(clocked(*call)) or timed[-1])
    monkeypatch.setattr(script, "interleave", interleave)
    found = script.overhead(speed_settings())
    names = [script.PLAIN, script.ONE, script.MIXED, script.FOLDED, script.PEER]
    assert calls == [f"{name}: 2" for _ in range(2) for name in names]
    parameters = found["parameters"]
    assert parameters[script.FOLDED] == parameters[script.PLAIN] < parameters[script.ONE]
    assert "dropout" in found["a step has no"] and set(found["training step"]["seconds"]) == set(names)


def test_both_orders_have_the_rows_of_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matcher as script

    steps: list[Any] = []
    monkeypatch.setattr(script, "training_step", lambda model, optimizer, batch: steps.append(batch))
    texts = [("天气" * (1 + n % 7), f"今天{n}") for n in range(64)]
    folder = contest(tmp_path, {name: {"train": texts} for name in NAMES})
    vocab = ROOT / "kexue_hf" / "assets" / "wobert_tiny" / "vocab.txt"
    found = script.bucketing(speed_settings(data=[folder], vocab=vocab, quick=False))
    assert found["rows of the data"] == dict.fromkeys(NAMES, 64) and found["batches of a repetition"] == 32
    # Each order: one step at first, one that is not timed, and the window.
    assert len(steps) == 2 * (1 + 1 + 32)
    windows = [steps[3:35], steps[36:]]
    rows = [sorted(tuple(row[row != 0].tolist()) for batch in each for row in batch["input_ids"]) for each in windows]
    assert rows[0] == rows[1] and len(rows[0]) == 128
    assert found["share of padding"]["group_by_length"] < found["share of padding"]["random"]


SPEED = {
    "wanted": {"overhead at most": 0.05, "overhead folded": 0.0, "throughput of bucketing at least": 1.5},
    "overhead": {
        "machine": {"device": "cpu", "processor": "a processor"},
        "network": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100},
        "batch": [16, 64],
        "parameters": {
            "plain layer norms": 10,
            "conditional, one task": 12,
            "conditional, mixed tasks": 12,
            "folded": 10,
        },
        **{
            kind: {
                "seconds": {
                    name: {"median": 0.1}
                    for name in ("plain layer norms", "conditional, one task", "conditional, mixed tasks", "folded")
                },
                "more than plain layer norms": {
                    "conditional, one task": {"median": 0.02, "all": [0.01, 0.02, 0.07]},
                    "conditional, mixed tasks": {"median": 0.06, "all": [0.04, 0.06, 0.07]},
                    "folded": {"median": 0.001, "all": [-0.001, 0.001, 0.002]},
                },
            }
            for kind in ("forward", "training step")
        },
    },
    "bucketing": {
        "machine": {"device": "a GPU", "processor": "a processor"},
        "network": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100},
        "rows of a batch": 16,
        "share of padding": {"random": 0.5, "group_by_length": 0.1},
        "rows a second": {"random": {"median": 100.0}, "group_by_length": {"median": 140.0}},
        "similar lengths against any": {"median": 1.4, "all": [1.3, 1.4, 1.6]},
    },
}


@pytest.mark.parametrize(
    ("of", "kind"),
    [("held out", "one matcher better by"), ("held out, with thresholds", "one matcher better by, with thresholds")],
)
def test_differences_are_of_the_figures(tasks: dict[str, Any], of: str, kind: str) -> None:
    for other in ("six models", "not told the task"):
        for name, found in tasks[kind][other].items():
            means = [tasks["contenders"][each][of][name]["mean"] for each in ("one matcher", other)]
            # Values, their means and their difference are rounded to four digits each.
            assert found["difference"] == pytest.approx(means[0] - means[1], abs=2e-4), (other, name)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_tables_show_the_figures(tasks: dict[str, Any], language: str) -> None:
    import tables

    results = {"matcher_tasks": tasks, "matcher": SPEED}
    declared = {name: table for name, table in tables.TABLES.items() if table.result in results}
    assert len(declared) == 9
    shown = {name: table.render(language, results[table.result]) for name, table in declared.items()}
    for text in shown.values():
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1 and len(lines) > 2
    one = tasks["contenders"]["one matcher"]["held out, with thresholds"]["f1_A"]
    cell = f"{100 * one['mean']:.1f} ± {100 * one['standard error']:.1f}"
    assert cell in shown["matcher_head"].splitlines()[2] and cell in shown["matcher_thresholds"].splitlines()[2]
    assert "A†" in shown["matcher_thresholds"].replace("A 类 F1", "A") and f"{NAMES[0]} |" in shown["matcher_tasks"]
    other = tasks["one matcher better by, with thresholds"]["bigram overlap"]["f1"]
    cell = f"{100 * other['difference']:+.1f} ± {100 * other['standard error']:.1f}"
    assert cell in shown["matcher_differences"].splitlines()[-1]
    untold = tasks["one matcher better by"]["not told the task"]["f1"]
    assert f"{100 * untold['difference']:+.1f}" in shown["matcher_differences"].splitlines()[3]
    assert "2, the highest tried" in shown["matcher_training"]
    assert "1 rows were left out because another part has the same two texts." in shown["matcher_training"]
    assert "Of the kept-out rows of 短短匹配B类, 6 of 13 match." in shown["matcher_training"]
    assert len(shown["matcher_tasks"].splitlines()) == 5 and len(shown["matcher_thresholds"].splitlines()) == 6
    assert "| 2,000 | 120 |" in shown["matcher_tasks"]  # two models of the six: what all have together
    missed = [line.split(" | ")[0].strip("| ") for line in shown["matcher_wanted"].splitlines() if "missed" in line]
    assert len(missed) == 3 and all("mixed" in line or "similar lengths" in line for line in missed)
