"""Reranking of n-best lists: interpolation, ties, empty candidates."""

import pytest

from kexue_hf.generation.reranking import rerank, rerank_lists
from kexue_hf.pipelines.text_scoring import score_texts
from tests.pipelines.test_text_scoring import make

CANDIDATES = ["今天天气", "今天好", "不错，天气好", ""]
SCORES = [-1.0, -9.0, -2.5, 0.0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    return make("tta", tmp_path_factory.mktemp("vocabulary"))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("length_normalized", [False, True], ids=["sum", "mean"])
def test_the_total_interpolates_score_and_log_prob(pair, weight: float, length_normalized: bool) -> None:
    ranked = rerank(*pair, CANDIDATES, SCORES, weight=weight, length_normalized=length_normalized)
    assert sorted(candidate.place for candidate in ranked) == [0, 1, 2, 3]
    assert ranked[-1].text == "" and ranked[-1].total is None
    totals = [candidate.total for candidate in ranked[:-1]]
    assert totals == sorted(totals, reverse=True)
    for candidate in ranked[:-1]:
        score = score_texts(*pair, [CANDIDATES[candidate.place]])[0]
        log_prob = score.mean if length_normalized else score.log_prob
        assert candidate.text == CANDIDATES[candidate.place] and candidate.score == SCORES[candidate.place]
        assert candidate.log_prob == pytest.approx(log_prob, abs=1e-5)
        assert candidate.total == pytest.approx((1 - weight) * candidate.score + weight * log_prob, abs=1e-5)


def test_without_scores_the_model_decides_alone(pair) -> None:
    for candidate in rerank(*pair, CANDIDATES)[:-1]:
        assert candidate.total == candidate.log_prob and candidate.score is None


def test_equal_candidates_keep_their_order(pair) -> None:
    assert [candidate.place for candidate in rerank(*pair, ["好", "天", "好"], [-5, 0, -5], weight=0)] == [1, 0, 2]


def test_lists_are_ranked_independently(pair) -> None:
    lists = [(CANDIDATES, SCORES), ([], None), (CANDIDATES[:2], None)]
    together = rerank_lists(*pair, lists)
    for found, (candidates, scores) in zip(together, lists, strict=True):
        alone = rerank(*pair, candidates, scores)
        assert [candidate.place for candidate in found] == [candidate.place for candidate in alone]


@pytest.mark.parametrize(
    ("candidates", "scores", "options", "message"),
    [
        (["好"], [1, 2], {}, "expected 1 scores, one per candidate, got 2"),
        (["好"], [float("nan")], {}, "finite numbers, got nan"),
        (["好"], ["1"], {}, "finite numbers, got '1'"),
        (["好"], [10**400], {}, "finite numbers, got 1000000"),
        (["好"], None, {"weight": 2}, "weight must be from 0 to 1"),
    ],
    ids=["number", "nan", "string", "beyond_floats", "weight"],
)
def test_invalid_arguments(pair, candidates, scores, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rerank(*pair, candidates, scores, **options)
