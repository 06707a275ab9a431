"""Zeroth-order gradients against exact ones; trainings that do not depend on processes, parts and interruptions."""

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from kexue_hf import ZerothOrderOptions, ZerothOrderTrainer
from kexue_hf.errors import InputError
from kexue_hf.trainers import zeroth_order, zeroth_order_gradient
from kexue_hf.trainers.zeroth_order_gradient import (
    Slope,
    direction_blocks,
    direction_seed,
    exact_weights,
    perturb,
    slopes,
)
from kexue_hf.trainers.zeroth_order_gradient import zeroth_order_gradient as estimated
from kexue_hf.trainers.zeroth_order_optimizer import DirectionOptimizer
from tests.data_parallel import Halves
from tests.trainers.zeroth_order_runs import KINDS, Network, accuracy, arguments_of, rows, trainer_of, weights
from tests.two_processes import two_processes


def seeds(number: int, seed: int = 0) -> list[int]:
    return [direction_seed(seed, 0, direction) for direction in range(number)]


def quadratic() -> tuple[list[torch.Tensor], Any, torch.Tensor]:
    """Parameters, a quadratic of them in float64, and its gradient."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(3, generator=generator, dtype=torch.float64)
    scale = torch.rand(23, generator=generator, dtype=torch.float64) + 0.5
    target = torch.randn(23, generator=generator, dtype=torch.float64)
    flat = lambda: torch.cat([x.flatten(), y])  # noqa: E731
    return [x, y], lambda: float((scale * (flat() - target) ** 2).sum()), 2 * scale * (flat() - target)


def directions_of(parameters: list[torch.Tensor], number: int) -> torch.Tensor:
    moved = [torch.zeros_like(one) for one in parameters]
    found = []
    for seed in seeds(number):
        for one in moved:
            one.zero_()
        perturb(moved, seed, 1.0)
        found.append(torch.cat([one.flatten() for one in moved]))
    return torch.stack(found)


def test_directions_are_standard_normal_and_independent() -> None:
    drawn = directions_of([torch.zeros(200), torch.zeros(300)], 400)
    assert abs(float(drawn.mean())) < 0.01 and abs(float(drawn.std()) - 1) < 0.01
    # Neither two directions nor two tensors of one share numbers.
    products = drawn @ drawn.T / 500
    assert float((products - torch.eye(400)).abs().max()) < 0.35
    assert not (drawn[:, :100] == drawn[:, 200:300]).any()


def test_a_slope_is_exact_for_a_quadratic() -> None:
    parameters, function, gradient = quadratic()
    found = slopes(function, parameters, seeds(10), 0.1)
    expected = directions_of(parameters, 10) @ gradient
    values = torch.tensor([slope.value for slope in found], dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=1e-8, atol=1e-8)


def test_the_estimate_is_unbiased_and_its_error_falls_as_the_root_of_the_directions() -> None:
    parameters, function, gradient = quadratic()
    numbers, errors = [16, 64, 256, 512], []
    for number in numbers:
        squared = []
        for repetition in range(6):
            found = slopes(function, parameters, seeds(number, repetition), 1e-3)
            estimate = torch.cat([one.flatten() for one in estimated(parameters, found)])
            squared.append(float((estimate - gradient).square().sum() / gradient.square().sum()))
        errors.append(math.sqrt(sum(squared) / len(squared)))
    slope = np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.06
    # The variance of one direction's estimate is (weights + 1) times the squared gradient.
    assert errors[-1] == pytest.approx(math.sqrt(24 / 512), rel=0.2)


def test_slopes_that_are_not_finite_are_left_out() -> None:
    parameters, _, _ = quadratic()
    values = iter([1.0, 2.0, math.nan, 1.0, math.inf, math.inf, 3.0, 1.0])
    found = slopes(lambda: next(values), parameters, seeds(4), 0.5)
    assert [slope.value for slope in found][0::3] == [-1.0, 2.0]
    assert all(math.isnan(slope.value) for slope in found[1:3])
    kept = estimated(parameters, [found[0], found[3]])
    for one, other in zip(estimated(parameters, found), kept, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="expected a finite slope"):
        estimated(parameters, found[1:3])


def test_the_rounding_of_sums_is_no_slope() -> None:
    values = iter([0.1 + 0.2, 0.3, 0.3 + 1e-9, 0.3])
    first, second = slopes(lambda: next(values), [torch.zeros(3)], seeds(2), 1e-3)
    assert first.plus != first.minus and first.value == 0 and second.value > 0


@pytest.mark.parametrize("error", [False, True])
def test_copies_restore_to_the_last_bit(error: bool) -> None:
    parameters = [torch.randn(40, 30), torch.randn(7).bfloat16()]
    before = [one.clone() for one in parameters]

    def function() -> float:
        assert not torch.equal(parameters[0], before[0])
        if error:
            raise RuntimeError("stopped")
        return 0.0

    for _ in range(5):
        if error:
            with pytest.raises(RuntimeError, match="stopped"):
                slopes(function, parameters, [1], 0.1, copies=True)
        else:
            slopes(function, parameters, [1, 2], 0.1, copies=True)
    for one, kept in zip(parameters, before, strict=True):
        assert torch.equal(one, kept)


def test_reseeding_restores_within_its_bound() -> None:
    parameter = torch.randn(300, 100)
    before = parameter.clone()
    (numbers,) = direction_blocks(parameter, 5, 0)
    seen = []

    def function() -> float:
        seen.append(parameter.clone())
        return 0.0

    slopes(function, [parameter], [5], 0.01)
    torch.testing.assert_close(seen[0] - before, 0.01 * numbers.view(300, 100), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(seen[1] - before, -0.01 * numbers.view(300, 100), rtol=1e-3, atol=1e-6)
    size = before.abs() + 0.01 * numbers.view(300, 100).abs()
    unit = torch.nextafter(size, torch.tensor(math.inf)) - size
    assert bool(((parameter - before).abs() <= 1.5 * unit).all())
    with pytest.raises(RuntimeError, match="stopped"), exact_weights([parameter], False) as move:
        move(5, 0.01)
        raise RuntimeError("stopped")
    assert bool(((parameter - before).abs() <= 2.5 * unit).all())


def test_directions_of_half_precision_weights_are_those_of_float32() -> None:
    (drawn,), (expected,) = (
        direction_blocks(torch.zeros(9, dtype=one), 3, 0) for one in (torch.bfloat16, torch.float32)
    )
    assert torch.equal(drawn, expected)


def test_pieces_and_strides_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.zeros(40, 5)
    perturb([whole], 3, 2.0)
    torch.testing.assert_close(
        torch.cat(list(direction_blocks(whole, 3, 0))).view(40, 5) * 2, whole, rtol=0, atol=0
    )  # fmt: skip
    monkeypatch.setattr(zeroth_order_gradient, "BLOCK", 32)
    drawn = [len(block) for block in direction_blocks(whole, 3, 0)]
    assert drawn == [32] * 6 + [8]
    strided = torch.zeros(5, 40).T
    perturb([strided], 3, 2.0)
    assert float(strided.std()) == pytest.approx(2.0, rel=0.2)
    perturb([strided], 3, -2.0)
    assert float(strided.abs().max()) < 1e-6


@pytest.mark.parametrize("kind", ["plain", "momentum", "adam"])
def test_the_optimizer_equals_torchs_with_the_same_gradient(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeroth_order_gradient, "BLOCK", 32)
    own = [nn.Parameter(torch.randn(9, 7)), nn.Parameter(torch.randn(3))]
    other = [nn.Parameter(one.detach().clone()) for one in own]
    ours = DirectionOptimizer(own, 0.1, 0.9 if kind == "momentum" else 0.0, (0.9, 0.99) if kind == "adam" else None)
    theirs: Any = (
        torch.optim.Adam(other, 0.1, betas=(0.9, 0.99))
        if kind == "adam"
        else torch.optim.SGD(other, 0.1, momentum=0.9 if kind == "momentum" else 0.0)
    )
    for step in range(5):
        directions = [(direction_seed(0, step, number), 0.5 - number) for number in range(3)]
        for index, parameter in enumerate(other):
            drawn = [torch.cat(list(direction_blocks(parameter, seed, index))) for seed, _ in directions]
            sums = sum(c * one for (_, c), one in zip(directions, drawn, strict=True))
            assert isinstance(sums, torch.Tensor)
            parameter.grad = sums.view(parameter.shape)
        ours.directions = directions
        ours.step()
        assert ours.moved and not ours.directions
        theirs.step()
    for one, expected in zip(own, other, strict=True):
        torch.testing.assert_close(one, expected)
    ours.step()
    assert ours.moved is None
    for one, expected in zip(own, other, strict=True):
        torch.testing.assert_close(one, expected)
    assert len(ours.state) == (0 if kind == "plain" else 2)


def test_a_rate_of_zero_is_no_step() -> None:
    """Warm-up and decay: there is nothing to warn of."""
    optimizer = DirectionOptimizer([nn.Parameter(torch.ones(3))], 0.0, momentum=0.9)
    optimizer.directions = [(1, 1.0)]
    optimizer.step()
    assert optimizer.moved is None and not optimizer.directions and not optimizer.state


class _StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == self.step


def test_training_raises_the_metric(tmp_path: Path) -> None:
    model = Network()
    trainer = ZerothOrderTrainer(
        model,
        arguments_of(tmp_path, batch=24, steps=60),
        train_dataset=rows(),
        objective=accuracy,
        options=ZerothOrderOptions(epsilon=0.3, learning_rate=0.7),
    )
    batch = {name: torch.stack([row[name] for row in rows()]) for name in ("x", "labels")}
    before = float(accuracy(model.eval()(batch["x"]), batch["labels"]))
    trainer.train()
    assert before < 0.65 and float(accuracy(model.eval()(batch["x"]), batch["labels"])) > 0.85
    logged = [entry["objective"] for entry in trainer.state.log_history if "objective" in entry]
    assert logged[-1] > logged[0]
    assert trainer.state.log_history[0]["loss"] == pytest.approx(-logged[0])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    found = {}
    for kind in KINDS:
        model = Network()
        model.dropout.p = 0.0
        trainer = trainer_of(kind, tmp_path_factory.mktemp("plain"), model)
        trainer.train()
        found[kind] = torch.tensor(weights(trainer))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_batches(kind: str, plain: dict[str, torch.Tensor], tmp_path: Path) -> None:
    model = Network()
    model.dropout.p = 0.0
    trainer = trainer_of(kind, tmp_path, model, batch=2, accumulated=4)
    trainer.train()
    torch.testing.assert_close(torch.tensor(weights(trainer)), plain[kind], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_of_one_process(
    kind: str, plain: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `nn.DataParallel`, the objective sees the logits of all devices."""
    monkeypatch.setattr(nn, "DataParallel", Halves)
    model = Network()
    model.dropout.p = 0.0
    trainer = trainer_of(kind, tmp_path, model, batch=4, devices=2)
    trainer.train()
    assert isinstance(trainer.model_wrapped, Halves)
    torch.testing.assert_close(torch.tensor(weights(trainer)), plain[kind], rtol=1e-4, atol=1e-5)


class Half(Network):
    """With weights of half precision."""

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return super().forward(x.to(self.encoder.weight.dtype), labels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["loss", "momentum", "adam", "alternating"])
def test_a_resumed_run_in_half_precision(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """The state of momentum and Adam is float32, also after a checkpoint."""
    whole = trainer_of(kind, tmp_path / "whole", Half().to(dtype))
    whole.train()
    saving = {"save_strategy": "steps", "save_steps": 3}
    stopped = trainer_of(kind, tmp_path / "stopped", Half().to(dtype), **saving)
    stopped.add_callback(_StopAt(3))
    stopped.train()
    resumed = trainer_of(kind, tmp_path / "stopped", Half().to(dtype), **saving)
    resumed.resume()
    assert resumed.first_step == 3 and resumed.model.encoder.weight.dtype == dtype
    if kind in ("momentum", "adam"):
        kept = [one["mean"].dtype for one in resumed.optimizer.state.values()]
        assert kept and set(kept) == {torch.float32}
    assert weights(resumed) == weights(whole)
    assert weights(stopped) != weights(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run(kind: str, tmp_path: Path) -> None:
    whole = trainer_of(kind, tmp_path / "whole")
    whole.train()
    saving = {"save_strategy": "steps", "save_steps": 3}
    stopped = trainer_of(kind, tmp_path / "stopped", **saving)
    stopped.add_callback(_StopAt(3))
    stopped.train()
    resumed = trainer_of(kind, tmp_path / "stopped", **saving)
    resumed.resume()
    assert resumed.first_step == 3
    assert weights(resumed) == weights(whole)
    assert weights(stopped) != weights(whole)


@pytest.mark.slow
def test_two_processes(plain: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with two_processes("tests.trainers.zeroth_order_runs", tmp_path) as process:
        _, errors = process.communicate(timeout=480)
        assert process.returncode == 0, errors[-3000:]
    first, second = (json.loads((tmp_path / f"found{rank}.json").read_text()) for rank in range(2))
    for kind in KINDS:
        assert first[kind]["weights"] == second[kind]["weights"]
        # DDP would hold a gradient of every weight.
        assert first[kind]["wrapped"] == (kind == "alternating")
        torch.testing.assert_close(
            torch.tensor(first[kind]["weights"]), plain[kind], rtol=1e-4, atol=1e-5, msg=lambda text, k=kind: k + text
        )


def test_alternating_takes_gradient_steps_first(tmp_path: Path) -> None:
    trainer = trainer_of("alternating", tmp_path, steps=2)
    encoder = trainer.model.encoder.weight.detach().clone()
    seen: list[tuple[bool, bool]] = []

    def measure(outputs: Any, labels: torch.Tensor) -> float:
        seen.append((torch.is_grad_enabled(), trainer.model.training))
        return float(accuracy(outputs, labels))

    trainer.objective = measure
    trainer.train()
    # Three directions of two points, in the second step alone.
    assert seen == [(False, False)] * 6
    assert not torch.equal(trainer.model.encoder.weight, encoder)
    assert trainer.model.training
    optimizer = trainer.optimizer
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2, 2]
    assert trainer.state.log_history[0]["loss"] > 0


@pytest.mark.parametrize("directions", [1, 5])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_the_learning_rate_is_the_length_of_a_step(directions: int, scale: float, tmp_path: Path) -> None:
    model = nn.Sequential()
    model.wide = nn.Linear(200, 100)
    model.forward = lambda x, labels: {"logits": model.wide.weight.sum() + model.wide.bias.sum()}
    trainer = with_options(
        tmp_path, model, lambda outputs, labels: scale * outputs["logits"], directions=directions, steps=1
    )
    before = torch.tensor(weights(trainer))
    trainer.train()
    assert float((torch.tensor(weights(trainer)) - before).norm()) == pytest.approx(0.1, rel=0.3 / directions**0.5)


def test_without_normalizing_a_step_is_the_estimated_gradient(tmp_path: Path) -> None:
    trainer = with_options(tmp_path, normalize=False, learning_rate=0.5, epsilon=0.01, steps=1, directions=3)
    model = Network().eval()
    batch = {name: torch.stack([row[name] for row in rows()[:8]]) for name in ("x", "labels")}
    parameters = list(model.parameters())
    with torch.no_grad():
        named = [direction_seed(3, 0, number) for number in range(3)]
        found = slopes(lambda: float(model(**batch)["loss"]), parameters, named, 0.01)
        for parameter, gradient in zip(parameters, estimated(parameters, found), strict=True):
            parameter.sub_(0.5 * gradient)
    trainer.train()
    torch.testing.assert_close(
        torch.tensor(weights(trainer)), torch.cat([one.detach().flatten() for one in parameters])
    )


def test_the_default_epsilon(tmp_path: Path) -> None:
    for model, expected in ((Network(), 0.03), (nn.Linear(200, 100), 20_100**-0.5)):
        trainer = with_options(tmp_path, model)
        trainer.create_optimizer()
        assert trainer._epsilon() == pytest.approx(expected)
    assert with_options(tmp_path, epsilon=0.5)._epsilon() == 0.5


def test_the_default_learning_rate(tmp_path: Path) -> None:
    for options, expected in (({}, 0.1), ({"adam": True}, 1e-3), ({"learning_rate": 0.5}, 0.5)):
        assert with_options(tmp_path, **options).create_optimizer().param_groups[0]["lr"] == expected


def test_modules_keep_their_modes(tmp_path: Path) -> None:
    trainer = with_options(tmp_path, steps=2)
    seen = []

    class Modes(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            trainer.model.train().dropout.eval()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append((trainer.model.training, trainer.model.dropout.training))

    trainer.add_callback(Modes())
    trainer.train()
    assert seen == [(True, False)] * 2


def test_alternating_logs_the_loss_of_the_whole_gradient_step(tmp_path: Path) -> None:
    logged = []
    for batch in (8, 2):
        model = Network()
        model.dropout.p = 0.0
        trainer = trainer_of("alternating", tmp_path, model, batch=batch, accumulated=8 // batch, steps=2)
        trainer.train()
        logged.append(trainer.state.log_history[0]["loss"])
    assert logged[1] == pytest.approx(logged[0], rel=1e-5)


def test_adam_gets_the_estimated_gradient(tmp_path: Path) -> None:
    """Not a normalized one: Adam averages the gradients of several steps."""
    trainer = with_options(tmp_path, adam=True)
    trainer.create_optimizer()
    found = trainer._coefficients([Slope(1, 2.0, 1.0, 0.0), Slope(2, -4.0, 0.0, 1.0), Slope(3, 0.0, 1.0, 1.0)])
    assert found == [(1, 2 / 3), (2, -4 / 3)]


def test_each_step_takes_new_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def recorded(function: Any, parameters: Any, named: list[int], *others: Any) -> Any:
        seen.append(named)
        return slopes(function, parameters, named, *others)

    monkeypatch.setattr(zeroth_order, "slopes", recorded)
    with_options(tmp_path, directions=3, steps=4).train()
    assert seen == [[direction_seed(3, step, number) for number in range(3)] for step in range(4)]
    assert len({one for named in seen for one in named}) == 12


def test_without_momentum_there_is_no_state(tmp_path: Path) -> None:
    trainer = trainer_of("loss", tmp_path)
    trainer.train()
    assert not trainer.optimizer.state


def names(trainer: ZerothOrderTrainer) -> list[str]:
    return list(trainer.changed_parameters())


def with_options(folder: Path, model: nn.Module | None = None, objective: Any = None, **options: Any) -> Any:
    return ZerothOrderTrainer(
        Network() if model is None else model,
        arguments_of(folder, steps=options.pop("steps", 6), **options.pop("arguments", {})),
        train_dataset=rows(),
        objective=objective,
        options=ZerothOrderOptions(**options),
    )


def test_selections(tmp_path: Path) -> None:
    head, encoder = ["classifier.weight", "classifier.bias"], ["encoder.weight", "encoder.bias"]
    assert names(with_options(tmp_path)) == encoder + head
    assert names(with_options(tmp_path, parameters="classifier")) == head
    assert names(with_options(tmp_path, parameters=("encoder.bias", "classifier"))) == ["encoder.bias", *head]
    assert names(with_options(tmp_path, parameters=lambda name, one: one.dim() == 1)) == [encoder[1], head[1]]
    model = Network()
    model.encoder.requires_grad_(False)
    assert names(with_options(tmp_path, model)) == head
    # A part of a name is no module.
    with pytest.raises(InputError, match=r"parameters='class' matches no trainable weight: .*classifier.bias"):
        with_options(tmp_path, parameters="class")
    with pytest.raises(InputError, match="no trainable weight"):
        with_options(tmp_path, model, parameters="encoder")


def test_only_selected_weights_change(tmp_path: Path) -> None:
    trainer = with_options(tmp_path, parameters="classifier")
    before = {name: one.detach().clone() for name, one in trainer.model.named_parameters()}
    trainer.train()
    changed = [name for name, one in trainer.model.named_parameters() if not torch.equal(one, before[name])]
    assert changed == ["classifier.weight", "classifier.bias"]


def test_adapters(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(Network(), peft.LoraConfig(target_modules=["encoder"], r=2))
    trainer = with_options(tmp_path, model)
    assert all("lora_" in name for name in names(trainer)) and len(names(trainer)) == 2
    before = model.state_dict()["base_model.model.encoder.lora_B.default.weight"].clone()
    trainer.train()
    assert not torch.equal(model.state_dict()["base_model.model.encoder.lora_B.default.weight"], before)


class Rounding(nn.Module):
    """A model without a gradient, which takes no labels and has no logits."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.weight * 4).round()


def test_a_model_without_gradient_or_logits(tmp_path: Path) -> None:
    def correlation(outputs: torch.Tensor, labels: torch.Tensor) -> float:
        return float(np.minimum(outputs.numpy() * (labels.numpy() - 1), 3).mean())

    trainer = with_options(tmp_path, Rounding(), correlation, epsilon=0.3, learning_rate=0.1, steps=20)
    trainer.train()
    x, labels = (torch.stack([row[name] for row in rows()]) for name in ("x", "labels"))
    assert correlation(trainer.model(x).detach(), labels) > 0.4
    parts = with_options(
        tmp_path, Rounding(), correlation, arguments={"batch": 4, "accumulated": 2}, learning_rate=0.1
    )
    with pytest.raises(InputError, match=r"expected outputs with logits.*whole_batch=False"):
        parts.train()


def test_objectives_see_tokens_of_all_parts(tmp_path: Path) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 2)

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.layer(x.unsqueeze(-1))}

    data = [{"x": torch.ones(n), "labels": torch.ones(n, dtype=torch.long)} for n in (3, 3, 5, 5)]
    seen = []

    def objective(outputs: Any, labels: torch.Tensor) -> float:
        seen.append((tuple(outputs.logits.shape), labels.tolist()))
        return float(outputs.logits.sum())

    ZerothOrderTrainer(
        Tokens(), arguments_of(tmp_path, batch=2, accumulated=2, steps=1), train_dataset=data, objective=objective
    ).train()
    assert seen[0] == ((4, 5, 2), [[1] * 3 + [-100] * 2] * 2 + [[1] * 5] * 2)


def test_nan_is_skipped_and_many_are_an_error(tmp_path: Path) -> None:
    calls = iter(range(10**6))

    def sometimes(outputs: Any, labels: torch.Tensor) -> float:
        number = next(calls)
        return math.nan if number % 4 == 0 or number < 8 else float(outputs["logits"].mean())

    trainer = with_options(tmp_path, objective=sometimes, directions=4, steps=4)
    trainer.train()
    # The first step has no finite direction; each other loses every second one.
    assert (trainer.skipped_directions, trainer.skipped_steps) == (4 + 3 * 2, 1)
    assert all(math.isfinite(weight) for weight in weights(trainer))
    assert trainer.state.log_history[0]["skipped_directions"] == 6
    before = weights(trainer)
    always = with_options(tmp_path, trainer.model, lambda outputs, labels: math.nan, steps=50)
    with pytest.raises(InputError, match=r"not finite .last nan and nan. in 20 steps in a row: lower"):
        always.train()
    assert always.skipped_steps == 20
    torch.testing.assert_close(torch.tensor(weights(always)), torch.tensor(before), rtol=1e-4, atol=1e-5)


def test_many_steps_without_a_slope_are_no_error_if_others_are_between(tmp_path: Path) -> None:
    trainer = with_options(tmp_path, steps=60)

    def every_other(outputs: Any, labels: torch.Tensor) -> float:
        return math.nan if trainer.state.global_step % 2 else float(outputs["logits"].mean())

    trainer.objective = every_other
    trainer.train()
    assert trainer.skipped_steps == 30


def test_parts_without_labels_count_for_nothing(tmp_path: Path) -> None:
    data = rows()
    for number, row in enumerate(data):
        if number % 8 < 4:
            row["labels"] = torch.tensor(-100)
    found = []
    for batch in (8, 4):
        trainer = trainer_of("loss", tmp_path, batch=batch, accumulated=8 // batch)
        trainer.train_dataset = data
        trainer.train()
        assert not trainer.skipped_directions
        found.append(torch.tensor(weights(trainer)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    trainer = with_options(tmp_path, restore="copy")
    trainer.train_dataset = [{**row, "labels": torch.tensor(-100)} for row in data]
    before = weights(trainer)
    trainer.train()
    assert weights(trainer) == before and not trainer.skipped_directions
    assert trainer.state.log_history[0]["loss"] == 0


def warned(trainer: ZerothOrderTrainer) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    return [str(one.message) for one in caught if issubclass(one.category, UserWarning) and "step" in str(one.message)]


def test_a_flat_objective_is_warned_of_once(tmp_path: Path) -> None:
    trainer = with_options(tmp_path, objective=accuracy, epsilon=1e-9, steps=30)
    before = weights(trainer)
    (message,) = warned(trainer)
    assert "equal at both points" in message and "raise epsilon (1e-09)" in message
    torch.testing.assert_close(torch.tensor(weights(trainer)), torch.tensor(before), rtol=1e-5, atol=1e-6)
    assert warned(with_options(tmp_path, objective=accuracy, epsilon=0.3, learning_rate=1e-3, steps=30)) == []


def test_a_learning_rate_below_rounding_is_warned_of_once(tmp_path: Path) -> None:
    model = Network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    (message,) = warned(with_options(tmp_path, model, learning_rate=1e-12, steps=30, restore="copy"))
    assert "changed no weight" in message and "raise learning_rate" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be above 0 and finite, got 0.0"),
        ({"epsilon": math.nan}, "epsilon must be above 0"),
        ({"learning_rate": -1.0}, "learning_rate must be above 0"),
        ({"directions": 0}, "directions must be a whole number, 1 or more, got 0"),
        ({"directions": 2.5}, "directions must be a whole number"),
        ({"gradient_steps": -1}, "gradient_steps must be a whole number, 0 or more"),
        ({"momentum": 1.0}, "momentum must be 0 or more and below 1"),
        ({"betas": (0.9, 1.0)}, "betas must be"),
        ({"momentum": 0.5, "adam": True}, "expected momentum or adam, got both"),
        ({"normalize": False}, "expected learning_rate"),
        ({"restore": "never"}, "restore must be auto, copy or reseed"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ZerothOrderOptions(**options)


def test_bad_objectives(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="objective must be a function"):
        with_options(tmp_path, objective="accuracy")
    for objective, came in (
        (lambda outputs, labels: labels, r"an array of shape \[8\]"),
        (lambda outputs, labels: None, "NoneType"),
    ):
        with pytest.raises(InputError, match=f"must return one number, got {came}"):
            with_options(tmp_path, objective=objective).train()


def test_a_run_does_not_resume_with_other_options(tmp_path: Path) -> None:
    with_options(tmp_path, arguments={"save_strategy": "steps", "save_steps": 2}, steps=2).train()
    with pytest.raises(InputError, match="zeroth order"):
        with_options(tmp_path, epsilon=0.5, steps=4).resume()


def test_half_precision_and_small_parts_are_copied(tmp_path: Path) -> None:
    def copies(model: nn.Module, **options: Any) -> bool:
        trainer = with_options(tmp_path, model, **options)
        trainer.create_optimizer()
        return bool(trainer._copies())

    assert not copies(Network()) and copies(Network().bfloat16())
    assert not copies(Network(), parameters="classifier") and copies(Network(), restore="copy")
    wide = Network()
    wide.wide = nn.Linear(100, 100)
    assert copies(wide, parameters="classifier") and not copies(wide, parameters="classifier", restore="reseed")


def test_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "zeroth_order.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/zeroth_order.md", "exec"), names)
    assert names["trainer"].state.global_step == 20 and not names["trainer"].skipped_directions
