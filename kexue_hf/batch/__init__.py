"""Batches of columns in, batches of columns out: scores, vectors, corrections and matches of large corpora.

    embed = EmbedTexts("wobert")
    dataset.map(embed, batched=True, batch_size=1024, num_proc=8)        # datasets
    ray_dataset.map_batches(embed, batch_size=1024)                      # Ray Data
    frame.mapInPandas(embed.map_pandas, "text string, vector array<float>")    # Spark

The names load on first use.
"""

import importlib
from typing import Any

_LOCATIONS = {
    "CorrectTexts": "correct_texts",
    "EmbedTexts": "embed_texts",
    "MatchTexts": "match_texts",
    "ScoreTexts": "score_texts",
}

__all__ = sorted(_LOCATIONS)


def __getattr__(name: str) -> Any:
    if name not in _LOCATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LOCATIONS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
