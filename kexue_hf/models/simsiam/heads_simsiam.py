"""Projector and predictor of SimSiam, and a batch norm whose statistics cover all processes."""

from typing import Any

import torch
from torch import distributed, nn
from torch.nn import functional


class SimSiamLinear(nn.Linear):
    """A layer of projector or predictor, whose weights start as large as in torch.

    BERT's standard deviation of 0.02 would let vectors vanish in narrow heads without norms.
    """


class SimSiamBatchNorm(nn.BatchNorm1d):
    """Batch norm of vectors [batch, size], in training by the statistics of the batches of all processes.

    torch's SyncBatchNorm refuses tensors on CPUs. Here, several processes compute what one process computes on all
    rows together, on any device, also if they hold different numbers of rows. Statistics are computed in float32.

    Raises:
        ValueError: in training, a single process has fewer than two rows, so there is no variance.
    """

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the normalised vectors [batch, size]."""
        if not self.training:
            return super().forward(states)
        if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
            _check_rows(len(states))
            return super().forward(states)
        from torch.distributed.nn.functional import all_reduce

        values = states.float()
        sums = torch.cat((values.sum(0), values.new_tensor([len(values)])))
        totals = all_reduce(sums)
        rows = totals[-1].detach()
        mean = totals[:-1] / rows
        # A second pass over centred values: the mean of squares minus the squared mean cancels digits.
        variance = all_reduce((values - mean).square().sum(0)) / rows
        self._update(mean.detach(), variance.detach() * rows / (rows - 1))
        normalised = (values - mean) * torch.rsqrt(variance + self.eps)
        if self.affine:
            normalised = normalised * self.weight + self.bias
        return normalised.to(states.dtype)

    @torch.no_grad()
    def _update(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def _check_rows(rows: int) -> None:
    if rows < 2:
        raise ValueError(
            "expected at least 2 texts in a batch, got 1, whose vector batch norm would make zero: use larger "
            "batches (dataloader_drop_last=True for the last one), or norm='layer'"
        )


def _norm(kind: str, size: int, affine: bool = True) -> list[nn.Module]:
    if kind == "none":
        return []
    return [
        SimSiamBatchNorm(size, affine=affine) if kind == "batch" else nn.LayerNorm(size, elementwise_affine=affine)
    ]


class SimSiamProjector(nn.Sequential):
    """Linear layers with norm and ReLU between them: sentence vectors [batch, hidden] -> [batch, projection]."""

    def __init__(self, config: Any) -> None:
        layers: list[nn.Module] = []
        size = config.hidden_size
        for layer in range(config.projector_layers):
            last = layer == config.projector_layers - 1
            width = config.projection_size if last else config.projector_hidden_size
            layers += [SimSiamLinear(size, width, bias=config.norm != "batch")]
            # As in the paper, the last norm has neither scale nor shift.
            layers += _norm(config.norm, width, affine=not last)
            if not last:
                layers.append(nn.ReLU())
            size = width
        super().__init__(*layers)


class SimSiamPredictor(nn.Sequential):
    """Two linear layers with a bottleneck: projections [batch, projection] -> predictions of the same size."""

    def __init__(self, config: Any) -> None:
        size, width = config.projection_size, config.predictor_hidden_size
        super().__init__(
            SimSiamLinear(size, width, bias=config.norm != "batch"),
            *_norm(config.norm, width),
            nn.ReLU(),
            SimSiamLinear(width, size),
        )


def mean_of_tokens(states: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Return the mean [rows, hidden] of states [rows, length, hidden] where `counted` [rows, length], or zeros."""
    # Not a product with the mask: a state that does not count may be infinite in float16.
    sums = states.float().masked_fill(~counted[..., None], 0.0).sum(1)
    return (sums / counted.sum(1, keepdim=True).clamp_min(1)).to(states.dtype)


def spread(vectors: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of the normalised vectors [batch, size] over the batch, times sqrt(size).

    About 1 if the vectors point in all directions, 0 if they are equal (arXiv 2011.10566). A batch of one gives 0.
    """
    normalised = functional.normalize(vectors.detach().float(), dim=-1)
    return normalised.std(0, correction=0).mean() * vectors.shape[-1] ** 0.5


__all__ = ["SimSiamBatchNorm", "SimSiamLinear", "SimSiamPredictor", "SimSiamProjector", "mean_of_tokens", "spread"]
