"""Building a vocabulary: for WoBERT, the characters of a text, and the words that earn a row of their own.

The released vocabularies (https://kexue.fm/archives/7758) are a character vocabulary without its ## Chinese pieces,
plus the most frequent words of jieba's dictionary (`extending` does just that). Here the counts of a corpus decide and
jieba's own frequencies break ties, or, weighted, stand in for a corpus that is small or absent. Nothing is learnt.

For T-TA, the characters alone.

The order of the result: special tokens, ASCII characters, ## pieces of ASCII letters and digits, other characters by
count, words by score (for T-TA ## pieces of other characters). Equal inputs give equal vocabularies.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from kexue_hf.vocabulary.counting import CorpusCounts, dictionary_frequencies

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# T-TA's, in the order of the released vocabulary: numbers 0 to 6.
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
    """The vocabulary, a list of `size` tokens at most (fewer where characters and words run out), in order of id.

    A word's score is count + dictionary_weight * (dictionary frequency, scaled to as many words as the corpus has);
    ties go to the dictionary's more frequent word, then to the earlier code point.

    Args:
        counts: of the corpus, see `count_corpus`; an empty `CorpusCounts()` uses the dictionary alone.
        size: the number of tokens wanted, special tokens included.
        min_character_count: characters that occur less often are left to [UNK].
        min_word_count: words whose score is lower are left to their characters.
        dictionary: see `dictionary_frequencies`, which is also the default; `Counter()` for none.
        dictionary_weight: 0 counts the corpus only; 1 weighs dictionary and corpus alike.

    Raises:
        ValueError: `size` does not even hold the special tokens, ASCII and the wanted characters.
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
            f"a vocabulary of {size} tokens was asked for, but special tokens, ASCII and the characters that occur "
            f"at least {min_character_count} times are {len(tokens)}: ask for more tokens or a higher minimum count"
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
    """A vocabulary without words, in order of id: English is spelt in ## pieces of a letter each.

    So is all that BERT does not cut at, as it does around Chinese characters and punctuation: Greek, kana, the sign in
    25℃. Such a character takes two tokens.

    Args:
        counts: of the corpus; its words are not looked at.
        size: the most tokens that it may have, special tokens included; the rarest characters go first.
        min_character_count: characters that occur less often are left to [UNK].
        special_tokens: the first tokens.

    Raises:
        ValueError: `size` does not even hold the special tokens and ASCII.
    """
    tokens = dict.fromkeys((*special_tokens, *ASCII_CHARACTERS, *ASCII_PIECES))
    if len(tokens) > size:
        raise ValueError(
            f"a vocabulary of {size} tokens was asked for, but special tokens and ASCII alone are {len(tokens)}"
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
    """Write `vocab.txt`: UTF-8, one token a line, line number (from 0) = id."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{token}\n" for token in vocabulary)


def _characters(counts: CorpusCounts, min_count: int) -> Counter[str]:
    characters = Counter(dict.fromkeys(CHINESE_PUNCTUATION, 0))
    characters.update({c: n for c, n in counts.characters.items() if n >= min_count and _is_visible(c)})
    return characters


def _by_count(characters: Counter[str]) -> list[str]:
    return sorted(characters, key=lambda c: (-characters[c], c))


def _stands_inside_words(character: str) -> bool:
    """Whether BERT's tokenizer leaves it between two letters, as it does all but Chinese and punctuation."""
    # Here, where a T-TA's vocabulary is made: `kexue-hf extend` does without and answers sooner.
    from tokenizers import normalizers, pre_tokenizers

    chinese = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
    return len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(chinese.normalize_str(f"a{character}a"))) == 1


def _is_visible(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")


__all__ = ["SPECIAL_TOKENS", "TTA_SPECIAL_TOKENS", "build_character_vocabulary", "build_vocabulary", "save_vocabulary"]
