"""Find the attention modules that can be swapped in a transformers model, and refuse what linear attention cannot do.

Also: how many tokens of a text such a model reads.
"""

import inspect
from typing import Any

from torch import nn
from transformers.modeling_utils import PreTrainedModel

from kexue_hf.pipelines.text_windows import position_limit

# The default for calibration and training, both of which compute exact softmax: longer rows cost quadratic time.
ROW_LENGTH = 256


def row_length(model: Any, tokenizer: Any, max_length: int | None = None) -> int:
    """Return the maximum number of tokens of a text, special tokens included.

    Args:
        max_length: the requested maximum. It may exceed the tokenizer's `model_max_length`, which is advisory, but not
            the model's number of positions. None: `ROW_LENGTH`, or the limit of model or tokenizer if that is lower.

    Raises:
        ValueError: `max_length` is below 1 or more than the model takes.
    """
    longest = position_limit(model)
    if max_length is None:
        bounds = (longest, getattr(tokenizer, "model_max_length", None))
        return min(ROW_LENGTH, *(bound for bound in bounds if bound is not None and bound > 0))
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    if longest is not None and max_length > longest:
        raise ValueError(f"max_length must be at most {longest} for this model, got {max_length}")
    return max_length


def refuse_several_tasks(model: Any) -> None:
    """Refuse a matcher of several tasks: a text does not say which task it is for.

    Raises:
        ValueError: the model has several tasks.
    """
    names = getattr(getattr(model, "config", None), "task_names", None)
    if callable(getattr(model, "fold_task", None)) and isinstance(names, list | tuple) and len(names) > 1:
        raise ValueError(
            f"{type(model).__name__} has {len(names)} tasks ({', '.join(map(repr, names))}), and a text does not say "
            f"which one: use the model that model.fold_task({names[0]!r}) returns"
        )


_WINDOWS = ("sliding_attention", "chunked_attention")


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules whose attention transformers can swap, by name, in the order of the model."""
    return {name: module for name, module in model.named_modules() if _is_swappable(type(module))}


def has_only_fixed_attention(model: nn.Module) -> bool:
    """Return whether a model has modules with "Attention" in their class name, none of which can be swapped."""
    kinds = {type(module) for module in model.modules()}
    return any("Attention" in kind.__name__ for kind in kinds) and not any(map(_is_swappable, kinds))


def _is_swappable(kind: type[nn.Module]) -> bool:
    code = getattr(inspect.unwrap(kind.forward), "__code__", None)
    return code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names


def heads_and_dim(module: Any) -> tuple[int, int]:
    """Return the number of heads and head_dim of an attention module, looked up under the names in transformers.

    Raises:
        ValueError: the module has none of these names.
    """
    config = getattr(module, "config", None)

    def find(names: tuple[str, ...], where: Any) -> int | None:
        found = (getattr(where, name, None) for name in names)
        return next((size for size in found if isinstance(size, int) and not isinstance(size, bool)), None)

    head_names = ("num_attention_heads", "num_heads", "n_heads", "num_query_heads")
    heads = find(head_names, module) or find(head_names, config)
    # qk_head_dim comes first: with it, head_dim is only the size of the part that holds the positions.
    dim_names = ("qk_head_dim", "attention_head_size", "head_dim", "dim_per_head")
    head_dim = find(dim_names, module) or find(dim_names, config)
    if heads and not head_dim:
        sizes = ("all_head_size", "embed_dim", "hidden_size", "dim", "d_model")
        width = find(sizes, module) or find(sizes, config)
        head_dim = None if width is None else width // heads
    if not heads or not head_dim:
        raise ValueError(f"the number of heads and head_dim of {type(module).__name__} are unknown")
    return heads, head_dim


def refuse_unsupported_attention(modules: list[nn.Module], linear: set[int]) -> None:
    """Refuse layers that use attention other than plain softmax(q·k).

    All modules that share a configuration with a linear layer are checked, because they share its implementation too.

    Args:
        linear: the numbers of the layers to make linear.

    Raises:
        ValueError: relative positions, a window, score limits or attention sinks.
    """
    configs = {id(getattr(modules[number], "config", None)) for number in linear}
    for number, module in enumerate(modules):
        config = getattr(module, "config", None)
        if id(config) not in configs:
            continue
        name = f"{type(module).__name__} (layer {number})"
        if "position_bias" in inspect.signature(inspect.unwrap(module.forward)).parameters:
            raise ValueError(f"linear attention cannot add relative positions to scores, as {name} does")
        if _window(module, config) is not None:
            raise ValueError(
                f"linear attention has no sliding window, {name} has one; all layers of one configuration share one "
                "implementation, so none of them can be linear"
            )
        limits = ("attn_logit_softcapping", "attn_logit_softcap")
        if any(getattr(where, limit, None) for where in (module, config) for limit in limits):
            raise ValueError(f"linear attention has no scores to limit, as {name} does (softcapping)")
        if getattr(module, "sinks", None) is not None:
            raise ValueError(f"linear attention has no scores, {name} adds attention sinks to them")


def _window(module: Any, config: Any) -> Any:
    if "sliding_window" in module.__dict__:
        return module.sliding_window
    kinds, number = getattr(config, "layer_types", None), getattr(module, "layer_idx", None)
    if kinds is not None and isinstance(number, int) and number < len(kinds):
        return next((kind for kind in _WINDOWS if kind == kinds[number]), None)
    return getattr(config, "sliding_window", None)


def refuse_shared_configuration(model: Any) -> None:
    """Refuse an encoder or decoder that belongs to an encoder-decoder.

    All layers of an encoder-decoder read their attention implementation from one configuration object, so it cannot be
    set for a part. A part is recognised by its configuration, which is that of an encoder-decoder, while it contains
    no other model; the whole contains at least its encoder.

    Raises:
        ValueError: `model` is such a part.
    """
    if not getattr(model.config, "is_encoder_decoder", False):
        return
    if not any(isinstance(module, PreTrainedModel) for module in model.modules() if module is not model):
        raise ValueError(
            f"{type(model).__name__} is a part of an encoder-decoder and shares its configuration with the other "
            "layers: call use_performer on the whole, with layers=[...] for those of this part"
        )


__all__ = [
    "ROW_LENGTH",
    "attention_modules",
    "has_only_fixed_attention",
    "heads_and_dim",
    "refuse_several_tasks",
    "refuse_shared_configuration",
    "refuse_unsupported_attention",
    "row_length",
]
