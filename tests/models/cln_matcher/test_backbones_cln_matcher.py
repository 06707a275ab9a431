"""A matcher starts from a folder of a RoFormer, a BERT or a WoBERT, and computes what that one does.

Oracle: transformers' own models, to the last bit in float64.
"""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoTokenizer, RoFormerConfig

import kexue_hf
from kexue_hf import ClnMatcherConfig, ClnMatcherForSequenceClassification, check_pairing
from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.formats.safetensors import SafetensorsFile
from tests.conversion.checkpoints import GOLDEN
from tests.models.cln_matcher.matchers import (
    CLASSIFIER,
    ENCODER,
    IDS,
    MASK,
    MIXED,
    NAMES,
    SEGMENTS,
    SIZES,
    aligned,
    randomize,
)

BACKBONES = {
    "RoFormerModel": ("eager",),
    "RoFormerForMaskedLM": ("eager",),
    "RoFormerForSequenceClassification": ("eager",),
    "BertModel": ("eager", "sdpa"),
    "BertForPreTraining": ("sdpa",),
    "WoBertModel": ("sdpa",),
    "WoBertForMaskedLM": ("eager",),
}
LEFT_BEHIND = {"RoFormerForSequenceClassification": {"classifier.dense", "classifier.out_proj"}}


def make(name: str, folder: Path, way: str, **options: Any) -> Any:
    """A backbone of the class, saved; its encoder."""
    module = kexue_hf if name.startswith("WoBert") else transformers
    kind = next(kind for kind in ("RoFormer", "WoBert", "Bert") if name.startswith(kind))
    torch.manual_seed(0)
    config = getattr(module, f"{kind}Config")(**SIZES, **options)
    model = randomize(getattr(module, name)._from_config(config, attn_implementation=way).double().eval())
    model.save_pretrained(folder)
    return model.base_model


@pytest.mark.parametrize("ours", [ENCODER, CLASSIFIER])
@pytest.mark.parametrize(("name", "way"), [(name, way) for name, ways in BACKBONES.items() for way in ways])
def test_a_fresh_matcher_equals_its_backbone_to_the_last_bit(name: str, way: str, ours: str, tmp_path: Path) -> None:
    theirs = make(name, tmp_path / "theirs", way)
    model, info = getattr(kexue_hf, ours).from_pretrained(
        tmp_path / "theirs",
        task_names=NAMES,
        task_embedding_size=10,
        dtype=torch.float64,
        attn_implementation=way,
        output_loading_info=True,
    )
    encoder = aligned(model).base_model
    with torch.no_grad():
        expected = theirs(IDS, MASK, token_type_ids=SEGMENTS).last_hidden_state
        for task in NAMES:
            assert torch.equal(encoder(IDS, MASK, SEGMENTS, task_ids=task).last_hidden_state, expected)
        mixed = encoder(IDS, MASK, SEGMENTS, task_ids=MIXED).last_hidden_state
    torch.testing.assert_close(mixed, expected, atol=1e-13, rtol=1e-13)
    # What is new is the tasks', and the classifier; what is left behind is reported, where it might have been of use.
    new = {key.removeprefix("bert.") for key in info["missing_keys"]}
    kernels = {key for key in new if key.endswith(("LayerNorm.weight_kernel", "LayerNorm.bias_kernel"))}
    assert len(kernels) == 10
    classifier = {"classifier.weight", "classifier.bias"} if ours == CLASSIFIER else set()
    assert new - kernels == {"task_embeddings.weight"} | classifier
    assert {key.rpartition(".")[0] for key in info["unexpected_keys"]} == LEFT_BEHIND.get(name, set())
    assert not info["mismatched_keys"]


def test_what_is_new_is_reported_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("RoFormerForMaskedLM", tmp_path, "eager")
    said: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: said.append(record.getMessage()))
    logging.getLogger("transformers").addHandler(handler)
    ClnMatcherForSequenceClassification.from_pretrained(tmp_path, task_names=NAMES)
    logging.getLogger("transformers").removeHandler(handler)
    (report,) = said
    new = ("task_embeddings.weight", "LayerNorm.weight_kernel", "LayerNorm.bias_kernel", "classifier.weight")
    assert all(name in report for name in (*new, "MISSING")) and "UNEXPECTED" not in report


@pytest.mark.parametrize(
    ("name", "positions"), [("RoFormerForMaskedLM", "rotary"), ("BertForPreTraining", "absolute")], ids=str
)
def test_it_is_saved_as_a_matcher(name: str, positions: str, tmp_path: Path) -> None:
    make(name, tmp_path / "theirs", "eager")
    model = ClnMatcherForSequenceClassification.from_pretrained(tmp_path / "theirs", num_tasks=3)
    assert model.config.position_embedding_type == positions
    assert (model.config.num_tasks, model.config.task_names) == (3, ["task_0", "task_1", "task_2"])
    assert (model.config.model_type, model.config.task_embedding_size) == ("cln_matcher", 128)
    assert not {"rotary_value", "embedding_size"} & set(model.config.to_dict())
    model.save_pretrained(tmp_path / "ours")
    with SafetensorsFile(tmp_path / "ours" / "model.safetensors") as weights:
        assert set(weights.tensors) == {key for key, _ in model.named_parameters()}
    again, info = ClnMatcherForSequenceClassification.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(again(IDS, MASK, task_ids=1).logits, model(IDS, MASK, task_ids=1).logits)


def test_a_wobert_that_classifies_the_mean_or_the_first_token_goes_on_doing_so(tmp_path: Path) -> None:
    for pooling in ("mean", "cls"):
        make("WoBertForSequenceClassification", tmp_path / pooling, "eager", classifier_pooling=pooling)
        theirs = kexue_hf.WoBertForSequenceClassification.from_pretrained(tmp_path / pooling)
        ours = ClnMatcherForSequenceClassification.from_pretrained(tmp_path / pooling)
        assert ours.config.pooling == pooling
        torch.testing.assert_close(ours(IDS, MASK).logits, theirs(IDS, MASK).logits)


OTHER_CLASSIFIERS = {
    "pooler": ("BertForSequenceClassification", {"id2label": {0: "paraphrase", 1: "other"}}, {}),
    "wobert-pooler": ("WoBertForSequenceClassification", {}, {}),
    "three": ("BertForSequenceClassification", {"num_labels": 3}, {"num_labels": 2}),
    "one": ("BertForSequenceClassification", {"num_labels": 1, "problem_type": "regression"}, {}),
    "several": ("BertForSequenceClassification", {"problem_type": "multi_label_classification"}, {}),
    "other-pooling": ("WoBertForSequenceClassification", {"classifier_pooling": "mean"}, {"pooling": "cls"}),
    "other-number": (
        "WoBertForSequenceClassification",
        {"classifier_pooling": "mean", "num_labels": 3},
        {"num_labels": 2},
    ),
}


@pytest.mark.parametrize("case", OTHER_CLASSIFIERS)
def test_a_classifier_of_something_else_is_left_behind(case: str, tmp_path: Path) -> None:
    name, theirs, ours = OTHER_CLASSIFIERS[case]
    make(name, tmp_path / "theirs", "eager", classifier_dropout=0.5, **theirs)
    model, info = ClnMatcherForSequenceClassification.from_pretrained(
        tmp_path / "theirs", task_names=NAMES, output_loading_info=True, **ours
    )
    assert {"classifier.weight", "classifier.bias"} <= info["missing_keys"] and not info["mismatched_keys"]
    assert not model._weight_conversions  # by which transformers would save it under other names
    # As new ones are.
    assert (model.classifier.bias == 0).all() and 0 < model.classifier.weight.std() < 0.05
    assert model.config.num_labels == 2 and model.config.problem_type is None
    if "pooling" not in ours and case != "other-number":
        assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1"} and model.config.classifier_dropout is None
    randomize(model).save_pretrained(tmp_path / "ours")
    again, info = ClnMatcherForSequenceClassification.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and torch.equal(again.classifier.weight, model.classifier.weight)


def test_a_matcher_drops_out_what_a_bert_does(tmp_path: Path) -> None:
    theirs = make("BertModel", tmp_path, "eager", hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.4).train()
    ours = kexue_hf.ClnMatcherModel.from_pretrained(tmp_path, dtype=torch.float64, attn_implementation="eager").train()
    states = []
    for model in (theirs, ours):
        torch.manual_seed(1)
        states.append(model(IDS, MASK, token_type_ids=SEGMENTS).last_hidden_state)
    torch.testing.assert_close(*states, atol=1e-12, rtol=0)


def test_nothing_of_a_configuration_that_has_no_meaning_here_is_kept() -> None:
    of_another = {"summary_use_proj": True, "summary_type": "first", "classifier_pooling": "pooler", "id2label": {}}
    kept = ClnMatcherConfig.from_dict({"model_type": "wobert", "problem_type": "regression", **of_another, **SIZES})
    assert not {"summary_use_proj", "summary_type", "classifier_pooling"} & set(kept.to_dict())
    assert (kept.problem_type, kept.num_labels) == (None, 2)


@pytest.mark.parametrize("case", ["roformer_tf_ckpt", "wobert_mlm_only_tf_ckpt"])
def test_a_converted_folder_gives_its_tokenizer_too(case: str, tmp_path: Path) -> None:
    convert(GOLDEN / case, tmp_path)
    model = ClnMatcherForSequenceClassification.from_pretrained(tmp_path, num_tasks=2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert model.config.vocab_fingerprint and check_pairing(model, tokenizer) == []
    assert model(**tokenizer("今天", "明天", return_tensors="pt"), task_ids=1).logits.shape == (1, 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RoFormerConfig(embedding_size=12, **SIZES), "embedding_size 12 and rotary_value False"),
        (RoFormerConfig(rotary_value=True, **SIZES), "embedding_size 24 and rotary_value True"),
        (kexue_hf.NezhaConfig(**SIZES), "from roformer, bert, wobert, got a model of type 'nezha'"),
        (kexue_hf.TtaConfig(**SIZES), "got a model of type 'tta'"),
    ],
    ids=["embedding_size", "rotary_value", "nezha", "tta"],
)
def test_other_models_are_refused(config: Any, message: str, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        ClnMatcherForSequenceClassification.from_pretrained(tmp_path)


def test_a_bert_with_relative_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="got a BERT with relative ones"):
        ClnMatcherConfig.from_dict({"model_type": "bert", "position_embedding_type": "relative_key", **SIZES})
