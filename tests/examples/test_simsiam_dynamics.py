"""The toy system of the post: it collapses without the stop-gradient only."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.simsiam_dynamics import PHI, THETA, main, trajectory


def test_with_the_stop_gradient_theta_settles_above_zero() -> None:
    _, phi, theta = trajectory(PHI, THETA, stop_gradient=True)
    # theta^2 - phi^2 is constant, and phi ends at 1.
    np.testing.assert_allclose(theta**2 - phi**2, THETA**2 - PHI**2, atol=1e-8)
    assert theta.min() >= THETA and abs(phi[-1] - 1) < 1e-6
    assert abs(theta[-1] - (1 + THETA**2 - PHI**2) ** 0.5) < 1e-6


def test_without_it_theta_goes_to_zero() -> None:
    _, phi, theta = trajectory(PHI, THETA, stop_gradient=False)
    np.testing.assert_allclose(theta**2 - (1 - phi) ** 2, THETA**2 - (1 - PHI) ** 2, atol=1e-8)
    assert (np.diff(theta) < 0).all() and abs(theta[-1]) < 1e-6


def test_the_script_prints_and_draws(tmp_path: Path, capsys: Any) -> None:
    main(["--picture", str(tmp_path / "phase.svg")])
    assert "theta 0.1 -> 0.8062" in capsys.readouterr().out
    assert (tmp_path / "phase.svg").read_text("utf-8").startswith("<?xml")
    with pytest.raises(SystemExit) as stopped:
        main(["--picture", str(tmp_path / "none" / "phase.svg")])
    assert stopped.value.code == 2
