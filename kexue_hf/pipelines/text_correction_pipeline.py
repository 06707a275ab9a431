"""The pipeline `text-correction`: spelling correction of Chinese.

    correct = pipeline("text-correction", model=folder)
    correct("遇到逆竟时，我们必须勇于面对。")
    # {"text": ..., "corrected": "遇到逆境时，...", "corrections": [{"start": 3, "end": 4, "original": "竟", ...}]}
    correct(texts, batch_size=32)  # a list of these

What is corrected how, and what is defined for odd input, is said in `text_correction`; `Corrector` sorts texts by
length, which a pipeline does within a batch only.
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
    """A text on its way through the pipeline: no string, which the pipeline would take for something to stack."""

    text: Any


class TextCorrectionPipeline(Pipeline):
    """Corrections by any masked language model with a fast tokenizer.

    Options, of the pipeline or of a call: those of `Corrector`.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Correct a text, or any number of them.

        Args:
            inputs: a string; a list, tuple, Series or array (a list comes back); a generator or torch data set, e.g.
                `KeyDataset` (an iterator comes back).
        """
        inputs = listed_inputs(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        for name in options:
            if name not in _OPTIONS:
                raise ValueError(f"text-correction has no option {name!r}, only {', '.join(_OPTIONS)}")
        return {}, options, {}

    def _corrector(self, options: dict[str, Any]) -> Corrector:
        # Its tables are worth keeping between batches; a call with other options gets another.
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


# What registering sets; a copy from the Hub, which is never registered, would else be saved without these files.
TextCorrectionPipeline._registered_impl = {
    "text-correction": {"impl": TextCorrectionPipeline, "pt": (AutoModelForMaskedLM,), "type": "text"}
}

__all__ = ["TextCorrectionPipeline"]
