"""Spelling correction of Chinese: characters that their context finds improbable, and what it would put there.

    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    corrector = Corrector(model, AutoTokenizer.from_pretrained(folder))
    for found in corrector.correct(["遇到逆竟时，我们必须勇于面对。"]):
        print(found.corrected, found.corrections)

At each token a masked language model says how probable the token is given all others, and how probable each candidate
would be: in one pass for all tokens with a T-TA (arXiv 2004.08097), by masking one after the other with any other
model; see `leave_one_out`. A replacement is proposed where log p(candidate) - log p(original), less what a candidate
costs that is seldom meant when the original is written (see `confusion`), exceeds a threshold.
No network is trained for it, neither on pairs of wrong and right sentences nor to tell the wrong tokens; the few costs
and the default threshold were fitted on SIGHAN's training rows (data for research). Supervised correctors (Soft-Masked
BERT, arXiv 2005.07421) find more.

What may be replaced: tokens that are Chinese characters, by tokens of as many Chinese characters. Numbers, letters,
punctuation, white space, unknown tokens and special tokens written in the text stay, and so does the text's length.
The result is the original string with the replacements put in: what a tokenizer does to a text (lower case, other
forms of a character) is not in it. Candidates come from a confusion set (`confusion`: what sounds or looks alike) or
from the whole vocabulary (`top_k`).

What is defined for odd input: a text without such tokens (empty, English) comes back as it is. A text of one token has
nothing but the special tokens to tell by, and is treated as any other. What is longer than the model is read in
overlapping windows; a token counts in the one that shows most around it.
"""

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .confusion import KINDS, Confusion, is_han
from .given_texts import all_texts, each_text
from .leave_one_out import chosen_method, leave_one_out
from .own_tokenizer import check_tokenizer
from .protected_text import Protection
from .text_scoring import chunks
from .text_windows import EncodedText, encode_texts, frame_of, room_in, windows

_logger = logging.getLogger(__name__)
# The gain above which a candidate is taken: what benchmarks/tta_correction_constants.py chooses for a small T-TA on
# SIGHAN's training rows. A test holds that it is.
DEFAULT_THRESHOLD = 5.5
# With fewer characters it is hardly a Chinese model.
_FEW_CHARACTERS = 500
# A stream is read so many texts, or characters, ahead: within them it goes through the model sorted by length.
_TEXTS_AT_ONCE = 1024
_CHARACTERS_AT_ONCE = 1 << 18


class Candidate(NamedTuple):
    """A text, log p(text | all other tokens), and its cost."""

    text: str
    log_prob: float
    cost: float = 0.0


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A token and the candidates for its place, at least one, the best first.

    start, end: where it stands in the text, [start, end).
    original: the text there.
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
        """As JSON has it; gain = log_prob_replacement - log_prob_original - cost."""
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
    """A text as it was given, the corrected one of the same length, and what was changed, by position."""

    text: str
    corrected: str
    corrections: list[Proposal]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "text": self.text,
            "corrected": self.corrected,
            "corrections": [correction.to_dict() for correction in self.corrections],
        }


class Corrector:
    """Corrects texts with one model, one tokenizer and one source of candidates.

    Args:
        model: a masked language model (`AutoModelForMaskedLM`), on any device, in any precision.
        tokenizer: the model's own, with offsets (a fast one).
        candidates: `confusion` (all of `KINDS`), some of them with + between (`sound+shape`), `top_k` (any token of
            the vocabulary), the path of a file (`Confusion.from_file`), or a `Confusion`.
        threshold: a candidate is taken where log p(candidate) - log p(original) - its cost is more than this. A higher
            threshold changes less, and less wrongly. None: the model's own (`calibrate_correction`), or, where nobody
            has calibrated it, `DEFAULT_THRESHOLD` with a warning.
        protect: texts that are never changed: names, products, terms. Numbers, letters and the tokenizer's user words
            never are.
        known_words: whether a change within a word that the dictionary or the vocabulary knows costs more, see
            `protected_text`.
        rounds: how often a text is read. What an error made improbable around it is seen rightly in the second round;
            what was changed stays.
        shown: how many candidates of each place are kept for the report.
        method: `one_pass` (T-TA only), `masking`, or `auto`: one pass where the model can.
        max_length: tokens of a window, special ones included; by default what the model takes.
        overlap: tokens that neighbouring windows of a long text share; by default half of what a window has room for.
        batch_tokens: at most so many tokens go through the model at a time (but always at least one row).

    Raises:
        ValueError: options that do not fit the model, an unknown source of candidates, a bad file of them, or a
            vocabulary without Chinese characters, or without any candidate, so that nothing could be corrected.

    Warns (logging): the vocabulary holds but a few Chinese characters; others are never corrected.
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
        batch_tokens: int = 8192,
    ) -> None:
        for name, number in (("rounds", rounds), ("shown", shown), ("batch_tokens", batch_tokens)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if threshold is not None and math.isnan(threshold):
            raise ValueError("threshold must be a number, got nan")
        self.model, self.tokenizer = model, tokenizer
        self.candidates = candidates if isinstance(candidates, str) else type(candidates).__name__
        self.rounds, self.shown, self.batch_tokens = rounds, shown, batch_tokens
        self.method = chosen_method(model, method)
        check_tokenizer(model, tokenizer)
        self._frame = frame_of(tokenizer)
        self._room = room_in(model, tokenizer, self._frame, max_length)
        self._overlap = overlap
        self._protection = Protection([*_listed(protect), *getattr(tokenizer, "user_words", ())], known_words)
        self._confusion = candidate_source(candidates)
        special = set(tokenizer.all_special_ids)
        size = getattr(getattr(model, "config", None), "vocab_size", None) or len(tokenizer)
        # Only the tokens that are Chinese characters; those that the model does not know are nobody's candidates.
        self._vocabulary: dict[str, int] = {
            token: index
            for token, index in tokenizer.get_vocab().items()
            if is_han(token) and index not in special and index < size
        }
        self._texts = {index: token for token, index in self._vocabulary.items()}
        self._others: dict[int, dict[int, float]] = {}
        self._check_vocabulary()
        # How many characters each token has that may be a candidate, [tokens], else 0.
        self._lengths = torch.zeros(max(self._texts) + 1, dtype=torch.long)
        self._lengths[list(self._texts)] = torch.tensor([*map(len, self._texts.values())])
        # Last, since it may warn, and what is wrong is to be one line.
        self.threshold = calibrated_threshold(model, self.candidates) if threshold is None else threshold

    def _check_vocabulary(self) -> None:
        name = getattr(self.tokenizer, "name_or_path", "") or type(self.tokenizer).__name__
        if not self._texts:
            raise ValueError(
                f"no token of {name} is a Chinese character, so nothing could be corrected: take a model whose "
                "vocabulary is of Chinese characters or words (not of bytes, as RoBERTa's)"
            )
        if not any(map(self._candidates, self._texts)):
            raise ValueError(f"none of the candidates is a token of {name}, so nothing could be corrected")
        if len(self._texts) < _FEW_CHARACTERS:
            _logger.warning(
                "%s has only %d tokens of Chinese characters: what is none of them is never corrected",
                name,
                len(self._texts),
            )

    def correct(self, texts: Iterable[str] | str) -> list[CorrectedText]:
        """Correct texts; the results are in their order.

        Raises:
            ValueError: texts that are no strings, or a tokenizer without offsets.
        """
        texts = all_texts(texts)
        current = list(texts)
        made: list[list[Proposal]] = [[] for _ in current]
        left = list(range(len(current)))
        for _ in range(self.rounds):
            if not left:
                break
            proposed = self.propose([current[number] for number in left], self.threshold)
            changed = []
            for number, proposals in zip(left, proposed, strict=True):
                done = {place for old in made[number] for place in range(old.start, old.end)}
                chosen = [new for new in proposals if done.isdisjoint(range(new.start, new.end))]
                if chosen:
                    current[number] = replaced(current[number], chosen)
                    made[number] += chosen
                    changed.append(number)
            left = changed
        return [
            CorrectedText(text, after, sorted(corrections, key=lambda correction: correction.start))
            for text, after, corrections in zip(texts, current, made, strict=True)
        ]

    def stream(
        self,
        texts: Iterable[str] | str,
        texts_at_once: int = _TEXTS_AT_ONCE,
        characters_at_once: int = _CHARACTERS_AT_ONCE,
    ) -> Iterator[CorrectedText]:
        """As `correct`, for more texts than fit into memory: read ahead by a bounded number of texts and characters
        (at least one text), given back in the order in which they came."""
        for chunk in chunks(each_text(texts), texts_at_once, characters_at_once):
            yield from self.correct(chunk)

    def propose(self, texts: Iterable[str] | str, above: float = -math.inf) -> list[list[Proposal]]:
        """For each text, the tokens that may be replaced, with their candidates, by position.

        Args:
            above: only those whose gain is more than this; by default all, however improbable.

        Raises:
            ValueError: as `correct`.
        """
        encoded = encode_texts(self.tokenizer, texts)
        found: list[list[Proposal]] = [[] for _ in encoded]
        rows = [row for owner, text in enumerate(encoded) for row in self._rows(owner, text)]
        # The longest first: if memory lacks, it lacks at once.
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
                f"{type(self.tokenizer).__name__} does not say where its tokens stand in the text: correction needs a "
                "fast tokenizer"
            )
        kept = self._protection.never_changed(text.text)
        replaceable = [
            self._texts.get(index) == text.text[start:end]
            and kept.isdisjoint(range(start, end))
            and bool(self._candidates(index))
            for index, (start, end) in zip(text.ids, text.offsets, strict=True)
        ]
        costs = self._protection.costs(text.text)
        for window in windows(len(text.ids), self._room, self._overlap):
            places = [place for place in range(window.first, window.last) if replaceable[place]]
            if places:
                ids = [*self._frame.before, *text.ids[window.start : window.end], *self._frame.after]
                spans = [text.offsets[place] for place in places]
                own = [max(self._protection.token_cost(text.text[a:b]), *costs[a:b]) for a, b in spans]
                yield _Row(owner, ids, places, own, len(self._frame.before) - window.start)

    def _candidates(self, index: int) -> dict[int, float]:
        """The ids of a token's candidates and their costs; for `top_k`, the token stands for all of its length."""
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

        def keep_best(log_probs: torch.Tensor, its_rows: torch.Tensor, columns: torch.Tensor) -> None:
            its_rows, columns = its_rows.cpu(), columns.cpu()
            own = ids[its_rows, columns]
            own_log_probs = log_probs.gather(1, own.to(log_probs.device)[:, None])[:, 0]
            own_log_probs = own_log_probs.cpu()
            best, costs, others = (tensor.cpu() for tensor in self._best(log_probs, own))
            costs = costs + own_costs[its_rows, columns, None]
            # In double precision, and in the order in which `Proposal.gain` subtracts.
            kept = best[:, 0].double() - own_log_probs.double() - costs[:, 0].double() > above
            kept_rows = (tensor[kept].tolist() for tensor in (its_rows, columns, own_log_probs, best, costs, others))
            for number, column, log_prob, *candidates in zip(*kept_rows, strict=True):
                row = rows[number]
                text = encoded[row.owner]
                assert text.offsets is not None  # _rows has looked
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
        """Log-probabilities, costs (fp64) and ids of the best candidates, each [n, shown] or fewer columns; -inf where
        there are no more.

        Args:
            log_probs: [n, vocabulary], may be changed.
            own: [n], the tokens' ids.
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
                # Rows of one length at a time: of other lengths nothing is allowed.
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
    """A window as the model sees it; `places` are the tokens of the text that may be replaced, which stand `shift`
    columns further on, and `costs` what replacing each costs, whatever by."""

    owner: int
    ids: list[int]
    places: list[int]
    costs: list[float]
    shift: int


def calibrated_threshold(model: Any, candidates: str) -> float:
    """The threshold in the model's configuration (`correction`), which `calibrate_correction` found.

    Raises:
        ValueError: it found none at which corrections are worth having, or the configuration holds something else.
    """
    config = getattr(model, "config", None)
    found = getattr(config, "correction", None)
    name = getattr(config, "name_or_path", "") or type(model).__name__
    if found is None or (isinstance(found, dict) and found.get("candidates", candidates) != candidates):
        _logger.warning(
            "%s was never calibrated for correction with candidates %s: with the threshold %s it may change what is "
            "right. Calibrate it on texts like yours: kexue-hf correct MODEL --calibrate --file texts.txt",
            name,
            candidates,
            DEFAULT_THRESHOLD,
        )
        return DEFAULT_THRESHOLD
    threshold = found.get("threshold", "none") if isinstance(found, dict) else repr(found)
    if threshold is None:
        raise ValueError(
            f"{name} is too weak for correction: calibration found no threshold at which enough of its changes are "
            "right; take a larger model, or name a threshold to see what it would change"
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


def candidate_source(candidates: str | Path | Confusion) -> Confusion | None:
    """The confusion set that is meant; None for `top_k`.

    Raises:
        ValueError: neither a known name nor the path of a file.
    """
    if isinstance(candidates, Confusion):
        return candidates
    if candidates == "top_k":
        return None
    if candidates == "confusion":
        return Confusion.of_kinds(*KINDS)
    kinds = str(candidates).split("+")
    if set(kinds) <= set(KINDS):
        return Confusion.of_kinds(*kinds)
    if not Path(candidates).is_file():
        raise ValueError(
            f"candidates must be confusion, top_k, some of {', '.join(KINDS)} with + between, or a file of your own, "
            f"got {str(candidates)!r}"
        )
    return Confusion.from_file(candidates)


def replaced(text: str, corrections: Iterable[Proposal]) -> str:
    """The text with the corrections made; they do not overlap."""
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
    "candidate_source",
    "replaced",
]
