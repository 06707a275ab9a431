"""Names of a NEZHA's tensors: WoBERT's, without positions.

`weight_map_wobert.py` explains each table. This file does not travel to the Hub, so it may build on another model's
tables.
"""

from typing import Any

from kexue_hf.models.wobert import weight_map_wobert as bert

FAMILY = "nezha"
MODEL_TYPE = "nezha"
KERAS_MODEL = "nezha"

TOKENIZERS: dict[str, str] = {
    "words": "wobert/tokenization_wobert.WoBertTokenizer",
    "characters": "BertTokenizer",
}
TOKENIZER_FIELDS = bert.TOKENIZER_FIELDS
SPECIAL_TOKENS = bert.SPECIAL_TOKENS
NETWORK_IDS = bert.NETWORK_IDS
FIXED_VOCABULARIES = bert.FIXED_VOCABULARIES


def _own(name: str) -> str:
    return "nezha." + name.removeprefix("bert.") if name.startswith("bert.") else name


_POSITIONS = "bert.embeddings.position_embeddings.weight"

PARAMETERS = {_own(name): row for name, row in bert.PARAMETERS.items() if name != _POSITIONS}
TENSORFLOW = {
    theirs: (_own(name), transposed) for theirs, (name, transposed) in bert.TENSORFLOW.items() if name != _POSITIONS
}
KERAS = {
    layer: tuple((endings, _own(name), transposed) for endings, name, transposed in row)
    for layer, row in bert.KERAS.items()
    if layer != "Embedding-Position"
}
KERAS_HEAD = bert.KERAS_HEAD
KERAS_HEAD_LAYER = bert.KERAS_HEAD_LAYER
KERAS_ORDER = bert.KERAS_ORDER
KERAS_NUMBERED = bert.KERAS_NUMBERED

DROPPED_TENSORFLOW = (
    *bert.DROPPED_TENSORFLOW,
    (r".*/relative_position\w*(/.*)?", "constant table of relative positions"),
)
DROPPED_KERAS = (*bert.DROPPED_KERAS, (r"Embedding-Relative-Position/.*", "constant table of relative positions"))

PARTS_NEED = bert.PARTS_NEED
ARCHITECTURES = tuple((parts, name.replace("WoBert", "Nezha")) for parts, name in bert.ARCHITECTURES)
CLASSIFIERS = tuple(name.replace("WoBert", "Nezha") for name in bert.CLASSIFIERS)

DERIVED_SAVED: dict[str, str] = {}
DERIVED_KERAS: dict[str, str] = {"Embedding-Relative-Position": "relative_sinusoids"}
DERIVED_TENSORFLOW = bert.DERIVED_TENSORFLOW

BASE_PREFIX = "nezha."
TWINS = {twin: _own(name) for twin, name in bert.TWINS.items()}
# Buffers that transformers 4 and other implementations stored.
BUFFERS = (
    r"(nezha\.)?embeddings\.(position_ids|token_type_ids)",
    r"(nezha\.)?encoder\.layer\.\d+\.attention\.self\.relative_position\w*(\.\w+)?",
)

CONFIG_DERIVED = bert.CONFIG_DERIVED
CONFIG_FIXED: dict[str, Any] = {}
POOLINGS = bert.POOLINGS
CONFIG_REQUIRED = bert.CONFIG_REQUIRED
CONFIG_OPTIONAL: dict[str, float | int] = {**bert.CONFIG_OPTIONAL, "max_relative_position": 64}
CONFIG_ALIASES = bert.CONFIG_ALIASES
CONFIG_READ_OFF = bert.CONFIG_READ_OFF
ACTIVATIONS = bert.ACTIVATIONS
CONFIG_EQUAL = bert.CONFIG_EQUAL
CONFIG_OFF = tuple(key for key in bert.CONFIG_OFF if key != "use_relative_position")
HEAD_SIZE_MULTIPLE = 2
CONFIG_TELLING: dict[str, Any] = {"use_relative_position": True}
CAVEAT: str = ""
ORIGINAL = bert.ORIGINAL
