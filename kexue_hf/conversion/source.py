"""Find and read the files of a source: the checkpoint, its configuration and its vocabulary.

The kind of a file is decided by its first bytes, not by its name. Files that can hold code (pickles and archives of
them) are recognised and refused; nothing here loads one.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from kexue_hf.conversion.weight_map import WeightMap
from kexue_hf.errors import CheckpointError, ConversionError, InputError, printable
from kexue_hf.files.model_folder import adapter_or_training
from kexue_hf.files.regular_file import open_regular, read_regular
from kexue_hf.models.wobert import weight_map_wobert
from kexue_hf.models.wobert.vocabulary_wobert import (
    count_chinese_words,
    is_one_field,
    vocabulary_fingerprint,
    vocabulary_lines,
)

# Settings that tensors do not reveal. `export` writes them and `convert` reads them; bert4keras ignores unknown keys.
HINTS = ("architectures", "classifier_pooling", "correction", "id2label", "pooling", "task_names")
_LARGEST = 1 << 24
# The largest size that a tensor shape can hold.
_LARGEST_SIZE = (1 << 63) - 1

# Key -> (type, type of list items, description) of the settings read from any JSON file; null counts as absent.
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
# These hold tokens, which are checked one by one.
_OF_TOKENS = ("added_tokens", "added_tokens_decoder", "model")


@dataclass(frozen=True)
class SourceConfig:
    """The raw JSON object, the fields that our configuration takes from it, and the keys that it does not use."""

    raw: dict[str, Any]
    fields: dict[str, Any]
    ignored: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """The integer fields, which shapes are made of."""
        return {key: value for key, value in self.fields.items() if isinstance(value, int)}


def load_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ConversionError: the file is not JSON or not an object, a setting has the wrong type, or a text is not valid
            Unicode.
    """
    try:
        value = json.loads(read_regular(path, _LARGEST, ConversionError).decode("utf-8-sig"))
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConversionError):
            raise
        raise ConversionError(f"{path}: not a JSON file: {error}; expected one object, {{...}}") from None
    if not isinstance(value, dict):
        raise ConversionError(f"{path}: expected a JSON object of settings, got a {type(value).__name__}")
    try:
        texts = {key: item for key, item in value.items() if key not in _OF_TOKENS}
        json.dumps(texts, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ConversionError(f"{path}: expected valid Unicode, got a text with half a surrogate pair") from None
    for key, (kind, inner, expected) in _TYPES.items():
        found = value.get(key)
        items = found if isinstance(found, list) and inner else ()
        wrong = next((item for item in items if not isinstance(item, inner or object)), None)
        if (found is not None and not isinstance(found, kind)) or wrong is not None:
            got = wrong if isinstance(found, kind) else found
            raise ConversionError(f"{path}: {key} should be {expected}, got {got!r:.60}")
    return value


def read_config(
    path: str | os.PathLike[str], weight_map: WeightMap, task_names: Sequence[str] | None = None
) -> SourceConfig:
    """Read a `bert_config.json`, as Google's BERT and bert4keras write it, into the fields of our configuration.

    Args:
        task_names: names of a matcher's tasks; they override the file.

    Raises:
        ConversionError: the file is not JSON, lacks a key, has a wrong value, or describes another network.
    """
    raw = load_json_object(path)
    if task_names is not None:
        raw = {key: value for key, value in raw.items() if key != "num_tasks"} | {"task_names": list(task_names)}
    values = {weight_map.CONFIG_ALIASES.get(key, key): value for key, value in raw.items()}
    missing = [key for key in weight_map.CONFIG_REQUIRED if key not in values]
    if missing:
        raise ConversionError(
            f"{path}: lacks {', '.join(missing)}; expected the configuration that came with the checkpoint"
        )
    fields: dict[str, Any] = {key: values[key] for key in weight_map.CONFIG_REQUIRED}
    fields |= {key: values.get(key, default) for key, default in weight_map.CONFIG_OPTIONAL.items()}
    fields |= {key: values[key] for key in weight_map.CONFIG_READ_OFF if key in values}
    for key, value in fields.items():
        default = weight_map.CONFIG_OPTIONAL.get(key, 1)
        if key == "hidden_act":
            fields[key] = _activation(path, value, weight_map)
        elif isinstance(default, int):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST_SIZE:
                raise ConversionError(f"{path}: {key} should be a positive whole number, got {value!r:.60}")
        elif not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise ConversionError(f"{path}: {key} should be a number from 0 to below 1, got {value!r:.60}")
    if "num_tasks" in weight_map.CONFIG_READ_OFF and "task_names" in raw:
        fields["num_tasks"] = _count_names(path, raw["task_names"], fields.get("num_tasks"))
    divisor = fields["num_attention_heads"] * weight_map.HEAD_SIZE_MULTIPLE
    if fields["hidden_size"] % divisor:
        times = f"{weight_map.HEAD_SIZE_MULTIPLE} times " if weight_map.HEAD_SIZE_MULTIPLE > 1 else ""
        raise ConversionError(
            f"{path}: hidden_size {fields['hidden_size']} is not a multiple of {times}num_attention_heads "
            f"{fields['num_attention_heads']}"
        )
    for key, other in weight_map.CONFIG_EQUAL.items():
        if values.get(key) not in (None, fields[other]):
            raise ConversionError(
                f"{path}: {key} is {values[key]!r:.60}, expected {other} {fields[other]}, as in a {weight_map.FAMILY}"
            )
    for key in weight_map.CONFIG_OFF:
        if values.get(key):
            raise ConversionError(f"{path}: {key} is {values[key]!r:.60}, which a {weight_map.FAMILY} does not have")
    used = {*fields, *weight_map.CONFIG_EQUAL, *weight_map.CONFIG_OFF, *weight_map.CONFIG_TELLING, *HINTS}
    return SourceConfig(raw, fields, tuple(sorted(key for key in values if key not in used)))


def _count_names(path: str | os.PathLike[str], names: object, count: int | None) -> int:
    """Return the number of task names; ConversionError if they are invalid or not `count`."""
    right = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not isinstance(names, list) or not right or not names or len(set(names)) != len(names):
        raise ConversionError(f"{path}: task_names should be a list of different names, got {names!r:.60}")
    if count not in (None, len(names)):
        raise ConversionError(f"{path}: num_tasks is {count}, but there are {len(names)} task_names")
    return len(names)


def _activation(path: str | os.PathLike[str], value: object, weight_map: WeightMap) -> str:
    name = weight_map.ACTIVATIONS.get(value) if isinstance(value, str) else None
    if name is None:
        raise ConversionError(
            f"{path}: hidden_act should be one of {', '.join(weight_map.ACTIVATIONS)}, got {value!r:.60}"
        )
    return name


# Without a recorded fingerprint, at most this many rows without a token count as padding.
MAX_PADDING = 127

_BERT = cast(WeightMap, weight_map_wobert)


@dataclass(frozen=True)
class SourceVocabulary:
    """Token -> id, the fingerprint that models record, the special tokens by role, and the kind of the tokens.

    `kind` is "words", "characters", or "pieces" for families with a single tokenizer; it selects the tokenizer.
    """

    ids: dict[str, int]
    fingerprint: str
    special: dict[str, str | None]
    kind: str

    @property
    def has_words(self) -> bool:
        """Whether the tokens are words."""
        return self.kind == "words"


def read_vocabulary(
    path: str | os.PathLike[str],
    size: int | None,
    authority: str = "the configuration says vocab_size",
    weight_map: WeightMap = _BERT,
) -> SourceVocabulary:
    """Read a vocabulary file.

    Args:
        size: the expected number of lines; None accepts any.
        authority: what requires this size, for the message.
        weight_map: weight map of the family, which names the special tokens.

    Raises:
        ConversionError: the file has another number of lines, is not UTF-8, or lacks a special token.
    """
    tokens = read_tokens(path, weight_map)
    if size is not None and len(tokens) != size:
        raise ConversionError(
            f"{path}: has {len(tokens)} tokens, {authority} {size}; give the vocabulary that the weights were trained "
            "with (--vocab)"
        )
    return source_vocabulary(path, {token: index for index, token in enumerate(tokens)}, weight_map=weight_map)


def read_tokens(path: str | os.PathLike[str], weight_map: WeightMap = _BERT) -> list[str]:
    """Return the token of each line of a vocabulary file, as the family's original code reads it.

    Raises:
        ConversionError: the file cannot be read, or is not UTF-8.
    """
    try:
        return vocabulary_lines(path, first_field=weight_map.ORIGINAL == _BERT.ORIGINAL)
    except (OSError, ValueError) as error:
        raise ConversionError(f"{getattr(error, 'strerror', None) or error} ({path})") from None


def source_vocabulary(
    path: str | os.PathLike[str], ids: dict[str, int], kind: str | None = None, weight_map: WeightMap = _BERT
) -> SourceVocabulary:
    """Return a vocabulary, given token -> id.

    Args:
        path: the file that it came from, for messages.
        kind: "words" or "characters"; None counts Chinese words of two or more characters, which character BERTs do
            not have. A user's words need not be purely Chinese ("T恤").
        weight_map: weight map of the family. A family with a single tokenizer has a single kind.

    Raises:
        ConversionError: a special token is missing.
    """
    missing = [token for token, needed in weight_map.SPECIAL_TOKENS.values() if needed and token not in ids]
    if missing:
        raise ConversionError(
            f"{path}: lacks {', '.join(missing)}; expected a {weight_map.FAMILY} vocabulary, one token a line"
        )
    special = {role: token if token in ids else None for role, (token, _) in weight_map.SPECIAL_TOKENS.items()}
    if len(weight_map.TOKENIZERS) == 1:
        (kind,) = weight_map.TOKENIZERS
    kind = kind or ("words" if count_chinese_words(ids) else "characters")
    return SourceVocabulary(ids, vocabulary_fingerprint(sorted(ids, key=ids.__getitem__)), special, kind)


def language_of(vocabulary: SourceVocabulary) -> str | None:
    """Return the language that the tokens suggest, "zh" or "en"; None if neither."""
    if vocabulary.kind != "pieces":
        return "zh"
    tokens = [token for token in vocabulary.ids if token not in vocabulary.special.values()]
    if sum(any("\u4e00" <= char <= "\u9fff" for char in token) for token in tokens) * 5 > len(tokens):
        return "zh"
    return "en" if sum(map(str.isascii, tokens)) * 10 > 9 * len(tokens) else None


def filler(index: int, taken: set[str]) -> str:
    """Return an unused name such as [unused7] for a row without a token, and add it to `taken`."""
    while f"[unused{index}]" in taken:
        index += 1
    taken.add(f"[unused{index}]")
    return f"[unused{index}]"


def tokens_by_id(ids: dict[str, int]) -> list[str]:
    """Return a token for each id from 0 to the highest; ids without a token get a filler."""
    tokens, taken = {index: token for token, index in ids.items()}, set(ids)
    return [tokens[index] if index in tokens else filler(index, taken) for index in range(max(tokens, default=-1) + 1)]


def line_problem(token: str) -> str | None:
    """Return why a token cannot be a line of `vocab.txt`, where it would shift later ids; None if it can."""
    if "\n" in token or token.rstrip("\r") != token:
        return "has a line end in it"
    if not is_one_field(token):
        return "has white space in it"
    return "is no valid Unicode" if any("\ud800" <= char <= "\udfff" for char in token) else None


_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP, _GZIP, _PICKLE = b"PK\x03\x04", b"\x1f\x8b", b"\x80"
_PARTS = re.compile(r"(.+)\.(index|meta|data-\d{5}-of-\d{5})")
_KERAS_ENDINGS = (".h5", ".hdf5", ".weights")
_TRANSFORMERS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_DEEPEST = 2
_LARGEST_STATE = 1 << 20


@dataclass(frozen=True)
class SourceFiles:
    """A checkpoint with its configuration and vocabulary.

    `kind` is "tensorflow" (`path` is the prefix), "keras" (an HDF5 file) or "safetensors" (a transformers folder).
    """

    kind: str
    path: Path
    config: Path
    vocab: Path


def find_source(
    source: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
) -> SourceFiles:
    """Find the files of a source.

    Args:
        source: an unpacked folder of an original, a checkpoint prefix or one of a checkpoint's files, or a Keras file.
        config, vocab: the configuration and the vocabulary, if they are not beside it.

    Raises:
        CheckpointError: there is no checkpoint, or its format is not supported.
        InputError: there are several checkpoints, or the configuration or the vocabulary is missing.
    """
    if not os.fspath(source):
        raise InputError("SOURCE is empty; name a folder, a checkpoint prefix or a Keras file")
    path = Path(source)
    if path.is_dir():
        kind, path = _in_folder(path)
    else:
        kind, path = _from_path(path)
    return SourceFiles(
        kind,
        path,
        _companion(
            config, path, "--config", "configuration", ("bert_config.json", "config.json"), r".*config.*\.json"
        ),
        _companion(vocab, path, "--vocab", "vocabulary", ("vocab.txt",), r".*vocab.*\.txt"),
    )


def _from_path(path: Path) -> tuple[str, Path]:
    match = _PARTS.fullmatch(path.name)
    prefix = path.with_name(match.group(1)) if match else path
    if match or Path(f"{path}.index").exists():
        return "tensorflow", prefix
    if path.exists():
        return "keras", _check_hdf5(path)
    if _siblings(path, rf"{re.escape(path.name)}\.data-.*"):
        raise CheckpointError(f"{path}.index: missing; keep all files of a checkpoint (.index, .data-...) together")
    raise CheckpointError(f"{path}: no such file, folder or checkpoint prefix")


def _in_folder(folder: Path, depth: int = 0) -> tuple[str, Path]:
    found = _candidates(folder)
    if not found and depth < _DEEPEST:
        below = [child for child in sorted(folder.iterdir()) if child.is_dir() and _holds_checkpoint(child, depth + 1)]
        if len(below) == 1:
            return _in_folder(below[0], depth + 1)
        if below:
            raise InputError(f"{folder}: holds several checkpoints, in {_listed(below)}; name one of them")
    if not found:
        orphans = _siblings(folder / "x", r".+\.data-\d{5}-of-\d{5}")
        if orphans:
            prefix = _PARTS.fullmatch(orphans[0].name)
            raise CheckpointError(
                f"{folder / (prefix.group(1) if prefix else '')}.index: missing; it is the index of the checkpoint "
                f"with the data file {orphans[0].name}"
            )
        has_config = (folder / "config.json").is_file()
        weights = [name for name in _TRANSFORMERS if (folder / name).exists()]
        if not weights and not has_config and (reason := adapter_or_training(folder)):
            raise CheckpointError(reason)
        hint = (
            "expected bert_model.ckpt.index and bert_model.ckpt.data-... (TensorFlow), an .h5/.weights file (Keras), "
            "or config.json and model.safetensors (transformers)"
        )
        if weights:
            hint = f"it has {weights[0]}, but no config.json"
            if has_config:
                hint = "it is a transformers folder with its own config.json; leave out --config"
        raise CheckpointError(f"{folder}: holds no checkpoint: {hint}")
    if len(found) > 1:
        named = _named_by_state_file(folder)
        found = [(kind, path) for kind, path in found if kind == "tensorflow" and path.name == named] or found
    if len(found) > 1:
        names = _listed([path for _, path in found])
        raise InputError(f"{folder}: holds several checkpoints ({names}); name one of them")
    kind, path = found[0]
    return kind, path if kind == "tensorflow" else _check_hdf5(path)


def _candidates(folder: Path) -> list[tuple[str, Path]]:
    try:
        names = sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read: {error.strerror}") from None
    prefixes = [("tensorflow", path.with_suffix("")) for path in names if path.suffix == ".index"]
    return prefixes + [("keras", path) for path in names if path.suffix in _KERAS_ENDINGS and path.is_file()]


def _holds_checkpoint(folder: Path, depth: int) -> bool:
    if _candidates(folder):
        return True
    return depth < _DEEPEST and any(
        _holds_checkpoint(child, depth + 1) for child in folder.iterdir() if child.is_dir()
    )


def _named_by_state_file(folder: Path) -> str | None:
    """Return the checkpoint that TensorFlow's `checkpoint` file names as the latest; None if it names none."""
    try:
        text = read_regular(folder / "checkpoint", _LARGEST_STATE).decode("utf-8")
    except (OSError, ValueError):
        return None
    match = re.search(r'^model_checkpoint_path:\s*"([^"\n]*)"', text, re.MULTILINE)
    return os.path.basename(match.group(1)) if match else None


def _check_hdf5(path: Path) -> Path:
    """Return the path of an HDF5 file; raise CheckpointError for any other file."""
    try:
        with open_regular(path, error=CheckpointError) as file:
            start = file.read(8)
            # HDF5 allows a user block of 512, 1024, 2048, ... bytes in front.
            offset = 512
            while start != _HDF5 and offset < min(os.fstat(file.fileno()).st_size, 1 << 20):
                file.seek(offset)
                if file.read(8) == _HDF5:
                    return path
                offset *= 2
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    if start == _HDF5:
        return path
    what = "is not an HDF5 file, and there is no TensorFlow checkpoint of that name"
    if start.startswith(_PICKLE):
        what = f"is a Python pickle, which can run code and is never loaded here{_pytorch_hint(path)}"
    elif start.startswith(_ZIP):
        what = (
            f"is a zip archive that may hold a pickle and is not loaded here{_pytorch_hint(path)}"
            if path.suffix != ".zip"
            else "is a zip archive; unpack it first, and give the folder"
        )
    elif start.startswith(_GZIP):
        what = "is a compressed file; unpack it first"
    elif not start:
        what = "is empty"
    elif path.suffix == ".safetensors":
        what = "is a transformers file; give the folder that holds it, config.json and vocab.txt"
    raise CheckpointError(f"{path}: {what}; expected a TensorFlow checkpoint or Keras weights (.h5, .weights)")


def _pytorch_hint(path: Path) -> str:
    known = path.suffix in (".bin", ".pt", ".pth")
    return "; for PyTorch, give the folder with pytorch_model.bin, config.json and vocab.txt" if known else ""


def _companion(
    given: str | os.PathLike[str] | None, path: Path, option: str, what: str, names: tuple[str, ...], pattern: str
) -> Path:
    if given is not None:
        if not Path(given).exists():
            raise InputError(f"{given}: no such file (the {what}, {option})")
        return _regular(Path(given))
    for name in names:
        if path.with_name(name).exists():
            return _regular(path.with_name(name))
    others = [
        other for other in _siblings(path, pattern) if other.is_file() and not other.name.startswith("tokenizer")
    ]
    if len(others) == 1:
        return others[0]
    listed = f" ({len(others)} files could be it)" if others else ""
    raise InputError(f"{path.with_name(names[0])}: missing{listed}; name the {what} of the checkpoint with {option}")


def _regular(path: Path) -> Path:
    """Return the path of a regular file; raise InputError for anything else."""
    try:
        open_regular(path).close()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return path


def _siblings(path: Path, pattern: str) -> list[Path]:
    if not path.parent.is_dir():
        return []
    return sorted(other for other in path.parent.iterdir() if re.fullmatch(pattern, other.name))


def _listed(paths: list[Path]) -> str:
    return ", ".join(printable(path.name) for path in paths[:8]) + (", ..." if paths[8:] else "")
