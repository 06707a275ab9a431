"""Embed a large corpus: sentences per second and core, workers, a killed worker, and memory.

    python benchmarks/large_corpora.py                          # all parts; about 15 minutes on 2 idle cores
    python benchmarks/large_corpora.py --parts workers killed   # these parts; the other figures stay
    taskset -c 0 python benchmarks/large_corpora.py --parts speed memory --memory_rows 1000000

Parts:
    speed: sentences per CPU second of one thread, of the packaged tiny WoBERT and of a base-size WoBERT with random
        weights: EmbedTexts (batches of 1,024 sorted by length), the same function on 32 texts as they come, and
        sentence-transformers. CPU seconds, because they depend less on what else the machine does.
    workers: examples/embed_corpus_ray.py with 1 and 2 local workers; needs 2 idle cores. Rows per second after each
        worker's first shard, which contains its start.
    killed: the same with a worker killed by SIGKILL while it writes, and then with the whole run killed and continued.
    memory: resident memory of a process that embeds short rows by the example's function, with a one-layer model.
table_figures.py extrapolates the cost of a billion sentences from the speeds and the time until the first shard.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measuring import BASE_SIZES, ROOT, interleave, json_lines, machine, read_result, summary, write_result

from examples.embed_corpus_ray import embed_shard
from kexue_hf import (
    EmbedTexts,
    WoBertConfig,
    WoBertModel,
    build_sentence_transformer,
    convert,
    sentence_vectors,
)
from kexue_hf.batch.model_loading import load_encoder
from tests.examples.ray_workers import kill_worker

SAMPLES = ROOT / "kexue_hf" / "assets" / "samples"
SCRIPT = ROOT / "examples" / "embed_corpus_ray.py"
SORTED, AS_THEY_COME, PEER = "sorted by length", "32 as they come", "sentence-transformers"
BATCH = 32
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def sentences(number: int, longest: int = 128) -> list[str]:
    """Return passages of the packaged samples, of log-normal length: half of them below 20 characters."""
    generator = random.Random(0)
    whole = [row["text"] for row in json_lines(SAMPLES / "train.jsonl")]
    return [
        generator.choice(whole)[: min(longest, max(2, int(generator.lognormvariate(3.0, 0.8))))] for _ in range(number)
    ]


def save_model(folder: Path, tiny: Path, sizes: dict[str, int]) -> Path:
    """Save a WoBERT of random weights with the tokenizer of the packaged one."""
    _, tokenizer = load_encoder(str(tiny))
    torch.manual_seed(0)
    WoBertModel(WoBertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def cpu_seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def speed(folder: Path, texts: list[str], repetitions: int) -> dict[str, Any]:
    """Return sentences per CPU second of each way."""
    embed = EmbedTexts(folder, threads=1, device="cpu")
    peer = build_sentence_transformer(folder, device="cpu")
    model, tokenizer = load_encoder(str(folder), "cpu")

    def as_they_come() -> None:
        for start in range(0, len(texts), BATCH):
            sentence_vectors(model, tokenizer, texts[start : start + BATCH])

    def in_batches() -> None:
        for start in range(0, len(texts), 1024):
            embed({"text": texts[start : start + 1024]})

    ways = {
        SORTED: in_batches,
        AS_THEY_COME: as_they_come,
        PEER: lambda: peer.encode(texts, batch_size=BATCH, show_progress_bar=False),
    }
    for way in ways.values():
        way()
    seconds = interleave({name: lambda way=way: cpu_seconds(way) for name, way in ways.items()}, repetitions)
    rates = {name: summary([len(texts) / each for each in found], 1) for name, found in seconds.items()}
    gains = {name: round(rates[SORTED]["median"] / rates[name]["median"], 2) for name in (AS_THEY_COME, PEER)}
    return {"sentences": len(texts), **rates, "times faster than": gains}


def write_shards(folder: Path, shards: int, rows: int, texts: list[str]) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"shard-{number:04}.parquet" for number in range(shards)]
    for number, path in enumerate(paths):
        ids = range(number * rows, (number + 1) * rows)
        pq.write_table(pa.table({"id": [*ids], "text": [texts[row % len(texts)] for row in ids]}), path)
    return paths


def start(model: Path, corpus: Path, output: Path, workers: int) -> "subprocess.Popen[str]":
    command = [sys.executable, SCRIPT, "--model", model, "--input", corpus, "--output", output, "--workers", workers]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def finished(run: "subprocess.Popen[str]", after_first: Callable[[], None] | None = None) -> list[float]:
    """Return the times at which shards were finished.

    Args:
        after_first: called when the first shard is finished.
    """
    assert run.stdout is not None
    times = []
    for line in run.stdout:
        if " rows (" in line:
            times.append(time.perf_counter())
            if after_first is not None and len(times) == 1:
                after_first()
    run.wait()
    return times


def difference(alone: Path, output: Path) -> float:
    """Return the largest difference from the vectors of one process; infinite if rows are missing or double."""
    largest = 0.0
    for path in sorted(alone.glob("*.parquet")):
        first, second = (pq.read_table(folder / path.name) for folder in (alone, output))
        if first.drop_columns("vector") != second.drop_columns("vector"):
            return float("inf")
        one, other = (np.stack(table["vector"].to_numpy()) for table in (first, second))
        largest = max(largest, float(np.abs(one - other).max()))
    return largest


def workers(model: Path, corpus: Path, place: Path, rows: int) -> dict[str, Any]:
    """Return rows per second with 1 and 2 workers, after each worker's first shard."""
    cores = len(os.sched_getaffinity(0))
    found: dict[str, Any] = {"cores available": cores}
    for number in (1, 2):
        output, begin = place / f"with {number}", time.perf_counter()
        times = finished(start(model, corpus, output, number))
        found[str(number)] = {"largest difference from one process": difference(place / "alone", output)}
        # With fewer cores, more workers would only take more of them from other processes.
        if cores > 1:
            rate = rows * (len(times) - number) / (times[-1] - times[number - 1])
            found[str(number)]["rows per second"] = round(rate, 1)
            found[str(number)]["seconds until the first shard"] = round(times[0] - begin, 1)
    if cores > 1:
        found["speed-up"] = round(found["2"]["rows per second"] / found["1"]["rows per second"], 2)
    return found


def killed(model: Path, corpus: Path, place: Path) -> dict[str, Any]:
    """Return what is left after a worker, and after the whole run, is killed."""
    output = place / "killed worker"
    run = start(model, corpus, output, 2)
    hit: list[bool] = []
    whole: list[int] = []

    def kill() -> None:
        hit.append(kill_worker(run, output))
        whole.append(len(list(output.glob("*.parquet"))))

    times = finished(run, kill)
    found = {
        "worker": {
            "killed": sum(hit), "shards finished before": whole[0], "shards after": len(times) - whole[0],
            "exit code": run.returncode,
            "largest difference from one process": difference(place / "alone", output),
        }
    }  # fmt: skip
    output = place / "killed run"
    run = start(model, corpus, output, 2)
    before = finished(run, run.kill)
    kept = {path: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    run = start(model, corpus, output, 2)
    times = finished(run)
    found["run"] = {
        # Workers finish the shards that they are at after their run was killed.
        "shards finished before": len(list(corpus.glob("*.parquet"))) - len(times), "finished when killed": len(kept),
        "reported when killed": len(before), "shards after": len(times),
        "kept as they were": all(path.stat().st_mtime_ns == then for path, then in kept.items()),
        "left over": len(list(output.glob(".*"))), "exit code": run.returncode,
        "largest difference from one process": difference(place / "alone", output),
    }  # fmt: skip
    return found


def memory(model: Path, place: Path, rows: int) -> dict[str, Any]:
    """Return the resident memory in MB after each shard of 50,000 short rows."""
    per_shard = min(rows, 50_000)
    texts = [text[:24] for text in sentences(per_shard)]
    embed, process = EmbedTexts(model, threads=1, device="cpu"), psutil.Process()
    (source,) = write_shards(place / "short", 1, per_shard, texts)
    used, begin = [], time.process_time()
    for _ in range(rows // per_shard):
        embed_shard(embed, source, place / "vectors.parquet", 4096)
        used.append(round(process.memory_info().rss / 2**20, 1))
        print(f"{len(used) * per_shard:,} rows: {used[-1]} MB", flush=True)
    return {
        "rows": len(used) * per_shard,
        "rows per CPU second": round(len(used) * per_shard / (time.process_time() - begin), 1),
        "MB after each 50,000 rows": used,
        "MB after the first": used[0],
        "most MB": max(used),
    }


PARTS = ("speed", "workers", "killed", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--texts", type=int, default=4096, help="sentences of the tiny model's speed")
    parser.add_argument("--base_texts", type=int, default=512, help="sentences of the base-size model's speed")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--shards", type=int, default=12, help="shards of workers and killed")
    parser.add_argument("--shard_rows", type=int, default=10_000)
    parser.add_argument("--memory_rows", type=int, default=1_000_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    versions = machine("torch", "transformers", "ray", "datasets", "pyarrow", "sentence-transformers")

    def keep(**figures: Any) -> None:
        """Write the figures of a part at once; those of other parts stay."""
        write_result("large_corpora", {**read_result("large_corpora"), "machine": versions, **figures})

    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        tiny = place / "tiny"
        convert(ROOT / "kexue_hf" / "assets" / "wobert_tiny", tiny, dtype="float32")
        if "memory" in options.parts:
            small = save_model(place / "small", tiny, {**SMALL, "max_position_embeddings": 64})
            keep(memory=memory(small, place, options.memory_rows))
        if "speed" in options.parts:
            base = save_model(place / "base", tiny, BASE_SIZES)
            speeds = {
                "tiny": speed(tiny, sentences(options.texts), options.repetitions),
                "base": speed(base, sentences(options.base_texts), options.repetitions),
            }
            keep(speed=speeds)
        if {"workers", "killed"} & {*options.parts}:
            sources = write_shards(place / "corpus", options.shards, options.shard_rows, sentences(options.shard_rows))
            embed = EmbedTexts(tiny, device="cpu")
            for source in sources:
                embed_shard(embed, source, place / "alone" / source.name, 4096)
            corpus = {"shards": options.shards, "rows of a shard": options.shard_rows}
        if "workers" in options.parts:
            keep(workers={"corpus": corpus, **workers(tiny, place / "corpus", place, options.shard_rows)})
        if "killed" in options.parts:
            keep(killed={"corpus": corpus, **killed(tiny, place / "corpus", place)})


if __name__ == "__main__":
    main()
