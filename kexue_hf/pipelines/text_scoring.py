"""Score texts: the log-probability of each token given all others, and their sum.

    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for score in score_texts(model, tokenizer, ["今天天气不错", "今天天汽不错"]):
        print(score.log_prob, score.perplexity, score.log_probs)

A T-TA needs one pass per text, any other masked language model n masked copies (`leave_one_out`). The sum is a
pseudo-log-likelihood, not a probability of the text, because each token is conditioned on all others. Perplexity is
exp(-mean). The perplexities of models with different vocabularies are means over different tokens and cannot be
compared.

Differences from T-TA's original code: the special tokens around a text do not count (the original adds them:
`include_specials=True`), and a text that is longer than the model is scored in windows (the original truncates it).

Unusual input: a text without tokens (empty, white space) has log_prob 0, no mean and no perplexity. A text of one
token has only the special tokens as context. An unknown token is scored as [UNK], which says little about the word;
`unknown` marks it. Special tokens written in the text are ordinary tokens.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from .chunks import MAX_CHARACTERS, MAX_TEXTS, chunks
from .given_texts import each_text
from .leave_one_out import chosen_method, leave_one_out
from .own_tokenizer import check_tokenizer
from .pass_size import tokens_per_pass
from .text_windows import EncodedText, Frame, encode_texts, frame_of, window_capacity, windows


@dataclasses.dataclass(frozen=True)
class TextScore:
    """The score of one text; lists have one entry per scored token, in the order of the text.

    Args:
        text: the original text.
        tokens: the tokenizer's tokens.
        offsets: [start, end) of each token in the text, None for a special token around it; None if the tokenizer
            returns no offsets.
        log_probs: natural logarithms of p(token | all others).
        unknown: whether the vocabulary lacks this part of the text.
        windows: number of windows; 1 if the text fits into the model, 0 if there was nothing to score.
        method: one_pass or masking.
    """

    text: str
    tokens: list[str]
    offsets: list[tuple[int, int] | None] | None
    log_probs: list[float]
    unknown: list[bool]
    windows: int
    method: str

    @property
    def log_prob(self) -> float:
        """Sum of the log-probabilities; 0 without tokens."""
        return math.fsum(self.log_probs)

    @property
    def mean(self) -> float | None:
        """Mean of the log-probabilities; None without tokens."""
        return self.log_prob / len(self.log_probs) if self.log_probs else None

    @property
    def perplexity(self) -> float | None:
        """exp(-mean); None without tokens."""
        try:
            return None if self.mean is None else math.exp(-self.mean)
        except OverflowError:
            return math.inf

    def to_dict(self, tokens: bool = False) -> dict[str, Any]:
        """Return a dictionary for JSON; with `tokens`, one entry per token too."""
        row: dict[str, Any] = {
            "text": self.text,
            "log_prob": self.log_prob,
            "mean": self.mean,
            "perplexity": self.perplexity,
            "num_tokens": len(self.tokens),
            "num_unknown": sum(self.unknown),
            "num_windows": self.windows,
            "method": self.method,
        }
        if tokens:
            places = self.offsets or [None] * len(self.tokens)
            row["tokens"] = [
                {
                    "token": token,
                    "start": place and place[0],
                    "end": place and place[1],
                    "log_prob": log_prob,
                    "unknown": unknown,
                }
                for token, place, log_prob, unknown in zip(
                    self.tokens, places, self.log_probs, self.unknown, strict=True
                )
            ]
        return row


def score_texts(model: nn.Module, tokenizer: Any, texts: Iterable[str] | str, **options: Any) -> list[TextScore]:
    """Score texts; return the results in their order.

    Args:
        model: a masked language model (`AutoModelForMaskedLM`) on any device, in any precision.
        tokenizer: the model's tokenizer.
        texts: any iterable of texts of any length; a string is one text.
        options: those of `score_encoded`.

    Raises:
        ValueError: a text is not a string, or an option does not fit the model.
    """
    return score_encoded(model, tokenizer, encode_texts(tokenizer, texts), **options)


def score_stream(
    model: nn.Module,
    tokenizer: Any,
    texts: Iterable[str] | str,
    *,
    texts_at_once: int = MAX_TEXTS,
    characters_at_once: int = MAX_CHARACTERS,
    texts_done: int = 0,
    **options: Any,
) -> Iterator[TextScore]:
    """Score more texts than fit into memory; yield the results in the order of the texts.

    Args:
        texts_at_once: maximum number of texts read ahead and sorted by length; fewer at first.
        characters_at_once: maximum number of characters read ahead (but always at least one text).
        texts_done: number of texts of the same stream that were scored before, so that the batches, and with them the
            last digits, equal those of an uninterrupted run.
        options: those of `score_encoded`.
    """
    for chunk in chunks(each_text(texts), texts_at_once, characters_at_once, done=texts_done):
        yield from score_texts(model, tokenizer, chunk, **options)


@dataclasses.dataclass(frozen=True)
class _Row:
    """A window as the model sees it; `scored` are the columns to score, ascending."""

    owner: int
    ids: list[int]
    scored: list[int]


def score_encoded(
    model: nn.Module,
    tokenizer: Any,
    encoded: Sequence[EncodedText],
    *,
    method: str = "auto",
    include_specials: bool = False,
    max_length: int | None = None,
    overlap: int | None = None,
    batch_tokens: int | None = None,
) -> list[TextScore]:
    """Score texts that are already tokenized (`encode_texts`).

    Args:
        method: `one_pass` (T-TA only), `masking`, or `auto`: one pass if the model supports it.
        include_specials: also score the special tokens around the text, as T-TA's original code does.
        max_length: tokens per window, special tokens included; by default the model's limit.
        overlap: tokens shared by neighbouring windows of a long text; by default half of a window.
        batch_tokens: maximum number of tokens per forward pass (but always at least one row); by default 1,024 on a
            CPU, 8,192 elsewhere.

    Raises:
        ValueError: an option does not fit the model.
    """
    method = chosen_method(model, method)
    check_tokenizer(model, tokenizer)
    frame = frame_of(tokenizer)
    batch_tokens = tokens_per_pass(model, batch_tokens)
    capacity = window_capacity(model, tokenizer, frame, max_length)
    rows = [
        row
        for owner, text in enumerate(encoded)
        for row in _rows(owner, text, frame, capacity, overlap, include_specials)
        if row.scored
    ]
    values: list[list[float]] = [[] for _ in rows]
    for numbers in _batches(rows, batch_tokens):
        batch = [rows[number] for number in numbers]
        for number, found in zip(numbers, _score(model, tokenizer, batch, method, batch_tokens), strict=True):
            values[number] = found
    by_text: list[list[list[float]]] = [[] for _ in encoded]
    for row, found in zip(rows, values, strict=True):
        by_text[row.owner].append(found)
    return [
        _result(tokenizer, text, frame if include_specials else Frame([], []), found, method)
        for text, found in zip(encoded, by_text, strict=True)
    ]


def _rows(
    owner: int, text: EncodedText, frame: Frame, capacity: int, overlap: int | None, include_specials: bool
) -> Iterator[_Row]:
    for window in windows(len(text.ids), capacity, overlap):
        ids = [*frame.before, *text.ids[window.start : window.end], *frame.after]
        shift = len(frame.before) - window.start
        scored = list(range(window.first + shift, window.last + shift))
        if include_specials:
            if window.start == 0:
                scored = [*range(len(frame.before)), *scored]
            if window.end == len(text.ids):
                scored += range(len(ids) - len(frame.after), len(ids))
        yield _Row(owner, ids, scored)


def _batches(rows: list[_Row], batch_tokens: int) -> Iterator[list[int]]:
    """Yield numbers of rows of similar length; the longest first, so that too large a batch fails at once."""
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number].ids))
    start = 0
    while start < len(order):
        stop = start + max(1, batch_tokens // len(rows[order[start]].ids))
        yield order[start:stop]
        start = stop


def _score(model: nn.Module, tokenizer: Any, rows: list[_Row], method: str, batch_tokens: int) -> list[list[float]]:
    """Return the log-probability of each scored token of each row."""
    device = next(model.parameters()).device
    width = max(len(row.ids) for row in rows)
    pad = tokenizer.pad_token_id or 0
    ids = torch.tensor([row.ids + [pad] * (width - len(row.ids)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows], device=device)
    wanted = torch.zeros(ids.shape, dtype=torch.bool)
    for number, row in enumerate(rows):
        wanted[number, row.scored] = True
    found = torch.zeros(ids.shape, dtype=torch.float32, device=device)

    def keep_own(scores: torch.Tensor, row_indices: torch.Tensor, columns: torch.Tensor) -> None:
        row_indices, columns = row_indices.to(device), columns.to(device)
        own = ids[row_indices, columns].to(scores.device)
        found[row_indices, columns] = scores.gather(1, own[:, None])[:, 0].to(device)

    leave_one_out(
        model,
        ids,
        mask,
        wanted,
        keep_own,
        mask_token_id=tokenizer.mask_token_id,
        method=method,
        batch_tokens=batch_tokens,
    )
    return [[values[column] for column in row.scored] for row, values in zip(rows, found.tolist(), strict=True)]


def _result(tokenizer: Any, text: EncodedText, frame: Frame, found: list[list[float]], method: str) -> TextScore:
    before, after = (tokenizer.convert_ids_to_tokens(ids) for ids in (frame.before, frame.after))
    offsets = None if text.offsets is None else [*[None] * len(before), *text.offsets, *[None] * len(after)]
    unknown_id = tokenizer.unk_token_id  # each access is a lookup in transformers
    unknown = [token == unknown_id for token in text.ids]
    return TextScore(
        text=text.text,
        tokens=[*before, *text.tokens, *after],
        offsets=offsets,
        log_probs=list(itertools.chain.from_iterable(found)),
        unknown=[*[False] * len(before), *unknown, *[False] * len(after)],
        windows=len(found),
        method=method,
    )


__all__ = ["TextScore", "score_encoded", "score_stream", "score_texts"]
