"""examples/policy_gradient_vs_zeroth_order.py on a small head: the theorem of kexue.fm/archives/7737."""

from pathlib import Path

import pytest
import torch

from examples import policy_gradient_vs_zeroth_order as script


def test_the_policy_gradient_is_that_of_its_definition() -> None:
    x, labels, weight = script.example_head(50, 4, 3, 0)
    probabilities = (x @ weight.T).softmax(-1)
    # The sum over classes of p r grad log p, with grad log p_k = (one-hot of k - p) x.
    expected = torch.zeros_like(weight)
    for row, label in enumerate(labels):
        hot = torch.nn.functional.one_hot(label, 3) - probabilities[row]
        expected += probabilities[row, label] * hot[:, None] * x[row] / 50
    torch.testing.assert_close(script.policy_gradient(weight, x, labels), expected)


def test_the_two_gradients_agree() -> None:
    found = list(script.compare(200, 6, 3, (4, 32, 256), 3, 0).values())
    allowed, expected, small, fitting, _ = found
    assert expected == pytest.approx(allowed, abs=0.12)
    # Accuracy has no gradient, but noise on the logits like that of sampling gives its estimate the same direction.
    assert fitting == pytest.approx(allowed, abs=0.15) and fitting[-1] > 0.9
    assert small[-1] < 0.6


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    short = ["--rows", "40", "--features", "3", "--classes", "2", "--directions", "8", "2", "--repetitions", "1"]
    script.main([*short, "--picture", str(tmp_path / "a.svg")])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 6 and printed[0].split()[-2:] == ["2", "8"]
    first = (tmp_path / "a.svg").read_bytes()
    script.main([*short, "--picture", str(tmp_path / "a.svg")])
    assert (tmp_path / "a.svg").read_bytes() == first
    for wrong in (["--classes", "1"], ["--directions", "0"], ["--picture", str(tmp_path / "missing" / "a.svg")]):
        with pytest.raises(SystemExit) as caught:
            script.main([*short, *wrong])
        assert caught.value.code == 2
        assert capsys.readouterr().err.startswith("policy_gradient_vs_zeroth_order: error: --")
