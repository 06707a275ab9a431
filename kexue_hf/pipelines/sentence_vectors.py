"""Unsupervised sentence vectors: the mean of the states of a text's tokens.

    vectors = sentence_vectors(model, tokenizer, ["今天天气不错", "今天天气很好"], normalize=True)
    cosines = vectors @ vectors.T

This is the vector of T-TA's unsupervised similarity (arXiv 2004.08097): the last layer, averaged over the tokens
between [SOS] and [EOS]. In contrast to the mean pooling of sentence embedding libraries, it excludes the tokens that
the tokenizer puts around every text ([SOS] and [EOS], [CLS] and [SEP]), which say nothing about the text. It works
with any encoder: T-TA, WoBERT, NEZHA, BERT.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .evaluation_mode import evaluating
from .finite_results import check_finite
from .given_texts import all_texts
from .own_tokenizer import check_tokenizer
from .padding_leaks import padding_leaks
from .pass_size import tokens_per_pass
from .text_windows import encode_texts, frame_of, window_capacity, windows


def sentence_vectors(
    model: Any,
    tokenizer: Any,
    texts: Iterable[str] | str,
    *,
    max_length: int | None = None,
    layer: int = -1,
    normalize: bool = False,
    batch_tokens: int | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Return the mean of the token states of each text, without padding and the special tokens around the text.

    A text that is longer than the model's positions is read in windows that overlap by half. Each token counts once,
    with its state in the window that shows more of its context, so the vector is still a mean over all tokens of the
    text. A text without tokens, such as the empty one, gets zeros.

    Args:
        model: an encoder of transformers, with or without a head. It runs in evaluation mode on its own device; each
            module then returns to its own mode.
        tokenizer: the model's tokenizer.
        texts: any iterable of texts; a string is one text. Batches hold texts of similar length; the results are in
            the order of the texts.
        max_length: tokens per window, special tokens included; None for the limit of model and tokenizer.
        layer: index into the model's hidden states, -1 for the last layer, 0 for the input of the first.
        normalize: scale each vector to length 1; zeros stay zeros.
        batch_tokens: maximum number of tokens per forward pass (but always at least one row); by default 1,024 on a
            CPU, 8,192 elsewhere.
        progress: show a progress bar on stderr.

    Returns:
        [texts, hidden], float32.

    Raises:
        ValueError: `texts` holds anything but texts, `batch_tokens` is below 1, `max_length` has no room for a token
            or exceeds the model's limit, the model has no such layer, or the vectors are not finite (for example after
            an overflow in float16).
    """
    texts = all_texts(texts)
    batch_tokens = tokens_per_pass(model, batch_tokens)
    encoder = _encoder(model)
    layers = encoder.config.num_hidden_layers
    if not -layers - 1 <= layer <= layers:
        raise ValueError(f"layer must be from {-layers - 1} to {layers} in a model of {layers} layers, got {layer}")
    # The longest first, so that too large a batch fails at once.
    rows = sorted(_rows(model, tokenizer, texts, max_length), key=lambda row: -len(row[1]))
    excluded = torch.tensor(sorted(excluded_ids(tokenizer)), device=encoder.device)
    pad = tokenizer.pad_token_id or 0

    sums = np.zeros((len(texts), encoder.config.hidden_size), dtype=np.float64)
    counts = np.zeros(len(texts), dtype=np.int64)
    bar = tqdm(total=len(rows), disable=not progress, unit=" rows")
    with torch.inference_mode(), evaluating(model), bar:
        start = 0
        while start < len(rows):
            batch = rows[start : start + max(1, batch_tokens // len(rows[start][1]))]
            ids, mask, counted = (part.to(encoder.device) for part in _tensors(batch, pad))
            if not mask.all() and padding_leaks(encoder, ids):
                batch = [row for row in batch if len(row[1]) == len(batch[0][1])]
                ids, mask, counted = ids[: len(batch)], mask[: len(batch)], counted[: len(batch)]
            start += len(batch)
            counted &= ~torch.isin(ids, excluded)
            states = _states(encoder, ids, mask, layer)
            # Not a product with the mask: an excluded state may be infinite in float16.
            found = states.float().masked_fill(~counted[..., None], 0.0).sum(1)
            check_finite(found, "the vectors", states.dtype)
            # add.at, because several rows may belong to one text.
            numbers = [number for number, _, _ in batch]
            np.add.at(sums, numbers, found.cpu().numpy())
            np.add.at(counts, numbers, counted.sum(1).cpu().numpy())
            bar.update(len(batch))

    vectors = sums / np.maximum(counts, 1)[:, None]
    if normalize:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths == 0, 1.0, lengths)
    return vectors.astype(np.float32)


def _encoder(model: Any) -> Any:
    """Return the network without its head and without PEFT's wrapper; adapters are layers of the network.

    Raises:
        ValueError: the active adapter is a learned prompt, which only the wrapper applies, or the model is not one of
            transformers.
    """
    if hasattr(model, "get_base_model"):
        if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
            raise ValueError("sentence vectors need an adapter without learned prompts: use another adapter")
        model = model.get_base_model()
    encoder = getattr(model, "base_model", None)
    if not hasattr(getattr(encoder, "config", None), "num_hidden_layers"):
        raise ValueError(f"expected an encoder of transformers, got {type(model).__name__}")
    return encoder


def excluded_ids(tokenizer: Any) -> set[int]:
    """Return the ids that do not count: those that the tokenizer puts around a text, and padding.

    [UNK] counts, because it stands for a part of the text. A text that contains "[SEP]" literally loses that token.
    """
    frame = frame_of(tokenizer)
    padding = () if tokenizer.pad_token_id is None else (tokenizer.pad_token_id,)
    return {*frame.before, *frame.after, *padding}


def _rows(
    model: Any, tokenizer: Any, texts: Sequence[str], max_length: int | None
) -> Iterator[tuple[int, list[int], slice]]:
    """Yield (number of the text, ids with special tokens, slice of the ids that count); nothing for an empty text."""
    check_tokenizer(model, tokenizer)
    frame = frame_of(tokenizer)
    capacity = window_capacity(model, tokenizer, frame, max_length)
    for number, text in enumerate(encode_texts(tokenizer, texts)):
        for window in windows(len(text.ids), capacity):
            if window.first < window.last:
                shift = len(frame.before) - window.start
                ids = [*frame.before, *text.ids[window.start : window.end], *frame.after]
                yield number, ids, slice(window.first + shift, window.last + shift)


def _tensors(batch: list[tuple[int, list[int], slice]], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, attention mask and the mask of counted tokens, each [rows, longest], padded on the right."""
    longest = max(len(ids) for _, ids, _ in batch)
    ids = torch.full((len(batch), longest), pad)
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    counted = torch.zeros((len(batch), longest), dtype=torch.bool)
    for row, (_, window, own) in enumerate(batch):
        ids[row, : len(window)] = torch.tensor(window)
        mask[row, : len(window)] = 1
        counted[row, own] = True
    return ids, mask, counted


def _states(encoder: Any, ids: torch.Tensor, mask: torch.Tensor, layer: int) -> torch.Tensor:
    """Return the hidden states of one layer, [rows, length, hidden]."""
    if layer in (-1, encoder.config.num_hidden_layers):
        states: torch.Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states
    states = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[layer]
    return states


__all__ = ["excluded_ids", "sentence_vectors"]
