"""Small random models of games for the tests of playing."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from kexue_hf import XiangqiGptConfig, XiangqiGptForCausalLM, XiangqiPlayer, XiangqiTokenizer

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
}
# Red mates by b0b9, and by nothing else.
MATE_IN_ONE = "4k4/R8/9/9/9/9/9/9/9/1R1K5 w"
SOME_GAME = ["h2e2", "h9g7", "h0g2", "i9h9", "b0c2", "b9c7", "i0h0", "c6c5", "h0h6", "a9a8"]


def tiny_parts(vocab: str = "characters", value: bool = True, **changes: Any) -> tuple[Any, Any, Any]:
    """Return a model, its tokenizer, and a value head or None."""
    tokenizer = XiangqiTokenizer(vocab=vocab)
    torch.manual_seed(0)
    model = XiangqiGptForCausalLM(XiangqiGptConfig(vocab_size=len(tokenizer), **{**SIZES, **changes})).eval()
    return model, tokenizer, torch.nn.Linear(SIZES["hidden_size"], 3) if value else None


def tiny_player(vocab: str = "characters", value: bool = True, **options: Any) -> XiangqiPlayer:
    model, tokenizer, head = tiny_parts(vocab, value)
    return XiangqiPlayer(model, tokenizer, value_head=head, **options)


def tiny_folder(folder: Path, vocab: str = "characters", value: bool = True) -> Path:
    """Save a model as one file with the names of the policy and, if asked for, those of the classifier."""
    model, tokenizer, head = tiny_parts(vocab, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if head is not None:
        weights = load_file(folder / "model.safetensors")
        weights |= {f"classifier.{name}": tensor.detach() for name, tensor in head.named_parameters()}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
