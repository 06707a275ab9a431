"""Turn a character vocabulary into a word vocabulary, as for the original WoBERT (https://kexue.fm/archives/7758).

The result has the tokens of the source except those that a word model never uses (bert4keras'
`load_vocab(simplified=True)`), followed by the most frequent words that it lacks. Three differences from the original
avoid useless rows: words are normalised as texts are ("T恤" would never match), single characters are not words, and
words with characters that the vocabulary lacks are left out. These are 510 of the 20,000 words of the released
vocabulary, mostly mojibake. `kexue-hf extend` also leaves out 27 words that the segmenter always splits.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from kexue_hf.models.wobert.normalization_wobert import Normalizer
from kexue_hf.models.wobert.wordpiece_wobert import WordPieces, is_cjk
from kexue_hf.vocabulary.corpus_counts import is_word


def keep_tokens(
    vocabulary: Mapping[str, int], first: Sequence[str], always: Collection[str] = (), words: bool = False
) -> dict[str, int]:
    """Return the tokens of a character vocabulary that a word model needs, in their new order: token -> old row.

    Tokens of several characters that contain Chinese or punctuation are dropped: ## pieces of Chinese characters,
    which a character tokenizer never produces, and [unused...].

    Args:
        vocabulary: token -> row.
        first: special tokens, which get the ids from 0 on; missing ones are skipped.
        always: other tokens to keep.
        words: whether to keep Chinese words, for a source that is a word model already.
    """
    kept = {token: vocabulary[token] for token in first if token in vocabulary}
    for token, row in sorted(vocabulary.items(), key=lambda item: item[1]):
        if token in kept:
            continue
        bare = token.removeprefix("##")
        if len(token) == 1 or token in always or not any(map(_stands_alone, bare)) or (words and is_word(token)):
            kept[token] = row
    return kept


def choose_words(
    counts: Mapping[str, int],
    number: int,
    known: Collection[str],
    pieces_of: Callable[[str], Sequence[int]],
    unk_id: int,
    ties: Mapping[str, int] | None = None,
) -> list[str]:
    """Return the `number` most frequent words that are not known and can be spelt; fewer if there are not enough.

    Args:
        counts: word -> count, see `corpus_counts`.
        known: words to leave out.
        pieces_of: returns the word-piece ids of a word. A word without pieces, or with `unk_id`, is left out.
        ties: word -> frequency; it decides between equal counts, then the lower code point comes first.
    """
    # Sorting is stable, so the last sort takes precedence.
    ordered = sorted(word for word in counts if word not in known)
    if ties:
        ordered.sort(key=lambda word: ties.get(word, 0), reverse=True)
    ordered.sort(key=counts.__getitem__, reverse=True)
    chosen: list[str] = []
    for word in ordered:
        if len(chosen) >= number:
            break
        pieces = pieces_of(word)
        if pieces and unk_id not in pieces:
            chosen.append(word)
    return chosen


def speller(
    vocabulary: Mapping[str, int], unk_id: int, lower: bool = True, cut: Callable[[str], Iterable[str]] | None = None
) -> Callable[[str], list[int]]:
    """Return a function from a word to its word-piece ids (bert4keras' `compound_tokens`).

    Args:
        vocabulary: token -> id, without the new words.
        unk_id: id of parts that cannot be spelt; it counts as a piece.
        lower: whether the tokenizer lower-cases.
        cut: segmenter for a vocabulary with words, into which new words are split first.
    """
    normalize = Normalizer(lower)
    split = WordPieces(vocabulary, unk_id)

    def pieces_of(word: str) -> list[int]:
        normal = normalize(word)
        parts = cut(normal) if cut else (normal,)
        return [index for part in parts for index, _, _ in split(part)]

    return pieces_of


def _stands_alone(char: str) -> bool:
    """Return whether BERT's tokenizer makes the character a separate word: Chinese and punctuation."""
    code = ord(char)
    is_symbol = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return is_symbol or unicodedata.category(char)[0] == "P" or is_cjk(code)


__all__ = ["choose_words", "keep_tokens", "speller"]
