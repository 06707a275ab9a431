"""Optimizers for zeroth-order steps: one that draws directions again, and one that alternates it with gradients."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from kexue_hf.trainers.zeroth_order_gradient import combined_blocks, pieces


class DirectionOptimizer(torch.optim.Optimizer):
    """Move parameters along random directions, which are drawn again from their seeds, a block at a time.

    Without momentum and Adam it has no state. With them, the state has the size of the parameters, once or twice.

    Args:
        parameters: in the order in which the directions were drawn.
        lr: learning rate.
        momentum: share of the last step's direction that is kept.
        betas: of Adam; None for no Adam.

    Attributes:
        directions: (seed, coefficient) of the next step, which moves against their sum; `step` clears them. Without
            any, a step changes nothing.
        moved: whether the last step changed any weight; None if there was nothing to do.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.0,
        betas: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "betas": betas, "eps": 1e-8})
        self.directions: Sequence[tuple[int, float]] = ()
        self.moved: bool | None = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # torch overloads it
        """Move the parameters, and clear `directions`."""
        directions, self.directions = self.directions, ()
        (group,) = self.param_groups
        if not directions or not group["lr"]:
            self.moved = None
            return
        self.moved = False
        for index, parameter in enumerate(group["params"]):
            state = self.state[parameter] if group["betas"] or group["momentum"] else {}
            if not state and (group["betas"] or group["momentum"]):
                state["step"] = 0
                for name in ("mean", "square") if group["betas"] else ("mean",):
                    state[name] = torch.zeros_like(
                        parameter, dtype=torch.promote_types(parameter.dtype, torch.float32)
                    )
            if state:
                state["step"] += 1
            kept = [pieces(state[name]) for name in ("mean", "square") if name in state]
            for number, (piece, gradient) in enumerate(combined_blocks(parameter, index, directions)):
                change = self._change(gradient, [one[number] for one in kept], state.get("step", 0), group)
                if self.moved:
                    piece.add_(change)
                else:
                    before = piece.clone()
                    self.moved = not torch.equal(piece.add_(change), before)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # torch casts a state to the type of its parameter, which rounds the float32 state of half-precision weights.
        (saved,), (group,) = state_dict["param_groups"], self.param_groups
        for number, parameter in zip(saved["params"], group["params"], strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                if isinstance(value, torch.Tensor):
                    self.state[parameter][name] = value.to(parameter.device)

    def _change(
        self, gradient: torch.Tensor, kept: list[torch.Tensor], step: int, group: dict[str, Any]
    ) -> torch.Tensor:
        """Return what is added to one piece; updates its state."""
        if not kept:
            return gradient.mul_(-group["lr"])
        if not group["betas"]:
            return kept[0].mul_(group["momentum"]).add_(gradient) * -group["lr"]
        first, second = group["betas"]
        mean = kept[0].lerp_(gradient, 1 - first)
        square = kept[1].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (square / (1 - second**step)).sqrt_().add_(group["eps"])
        return mean.div(scale).mul_(-group["lr"] / (1 - first**step))


class AlternatingOptimizer(torch.optim.Optimizer):
    """Step with an ordinary optimizer, or with a [`DirectionOptimizer`] if that has directions.

    A learning rate scheduler changes the rates of both.
    """

    def __init__(self, gradient: torch.optim.Optimizer, direction: DirectionOptimizer) -> None:
        # No super().__init__: the two have the groups and the state.
        self.gradient, self.direction = gradient, direction
        self.defaults = gradient.defaults

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]  # those of both, read-only
        return [*self.gradient.param_groups, *self.direction.param_groups]

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]  # of the one that keeps any, read-only
        return dict(self.gradient.state)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # torch overloads it
        """Step with the one that has something to do."""
        if self.direction.directions:
            self.direction.step()
        else:
            self.gradient.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.gradient.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"gradient": self.gradient.state_dict(), "direction": self.direction.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.gradient.load_state_dict(state_dict["gradient"])
        self.direction.load_state_dict(state_dict["direction"])


__all__ = ["AlternatingOptimizer", "DirectionOptimizer"]
