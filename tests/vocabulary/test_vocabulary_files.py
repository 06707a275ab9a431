"""Build a vocabulary: order, counts, determinism, and use in the tokenizer."""

import subprocess
import sys
from collections import Counter

import pytest

from kexue_hf import TtaTokenizer, WoBertTokenizer
from kexue_hf.vocabulary.corpus_counts import CorpusCounts, count_corpus, dictionary_frequencies
from kexue_hf.vocabulary.vocabulary_files import (
    SPECIAL_TOKENS,
    TTA_SPECIAL_TOKENS,
    build_character_vocabulary,
    build_vocabulary,
    save_vocabulary,
)

TEXTS = ["实验结果表明，该方法是有效的。", "实验结果不错。", "本文的实验用BERT模型，Bert很好。", "龘"]


@pytest.fixture(scope="module")
def dictionary() -> Counter[str]:
    return dictionary_frequencies()


def test_counts_are_of_normalised_text():
    counts = count_corpus(iter(TEXTS))
    assert counts.words["bert"] == 2 and "BERT" not in counts.words
    assert counts.characters["b"] == 2 and "B" not in counts.characters
    assert counts.characters["。"] == 3 and counts.words["。"] == 0


def test_order_and_counts(dictionary):
    counts = count_corpus(TEXTS)
    vocabulary = build_vocabulary(counts, 10_000, min_character_count=2, dictionary=dictionary)
    assert tuple(vocabulary[:5]) == SPECIAL_TOKENS
    assert len(set(vocabulary)) == len(vocabulary)
    assert "龘" not in vocabulary and "验" in vocabulary and "##a" in vocabulary and "##验" not in vocabulary
    words = [token for token in vocabulary if len(token) > 1 and token[0] not in "[#"]
    assert [counts.words[word] for word in words] == sorted((counts.words[word] for word in words), reverse=True)
    assert set(words) == set(counts.words)


def test_words_fill_the_remaining_size(dictionary):
    counts = count_corpus(TEXTS)
    everything = build_vocabulary(counts, 10_000, dictionary=dictionary)
    assert build_vocabulary(counts, len(everything) - 3, dictionary=dictionary) == everything[:-3]
    assert "不错" not in build_vocabulary(counts, 10_000, min_word_count=2, dictionary=dictionary)


def test_the_order_of_the_texts_does_not_matter(dictionary):
    forward, backward = count_corpus(TEXTS), count_corpus(TEXTS[::-1])
    assert build_vocabulary(forward, 300, dictionary=dictionary) == build_vocabulary(
        backward, 300, dictionary=dictionary
    )


def test_the_dictionary_alone_gives_its_commonest_words(dictionary):
    vocabulary = build_vocabulary(CorpusCounts(), 20_000, min_character_count=1, dictionary=dictionary)
    assert len(vocabulary) == 20_000 and {"中国", "我们", "的"} <= set(vocabulary)


def test_the_dictionary_weight(dictionary):
    counts = count_corpus(TEXTS)
    without = build_vocabulary(counts, 1000, dictionary=dictionary)
    weighted = build_vocabulary(counts, 1000, min_word_count=0, dictionary=dictionary, dictionary_weight=1.0)
    assert "中国" not in without and "中国" in weighted and "实验" in weighted


def test_a_size_too_small_for_the_characters_is_refused(dictionary):
    with pytest.raises(ValueError, match=r"expected a vocabulary size of at least .*, got 50: use a larger size"):
        build_vocabulary(count_corpus(TEXTS), 50, dictionary=dictionary)


def test_the_tokenizer_finds_the_words(tmp_path, dictionary):
    save_vocabulary(build_vocabulary(count_corpus(TEXTS), 500, dictionary=dictionary), tmp_path / "vocab.txt")
    tokenizer = WoBertTokenizer(vocab_file=tmp_path / "vocab.txt")
    assert tokenizer.tokenize("该方法有效") == ["该", "方法", "有效"]


def test_imports_no_torch():
    code = "import sys; import kexue_hf.vocabulary.vocabulary_files; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_vocabulary_of_characters():
    counts = count_corpus(TEXTS, cut=lambda text: ())
    vocabulary = build_character_vocabulary(counts, 10_000, min_character_count=2)
    assert (
        tuple(vocabulary[:7]) == TTA_SPECIAL_TOKENS == ("[PAD]", "[EOS]", "[UNK]", "[SOS]", "[MASK]", "[CLS]", "[SEP]")
    )
    assert len(set(vocabulary)) == len(vocabulary) and "验" in vocabulary and "龘" not in vocabulary
    assert not [token for token in vocabulary[7:] if len(token) > 1 and not token.startswith("##")]
    assert vocabulary.index("，") > vocabulary.index("。") > vocabulary.index("##a")  # by count
    assert vocabulary[-2:] == ["##～", "##￥"]  # not punctuation to BERT, so they can be part of words
    # The rarest are left out first; a size that is too small for the required tokens is refused.
    expected = [token for token in vocabulary if token not in ("～", "￥", "##～", "##￥")]
    assert build_character_vocabulary(counts, len(vocabulary) - 4, min_character_count=2) == expected
    assert build_character_vocabulary(counts, len(vocabulary) - 3, min_character_count=2) == expected
    with pytest.raises(ValueError, match=r"at least \d+ \(special tokens and ASCII\), got 50"):
        build_character_vocabulary(counts, 50)
    tokens = TtaTokenizer(vocab=vocabulary).tokenize("实验用BERT模型。")
    assert tokens == ["实", "验", "[UNK]", "b", "##e", "##r", "##t", "[UNK]", "[UNK]", "。"]


@pytest.mark.parametrize(
    "text",
    [
        "25℃ 5×3 16×16 Ⅰ～Ⅳ 0～15 ￥3.5",
        "カタカナ ひらがな ガラス 一々",
        "αβγ абв été Ünïcode",
        "ＡＢ １２３",
        "한국어 हिन्दी",
        "龘𠀀𰻝𰻝",  # BERT's rule is older than the last two and does not count them as Chinese
    ],
    ids=["signs", "kana", "Greek, Cyrillic, accents", "full width", "Korean, Hindi", "rare Chinese"],
)
def test_no_character_of_the_vocabulary_becomes_unknown(text):
    vocabulary = build_character_vocabulary(count_corpus([text], cut=lambda text: ()), 10_000)
    tokenizer = TtaTokenizer(vocab=vocabulary)
    characters = text.replace(" ", "")
    for written in (text, characters, characters[::-1], f"a{'a'.join(characters)}a"):
        assert tokenizer.unk_token not in tokenizer.tokenize(written), written
    assert not [token for token in vocabulary if token.startswith("##") and "\u4e00" <= token[2] <= "\u9fff"]
