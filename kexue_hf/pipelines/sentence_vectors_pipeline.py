"""The pipeline `sentence-vectors`: a vector for a text.

    embed = pipeline("sentence-vectors", model=folder)
    embed("今天天气不错")        # numpy, float32 [hidden]
    embed(texts, batch_size=32)  # a list of these

What a vector is, and what is defined for odd input, is said in `sentence_vectors`; the function sorts texts by length,
which a pipeline does within a batch only.
"""

from typing import Any

import numpy as np
from transformers import AutoModel, Pipeline

from .given_texts import listed_inputs
from .sentence_vectors import sentence_vectors


class SentenceVectorsPipeline(Pipeline):
    """Sentence vectors by any encoder.

    Options, of the pipeline or of a call: `normalize`, `max_length`, `layer`, `batch_tokens`: see `sentence_vectors`.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The vector of a text, or of any number of them.

        Args:
            inputs: a string; a list, tuple, Series or array (a list comes back); a generator or torch data set, e.g.
                `KeyDataset` (an iterator comes back).
        """
        inputs = listed_inputs(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = ("normalize", "max_length", "layer", "batch_tokens")
        for name in options:
            if name not in known:
                raise ValueError(f"sentence-vectors has no option {name!r}, only {', '.join(known)}")
        return {}, options, {}

    def preprocess(self, text: str) -> dict[str, Any]:
        # What could be iterated over (a dictionary, a list in a list) would be taken for texts further on.
        if not isinstance(text, str):
            raise ValueError(f"a text must be a string, got {type(text).__name__}")
        return {"text": text}

    def _forward(self, inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
        # A batch is a list: nothing in it is a tensor that the pipeline would pad.
        texts = inputs["text"]
        alone = isinstance(texts, str)
        vectors = sentence_vectors(self.model, self.tokenizer, [texts] if alone else texts, **options)
        return {"vector": vectors[0] if alone else vectors}

    def postprocess(self, outputs: dict[str, Any]) -> np.ndarray:
        # Of a batch, the pipeline hands over [1, hidden].
        vector: np.ndarray = np.asarray(outputs["vector"]).reshape(-1)
        return vector


# What registering sets. A copy from the Hub is never registered, and without this its `save_pretrained` would leave
# the pipeline's own files out.
SentenceVectorsPipeline._registered_impl = {
    "sentence-vectors": {"impl": SentenceVectorsPipeline, "pt": (AutoModel,), "type": "text"}
}

__all__ = ["SentenceVectorsPipeline"]
