"""Tasks: how they are named, a new one beside those of a trained model, one alone as a plain model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertModel,
    RoFormerModel,
)

from kexue_hf.models.cln_matcher.norm_cln_matcher import ClnMatcherLayerNorm
from kexue_hf.models.cln_matcher.tasks_cln_matcher import read_task_ids
from tests.models.cln_matcher.matchers import CLASSIFIER, ENCODER, IDS, MASK, MIXED, NAMES, tiny

# --- naming


@pytest.mark.parametrize(
    "given",
    [
        MIXED,
        MIXED[:, None],
        MIXED.int(),
        MIXED.tolist(),
        [[task] for task in MIXED.tolist()],
        MIXED.numpy(),
        [NAMES[task] for task in MIXED],
        np.array([NAMES[task] for task in MIXED]),
        ["短长匹配A类", 0, "strict", 0],
        list(MIXED.numpy()),
    ],
    ids=["tensor", "column", "int32", "list", "lists", "array", "names", "array of names", "both", "scalars"],
)
def test_tasks_of_each_text(given: Any) -> None:
    read = read_task_ids(given, NAMES, 4)
    assert read.dtype == torch.long and torch.equal(read, MIXED)
    expected = tiny()(IDS, MASK, task_ids=MIXED)
    assert torch.equal(tiny()(IDS, MASK, task_ids=given).logits, expected.logits)
    assert torch.equal(tiny()(IDS, MASK, tasks=given).logits, expected.logits)


@pytest.mark.parametrize(
    "given", [1, "strict", torch.tensor(1), torch.tensor([1]), [1], ["strict"], np.int64(1), np.array(1)], ids=repr
)
def test_one_task_of_all_texts(given: Any) -> None:
    assert read_task_ids(given, NAMES, 4).tolist() == [1]


def test_the_only_task_needs_no_name() -> None:
    model = tiny(task_names=["only"])
    assert torch.equal(model(IDS).logits, model(IDS, task_ids="only").logits)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "task_ids is missing: this model has 3 tasks ('loose', 'strict', '短长匹配A类'); give one for all"),
        ("lose", "unknown task 'lose'; this model knows 'loose', 'strict', '短长匹配A类'"),
        (["loose", "lose", 0, 0], "unknown task 'lose'"),
        (3, "task ids of this model are 0 to 2, got 3"),
        (-1, "task ids of this model are 0 to 2, got -1"),
        (torch.tensor([0, 3, 1, 1]), "are 0 to 2, got 3"),
        (torch.tensor([0, -1, 1, 3]), "are 0 to 2, got -1"),
        (torch.tensor([0, 1]), "one for all texts or one for each of 4 texts, got shape [2]"),
        ([0, 1, 2], "one for each of 4 texts, got shape [3]"),
        (torch.zeros(4, 2, dtype=torch.long), "got shape [4, 2]"),
        (torch.zeros(4), "must be integers, got torch.float32"),
        (True, "given by its name or its id, got True"),
        ([0.0, 1, 2, 0], "given by its name or its id, got 0.0"),
    ],
    ids=str,
)
def test_tasks_that_the_model_has_not(given: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        tiny()(IDS, MASK, task_ids=given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [torch.tensor([0, -1, 1, 1]), torch.tensor([-1, 0])], ids=str)
def test_no_task_is_the_last_one_where_nobody_looks_at_the_range(given: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(IndexError):
        tiny()(IDS[: len(given)], task_ids=given)


# --- a new one


@pytest.mark.parametrize("name", [ENCODER, CLASSIFIER])
@pytest.mark.parametrize("like", [None, "strict", 1], ids=str)
def test_a_new_task_leaves_the_others_as_they_are(name: str, like: Any, tmp_path: Path) -> None:
    model = tiny(name)
    before = [model(IDS, MASK, task_ids=task)[0] for task in range(3)]
    mixed = model(IDS, MASK, task_ids=MIXED)[0]
    assert model.add_task("new", like=like) == 3
    assert (model.config.num_tasks, model.config.task_names) == (4, [*NAMES, "new"])
    assert all(torch.equal(model(IDS, MASK, task_ids=task)[0], before[task]) for task in range(3))
    assert torch.equal(model(IDS, MASK, task_ids=MIXED)[0], mixed)
    new = model(IDS, MASK, task_ids="new")[0]
    assert torch.equal(new, before[1]) == (like is not None)
    vector = model.base_model.task_embeddings.weight[3]
    assert like is not None or 0.5 < vector.std() / model.config.initializer_range < 2
    model.save_pretrained(tmp_path)
    again = (AutoModel if name == ENCODER else AutoModelForSequenceClassification).from_pretrained(tmp_path)
    torch.testing.assert_close(again(IDS, MASK, task_ids="new")[0], new)


def test_a_new_task_is_trained_as_the_others_are() -> None:
    model = tiny().double().train()
    model.add_task("new")
    weight = model.bert.task_embeddings.weight
    assert weight.dtype == torch.float64 and model.bert.task_embeddings.training
    model(IDS, task_ids="new").logits.sum().backward()
    assert weight.grad is not None and (weight.grad != 0).any(1).tolist() == [False, False, False, True]
    frozen = tiny()
    frozen.bert.task_embeddings.requires_grad_(False)
    frozen.add_task("new")
    assert not frozen.bert.task_embeddings.weight.requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("loose",), "needs an unused name, got 'loose'; taken are loose, strict"),
        (("",), "needs an unused name, got ''"),
        ((3,), "needs an unused name, got 3"),
        (("new", "lose"), "unknown task 'lose'; this model knows 'loose'"),
        (("new", 3), "are 0 to 2, got 3"),
    ],
    ids=str,
)
def test_new_tasks_that_cannot_be(arguments: tuple, message: str) -> None:
    model = tiny()
    with pytest.raises(ValueError, match=message):
        model.add_task(*arguments)
    assert model.config.num_tasks == 3 and model.bert.task_embeddings.num_embeddings == 3


def test_no_task_is_added_to_another_layer() -> None:
    model = tiny()
    model.bert.task_embeddings = torch.nn.Sequential(model.bert.task_embeddings)
    with pytest.raises(ValueError, match="vectors are held by a Sequential, not by an embedding"):
        model.add_task("new")


# --- one alone


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_folded_task_is_a_plain_classifier_with_the_same_logits(
    positions: str, pooling: str, tmp_path: Path
) -> None:
    model = tiny(position_embedding_type=positions, pooling=pooling)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for task, name in enumerate(NAMES):
        folded = model.fold_task(name)
        expected = model(IDS, MASK, task_ids=task).logits
        assert torch.equal(folded(IDS, MASK).logits, expected)
        assert torch.equal(folded(IDS, MASK, task_ids=name).logits, expected)
    names = set(folded.state_dict())
    assert not [own for own in names if "kernel" in own or "task" in own]
    assert names == {own for own in state if "kernel" not in own and "task" not in own}
    # It is a copy.
    folded.classifier.weight.data.zero_()
    assert all(torch.equal(value, state[own]) for own, value in model.state_dict().items())
    model.fold_task(2).save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert not again.config.conditional and again.config.task_names == [NAMES[2]]
    torch.testing.assert_close(again(IDS, MASK).logits, expected)
    torch.testing.assert_close(again.fold_task(0)(IDS, MASK).logits, expected)


@pytest.mark.parametrize("positions, plain", [("rotary", RoFormerModel), ("absolute", BertModel)], ids=str)
def test_a_folded_encoder_is_transformers_own(positions: str, plain: type, tmp_path: Path) -> None:
    model = tiny(ENCODER, position_embedding_type=positions, attn_implementation="eager")
    folded = model.fold_task("strict")
    assert type(folded) is plain
    expected = model(IDS, MASK, task_ids=1).last_hidden_state
    assert torch.equal(folded(IDS, MASK).last_hidden_state, expected)
    folded.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path, attn_implementation="eager")
    assert type(again) is plain
    torch.testing.assert_close(again(IDS, MASK).last_hidden_state, expected)
    assert not {"task_names", "pooling", "auto_map", "conditional"} & set(again.config.to_dict())


def test_a_folded_model_keeps_its_type_and_has_one_task() -> None:
    folded = tiny().to(torch.bfloat16).train().fold_task("strict")
    assert folded.dtype == torch.bfloat16 and folded.training
    with pytest.raises(ValueError, match="unknown task 'loose'; this model knows 'strict'"):
        folded(IDS, task_ids="loose")
    with pytest.raises(ValueError, match="was folded to one task"):
        folded.add_task("new")
    with pytest.raises(ValueError, match="unknown task 'lose'"):
        tiny().fold_task("lose")
    plain = [module for module in folded.modules() if isinstance(module, ClnMatcherLayerNorm)]
    assert len(plain) == 5 and all(norm.weight_kernel is None for norm in plain)


def test_folding_draws_no_random_numbers() -> None:
    """A fold during a training leaves the rest of it as it would have been."""
    model = tiny()
    state = torch.random.get_rng_state()
    model.fold_task("strict")
    model.bert.fold_task("strict")
    assert torch.equal(torch.random.get_rng_state(), state)


# --- adapters


def adapted(**options: Any) -> Any:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["query", "value"], init_lora_weights=False, **options)
    return peft.get_peft_model(tiny(), config)


def test_adapters_of_a_classifier_pass_tasks_on() -> None:
    """Their own `task_ids` is that of prompts for several tasks."""
    model = adapted(task_type="SEQ_CLS").eval()
    expected = model.base_model.model(IDS, MASK, task_ids=MIXED).logits
    assert torch.equal(model(input_ids=IDS, attention_mask=MASK, tasks=MIXED).logits, expected)


def test_a_model_with_adapters_is_merged_first() -> None:
    model = adapted(modules_to_save=["task_embeddings"])
    for grown in (model, adapted(), adapted().bert):  # wherever the adapters are
        with pytest.raises(ValueError, match=r"this model has adapters \(a .* is its .*\), .*: merge them first"):
            grown.add_task("new")
    for folding in (model.fold_task, model.bert.fold_task):
        with pytest.raises(ValueError, match=r"parameters that no matcher has, such as .*: merge its adapters first"):
            folding("strict")
    expected = model.eval()(IDS, MASK, task_ids=1).logits
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged.fold_task("strict")(IDS, MASK).logits, expected)
    assert merged.add_task("new") == 3
