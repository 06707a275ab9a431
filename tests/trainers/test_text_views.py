"""Views of texts: what each option changes, what stays, and that seed, epoch and row determine them."""

from typing import Any

import numpy as np
import pytest
import torch

from kexue_hf import TextViewsCollator
from tests.hub.hub_types import word_tokenizer

TOKENIZER = word_tokenizer()
CLS, SEP, MASK = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.mask_token_id
LONG = [CLS, *[5 + number % 9 for number in range(40)], SEP]


def made(ids: list[int], views: int = 2, seed: int = 0, **options: Any) -> list[list[int]]:
    """The attended tokens of each view."""
    batch = TextViewsCollator(TOKENIZER, views=views, seed=seed, **options)([{"input_ids": ids, "row": 3, "epoch": 1}])
    return [
        view[mask == 1].tolist() for view, mask in zip(batch["input_ids"][0], batch["attention_mask"][0], strict=True)
    ]


def subsequence(part: list[int], whole: list[int]) -> bool:
    rest = iter(whole)
    return all(token in rest for token in part)


def test_without_options_all_views_are_the_text() -> None:
    assert made(LONG, views=3) == [LONG] * 3


@pytest.mark.parametrize("option", ["deletion", "cutoff"])
def test_a_fraction_of_the_words_is_left_out(option: str) -> None:
    views = made(LONG, views=50, **{option: 0.3})
    assert all(view[0] == CLS and view[-1] == SEP and subsequence(view, LONG) for view in views)
    assert 0.6 < np.mean([(len(view) - 2) / 40 for view in views]) < 0.8
    assert views[0] != views[1]


def test_cutoff_hides_words_and_leaves_their_places() -> None:
    batch = TextViewsCollator(TOKENIZER, cutoff=0.5)([{"input_ids": LONG}])
    assert batch["input_ids"].shape == (1, 2, 42) and (batch["input_ids"] == torch.tensor(LONG)).all()
    assert not batch["attention_mask"].all()


def test_masking_hides_whole_words() -> None:
    ids = [CLS, 7, 14, 15, 9, SEP]  # the token 15 continues the word of 14
    assert TOKENIZER.convert_ids_to_tokens(15) == "##b"
    for view in made(ids, views=60, masking=0.5):
        assert (view[2] == MASK) == (view[3] == MASK) and view[0] == CLS and view[-1] == SEP
        assert set(view[1:-1]) != {MASK}


def test_word_numbers_of_the_rows_take_precedence() -> None:
    rows = [{"input_ids": [CLS, 7, 8, 9, SEP], "word_ids": [-1, 0, 0, 1, -1]}]
    views = TextViewsCollator(TOKENIZER, views=60, masking=0.5)(rows)["input_ids"][0]
    assert ((views[:, 1] == MASK) == (views[:, 2] == MASK)).all() and (views[:, 1] == MASK).any()


def test_shuffled_words_move_by_at_most_the_given_distance() -> None:
    ids = [CLS, *range(5, 15), SEP]
    views = made(ids, views=50, shuffle=2)
    for view in views:
        assert sorted(view) == sorted(ids)
        assert all(abs(place - ids.index(token)) <= 2 for place, token in enumerate(view))
    assert any(view != ids for view in views)


def test_passages_are_contiguous_and_differ() -> None:
    ids = [CLS, *range(5, 15), SEP]
    views = made(ids, views=30, passage=0.4)
    assert all(view[1:-1] == list(range(view[1], view[1] + 4)) for view in views)
    assert len({view[1] for view in views}) > 2


def test_the_first_view_can_stay() -> None:
    first, second = made(LONG, deletion=0.5, keep_first=True)
    assert first == LONG and second != LONG


def test_long_views_are_cut_within_their_frame() -> None:
    assert made(LONG, max_length=10) == [[*LONG[:9], SEP]] * 2


@pytest.mark.parametrize("ids", [[CLS, SEP], [CLS, 7, SEP], []])
def test_short_and_empty_texts_stay(ids: list[int]) -> None:
    assert made(ids, deletion=0.9, masking=0.9, cutoff=0.9, shuffle=3, passage=0.1) == [ids] * 2


def test_padding_is_dropped() -> None:
    row = {"input_ids": [CLS, 7, SEP, 0, 0], "attention_mask": [1, 1, 1, 0, 0], "word_ids": [-1, 0, -1, -1, -1]}
    batch = TextViewsCollator(TOKENIZER)([row])
    assert batch["input_ids"].tolist() == [[[CLS, 7, SEP]] * 2] and batch["attention_mask"].all()


@pytest.mark.parametrize("options", [{"cutoff": 0.9}, {"cutoff": 0.9, "masking": 0.9}])
def test_a_word_stays_visible_and_unmasked_in_short_views_too(options: dict[str, Any]) -> None:
    for view in made(LONG, views=50, max_length=5, **options):
        assert any(token not in (CLS, SEP, MASK) for token in view)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_make_the_same_views(workers: int) -> None:
    rows = [{"input_ids": LONG, "row": row, "epoch": 2} for row in range(6)]
    collator = TextViewsCollator(TOKENIZER, deletion=0.3, shuffle=3)
    loader = torch.utils.data.DataLoader(rows, batch_size=2, collate_fn=collator, num_workers=workers)
    for number, batch in enumerate(loader):
        expected = collator(rows[2 * number : 2 * number + 2])
        assert torch.equal(batch["input_ids"], expected["input_ids"])


def test_views_depend_on_seed_epoch_and_row_alone() -> None:
    options: dict[str, Any] = {"deletion": 0.3, "shuffle": 2, "masking": 0.2}
    rows = [{"input_ids": LONG, "row": row, "epoch": 0} for row in range(4)]
    whole = TextViewsCollator(TOKENIZER, **options)(rows)["input_ids"]
    alone = TextViewsCollator(TOKENIZER, **options)(rows[2:3])["input_ids"]
    assert torch.equal(whole[2, :, : alone.shape[2]], alone[0])
    for other in (
        TextViewsCollator(TOKENIZER, **options, seed=1)(rows[2:3]),
        TextViewsCollator(TOKENIZER, **options)([{**rows[2], "epoch": 1}]),
        TextViewsCollator(TOKENIZER, **options)(rows[1:2]),
    ):
        assert other["input_ids"].shape != alone.shape or not torch.equal(other["input_ids"], alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deletion": 1.0}, "deletion must be from 0 up to, but not including, 1, got 1.0"),
        ({"masking": -0.1}, "masking must be from 0"),
        ({"cutoff": 2}, "cutoff must be from 0"),
        ({"passage": 0.0}, "passage must be above 0"),
        ({"views": 0}, "views must be at least 1"),
        ({"shuffle": -1}, "shuffle must be at least 0"),
        ({"max_length": 2}, "max_length must be at least 3"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextViewsCollator(TOKENIZER, **options)


def test_pairs_and_rows_without_epoch_are_refused() -> None:
    with pytest.raises(ValueError, match="expected texts with `row` and `epoch`"):
        TextViewsCollator(TOKENIZER)([{"input_ids": [CLS, 7, SEP], "row": 1}])
    with pytest.raises(ValueError, match="expected single texts"):
        TextViewsCollator(TOKENIZER)([{"input_ids": [CLS, 7, SEP, 8, SEP], "token_type_ids": [0, 0, 0, 1, 1]}])
