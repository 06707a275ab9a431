"""Train with one set of weights; evaluate and save their exponential moving average (EMA).

    trainer = Trainer(model=model, args=arguments, ...)
    EmaCallback(decay=0.9999).attach(trainer)
    trainer.train()  # the model has the averaged weights afterwards

The averaging is done by torch.optim.swa_utils, but without its AveragedModel. That is a second module (with
accelerate's wrapped forward and all buffers) which would have to replace the first for each evaluation. Here, the
model's parameters take other values in place while an evaluation or a save runs, so tied weights, the optimizer, DDP
and compiled programs are not affected.

transformers does not tell a callback that an evaluation begins, nor in which folder it saves. So the callback attaches
to the trainer and wraps three of its methods (checked: transformers 5.23).
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback

from kexue_hf.errors import InputError

AVERAGING = "averaging.safetensors"


class EmaCallback(TrainerCallback):
    """Keep a moving average of the trained weights, and evaluate and save that average.

    The average starts from the initial weights. After each optimizer step, a <- d a + (1 - d) w, where d in step
    t = 1, 2, ... is min(decay, (1 + t) / (10 + t)): otherwise the untrained weights would dominate the first
    1 / (1 - decay) steps. Accumulated batches are one step. Steps skipped by the gradient scaler do not count.

    Processes that train together have equal weights and so equal averages. Weights in half precision are averaged in
    float32. Weights that are unfrozen during the training are averaged from then on; weights that are frozen again
    stay in the average.

    A checkpoint's model has the averaged weights. The trained weights are next to it in `averaging.safetensors`, so
    that a resumed run equals an uninterrupted one. Only a run with this callback and the same decay reads them:
    without it, a resumed run would silently continue from the averages. After the training, the model has the averaged
    weights, or those of the best checkpoint if the trainer loads it.

    Args:
        decay: the final value of d; 0 keeps only the last weights.

    Raises:
        InputError: `decay` is not from 0 to 1.
    """

    def __init__(self, decay: float = 0.9999) -> None:
        if not 0 <= decay <= 1:
            raise InputError(f"decay of averaged weights must be from 0 to 1, got {decay}")
        self.decay = decay
        self.updates = 0
        self.averages: dict[str, torch.Tensor] = {}
        self._trainer: Any = None
        self._swapped = False

    def attach(self, trainer: Any) -> "EmaCallback":
        """Add the callback to the trainer; do not also pass it to the trainer's constructor. Return the callback.

        Raises:
            InputError: the trainer shards the weights (FSDP, DeepSpeed) or already has an EmaCallback, or this
                callback is already attached.
        """
        if self._trainer is not None:
            raise InputError("this EmaCallback is already attached: create another one for another trainer")
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise InputError("averaged weights need all weights in each process: leave FSDP or DeepSpeed out")
        if any(isinstance(callback, EmaCallback) for callback in trainer.callback_handler.callbacks):
            raise InputError("the trainer already has an EmaCallback: attach only one, and pass none to the trainer")
        self._trainer = trainer
        wrappers: dict[str, Callable[..., Any]] = {
            "evaluation_loop": self._evaluate,
            "save_model": self._save,
            "_load_from_checkpoint": self._load,
        }
        for name, wrapper in wrappers.items():
            setattr(trainer, name, functools.partial(wrapper, getattr(trainer, name)))
        trainer.add_callback(self)
        return self

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model the averaged weights within the block.

        Afterwards, even after an error, the model has exactly its own weights again. Before and after the training,
        and inside another such block, nothing changes.
        """
        if not self.averages or self._swapped:
            yield
            return
        parameters = self._parameters()
        own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._swapped = True
        try:
            _copy(self.averages, parameters)
            yield
        finally:
            _copy(own, parameters)
            self._swapped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._trainer is None:
            raise InputError(
                "expected a callback attached with EmaCallback(...).attach(trainer), got one passed to the trainer"
            )
        if state.global_step == 0:  # otherwise `_load` has read the averages
            self._start()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Weights that were just unfrozen have been constant so far, so their average is their value.
        for name, parameter in self._trainer.model.named_parameters():
            if parameter.requires_grad and name not in self.averages:
                self.averages[name] = _average_of(parameter)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._trainer.accelerator.optimizer_step_was_skipped:
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        parameters = self._parameters()
        averages = list(self.averages.values())
        current = [parameters[name].detach().to(average.dtype) for name, average in self.averages.items()]
        get_ema_multi_avg_fn(decay)(averages, current, None)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not (args.load_best_model_at_end and state.best_model_checkpoint is not None):
            _copy(self.averages, self._parameters())
        self.averages = {}

    def _parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return the parameters that have an average, whether or not they are trained now."""
        return {name: weight for name, weight in self._trainer.model.named_parameters() if name in self.averages}

    def _start(self) -> None:
        self.updates = 0
        self.averages = {
            name: _average_of(parameter)
            for name, parameter in self._trainer.model.named_parameters()
            if parameter.requires_grad
        }

    def _evaluate(self, evaluation_loop: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with self.averaged():
            return evaluation_loop(*arguments, **options)

    def _save(
        self, save_model: Callable[..., None], output_dir: str | None = None, _internal_call: bool = False
    ) -> None:
        with self.averaged():
            save_model(output_dir, _internal_call)
        args = self._trainer.args
        # Only into checkpoints, before `AtomicCheckpointTrainer` marks them as complete; not into the final model.
        if (
            _internal_call
            and output_dir is not None
            and self.averages
            and args.should_save
            and not args.save_only_model
        ):
            self._write(Path(output_dir))

    def _write(self, folder: Path) -> None:
        tensors = {}
        for name, parameter in self._parameters().items():
            tensors[f"raw.{name}"] = parameter.detach().contiguous()
            if self.averages[name].dtype != parameter.dtype:  # the model's file holds it rounded
                tensors[f"average.{name}"] = self.averages[name].contiguous()
        facts = {"updates": str(self.updates), "decay": str(float(self.decay))}
        save_file(tensors, folder / AVERAGING, metadata=facts)

    def _load(self, load_from_checkpoint: Callable[..., None], checkpoint: str, *rest: Any, **options: Any) -> None:
        """Read the averages from a checkpoint, and put the trained weights into the model."""
        load_from_checkpoint(checkpoint, *rest, **options)
        path = Path(checkpoint) / AVERAGING
        if not path.is_file():
            raise InputError(
                f"{checkpoint} holds no {AVERAGING}: it was saved without averaged weights, or with save_only_model; "
                "resume without averaged weights, or start again from its model"
            )
        parameters = dict(self._trainer.model.named_parameters())
        with safe_open(path, "pt") as file, torch.no_grad():
            facts = file.metadata()
            if float(facts.get("decay", self.decay)) != self.decay:
                raise InputError(
                    f"{path} was made with a decay of {facts['decay']}, now it is {self.decay}: use the former, or "
                    "start again from its model"
                )
            stored = set(file.keys())
            raw = [key.removeprefix("raw.") for key in stored if key.startswith("raw.")]
            if not set(raw) <= parameters.keys():
                missing = min(set(raw) - parameters.keys())
                raise InputError(f"{path} has {missing}, which this model lacks: use a checkpoint of this model")
            # Averages the weights in the checkpoint, even those frozen by now, and the weights trained from now on.
            self._start()
            for name in raw:
                # The model's file holds the average, unless the weights are in half precision.
                self.averages[name] = _average_of(parameters[name])
                if f"average.{name}" in stored:
                    self.averages[name].copy_(file.get_tensor(f"average.{name}"))
                parameters[name].copy_(file.get_tensor(f"raw.{name}"))
            self.updates = int(facts["updates"])


def _average_of(parameter: torch.Tensor) -> torch.Tensor:
    """Return the initial average of a weight that has not been trained yet."""
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32), copy=True)


@torch.no_grad()
def _copy(values: dict[str, torch.Tensor], parameters: dict[str, torch.nn.Parameter]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)


__all__ = ["AVERAGING", "EmaCallback"]
