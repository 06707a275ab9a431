"""Build the `vocab.txt` of an exported model, with one line for every row of the embeddings.

A model may have more rows than its `vocab.txt` has lines: tokens that were added to the tokenizer (`add_tokens`,
`resize_token_embeddings`), and padding rows (`pad_to_multiple_of`). The original format has neither, so added tokens
become lines and padding rows become [unused...] lines.
"""

from dataclasses import dataclass
from pathlib import Path

from kexue_hf.conversion.saved_folder import SavedFolder, SavedTokenizer, read_folder_vocabulary, read_tokenizer
from kexue_hf.conversion.source import (
    MAX_PADDING,
    SourceVocabulary,
    filler,
    line_problem,
    read_vocabulary,
    tokens_by_id,
)
from kexue_hf.conversion.weight_map import WeightMap
from kexue_hf.errors import ConversionError
from kexue_hf.models.wobert.vocabulary_wobert import vocabulary_fingerprint


@dataclass(frozen=True)
class ExportedVocabulary:
    """The content of `vocab.txt`, its fingerprint, that of the folder's own `vocab.txt`, and notes for the user."""

    content: bytes
    fingerprint: str
    own_fingerprint: str
    notes: list[str]


def export_vocabulary(saved: SavedFolder) -> ExportedVocabulary:
    """Return the vocabulary to export. The caller has checked the weights against `vocab_size`.

    Raises:
        ConversionError: the vocabulary is missing, belongs to another model, or has a token that cannot be a line.
    """
    rows = saved.config.fields["vocab_size"]
    path, vocabulary, own = _read(saved, rows)
    tokenizer = read_tokenizer(saved.path)
    tokens = _different_lines(vocabulary.ids)
    lines = len(tokens)
    if lines > rows:
        raise ConversionError(
            f"{path}: has {lines} tokens, the model has embeddings for {rows}: it belongs to another model; replace "
            "it with the vocabulary that the weights were trained with"
        )
    new = {index: token for index, token in tokenizer.added.items() if lines <= index < rows}
    if rows > lines:
        _check_fingerprint(saved, vocabulary.fingerprint, own, rows - lines - len(new))
    taken = set(tokens)
    for token in new.values():
        _check_line(saved, token, taken)
        taken.add(token)
    repeated = sum(vocabulary.ids.get(token) != index for index, token in enumerate(tokens))
    tokens += [new[index] if index in new else filler(index, taken) for index in range(lines, rows)]
    lost = [token for index, token in sorted(tokenizer.added.items()) if index >= rows]
    return ExportedVocabulary(
        "".join(f"{token}\n" for token in tokens).encode("utf-8"),
        vocabulary_fingerprint(tokens),
        own,
        _notes(saved.weight_map, tokenizer, list(new.values()), rows - lines - len(new), repeated, lost),
    )


def _different_lines(ids: dict[str, int]) -> list[str]:
    """Return a token for each row, all different to bert4keras, which gives equal lines one id.

    bert4keras strips lines, so all white-space tokens are equal to it.
    """
    tokens = tokens_by_id(ids)
    taken = set(tokens)
    white = [index for index, token in enumerate(tokens) if not token.strip()]
    for index in white[1:]:
        tokens[index] = filler(index, taken)
    return tokens


def _read(saved: SavedFolder, rows: int) -> tuple[Path, SourceVocabulary, str]:
    """Return the path, the vocabulary, and its fingerprint without added tokens.

    transformers 5 saves some tokenizers as `tokenizer.json` without `vocab.txt`.
    """
    path = saved.path / "vocab.txt"
    if path.is_file() or not (saved.path / "tokenizer.json").is_file():
        vocabulary = read_vocabulary(path, None, weight_map=saved.weight_map)
        return path, vocabulary, vocabulary.fingerprint
    found = read_folder_vocabulary(saved.path, None, rows, saved.weight_map)
    own = vocabulary_fingerprint(sorted(found.base, key=found.base.__getitem__))
    return found.path, found.vocabulary, own


def _check_fingerprint(saved: SavedFolder, whole: str, own: str, padding: int) -> None:
    """Raise ConversionError if a vocabulary that is shorter than the embeddings belongs to another model."""
    recorded, rows = saved.raw.get("vocab_fingerprint"), saved.config.fields["vocab_size"]
    if recorded in (whole, own) or (recorded is None and padding <= MAX_PADDING):
        return
    reason = (
        f"{padding} of them have no token in it or among the added tokens"
        if recorded is None
        else f"its fingerprint is {own}, config.json says vocab_fingerprint {recorded}"
    )
    raise ConversionError(
        f"{saved.path / 'vocab.txt'}: is not the vocabulary of this model, which has {rows} embeddings: {reason}; "
        "replace it with the vocabulary that the weights were trained with"
    )


def _check_line(saved: SavedFolder, token: str, taken: set[str]) -> None:
    problem = line_problem(token) or ("has an id in vocab.txt already" if token in taken else None)
    if problem:
        raise ConversionError(f"{saved.path}: the added token {token!r:.60} {problem}: vocab.txt cannot hold it")


def _notes(
    weight_map: WeightMap, tokenizer: SavedTokenizer, new: list[str], padding: int, repeated: int, lost: list[str]
) -> list[str]:
    notes = []
    if new:
        unknown = (
            "; the segmenter does not know them: add the words among them with jieba.add_word"
            if "words" in weight_map.TOKENIZERS
            else ""
        )
        notes.append(f"{len(new)} added tokens became lines of vocab.txt ({_some(new)}){unknown}")
    if padding:
        notes.append(f"{padding} rows of the embeddings without a token are [unused...] lines of vocab.txt")
    if repeated:
        notes.append(
            f"{repeated} lines of vocab.txt that no text contains became [unused...]: {weight_map.ORIGINAL} would "
            "read them as repeated lines"
        )
    if lost:
        notes.append(f"{len(lost)} added tokens have no row in the embeddings and were left out ({_some(lost)})")
    if tokenizer.user_words:
        notes.append(
            f"the tokenizer's {len(tokenizer.user_words)} user_words are not in vocab.txt "
            f"({_some(tokenizer.user_words)}): add them to the segmenter (jieba.add_word), and to the tokenizer "
            "(add_words) if you convert back"
        )
    if not tokenizer.do_lower_case:
        notes.append(
            f"the tokenizer does not lower-case, which vocab.txt cannot record: use the tokenizer of "
            f"{weight_map.ORIGINAL} with do_lower_case=False, and --cased if you convert back"
        )
    return notes


def _some(tokens: list[str] | tuple[str, ...]) -> str:
    return ", ".join(tokens[:3]) + (", ..." if tokens[3:] else "")
