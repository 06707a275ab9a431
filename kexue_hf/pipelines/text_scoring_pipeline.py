"""The pipeline `text-scoring`: the log-probability of a text and of each of its tokens.

    score = pipeline("text-scoring", model=folder)
    score("今天天气不错")       # {"log_prob": ..., "mean": ..., "perplexity": ..., "num_tokens": ..., "tokens": [...]}
    score(texts, batch_size=32)  # a list of these

`text_scoring` defines the scores, also for unusual input. Its functions sort all texts by length; a pipeline sorts
only within a batch.
"""

from collections.abc import Sequence
from typing import Any

from transformers import AutoModelForMaskedLM, Pipeline

from .given_texts import listed_inputs
from .text_scoring import EncodedText, TextScore, encode_texts, score_encoded


class TextScoringPipeline(Pipeline):
    """Score texts and their tokens with any masked language model.

    Options, of the pipeline or of a call: `tokens` (whether the result lists the tokens), `method`,
    `include_specials`, `max_length`, `overlap`, `batch_tokens`; see `score_encoded`.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Score a text, or each of several texts.

        Args:
            inputs: a string; a list, tuple, Series or array (returns a list); a generator or torch dataset, such as
                `KeyDataset` (returns an iterator).
        """
        inputs = listed_inputs(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(
        self, tokens: bool | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = ("method", "include_specials", "max_length", "overlap", "batch_tokens")
        for name in options:
            if name not in known:
                raise ValueError(f"text-scoring takes the options tokens, {', '.join(known)}, got {name!r}")
        return {}, options, {} if tokens is None else {"tokens": tokens}

    def preprocess(self, text: str) -> dict[str, Any]:
        return {"encoded": encode_texts(self.tokenizer, [text])[0]}

    def _forward(self, inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
        # A batch is a list, because the pipeline pads only tensors.
        encoded: EncodedText | Sequence[EncodedText] = inputs["encoded"]
        if isinstance(encoded, EncodedText):
            return {"score": score_encoded(self.model, self.tokenizer, [encoded], **options)[0]}
        return {"score": score_encoded(self.model, self.tokenizer, encoded, **options)}

    def postprocess(self, outputs: dict[str, Any], tokens: bool = True) -> dict[str, Any]:
        score: TextScore = outputs["score"]
        return score.to_dict(tokens=tokens)


# Normally set by registration. A copy from the Hub is never registered; without this, its `save_pretrained` would omit
# the pipeline's files.
TextScoringPipeline._registered_impl = {
    "text-scoring": {"impl": TextScoringPipeline, "pt": (AutoModelForMaskedLM,), "type": "text"}
}

__all__ = ["TextScoringPipeline"]
