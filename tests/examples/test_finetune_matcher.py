"""examples/finetune_matcher.py on two dozen pairs and a network of a few thousand weights."""

import ast
import json
import math
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel, BertTokenizer

from examples import finetune_matcher as script
from kexue_hf import ClnMatcherConfig, ClnMatcherForSequenceClassification, match_texts
from kexue_hf.losses import DecisionRule
from kexue_hf.pipelines.text_pairs import pair_frame_of
from kexue_hf.trainers.averaged_weights import AVERAGING
from tests.examples.matching_runs import PAIRS, TASKS, TOKENS, arguments, write_contest, write_encoder, write_jsonl


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_contest(tmp_path_factory.mktemp("contest"))


@pytest.fixture(scope="module")
def trained(encoder: Path, contest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matcher of both tasks, with the report and the checkpoints of its training."""
    folder = tmp_path_factory.mktemp("trained")
    options = [
        f"--eval_file={contest}",
        "--num_train_epochs=16",
        "--save_strategy=steps",
        "--save_steps=32",
        "--batch_size=8",
        "--max_length=12",
        "--bf16_full_eval",  # applies to the last evaluation
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


@pytest.mark.parametrize(
    ("found", "best"), [([0.0, 0.5, 0.5, 0.2], 3), ([0.0] * 4, 4)], ids=["the last of the best", "none is better"]
)
def test_the_best_checkpoint_is_kept_and_saved(
    encoder: Path, contest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, found: list, best: int
) -> None:
    values = iter([*found, max(found)])  # once more at the end
    monkeypatch.setattr(script, "matching_figures", lambda *_: {"f1": next(values)})
    options = [f"--eval_file={contest}", "--max_steps=4", "--save_strategy=steps", "--save_steps=1"]
    out = tmp_path / "out"
    script.main(arguments(encoder, contest, out, *options, "--task_names", "新", *TASKS))
    said = capsys.readouterr().out
    assert f"best_step: {best}\n" in said and "no training rows of 新\n" in said
    assert ("f1 is 0: no matching held-out pair has a probability above one half" in said) == (max(found) == 0)
    kept = {path.name for path in out.glob("checkpoint-*")}
    assert {f"checkpoint-{best}", "checkpoint-4"} <= kept and len(kept) <= 2
    saved, chosen = (load_file(folder / "model.safetensors") for folder in (out, out / f"checkpoint-{best}"))
    assert all(saved[name].equal(chosen[name]) for name in saved)
    # The training continued with other weights.
    raw = load_file(out / f"checkpoint-{best}" / AVERAGING)
    assert not raw["raw.classifier.weight"].equal(chosen["classifier.weight"])


def test_the_saved_matcher_truncates_as_in_training(trained: Path) -> None:
    for folder in (trained / "out", trained / "out" / "checkpoint-96"):
        assert AutoTokenizer.from_pretrained(folder).model_max_length == 12
    assert load_file(trained / "out" / "model.safetensors")["classifier.weight"].dtype == torch.float32


def test_the_card_lists_tasks_rows_and_figures(trained: Path) -> None:
    card = (trained / "out" / "README.md").read_text("utf-8")
    assert "| 1 | 词语匹配B类 | 24 | 50.0% | 24 | 50.0% | 1.0000 | 1.0000 | " in card
    assert 'tasks="词语匹配A类"' in card and "--task '词语匹配A类'" in card and '.from_pretrained("out")' in card
    assert "longer than 12 tokens" in card and "![" in card and "](reliability.svg)" in card
    assert "**F1 of all A tasks: 1.0000; F1 of all B tasks: 1.0000; mean F1: 1.0000.**" in card
    assert "None" not in card and str(trained) not in card and "| steps | 96 |" in card
    picture = (trained / "out" / "reliability.svg").read_text("utf-8")
    assert all(task in picture for task in TASKS) and "24 pairs, 50% match" in picture


def test_the_code_in_the_card_runs(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(trained)
    blocks = re.findall(r"```python\n(.*?)```", (trained / "out" / "README.md").read_text("utf-8"), re.DOTALL)
    scope: dict = {}
    exec(blocks[0], scope)
    found = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(each) for each in found] == [TASKS, TASKS[:1]]
    # Without a second copy of the code.
    exec(blocks[1].replace(", trust_remote_code=True", ""), scope)
    assert float(capsys.readouterr().out) == pytest.approx(found[1][TASKS[0]], rel=1e-5)


def test_a_resumed_run_equals_an_uninterrupted_one(encoder, contest, tmp_path, capsys):
    options = ["--max_steps=8", "--save_strategy=steps", "--save_steps=3", "--loss=focal"]
    options += ["--loss_option=weight=inverse"]
    options += ["--save_total_limit=5", "--gradient_accumulation_steps=2", "--batch_size=4"]
    out = tmp_path / "out"
    script.main(arguments(encoder, contest, out, *options))
    whole = (out / "model.safetensors").read_bytes()
    for step in (6, 8):
        (out / f"checkpoint-{step}" / "progress.json").unlink(missing_ok=True)
    script.main(arguments(encoder, contest, out, *options, "--resume"))
    assert (out / "model.safetensors").read_bytes() == whole
    for option, message in [
        ("--ema_decay=0.9", "ema decay 0.9999, now it is 0.9"),
        ("--pooling=cls", "pooling mean, now it is cls"),
        ("--dropout=0.5", "hidden_dropout_prob 0.0, now it is 0.5"),
    ]:
        with pytest.raises(SystemExit):
            script.main(arguments(encoder, contest, out, *options, "--resume", option))
        assert f"was made with {message}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.main(arguments(encoder, contest, out, *options))
    assert "holds the files of an earlier training" in capsys.readouterr().err


def test_a_matcher_keeps_its_tasks(trained, tmp_path, capsys):
    before = ClnMatcherForSequenceClassification.from_pretrained(trained / "out").half()
    DecisionRule("thresholds", thresholds=(0.5, 0.5)).store(before.config)
    before.save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(trained / "out").save_pretrained(tmp_path / "half")
    pair = {"text_a": "猫" * 30, "text_b": "好", "task": TASKS[1], "label": 1}
    rows = write_jsonl(tmp_path / "rows.jsonl", [pair] * 8)
    old = tmp_path / "out" / "checkpoint-7"
    old.mkdir(parents=True)
    options = ["--max_steps=1", "--save_strategy=no", "--ema_decay=0", "--learning_rate=0", "--batch_size=4"]
    chosen = ["--loss=focal", "--loss_option", "weight=1,3", "--max_train_rows=4", "--overwrite"]
    report = tmp_path / "report.json"
    script.main(arguments(tmp_path / "half", rows, old.parent, *options, *chosen, f"--report={report}"))
    again = ClnMatcherForSequenceClassification.from_pretrained(old.parent)
    assert again.config.task_names == TASKS
    assert again.dtype == torch.float32 and not old.exists()
    assert all(weight.equal(before.state_dict()[name].float()) for name, weight in again.state_dict().items())
    # The length is the model's, not that of the previous training.
    tokenizer = AutoTokenizer.from_pretrained(old.parent)
    assert tokenizer.model_max_length == 16
    [found] = match_texts(again, tokenizer, [pair])
    p, figures = found[TASKS[1]], json.loads(report.read_text("utf-8"))
    assert figures["train_loss"] == pytest.approx(-3 * (1 - p) ** 2 * math.log(p), rel=1e-4)
    assert figures["train_rows"] == 4
    card = (old.parent / "README.md").read_text("utf-8")
    assert "| 0 | 词语匹配A类 | 0 | - |\n| 1 | 词语匹配B类 | 4 | 100.0% |" in card and "![" not in card
    assert "(thresholds, thresholds [0.5, 0.5])" in card and "Without kexue_hf, the pipeline uses" in card
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
        (["--loss=hinge"], "the loss must be one of cross_entropy, focal,"),
        (["--loss_option=weight=much"], "weight must be a number, or numbers with commas between, or one of inverse"),
        (["--loss_option=gamma=3"], "options of the loss cross_entropy are key=value with one of these keys: weight"),
        (["--ema_decay=2"], "--ema_decay must be from 0 to 1, got 2.0"),
        (["--max_length=5"], "max_length must be from 6 to 16 for this model, got 5"),
        (["--pooling=max"], "pooling must be 'mean' or 'cls', got 'max'"),
        (["--task_names", "a", "a"], "--task_names must be different names, got a a"),
        (["--task_names", "a"], "line 1: unknown task '词语匹配A类'; known are 'a'"),
        (["--eval_file=nowhere"], "nowhere does not exist"),
        (["--model=nowhere"], "--model nowhere cannot be used: "),
        (["--train_sampling_strategy=any"], "invalid choice: 'any'"),
        (["--save_strategy=best"], "--save_strategy best has no effect here: expected epoch, steps or no, and"),
        (["--eval_strategy=epoch"], "--eval_strategy has no effect here: there is no --eval_file"),
        (["--eval_on_start"], "--eval_on_start has no effect here: there is no --eval_file"),
        (["--eval_file=x", "--eval_strategy=steps"], "--eval_strategy has no effect here: held-out rows are"),
        (["--eval_file=x", "--eval_steps=5"], "--eval_steps has no effect here: held-out rows are"),
        (["--metric_for_best_model=loss"], "--metric_for_best_model has no effect here: the best checkpoint"),
        (["--greater_is_better=False"], "--greater_is_better has no effect here: the best checkpoint"),
        (["--prediction_loss_only"], "--prediction_loss_only has no effect here: F1 is computed over all predictions"),
        (["--batch_eval_metrics"], "--batch_eval_metrics has no effect here: F1"),
        (["--eval_do_concat_batches=False"], "--eval_do_concat_batches has no effect here: F1"),
        (["--label_names", "label"], "--label_names has no effect here: the labels are labels, task_ids"),
        (["--label_smoothing_factor=0.1"], "--label_smoothing_factor has no effect here: the loss is"),
        (["--resume_from_checkpoint=x"], "--resume_from_checkpoint has no effect here: leave it out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_options_are_one_line(encoder, contest, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        script.main(arguments(encoder, contest, tmp_path / "out", *options))
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and message in error and not (tmp_path / "out").exists()


SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}


@pytest.mark.parametrize(
    ("tokens", "tokenizer", "message"),
    [
        (len(TOKENS), False, "knows only special tokens"),
        (8, True, "the tokenizer knows 13 tokens, the model's embedding has 8"),
    ],
    ids=["none", "too large"],
)
def test_a_tokenizer_of_another_model_is_refused(contest, tmp_path, capsys, tokens, tokenizer, message):
    folder = tmp_path / "bert"
    BertModel(BertConfig(vocab_size=tokens, **SIZES)).save_pretrained(folder)
    if tokenizer:
        BertTokenizer(vocab={token: index for index, token in enumerate(TOKENS)}).save_pretrained(folder)
    with pytest.raises(SystemExit):
        script.main(arguments(folder, contest, tmp_path / "out"))
    assert f"--model {folder} cannot be used: the tokenizer" in (error := capsys.readouterr().err)
    assert message in error and not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:this vocabulary does not belong")
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"vocab_fingerprint": "0" * 64}, "the model's vocabulary has the fingerprint 0000"),
        ({"problem_type": "regression"}, "has problem_type 'regression', which no text matcher supports"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_a_matcher_of_another_kind(encoder, contest, tmp_path, capsys, option, message):
    folder = tmp_path / "matcher"
    config = ClnMatcherConfig(vocab_size=len(TOKENS), task_names=TASKS, **SIZES, **option)
    ClnMatcherForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    with pytest.raises(SystemExit):
        script.main(arguments(folder, contest, tmp_path / "out"))
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error and not (tmp_path / "out").exists()
