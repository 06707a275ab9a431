"""Exchanged second segments and their labels; nothing else changes."""

import numpy as np
import pytest
import torch

from kexue_hf.trainers.collators import NextSegmentCollator
from tests.trainers.test_word_masking import Tokenizer, texts


class PairTokenizer(Tokenizer):
    cls_token_id, sep_token_id = 2, 3


@pytest.fixture
def rows():
    return [{**row, "word_ids": [-1, *range(len(row["input_ids"]) - 2), -1]} for row in texts(64)]


@pytest.fixture
def collator():
    return NextSegmentCollator(PairTokenizer(), probability=0.0)


def test_half_of_the_texts_exchange_their_second_parts(collator, rows):
    batch = collator(rows)
    assert batch["next_sentence_label"].sum() == 32
    for row, ids, types, label in zip(
        rows, batch["input_ids"], batch["token_type_ids"], batch["next_sentence_label"], strict=True
    ):
        content = row["input_ids"][1:-1]
        middle = len(content) // 2
        ids = ids[ids != 0].tolist()
        assert ids[: middle + 2] == [2, *content[:middle], 3] and ids[-1] == 3
        assert types[: middle + 2].sum() == 0 and types.sum() == len(ids) - middle - 2
        assert (ids[middle + 2 : -1] == content[middle:]) == (label == 0)
        if label:
            second = ids[middle + 2 : -1]
            others = [other["input_ids"][1:-1] for other in rows if other is not row]
            assert any(other[len(other) // 2 :][: len(second)] == second for other in others)


def test_no_row_grows_by_more_than_a_separator(collator, rows):
    assert collator(rows)["input_ids"].shape[1] <= max(len(row["input_ids"]) for row in rows) + 1


def test_a_single_text_keeps_its_second_part(collator, rows):
    assert collator(rows[:1])["next_sentence_label"].tolist() == [0]


def test_reproducible_and_masked(rows):
    collator = NextSegmentCollator(PairTokenizer(), probability=0.3)
    first, again = collator(rows), collator(rows)
    assert all(torch.equal(first[name], again[name]) for name in first)
    share = float((first["labels"] != -100).sum() / first["attention_mask"].sum())
    assert share == pytest.approx(0.3, abs=0.05)
    assert np.all(np.isin([2, 3], first["labels"].numpy(), invert=True))
