"""Correct Chinese spelling: find characters that are improbable in their context, and more probable candidates.

    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    corrector = Corrector(model, AutoTokenizer.from_pretrained(folder))
    for result in corrector.correct(["遇到逆竟时，我们必须勇于面对。"]):
        print(result.corrected, result.corrections)

At each token, a masked language model gives the probability of the token given all others, and of each candidate. A
T-TA (arXiv 2004.08097) does so in one pass; any other model by masking one token after the other (`leave_one_out`). A
replacement is proposed if log p(candidate) - log p(original) - cost exceeds a threshold. The cost is high for
candidates that are rarely meant when the original is written (`confusion`).

No network is trained for correction, neither on pairs of wrong and right sentences nor to detect wrong tokens. Only
the few costs and the default threshold were fitted, on SIGHAN's training set (research data). Supervised correctors
(Soft-Masked BERT, arXiv 2005.07421) find more errors.

Only tokens of Chinese characters are replaced, by tokens with the same number of Chinese characters. Numbers, letters,
punctuation, white space, unknown tokens and special tokens written in the text stay, so the length stays too. The
result is the original string with the replacements inserted: the tokenizer's normalization (lower case, other forms of
a character) does not reach it. Candidates come from a confusion set (`confusion`: similar sound or shape) or from the
whole vocabulary (`top_k`).

Unusual input: a text without replaceable tokens (empty, English) is returned unchanged. A text of one token has only
the special tokens as context. A text that is longer than the model is read in overlapping windows; each token counts
in the window that shows more of its context.
"""

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .chunks import MAX_CHARACTERS, MAX_TEXTS, chunks
from .confusion import Confusion, candidate_source, is_han, name_of
from .given_texts import all_texts, each_text
from .leave_one_out import chosen_method, leave_one_out
from .own_tokenizer import check_tokenizer
from .pass_size import tokens_per_pass
from .protected_text import Protection
from .text_windows import EncodedText, encode_texts, frame_of, window_capacity, windows

_logger = logging.getLogger(__name__)
# Chosen by benchmarks/tta_correction_constants.py for a small T-TA on SIGHAN's training set.
# A test compares it with the result of that script.
DEFAULT_THRESHOLD = 5.5
# A vocabulary with fewer is probably not that of a Chinese model.
_FEW_CHARACTERS = 500


class Candidate(NamedTuple):
    """A candidate, its log p(text | all other tokens), and its cost."""

    text: str
    log_prob: float
    cost: float = 0.0


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A token and the candidates for its place (at least one), the best first.

    start, end: position in the text, [start, end).
    original: the text at this position.
    log_prob: log p(original | all other tokens).
    """

    start: int
    end: int
    original: str
    log_prob: float
    candidates: tuple[Candidate, ...]

    @property
    def replacement(self) -> str:
        """The best candidate."""
        return self.candidates[0].text

    @property
    def gain(self) -> float:
        """log p(replacement) - log p(original) - the replacement's cost."""
        return self.candidates[0].log_prob - self.log_prob - self.candidates[0].cost

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON; gain = log_prob_replacement - log_prob_original - cost."""
        return {
            "start": self.start,
            "end": self.end,
            "original": self.original,
            "replacement": self.replacement,
            "log_prob_original": self.log_prob,
            "log_prob_replacement": self.candidates[0].log_prob,
            "cost": self.candidates[0].cost,
            "gain": self.gain,
            "candidates": [
                {"text": one.text, "probability": math.exp(one.log_prob), "cost": one.cost} for one in self.candidates
            ],
        }


@dataclasses.dataclass(frozen=True)
class CorrectedText:
    """The original text, the corrected text of the same length, and the corrections, sorted by position."""

    text: str
    corrected: str
    corrections: list[Proposal]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {
            "text": self.text,
            "corrected": self.corrected,
            "corrections": [correction.to_dict() for correction in self.corrections],
        }


class Corrector:
    """Correct texts with one model, one tokenizer and one source of candidates.

    Args:
        model: a masked language model (`AutoModelForMaskedLM`) on any device, in any precision.
        tokenizer: the model's tokenizer; it must return offsets (a fast one).
        candidates: `confusion` (all of `KINDS`), some of these joined by + (`sound+shape`), `top_k` (any token of the
            vocabulary), the path of a file (`Confusion.from_file`), or a `Confusion`.
        threshold: minimum gain, log p(candidate) - log p(original) - cost. A higher threshold makes fewer changes, and
            fewer wrong ones. None: the model's threshold (`calibrate_correction`), or `DEFAULT_THRESHOLD` with a
            warning if the model was never calibrated.
        protect: texts that never change: names, products, terms. Numbers, letters and the tokenizer's user words never
            change either.
        known_words: whether a change within a word of the dictionary or the vocabulary costs more, see
            `protected_text`.
        rounds: number of passes over each text. The second round sees the context of an error after its correction. A
            corrected place does not change again.
        shown: number of candidates kept for each place.
        method: `one_pass` (T-TA only), `masking`, or `auto`: one pass if the model supports it.
        max_length: tokens per window, special tokens included; by default the model's limit.
        overlap: tokens shared by neighbouring windows of a long text; by default half of a window.
        batch_tokens: maximum number of tokens per forward pass (but always at least one row); by default 1,024 on a
            CPU, 8,192 elsewhere.

    Raises:
        ValueError: an option does not fit the model, the source of candidates is unknown, its file is invalid, or
            nothing could be corrected because the vocabulary has no Chinese characters or none of the candidates.

    Warns (logging): the vocabulary has only a few Chinese characters, so that others are never corrected.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        candidates: str | Path | Confusion = "confusion",
        threshold: float | None = None,
        protect: Iterable[str] = (),
        known_words: bool = True,
        rounds: int = 1,
        shown: int = 5,
        method: str = "auto",
        max_length: int | None = None,
        overlap: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        for name, number in (("rounds", rounds), ("shown", shown)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if threshold is not None and math.isnan(threshold):
            raise ValueError("threshold must be a number, got nan")
        self.model, self.tokenizer = model, tokenizer
        self.rounds, self.shown, self.batch_tokens = rounds, shown, tokens_per_pass(model, batch_tokens)
        self.method = chosen_method(model, method)
        check_tokenizer(model, tokenizer)
        self._frame = frame_of(tokenizer)
        self._capacity = window_capacity(model, tokenizer, self._frame, max_length)
        self._overlap = overlap
        self._protection = Protection([*_listed(protect), *getattr(tokenizer, "user_words", ())], known_words)
        self._confusion = candidate_source(candidates)
        self.candidates = name_of(candidates, self._confusion)
        special = set(tokenizer.all_special_ids)
        size = getattr(getattr(model, "config", None), "vocab_size", None) or len(tokenizer)
        # Only tokens of Chinese characters for which the model has an embedding can be candidates.
        self._vocabulary: dict[str, int] = {
            token: index
            for token, index in tokenizer.get_vocab().items()
            if is_han(token) and index not in special and index < size
        }
        self._texts = {index: token for token, index in self._vocabulary.items()}
        self._others: dict[int, dict[int, float]] = {}
        self._check_vocabulary()
        # [tokens]: number of characters of each token that may be a candidate, else 0.
        self._lengths = torch.zeros(max(self._texts) + 1, dtype=torch.long)
        self._lengths[list(self._texts)] = torch.tensor([*map(len, self._texts.values())])
        # Last, because it may log a warning, and an error must be one line.
        self.threshold = calibrated_threshold(model, self.candidates) if threshold is None else threshold

    def _check_vocabulary(self) -> None:
        name = getattr(self.tokenizer, "name_or_path", "") or type(self.tokenizer).__name__
        if not self._texts:
            raise ValueError(
                f"correction needs a vocabulary of Chinese characters or words, {name} has none: use another model "
                "(not one with a byte vocabulary, such as RoBERTa's)"
            )
        if not any(map(self._candidates, self._texts)):
            raise ValueError(f"expected candidates that are tokens of {name}, got none: use other candidates")
        if len(self._texts) < _FEW_CHARACTERS:
            _logger.warning(
                "%s has only %d tokens of Chinese characters: others are never corrected",
                name,
                len(self._texts),
            )

    def correct(self, texts: Iterable[str] | str) -> list[CorrectedText]:
        """Correct texts; return the results in their order.

        Raises:
            ValueError: a text is not a string, or the tokenizer returns no offsets.
        """
        texts = all_texts(texts)
        current = list(texts)
        made: list[list[Proposal]] = [[] for _ in current]
        pending = list(range(len(current)))
        for _ in range(self.rounds):
            if not pending:
                break
            proposed = self.propose([current[number] for number in pending], self.threshold)
            changed = []
            for number, proposals in zip(pending, proposed, strict=True):
                done = {place for old in made[number] for place in range(old.start, old.end)}
                chosen = [new for new in proposals if done.isdisjoint(range(new.start, new.end))]
                if chosen:
                    current[number] = replaced(current[number], chosen)
                    made[number] += chosen
                    changed.append(number)
            pending = changed
        return [
            CorrectedText(text, after, sorted(corrections, key=lambda correction: correction.start))
            for text, after, corrections in zip(texts, current, made, strict=True)
        ]

    def stream(
        self,
        texts: Iterable[str] | str,
        texts_at_once: int = MAX_TEXTS,
        characters_at_once: int = MAX_CHARACTERS,
    ) -> Iterator[CorrectedText]:
        """Correct more texts than fit into memory; yield the results in the order of the texts.

        Args:
            texts_at_once: maximum number of texts read ahead.
            characters_at_once: maximum number of characters read ahead (but always at least one text).
        """
        for chunk in chunks(each_text(texts), texts_at_once, characters_at_once):
            yield from self.correct(chunk)

    def propose(self, texts: Iterable[str] | str, above: float = -math.inf) -> list[list[Proposal]]:
        """Return, for each text, the replaceable tokens with their candidates, sorted by position.

        Args:
            above: return only proposals whose gain exceeds this; by default all.

        Raises:
            ValueError: as for `correct`.
        """
        encoded = encode_texts(self.tokenizer, texts)
        found: list[list[Proposal]] = [[] for _ in encoded]
        rows = [row for owner, text in enumerate(encoded) for row in self._rows(owner, text)]
        # The longest first, so that too large a batch fails at once.
        rows.sort(key=lambda row: -len(row.ids))
        start = 0
        while start < len(rows):
            size = max(1, self.batch_tokens // len(rows[start].ids))
            self._propose_rows(rows[start : start + size], encoded, found, above)
            start += size
        for proposals in found:
            proposals.sort(key=lambda proposal: proposal.start)
        return found

    def _rows(self, owner: int, text: EncodedText) -> "Iterator[_Row]":
        if text.offsets is None:
            raise ValueError(
                f"correction needs a tokenizer with offsets, got {type(self.tokenizer).__name__}: use a fast tokenizer"
            )
        kept = self._protection.never_changed(text.text)
        replaceable = [
            self._texts.get(index) == text.text[start:end]
            and kept.isdisjoint(range(start, end))
            and bool(self._candidates(index))
            for index, (start, end) in zip(text.ids, text.offsets, strict=True)
        ]
        costs = self._protection.costs(text.text)
        for window in windows(len(text.ids), self._capacity, self._overlap):
            places = [place for place in range(window.first, window.last) if replaceable[place]]
            if places:
                ids = [*self._frame.before, *text.ids[window.start : window.end], *self._frame.after]
                spans = [text.offsets[place] for place in places]
                own = [max(self._protection.token_cost(text.text[a:b]), *costs[a:b]) for a, b in spans]
                yield _Row(owner, ids, places, own, len(self._frame.before) - window.start)

    def _candidates(self, index: int) -> dict[int, float]:
        """Return the ids of a token's candidates with their costs.

        For `top_k`, the token itself represents all tokens of its length.
        """
        if self._confusion is None:
            return {index: 0.0}
        if index not in self._others:
            others = self._confusion(self._texts[index]).items()
            self._others[index] = {
                self._vocabulary[other]: cost for other, cost in others if other in self._vocabulary
            }
        return self._others[index]

    def _propose_rows(
        self, rows: "list[_Row]", encoded: list[EncodedText], found: list[list[Proposal]], above: float
    ) -> None:
        width = max(len(row.ids) for row in rows)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([row.ids + [pad] * (width - len(row.ids)) for row in rows])
        mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows])
        wanted = torch.zeros(ids.shape, dtype=torch.bool)
        own_costs = torch.zeros(ids.shape, dtype=torch.float64)
        for number, row in enumerate(rows):
            columns = [place + row.shift for place in row.places]
            wanted[number, columns] = True
            own_costs[number, columns] = torch.tensor(row.costs, dtype=torch.float64)

        def keep_best(log_probs: torch.Tensor, row_indices: torch.Tensor, columns: torch.Tensor) -> None:
            row_indices, columns = row_indices.cpu(), columns.cpu()
            own = ids[row_indices, columns]
            own_log_probs = log_probs.gather(1, own.to(log_probs.device)[:, None])[:, 0]
            own_log_probs = own_log_probs.cpu()
            best, costs, others = (tensor.cpu() for tensor in self._best(log_probs, own))
            costs = costs + own_costs[row_indices, columns, None]
            # In double precision, and in the order in which `Proposal.gain` subtracts.
            kept = best[:, 0].double() - own_log_probs.double() - costs[:, 0].double() > above
            kept_rows = (
                tensor[kept].tolist() for tensor in (row_indices, columns, own_log_probs, best, costs, others)
            )
            for number, column, log_prob, *candidates in zip(*kept_rows, strict=True):
                row = rows[number]
                text = encoded[row.owner]
                assert text.offsets is not None  # by _rows
                start, end = text.offsets[column - row.shift]
                shown = tuple(
                    Candidate(self._texts[index], value, cost)
                    for value, cost, index in zip(*candidates, strict=True)
                    if value > -math.inf
                )
                if shown:
                    found[row.owner].append(Proposal(start, end, text.text[start:end], log_prob, shown))

        leave_one_out(
            self.model,
            ids,
            mask,
            wanted,
            keep_best,
            mask_token_id=self.tokenizer.mask_token_id,
            method=self.method,
            batch_tokens=self.batch_tokens,
        )

    def _best(self, log_probs: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return log-probabilities, costs (fp64) and ids of the best candidates, each [n, <= shown].

        Unused entries have the log-probability -inf.

        Args:
            log_probs: [n, vocabulary]; may be modified.
            own: ids of the tokens themselves, [n].
        """
        device = log_probs.device
        if self._confusion is None:
            own = own.to(device)
            if self._lengths.device != device or len(self._lengths) != log_probs.shape[1]:
                missing = log_probs.shape[1] - len(self._lengths)
                self._lengths = nn.functional.pad(self._lengths, (0, missing)).to(device)
            lengths = self._lengths
            log_probs.scatter_(1, own[:, None], -math.inf)
            for length in lengths[own].unique().tolist():
                # A token can only be replaced by one with as many characters.
                numbers = (lengths[own] == length).nonzero()[:, 0]
                log_probs[numbers] = log_probs[numbers].masked_fill(lengths != length, -math.inf)
            best, others = log_probs.topk(min(self.shown, log_probs.shape[1]), dim=1)
            return best, torch.zeros_like(best, dtype=torch.float64), others
        lists = [self._candidates(index) for index in own.tolist()]
        width = max(map(len, lists))
        ids = torch.tensor([[*others, *[-1] * (width - len(others))] for others in lists], device=device)
        costs = torch.tensor(
            [[*others.values(), *[0.0] * (width - len(others))] for others in lists],
            dtype=torch.float64,
            device=device,
        )
        values = log_probs.gather(1, ids.clamp(min=0)).masked_fill(ids < 0, -math.inf)
        order = (values.double() - costs).topk(min(self.shown, width), dim=1).indices
        return values.gather(1, order), costs.gather(1, order), ids.gather(1, order)


@dataclasses.dataclass(frozen=True)
class _Row:
    """A window as the model sees it.

    owner: number of the text.
    ids: token ids, special tokens included.
    places: indices of the text's tokens that may be replaced.
    costs: cost of replacing each of these, for any candidate.
    shift: columns between a token's index in the text and in `ids`.
    """

    owner: int
    ids: list[int]
    places: list[int]
    costs: list[float]
    shift: int


def calibrated_threshold(model: Any, candidates: str) -> float:
    """Return the threshold in the model's configuration (`correction`), as written by `calibrate_correction`.

    Raises:
        ValueError: calibration found no useful threshold, or the configuration holds something else.
    """
    config = getattr(model, "config", None)
    found = getattr(config, "correction", None)
    name = getattr(config, "name_or_path", "") or type(model).__name__
    if found is None or (isinstance(found, dict) and found.get("candidates", candidates) != candidates):
        _logger.warning(
            "%s was never calibrated for correction with candidates %s: with the threshold %s it may change correct "
            "text. Calibrate it on texts like yours: kexue-hf correct MODEL --calibrate --file texts.txt",
            name,
            candidates,
            DEFAULT_THRESHOLD,
        )
        return DEFAULT_THRESHOLD
    threshold = found.get("threshold", "none") if isinstance(found, dict) else repr(found)
    if threshold is None:
        raise ValueError(
            f"{name} is too weak for correction: calibration found no threshold at which enough of its changes are "
            "right; use a larger model, or set a threshold to see its changes anyway"
        )
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise ValueError(
            f"config.json of {name}: correction should hold a finite threshold or null, got {threshold!r:.40}; "
            "calibrate the model again"
        )
    return float(threshold)


def _listed(words: Iterable[str]) -> list[str]:
    if isinstance(words, str):
        raise ValueError("expected a list of protected words, got a single string: put it into a list")
    return list(words)


def replaced(text: str, corrections: Iterable[Proposal]) -> str:
    """Return the text with the corrections applied; they must not overlap."""
    parts, end = [], 0
    for correction in sorted(corrections, key=lambda correction: correction.start):
        parts += [text[end : correction.start], correction.replacement]
        end = correction.end
    return "".join([*parts, text[end:]])


__all__ = [
    "DEFAULT_THRESHOLD",
    "Candidate",
    "CorrectedText",
    "Corrector",
    "Proposal",
    "calibrated_threshold",
    "replaced",
]
