"""A user dictionary: a file of words in jieba's format: one a line, `word [frequency] [tag]`.

Departs from jieba, which takes whatever it is given: a line that cannot become a word is skipped, with a warning that
counts and names such lines.
Frequency and tag are read over: a user's word gets the frequency with which the segmenter cuts it as one.
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
# Two million words, with frequency and tag.
_LARGEST = 1 << 25


def read_user_dictionary(
    path: str | os.PathLike[str],
    special_tokens: Sequence[str] = (),
    lower: bool = True,
    pieces_of: Callable[[str], Sequence[int]] | None = None,
    strict: bool = False,
    warn: Callable[[str], object] = warnings.warn,
) -> list[str]:
    """The words of a file, as they are written there; empty lines are passed over.

    Args:
        special_tokens: what may be in no word, since it is found before words are.
        lower: whether the tokenizer lower-cases, so that "ABC" and "abc" are the same word.
        pieces_of: the ids of a word's pieces (see `speller`); a word that has none cannot be. None: not looked at.
        strict: refuse the file for a line that cannot become a word, instead of skipping the line.
        warn: called once with one line if lines were skipped.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or has lines that cannot become words (with their numbers)
            and is to be read strictly or has no others.
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
            problems.append(f"line {number}: {word!r:.60} leaves no token")
        elif normal in words:
            problems.append(f"line {number}: {word!r:.60} is the word of line {words[normal][0]} again")
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
    """A line without its frequency and its tag. By hand: a regular expression for it takes quadratic time."""
    for belongs in (_is_tag, _is_frequency):
        head, *rest = text.rsplit(None, 1)
        if rest and belongs(rest[0]):
            text = head
    return text


def _is_tag(part: str) -> bool:
    return part.isascii() and part.isalpha()


def _is_frequency(part: str) -> bool:
    return part.isascii() and part.isdecimal()


__all__ = ["read_user_dictionary"]
