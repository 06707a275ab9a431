"""Conditional layer norm (https://kexue.fm/archives/7124): scale and shift depend on a condition, here the task.

gamma = g0 + c Wg and beta = b0 + c Wb, without biases. Wg and Wb start as zeros, so a new model computes the same as
the model that g0 and b0 come from, whatever the condition.

A condition belongs to a text, not to a token: scale and shift are computed once for each distinct condition. A batch
with a single condition uses the fused kernel of an ordinary layer norm and gets the same numbers.
"""

import torch
from torch import nn
from torch.nn import functional

from .tasks_cln_matcher import is_one


class ClnMatcherLayerNorm(nn.LayerNorm):
    """Conditional layer norm. `weight` and `bias` are g0 and b0, named as in a plain layer norm.

    Args:
        hidden_size: number of features.
        condition_size: size of a condition; None for a plain layer norm.
        eps: added to the variance.
    """

    def __init__(self, hidden_size: int, condition_size: int | None, eps: float) -> None:
        super().__init__(hidden_size, eps=eps)
        if condition_size is None:
            self.register_parameter("weight_kernel", None)
            self.register_parameter("bias_kernel", None)
        else:
            # [out, in], as in nn.Linear.
            self.weight_kernel = nn.Parameter(torch.zeros(hidden_size, condition_size))
            self.bias_kernel = nn.Parameter(torch.zeros(hidden_size, condition_size))

    def scale_and_shift(self, conditions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return gamma and beta of conditions [count, condition_size]: [count, hidden] each."""
        # Layer norms are often kept in float32 when the rest is in half precision.
        conditions = conditions.to(self.weight_kernel.dtype)
        return (
            self.weight + functional.linear(conditions, self.weight_kernel),
            self.bias + functional.linear(conditions, self.bias_kernel),
        )

    def forward(
        self, states: torch.Tensor, conditions: torch.Tensor | None = None, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Normalize [batch, length, hidden].

        Args:
            conditions: [count, condition_size]; None in a plain layer norm.
            rows: [batch], the index of each text's condition; None if one condition serves all texts, or if there is
                one per text in order.
        """
        if conditions is None:
            return super().forward(states)
        scale, shift = self.scale_and_shift(conditions)
        if rows is None and is_one(conditions.shape[0]):
            return functional.layer_norm(states, self.normalized_shape, scale[0], shift[0], self.eps)
        if rows is not None:
            # Not scale[rows], which reads -1 as the last row: a compiled program does not check the range.
            scale, shift = functional.embedding(rows, scale), functional.embedding(rows, shift)
        # Ones and zeros, since torch's CPU kernel takes twice as long without weights.
        plain = states.new_ones(self.normalized_shape), states.new_zeros(self.normalized_shape)
        normal = functional.layer_norm(states, self.normalized_shape, *plain, self.eps)
        scale, shift = scale.to(normal.dtype), shift.to(normal.dtype)
        if torch.is_grad_enabled():
            return torch.addcmul(shift[:, None], normal, scale[:, None])
        # In place: allocating another tensor of this size takes longer than filling it.
        return normal.mul_(scale[:, None]).add_(shift[:, None])
