"""Embed a corpus of any size with Ray: a folder of parquet shards in, a folder of parquet shards with vectors out.

    pip install 'kexue-hf[ray]'
    python examples/embed_corpus_ray.py --model wobert --input corpus --output vectors --workers 2
    python examples/embed_corpus_ray.py ... --address auto    # on a running cluster

Every shard is one Ray task, which reads it batch by batch and writes OUTPUT/NAME under a temporary name, renamed when
it is complete. So a killed worker or machine costs at most its shard: Ray runs the task again elsewhere. The same
command continues an interrupted run: it skips the finished shards, and refuses those of another model or of other
options. The batches of a shard do not depend on the number of workers, and neither do the vectors. The memory of a
worker holds the model and one batch, whatever the size of a shard.

Why tasks and not Ray Data: its blocks have no fixed shards, so what an interrupted run has finished would need a
checkpoint with the ids of all rows in memory (`ray.data.checkpoint`, alpha). To embed inside a Ray Data pipeline, pass
the same object to it: `dataset.map_batches(EmbedTexts("wobert"), batch_size=1024)`.

On a cluster, all machines must see the folders MODEL, INPUT and OUTPUT under the same paths.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kexue_hf import EmbedTexts, InputError, KexueError
from kexue_hf.files.quiet_loading import first_line
from kexue_hf.files.whole_file import whole_binary_file

# Key of the fingerprint in a shard's metadata.
MADE_BY = b"kexue_hf.fingerprint"
# How often Ray runs a shard again whose worker died; an error of the data is not repeated.
RETRIES = 3
# Shards given to Ray at a time.
WAITING = 1000


def shards(folder: Path, output: Path) -> list[Path]:
    """Return the parquet files of a folder, sorted by name.

    Raises:
        InputError: there are none, or the output would replace them.
    """
    found = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    if not found:
        raise InputError(f"{folder}: no .parquet files here; expected a folder of shards")
    if output.resolve() == folder.resolve():
        raise InputError("--output must be another folder than --input")
    return found


def is_finished(source: Path, target: Path, fingerprint: str) -> bool:
    """Return whether a shard has its result.

    Raises:
        InputError: the result was made by another model or with other options, or of other rows.
    """
    if not target.exists():
        return False
    try:
        rows, found = pq.read_metadata(source).num_rows, pq.read_metadata(target)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source} or {target} cannot be read ({first_line(error)})") from None
    made_by = (found.metadata or {}).get(MADE_BY, b"").decode()
    if made_by != fingerprint or found.num_rows != rows:
        what = "of other rows" if made_by == fingerprint else "by another model or with other options"
        raise InputError(f"{target} was made {what}: name another --output, or remove it")
    return True


def embed_shard(embed: EmbedTexts, source: Path, target: Path, batch_size: int) -> int:
    """Write the columns of a shard with a column of vectors, batch by batch; return the number of rows.

    Raises:
        InputError: the shard cannot be read, or a cell is not a text; nothing is written.
    """
    (name,) = embed.columns
    try:
        with pq.ParquetFile(source) as file, whole_binary_file(target, overwrite=True) as output:
            if name not in file.schema_arrow.names:
                raise InputError(
                    f"has no column '{name}', only {', '.join(file.schema_arrow.names)}; add --text-column"
                )
            # Without rows too, so that an empty shard has the same columns.
            first = with_vectors(embed, pa.RecordBatch.from_pylist([], schema=file.schema_arrow))
            with pq.ParquetWriter(output, first.schema) as writer:
                for batch in file.iter_batches(batch_size):
                    writer.write_batch(with_vectors(embed, batch))
            return int(file.metadata.num_rows)
    except (pa.ArrowException, InputError, FileNotFoundError) as error:
        raise InputError(f"{source}: {first_line(error)}") from error


def with_vectors(embed: EmbedTexts, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with a column of vectors, float32 lists of fixed size; the other columns are not touched."""
    (name,) = embed.columns
    given = {name: batch[name].to_pylist()}
    added = {key: values for key, values in embed(given).items() if key != name}
    for key, vectors in added.items():
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        batch = batch.append_column(key, column)
    metadata = {**(batch.schema.metadata or {}), MADE_BY: embed.fingerprint.encode()}
    return batch.replace_schema_metadata(metadata)


def results(jobs: list[tuple[Path, Path]], embed: EmbedTexts, options: argparse.Namespace) -> Iterator[Any]:
    """Run the jobs on Ray; yield each finished job's source, and its number of rows or its error."""
    # Ray reports usage over the network otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError("ray is needed: pip install 'kexue-hf[ray]'") from error

    if options.address is None:
        # Shards and vectors do not pass through Ray's store.
        started = {"num_cpus": options.workers, "object_store_memory": 100 << 20, "include_dashboard": False}
    else:
        started = {"address": options.address}
    ray.init(**started, logging_level="error", log_to_driver=False)
    try:
        task = ray.remote(num_cpus=1, num_gpus=options.gpus_per_worker, max_retries=RETRIES)(embed_shard)
        held = ray.put(embed)
        waiting, running = iter(jobs), {}
        while True:
            for source, target in waiting:
                running[task.remote(held, source, target, options.batch_size)] = source
                if len(running) >= WAITING:
                    break
            if not running:
                return
            (done,), _ = ray.wait(list(running), num_returns=1)
            source = running.pop(done)
            try:
                yield source, ray.get(done)
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                yield source, InputError(f"{source}: its worker died {RETRIES + 1} times; is there enough memory?")
            except KexueError as error:
                # Ray adds the worker's traceback to the message; the cause is the error itself.
                yield source, getattr(error, "cause", error)
    finally:
        ray.shutdown()


def run(options: argparse.Namespace) -> int:
    """Embed the shards that are not finished; return the number of those that failed."""
    sources = shards(options.input, options.output)
    embed = EmbedTexts(
        options.model,
        column=options.text_column,
        normalize=options.normalize,
        max_length=options.max_length,
        device=options.device,
        dtype=options.dtype,
    )
    jobs = [(source.absolute(), options.output.absolute() / source.name) for source in sources]
    jobs = [job for job in jobs if not is_finished(*job, embed.fingerprint)]
    print(f"{len(sources)} shards, {len(sources) - len(jobs)} finished before", flush=True)
    if not jobs:
        return 0
    # A wrong model or option is one error here, and an error for each shard in the workers.
    dataclasses.replace(embed, device="cpu")({options.text_column: [""]})
    start, rows, failed = time.perf_counter(), 0, 0
    for number, (source, result) in enumerate(results(jobs, embed, options), 1):
        if isinstance(result, Exception):
            failed += 1
            print(f"embed_corpus_ray: error: {result}", file=sys.stderr, flush=True)
            continue
        rows += result
        seconds = time.perf_counter() - start
        print(f"{number}/{len(jobs)} {source.name}: {result:,} rows ({rows / seconds:,.0f} rows/s)", flush=True)
    return failed


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Embed a folder of parquet shards with Ray; run again to continue.", allow_abbrev=False
    )
    parser.add_argument("--model", required=True, help="folder or Hub name of an encoder")
    parser.add_argument("--input", type=Path, required=True, help="folder of .parquet shards")
    parser.add_argument("--output", type=Path, required=True, help="folder for the shards with vectors")
    parser.add_argument("--text-column", default="text", help="column of the texts (default: text)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="local workers (default: one a core)")
    parser.add_argument("--address", help="a running Ray cluster, instead of local workers; auto finds it")
    parser.add_argument("--gpus-per-worker", type=float, default=0, help="GPUs of a worker, such as 1 or 0.5")
    parser.add_argument("--batch-size", type=int, default=4096, help="rows in memory at a time (default: 4096)")
    parser.add_argument("--max-length", type=int, help="tokens per window (default: the model's limit)")
    parser.add_argument("--normalize", action="store_true", help="scale vectors to length 1")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16 or bfloat16")
    options = parser.parse_args(arguments)
    try:
        for name in ("workers", "batch_size"):
            if getattr(options, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
        failed = run(options)
        if failed:
            raise InputError(f"{failed} shards failed; the others are complete: correct these and run again")
    except KexueError as error:
        print(f"embed_corpus_ray: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nembed_corpus_ray: interrupted; run the same command to continue", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
