"""New random features after so many optimiser steps, and values for maps that no file has filled.

A model counts its steps itself, so that every training loop will do: where the trained weights have changed in place
between two forward passes in training mode, a step has been made. Passes whose gradients are accumulated, and steps
that a loss scaler skips, do not count. The count is a buffer of each map, saved with it. Draws depend on the seed and
the count alone: all processes that train one model have the same.
"""

from typing import Any

import torch

from .feature_maps_performer_bert import FeatureMap, RandomFeatures

STEPS = "steps"
# Names on the outermost model: the interval, the weights' versions at the last pass, and the hook.
_INTERVAL, _SEEN, _HOOK = "_favor_redraw", "_favor_seen", "_favor_hook"


def start_counting(feature_map: RandomFeatures) -> None:
    """Give a map its count of optimiser steps."""
    feature_map.register_buffer(STEPS, torch.zeros((), dtype=torch.long))


def count_steps(model: Any, redraw: int | None) -> None:
    """Have a model count its steps and redraw after every `redraw` of them; the models that it is made of stop.

    Args:
        redraw: number of steps; None for no redraws.
    """
    for module in model.modules():
        handle = module.__dict__.pop(_HOOK, None)
        if handle is not None:
            handle.remove()
            module.__dict__.pop(_SEEN, None)
    if redraw is not None:
        setattr(model, _INTERVAL, redraw)
        setattr(model, _HOOK, model.register_forward_pre_hook(_before_forward))


def _before_forward(model: Any, _: Any) -> None:
    if not model.training:
        return
    # Every change in place raises a tensor's version. The model's identity is there because a copy has other versions.
    seen = (id(model), sum(parameter._version for parameter in model.parameters() if parameter.requires_grad))
    before = model.__dict__.get(_SEEN)
    setattr(model, _SEEN, seen)
    if before is None or before[0] != seen[0] or before[1] == seen[1]:
        return
    redraw = getattr(model, _INTERVAL)
    for module in model.modules():
        if isinstance(module, RandomFeatures) and STEPS in module._buffers:
            steps = int(getattr(module, STEPS)) + 1
            getattr(module, STEPS).fill_(steps)
            if steps % redraw == 0:
                module.redraw(steps // redraw)


@torch.no_grad()
def fill_missing(feature_map: FeatureMap) -> None:
    """Give the buffers and parameters that no file has filled the values of a new map."""
    given = {
        name: tensor.clone()
        for name, tensor in (*feature_map.named_buffers(), *feature_map.named_parameters())
        if getattr(tensor, "_is_hf_initialized", False)
    }
    feature_map.reset()
    if STEPS in feature_map._buffers:
        getattr(feature_map, STEPS).zero_()
    for name, values in given.items():
        getattr(feature_map, name).copy_(values)


__all__ = ["count_steps", "fill_missing", "start_counting"]
