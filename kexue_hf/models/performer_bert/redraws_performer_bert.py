"""Redraw random features after a number of optimizer steps, and fill maps that no file has filled.

Every `step` of a `torch.optim.Optimizer` counts for the random features of the models that it trains, whatever the
training loop: with fused and sharded optimizers, gradient accumulation and compiled models. Steps skipped by the loss
scaler and features in evaluation mode do not count. Training without torch's optimizers calls `count_performer_step`.
The count is a buffer of each map, saved with it. Draws depend on the seed and the count only, so all processes that
train one model have the same.
"""

import copy
import weakref
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import initialization as init

from .feature_maps_performer_bert import FeatureMap, RandomFeatures

STEPS = "steps"
# Attributes: of a map, the interval; of a model, the object that makes it and its copies take part.
_INTERVAL, _MARK = "redraw_after", "_favor_counted"

_counted: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
_hooks: list[Any] = []


class _Counted:
    """Attribute of a model that makes it and its copies, pickled ones included, take part in the count."""

    def __init__(self, model: nn.Module) -> None:
        self.__setstate__({"model": model})

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self._model()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._model = weakref.ref(state["model"])
        _counted.add(state["model"])
        # Once per process, and not at all without redraws.
        if not _hooks:
            _hooks.append(register_optimizer_step_post_hook(_after_step))


def start_counting(feature_map: RandomFeatures, redraw: int) -> None:
    """Give a map its count of optimizer steps, and the number of steps between redraws."""
    feature_map.register_buffer(STEPS, torch.zeros((), dtype=torch.long))
    setattr(feature_map, _INTERVAL, redraw)


def count_steps(model: nn.Module) -> None:
    """Make a model take part in the count if any of its maps counts, else no longer."""
    model.__dict__.pop(_MARK, None)
    _counted.discard(model)
    if _counting(model):
        model.__dict__[_MARK] = _Counted(model)


def count_performer_step(model: nn.Module) -> None:
    """Count an optimizer step of a model and redraw when due, for training without torch's optimizers.

    A `torch.optim.Optimizer` that holds the model's own parameters does this automatically. DeepSpeed's ZeRO holds
    others: call this after every `engine.step()` that is a real step (`engine.is_gradient_accumulation_boundary()`),
    on every process.

    Args:
        model: a model with redraws, or one that contains it; without redraws, or in evaluation mode, nothing happens.
    """
    _count(_counting(model))


@torch.compiler.disable
def _after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    if not _counted:
        return
    # The hook also runs for a fused optimizer that skips the step on the loss scaler's request.
    overflowed = getattr(optimizer, "found_inf", None)
    if overflowed is not None and bool(overflowed):
        return
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    maps: dict[int, RandomFeatures] = {}
    for model in list(_counted):
        # Checked at every step: sharding replaces parameters, adapters add some.
        if any(parameter.requires_grad and id(parameter) in held for parameter in model.parameters()):
            # A part of a model may take part as well as the whole.
            maps.update((id(feature_map), feature_map) for feature_map in _counting(model))
    _count(list(maps.values()))


def _counting(model: nn.Module) -> list[RandomFeatures]:
    return [part for part in model.modules() if isinstance(part, RandomFeatures) and STEPS in part._buffers]


def _count(maps: list[RandomFeatures]) -> None:
    for feature_map in maps:
        if feature_map.training:
            count = getattr(feature_map, STEPS)
            steps, interval = int(count) + 1, getattr(feature_map, _INTERVAL)
            count.fill_(steps)
            if steps % interval == 0:
                feature_map.redraw(steps // interval)


@torch.no_grad()
def fill_missing(feature_map: FeatureMap) -> None:
    """Give the buffers and parameters that no file has filled the values of a new map."""
    new = copy.deepcopy(feature_map)
    new.reset()
    if STEPS in new._buffers:
        getattr(new, STEPS).zero_()
    values = dict((*new.named_buffers(), *new.named_parameters()))
    for name, tensor in (*feature_map.named_buffers(), *feature_map.named_parameters()):
        init.copy_(tensor, values[name])  # skips what was loaded from a file


__all__ = ["count_performer_step", "count_steps", "fill_missing", "start_counting"]
