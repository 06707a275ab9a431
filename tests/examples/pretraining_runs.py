"""Runs of the pre-training scripts on a few sentences and a network of a few thousand weights."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from examples import pretrain_mlm, pretrain_tta
from kexue_hf.vocabulary.vocabulary_files import SPECIAL_TOKENS, TTA_SPECIAL_TOKENS, save_vocabulary

SENTENCES = [
    "实验结果表明，该方法是有效的。",
    "本文提出了一种新的图像分割方法。",
    "北京是中国的首都，人口很多。",
    "他说今天天气很好。",
]
TINY = ["--hidden_size=16", "--num_hidden_layers=1", "--num_attention_heads=2"]
TRAINING = ["--use_cpu", "--report_to=none", "--disable_tqdm=True", "--logging_steps=1", "--learning_rate=1e-2"]
TRAINING += ["--max_length=24"]
STREAM = ["--streaming", "--shuffle_buffer=20"]
SEGMENTS = ["--pack=segments", "--train_sampling_strategy=group_by_length"]
# More than one pass over the rows.
LONG = ["--max_steps=12", "--save_steps=5", "--lr_scheduler_type=constant"]
VOCABULARIES = {pretrain_mlm: "vocab.txt", pretrain_tta: "vocab_tta.txt"}


def write_text(folder: Path) -> Path:
    """Write 48 paragraphs of different lengths, and the scripts' vocabularies next to them."""
    path = folder / "text.jsonl"
    rows = [{"text": "".join(SENTENCES[(i + j) % 4] for j in range(1 + i % 5)) + f"第{i}段。"} for i in range(48)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    # Built once, instead of from jieba's dictionary in every run.
    characters = dict.fromkeys("".join(SENTENCES) + "0123456789第段")
    save_vocabulary([*SPECIAL_TOKENS, *characters, "实验", "方法", "图像", "天气"], folder / "vocab.txt")
    save_vocabulary([*TTA_SPECIAL_TOKENS, *characters], folder / "vocab_tta.txt")
    return path


def arguments(text: Path, output: Path, *options: str, script: ModuleType = pretrain_mlm) -> list[str]:
    vocabulary = f"--vocabulary={text.with_name(VOCABULARIES[script])}"
    return [f"--train_file={text}", f"--output_dir={output}", vocabulary, *TINY, *TRAINING, *options]


def train(text: Path, output: Path, *options: str, script: ModuleType = pretrain_mlm) -> list[float]:
    """Run the script and return the losses of all steps."""
    script.main(arguments(text, output, *options, script=script))
    return losses(output)


def losses(output: Path) -> list[float]:
    return logged(output, "loss")


def logged(output: Path, name: str) -> list[float]:
    """Return all values with this name in the run's log."""
    last = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [entry[name] for entry in history if name in entry]


def failure(
    capsys: pytest.CaptureFixture, options: list[str], lines: int = 1, script: ModuleType = pretrain_mlm
) -> str:
    """Run the script, check that it exits with code 2, and return its errors."""
    with pytest.raises(SystemExit) as exit_:
        script.main(options)
    assert exit_.value.code == 2
    name = script.__name__.split(".")[-1]
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith(name)]
    assert len(error) == lines and not error[-1].endswith(":")
    return "\n".join(error)
