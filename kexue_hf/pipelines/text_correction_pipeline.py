"""The pipeline `text-correction`: spelling correction of Chinese.

    correct = pipeline("text-correction", model=folder)
    correct("遇到逆竟时，我们必须勇于面对。")
    # {"text": ..., "corrected": "遇到逆境时，...", "corrections": [{"start": 3, "end": 4, "original": "竟", ...}]}
    correct(texts, batch_size=32)  # a list of these

`text_correction` defines the corrections, also for unusual input. `Corrector` sorts all texts by length; a pipeline
sorts only within a batch.
"""

import dataclasses
from typing import Any

from transformers import AutoModelForMaskedLM, Pipeline

from .given_texts import listed_inputs
from .text_correction import CorrectedText, Corrector

_OPTIONS = (
    "candidates",
    "threshold",
    "protect",
    "known_words",
    "rounds",
    "shown",
    "method",
    "max_length",
    "overlap",
    "batch_tokens",
)


@dataclasses.dataclass(frozen=True)
class _Text:
    """Wrap a text on its way through the pipeline, which would try to stack plain strings."""

    text: Any


class TextCorrectionPipeline(Pipeline):
    """Correct texts with any masked language model that has a fast tokenizer.

    Options, of the pipeline or of a call: those of `Corrector`.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Correct a text, or each of several texts.

        Args:
            inputs: a string; a list, tuple, Series or array (returns a list); a generator or torch dataset, such as
                `KeyDataset` (returns an iterator).
        """
        inputs = listed_inputs(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        for name in options:
            if name not in _OPTIONS:
                raise ValueError(f"text-correction takes the options {', '.join(_OPTIONS)}, got {name!r}")
        return {}, options, {}

    def _corrector(self, options: dict[str, Any]) -> Corrector:
        # Building its tables is expensive, so batches share it until the options change.
        kept = self.__dict__.get("_kept")
        if kept is None or kept[0] != options:
            kept = self._kept = (dict(options), Corrector(self.model, self.tokenizer, **options))
        corrector: Corrector = kept[1]
        return corrector

    def preprocess(self, text: str) -> dict[str, Any]:
        return {"given": _Text(text)}

    def _forward(self, inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
        given: _Text | list[_Text] = inputs["given"]
        corrector = self._corrector(options)
        if isinstance(given, _Text):
            return {"found": corrector.correct([given.text])[0]}
        return {"found": corrector.correct([one.text for one in given])}

    def postprocess(self, outputs: dict[str, Any]) -> dict[str, Any]:
        found: CorrectedText = outputs["found"]
        return found.to_dict()


# Normally set by registration. A copy from the Hub is never registered; without this, its `save_pretrained` would omit
# the pipeline's files.
TextCorrectionPipeline._registered_impl = {
    "text-correction": {"impl": TextCorrectionPipeline, "pt": (AutoModelForMaskedLM,), "type": "text"}
}

__all__ = ["TextCorrectionPipeline"]
