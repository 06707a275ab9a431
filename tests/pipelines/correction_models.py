"""Small models for the tests of correction: random ones, and one that knows the texts it was built from."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertTokenizer
from transformers.modeling_outputs import MaskedLMOutput

from kexue_hf import TtaConfig, TtaForMaskedLM, TtaTokenizer, WoBertConfig, WoBertForMaskedLM, WoBertTokenizer

SPECIAL = ["[PAD]", "[EOS]", "[UNK]", "[SOS]", "[MASK]", "[CLS]", "[SEP]"]
HAN = [*"遇到逆境竟竞静时世事是我们必须勇于面对候后午下上课了今天气汽不错"]
TOKENS = [*SPECIAL, "，", "。", "1", "a", "##b", *HAN, "天气", "今天", "天汽", "时候", "侍候"]
TEXTS = ["遇到逆竟时，我们必须勇于面对。", "", "今天天汽不错ab", "境", "龘天龘", " \t ", "1a，。"]
LONG = "遇到逆竟时，我们必须勇于面对，今天天气不错。" * 3
_SIZES = {
    "vocab_size": len(TOKENS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
    "initializer_range": 0.4,
}
KINDS: dict[str, Any] = {
    "tta": (TtaConfig, TtaForMaskedLM, TtaTokenizer),
    "bert": (BertConfig, BertForMaskedLM, BertTokenizer),
    "wobert": (WoBertConfig, WoBertForMaskedLM, WoBertTokenizer),
}


def make(kind: str, folder: Path) -> tuple[Any, Any]:
    """Return a random model of a kind, and its tokenizer."""
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    config_class, model_class, tokenizer_class = KINDS[kind]
    torch.manual_seed(0)
    return model_class(config_class(**_SIZES)).eval(), tokenizer_class(str(folder / "vocab.txt"))


class Neighbours(nn.Module):
    """p(token | previous token, next token) from counts: a model that predicts every token without seeing it."""

    predicts_all_tokens_at_once = True

    def __init__(self, tokenizer: Any, texts: Iterable[str]) -> None:
        super().__init__()
        size = len(tokenizer)
        self.config = SimpleNamespace(vocab_size=size, max_position_embeddings=64)
        self.before = nn.Parameter(torch.full((size, size), 0.01))
        self.after = nn.Parameter(torch.full((size, size), 0.01))
        for text in texts:
            ids = tokenizer(text)["input_ids"]
            for one, other in itertools.pairwise(ids):
                self.before.data[one, other] += 1
                self.after.data[other, one] += 1

    def get_input_embeddings(self) -> None:
        return None

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> MaskedLMOutput:
        """Convert ids [batch, length] to logits [batch, length, vocabulary]."""
        left, right = input_ids.roll(1, dims=1), input_ids.roll(-1, dims=1)
        return MaskedLMOutput(logits=self.before[left].log() + self.after[right].log())


__all__ = ["HAN", "KINDS", "LONG", "TEXTS", "TOKENS", "Neighbours", "make"]
