"""Conditional layer norm (https://kexue.fm/archives/7124): its scale and shift depend on a condition, here a task.

gamma = g0 + c Wg and beta = b0 + c Wb, without biases. Wg and Wb start as zeros, so that a model begins as the one
that its plain parameters come from, whatever the conditions are.

A condition belongs to a text and not to a token. So scale and shift are computed once for each distinct condition, and
where a batch has only one, they are those of an ordinary layer norm: the same fused kernel, the same numbers.
"""

import torch
from torch import nn
from torch.nn import functional

from .tasks_cln_matcher import is_one


class ClnMatcherLayerNorm(nn.LayerNorm):
    """Layer norm under a condition. `weight` and `bias` are g0 and b0, called as in a plain one.

    Args:
        hidden_size: number of features.
        condition_size: length of a condition; None for a plain layer norm.
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
        """gamma and beta of conditions [count, condition_size]: [count, hidden] each."""
        # Layer norms are often kept in float32 where all else is in half precision.
        conditions = conditions.to(self.weight_kernel.dtype)
        return (
            self.weight + functional.linear(conditions, self.weight_kernel),
            self.bias + functional.linear(conditions, self.bias_kernel),
        )

    def forward(
        self, states: torch.Tensor, conditions: torch.Tensor | None = None, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[batch, length, hidden] -> the same.

        Args:
            conditions: [count, condition_size]; None in a plain layer norm.
            rows: [batch], which of the conditions holds for each text; None if there is one for all texts, or one for
                each in their order.
        """
        if conditions is None:
            return super().forward(states)
        scale, shift = self.scale_and_shift(conditions)
        if rows is None and is_one(conditions.shape[0]):
            return functional.layer_norm(states, self.normalized_shape, scale[0], shift[0], self.eps)
        if rows is not None:
            # Not scale[rows], for which -1 is the last: in a compiled program nobody has looked at the range.
            scale, shift = functional.embedding(rows, scale), functional.embedding(rows, shift)
        # Ones and zeros, since without weights torch's kernel for CPUs takes twice as long.
        plain = states.new_ones(self.normalized_shape), states.new_zeros(self.normalized_shape)
        normal = functional.layer_norm(states, self.normalized_shape, *plain, self.eps)
        scale, shift = scale.to(normal.dtype), shift.to(normal.dtype)
        if torch.is_grad_enabled():
            return torch.addcmul(shift[:, None], normal, scale[:, None])
        # A further tensor of this size takes longer to be had than to be filled.
        return normal.mul_(scale[:, None]).add_(shift[:, None])
