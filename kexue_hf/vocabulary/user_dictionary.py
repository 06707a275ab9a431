"""Read a user dictionary in jieba's format: one word a line, `word [frequency] [tag]`.

Unlike jieba, which accepts anything, this skips lines that cannot become words, with one warning about all of them.
Frequency and tag are ignored: a user word gets a frequency with which the segmenter never splits it.
"""

import os
import warnings
from collections.abc import Callable, Sequence

from kexue_hf.corpora.text_files import recoding_advice
from kexue_hf.errors import InputError
from kexue_hf.files.regular_file import read_regular
from kexue_hf.models.wobert.normalization_wobert import Normalizer
from kexue_hf.models.wobert.vocabulary_wobert import word_problem

_SHOWN = 5
# In bytes: two million words with frequency and tag.
_LARGEST = 1 << 25


def read_user_dictionary(
    path: str | os.PathLike[str],
    special_tokens: Sequence[str] = (),
    lower: bool = True,
    pieces_of: Callable[[str], Sequence[int]] | None = None,
    strict: bool = False,
    warn: Callable[[str], object] = warnings.warn,
) -> list[str]:
    """Return the words of a file as written there. Empty lines are ignored.

    Args:
        special_tokens: tokens that no word may contain, because the tokenizer finds them first.
        lower: whether the tokenizer lower-cases, so that "ABC" and "abc" are the same word.
        pieces_of: returns the word-piece ids of a word (see `speller`); a word without any is invalid. None skips this
            check.
        strict: raise an error for a line that cannot become a word, instead of skipping the line.
        warn: called once, with a one-line message, if lines were skipped.

    Raises:
        InputError: the file cannot be read, is not UTF-8, has no valid words, or with `strict` has an invalid line.
            The message names the lines.
    """
    try:
        raw = read_regular(path, _LARGEST)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror} (the user dictionary)") from None
    normalize = Normalizer(lower)
    words: dict[str, tuple[int, str]] = {}
    problems: list[str] = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}: not UTF-8 (byte 0x{error.object[error.start]:02x} at position {error.start} "
                f"of the line); {recoding_advice(line)}"
            ) from None
        if not text:
            continue
        word = _word_of(text)
        normal = normalize(word)
        if problem := word_problem(word, normal, special_tokens):
            problems.append(f"line {number}: {problem}")
        elif normal.startswith("##"):
            problems.append(f"line {number}: {word!r:.60} begins with ##, which marks a word piece")
        elif pieces_of and not pieces_of(word):
            problems.append(f"line {number}: {word!r:.60} has no tokens")
        elif normal in words:
            problems.append(f"line {number}: {word!r:.60} repeats line {words[normal][0]}")
        else:
            words[normal] = (number, word)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        found = f"{'; '.join(problems[:_SHOWN])}{more}; expected one word a line: word [freq] [tag]"
        if strict or not words:
            raise InputError(f"{path}: {found}")
        lines = "1 line was" if len(problems) == 1 else f"{len(problems):,} lines were"
        warn(f"{path}: {lines} skipped ({len(words):,} words are left): {found}")
    return [word for _, word in words.values()]


def _word_of(text: str) -> str:
    """Return a line without its frequency and tag. A regular expression would take quadratic time."""
    for matches in (_is_tag, _is_frequency):
        head, *rest = text.rsplit(None, 1)
        if rest and matches(rest[0]):
            text = head
    return text


def _is_tag(part: str) -> bool:
    return part.isascii() and part.isalpha()


def _is_frequency(part: str) -> bool:
    return part.isascii() and part.isdecimal()


__all__ = ["read_user_dictionary"]
