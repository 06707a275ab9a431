"""Compare the zeroth-order gradient with the policy gradient (kexue.fm/archives/7737).

    python examples/policy_gradient_vs_zeroth_order.py --picture comparison.svg

Accuracy is the mean of r(y, argmax p(.|x)), which has no gradient. The policy gradient is that of the expected reward,
the mean of sum_y' p(y'|x) r(y, y'). The zeroth-order gradient needs only values of the objective at random points. The
post shows that to first order the two are the same. Here, both are computed for a small linear classifier on random
vectors, and the cosine between them is printed and drawn against the number of directions:

* of the expected reward: the cosine goes to 1, as sqrt(directions / (directions + weights + 1)) does.
* of accuracy itself, at several distances epsilon. Noise on the weights is noise on the logits, and the argmax of
  logits with Gumbel noise (standard deviation 1.28) is a sample of p. So the cosine goes nearly to 1 if the logits'
  noise has about this size. It stays lower if epsilon is much larger, and is lost if epsilon is so small that only
  the few rows next to a decision boundary count.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn import functional

from kexue_hf.errors import InputError, KexueError
from kexue_hf.trainers.zeroth_order_gradient import direction_seed, slopes, zeroth_order_gradient

DIRECTIONS = (4, 16, 64, 256, 1024, 4096)
# Standard deviations of the noise on the logits, for which epsilon is chosen; the second is that of Gumbel noise.
LOGIT_NOISE = (0.1, 1.28, 10.0)


def example_head(rows: int, features: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return vectors, labels and the weights of a classifier after a few steps of cross entropy."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (rows,), generator=generator)
    x = centres[labels] + 1.5 * torch.randn(rows, features, generator=generator, dtype=torch.float64)
    weight = torch.zeros(classes, features, dtype=torch.float64)
    for _ in range(5):
        error = functional.one_hot(labels, classes) - (x @ weight.T).softmax(-1)
        weight += 0.3 * error.T @ x / rows
    return x, labels, weight


def expected_reward(weight: torch.Tensor, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the accuracy of a classifier that draws its guesses from p."""
    return (x @ weight.T).softmax(-1).gather(1, labels[:, None]).mean()


def accuracy(weight: torch.Tensor, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the accuracy of the likeliest class."""
    return ((x @ weight.T).argmax(-1) == labels).double().mean()


def policy_gradient(weight: torch.Tensor, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the exact policy gradient: the sum over the classes of p r grad log p."""
    leaf = weight.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(expected_reward(leaf, x, labels), leaf)
    return gradient


def cosines(
    objective: Callable[[torch.Tensor], torch.Tensor],
    weight: torch.Tensor,
    reference: torch.Tensor,
    epsilon: float,
    directions: Sequence[int],
    repetitions: int,
) -> list[float]:
    """Return the mean cosine between zeroth-order gradient and reference for each number of directions."""
    weight = weight.clone()
    totals = torch.zeros(len(directions), dtype=torch.float64)
    for repetition in range(repetitions):
        seeds = [direction_seed(repetition, 0, number) for number in range(max(directions))]
        found = slopes(lambda: float(objective(weight)), [weight], seeds, epsilon, copies=True)
        for place, number in enumerate(directions):
            (estimate,) = zeroth_order_gradient([weight], found[:number])
            totals[place] += functional.cosine_similarity(estimate.flatten(), reference.flatten(), dim=0)
    return [float(one) for one in totals / repetitions]


def compare(
    rows: int, features: int, classes: int, directions: Sequence[int], repetitions: int, seed: int
) -> dict[str, list[float]]:
    """Return the cosines of each objective, and those that the number of directions allows."""
    x, labels, weight = example_head(rows, features, classes, seed)
    reference = policy_gradient(weight, x, labels)
    found = {
        "allowed by the directions": [math.sqrt(k / (k + weight.numel() + 1)) for k in directions],
        "expected reward": cosines(
            lambda at: expected_reward(at, x, labels), weight, reference, 1e-4, directions, repetitions
        ),
    }
    for noise in LOGIT_NOISE:
        # The noise of a logit is epsilon times the length of the vector.
        epsilon = noise / float(x.norm(dim=-1).mean())
        found[f"accuracy, epsilon {epsilon:.2g} (logit noise {noise:g})"] = cosines(
            lambda at: accuracy(at, x, labels), weight, reference, epsilon, directions, repetitions
        )
    return found


def draw(found: dict[str, list[float]], directions: Sequence[int], path: Path) -> None:
    """Draw the cosines against the number of directions."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise InputError("--picture needs matplotlib: pip install matplotlib") from None

    pyplot.rcParams["svg.hashsalt"] = "kexue"
    figure, axes = pyplot.subplots(figsize=(6.5, 3.6))
    for name, values in found.items():
        style = {"color": "0.5", "linestyle": ":"} if name.startswith("allowed") else {"marker": "o", "markersize": 4}
        axes.plot(directions, values, label=name, **style)
    axes.set(xscale="log", ylim=(-0.3, 1.02), xlabel="directions", ylabel="cosine with the policy gradient")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512, help="rows of the batch (default 512)")
    parser.add_argument("--features", type=int, default=8, help="length of a vector (default 8)")
    parser.add_argument("--classes", type=int, default=4, help="number of classes (default 4)")
    parser.add_argument("--directions", type=int, nargs="+", default=list(DIRECTIONS), help="numbers of directions")
    parser.add_argument("--repetitions", type=int, default=5, help="estimates whose cosines are averaged (default 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="draw the cosines into this file")
    options = parser.parse_args(arguments)
    try:
        for name, low in (("rows", 1), ("features", 1), ("classes", 2), ("repetitions", 1)):
            if getattr(options, name) < low:
                raise InputError(f"--{name} must be {low} or more, got {getattr(options, name)}")
        if min(options.directions) < 1:
            raise InputError(f"--directions must be 1 or more, got {min(options.directions)}")
        if options.picture is not None and not options.picture.absolute().parent.is_dir():
            raise InputError(f"--picture must be a file in an existing folder, got {options.picture}")
        directions = sorted(options.directions)
        found = compare(options.rows, options.features, options.classes, directions, options.repetitions, options.seed)
        width = max(map(len, found))
        print(f"{'cosine with the policy gradient; directions':<{width}}  " + "  ".join(f"{k:>6}" for k in directions))
        for name, values in found.items():
            print(f"{name:<{width}}  " + "  ".join(f"{value:6.3f}" for value in values))
        if options.picture is not None:
            draw(found, directions, options.picture)
    except KexueError as error:
        print(f"policy_gradient_vs_zeroth_order: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
