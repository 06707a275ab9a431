"""Models whose positions extend beyond their table read long texts whole, in every function for texts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from kexue_hf import (
    PerformerBertConfig,
    WoBertTokenizer,
    build_sentence_transformer,
    match_texts,
    score_texts,
    sentence_vectors,
)
from kexue_hf.pipelines.text_windows import default_max_length, max_length_limit
from tests.models.tiny_models import SIZES

WORDS = [f"字{chr(0x4E00 + number)}" for number in range(20)]
CHARACTERS = [chr(0x4E00 + number) for number in range(20)]
OPTIONS: dict[str, Any] = {**SIZES, "max_position_embeddings": 32, "initializer_range": 0.4}


@pytest.fixture(params=["performer_bert", "nezha"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    from transformers import AutoConfig

    torch.manual_seed(0)
    more = {"attention_switch_length": 0} if request.param == "performer_bert" else {}
    config = AutoConfig.for_model(request.param, **OPTIONS, **more)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS]
    WoBertTokenizer(vocab=vocabulary, model_max_length=4096).save_pretrained(tmp_path)
    return tmp_path


def tokenizer_of(folder: Path) -> WoBertTokenizer:
    return WoBertTokenizer.from_pretrained(folder)


def test_differences_beyond_the_table_count(folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    same, start = "".join(CHARACTERS[:10]) * 4, CHARACTERS[0]
    pairs = [(start, same + CHARACTERS[11] * 9), (start, same + CHARACTERS[12] * 9)]
    first, second = (found["match"] for found in match_texts(model, tokenizer_of(folder), pairs))
    assert first != second
    found = list(match_texts(model, tokenizer_of(folder), pairs, max_length=40))
    assert found[0] == found[1]


def test_sentence_vectors_need_one_pass(folder: Path) -> None:
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), tokenizer_of(folder)
    text = "".join(CHARACTERS) * 3
    ids = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**ids).last_hidden_state[0, 1:-1].mean(0)
    torch.testing.assert_close(torch.tensor(sentence_vectors(model, tokenizer, text)[0]), expected)


def test_scores_need_one_window_and_lengths_are_the_models(folder: Path) -> None:
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder).eval(), tokenizer_of(folder)
    (score,) = score_texts(model, tokenizer, "".join(CHARACTERS) * 3)
    assert score.windows == 1
    (score,) = score_texts(model, tokenizer, "".join(CHARACTERS) * 3, max_length=50)
    assert score.windows > 1
    # The tokenizer's limit is a default; the model's limits the requested length.
    tokenizer.model_max_length = 20
    assert default_max_length(model, tokenizer) == 20
    assert score_texts(model, tokenizer, "".join(CHARACTERS) * 3, max_length=512)[0].windows == 1
    if model.config.model_type == "performer_bert":
        with pytest.raises(ValueError, match="max_length must be from 3 to 1024"):
            score_texts(model, tokenizer, "一", max_length=1025)


@pytest.mark.parametrize("rows", [512, 1023, 1024, 2048])
def test_large_tables_are_limits(rows: int) -> None:
    config = PerformerBertConfig(**{**OPTIONS, "max_position_embeddings": rows})
    model, unbounded = type("Model", (), {"config": config})(), type("T", (), {"model_max_length": int(1e30)})()
    assert default_max_length(model, unbounded) == max_length_limit(model, unbounded) == rows**2


def test_a_sentence_transformer_reads_the_whole_text(folder: Path, tmp_path: Path) -> None:
    text = "".join(CHARACTERS) * 3
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), tokenizer_of(folder)
    expected = torch.tensor(sentence_vectors(model, tokenizer, text))
    made = build_sentence_transformer(folder)
    assert made.max_seq_length == (1024 if model.config.model_type == "performer_bert" else 4096)
    torch.testing.assert_close(torch.tensor(made.encode([text])), expected)
    made.save(str(tmp_path / "saved"))
    again = type(made)(str(tmp_path / "saved"))
    torch.testing.assert_close(torch.tensor(again.encode([text])), expected)
