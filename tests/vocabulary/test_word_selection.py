"""Which tokens are kept, which words are added, and their word pieces.

Oracle: tests/golden/wobert_from_bert, made by bert4keras 0.10.5 (`load_vocab(simplified=True)`, `compound_tokens`).
"""

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue_hf.models.wobert.vocabulary_wobert import load_vocabulary
from kexue_hf.vocabulary.corpus_counts import dictionary_frequencies
from kexue_hf.vocabulary.group_means import group_means
from kexue_hf.vocabulary.word_selection import choose_words, keep_tokens, speller
from tests.shared_data import SHARED, needs_shared

CASE = Path(__file__).parents[1] / "golden" / "wobert_from_bert"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def golden() -> tuple[dict[str, int], list[int], list[list[int]]]:
    token_dict, kept, compounds = json.loads((CASE / "tokenizer_config.json").read_text(encoding="utf-8"))
    return token_dict, kept, compounds


def test_keep_tokens_equals_the_original():
    token_dict, rows, _ = golden()
    kept = keep_tokens(load_vocabulary(CASE / "vocab.txt"), SPECIAL)
    assert list(kept.values()) == rows
    assert list(kept) == list(token_dict)[: len(rows)]


def test_compound_tokens_equal_the_original():
    token_dict, rows, compounds = golden()
    words = list(token_dict)[len(rows) :]
    pieces_of = speller({token: token_dict[token] for token in list(token_dict)[: len(rows)]}, token_dict["[UNK]"])
    assert [pieces_of(word) for word in words] == compounds
    assert [1] in compounds  # some cannot be spelt, which also tests the unknown token


@pytest.mark.parametrize(
    ("token", "stays"),
    [
        ("中", True),
        ("##中", False),
        ("中国", False),
        ("[unused1]", False),
        ("...", False),
        ("##。", False),
        ("##ing", True),
        ("##", True),
        ("", True),
        ("##￣", True),
        ("##👍", True),
        ("e1", True),
    ],
)
def test_which_tokens_stay(token, stays):
    assert (token in keep_tokens({"[UNK]": 0, token: 1}, SPECIAL)) == stays


def test_added_tokens_and_words_of_a_word_model_stay():
    vocabulary = {"[UNK]": 0, "[E1]": 1, "中国": 2, "##国": 3, "中": 4, "[CLS]": 5}
    assert keep_tokens(vocabulary, SPECIAL, ["[E1]"], words=True) == {
        "[UNK]": 0,
        "[CLS]": 5,
        "[E1]": 1,
        "中国": 2,
        "中": 4,
    }


def test_words_are_chosen_by_count_then_ties_then_code_point():
    counts = {"甲乙": 2, "乙甲": 2, "甲甲": 5, "乙乙": 2, "甲丙": 9, "已有": 9}
    vocabulary = {"[UNK]": 0, "甲": 1, "乙": 2, "已": 3, "有": 4}
    pieces_of = speller(vocabulary, 0)
    assert choose_words(counts, 9, {"已有"}, pieces_of, 0) == ["甲甲", "乙乙", "乙甲", "甲乙"]
    assert choose_words(counts, 2, {"已有"}, pieces_of, 0, Counter({"甲乙": 1})) == ["甲甲", "甲乙"]


VALUES = st.floats(-(2.0**99), 2.0**99, width=32, allow_nan=False)


@given(groups=st.lists(st.lists(VALUES, min_size=1, max_size=9), min_size=1, max_size=9))
def test_means_are_right_to_the_last_bits_of_float32(groups):
    rows = np.array([[value, -value] for group in groups for value in group], dtype=np.float32)
    means = group_means(rows, [len(group) for group in groups])
    assert means.dtype == np.float64 and means.shape == (len(groups), 2)
    for mean, group in zip(means, groups, strict=True):
        exact = sum(map(Fraction, group)) / len(group)
        assert abs(Fraction(mean[0]) - exact) <= Fraction(max(map(abs, group))) / 2**45
        assert mean[1] == -mean[0]


def test_means_of_no_rows_and_of_single_rows():
    assert group_means(np.ones((0, 3)), []).shape == (0, 3)
    assert group_means(np.array([1.0, 2.0, 6.0]), [1, 2]).tolist() == [1.0, 4.0]


@needs_shared
def test_the_released_vocabulary_except_mojibake_and_single_characters():
    released = load_vocabulary(SHARED / "golden" / "tokenizer" / "wobert_vocab.txt")
    tokens = sorted(released, key=released.__getitem__)
    characters, words = tokens[:13_586], tokens[13_586:]
    known = {token: index for index, token in enumerate(characters)}
    chosen = choose_words(dictionary_frequencies(), 20_000, known, speller(known, known["[UNK]"]), known["[UNK]"])
    missed = set(words) - set(chosen)
    assert len(chosen) == len(words) == 20_000 and len(missed) == 510
    # We leave out single characters, and words with a character that the vocabulary lacks.
    assert sum(len(word) == 1 or any(char not in known for char in word) for word in missed) == 510
