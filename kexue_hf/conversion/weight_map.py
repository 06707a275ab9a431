"""The interface of a family's weight map, `models/<type>/weight_map_<type>.py`."""

from typing import Any, Protocol

Slot = tuple[tuple[str, ...], str, bool]
"""A weight of a Keras layer: possible endings of its name, its name in the model, whether it is transposed."""


class WeightMap(Protocol):
    """The contents of a `weight_map_*` module; `models/wobert/weight_map_wobert.py` explains each table."""

    FAMILY: str
    MODEL_TYPE: str
    KERAS_MODEL: str
    TOKENIZERS: dict[str, str]
    TOKENIZER_FIELDS: dict[str, Any]
    SPECIAL_TOKENS: dict[str, tuple[str, bool]]
    NETWORK_IDS: dict[str, int]
    FIXED_VOCABULARIES: dict[int, tuple[str, ...]]
    PARAMETERS: dict[str, tuple[str, tuple[str | int, ...]]]
    TENSORFLOW: dict[str, tuple[str, bool]]
    KERAS: dict[str, tuple[Slot, ...]]
    KERAS_HEAD: tuple[Slot, ...]
    KERAS_HEAD_LAYER: str
    KERAS_ORDER: tuple[tuple[frozenset[str], tuple[str, ...]], ...]
    KERAS_NUMBERED: tuple[str, ...]
    DROPPED_TENSORFLOW: tuple[tuple[str, str], ...]
    DROPPED_KERAS: tuple[tuple[str, str], ...]
    PARTS_NEED: dict[str, tuple[str, ...]]
    ARCHITECTURES: tuple[tuple[frozenset[str], str], ...]
    CLASSIFIERS: tuple[str, ...]
    DERIVED_SAVED: dict[str, str]
    DERIVED_KERAS: dict[str, str]
    DERIVED_TENSORFLOW: dict[str, str]
    BASE_PREFIX: str
    TWINS: dict[str, str]
    BUFFERS: tuple[str, ...]
    CONFIG_DERIVED: tuple[str, ...]
    CONFIG_FIXED: dict[str, Any]
    POOLINGS: tuple[str, ...]
    HEAD_SIZE_MULTIPLE: int
    CONFIG_TELLING: dict[str, Any]
    CAVEAT: str
    ORIGINAL: str
    CONFIG_REQUIRED: tuple[str, ...]
    CONFIG_OPTIONAL: dict[str, float | int]
    CONFIG_ALIASES: dict[str, str]
    CONFIG_READ_OFF: dict[str, tuple[str, int]]
    CONFIG_EQUAL: dict[str, str]
    CONFIG_OFF: tuple[str, ...]
    ACTIVATIONS: dict[str, str]
