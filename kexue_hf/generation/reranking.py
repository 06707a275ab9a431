"""Reranking of the n-best list of a recognizer or translator: its scores combined with a model's log-probabilities.

    rerank(model, tokenizer, ["今天天汽不错", "今天天气不错"], scores=[-3.1, -3.4])[0].text

The total is (1 - weight) * score + weight * log_prob, the interpolation of T-TA's paper (arXiv 2004.08097); without
scores it is log_prob. log_prob is a sum over tokens, which favours short texts; with `length_normalized` it is the
mean.
"""

import dataclasses
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from kexue_hf.pipelines.given_texts import all_texts
from kexue_hf.pipelines.text_scoring import TextScore, score_texts


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A candidate of an n-best list.

    place: position in the input list, from 0.
    total: the value to rank by; None for a text without tokens, which ranks last.
    log_prob: the model's log-probability, a sum or a mean over tokens; None for a text without tokens.
    score: the given score; None without scores.
    """

    text: str
    place: int
    total: float | None
    log_prob: float | None
    score: float | None


def rerank(
    model: nn.Module,
    tokenizer: Any,
    candidates: Iterable[str] | str,
    scores: Sequence[float] | None = None,
    *,
    weight: float = 0.5,
    length_normalized: bool = False,
    **options: Any,
) -> list[Candidate]:
    """Return the candidates, best first. Candidates of equal total keep their order.

    Args:
        model: a masked language model.
        tokenizer: the model's tokenizer.
        candidates: texts.
        scores: scores of the first pass, one per candidate, larger is better; for example log-probabilities.
        weight: weight of the model against the first pass, from 0 to 1; without effect if there are no scores.
        length_normalized: use the mean log-probability of a text's tokens, not their sum.
        options: options of `score_encoded`.

    Raises:
        ValueError: the scores are not finite numbers, one per candidate; or as for `score_texts`.
    """
    return rerank_lists(
        model, tokenizer, [(candidates, scores)], weight=weight, length_normalized=length_normalized, **options
    )[0]


def rerank_lists(
    model: nn.Module,
    tokenizer: Any,
    lists: Iterable[tuple[Iterable[str] | str, Sequence[float] | None]],
    *,
    weight: float = 0.5,
    length_normalized: bool = False,
    **options: Any,
) -> list[list[Candidate]]:
    """Rerank many lists (candidates, scores or None). The model scores the texts of all lists together.

    Arguments and errors as for `rerank`.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must be from 0 to 1, got {weight}")
    read = [(all_texts(candidates), scores) for candidates, scores in lists]
    for number, (candidates, scores) in enumerate(read):
        check_list(candidates, scores, f"list {number}: " if len(read) > 1 else "")
    texts = [text for candidates, _ in read for text in candidates]
    found = iter(score_texts(model, tokenizer, texts, **options))
    return [
        _ranked([next(found) for _ in candidates], scores, weight, length_normalized) for candidates, scores in read
    ]


def check_list(candidates: Sequence[str], scores: Sequence[float] | None, place: str = "") -> None:
    """Raise ValueError unless the scores are None or finite numbers, one per candidate."""
    if scores is None:
        return
    if len(scores) != len(candidates):
        raise ValueError(f"{place}expected {len(candidates)} scores, one per candidate, got {len(scores)}")
    for score in scores:
        if isinstance(score, bool) or not isinstance(score, numbers.Real) or not _is_finite(score):
            # An integer may have thousands of digits.
            raise ValueError(f"{place}scores must be finite numbers, got {score!r:.40}")


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer too large for a float
        return False


def _ranked(
    found: list[TextScore], scores: Sequence[float] | None, weight: float, length_normalized: bool
) -> list[Candidate]:
    candidates = []
    for place, text in enumerate(found):
        # The log-probability of an empty text would be 0 and win every comparison.
        log_prob = None if text.mean is None else (text.mean if length_normalized else text.log_prob)
        score = None if scores is None else float(scores[place])
        total = log_prob if score is None or log_prob is None else (1 - weight) * score + weight * log_prob
        candidates.append(Candidate(text.text, place, total, log_prob, score))
    return sorted(candidates, key=lambda candidate: math.inf if candidate.total is None else -candidate.total)


__all__ = ["Candidate", "check_list", "rerank", "rerank_lists"]
