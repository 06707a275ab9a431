"""Logits processors that treat prompt and continuation separately."""

import pytest
import torch
from transformers import NoRepeatNGramLogitsProcessor

from kexue_hf import WoBertConfig, WoBertForCausalLM
from kexue_hf.generation.logits_processors import ContinuationOnly, PromptWordsOnly

SEP = 3


@pytest.fixture(scope="module")
def model() -> WoBertForCausalLM:
    torch.manual_seed(1)
    config = WoBertConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    return WoBertForCausalLM(config).eval()


PROMPTS = {
    "input_ids": torch.tensor([[2, 10, 11, 12, 13, 3], [0, 0, 2, 20, 21, 3]]),
    "attention_mask": torch.tensor([[1] * 6, [0] * 2 + [1] * 4]),
}


@pytest.mark.parametrize("beams", [1, 3])
def test_only_tokens_of_the_prompt_are_generated(model: WoBertForCausalLM, beams: int) -> None:
    settings = {"max_new_tokens": 12, "num_beams": beams, "suppress_tokens": [0, 2], "eos_token_id": SEP}
    free = model.generate(**PROMPTS, **settings)[:, 6:]
    held = model.generate(**PROMPTS, **settings, logits_processor=[PromptWordsOnly(6, [SEP, 50])])[:, 6:]
    assert not set(free[0].tolist()) <= {10, 11, 12, 13, SEP, 50, 0}
    assert set(held[0].tolist()) <= {10, 11, 12, 13, SEP, 50, 0} and set(held[1].tolist()) <= {20, 21, SEP, 50, 0}


def test_repeating_the_prompt_is_allowed() -> None:
    ids = torch.tensor([[10, 11, 12, 20, 21, 20]])
    scores = torch.zeros(1, 30)
    whole = NoRepeatNGramLogitsProcessor(2)
    assert whole(torch.tensor([[10, 11, 12, 10]]), scores)[0, 11] == -torch.inf
    after = ContinuationOnly(whole, 3)
    assert not after(torch.tensor([[10, 11, 12, 10]]), scores).any()
    assert (after(ids, scores)[0] == -torch.inf).nonzero().flatten().tolist() == [21]
