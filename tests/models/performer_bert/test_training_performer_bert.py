"""Training with linear attention by transformers' Trainer: accumulating, resuming, two processes, less memory."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

from kexue_hf.models.performer_bert.feature_maps_performer_bert import FeatureMap, RandomFeatures
from tests.models.performer_bert.training_runs import KINDS, create, losses, padded, rows, train
from tests.two_processes import two_processes

STEPS = 6


def draws(model: torch.nn.Module) -> torch.Tensor:
    maps = [module for module in model.modules() if isinstance(module, RandomFeatures)]
    return torch.stack([map_.projection for map_ in maps])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each kind from beginning to end, a checkpoint in the middle; batches of eight."""
    folders = {kind: tmp_path_factory.mktemp("plain") for kind in KINDS}
    for kind, folder in folders.items():
        train(kind, folder, STEPS)
    return folders


@pytest.mark.parametrize("kind", ["low_order", "favor+"])
def test_accumulated_batches_are_one_large_batch(kind: str, plain: dict[str, Path], tmp_path: Path) -> None:
    """The losses after the first tell that the gradients were equal too, and that no pass was taken for a step."""
    train(kind, tmp_path, STEPS, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    expected = losses(plain[kind])
    assert len(set(expected)) == STEPS
    assert losses(tmp_path) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["favor+, dropout", "mixed lengths", "swapped BERT, favor+"])
def test_resuming_goes_on_as_if_nothing_had_happened(kind: str, plain: dict[str, Path], tmp_path: Path) -> None:
    """To the last bit, redraws included."""
    checkpoint = plain[kind] / "checkpoint-3"
    trained = train(kind, tmp_path, STEPS, resume=checkpoint)
    assert losses(tmp_path) == losses(plain[kind])
    whole = AutoModelForSequenceClassification.from_pretrained(plain[kind] / f"checkpoint-{STEPS}")
    assert not trained.load_state_dict(whole.state_dict()).missing_keys
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[name]), name
    if "favor+" in kind:
        steps = {int(map_.steps) for map_ in whole.modules() if isinstance(map_, FeatureMap)}
        middle = AutoModelForSequenceClassification.from_pretrained(checkpoint)
        assert steps == {STEPS} and not torch.equal(draws(middle), draws(whole))


def test_a_checkpoint_of_a_swapped_bert_is_one_of_a_bert(plain: dict[str, Path]) -> None:
    folder = plain["swapped BERT, favor+"]
    loaded = AutoModelForSequenceClassification.from_pretrained(folder / f"checkpoint-{STEPS}")
    assert type(loaded).__name__ == "BertForSequenceClassification"
    assert loaded.config._attn_implementation == "favor" and loaded.config.performer["redraw"] == 2


@pytest.mark.parametrize("kind", ["low_order", "favor+"])
def test_gradient_checkpointing_gives_the_same_gradients(kind: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = create(kind).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(0)
        model(**padded(rows()[:5])).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert gradients[0] and gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["low_order", "favor+", "swapped BERT, favor+"])
def test_autocast_stays_near_float32(kind: str) -> None:
    model, batch = create(kind).eval(), padded(rows()[:5])
    expected = model(**batch).logits
    with torch.autocast("cpu", torch.bfloat16):
        found = model(**batch)
    assert found.logits.dtype == torch.bfloat16
    assert 0 < (found.logits.float() - expected).norm() < 0.03 * expected.norm()
    found.loss.backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_best_weights_are_no_step_and_evaluations_are_none(tmp_path: Path) -> None:
    """Evaluating and saving between the steps changes no loss; a model that was saved is the one that was measured."""
    arguments = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "load_best_model_at_end": True}
    model = train("favor+", tmp_path / "measured", STEPS, **arguments)
    train("favor+", tmp_path / "plain", STEPS)
    assert losses(tmp_path / "measured") == losses(tmp_path / "plain")
    history = json.loads((tmp_path / "measured" / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())
    measured = [entry["eval_loss"] for entry in history["log_history"] if "eval_loss" in entry]
    for step in (1, 2, 3):
        saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "measured" / f"checkpoint-{step}")
        trainer = Trainer(saved, TrainingArguments(tmp_path, use_cpu=True, report_to="none"), padded)
        assert trainer.evaluate(rows()[:5])["eval_loss"] == pytest.approx(measured[step - 1], rel=1e-6)
    best = min(range(STEPS), key=measured.__getitem__) + 1
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "measured" / f"checkpoint-{best}")
    assert torch.equal(draws(model), draws(saved))


@pytest.mark.slow
def test_two_processes_are_one(plain: dict[str, Path], tmp_path: Path) -> None:
    """The same losses; and each has redrawn for itself, to the same features."""
    with two_processes("tests.models.performer_bert.training_runs", tmp_path, STEPS) as process:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    found = [torch.tensor(json.loads((tmp_path / f"draws-{rank}.json").read_text())) for rank in (0, 1)]
    assert torch.equal(found[0], found[1])
    # A step's loss is the mean over all rows, of both processes.
    assert losses(tmp_path) == pytest.approx(losses(plain["favor+"]), rel=1e-5)
    whole = AutoModelForSequenceClassification.from_pretrained(plain["favor+"] / f"checkpoint-{STEPS}")
    assert torch.equal(found[0], draws(whole))
