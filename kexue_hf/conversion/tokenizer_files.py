"""The vocabulary of a HuggingFace folder: `vocab.txt`, or the one inside `tokenizer.json`, and the added tokens.

transformers 5 saves a BERT tokenizer as `tokenizer.json` alone; its WordPiece vocabulary is read from there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_hf.conversion.families import convertible, load_weight_map
from kexue_hf.conversion.saved_tokenizer import read_tokenizer
from kexue_hf.conversion.saved_vocabulary import SourceVocabulary, read_vocabulary, source_vocabulary
from kexue_hf.conversion.source_config import load_json_object
from kexue_hf.conversion.weight_table import WeightMap
from kexue_hf.errors import ConversionError, InputError

_CONFIG = "tokenizer_config.json"
_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")


@dataclass(frozen=True)
class FolderVocabulary:
    """A tokenizer's vocabulary with its added tokens, and what else of it lives on.

    `base` is the vocabulary without them, token -> id; `added` maps a token to its flags as an `AddedToken` has them.
    """

    path: Path
    vocabulary: SourceVocabulary
    base: dict[str, int]
    added: dict[str, dict[str, bool]]
    user_words: tuple[str, ...]
    do_lower_case: bool


def read_folder_vocabulary(
    folder: Path, vocab: Path | None, rows: int, table: WeightMap | None = None
) -> FolderVocabulary:
    """Read what lies in a folder whose model has `rows` embeddings.

    Args:
        vocab: a `vocab.txt` from elsewhere, instead of the folder's own.
        table: of the model's family, by default the one that config.json names.

    Raises:
        InputError: there is no vocabulary. ConversionError: it is not one of BERT's kind, or not this model's.
    """
    path = vocab or next(
        (folder / name for name in ("vocab.txt", "tokenizer.json") if (folder / name).is_file()), None
    )
    if path is None:
        raise InputError(
            f"{folder}: has no vocabulary, neither vocab.txt nor tokenizer.json; words are made of its tokens, so put "
            "it there, or name it with --vocab"
        )
    if not path.exists():
        raise InputError(f"{path}: no such file (the vocabulary, --vocab)")
    settings = load_json_object(folder / _CONFIG) if (folder / _CONFIG).is_file() else {}
    table = table or _table_of(folder)
    added: dict[int, dict[str, Any]] = {}
    if path.suffix == ".json":
        raw = load_json_object(path)
        ids = _word_pieces(path, raw)
        added |= _added_in_json(path, raw)
    else:
        ids = read_vocabulary(path, None, table=table).ids
        if vocab is None and (folder / "tokenizer.json").is_file():
            added |= _added_in_json(folder / "tokenizer.json", load_json_object(folder / "tokenizer.json"))
    saved = read_tokenizer(folder)
    given = settings.get("added_tokens_decoder") or {}
    for index, token in saved.added.items():
        flags = given.get(str(index))
        added[index] = {"content": token} | (flags if isinstance(flags, dict) else {})
    base, ids = ids, dict(ids)
    for index, row in sorted(added.items()):
        ids.setdefault(row["content"], index)
    beyond = max(ids.values(), default=-1) + 1
    if beyond > rows:
        raise ConversionError(
            f"{path}: has {beyond} tokens, the model has embeddings for {rows}; give the vocabulary that the weights "
            "were trained with (--vocab): with another one every word would get a wrong vector"
        )
    return FolderVocabulary(
        path,
        source_vocabulary(path, ids, "words" if saved.user_words else None, table),
        base,
        {row["content"]: {flag: bool(row.get(flag, False)) for flag in _FLAGS} for row in added.values()},
        saved.user_words,
        _lower_cases(folder, settings),
    )


def _table_of(folder: Path) -> WeightMap:
    """The weight map of a folder's model; BERT's, which knows the same special tokens, for one that is not ours."""
    family = load_json_object(folder / "config.json").get("model_type") if (folder / "config.json").is_file() else None
    return load_weight_map(family if family in convertible() else "wobert")


def _lower_cases(folder: Path, settings: dict[str, Any]) -> bool:
    """What either file says; vocab.txt, which may lie beside them, says nothing."""
    lower, path = settings.get("do_lower_case"), folder / "tokenizer.json"
    if not isinstance(lower, bool) and path.is_file():
        normalizer = load_json_object(path).get("normalizer")
        lower = normalizer.get("lowercase") if isinstance(normalizer, dict) else None
    return lower if isinstance(lower, bool) else True


def _word_pieces(path: Path, raw: dict[str, Any]) -> dict[str, int]:
    model = raw.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if (
        not isinstance(model, dict)
        or model.get("type", "WordPiece") != "WordPiece"
        or not isinstance(vocabulary, dict)
    ):
        kind = model.get("type") if isinstance(model, dict) else None
        raise ConversionError(f"{path}: expected BERT's WordPiece vocabulary, got {kind or 'none'}; is it a BERT?")
    if not all(type(index) is int and index >= 0 for index in vocabulary.values()):
        raise ConversionError(f"{path}: every token should have an id from 0 on")
    return {str(token): index for token, index in vocabulary.items()}


def _added_in_json(path: Path, raw: dict[str, Any]) -> dict[int, dict[str, Any]]:
    rows = raw.get("added_tokens") or []
    if not all(type(row.get("id")) is int and isinstance(row.get("content"), str) for row in rows):
        raise ConversionError(f"{path}: added_tokens should be a list of tokens with id and content")
    return {row["id"]: row for row in rows}
