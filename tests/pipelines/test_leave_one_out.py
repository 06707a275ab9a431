"""log p(token | all others), compared with the definition: mask one token, read its scores."""

import pytest
import torch
import transformers
from torch import nn

import kexue_hf
from kexue_hf.pipelines.leave_one_out import chosen_method, leave_one_out
from kexue_hf.pipelines.masked_lm_parts import trunk_and_head

VOCABULARY, MASK, PAD = 30, 4, 0
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "pad_token_id": PAD,
    "initializer_range": 0.4,
}
DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "sinusoidal_pos_embds": False}
MODELS = {
    "BertForMaskedLM": {},
    "WoBertForMaskedLM": {},
    "NezhaForMaskedLM": {},
    "RoFormerForMaskedLM": {"embedding_size": 16},
    "RobertaForMaskedLM": {},
    "AlbertForMaskedLM": {"embedding_size": 8},
    "ElectraForMaskedLM": {"embedding_size": 8},
    "DistilBertForMaskedLM": {**DISTIL, "vocab_size": VOCABULARY, "max_position_embeddings": 32, "pad_token_id": PAD},
    "ModernBertForMaskedLM": {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
    "DebertaV2ForMaskedLM": {"legacy": False, "relative_attention": False, "pos_att_type": []},
}
# Their head also needs the embeddings, so they are used as a whole.
NOT_SPLIT = {"DebertaV2ForMaskedLM"}
# They mix tokens without attention, so no mask excludes the padding.
LEAKING = {
    "ConvBertForMaskedLM": {**SIZES, "embedding_size": 16, "conv_kernel_size": 3},
    "MobileBertForMaskedLM": {**SIZES, "embedding_size": 8, "true_hidden_size": 16, "intra_bottleneck_size": 16},
    "FNetForMaskedLM": {name: size for name, size in SIZES.items() if "attention" not in name},
}
IDS = torch.tensor([[1, 7, 9, 12, 2, PAD, PAD], [1, 20, 21, 22, 23, 24, 2], [1, 5, 2, PAD, PAD, PAD, PAD]])
REAL = IDS.ne(PAD)
WANTED = REAL & IDS.ne(1) & IDS.ne(2)


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    cls = getattr(kexue_hf, name, None) or getattr(transformers, name)
    options = LEAKING.get(name) or (MODELS[name] if name.startswith("Distil") else {**SIZES, **MODELS[name]})
    model = cls(cls.config_class(**options)).eval()
    for parameter in model.parameters():
        # Biases too, to detect a head that is skipped or applied twice.
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def collect(model: nn.Module, **options) -> tuple[torch.Tensor, list[int]]:
    """Return log-probabilities [batch, length, vocabulary], NaN where there are none, and the number per call."""
    found = torch.full((*IDS.shape, VOCABULARY), torch.nan)

    def reduce(scores: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> int:
        assert found[rows, columns].isnan().all(), "a position came twice"
        found[rows, columns] = scores.cpu()
        return len(scores)

    arguments = {"attention_mask": REAL.long(), "positions": WANTED, "mask_token_id": MASK, **options}
    return found, leave_one_out(model, IDS, reduce=reduce, **arguments)


@torch.no_grad()
def by_definition(model: nn.Module) -> torch.Tensor:
    expected = torch.full((*IDS.shape, VOCABULARY), torch.nan)
    for row, column in WANTED.nonzero().tolist():
        ids = IDS[row : row + 1].clone()
        ids[0, column] = MASK
        logits = model(input_ids=ids, attention_mask=REAL[row : row + 1].long()).logits
        expected[row, column] = logits[0, column].log_softmax(-1)
    return expected


@pytest.mark.parametrize("name", MODELS)
def test_masking_equals_the_definition(name: str) -> None:
    model = make(name)
    expected = by_definition(model)
    assert expected[WANTED].std() > 0.1
    found, _ = collect(model)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0, equal_nan=True)
    assert (trunk_and_head(model, IDS[:1]) is None) == (name in NOT_SPLIT)


class Tempered(transformers.BertForMaskedLM):
    """Changes the scores after its head."""

    def forward(self, *arguments, **options):
        output = super().forward(*arguments, **options)
        output.logits = output.logits * 0.5
        return output


def test_an_incomplete_head_is_not_used() -> None:
    torch.manual_seed(0)
    model = Tempered(transformers.BertConfig(**SIZES)).eval()
    found, _ = collect(model)
    torch.testing.assert_close(found, by_definition(model), atol=2e-5, rtol=0, equal_nan=True)
    assert trunk_and_head(model, IDS[:1]) is None


@pytest.mark.parametrize(
    ("options", "calls"),
    [({"batch_tokens": 1}, 9), ({"batch_tokens": 14}, 5), ({"scores_at_once": 1}, 9), ({"scores_at_once": 60}, 5)],
    ids=str,
)
def test_chunk_sizes_do_not_change_results(options: dict[str, int], calls: int) -> None:
    model = make("BertForMaskedLM")
    found, sizes = collect(model, **options)
    torch.testing.assert_close(found, by_definition(model), atol=2e-5, rtol=0, equal_nan=True)
    assert len(sizes) == calls and sum(sizes) == WANTED.sum()


def test_only_wanted_states_reach_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("WoBertForMaskedLM")
    collect(model)  # compares the parts with the whole model once
    seen: list[int] = []
    model.cls.register_forward_hook(lambda module, arguments, output: seen.append(output[..., 0].numel()))
    collect(model)
    assert sum(seen) == WANTED.sum()


class AtOnce(transformers.BertForMaskedLM):
    """Claims to predict all tokens at once (it does not, but this shows which method is used)."""

    predicts_all_tokens_at_once = True


@pytest.mark.parametrize("batch_tokens", [1, 14, 8192])
def test_one_pass_returns_the_scores_of_each_position(batch_tokens: int) -> None:
    torch.manual_seed(0)
    model = AtOnce(transformers.BertConfig(**SIZES)).eval()
    with torch.no_grad():
        logits = model(input_ids=IDS, attention_mask=REAL.long()).logits
    found, _ = collect(model, batch_tokens=batch_tokens, mask_token_id=None)
    torch.testing.assert_close(found[WANTED], logits.log_softmax(-1)[WANTED], atol=2e-5, rtol=0)
    assert found[~WANTED].isnan().all()


def test_training_mode_is_restored() -> None:
    model = make("BertForMaskedLM")
    expected = by_definition(model)
    model.train()
    model.bert.embeddings.eval()
    found, _ = collect(model)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0, equal_nan=True)
    assert model.training and model.bert.encoder.training and not model.bert.embeddings.training


def test_half_precision_gives_fp32_log_probabilities() -> None:
    model = make("BertForMaskedLM")
    expected = by_definition(model)
    found, _ = collect(model.to(torch.bfloat16))
    assert found[WANTED].exp().sum(-1).sub(1).abs().max() < 1e-5
    assert (found - expected)[WANTED].abs().mean() < 0.1


def test_token_types_are_used() -> None:
    model = make("BertForMaskedLM")
    plain, _ = collect(model, token_type_ids=torch.zeros_like(IDS))
    torch.testing.assert_close(plain, by_definition(model), atol=2e-5, rtol=0, equal_nan=True)
    other, _ = collect(model, token_type_ids=torch.ones_like(IDS))
    assert (other - plain)[WANTED].abs().max() > 0.1


def test_no_positions_need_no_forward_pass() -> None:
    model = make("BertForMaskedLM")
    assert leave_one_out(model, IDS, None, torch.zeros_like(WANTED), print, mask_token_id=MASK) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "one_pass"}, "one_pass needs a model that does not see the token"),
        ({"method": "twice"}, "method must be one of"),
        ({"mask_token_id": None}, "masking needs a tokenizer with a mask token"),
        ({"positions": WANTED[:1]}, r"positions must have the shape of input_ids \[3, 7\], got \[1, 7\]"),
        ({"positions": ~WANTED}, "got some where attention_mask is 0"),
    ],
    ids=["leak", "method", "mask", "shape", "padding"],
)
def test_invalid_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collect(make("BertForMaskedLM"), **options)


def test_the_method_depends_on_the_model() -> None:
    assert chosen_method(make("BertForMaskedLM")) == "masking"
    assert chosen_method(AtOnce(transformers.BertConfig(**SIZES))) == "one_pass"
    assert chosen_method(AtOnce(transformers.BertConfig(**SIZES)), "masking") == "masking"


@torch.no_grad()
def by_definition_unpadded(model: nn.Module) -> torch.Tensor:
    """`by_definition` for rows without padding."""
    expected = torch.full((*IDS.shape, VOCABULARY), torch.nan)
    for row, column in WANTED.nonzero().tolist():
        ids = IDS[row : row + 1, : REAL[row].sum()].clone()
        ids[0, column] = MASK
        expected[row, column] = model(input_ids=ids).logits[0, column].log_softmax(-1)
    return expected


@pytest.mark.parametrize("name", ["BertForMaskedLM", *LEAKING])
def test_other_rows_of_the_batch_do_not_matter(name: str) -> None:
    model = make(name)
    expected = by_definition_unpadded(model)
    assert ((by_definition(model) - expected)[WANTED].abs().max() > 1e-3) == (name in LEAKING)
    found, calls = collect(model)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0, equal_nan=True)
    assert len(calls) == (3 if name in LEAKING else 1)


class LeakingAtOnce(transformers.ConvBertForMaskedLM):
    predicts_all_tokens_at_once = True


def test_other_rows_do_not_matter_in_one_pass() -> None:
    torch.manual_seed(0)
    model = LeakingAtOnce(transformers.ConvBertConfig(**LEAKING["ConvBertForMaskedLM"])).eval()
    found, _ = collect(model, mask_token_id=None)
    for row, real in enumerate(REAL):
        with torch.no_grad():
            expected = model(input_ids=IDS[row : row + 1, : real.sum()]).logits[0].log_softmax(-1)
        torch.testing.assert_close(found[row][WANTED[row]], expected[WANTED[row, : real.sum()]], atol=2e-5, rtol=0)


def test_a_model_that_sees_padding_needs_it_on_the_right() -> None:
    left, ids = REAL.flip(1), IDS.flip(1)
    with pytest.raises(ValueError, match="pad its rows on the right only"):
        leave_one_out(make("FNetForMaskedLM"), ids, left.long(), left, lambda *_: None, mask_token_id=MASK)


def replace_trunk(model: nn.Module) -> None:
    model.distilbert = other(model).distilbert


def replace_head(model: nn.Module) -> None:
    model.set_output_embeddings(other(model).vocab_projector)


def remove_head_norm(model: nn.Module) -> None:
    model.vocab_layer_norm = nn.Identity()


def replace_layer(model: nn.Module) -> None:
    model.distilbert.transformer.layer[0] = other(model).distilbert.transformer.layer[0]


def other(model: nn.Module) -> nn.Module:
    torch.manual_seed(7)
    return type(model)(model.config).eval()


@pytest.mark.parametrize("change", [replace_trunk, replace_head, remove_head_norm, replace_layer])
def test_a_modified_model_gives_its_new_scores(change) -> None:
    model = make("DistilBertForMaskedLM")
    before, _ = collect(model)
    change(model)
    found, _ = collect(model)
    torch.testing.assert_close(found, by_definition(model), atol=2e-5, rtol=0, equal_nan=True)
    assert (found - before)[WANTED].abs().max() > 1e-2


def test_cached_facts_are_renewed_after_a_module_is_replaced() -> None:
    model = make("BertForMaskedLM")
    assert trunk_and_head(model, IDS[:1]) is not None
    model.cls = other(model).cls
    model.register_forward_hook(lambda module, arguments, output: setattr(output, "logits", 3 * output.logits))
    assert trunk_and_head(model, IDS[:1]) is None


@pytest.mark.parametrize("where", ["first", "later"])
def test_nonfinite_scores_are_refused(where: str) -> None:
    model = make("BertForMaskedLM")
    with torch.no_grad():
        # Either a token of the sample on which the parts are compared, or another one.
        model.bert.embeddings.word_embeddings.weight[IDS[0, 1] if where == "first" else IDS[1, 5]] = torch.nan
    with pytest.raises(ValueError, match=r"scores are not finite in float32: the model's weights are damaged"):
        collect(model)
    with pytest.raises(ValueError, match=r"not finite in float16: .* use dtype float32 or bfloat16"):
        collect(model.half())
