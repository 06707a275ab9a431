"""The table of words that is asked by the array, and chunks of texts at their borders.

Oracles: a dictionary, and `Analyzer.analyse` (which test_tokenization_ids.py holds against the original).
"""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kexue_hf.models.wobert import analysis_wobert, word_table_wobert
from kexue_hf.models.wobert.analysis_wobert import Analyzer
from kexue_hf.models.wobert.word_table_wobert import ASK, NONE, WordTable, all_chinese, codes_of
from tests.models.wobert import tokenizer_oracle as oracle
from tests.models.wobert.tokenizer_texts import ODD, ORDINARY, texts

VOCABULARY = {token: index for index, token in enumerate(oracle.make_vocabulary())}
UNK = VOCABULARY["[UNK]"]
ANALYZER = Analyzer(VOCABULARY, UNK)
# Few, that words may be alike: ordinary ones, and those at which a key of 16 bits a character could go wrong.
CHARACTERS = "\x00\x01a今天\ud800\udc00\ufffd\ufffe\uffff\U00010000\U0001ffff😀"
words = st.text(st.sampled_from(CHARACTERS), min_size=1, max_size=6)


def find(table, asked):
    codes = codes_of("".join(asked))
    length = np.array([len(word) for word in asked], dtype=np.int64)
    start = np.cumsum(length) - length
    return table.find(codes, start, length).tolist(), all_chinese(codes, start, length).tolist()


@settings(max_examples=150, deadline=None)
@given(known=st.lists(words, unique=True, max_size=40), others=st.lists(words, max_size=20))
@example(known=["ab", "abc", "abcd"], others=["ab\x00", "ab\x00\x00", "a\uffff", "ab\uffff\uffff", "abcde"])
@example(known=["\x00\x00", "a\x00", "\x00\x00\x00\x00"], others=["\x00\x00\x00", "\x00a", "a\x00\x00"])
@example(known=["\U00010000a", "\uffffa", "\ufffea"], others=["😀a", "\ufffda"])
@example(known=[], others=["今天"])
@example(known=["今天今天今", "今天今天"], others=["今天今天a", "今天今天天", "今天今"])
def test_words_are_found_as_in_a_dictionary(known, others):
    for multiplier in (word_table_wobert._MULTIPLIER, np.uint64(1)):  # The second puts all of them in one slot.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(word_table_wobert, "_MULTIPLIER", multiplier)
            table = WordTable({word: index for index, word in enumerate(known)}, UNK)
            asked = [word for word in [*known, *others] if len(word) > 1]
            found, chinese = find(table, asked)
        for word, index, is_chinese in zip(asked, found, chinese, strict=True):
            in_table = len(word) <= 4 and max(word) < "\ufffe" and word in known
            assert index == (known.index(word) if in_table else NONE)
            assert is_chinese == (len(word) <= 4 and all("\u4e00" <= char <= "\u9fff" for char in word))


def test_many_words_are_found_as_in_a_dictionary():
    known = list(dict.fromkeys(word[:4] for word in oracle.jieba_words(20000) if len(word) > 1))
    known, others = known[::2], known[1::2]
    table = WordTable({word: index for index, word in enumerate(known)}, UNK)
    assert find(table, known)[0] == list(range(len(known)))
    assert set(find(table, others)[0]) == {NONE}


def test_characters_that_are_not_in_the_vocabulary_are_learned():
    analyzer = Analyzer(VOCABULARY, UNK)
    characters = analyzer._table.characters
    assert characters[ord("今")] == VOCABULARY["今"]
    assert characters[ord("龥")] == UNK
    assert characters[ord("☃")] == characters[ord(" ")] == ASK
    before = characters.copy()
    many = ["今天☃ 的😀龦\u2028\ufffe\uffff"] * 200
    ids = analyzer.batch(many)[0]
    learned = {chr(code): characters[code] for code in np.flatnonzero(characters != before)}
    assert learned == {"☃": UNK, " ": NONE, "\u2028": NONE}
    assert analyzer.batch(many)[0] == ids == [analyzer.analyse(text).ids for text in many]
    assert analyzer._records.keys() >= {"☃", " ", "😀", "\ufffe", "\uffff"}


@settings(max_examples=100, deadline=None)
@given(batch=st.lists(texts | st.sampled_from([*ORDINARY, *ODD]) | words, max_size=12), size=st.integers(1, 40))
@example(batch=["", "", "今天", ""], size=1000)
@example(batch=["\uffff", "a\uffff", "\uffffa", "\uffff\uffff"], size=1000)
@example(batch=[*ODD, *ORDINARY], size=10_000)
@pytest.mark.parametrize("cls_sep", [None, (2, 3)], ids=["bare", "framed"])
def test_chunks_of_texts_are_the_texts(cls_sep, batch, size):
    """Whatever stands beside a text in its chunk, and wherever a chunk ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis_wobert, "_SMALL", 0)
        patch.setattr(analysis_wobert, "_CHUNK", size)
        ids, spans = ANALYZER.batch(batch, False, True, cls_sep)
        assert ANALYZER.batch(batch, False, False, cls_sep) == (ids, None)
        assert ANALYZER.analyses(batch, False) == [ANALYZER.analyse(text, False) for text in batch]
    frame = ([], []) if cls_sep is None else ([cls_sep[0]], [cls_sep[1]])
    around = [] if cls_sep is None else [(0, 0)]
    for text, row, row_spans in itertools.zip_longest(batch, ids, spans):
        plain = ANALYZER.analyse(text, False)
        assert row == frame[0] + plain.ids + frame[1]
        assert row_spans == around + plain.spans + around
    assert all(type(index) is int for row in ids for index in row)
    assert all(type(place) is int for row in spans for span in row for place in span)


@pytest.mark.parametrize(
    "word", ["苏剑林", "哈利·波特", "a\uffffb", "\uffff今天", "今天\uffff\uffff", "\x00\x00", "😀天"]
)
def test_user_words_are_found_within_texts_only(word):
    analyzer = Analyzer(VOCABULARY, UNK, user_words=[word])
    batch = ["a", "b今天", "", "今天b", *[f"a{word}b", word, "今天", "苏剑林"] * 50]
    assert len("".join(batch)) + 30 * len(batch) > analysis_wobert._SMALL
    assert analyzer.batch(batch)[0] == [analyzer.analyse(text).ids for text in batch]
    assert analyzer.analyses(batch) == [analyzer.analyse(text) for text in batch]


def test_two_vocabularies_do_not_meet():
    other = {token: index for index, token in enumerate(["[UNK]", "天", "今天", "，", "☃", "x" * 10])}
    batch = ["今天，天气☃ xxxxxxxxxx"] * 200
    ids = [Analyzer(vocabulary, vocabulary["[UNK]"]).batch(batch)[0][0] for vocabulary in (VOCABULARY, other)] * 2
    first = [VOCABULARY[token] for token in ("今天", "，", "天气", "[UNK]", "x", *["##x"] * 9)]
    assert ids == [first, [2, 3, 1, 0, 4, 5]] * 2


@pytest.mark.parametrize("way", [0, 10**9], ids=["chunk", "one-by-one"])
def test_ids_too_large_to_be_shared(way, monkeypatch):
    monkeypatch.setattr(analysis_wobert, "_SMALL", way)
    vocabulary = {"[UNK]": 0, "今天": 2**31 - 1, "天": 65536, "气": 65535}
    analyzer = Analyzer(vocabulary, 0)
    assert analyzer.batch(["今天，天气", "气"])[0] == [[2**31 - 1, 0, 65536, 65535], [65535]]
    assert analyzer.batch(["天", "气"])[0] == [[65536], [65535]]
