"""examples/imbalance.py on two dozen rows and a network of a few thousand weights."""

import json

import pytest

from examples import imbalance as script
from tests.examples.test_finetune_classification import ROWS, arguments, encoder, write_jsonl

__all__ = ["encoder"]


def test_losses_are_compared_and_drawn(encoder, tmp_path, capsys):
    rows = [*ROWS, *[row for row in ROWS if row["label"] == "好"]]
    train = write_jsonl(tmp_path / "train.jsonl", rows)
    report, out = tmp_path / "report.json", tmp_path / "out"
    options = [f"--eval_file={train}", "--seeds=2", "--num_train_epochs=8", f"--report={report}"]
    script.main(arguments(encoder, train, out, *options, "--losses", "cross_entropy", "focal gamma=1"))
    found = json.loads(report.read_text())
    assert list(found) == ["cross_entropy", "focal gamma=1"]
    assert all(len(values) == 2 for figures in found.values() for values in figures.values())
    assert max(found["cross_entropy"]["accuracy"]) > 0.7
    assert (out / "imbalance.svg").read_text().startswith("<?xml") and "balanced_accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--eval_file is missing"),
        (["--eval_file=TRAIN", "--seeds=0"], "--seeds must be 1 or more, got 0"),
        (["--eval_file=TRAIN", "--losses", "hinge"], "the loss must be one of"),
    ],
)
def test_invalid_options_are_one_line(encoder, tmp_path, capsys, options, message):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    given = [option.replace("TRAIN", str(train)) for option in options]
    with pytest.raises(SystemExit):
        script.main(arguments(encoder, train, tmp_path / "out", *given))
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line and not (tmp_path / "out").exists()
