"""Check that results are finite. NaN and infinity sort unpredictably, compare as false, and are not valid JSON."""

import torch

_ADVICE = {
    torch.float16: "its largest number is 65,504: use dtype float32 or bfloat16",
    torch.bfloat16: "use dtype float32",
}


def check_finite(results: torch.Tensor, what: str, dtype: torch.dtype) -> None:
    """Raise ValueError if any result is NaN or infinite.

    Args:
        results: tensor of any shape.
        what: name of the results in the message.
        dtype: dtype in which the network computed them.
    """
    if not results.numel():
        return
    # isfinite() would allocate a mask of up to 64 million entries. aminmax propagates NaN to both ends.
    least, most = results.aminmax()
    if not (least.isfinite() and most.isfinite()):
        advice = _ADVICE.get(dtype, "the model's weights are damaged, or its training diverged: use another model")
        raise ValueError(f"{what} are not finite in {str(dtype).removeprefix('torch.')}: {advice}")


__all__ = ["check_finite"]
