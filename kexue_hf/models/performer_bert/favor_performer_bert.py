"""Linear attention as an attention implementation of transformers: `attn_implementation="favor"`.

A model passes queries, keys, values and the result of its mask function. For softmax the mask is a square of allowed
pairs; here it is boolean, [batch, keys], because linear attention forms no pairs. Masks other than "all real keys" or
"all real keys up to the query" raise an error that names them: masks of pairs, windows, packed texts, biases.

Differences from transformers' own implementations:

* A layer uses the feature map in its attribute `favor_map`, or an uncalibrated `DEFAULT_MAP`.
* There are no weights to drop. Dropout raises an error, except in layers with their own map, whose owner was told.
  Requested weights are computed additionally, in quadratic time and memory; single ones may be negative.
* A key-value cache gives correct results but saves nothing: each step reads all keys again.
* Fully padded rows output zeros.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from transformers.masking_utils import AttentionMaskInterface, bidirectional_mask_function, causal_mask_function
from transformers.modeling_utils import AttentionInterface

from .attention_performer_bert import linear_attention
from .feature_maps_performer_bert import FeatureMap, create_feature_map

FAVOR = "favor"
DEFAULT_MAP = "low_order"
# Attributes of attention modules: the map, and the mark of a layer that keeps softmax in a linear model.
MAP_NAME = "favor_map"
SOFTMAX_MARK = "favor_softmax"
# Arguments by which some models change the scores.
_SCORE_ARGUMENTS = (
    "position_bias", "relative_position_bias", "attention_bias", "softcap", "s_aux", "sinks", "head_mask", "indices",
    "block_indices",
)  # fmt: skip

Value = TypeVar("Value")


class PerThread(Generic[Value]):
    """A value that only the thread that set it sees. Not a ContextVar, which stops torch.compile in every layer."""

    def __init__(self) -> None:
        self._found: dict[int, Value] = {}

    def get(self) -> Value | None:
        # Usually empty, which a compiler can check.
        return self._of_this_thread() if self._found else None

    @torch.compiler.disable
    def _of_this_thread(self) -> Value | None:
        return self._found.get(threading.get_ident())

    def set(self, value: Value) -> Value | None:
        """Set the value, and return the argument for `reset`."""
        before = self.get()
        self._found[threading.get_ident()] = value
        return before

    def reset(self, before: Value | None) -> None:
        if before is None:
            self._found.pop(threading.get_ident(), None)
        else:
            self._found[threading.get_ident()] = before


Recorder = Callable[[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor | None, float, bool], None]
# While set, every layer computes softmax and passes its queries, keys, mask, scaling and causality to it.
RECORDER: PerThread[Recorder] = PerThread()

Observer = Callable[[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, float, bool], None]
# While set, every layer passes its queries, keys, values, mask, scaling and causality to it, whatever it computes.
OBSERVER: PerThread[Observer] = PerThread()


def register() -> None:
    """Register the "favor" attention and its mask with transformers; without the mask, padding would count."""
    AttentionInterface.register(FAVOR, favor_attention)
    AttentionMaskInterface.register(FAVOR, favor_mask)


def favor_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | torch.Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable = causal_mask_function,
    attention_mask: torch.Tensor | None = None,
    **kwargs: Any,
) -> torch.Tensor | None:
    """Return the mask that transformers' `create_..._mask` pass to the layers.

    It is boolean [batch, keys], True where a key is real, or None if all are.

    Raises:
        ValueError: the model allows pairs other than all, or all up to the query; or its cache has room for keys that
            do not exist yet.
    """
    if mask_function is causal_mask_function:
        # In a cache of fixed size, future keys are indistinguishable from real ones.
        if not isinstance(q_offset, int) or q_offset + q_length != kv_offset + kv_length:
            raise ValueError(
                f"linear attention needs the queries to be the last of the keys, got {q_length} queries from position "
                f"{q_offset} on with {kv_length} keys: use a dynamic cache, or none"
            )
    elif mask_function is not bidirectional_mask_function:
        raise ValueError(
            "linear attention is to all keys, or to all up to the query; this model allows other pairs (a sliding "
            "window, packed texts or a custom mask function): choose attn_implementation='sdpa'"
        )
    if attention_mask is None:
        return None
    real = attention_mask[:, -kv_length:].to(torch.bool)
    # Checked only if that does not make a device wait.
    if real.device.type == "cpu" and not torch.compiler.is_compiling() and bool(real.all()):
        return None
    return real


def favor_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute linear attention with the signature of transformers' attention functions.

    Args:
        module: the layer; `favor_map` on it is its feature map, and `is_causal` says whether it is causal.
        query: [batch, heads, queries, head_dim]. key, value: [batch, heads or a divisor of them, keys, dim].
        attention_mask: boolean [batch, keys], see `favor_mask`.
        dropout: must be 0 in a layer without its own map.
        scaling: None for head_dim^-1/2.

    Returns:
        [batch, queries, heads, value dim], and None; with `output_attentions`, the equivalent attention weights
        [batch, heads, queries, keys].

    Raises:
        ValueError: a mask or bias of pairs, dropout, or head counts that do not divide.
    """
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", None)
    if causal is None:
        raise ValueError(
            f"{type(module).__name__} does not say whether it is causal (is_causal), which linear attention needs to "
            "know: choose attn_implementation='sdpa'"
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    key, value = (_for_all_heads(states, query.shape[1]) for states in (key, value))
    real = _check(module, key, attention_mask, kwargs)
    recorder = RECORDER.get()
    if recorder is not None:
        recorder(module, query, key, real, scaling, causal)
    observer = OBSERVER.get()
    if observer is not None:
        observer(module, query, key, value, real, scaling, causal)
    wanted = kwargs.get("output_attentions")
    if getattr(getattr(module, "config", None), "output_attentions", False) if wanted is None else wanted:
        # The output for unit vectors as values is the weights.
        unit = torch.eye(key.shape[-2], dtype=query.dtype, device=query.device).expand(*key.shape[:-1], -1)
        weights = _attend(module, query, key, unit, real, dropout, scaling, causal)
        if real is not None:
            value = value.masked_fill(~real[:, None, :, None], 0.0)
        return (weights @ value).transpose(1, 2).contiguous(), weights
    return _attend(module, query, key, value, real, dropout, scaling, causal).transpose(1, 2).contiguous(), None


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    real: torch.Tensor | None,
    dropout: float,
    scaling: float,
    causal: bool,
) -> torch.Tensor:
    """Return [batch, heads, queries, value dim] by linear attention, or by softmax where requested."""
    if RECORDER.get() is not None or getattr(module, SOFTMAX_MARK, False):
        return _softmax(query, key, value, real, dropout, scaling, causal)
    feature_map = getattr(module, MAP_NAME, None)
    if feature_map is None:
        if dropout:
            raise ValueError(
                f"linear attention has no weights to drop, got dropout {dropout}: load the model with "
                "attention_probs_dropout_prob=0.0 (attention_dropout=0.0 in some), or give it feature maps with "
                "kexue_hf.use_performer(model), which ignores this dropout"
            )
        feature_map = _default_map_for(query.shape[-1], query.device)
    missing = key.shape[-2] - query.shape[-2] if causal else 0
    if missing < 0:
        raise ValueError(f"causal attention needs at least as many keys as queries, got {-missing} fewer")
    if missing:
        # The queries are the last positions. The keys before them have been read, so their queries are not needed.
        query = nn.functional.pad(query, (0, 0, missing, 0))
    output = linear_attention(query, key, value, feature_map, key_mask=real, scaling=scaling, causal=causal)
    return output[:, :, missing:]


def _check(
    module: nn.Module, key: torch.Tensor, attention_mask: torch.Tensor | None, extra: dict[str, Any]
) -> torch.Tensor | None:
    """Refuse unsupported arguments, and return the mask of keys."""
    for name in _SCORE_ARGUMENTS:
        if extra.get(name) is not None:
            raise ValueError(
                f"linear attention forms no scores of pairs, so {type(module).__name__} cannot change them by its "
                f"{name}: choose attn_implementation='eager' or 'sdpa'"
            )
    window = extra.get("sliding_window")
    if window is not None and key.shape[-2] > window:
        raise ValueError(
            f"linear attention has no sliding window, got one of {window} and {key.shape[-2]} keys: choose "
            "attn_implementation='sdpa'"
        )
    if attention_mask is None:
        return None
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.dim() != 2 or attention_mask.is_floating_point():
        found = tuple(attention_mask.shape) if isinstance(attention_mask, torch.Tensor) else type(attention_mask)
        raise ValueError(
            "linear attention forms no pairs, so it takes no mask or bias of pairs: give an attention_mask of "
            f"(batch, keys), nonzero where a key is real, instead of one of {found}"
        )
    return attention_mask.to(torch.bool)


def _for_all_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """Repeat heads for groups of queries: [batch, fewer heads, length, dim] -> [batch, heads, length, dim]."""
    if states.shape[1] == heads:
        return states
    if not states.shape[1] or heads % states.shape[1]:
        raise ValueError(f"the heads of keys must divide those of queries, got {states.shape[1]} and {heads}")
    return states.repeat_interleave(heads // states.shape[1], dim=1)


def _default_map_for(head_dim: int, device: torch.device) -> FeatureMap:
    # An export or a dry run creates tensors without numbers, which must not stay in the cache.
    if torch.compiler.is_compiling() or type(torch.empty(0)) is not torch.Tensor:
        return _new_default_map(head_dim, device)
    return _cached_default_map(head_dim, device)


def _new_default_map(head_dim: int, device: torch.device) -> FeatureMap:
    # Not inference tensors, which a later training step could not use.
    with torch.inference_mode(False), torch.device(device):
        return create_feature_map(DEFAULT_MAP, head_dim)


_cached_default_map = functools.lru_cache(maxsize=64)(_new_default_map)


def _softmax(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    real: torch.Tensor | None,
    dropout: float,
    scaling: float,
    causal: bool,
) -> torch.Tensor:
    allowed = None if real is None else real[:, None, None, :]
    queries, keys = query.shape[-2], key.shape[-2]
    if causal:
        past = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
        allowed = past if allowed is None else allowed & past
    return nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=allowed, dropout_p=dropout, scale=scaling
    )


__all__ = ["FAVOR", "MAP_NAME", "OBSERVER", "RECORDER", "SOFTMAX_MARK", "favor_attention", "favor_mask", "register"]
