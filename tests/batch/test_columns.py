"""Columns of every engine: read as texts and nulls, with one clear error for anything else, and written back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from kexue_hf import InputError
from kexue_hf.batch.columns import string_column, text_column, with_columns

TEXTS = ["今天", "", None]


@pytest.mark.parametrize(
    "batch",
    [
        {"text": TEXTS},
        {"text": np.array(TEXTS, dtype=object)},
        pd.DataFrame({"text": TEXTS}),
        pd.DataFrame({"text": pd.array(TEXTS, dtype="string")}),
        pd.DataFrame({"text": ["今天", "", float("nan")]}, dtype=object),
        Dataset.from_dict({"text": TEXTS})[:],
    ],
    ids=["lists", "arrays", "frame", "nullable-frame", "nan-frame", "datasets"],
)
def test_texts_and_nulls_are_read(batch: Any) -> None:
    assert text_column(batch, "text") == TEXTS


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (["今天"], "expected a batch of columns"),
        ({"a": ["今天"], "b": [1]}, "no column 'text', only a, b"),
        ({}, "no column 'text', only nothing"),
        ({"text": "今天"}, "'text' must hold a list of texts, got str: call with batches"),
        ({"text": ["今天", 3]}, "column 'text', row 1 of the batch: expected a text, got int"),
        ({"text": np.array([[0.5], [1.0]])}, "column 'text', row 0 of the batch: expected a text, got list"),
        ({"text": [b"a"]}, "row 0 of the batch: expected a text, got bytes"),
        ({"text": ["a", "b\ud800"]}, "row 1 of the batch: half a surrogate pair"),
        (pd.DataFrame({"text": [1, 2]}), "row 0 of the batch: expected a text, got int"),
    ],
)
def test_anything_else_is_one_line_with_its_place(batch: Any, message: str) -> None:
    with pytest.raises(InputError) as raised:
        text_column(batch, "text")
    assert message in str(raised.value) and "\n" not in str(raised.value)


NEW = {"vector": np.arange(6, dtype=np.float32).reshape(3, 2), "number": np.arange(3)}


def test_a_dictionary_keeps_its_columns_and_is_not_changed() -> None:
    batch = {"text": TEXTS, "id": [1, 2, 3]}
    found = with_columns(batch, NEW)
    assert list(found) == ["text", "id", "vector", "number"] and list(batch) == ["text", "id"]
    assert found["vector"] is NEW["vector"]


def test_a_frame_keeps_its_index() -> None:
    frame = pd.DataFrame({"text": TEXTS}, index=[7, 3, 5])
    found = with_columns(frame, NEW)
    assert list(found.index) == [7, 3, 5] and list(found.columns) == ["text", "vector", "number"]
    np.testing.assert_array_equal(np.stack(found["vector"]), NEW["vector"])
    assert list(frame.columns) == ["text"]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_two_columns_of_one_name_are_no_texts(rows: int) -> None:
    """Usual after a join."""
    frame = pd.DataFrame([["a", "b"]] * rows, columns=["text", "text"])
    with pytest.raises(InputError, match="the batch has several columns 'text'"):
        text_column(frame, "text")


@pytest.mark.parametrize("make", [dict, pd.DataFrame])
def test_no_column_is_replaced(make: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="already has a column 'number': choose other names with prefix="):
        with_columns(make({"text": TEXTS, "number": TEXTS}), NEW)


def test_strings_keep_their_nulls() -> None:
    column = string_column(TEXTS)
    assert column.dtype == object and column.tolist() == TEXTS
