"""Scoring, correction and vectors refuse a tokenizer that cannot be the model's, and warn about another's."""

from pathlib import Path
from typing import Any

import pytest
from transformers import BertTokenizer

from kexue_hf import Corrector, TtaConfig, TtaForMaskedLM, TtaTokenizer, score_texts, sentence_vectors

SPECIAL = ["[PAD]", "[EOS]", "[UNK]", "[SOS]", "[MASK]", "[CLS]", "[SEP]"]
USES = {
    "score": lambda model, tokenizer: score_texts(model, tokenizer, ["天气"]),
    "correct": lambda model, tokenizer: Corrector(model, tokenizer, candidates="top_k"),
    "vectors": lambda model, tokenizer: sentence_vectors(model, tokenizer, ["天气"]),
}


def tokenizer_of(folder: Path, characters: str) -> TtaTokenizer:
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *characters]) + "\n", encoding="utf-8")
    return TtaTokenizer(vocab_file=str(folder / "vocab.txt"))


def model_of(tokenizer: Any) -> TtaForMaskedLM:
    config = TtaConfig(
        vocab_size=len(tokenizer),
        vocab_fingerprint=tokenizer.vocab_fingerprint,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    return TtaForMaskedLM(config).eval()


@pytest.mark.parametrize("use", USES)
def test_more_tokens_than_embeddings(use: str, tmp_path: Path) -> None:
    model = model_of(tokenizer_of(tmp_path, "天气不错"))
    with pytest.raises(ValueError, match="knows 12 tokens, the model's embedding has 11 rows: load both"):
        USES[use](model, tokenizer_of(tmp_path, "天气不错好"))


@pytest.mark.parametrize("use", USES)
def test_nothing_but_special_tokens(use: str, tmp_path: Path) -> None:
    model = model_of(tokenizer_of(tmp_path, "天气不错"))
    with pytest.raises(ValueError, match=r"\(BertTokenizer\) knows only special tokens"):
        USES[use](model, BertTokenizer())


@pytest.mark.parametrize("use", USES)
def test_another_vocabulary(use: str, tmp_path: Path) -> None:
    own = tokenizer_of(tmp_path, "天气不错")
    model = model_of(own)
    USES[use](model, own)  # a warning here would be an error
    with pytest.warns(UserWarning, match="results will be meaningless"):
        USES[use](model, tokenizer_of(tmp_path, "气天不错"))
