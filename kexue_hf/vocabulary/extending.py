"""A character vocabulary made one of words, as the original WoBERT's was (https://kexue.fm/archives/7758).

Its tokens are the source's without what a word model never meets (bert4keras' `load_vocab(simplified=True)`), and then
the most frequent words that are not among them. Departs from the original where that took rows for nothing: words are
normalised as texts are ("T恤" would never be met), single characters are no words, and a word with a character that
the vocabulary lacks is left out. Of the 20,000 words of the released vocabulary these are 510, most of them mojibake.
`kexue-hf extend` also leaves out the 27 that the segmenter always cuts up.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from kexue_hf.models.wobert.normalization_wobert import Normalizer
from kexue_hf.models.wobert.wordpiece_wobert import WordPieces, is_cjk
from kexue_hf.vocabulary.counting import is_word


def keep_tokens(
    vocabulary: Mapping[str, int], first: Sequence[str], always: Collection[str] = (), words: bool = False
) -> dict[str, int]:
    """The tokens that a word model needs of a character vocabulary, in their new order, each with its row there.

    What goes: tokens of more than one character that have Chinese or punctuation in them: ## pieces of Chinese
    characters, which occur only where a word is longer than a character, and [unused...].

    Args:
        vocabulary: token -> row.
        first: special tokens, which get the ids from 0 on; those that the vocabulary lacks are passed over.
        always: further tokens that stay.
        words: whether Chinese words of several characters stay (where the source is a word model already).
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
    """The `number` most frequent words (fewer where they run out) that are not known and can be spelt.

    Args:
        counts: word -> how often, see `counting`. Of equal counts the word with more `ties` comes first, then the
            one that is more to the front in the order of code points.
        pieces_of: ids of the pieces of a word; one that has none, or `unk_id` among them, is left out.
    """
    # Sorts keep the order of equals: the last one decides first.
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
    """A function from a word to the ids of its pieces: bert4keras' `compound_tokens`.

    Args:
        vocabulary: token -> id, without the new words.
        unk_id: the id of what cannot be spelt, which counts as any other piece.
        lower: whether the tokenizer lower-cases.
        cut: segmenter, where the vocabulary has words itself: a new word then consists of these.
    """
    normalize = Normalizer(lower)
    split = WordPieces(vocabulary, unk_id)

    def pieces_of(word: str) -> list[int]:
        normal = normalize(word)
        parts = cut(normal) if cut else (normal,)
        return [index for part in parts for index, _, _ in split(part)]

    return pieces_of


def _stands_alone(char: str) -> bool:
    """Whether BERT takes the character for a word of its own: Chinese and punctuation."""
    code = ord(char)
    is_symbol = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return is_symbol or unicodedata.category(char)[0] == "P" or is_cjk(code)


__all__ = ["choose_words", "keep_tokens", "speller"]
