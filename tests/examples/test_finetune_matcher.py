"""examples/finetune_matcher.py on two dozen pairs and a network of a few thousand weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from examples import finetune_matcher as script
from kexue_hf import ClnMatcherForSequenceClassification
from kexue_hf.pipelines.text_pairs import pair_frame_of
from kexue_hf.trainers.averaged_weights import AVERAGING
from tests.examples.matching_runs import PAIRS, TASKS, arguments, write_contest, write_encoder, write_jsonl


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_contest(tmp_path_factory.mktemp("contest"))


@pytest.fixture(scope="module")
def trained(encoder: Path, contest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matcher of both tasks, with the report of its training, and its checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    options = [
        f"--eval_file={contest}",
        "--num_train_epochs=16",
        "--save_strategy=steps",
        "--save_steps=32",
        "--batch_size=8",
    ]
    script.main(arguments(encoder, contest, folder / "out", *options, f"--report={folder / 'report.json'}"))
    return folder


def test_one_model_learns_both_tasks_and_loads(trained: Path) -> None:
    figures = json.loads((trained / "report.json").read_text("utf-8"))
    assert figures["train_rows"] == 48 and figures["steps"] == 96 and figures["tasks"] == 2
    names = ["f1 of 词语匹配A类", "f1 of 词语匹配B类", "f1_A", "f1_B", "f1"]
    assert [figures[name] for name in names] == [1.0] * 5
    model = AutoModelForSequenceClassification.from_pretrained(trained / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(trained / "out")
    assert model.config.task_names == TASKS
    texts = tokenizer([a for a, _ in PAIRS], [b for _, b in PAIRS], padding=True, return_tensors="pt")
    for task, matching in zip(TASKS, "好坏", strict=True):
        with torch.no_grad():
            found = model(**texts, task_ids=task).logits.argmax(-1).tolist()
        assert found == [int(b == matching) for _, b in PAIRS]
    assert not (trained / "out" / "training_args.bin").exists() and not (trained / "out" / AVERAGING).exists()


def test_the_best_checkpoint_is_kept_and_saved(trained: Path) -> None:
    best = json.loads((trained / "report.json").read_text("utf-8"))["best_step"]
    checkpoint = trained / "out" / f"checkpoint-{best}"
    assert best < 96 and {path.name for path in (trained / "out").glob("checkpoint-*")} == {
        checkpoint.name,
        "checkpoint-96",
    }
    saved, kept = (load_file(folder / "model.safetensors") for folder in (trained / "out", checkpoint))
    assert all(saved[name].equal(kept[name]) for name in saved)
    # The weights that the training went on with are others.
    raw = load_file(checkpoint / AVERAGING)
    assert not raw["raw.classifier.weight"].equal(kept["classifier.weight"])


def test_a_resumed_run_is_one_in_one_go(encoder, contest, tmp_path, capsys):
    options = ["--max_steps=8", "--save_strategy=steps", "--save_steps=3", "--loss=focal", "--class_weights=balanced"]
    options += ["--save_total_limit=5", "--gradient_accumulation_steps=2", "--batch_size=4"]
    out = tmp_path / "out"
    script.main(arguments(encoder, contest, out, *options))
    whole = (out / "model.safetensors").read_bytes()
    for step in (6, 8):
        (out / f"checkpoint-{step}" / "progress.json").unlink(missing_ok=True)
    script.main(arguments(encoder, contest, out, *options, "--resume"))
    assert (out / "model.safetensors").read_bytes() == whole
    with pytest.raises(SystemExit):
        script.main(arguments(encoder, contest, out, *options, "--resume", "--ema_decay=0.9"))
    assert "was made with ema decay 0.9999, now it is 0.9" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.main(arguments(encoder, contest, out, *options))
    assert "holds what an earlier training left" in capsys.readouterr().err


def test_a_matcher_goes_on_with_its_own_tasks(trained, tmp_path, capsys):
    pair = {"text_a": "猫" * 30, "text_b": "好", "task": TASKS[1], "label": 0}
    rows = write_jsonl(tmp_path / "rows.jsonl", [pair] * 8)
    options = ["--max_steps=1", "--save_strategy=no", "--ema_decay=0", "--learning_rate=0", "--batch_size=8"]
    script.main(arguments(trained / "out", rows, tmp_path / "out", *options))
    again, before = (
        ClnMatcherForSequenceClassification.from_pretrained(folder) for folder in (tmp_path / "out", trained / "out")
    )
    assert again.config.task_names == TASKS
    assert all(weight.equal(before.state_dict()[name]) for name, weight in again.state_dict().items())
    rows = write_jsonl(tmp_path / "rows.jsonl", [{**pair, "task": "长长"}])
    for option, message in [
        ("--pooling=mean", "rows.jsonl, line 1: unknown task '长长'; known are '词语匹配A类', '词语匹配B类'"),
        ("--task_names=长长", "has the tasks 词语匹配A类, 词语匹配B类; leave the option out"),
    ]:
        with pytest.raises(SystemExit):
            script.main(arguments(trained / "out", rows, tmp_path / "bad", *options, option))
        assert message in capsys.readouterr().err


def test_the_longer_text_is_cut(encoder):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    row = script.MatchingRow("猫" * 30, "好坏", TASKS[0], 1)
    table = script.encoded([row], TASKS, tokenizer, pair_frame_of(tokenizer), 16)
    assert tokenizer.convert_ids_to_tokens(table[0]["input_ids"]) == [
        "[CLS]",
        *"猫" * 11,
        "[SEP]",
        "好",
        "坏",
        "[SEP]",
    ]
    assert table[0]["length"] == 16 and table[0]["task_ids"] == 0 and table[0]["labels"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss=dice"], "the loss must be one of cross_entropy, focal, got 'dice'"),
        (["--class_weights", "1"], "class weights must be two numbers above 0, got 1.0"),
        (["--class_weights", "much", "1"], "--class_weights must be balanced or two numbers, got much 1"),
        (["--ema_decay=2"], "--ema_decay must be from 0 to 1, got 2.0"),
        (["--max_length=5"], "max_length must be from 6 to 16 for this model, got 5"),
        (["--pooling=max"], "pooling must be 'mean' or 'cls', got 'max'"),
        (["--task_names", "a", "a"], "--task_names must be different names, got a a"),
        (["--task_names", "a"], "line 1: unknown task '词语匹配A类'; known are 'a'"),
        (["--eval_file=nowhere"], "nowhere does not exist"),
        (["--model=nowhere"], "--model nowhere cannot be used: "),
        (["--train_sampling_strategy=any"], "invalid choice: 'any'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_line_for_what_cannot_be(encoder, contest, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        script.main(arguments(encoder, contest, tmp_path / "out", *options))
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and message in error and not (tmp_path / "out").exists()
