"""Count the words that jieba finds without its hidden Markov model, as the tokenizer does.

Every counted word can therefore occur in tokenized text. Memory is bounded: web text has endlessly many new strings of
letters and digits, so beyond a number of different words the rarest are forgotten. `CorpusCounts.forgotten` says how
much a count may lack.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kexue_hf.models.wobert.normalization_wobert import Normalizer
from kexue_hf.models.wobert.segmentation_wobert import Segmenter

# Different words to keep, about 140 bytes each. jieba's dictionary has 349,046.
MAX_WORDS = 4_000_000
# Characters that are segmented in one call.
_CHUNK = 1 << 16
# Separator of texts that are segmented together; jieba always splits there.
_BETWEEN = "\n"


@dataclass
class CorpusCounts:
    """Counts of characters and of words (of two or more characters) in normalised text.

    A word's true count is at most `forgotten` higher. `forgotten` is 0 unless the corpus had more different words than
    are kept.
    """

    characters: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    forgotten: int = 0


def count_corpus(
    texts: Iterable[str],
    cut: Callable[[str], Iterable[str]] | None = None,
    *,
    lower: bool = True,
    max_words: int = MAX_WORDS,
) -> CorpusCounts:
    """Count the characters and words of texts, which may be a stream of any size.

    Args:
        texts: raw texts; they are normalised as the tokenizer does (lower case, without accents).
        cut: segmenter of normalised text; by default the tokenizer's.
        lower: whether to normalise; False for a tokenizer with `do_lower_case=False`.
        max_words: different words to keep in memory; beyond that, the rarer half is forgotten.
    """
    normalize = Normalizer(lower)
    counts = CorpusCounts()
    # A custom segmenter may not split at line feeds, so it gets one text at a time.
    cut, room = (cut, 0) if cut else (Segmenter(), _CHUNK)
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(normalize(text))
        size += len(text)
        if size >= room:
            _count(waiting, cut, counts, max_words)
            waiting, size = [], 0
    _count(waiting, cut, counts, max_words)
    _keep_words(counts)
    return counts


def dictionary_frequencies(lower: bool = True) -> Counter[str]:
    """Return the words of jieba's dictionary, normalised, with their frequencies.

    Args:
        lower: whether to normalise; False for a tokenizer with `do_lower_case=False`.
    """
    import jieba

    normalize = Normalizer(lower)
    frequencies: Counter[str] = Counter()
    # jieba's loader would write a cache and add every prefix as a word.
    with open(os.path.join(os.path.dirname(jieba.__file__), "dict.txt"), encoding="utf-8") as file:
        for line in file:
            word, frequency = line.split(" ", 2)[:2]
            word = normalize(word)
            if is_word(word):
                frequencies[word] += int(frequency)
    return frequencies


def is_word(text: str) -> bool:
    """Return whether a text is at least two letters or digits and nothing else."""
    return len(text) > 1 and text.isalnum()


def _count(texts: list[str], cut: Callable[[str], Iterable[str]], counts: CorpusCounts, max_words: int) -> None:
    joined = _BETWEEN.join(texts)
    if not joined:
        return
    counts.characters.update(joined)
    counts.characters[_BETWEEN] -= len(texts) - 1
    # Punctuation and single characters are counted too and dropped later, because filtering one by one is slower.
    counts.words.update(cut(joined))
    if len(counts.words) > max_words:
        _keep_words(counts)
        _forget(counts, max_words)


def _keep_words(counts: CorpusCounts) -> None:
    for word in [word for word in counts.words if not is_word(word)]:
        del counts.words[word]
    counts.characters += Counter()  # without those of count 0


def _forget(counts: CorpusCounts, max_words: int) -> None:
    """Drop the rarest words until at most half of `max_words` remain; words of equal count go together."""
    if len(counts.words) <= max_words:
        return
    ordered = sorted(counts.words.values(), reverse=True)
    limit = ordered[max_words // 2]
    for word in [word for word, count in counts.words.items() if count <= limit]:
        del counts.words[word]
    counts.forgotten += limit


__all__ = ["MAX_WORDS", "CorpusCounts", "count_corpus", "dictionary_frequencies", "is_word"]
