"""Linear attention by features exp(w . x + b): chunk by chunk, with running maxima, recomputed in the backward pass.

Features are at most 1 before `epsilon` is added: a query's own maximum is subtracted from its logarithms, and from the
keys' logarithms one maximum per row and head, over all exponents of real keys. Both cancel in the ratio.
"""

from typing import Any, NamedTuple

import torch

from .gradients_performer_bert import first_derivatives_only
from .low_order_kernel_performer_bert import FLOOR


def _logits(states: torch.Tensor, directions: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Project [batch, heads, length, dim] -> [batch, heads, length, features], a new tensor."""
    # One product for all heads if they share the directions.
    return (states @ (directions[0] if len(directions) == 1 else directions).mT).add_(bias[:, None])


class _Logits:
    """`_logits` of one chunk after another in the same memory: allocating a tensor takes longer than filling it."""

    def __init__(self, states: torch.Tensor, directions: torch.Tensor, bias: torch.Tensor, chunk: int) -> None:
        batch, heads, length, _ = states.shape
        self.directions, self.bias = directions, bias
        self.memory = bias.new_empty(batch * heads * min(chunk, length), directions.shape[-2])

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            # An export runs with gradients on, which forbids writing into a tensor.
            return _logits(states, self.directions, self.bias)
        found = self.memory[: states.shape[:-1].numel()].unflatten(0, states.shape[:-1])
        if len(self.directions) == 1:
            torch.mm(states.flatten(0, 2), self.directions[0].mT, out=found.flatten(0, 2))
        else:
            of_rows = self.directions.expand(len(states), -1, -1, -1).flatten(0, 1)
            torch.bmm(states.flatten(0, 1), of_rows.mT, out=found.flatten(0, 1))
        return found.add_(self.bias[:, None])


def _project_back(states: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Sum the products with directions [1 or heads, features, dim] over the features: the gradient of `_logits`."""
    return states @ (directions[0] if len(directions) == 1 else directions)


class BidirectionalExponential(torch.autograd.Function):
    """Attention of all queries to all keys.

    Args of `apply`:
        query, key, value: [batch, heads, length, dim], floating point; padded keys and values are finite.
        log_weight: [batch, heads, keys], added to the exponents of a key; -inf for padding.
        count: [batch, 1, 1, 1], the number of real keys.
        directions and biases: see `ExponentialWeights`, in the dtype of the computation.

    The gradient treats the subtracted maxima as constants. Without epsilon they cancel, and it is exact; with epsilon
    it ignores that a changed maximum changes epsilon's share.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        log_weight: torch.Tensor,
        count: torch.Tensor,
        query_directions: torch.Tensor,
        key_directions: torch.Tensor,
        query_bias: torch.Tensor,
        key_bias: torch.Tensor,
        epsilon: float,
        chunk: int,
    ) -> torch.Tensor:
        dtype = query_directions.dtype
        batch, heads, length, _ = query.shape
        features, value_dim = key_directions.shape[-2], value.shape[-1]
        sums = query.new_zeros(batch, heads, features, value_dim, dtype=dtype)
        total = query.new_zeros(batch, heads, features, 1, dtype=dtype)
        top = query.new_full((batch, heads, 1, 1), FLOOR, dtype=dtype)
        of_keys = _Logits(key, key_directions, key_bias, chunk)
        for start in range(0, key.shape[2], chunk):
            part = slice(start, start + chunk)
            logits = of_keys(key[:, :, part].to(dtype))
            shift = log_weight[:, :, part, None]
            higher = torch.maximum(top, (logits.amax(-1, keepdim=True) + shift).amax(-2, keepdim=True))
            rescale = top.sub_(higher).exp_()
            found = logits.add_(shift - higher).exp_()
            sums.mul_(rescale).add_(found.mT @ value[:, :, part].to(dtype))
            total.mul_(rescale).add_(found.sum(-2)[..., None])
            top = higher
        sums.add_(value.sum(-2, keepdim=True, dtype=dtype), alpha=epsilon)
        total.add_(count, alpha=epsilon)

        # Epsilon times the sums over features: it is added to a few numbers per position, not to all features.
        least_sums, least_total = (states.sum(-2, keepdim=True).mul_(epsilon) for states in (sums, total))
        output = query.new_empty(batch, heads, length, value_dim, dtype=dtype)
        normaliser = query.new_empty(batch, heads, length, 1, dtype=dtype)
        of_queries = _Logits(query, query_directions, query_bias, chunk)
        for start in range(0, length, chunk):
            part = slice(start, start + chunk)
            logits = of_queries(query[:, :, part].to(dtype))
            found = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
            # Not a matrix product with one column, which is slow.
            below = (found * total.mT).sum(-1, keepdim=True).add_(least_total)
            # 0 only without a real key, or if everything underflows and epsilon is 0; the output is then 0 too.
            below.masked_fill_(below == 0, 1.0)
            normaliser[:, :, part] = below
            output[:, :, part] = (found @ sums).add_(least_sums).div_(below)
        ctx.save_for_backward(
            query, key, value, log_weight, query_directions, key_directions, query_bias, key_bias, sums, total, top,
            output, normaliser,
        )  # fmt: skip
        ctx.epsilon, ctx.chunk = epsilon, chunk
        return output

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (
            query, key, value, log_weight, query_directions, key_directions, query_bias, key_bias, sums, total, top,
            output, normaliser,
        ) = ctx.saved_tensors  # fmt: skip
        needs = ctx.needs_input_grad
        dtype = query_directions.dtype
        to_directions = {side: torch.zeros_like(d) for side, d in ((5, query_directions), (6, key_directions))}
        to_bias = {side: torch.zeros_like(b) for side, b in ((7, query_bias), (8, key_bias))}

        def collect(side: int, found: torch.Tensor, states: torch.Tensor) -> None:
            # found: the gradient of the exponents, summed over the dimensions that share directions and biases.
            if needs[side]:
                product = (found.mT @ states).sum(0)
                to_directions[side] += product if len(to_directions[side]) > 1 else product.sum(0, keepdim=True)
            if needs[side + 2]:
                summed = found.sum((0, 2))
                to_bias[side + 2] += summed if len(to_bias[side + 2]) > 1 else summed.sum(0, keepdim=True)

        to_query = torch.empty_like(query) if needs[0] else None
        to_sums, to_total = torch.zeros_like(sums), torch.zeros_like(total)
        of_queries = _Logits(query, query_directions, query_bias, ctx.chunk)
        for start in range(0, query.shape[2], ctx.chunk):
            part = slice(start, start + ctx.chunk)
            above = gradient[:, :, part] / normaliser[:, :, part]
            below = (above * output[:, :, part]).sum(-1, keepdim=True).neg_()
            states = query[:, :, part].to(dtype)
            logits = of_queries(states)
            found = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
            if needs[0] or needs[5] or needs[7]:
                inner = (above @ sums.mT).addcmul_(below, total.mT).mul_(found)
                if to_query is not None:
                    to_query[:, :, part] = _project_back(inner, query_directions)
                collect(5, inner, states)
            to_sums.add_(found.mT @ above).add_(above.sum(-2, keepdim=True), alpha=ctx.epsilon)
            to_total.add_(found.mul_(below).sum(-2)[..., None]).add_(below.sum(-2, keepdim=True), alpha=ctx.epsilon)

        to_key, to_value, to_log_weight = (
            torch.empty_like(states) if needed else None
            for states, needed in zip((key, value, log_weight), needs[1:4], strict=True)
        )
        of_keys = _Logits(key, key_directions, key_bias, ctx.chunk)
        for start in range(0, key.shape[2], ctx.chunk):
            part = slice(start, start + ctx.chunk)
            states = key[:, :, part].to(dtype)
            logits = of_keys(states)
            found = logits.add_(log_weight[:, :, part, None] - top).exp_()
            if to_value is not None:
                to_value[:, :, part] = (found @ to_sums).add_(to_sums.sum(-2, keepdim=True), alpha=ctx.epsilon)
            inner = (value[:, :, part].to(dtype) @ to_sums.mT).add_(to_total.mT).mul_(found)
            if to_key is not None:
                to_key[:, :, part] = _project_back(inner, key_directions)
            if to_log_weight is not None:
                to_log_weight[:, :, part] = inner.sum(-1)
            collect(6, inner, states)
        return (
            to_query, to_key, to_value, to_log_weight, None,
            to_directions[5] if needs[5] else None, to_directions[6] if needs[6] else None,
            to_bias[7] if needs[7] else None, to_bias[8] if needs[8] else None, None, None,
        )  # fmt: skip


class ExponentialSums(NamedTuple):
    """Sums over the keys of the past in causal attention, with [v, 1] in place of v.

    `sums` [batch, heads, features, value dim + 1] are of features times v, scaled by exp of minus `top` [batch, heads,
    1]; `plain` [batch, heads, 1, value dim + 1] are of v.
    """

    sums: torch.Tensor
    top: torch.Tensor
    plain: torch.Tensor


def empty_exponential_sums(value: torch.Tensor, features: int, dtype: torch.dtype) -> ExponentialSums:
    batch, heads, _, value_dim = value.shape
    return ExponentialSums(
        value.new_zeros(batch, heads, features, value_dim + 1, dtype=dtype),
        value.new_full((batch, heads, 1), FLOOR, dtype=dtype),
        value.new_zeros(batch, heads, 1, value_dim + 1, dtype=dtype),
    )


def exponential_step(
    past: ExponentialSums,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    log_weight: torch.Tensor,
    real: torch.Tensor,
    clean: bool,
    chunks: int,
    directions: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    epsilon: float,
) -> tuple[torch.Tensor, ExponentialSums]:
    """Compute causal attention of chunks of positions to themselves and to the past.

    Each row has its own maximum, over the keys up to it, and each key's features are scaled by their own: later
    positions never change a row, not even by rounding. Only the sums are updated chunk after chunk; everything else is
    computed for all chunks together.

    Args:
        value: [batch, heads, length, value dim].
        real: boolean, [batch, 1, length].
        clean: whether keys and values are known to be finite, which saves the handling of others.
        chunks: number of chunks of equal length; all pairs of a chunk are formed.

    Returns:
        The outputs, [batch, heads, length, value dim], and the sums including these chunks.
    """
    query_directions, key_directions, query_bias, key_bias = directions
    each = value.shape[-2] // chunks
    logits = _logits(query, query_directions, query_bias)
    asked = logits.sub_(logits.detach().amax(-1, keepdim=True)).exp_()
    asked = (asked + epsilon if asked.requires_grad else asked.add_(epsilon)).unflatten(-2, (chunks, each))
    logits = _logits(key, key_directions, key_bias).add_(log_weight[..., None])
    own = logits.detach().amax(-1).clamp_min(FLOOR)
    found = logits.sub_(own[..., None]).exp_().unflatten(-2, (chunks, each))
    one = real.to(value.dtype)[..., None].expand(-1, value.shape[1], -1, -1)
    value = torch.cat([value, one], dim=-1).unflatten(-2, (chunks, each))
    own, real = (states.unflatten(-1, (chunks, each)) for states in (own, real))
    top, before_top, last = running_tops(own, past.top)

    # The sums before each chunk, and the queries' outputs from them.
    weighted, rescale = (own - last).exp()[..., None] * value, (before_top - last).exp()[..., None]
    grown_plain = value.sum(-2, keepdim=True)
    sums, plain = past.sums, past.plain
    all_answers, all_plain = [], []
    for number in range(chunks):
        all_answers.append(asked[:, :, number] @ sums)
        all_plain.append(plain)
        sums = torch.addcmul(found[:, :, number].mT @ weighted[:, :, number], sums, rescale[:, :, number])
        plain = plain + grown_plain[:, :, number]
    answers, past_plain = (torch.stack(parts, dim=2) for parts in (all_answers, all_plain))

    past_or_now = lower_triangle(real)
    pairs = asked @ found.mT
    if not clean:
        pairs = pairs.masked_fill(~past_or_now, 0.0)
    # Epsilon is added to the queries' features themselves; for the keys its effect is added to the products.
    total = asked.sum(-1, keepdim=True) * epsilon
    pairs = torch.addcmul(total * past_or_now, pairs, decay(own, top))
    carry = (before_top - top).exp()[..., None]
    output = torch.addcmul(pairs @ finite(value, clean), carry, answers).addcmul_(total, past_plain)
    below = output[..., -1:]
    output = mark_nonfinite(output[..., :-1] / below.masked_fill(below == 0, 1.0), value[..., :-1], clean)
    return output.flatten(2, 3), ExponentialSums(sums, last[:, :, -1], plain)


def running_tops(own: torch.Tensor, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the maxima of logarithms [batch, heads, chunks, length] and of the past, [batch, heads, 1].

    The results are the maxima up to each position, before each chunk and at its end; the latter two have one entry in
    place of the length. They are constants to the gradient.
    """
    within = _running_maximum(own)
    ends = _running_maximum(torch.cat([start.detach(), within[..., -1]], dim=-1))[..., None]
    before, last = ends[..., :-1, :], ends[..., 1:, :]
    return torch.maximum(within, before), before, last


def is_exporting() -> bool:
    # Older versions of torch lack this function.
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()


def _running_maximum(states: torch.Tensor) -> torch.Tensor:
    if not is_exporting():
        return states.cummax(-1).values
    # ONNX has no cummax; an exported program forms all pairs anyway.
    earlier = torch.ones(states.shape[-1], states.shape[-1], dtype=torch.bool, device=states.device).tril()
    return states[..., None, :].masked_fill(~earlier, -torch.inf).amax(-1)


def decay(own: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """Return exp(own - top) for each pair of a row and a key up to it, 0 for later keys: [..., length, length]."""
    # Positive exponents, whose exp may be infinite, belong to later keys: the first `tril` makes them 0, the second
    # their exp. Not a clamp: where a key is the maximum, its gradient at 0 depends on the version of torch.
    found = own[..., None, :] - top[..., None]
    return found.tril().exp().tril() if found.requires_grad else found.tril_().exp_().tril_()


def lower_triangle(real: torch.Tensor) -> torch.Tensor:
    """Return where a position may attend to: [..., length] -> [..., length, length]."""
    length = real.shape[-1]
    return torch.ones(length, length, dtype=torch.bool, device=real.device).tril_() & real[..., None, :]


def finite(states: torch.Tensor, clean: bool) -> torch.Tensor:
    """Replace non-finite entries by zeros, so that a product with a masked weight of 0 is 0."""
    return states if clean or states.shape[-2] == 1 else states.nan_to_num(0.0, 0.0, 0.0)


def mark_nonfinite(output: torch.Tensor, states: torch.Tensor, clean: bool) -> torch.Tensor:
    """Set rows to NaN that may see an entry which `finite` replaced: from the position of a non-finite entry on."""
    if clean or states.shape[-2] == 1:
        return output
    # Integers, because some devices have no deterministic sum of floats along a dimension.
    spoilt = (~states.detach().isfinite()).int().cumsum(-2) > 0
    return output + torch.zeros_like(states).masked_fill_(spoilt, torch.nan)
