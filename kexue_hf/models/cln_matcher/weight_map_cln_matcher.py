"""Names of a matcher's tensors in bert4keras' Keras files: WoBERT's, plus the conditions.

`weight_map_wobert.py` explains each table. The Sohu 2021 baseline (github.com/bojone/sohu2021-baseline) saves such a
file with `model.save_weights`: a RoFormer with `layer_norm_cond`, whose layer norms hold the kernels of the shift and
of the scale after their own two weights; the task embeddings; a dense layer over the mean. A BERT variant also has
positions. bert4keras saves no TensorFlow checkpoint of it, because its table of variables lacks the kernels.
"""

from typing import Any

from kexue_hf.models.roformer import weight_map_roformer as roformer
from kexue_hf.models.wobert import weight_map_wobert as bert

FAMILY = "cln_matcher"
MODEL_TYPE = "cln_matcher"
KERAS_MODEL = "roformer"

TOKENIZERS = roformer.TOKENIZERS
TOKENIZER_FIELDS = bert.TOKENIZER_FIELDS
SPECIAL_TOKENS = bert.SPECIAL_TOKENS
NETWORK_IDS = bert.NETWORK_IDS
FIXED_VOCABULARIES = bert.FIXED_VOCABULARIES

_TASKS = "bert.task_embeddings.weight"
_POSITIONS = "bert.embeddings.position_embeddings.weight"
_CONDITION = ("hidden_size", "task_embedding_size")


def _with_kernels(name: str) -> tuple[str, ...]:
    return (name, f"{name}_kernel") if "LayerNorm" in name else (name,)


PARAMETERS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    _TASKS: ("encoder", ("num_tasks", "task_embedding_size")),
    **{
        own: ("positions" if name == _POSITIONS else part, _CONDITION if own.endswith("_kernel") else shape)
        for name, (part, shape) in bert.PARAMETERS.items()
        if part in ("encoder", "classifier")
        for own in _with_kernels(name)
    },
}
TENSORFLOW: dict[str, tuple[str, bool]] = {}


def _row(row: tuple[tuple[tuple[str, ...], str, bool], ...]) -> tuple[tuple[tuple[str, ...], str, bool], ...]:
    kernels = tuple((("kernel",), f"{name}_kernel", True) for _, name, _ in row if "LayerNorm" in name)
    return (*row, *kernels)


_KERAS = {layer: _row(row) for layer, row in bert.KERAS.items() if all(name in PARAMETERS for _, name, _ in row)}
# Stands for any name Keras gave the layer. It comes where Keras lists it: layers are sorted by their distance from the
# outputs, and the baseline has a Reshape between this layer and the norms.
_TASKS_LAYER = "embedding_1"
_BEFORE = ("Embedding-Token", "Embedding-Segment")
KERAS: dict[str, tuple[tuple[tuple[str, ...], str, bool], ...]] = {
    **{layer: _KERAS[layer] for layer in _BEFORE},
    _TASKS_LAYER: ((("embeddings",), _TASKS, False),),
    **{layer: row for layer, row in _KERAS.items() if layer not in _BEFORE},
}
KERAS_NUMBERED: tuple[str, ...] = (_TASKS_LAYER,)
KERAS_HEAD = bert.KERAS_HEAD
KERAS_HEAD_LAYER = bert.KERAS_HEAD_LAYER
KERAS_ORDER: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = ()

DROPPED_TENSORFLOW: tuple[tuple[str, str], ...] = ()
DROPPED_KERAS = bert.DROPPED_KERAS

PARTS_NEED: dict[str, tuple[str, ...]] = {}
ARCHITECTURES: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"classifier"}), "ClnMatcherForSequenceClassification"),
    (frozenset(), "ClnMatcherModel"),
)
CLASSIFIERS: tuple[str, ...] = ()

DERIVED_SAVED: dict[str, str] = {}
DERIVED_KERAS: dict[str, str] = {}
DERIVED_TENSORFLOW: dict[str, str] = {}

BASE_PREFIX = bert.BASE_PREFIX
TWINS: dict[str, str] = {}
BUFFERS: tuple[str, ...] = ()

CONFIG_DERIVED: tuple[str, ...] = (
    "auto_map",
    "num_tasks",
    "pooling",
    "position_embedding_type",
    "task_embedding_size",
    "task_names",
)
CONFIG_FIXED: dict[str, Any] = {"conditional": True}
POOLINGS: tuple[str, ...] = ("mean", "cls")
CONFIG_REQUIRED = bert.CONFIG_REQUIRED
CONFIG_OPTIONAL = bert.CONFIG_OPTIONAL
CONFIG_ALIASES = bert.CONFIG_ALIASES
# Sizes that the original's configuration lacks, read off a tensor: (parameter, axis).
CONFIG_READ_OFF: dict[str, tuple[str, int]] = {"num_tasks": (_TASKS, 0), "task_embedding_size": (_TASKS, 1)}
ACTIVATIONS = bert.ACTIVATIONS
CONFIG_EQUAL = bert.CONFIG_EQUAL
CONFIG_OFF = (*bert.CONFIG_OFF, "rotary_value")
# A matcher with BERT's positions has no rotation, so its head size need not be even.
HEAD_SIZE_MULTIPLE = 1
CONFIG_TELLING: dict[str, Any] = {}
CAVEAT: str = ""
ORIGINAL = bert.ORIGINAL
