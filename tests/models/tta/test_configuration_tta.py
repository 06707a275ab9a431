"""Which other models' configurations become a T-TA's; what the fields do is tested with the models."""

import pytest

from kexue_hf import TtaConfig


@pytest.mark.parametrize("kind", ["bert", "wobert"])
def test_starts_from_models_whose_weights_have_its_names(kind):
    config = TtaConfig.from_dict({"model_type": kind, "mask_token_id": 5, "hidden_size": 16, "num_attention_heads": 2})
    assert (config.model_type, config.mask_token_id, config.hidden_size) == ("tta", 5, 16)


@pytest.mark.parametrize("kind", ["roberta", "gpt2", "nezha"])
def test_starts_from_no_others(kind):
    with pytest.raises(ValueError, match=f"can start from bert, wobert, tta, .* not from '{kind}'"):
        TtaConfig.from_dict({"model_type": kind, "mask_token_id": 4})


def test_a_file_that_names_no_model_is_read():
    assert TtaConfig.from_dict({"mask_token_id": 5}).mask_token_id == 5
