"""Runs of examples/finetune_matcher.py on two dozen pairs and a network of a few thousand weights."""

import json
from pathlib import Path

import torch

from kexue_hf import WoBertConfig, WoBertForMaskedLM, WoBertTokenizer

WORDS = "猫狗马牛羊鸡"
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "好", "坏"]
TASKS = ["词语匹配A类", "词语匹配B类"]
# Exactly the pairs that do not match by A match by B.
PAIRS = [(word * (1 + number), mark) for mark in "好坏" for number in range(2) for word in WORDS]
TRAINING = ["--use_cpu", "--report_to=none", "--disable_tqdm=True", "--learning_rate=1e-2"]


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_encoder(folder: Path) -> Path:
    """Save a masked language model with random weights and its tokenizer."""
    torch.manual_seed(0)
    config = WoBertConfig(
        vocab_size=len(TOKENS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.3,  # large, so that few steps suffice
    )
    WoBertForMaskedLM(config).save_pretrained(folder)
    WoBertTokenizer(vocab={token: index for index, token in enumerate(TOKENS)}).save_pretrained(folder)
    return folder


def write_contest(folder: Path) -> Path:
    """Write one folder per task in the contest's layout; the held-out pairs equal the training pairs."""
    for task, matching in zip(TASKS, "好坏", strict=True):
        (folder / task).mkdir(parents=True)
        name = f"label{task[-2]}"
        rows = [{"source": a, "target": b, name: str(int(b == matching))} for a, b in PAIRS]
        for part in ("train", "valid"):
            write_jsonl(folder / task / f"{part}.txt", rows)
    return folder


def arguments(model: Path, train: Path, output: Path, *options: str) -> list[str]:
    return [f"--model={model}", f"--train_file={train}", f"--output_dir={output}", *TRAINING, *options]
