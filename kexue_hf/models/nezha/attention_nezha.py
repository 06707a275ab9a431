"""Exact attention with functional relative positions, without a tensor of (length, length, dimension).

With T the sinusoid table [2n + 1, dim], n the distance at which it is clipped, and r = clip(k - j, -n, n) + n:

    scores[j, k] = (q[j] . k[k] + q[j] . T[r]) / sqrt(dim)        output[j] = sum over k of p[j, k] (v[k] + T[r])

There are two ways to compute the same numbers:

* `relative_attention` (eager): q T^T gives a query's score at each of the 2n + 1 distances, which are then gathered
  for its keys; the probabilities are summed by distance, and the sums multiplied by T. Compared with BERT's attention,
  this takes about one more [batch, heads, length, length], two in training, and [batch, heads, length, 2n + 1].
* `fused_relative_attention` (sdpa): while no distance is clipped (up to n + 1 tokens), a sinusoid of k - j is the
  sinusoid of k, rotated by an angle that depends on j alone. The rows T[k] are appended to the keys and values, the
  queries and outputs are rotated, and torch's fused kernel runs on heads of twice the width. This saves the
  [length, length]; a base model on a CPU takes the same time either way. Longer texts have clipped distances, whose
  values need the probabilities, which the kernel does not return: they take the first way.
"""

import math

import torch
from torch.nn import functional


def sinusoid_table(max_distance: int, dim: int) -> torch.Tensor:
    """Return the constant T [2 max_distance + 1, dim], float32: sines in the even columns, cosines in the odd ones.

    The angle is the row number (from 0) times 10000^(-2i/dim), computed in float64: float32 angles are wrong in the
    sixth digit.
    """
    rows = torch.arange(2 * max_distance + 1, dtype=torch.float64, device="cpu")
    frequencies = torch.exp(torch.arange(0, dim, 2, dtype=torch.float64, device="cpu") * (-math.log(10000.0) / dim))
    angles = rows[:, None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(torch.float32)


def relative_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    table: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float = 1.0,
    dropout: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention step by step.

    Args:
        query: [batch, heads, queries, dim]; the last query has the position of the last key.
        key, value: [batch, heads, keys, dim].
        table: `sinusoid_table`, in the dtype of the query.
        attention_mask: boolean (True: may attend) or added to the scores; broadcasts to [batch, heads, queries, keys].
        scaling: 1 / sqrt(dim). dropout: rate of dropout on the probabilities.

    Returns:
        The output [batch, heads, queries, dim] and the probabilities [batch, heads, queries, keys].
    """
    rows = _table_rows(query.shape[-2], key.shape[-2], table.shape[0] // 2, query.device)
    rows = rows.expand(*query.shape[:2], -1, -1)
    scores = query @ key.transpose(-1, -2) + (query @ table.T).gather(-1, rows)
    scores = scores * scaling
    if attention_mask is not None:
        scores = scores + additive_mask(attention_mask, scores.dtype)
    probabilities = functional.dropout(scores.softmax(-1), dropout)
    by_distance = probabilities.new_zeros(*probabilities.shape[:-1], table.shape[0])
    by_distance = by_distance.scatter_add(-1, rows, probabilities)
    return probabilities @ value + by_distance @ table, probabilities


def fused_relative_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    table: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float = 1.0,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Compute the same output by torch's scaled_dot_product_attention. Arguments as above.

    Raises:
        ValueError: there are more keys than unclipped distances.
    """
    queries, keys, dim = query.shape[-2], key.shape[-2], value.shape[-1]
    limit = table.shape[0] // 2 + 1
    if keys > limit:
        raise ValueError(f"the fused kernel takes up to {limit} keys, whose distances are not clipped; got {keys}")
    sinusoids = table[:keys].expand(*key.shape[:2], -1, -1)
    # Row n - j of the table holds the angle by which query j turns row k into row k - j + n.
    first = limit - 1 - (keys - queries)
    angles = table[first - queries + 1 : first + 1].flip(0)
    sine, cosine = angles[:, 0::2], angles[:, 1::2]
    even, odd = query[..., 0::2], query[..., 1::2]
    rotated = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1).flatten(-2)
    output = functional.scaled_dot_product_attention(
        torch.cat((query, rotated), dim=-1),
        torch.cat((key, sinusoids), dim=-1),
        torch.cat((value, sinusoids), dim=-1),
        # Not boolean: for a row of padding the kernel returns zeros, where the step-by-step softmax returns the mean.
        attn_mask=None if attention_mask is None else additive_mask(attention_mask, query.dtype),
        dropout_p=dropout,
        scale=scaling,
    )
    content, even, odd = output[..., :dim], output[..., dim::2], output[..., dim + 1 :: 2]
    turned = torch.stack((even * cosine + odd * sine, odd * cosine - even * sine), dim=-1).flatten(-2)
    return content + turned


def additive_mask(attention_mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert a boolean mask to one that is added to the scores: 0, or the dtype's lowest number.

    A mask of another type is cast and clamped to that number: float32's lowest becomes minus infinity in float16, and
    a row of them has no softmax.
    """
    if attention_mask.dtype != torch.bool:
        return attention_mask.to(dtype).clamp(min=torch.finfo(dtype).min)
    allowed = torch.zeros((), dtype=dtype, device=attention_mask.device)
    return torch.where(attention_mask, allowed, torch.finfo(dtype).min)


def _table_rows(queries: int, keys: int, max_distance: int, device: torch.device) -> torch.Tensor:
    """Return [queries, keys], the table row of each key relative to each query."""
    query_positions = torch.arange(keys - queries, keys, device=device)[:, None]
    return (torch.arange(keys, device=device) - query_positions).clamp(-max_distance, max_distance) + max_distance
