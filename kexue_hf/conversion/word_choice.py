"""Choose the words that `extend` adds: frequent words that the vocabulary lacks, and those of a user dictionary."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from kexue_hf.conversion.source import SourceVocabulary
from kexue_hf.errors import InputError
from kexue_hf.models.wobert.normalization_wobert import Normalizer
from kexue_hf.models.wobert.segmentation_wobert import Segmenter
from kexue_hf.vocabulary.corpus_counts import count_corpus, dictionary_frequencies
from kexue_hf.vocabulary.user_dictionary import read_user_dictionary
from kexue_hf.vocabulary.vocabulary_files import SPECIAL_TOKENS
from kexue_hf.vocabulary.word_selection import choose_words, keep_tokens, speller


@dataclass(frozen=True)
class SourceTokenizer:
    """Settings of the source's tokenizer to keep: added tokens and their flags, segmenter words, lower-casing."""

    added: dict[str, dict[str, bool]]
    user_words: tuple[str, ...]
    lower: bool


@dataclass(frozen=True)
class Choice:
    """The new vocabulary.

    `kept` maps kept tokens to their rows in the source; `pieces` are the word-piece ids of each new word; the last
    `new_user_words` of `words` come from the user dictionary; `user_words` are for the segmenter.
    """

    kept: dict[str, int]
    words: list[str]
    pieces: list[list[int]]
    new_user_words: int
    user_words: list[str]
    notes: list[str]


def choose(
    vocabulary: SourceVocabulary,
    tokenizer: SourceTokenizer,
    number: int,
    corpus: Sequence[str | os.PathLike[str]],
    column: str,
    user_dict: str | os.PathLike[str] | None,
    progress: bool,
    strict: bool = False,
) -> Choice:
    """Choose the new vocabulary. Other arguments and errors as `extend`.

    Args:
        number: number of words to add, not counting the user dictionary.
        column: column of the text in the corpus files.
        progress: show a progress bar while counting.
        strict: refuse a user dictionary with a line that cannot become a word.
    """
    lower = tokenizer.lower
    special = [token for token in vocabulary.special.values() if token]
    reserved = [*dict.fromkeys((*special, *tokenizer.added))]
    kept = keep_tokens(vocabulary.ids, SPECIAL_TOKENS, reserved, words=vocabulary.has_words)
    ids = {token: index for index, token in enumerate(kept)}
    normalize = Normalizer(lower)
    segmenter = Segmenter(map(normalize, tokenizer.user_words))
    pieces_of = speller(ids, ids["[UNK]"], lower, segmenter if vocabulary.has_words else None)
    # Check the small file before the long count.
    notes: list[str] = []
    own: list[str] = []
    if user_dict is not None:
        own = read_user_dictionary(user_dict, reserved, lower, pieces_of, strict, notes.append)
    files = _corpus_files(corpus) if corpus else []
    words: list[str] = []
    if number:
        dictionary = dictionary_frequencies(lower)
        if files:
            with _counting(progress) as seen:
                counts = count_corpus(_texts(files, column, seen), lower=lower)
            if not "".join(counts.characters).strip():
                raise InputError(f"{', '.join(map(str, corpus))}: no text to count words in; name other files")
            # The character vocabulary has the common numbers already.
            candidates = {word: count for word, count in counts.words.items() if not word.isdecimal()}
            words = choose_words(candidates, number, ids, pieces_of, ids["[UNK]"], dictionary)
            if counts.forgotten and words and counts.words[words[-1]] <= counts.forgotten:
                notes.append(
                    f"the corpus has too many different words to count all of them: words with fewer than "
                    f"{counts.forgotten} occurrences may be missing"
                )
        else:
            # jieba always splits some words of its dictionary, because their parts are far more frequent.
            words = choose_words(
                dictionary,
                number,
                ids,
                lambda word: pieces_of(word) if segmenter(word) == [word] else (),
                ids["[UNK]"],
            )
        if len(words) < number:
            notes.append(
                f"{len(words):,} of {number:,} words were found: {'the corpus' if corpus else 'the dictionary'} has "
                "no more words that the vocabulary lacks and can spell"
            )
    new = _new_user_words(own, normalize, {*ids, *words}, ids["[UNK]"], pieces_of, notes)
    words = [*words, *new]
    merged = [*dict.fromkeys((*tokenizer.user_words, *own))]
    return Choice(kept, words, [pieces_of(word) for word in words], len(new), merged, notes)


def _new_user_words(
    own: list[str],
    normalize: Normalizer,
    known: set[str],
    unk_id: int,
    pieces_of: Callable[[str], list[int]],
    notes: list[str],
) -> list[str]:
    """Return the words of the user dictionary that need a row, normalised; add notes about the others."""
    normal = [normalize(word) for word in own]
    present = [word for word in normal if word in known]
    new = [word for word in normal if word not in known]
    if present:
        notes.append(f"{len(present)} words of the user dictionary have a token already: {_some(present)}")
    if unknown := [word for word in new if unk_id in pieces_of(word)]:
        notes.append(
            f"{len(unknown)} words of the user dictionary have characters that the vocabulary lacks; their embeddings "
            f"include that of [UNK]: {_some(unknown)}"
        )
    return new


def _counting(progress: bool) -> Any:
    """Return a progress bar over characters read if stderr is a terminal, else a context that yields None."""
    if not progress or not sys.stderr.isatty():
        return nullcontext(None)
    from tqdm import tqdm

    return tqdm(unit=" characters", unit_scale=True, desc="counting words", leave=False)


def _corpus_files(names: Sequence[str | os.PathLike[str]]) -> list[str]:
    from kexue_hf.corpora.file_names import text_file_names
    from kexue_hf.corpora.text_files import COMPRESSIONS, SUFFIXES

    expected = f"expected text files ({', '.join(SUFFIXES)}, optionally {', '.join(COMPRESSIONS)}) or a folder of them"
    return [file for name in names for file in text_file_names(name, expected)]


def _texts(corpus: Sequence[str], column: str, bar: Any) -> Iterable[str]:
    from kexue_hf.corpora.text_files import read_texts

    for text in read_texts(corpus, column):
        if bar is not None:
            bar.update(len(text))
        yield text


def _some(words: Sequence[str], limit: int = 5) -> str:
    return ", ".join(words[:limit]) + (f", ... ({len(words) - limit} more)" if len(words) > limit else "")
