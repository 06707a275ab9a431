"""What is special to the matcher's network: tasks in a batch, conditional layer norms, rotations.

What all models do: tests/models. From other models' folders: test_backbones_cln_matcher.py.
"""

import copy
import functools
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

import kexue_hf
from kexue_hf import ClnMatcherConfig, ClnMatcherForSequenceClassification
from kexue_hf.models.cln_matcher import modeling_cln_matcher
from kexue_hf.models.cln_matcher.norm_cln_matcher import ClnMatcherLayerNorm
from kexue_hf.models.cln_matcher.rotary_cln_matcher import rotation_table
from kexue_hf.models.cln_matcher.tasks_cln_matcher import group_tasks
from tests.models.cln_matcher.matchers import (
    CLASSIFIER,
    ENCODER,
    IDS,
    LENGTH,
    MASK,
    MIXED,
    NAMES,
    SEGMENTS,
    config_of,
    tiny,
)

POSITIONS = ["rotary", "absolute"]


def norms(model: nn.Module) -> list[ClnMatcherLayerNorm]:
    return [module for module in model.modules() if isinstance(module, ClnMatcherLayerNorm)]


# --- tasks in a batch


@pytest.mark.parametrize("positions", POSITIONS)
def test_every_text_is_judged_by_its_own_task(positions: str) -> None:
    model = tiny(position_embedding_type=positions).double()
    mixed = model(IDS, MASK, SEGMENTS, task_ids=MIXED).logits
    singles = [model(IDS, MASK, SEGMENTS, task_ids=task).logits for task in range(3)]
    for row, task in enumerate(MIXED.tolist()):
        torch.testing.assert_close(mixed[row], singles[task][row], atol=1e-12, rtol=0)
        assert (mixed[row] - singles[(task + 1) % 3][row]).abs().max() > 1e-3


def test_a_tasks_vectors_are_computed_once() -> None:
    """Not once for each token, and not once for each text."""
    model, counts = tiny(ENCODER), []
    model.task_embeddings.register_forward_hook(lambda _, given, vectors: counts.append(vectors.shape[0]))
    for tasks in (MIXED, torch.tensor([2, 0, 2, 0]), torch.tensor([1, 1, 1, 1]), 1):
        model(IDS, task_ids=tasks)
    assert counts == [3, 2, 1, 1]
    # One for all, however it was given: the way of a plain layer norm.
    assert model._conditions(torch.tensor([1, 1, 1, 1]), IDS)[1] is None


def test_accelerators_and_compiled_programs_do_not_read_task_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    model, counts = tiny(ENCODER).double(), []
    expected, pair = model(IDS, task_ids=MIXED)[0], model(IDS[:2], task_ids=MIXED[:2])[0]
    model.task_embeddings.register_forward_hook(lambda _, given, vectors: counts.append(vectors.shape[0]))
    for options in ({"ask": False, "fixed": False}, {"ask": False, "fixed": True}):
        group = functools.partial(group_tasks, **options)
        monkeypatch.setattr(modeling_cln_matcher, "group_tasks", lambda *given, group=group, **asked: group(*given))
        torch.testing.assert_close(model(IDS, task_ids=MIXED)[0], expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(model(IDS[:2], task_ids=MIXED[:2])[0], pair, atol=1e-12, rtol=0)
    assert counts == [3, 2, 3, 3]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_one_condition_is_a_plain_layer_norm(dtype: torch.dtype) -> None:
    norm = norms(tiny())[1].to(dtype)
    conditions, states = torch.randn(2, 10, dtype=dtype), torch.randn(2, 5, 24, dtype=dtype)
    for condition in conditions:
        plain = nn.LayerNorm(24, eps=norm.eps, dtype=dtype)
        scale, shift = norm.scale_and_shift(condition[None])
        plain.weight.data, plain.bias.data = scale[0], shift[0]
        assert torch.equal(norm(states, condition[None]), plain(states))
    each = norm(states, conditions)
    # Rounded once more, which in half precision shows.
    alone = torch.cat([norm(states[n : n + 1], conditions[n : n + 1]) for n in range(2)])
    torch.testing.assert_close(each, alone, atol=4 * torch.finfo(dtype).eps, rtol=2 * torch.finfo(dtype).eps)
    with torch.no_grad():
        torch.testing.assert_close(
            norm(states, conditions), each, atol=4 * torch.finfo(dtype).eps, rtol=4 * torch.finfo(dtype).eps
        )
    other = torch.tensor([1, 0])
    torch.testing.assert_close(norm(states.flip(0), conditions, other), each.flip(0))
    torch.testing.assert_close(norm(states, conditions.flip(0), other), each)


def test_a_condition_is_added_without_a_bias() -> None:
    norm = norms(tiny())[0].double()
    condition, states = torch.randn(1, 10).double(), torch.randn(2, 5, 24).double()
    normal = (states - states.mean(-1, keepdim=True)) / (states.var(-1, unbiased=False, keepdim=True) + 1e-12).sqrt()
    scale = norm.weight + condition[0] @ norm.weight_kernel.T
    shift = norm.bias + condition[0] @ norm.bias_kernel.T
    torch.testing.assert_close(norm(states, condition), normal * scale + shift)


# --- gradients


def test_only_tasks_of_the_batch_get_gradients() -> None:
    model = tiny().double()
    model(IDS, MASK, SEGMENTS, task_ids=torch.tensor([0, 2, 0, 2]), labels=MASK[:, 1]).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).any(), name
    assert (model.bert.task_embeddings.weight.grad != 0).any(1).tolist() == [True, False, True]


def test_gradients_of_a_mixed_batch_are_the_sum_of_its_tasks() -> None:
    mixed, single = (tiny().double() for _ in range(2))
    mixed(IDS, MASK, task_ids=MIXED).logits.pow(2).sum().backward()
    for row, task in enumerate(MIXED.tolist()):
        single(IDS[row : row + 1], MASK[row : row + 1], task_ids=task).logits.pow(2).sum().backward()
    for (name, ours), theirs in zip(mixed.named_parameters(), single.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-10, rtol=1e-8, msg=name)


def test_one_network_learns_to_judge_the_same_texts_in_two_ways() -> None:
    torch.manual_seed(1)
    model = ClnMatcherForSequenceClassification(config_of(task_names=NAMES[:2], initializer_range=0.1)).train()
    model.train(False)  # without dropout
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    ids, tasks = IDS.repeat(2, 1), torch.tensor([0] * 4 + [1] * 4)
    labels = torch.tensor([1, 1, 1, 0, 0, 1, 0, 0])
    for _ in range(60):
        model(ids, task_ids=tasks, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(model(ids, task_ids=tasks).logits.argmax(-1), labels)


# --- the network


def test_classifier_dropout() -> None:
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    plain, dropped = (tiny(classifier_dropout=rate, **off).train() for rate in (None, 1.0))
    assert torch.equal(plain(IDS, task_ids=MIXED).logits, plain.eval()(IDS, task_ids=MIXED).logits)
    assert torch.equal(dropped(IDS, task_ids=MIXED).logits, dropped.classifier.bias.expand(4, -1))


def test_rotations_encode_distances_only() -> None:
    """Scores depend on the distance between two tokens, so a shifted text gives the same logits."""
    model = tiny().double()
    here, there = (model(IDS, task_ids=0, position_ids=torch.arange(LENGTH)[None] + start).logits for start in (0, 5))
    torch.testing.assert_close(here, there, atol=1e-6, rtol=0)
    other = model(IDS, task_ids=0, position_ids=torch.arange(LENGTH).flip(0)[None]).logits
    assert (here - other).abs().max() > 1e-3
    absolute = tiny(position_embedding_type="absolute")
    assert not torch.equal(absolute(IDS, task_ids=0)[0], absolute(IDS, task_ids=0, position_ids=IDS * 0)[0])


def test_chunks_change_nothing() -> None:
    whole, chunked = (tiny(chunk_size_feed_forward=size)(IDS, MASK, task_ids=MIXED).logits for size in (0, LENGTH))
    torch.testing.assert_close(whole, chunked)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tasks", [MIXED, 1], ids=["mixed", "one"])
def test_half_precision_is_close(dtype: torch.dtype, tasks: Any) -> None:
    exact = tiny()(IDS, MASK, task_ids=tasks).logits
    scale = exact.abs().max()
    model = tiny().to(dtype)
    assert ((model(IDS, MASK, task_ids=tasks).logits - exact).abs().max() / scale) < 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = tiny()(IDS, MASK, task_ids=tasks).logits
    assert ((cast - exact).abs().max() / scale) < 0.1
    # As some recipes have it; what is folded keeps it so.
    for norm in norms(model):
        norm.float()
    assert ((model(IDS, MASK, task_ids=tasks).logits - exact).abs().max() / scale) < 0.1
    folded, expected = model.fold_task(1), model(IDS, MASK, task_ids=1).logits
    assert torch.equal(folded(IDS, MASK).logits, expected) and norms(folded)[0].weight.dtype == torch.float32
    # What half precision has rounded does not stay so.
    assert torch.equal(model.float().bert.rotations.table, rotation_table(12, 6))


# --- saving and copies


def test_a_saved_matcher_keeps_its_tasks(tmp_path: Path) -> None:
    tiny(pooling="cls").save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert (again.config.task_names, again.config.num_tasks, again.config.pooling) == (NAMES, 3, "cls")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_and_its_encoder_share_a_configuration(copied: Any) -> None:
    model = tiny()
    again = copied(model)
    again.add_task("new")
    assert again.config.num_tasks == again.bert.config.num_tasks == 4 and model.config.num_tasks == 3


def test_tasks_are_given_once() -> None:
    with pytest.raises(ValueError, match="two names of one argument, got both"):
        tiny()(IDS, task_ids=0, tasks=1)


def test_renamed_tasks_and_other_numbers_of_them(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"^task_names must be a list of names, got the string 'abc'$"):
        ClnMatcherForSequenceClassification.from_pretrained(tmp_path, task_names="abc")
    renamed = ClnMatcherForSequenceClassification.from_pretrained(tmp_path, task_names=["a", "b", "c"])
    torch.testing.assert_close(renamed(IDS, task_ids="c").logits, tiny()(IDS, task_ids=2).logits)
    same = ClnMatcherForSequenceClassification.from_pretrained(tmp_path, num_tasks=3)
    assert same.config.task_names == NAMES
    with pytest.raises(RuntimeError, match="mismatch"):
        ClnMatcherForSequenceClassification.from_pretrained(tmp_path, num_tasks=5)


# --- configurations


def test_the_number_of_tasks_is_the_number_of_names() -> None:
    assert (ClnMatcherConfig().num_tasks, ClnMatcherConfig().task_names) == (1, ["task_0"])
    assert ClnMatcherConfig(num_tasks=2).task_names == ["task_0", "task_1"]
    assert ClnMatcherConfig(task_names=NAMES).num_tasks == 3


@pytest.mark.parametrize("name", [ENCODER, CLASSIFIER])
def test_the_tasks_of_a_new_model_are_equal(name: str) -> None:
    model = getattr(kexue_hf, name)(config_of()).eval()
    assert all((norm.weight_kernel == 0).all() and (norm.bias_kernel == 0).all() for norm in norms(model))
    assert len(norms(model)) == 5
    outputs = [model(IDS, MASK, task_ids=task)[0] for task in range(3)]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
