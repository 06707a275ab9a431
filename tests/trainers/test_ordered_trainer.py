"""Unsupported FSDP options; tests/examples/test_pretrain_mlm.py tests training with FSDP."""

from types import SimpleNamespace

import pytest
from accelerate.state import DistributedType

from kexue_hf.errors import InputError
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
