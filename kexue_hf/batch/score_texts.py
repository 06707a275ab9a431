"""Log-probabilities of a column of texts."""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from kexue_hf.batch.text_batches import TextBatches, filled, row_chunks


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreTexts(TextBatches):
    """Add the columns `log_prob`, `perplexity`, `num_tokens` and `num_unknown`: `score_texts` of a column of texts.

    A null text, and a text without tokens, has log_prob 0, num_tokens 0 and the perplexity NaN.

    Args:
        model: a masked language model, best a T-TA: a folder that every worker can read, or a name on the Hub.
        column: the column of the texts.
        method: `one_pass` (T-TA only), `masking` (a pass for every token), or `auto`.
        include_specials: also score the special tokens around the text.
        max_length: tokens per window, special tokens included; None for the limit of model and tokenizer.
        prefix, device, dtype, batch_tokens, threads: as for `EmbedTexts`.

    Raises:
        InputError: an option is wrong; the model is only loaded, and checked, with the first batch.
    """

    column: str = "text"
    method: str = "auto"
    include_specials: bool = False
    max_length: int | None = None

    _loader: ClassVar[str] = "load_masked_lm"

    @property
    def columns(self) -> list[str]:
        return [self.column]

    def _results(self, columns: list[list[str | None]]) -> dict[str, np.ndarray]:
        from kexue_hf.pipelines.text_scoring import score_texts

        model, tokenizer = self._loaded()
        options = self._options("method", "include_specials", "max_length")
        rows = [
            (score.log_prob, math.nan if score.perplexity is None else score.perplexity, len(score.tokens),
             sum(score.unknown))
            for chunk in row_chunks(filled(columns[0]))
            for score in score_texts(model, tokenizer, chunk, **options)
        ]  # fmt: skip
        log_probs, perplexities, tokens, unknown = zip(*rows, strict=True) if rows else ([], [], [], [])
        return {
            "log_prob": np.array(log_probs, dtype=np.float64),
            "perplexity": np.array(perplexities, dtype=np.float64),
            "num_tokens": np.array(tokens, dtype=np.int64),
            "num_unknown": np.array(unknown, dtype=np.int64),
        }


__all__ = ["ScoreTexts"]
