"""What a saved tokenizer has beyond its `vocab.txt`: added tokens, words for the segmenter, whether it lower-cases."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_hf.conversion.source_config import load_json_object
from kexue_hf.errors import ConversionError

FILES = ("tokenizer_config.json", "added_tokens.json")


@dataclass(frozen=True)
class SavedTokenizer:
    """The added tokens by their ids, those that repeat a line of `vocab.txt` included, and the two settings."""

    added: dict[int, str]
    user_words: tuple[str, ...]
    do_lower_case: bool


def read_tokenizer(folder: Path) -> SavedTokenizer:
    """Read what `save_pretrained` wrote; a file that is not there says nothing.

    Raises:
        ConversionError: a file is not what transformers writes.
    """
    path, older = (folder / name for name in FILES)
    fields = load_json_object(path) if path.is_file() else {}
    added: dict[int, str] = {}
    # The older file first: where both have an id, transformers believes the newer one.
    if older.is_file():
        added |= {_id(older, index): _text(older, token) for token, index in load_json_object(older).items()}
    rows = fields.get("added_tokens_decoder") or {}
    for index, row in rows.items():
        added[_id(path, index)] = _text(path, row.get("content") if isinstance(row, dict) else row)
    words = fields.get("user_words") or []
    return SavedTokenizer(added, tuple(words), bool(fields.get("do_lower_case", True)))


def _id(path: Path, value: Any) -> int:
    try:
        index = int(value)
    except (TypeError, ValueError):
        index = -1
    if index < 0:
        raise ConversionError(f"{path}: an added token should have an id from 0 on, got {value!r:.60}")
    return index


def _text(path: Path, value: Any) -> str:
    if not isinstance(value, str):
        raise ConversionError(f"{path}: a token should be a text, got {value!r:.60}")
    return value
