"""A callback that shows, while a model trains, whether its sentence vectors collapse."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from kexue_hf.errors import InputError
from kexue_hf.evaluation.collapse_picture import draw_collapse
from kexue_hf.evaluation.reliability_picture import check_picture
from kexue_hf.evaluation.vector_figures import alignment, vector_figures
from kexue_hf.pipelines.evaluation_mode import evaluating
from kexue_hf.pipelines.sentence_vectors import sentence_vectors
from kexue_hf.pipelines.text_windows import default_max_length

logger = logging.getLogger(__name__)

_DRAWING_INTERVAL = 30  # seconds
_BATCH = 64


class CollapseMonitor(TrainerCallback):
    """Log figures of the sentence vectors of some texts at intervals, draw them, and stop a collapsing run.

    The figures are those of [`vector_figures`], and `alignment`, the mean squared distance of each vector from that of
    a text that means the same. They go to the Trainer's loggers under `collapse_...`.

    It works with any trainer of transformers and any model that gives vectors: a SimSiamModel, for which the spread of
    its projections is measured too (`projection_spread`), an encoder with or without a head (its vectors are those of
    `sentence_vectors`), or a SentenceTransformer in its SentenceTransformerTrainer.

    Args:
        texts: texts of the kind that the model is for, a few hundred, all different.
        tokenizer: the model's tokenizer; by default the trainer's `processing_class`. A SentenceTransformer has its
            own.
        positives: texts that mean the same as `texts`, one for each; by default each text without a tenth of its
            characters.
        every: steps between two measurements; there is one before the first step and one after the last.
        encode: function of the model and a list of texts that returns their vectors [texts, size], for other models.
        picture: .png, .svg or .pdf to draw, at the end and at most every 30 seconds before; needs matplotlib.
        stop_below: stop the training when the spread or the effective rank falls below this fraction of its first
            value, such as 0.1.
        max_length: tokens per text. A SimSiamModel reads the beginning of longer ones, an encoder windows.

    Attributes:
        history: one dictionary per measurement: `step` and the figures.

    Raises:
        InputError: fewer than two texts, equal texts, another number of positives, or an option out of range.

    Example:
        >>> monitor = CollapseMonitor(texts, every=100, picture="collapse.svg").attach(trainer)
        >>> trainer.train()
        >>> monitor.history[-1]["spread"]
    """

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: Any = None,
        *,
        positives: Sequence[str] | None = None,
        every: int = 100,
        encode: Callable[[Any, list[str]], Any] | None = None,
        picture: str | Path | None = None,
        stop_below: float | None = None,
        max_length: int | None = None,
    ) -> None:
        if isinstance(texts, str):
            raise InputError(f"expected a list of texts, got the string {texts!r:.40}")
        self.texts = list(texts)
        if len(self.texts) < 2 or len(set(self.texts)) < len(self.texts):
            raise InputError(
                f"expected at least 2 texts, all different, got {len(self.texts)}, {len(set(self.texts))} of them "
                "different"
            )
        self.positives = [_shortened(text) for text in self.texts] if positives is None else list(positives)
        if len(self.positives) != len(self.texts):
            raise InputError(f"expected {len(self.texts)} positives, one for each text, got {len(self.positives)}")
        if every < 1:
            raise InputError(f"every must be at least 1, got {every}")
        if stop_below is not None and not 0 < stop_below < 1:
            raise InputError(f"stop_below must be between 0 and 1, got {stop_below}")
        if picture is not None:
            check_picture(picture)
        self.tokenizer, self.every, self.encode, self.picture = tokenizer, every, encode, picture
        self.stop_below, self.max_length = stop_below, max_length
        self.history: list[dict[str, float]] = []
        self._trainer: Any = None
        self._drawn = time.monotonic()

    def attach(self, trainer: Any) -> "CollapseMonitor":
        """Add the callback to the trainer; do not also pass it to the trainer's constructor. Return the callback.

        Raises:
            InputError: it is already attached, or there is no tokenizer.
        """
        if self._trainer is not None:
            raise InputError("this CollapseMonitor is already attached: create another one for another trainer")
        if self.tokenizer is None:
            self.tokenizer = getattr(trainer, "processing_class", None)
        if self.tokenizer is None and self.encode is None and not hasattr(trainer.model, "encode"):
            raise InputError("expected a tokenizer, from CollapseMonitor(texts, tokenizer) or the trainer; got none")
        self._trainer = trainer
        trainer.add_callback(self)
        return self

    def measure(self, model: Any) -> dict[str, float]:
        """Return the figures of a model now. The mode of each of its modules is restored."""
        vectors, others = (self._vectors(model, texts) for texts in (self.texts, self.positives))
        figures = {**vector_figures(vectors), "alignment": alignment(vectors, others)}
        if _is_simsiam(model) and self.encode is None:
            with torch.no_grad(), evaluating(model):
                given = torch.from_numpy(vectors).to(model.device, model.dtype)
                projections = model.projector(given).float().cpu().numpy()
            figures["projection_spread"] = vector_figures(projections)["spread"]
        return figures

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if self._trainer is None:
            raise InputError(
                "expected a callback attached with CollapseMonitor(...).attach(trainer), got one passed to the trainer"
            )
        # A resumed run keeps the measurements of the stopped one.
        self.history = [
            {
                "step": line["step"],
                **{
                    name.removeprefix("collapse_"): value
                    for name, value in line.items()
                    if name.startswith("collapse_")
                },
            }
            for line in state.log_history
            if "collapse_spread" in line
        ]
        self._record(state, control, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step % self.every == 0:
            self._record(state, control, model)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self._record(state, control, model)
        self._draw(state)

    def _draw(self, state: Any) -> None:
        self._drawn = time.monotonic()
        if self.picture is not None and state.is_world_process_zero:
            draw_collapse(self.history, self.picture)

    def _record(self, state: Any, control: Any, model: Any) -> None:
        if self.history and self.history[-1]["step"] == state.global_step:
            return
        figures = self.measure(model)
        self.history.append({"step": state.global_step, **figures})
        # Logging clears the flag with which this step's loss is logged next.
        loss_is_due = control.should_log
        self._trainer.log({f"collapse_{name}": value for name, value in figures.items()})
        control.should_log = loss_is_due
        if time.monotonic() - self._drawn > _DRAWING_INTERVAL:
            self._draw(state)
        fallen = self._fallen(figures)
        if fallen:
            control.should_training_stop = True
            name = fallen.replace("_", " ")
            logger.warning(
                f"training stopped at step {state.global_step}: the sentence vectors collapse to "
                f"{'one point' if fallen == 'spread' else 'few dimensions'}. Their {name} fell from "
                f"{self.history[0][fallen]:.3g} to {figures[fallen]:.3g}, below {self.stop_below:g} of its first "
                f"value. {_advice(model)}"
            )

    def _fallen(self, figures: dict[str, float]) -> str | None:
        """Return the name of a figure below its limit, the same in all processes."""
        if self.stop_below is None:
            return None
        first = self.history[0]
        names = [name for name in ("spread", "effective_rank") if figures[name] < self.stop_below * first[name]]
        decision = [names[0] if names else None]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Rounding may differ between processes, and one that stops alone would leave the others waiting.
            torch.distributed.broadcast_object_list(decision)
        return decision[0]

    def _vectors(self, model: Any, texts: list[str]) -> np.ndarray:
        with torch.no_grad(), evaluating(model):
            if self.encode is not None:
                found = self.encode(model, texts)
            elif hasattr(model, "encode"):
                found = model.encode(texts, show_progress_bar=False, convert_to_numpy=True)
            elif _is_simsiam(model):
                found = torch.cat([self._simsiam_vectors(model, texts[start : start + _BATCH])
                                   for start in range(0, len(texts), _BATCH)])  # fmt: skip
            else:
                found = sentence_vectors(model, self.tokenizer, texts, max_length=self.max_length)
        return np.asarray(found.float().cpu() if isinstance(found, torch.Tensor) else found, dtype=np.float64)

    def _simsiam_vectors(self, model: Any, texts: list[str]) -> torch.Tensor:
        limit = default_max_length(model, self.tokenizer) if self.max_length is None else self.max_length
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        vectors: torch.Tensor = model(**inputs).sentence_vectors
        return vectors


def _is_simsiam(model: Any) -> bool:
    return getattr(getattr(model, "config", None), "model_type", None) == "simsiam"


def _advice(model: Any) -> str:
    """Return what to change in the training of a collapsing model."""
    if not _is_simsiam(model):
        return "Lower the learning rate, or train with negatives"
    config = model.config
    advice = []
    if not config.predictor and config.negatives == "none":
        advice.append("set predictor=True")
    if not config.stop_gradient and config.negatives == "none":
        advice.append("set stop_gradient=True")
    if config.predictor:
        advice.append("give the predictor a higher learning rate (simsiam_optimizer)")
    if config.norm != "batch":
        advice.append("set norm='batch'")
    if config.negatives == "none":
        advice.append("set negatives='in_batch'")
    return f"One of these helps: {', '.join([*advice, 'lower the learning rate', 'use larger batches'])}"


def _shortened(text: str) -> str:
    """Return the text without a tenth of its characters, at least one if others remain; always the same ones."""
    random = Random(len(text))
    left_out = set(random.sample(range(len(text)), min(max(1, len(text) // 10), max(0, len(text) - 1))))
    return "".join(character for place, character in enumerate(text) if place not in left_out)


__all__ = ["CollapseMonitor"]
