"""The script for sentence vectors: equal losses however the work is divided, its results, and its errors."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from examples import train_sentence_vectors
from kexue_hf import SimSiamModel, sentence_vectors
from tests.examples.pretraining_runs import failure, losses
from tests.hub.hub_types import TOKENS, word_tokenizer
from tests.two_processes import two_processes

PLAIN = [
    "--use_cpu", "--report_to=none", "--disable_tqdm=True", "--logging_steps=1", "--learning_rate=1e-3", "--dropout=0",
    "--max_steps=4", "--save_steps=2", "--deletion=0.2",
    "--collapse_steps=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder, 24 texts in two columns, and scored pairs."""
    path = tmp_path_factory.mktemp("vectors")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(TOKENS), max_position_embeddings=32, **sizes)).save_pretrained(
        path / "encoder"
    )
    word_tokenizer().save_pretrained(path / "encoder")
    words = ["今天", "天气", "不错", "很好", "天", "好"]
    random = np.random.default_rng(0)
    rows = [{"one": "".join(random.choice(words, 4)), "two": "".join(random.choice(words, 3))} for _ in range(12)]
    pairs = [{"text1": row["one"], "text2": row["two"], "score": number % 5} for number, row in enumerate(rows)]
    for name, content in (("texts", rows), ("pairs", pairs)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in content), "utf-8")
    return path


def arguments(folder: Path, output: Path, *options: str) -> list[str]:
    return [
        f"--model={folder / 'encoder'}", f"--train_file={folder / 'texts.jsonl'}", "--text_column", "one", "two",
        f"--output_dir={output}", *PLAIN, *options,
    ]  # fmt: skip


def train(folder: Path, output: Path, *options: str) -> list[float]:
    train_sentence_vectors.main(arguments(folder, output, *options))
    return losses(output)


METHODS = {
    "byol": ["--method=byol", "--momentum=0.9", "--projection_size=12", "--predictor_hidden_size=6"],
    "simcse": ["--method=simcse"],
}


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, list[float]]:
    """The losses of each method in one process with batches of 8."""
    return {name: train(folder, folder / f"whole-{name}", "--batch_size=8", *METHODS[name]) for name in METHODS}


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(folder: Path, whole: dict[str, list[float]]) -> None:
    runs = [
        ("train_sentence_vectors", arguments(folder, folder / f"two-{name}", "--batch_size=4", *METHODS[name]))
        for name in METHODS
    ]
    with two_processes("tests.examples.one_of_two", json.dumps(runs)) as process:
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-3000:]
    for name in METHODS:
        np.testing.assert_allclose(losses(folder / f"two-{name}"), whole[name], rtol=2e-4, atol=2e-5, err_msg=name)
    # The moving averages are equal too.
    averages = [load_file(folder / f"{kind}-byol" / "model.safetensors") for kind in ("two", "whole")]
    assert averages[0].keys() == averages[1].keys() and any(key.startswith("target_") for key in averages[0])
    for key in averages[0]:
        # The gradient of a vector before a norm is zero but for rounding, which Adam enlarges.
        if averages[0][key].dim() < 2:
            continue
        torch.testing.assert_close(averages[0][key], averages[1][key], rtol=1e-3, atol=1e-4)


def test_a_resumed_run_has_the_losses_of_one_run(folder: Path, whole: dict[str, list[float]]) -> None:
    """BYOL has the most to resume: the moving average and its schedule."""
    output = folder / "resumed"
    shutil.copytree(folder / "whole-byol", output)
    (output / "checkpoint-4" / "progress.json").unlink()
    measured = (output / "collapse.json").read_text()
    found = train(folder, output, "--batch_size=8", *METHODS["byol"], "--resume")
    assert len(found) == 4 and found == pytest.approx(whole["byol"], rel=1e-5)
    assert [line["step"] for line in json.loads(measured)] == [0, 2, 4]
    assert json.loads((output / "collapse.json").read_text()) == [
        pytest.approx(line, rel=1e-4) for line in json.loads(measured)
    ]


@pytest.mark.slow
def test_accumulated_batches_train_like_one_without_batch_norm(folder: Path) -> None:
    outputs = [folder / f"accumulated-{parts}" for parts in (1, 2, 4)]
    found = [
        train(
            folder, output, f"--batch_size={8 // parts}", f"--gradient_accumulation_steps={parts}", "--norm=layer",
            *METHODS["byol"],
        )
        for output, parts in zip(outputs, (1, 2, 4), strict=True)
    ]  # fmt: skip
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-4, atol=1e-5)
    weights = [load_file(output / "model.safetensors") for output in outputs]
    for key in weights[0]:
        if weights[0][key].dim() < 2:
            continue
        torch.testing.assert_close(weights[2][key], weights[0][key], rtol=1e-3, atol=1e-4)


def test_the_results_are_an_ordinary_encoder_and_a_model_to_train_on(folder: Path) -> None:
    output = folder / "result"
    report = folder / "report.json"
    pairs = [f"--pairs_file={folder / 'pairs.jsonl'}", "--eval_strategy=steps", "--eval_steps=2"]
    pairs += ["--load_best_model_at_end=True", "--metric_for_best_model=spearman"]
    train(folder, output, "--batch_size=8", f"--report={report}", "--predictor_learning_rate=0.05", *pairs)
    figures = json.loads(report.read_text())
    assert {"spearman_before", "spearman", "spread_before", "spread", "steps"} <= figures.keys()
    encoder, tokenizer = (
        AutoModel.from_pretrained(output / "encoder"),
        AutoTokenizer.from_pretrained(output / "encoder"),
    )
    model = AutoModel.from_pretrained(output)
    assert type(encoder) is BertModel and type(model) is SimSiamModel
    texts = ["今天天气", "很好"]
    np.testing.assert_array_equal(
        sentence_vectors(encoder, tokenizer, texts), sentence_vectors(model, tokenizer, texts)
    )
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    own = model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).sentence_vectors
    np.testing.assert_allclose(own.detach().numpy(), sentence_vectors(encoder, tokenizer, texts), atol=1e-5)
    assert (output / "collapse.svg").exists()


def test_the_predictor_has_its_own_learning_rate(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: dict[str, tuple[float, float]] = {}
    kept = train_sentence_vectors.VectorsTrainer.training_step

    def spy(trainer: Any, *inputs: Any) -> Any:
        names = {id(weight): name for name, weight in trainer.model.named_parameters()}
        for group in trainer.optimizer.param_groups:
            rates.update({names[id(weight)]: (group["lr"], group["weight_decay"]) for weight in group["params"]})
        return kept(trainer, *inputs)

    monkeypatch.setattr(train_sentence_vectors.VectorsTrainer, "training_step", spy)
    options = ["--predictor_learning_rate=0.5", "--lr_scheduler_type=constant", "--weight_decay=0.1"]
    train(folder, tmp_path, "--batch_size=8", *options)
    trained = dict(SimSiamModel.from_pretrained(tmp_path).named_parameters())
    assert set(rates) == {name for name, weight in trained.items() if weight.requires_grad}
    for name, (rate, decay) in rates.items():
        assert rate == (0.5 if name.startswith("predictor.") else 0.001), name
        assert decay == (0.1 if trained[name].dim() > 1 else 0), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--momentum=0.9"], "--momentum belongs to --method byol, got --method simsiam"),
        (["--temperature=0.1"], "--temperature belongs to --method simcse"),
        (["--passage=0"], "--passage must be above 0"),
        (["--momentum=1.5", "--method=byol"], "--momentum must be from 0 to 1, got 1.5"),
        (["--batch_size=1"], "--batch_size must be at least 2"),
        (["--deletion=1"], "deletion must be from 0"),
        (["--eval_strategy=steps"], "add --pairs_file"),
        (["--method=simcse", "--predictor_learning_rate=1"], "expected a model with a predictor"),
        (["--stop_below=3"], "stop_below must be between 0 and 1"),
        (["--text_column=three"], "three"),
        (["--collapse_steps=0"], "--collapse_steps must be 1 or more"),
        (["--pairs_file=none.jsonl"], "none.jsonl"),
    ],
)
def test_wrong_options_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], message: str
) -> None:
    assert message in failure(capsys, arguments(folder, tmp_path, *options), script=train_sentence_vectors)


@pytest.mark.parametrize("score", ['"x"', '"nan"', "null"])
def test_a_wrong_score_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, score: str) -> None:
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("".join('{"text1": "a", "text2": "b", "score": ' + value + "}\n" for value in ("1", score)))
    options = arguments(folder, tmp_path / "out", f"--pairs_file={wrong}")
    assert f"{wrong}" in failure(capsys, options, script=train_sentence_vectors)
