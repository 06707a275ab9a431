"""The script that trains a player: equal losses however the work is divided, what it saves, and its errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from examples import train_xiangqi
from tests.examples.pretraining_runs import failure, logged, losses
from tests.two_processes import two_processes
from tests.xiangqi.sample_games import GAMES

PLAIN = [
    "--use_cpu", "--report_to=none", "--disable_tqdm=True", "--logging_steps=1", "--learning_rate=1e-2",
    "--hidden_size=16", "--num_hidden_layers=1", "--num_attention_heads=2", "--intermediate_size=16",
    "--max_length=64", "--max_steps=4", "--save_steps=2", "--curriculum", "0:16", "0.5:64",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("xiangqi")
    games = [{"moves": moves, "result": result} for moves, result in GAMES[:6]] * 4
    (path / "games.jsonl").write_text("".join(json.dumps(game) + "\n" for game in games), "utf-8")
    return path


def arguments(folder: Path, output: Path, *options: str) -> list[str]:
    return [f"--train_file={folder / 'games.jsonl'}", f"--output_dir={output}", *PLAIN, *options]


def train(folder: Path, output: Path, *options: str) -> list[float]:
    train_xiangqi.main(arguments(folder, output, *options))
    return losses(output)


@pytest.fixture(scope="module")
def whole(folder: Path) -> list[float]:
    return train(folder, folder / "whole", "--batch_size=8", "--winner_only")


@pytest.mark.slow
def test_two_processes_and_accumulation_have_the_losses_of_one(folder: Path, whole: list[float]) -> None:
    """The number of labels differs from row to row, and the curriculum changes half-way."""
    parts = train(folder, folder / "parts", "--batch_size=2", "--gradient_accumulation_steps=4", "--winner_only")
    np.testing.assert_allclose(parts, whole, rtol=1e-4)
    with two_processes(
        "tests.examples.one_of_two",
        json.dumps([("train_xiangqi", arguments(folder, folder / "two", "--batch_size=4", "--winner_only"))]),
    ) as process:
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-3000:]
    np.testing.assert_allclose(losses(folder / "two"), whole, rtol=1e-4)


def test_a_resumed_run_has_the_losses_of_one_run(folder: Path, whole: list[float]) -> None:
    output = folder / "resumed"
    shutil.copytree(folder / "whole", output)
    (output / "checkpoint-4" / "progress.json").unlink()
    assert train(folder, output, "--batch_size=8", "--winner_only", "--resume") == pytest.approx(whole, rel=1e-5)


@pytest.mark.slow
def test_the_folder_holds_a_policy_and_a_value(folder: Path) -> None:
    output, report = folder / "result", folder / "report.json"
    held_out = [f"--validation_file={folder / 'games.jsonl'}", "--eval_strategy=steps", "--eval_steps=2"]
    train(folder, output, "--batch_size=8", "--max_steps=40", "--learning_rate=2e-2", f"--report={report}", *held_out)
    figures = json.loads(report.read_text())
    assert figures["eval_top_1"] > 2 * figures["eval_random"]
    assert len(logged(output, "eval_top_1")) == 20
    tokenizer = AutoTokenizer.from_pretrained(output)
    policy, value = (
        kind.from_pretrained(output) for kind in (AutoModelForCausalLM, AutoModelForSequenceClassification)
    )
    batch = tokenizer([GAMES[0][0][:20]], return_tensors="pt")
    torch.testing.assert_close(policy(**batch).value_logits[:, -1], value(**batch).logits)
    # Six games, of which three were won by each side, can be learnt by heart.
    assert policy.config.value_head and logged(output, "eval_loss")[-1] < logged(output, "eval_loss")[0]


def test_without_a_value_head_and_from_a_folder(folder: Path) -> None:
    first = folder / "policy"
    train(folder, first, "--batch_size=8", "--value_loss_weight=0", "--vocab=characters")
    model = AutoModelForCausalLM.from_pretrained(first)
    assert model.classifier is None and model.config.vocab_size == 20
    again = train(folder, folder / "again", "--batch_size=8", f"--model={first}", "--max_steps=2")
    assert AutoModelForCausalLM.from_pretrained(folder / "again").classifier is not None
    assert len(again) == 2


def test_a_model_that_reads_the_board(folder: Path) -> None:
    output = folder / "boards"
    train(folder, output, "--batch_size=8", "--board_input", "--mirror=0.5", "--flip=0.5", "--save_dtype=float16")
    model, report = AutoModelForCausalLM.from_pretrained(output, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and model.dtype == torch.float16


def test_other_games_are_kept_when_one_is_wrong(folder: Path, capsys: pytest.CaptureFixture) -> None:
    games = folder / "some.jsonl"
    lines = (folder / "games.jsonl").read_text().splitlines()
    elsewhere = '{"moves": "e0e1", "result": "1-0", "fen": "3k5/9/9/9/9/9/9/9/9/4K4 w"}'
    others = ['{"moves": "h2e2 h2e2", "result": "1-0"}', elsewhere, '{"moves": "h2e2 h9g7"}']
    games.write_text("\n".join([*lines[:8], *others, *lines[8:]]) + "\n")
    options = arguments(folder, folder / "some", "--batch_size=24", "--winner_only", f"--train_file={games}")
    train_xiangqi.main(options)
    printed = capsys.readouterr().out
    assert f"left out: {games}, game 9, ply 2: h2e2 is not legal" in printed
    assert f"left out: {games}: a game from another position" in printed
    assert f"left out: {games}: a game without a result, which --winner_only needs" in printed
    assert "games: 24" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--curriculum", "0:x"], "--curriculum takes BEGIN:LENGTH"),
        (["--curriculum", "0.5:64"], "--curriculum: expected stages"),
        (["--mirror=2"], "--mirror must be from 0 to 1, got 2.0"),
        (["--max_length=3"], "--max_length must be 5 or more"),
        (["--num_attention_heads=3"], "--hidden_size must be a multiple of --num_attention_heads, got 16 and 3"),
        (["--eval_strategy=steps"], "add --validation_file"),
        (["--train_file=none.jsonl"], "none.jsonl: cannot be read"),
        (["--train_file=games.sgf"], "games.sgf: expected one of pgn, jsonl, iccs"),
        (["--model=nowhere/none"], "nowhere/none"),
        (["--batch_size=100"], "the corpus has 24 rows"),
    ],
)
def test_wrong_options_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], message: str
) -> None:
    assert message in failure(capsys, [*arguments(folder, tmp_path), *options], script=train_xiangqi)


def test_a_file_without_a_usable_game_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"moves": "a0a9"}\n')
    wrong = [*arguments(folder, tmp_path / "out"), f"--train_file={empty}"]
    assert "holds no game that can be used" in failure(capsys, wrong, script=train_xiangqi)
