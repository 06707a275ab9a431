"""Unsupported FSDP options (tests/examples/test_pretrain_mlm.py trains with FSDP), and facts in checkpoints."""

from types import SimpleNamespace

import pytest
from accelerate.state import DistributedType
from transformers import TrainingArguments

from kexue_hf.errors import InputError
from kexue_hf.trainers.collators import WordMaskingCollator
from kexue_hf.trainers.ordered_trainer import AtomicCheckpointTrainer, OrderedTrainer


@pytest.mark.parametrize(
    ("kind", "checkpointing", "message"),
    [
        (DistributedType.MULTI_CPU, False, "expected GPUs for --fsdp, got CPUs.*: leave --fsdp out"),
        (DistributedType.FSDP, True, "activation_checkpointing in --fsdp_config .* use --gradient_checkpointing"),
    ],
    ids=["CPUs", "FSDP's activation checkpointing"],
)
def test_unsupported_fsdp_is_refused(monkeypatch, kind, checkpointing, message) -> None:
    state = SimpleNamespace(fsdp_plugin=SimpleNamespace(activation_checkpointing=checkpointing))

    def create(trainer: AtomicCheckpointTrainer) -> None:
        trainer.accelerator = SimpleNamespace(state=state, distributed_type=kind)
        trainer.is_fsdp_enabled = kind == DistributedType.FSDP

    monkeypatch.setattr(AtomicCheckpointTrainer, "create_accelerator_and_postprocess", create)
    trainer = object.__new__(OrderedTrainer)
    trainer.args = SimpleNamespace(fsdp_plugin_args={})
    with pytest.raises(InputError, match=message) as caught:
        trainer.create_accelerator_and_postprocess()
    assert "\n" not in str(caught.value)


def test_ddp_on_cpus_is_not_refused(monkeypatch) -> None:
    def create(trainer: AtomicCheckpointTrainer) -> None:
        trainer.accelerator = SimpleNamespace(distributed_type=DistributedType.MULTI_CPU)
        trainer.is_fsdp_enabled = False

    monkeypatch.setattr(AtomicCheckpointTrainer, "create_accelerator_and_postprocess", create)
    trainer = object.__new__(OrderedTrainer)
    trainer.args = SimpleNamespace(fsdp_plugin_args=None)
    trainer.create_accelerator_and_postprocess()


def test_the_names_of_mask_facts_stay(tmp_path) -> None:
    """Checkpoints store them: with other names, no earlier run could be resumed."""
    trainer = object.__new__(OrderedTrainer)
    trainer.args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer.train_dataset = None
    trainer.data_collator = object.__new__(WordMaskingCollator)
    trainer.data_collator.__dict__.update(seed=3, probability=0.2, mask_fraction=0.7)
    facts = {name: value for name, value in trainer._facts().items() if name.startswith("mask ")}
    assert facts == {"mask seed": 3, "mask probability": 0.2, "mask hidden": 0.7}
