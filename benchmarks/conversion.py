"""Convert a checkpoint of WoBERT's size: `kexue-hf convert` against TensorFlow and `cp`, in whole processes.

    python benchmarks/conversion.py --peer-python /path/to/python-with-tensorflow

The script writes a checkpoint of 112.5 million random parameters (450 MB) to a temporary folder and runs, in turn:

* kexue-hf convert, the whole process as a user starts it: reading, checking, writing, fsync
* TensorFlow: the shortest script that does the same job, in the interpreter given with --peer-python
* only the copying: the part of `convert` from the opened checkpoint to the synced safetensors file
* cp of the data file, and `import torch`, for scale

It compares every tensor of the results bit for bit and writes benchmarks/results/conversion.json.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measuring import BASE_SIZES, machine, summary, write_result

from kexue_hf.conversion.formats.safetensors import SafetensorsFile
from kexue_hf.conversion.formats.tensorflow import write_tensorflow
from kexue_hf.conversion.formats.weight_source import BY_NAME, CHUNK, Move, StoredTensor, WeightSource
from kexue_hf.conversion.weight_plan import expand
from kexue_hf.models.wobert import weight_map_wobert as weight_map

SIZES = {"vocab_size": 33586, **BASE_SIZES, "type_vocab_size": 2}
PARTS = ("encoder", "pooler", "nsp", "mlm")
WANTED = {"seconds": 1.2, "times faster than TensorFlow": 2.5, "copying against cp": 4.0, "peak RSS in MB": 200}

CONVERT = "from kexue_hf.cli.main import main; main()"
COPY = """
import sys, time
from kexue_hf.conversion.open_source import open_original
from kexue_hf.conversion.formats.safetensors import write_safetensors
with open_original(sys.argv[1]) as opened:
    started = time.perf_counter()
    write_safetensors(sys.argv[2], opened.weights, opened.plan.moves)
    print(time.perf_counter() - started)
"""
TENSORFLOW = """
import sys
import numpy, tensorflow as tf
from safetensors.numpy import save_file
reader = tf.train.load_checkpoint(sys.argv[1])
tensors = {}
for name in reader.get_variable_to_shape_map():
    value = reader.get_tensor(name)
    tensors[name] = numpy.ascontiguousarray(value.T) if name.endswith("/kernel") else value
save_file(tensors, sys.argv[2], metadata={"format": "pt"})
"""


class RandomWeights(WeightSource):
    """A weight source of random numbers, drawn as they are read."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        kind = BY_NAME["float32"]
        tensors = {name: StoredTensor(name, kind, shape, 4 * int(np.prod(shape))) for name, shape in shapes.items()}
        super().__init__("random", tensors)
        self._generator = np.random.default_rng(0)

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        rest = self.tensors[name].size // 4
        while rest:
            count = min(rest, CHUNK // 4)
            yield self._generator.standard_normal(count, dtype=np.float32)
            rest -= count


def make_checkpoint(folder: Path) -> int:
    """Write a checkpoint, its configuration and a matching vocabulary; return the number of parameters."""
    shapes = {}
    parameters = expand(weight_map.PARAMETERS, SIZES)
    for name, (target, transposed) in expand(weight_map.TENSORFLOW, SIZES).items():
        part, shape = parameters[target]
        if part in PARTS:
            sizes = tuple(SIZES[size] if isinstance(size, str) else size for size in shape)
            shapes[name] = sizes[::-1] if transposed else sizes
    source = RandomWeights(shapes)
    moves = [Move(name, name, False, shape, BY_NAME["float32"]) for name, shape in shapes.items()]
    write_tensorflow(folder / "bert_model.ckpt", source, moves)
    (folder / "bert_config.json").write_text(json.dumps(SIZES | {"hidden_act": "gelu"}), encoding="utf-8")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += [f"词{number}" for number in range(SIZES["vocab_size"] - len(tokens))]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return sum(int(np.prod(shape)) for shape in shapes.values())


def run(command: list[str]) -> tuple[float, float, str]:
    """Run a process; return its seconds, its peak resident memory in MB and its output."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode()
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... failed with {process.returncode}: {text}")
    return seconds, usage.ru_maxrss / 1024, text


def compare(checkpoint_values: Path, ours: Path) -> str:
    """Compare our file with the one that TensorFlow wrote, bit for bit; TensorFlow keeps its own names."""
    names = {old: new for old, (new, _) in expand(weight_map.TENSORFLOW, SIZES).items()}
    with SafetensorsFile(checkpoint_values) as theirs, SafetensorsFile(ours) as converted:
        unequal = [
            name
            for name in theirs.tensors
            if not np.array_equal(theirs.array(name).view("u4"), converted.array(names[name]).view("u4"))
        ]
        if len(theirs.tensors) != len(converted.tensors) or unequal:
            raise SystemExit(f"tensors differ from TensorFlow's: {unequal[:5]}")
        return f"{len(theirs.tensors)} of {len(theirs.tensors)} tensors equal TensorFlow's, bit for bit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="interpreter that has tensorflow and safetensors")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", help="where to work (default: the system's temporary folder); needs 2 GB")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as work:
        write_result("conversion", measure(Path(work), arguments.peer_python, arguments.repetitions))


def measure(work: Path, peer: str | None, repetitions: int) -> dict[str, Any]:
    """Run all contenders and return the content of the result file."""
    load_before = round(os.getloadavg()[0], 2)
    source = work / "source"
    source.mkdir()
    parameters = make_checkpoint(source)
    data, prefix = str(source / "bert_model.ckpt.data-00000-of-00001"), str(source / "bert_model.ckpt")
    python = sys.executable
    commands = {
        "kexue-hf convert": [python, "-c", CONVERT, "convert", str(source), str(work / "out-ours"), "--quiet"],
        "copying itself": [python, "-c", COPY, str(source), str(work / "out-copying")],
        "cp": ["cp", data, str(work / "out-cp")],
        "import torch": [python, "-c", "import torch"],
    }
    if peer:
        commands["TensorFlow"] = [peer, "-c", TENSORFLOW, prefix, str(work / "out-tensorflow")]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, list[float]] = {name: [] for name in commands}
    run(["cp", data, "/dev/null"])  # puts the checkpoint in the page cache for all contenders
    for repetition in range(repetitions + 1):  # the first round is a warm-up
        for name, command in commands.items():
            for old in work.glob("out-*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            os.sync()
            took, peak, text = run(command)
            if repetition:
                seconds[name].append(float(text) if name == "copying itself" else took)
                memory[name].append(peak)
    equal = "not compared: no --peer-python"
    if peer:
        for name in ("kexue-hf convert", "TensorFlow"):
            run([*commands[name], "--overwrite"] if name == "kexue-hf convert" else commands[name])
        equal = compare(work / "out-tensorflow", work / "out-ours" / "model.safetensors")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ours = median["kexue-hf convert"]
    ratios = {"copying against cp": round(median["copying itself"] / median["cp"], 2)}
    if peer:
        ratios["times faster than TensorFlow"] = round(median["TensorFlow"] / ours, 2)
    return {
        "what": "checkpoint to safetensors, whole processes; seconds, peak RSS in MB",
        "machine": machine("numpy", "crc32c", "safetensors", "torch") | {"peer": peer_versions(peer)},
        "other load": {"load average before": load_before, "load average after": round(os.getloadavg()[0], 2)},
        "checkpoint": {"parameters": parameters, "bytes": os.path.getsize(data), "page cache": "warm"},
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "about peak RSS": "no process shows less than this script's own, from which it is forked (about 45 MB)",
        "peak RSS in MB": {name: summary(values, 1) for name, values in memory.items()},
        "ratios": ratios,
        "wanted": WANTED,
        "bits": equal,
    }


def peer_versions(peer: str | None) -> str:
    if not peer:
        return "TensorFlow was not measured: no --peer-python was given"
    code = "import platform, tensorflow, safetensors, numpy\n"
    code += "modules = tensorflow, safetensors, numpy\n"
    code += "print(platform.python_version(), *(f'{m.__name__} {m.__version__}' for m in modules))"
    return "Python " + run([peer, "-c", code])[2].strip()


if __name__ == "__main__":
    main()
