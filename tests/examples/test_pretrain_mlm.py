"""examples/pretrain_mlm.py on a few sentences and a network of a few thousand weights.

Accumulated, distributed, sharded, killed and resumed runs are compared with one uninterrupted process.
"""

import functools
import json
import os
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    BertTokenizer,
    RoFormerConfig,
    RoFormerForMaskedLM,
    TrainerCallback,
)

from examples import finetune_matcher, pretrain_mlm, pretrain_tta
from kexue_hf import TtaConfig, TtaForMaskedLM, TtaTokenizer
from kexue_hf.trainers import pretraining, pretraining_options, whole_checkpoints
from tests.examples import matching_runs, pretraining_runs
from tests.examples.pretraining_runs import (
    LONG,
    SEGMENTS,
    SENTENCES,
    STREAM,
    arguments,
    failure,
    logged,
    losses,
    train,
    write_text,
)
from tests.old_torch import SHARDS_ON_CPUS, needs_shards_on_cpus
from tests.two_processes import two_processes as start_two


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def uninterrupted(text: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of one process: batches of 8, 12 steps."""
    return train(text, tmp_path_factory.mktemp("whole"), *LONG, "--batch_size=8")


def test_learns_reports_and_saves(text, tmp_path, capsys):
    # Builds a vocabulary from the text.
    options = [
        "--vocabulary=",
        "--vocab_size=300",
        "--min_character_count=1",
        "--max-steps=40",
        "--batch-size=8",
        f"--validation_file={text}",
        f"--report={tmp_path / 'report.json'}",
    ]
    found = train(text, tmp_path / "out", *options)
    assert sum(found[-5:]) < 0.8 * sum(found[:5])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["steps"] == 40 and 0 < report["held_out_accuracy"] <= 1 and report["held_out_loss"] < found[0]
    assert "held_out_accuracy" in capsys.readouterr().out
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(tokenizer) == model.config.vocab_size
    assert not list((tmp_path / "out").rglob("training_args.bin"))


class Killed(BaseException):
    """As abrupt as a signal: no code of the script handles it."""


class KillAfter(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **objects):
        if state.global_step == self.step:
            raise Killed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "script"),
    [
        (["--batch_size=8"], pretrain_mlm),
        (["--batch_size=4", "--gradient_accumulation_steps=2", "--next_segment", *SEGMENTS], pretrain_mlm),
        (STREAM, pretrain_mlm),
        ([*STREAM, *SEGMENTS, "--dataloader_num_workers=2"], pretrain_mlm),
        (["--batch_size=4", "--gradient_accumulation_steps=2", *SEGMENTS], pretrain_tta),
    ],
    ids=["rows", "accumulated segments, next segment", "stream of rows", "stream of segments, workers", "T-TA"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(text, tmp_path, monkeypatch, capsys, options, script):
    options = [*LONG, "--dropout=0.1", *options]
    train = functools.partial(pretraining_runs.train, script=script)
    whole = train(text, tmp_path / "whole", *options)
    assert len(whole) == 12 == len(set(whole))

    kind = pretraining.OrderedTrainer
    monkeypatch.setattr(pretraining, "OrderedTrainer", lambda **named: kind(**named, callbacks=[KillAfter(8)]))
    with pytest.raises(Killed):
        train(text, tmp_path / "stopped", *options, "--resume")
    assert "no checkpoint" in capsys.readouterr().out
    monkeypatch.setattr(pretraining, "OrderedTrainer", kind)
    # Left by a kill during the write of a checkpoint.
    (tmp_path / "stopped" / "checkpoint-7").mkdir()
    assert train(text, tmp_path / "stopped", *options, "--resume") == whole
    weights = (tmp_path / "stopped" / "model.safetensors").read_bytes()
    # Once more, after the last step.
    assert train(text, tmp_path / "stopped", *options, "--resume") == whole
    assert "using checkpoint-12" in capsys.readouterr().out
    assert (tmp_path / "stopped" / "model.safetensors").read_bytes() == weights
    assert not (tmp_path / "stopped" / "checkpoint-13").exists()


def test_a_kill_before_the_mark_keeps_the_previous_checkpoint(text, tmp_path, monkeypatch, capsys):
    write = whole_checkpoints.write_whole

    def killed(path: Path, content: str) -> None:
        if path.parent.name == "checkpoint-2":
            raise Killed
        write(path, content)

    monkeypatch.setattr(whole_checkpoints, "write_whole", killed)
    options = ["--max_steps=2", "--save_steps=1", "--save_total_limit=1"]
    with pytest.raises(Killed):
        train(text, tmp_path, *options)
    found = whole_checkpoints.last_whole_checkpoint(tmp_path)
    assert found is not None and found[1]["step"] == 1
    monkeypatch.setattr(whole_checkpoints, "write_whole", write)
    train(text, tmp_path, *options, "--resume")
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    # Without a complete checkpoint, there is a message.
    (tmp_path / "checkpoint-2" / "progress.json").unlink()
    assert "(none of checkpoint-2 holds progress.json" in whole_checkpoints.restart_reason(tmp_path)


@pytest.mark.parametrize(
    ("shape", "options", "script"),
    [
        ((2, 4), [], pretrain_mlm),
        ((4, 2), [*STREAM, *SEGMENTS], pretrain_mlm),
        ((4, 2), SEGMENTS, pretrain_mlm),
        ((4, 2), SEGMENTS, pretrain_tta),
    ],
    ids=["rows", "stream of segments", "segments", "T-TA, segments"],
)
def test_accumulated_batches_equal_one_large_batch(text, tmp_path, shape, options, script):
    options = [*LONG, *options]
    train = functools.partial(pretraining_runs.train, script=script)
    large = train(text, tmp_path / "large", *options, "--batch_size=8")
    shape = [f"--batch_size={shape[0]}", f"--gradient_accumulation_steps={shape[1]}", "--dataloader_num_workers=1"]
    # Equal later losses show that the gradients were equal too.
    assert train(text, tmp_path / "small", *options, *shape) == pytest.approx(large, rel=1e-5)


def held_out(text: Path, output: Path, size: int) -> list[str]:
    """Return options that evaluate on the text, `size` rows at a time, and write a report next to `output`."""
    measured = [f"--validation_file={text}", f"--per_device_eval_batch_size={size}"]
    return [*SEGMENTS, *measured, f"--report={output}.json"]


def untied(text: Path, output: Path, *options: str) -> list[str]:
    """Return options for a T-TA with untied embeddings, in which every weight must have a gradient."""
    model = output.with_name("model")
    if not model.exists():
        tokenizer = TtaTokenizer(vocab_file=str(text.with_name("vocab_tta.txt")))
        tokenizer.save_pretrained(model)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        TtaForMaskedLM(TtaConfig(vocab_size=len(tokenizer), tie_word_embeddings=False, **sizes)).save_pretrained(model)
    found = [f"--model={model}", "--dropout=0", "--ddp_find_unused_parameters=False", *SEGMENTS, *options]
    return arguments(text, output, *found, script=pretrain_tta)


def matcher(output: Path, size: int) -> list[str]:
    """Return options that train a matcher on `size` rows at a time and evaluate its averaged weights."""
    model, pairs = output.with_name("encoder"), output.with_name("pairs")
    if not model.exists():
        matching_runs.write_encoder(model)
        matching_runs.write_contest(pairs)
    options = [f"--batch_size={size}", "--max_steps=6", "--save_strategy=steps", "--save_steps=3", "--logging_steps=1"]
    measured = [f"--eval_file={pairs}", f"--report={output}.json", "--per_device_eval_batch_size=5"]
    return matching_runs.arguments(model, pairs, output, *options, *measured, "--loss=focal", "--learning_rate=1e-3")


@pytest.fixture(scope="module")
def two_processes(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Outputs of runs with two processes: complete, sharded, of a T-TA and a matcher, and killed after a checkpoint.

    All run in one start, because importing the libraries takes longer than the runs.
    """
    folder = tmp_path_factory.mktemp("two")
    outputs = {
        name: folder / name for name in ("plain", "sharded", "tta", "tta, sharded", "untied", "matcher", "killed")
    }
    common = [*LONG, "--batch_size=4"]
    runs = [
        ("pretrain_mlm", arguments(text, outputs["plain"], *common)),
        ("pretrain_mlm", arguments(text, outputs["sharded"], *common, "--fsdp")),
        # 48 rows, 14 at a time.
        (
            "pretrain_tta",
            arguments(text, outputs["tta"], *common, *held_out(text, outputs["tta"], 7), script=pretrain_tta),
        ),
        ("pretrain_tta", arguments(text, outputs["tta, sharded"], *common, *SEGMENTS, "--fsdp", script=pretrain_tta)),
        ("pretrain_tta", untied(text, outputs["untied"], *common)),
        ("finetune_matcher", matcher(outputs["matcher"], 4)),
        ("pretrain_mlm", arguments(text, outputs["killed"], *common, "--max_steps=100000")),
    ]
    if not SHARDS_ON_CPUS:
        runs = [run for run in runs if "--fsdp" not in run[1]]
    with start_two("tests.examples.one_of_two", json.dumps(runs)) as process:
        deadline = time.monotonic() + 240
        while not (outputs["killed"] / "checkpoint-5" / "progress.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                pytest.fail(process.communicate()[1][-3000:])
            time.sleep(0.02)
    return outputs


@pytest.mark.slow
def test_two_processes_equal_one(two_processes, uninterrupted):
    assert losses(two_processes["plain"]) == pytest.approx(uninterrupted, rel=1e-5)


@pytest.mark.slow
def test_two_processes_equal_one_for_a_tta(text, two_processes, tmp_path):
    output = tmp_path / "alone"
    alone = train(text, output, *LONG, *held_out(text, output, 64), "--batch_size=8", script=pretrain_tta)
    assert losses(two_processes["tta"]) == pytest.approx(alone, rel=1e-5)
    if SHARDS_ON_CPUS:
        assert losses(two_processes["tta, sharded"]) == pytest.approx(alone, rel=1e-5)
    one, two = (json.loads(Path(f"{folder}.json").read_text()) for folder in (output, two_processes["tta"]))
    for name in ("held_out_loss", "held_out_accuracy"):
        assert two[name] == pytest.approx(one[name], rel=1e-4)


@pytest.mark.slow
@needs_shards_on_cpus
def test_a_sharded_model_is_saved_with_its_own_code(two_processes):
    for folder in (two_processes["sharded"], two_processes["sharded"] / "checkpoint-10"):
        files = {path.name for path in folder.glob("*.py")}
        assert "modeling_wobert.py" in files and not [name for name in files if "fsdp" in name]
        config = json.loads((folder / "config.json").read_text())
        assert config["auto_map"]["AutoModelForMaskedLM"] == "modeling_wobert.WoBertForMaskedLM"


@pytest.mark.slow
def test_ddp_needs_no_search_for_unused_parameters(text, two_processes):
    alone = two_processes["untied"].with_name("untied, alone")
    pretrain_tta.main(untied(text, alone, *LONG, "--batch_size=8"))
    assert losses(two_processes["untied"]) == pytest.approx(losses(alone), rel=1e-5)


@pytest.mark.slow
def test_two_processes_equal_one_for_a_matcher(two_processes):
    output = two_processes["matcher"]
    alone = output.with_name("matcher, alone")
    finetune_matcher.main(matcher(alone, 8))
    assert losses(output) == pytest.approx(losses(alone), rel=1e-5)
    assert logged(output, "eval_loss") == pytest.approx(logged(alone, "eval_loss"), rel=1e-5)
    one, two = (json.loads(Path(f"{folder}.json").read_text("utf-8")) for folder in (alone, output))
    assert {name: two[name] for name in two if name != "seconds"} == pytest.approx(
        {name: one[name] for name in one if name != "seconds"}, rel=1e-4
    )
    for file in ("model.safetensors", "averaging.safetensors"):
        ones, twos = (load_file(folder / "checkpoint-6" / file) for folder in (alone, output))
        for name, weight in ones.items():
            # The gradient of a key's bias is only rounding error, which Adam amplifies to steps.
            if "key.bias" not in name:
                assert twos[name].numpy() == pytest.approx(weight.numpy(), abs=1e-5), name


@pytest.mark.slow
@needs_shards_on_cpus
def test_sharded_training_equals_unsharded(two_processes, uninterrupted):
    assert losses(two_processes["sharded"]) == pytest.approx(uninterrupted, rel=1e-5)
    # It did use FSDP, and the folder and each checkpoint are complete.
    assert (two_processes["sharded"] / "checkpoint-12" / "pytorch_model_fsdp.bin").exists()
    plain = AutoModelForMaskedLM.from_pretrained(two_processes["plain"]).state_dict()
    for folder in ("", "checkpoint-12"):
        found, info = AutoModelForMaskedLM.from_pretrained(two_processes["sharded"] / folder, output_loading_info=True)
        assert not info["missing_keys"]
        for name, weight in found.state_dict().items():
            assert weight.numpy() == pytest.approx(plain[name].numpy(), abs=1e-4), name


@pytest.mark.slow
def test_one_process_resumes_two_killed_ones(text, two_processes, uninterrupted):
    output = two_processes["killed"]
    for late in output.glob("checkpoint-*"):  # written shortly after the first
        if late.name != "checkpoint-5":
            (late / "progress.json").unlink(missing_ok=True)
    assert train(text, output, *LONG, "--batch_size=8", "--resume") == pytest.approx(uninterrupted, rel=1e-5)


def test_starts_from_a_folder(text, tmp_path):
    train(text, tmp_path / "first", "--max_steps=2", "--save_steps=2")
    options = ["--max_steps=2", "--save_steps=2", "--dropout=0.1"]
    found = train(text, tmp_path / "second", f"--model={tmp_path / 'first'}", *options)
    assert len(found) == 2
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "second").config.hidden_dropout_prob == 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train_file=nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["--streaming"], "a stream has no known length"),
        (["--text_column=body"], "line 1: has no column 'body', only text"),
        (["--max_length=2"], "--max_length must be at least 3"),
        (["--pack=tight"], "--pack must be rows or segments, got 'tight'"),
        (["--batch_size=640"], "rows, but a step takes 640"),
        (["--report_to=tensorboard"], "needs the package tensorboard: pip install tensorboard"),
        (["--segment_characters=-5"], "--segment_characters must be 1 or more, got -5"),
        (["--shuffle_buffer=0"], "--shuffle_buffer must be 1 or more, got 0"),
        (["--preprocessing_num_proc=-1"], "--preprocessing_num_proc must be 1 or more, got -1"),
        (["--batch_size=0"], "--batch_size must be 1 or more, got 0"),
        (["--mask_probability=2"], "--mask_probability must be from 0 to 1, got 2"),
        (["--dropout=2"], "--dropout must be from 0 to 1, got 2"),
        (["--seed=-1"], "--seed must be from 0 to 4294967295, got -1"),
        (["--output_dir={text}"], "--output_dir must be a folder, "),
        (["--report=nodir/x.json"], "--report must be a file in an existing folder, got nodir/x.json"),
        (
            ["--vocabulary=", "--vocab_size=10"],
            "a new model cannot be created: expected a vocabulary size of at least",
        ),
        (["--vocabulary=nofile"], "--vocabulary must be a vocab.txt, got nofile, which does not exist"),
        (["--num_attention_heads=3"], "a new model cannot be created: "),
        (["--attention=foo"], "a new model cannot be created: "),
        (["--model=nonexist"], "--model nonexist cannot be used: "),
        (["--dataloader_prefetch_factor=2"], "wrong options: "),
        (["--eval_strategy=epoch"], "wrong options: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_options_are_one_line(text, tmp_path, capsys, monkeypatch, options, message):
    options = [option.format(text=text) for option in options]
    monkeypatch.setattr(pretraining_options, "is_tensorboard_available", lambda: False)
    assert message in failure(capsys, arguments(text, tmp_path / "out", *options))


def test_an_earlier_training_is_not_replaced_by_default(text, tmp_path, capsys):
    options = ["--max_steps=2", "--save_steps=1"]
    train(text, tmp_path, *options)
    before = (tmp_path / "model.safetensors").read_bytes()
    message = "holds the files of an earlier training (config.json): use another folder, --resume"
    assert message in failure(capsys, arguments(text, tmp_path, "--max_steps=1", "--seed=5"))
    assert (tmp_path / "model.safetensors").read_bytes() == before
    (tmp_path / "config.json").unlink()
    assert "(checkpoint-1)" in failure(capsys, arguments(text, tmp_path, "--max_steps=1", "--seed=5"))
    train(text, tmp_path, "--max_steps=1", "--save_steps=1", "--seed=5", "--overwrite")
    assert (tmp_path / "model.safetensors").read_bytes() != before
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.parametrize("streaming", [False, True], ids=["table", "stream"])
def test_a_corpus_in_another_encoding_is_refused_with_its_line(tmp_path, capsys, streaming):
    path = tmp_path / "old.txt"
    path.write_bytes("\n".join(SENTENCES * 20).encode() + "\n北京".encode("gb18030"))
    options = ["--max_steps=50", "--dataloader_num_workers=1", *STREAM, f"--vocabulary={tmp_path / 'vocab.txt'}"]
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n北\n京\n", encoding="utf-8")
    error = failure(capsys, arguments(path, tmp_path / "out", *(options if streaming else [])))
    assert f"pretrain_mlm: error: {path}, line 81: not UTF-8 (byte 0xb1 at position 0 of the line); convert" in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "changes"),
    [
        (
            ["--data_seed=3"],
            {"--batch_size=8": "rows of a step 4, now it is 8", "--seed=5": "mask seed 42, now it is 5"},
        ),
        (
            ["--streaming"],
            {
                "--data_seed=3": "seed 42, now it is 3",
                "--mask_probability=0.2": "mask probability 0.15, now it is 0.2",
                "--pack=segments": "pack rows, now it is segments",
                "--segment_characters=9": "segment_characters None, now it is 9",
                "--max_length=20": "max_length 24, now it is 20",
                "--train_file={other}": "corpus 1 files of ",
                "--streaming=False": "kind of data Stream, now it is Table",
            },
        ),
    ],
    ids=["table", "stream"],
)
def test_resuming_with_other_settings_is_refused(text, tmp_path, capsys, first, changes):
    other = tmp_path / "other.txt"
    other.write_text("\n".join(SENTENCES * 8), encoding="utf-8")
    options = ["--max_steps=1", "--save_steps=1", "--batch_size=4", *first]
    train(text, tmp_path / "out", *options)
    for change, message in changes.items():
        again = [*options, "--resume", change.format(other=other)]
        error = failure(capsys, arguments(text, tmp_path / "out", *again))
        assert f"checkpoint-1 was made with {message}" in error and "--model" in error


@pytest.mark.parametrize("kind", ["bert", "roformer"])
def test_takes_encoders_of_transformers(text, tmp_path, capsys, kind):
    vocabulary = text.with_name("vocab.txt")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config_class, model_class = {
        "bert": (BertConfig, BertForPreTraining),
        "roformer": (RoFormerConfig, RoFormerForMaskedLM),
    }[kind]
    config = config_class(vocab_size=len(vocabulary.read_text("utf-8").splitlines()), embedding_size=16, **sizes)
    model_class(config).save_pretrained(tmp_path / "model")
    BertTokenizer(str(vocabulary)).save_pretrained(tmp_path / "model")
    options = [f"--model={tmp_path / 'model'}", "--max_steps=1", "--save_steps=1"]
    assert len(train(text, tmp_path / "out", *options)) == 1
    if kind == "bert":
        assert len(train(text, tmp_path / "both", *options, "--next_segment")) == 1
    else:
        error = failure(capsys, arguments(text, tmp_path / "both", *options, "--next_segment"))
        assert "--next_segment needs a model with BERT's two heads, got a roformer" in error


def test_a_model_with_fewer_rows_than_its_tokenizer_has_tokens_is_refused(text, tmp_path, capsys):
    train(text, tmp_path / "model", "--max_steps=1", "--save_steps=1")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = len(tokenizer)
    tokenizer.add_tokens(["新词"])
    tokenizer.save_pretrained(tmp_path / "model")
    options = arguments(text, tmp_path / "out", f"--model={tmp_path / 'model'}", "--max_steps=1")
    assert f"has rows for {rows} tokens, its tokenizer has {rows + 1}: call model" in failure(capsys, options)


def test_a_warning_if_every_reader_tokenizes_the_whole_stream(text, tmp_path, capsys):
    options = ["--streaming", "--max_steps=1", "--dataloader_num_workers=2", "--train_file=nowhere.txt"]
    assert "each of 2 processes and workers tokenizes" in failure(capsys, arguments(text, tmp_path, *options), lines=2)


def test_unconnected_processes_are_refused(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    options = [option for option in arguments(text, tmp_path) if option != "--use_cpu"]
    assert "expected 2 connected processes, got separate ones" in failure(capsys, options)


def test_a_warning_if_accelerate_starts_one_process(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_PORT", "29500")
    error = failure(capsys, arguments(text, tmp_path, "--pack=rows", "--batch_size=640"), lines=2)
    assert "warning: accelerate was asked for several processes but started one" in error
