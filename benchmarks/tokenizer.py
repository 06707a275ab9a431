"""Tokenize real reviews on one core: ours against bert4keras, RoFormer's, BERT's and the segmenter alone.

    python benchmarks/tokenizer.py --peer-python /path/to/python-with-bert4keras

Every contender encodes the same texts through its public call, in turn, several times; medians are reported. The
figure is the CPU time of the process, which has one thread, so other users of the machine do not change it. The result
also has wall times. `ours` has already seen the texts; `ours, cold` is a new tokenizer that has only encoded one word,
so that its segmenter is loaded. The same run compares the ids. Writes benchmarks/results/tokenizer.json.

bert4keras needs its own environment (`pip install jieba six numpy`, then `pip install --no-deps bert4keras`; 0.10 or
later, which has `pre_tokenize`). If its backend cannot be imported (it needs an old TensorFlow), the worker replaces
`bert4keras.backend`, which the tokenizer never calls, with an empty module, and the result says so.
"""

import argparse
import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from measuring import interleave, machine, summary, write_result

SHARED = Path(os.environ.get("KEXUE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
WANTED = {
    "ids, MB/s": 7.0,
    "ids against bert4keras": 10.0,
    "with offsets, MB/s": 3.0,
    "with offsets against RoFormerTokenizer with offsets": 5.0,
}

# Reads commands from stdin: "run" encodes all texts and prints the seconds, "ids PATH" writes the ids.
PEER = """
import json, sys, time, types
how = "imported as installed"
try:
    from bert4keras.tokenizers import Tokenizer
except Exception as error:
    how = f"its backend does not import here ({type(error).__name__}: {error}); replaced by an empty module"
    for name in [name for name in sys.modules if name.startswith("bert4keras")]:
        del sys.modules[name]
    class Anything(types.ModuleType):
        def __getattr__(self, name):
            return type(name, (), {}) if name[:1].isupper() else Anything(name)
    sys.modules["bert4keras.backend"] = backend = types.ModuleType("bert4keras.backend")
    backend.K = backend.keras = backend.tf = Anything("anything")
    from bert4keras.tokenizers import Tokenizer
import jieba
from importlib.metadata import version
jieba.setLogLevel(60)
jieba.initialize()
vocabulary = {}
with open(sys.argv[1], encoding="utf-8") as file:
    for number, line in enumerate(file):
        vocabulary[line.rstrip("\\r\\n")] = number
texts = json.load(open(sys.argv[2], encoding="utf-8"))
tokenizer = Tokenizer(vocabulary, do_lower_case=True, pre_tokenize=lambda s: jieba.lcut(s, HMM=False))
print(json.dumps({"bert4keras": version("bert4keras"), "jieba": version("jieba"), "python": sys.version.split()[0],
                  "loaded": how}), flush=True)
ids = []
for line in sys.stdin:
    command, _, path = line.strip().partition(" ")
    if command == "run":
        wall, cpu = time.perf_counter(), time.process_time()
        ids = [tokenizer.encode(text)[0] for text in texts]
        print(time.process_time() - cpu, time.perf_counter() - wall, flush=True)
    else:
        json.dump(ids, open(path, "w"))
        print("done", flush=True)
"""


class Peer:
    """bert4keras in a separate interpreter."""

    def __init__(self, python: str, vocab: Path, texts: list[str], folder: Path) -> None:
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        (folder / "peer.py").write_text(PEER, encoding="utf-8")
        self._ids = folder / "ids.json"
        self._process = subprocess.Popen(
            [python, str(folder / "peer.py"), str(vocab.resolve()), str(folder / "texts.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
            env={**os.environ, "TF_KERAS": "1"},
        )
        self.about = json.loads(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("the interpreter given by --peer-python has no bert4keras >= 0.10, jieba, six and numpy")
        return answer

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def run(self) -> tuple[float, float]:
        cpu, wall = map(float, self._ask("run").split())
        return cpu, wall

    def ids(self) -> list[list[int]]:
        self._ask(f"ids {self._ids}")
        ids: list[list[int]] = json.loads(self._ids.read_text(encoding="utf-8"))
        return ids

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the CPU and wall seconds of a call, and free its result afterwards."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    elapsed = time.process_time() - cpu, time.perf_counter() - wall
    del result
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, default=SHARED / "data" / "sentiment" / "train.jsonl", help="JSON lines")
    parser.add_argument("--vocab", type=Path, default=SHARED / "golden" / "tokenizer" / "wobert_vocab.txt")
    parser.add_argument("--number", type=int, default=6000, help="number of texts")
    parser.add_argument("--field", default="text", help="field of the JSON objects with the text")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--peer-python", help="an interpreter with bert4keras, which is left out by default")
    arguments = parser.parse_args()

    with open(arguments.texts, encoding="utf-8") as file:
        texts = [json.loads(line)[arguments.field] for line in itertools.islice(file, arguments.number)]
    megabytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) / 1e6

    import rjieba
    import torch
    from transformers import BertTokenizer, RoFormerTokenizer

    from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer

    torch.set_num_threads(1)

    def ours() -> WoBertTokenizer:
        tokenizer = WoBertTokenizer(arguments.vocab)
        tokenizer("今天")
        return tokenizer

    def cold(**options: Any) -> tuple[float, float]:
        fresh = ours()
        return seconds(lambda: fresh(texts, **options))

    warm = ours()
    roformer = RoFormerTokenizer(vocab=warm.vocab)
    bert = BertTokenizer(vocab=warm.vocab)
    contenders: dict[str, Callable[[], tuple[float, float]]] = {
        "ours": lambda: seconds(lambda: warm(texts)),
        "ours, cold": cold,
        "ours, with offsets": lambda: seconds(lambda: warm(texts, return_offsets_mapping=True)),
        "ours, with offsets, cold": lambda: cold(return_offsets_mapping=True),
        "RoFormerTokenizer": lambda: seconds(lambda: roformer(texts)),
        "RoFormerTokenizer, with offsets": lambda: seconds(lambda: roformer(texts, return_offsets_mapping=True)),
        "BertTokenizer (characters, Rust)": lambda: seconds(lambda: bert(texts)),
        "rjieba.cut alone": lambda: seconds(lambda: [rjieba.cut(text, False) for text in texts]),
    }
    result: dict[str, Any] = {
        "machine": machine("transformers", "tokenizers", "rjieba", "jieba", "numpy"),
        "texts": {"number": len(texts), "megabytes": round(megabytes, 3)},
        "threads": "one: TOKENIZERS_PARALLELISM=false, RAYON_NUM_THREADS=1",
    }
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if arguments.peer_python:
            peer = Peer(arguments.peer_python, arguments.vocab, texts, Path(folder))
            contenders["bert4keras"] = peer.run
            result["bert4keras"] = peer.about
        else:
            result["bert4keras"] = "left out: no --peer-python"
        walls: dict[str, list[float]] = {name: [] for name in contenders}

        def cpu_of(name: str) -> Callable[[], float]:
            def run() -> float:
                cpu, wall = contenders[name]()
                walls[name].append(wall)
                return cpu

            return run

        measured = interleave({name: cpu_of(name) for name in contenders}, arguments.repetitions)
        found = warm(texts)["input_ids"]
        exact = {"RoFormerTokenizer": _same(found, roformer(texts)["input_ids"])}
        if peer is not None:
            exact["bert4keras"] = _same(found, peer.ids())
            peer.close()

    result["texts with the same ids as ours"] = exact
    result["CPU seconds"] = {name: summary(values) for name, values in measured.items()}
    result["wall seconds"] = {name: summary(values) for name, values in walls.items()}
    speed = {name: round(megabytes / result["CPU seconds"][name]["median"], 2) for name in measured}
    result["MB/s (median)"] = speed
    ratios = {
        "ids, MB/s": speed["ours"],
        "ids, cold, MB/s": speed["ours, cold"],
        "with offsets, MB/s": speed["ours, with offsets"],
        "with offsets, cold, MB/s": speed["ours, with offsets, cold"],
        "ids against RoFormerTokenizer": round(speed["ours"] / speed["RoFormerTokenizer"], 1),
        "with offsets against RoFormerTokenizer with offsets": round(
            speed["ours, with offsets"] / speed["RoFormerTokenizer, with offsets"], 1
        ),
        "ids against BertTokenizer": round(speed["ours"] / speed["BertTokenizer (characters, Rust)"], 1),
    }
    if peer is not None:
        ratios["ids against bert4keras"] = round(speed["ours"] / speed["bert4keras"], 1)
        ratios["ids, cold, against bert4keras"] = round(speed["ours, cold"] / speed["bert4keras"], 1)
    result["results"] = ratios
    result["wanted at least"] = WANTED
    print(
        json.dumps(
            {key: result[key] for key in ("MB/s (median)", "results", "texts with the same ids as ours")}, indent=2
        )
    )
    print(f"written to {write_result('tokenizer', result)}")


def _same(ours: list[list[int]], theirs: list[list[int]]) -> str:
    return f"{sum(a == b for a, b in zip(ours, theirs, strict=True))} of {len(ours)}"


if __name__ == "__main__":
    main()
