"""Training on what has no gradient, from values of the objective alone (kexue.fm/archives/7737).

    trainer = ZerothOrderTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        objective=macro_f1,  # macro_f1(outputs, labels) -> a number; higher is better
        options=ZerothOrderOptions(parameters="classifier"),
    )
    trainer.train()

docs/zeroth_order.md says when this works and when it does not.
"""

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from kexue_hf.errors import InputError
from kexue_hf.losses.items import IGNORED
from kexue_hf.trainers.whole_checkpoints import AtomicCheckpointTrainer
from kexue_hf.trainers.zeroth_order_gradient import Slope, direction_seed, slopes
from kexue_hf.trainers.zeroth_order_optimizer import AlternatingOptimizer, DirectionOptimizer

Choice = str | Sequence[str] | Callable[[str, nn.Parameter], bool] | None
# In a row: steps that changed nothing before a warning, and steps without a finite slope before an error.
_STILL_STEPS, _NAN_STEPS = 10, 20
# Lengths of steps, and epsilon, of a few tried on a classifier of 2,000 weights; see docs/zeroth_order.md.
_STEP_LENGTH, _ADAM_RATE, _MAX_EPSILON = 0.1, 1e-3, 0.03
# Copies of the trained weights that cost less than this share of the model are always kept.
_SMALL_SHARE = 0.01


@dataclass(frozen=True)
class ZerothOrderOptions:
    """How a [`ZerothOrderTrainer`] estimates and steps.

    Args:
        epsilon: distance of the two points from the weights: the root mean square change of a weight. A metric that
            counts predictions needs a distance at which some of them change. None: 1 / sqrt(changed weights), at most
            0.03, which suits a classifier as well as a whole model.
        directions: random directions of a step; each costs two passes over the batch.
        learning_rate: of zeroth-order steps; the rate of `TrainingArguments` is that of gradient steps. The schedule
            of `TrainingArguments` applies to both. None: 0.1 if slopes are normalized, 1e-3 for Adam.
        parameters: which of the trainable weights change: all (None); those under a module, by name
            ("classifier") or names; or those for which a function of name and parameter is true.
        normalize: scale the slopes so that the learning rate is the length of a step, over all changed weights, and
            depends neither on the objective's scale nor on the number of weights. Not for Adam, which does not need
            it. Without either, the step is the learning rate times the estimated gradient.
        momentum: share of the last step that is kept; its state is one more copy of the changed weights. A step
            becomes longer, up to 1 / (1 - momentum) times.
        adam: scale each weight's step by its history; its state is two more copies.
        betas: of Adam.
        gradient_steps: ordinary steps, on the loss, before each zeroth-order step.
        whole_batch: compute the objective once, from the logits and labels of the accumulated batches of all
            processes. Otherwise it is the mean over these parts, weighted by rows; for objectives that read other
            outputs, or logits too large to be gathered.
        restore: "copy" keeps a copy of the changed weights, so that they are exact after each estimate; "reseed"
            undoes a move by a subtraction, which rounds. "auto" copies if the weights are less than 1 % of the
            model, or in half precision, where rounding would destroy them.

    Raises:
        InputError: a number is out of range.
    """

    epsilon: float | None = None
    directions: int = 8
    learning_rate: float | None = None
    parameters: Choice = None
    normalize: bool = True
    momentum: float = 0.0
    adam: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    gradient_steps: int = 0
    whole_batch: bool = True
    restore: Literal["auto", "copy", "reseed"] = "auto"

    def __post_init__(self) -> None:
        for name in ("epsilon", "learning_rate"):
            given = getattr(self, name)
            if given is not None and not 0 < given < math.inf:
                raise InputError(f"{name} must be above 0 and finite, got {given}")
        for name, low in (("directions", 1), ("gradient_steps", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise InputError(f"{name} must be a whole number, {low} or more, got {value}")
        for name, value in (("momentum", self.momentum), ("betas", self.betas[0]), ("betas", self.betas[1])):
            if not 0 <= value < 1:
                raise InputError(f"{name} must be 0 or more and below 1, got {value}")
        if self.adam and self.momentum:
            raise InputError(f"expected momentum or adam, got both: Adam's momentum is betas[0], {self.betas[0]}")
        if self.learning_rate is None and not self.normalize and not self.adam:
            raise InputError("without normalize, the learning rate depends on the objective: expected learning_rate")
        if self.restore not in ("auto", "copy", "reseed"):
            raise InputError(f"restore must be auto, copy or reseed, got {self.restore}")


class ZerothOrderTrainer(AtomicCheckpointTrainer):
    """An [`AtomicCheckpointTrainer`] without gradients: it compares the objective at points along random directions.

    The weights move to these points in place, and a direction is drawn again from its seed whenever it is needed, so a
    step takes the memory of inference. The seeds depend on `args.seed`, the step and the direction only: all processes
    move alike, each with its own rows, and a resumed run takes the same directions.

    The model is in evaluation mode during an estimate, because other dropout at the second point would hide the slope.
    With `nn.DataParallel` the objective sees the logits of all devices; without one, the model's loss is the mean over
    the devices, as in `Trainer`.

    A direction at whose points the objective is not finite is skipped, and a step without any other is left out.
    Weight decay and gradient clipping apply to gradient steps only.

    Takes the arguments of `AtomicCheckpointTrainer`, and:

    Args:
        objective: `objective(outputs, labels)` returns a number, higher is better: any metric of a batch. It sees
            logits and labels of the whole batch (see `whole_batch`), and may use NumPy or any other code. None: the
            loss is minimised, as `Trainer` computes it.
        options: a [`ZerothOrderOptions`].

    Attributes:
        skipped_directions: directions left out because the objective was not finite.
        skipped_steps: steps left out because all of their directions were.

    Raises:
        InputError: `parameters` names no trainable weight, or the training arguments shard the weights or use fp16.
    """

    def __init__(
        self,
        *arguments: Any,
        objective: Callable[[Any, Any], Any] | None = None,
        options: ZerothOrderOptions | None = None,
        **others: Any,
    ) -> None:
        super().__init__(*arguments, **others)
        self.objective = objective
        self.options = options or ZerothOrderOptions()
        self.skipped_directions = self.skipped_steps = 0
        self._parts: list[dict[str, Any]] = []
        self._still = self._unmoved = self._not_finite = 0
        self._warned: set[str] = set()
        self._gradient_loss: Any = 0.0
        self._gradient_step = -1
        self._objectives: list[float] = []
        self._direction_optimizer: DirectionOptimizer | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._check()
        # A function cannot be recorded; the number of weights that it chooses can.
        recorded = {one.name: getattr(self.options, one.name) for one in fields(ZerothOrderOptions)}
        del recorded["parameters"]
        self.facts = {
            "zeroth order": {**recorded, "betas": list(self.options.betas), "seed": self.args.seed},
            "changed weights": sum(parameter.numel() for parameter in self.changed_parameters().values()),
            **self.facts,
        }

    def changed_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that zeroth-order steps change, by name.

        Raises:
            InputError: there are none.
        """
        choice = self.options.parameters
        trainable = {name: one for name, one in self.model.named_parameters() if one.requires_grad}
        if choice is None:
            found = trainable
        elif callable(choice):
            found = {name: one for name, one in trainable.items() if choice(name, one)}
        else:
            paths = [choice] if isinstance(choice, str) else list(choice)
            found = {name: one for name, one in trainable.items() if any(f".{p}." in f".{name}." for p in paths)}
        if not found:
            modules = sorted({".".join(name.split(".")[:2]) for name in trainable})
            shown = ", ".join(modules[:20]) or "none: the model has no trainable weights"
            raise InputError(f"parameters={choice!r} matches no trainable weight: expected a part of {shown}")
        return found

    def create_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        """Return the optimizer of zeroth-order steps, with that of gradient steps if there are such."""
        current: Any = self.optimizer  # type: ignore[has-type]  # transformers has no types
        # Trainer removes the optimizer of a model that it has made anew.
        if current is not None and self._optimizer is not None:
            return self._optimizer
        ours = self.options
        self._direction_optimizer = DirectionOptimizer(
            self.changed_parameters().values(),
            ours.learning_rate or (_ADAM_RATE if ours.adam else _STEP_LENGTH),
            ours.momentum,
            ours.betas if ours.adam else None,
        )
        if ours.gradient_steps:
            gradient = super().create_optimizer(*arguments, **options)
            self._optimizer = AlternatingOptimizer(gradient, self._direction_optimizer)
        else:
            self._optimizer = self._direction_optimizer
        self.optimizer = self._optimizer
        return self._optimizer

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Take a zeroth-order step with the last of the accumulated batches, or a part of an ordinary step."""
        every = self.options.gradient_steps + 1
        if self.state.global_step % every < self.options.gradient_steps:
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
            first = self._gradient_step != self.state.global_step
            self._gradient_step = self.state.global_step
            self._gradient_loss = loss if first else self._gradient_loss + loss
            return loss
        self._parts.append(self._prepare_inputs(inputs))
        if len(self._parts) < self.current_gradient_accumulation_steps:
            return torch.tensor(0.0, device=self.args.device)
        parts, self._parts = self._parts, []
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            shown = self._estimate(model, parts)
        finally:
            for module, training in modes.items():
                module.training = training
        return torch.tensor(shown, device=self.args.device)

    def log(self, logs: dict[str, float], *arguments: Any, **options: Any) -> None:
        """Log as `Trainer` does, with the mean objective and the number of skipped directions."""
        if "learning_rate" in logs:
            if not self.options.gradient_steps:
                logs.pop("grad_norm", None)
            if self.objective is not None and self._objectives:
                logs["objective"] = sum(self._objectives) / len(self._objectives)
            if self.skipped_directions:
                logs["skipped_directions"] = self.skipped_directions
            self._objectives = []
        super().log(logs, *arguments, **options)

    def _estimate(self, model: nn.Module, parts: list[dict[str, Any]]) -> float:
        """Hand the directions of this step to the optimizer; return what is logged as the loss."""
        assert self._direction_optimizer is not None
        self._note_movement()
        ours, step = self.options, self.state.global_step
        (group,) = self._direction_optimizer.param_groups
        seeds = [direction_seed(self.args.seed, step, number) for number in range(ours.directions)]
        found = slopes(lambda: self._value(model, parts), group["params"], seeds, self._epsilon(), self._copies())
        finite = [slope for slope in found if math.isfinite(slope.value)]
        self.skipped_directions += len(found) - len(finite)
        self._check_slopes(found, finite)
        self._direction_optimizer.directions = self._coefficients(finite)
        if not finite:
            return math.nan
        mean = sum(slope.plus + slope.minus for slope in finite) / (2 * len(finite))
        self._objectives.append(-mean)
        return float(self._gradient_loss) if self.objective is not None and ours.gradient_steps else mean

    def _coefficients(self, finite: list[Slope]) -> list[tuple[int, float]]:
        """Return (seed, coefficient) of the directions that are not flat; the step goes against their sum."""
        size = math.sqrt(sum(slope.value**2 for slope in finite) / max(1, len(finite)))
        if not size:
            return []
        normalized = self.options.normalize and not self.options.adam
        divisor = size * math.sqrt(len(finite) * self._changed_weights()) if normalized else len(finite)
        return [(slope.seed, slope.value / divisor) for slope in finite if slope.value]

    def _changed_weights(self) -> int:
        assert self._direction_optimizer is not None
        return sum(parameter.numel() for parameter in self._direction_optimizer.param_groups[0]["params"])

    def _epsilon(self) -> float:
        return self.options.epsilon or min(_MAX_EPSILON, 1 / math.sqrt(self._changed_weights()))

    def _value(self, model: nn.Module, parts: list[dict[str, Any]]) -> float:
        """Return the loss, or the negative objective, of the whole batch; the same on every process."""
        with torch.no_grad():
            if self.objective is None:
                return self._mean([(self._loss(model, part), _items(part)) for part in parts])
            outputs = [self._outputs(model, part) for part in parts]
            labels = [part.get("labels") for part in parts]
            if self.options.whole_batch and (len(parts) > 1 or self.accelerator.num_processes > 1):
                gathered = _joined(outputs, labels, self.accelerator)
                return -self._mean([(self._score(*gathered), 1)])
            scores = [self._score(*one) for one in zip(outputs, labels, strict=True)]
            return -self._mean([(score, _rows(part)) for score, part in zip(scores, parts, strict=True)])

    def _loss(self, model: nn.Module, part: dict[str, Any]) -> float:
        with self.compute_loss_context_manager():
            # A copy, because compute_loss may take the labels out.
            return float(self.compute_loss(model, dict(part)).mean())

    def _outputs(self, model: nn.Module, part: dict[str, Any]) -> Any:
        accepted = inspect.signature(self.accelerator.unwrap_model(model).forward).parameters
        if "labels" not in accepted and not any(one.kind is one.VAR_KEYWORD for one in accepted.values()):
            part = {name: value for name, value in part.items() if name != "labels"}
        with self.compute_loss_context_manager():
            return model(**part)

    def _score(self, outputs: Any, labels: Any) -> float:
        assert self.objective is not None
        score = self.objective(outputs, labels)
        try:
            return float(score)
        except (TypeError, ValueError, RuntimeError):
            shape = getattr(score, "shape", None)
            came = type(score).__name__ if shape is None else f"an array of shape {list(shape)}"
            raise InputError(f"the objective must return one number, got {came}: take its mean, for example") from None

    def _mean(self, weighted: list[tuple[float, float]]) -> float:
        """Return the mean of (value, weight) over these and those of all processes; 0 if there are no weights."""
        # A mean over no labels is NaN, which counts for nothing.
        total = sum(value * weight for value, weight in weighted if weight)
        weights = sum(weight for _, weight in weighted)
        if self.accelerator.num_processes > 1:
            sums = torch.tensor([total, weights], dtype=torch.float64, device=self.args.device)
            torch.distributed.all_reduce(sums)
            total, weights = sums.tolist()
        return total / weights if weights else 0.0

    def _copies(self) -> bool:
        assert self._direction_optimizer is not None
        changed = self._direction_optimizer.param_groups[0]["params"]
        if self.options.restore != "auto":
            return self.options.restore == "copy"
        every = sum(parameter.numel() for parameter in self.model.parameters())
        return self._changed_weights() <= _SMALL_SHARE * every or any(
            one.dtype in (torch.float16, torch.bfloat16) for one in changed
        )

    def _note_movement(self) -> None:
        """Warn once if steps with slopes changed no weight."""
        assert self._direction_optimizer is not None
        if self._direction_optimizer.moved is not None:
            self._unmoved = 0 if self._direction_optimizer.moved else self._unmoved + 1
        if self._unmoved == _STILL_STEPS:
            rate = self._direction_optimizer.param_groups[0]["lr"]
            self._warn(
                "rate",
                f"{_STILL_STEPS} zeroth-order steps changed no weight: a learning rate of {rate:g} is below their "
                "rounding; raise learning_rate in ZerothOrderOptions, or keep the weights in float32",
            )

    def _check_slopes(self, found: list[Slope], finite: list[Slope]) -> None:
        """Warn once if all slopes are zero for several steps; raise InputError if all are NaN for many."""
        if not finite:
            self.skipped_steps += 1
            self._not_finite += 1
            if self._not_finite == _NAN_STEPS:
                values = f"{found[0].plus:g} and {found[0].minus:g}"
                raise InputError(
                    f"the objective was not finite (last {values}) in {_NAN_STEPS} steps in a row: lower "
                    "learning_rate or epsilon in ZerothOrderOptions, or check the objective"
                )
            return
        self._not_finite = 0
        self._still = 0 if any(slope.value for slope in finite) else self._still + 1
        if self._still == _STILL_STEPS:
            self._warn(
                "epsilon",
                f"the objective was equal at both points of all directions in {_STILL_STEPS} steps in a row, so "
                f"nothing is learned: raise epsilon ({self._epsilon():g}), the batch size or directions "
                f"({self.options.directions})",
            )

    def _warn(self, reason: str, message: str) -> None:
        if reason not in self._warned and self.is_world_process_zero():
            warnings.warn(message, UserWarning, stacklevel=2)
        self._warned.add(reason)

    def _prepare_for_training(self, *arguments: Any, **options: Any) -> Any:
        self._parts, self._still, self._unmoved, self._not_finite = [], 0, 0, 0
        self.create_optimizer()
        if self.options.gradient_steps:
            return super()._prepare_for_training(*arguments, **options)
        if self.accelerator.num_processes > 1:
            # DDP would do this, but it would also hold a gradient of every weight.
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                torch.distributed.broadcast(tensor.detach(), 0)
        with _without_ddp(self.accelerator):
            return super()._prepare_for_training(*arguments, **options)

    def _check(self) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise InputError("zeroth-order steps need all weights in each process: leave FSDP or DeepSpeed out")
        if self.args.fp16:
            raise InputError("expected bf16 or float32, got fp16, whose loss scaler needs gradients: use bf16")
        if self.optimizer is not None and not self.options.gradient_steps:
            raise InputError("optimizers is for gradient steps: leave it out, or set gradient_steps")
        if self.objective is not None and not callable(self.objective):
            raise InputError(f"objective must be a function of outputs and labels, got {self.objective!r}")


@contextmanager
def _without_ddp(accelerator: Any) -> Iterator[None]:
    """Prepare models as for an evaluation: on their device, with autocast, but not wrapped."""
    accelerator.prepare_model = functools.partial(accelerator.prepare_model, evaluation_mode=True)
    try:
        yield
    finally:
        del accelerator.prepare_model


def _rows(part: dict[str, Any]) -> int:
    return next((len(value) for value in part.values() if isinstance(value, torch.Tensor) and value.dim()), 1)


def _items(part: dict[str, Any]) -> int:
    """Return the number of labels, over which a loss is a mean; without labels, the number of rows."""
    labels = part.get("labels")
    return int((labels != IGNORED).sum()) if isinstance(labels, torch.Tensor) else _rows(part)


def _joined(outputs: list[Any], labels: list[Any], accelerator: Any) -> tuple[Any, Any]:
    """Return logits and labels of all parts and processes; tokens are padded, with labels of -100."""
    try:
        logits = [one["logits"] if not isinstance(one, tuple) else one[0] for one in outputs]
    except (KeyError, TypeError, IndexError):
        raise InputError(
            f"expected outputs with logits, which can be joined, got {type(outputs[0]).__name__}: set "
            "whole_batch=False in ZerothOrderOptions for the mean over the parts of a batch"
        ) from None
    joined = _padded(logits, 0.0, accelerator)
    if not all(isinstance(one, torch.Tensor) for one in labels):
        return SequenceClassifierOutput(logits=joined), None
    return SequenceClassifierOutput(logits=joined), _padded(labels, IGNORED, accelerator)


def _padded(parts: list[torch.Tensor], value: float, accelerator: Any) -> torch.Tensor:
    if parts[0].dim() > 1:
        longest = max(part.shape[1] for part in parts)
        parts = [
            part if part.shape[1] == longest else nn.functional.pad(part, _right(part, longest), value=value)
            for part in parts
        ]
    joined = torch.cat(parts)
    if accelerator.num_processes > 1:
        if joined.dim() > 1:
            joined = accelerator.pad_across_processes(joined, dim=1, pad_index=value)
        joined = accelerator.gather(joined.contiguous())
    return joined


def _right(part: torch.Tensor, longest: int) -> list[int]:
    """Return the padding of dimension 1, in the order of torch's `pad`: from the last dimension."""
    return [0, 0] * (part.dim() - 2) + [0, longest - part.shape[1]]


__all__ = ["ZerothOrderOptions", "ZerothOrderTrainer"]
