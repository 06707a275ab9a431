"""Calibrate all maps of a model on texts, and choose the layers that may be linear.

`calibrate` in calibrate_map.py fits a single map to queries and keys; this module collects these from a model that
runs over texts, up to a limit of memory.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from transformers.utils import logging

from kexue_hf.models.performer_bert.favor_performer_bert import FAVOR, MAP_NAME, RECORDER, SOFTMAX_MARK
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FeatureMap
from kexue_hf.performer.attention_modules import attention_modules, refuse_several_tasks, row_length
from kexue_hf.performer.calibrate_map import calibrate
from kexue_hf.performer.layer_comparison import LINEAR_ERROR, close_enough, compare_layers, on_device
from kexue_hf.performer.settings import settings_of
from kexue_hf.pipelines.evaluation_mode import evaluating

logger = logging.get_logger(__name__)

# In place of layer numbers: the layers that are close enough to softmax.
AUTO = "auto"
# Maximum number of tokens, padding included, whose queries and keys are kept for calibration.
MAX_POSITIONS = 16_384


@torch.no_grad()
def calibrate_performer(
    model: Any,
    batches: Iterable[Any],
    tokenizer: Any = None,
    *,
    max_length: int | None = None,
    batch_size: int = 8,
    progress: bool = False,
    threshold: float = LINEAR_ERROR,
) -> dict[str, torch.Tensor]:
    """Fit the constants of every feature map of a model to the model's own queries and keys.

    The model runs over the texts once with softmax, and exact softmax is computed in float64: some ten texts of a few
    hundred tokens are enough. Low orders need at least 2 head_dim tokens in all. Queries and keys of up to
    `MAX_POSITIONS` tokens, padding included, are kept in memory, 1.2 GB for a BERT-base in float32; with more, every
    other batch is skipped, or three of four and so on, down to one batch. Time grows with the square of a text's
    length.

    If a performer_bert's configuration has `linear_layers="auto"`, only every other text (or batch, or row) is used
    for calibration. On the rest each layer is compared with softmax, given the softmax model's inputs. Layers with an
    error above `threshold` keep softmax, and the numbers of the others are written to the configuration.

    Args:
        model: a model with feature maps, from `use_performer` or of type performer_bert.
        batches: inputs of the model, mappings of tensors (other values are passed on unchanged); or texts, if
            `tokenizer` is given.
        tokenizer: makes batches of `batch_size` texts of at most `max_length` tokens; by default 256, or the model's
            maximum if that is less.
        progress: whether to show a bar on stderr.
        threshold: for "auto", the largest relative L2 error of a linear layer's own output.

    Returns:
        For each map, by its name in the model, the result of `calibrate`: one number per head. Layers that switch to
        softmax are included.

    Raises:
        ValueError: the model has no maps or another attention implementation; there is nothing to calibrate on, or too
            little for low orders (see `calibrate`); fewer than two texts for "auto"; texts longer than the model's
            maximum, or for a model of several tasks.
    """
    maps = {name: module for name, module in model.named_modules() if isinstance(module, FeatureMap)}
    if not maps:
        raise ValueError("the model has no feature maps: add them with kexue_hf.use_performer(model)")
    for module in attention_modules(model).values():
        # In a Performer BERT another implementation is its softmax for short inputs.
        config = getattr(module, "config", None)
        other = getattr(config, "_attn_implementation", FAVOR)
        if MAP_NAME in module._modules and other != FAVOR and settings_of(config) is not None:
            raise ValueError(
                f"the model is set to {other!r}, its feature maps are not in use: call "
                "model.set_attn_implementation('favor') first"
            )
    if tokenizer is not None:
        batches = batches_of(model, batches, tokenizer, max_length, batch_size)
    if getattr(model.config, "linear_layers", None) != AUTO:
        return _calibrate(model, maps, batches, progress)
    found, results = calibrate_and_choose(model, batches, threshold, progress)
    for number, module in enumerate(attention_modules(model).values()):
        if number not in found:
            module._modules.pop(MAP_NAME, None)
            setattr(module, SOFTMAX_MARK, True)
    model.config.linear_layers = sorted(found)
    return results


def batches_of(
    model: Any, texts: Iterable[Any], tokenizer: Any, max_length: int | None, batch_size: int = 8
) -> list[Any]:
    """Tokenize texts to inputs of a model; without a tokenizer, return the given inputs unchanged.

    Raises:
        ValueError: a single string; a model of several tasks; or `max_length` exceeds the model's maximum.
    """
    if isinstance(texts, str):
        raise ValueError("expected several texts, got a single string: put texts into a list")
    texts = list(texts)
    if tokenizer is None:
        return texts
    refuse_several_tasks(model)
    length = row_length(model, tokenizer, max_length)
    return [
        tokenizer(texts[i : i + batch_size], padding=True, truncation=True, max_length=length, return_tensors="pt")
        for i in range(0, len(texts), batch_size)
    ]


def calibrate_and_choose(
    model: Any, batches: Iterable[Any], threshold: float, progress: bool
) -> tuple[dict[int, FeatureMap], dict[str, torch.Tensor]]:
    """Calibrate on one half of the batches; return the maps of layers close enough to softmax on the other half."""
    if not threshold > 0:
        raise ValueError(f"threshold must be a positive number, got {threshold}")
    calibrating, comparing = _split_batches(list(batches))
    modules = attention_modules(model)
    maps = {module: found for module in modules.values() if (found := getattr(module, MAP_NAME, None)) is not None}
    names = {name: module for name, module in model.named_modules() if isinstance(module, FeatureMap)}
    results = _calibrate(model, names, calibrating, progress)
    with evaluating(model):
        seen = compare_layers(model, comparing, maps)
    found = {}
    for number, module in enumerate(modules.values()):
        errors = seen.get(module)
        if errors is None or not errors.positions:
            continue
        if close_enough(float(errors.error("map")), float(errors.mean_error()), threshold):
            found[number] = maps[module]
    if not found:
        logger.warning(
            "no layer of %s is within %g of softmax on these texts: all stay softmax (kexue-hf performer-report shows "
            "the error of each)",
            type(model).__name__,
            threshold,
        )
    else:
        logger.info("linear attention in layers %s of %d", sorted(found), len(modules))
    return found, results


def _split_batches(batches: list[Any]) -> tuple[list[Any], list[Any]]:
    """Split batches into every other row; batches of one row into every other batch."""
    first: list[Any] = []
    second: list[Any] = []
    lead = 0  # number of rows by which the first half is ahead
    for batch in batches:
        if not isinstance(batch, Mapping):
            raise ValueError(f"a batch must be a mapping of the model's inputs, got {type(batch).__name__}")
        tensors = {name for name, states in batch.items() if torch.is_tensor(states) and states.dim()}
        rows = min((len(batch[name]) for name in tensors), default=0)
        for start in range(min(2, rows)):
            part = {name: states[start::2] if name in tensors else states for name, states in batch.items()}
            (second if lead > 0 else first).append(part)
            lead += -len(range(start, rows, 2)) if lead > 0 else len(range(start, rows, 2))
    if not second:
        raise ValueError("'auto' needs at least two texts, one to calibrate on and one to compare on: give more texts")
    return first, second


def _calibrate(
    model: Any, maps: dict[str, FeatureMap], batches: Iterable[Any], progress: bool
) -> dict[str, torch.Tensor]:
    # For each kept batch, by its number: the samples of each map.
    kept: dict[int, dict[int, list[Any]]] = {}
    sizes: dict[int, int] = {}
    attention_of: dict[int, tuple[float, bool]] = {}
    every, current = 1, 0

    def record(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        real: torch.Tensor | None,
        scaling: float,
        causal: bool,
    ) -> None:
        found = getattr(module, MAP_NAME, None)
        if found is not None:
            kept[current].setdefault(id(found), []).append((query.detach(), key.detach(), real))
            sizes[current] = max(sizes[current], query.shape[0] * query.shape[2])
            attention_of[id(found)] = scaling, causal

    token = RECORDER.set(record)
    try:
        with evaluating(model):
            for current, batch in enumerate(batches):
                if not isinstance(batch, Mapping):
                    raise ValueError(f"a batch must be a mapping of the model's inputs, got {type(batch).__name__}")
                if current % every:
                    continue
                kept[current], sizes[current] = {}, 0
                model(**on_device(batch, model.device))
                # Evenly spread over all batches, without knowing how many will follow.
                while len(kept) > 1 and sum(sizes.values()) > MAX_POSITIONS:
                    every *= 2
                    for number in [number for number in kept if number % every]:
                        del kept[number], sizes[number]
    finally:
        RECORDER.reset(token)
    results = {}
    for name, feature_map in tqdm(maps.items(), desc="calibrating", leave=False, disable=not progress):
        if id(feature_map) not in attention_of:
            raise ValueError(f"calibration needs texts that reach every layer, {name} has seen none")
        scaling, causal = attention_of[id(feature_map)]
        # Popped, so that a layer's samples are freed as soon as they have been used.
        samples = [sample for seen in kept.values() for sample in seen.pop(id(feature_map), [])]
        results[name] = calibrate(feature_map, samples, scaling=scaling, causal=causal)
    return results


__all__ = ["AUTO", "batches_of", "calibrate_and_choose", "calibrate_performer"]
