"""The vocabulary of weights that were trained with bert4keras' `keep_tokens` (and perhaps `compound_tokens`).

Such weights have embeddings of the kept tokens only, while the configuration and the vocabulary beside them are those
of the whole model.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from kexue_hf.errors import InputError

_LARGEST = 1 << 26
_EXPECTED = (
    "expected the ids of keep_tokens: numbers separated by white space, a JSON list of numbers, or the list that "
    "bert4keras' scripts save: [token_dict, keep_tokens]"
)


def kept_vocabulary(path: str | os.PathLike[str], vocabulary: Sequence[str]) -> list[str]:
    """Return the kept tokens in the order of their new ids.

    Args:
        path: a file of ids, in one of the formats that `_EXPECTED` lists.
        vocabulary: the tokens of the whole vocabulary.

    Raises:
        InputError: the file cannot be read, has another format, or has ids that the vocabulary lacks.
    """
    value = _read(path)
    added: list[str] = []
    if isinstance(value, list) and len(value) > 1 and isinstance(value[0], dict):
        # [token_dict, keep_tokens]; tokens that compound_tokens added come last in token_dict.
        tokens, value = value[0], value[1]
        if not isinstance(value, list) or sorted(tokens.values(), key=str) != sorted(range(len(tokens)), key=str):
            raise InputError(f"{path}: {_EXPECTED}")
        added = sorted(tokens, key=tokens.__getitem__)[len(value) :]
    if not isinstance(value, list) or not value or not all(type(index) is int for index in value):
        raise InputError(f"{path}: {_EXPECTED}")
    wrong = next((index for index in value if not 0 <= index < len(vocabulary)), None)
    if wrong is not None:
        raise InputError(
            f"{path}: has the id {wrong}, but the vocabulary has {len(vocabulary)} tokens; give the vocabulary from "
            "which the ids were chosen (--vocab)"
        )
    if len(set(value)) != len(value):
        raise InputError(f"{path}: has an id twice; expected every id once")
    return [*(vocabulary[index] for index in value), *added]


def is_selection(rows: Sequence[int], vocab_size: int, wrong: int) -> bool:
    """Return whether weights look as if they were trained with `keep_tokens`.

    Args:
        rows: the number of rows of each vocabulary tensor.
        vocab_size: the vocabulary size in the configuration.
        wrong: the number of tensors that do not fit the configuration; only the vocabulary tensors may be among them.
    """
    return len(rows) == wrong and len(set(rows)) == 1 and 1 < rows[0] < vocab_size - 1


def _read(path: str | os.PathLike[str]) -> Any:
    try:
        if not os.path.isfile(path):
            raise InputError(f"{path}: no such file (--keep-tokens)")
        if os.path.getsize(path) > _LARGEST:
            raise InputError(f"{path}: too large for a list of ids; {_EXPECTED}")
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror} (--keep-tokens)") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; {_EXPECTED}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        words = text.split()
        return [int(word) for word in words] if all(map(_is_number, words)) else None


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 10


__all__ = ["is_selection", "kept_vocabulary"]
