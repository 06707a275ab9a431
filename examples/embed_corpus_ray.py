"""Embed a corpus of any size with Ray: a folder of parquet shards in, a folder of parquet shards with vectors out.

    pip install 'kexue-hf[ray]'
    python examples/embed_corpus_ray.py --model wobert --input corpus --output vectors --workers 2
    python examples/embed_corpus_ray.py ... --address auto    # on a running cluster

Every shard is one Ray task, which reads it batch by batch and writes OUTPUT/NAME under a temporary name, renamed when
it is complete. So a killed worker or machine costs at most its shard: Ray runs the task again elsewhere. The same
command continues an interrupted run: it skips the finished shards, and refuses those of another model, of other
options or of another content of the input. The batches of a shard do not depend on the number of workers, and neither
do the vectors. A worker holds the model, a batch, and of each column of the shard a page and a buffer of 1 MB.

Why tasks and not Ray Data: its blocks have no fixed shards, so what an interrupted run has finished would need a
checkpoint with the ids of all rows in memory (`ray.data.checkpoint`, alpha). To embed inside a Ray Data pipeline, pass
the same object to it: `dataset.map_batches(EmbedTexts("wobert"), batch_size=1024)`.

On a cluster, all machines must see the folders MODEL, INPUT and OUTPUT under the same paths.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kexue_hf import EmbedTexts, InputError, KexueError, OutputError
from kexue_hf.batch.loaded_models import file_digest
from kexue_hf.files.quiet_loading import chosen_device, first_line
from kexue_hf.files.whole_file import whole_binary_file

# Keys in the metadata of a shard with vectors: fingerprint of the callable; size, time and digest of the input.
MADE_BY, MADE_OF = b"kexue_hf.fingerprint", b"kexue_hf.source"
# Without these, pyarrow reads all columns of a row group at once, and a shard may be one row group.
STREAMED = {"pre_buffer": False, "buffer_size": 1 << 20}
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
        InputError: the result was made by another model or with other options, or of another content.
    """
    if not target.exists():
        return False
    try:
        found = pq.read_metadata(target).metadata or {}
        made_by, made_of = found.get(MADE_BY, b"").decode(), json.loads(found.get(MADE_OF, b"{}"))
        if made_by == fingerprint and is_content(made_of, source):
            return True
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{source} or {target} cannot be read ({first_line(error)})") from None
    what = "of another content of the shard" if made_by == fingerprint else "by another model or with other options"
    raise InputError(f"{target} was made {what}: name another --output, or remove it")


def content_of(source: Path) -> dict[str, Any]:
    """Return what identifies the content of a file."""
    facts = source.stat()
    return {"bytes": facts.st_size, "ns": facts.st_mtime_ns, "digest": file_digest(source)}


def is_content(known: dict[str, Any], source: Path) -> bool:
    """Return whether a file has a known content. It is only read if its time differs, as that of a copy does."""
    facts = source.stat()
    if facts.st_size != known.get("bytes"):
        return False
    return facts.st_mtime_ns == known["ns"] or file_digest(source) == known["digest"]


def embed_shard(embed: EmbedTexts, source: Path, target: Path, batch_size: int) -> int:
    """Write the columns of a shard with a column of vectors, batch by batch; return the number of rows.

    Raises:
        InputError: the shard cannot be read, a cell is not a text, or a name is taken; nothing is written.
        OutputError: the target cannot be written.
    """
    try:
        made_by = {MADE_BY: embed.fingerprint.encode(), MADE_OF: json.dumps(content_of(source)).encode()}
        with pq.ParquetFile(source, **STREAMED) as file, whole_binary_file(target, overwrite=True) as output:
            check_columns(file.schema_arrow.names, *embed.columns)
            # Without rows too, so that an empty shard has the same columns.
            schema = with_vectors(embed, pa.RecordBatch.from_pylist([], schema=file.schema_arrow)).schema
            rows = 0
            with pq.ParquetWriter(output, schema.with_metadata({**(schema.metadata or {}), **made_by})) as writer:
                for batch in batches(file, batch_size):
                    try:
                        writer.write_batch(with_vectors(embed, batch))
                    except ValueError as error:
                        raise InputError(f"in the batch from row {rows:,}: {first_line(error)}") from error
                    rows += len(batch)
            return rows
    except OutputError:
        raise
    except (pa.ArrowException, InputError, OSError) as error:
        raise InputError(f"{source}: {first_line(error)}") from error


def batches(file: pq.ParquetFile, size: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file.

    Raises:
        InputError: they cannot be read; where a file is written meanwhile, an OSError would blame that one.
    """
    try:
        yield from file.iter_batches(size)
    except OSError as error:
        raise InputError(f"cannot be read ({first_line(error)})") from error


def check_columns(names: list[str], column: str) -> None:
    """Raise InputError unless one column has the name of the texts."""
    if (number := names.count(column)) != 1:
        found = f"has {number} columns '{column}'" if number else f"has no column '{column}', only {', '.join(names)}"
        raise InputError(f"{found}; name another one with --text-column")


def with_vectors(embed: EmbedTexts, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with a column of vectors, float32 lists of fixed size; the other columns are not touched.

    Raises:
        InputError: a cell is not a text, or the batch has a column with the name of the vectors.
    """
    (name,) = embed.columns
    given = {name: batch[name].to_pylist()}
    added = {key: values for key, values in embed(given).items() if key != name}
    for key, vectors in added.items():
        if key in batch.schema.names:
            raise InputError(f"already has a column '{key}': name the vectors otherwise with --prefix")
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        batch = batch.append_column(key, column)
    return batch


def results(jobs: list[tuple[Path, Path]], embed: EmbedTexts, options: argparse.Namespace) -> Iterator[Any]:
    """Run the jobs on Ray; yield each finished job's source, and its number of rows or its error."""
    # Ray reports usage over the network otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray counts workers that it kills for want of memory apart, and runs their shards again without end.
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))
    try:
        import ray
    except ImportError as error:
        raise InputError("ray is needed: pip install 'kexue-hf[ray]'") from error

    if options.address is None:
        # Without an address, Ray would join a cluster that it finds. Shards and vectors do not pass through its store.
        local = {"num_cpus": options.workers, "object_store_memory": 100 << 20, "include_dashboard": False}
        started = {"address": "local", **local}
    else:
        started = {"address": options.address}
    try:
        ray.init(**started, logging_level="error", log_to_driver=False)
    except Exception as error:
        raise InputError(f"Ray does not start: {first_line(error)}") from error
    try:
        check_gpus(options.gpus_per_worker, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        # By default, a worker with a GPU ends after one task, and the next one loads torch and the model again.
        task = ray.remote(num_cpus=1, num_gpus=options.gpus_per_worker, max_calls=0, max_retries=RETRIES)(embed_shard)
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
            except Exception as error:
                # Ray adds the worker's traceback to the message; the cause is the error itself.
                cause = getattr(error, "cause", None) or error
                yield source, cause if isinstance(cause, KexueError) else InputError(f"{source}: {first_line(cause)}")
    finally:
        ray.shutdown()


def check_gpus(needed: float, machines: list[dict[str, float]]) -> None:
    """Raise InputError if no machine has the GPUs of a worker, for which Ray would wait without end."""
    most = max((machine.get("GPU", 0.0) for machine in machines), default=0.0)
    if needed > most:
        raise InputError(f"--gpus-per-worker is {needed:g}, but no machine has more than {most:g} GPUs: give less")


def run(options: argparse.Namespace) -> int:
    """Embed the shards that are not finished; return the number of those that failed."""
    sources = shards(options.input, options.output)
    # Ray hides no GPU from workers that ask for none, and all would take the first one.
    device = "cpu" if options.device == "auto" and not options.gpus_per_worker else options.device
    chosen_device(device)
    embed = EmbedTexts(
        options.model,
        column=options.text_column,
        prefix=options.prefix,
        normalize=options.normalize,
        max_length=options.max_length,
        device=device,
        dtype=options.dtype,
    )
    jobs = [(source.absolute(), options.output.absolute() / source.name) for source in sources]
    jobs = [job for job in jobs if not is_finished(*job, embed.fingerprint)]
    print(f"{len(sources)} shards, {len(sources) - len(jobs)} finished before", flush=True)
    if not jobs:
        return 0
    # A wrong model or option is one error here, and an error for each shard in the workers. Only these see the device.
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
    parser.add_argument("--prefix", default="", help="text before the name of the new column, vector")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="local workers (default: one a core)")
    parser.add_argument("--address", help="a running Ray cluster, instead of local workers; auto finds it")
    parser.add_argument(
        "--gpus-per-worker", type=float, default=0, help="GPUs of a worker, such as 1 or 0.5 (default: 0)"
    )
    parser.add_argument("--batch-size", type=int, default=4096, help="rows in memory at a time (default: 4096)")
    parser.add_argument("--max-length", type=int, help="tokens per window (default: the model's limit)")
    parser.add_argument("--normalize", action="store_true", help="scale vectors to length 1")
    parser.add_argument("--device", default="auto", help="auto (cuda with --gpus-per-worker, else cpu), ...")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16 or bfloat16")
    options = parser.parse_args(arguments)
    try:
        for name in ("workers", "batch_size"):
            if getattr(options, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
        if not options.gpus_per_worker >= 0:
            raise InputError(f"--gpus-per-worker must be at least 0, got {options.gpus_per_worker}")
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
