"""How long texts may be, and models that cannot be run on texts alone: calibration of models with few positions.

Oracle: the models themselves, which take a row of that length and none that is longer.
"""

import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, RobertaConfig, RobertaModel

import kexue_hf
from kexue_hf import PerformerBertConfig, PerformerBertModel, calibrate_performer, use_performer
from kexue_hf.performer.attention_modules import row_length
from tests.performer.test_report import SIZES, TEXTS, tokenizer_of_words

GPT = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=20)
MODELS = {
    "bert": lambda: (BertModel(BertConfig(**SIZES)), 32),
    "roberta": lambda: (RobertaModel(RobertaConfig(**SIZES, pad_token_id=1)), 30),
    "gpt2": lambda: (GPT2Model(GPT), 20),
}
LONG = [" ".join(text.split()[start : start + 50]) for text in TEXTS for start in range(0, 50, 10)]


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_as_long_as_the_model_takes(name: str) -> None:
    model, longest = MODELS[name]()
    assert row_length(model, None) == row_length(model, None, longest) == longest
    model(input_ids=torch.full((1, longest), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 7))
    with pytest.raises(ValueError, match=f"at most {longest} for this model, got {longest + 1}"):
        row_length(model, None, longest + 1)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        row_length(model, None, 0)


def test_what_a_tokenizer_says_is_the_default_alone() -> None:
    tokenizer = tokenizer_of_words()
    model, _ = MODELS["bert"]()
    assert row_length(model, tokenizer) == 32  # one that says nothing has a huge number
    tokenizer.model_max_length = 12
    assert row_length(model, tokenizer) == 12
    assert row_length(model, tokenizer, 30) == 30


def test_performer_bert_reads_beyond_its_table() -> None:
    model = PerformerBertModel(PerformerBertConfig(**SIZES))
    assert row_length(model, None) == 256 and row_length(model, None, 32**2) == 32**2
    with pytest.raises(ValueError, match="at most 1024"):
        row_length(model, None, 32**2 + 1)


@pytest.mark.parametrize("layers", [None, "auto"], ids=["calibrated", "auto"])
def test_long_texts_are_cut_to_what_the_model_takes(layers: str | None) -> None:
    tokenizer = tokenizer_of_words()

    def swap(**options: int) -> None:
        model, _ = MODELS["bert"]()
        if layers is None:
            calibrate_performer(use_performer(model), LONG, tokenizer, **options)
        else:
            use_performer(model, layers=layers, texts=LONG, tokenizer=tokenizer, **options)

    swap()
    with pytest.raises(ValueError, match="max_length must be at most 32 for this model, got 33"):
        swap(max_length=33)


def test_of_a_matcher_one_task_is_calibrated() -> None:
    """Texts do not say which; batches may."""
    config = kexue_hf.ClnMatcherConfig(**SIZES, task_names=["a", "b"])
    tokenizer = tokenizer_of_words()
    matcher = kexue_hf.ClnMatcherForSequenceClassification(config)
    refused = pytest.raises(ValueError, match=r"2 tasks \('a', 'b'\).* model.fold_task\('a'\)")
    with refused:
        use_performer(matcher, layers="auto", texts=LONG, tokenizer=tokenizer)
    with refused:
        calibrate_performer(use_performer(matcher), LONG, tokenizer)
    batch = tokenizer(LONG, padding=True, truncation=True, max_length=32, return_tensors="pt")
    assert calibrate_performer(matcher, [{**batch, "task_ids": "b"}])
    assert calibrate_performer(use_performer(matcher.fold_task("b")), LONG, tokenizer)
