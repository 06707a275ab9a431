"""The figures of collapse, and the monitor in trainings of several kinds of models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments

from kexue_hf import CollapseMonitor, SimSiamModel, sentence_vectors
from kexue_hf.errors import InputError
from kexue_hf.evaluation.collapse_monitor import _advice
from kexue_hf.evaluation.collapse_picture import draw_collapse
from kexue_hf.evaluation.vector_figures import alignment, vector_figures
from tests.hub.hub_types import TOKENS, word_tokenizer

TEXTS = ["今天", "天气不错", "很好", "今天天气很好", "好天", "不错"]
TOKENIZER = word_tokenizer()


def test_random_directions_are_healthy() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 40))
    found = vector_figures(vectors)
    assert abs(found["spread"] - 1) < 0.02 and abs(found["mean_cosine"]) < 0.01
    assert 37 < found["effective_rank"] <= 40 and -4 < found["uniformity"] < -3.5
    assert vector_figures(7 * vectors) == pytest.approx(found)


def test_one_point_and_one_line_have_collapsed() -> None:
    point = vector_figures(np.ones((5, 4)))
    assert point == pytest.approx({"spread": 0, "effective_rank": 0, "mean_cosine": 1, "uniformity": 0}, abs=1e-6)
    line = vector_figures(np.array([[1.0, 0, 0], [-1, 0, 0], [1, 0, 0], [-1, 0, 0]]))
    assert line["effective_rank"] == pytest.approx(1) and line["spread"] == pytest.approx(3**0.5 / 3)


def test_alignment_is_the_squared_distance() -> None:
    first, second = np.array([[2.0, 0], [0, 1]]), np.array([[0.0, 3], [0, 1]])
    assert alignment(first, second) == pytest.approx((2 + 0) / 2)
    with pytest.raises(InputError, match="as many positives as vectors"):
        alignment(first, second[:1])


def test_broken_vectors_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2 vectors, got 1"):
        vector_figures(np.ones((1, 3)))
    with pytest.raises(InputError, match="the training has diverged"):
        vector_figures(np.array([[1.0, np.nan], [0, 1]]))


def bert(kind: type = BertForMaskedLM) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return kind(BertConfig(vocab_size=len(TOKENS), max_position_embeddings=32, **sizes))


def trainer_of(folder: Path, model: Any, steps: int = 4, rate: float = 1e-3) -> Trainer:
    rows = [{"input_ids": ids, "labels": ids} for ids in TOKENIZER(["今天天气"] * 8)["input_ids"]]
    arguments = TrainingArguments(
        str(folder), max_steps=steps, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        learning_rate=rate, logging_steps=1, per_device_train_batch_size=4,
    )  # fmt: skip
    return Trainer(model, arguments, train_dataset=rows, processing_class=TOKENIZER)


def test_figures_are_logged_at_intervals_and_drawn(tmp_path: Path) -> None:
    model = bert()
    trainer = trainer_of(tmp_path, model)
    monitor = CollapseMonitor(TEXTS, every=2, picture=tmp_path / "collapse.svg").attach(trainer)
    trainer.train()
    assert [line["step"] for line in monitor.history] == [0, 2, 4]
    logged = [line for line in trainer.state.log_history if "collapse_spread" in line]
    assert [line["step"] for line in logged] == [0, 2, 4]
    assert [line["step"] for line in trainer.state.log_history if "loss" in line] == [1, 2, 3, 4]
    assert logged[-1]["collapse_effective_rank"] == monitor.history[-1]["effective_rank"]
    assert set(monitor.history[0]) == {"step", "spread", "effective_rank", "mean_cosine", "uniformity", "alignment"}
    assert (tmp_path / "collapse.svg").stat().st_size > 1000
    assert monitor.measure(model) == pytest.approx({k: v for k, v in monitor.history[-1].items() if k != "step"})


def test_the_monitor_changes_nothing(tmp_path: Path) -> None:
    """Dropout is on, so other random numbers or modes would change the losses."""
    losses = []
    for monitored in (False, True):
        trainer = trainer_of(tmp_path, bert().train())
        if monitored:
            CollapseMonitor(TEXTS, every=1).attach(trainer)
        losses.append(trainer.train().training_loss)
    assert losses[0] == losses[1]


def test_a_collapsing_run_stops_and_says_why(tmp_path: Path, caplog: Any) -> None:
    class Shrinking(BertForMaskedLM):
        """Its states become equal: the embeddings shrink at each step."""

        def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **rest: Any) -> Any:
            if self.training:
                with torch.no_grad():
                    self.bert.encoder.layer[-1].output.LayerNorm.weight *= 0.1
                    self.bert.encoder.layer[-1].output.LayerNorm.bias += 1
            return super().forward(input_ids, attention_mask, labels=labels, **rest)

    trainer = trainer_of(tmp_path, bert(Shrinking), steps=50)
    monitor = CollapseMonitor(TEXTS, every=1, stop_below=0.2).attach(trainer)
    trainer.train()
    assert trainer.state.global_step < 10
    assert monitor.history[-1]["spread"] < 0.2 * monitor.history[0]["spread"]
    assert "the sentence vectors collapse to one point. Their spread fell from" in caplog.text
    assert "Lower the learning rate, or train with negatives" in caplog.text


def test_few_dimensions_stop_a_run_too(tmp_path: Path, caplog: Any) -> None:
    """All vectors come to lie on a line through 0, in both directions: their spread stays large."""

    def encode(model: Any, texts: list[str]) -> torch.Tensor:
        steps = trainer.state.global_step
        vectors = torch.randn(len(texts), 6, generator=torch.Generator().manual_seed(0))
        return vectors if steps < 2 else vectors[:, :1].sign() * torch.ones(6)

    trainer = trainer_of(tmp_path, bert(), steps=9)
    monitor = CollapseMonitor(TEXTS, every=1, stop_below=0.5, encode=encode).attach(trainer)
    trainer.train()
    assert trainer.state.global_step == 2 and monitor.history[-1]["spread"] > 0.5
    assert "collapse to few dimensions. Their effective rank fell from" in caplog.text


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"predictor": False}, "set predictor=True"),
        ({"stop_gradient": False}, "set stop_gradient=True"),
        ({"norm": "layer"}, "set norm='batch'"),
        ({}, "give the predictor a higher learning rate"),
    ],
)
def test_the_advice_fits_the_model(options: dict[str, Any], advice: str) -> None:
    model = SimSiamModel.from_encoder(bert().bert, tokenizer=TOKENIZER, **options)
    assert advice in _advice(model) and "negatives='in_batch'" in _advice(model)


def test_rounding_is_no_dimension() -> None:
    noise = 1e-7 * np.random.default_rng(0).standard_normal((300, 120))
    assert vector_figures(np.ones((300, 120)) + noise)["effective_rank"] == 0


def test_other_models_give_vectors_by_a_function_or_their_own_encode(tmp_path: Path) -> None:
    def lengths(model: Any, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[len(text), 1.0] for text in texts])

    trainer = trainer_of(tmp_path, bert())
    monitor = CollapseMonitor(TEXTS, encode=lengths).attach(trainer)
    wanted = vector_figures(np.array([[len(text), 1.0] for text in TEXTS]))
    assert {name: monitor.measure(trainer.model)[name] for name in wanted} == pytest.approx(wanted)

    from kexue_hf import build_sentence_transformer

    bert().bert.save_pretrained(tmp_path / "encoder")
    TOKENIZER.save_pretrained(tmp_path / "encoder")
    transformer = build_sentence_transformer(tmp_path / "encoder", device="cpu")
    found = CollapseMonitor(TEXTS).measure(transformer)
    plain = CollapseMonitor(TEXTS, TOKENIZER).measure(transformer[0].model)
    assert found == pytest.approx(plain, abs=1e-4)


def test_a_simsiam_model_is_measured_by_its_own_vectors() -> None:
    model = SimSiamModel.from_encoder(bert().bert, tokenizer=TOKENIZER, projection_size=4)
    found = CollapseMonitor(TEXTS, TOKENIZER).measure(model)
    projections = model.projector(torch.from_numpy(sentence_vectors(model, TOKENIZER, TEXTS))).detach().numpy()
    assert found.pop("projection_spread") == pytest.approx(vector_figures(projections)["spread"], abs=1e-4)
    assert found == pytest.approx(CollapseMonitor(TEXTS, TOKENIZER).measure(model.encoder), abs=1e-4)
    model.config.pooling = "cls"
    assert CollapseMonitor(TEXTS, TOKENIZER).measure(model)["spread"] != pytest.approx(found["spread"], abs=1e-3)


def test_several_runs_share_a_picture(tmp_path: Path) -> None:
    runs = {name: [{"step": 0, "spread": 1.0}, {"step": 9, "spread": end}] for name, end in (("a", 1.0), ("b", 0.0))}
    draw_collapse(runs, tmp_path / "runs.svg", ["spread"])
    first = (tmp_path / "runs.svg").read_bytes()
    draw_collapse(runs, tmp_path / "runs.svg", ["spread"])
    assert (tmp_path / "runs.svg").read_bytes() == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": "今天"}, "expected a list of texts, got the string"),
        ({"texts": ["a"]}, "at least 2 texts, all different, got 1"),
        ({"texts": ["a", "a"]}, "got 2, 1 of them different"),
        ({"positives": ["a"]}, "expected 6 positives"),
        ({"every": 0}, "every must be at least 1"),
        ({"stop_below": 1.5}, "stop_below must be between 0 and 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CollapseMonitor(**{"texts": TEXTS, **options})


def test_a_monitor_belongs_to_one_trainer(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, bert())
    monitor = CollapseMonitor(TEXTS).attach(trainer)
    with pytest.raises(InputError, match="already attached"):
        monitor.attach(trainer)
    passed = Trainer(bert(), trainer.args, train_dataset=trainer.train_dataset, callbacks=[CollapseMonitor(TEXTS)])
    with pytest.raises(InputError, match="attach"):
        passed.train()
    with pytest.raises(InputError, match="expected a tokenizer"):
        CollapseMonitor(TEXTS).attach(Trainer(bert(), trainer.args))
