"""Unsupported FSDP options; tests/examples/test_pretrain_mlm.py tests training with FSDP."""

from types import SimpleNamespace

import pytest
from accelerate.state import DistributedType, PartialState

from kexue_hf.errors import InputError
from kexue_hf.trainers import ordered_trainer
from kexue_hf.trainers.ordered_trainer import MarkingTrainer, OrderedTrainer


@pytest.mark.parametrize(
    ("kind", "checkpointing", "message"),
    [
        (DistributedType.MULTI_CPU, False, r"1\.15 \(the one that was tried\): this is 1\.0; .* leave --fsdp out"),
        (DistributedType.FSDP, True, "activation_checkpointing in --fsdp_config .* use --gradient_checkpointing"),
    ],
    ids=["an accelerate that takes no change", "FSDP's activation checkpointing"],
)
def test_unsupported_fsdp_is_refused(monkeypatch, kind, checkpointing, message) -> None:
    plugin = SimpleNamespace(activation_checkpointing=checkpointing)
    state = SimpleNamespace(fsdp_plugin=plugin, mixed_precision="no")

    def create(trainer: MarkingTrainer) -> None:
        # Here, `distributed_type` does not come from the state.
        trainer.accelerator = SimpleNamespace(state=state, distributed_type=kind)
        trainer.is_fsdp_enabled = kind == DistributedType.FSDP

    monkeypatch.setattr(MarkingTrainer, "create_accelerator_and_postprocess", create)
    monkeypatch.setattr(ordered_trainer.accelerate, "__version__", "1.0")
    monkeypatch.setattr(PartialState, "_shared_state", {})
    trainer = object.__new__(OrderedTrainer)
    trainer.args = SimpleNamespace(fsdp_plugin_args={})
    with pytest.raises(InputError, match=message):
        trainer.create_accelerator_and_postprocess()
