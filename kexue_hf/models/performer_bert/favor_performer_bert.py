"""Linear attention where transformers' models call for attention: `attn_implementation="favor"`.

A model hands over queries, keys, values and whatever its mask function made. For softmax that is a square of allowed
pairs; here it is boolean, [batch, keys], for linear attention forms no pairs. So what is not "all real keys" or "all
real keys up to oneself" is refused, with an error that names it: masks of pairs, windows, packed texts, biases.

How a call departs from transformers' own implementations:

* A layer uses the map that hangs on it as `favor_map`; without one `DEFAULT_MAP`, which nobody has calibrated.
* There are no weights, and none can be dropped. Dropout of them is refused, except in layers with a map of their own,
  whose owner has been told that there is none. Weights that are asked for are computed besides, in quadratic time and
  memory; the single ones may be negative.
* A key-value cache gives the right numbers and saves nothing: each step reads all keys again.
* Fully padded rows give zeros.
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
# Names on attention modules: the map, and the mark of a layer that stays softmax in a model that is linear elsewhere.
MAP_NAME = "favor_map"
SOFTMAX_MARK = "favor_softmax"
# What some models add to the scores or take away from them.
_OF_SCORES = (
    "position_bias", "relative_position_bias", "attention_bias", "softcap", "s_aux", "sinks", "head_mask", "indices",
    "block_indices",
)  # fmt: skip

Looking = TypeVar("Looking")


class PerThread(Generic[Looking]):
    """What one thread has set, and no other sees. Not a ContextVar, at which torch.compile stops in every layer."""

    def __init__(self) -> None:
        self._found: dict[int, Looking] = {}

    def get(self) -> Looking | None:
        # Empty is the usual case, and one that a compiler can check.
        return self._of_this_thread() if self._found else None

    @torch.compiler.disable
    def _of_this_thread(self) -> Looking | None:
        return self._found.get(threading.get_ident())

    def set(self, value: Looking) -> Looking | None:
        """Set, and return what `reset` is to be given."""
        before = self.get()
        self._found[threading.get_ident()] = value
        return before

    def reset(self, before: Looking | None) -> None:
        if before is None:
            self._found.pop(threading.get_ident(), None)
        else:
            self._found[threading.get_ident()] = before


Recorder = Callable[[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor | None, float, bool], None]
# While set, every layer computes softmax and shows its queries, keys, mask, scaling and causality.
RECORDER: PerThread[Recorder] = PerThread()

Observer = Callable[[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, float, bool], None]
# While set, every layer shows its queries, keys, values, mask, scaling and causality, whatever it computes.
OBSERVER: PerThread[Observer] = PerThread()


def register() -> None:
    """Make "favor" known to transformers, the attention and its mask: with one alone padding would be attended to."""
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
    """What transformers' `create_..._mask` give to the layers: boolean [batch, keys], True where a key is real, or
    None if all are.

    Raises:
        ValueError: the model allows other pairs than all, or all up to oneself; or its cache has room for keys that
            do not exist yet.
    """
    if mask_function is causal_mask_function:
        # A cache of fixed size: there is no telling a key that is to come from a real one.
        if not isinstance(q_offset, int) or q_offset + q_length != kv_offset + kv_length:
            raise ValueError(
                f"linear attention needs the queries to be the last of the keys, got {q_length} queries from position "
                f"{q_offset} on beside {kv_length} keys: use a dynamic cache, or none"
            )
    elif mask_function is not bidirectional_mask_function:
        raise ValueError(
            "linear attention is to all keys, or to all up to oneself; this model allows other pairs (a sliding "
            "window, packed texts or a mask function of its own): choose attn_implementation='sdpa'"
        )
    if attention_mask is None:
        return None
    real = attention_mask[:, -kv_length:].to(torch.bool)
    # Looked at where that does not make a device wait.
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
    """Linear attention, called as transformers calls attention.

    Args:
        module: the layer; `favor_map` on it is its feature map, and `is_causal` says whether it looks back only.
        query: [batch, heads, queries, head_dim]. key, value: [batch, heads or a divisor of them, keys, dim].
        attention_mask: boolean [batch, keys], see `favor_mask`.
        dropout: must be 0 in a layer without a map of its own.
        scaling: head_dim^-1/2 if None.

    Returns:
        [batch, queries, heads, value dim], and None; with `output_attentions` what the attention amounts to in
        weights, [batch, heads, queries, keys].

    Raises:
        ValueError: a mask or bias of pairs, dropout, head counts that do not divide.
    """
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", None)
    if causal is None:
        raise ValueError(
            f"{type(module).__name__} does not say whether it is causal (is_causal), which linear attention has to "
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
        # What attention makes of unit vectors is its weights.
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
    """[batch, heads, queries, value dim], all with as many heads; softmax where it is wanted."""
    if RECORDER.get() is not None or getattr(module, SOFTMAX_MARK, False):
        return _softmax(query, key, value, real, dropout, scaling, causal)
    feature_map = getattr(module, MAP_NAME, None)
    if feature_map is None:
        if dropout:
            raise ValueError(
                f"linear attention has no weights to drop, got dropout {dropout}: load the model with "
                "attention_probs_dropout_prob=0.0 (attention_dropout=0.0 in some), or attach feature maps with "
                "kexue_hf.use_performer(model), which leaves this dropout out"
            )
        feature_map = _default_map(query.shape[-1], query.device)
    missing = key.shape[-2] - query.shape[-2] if causal else 0
    if missing < 0:
        raise ValueError(f"causal attention needs at least as many keys as queries, got {-missing} fewer")
    if missing:
        # The queries stand at the end. The keys before them have been read, their own queries are not needed.
        query = nn.functional.pad(query, (0, 0, missing, 0))
    output = linear_attention(query, key, value, feature_map, key_mask=real, scaling=scaling, causal=causal)
    return output[:, :, missing:]


def _check(
    module: nn.Module, key: torch.Tensor, attention_mask: torch.Tensor | None, extra: dict[str, Any]
) -> torch.Tensor | None:
    """The mask of keys, after what cannot be done has been refused."""
    for name in _OF_SCORES:
        if extra.get(name) is not None:
            raise ValueError(
                f"linear attention forms no scores of pairs, so that {type(module).__name__} cannot change them by "
                f"its {name}: choose attn_implementation='eager' or 'sdpa'"
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
            "linear attention forms no pairs, it takes no mask or bias of pairs: give an attention_mask of "
            f"(batch, keys), not 0 where a key is real, instead of one of {found}"
        )
    return attention_mask.to(torch.bool)


def _for_all_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """[batch, fewer heads, length, dim] -> [batch, heads, length, dim], each repeated for its group of queries."""
    if states.shape[1] == heads:
        return states
    if not states.shape[1] or heads % states.shape[1]:
        raise ValueError(f"the heads of keys must divide those of queries, got {states.shape[1]} and {heads}")
    return states.repeat_interleave(heads // states.shape[1], dim=1)


def _default_map(head_dim: int, device: torch.device) -> FeatureMap:
    # What an export or a dry run makes is no tensor of numbers, and takes none: it is not to be met by others later.
    if torch.compiler.is_compiling() or type(torch.empty(0)) is not torch.Tensor:
        return _new_default_map(head_dim, device)
    return _kept_default_map(head_dim, device)


def _new_default_map(head_dim: int, device: torch.device) -> FeatureMap:
    # Not as inference tensors, which a later training step could not use.
    with torch.inference_mode(False), torch.device(device):
        return create_feature_map(DEFAULT_MAP, head_dim)


_kept_default_map = functools.lru_cache(maxsize=64)(_new_default_map)


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
