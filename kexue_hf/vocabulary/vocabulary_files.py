"""Build a vocabulary from counts: characters and words for WoBERT, characters only for T-TA.

The released WoBERT vocabularies (https://kexue.fm/archives/7758) are a character vocabulary without its Chinese ##
pieces, plus the most frequent words of jieba's dictionary (see `word_selection`). Here the counts of a corpus decide.
The frequencies of jieba's dictionary break ties, or, with a weight, complement a small corpus or replace a missing
one.

The order of the result: special tokens, ASCII characters, ## pieces of ASCII letters and digits, other characters by
count, then words by score (for T-TA, ## pieces of other characters). Equal inputs give equal vocabularies.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from kexue_hf.vocabulary.corpus_counts import CorpusCounts, dictionary_frequencies

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# T-TA's special tokens, ids 0 to 6 as in the released vocabulary.
TTA_SPECIAL_TOKENS = ("[PAD]", "[EOS]", "[UNK]", "[SOS]", "[MASK]", "[CLS]", "[SEP]")
ASCII_CHARACTERS = tuple(chr(code) for code in range(33, 127) if not chr(code).isupper())
ASCII_PIECES = tuple(f"##{character}" for character in ASCII_CHARACTERS if character.isalnum())
# Punctuation that Chinese text uses and a small corpus may lack.
CHINESE_PUNCTUATION = tuple("，。、；：？！“”‘’（）《》〈〉【】「」『』—…·￥～")


def build_vocabulary(
    counts: CorpusCounts,
    size: int,
    min_character_count: int = 1,
    min_word_count: int = 1,
    dictionary: Counter[str] | None = None,
    dictionary_weight: float = 0.0,
) -> list[str]:
    """Return a vocabulary of at most `size` tokens, in order of id.

    A word's score is count + dictionary_weight * dictionary frequency, where the frequencies are scaled to the number
    of words in the corpus. Ties go to the more frequent word of the dictionary, then to the lower code point.

    Args:
        counts: counts of the corpus, see `count_corpus`; an empty `CorpusCounts()` uses only the dictionary.
        size: maximum number of tokens, special tokens included.
        min_character_count: characters that occur less often become [UNK].
        min_word_count: words with a lower score are split into characters.
        dictionary: frequencies, by default `dictionary_frequencies()`; `Counter()` for none.
        dictionary_weight: 0 uses only the corpus; 1 weighs dictionary and corpus equally.

    Raises:
        ValueError: `size` is too small for the special tokens, ASCII and the frequent characters.
    """
    dictionary = dictionary_frequencies() if dictionary is None else dictionary
    tokens = dict.fromkeys((*SPECIAL_TOKENS, *ASCII_CHARACTERS, *ASCII_PIECES))
    characters = _characters(counts, min_character_count)
    if not counts.characters:
        for word, frequency in dictionary.items():
            characters.update({character: frequency for character in word if _is_visible(character)})
    tokens.update(dict.fromkeys(_by_count(characters)))
    if len(tokens) > size:
        raise ValueError(
            f"expected a vocabulary size of at least {len(tokens)} (special tokens, ASCII and the characters that "
            f"occur at least {min_character_count} times), got {size}: use a larger size or a higher minimum count"
        )

    total_words, total_dictionary = counts.words.total(), dictionary.total()
    scale = dictionary_weight * (total_words or total_dictionary) / max(total_dictionary, 1)
    if not total_words:
        scale = 1.0
    scores = {word: float(count) for word, count in counts.words.items()}
    if scale:
        for word, frequency in dictionary.items():
            scores[word] = scores.get(word, 0.0) + scale * frequency
    words = [word for word, score in scores.items() if score >= min_word_count and word not in tokens]
    words.sort(key=lambda word: (-scores[word], -dictionary.get(word, 0), word))
    return [*tokens, *words[: size - len(tokens)]]


def build_character_vocabulary(
    counts: CorpusCounts,
    size: int,
    min_character_count: int = 1,
    special_tokens: Sequence[str] = TTA_SPECIAL_TOKENS,
) -> list[str]:
    """Return a vocabulary without words, in order of id: English is spelt in single-letter ## pieces.

    BERT splits around Chinese characters and punctuation only. Any other character, such as Greek, kana or the sign in
    25℃, can stand inside a word and therefore takes two tokens.

    Args:
        counts: counts of the corpus; its words are ignored.
        size: maximum number of tokens, special tokens included; the rarest characters are left out.
        min_character_count: characters that occur less often become [UNK].
        special_tokens: the first tokens.

    Raises:
        ValueError: `size` is too small for the special tokens and ASCII.
    """
    tokens = dict.fromkeys((*special_tokens, *ASCII_CHARACTERS, *ASCII_PIECES))
    if len(tokens) > size:
        raise ValueError(
            f"expected a vocabulary size of at least {len(tokens)} (special tokens and ASCII), got {size}: use a "
            "larger size"
        )
    characters: list[str] = []
    pieces: list[str] = []
    for character in _by_count(_characters(counts, min_character_count)):
        if character in tokens:
            continue
        piece = [f"##{character}"] if _stands_inside_words(character) else []
        if len(tokens) + len(characters) + len(pieces) + 1 + len(piece) > size:
            break
        characters.append(character)
        pieces += piece
    return [*tokens, *characters, *pieces]


def save_vocabulary(vocabulary: Iterable[str], path: str | os.PathLike[str]) -> None:
    """Write `vocab.txt`: UTF-8, one token a line; the line number (from 0) is the id."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{token}\n" for token in vocabulary)


def _characters(counts: CorpusCounts, min_count: int) -> Counter[str]:
    characters = Counter(dict.fromkeys(CHINESE_PUNCTUATION, 0))
    characters.update({c: n for c, n in counts.characters.items() if n >= min_count and _is_visible(c)})
    return characters


def _by_count(characters: Counter[str]) -> list[str]:
    return sorted(characters, key=lambda c: (-characters[c], c))


def _stands_inside_words(character: str) -> bool:
    """Return whether BERT's tokenizer keeps the character inside a word. It splits at Chinese and punctuation."""
    # Imported here because `kexue-hf extend` does not need it and should start fast.
    from tokenizers import normalizers, pre_tokenizers

    chinese = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
    return len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(chinese.normalize_str(f"a{character}a"))) == 1


def _is_visible(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")


__all__ = ["SPECIAL_TOKENS", "TTA_SPECIAL_TOKENS", "build_character_vocabulary", "build_vocabulary", "save_vocabulary"]
