"""The pipeline `sentence-vectors`: one vector per text.

    embed = pipeline("sentence-vectors", model=folder)
    embed("今天天气不错")        # numpy, float32 [hidden]
    embed(texts, batch_size=32)  # a list of these

`sentence_vectors` defines the vector, also for unusual input. That function sorts all texts by length; a pipeline
sorts only within a batch.
"""

from typing import Any

import numpy as np
from transformers import AutoModel, Pipeline

from .given_texts import listed_inputs
from .sentence_vectors import sentence_vectors


class SentenceVectorsPipeline(Pipeline):
    """Compute sentence vectors with any encoder.

    Options, of the pipeline or of a call: `normalize`, `max_length`, `layer`, `batch_tokens`; see `sentence_vectors`.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the vector of a text, or of each of several texts.

        Args:
            inputs: a string; a list, tuple, Series or array (returns a list); a generator or torch dataset, such as
                `KeyDataset` (returns an iterator).
        """
        inputs = listed_inputs(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = ("normalize", "max_length", "layer", "batch_tokens")
        for name in options:
            if name not in known:
                raise ValueError(f"sentence-vectors takes the options {', '.join(known)}, got {name!r}")
        return {}, options, {}

    def preprocess(self, text: str) -> dict[str, Any]:
        # `sentence_vectors` would read a dictionary or a nested list as several texts.
        if not isinstance(text, str):
            raise ValueError(f"a text must be a string, got {type(text).__name__}")
        return {"text": text}

    def _forward(self, inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
        # A batch is a list, because the pipeline pads only tensors.
        texts = inputs["text"]
        alone = isinstance(texts, str)
        vectors = sentence_vectors(self.model, self.tokenizer, [texts] if alone else texts, **options)
        return {"vector": vectors[0] if alone else vectors}

    def postprocess(self, outputs: dict[str, Any]) -> np.ndarray:
        # Within a batch, the pipeline passes [1, hidden].
        vector: np.ndarray = np.asarray(outputs["vector"]).reshape(-1)
        return vector


# Normally set by registration. A copy from the Hub is never registered; without this, its `save_pretrained` would omit
# the pipeline's files.
SentenceVectorsPipeline._registered_impl = {
    "sentence-vectors": {"impl": SentenceVectorsPipeline, "pt": (AutoModel,), "type": "text"}
}

__all__ = ["SentenceVectorsPipeline"]
