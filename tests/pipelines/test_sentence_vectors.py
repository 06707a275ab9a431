"""Sentence vectors compared with the original's, and for long, empty and special texts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from kexue_hf import NezhaConfig, NezhaModel, TtaConfig, TtaForMaskedLM, TtaModel, WoBertConfig, WoBertModel, convert
from kexue_hf.pipelines.sentence_vectors import excluded_ids, sentence_vectors

GOLDEN = Path(__file__).parents[1] / "golden" / "tta_tf_ckpt"
TOLERANCE = 5e-5


class Ids:
    """A tokenizer of numbers such as "7 8 9", with special tokens before and after."""

    model_max_length = int(1e30)
    pad_token_id = 0
    all_special_ids = (0, 1, 2, 3)

    def __len__(self) -> int:
        return 60

    def __init__(self, before: tuple[int, ...] = (3,), after: tuple[int, ...] = (1,)) -> None:
        self.before, self.after = list(before), list(after)

    def __call__(self, texts, add_special_tokens: bool = True, **options) -> dict[str, list]:
        if isinstance(texts, str):
            return {"input_ids": self([texts], add_special_tokens)["input_ids"][0]}
        rows = [[int(word) if word.isdecimal() else 2 for word in text.split()] for text in texts]
        if add_special_tokens:
            rows = [self.before + row + self.after for row in rows]
        return {"input_ids": rows}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [str(number) for number in ids]


def tiny(kind: str = "tta", positions: int = 16):
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    sizes |= {"num_hidden_layers": 2, "max_position_embeddings": positions}
    torch.manual_seed(0)
    config, model = {
        "tta": (TtaConfig, TtaModel),
        "wobert": (WoBertConfig, WoBertModel),
        "nezha": (NezhaConfig, NezhaModel),
    }[kind]
    return model(config(**sizes)).eval()


def numbers(*values: int) -> str:
    return " ".join(map(str, values))


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory):
    folder = convert(GOLDEN, tmp_path_factory.mktemp("vectors") / "tta").output
    return AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_texts_have_the_originals_vectors(golden) -> None:
    texts = json.loads((GOLDEN / "case.json").read_text("utf-8"))["texts_of_b0"]
    expected = np.load(GOLDEN / "outputs.npz")["b0_sentence_mean"]
    assert np.abs(sentence_vectors(*golden, texts) - expected).max() < TOLERANCE


@pytest.mark.parametrize("batch", ["b0", "b1", "b2", "b3"])
def test_ids_have_the_originals_vectors(golden, batch: str) -> None:
    inputs, outputs = np.load(GOLDEN / "inputs.npz"), np.load(GOLDEN / "outputs.npz")
    ids, masks = inputs[f"{batch}_input_ids"], inputs[f"{batch}_input_mask"]
    rows = [row[mask == 1] for row, mask in zip(ids, masks, strict=True)]
    texts = [numbers(*row[1:-1]) for row in rows]
    assert all(row[0] == 3 and row[-1] == 1 for row in rows)
    assert np.abs(sentence_vectors(golden[0], Ids(), texts) - outputs[f"{batch}_sentence_mean"]).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["tta", "wobert", "nezha"])
def test_the_vector_is_the_mean_of_the_texts_own_tokens(kind: str) -> None:
    model = tiny(kind)
    with torch.no_grad():
        states = model(torch.tensor([[3, 7, 8, 9, 1]])).last_hidden_state[0]
    found = sentence_vectors(model, Ids(), [numbers(7, 8, 9)])
    assert found.shape == (1, 16) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], states[1:-1].mean(0).numpy(), atol=1e-6)


def test_batch_sizes_do_not_change_vectors() -> None:
    generator = np.random.default_rng(0)
    texts = [numbers(*generator.integers(5, 60, size)) for size in generator.integers(0, 60, 40)]
    model = tiny()
    together = sentence_vectors(model, Ids(), texts, batch_tokens=70)
    alone = np.concatenate([sentence_vectors(model, Ids(), [text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("length", [13, 14, 15, 27, 40])
def test_every_token_of_a_long_text_counts_once(length: int) -> None:
    """If each state depends only on its token, the mean does not depend on the windows."""
    model = tiny("wobert", positions=64)
    with torch.no_grad():
        model.embeddings.position_embeddings.weight.zero_()
    text = numbers(*range(5, 5 + length))
    whole = sentence_vectors(model, Ids(), [text], layer=0)
    cut = sentence_vectors(model, Ids(), [text], layer=0, max_length=16)
    np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_a_long_text_is_read_in_windows_with_context_on_both_sides() -> None:
    model = tiny(positions=14)
    ids = torch.arange(5, 35)
    # 12 tokens fit: 0 to 12, 6 to 18, 12 to 24, 18 to 30.
    parts = []
    for start, first, last in [(0, 0, 9), (6, 9, 15), (12, 15, 21), (18, 21, 30)]:
        window = torch.cat([torch.tensor([3]), ids[start : start + 12], torch.tensor([1])])
        with torch.no_grad():
            parts.append(model(window[None]).last_hidden_state[0, 1 + first - start : 1 + last - start])
    found = sentence_vectors(model, Ids(), [numbers(*ids.tolist())])
    np.testing.assert_allclose(found[0], torch.cat(parts).mean(0).numpy(), atol=1e-6)


def test_texts_without_tokens_are_zeros() -> None:
    found = sentence_vectors(tiny(), Ids(), ["", numbers(1), numbers(9), "  "], normalize=True)
    assert not found[[0, 1, 3]].any()
    assert np.linalg.norm(found[2]) == pytest.approx(1)


def test_no_texts_give_no_rows() -> None:
    assert sentence_vectors(tiny(), Ids(), []).shape == (0, 16)


def test_tokenizers_without_and_with_several_special_tokens() -> None:
    model = tiny()
    assert excluded_ids(Ids((), ())) == {0}
    assert excluded_ids(Ids((5, 3), (1, 6))) == {0, 1, 3, 5, 6}
    with torch.no_grad():
        states = model(torch.tensor([[7, 8]])).last_hidden_state[0]
    np.testing.assert_allclose(
        sentence_vectors(model, Ids((), ()), [numbers(7, 8)])[0], states.mean(0).numpy(), atol=1e-6
    )


def test_the_mode_and_the_head_do_not_matter() -> None:
    torch.manual_seed(0)
    model = TtaForMaskedLM(tiny().config).train()
    found = sentence_vectors(model, Ids(), [numbers(7, 8, 9)])
    assert model.training
    np.testing.assert_array_equal(found, sentence_vectors(model.bert, Ids(), [numbers(7, 8, 9)]))


def test_layers_index_the_hidden_states() -> None:
    model = tiny()
    with torch.no_grad():
        states = model(torch.tensor([[3, 7, 8, 1]]), output_hidden_states=True).hidden_states
    for layer in (-3, -1, 0, 1, 2):
        found = sentence_vectors(model, Ids(), [numbers(7, 8)], layer=layer)
        np.testing.assert_allclose(found[0], states[layer][0, 1:-1].mean(0).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": ["7", None]}, "text 1 must be a string, got NoneType"),
        ({"texts": ["\ud800"]}, "contains an unpaired surrogate"),
        ({"batch_tokens": 0}, "at least 1"),
        ({"max_length": 17}, "from 3 to 16"),
        ({"max_length": 2}, "from 3 to 16"),
        ({"layer": 3}, "from -3 to 2"),
    ],
    ids=["not-a-string", "half-a-pair", "no-batch", "beyond-the-positions", "no-room", "no-such-layer"],
)
def test_invalid_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sentence_vectors(tiny(), Ids(), **({"texts": ["7"]} | arguments))


def test_a_frozen_part_stays_frozen() -> None:
    model = tiny().train()
    model.encoder.eval()
    sentence_vectors(model, Ids(), [numbers(7)])
    assert model.training and not any(module.training for module in model.encoder.modules())


def test_a_model_that_sees_padding_never_gets_any() -> None:
    from transformers import FNetConfig, FNetModel

    torch.manual_seed(0)
    config = FNetConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, intermediate_size=24, initializer_range=0.4
    )
    model = FNetModel(config).eval()
    texts = [numbers(*range(5, 5 + length)) for length in (3, 7, 3, 1, 7)]
    alone = np.concatenate([sentence_vectors(model, Ids(), [text]) for text in texts])
    np.testing.assert_allclose(sentence_vectors(model, Ids(), texts), alone, atol=1e-6)


def test_long_texts_in_a_model_with_offset_positions() -> None:
    from transformers import RobertaConfig, RobertaModel

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 1}
    model = RobertaModel(RobertaConfig(vocab_size=60, max_position_embeddings=18, pad_token_id=1, **sizes)).eval()
    assert sentence_vectors(model, Ids((3,), (2,)), [numbers(*range(5, 45))]).any()
    with pytest.raises(ValueError, match="max_length must be from 3 to 16"):
        sentence_vectors(model, Ids((3,), (2,)), ["7"], max_length=17)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_nonfinite_vectors_are_refused(dtype: torch.dtype) -> None:
    model = tiny().to(dtype)
    with torch.no_grad():
        model.embeddings.LayerNorm.weight.fill_(torch.finfo(dtype).max)
    with pytest.raises(ValueError, match=f"vectors are not finite in {str(dtype)[6:]}: "):
        sentence_vectors(model, Ids(), [numbers(7, 8), numbers(9)], layer=0)
