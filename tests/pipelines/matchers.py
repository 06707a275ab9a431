"""Tiny matchers with different tasks, classifiers that are matchers with one task, and a tokenizer."""

from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from kexue_hf import ClnMatcherConfig, ClnMatcherForSequenceClassification
from tests.models.cln_matcher.matchers import NAMES, randomize

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气不错好很，ab", "##a", "##b"]
SIZES = {
    "vocab_size": len(TOKENS),
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}
# The last pairs are longer than the model's positions.
PAIRS = [
    ("今天天气不错", "今天天气很好"),
    ("好", "不好"),
    ("今天，天气不错", "ab"),
    ("好", "不好"),
    ("a b", "今天天气很好很好"),
    ("今天天气不错，很好" * 2, "天气"),
    ("今天天气不错，很好" * 2, "很好，天气不错今天" * 3),
]


def tokenizer_in(folder: Path) -> BertTokenizer:
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    return BertTokenizer(str(folder / "vocab.txt"), model_max_length=SIZES["max_position_embeddings"])


def make(kind: str, folder: Path) -> tuple[Any, BertTokenizer]:
    """Return a `matcher` with three tasks or a `bert`, and a tokenizer with its vocabulary in the folder."""
    torch.manual_seed(0)
    model: Any
    if kind == "matcher":
        config = ClnMatcherConfig(**SIZES, task_names=NAMES, task_embedding_size=10)
        model = ClnMatcherForSequenceClassification(config)
    else:
        model = BertForSequenceClassification(BertConfig(**SIZES))
    return randomize(model.eval()), tokenizer_in(folder)


@torch.no_grad()
def alone(model: Any, tokenizer: Any, pair: tuple[str, str], task: int | None = None) -> float:
    """Return the probability of a single pair that fits, encoded by the tokenizer."""
    encoded = tokenizer(*pair, return_tensors="pt")
    extra = {} if task is None else {"task_ids": task}
    return float(model(**encoded, **extra).logits[0].softmax(-1)[1])
