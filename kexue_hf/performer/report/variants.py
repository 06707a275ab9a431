"""Run a model with softmax and with linear attention by several variants of maps, and compare the results."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from kexue_hf.models.performer_bert.favor_performer_bert import MAP_NAME, SOFTMAX_MARK
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FeatureMap
from kexue_hf.performer.attention_modules import attention_modules
from kexue_hf.performer.layer_comparison import LayerComparison, observed_softmax

Batch = dict[str, torch.Tensor]
Maps = dict[str, FeatureMap]


class BothAttentions:
    """A model copy whose layers use linear attention and whose maps may be replaced.

    Attributes:
        modules: attention modules by name, in the model's order.
        maps: their maps, by the same names; layers without one keep softmax.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.modules = attention_modules(model)
        self.maps: Maps = {
            name: getattr(module, MAP_NAME)
            for name, module in self.modules.items()
            if isinstance(getattr(module, MAP_NAME, None), FeatureMap) and not getattr(module, SOFTMAX_MARK, False)
        }
        trunk = getattr(model, "base_model", model)
        self._trunk = trunk

    def set_maps(self, maps: Mapping[str, FeatureMap]) -> None:
        """Make exactly these layers linear, with these maps."""
        for name, module in self.modules.items():
            module.__dict__.pop(SOFTMAX_MARK, None)
            if name in maps:
                setattr(module, MAP_NAME, maps[name])
            else:
                setattr(module, SOFTMAX_MARK, True)

    def states(self, batch: Batch) -> list[torch.Tensor]:
        """Return the hidden states of every layer, or only the last if they do not match the attention layers."""
        inputs = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
        found = self._trunk(**inputs, output_hidden_states=True, return_dict=True)
        states = getattr(found, "hidden_states", None)
        if states is None or len(states) != len(self.modules) + 1:
            return [found.last_hidden_state]
        return [*states[1:-1], found.last_hidden_state]

    def loss(self, pairs: Iterable[tuple[Batch, torch.Tensor]]) -> float | None:
        """Return nats per label over all batches, or None if the model has no word scores."""
        total, count = 0.0, 0
        for batch, labels in pairs:
            inputs = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
            logits = getattr(self.model(**inputs, return_dict=True), "logits", None)
            if logits is None or logits.dim() != 3 or logits.shape[:2] != labels.shape:
                return None
            wanted = labels != -100
            scores = logits[wanted.to(logits.device)].float()
            total += float(nn.functional.cross_entropy(scores, labels[wanted].to(scores.device), reduction="sum"))
            count += int(wanted.sum())
        return total / count if count else None


@dataclasses.dataclass
class Difference:
    """Difference of a variant from softmax, summed over batches: each layer's states, and the mean-pooled vectors."""

    errors: list[float] = dataclasses.field(default_factory=list)
    sizes: list[float] = dataclasses.field(default_factory=list)
    cosines: list[float] = dataclasses.field(default_factory=list)

    def add(self, states: list[torch.Tensor], exact: list[torch.Tensor], mask: torch.Tensor) -> None:
        self.errors = self.errors or [0.0] * len(exact)
        self.sizes = self.sizes or [0.0] * len(exact)
        for number, (found, expected) in enumerate(zip(states, exact, strict=True)):
            real = mask.bool().to(expected.device)
            self.errors[number] += float((found[real].double() - expected[real].double()).square().sum())
            self.sizes[number] += float(expected[real].double().square().sum())
        vectors, wanted = pooled(states[-1], mask), pooled(exact[-1], mask)
        self.cosines += torch.cosine_similarity(vectors, wanted, dim=-1).tolist()

    def relative(self) -> list[float]:
        """Return the relative L2 error of every layer's states."""
        return [
            (error / size) ** 0.5 if size else float("nan")
            for error, size in zip(self.errors, self.sizes, strict=True)
        ]


def pooled(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over real tokens: [batch, length, hidden] -> [batch, hidden], float64."""
    real = mask.to(states.device).bool()[..., None]
    return states.double().masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp_min(1)


@torch.no_grad()
def compare_variants(
    both: BothAttentions, batches: Iterable[Batch], variants: Mapping[str, Maps]
) -> tuple[dict[str, LayerComparison], dict[str, Difference], torch.Tensor]:
    """Compare each variant with softmax.

    Returns:
        A comparison of each layer by name, with the errors of each variant's maps; the difference of each variant,
        linear wherever it has a map; and softmax's pooled vectors, [passages, hidden].
    """
    names = {id(module): name for name, module in both.modules.items()}
    seen = {
        name: LayerComparison({variant: maps[name] for variant, maps in variants.items() if name in maps})
        for name in both.modules
    }
    differences = {variant: Difference() for variant in variants}
    vectors = []

    def look(module: nn.Module, *shown: Any) -> None:
        seen[names[id(module)]].add(*shown)

    for batch in batches:
        mask = batch["attention_mask"]
        with observed_softmax(look):
            exact = both.states(batch)
        vectors.append(pooled(exact[-1], mask))
        for variant, maps in variants.items():
            both.set_maps(maps)
            differences[variant].add(both.states(batch), exact, mask)
    return seen, differences, torch.cat(vectors)


@torch.no_grad()
def compare_variant(both: BothAttentions, batches: Iterable[Batch], maps: Maps) -> Difference:
    """Compare a single variant with softmax."""
    difference = Difference()
    for batch in batches:
        with softmax():
            exact = both.states(batch)
        both.set_maps(maps)
        difference.add(both.states(batch), exact, batch["attention_mask"])
    return difference


def softmax() -> Any:
    """Make every layer compute softmax within the block."""
    return observed_softmax(lambda *_: None)


def each_variant(both: BothAttentions, variants: Mapping[str, Maps]) -> Iterator[str]:
    """Yield the variants' names, each while the model has that variant's maps."""
    for variant, maps in variants.items():
        both.set_maps(maps)
        yield variant


__all__ = [
    "BothAttentions",
    "Difference",
    "Maps",
    "compare_variant",
    "compare_variants",
    "each_variant",
    "pooled",
    "softmax",
]
