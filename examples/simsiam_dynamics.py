"""Why SimSiam does not collapse, in the smallest system that shows it (https://kexue.fm/archives/7980).

    python examples/simsiam_dynamics.py --picture simsiam_dynamics.svg

One number theta stands for the encoder and one, phi, for the predictor: l = (phi theta - theta)^2 / 2. Both follow the
negative gradient. theta = 0 is the collapse. With the stop-gradient, theta' = phi (1 - phi) theta: from a phi between
0 and 1, theta grows until phi reaches 1, and theta^2 - phi^2 stays constant. Without it, theta' = -(1 - phi)^2 theta
can only fall, and theta^2 - (1 - phi)^2 stays constant. The script integrates both with scipy and draws the phase
portraits.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PHI, THETA = 0.6, 0.1


def velocity(state: np.ndarray, stop_gradient: bool) -> np.ndarray:
    """Return the time derivative of (phi, theta), each of any shape."""
    phi, theta = state
    # The prediction's error phi theta - theta, by each variable. The target's own theta counts only without stop.
    error = (phi - 1) * theta
    return np.stack([-error * theta, -error * (phi if stop_gradient else phi - 1)])


def trajectory(
    phi: float, theta: float, stop_gradient: bool, time: float = 200.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integrate from a start: times, phi and theta, each [points]."""
    from scipy.integrate import solve_ivp

    found = solve_ivp(
        lambda _, state: velocity(state, stop_gradient), (0, time), (phi, theta), rtol=1e-10, atol=1e-12, max_step=1.0
    )
    return found.t, found.y[0], found.y[1]


def draw(path: Path) -> None:
    """Draw both phase portraits, with the trajectory from the post's start."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    grid = np.stack(np.meshgrid(np.linspace(0, 1.6, 33), np.linspace(-0.2, 1.2, 29)))
    with rc_context({"svg.hashsalt": "kexue", "font.size": 9}):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        for axes, stopped in zip(figure.subplots(1, 2, sharey=True), (True, False), strict=True):
            flow = velocity(grid, stopped)
            axes.streamplot(*grid, *flow, color="0.75", linewidth=0.7, density=0.9, arrowsize=0.7)
            _, phi, theta = trajectory(PHI, THETA, stopped)
            axes.plot(phi, theta, color="tab:blue" if stopped else "tab:red", linewidth=2)
            axes.plot(PHI, THETA, "o", color="black", markersize=4)
            axes.axhline(0, color="0.3", linewidth=0.8, linestyle="--")
            axes.annotate("collapse", (1.58, 0.02), ha="right", fontsize=8, color="0.3")
            axes.set_title(f"{'with' if stopped else 'without'} stop-gradient: theta ends at {abs(theta[-1]):.2f}")
            axes.set_xlabel("phi (predictor)")
            axes.set_xlim(0, 1.6)
            axes.set_ylim(-0.2, 1.2)
        figure.axes[0].set_ylabel("theta (encoder)")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "simsiam_dynamics", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--picture", type=Path, help=".svg, .png or .pdf to draw; needs matplotlib")
    options = parser.parse_args(arguments)
    if find_spec("scipy") is None:
        print("simsiam_dynamics: error: scipy is needed, which is not installed: pip install scipy", file=sys.stderr)
        sys.exit(2)
    for stopped in (True, False):
        _, phi, theta = trajectory(PHI, THETA, stopped)
        print(f"{'with' if stopped else 'without'} stop-gradient: phi {PHI} -> {phi[-1]:.4f}, ", end="")
        print(f"theta {THETA} -> {theta[-1]:.4f}")
    if options.picture is not None:
        if options.picture.suffix not in (".svg", ".png", ".pdf") or not options.picture.absolute().parent.is_dir():
            print(
                f"simsiam_dynamics: error: --picture must be a .svg, .png or .pdf in an existing folder, got "
                f"{options.picture}",
                file=sys.stderr,
            )
            sys.exit(2)
        draw(options.picture)


if __name__ == "__main__":
    main()
