"""List the weights that a folder lacks although its class has them.

transformers initialises such weights at random and only prints a table.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kexue_hf.conversion.families import convertible, load_weight_map
from kexue_hf.conversion.weight_plan import canonical, count_layers, expand, modern_name

# The parts on top of the encoder, by the ending of the class name.
_HEADS: dict[str, tuple[str, ...]] = {
    "ForPreTraining": ("mlm", "nsp", "pooler"),
    "ForMaskedLM": ("mlm",),
    "ForCausalLM": ("mlm",),
    "ForNextSentencePrediction": ("nsp", "pooler"),
    "ForSequenceClassification": ("classifier",),
    "ForMultipleChoice": ("classifier",),
    "ForTokenClassification": ("classifier",),
    "ForQuestionAnswering": ("spans",),
}
_ON_POOLER = ("ForSequenceClassification", "ForMultipleChoice")
# Model types without a weight map -> the family with the same parameters.
_LIKE = {"performer_bert": "wobert"}


def missing_weights(config: Mapping[str, Any], stored: Iterable[str]) -> list[str]:
    """Return the parameters that the configured class has and that are not stored.

    Args:
        config: the content of config.json; for an unknown model type the result is empty.
        stored: the names of the stored tensors.
    """
    kind = config.get("model_type")
    family = _LIKE.get(str(kind), str(kind))
    if family not in convertible():
        return []
    weight_map = load_weight_map(family)
    stored = [modern_name(name) for name in stored]
    layers = config.get("num_hidden_layers")
    asked = layers if isinstance(layers, int) and layers > 0 else 0
    # One layer beyond those stored is enough to report. A damaged num_hidden_layers must not fill the memory.
    found = count_layers(weight_map.PARAMETERS, [*stored, *(weight_map.BASE_PREFIX + name for name in stored)])
    parameters = expand(weight_map.PARAMETERS, {"num_hidden_layers": min(asked, len(found) + 1)})
    known = (*parameters, *weight_map.TWINS)
    own = {canonical(weight_map, name, known) for name in stored}
    own |= {weight_map.TWINS[name] for name in own if name in weight_map.TWINS}
    parts = _parts(config)
    return [
        name
        for name, (part, _) in parameters.items()
        if part in parts and name not in own and not _is_unconditioned(config, name)
    ]


def _parts(config: Mapping[str, Any]) -> set[str]:
    """Return the parts that the first architecture of the configuration has; "encoder" alone if it is unknown."""
    parts = {"encoder"}
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    ending = next((ending for ending in _HEADS if name.endswith(ending)), "")
    parts.update(_HEADS.get(ending, ()))
    if ending in _ON_POOLER and config.get("classifier_pooling", "pooler") == "pooler":
        parts.add("pooler")
    if name.endswith("Model") and config.get("add_pooling_layer", True):
        parts.add("pooler")
    if config.get("position_embedding_type") == "absolute":
        parts.add("positions")
    return parts


def _is_unconditioned(config: Mapping[str, Any], name: str) -> bool:
    """Return whether a parameter belongs to the task conditions, which a matcher folded to one task lacks."""
    return config.get("conditional") is False and (name.endswith("_kernel") or "task_embeddings" in name)


__all__ = ["missing_weights"]
