"""Unsupervised sentence vectors: the mean of the states of a text's own tokens.

This is the vector of T-TA's unsupervised similarity (arXiv 2004.08097): the last layer, averaged over the tokens
between [SOS] and [EOS]. It departs from the mean that sentence embedding libraries take in leaving out the tokens that
the tokenizer puts around every text ([SOS] and [EOS], [CLS] and [SEP]): of what a text says they hold nothing. Any
encoder will do: T-TA, WoBERT, NEZHA, BERT.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

# Of a long text's window, what the next one repeats: a token at a window's end is read with context on both sides.
_REPEATED = 0.25


def sentence_vectors(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    layer: int = -1,
    normalize: bool = False,
    progress: bool = False,
) -> np.ndarray:
    """The mean of the token states of each text, the tokens around it and padding left out.

    A text that is longer than the model's positions is read in windows which overlap by a quarter. Each of its tokens
    counts once, with its state in the window that shows more of its surroundings, so that the vector is again a mean
    over all tokens of the text. A text without tokens of its own, the empty one for example, gets zeros.

    Args:
        model: an encoder of transformers' kind, with a head or without. Read in evaluation mode, on its own device,
            and left in the mode it was in.
        tokenizer: the one that belongs to it.
        texts: any number of texts. They are read in batches of similar length; the order of the result is theirs.
        batch_size: texts (windows, of long ones) in a batch.
        max_length: tokens of a window, with those around it; None for what model and tokenizer allow.
        layer: index into the model's hidden states, -1 for the last layer, 0 for what enters the first.
        normalize: scale each vector to length 1; zeros stay zeros.
        progress: show a progress bar on stderr.

    Returns:
        [texts, hidden], float32.

    Raises:
        TypeError: `texts` is one string, or holds something else than strings.
        ValueError: `batch_size` is below 1, `max_length` has no room for a token or is more than the model has
            positions, or the model has no such layer.
    """
    if isinstance(texts, str):
        raise TypeError("sentence_vectors expects a list of texts, got one string: pass [text]")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {number} must be a string, got {type(text).__name__}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    encoder = model.base_model
    layers = encoder.config.num_hidden_layers
    if not -layers - 1 <= layer <= layers:
        raise ValueError(f"layer must be from {-layers - 1} to {layers} in a model of {layers} layers, got {layer}")

    before, after = tokens_around(tokenizer)
    room = _window_length(encoder.config, tokenizer, max_length, len(before) + len(after))
    left_out = torch.tensor(sorted(ids_left_out(tokenizer)), device=encoder.device)
    pad = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    # A long text's length is no news to us: no warning.
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if len(texts) else []
    windows = [
        (number, before + ids[start:end] + after, slice(len(before) + first - start, len(before) + last - start))
        for number, ids in enumerate(encoded)
        for start, end, first, last in _windows(len(ids), room)
    ]
    windows.sort(key=lambda window: len(window[1]))

    sums = np.zeros((len(texts), encoder.config.hidden_size), dtype=np.float64)
    counts = np.zeros(len(texts), dtype=np.int64)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), tqdm(total=len(windows), disable=not progress, unit=" texts") as bar:
            for start in range(0, len(windows), batch_size):
                batch = windows[start : start + batch_size]
                ids, mask, counted = (part.to(encoder.device) for part in _tensors(batch, pad))
                counted &= ~torch.isin(ids, left_out)
                states = _states(encoder, ids, mask, layer).float()
                numbers = [number for number, _, _ in batch]
                # add.at and einsum: several windows may be of one text; what is not counted may hold anything.
                kept = states.masked_fill(~counted[..., None], 0.0)
                np.add.at(sums, numbers, kept.sum(1, dtype=torch.float32).cpu().numpy())
                np.add.at(counts, numbers, counted.sum(1).cpu().numpy())
                bar.update(len(batch))
    finally:
        model.train(training)

    vectors = sums / np.maximum(counts, 1)[:, None]
    if normalize:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths == 0, 1.0, lengths)
    return vectors.astype(np.float32)


def ids_left_out(tokenizer: Any) -> set[int]:
    """The ids that do not count: those that the tokenizer puts around a text, and padding.

    [UNK] counts: it stands for something that the text says. A text in which "[SEP]" is written out loses that token.
    """
    before, after = tokens_around(tokenizer)
    padding = () if tokenizer.pad_token_id is None else (tokenizer.pad_token_id,)
    return {*before, *after, *padding}


def tokens_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a single text."""
    # Any text will do that leaves a token.
    inside = tokenizer("0", add_special_tokens=False)["input_ids"]
    whole = tokenizer("0")["input_ids"]
    for start in range(len(whole) - len(inside) + 1 if inside else 0):
        if whole[start : start + len(inside)] == inside:
            return whole[:start], whole[start + len(inside) :]
    raise ValueError(f"cannot tell which tokens {type(tokenizer).__name__} puts around a text: its own change as well")


def _window_length(config: Any, tokenizer: Any, max_length: int | None, around: int) -> int | None:
    """How many tokens of a text a window holds, None for any number."""
    positions = getattr(config, "max_position_embeddings", None)
    # A tokenizer that knows no limit says 1e30.
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit is not None and 0 < limit < 1e9]
    if max_length is not None:
        if limits and max_length > min(limits):
            raise ValueError(f"max_length is {max_length}, but the model takes {min(limits)} tokens at a time")
        limits = [max_length]
    if not limits:
        return None
    if min(limits) <= around:
        raise ValueError(f"max_length must be at least {around + 1}, {around} of them around a text, got {max_length}")
    return int(min(limits)) - around


def _windows(length: int, room: int | None) -> list[tuple[int, int, int, int]]:
    """(start, end, first, last) of each window of a text of `length` tokens: it shows start to end, and of these first
    to last count in it. Every token counts in one window."""
    if length == 0:
        return []
    if room is None or length <= room:
        return [(0, length, 0, length)]
    repeated = int(room * _REPEATED)
    starts = list(range(0, length - repeated, room - repeated))
    # The last window ends with the text and is as long as the others.
    starts[-1] = length - room
    ends = [start + room for start in starts]
    middles = [(end + start) // 2 for end, start in zip(ends, starts[1:], strict=False)]
    return list(zip(starts, ends, [0, *middles], [*middles, length], strict=True))


def _tensors(batch: list[tuple[int, list[int], slice]], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention mask and which tokens count, all [rows, longest]; padded on the right."""
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
    """Hidden states of one layer, [rows, length, hidden]."""
    if layer in (-1, encoder.config.num_hidden_layers):
        states: torch.Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states
    states = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[layer]
    return states


__all__ = ["ids_left_out", "sentence_vectors", "tokens_around"]
