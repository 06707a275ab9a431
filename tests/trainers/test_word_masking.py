"""Word masking: fractions, invariants, reproducibility.

The collator's outputs are compared with its inputs; there is no reference implementation.
"""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kexue_hf.trainers.collators import IGNORED, WordMaskingCollator

WORDS = [f"词{i}" for i in range(200)]
CONTINUATIONS = [f"##p{i}" for i in range(20)]
VOCABULARY = {
    token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *CONTINUATIONS])
}
FIRST_CONTINUATION = VOCABULARY[CONTINUATIONS[0]]


class Tokenizer(SimpleNamespace):
    mask_token, mask_token_id, pad_token, pad_token_id, all_special_ids = "[MASK]", 4, "[PAD]", 0, [0, 1, 2, 3, 4]

    def get_vocab(self) -> dict[str, int]:
        return VOCABULARY

    def __len__(self) -> int:
        return len(VOCABULARY)


def texts(number: int, seed: int = 0) -> list[dict[str, list[int]]]:
    """Return texts of words of one to three word pieces, with [CLS], [SEP] and an [UNK]."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(number):
        ids = [2]
        for _ in range(random.integers(5, 40)):
            ids.append(int(random.integers(5, FIRST_CONTINUATION)))
            ids.extend(random.integers(FIRST_CONTINUATION, len(VOCABULARY), size=random.integers(0, 3)).tolist())
        rows.append({"input_ids": [*ids, 1, 3]})
    return rows


@pytest.fixture
def collator() -> WordMaskingCollator:
    return WordMaskingCollator(Tokenizer(), probability=0.15)


def test_fractions(collator):
    batch = collator(texts(4000))
    originals = batch["labels"].where(batch["labels"] != IGNORED, batch["input_ids"])
    starts = (originals >= 5) & (originals < FIRST_CONTINUATION)
    chosen = (batch["labels"] != IGNORED) & starts
    assert chosen.sum() / starts.sum() == pytest.approx(0.15, abs=0.01)
    hidden = (batch["input_ids"] == 4) & chosen
    left = (batch["input_ids"] == batch["labels"]) & chosen
    assert hidden.sum() / chosen.sum() == pytest.approx(0.8, abs=0.02)
    assert left.sum() / chosen.sum() == pytest.approx(0.1, abs=0.02)


def test_unchosen_tokens_stay_and_labels_are_the_originals(collator):
    rows = texts(50)
    batch = collator(rows)
    for row, ids, labels, attention in zip(
        rows, batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
    ):
        length = len(row["input_ids"])
        original = torch.tensor(row["input_ids"])
        chosen = labels[:length] != IGNORED
        assert torch.equal(labels[:length][chosen], original[chosen])
        assert torch.equal(ids[:length][~chosen], original[~chosen])
        assert attention.sum() == length and (labels[length:] == IGNORED).all() and (ids[length:] == 0).all()


def test_special_tokens_are_neither_chosen_nor_inserted(collator):
    rows = texts(2000)
    batch = collator(rows)
    chosen = batch["labels"] != IGNORED
    assert (batch["labels"][chosen] >= 5).all()
    inserted = batch["input_ids"][chosen & (batch["input_ids"] != 4)]
    assert len(inserted) > 1000 and (inserted >= 5).all()


@pytest.mark.parametrize("given", [True, False], ids=["word_ids", "word pieces"])
def test_tokens_of_a_word_share_one_fate(collator, given):
    rows = texts(200)
    for row in rows:
        ids = np.array(row["input_ids"])
        row["words"] = np.cumsum(ids < FIRST_CONTINUATION)
        if given:
            # Given words are longer: two of the tokenizer's each.
            row["words"] = row["words"] // 2
            row["word_ids"] = [None if i < 5 else int(w) for i, w in zip(ids, row["words"], strict=True)]
    batch = collator(rows)
    several = 0
    for row, ids, labels in zip(rows, batch["input_ids"].numpy(), batch["labels"].numpy(), strict=True):
        original = np.array(row["input_ids"])
        for word in set(row["words"]):
            tokens = np.flatnonzero((row["words"] == word) & (original >= 5))
            several += len(tokens) > 1
            assert len({bool(labels[t] != IGNORED) for t in tokens}) <= 1
            assert len({bool(ids[t] == 4) for t in tokens}) <= 1
    assert several > 100


def test_equal_word_numbers_in_a_pair_are_different_words():
    collator = WordMaskingCollator(Tokenizer(), probability=0.5)
    ids = [2, *range(5, 15), 3, *range(20, 30), 3]
    words = [-1, *range(10), -1, *range(10), -1]
    row = {"input_ids": ids, "word_ids": words, "token_type_ids": [0] * 12 + [1] * 11}
    labels = collator([row])["labels"][0].numpy() != IGNORED
    assert (labels[1:11] != labels[12:22]).any()


def test_every_text_has_a_word_to_predict():
    batch = WordMaskingCollator(Tokenizer(), probability=0.01)([{"input_ids": [2, 7, 3]}, {"input_ids": [2, 9, 8, 3]}])
    assert ((batch["labels"] != IGNORED).sum(1) >= 1).all()


def test_a_text_of_special_tokens_has_no_labels(collator):
    batch = collator([{"input_ids": [2, 3]}, {"input_ids": [2, 1, 3]}])
    assert (batch["labels"] == IGNORED).all()


def test_reproducible_and_picklable(collator):
    rows = texts(20)
    again = pickle.loads(pickle.dumps(collator))
    collator(texts(20, seed=1))  # earlier calls do not matter
    assert torch.equal(collator(rows)["input_ids"], again(rows)["input_ids"])
    other = WordMaskingCollator(Tokenizer(), probability=0.15, seed=1)
    assert not torch.equal(other(rows)["input_ids"], collator(rows)["input_ids"])
    # Another batch gives other masks, as in a later epoch.
    alone, together = collator(rows[:2])["labels"][0], collator([rows[0], rows[2]])["labels"][0]
    length = len(rows[0]["input_ids"])
    assert not torch.equal(alone[:length], together[:length])


def test_a_numbered_rows_masks_depend_only_on_row_and_epoch(collator):
    rows = [{**row, "row": number, "epoch": 0} for number, row in enumerate(texts(20))]
    together = collator(rows)
    for index, row in enumerate(rows):
        alone = collator([row])
        for name, values in alone.items():
            length = values.shape[1]
            assert torch.equal(values[0], together[name][index, :length]), name
    later = collator([{**row, "epoch": 1} for row in rows])
    other = collator([{**row, "row": row["row"] + 1} for row in rows])
    for masks in (later, other):
        assert not any(torch.equal(*pair) for pair in zip(masks["labels"], together["labels"], strict=True))


def test_numbered_rows_keep_the_fractions():
    rows = [{**row, "row": number, "epoch": 3} for number, row in enumerate(texts(2000))]
    batch = WordMaskingCollator(Tokenizer(), probability=0.15)(rows)
    chosen = batch["labels"] != IGNORED
    hidden, left = ((batch["input_ids"] == ids) & chosen for ids in (4, batch["labels"]))
    assert hidden.sum() / chosen.sum() == pytest.approx(0.8, abs=0.02)
    assert left.sum() / chosen.sum() == pytest.approx(0.1, abs=0.02)
    assert (batch["input_ids"][chosen & ~hidden] >= 5).all()


def test_loader_workers_do_not_change_masks(collator):
    batches = [list(DataLoader(texts(32), batch_size=8, collate_fn=collator, num_workers=n)) for n in (0, 2)]
    for here, there in zip(*batches, strict=True):
        assert all(torch.equal(here[name], there[name]) for name in here)


def test_token_types_and_multiples_are_kept():
    collator = WordMaskingCollator(Tokenizer(), pad_to_multiple_of=8)
    batch = collator([{"input_ids": [2, 7, 3, 8, 3], "token_type_ids": [0, 0, 0, 1, 1]}])
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0, 0, 0]]
    assert all(tensor.shape == (1, 8) and tensor.dtype == torch.int64 for tensor in batch.values())


@pytest.mark.parametrize("arguments", [{"probability": 1.5}, {"mask_fraction": -0.1}], ids=str)
def test_invalid_fractions_are_refused(arguments):
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        WordMaskingCollator(Tokenizer(), **arguments)


def test_a_tokenizer_without_mask_is_refused():
    tokenizer = Tokenizer()
    tokenizer.mask_token = tokenizer.mask_token_id = None
    with pytest.raises(ValueError, match="needs a tokenizer with a mask token"):
        WordMaskingCollator(tokenizer)
