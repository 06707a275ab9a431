"""How many tokens go through a model at once."""

from typing import Any

# A core gains nothing from more rows in a pass, and loses time to their padding; a GPU needs many.
_ON_A_CPU, _ELSEWHERE = 1024, 8192


def tokens_per_pass(model: Any, batch_tokens: int | None) -> int:
    """Return the maximum number of tokens per forward pass: `batch_tokens`, or 1,024 on a CPU and 8,192 elsewhere.

    Raises:
        ValueError: `batch_tokens` is below 1.
    """
    if batch_tokens is not None:
        if batch_tokens < 1:
            raise ValueError(f"batch_tokens must be at least 1, got {batch_tokens}")
        return batch_tokens
    device = next((parameter.device for parameter in model.parameters()), None)
    return _ON_A_CPU if device is None or device.type == "cpu" else _ELSEWHERE


__all__ = ["tokens_per_pass"]
