"""The moving average of a model with one weight, computed by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from kexue_hf import EmaCallback, InputError
from kexue_hf.trainers.averaged_weights import AVERAGING
from kexue_hf.trainers.whole_checkpoints import AtomicCheckpointTrainer

RATE = 0.5
# The mean of every four is 1.25.
SLOPES = [1.0, 2.0, 0.5, 1.5] * 4


class Slope(nn.Module):
    """Has the loss slope * weight, so a step subtracts RATE * slope from each weight that is not frozen."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 3.0, dtype=dtype))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, slope: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = (self.weight + self.frozen.to(self.weight.dtype)) * slope[:, None].to(self.weight.dtype)
        return {"loss": scores.mean(), "logits": scores}


def trainer_of(folder: Path, dtype: torch.dtype = torch.float32, cls: type = Trainer, **options: Any) -> Any:
    data = [{"slope": slope, "labels": 0} for slope in SLOPES]
    chosen = {"per_device_train_batch_size": 4, "save_strategy": "no", **options}
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        optim="sgd",
        learning_rate=RATE,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        train_sampling_strategy="sequential",
        num_train_epochs=1.0,
        **chosen,
    )
    return cls(model=Slope(dtype), args=arguments, train_dataset=data, eval_dataset=data)


def by_hand(decay: float, steps: int) -> float:
    weight = average = 3.0
    for step in range(1, steps + 1):
        weight -= RATE * 1.25
        share = min(decay, (1 + step) / (10 + step))
        average = share * average + (1 - share) * weight
    return average


@pytest.mark.parametrize("decay", [0.9999, 0.2], ids=["warming up", "warmed up in step 2"])
def test_the_model_ends_with_the_average(tmp_path, decay):
    trainer = trainer_of(tmp_path)
    ema = EmaCallback(decay).attach(trainer)
    trainer.train()
    assert ema.updates == 4 and trainer.model.weight.item() == pytest.approx(by_hand(decay, 4), rel=1e-6)
    assert trainer.model.frozen.item() == 1
    trainer.save_model()
    assert load_file(tmp_path / "model.safetensors")["weight"].equal(trainer.model.weight.detach())
    assert not (tmp_path / AVERAGING).exists()


def test_accumulated_batches_are_one_step(tmp_path):
    trainer = trainer_of(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    ema = EmaCallback().attach(trainer)
    trainer.train()
    assert ema.updates == 4 and trainer.model.weight.item() == pytest.approx(by_hand(0.9999, 4), rel=1e-6)


class Listening(TrainerCallback):
    """Records the weight in each evaluation, and after it."""

    def __init__(self) -> None:
        self.evaluated: list[float] = []
        self.trained: list[float] = []

    def on_prediction_step(self, args, state, control, model=None, **kwargs):
        self.evaluated.append(model.weight.item())

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        self.trained.append(model.weight.item())


def test_evaluation_uses_the_average_and_training_does_not(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 16}
    trainer, listening = trainer_of(tmp_path, **options), Listening()
    trainer.add_callback(listening)
    EmaCallback().attach(trainer)
    trainer.train()
    assert listening.evaluated == pytest.approx([by_hand(0.9999, step) for step in (1, 2, 3, 4)], rel=1e-6)
    assert listening.trained == [3 - RATE * 1.25 * step for step in (1, 2, 3, 4)]
    # The evaluation after the training uses the last evaluated weights.
    trainer.evaluate()
    assert listening.evaluated[-1] == listening.evaluated[-2]


def test_a_failed_evaluation_restores_the_weights(tmp_path):
    trainer = trainer_of(tmp_path, eval_strategy="steps", eval_steps=2)

    def fail(prediction):
        assert trainer.model.weight.item() == pytest.approx(by_hand(0.9999, 2), rel=1e-6)
        raise KeyError("no such figure")

    trainer.compute_metrics = fail
    EmaCallback().attach(trainer)
    with pytest.raises(KeyError, match="no such figure"):
        trainer.train()
    assert trainer.model.weight.item() == 3 - 2 * RATE * 1.25


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, dtype):
    saving = {"save_strategy": "steps", "save_steps": 3}
    whole = trainer_of(tmp_path / "whole", dtype, **saving)
    EmaCallback().attach(whole)
    whole.train()
    checkpoint = tmp_path / "whole" / "checkpoint-3"
    average, raw = load_file(checkpoint / "model.safetensors"), load_file(checkpoint / AVERAGING)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    assert average["weight"].item() == pytest.approx(by_hand(0.9999, 3), rel=tolerance)
    assert raw["raw.weight"].item() == 3 - 3 * RATE * 1.25 and "raw.frozen" not in raw
    if dtype == torch.bfloat16:
        assert raw["average.weight"].item() == pytest.approx(by_hand(0.9999, 3), rel=1e-6)
    resumed = trainer_of(tmp_path / "resumed", dtype, **saving)
    ema = EmaCallback().attach(resumed)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed.state.global_step == 4 and ema.updates == 4
    assert resumed.model.weight.equal(whole.model.weight)
    ends = [load_file(tmp_path / name / "checkpoint-4" / AVERAGING) for name in ("whole", "resumed")]
    assert ends[0].keys() == ends[1].keys() and all(ends[0][name].equal(ends[1][name]) for name in ends[0])
    if dtype == torch.float32:
        other = trainer_of(tmp_path / "other", dtype)
        EmaCallback(0.9).attach(other)
        with pytest.raises(InputError, match=r"was made with a decay of 0\.9999, now it is 0\.9: use the former"):
            other.train(resume_from_checkpoint=str(checkpoint))
    # A second training starts from the beginning.
    resumed.train()
    assert ema.updates == 4


def test_a_complete_checkpoint_has_both_sets_of_weights(tmp_path):
    """The mark is written after the weights needed to resume."""
    trainer = trainer_of(tmp_path, cls=AtomicCheckpointTrainer, save_strategy="steps", save_steps=2)
    EmaCallback().attach(trainer)
    marked: list[bool] = []
    write = trainer._save_rng_state  # after the model, before the mark

    def looking(folder: str) -> None:
        marked.append((Path(folder) / AVERAGING).exists() and not (Path(folder) / "progress.json").exists())
        write(folder)

    trainer._save_rng_state = looking
    trainer.train()
    assert marked == [True, True] and (tmp_path / "checkpoint-2" / "progress.json").exists()


def test_the_best_checkpoint_is_loaded_at_the_end(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    trainer = trainer_of(
        tmp_path, **options, load_best_model_at_end=True, metric_for_best_model="w", greater_is_better=True
    )
    # The weights decrease, so the first is the best.
    trainer.compute_metrics = lambda prediction: {"w": trainer.model.weight.item()}
    EmaCallback().attach(trainer)
    trainer.train()
    assert trainer.model.weight.item() == pytest.approx(by_hand(0.9999, 1), rel=1e-6)


def test_invalid_uses_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"must be from 0 to 1, got 1\.5"):
        EmaCallback(1.5)
    trainer = trainer_of(tmp_path)
    trainer.add_callback(EmaCallback())
    with pytest.raises(InputError, match=r"attach\(trainer\), got one passed"):
        trainer.train()
    with pytest.raises(InputError, match="leave FSDP or DeepSpeed out"):
        EmaCallback().attach(SimpleNamespace(is_fsdp_enabled=True, is_deepspeed_enabled=False))
    plain = trainer_of(tmp_path / "plain", save_strategy="steps", save_steps=3)
    plain.train()
    trainer = trainer_of(tmp_path)
    EmaCallback().attach(trainer)
    for callback, message in [
        (trainer.callback_handler.callbacks[-1], "is already attached"),
        (EmaCallback(), "already has an EmaCallback"),
    ]:
        with pytest.raises(InputError, match=message):
            callback.attach(trainer)
    with pytest.raises(InputError, match=r"checkpoint-3 holds no averaging\.safetensors: it was saved without"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "plain" / "checkpoint-3"))


def test_skipped_steps_do_not_count(tmp_path):
    trainer = trainer_of(tmp_path)
    ema = EmaCallback().attach(trainer)
    ema.on_train_begin(trainer.args, trainer.state, trainer.control)
    for skipped in (True, False):
        trainer.accelerator = SimpleNamespace(optimizer_step_was_skipped=skipped)
        ema.on_optimizer_step(trainer.args, trainer.state, trainer.control)
    assert ema.updates == 1


class Changing(TrainerCallback):
    """Freezes one weight and unfreezes the other before step 3 of 4."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        model.weight.requires_grad_(state.global_step < 2)
        model.frozen.requires_grad_(state.global_step >= 2)


def test_frozen_and_unfrozen_weights_are_averaged(tmp_path):
    averages, weights = [3.0, 1.0], [3.0, 1.0]
    for step in range(1, 5):
        weights[step > 2] -= RATE * 1.25
        share = (1 + step) / (10 + step)
        averages = [share * a + (1 - share) * w for a, w in zip(averages, weights, strict=True)]
    # Uninterrupted, and resumed before and after the change.
    for stopped in (None, 2, 3):
        trainer = trainer_of(tmp_path, **({} if stopped else {"save_strategy": "steps", "save_steps": 1}))
        # transformers requires both to be in the optimizer from the beginning.
        trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=RATE)
        trainer.add_callback(Changing())
        EmaCallback().attach(trainer)
        trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stopped}") if stopped else None)
        found = [trainer.model.weight.item(), trainer.model.frozen.item()]
        assert found == pytest.approx(averages, rel=1e-6), stopped


@pytest.mark.parametrize(
    ("options", "written"),
    [({}, True), ({"save_only_model": True}, False), ({"should_save": False}, False)],
    ids=["a checkpoint", "only the model", "another process"],
)
def test_which_runs_write_the_trained_weights(tmp_path, options, written):
    trainer = trainer_of(tmp_path)
    ema = EmaCallback().attach(trainer)
    ema.on_train_begin(trainer.args, trainer.state, trainer.control)
    trainer.args = SimpleNamespace(**{"should_save": True, "save_only_model": False, **options})
    ema._save(lambda *arguments: None, str(tmp_path), True)
    assert (tmp_path / AVERAGING).exists() == written
