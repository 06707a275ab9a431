"""examples/pretrain_mlm.py on a few sentences and a network of a few thousand weights.

Oracles: an uninterrupted run for a resumed one, one large batch for accumulated and distributed small ones.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM, AutoTokenizer

from examples import pretrain_mlm
from kexue_hf.models.wobert.build_vocabulary_wobert import CorpusCounts
from tests.examples.row_masking import RowMaskingCollator

SENTENCES = [
    "实验结果表明，该方法是有效的。",
    "本文提出了一种新的图像分割方法。",
    "北京是中国的首都，人口很多。",
    "他说今天天气很好。",
]
TINY = ["--hidden_size=16", "--num_hidden_layers=1", "--num_attention_heads=2", "--vocab_size=300", "--dropout=0.1"]
TRAINING = ["--use_cpu", "--report_to=none", "--disable_tqdm=True", "--logging_steps=1", "--min_character_count=1"]
TRAINING += ["--learning_rate=1e-2", "--max_length=24"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 paragraphs of different lengths."""
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    rows = [{"text": "".join(SENTENCES[(i + j) % 4] for j in range(1 + i % 5)) + f"第{i}段。"} for i in range(48)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def train(text: Path, output: Path, *options: str) -> list[float]:
    """Run the script; the losses of all steps."""
    pretrain_mlm.main([f"--train_file={text}", f"--output_dir={output}", *TINY, *TRAINING, *options])
    return losses(output)


def losses(output: Path) -> list[float]:
    last = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def test_learns_reports_and_saves(text, tmp_path, capsys):
    options = ["--max-steps=40", "--batch-size=8", f"--validation_file={text}", f"--report={tmp_path / 'report.json'}"]
    found = train(text, tmp_path / "out", *options)
    assert sum(found[-5:]) < 0.8 * sum(found[:5])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["steps"] == 40 and 0 < report["held_out_accuracy"] <= 1 and report["held_out_loss"] < found[0]
    assert "held_out_accuracy" in capsys.readouterr().out
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(tokenizer) == model.config.vocab_size
    assert not (tmp_path / "out" / "training_args.bin").exists()


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_resumed_run_is_the_uninterrupted_one(text, tmp_path, streaming):
    options = ["--max_steps=6", "--batch_size=4", "--save_steps=3", *(["--streaming"] if streaming else [])]
    whole = train(text, tmp_path / "whole", *options)
    resumed = tmp_path / "resumed"
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", resumed / "checkpoint-3")
    shutil.copy(tmp_path / "whole" / "vocab.txt", resumed)
    assert train(text, resumed, *options, "--resume") == pytest.approx(whole, rel=1e-6)
    assert len(whole) == 6 and len(set(whole)) == 6


def test_accumulated_batches_are_one_large_batch(text, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_mlm, "WordMaskingCollator", RowMaskingCollator)
    options = ["--max_steps=5", "--save_steps=5", "--dropout=0.0"]
    large = train(text, tmp_path / "large", *options, "--batch_size=8")
    small = train(text, tmp_path / "small", *options, "--batch_size=2", "--gradient_accumulation_steps=4")
    # The losses after the first tell that the gradients were equal too. Trainer logs four digits.
    assert small == pytest.approx(large, rel=1e-4)


def test_two_processes_are_one(text, tmp_path, monkeypatch):
    # In order: how rows are shuffled depends on the number of processes.
    options = ["--max_steps=4", "--save_steps=4", "--dropout=0.0", "--train_sampling_strategy=sequential"]
    # torchrun and not accelerate launch, whose processes on a CPU are started by MPI.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(Path(__file__).with_name("row_masking.py")), f"--train_file={text}", *TINY, *TRAINING, *options]
    command += [f"--output_dir={tmp_path / 'two'}", "--batch_size=4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]

    monkeypatch.setattr(pretrain_mlm, "WordMaskingCollator", RowMaskingCollator)
    one = train(text, tmp_path / "one", *options, "--batch_size=8")
    assert losses(tmp_path / "two") == pytest.approx(one, rel=1e-4)


def test_goes_on_from_a_folder(text, tmp_path):
    train(text, tmp_path / "first", "--max_steps=2", "--save_steps=2")
    found = train(text, tmp_path / "second", f"--model={tmp_path / 'first'}", "--max_steps=2", "--save_steps=2")
    assert len(found) == 2


def test_rows_keep_sentences_and_lose_nothing(text, tmp_path):
    from kexue_hf import WoBertTokenizer
    from kexue_hf.models.wobert.build_vocabulary_wobert import build_vocabulary

    tokenizer = WoBertTokenizer(vocab=build_vocabulary(CorpusCounts(), 12_000))
    texts = [json.loads(line)["text"] for line in text.read_text(encoding="utf-8").splitlines()]
    rows = pretrain_mlm.Packer(tokenizer, 24)({"text": texts})
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert all(len(ids) <= 24 and ids[0] == cls and ids[-1] == sep for ids in rows["input_ids"])
    content = [i for ids in rows["input_ids"] for i in ids if i not in (cls, sep)]
    assert content == [i for t in texts for i in tokenizer(t, add_special_tokens=False)["input_ids"]]
    stops = sum(tokenizer.convert_ids_to_tokens(ids[-2]) == "。" for ids in rows["input_ids"])
    assert stops == len(rows["input_ids"])  # no sentence here is longer than a row
    for ids, words in zip(rows["input_ids"], rows["word_ids"], strict=True):
        assert len(ids) == len(words) and min(w for w in words if w >= 0) == 0
        assert [w == -1 for w in words] == [i in (cls, sep) for i in ids]
    long = pretrain_mlm.Packer(tokenizer, 8)({"text": ["实验" * 20]})
    assert [len(ids) for ids in long["input_ids"]] == [8, 8, 8, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train_file=nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["--streaming"], "a stream has no known length"),
        (["--text_column=body"], "has no column 'body', only text"),
        (["--max_length=2"], "--max_length must leave room"),
    ],
    ids=["no file", "endless stream", "no column", "too short"],
)
def test_one_clear_line(text, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as exit_:
        pretrain_mlm.main([f"--train_file={text}", f"--output_dir={tmp_path / 'out'}", *TINY, *TRAINING, *options])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert f"pretrain_mlm: error: {error.split('error: ')[-1]}" in error and message in error
