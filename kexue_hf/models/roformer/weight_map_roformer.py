"""Names of a RoFormer's tensors: WoBERT's, without positions, with the heads of transformers' RoFormer.

`weight_map_wobert.py` explains each table. transformers' own classes (`RoFormerForMaskedLM`) open the result, so it
holds the rotation table that they save, and no code of ours except the word tokenizer.
"""

from typing import Any

from kexue_hf.models.wobert import weight_map_wobert as bert

FAMILY = "roformer"
MODEL_TYPE = "roformer"
KERAS_MODEL = "roformer"

TOKENIZERS: dict[str, str] = {
    "words": "wobert/tokenization_wobert.WoBertTokenizer",
    "characters": "BertTokenizer",
}
TOKENIZER_FIELDS = bert.TOKENIZER_FIELDS
SPECIAL_TOKENS = bert.SPECIAL_TOKENS
NETWORK_IDS = bert.NETWORK_IDS
FIXED_VOCABULARIES = bert.FIXED_VOCABULARIES

_PARTS = ("encoder", "mlm")


def _own(name: str) -> str:
    return "roformer." + name.removeprefix("bert.") if name.startswith("bert.") else name


def _has(name: str) -> bool:
    return "position_embeddings" not in name and bert.PARAMETERS[name][0] in _PARTS


PARAMETERS = {_own(name): row for name, row in bert.PARAMETERS.items() if _has(name)}
TENSORFLOW = {theirs: (_own(name), transposed) for theirs, (name, transposed) in bert.TENSORFLOW.items() if _has(name)}
KERAS = {
    layer: tuple((endings, _own(name), transposed) for endings, name, transposed in row)
    for layer, row in bert.KERAS.items()
    if all(_has(name) for _, name, _ in row)
}
# transformers' classifier has two layers, the scripts' has one.
KERAS_HEAD: tuple[tuple[tuple[str, ...], str, bool], ...] = ()
KERAS_HEAD_LAYER = ""
KERAS_ORDER: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = ()
KERAS_NUMBERED = bert.KERAS_NUMBERED

_NO_POOLER = "transformers' RoFormer has neither a pooler nor a next-sentence head"
DROPPED_TENSORFLOW = (*bert.DROPPED_TENSORFLOW, (r"(bert/pooler|cls/seq_relationship)/.*", _NO_POOLER))
DROPPED_KERAS = (*bert.DROPPED_KERAS, (r"(Pooler-Dense|NSP-Proba)/.*", _NO_POOLER))

PARTS_NEED: dict[str, tuple[str, ...]] = {}
ARCHITECTURES: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"mlm"}), "RoFormerForMaskedLM"),
    (frozenset(), "RoFormerModel"),
)
CLASSIFIERS: tuple[str, ...] = ()

DERIVED_SAVED: dict[str, str] = {"roformer.encoder.embed_positions.weight": "rotary_sinusoids"}
DERIVED_KERAS: dict[str, str] = {}
DERIVED_TENSORFLOW = bert.DERIVED_TENSORFLOW

BASE_PREFIX = "roformer."
TWINS = {twin: _own(name) for twin, name in bert.TWINS.items()}
BUFFERS = (r"(roformer\.)?encoder\.embed_positions\.weight",)

# transformers' own configuration keeps unknown keys, such as the vocabulary fingerprint.
CONFIG_DERIVED: tuple[str, ...] = ()
CONFIG_FIXED: dict[str, Any] = {"rotary_value": False}
POOLINGS = bert.POOLINGS
CONFIG_REQUIRED = bert.CONFIG_REQUIRED
CONFIG_OPTIONAL = bert.CONFIG_OPTIONAL
CONFIG_ALIASES = bert.CONFIG_ALIASES
CONFIG_READ_OFF = bert.CONFIG_READ_OFF
ACTIVATIONS = bert.ACTIVATIONS
CONFIG_EQUAL = bert.CONFIG_EQUAL
CONFIG_OFF = (*bert.CONFIG_OFF, "rotary_value")
HEAD_SIZE_MULTIPLE = 2
CONFIG_TELLING: dict[str, Any] = {}
CAVEAT = (
    "no positions are stored and the configuration does not mention relative ones, so it was read as a RoFormer; "
    "if it is a NEZHA, run again with --family nezha"
)
ORIGINAL = bert.ORIGINAL
