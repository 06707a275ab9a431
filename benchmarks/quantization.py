"""A classifier in float32, bfloat16 and int8, in PyTorch and onnxruntime: size, speed, and what it gets wrong.

    pip install onnx onnxscript onnxruntime
    python benchmarks/quantization.py

Quality is that of the demo's classifier (tiny WoBERT, four fields of papers) on its held-out texts. Size and speed are
those of a WoBERT of base size with random weights, on texts of --length tokens. int8 is onnxruntime's dynamic form:
weights are stored in 8 bits, and activations are quantized as they come, so no calibration data is needed. All ways of
one size take turns in one process with --threads threads. Writes results/quantization.json.
"""

import argparse
import contextlib
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from measuring import BASE_SIZES, interleave, json_lines, machine, summary, write_result
from torch.export import Dim

PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
Batch = dict[str, torch.Tensor]
Call = Callable[[Batch], torch.Tensor]


def ways_of(model: Any, example: Batch, folder: Path, threads: int) -> tuple[dict[str, Call], dict[str, int]]:
    """Return for each way a function from a batch to logits, and the bytes of its weights on disk."""
    from onnxruntime.quantization import quantize_dynamic

    whole, small = folder / "model.onnx", folder / "int8.onnx"
    sizes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    torch.onnx.export(
        model, (), kwargs=example, dynamo=True, dynamic_shapes=dict.fromkeys(example, sizes), verbose=False
    ).save(str(whole))
    quantize_dynamic(str(whole), str(small), per_channel=True)
    model.save_pretrained(folder / "float32")
    half = type(model).from_pretrained(folder / "float32", dtype=torch.bfloat16).eval()
    half.save_pretrained(folder / "bfloat16")
    calls: dict[str, Call] = {"PyTorch, float32": of_torch(model), "PyTorch, bfloat16": of_torch(half)}
    calls |= {"onnxruntime, float32": of_onnx(whole, threads), "onnxruntime, int8": of_onnx(small, threads)}
    stored = {
        "PyTorch, float32": (folder / "float32" / "model.safetensors").stat().st_size,
        "PyTorch, bfloat16": (folder / "bfloat16" / "model.safetensors").stat().st_size,
        # Large weights are in a file beside the graph.
        "onnxruntime, float32": sum(path.stat().st_size for path in folder.glob("model.onnx*")),
        "onnxruntime, int8": sum(path.stat().st_size for path in folder.glob("int8.onnx*")),
    }
    return calls, stored


def of_torch(model: Any) -> Call:
    def call(batch: Batch) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = model(**batch).logits.float()
        return logits

    return call


def of_onnx(path: Path, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options)
    return lambda batch: torch.from_numpy(session.run(None, {name: ids.numpy() for name, ids in batch.items()})[0])


def quality(folder: Path, threads: int) -> dict[str, Any]:
    """Return for each way the accuracy of the demo's classifier, and how far its probabilities are from float32's."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from kexue_hf.cli.demo import run_demo

    with contextlib.redirect_stdout(io.StringIO()):
        trained = run_demo(folder / "demo", quiet=True).classifier_folder
    model = AutoModelForSequenceClassification.from_pretrained(trained, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained)
    samples = json_lines(Path(str(resources.files("kexue_hf") / "assets" / "samples" / "held_out.jsonl")))
    labels = torch.tensor([model.config.label2id[sample["label"]] for sample in samples])
    texts = [sample["text"] for sample in samples]
    batches = [
        dict(tokenizer(texts[start : start + 32], padding=True, truncation=True, max_length=64, return_tensors="pt"))
        for start in range(0, len(texts), 32)
    ]
    calls, stored = ways_of(model, batches[0], folder, threads)
    found = {name: torch.cat([call(batch) for batch in batches]).softmax(-1) for name, call in calls.items()}
    exact = found["PyTorch, float32"]
    return {
        "texts": len(texts),
        "parameters": model.num_parameters(),
        "ways": {
            name: {
                "MB": round(stored[name] / 1e6, 1),
                "accuracy": round(float((probabilities.argmax(-1) == labels).float().mean()), 4),
                "changed predictions": int((probabilities.argmax(-1) != exact.argmax(-1)).sum()),
                "mean difference of probabilities": float(f"{float((probabilities - exact).abs().mean()):.1e}"),
            }
            for name, probabilities in found.items()
        },
    }


def speed(folder: Path, threads: int, rows: int, length: int, repetitions: int) -> dict[str, Any]:
    """Return for each way the size of a base model and the texts that it classifies in a second."""
    from kexue_hf import WoBertConfig, WoBertForSequenceClassification

    torch.manual_seed(0)
    model = WoBertForSequenceClassification(WoBertConfig(**BASE_SIZES, num_labels=4)).eval()
    ids = torch.randint(1000, 30000, (rows, length))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    calls, stored = ways_of(model, batch, folder, threads)

    def timed(call: Call) -> Callable[[], float]:
        call(batch)

        def run() -> float:
            start = time.perf_counter()
            call(batch)
            return time.perf_counter() - start

        return run

    seconds = interleave({name: timed(call) for name, call in calls.items()}, repetitions)
    rates = {name: summary([rows / each for each in values], 2) for name, values in seconds.items()}
    plain = rates["PyTorch, float32"]["median"]
    return {
        "parameters": model.num_parameters(),
        "rows": rows,
        "tokens a row": length,
        "ways": {
            name: {
                "MB": round(stored[name] / 1e6, 1),
                "texts a second": rates[name],
                "times PyTorch's float32": round(rates[name]["median"] / plain, 2),
            }
            for name in calls
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=128, help="tokens of each text")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(options.threads)
    parts = {}
    for name, part in (
        ("base", lambda folder: speed(folder, options.threads, options.rows, options.length, options.repetitions)),
        ("tiny", lambda folder: quality(folder, options.threads)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            parts[name] = part(Path(folder))
    print(write_result("quantization", {"machine": machine(*PACKAGES), "threads": options.threads, **parts}))
    for name, part in parts.items():
        for way, figures in part["ways"].items():
            print(name, way, figures)


if __name__ == "__main__":
    main()
