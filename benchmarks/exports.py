"""Pass every model and head through `torch.onnx` and `torch.compile(fullgraph=True)`, for any batch and length.

    pip install onnx onnxscript onnxruntime
    python benchmarks/exports.py

The models are small and random. Each is exported with one batch and run with others of different shapes; the result is
the largest difference of onnxruntime and of the compiled graph from the model. Writes benchmarks/results/exports.json.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from measuring import machine, write_result
from torch.export import Dim

from tests.models.test_export import batch_of, changes_for
from tests.models.tiny_models import class_names, tiny_model

SHAPES = ((3, 7), (2, 12), (5, 4))


def largest_difference(name: str, model: Any, call: Callable[[dict[str, torch.Tensor]], list[torch.Tensor]]) -> float:
    """Return the largest difference between `call` and the model, over all outputs and `SHAPES`."""
    largest = 0.0
    for rows, length in SHAPES:
        batch = batch_of(name, rows, length)
        with torch.no_grad():
            expected = [tensor for tensor in model(**batch).values() if isinstance(tensor, torch.Tensor)]
            found = call(batch)
        for one, other in zip(found, expected, strict=True):
            largest = max(largest, float((one - other).abs().max()))
    return largest


def through_onnx(name: str, model: Any) -> float:
    import onnxruntime

    example = batch_of(name, *SHAPES[0])
    sizes = {0: Dim.DYNAMIC, (2 if "MultipleChoice" in name else 1): Dim.DYNAMIC}
    program = torch.onnx.export(
        model, (), kwargs=example, dynamo=True, dynamic_shapes=dict.fromkeys(example, sizes), verbose=False
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())

    def call(batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        return [torch.from_numpy(found) for found in session.run(None, {key: batch[key].numpy() for key in batch})]

    return largest_difference(name, model, call)


def through_compile(name: str, model: Any) -> float:
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    return largest_difference(
        name,
        model,
        lambda batch: [found for found in compiled(**batch).values() if isinstance(found, torch.Tensor)],
    )


WAYS = {"onnx": through_onnx, "compile": through_compile}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes", nargs="*", help="names of classes; all by default")
    chosen = parser.parse_args().classes
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows: dict[str, dict[str, Any]] = {}
    for name in chosen or class_names():
        rows[name] = {}
        for way, run in WAYS.items():
            start = time.perf_counter()
            try:
                difference = run(name, tiny_model(name, **changes_for(name)))
                found: dict[str, Any] = {"difference": float(f"{difference:.1e}")}
            except Exception as error:
                found = {"error": str(error).strip().splitlines()[0][:200]}
            rows[name][way] = {**found, "seconds": round(time.perf_counter() - start, 1)}
        print(name, rows[name], flush=True)
    if not chosen:
        packages = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
        print(write_result("exports", {"machine": machine(*packages), "classes": rows}))


if __name__ == "__main__":
    main()
