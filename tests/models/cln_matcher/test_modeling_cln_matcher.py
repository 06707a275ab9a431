"""The matcher's network: tasks in a batch, gradients, padding, implementations against each other, what is refused.

Against the original code: test_parity_cln_matcher.py. From other models' folders: test_backbones_cln_matcher.py.
"""

import ast
import copy
import functools
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig

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

MODELS = Path(kexue_hf.__file__).parent / "models"
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


def test_on_accelerators_and_in_compiled_programs_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_gradients_are_finite_and_of_the_tasks_that_were_there() -> None:
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


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("tasks", [MIXED, 2], ids=["mixed", "one"])
def test_gradient_checkpointing_changes_nothing(tasks: Any, reentrant: bool) -> None:
    plain, checkpointed = (tiny(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train() for _ in range(2))
    checkpointed.gradient_checkpointing_enable({"use_reentrant": reentrant})
    for model in (plain, checkpointed):
        model(IDS, MASK, task_ids=tasks).logits.pow(2).sum().backward()
    for (name, ours), theirs in zip(checkpointed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


# --- the network


@pytest.mark.parametrize("positions", POSITIONS)
def test_eager_and_sdpa_agree(positions: str) -> None:
    eager, sdpa = (
        tiny(attn_implementation=way, position_embedding_type=positions).double()(IDS, MASK, task_ids=MIXED).logits
        for way in ("eager", "sdpa")
    )
    torch.testing.assert_close(eager, sdpa, atol=1e-12, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("way", ["eager", "sdpa"])
def test_padding_changes_nothing(way: str, pooling: str) -> None:
    model = tiny(attn_implementation=way, pooling=pooling).double()
    padded = model(IDS, MASK, SEGMENTS, task_ids=MIXED).logits
    for row, mask in enumerate(MASK):
        length = int(mask.sum())
        alone = model(IDS[row : row + 1, :length], None, SEGMENTS[:1, :length], task_ids=MIXED[row]).logits[0]
        torch.testing.assert_close(padded[row], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_what_is_classified(pooling: str) -> None:
    model = tiny(pooling=pooling)
    states = model.bert(IDS, MASK, task_ids=1).last_hidden_state
    text = states[:, 0] if pooling == "cls" else (states * MASK[..., None]).sum(1) / MASK.sum(1)[:, None]
    torch.testing.assert_close(model(IDS, MASK, task_ids=1).logits, model.classifier(text), atol=1e-5, rtol=1e-5)


def test_what_is_classified_is_dropped_out_as_the_configuration_says() -> None:
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    plain, dropped = (tiny(classifier_dropout=rate, **off).train() for rate in (None, 1.0))
    assert torch.equal(plain(IDS, task_ids=MIXED).logits, plain.eval()(IDS, task_ids=MIXED).logits)
    assert torch.equal(dropped(IDS, task_ids=MIXED).logits, dropped.classifier.bias.expand(4, -1))


def test_rotations_know_distances_only() -> None:
    """Two tokens' scores depend on how far they are apart: a text anywhere is the same text."""
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
def test_half_precision_comes_near(dtype: torch.dtype, tasks: Any) -> None:
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


def test_the_loss_is_that_of_the_whole_batch() -> None:
    model, labels = tiny(), torch.tensor([1, 0, 1, 1])
    outputs = model(IDS, MASK, task_ids=MIXED, labels=labels)
    summed = functional.cross_entropy(outputs.logits, labels, reduction="sum")
    torch.testing.assert_close(outputs.loss, summed / 4)
    halves = [
        model(IDS[part], MASK[part], task_ids=MIXED[part], labels=labels[part], num_items_in_batch=4).loss
        for part in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(sum(halves), summed / 4)


# --- there and back


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_a_model(copied: Any) -> None:
    model = tiny()
    again = copied(model)
    assert torch.equal(again(IDS, MASK, task_ids=MIXED).logits, model(IDS, MASK, task_ids=MIXED).logits)
    # The head and its encoder still have one configuration.
    again.add_task("new")
    assert again.config.num_tasks == again.bert.config.num_tasks == 4 and model.config.num_tasks == 3


@pytest.mark.parametrize("positions", POSITIONS)
def test_saved_and_loaded(positions: str, tmp_path: Path) -> None:
    model = tiny(position_embedding_type=positions, pooling="cls")
    model.save_pretrained(tmp_path)
    again, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is ClnMatcherForSequenceClassification and not info["missing_keys"]
    assert (again.config.task_names, again.config.num_tasks, again.config.pooling) == (NAMES, 3, "cls")
    torch.testing.assert_close(again(IDS, MASK, task_ids=NAMES[1]).logits, model(IDS, MASK, task_ids=1).logits)
    half = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    expected = copy.deepcopy(model).bfloat16()(IDS, MASK, task_ids=1).logits
    torch.testing.assert_close(half(IDS, MASK, task_ids=1).logits, expected)


def test_made_on_the_meta_device() -> None:
    model = tiny()
    with torch.device("meta"):
        empty = ClnMatcherForSequenceClassification(config_of())
    assert all(parameter.is_meta for parameter in empty.parameters())
    empty.to_empty(device="cpu").eval().load_state_dict(model.state_dict())
    assert torch.equal(empty(IDS, MASK, task_ids=MIXED).logits, model(IDS, MASK, task_ids=MIXED).logits)


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


# --- what is refused


def test_the_number_of_tasks_is_that_of_the_names() -> None:
    assert (ClnMatcherConfig().num_tasks, ClnMatcherConfig().task_names) == (1, ["task_0"])
    assert ClnMatcherConfig(num_tasks=2).task_names == ["task_0", "task_1"]
    assert ClnMatcherConfig(task_names=NAMES).num_tasks == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_tasks": 2}, r"task_names must be 2 different names \(num_tasks\), got \['loose', 'strict', "),
        ({"task_names": ["a", "a"]}, "must be 2 different names"),
        ({"task_names": ["a", ""]}, "must be 2 different names"),
        ({"task_names": []}, "at least 1, got 0"),
        ({"task_embedding_size": 0}, "at least 1, got 3 and 0"),
        ({"position_embedding_type": "relative_key"}, "must be 'rotary' or 'absolute', got 'relative_key'"),
        ({"pooling": "pooler"}, "must be 'mean' or 'cls', got 'pooler'"),
        ({"conditional": False}, "has one task, got num_tasks=3"),
        ({"is_decoder": True}, "is an encoder"),
        ({"hidden_size": 20}, "multiple of twice num_attention_heads, got 20 and 4"),
        ({"hidden_size": 22, "position_embedding_type": "absolute"}, "multiple of num_attention_heads, got 22 and 4"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_configurations(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        ClnMatcherForSequenceClassification(config_of(**options))
    # from_pretrained sets fields after the configuration was made.
    config_of().save_pretrained(tmp_path)
    if "num_tasks" not in options:
        with pytest.raises(ValueError, match=message):
            ClnMatcherForSequenceClassification(AutoConfig.from_pretrained(tmp_path, **options))


BAD_INPUTS = {
    "both": ({"input_ids": IDS, "inputs_embeds": torch.zeros(4, LENGTH, 24)}, "either input_ids or"),
    "neither": ({}, "either input_ids or"),
    "too long": ({"input_ids": IDS.repeat(1, 2)}, "at most 12 tokens .*got 14: truncate the longer of the two"),
    "cache": ({"input_ids": IDS, "past_key_values": ()}, "takes no past_key_values"),
    "decoder": ({"input_ids": IDS, "encoder_hidden_states": IDS}, "takes no encoder_hidden_states"),
    "decoder's mask": ({"input_ids": IDS, "encoder_attention_mask": MASK}, "takes no encoder_attention_mask"),
    "tasks twice": ({"input_ids": IDS, "tasks": 1}, "two names of one argument"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs(name: str) -> None:
    given, message = BAD_INPUTS[name]
    with pytest.raises(ValueError, match=message):
        tiny()(**given, task_ids=0)


def test_another_models_configuration() -> None:
    with pytest.raises(ValueError, match="needs a ClnMatcherConfig, got a BertConfig"):
        ClnMatcherForSequenceClassification(BertConfig(vocab_size=40))


def functions(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_copies_are_in_step_with_their_originals() -> None:
    """Files that travel to the Hub cannot import another model's: what is the same lies there twice."""
    for kind in ("losses", "modeling"):
        ours, theirs = (functions(MODELS / name / f"{kind}_{name}.py") for name in ("cln_matcher", "wobert"))
        copied = ["masked_mean"] if kind == "modeling" else list(ours)
        assert copied
        for name in copied:
            assert ours[name] == theirs[name]


@pytest.mark.parametrize("name", [ENCODER, CLASSIFIER])
def test_a_fresh_model_knows_no_tasks_apart(name: str) -> None:
    model = getattr(kexue_hf, name)(config_of()).eval()
    assert all((norm.weight_kernel == 0).all() and (norm.bias_kernel == 0).all() for norm in norms(model))
    assert len(norms(model)) == 5
    outputs = [model(IDS, MASK, task_ids=task)[0] for task in range(3)]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
