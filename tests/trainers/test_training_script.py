"""The command line of training scripts: help, errors, interruption."""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kexue_hf.trainers import training_script

SCRIPTS = ["finetune_classification", "finetune_matcher", "finetune_title", "pretrain_mlm", "pretrain_tta"]


@dataclass
class Options:
    train_file: str = field(metadata={"help": "some rows"})


def run_script(arguments: list[str], run: Any = lambda options, training: None) -> None:
    training_script.run_script("train_it", "Train it.", Options, run, ["--train_file=x", *arguments])


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_short(script, capsys):
    module: Any = importlib.import_module(f"examples.{script}")
    with pytest.raises(SystemExit) as exit_:
        module.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert exit_.value.code == 0 and len(lines) < 150
    assert lines[0].startswith(f"usage: {script}.py ") and lines[2] == module.__doc__.splitlines()[0]
    options = [line.split()[0] for line in lines if line.startswith("  --")]
    own = ["--train_file", "--resume", "--overwrite"]
    assert [name for name in options if name in (*own, "--output_dir")] == [*own, "--output_dir"]
    assert "--dataloader_num_workers" not in options and "--learning_rate" in options


def test_help_all_shows_all_options(capsys):
    with pytest.raises(SystemExit) as exit_:
        run_script(["--help_all"])
    output = capsys.readouterr().out
    assert exit_.value.code == 0 and output.index("--train_file") < output.index("--dataloader_num_workers")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--unknown=3"], "--unknown=3"),
        (["--max_steps=many"], "argument --max_steps/--max-steps: invalid int value: 'many'"),
        (["--learning_rate"], "expected one argument"),
        (["--eval_strategy=now"], "invalid choice: 'now'"),
    ],
)
def test_a_wrong_option_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        run_script(arguments)
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and error.startswith("train_it: error: ") and message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ([], 0.05),
        (["--max_steps=60"], 3),
        (["--max_steps=7"], 1),
        (["--max_steps=100000"], 500),
        (["--max_steps=60", "--logging_steps=50"], 50),
        (["--logging_steps=500"], 500),
    ],
)
def test_the_loss_is_reported_about_twenty_times(arguments, steps):
    found = []
    run_script(arguments, lambda options, training: found.append(training.logging_steps))
    assert found == [steps]


@pytest.mark.parametrize("whole", [False, True])
def test_ctrl_c_is_one_line_that_says_what_is_kept(whole, tmp_path: Path, capsys):
    checkpoint = tmp_path / "checkpoint-2"
    checkpoint.mkdir()
    if whole:
        (checkpoint / "progress.json").write_text('{"step": 2}')

    def interrupted(options: Any, training: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit_:
        run_script([f"--output_dir={tmp_path}"], interrupted)
    kept = f"{checkpoint} is kept: run the same command with --resume to continue from there"
    expected = kept if whole else "no checkpoint was written"
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"\ntrain_it: error: interrupted; {expected}\n"
