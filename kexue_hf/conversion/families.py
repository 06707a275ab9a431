"""Recognise a checkpoint's family by the names and shapes of its tensors.

With the wrong family's weight map, tensors might fit and mean something else.
"""

import importlib
import re
from collections.abc import Mapping
from typing import Any, cast

from kexue_hf.conversion.formats.weight_source import StoredTensor
from kexue_hf.conversion.weight_map import WeightMap
from kexue_hf.conversion.weight_plan import foreign_layout
from kexue_hf.errors import ConversionError, InputError

# family: (description, module of its weight map)
FAMILIES: dict[str, tuple[str, str]] = {
    "wobert": ("BERT layout (WoBERT, WoBERT+)", "kexue_hf.models.wobert.weight_map_wobert"),
    "nezha": ("NEZHA, relative positions (WoNEZHA)", "kexue_hf.models.nezha.weight_map_nezha"),
    "roformer": ("RoFormer, rotary positions", "kexue_hf.models.roformer.weight_map_roformer"),
    "tta": ("T-TA, every token predicted in one pass", "kexue_hf.models.tta.weight_map_tta"),
    "cln_matcher": (
        "a matcher with conditional layer normalization",
        "kexue_hf.models.cln_matcher.weight_map_cln_matcher",
    ),
    "xiangqi_gpt": ("a Chinese-chess language model", "kexue_hf.models.xiangqi_gpt.weight_map_xiangqi_gpt"),
}

_WORD = ("bert/embeddings/word_embeddings", "Embedding-Token/embeddings:0")
_LAYERS = ("bert/encoder/layer_0/...", "Transformer-0-MultiHeadSelfAttention")
_LAYER = re.compile(r"bert/encoder/layer_\d+/|Transformer-\d+-(MultiHeadSelfAttention|FeedForward)")
_SEGMENT = ("bert/embeddings/token_type_embeddings", "Embedding-Segment/embeddings:0")
_POSITION = ("bert/embeddings/position_embeddings", "Embedding-Position/embeddings:0")
# With 20 characters or 91 squares.
_XIANGQI_TOKENS = (20, 91)
# (recognised family, requested family)
_ACCEPTED = (
    # bert4keras does not read use_relative_position, so a NEZHA's configuration may lack it.
    ("roformer", "nezha"),
    # A Chinese-chess model can start from a BERT; any small BERT may have as many tokens as a Chinese-chess model.
    ("wobert", "xiangqi_gpt"),
    ("xiangqi_gpt", "wobert"),
)


def described(family: str) -> str:
    """Return the name of a family with its description."""
    return f"{family} ({FAMILIES[family][0]})"


class OtherFamilyError(ConversionError):
    """A checkpoint is not of the expected family. `found` describes the family that it looks like."""

    def __init__(self, wanted: str, found: str) -> None:
        self.found = described(found)
        super().__init__(f"expected a {wanted} (--family), but the checkpoint looks like {self.found}")


def load_weight_map(family: str) -> WeightMap:
    """Return the weight map of a family.

    Raises:
        InputError: there is no such family.
    """
    if family not in FAMILIES:
        raise InputError(f"unknown family {family!r}; choose one of auto, {', '.join(convertible())}")
    return cast(WeightMap, importlib.import_module(FAMILIES[family][1]))


def recognise(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> str:
    """Return the family of a checkpoint.

    Args:
        tensors: the stored tensors of a TensorFlow checkpoint or a Keras file.
        config: its raw configuration. It decides between families with the same tensors: a NEZHA sets
            use_relative_position, as its original code requires; a RoFormer has no key for positions.

    Raises:
        ConversionError: the family is unknown.
    """
    tokens = number_of_tokens(tensors)
    if not tokens:
        if any(name.endswith("/.ATTRIBUTES/VARIABLE_VALUE") for name in tensors):
            raise ConversionError(
                "the checkpoint holds tf.keras objects, whose tensors have no layer names; load it in tf.keras and "
                "save it with model.save_weights to an .h5 file, or as bert4keras saves a checkpoint"
            )
        raise ConversionError(
            f"no word embeddings ({_WORD[0]} or Embedding-Token) among the {len(tensors)} tensors of the checkpoint: "
            f"{foreign_layout(tensors)}"
        )
    if not any(_LAYER.match(name) for name in tensors):
        layers = [name for name in tensors if "embedding" not in name.lower()] or tensors
        raise ConversionError(
            f"no layer of the checkpoint has a name like {' or '.join(_LAYERS)}: {foreign_layout(layers)}"
        )
    segments = any(name in tensors for name in _SEGMENT)
    positions = any(name in tensors for name in _POSITION)
    if sum(name.startswith("Embedding-Norm/") for name in tensors) > 2:
        return "cln_matcher"
    if tokens in _XIANGQI_TOKENS:
        return "xiangqi_gpt"
    if positions and segments:
        return "nezha" if config.get("use_relative_position") else "wobert"
    if positions:
        return "tta"
    return "nezha" if config.get("use_relative_position") else "roformer"


def number_of_tokens(tensors: Mapping[str, StoredTensor]) -> int:
    """Return the number of word embeddings of a checkpoint; 0 if it has none."""
    shape = next((tensors[name].shape for name in _WORD if name in tensors), ())
    return shape[0] if shape else 0


def has_masked_lm(weight_map: WeightMap) -> bool:
    """Return whether a family has a masked language model."""
    return any(architecture.endswith("ForMaskedLM") for _, architecture in weight_map.ARCHITECTURES)


def choose(family: str, tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> WeightMap:
    """Return the weight map of the given family, or with "auto" of the recognised one.

    Raises:
        ConversionError, InputError: as `recognise` and `load_weight_map`; or the checkpoint looks like another family.
    """
    if family != "auto":
        weight_map = load_weight_map(family)
        found = recognise(tensors, config)
        if found != family and (found, family) not in _ACCEPTED:
            raise OtherFamilyError(family, found)
        return weight_map
    return load_weight_map(recognise(tensors, config))


def convertible() -> list[str]:
    """Return the families that this version converts."""
    return list(FAMILIES)
