"""The moving average of BYOL in a Trainer: its closed form, and where it is refused."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertConfig, Trainer, TrainerCallback, TrainingArguments

from kexue_hf import SimSiamConfig, SimSiamModel, TargetAverageCallback, TextViewsCollator, simsiam_optimizer
from kexue_hf.errors import InputError
from tests.hub.hub_types import word_tokenizer
from tests.models.tiny_models import SIZES

TOKENIZER = word_tokenizer()
STEPS = 4


def model_of(**changes: Any) -> SimSiamModel:
    torch.manual_seed(0)
    return SimSiamModel(
        SimSiamConfig(encoder_config=BertConfig(**SIZES), **{"target": "ema", "norm": "layer", **changes})
    )


class Recorder(TrainerCallback):
    """Keeps the encoder's weights after each step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_train_begin(self, *arguments: Any, model: Any = None, **options: Any) -> None:
        self.weights.append(model.get_input_embeddings().weight.detach().clone())

    def on_step_end(self, *arguments: Any, model: Any = None, **options: Any) -> None:
        self.weights.append(model.get_input_embeddings().weight.detach().clone())


def trainer_of(folder: Path, model: Any, callbacks: list[TrainerCallback], **options: Any) -> Trainer:
    rows = [{"input_ids": TOKENIZER(text)["input_ids"]} for text in ["今天天气", "很好", "不错", "天气不错"] * 8]
    arguments = TrainingArguments(
        str(folder), max_steps=STEPS, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        learning_rate=1e-2, per_device_train_batch_size=4, **options,
    )  # fmt: skip
    collator = TextViewsCollator(TOKENIZER, deletion=0.2)
    return Trainer(model, arguments, train_dataset=rows, data_collator=collator, callbacks=callbacks)


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_average_has_its_closed_form(tmp_path: Path, schedule: str, accumulated: int) -> None:
    model = model_of(momentum=0.7, momentum_schedule=schedule)
    recorder = Recorder()
    options = {"gradient_accumulation_steps": accumulated}
    trainer_of(tmp_path, model, [TargetAverageCallback(), recorder], **options).train()
    expected = recorder.weights[0]
    assert len(recorder.weights) == STEPS + 1 and not torch.equal(expected, recorder.weights[-1])
    for step, weights in enumerate(recorder.weights[1:]):
        share = (1 + math.cos(math.pi * step / STEPS)) / 2 if schedule == "cosine" else 1
        momentum = 1 - 0.3 * share
        expected = momentum * expected + (1 - momentum) * weights
    torch.testing.assert_close(model.target_encoder.get_input_embeddings().weight, expected, rtol=1e-5, atol=1e-6)


def test_a_skipped_step_does_not_count() -> None:
    model, state = model_of(momentum=0.5), SimpleNamespace(global_step=0, max_steps=STEPS)
    model._averaged_in_step = None
    before = model.target_encoder.get_input_embeddings().weight.clone()
    with torch.no_grad():
        model.get_input_embeddings().weight += 1
    for skipped in (True, False):
        optimizer = SimpleNamespace(step_was_skipped=skipped)
        TargetAverageCallback().on_optimizer_step(None, state, None, model=model, optimizer=optimizer)
        assert torch.equal(model.target_encoder.get_input_embeddings().weight, before) == skipped


def test_what_has_no_average_is_refused(tmp_path: Path) -> None:
    for model, message in (
        (model_of(target="stop_gradient"), "expected a SimSiamModel with target='ema'"),
        (model_of().to(torch.bfloat16), "load the model with dtype='float32'"),
    ):
        with pytest.raises(InputError, match=message):
            trainer_of(tmp_path, model, [TargetAverageCallback()]).train()
    with pytest.raises(InputError, match="add one TargetAverageCallback only"):
        trainer_of(tmp_path, model_of(), [TargetAverageCallback(), TargetAverageCallback()]).train()


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_sharded_weights_are_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(tmp_path, model_of(), [TargetAverageCallback()])
    monkeypatch.setattr(
        "kexue_hf.trainers.simsiam_training.AcceleratorState", lambda: SimpleNamespace(distributed_type=kind)
    )
    with pytest.raises(InputError, match="leave FSDP or DeepSpeed out"):
        trainer.train()


def test_adapters_are_refused() -> None:
    model = model_of()
    model.peft_config = {}
    with pytest.raises(InputError, match="train the whole model"):
        TargetAverageCallback().on_train_begin(None, None, None, model=model)


def test_the_predictors_rate_needs_a_predictor(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(InputError, match="expected a model with a predictor"):
        simsiam_optimizer(model_of(predictor=False), arguments, 0.1)
    with pytest.raises(InputError, match="must be above 0, got 0"):
        simsiam_optimizer(model_of(), arguments, 0)
