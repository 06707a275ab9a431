"""Sentence vectors of a column of texts."""

import dataclasses
from typing import ClassVar

import numpy as np

from kexue_hf.batch.text_batches import TextBatches, filled, row_chunks


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedTexts(TextBatches):
    """Add the column `vector`, float32 [rows, hidden]: `sentence_vectors` of a column of texts.

    A null or empty text gets zeros.

    Args:
        model: an encoder: a folder that every worker can read, or a name on the Hub.
        column: the column of the texts.
        normalize: scale each vector to length 1; zeros stay zeros.
        max_length: tokens per window, special tokens included; longer texts are read in windows. None for the limit of
            model and tokenizer.
        layer: index into the model's hidden states, -1 for the last layer.
        prefix: text before the names of the new columns.
        device: a torch device; `auto` takes a CUDA GPU if there is one, else the CPU.
        dtype: `auto` (that of the file; on a CPU float32 for float16), float32, float16 or bfloat16.
        batch_tokens: maximum number of tokens per forward pass (but always at least one row); None for 1,024 on a CPU
            and 8,192 on a GPU.
        threads: number of torch's threads; None for 1 in a process of `num_proc`, else that of the engine. A forked
            process takes no more than 1.

    Raises:
        InputError: an option is wrong; the model is only loaded, and checked, with the first batch.
    """

    column: str = "text"
    normalize: bool = False
    max_length: int | None = None
    layer: int = -1

    _loader: ClassVar[str] = "load_encoder"

    @property
    def columns(self) -> list[str]:
        return [self.column]

    def _results(self, columns: list[list[str | None]]) -> dict[str, np.ndarray]:
        from kexue_hf.pipelines.sentence_vectors import sentence_vectors

        model, tokenizer = self._loaded()
        options = self._options("normalize", "max_length", "layer")
        empty = np.zeros((0, model.config.hidden_size), dtype=np.float32)
        parts = (sentence_vectors(model, tokenizer, chunk, **options) for chunk in row_chunks(filled(columns[0])))
        return {"vector": np.concatenate([empty, *parts])}


__all__ = ["EmbedTexts"]
