"""What the hub tests save of each model type: its tokenizer, texts and options. A new type is one entry in `TYPES`."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import BertTokenizer

from kexue_hf import TtaTokenizer, WoBertTokenizer, XiangqiTokenizer
from tests.hub.loading import Texts
from tests.models.tta.tokenizer_oracle import make_vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENS = [*SPECIAL, "，", "。", "今", "天", "今天", "天气", "不错", "很", "好", "a", "##b"]
WORD_TEXTS = ["今天天气不错，很好。", "今天[MASK]很好 ab"]


def word_tokenizer() -> WoBertTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
        return WoBertTokenizer(vocab_file=str(path), user_words=["气不"])


def character_tokenizer() -> BertTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
        return BertTokenizer.from_pretrained(folder)


def tta_tokenizer() -> TtaTokenizer:
    tokenizer = TtaTokenizer(make_vocabulary())
    tokenizer.add_tokens(["hello!"])
    return tokenizer


@dataclass(frozen=True)
class HubType:
    """What is saved of a model type.

    Args:
        tokenizer: makes the tokenizer that is saved with each model.
        texts: the batches that are compared.
        options: the configuration of the class of this number.
        checkpoint: a golden case, whose converted folder must load as well.
    """

    tokenizer: Callable[[], Any]
    texts: Texts
    options: Callable[[int], dict[str, Any]] = field(default=lambda number: {})
    checkpoint: tuple[str, str] | None = None


TYPES = {
    "wobert": HubType(word_tokenizer, [[WORD_TEXTS]]),
    "nezha": HubType(word_tokenizer, [[WORD_TEXTS]]),
    "tta": HubType(
        tta_tokenizer,
        [[["The boy's home, 今天 hello!", "[MASK] boy", ""]]],
        checkpoint=("AutoModelForMaskedLM", "tta_tf_ckpt"),
    ),
    # Texts below the switch length, and above it and the table of positions.
    "performer_bert": HubType(
        character_tokenizer,
        [[["今天好", "天"]], [["今天好" * 15, "好"]]],
        lambda number: {
            "attention_switch_length": 20,
            "feature_map": ("low_order", "favor++")[number % 2],
            "redraw": (None, 3)[number % 2],
        },
    ),
    "cln_matcher": HubType(
        character_tokenizer,
        [[["今天", "好"], ["好天", "天天今"]]],
        lambda number: {"num_tasks": 3, "position_embedding_type": ("absolute", "rotary")[number % 2]},
        checkpoint=("AutoModelForSequenceClassification", "sohu_matcher_keras_h5"),
    ),
    # The encoder's own code must be in the folder too.
    "simsiam": HubType(
        word_tokenizer,
        [[WORD_TEXTS]],
        lambda number: {"encoder_config": {"model_type": "wobert"}, "target": "ema"},
    ),
    "xiangqi_gpt": HubType(
        lambda: XiangqiTokenizer(vocab="squares"),
        [[["h2e2 h9g7", "H2-E2", ""]]],
        checkpoint=("AutoModelForCausalLM", "cchess_lm_keras_h5"),
    ),
}
