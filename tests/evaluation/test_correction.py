"""Precision, recall and F1 of corrections, against hand-counted figures and a naive implementation."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_hf import CorrectionMetrics, InputError
from kexue_hf.evaluation.correction import correction_metrics

# source, target, predicted; upper case is correct.
SENTENCES = [
    ("aBCD", "ABCD", "ABCD"),  # corrected
    ("aBCD", "ABCD", "xBCD"),  # detected, but changed to another wrong character
    ("aBCD", "ABCD", "aBCD"),  # missed
    ("abCD", "ABCD", "AbCD"),  # one of two errors corrected
    ("aBCD", "ABCD", "ABxD"),  # corrected, and another character spoilt
    ("ABCD", "ABCD", "ABCD"),  # nothing to do, nothing done
    ("ABCD", "ABCD", "AxCD"),  # a false alarm
]


def test_figures_equal_hand_counts() -> None:
    found = correction_metrics(SENTENCES)
    assert (found["sentences"], found["without_errors"], found["false_positive_rate"]) == (7, 2, 0.5)

    def counts(level: str, task: str) -> tuple[int, int, int]:
        score = found[level][task]
        return score["right"], score["proposed"], score["wanted"]

    # Of five sentences with errors, the first two have exactly the right places, the first the right corrections.
    # SIGHAN counts the false alarm as the only false positive.
    assert counts("sentence", "detection") == (2, 3, 5)
    assert counts("sentence", "correction") == (1, 2, 5)
    assert found["sentence"]["detection"]["accuracy"] == pytest.approx(3 / 7)
    assert found["sentence"]["correction"]["accuracy"] == pytest.approx(2 / 7)
    # Five sentences were changed.
    assert counts("sentence_strict", "detection") == (2, 5, 5)
    assert counts("sentence_strict", "correction") == (1, 5, 5)
    # Changed characters: 1 + 1 + 0 + 1 + 2 + 0 + 1. Errors: 1 + 1 + 1 + 2 + 1, of which 4 are found, 3 corrected.
    assert counts("character", "detection") == (4, 6, 6)
    assert counts("character", "correction") == (3, 6, 6)
    score = found["sentence"]["detection"]
    assert (score["precision"], score["recall"]) == pytest.approx((2 / 3, 2 / 5))
    assert score["f1"] == pytest.approx(2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))


def naive(rows: list[tuple[str, str, str]], level: str, task: str) -> tuple[int, int, int]:
    """Return (right, proposed, wanted), counted with sets of proposed and wanted items."""
    wanted, proposed, flagged = set(), set(), set()
    for number, (source, target, predicted) in enumerate(rows):
        gold = {(i, b) for i, (a, b) in enumerate(zip(source, target, strict=True)) if a != b}
        made = {(i, b) for i, (a, b) in enumerate(zip(source, predicted, strict=True)) if a != b}
        if task == "detection":
            gold, made = {(i, "") for i, _ in gold}, {(i, "") for i, _ in made}
        if level == "character":
            wanted |= {(number, one) for one in gold}
            proposed |= {(number, one) for one in made}
            continue
        if gold:
            wanted.add((number, frozenset(gold)))
        if made:
            proposed.add((number, frozenset(made)))
        if made and (not gold or made == gold):
            flagged.add((number, frozenset(made)))
    return len(wanted & proposed), len(flagged if level == "sentence" else proposed), len(wanted)


sentence = st.text("ab", min_size=4, max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(sentence, sentence, sentence), max_size=8))
def test_figures_equal_a_naive_implementation(rows: list[tuple[str, str, str]]) -> None:
    found = correction_metrics(rows)
    for level in ("sentence", "sentence_strict", "character"):
        for task in ("detection", "correction"):
            score = found[level][task]
            assert (score["right"], score["proposed"], score["wanted"]) == naive(rows, level, task), (level, task)


def test_figures_without_sentences_are_zero() -> None:
    found = CorrectionMetrics().to_dict()
    assert found["false_positive_rate"] is None
    assert found["sentence"]["correction"]["f1"] == found["sentence"]["detection"]["accuracy"] == 0


def test_figures_of_a_published_confusion_matrix() -> None:
    """SIGHAN 2015: 550 sentences with errors, 550 without; a system that finds 293 and raises 72 false alarms."""
    right, missed = ("aB", "AB", "AB"), ("aB", "AB", "aB")
    false_alarm, unchanged = ("AB", "AB", "Ax"), ("AB", "AB", "AB")
    found = correction_metrics([right] * 293 + [missed] * 257 + [false_alarm] * 72 + [unchanged] * 478)
    score = found["sentence"]["detection"]
    assert round(score["precision"], 3) == 0.803
    assert round(score["recall"], 3) == 0.533
    assert round(score["f1"], 3) == 0.640
    assert round(score["accuracy"], 3) == 0.701
    assert round(found["false_positive_rate"], 3) == 0.131


def test_lengths_must_agree() -> None:
    with pytest.raises(InputError, match="must have the same length, got 2, 2 and 1"):
        correction_metrics([("ab", "ab", "a")])
