"""Attention modules of transformers' models whose attention can be exchanged: which they are, how large, and what in
them linear attention has no place for.

Texts as rows of a model's inputs: how many tokens of each, and which models cannot be run on texts alone.
"""

import gc
import inspect
from typing import Any

from torch import nn
from transformers.modeling_utils import PreTrainedModel

# Of calibration and training, where nothing else is said: exact softmax over all pairs, which longer ones pay for.
ROW_LENGTH = 256


def row_length(model: Any, tokenizer: Any, max_length: int | None = None) -> int:
    """Tokens of a text, special ones included, at most.

    Args:
        max_length: what is asked for. It may be more than the tokenizer's `model_max_length`, which is a remark, but
            not more than there are positions. None: `ROW_LENGTH`, or what model and tokenizer name if that is less.

    Raises:
        ValueError: `max_length` is more than the model takes, or below 1.
    """
    longest = _positions(model)
    if max_length is None:
        bounds = (longest, getattr(tokenizer, "model_max_length", None))
        return min(ROW_LENGTH, *(bound for bound in bounds if bound is not None and bound > 0))
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    if longest is not None and max_length > longest:
        raise ValueError(f"max_length must be at most {longest} for this model, got {max_length}")
    return max_length


def _positions(model: Any) -> int | None:
    """How many the model has; None where it does not say."""
    config = getattr(model, "config", None)
    found = getattr(config, "max_position_embeddings", None)
    if not isinstance(found, int) or found < 1:
        return None
    if getattr(config, "model_type", None) == "performer_bert":
        return found**2  # they go on beyond the table
    # `base_model` is the model itself where it has no head.
    embeddings = getattr(getattr(model, "base_model", model), "embeddings", None)
    if any(hasattr(embeddings, f"create_position_ids_from_{what}") for what in ("input_ids", "inputs_embeds")):
        # RoBERTa's begin after that of the padding.
        found -= (getattr(config, "pad_token_id", None) or 0) + 1
    return found


def refuse_several_tasks(model: Any) -> None:
    """Texts do not say which task of a matcher they are for.

    Raises:
        ValueError: the model has several.
    """
    names = getattr(getattr(model, "config", None), "task_names", None)
    if callable(getattr(model, "fold_task", None)) and isinstance(names, list | tuple) and len(names) > 1:
        raise ValueError(
            f"{type(model).__name__} has {len(names)} tasks ({', '.join(map(repr, names))}), and texts alone are of "
            f"none: fold one first, model.fold_task({names[0]!r}), and take the model that this gives"
        )


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


__all__ = [
    "ROW_LENGTH",
    "attention_modules",
    "heads_and_dim",
    "refuse_several_tasks",
    "refuse_shared_configuration",
    "refuse_what_has_no_place",
    "row_length",
]
