"""Data under a name that a class does not know is refused: ignoring it would give wrong results."""

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from kexue_hf.models.wobert.cache_name_wobert import CACHE
from tests.models.tiny_models import class_names, inputs, tiny_model

CARRIED = {
    "a renamed cache": ("past_states", DynamicCache()),
    "a misspelt mask": ("attention_masks", torch.ones(2, 3)),
    "a mask of the tokenizer": ("special_tokens_mask", torch.ones(2, 3)),
    "labels of another head": ("entity_labels", torch.zeros(2, 3, dtype=torch.long)),
    "labels in a list": ("sentence_labels", [0, 1]),
    "the states of an encoder": ("encoder_hidden_states", torch.zeros(2, 3, 8)),
    "the mask of an encoder": ("encoder_attention_mask", torch.ones(2, 3)),
}


@pytest.mark.parametrize("name", class_names())
def test_unknown_data_is_refused(name: str) -> None:
    model = tiny_model(name)
    for keyword, value in CARRIED.values():
        with pytest.raises(ValueError, match=f"takes no {keyword}"):
            model(**inputs(name), **{keyword: value})
    model(**inputs(name), length=torch.tensor([3, 3]), idx=torch.tensor([0, 1]), weight=np.float32(1))
    flags = {"use_cache": False, "return_dict": True, "num_items_in_batch": torch.tensor(2)}
    model(**inputs(name), **flags, encoder_hidden_states=None)


@pytest.mark.parametrize("keyword", ["cache", "past_key_values"])
@pytest.mark.parametrize(
    "name",
    [name for name in class_names() if "CausalLM" not in name and not name.startswith(("WoBert", "XiangqiGpt"))],
)
def test_encoders_take_no_cache_under_either_name(name: str, keyword: str) -> None:
    with pytest.raises(ValueError, match=f"takes no {keyword}: it is an encoder"):
        tiny_model(name)(**inputs(name), **{keyword: DynamicCache()})


@pytest.mark.parametrize("keyword", ["cache", "past_key_values"])
@pytest.mark.parametrize("is_decoder", [False, True])
def test_a_wobert_takes_a_cache_under_both_names(keyword: str, is_decoder: bool) -> None:
    model = tiny_model("WoBertModel", is_decoder=is_decoder)
    ids = torch.arange(5, 13)[None]
    caches = [DynamicCache(config=model.config) for _ in range(2)]
    expected = model(ids, **{CACHE: caches[0]}).last_hidden_state
    torch.testing.assert_close(model(ids, **{keyword: caches[1]}).last_hidden_state, expected)
    assert caches[1].get_seq_length() == caches[0].get_seq_length() == 8


@pytest.mark.parametrize("name", [name for name in class_names() if "CausalLM" in name])
class TestCacheNames:
    """transformers 5.24 renamed `past_key_values` to `cache`; a model outside it meets both."""

    def test_both_names_continue_alike(self, name: str) -> None:
        model = tiny_model(name)
        ids = torch.arange(5, 13)[None]
        whole = model(ids, token_type_ids=torch.ones_like(ids)).logits[:, -3:]
        for keyword in ("cache", "past_key_values"):
            first = model(ids[:, :5], token_type_ids=torch.ones_like(ids[:, :5]), use_cache=True)
            rest = model(ids[:, 5:], token_type_ids=torch.ones(1, 3).long(), **{keyword: first.past_key_values})
            torch.testing.assert_close(rest.logits, whole)

    def test_only_one_is_given(self, name: str) -> None:
        model = tiny_model(name)
        state = model(torch.tensor([[5, 6]]), use_cache=True).past_key_values
        with pytest.raises(ValueError, match="two names of one argument"):
            model(torch.tensor([[7]]), cache=state, past_key_values=state)

    def test_generate_continues_a_cache_under_both_names(self, name: str) -> None:
        model = tiny_model(name)
        ids, options = torch.tensor([[5, 6, 7]]), {"max_new_tokens": 4, "do_sample": False, "eos_token_id": 29}
        expected = model.generate(torch.cat([ids, ids], 1), token_type_ids=torch.ones(1, 6).long(), **options)
        for keyword in ("cache", "past_key_values"):
            state = model(ids, token_type_ids=torch.ones_like(ids), use_cache=True).past_key_values
            found = model.generate(
                torch.cat([ids, ids], 1), token_type_ids=torch.ones(1, 6).long(), **{keyword: state}, **options
            )
            assert found.tolist() == expected.tolist()
