"""Results that are no numbers are an error: they sort anywhere, compare as false, and are no JSON."""

import torch

_ADVICE = {
    torch.float16: "its numbers end at 65,504: use dtype float32 or bfloat16",
    torch.bfloat16: "use dtype float32",
}


def check_finite(results: torch.Tensor, what: str, dtype: torch.dtype) -> None:
    """Raise ValueError if any of the results is NaN or infinite.

    Args:
        results: of any shape.
        what: they are called in the message.
        dtype: in which the network computed them.
    """
    if not results.numel():
        return
    # No mask of the size of all, which may be 64 million. Both ends are NaN if anything is.
    least, most = results.aminmax()
    if not (least.isfinite() and most.isfinite()):
        advice = _ADVICE.get(dtype, "the model's weights are damaged, or its training went astray")
        raise ValueError(f"{what} are not finite in {str(dtype).removeprefix('torch.')}: {advice}")


__all__ = ["check_finite"]
