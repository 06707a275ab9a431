"""Policy gradient: against autograd of the expected reward, in any division of the batch, bad input, and texts."""

import itertools
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from kexue_hf import (
    PolicyGradientTrainer,
    WoBertConfig,
    WoBertForCausalLM,
    WoBertForSequenceClassification,
    WoBertTokenizer,
)
from kexue_hf.errors import InputError
from kexue_hf.trainers.collators import UniLmCollator
from kexue_hf.trainers.policy_gradient import PolicyGradientOptions
from kexue_hf.trainers.policy_objective import divergence, entropy, likeliest_loss, log_probabilities, policy_loss
from kexue_hf.trainers.rewards import Accuracy, ExactMatch, LeaveOneOut, MacroF1, macro_f1
from kexue_hf.trainers.sampled_texts import sample_texts, text_log_probabilities
from tests.data_parallel import Halves
from tests.trainers.policy_gradient_runs import ALL, CASES, CLASSES, PRICES, Linear, logged, price, rows, step, trainer
from tests.two_processes import two_processes

ROOT = Path(__file__).parents[2]
LABELS = torch.tensor([0, 2, -100, 1])


def logits_of_four(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def gradient(logits: torch.Tensor, labels: torch.Tensor, reward: Any, **options: Any) -> torch.Tensor:
    settings = {"samples": 8, "exact_classes": 64, "items": (labels != -100).sum(), "rows": len(labels), **options}
    loss = policy_loss(log_probabilities(logits, labels), labels, reward, **settings)
    return torch.autograd.grad(loss, logits)[0]


def test_the_exact_gradient() -> None:
    logits = logits_of_four()
    expected = sum(
        logits.softmax(-1)[row, one] * PRICES[LABELS[row], one] for row in (0, 1, 3) for one in range(CLASSES)
    )
    (wanted,) = torch.autograd.grad(-expected / 3, logits)
    torch.testing.assert_close(gradient(logits, LABELS, price), wanted)
    loss = policy_loss(log_probabilities(logits, LABELS), LABELS, price, samples=2, exact_classes=3, items=3, rows=4)
    torch.testing.assert_close(loss, -expected / 3)


def test_evaluation_after_training_counts_its_own_rows(tmp_path: Path) -> None:
    """Training counts the rows of a step of 8; the 16 rows are then evaluated 5 at a time."""
    torch.manual_seed(0)
    model, data = Linear(), rows(True)
    made = trainer(tmp_path, row_value, PolicyGradientOptions(), data, model, per_device_train_batch_size=4,
                   gradient_accumulation_steps=2, per_device_eval_batch_size=5)  # fmt: skip
    made.train()
    with torch.no_grad():
        predicted = model(torch.stack([row["x"] for row in data]))["logits"].argmax(-1)
    labels = torch.stack([row["labels"] for row in data])
    values, labelled = row_value(predicted, labels), (labels != -100).any(-1)
    # Trainer weights its batches by their rows.
    batches = [slice(start, min(start + 5, 16)) for start in range(0, 16, 5)]
    means = [float(values[part].sum() / labelled[part].sum()) * (part.stop - part.start) for part in batches]
    assert sum(means) > 0
    assert made.evaluate(data)["eval_loss"] == pytest.approx(-sum(means) / 16, abs=1e-5)


def test_sampling_from_another_distribution_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=8, n_embd=4, n_layer=1, n_head=1))
    model.generation_config.min_p = 0.05
    labels = torch.tensor([[-100, 1, 2]])
    with pytest.raises(InputError, match=r"generation_config\.min_p is 0\.05, .* set it to None"):
        sample_texts(model, {"input_ids": torch.tensor([[3, 1, 2]]), "labels": labels}, 2, 2)


def test_one_logit_and_several_labels() -> None:
    logits, labels = torch.tensor([[0.3], [-1.0]], requires_grad=True), torch.tensor([1, 0])
    p = logits[:, 0].sigmoid()
    (wanted,) = torch.autograd.grad(-(p[0] + 1 - p[1]) / 2, logits)
    torch.testing.assert_close(gradient(logits, labels, Accuracy()), wanted)
    several = torch.tensor([[0.3, -1.0]], requires_grad=True)
    torch.testing.assert_close(gradient(several, torch.tensor([[1.0, 0.0]]), Accuracy()), wanted.T)


def tokens_logits() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.tensor([[0, 2, -100], [1, -100, -100]])
    return torch.randn(2, 3, CLASSES, generator=torch.Generator().manual_seed(1)).requires_grad_(), labels


def expected_by_enumeration(logits: torch.Tensor, labels: torch.Tensor, metric: Any) -> torch.Tensor:
    """The sum over all combinations of predictions of their probability and a metric of [items]."""
    kept = labels != -100
    p, expected = logits.softmax(-1)[kept], labels[kept]
    total = logits.new_zeros(())
    for combination in itertools.product(range(CLASSES), repeat=len(expected)):
        chosen = torch.tensor(combination)
        total = total + p.gather(1, chosen[:, None]).prod() * float(metric(chosen, expected))
    return total


def row_value(predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A reward of rows, whose tokens depend on each other: 1 for a row that is right, and what its tokens share."""
    hits = (predictions == labels) & (labels != -100)
    return hits.sum(-1).float() ** 2


def both_rows(chosen: torch.Tensor, expected: torch.Tensor) -> float:
    hits = (chosen == expected).float()
    return float((hits[0] + hits[1]) ** 2 + hits[2] ** 2)


@pytest.mark.parametrize("kind", ["labels", "rows", "set, exact classes", "set, samples"])
def test_the_sampled_gradient_is_unbiased(kind: str) -> None:
    """The mean over many draws lies within its own standard error of autograd's gradient of the enumeration."""
    torch.manual_seed(0)
    logits, labels = tokens_logits()
    reward, exact, samples = {
        "labels": (price, 0, 4), "rows": (row_value, 64, 3), "set, exact classes": (MacroF1(), 64, 2),
        "set, samples": (LeaveOneOut(macro_f1), 0, 4),
    }[kind]  # fmt: skip
    if kind == "labels":
        wanted = -gradient(logits, labels, price)
    else:
        metric = both_rows if kind == "rows" else macro_f1
        (wanted,) = torch.autograd.grad(expected_by_enumeration(logits, labels, metric), logits)
        wanted = wanted / 2 if kind == "rows" else wanted
    draws = torch.stack([-gradient(logits, labels, reward, samples=samples, exact_classes=exact) for _ in range(600)])
    error = draws.std(0) / len(draws) ** 0.5
    assert float(error.max()) < 0.1
    assert ((draws.mean(0) - wanted).abs() <= 4 * error + 1e-6).all()
    assert wanted.abs().max() > 5 * error.max()


def test_the_baseline_lowers_the_variance() -> None:
    """A constant added to the reward changes no sample's gradient."""
    logits, labels = tokens_logits()
    torch.manual_seed(0)
    plain = gradient(logits, labels, row_value, exact_classes=0)
    torch.manual_seed(0)
    shifted = gradient(logits, labels, lambda *both: row_value(*both) + 100, exact_classes=0)
    torch.testing.assert_close(shifted, plain, rtol=1e-3, atol=1e-4)


def test_the_likeliest_classes_are_evaluated() -> None:
    logits, labels = tokens_logits()
    log_p, chosen = log_probabilities(logits, labels), logits.argmax(-1)
    found = likeliest_loss(log_p, labels, Accuracy(), items=3, rows=2)
    assert float(found) == pytest.approx(-float((chosen == labels).sum()) / 3)
    of_rows = likeliest_loss(log_p, labels, ExactMatch(), items=3, rows=2)
    right = ((chosen == labels) | (labels == -100)).all(-1)
    assert float(of_rows) == pytest.approx(-float(right.sum()) / 2)
    # 3 of a batch of 6 labels: half of a set's reward.
    of_set = likeliest_loss(log_p, labels, LeaveOneOut(lambda predicted, expected: len(predicted)), items=6, rows=2)
    assert float(of_set) == pytest.approx(-(1 + 1 + 1) / 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(step(name, tmp_path_factory.mktemp("whole"), 16, 1)) for name in CASES}


@pytest.mark.parametrize("accumulated", [2, 4])
@pytest.mark.parametrize("name", CASES)
def test_gradient_accumulation(name: str, accumulated: int, whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    found = torch.tensor(step(name, tmp_path, 16 // accumulated, accumulated))
    torch.testing.assert_close(found, whole[name], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_two_processes_train_as_one(whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with two_processes("tests.trainers.policy_gradient_runs", tmp_path) as process:
        _, errors = process.communicate(timeout=480)
        assert process.returncode == 0, errors[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.pop("rows") == pytest.approx(-1)
    assert found.keys() == whole.keys()
    for name, values in found.items():
        torch.testing.assert_close(torch.tensor(values), whole[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("reward", [price, ExactMatch(), MacroF1()], ids=["labels", "rows", "set"])
def test_two_devices_of_one_process(
    reward: Any, average: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `nn.DataParallel`, the reward sees the predictions of all devices, and the sums have the same divisors."""
    monkeypatch.setattr(torch.nn, "DataParallel", Halves)
    # An even number of labels: without averaging, Trainer rounds their number for each device.
    data = rows(True)
    if sum(int((row["labels"] != -100).sum()) for row in data) % 2:
        data[0]["labels"][0] = -100
    found = []
    for devices in (1, 2):
        torch.manual_seed(0)
        model = Linear()
        before = model.layer.weight.detach().clone()
        trainer(tmp_path, reward, ALL, data, model, devices=devices, per_device_train_batch_size=8 // devices,
                gradient_accumulation_steps=2, average_tokens_across_devices=average).train()  # fmt: skip
        found.append(before - model.layer.weight.detach())
    assert float(found[0].abs().max()) > 0.01
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-7)


def test_a_step_is_the_gradient_of_all_terms(whole: dict[str, torch.Tensor]) -> None:
    """Reward, entropy, divergence and cross entropy, written out."""
    torch.manual_seed(0)
    model = Linear()
    data = rows(True)
    x, labels = (torch.stack([row[name] for row in data]) for name in ("x", "labels"))
    kept = labels != -100
    p = model.layer(x)[kept].softmax(-1)
    moved = model.layer.weight.detach() + torch.linspace(-1, 1, 12).view(3, 4)
    start = torch.nn.functional.linear(x, moved, model.layer.bias.detach())[kept].softmax(-1)
    y = labels[kept]
    loss = -(p * PRICES[y]).sum(-1) + 0.1 * (p * p.log()).sum(-1) + 0.2 * (p * (p / start).log()).sum(-1)
    (loss - 0.3 * p.gather(1, y[:, None])[:, 0].log()).mean().backward()
    torch.testing.assert_close(whole["all terms"], model.layer.weight.grad, rtol=1e-4, atol=1e-6)


def test_the_logged_loss_is_minus_the_reward(tmp_path: Path) -> None:
    """Of a reward from samples too, whose advantages sum to 0."""
    assert logged(tmp_path, rows(True)) == pytest.approx(-1)
    assert logged(tmp_path, rows(True), per_device_train_batch_size=4, gradient_accumulation_steps=4) == pytest.approx(
        -1
    )


def test_the_start_stays_as_it_was(tmp_path: Path) -> None:
    """Without dropout, without gradients, with its weights."""
    torch.manual_seed(0)
    model = Linear()
    before = model.layer.weight.detach().clone()
    made = trainer(tmp_path, price, PolicyGradientOptions(kl=0.5), rows(True), model)
    made.train()
    assert made.start_model is not None and not any(module.training for module in made.start_model.modules())
    assert not any(one.requires_grad for one in made.start_model.parameters())
    assert torch.equal(made.start_model.layer.weight, before) and not torch.equal(model.layer.weight, before)


@pytest.mark.parametrize("reward", [ExactMatch(), MacroF1()], ids=["rows", "set"])
def test_parts_of_a_batch_are_averaged(reward: Any, tmp_path: Path) -> None:
    """Equal parts: the accumulated gradient is near that of one part, not a multiple of it."""
    data = [row for row in rows(True) if (row["labels"] != -100).any()][:4]
    steps = []
    for parts in (1, 4):
        torch.manual_seed(0)
        model = Linear()
        before = model.layer.weight.detach().clone()
        options = PolicyGradientOptions(samples=500)
        trainer(tmp_path, reward, options, data * parts, model, per_device_train_batch_size=4,
                gradient_accumulation_steps=parts).train()  # fmt: skip
        steps.append(before - model.layer.weight.detach())
    assert float(steps[0].abs().max()) > 0.01
    torch.testing.assert_close(steps[1], steps[0], rtol=0.2, atol=0.02)


def test_a_resumed_run_continues_as_if_never_stopped(tmp_path: Path) -> None:
    options = PolicyGradientOptions(samples=2, kl=0.5, entropy=0.1)
    how = {"per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch",
           "learning_rate": 0.1}  # fmt: skip

    def made(folder: str, steps: int, **changed: Any) -> PolicyGradientTrainer:
        torch.manual_seed(0)
        settings = {"reward": ExactMatch(), "options": options, **changed}
        return trainer(tmp_path / folder, data=rows(True), model=Linear(), max_steps=steps, **settings, **how)

    through = made("through", 4)
    through.train()
    made("stopped", 2).resume()
    resumed = made("stopped", 4)
    resumed.resume()
    assert resumed.first_step == 2
    for name, weights in through.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weights), name
    with pytest.raises(InputError, match=r"was made with policy gradient .*samples=2.*now it is .*samples=3"):
        made("stopped", 4, options=PolicyGradientOptions(samples=3, kl=0.5, entropy=0.1)).resume()
    other = made("stopped", 4)
    other.model.layer.weight.data += 1
    with pytest.raises(InputError, match="was made with checksum of the start"):
        trainer(tmp_path / "stopped", ExactMatch(), options, rows(True), other.model, max_steps=4, **how).resume()


def test_it_learns_the_reward_and_keeps_no_copy_without_divergence(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Linear()
    made = trainer(tmp_path, lambda predictions, labels: (predictions == 1).float(), PolicyGradientOptions(),
                   rows(False), model, max_steps=20, learning_rate=5.0)  # fmt: skip
    assert made.start_model is None
    made.train()
    x = torch.stack([row["x"] for row in rows(False)])
    assert model.layer(x).softmax(-1)[:, 1].mean().item() > 0.9


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda p, y: price(p, y) * torch.nan, "must be finite, got nan at \\[0\\] of the batch"),
        (lambda p, y: torch.full(y.shape, torch.inf), "must be finite, got inf at \\[0\\]"),
        (lambda p, y: torch.tensor(1.0), r"must return the shape \[16\], got \[\]; wrap .* in LeaveOneOut"),
        (lambda p, y: price(p, y)[:3], r"must return the shape \[16\], got \[3\]"),
    ],
)
def test_bad_rewards(reward: Any, message: str, tmp_path: Path) -> None:
    made = trainer(tmp_path, reward, PolicyGradientOptions(), rows(False), Linear())
    with pytest.raises(InputError, match=message):
        made.train()


def test_bad_shape_of_a_reward_of_tokens(tmp_path: Path) -> None:
    made = trainer(tmp_path, lambda p, y: price(p, y)[:, :2], PolicyGradientOptions(), rows(True), Linear())
    with pytest.raises(InputError, match=r"must return the shape \[16, 4\] or \[16\], got \[16, 2\]"):
        made.train()


class Narrow(MacroF1):
    """Credits of fewer classes than the model has."""

    def of_classes(self, predictions: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
        return super().of_classes(predictions, labels, classes)[..., :2]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda p, y: row_value(p, y) * torch.nan, r"must be finite, got nan at \[0\] of the batch"),
        (lambda p, y: row_value(p, y)[:3], r"must return the shape \[16, 4\] or \[16\], got \[3\]"),
        (LeaveOneOut(lambda p, y: torch.nan), r"must be finite, got nan at \[0, 0, 0\]"),
        (Narrow(), r"must return the shape \[16, 4, 3\], got \[16, 4, 2\]"),
    ],
    ids=["rows", "shape of rows", "set", "shape of a set"],
)
@pytest.mark.parametrize("part", ["training", "evaluation"])
def test_bad_rewards_of_rows_and_sets(reward: Any, message: str, part: str, tmp_path: Path) -> None:
    made = trainer(tmp_path, reward, PolicyGradientOptions(), rows(True), Linear(), per_device_eval_batch_size=16)
    if part == "training":
        with pytest.raises(InputError, match=message):
            made.train()
    elif not isinstance(reward, Narrow):  # an evaluation asks for the credits of the likeliest classes alone
        with pytest.raises(InputError, match=message.replace("[0, 0, 0", "[0, 0")):
            made.evaluate(rows(True))


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda p, y: torch.full((len(p),), torch.nan), r"must be finite, got nan at \[0\]"),
        (lambda p, y: (p == 7).float(), r"must return the shape \[64\], got \[64, \d\]"),
    ],
)
def test_bad_rewards_of_texts(reward: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        text_trainer(tmp_path, writer(), "unilm", reward).train()


def test_labels_out_of_range(tmp_path: Path) -> None:
    data = rows(False)
    data[2]["labels"] = torch.tensor(CLASSES)
    with pytest.raises(ValueError, match="labels must be from 0 to 2, or -100 to be ignored, got 3"):
        trainer(tmp_path, price, PolicyGradientOptions(), data, Linear()).train()


@pytest.mark.parametrize("reward", [price, ExactMatch(), MacroF1()], ids=["labels", "rows", "set"])
def test_a_batch_without_labels_changes_nothing(reward: Any, tmp_path: Path) -> None:
    data = [{**row, "labels": torch.full_like(row["labels"], -100)} for row in rows(True)]
    model = Linear()
    before = model.layer.weight.detach().clone()
    made = trainer(tmp_path, reward, ALL, data, model, logging_steps=1)
    made.train()
    assert torch.equal(model.layer.weight, before)
    assert made.state.log_history[0]["loss"] == 0 and made.evaluate(data)["eval_loss"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "samples must be 2 or more, got 1"),
        ({"exact_classes": -1}, "exact_classes must be 0 or more"),
        ({"entropy": -1.0}, "entropy must be 0 or more and finite"),
        ({"kl": float("nan")}, "kl must be 0 or more and finite, got nan"),
        ({"mix": float("inf")}, "mix must be"),
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 or more"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PolicyGradientOptions(**options)


@pytest.mark.parametrize("reward", [price, ExactMatch(), MacroF1()], ids=["labels", "rows", "set"])
def test_no_labels(reward: Any) -> None:
    """A reward of NaN where there is no label does not matter, and neither do huge or excluded logits."""
    logits = torch.full((2, 3, CLASSES), 1e4, requires_grad=True)
    labels = torch.full((2, 3), -100)
    assert not gradient(logits, labels, reward, items=1).any()
    labels[0, 0] = 1
    huge = torch.zeros(2, 3, CLASSES, dtype=torch.float16)
    huge[..., 0], huge[..., 2] = 1e4, -torch.inf
    huge.requires_grad_()
    assert gradient(huge, labels, reward).isfinite().all()


def test_excluded_classes_have_no_entropy() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    log_p = log_probabilities(logits, torch.tensor([0]))
    assert entropy(log_p).item() == pytest.approx(math.log(2))
    assert divergence(log_p, log_p.detach()).item() == 0
    (entropy(log_p) + divergence(log_p, log_p.detach())).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("exact", [0, 64])
def test_nan_rewards_of_ignored_labels(exact: int) -> None:
    logits, found = logits_of_four(), []
    for reward in (price, lambda p, y: price(p, y).masked_fill(y == -100, torch.nan)):
        torch.manual_seed(0)
        found.append(gradient(logits, LABELS, reward, exact_classes=exact))
    torch.testing.assert_close(*found)


def test_rows_without_the_column_of_labels(tmp_path: Path) -> None:
    data = [{"x": row["x"]} for row in rows(False)]
    with pytest.raises(InputError, match="needs rows with labels, got none"):
        trainer(tmp_path, price, PolicyGradientOptions(), data, Linear()).train()


# Texts.

PAD, CLS, SEP, WORDS = 0, 2, 3, 9
SPECIAL = SimpleNamespace(pad_token_id=PAD, cls_token_id=CLS, sep_token_id=SEP)
TEXTS = [
    {"input_ids": [CLS, 5, 6, SEP], "labels": [CLS, 7, 8, SEP]},
    {"input_ids": [CLS, 5, SEP], "labels": [CLS, 8, SEP]},
]


def writer() -> WoBertForCausalLM:
    torch.manual_seed(0)
    config = WoBertConfig(
        vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.3,
    )  # fmt: skip
    model = WoBertForCausalLM(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = SEP, PAD
    model.generation_config.suppress_tokens = [PAD, 1, CLS]
    return model


def causal() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_embd=16, n_layer=1, n_head=2, n_positions=16, resid_pdrop=0.0, embd_pdrop=0.0,
                   attn_pdrop=0.0, initializer_range=0.3, eos_token_id=SEP, bos_token_id=CLS, pad_token_id=PAD)
    )  # fmt: skip


def text_batch(kind: str) -> dict[str, torch.Tensor]:
    batch = UniLmCollator(SPECIAL)(TEXTS)
    return {name: value for name, value in batch.items() if kind == "unilm" or name != "token_type_ids"}


@pytest.mark.parametrize("kind", ["unilm", "causal"])
def test_texts_come_from_the_models_distribution(kind: str) -> None:
    """The frequency of each first token and the log probabilities of whole texts, recomputed row by row."""
    model = writer() if kind == "unilm" else causal()
    texts = sample_texts(model, text_batch(kind), samples=3000, max_new_tokens=3)
    assert texts is not None and model.training == writer().training
    assert texts.references[0].tolist() == [7, 8, SEP] and texts.references[3000].tolist() == [8, SEP, -100]
    types = {"token_type_ids": torch.zeros(1, 4, dtype=torch.long)} if kind == "unilm" else {}
    first = model(input_ids=torch.tensor([[CLS, 5, 6, SEP]]), **types).logits[0, -1]
    if kind == "unilm":
        first[[PAD, 1, CLS]] = -torch.inf
    p = first.softmax(-1)
    frequencies = torch.bincount(texts.predictions[:3000, 0], minlength=WORDS) / 3000
    assert ((frequencies - p).abs() <= 4 * (p * (1 - p) / 3000) ** 0.5).all()
    found = text_log_probabilities(model(**texts.inputs).logits, texts)
    for row in (0, 1, 3000, 3001):
        prompt = [CLS, 5, 6, SEP] if row < 3000 else [CLS, 5, SEP]
        written = [token for token in texts.predictions[row].tolist() if token != -100]
        assert SEP not in written[:-1]
        ids = torch.tensor([prompt + written])
        types = {"token_type_ids": torch.tensor([[0] * len(prompt) + [1] * len(written)])} if kind == "unilm" else {}
        logits = model(input_ids=ids, **types).logits[0, len(prompt) - 1 : -1]
        if kind == "unilm":
            logits[:, [PAD, 1, CLS]] = -torch.inf
        expected = logits.log_softmax(-1).gather(1, torch.tensor(written)[:, None]).sum()
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)


def text_trainer(folder: Path, model: Any, kind: str, reward: Any, **options: Any) -> PolicyGradientTrainer:
    collator = UniLmCollator(SPECIAL)

    def collate(features: Any) -> Any:
        batch = collator(features)
        return {name: value for name, value in batch.items() if kind == "unilm" or name != "token_type_ids"}

    made = trainer(folder, reward, PolicyGradientOptions(samples=16, max_new_tokens=3, **options), TEXTS * 4, model,
                   per_device_train_batch_size=4, max_steps=40, optim="adamw_torch", learning_rate=0.02)  # fmt: skip
    made.data_collator = collate
    return made


@pytest.mark.parametrize(
    ("kind", "options"), [("unilm", {}), ("unilm", {"kl": 0.01, "entropy": 0.01, "mix": 0.1}), ("causal", {})]
)
def test_a_writer_learns_a_reward(kind: str, options: dict[str, float], tmp_path: Path) -> None:
    """More of token 7: no label asks for it."""

    def sevens(predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (predictions == 7).float().sum(-1)

    model = writer() if kind == "unilm" else causal()

    def mean() -> float:
        torch.manual_seed(1)
        texts = sample_texts(model, text_batch(kind), samples=200, max_new_tokens=3)
        assert texts is not None
        return float(sevens(texts.predictions, texts.references).mean())

    before = mean()
    made = text_trainer(tmp_path, model, kind, sevens, **options)
    made.train()
    assert before < 1 and mean() > 2
    assert made.state.log_history[-1]["train_loss"] < 0 or options


def test_the_gradient_of_texts_is_that_of_the_expected_reward(tmp_path: Path) -> None:
    """One written token, so that the expectation with entropy and divergence can be enumerated."""
    model = writer()
    prices = torch.linspace(0, 1, WORDS) ** 2
    options = PolicyGradientOptions(samples=4000, max_new_tokens=1, kl=0.3, entropy=0.2, mix=0.1)
    made = trainer(tmp_path, lambda p, y: prices[p[:, 0]], options, TEXTS, model)
    assert made.start_model is not None
    made.start_model.cls.predictions.bias.data += torch.linspace(-1, 1, WORDS)
    batch = text_batch("unilm")
    torch.manual_seed(0)
    model.train()
    made.compute_loss(model, dict(batch)).backward()
    found = model.cls.predictions.bias.grad.clone()
    model.zero_grad()
    total: Any = 0
    for text in TEXTS:
        ids = torch.tensor([text["input_ids"]])
        raw, start = (
            each(input_ids=ids, token_type_ids=torch.zeros_like(ids)).logits[0, -1]
            for each in (model, made.start_model)
        )
        q, q0 = (each.index_fill(0, torch.tensor([PAD, 1, CLS]), -50.0).log_softmax(-1) for each in (raw, start))
        total = total - (q.exp() * (prices - 0.2 * q - 0.3 * (q - q0))).sum() / 2
    (total + 0.1 * model(**batch).loss).backward()
    wanted = model.cls.predictions.bias.grad
    assert float((found - wanted).norm() / wanted.norm()) < 0.1


def test_texts_without_labels_or_prompts(tmp_path: Path) -> None:
    model = writer()
    batch = text_batch("unilm")
    made = text_trainer(tmp_path, model, "unilm", ExactMatch(), mix=0.1)
    empty = {**batch, "labels": torch.full_like(batch["labels"], -100)}
    made.compute_loss(model.train(), dict(batch))  # samples of the batch before must not be used again
    loss = made.compute_loss(model.train(), empty)
    loss.backward()
    assert loss.item() == 0 and not any(p.grad.any() for p in model.parameters() if p.grad is not None)
    with pytest.raises(InputError, match="prompts need at least one token"):
        made.compute_loss(model, {**batch, "labels": batch["input_ids"]})


def test_evaluation_of_texts_is_the_ordinary_loss(tmp_path: Path) -> None:
    model, batch = writer().eval(), text_batch("unilm")
    made = text_trainer(tmp_path, model, "unilm", ExactMatch())
    torch.testing.assert_close(made.compute_loss(model, dict(batch)), model(**batch).loss)


@pytest.mark.parametrize(
    ("model", "reward", "options", "message"),
    [
        (writer, ExactMatch(), {}, "WoBertForCausalLM writes texts: give max_new_tokens"),
        (Linear, ExactMatch(), {"max_new_tokens": 3}, "for UniLM and causal language models, got Linear"),
        (writer, MacroF1(), {"max_new_tokens": 3}, "texts need a reward of each row, got one of a set"),
    ],
)
def test_kinds_of_models(model: Any, reward: Any, options: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        trainer(tmp_path, reward, PolicyGradientOptions(**options), TEXTS, model())


def test_the_code_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/metric_training.md, with a classifier made here instead of one that took hours."""
    text = (ROOT / "docs" / "metric_training.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text.split("## Policy gradient")[1].split("\n## ")[0], re.DOTALL)
    monkeypatch.chdir(tmp_path)
    labels = {"label2id": {"no": 0, "yes": 1}, "id2label": {0: "no", 1: "yes"}}
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    Path("vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "好", "坏"]), "utf-8")
    config = WoBertConfig(vocab_size=7, max_position_embeddings=16, **sizes, **labels)
    WoBertForSequenceClassification(config).save_pretrained("my-classifier")
    WoBertTokenizer("vocab.txt", model_max_length=16).save_pretrained("my-classifier")
    lines = [{"text": "好", "label": "yes"}, {"text": "坏", "label": "no"}] * 4
    Path("train.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    exec(code.replace('"on-macro-f1",', '"on-macro-f1", use_cpu=True, report_to="none",'), {})
    before, after = (
        WoBertForSequenceClassification.from_pretrained(folder).state_dict()["classifier.weight"]
        for folder in ("my-classifier", "on-macro-f1")
    )
    assert not torch.equal(before, after)
