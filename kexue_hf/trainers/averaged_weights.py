"""Train with one set of weights, evaluate and save another: the exponential moving average of all it has been.

    trainer = Trainer(model=model, args=arguments, ...)
    EmaCallback(decay=0.9999).attach(trainer)
    trainer.train()  # the model has the averaged weights afterwards

torch.optim.swa_utils does the averaging itself; not its AveragedModel, which is a second module (forward passes that
accelerate has wrapped, buffers and all) and would be to be swapped for the first. Here it is the model's parameters
that get other values for as long as an evaluation or a saving takes, in the memory where they are, so that tied
weights, optimizer, DDP and compiled programs notice nothing.

transformers tells a callback neither that an evaluation begins nor in which folder it saves. So the callback is
attached to the trainer, three methods of which it wraps (checked: transformers 5.23).
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
    """Keeps the moving average of the trained weights, a <- d a + (1 - d) w after every step of the optimizer, from
    the first weights on; evaluates and saves that.

    In step t = 1, 2, ... d is min(decay, (1 + t) / (10 + t)), lest the average be that of the untrained weights for
    the first 1 / (1 - decay) steps. Accumulated batches are one step; one that the gradient scaler skips is none.
    Processes that train together have the same weights and so the same averages. Weights in half precision are
    averaged in float32. Weights that are unfrozen during the training are averaged from then on, and those that are
    frozen still are: what all that were ever trained have been counts.

    A checkpoint's model is the averaged one; the weights that the training goes on with are beside it, in
    `averaging.safetensors`, so that a resumed run equals one in one go. Only a run with this callback and the same
    decay reads them: resumed without it, a training would go on from the averages, as if these had been trained, and
    nobody could tell. After the training the model has the averaged weights, or those of the best checkpoint, if the
    trainer was to load these.

    Args:
        decay: d, in the long run; 0 takes the last weights only.

    Raises:
        InputError: `decay` is not from 0 to 1.
    """

    def __init__(self, decay: float = 0.9999) -> None:
        if not 0 <= decay <= 1:
            raise InputError(f"the decay of averaged weights must be from 0 to 1, got {decay}")
        self.decay = decay
        self.updates = 0
        self.averages: dict[str, torch.Tensor] = {}
        self._trainer: Any = None
        self._swapped = False

    def attach(self, trainer: Any) -> "EmaCallback":
        """Make it one of the trainer's callbacks; do not pass it to the trainer otherwise. Returns itself.

        Raises:
            InputError: the trainer divides the weights among processes (FSDP, DeepSpeed); it has such a callback, or
                this one has a trainer.
        """
        if self._trainer is not None:
            raise InputError("this EmaCallback is attached already; make another one for another trainer")
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise InputError("averaged weights need all weights in each process: leave FSDP or DeepSpeed out")
        if any(isinstance(callback, EmaCallback) for callback in trainer.callback_handler.callbacks):
            raise InputError("the trainer has an EmaCallback already: attach one, and pass none to the trainer")
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
        """In the block the model has the averaged weights; afterwards, even after an error, its own, to the last bit.

        Before and after the training, and in such a block, it changes nothing.
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
            raise InputError("an EmaCallback is attached to its trainer, EmaCallback(...).attach(trainer), not passed")
        if state.global_step == 0:  # else `_load` has read them
            self._start()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # What was unfrozen, before its first step: until now it has been what it is, and so has the average.
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
        """Those that have an average, whether or not they are trained now."""
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
        # Into a checkpoint, before `MarkingTrainer` marks it as whole; not into what is saved to be used.
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
            if self.averages[name].dtype != parameter.dtype:  # the model's file has it rounded
                tensors[f"average.{name}"] = self.averages[name].contiguous()
        facts = {"updates": str(self.updates), "decay": str(float(self.decay))}
        save_file(tensors, folder / AVERAGING, metadata=facts)

    def _load(self, load_from_checkpoint: Callable[..., None], checkpoint: str, *rest: Any, **options: Any) -> None:
        """The averages from a checkpoint, and into the model the weights that the training goes on with."""
        load_from_checkpoint(checkpoint, *rest, **options)
        path = Path(checkpoint) / AVERAGING
        if not path.is_file():
            raise InputError(
                f"{checkpoint} holds no {AVERAGING}: it is of a training without averaged weights, or was saved "
                "without what a training goes on with (save_only_model); go on without them, or start anew from "
                "its model"
            )
        parameters = dict(self._trainer.model.named_parameters())
        with safe_open(path, "pt") as file, torch.no_grad():
            facts = file.metadata()
            if float(facts.get("decay", self.decay)) != self.decay:
                raise InputError(
                    f"{path} was made with a decay of {facts['decay']}, now it is {self.decay}: take that one, or "
                    "start anew from its model"
                )
            stored = set(file.keys())
            raw = [key.removeprefix("raw.") for key in stored if key.startswith("raw.")]
            if not set(raw) <= parameters.keys():
                missing = min(set(raw) - parameters.keys())
                raise InputError(f"{path} has {missing}, which this model lacks: it is of another model")
            # Of what is in the checkpoint, even where it is frozen again by now; and of what is trained from now on.
            self._start()
            for name in raw:
                # The model's file has the average, but for one in half precision.
                self.averages[name] = _average_of(parameters[name])
                if f"average.{name}" in stored:
                    self.averages[name].copy_(file.get_tensor(f"average.{name}"))
                parameters[name].copy_(file.get_tensor(f"raw.{name}"))
            self.updates = int(facts["updates"])


def _average_of(parameter: torch.Tensor) -> torch.Tensor:
    """The average of a weight that has not been trained yet."""
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32), copy=True)


@torch.no_grad()
def _copy(values: dict[str, torch.Tensor], parameters: dict[str, torch.nn.Parameter]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)


__all__ = ["AVERAGING", "EmaCallback"]
