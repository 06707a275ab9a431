"""Attention modules of transformers' models whose attention can be exchanged: which they are, how large, and what in
them linear attention has no place for."""

import gc
import inspect
from typing import Any

from torch import nn
from transformers.modeling_utils import PreTrainedModel

_WINDOWS = ("sliding_attention", "chunked_attention")


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Those whose attention transformers can exchange, by name, in the order of the model."""
    return {name: module for name, module in model.named_modules() if _is_exchangeable(type(module))}


def _is_exchangeable(kind: type[nn.Module]) -> bool:
    code = getattr(inspect.unwrap(kind.forward), "__code__", None)
    return code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names


def heads_and_dim(module: Any) -> tuple[int, int]:
    """Heads and head_dim of an attention module, by the names that transformers' models have for them.

    Raises:
        ValueError: a module with none of these names.
    """
    config = getattr(module, "config", None)

    def find(names: tuple[str, ...], where: Any) -> int | None:
        found = (getattr(where, name, None) for name in names)
        return next((size for size in found if isinstance(size, int) and not isinstance(size, bool)), None)

    head_names = ("num_attention_heads", "num_heads", "n_heads", "num_query_heads")
    heads = find(head_names, module) or find(head_names, config)
    # The first is of queries whose positions are in a part of their own, of which head_dim then is the size.
    dim_names = ("qk_head_dim", "attention_head_size", "head_dim", "dim_per_head")
    head_dim = find(dim_names, module) or find(dim_names, config)
    if heads and not head_dim:
        sizes = ("all_head_size", "embed_dim", "hidden_size", "dim", "d_model")
        width = find(sizes, module) or find(sizes, config)
        head_dim = None if width is None else width // heads
    if not heads or not head_dim:
        raise ValueError(f"cannot tell the heads and head_dim of {type(module).__name__}")
    return heads, head_dim


def refuse_what_has_no_place(modules: list[nn.Module], linear: set[int]) -> None:
    """Look at the modules whose configuration is that of a linear layer: one implementation is for all of them.

    Args:
        linear: numbers of the layers that are to be linear.

    Raises:
        ValueError: relative positions, a window, limits or sinks of the scores.
    """
    configs = {id(getattr(modules[number], "config", None)) for number in linear}
    for number, module in enumerate(modules):
        config = getattr(module, "config", None)
        if id(config) not in configs:
            continue
        name = f"{type(module).__name__} (layer {number})"
        if "position_bias" in inspect.signature(inspect.unwrap(module.forward)).parameters:
            raise ValueError(f"linear attention has no relative positions that are added to the scores, {name} has")
        if _window(module, config) is not None:
            raise ValueError(
                f"linear attention has no sliding window, {name} has one; all layers of one configuration have one "
                "implementation, so that none of them can be linear"
            )
        limits = ("attn_logit_softcapping", "attn_logit_softcap")
        if any(getattr(where, limit, None) for where in (module, config) for limit in limits):
            raise ValueError(f"linear attention has no scores, those of {name} are limited (softcapping)")
        if getattr(module, "sinks", None) is not None:
            raise ValueError(f"linear attention has no scores, {name} has attention sinks beside them")


def _window(module: Any, config: Any) -> Any:
    if "sliding_window" in module.__dict__:
        return module.sliding_window
    kinds, number = getattr(config, "layer_types", None), getattr(module, "layer_idx", None)
    if kinds is not None and isinstance(number, int) and number < len(kinds):
        return next((kind for kind in _WINDOWS if kind == kinds[number]), None)
    return getattr(config, "sliding_window", None)


def refuse_shared_configuration(model: Any) -> None:
    """Encoders and decoders of one configuration object: what is set there for one is set for the other.

    Raises:
        ValueError: `model` is a part of a larger one in which other layers have its configuration.
    """
    if not getattr(model.config, "is_encoder_decoder", False):
        return

    def find() -> tuple[Any, list[int]] | None:
        inside = {id(module) for module in model.modules()}
        # A part does not know what it is part of.
        for whole in gc.get_objects():
            if not issubclass(type(whole), PreTrainedModel) or whole is model or whole.__dict__.get("config") is None:
                continue
            if whole.config is not model.config or not any(part is model for part in whole.modules()):
                continue
            numbered = list(enumerate(attention_modules(whole).values()))
            if any(id(module) not in inside and getattr(module, "config", None) is model.config
                   for _, module in numbered):  # fmt: skip
                return type(whole).__name__, [number for number, module in numbered if id(module) in inside]
        return None

    if find() is None:
        return
    # What nobody has any more may not have been taken away yet.
    gc.collect()
    found = find()
    if found is not None:
        whole, numbers = found
        raise ValueError(
            f"{type(model).__name__} has one configuration with other layers of {whole}: call use_performer on the "
            f"whole, with layers={numbers}"
        )


__all__ = ["attention_modules", "heads_and_dim", "refuse_shared_configuration", "refuse_what_has_no_place"]
