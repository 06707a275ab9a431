"""Pass every model and head through `torch.onnx`, int8 and `torch.compile(fullgraph=True)`, for any batch and length.

    pip install onnx onnxscript onnxruntime
    python benchmarks/exports.py

The models are small and random. Each is exported with one batch and run with others of different shapes, one of them
of one row; the result is the largest difference from the model: of onnxruntime, of the same program with weights in
int8, of the graph that torch.compile finds, and, for classes without a head, of the machine code that it makes of it.
Writes benchmarks/results/exports.json.
"""

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from measuring import machine, read_result, write_result
from torch.export import Dim

from kexue_hf.files.quiet_loading import first_line
from tests.models.test_export import batch_of, changes_for
from tests.models.tiny_models import class_names, tiny_model

SHAPES = ((3, 7), (2, 12), (5, 4), (1, 9))


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


def onnx_program(name: str, model: Any) -> Any:
    """Return the model as an ONNX program for any number of rows and any length."""
    example = batch_of(name, *SHAPES[0])
    sizes = {0: Dim.DYNAMIC, (2 if "MultipleChoice" in name else 1): Dim.DYNAMIC}
    program = torch.onnx.export(
        model, (), kwargs=example, dynamo=True, dynamic_shapes=dict.fromkeys(example, sizes), verbose=False
    )
    return program.model_proto


def in_onnxruntime(name: str, model: Any, program: Any) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(program if isinstance(program, str) else program.SerializeToString())

    def call(batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        return [torch.from_numpy(found) for found in session.run(None, {key: batch[key].numpy() for key in batch})]

    return largest_difference(name, model, call)


def through_onnx(name: str, model: Any) -> float:
    return in_onnxruntime(name, model, onnx_program(name, model))


def through_int8(name: str, model: Any) -> float:
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        given, made = f"{folder}/model.onnx", f"{folder}/int8.onnx"
        onnx.save(onnx_program(name, model), given)
        # With scales by channel, onnxruntime makes a program of PerformerBert's three-dimensional features that it
        # refuses to run.
        quantize_dynamic(given, made, per_channel="Performer" not in name)
        if not any(node.op_type.endswith("Integer") for node in onnx.load(made).graph.node):
            raise RuntimeError("no layer became int8")
        return in_onnxruntime(name, model, made)


def through_compile(name: str, model: Any, backend: str = "aot_eager") -> float:
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    return largest_difference(
        name,
        model,
        lambda batch: [found for found in compiled(**batch).values() if isinstance(found, torch.Tensor)],
    )


def through_machine_code(name: str, model: Any) -> float:
    return through_compile(name, model, "inductor")


WAYS = {"onnx": through_onnx, "int8": through_int8, "compile": through_compile, "machine code": through_machine_code}


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, for each way, the number of classes that take it, the others, and the largest difference."""
    found: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        results = {name: row[way] for name, row in rows.items() if way in row}
        differences = [result["difference"] for result in results.values() if "difference" in result]
        refused = [name for name, result in results.items() if "error" in result]
        found[way] = {
            "classes": len(differences),
            "largest difference": max(differences, default=None),
            "not": ", ".join(refused) or "–",
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes", nargs="*", help="names of classes whose results are replaced; all by default")
    chosen = parser.parse_args().classes
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows: dict[str, dict[str, Any]] = read_result("exports")["classes"] if chosen else {}
    for name in chosen or class_names():
        rows[name] = {}
        for way, run in WAYS.items():
            if way == "machine code" and not name.endswith("Model"):
                continue
            start = time.perf_counter()
            try:
                difference = run(name, tiny_model(name, **changes_for(name)))
                found: dict[str, Any] = {"difference": float(f"{difference:.1e}")}
            except Exception as error:
                found = {"error": first_line(error)[:200]}
            rows[name][way] = {**found, "seconds": round(time.perf_counter() - start, 1)}
        print(name, rows[name], flush=True)
    packages = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
    print(write_result("exports", {"machine": machine(*packages), "ways": summary(rows), "classes": rows}))


if __name__ == "__main__":
    main()
