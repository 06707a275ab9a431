"""Reads a `bert_config.json`, as Google's BERT and bert4keras have it, into the fields of our configuration."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kexue_hf.conversion.weight_table import WeightMap
from kexue_hf.errors import ConversionError
from kexue_hf.regular_file import read_regular

# What the tensors do not tell. `export` writes them, `convert` looks at them, bert4keras passes over unknown keys.
HINTS = ("architectures", "classifier_pooling", "correction", "id2label", "pooling", "task_names")
_LARGEST = 1 << 24
# What fits into a shape.
_LARGEST_SIZE = (1 << 63) - 1

# What is read from any JSON file beside weights, and its type; null says nothing. Other keys are looked at where they
# are used.
_TYPES: dict[str, tuple[type, type | None, str]] = {
    "added_tokens": (list, dict, "a list of tokens with id and content"),
    "added_tokens_decoder": (dict, None, "an object"),
    "architectures": (list, str, "a list of names"),
    "auto_map": (dict, None, "an object"),
    "classifier_pooling": (str, None, "a text"),
    "id2label": (dict, None, "an object"),
    "model_type": (str, None, "a text"),
    "pooling": (str, None, "a text"),
    "position_embedding_type": (str, None, "a text"),
    "tie_word_embeddings": (bool, None, "true or false"),
    "user_words": (list, str, "a list of words"),
    "vocab_fingerprint": (str, None, "a text"),
}
# Whose texts are tokens, which are looked at one by one.
_OF_TOKENS = ("added_tokens", "added_tokens_decoder", "model")


@dataclass(frozen=True)
class SourceConfig:
    """The raw JSON object, the fields that our configuration takes from it, and the keys that were not understood."""

    raw: dict[str, Any]
    fields: dict[str, Any]
    ignored: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """The integers: what shapes are made of."""
        return {key: value for key, value in self.fields.items() if isinstance(value, int)}


def load_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file with one JSON object.

    Raises:
        ConversionError: it is none, a key that is used has a value of another type, or a text is no valid Unicode.
    """
    try:
        value = json.loads(read_regular(path, _LARGEST, ConversionError).decode("utf-8-sig"))
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConversionError):
            raise
        raise ConversionError(
            f"{path}: not a JSON file: {error}; expected a configuration like bert_config.json"
        ) from None
    if not isinstance(value, dict):
        raise ConversionError(f"{path}: expected a JSON object of settings, got a {type(value).__name__}")
    try:
        texts = {key: item for key, item in value.items() if key not in _OF_TOKENS}
        json.dumps(texts, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ConversionError(f"{path}: a text in it has half a surrogate pair, which is no character") from None
    for key, (kind, inner, expected) in _TYPES.items():
        found = value.get(key)
        items = found if isinstance(found, list) and inner else ()
        wrong = next((item for item in items if not isinstance(item, inner or object)), None)
        if (found is not None and not isinstance(found, kind)) or wrong is not None:
            got = wrong if isinstance(found, kind) else found
            raise ConversionError(f"{path}: {key} should be {expected}, got {got!r:.60}")
    return value


def read_config(
    path: str | os.PathLike[str], table: WeightMap, task_names: Sequence[str] | None = None
) -> SourceConfig:
    """Translate a configuration.

    Args:
        task_names: what a matcher's tasks are called, whatever the file says.

    Raises:
        ConversionError: it is not JSON, lacks a key, has a value of the wrong kind, or describes another network.
    """
    raw = load_json_object(path)
    if task_names is not None:
        raw = {key: value for key, value in raw.items() if key != "num_tasks"} | {"task_names": list(task_names)}
    values = {table.CONFIG_ALIASES.get(key, key): value for key, value in raw.items()}
    missing = [key for key in table.CONFIG_REQUIRED if key not in values]
    if missing:
        raise ConversionError(
            f"{path}: lacks {', '.join(missing)}; expected the configuration that came with the checkpoint"
        )
    fields: dict[str, Any] = {key: values[key] for key in table.CONFIG_REQUIRED}
    fields |= {key: values.get(key, default) for key, default in table.CONFIG_OPTIONAL.items()}
    fields |= {key: values[key] for key in table.CONFIG_READ_OFF if key in values}
    for key, value in fields.items():
        default = table.CONFIG_OPTIONAL.get(key, 1)
        if key == "hidden_act":
            fields[key] = _activation(path, value, table)
        elif isinstance(default, int):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST_SIZE:
                raise ConversionError(f"{path}: {key} should be a positive whole number, got {value!r:.60}")
        elif not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise ConversionError(f"{path}: {key} should be a number from 0 to below 1, got {value!r:.60}")
    if "num_tasks" in table.CONFIG_READ_OFF and "task_names" in raw:
        fields["num_tasks"] = _count_names(path, raw["task_names"], fields.get("num_tasks"))
    divisor = fields["num_attention_heads"] * table.HEAD_SIZE_MULTIPLE
    if fields["hidden_size"] % divisor:
        times = f"{table.HEAD_SIZE_MULTIPLE} times " if table.HEAD_SIZE_MULTIPLE > 1 else ""
        raise ConversionError(
            f"{path}: hidden_size {fields['hidden_size']} is not a multiple of {times}num_attention_heads "
            f"{fields['num_attention_heads']}"
        )
    for key, other in table.CONFIG_EQUAL.items():
        if values.get(key) not in (None, fields[other]):
            raise ConversionError(
                f"{path}: {key} is {values[key]!r:.60}, a {table.FAMILY} model has {other} {fields[other]}"
            )
    for key in table.CONFIG_OFF:
        if values.get(key):
            raise ConversionError(
                f"{path}: {key} is {values[key]!r:.60}, which is another network than {table.FAMILY}"
            )
    used = {*fields, *table.CONFIG_EQUAL, *table.CONFIG_OFF, *table.CONFIG_TELLING, *HINTS}
    return SourceConfig(raw, fields, tuple(sorted(key for key in values if key not in used)))


def _count_names(path: str | os.PathLike[str], names: object, count: int | None) -> int:
    """The number of tasks by their names; ConversionError if they are not such, or not `count`."""
    right = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not isinstance(names, list) or not right or not names or len(set(names)) != len(names):
        raise ConversionError(f"{path}: task_names should be a list of different names, got {names!r:.60}")
    if count not in (None, len(names)):
        raise ConversionError(f"{path}: num_tasks is {count}, and task_names are {len(names)}")
    return len(names)


def _activation(path: str | os.PathLike[str], value: object, table: WeightMap) -> str:
    name = table.ACTIVATIONS.get(value) if isinstance(value, str) else None
    if name is None:
        raise ConversionError(f"{path}: hidden_act should be one of {', '.join(table.ACTIVATIONS)}, got {value!r:.60}")
    return name
