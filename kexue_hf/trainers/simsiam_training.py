"""Train SimSiam and BYOL with transformers' Trainer: the moving average, and the predictor's learning rate."""

import math
from typing import Any

import torch
from accelerate.state import AcceleratorState, DistributedType
from transformers import Trainer, TrainerCallback, TrainingArguments

from kexue_hf.errors import InputError


class TargetAverageCallback(TrainerCallback):
    """Update the moving average of a SimSiamModel with `target="ema"` after each optimizer step.

    Accumulated batches are one step. Steps skipped by the gradient scaler do not count. The weight of the old average
    in step t = 1 ... T is the configuration's `momentum`, or with `momentum_schedule="cosine"`
    1 - (1 - momentum) (1 + cos(pi (t - 1) / T)) / 2, as in BYOL. The average is a part of the model, so checkpoints
    contain it, and a resumed run equals an uninterrupted one.

    Raises:
        InputError: when the training starts: the model has no moving average, or its weights are sharded, adapters or
            in half precision, which loses small updates; later: a second such callback updates the average again.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if getattr(getattr(model, "config", None), "target", None) != "ema":
            raise InputError(
                f"expected a SimSiamModel with target='ema', got {type(model).__name__} without: leave the callback "
                "out, or set the target"
            )
        # The launcher may have asked for them too, so the arguments do not tell.
        if AcceleratorState().distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            raise InputError("a moving average needs all weights in each process: leave FSDP or DeepSpeed out")
        if hasattr(model, "peft_config"):
            raise InputError("the average of adapters is not the adapter of the average: train the whole model")
        if any(weight.dtype in (torch.float16, torch.bfloat16) for weight in model.parameters()):
            raise InputError(
                "a moving average in half precision stands still: load the model with dtype='float32'; --bf16 still "
                "computes in bfloat16"
            )
        model._averaged_in_step = None

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        if getattr(optimizer, "step_was_skipped", False):
            return
        if model._averaged_in_step == state.global_step:
            raise InputError("the moving average was updated twice in a step: add one TargetAverageCallback only")
        model._averaged_in_step = state.global_step
        momentum = model.config.momentum
        if model.config.momentum_schedule == "cosine":
            progress = state.global_step / max(1, state.max_steps)
            momentum = 1 - (1 - momentum) * (1 + math.cos(math.pi * progress)) / 2
        model.update_target(momentum)


def simsiam_optimizer(
    model: Any, arguments: TrainingArguments, predictor_learning_rate: float
) -> torch.optim.Optimizer:
    """Return the optimizer of `arguments`, with a learning rate of its own for the predictor.

    The predictor is the fast part of the dynamics: following the encoder closely, it keeps the vectors from collapsing
    (kexue.fm 7980). Pass the result as `Trainer(optimizers=(optimizer, None))`; the schedule scales both rates.

    Args:
        model: a SimSiamModel with a predictor.
        arguments: the Trainer's arguments.
        predictor_learning_rate: highest learning rate of the predictor.

    Raises:
        InputError: the model has no predictor, or the learning rate is not above 0.
    """
    predictor = getattr(model, "predictor", None)
    if predictor is None:
        raise InputError("expected a model with a predictor, got one without: leave the predictor's learning rate out")
    if not predictor_learning_rate > 0:
        raise InputError(f"the predictor's learning rate must be above 0, got {predictor_learning_rate}")
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    own = {id(weight) for weight in predictor.parameters()}
    groups = []
    for fast in (False, True):
        for decay in (True, False):
            weights = [
                weight
                for weight in model.parameters()
                # Biases, and scales and shifts of norms, are not decayed.
                if weight.requires_grad and (id(weight) in own) == fast and (weight.dim() > 1) == decay
            ]
            rate = {"lr": predictor_learning_rate} if fast else {}
            if weights:
                groups.append({"params": weights, "weight_decay": arguments.weight_decay * decay, **rate})
    optimizer: torch.optim.Optimizer = kind(groups, **options)
    return optimizer


__all__ = ["TargetAverageCallback", "simsiam_optimizer"]
