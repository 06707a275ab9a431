"""Batches for language autoencoding: every real token except the special ones is a label."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from kexue_hf import TtaTokenizer
from kexue_hf.trainers.collators import IGNORED, LanguageAutoencodingCollator
from kexue_hf.vocabulary.vocabulary_files import TTA_SPECIAL_TOKENS

PAD, EOS, UNK, SOS, MASK = range(5)


@pytest.fixture(scope="module")
def tokenizer() -> TtaTokenizer:
    return TtaTokenizer(vocab=[*TTA_SPECIAL_TOKENS, *"天地玄黄宇宙洪荒"])


def test_all_tokens_except_special_ones_are_labels(tokenizer):
    rows = [{"input_ids": tokenizer("天地玄龘黄")["input_ids"]}, {"input_ids": tokenizer("宇")["input_ids"]}]
    batch = LanguageAutoencodingCollator(tokenizer)(rows)
    assert batch["input_ids"].tolist() == [[SOS, 7, 8, 9, UNK, 10, EOS], [SOS, 11, EOS, *[PAD] * 4]]
    assert batch["labels"].tolist() == [[-100, 7, 8, 9, -100, 10, -100], [-100, 11, *[-100] * 5]]
    assert batch["attention_mask"].tolist() == [[1] * 7, [1] * 3 + [0] * 4]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_padding_is_never_a_label():
    # Some tokenizers pad with a token that also occurs in texts.
    class Tokenizer(SimpleNamespace):
        pad_token_id, all_special_ids = 7, [0]

        def __len__(self) -> int:
            return 9

    batch = LanguageAutoencodingCollator(Tokenizer(), pad_to_multiple_of=4)([{"input_ids": [0, 7, 8]}])
    assert batch["labels"].tolist() == [[IGNORED, 7, 8, IGNORED]]


def test_rows_of_single_texts_and_pairs(tokenizer):
    rows = [
        {"input_ids": [SOS, 7, EOS, 8, EOS], "token_type_ids": [0, 0, 0, 1, 1], "word_ids": [-1, 0, -1, 1, -1]},
        {"input_ids": [SOS, 7, EOS], "token_type_ids": [0, 0, 0], "word_ids": [-1, 0, -1]},
    ]
    rows = [{**row, "row": index, "epoch": 3, "length": len(row["input_ids"])} for index, row in enumerate(rows)]
    collator = pickle.loads(pickle.dumps(LanguageAutoencodingCollator(tokenizer)))  # as a loader's worker receives it
    batch = collator(rows)
    assert set(batch) == {"input_ids", "attention_mask", "labels", "token_type_ids"}
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]
    # Nothing is random, so epoch and row do not matter.
    again = collator([{**row, "row": 9 - row["row"], "epoch": 4} for row in rows])
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_existing_padding_is_masked(tokenizer):
    rows = [
        dict(tokenizer("天地", padding="max_length", max_length=6)),
        dict(tokenizer("天地玄", padding="max_length", max_length=5)),
    ]
    batch = LanguageAutoencodingCollator(tokenizer)(rows)
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]
    # A token that the mask excludes is no label, even if it is a token of the text.
    hidden = {"input_ids": [SOS, 7, 8, EOS], "attention_mask": [1, 1, 0, 1]}
    batch = LanguageAutoencodingCollator(tokenizer)([hidden, {"input_ids": [SOS, 9, EOS]}])
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 1], [1, 1, 1, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 7, IGNORED, IGNORED], [IGNORED, 9, IGNORED, IGNORED]]


def test_a_tokenizer_that_cannot_pad_is_refused():
    with pytest.raises(ValueError, match="needs a tokenizer with a padding token"):
        LanguageAutoencodingCollator(SimpleNamespace(pad_token_id=None))
