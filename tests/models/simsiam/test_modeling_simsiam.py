"""SimSiam: the losses against their formulas, the targets, the moving average, and what it refuses."""

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import BertConfig, BertModel, GPT2Config, PreTrainedConfig, T5Config

from kexue_hf import SimSiamConfig, SimSiamModel
from kexue_hf.models.simsiam.heads_simsiam import spread
from tests.hub.hub_types import word_tokenizer
from tests.models.tiny_models import SIZES

SMALL = {"projector_hidden_size": 12, "projection_size": 6, "predictor_hidden_size": 4}


class SimpleConfig(PreTrainedConfig):
    model_type = "simple"


def model_of(dropout: float = 0.0, **changes: Any) -> SimSiamModel:
    torch.manual_seed(0)
    encoder = BertConfig(**SIZES, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return SimSiamModel(SimSiamConfig(encoder_config=encoder, **{**SMALL, **changes})).train()


def views(rows: int = 5, count: int = 2, length: int = 7) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 30, (rows, count, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def sentence_vectors(model: Any, batch: dict[str, torch.Tensor], view: int, encoder: Any = None) -> torch.Tensor:
    """The mean of the encoder's states without padding, computed in the plainest way."""
    rows = []
    for ids, mask in zip(batch["input_ids"][:, view], batch["attention_mask"][:, view], strict=True):
        length = int(mask.sum())
        rows.append((encoder or model.encoder)(ids[None, :length]).last_hidden_state.mean(1))
    return torch.cat(rows)


def cosine(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return functional.cosine_similarity(left, right, dim=-1).mean()


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_the_loss_is_the_papers(norm: str) -> None:
    model, batch = model_of(norm=norm), views()
    found = model(**batch)
    projections = [model.projector(sentence_vectors(model, batch, view)) for view in (0, 1)]
    predictions = [model.predictor(one) for one in projections]
    wanted = -(cosine(predictions[0], projections[1]) + cosine(predictions[1], projections[0])) / 2
    torch.testing.assert_close(found.loss, wanted, rtol=0, atol=1e-5)
    wanted_spread = torch.stack([functional.normalize(one, dim=-1).std(0, correction=0).mean() for one in projections])
    torch.testing.assert_close(found.spread, wanted_spread.mean().detach() * 6**0.5, rtol=0, atol=1e-5)
    assert found.sentence_vectors.shape == (5, 2, 8) and found.projections.shape == (5, 2, 6)


def test_in_batch_negatives_are_simcses() -> None:
    model = model_of(
        negatives="in_batch",
        predictor=False,
        stop_gradient=False,
        projector_layers=0,
        projection_size=None,
        temperature=0.1,
    )
    batch = views()
    left, right = (functional.normalize(sentence_vectors(model, batch, view), dim=-1) for view in (0, 1))
    logits = left @ right.T / 0.1
    wanted = (
        functional.cross_entropy(logits, torch.arange(5)) + functional.cross_entropy(logits.T, torch.arange(5))
    ) / 2
    torch.testing.assert_close(model(**batch).loss, wanted, rtol=0, atol=1e-5)


def test_three_views_are_compared_in_all_pairs() -> None:
    model, batch = model_of(norm="none"), views(count=3)
    projections = [model.projector(sentence_vectors(model, batch, view)) for view in range(3)]
    terms = [cosine(model.predictor(projections[i]), projections[j]) for i in range(3) for j in range(3) if i != j]
    torch.testing.assert_close(model(**batch).loss, -torch.stack(terms).mean(), rtol=0, atol=1e-5)


def test_equal_views_without_dropout_have_themselves_as_their_mean() -> None:
    model, batch = model_of(target="view_mean"), views()
    batch = {name: value[:, :1].expand(-1, 2, -1) for name, value in batch.items()}
    projection = model.projector(sentence_vectors(model, batch, 0))
    torch.testing.assert_close(
        model(**batch).loss, -cosine(model.predictor(projection), projection), rtol=0, atol=1e-5
    )


def test_the_mean_of_different_views_is_that_of_their_embeddings() -> None:
    model, batch = model_of(target="view_mean", norm="none"), views()
    table = model.get_input_embeddings().weight
    ids, mask = batch["input_ids"], batch["attention_mask"]
    rows = []
    for first, second, seen in zip(ids[:, 0], ids[:, 1], mask[:, 0], strict=True):
        embeddings = torch.stack(
            [(table[a] + table[b]) / 2 if both else table[b] for a, b, both in zip(first, second, seen, strict=True)]
        )
        rows.append(model.encoder(inputs_embeds=embeddings[None]).last_hidden_state.mean(1))
    target = model.projector(torch.cat(rows)).detach()
    predictions = [model.predictor(model.projector(sentence_vectors(model, batch, view))) for view in (0, 1)]
    wanted = -(cosine(predictions[0], target) + cosine(predictions[1], target)) / 2
    torch.testing.assert_close(model(**batch).loss, wanted, rtol=0, atol=1e-5)


def test_the_mean_view_is_seen_without_dropout_and_the_modes_return() -> None:
    model, batch = model_of(dropout=0.5, target="view_mean"), views()
    model.encoder.encoder.layer[0].eval()
    modes = [module.training for module in model.modules()]
    means = []
    kept = model._mean_view
    model._mean_view = lambda *arguments: means.append(kept(*arguments)) or means[-1]  # type: ignore[method-assign]
    model(**batch), model(**batch)
    assert torch.equal(means[0], means[1])
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("changes", [{}, {"target": "ema"}, {"target": "view_mean"}, {"negatives": "in_batch"}])
def test_no_gradient_reaches_the_target_branch(changes: dict[str, Any]) -> None:
    """The gradient is that of a loss whose targets are given numbers; a target with a gradient gives another one."""
    model, batch = model_of(**changes), views()
    targets: list[Any] = []
    kept = model._targets
    model._targets = lambda *arguments: targets.append(kept(*arguments)) or targets[-1]  # type: ignore[method-assign]
    model(**batch).loss.backward()
    assert not any(one.requires_grad for one in targets[0])
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    assert not any(name.startswith("target_") for name in found)
    constants = [one.detach().clone() for one in targets[0]]
    model._targets = lambda *arguments: constants  # type: ignore[method-assign]
    model.zero_grad()
    model(**batch).loss.backward()
    for name, weight in model.named_parameters():
        if name in found:
            torch.testing.assert_close(weight.grad, found[name])


def test_a_target_with_a_gradient_gives_another_gradient() -> None:
    batch, gradients = views(), []
    for stopped in (True, False):
        model = model_of(stop_gradient=stopped)
        model(**batch).loss.backward()
        gradients.append(model.encoder.embeddings.word_embeddings.weight.grad)
    assert not torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_the_moving_average_has_its_closed_form() -> None:
    model = model_of(target="ema")
    first = copy.deepcopy(dict(model.named_parameters()))
    average = {name: first[name].detach().clone() for name in first if not name.startswith("target_")}
    for step in range(4):
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if not name.startswith("target_"):
                    weight += torch.randn(weight.shape, generator=torch.Generator().manual_seed(step))
                    average[name] = 0.9 * average[name] + 0.1 * weight
        model.update_target(0.9)
    state = dict(model.named_parameters())
    for name in average:
        if name.startswith(("encoder.", "projector.")):
            torch.testing.assert_close(state[f"target_{name}"], average[name], rtol=1e-5, atol=1e-6)
            assert not state[f"target_{name}"].requires_grad


def test_byols_target_is_the_average() -> None:
    model, batch = model_of(target="ema", norm="none"), views()
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight += 0.1 * torch.randn(weight.shape)
    predictions = [model.predictor(model.projector(sentence_vectors(model, batch, view))) for view in (0, 1)]
    targets = [model.target_projector(sentence_vectors(model, batch, view, model.target_encoder)) for view in (0, 1)]
    wanted = -(cosine(predictions[0], targets[1]) + cosine(predictions[1], targets[0])) / 2
    torch.testing.assert_close(model(**batch).loss, wanted, rtol=0, atol=1e-5)


def test_a_new_model_starts_its_average_from_its_own_weights() -> None:
    model = model_of(target="ema")
    state = model.state_dict()
    for name in state:
        if name.startswith("target_") and "running" not in name:
            assert torch.equal(state[name], state[name.removeprefix("target_")]), name


def test_a_folder_without_average_starts_one(tmp_path: Any) -> None:
    model_of().save_pretrained(tmp_path)
    model = SimSiamModel.from_pretrained(tmp_path, target="ema")
    state = model.state_dict()
    assert all(
        torch.equal(value, state[f"target_{name}"]) for name, value in state.items() if name.startswith("encoder.")
    )
    assert not any(weight.requires_grad for weight in model.target_encoder.parameters())


def test_a_saved_average_is_loaded_and_stays_frozen(tmp_path: Any) -> None:
    model = model_of(target="ema")
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight += 1
    model.save_pretrained(tmp_path)
    loaded = SimSiamModel.from_pretrained(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert not any(weight.requires_grad for weight in loaded.target_encoder.parameters())
    names = [name for name, weight in loaded.named_parameters() if not weight.requires_grad]
    assert all(name.startswith(("target_", "encoder.pooler.")) for name in names)


def test_a_single_view_gives_the_vectors_of_the_same_view_among_several() -> None:
    model, batch = model_of().eval(), views()
    both = model(**batch)
    one = model(**{name: value[:, 1] for name, value in batch.items()})
    torch.testing.assert_close(one.sentence_vectors, both.sentence_vectors[:, 1])
    assert one.loss is None and one.spread is None and one.last_hidden_state.shape == (5, 7, 8)
    assert model(**batch, return_loss=False).loss is None


def test_excluded_tokens_and_padding_do_not_count() -> None:
    model = model_of(excluded_token_ids=[2, 3]).eval()
    ids = torch.tensor([[2, 9, 8, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0]])
    states = model.encoder(ids, attention_mask=mask).last_hidden_state
    found = model(input_ids=ids, attention_mask=mask).sentence_vectors
    torch.testing.assert_close(found, states[:, 1:3].mean(1))


def test_an_empty_text_has_a_vector_of_zeros_and_a_finite_gradient() -> None:
    model = model_of(excluded_token_ids=[2, 3])
    batch = {"input_ids": torch.tensor([[[2, 3, 0]] * 2, [[2, 7, 3]] * 2, [[2, 9, 3]] * 2])}
    batch["attention_mask"] = (batch["input_ids"] != 0).long()
    found = model(**batch)
    found.loss.backward()
    assert not found.sentence_vectors[0].any() and torch.isfinite(found.loss)
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)


@pytest.mark.parametrize("changes", [{}, {"negatives": "in_batch"}, {"norm": "layer"}, {"target": "ema"}])
def test_identical_sentences_have_a_finite_loss(changes: dict[str, Any]) -> None:
    model = model_of(**changes)
    found = model(input_ids=torch.full((3, 2, 5), 7))
    found.loss.backward()
    assert torch.isfinite(found.loss) and float(found.spread) < 1e-3
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)


def test_the_spread_is_one_for_random_directions_and_zero_for_one() -> None:
    vectors = torch.randn(4000, 50, generator=torch.Generator().manual_seed(0))
    assert abs(float(spread(vectors)) - 1) < 0.01
    assert float(spread(vectors[:1].expand(5, -1))) < 1e-6 and float(spread(vectors[:1])) == 0


def test_an_encoder_is_taken_over_with_its_weights_and_a_frozen_pooler(tmp_path: Any) -> None:
    torch.manual_seed(0)
    encoder = BertModel(BertConfig(**SIZES))
    encoder.save_pretrained(tmp_path / "bert")
    model = SimSiamModel.from_encoder(tmp_path / "bert", **SMALL, target="ema")
    for name, value in encoder.state_dict().items():
        assert torch.equal(model.state_dict()[f"encoder.{name}"], value)
        assert torch.equal(model.state_dict()[f"target_encoder.{name}"], value)
    model.save_pretrained(tmp_path / "simsiam")
    for one in (model, SimSiamModel.from_pretrained(tmp_path / "simsiam")):
        frozen = {name for name, weight in one.named_parameters() if not weight.requires_grad}
        assert frozen == {name for name in frozen if name.startswith(("encoder.pooler.", "target_"))}
        assert {"encoder.pooler.dense.weight", "target_projector.0.weight"} <= frozen
    model.encoder.save_pretrained(tmp_path / "out")
    again, found = BertModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    ids = torch.arange(5, 12)[None]
    torch.testing.assert_close(again.eval()(ids).pooler_output, encoder.eval()(ids).pooler_output)


def test_an_encoders_folder_keeps_type_attention_and_mode(tmp_path: Any) -> None:
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    options: dict[str, Any] = {"dtype": torch.bfloat16, "attn_implementation": "eager"}
    model, info = SimSiamModel.from_pretrained(
        tmp_path, target="ema", predictor_hidden_size=3, **options, output_loading_info=True
    )
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.config._attn_implementation == model.encoder.config._attn_implementation == "eager"
    assert not any(module.training for module in model.modules())
    assert model.config.predictor_hidden_size == 3
    assert {name.split(".")[0] for name in info["missing_keys"]} == {
        "projector", "predictor", "target_encoder", "target_projector",
    }  # fmt: skip
    assert torch.isfinite(model.train()(**views()).loss)


def test_a_tokenizer_says_which_tokens_the_mean_leaves_out(tmp_path: Any, caplog: Any) -> None:
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    assert SimSiamModel.from_encoder(tmp_path).config.excluded_token_ids is None
    assert "no tokenizer could be loaded" in caplog.text and "the mean will include [CLS] and [SEP]" in caplog.text
    tokenizer = word_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    expected = sorted([tokenizer.cls_token_id, tokenizer.sep_token_id])
    assert SimSiamModel.from_encoder(tmp_path).config.excluded_token_ids == expected


def test_the_average_has_the_encoders_own_class() -> None:
    class Doubled(BertModel):
        def forward(self, *arguments: Any, **options: Any) -> Any:
            found = super().forward(*arguments, **options)
            found["last_hidden_state"] = 2 * found.last_hidden_state
            return found

    model = SimSiamModel.from_encoder(Doubled(BertConfig(**SIZES)), target="ema")
    assert type(model.target_encoder) is Doubled


def test_resized_embeddings_are_resized_in_the_average_too() -> None:
    model = model_of(target="ema")
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight += 1
    old = model.target_encoder.get_input_embeddings().weight.clone()
    model.resize_token_embeddings(40)
    new = model.target_encoder.get_input_embeddings().weight
    assert torch.equal(new[:30], old) and torch.equal(new[30:], model.get_input_embeddings().weight[30:])
    assert not new.requires_grad
    model(input_ids=torch.full((2, 2, 4), 39))
    model.update_target(0.9)


def test_a_forgotten_average_is_reported_once(caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kexue_hf.models.simsiam.modeling_simsiam._FORGOTTEN", 3)
    model, batch = model_of(target="ema"), views()
    for _ in range(2):
        model(**batch)
    model.update_target(0.9)
    for _ in range(2):
        model(**batch)
    assert not caplog.text
    for _ in range(5):
        model(**batch)
    assert caplog.text.count("add TargetAverageCallback()") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.5}, "momentum must be from 0 to 1, got 1.5"),
        ({"momentum": -0.1}, "momentum must be from 0 to 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"target": "mean"}, "target must be one of stop_gradient, ema, view_mean, got 'mean'"),
        ({"norm": "group"}, "norm must be one of"),
        ({"pooling": "max"}, "pooling must be one of"),
        ({"negatives": "all"}, "negatives must be one of"),
        ({"projector_layers": -1}, "projector_layers must be 0 or more"),
        ({"projector_layers": 0, "projection_size": 16}, "without a projector, projection_size is the encoder's"),
        ({"projection_size": 0}, "projection_size must be at least 1"),
        ({"target": "ema", "stop_gradient": False}, "has no gradient"),
        ({"hidden_size": 16}, "hidden_size is the encoder's, 8; got 16"),
        ({"encoder_config": BertConfig(is_decoder=True)}, "expected an encoder, got a decoder of type 'bert'"),
        ({"encoder_config": T5Config()}, "expected an encoder"),
        ({"encoder_config": GPT2Config()}, "expected an encoder, got a decoder of type 'gpt2'"),
        (
            {"encoder_config": BertConfig(**SIZES), "num_hidden_layers": 3},
            "expected num_hidden_layers in encoder_config",
        ),
        ({"encoder_config": {"vocab_size": 9}, "vocab_size": 8}, "vocab_size is 9 in encoder_config and 8 next to it"),
        ({"encoder_config": SimpleConfig()}, "expected an encoder whose configuration has hidden_size"),
        ({"encoder_config": {"model_type": "unheard-of"}}, "import the package that defines it"),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimSiamConfig(**{"encoder_config": BertConfig(**SIZES), **changes})


def test_what_a_batch_lacks_is_said() -> None:
    model = model_of()
    with pytest.raises(ValueError, match="at least 2 texts in a batch, got 1"):
        model(input_ids=torch.full((1, 2, 4), 7))
    with pytest.raises(ValueError, match="at least 2 views of each text, got 1"):
        model(input_ids=torch.full((3, 1, 4), 7))
    with pytest.raises(ValueError, match="at least 2 texts in a batch, got 1, which has no negatives"):
        model_of(negatives="in_batch", norm="layer")(input_ids=torch.full((1, 2, 4), 7))
    with pytest.raises(ValueError, match="expected either input_ids or inputs_embeds, got neither"):
        model()
    with pytest.raises(ValueError, match="expected an attention mask of shape"):
        model(input_ids=torch.full((2, 4), 7), attention_mask=torch.ones(2, 1, 4, 4))
    with pytest.raises(ValueError, match="SimSiamConfig has no field 'stop_grad'"):
        SimSiamModel.from_encoder(model.encoder, stop_grad=False)
    with pytest.raises(ValueError, match="expected an encoder of transformers or its folder, got Linear"):
        SimSiamModel.from_encoder(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="SimSiam takes no labels"):
        model(input_ids=torch.full((2, 4), 7), labels=torch.zeros(2))
    model.encoder.forward = lambda **inputs: {"logits": torch.zeros(1)}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="expected an encoder that returns last_hidden_state, got BertModel"):
        model(input_ids=torch.full((2, 4), 7))


def test_the_average_refuses_wrong_updates() -> None:
    with pytest.raises(ValueError, match="momentum must be from 0 to 1, got 2"):
        model_of(target="ema").update_target(2)
    with pytest.raises(ValueError, match="has no moving average"):
        model_of().update_target(0.9)
