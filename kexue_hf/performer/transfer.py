"""Attention transfer: train only a model's learned feature maps, to match its softmax.

    model = kexue_hf.use_performer(model, "learned", num_features=256)
    result = kexue_hf.transfer_attention(model, texts, tokenizer, steps=300)

The model runs over the texts with softmax. Each layer's map is trained on the inputs of that layer, with softmax's
output as the target (Hedgehog, arXiv 2402.04347; LoLCATs, arXiv 2410.10254). No gradient goes through the model,
layers do not wait for each other, and a layer's inputs are freed before the next one: memory is that of one layer and
one batch. At the end, a layer with flat attention gets low orders instead of the trained map, if these are closer. The
loss of a head is the squared error of its output divided by softmax's squared output, over real positions.

Higher layers do not see the errors of lower ones; `distil_performer` corrects the remaining error.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from transformers.utils import logging

from kexue_hf.errors import InputError
from kexue_hf.models.performer_bert.attention_performer_bert import linear_attention
from kexue_hf.models.performer_bert.favor_performer_bert import MAP_NAME
from kexue_hf.models.performer_bert.feature_maps_performer_bert import (
    FEATURE_MAPS,
    FeatureMap,
    LearnedMap,
    create_feature_map,
)
from kexue_hf.performer.attention_modules import attention_modules, refuse_several_tasks, row_length
from kexue_hf.performer.calibrate_model import calibrate_performer
from kexue_hf.performer.layer_comparison import observed_softmax, on_device
from kexue_hf.performer.settings import SETTING
from kexue_hf.pipelines.evaluation_mode import evaluating

logger = logging.get_logger(__name__)

# Number of initial steps in which the learning rate grows.
WARMUP = 10
# Number of texts, or batches, whose keys give the centroids.
START_TEXTS = 32


@dataclass
class AttentionTransfer:
    """Result of a transfer.

    Errors are relative L2 errors of the layers' attention, one per layer in the model's order. They are measured on
    text that was not used for training (if there was more than one batch), with softmax's inputs for each layer.

    Attributes:
        layers: names of the layers' maps.
        before: errors of the maps at the first step.
        after: errors at the end.
        curve: (step, errors) from step 0 on.
        steps: number of steps; fewer than requested if an iterator or the time ran out.
        kinds: kind of each layer's final map, "learned" or the name of the rival.
    """

    layers: list[str]
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    curve: list[tuple[int, list[float]]] = field(default_factory=list)
    steps: int = 0
    kinds: list[str] = field(default_factory=list)


def transfer_attention(
    model: Any,
    texts: Iterable[Any],
    tokenizer: Any = None,
    *,
    held_out: Iterable[Any] | None = None,
    steps: int = 300,
    learning_rate: float = 3e-2,
    batch_size: int = 8,
    max_length: int | None = None,
    evaluate_every: int = 50,
    new_start: bool = True,
    rival: str | None = "low_order",
    minutes: float | None = None,
    collate: Any = None,
    seed: int = 0,
    quiet: bool = False,
) -> AttentionTransfer:
    """Train a model's learned maps in place to give each layer the output of its softmax.

    Args:
        model: a model with maps of the kind "learned", from `use_performer` or of type performer_bert, in float32 or
            float64. Layers with other attention are skipped.
        texts: strings, if there is a tokenizer, or batches: mappings of tensors, the model's inputs. A list is read
            repeatedly, strings in a new order each time; an iterator once.
        tokenizer: makes batches of `batch_size` texts of at most `max_length` tokens; by default 256, or the model's
            maximum if that is less.
        held_out: more of the same kind, for measuring errors. None: the first batch of `texts`, which is then not used
            for training unless it is the only one.
        steps: number of steps, one batch each.
        learning_rate: learning rate of Adam, after a warm-up of 10 steps, with cosine decay to 0.
        evaluate_every: steps between two points of the curve.
        new_start: whether to start from centroids of the keys of the first texts, instead of the current maps.
        rival: kind of map, calibrated, that a layer gets if it is closer to softmax than the trained one on two
            batches of the texts: low orders suit attention that is not peaked. None: no rival. There is also none if
            there is too little text to calibrate it, or in a Performer BERT, whose layers all have the same kind of
            map.
        minutes: time limit for starting a step (the final evaluation comes on top); the rate decays by steps or time,
            whichever is further along. The number of steps then depends on the machine.
        collate: makes batches of tokenised texts, for example masked ones; by default they are only padded.
        seed: seed of the order of texts.
        quiet: whether to hide the progress.

    Returns:
        The errors before, after and during training.

    Raises:
        InputError: the model has no learned maps, is in half precision, or has several tasks; there is nothing to
            train on; an option is out of range; or the loss is no longer finite.
    """
    maps = _learned_maps(model)
    for name, value, least in (("steps", steps, 0), ("batch_size", batch_size, 1),
                               ("evaluate_every", evaluate_every, 1)):  # fmt: skip
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    if not 0 < learning_rate < math.inf:
        raise InputError(f"learning_rate must be a positive number, got {learning_rate}")
    if rival is not None and rival not in FEATURE_MAPS:
        raise InputError(f"rival must be one of {', '.join(FEATURE_MAPS)}, or None, got {rival!r}")
    if isinstance(texts, str) or isinstance(held_out, str):
        raise InputError("expected several texts, got a single string: put texts into a list")

    clock = Clock(steps, minutes)
    cut = Batches(tokenizer, batch_size, text_length(model, tokenizer, max_length), collate)
    once = iter(texts) is texts
    source: Iterable[Any] = texts if once or not isinstance(texts, Iterable) else list(texts)
    stream = iter(source)
    if held_out is None:
        held_out_batches = cut.take(stream, 1)
        if not once:
            rest = source[cut.size :]  # type: ignore[index]  # a list, since it is not an iterator
            source = rest or source
    else:
        held_out_batches = list(cut(held_out))
    if not held_out_batches:
        raise InputError("attention transfer needs at least one text, got none")
    # Calibration texts are also used for training, and never for measuring errors.
    first = cut.take(stream if once else iter(source), max(1, START_TEXTS // cut.size))
    calibration = first or held_out_batches
    if new_start:
        calibrate_performer(model, calibration)

    parameters = [parameter for _, part in maps.values() for parameter in part.parameters()]
    wanted = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, betas=(0.9, 0.98))
    result = AttentionTransfer([name for name, _ in maps.values()])
    progress = tqdm(total=steps, desc="attention transfer", unit="step", disable=quiet)
    batches = itertools.chain(first, cut(stream)) if once else repeated_batches(cut, source, seed)
    modes = contextlib.ExitStack()
    modes.enter_context(evaluating(model))
    try:
        result.before = _errors(model, maps, held_out_batches)
        result.curve.append((0, result.before))
        for step in range(1, steps + 1):
            batch = next(batches, None)
            if batch is None or clock.share(step - 1) >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * clock.rate(step - 1)
            optimizer.zero_grad()
            loss = _backward(model, maps, batch)
            if not math.isfinite(loss):
                raise InputError(
                    f"attention transfer: the loss is {loss} at step {step}; lower learning_rate ({learning_rate})"
                )
            optimizer.step()
            result.steps = step
            progress.update()
            progress.set_postfix_str(f"error {math.sqrt(loss):.3f}", refresh=False)
            if step % evaluate_every == 0 and step < steps:
                result.curve.append((step, _errors(model, maps, held_out_batches)))
        result.kinds = ["learned"] * len(maps)
        if rival is not None and isinstance(getattr(model.config, SETTING, None), Mapping):
            comparison = calibration[-2:] if once else cut.take(reversed(source), 2)  # type: ignore[call-overload]  # a list
            result.kinds = _choose_maps(model, maps, rival, calibration, comparison)
        result.after = _errors(model, {module: _maps(model)[module] for module in maps}, held_out_batches)
        result.curve.append((result.steps, result.after))
    finally:
        progress.close()
        for parameter, was in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(was)
            parameter.grad = None
        modes.close()
        # Includes the maps that replaced others.
        for module, (_, found) in _maps(model).items():
            found.train(module.training)
    return result


def text_length(model: Any, tokenizer: Any, max_length: int | None) -> int:
    """Return the number of tokens per text, by `row_length`.

    Raises:
        InputError: `max_length` exceeds the model's maximum, or the model has several tasks and gets texts.
    """
    try:
        if tokenizer is not None:
            refuse_several_tasks(model)
        return row_length(model, tokenizer, max_length)
    except ValueError as error:
        raise InputError(str(error)) from None


class Clock:
    """The elapsed share of a training, by steps or by time, whichever is further along.

    Args:
        minutes: time limit, from now on; None for no limit.
        together: whether several processes train one model. The time of the first one then counts for all, because
            otherwise some would stop and others wait for them forever. All must make the same calls.
    """

    def __init__(self, steps: int, minutes: float | None = None, together: bool = False) -> None:
        if minutes is not None and not minutes > 0:
            raise InputError(f"minutes must be a positive number, got {minutes}")
        self.steps, self.seconds, self.began = steps, None if minutes is None else 60 * minutes, time.monotonic()
        self.together = together

    def share(self, step: int) -> float:
        """Return the elapsed share after a number of steps; 1 or more at the end."""
        by_steps = step / max(1, self.steps)
        # Before the first step the process group may not exist yet.
        return by_steps if self.seconds is None or not step else max(by_steps, self._passed() / self.seconds)

    def _passed(self) -> float:
        passed = [time.monotonic() - self.began]
        if self.together and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast_object_list(passed, src=0)
        return passed[0]

    def rate(self, step: int) -> float:
        """Return the factor of the learning rate at a step, from 0: linear warm-up to 1, then cosine decay to 0."""
        return min(1.0, (step + 1) / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, self.share(step))))


class Batches:
    """Makes batches of a model's inputs, from texts by a tokenizer, or passes them on.

    Args:
        size, max_length: texts per batch, tokens per text.
        collate: makes a batch of tokenised texts; None pads them.
    """

    def __init__(self, tokenizer: Any, size: int, max_length: int, collate: Any = None) -> None:
        self.tokenizer, self.max_length, self.collate = tokenizer, max_length, collate
        self.size = 1 if tokenizer is None else size

    def __call__(self, texts: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
        stream = iter(texts)
        while batch := self.take(stream, 1):
            yield batch[0]

    def take(self, stream: Iterator[Any], number: int) -> list[Mapping[str, Any]]:
        """Return the next batches, at most `number`."""
        taken = []
        for _ in range(number):
            rows = list(itertools.islice(stream, self.size))
            if not rows:
                break
            taken.append(self._batch(rows))
        return taken

    def _batch(self, rows: list[Any]) -> Mapping[str, Any]:
        if self.tokenizer is None:
            if not isinstance(rows[0], Mapping):
                raise InputError(
                    f"a batch must be a mapping of the model's inputs, got {type(rows[0]).__name__}; texts need a "
                    "tokenizer"
                )
            batch: Mapping[str, Any] = rows[0]
            return batch
        wrong = next((row for row in rows if not isinstance(row, str)), None)
        if wrong is not None:
            raise InputError(f"a text must be a string, got {type(wrong).__name__}; pass batches without a tokenizer")
        options = {"truncation": True, "max_length": self.max_length}
        if self.collate is not None:
            batch = self.collate([self.tokenizer(row, **options) for row in rows])
            return batch
        batch = self.tokenizer(rows, padding=True, return_tensors="pt", **options)
        return batch


def repeated_batches(cut: Batches, source: Any, seed: int) -> Iterator[Mapping[str, Any]]:
    """Yield the batches of a list repeatedly, in a new order each time."""
    generator = torch.Generator().manual_seed(seed)
    while source:
        order = torch.randperm(len(source), generator=generator).tolist()
        yield from cut(source[i] for i in order)


Maps = dict[nn.Module, tuple[str, Any]]


def _learned_maps(model: Any) -> Maps:
    """Return the learned maps by their attention modules."""
    maps: Maps = {}
    for name, module in model.named_modules():
        found = module._modules.get(MAP_NAME)
        if isinstance(found, LearnedMap):
            maps[module] = (name, found)
    if not maps:
        raise InputError(
            "the model has no learned feature maps: add them with kexue_hf.use_performer(model, 'learned'), or load a "
            "Performer BERT with feature_map='learned'"
        )
    dtype = next(next(iter(maps.values()))[1].parameters()).dtype
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"maps are trained in float32, these are {dtype}: load the model with dtype='float32'")
    return maps


def _maps(model: Any) -> Maps:
    """Return all maps by their attention modules."""
    return {
        module: (name, module._modules[MAP_NAME])
        for name, module in model.named_modules()
        if isinstance(module._modules.get(MAP_NAME), FeatureMap)
    }


def _choose_maps(
    model: Any, maps: Maps, rival: str, calibration: list[Mapping[str, Any]], comparison: list[Mapping[str, Any]]
) -> list[str]:
    """Give each layer the rival if it is closer to softmax; return the kind of each of `maps`."""
    trained_errors = _errors(model, maps, comparison)
    settings = dict(getattr(model.config, SETTING))
    rivals: Maps = {}
    for module, (name, trained) in maps.items():
        made = create_feature_map(
            rival, trained.head_dim, trained.num_features, trained.num_heads, settings.get("norm", "chi"), trained.seed
        )
        rivals[module] = name, made.to(trained.key_mean.device)
    kinds = ["learned"] * len(maps)
    # Calibration must not change the maps of other layers.
    others = {part: was for part, was in _maps(model).items() if part not in maps}
    for part in others:
        part._modules.pop(MAP_NAME)
    for module, (_, made) in rivals.items():
        setattr(module, MAP_NAME, made)
    try:
        try:
            calibrate_performer(model, calibration)
        except ValueError as error:
            # Too little text for the rival is no reason to lose the trained maps.
            logger.warning("all layers keep the maps that were trained, %s is not compared: %s", rival, error)
            return kinds
        for i, (trained_error, rival_error) in enumerate(
            zip(trained_errors, _errors(model, rivals, comparison), strict=True)
        ):
            if rival_error < trained_error:
                kinds[i] = rival
    finally:
        for kind, (module, (_, trained)) in zip(kinds, maps.items(), strict=True):
            if kind == "learned":
                setattr(module, MAP_NAME, trained)
        for part, (_, was) in others.items():
            setattr(part, MAP_NAME, was)
    if rival in kinds:
        places = {module: number for number, module in enumerate(attention_modules(model).values())}
        before = settings["feature_map"]
        chosen = [before] * len(places) if isinstance(before, str) else list(before)
        for module, kind in zip(maps, kinds, strict=True):
            chosen[places[module]] = kind
        setattr(model.config, SETTING, {**settings, "feature_map": chosen})
    return kinds


def _squares(
    found: FeatureMap,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    real: torch.Tensor | None,
    scaling: float,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the squared error and squared output of each head, over real positions."""
    allowed = None if real is None else real[:, None, None, :]
    if causal:
        past = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        allowed = past if allowed is None else allowed & past
    exact = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed, scale=scaling)
    output = linear_attention(query, key, value, found, key_mask=real, scaling=scaling, causal=causal)
    if real is not None:
        # Rows of padding may contain anything, NaN included.
        exact, output = (states.masked_fill(~real[:, None, :, None], 0.0) for states in (exact, output))
    return (output - exact).square().sum((0, 2, 3)), exact.square().sum((0, 2, 3))


def _backward(model: Any, maps: Maps, batch: Mapping[str, Any]) -> float:
    """Add the gradients of one batch to the maps; return the mean loss of all heads."""
    losses = []

    def look(module: nn.Module, *shown: Any) -> None:
        if module in maps:
            with torch.enable_grad():
                error, size = _squares(maps[module][1], *shown)
                loss = (error / size.clamp_min(torch.finfo(size.dtype).tiny)).mean()
                loss.backward()
            losses.append(float(loss.detach()))

    with torch.no_grad(), observed_softmax(look):
        model(**_inputs(batch, model.device))
    return sum(losses) / max(1, len(losses))


@torch.no_grad()
def _errors(model: Any, maps: Maps, batches: Iterable[Mapping[str, Any]]) -> list[float]:
    """Return the relative L2 error of each layer, all heads together."""
    sums = {module: torch.zeros(2, dtype=torch.float64) for module in maps}

    def look(module: nn.Module, *shown: Any) -> None:
        if module in maps:
            squares = _squares(maps[module][1], *shown)
            sums[module] += torch.stack([side.double().sum().cpu() for side in squares])

    with observed_softmax(look):
        for batch in batches:
            model(**_inputs(batch, model.device))
    return [float((error / size.clamp_min(1e-300)).sqrt()) for error, size in sums.values()]


def _inputs(batch: Mapping[str, Any], device: Any) -> dict[str, Any]:
    """Return the inputs without labels, since the model's own loss is not needed."""
    return on_device({name: states for name, states in batch.items() if name != "labels"}, device)


__all__ = ["AttentionTransfer", "text_length", "transfer_attention"]
