"""Run the commands on damaged files. Each must succeed, or fail with one line and exit code 2.

It must also finish within 30 s and 3 GiB of memory, and a failure must leave no files behind.

    python .ci/fuzz_files.py                           # 3,000 files of all kinds
    python .ci/fuzz_files.py --cases 50 --kinds index,h5
    python .ci/fuzz_files.py --only 1234 --keep FOLDER # repeat one case and keep its files

Every case runs in a fork of one process that has done the imports. A case depends only on --seed and its number. The
script prints the failures and a summary, and exits with code 1 if any case failed.
"""

import argparse
import atexit
import contextlib
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
GOLDEN = ROOT / "tests" / "golden"
MEMORY = 3 << 30
SECONDS = 30
INDEX, DATA = "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
BYTES = (0, 1, 0x0A, 0x22, 0x5C, 0x7B, 0x7F, 0x80, 0xFF)
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "x", "\ud800",
    "\0", "\x1b]0;t\x07", "长" * 20_000, [], [[]], {}, {"": 0}, [5], ["\ud800"], "../x", "/dev/zero",
)  # fmt: skip


def damage_bytes(data: bytes, rng: random.Random, places: list[tuple[int, int]] | None = None) -> bytes:
    """Make one to six random changes: flip bits, replace bytes, overwrite, move, remove or repeat ranges, truncate.

    Args:
        places: ranges [start, end) to which the changes are restricted.
    """
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if not out:
            break
        start, end = rng.choice(places) if places else (0, len(out))
        at = min(rng.randrange(start, max(start + 1, end)), len(out) - 1)
        size = min(rng.choice([1, 1, 2, 4, 8, 48, 500]), len(out) - at)
        kind = rng.randrange(6 if places else 9)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice(BYTES)
        elif kind == 2:
            out[at : at + size] = rng.randbytes(size)
        elif kind == 3:
            out[at : at + size] = bytes([rng.choice(BYTES)]) * size
        elif kind in (4, 5):
            other = rng.randrange(len(out))
            out[at : at + size] = out[other : other + size].ljust(size, b"\0")
        elif kind == 6:
            del out[at : at + size]
        elif kind == 7:
            out[at:at] = out[at : at + size] * rng.choice([1, 1, 50])
        else:
            del out[at:]
    return bytes(out)


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in ((*path, key), *nodes(item, (*path, key)))]


def damage_json_values(data: bytes, rng: random.Random) -> bytes:
    """Replace, remove or repeat values of a JSON file, or rename keys; sometimes replace the whole file."""
    if rng.random() < 0.05:
        return rng.choice([b"[" * 100_000, b'{"a":' * 100_000, b"", b"null", b"5", b"[]", b'"x"', b"\xef\xbb\xbf{}"])
    value = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        paths = nodes(value)
        if not paths:
            break
        *parents, last = rng.choice(paths)
        parent = value
        for key in parents:
            parent = parent[key]
        kind = rng.randrange(4)
        if kind == 0 or isinstance(parent, list):
            parent[last] = rng.choice(VALUES)
        elif kind == 1:
            del parent[last]
        elif kind == 2:
            parent[str(rng.choice(VALUES))] = parent.pop(last)
        else:
            parent[last] = [parent[last]] * rng.choice([1, 2, 1000])
    return json.dumps(value).encode()


def damage_json(data: bytes, rng: random.Random) -> bytes:
    return damage_json_values(data, rng) if rng.random() < 0.7 else damage_bytes(data, rng)


def damage_text(data: bytes, rng: random.Random) -> bytes:
    """Remove or repeat lines, replace them by unusual ones, or damage random bytes."""
    if rng.random() < 0.3:
        return damage_bytes(data, rng)
    lines = data.split(b"\n")
    unusual = (
        b"", b"\xef\xbb\xbf", b"\0", b"\r", "\u2028".encode(), "\u3000".encode(), b"\xff", b"##", b" " * 100_000,
        b"x" * 1_000_000, "词".encode() * 9999, b"\x1b[2J", "词 5 n".encode(),
        "\ud800".encode("utf-8", "surrogatepass"), "词".encode() + b" " * 50_000 + b"x!",
    )  # fmt: skip
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(lines))
        kind = rng.randrange(4)
        if kind == 0:
            lines[at : at + rng.choice([1, 1, 100])] = []
        elif kind == 1:
            lines[at:at] = lines[at : at + 1] * rng.choice([1, 1, 10_000])
        else:
            lines[at : at + (kind == 2)] = [rng.choice(unusual)]
        lines = lines or [b""]
    return b"\n".join(lines)


def damage_index(data: bytes, rng: random.Random) -> bytes:
    """Damage a checkpoint index and usually update its checksums, so that the damage reaches the parsers."""
    if rng.random() < 0.3:
        return damage_bytes(data, rng)
    from kexue_hf.conversion.formats.tensorflow_index import masked_crc, read_varint

    out, end = bytearray(data), len(data) - 48
    footer = data[end:]
    places, at = [], 0
    for _ in range(2):
        offset, at = read_varint(footer, at)
        size, at = read_varint(footer, at)
        places.append((offset, size))
    places.append((0, places[0][0] - 5))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(end)
        size = min(rng.choice([1, 1, 2, 8]), end - at)
        out[at : at + size] = rng.choice([rng.randbytes(size), bytes([rng.choice(BYTES)]) * size])
    for offset, size in places:
        crc = masked_crc(bytes(out[offset : offset + size]), bytes(out[offset + size : offset + size + 1]))
        struct.pack_into("<I", out, offset + size + 1, crc)
    return bytes(out)


def damage_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Damage the values, offsets or bytes of a safetensors header and correct its length; or damage random bytes."""
    (size,) = struct.unpack("<Q", data[:8])
    header, values = data[8 : 8 + size], data[8 + size :]
    if rng.random() < 0.2:
        return damage_bytes(data, rng)
    if rng.random() < 0.5:
        header = damage_json_values(header, rng)
    elif rng.random() < 0.5:
        header = damage_bytes(header, rng)
    else:
        fields = json.loads(header)
        for name in rng.sample(sorted(set(fields) - {"__metadata__"}), rng.randint(1, 3)):
            shift = rng.choice([-8, -4, 1, 4, 4096])
            begin, end = fields[name]["data_offsets"]
            fields[name]["data_offsets"] = [begin + shift, end + rng.choice([0, shift])]
        header = json.dumps(fields).encode()
    values = values[: -rng.randint(1, 99)] if rng.random() < 0.1 else values
    return struct.pack("<Q", len(header)) + header + values + bytes(rng.choice([0, 0, 0, 4]))


def damage_hdf5(data: bytes, rng: random.Random) -> bytes:
    """Damage the metadata of an HDF5 file, rarely its values: no checksum protects the values."""
    if rng.random() < 0.1:
        return damage_bytes(data, rng)
    return damage_bytes(data, rng, hdf5_metadata(data))


def hdf5_metadata(data: bytes) -> list[tuple[int, int]]:
    """Return the ranges of an HDF5 file outside its datasets' values."""
    import h5py

    if data not in _METADATA:
        values: list[tuple[int, int]] = []

        def add(_: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.id.get_offset() is not None:
                values.append((item.id.get_offset(), item.id.get_offset() + item.id.get_storage_size()))

        with h5py.File(io.BytesIO(data), "r") as file:
            file.visititems(add)
        edges = [0, *(edge for pair in sorted(values) for edge in pair), len(data)]
        _METADATA[data] = [pair for pair in zip(edges[::2], edges[1::2], strict=True) if pair[1] > pair[0]]
    return _METADATA[data]


_METADATA: dict[bytes, list[tuple[int, int]]] = {}


def damage_gzip(data: bytes, rng: random.Random) -> bytes:
    """Damage a .gz, or the text in it."""
    if rng.random() < 0.7:
        return damage_bytes(data, rng)
    return gzip.compress(damage_text(gzip.decompress(data), rng))


Damage = Callable[[bytes, random.Random], bytes]
# The source (see `prepare`), the arguments of the command ({} is the folder), and the files that may be damaged.
Kind = tuple[str, tuple[str, ...], dict[str, Damage]]
KINDS: dict[str, Kind] = {
    "index": ("tf", ("convert", "{}", "{}/../out"), {INDEX: damage_index}),
    "data": ("tf", ("convert", "{}", "{}/../out"), {DATA: damage_bytes, INDEX: damage_bytes}),
    "h5": ("h5", ("convert", "{}", "{}/../out"), {"best_model.weights": damage_hdf5}),
    "matcher": ("matcher", ("convert", "{}", "{}/../out"), {
        "best_model.weights": damage_hdf5, "bert_config.json": damage_json}),
    "vocab": ("tf", ("convert", "{}", "{}/../out"), {"vocab.txt": damage_text}),
    "config": ("tf", ("convert", "{}", "{}/../out"), {"bert_config.json": damage_json}),
    "safetensors": ("folder", ("export", "{}", "{}/../out"), {"model.safetensors": damage_safetensors}),
    "keras": ("folder", ("export", "{}", "{}/../out", "--to", "keras"), {
        "config.json": damage_json, "vocab.txt": damage_text, "tokenizer_config.json": damage_json}),
    "extend": ("bert", ("extend", "{}", "{}/../out", "--words", "0", "--user-dict", "{}/words.dict"), {
        "config.json": damage_json, "tokenizer.json": damage_json, "tokenizer_config.json": damage_json,
        "model.safetensors.index.json": damage_json, "model-1.safetensors": damage_safetensors}),
    "dictionary": ("bert", ("extend", "{}", "{}/../out", "--words", "0", "--user-dict", "{}/words.dict"), {
        "words.dict": damage_text}),
    "doctor": ("folder", ("doctor", "{}"), {
        "model.safetensors": damage_safetensors, "config.json": damage_json, "vocab.txt": damage_text}),
    "verify": ("folder", ("verify", "{}", "--against", str(GOLDEN / "wobert_mlm_only_tf_ckpt")), {
        "model.safetensors": damage_safetensors, "config.json": damage_json, "vocab.txt": damage_text}),
    "gz": ("folder", ("score", "{}", "--file", "{}/lines.txt.gz", "--output", "{}/../out.jsonl"), {
        "lines.txt.gz": damage_gzip}),
    "jsonl": ("folder", ("embed", "{}", "--file", "{}/lines.jsonl.gz", "--output", "{}/../out.npy"), {
        "lines.jsonl.gz": damage_gzip}),
    "candidates": ("folder", ("correct", "{}", "他就来了", "--candidates", "{}/candidates.txt"), {
        "candidates.txt": damage_text}),
    "score": ("folder", ("score", "{}", "今天天气"), {
        "config.json": damage_json, "vocab.txt": damage_text, "tokenizer_config.json": damage_json,
        "model.safetensors": damage_safetensors}),
}  # fmt: skip
NEEDS_TORCH = ("gz", "jsonl", "candidates", "score")


def prepare(folder: Path) -> None:
    """Write the undamaged sources of all kinds."""
    from kexue_hf.conversion.convert import convert
    from tests.conversion.checkpoints import golden_copy

    golden_copy("wobert_tf_ckpt", folder / "tf")
    golden_copy("wobert_keras_h5", folder / "h5")
    golden_copy("sohu_matcher_keras_h5", folder / "matcher")
    convert(GOLDEN / "wobert_mlm_only_tf_ckpt", folder / "folder", license="apache-2.0")
    shutil.copytree(folder / "folder", folder / "bert")
    bert = folder / "bert"
    tokens = (bert / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    (bert / "vocab.txt").unlink()
    tokenizer = {
        "model": {"type": "WordPiece", "vocab": {token: index for index, token in enumerate(tokens)}},
        "added_tokens": [{"id": 0, "content": tokens[0], "special": True}],
        "normalizer": {"lowercase": True},
    }
    (bert / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (bert / "model.safetensors").rename(bert / "model-1.safetensors")
    header = (bert / "model-1.safetensors").read_bytes()[8:]
    names = [name for name in json.JSONDecoder().raw_decode(header.decode("latin-1"))[0] if name != "__metadata__"]
    index = {"weight_map": dict.fromkeys(names, "model-1.safetensors")}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    config = json.loads((bert / "config.json").read_text(encoding="utf-8"))
    config.pop("vocab_fingerprint", None)
    (bert / "config.json").write_text(json.dumps(config))
    (bert / "words.dict").write_text("机器学习 10 nz\n深度学习 3\n大模型\n", encoding="utf-8")
    lines = "今天天气很好\n\n北京是中国的首都。\n" * 5
    (folder / "folder" / "lines.txt.gz").write_bytes(gzip.compress(lines.encode()))
    rows = "".join(json.dumps({"text": line}, ensure_ascii=False) + "\n" for line in lines.splitlines())
    (folder / "folder" / "lines.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    (folder / "folder" / "candidates.txt").write_text("他\t她\n就\t都着\n他就\t她就 她都\n", encoding="utf-8")


def damage(kind: str, source: Path, rng: random.Random) -> None:
    """Damage one of the kind's files, or sometimes all of them."""
    _, _, damages = KINDS[kind]
    for name in rng.sample(sorted(damages), 1 if rng.random() < 0.8 else len(damages)):
        path = source / name
        path.write_bytes(damages[name](path.read_bytes(), rng))


def run_forked(arguments: list[str], errors: Path) -> tuple[int, int, float]:
    """Run a command in a fork; return its exit status, peak resident memory in bytes, and seconds."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            sys.stdout.flush()
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
            from kexue_hf.cli.main import main

            main(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 71
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            # os._exit skips exit handlers, which may fail too.
            atexit._run_exitfuncs()
            sys.stderr.flush()
            os._exit(status)
    _, state, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(state), usage.ru_maxrss << 10, time.monotonic() - started


def complaint(status: int, memory: int, error: str, left: list[str]) -> str | None:
    """Return what is wrong with the end of a command, or None."""
    if status not in (0, 2):
        return f"exit status {status}: {error[-3000:]}"
    if memory > MEMORY:
        return f"{memory:,} bytes of memory"
    if status == 0:
        return None
    if left != ["in"]:
        return f"left over: {left}"
    verified = "differs from" in error.split("\n")[0]  # `verify` lists the differences
    if (error.count("\n") != 1 or not error.startswith("kexue-hf: error: ")) and not verified:
        return f"not one line: {error[-3000:]}"
    return None if error[:-1].isprintable() or verified or "\u3000" in error else f"not printable: {error!r:.500}"


def library_rejects(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np"):
            return False
    except (SafetensorError, OSError):
        return True


def arguments_of(kind: str, work: Path) -> list[str]:
    return [argument.replace("{}/..", str(work)).format(work / "in") for argument in KINDS[kind][1]]


def check_whole(kind: str, sources: Path, place: Path) -> int:
    """Exit unless the command accepts the undamaged files: otherwise the cases would test nothing."""
    shutil.copytree(sources / KINDS[kind][0], place / "whole" / "in")
    status, _, _ = run_forked(arguments_of(kind, place / "whole"), place / "errors")
    if status:
        sys.exit(f"{kind}: exit status {status} on undamaged files: {(place / 'errors').read_text()}")
    shutil.rmtree(place / "whole")
    return 0


def warm_torch() -> None:
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer  # noqa: F401 (imported once, before the forks)

    import kexue_hf.batch.model_loading
    import kexue_hf.pipelines.sentence_vectors
    import kexue_hf.pipelines.text_correction
    import kexue_hf.pipelines.text_scoring  # noqa: F401 (imported once, before the forks)

    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--cases", type=int, default=3000, help="number of cases (default: %(default)s)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of files, comma-separated (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run only the case with this number")
    parser.add_argument("--keep", type=Path, help="folder to keep the files of failed cases in, and those of --only")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    import kexue_hf.cli.main
    import kexue_hf.conversion.export
    import kexue_hf.conversion.extend
    import kexue_hf.conversion.formats.keras
    import kexue_hf.conversion.verify
    from kexue_hf.models.wobert.segmentation_wobert import Segmenter

    Segmenter()("词典")  # load the dictionary once, before the forks

    failed, ends, largest = 0, Counter[str](), 0
    slow: list[tuple[float, int]] = []
    started = time.monotonic()
    # The forks would remove a TemporaryDirectory at their end.
    place = Path(tempfile.mkdtemp())
    try:
        sources = place / "sources"
        prepare(sources)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            kexue_hf.cli.main.main(["doctor", str(sources / "folder")])  # for typer's late imports
        cases = list(range(options.cases)) if options.only is None else [options.only]
        # Cases without torch first: forks are cheaper before it is imported.
        cases.sort(key=lambda number: (kinds[number % len(kinds)] in NEEDS_TORCH, number))
        for number in cases:
            kind = kinds[number % len(kinds)]
            if kind in NEEDS_TORCH:
                warm_torch()
            if f"{kind} whole" not in ends:
                ends[f"{kind} whole"] = check_whole(kind, sources, place)
            rng = random.Random(f"{options.seed} {kind} {number}")
            work = place / "work"
            shutil.copytree(sources / KINDS[kind][0], work / "in")
            damage(kind, work / "in", rng)
            status, memory, seconds = run_forked(arguments_of(kind, work), place / "errors")
            error = (place / "errors").read_text(encoding="utf-8", errors="replace")
            problem = complaint(status, memory, error, os.listdir(work))
            file = next((work / "in").glob("model*.safetensors"), None)
            if not problem and status == 0 and kind in ("safetensors", "doctor", "verify", "extend") and file:
                problem = "safetensors rejects a file that the command accepted" if library_rejects(file) else None
            ends[f"{kind} {status}"] += 1
            largest = max(largest, memory)
            slow.append((seconds, number))
            if problem:
                failed += 1
                print(f"case {number} ({kind}): {problem}", flush=True)
            if options.keep and (problem or options.only is not None):
                shutil.copytree(work, options.keep / f"{kind}-{number}", dirs_exist_ok=True)
                print(error)
            shutil.rmtree(work)
    finally:
        shutil.rmtree(place)
    for kind in kinds:
        accepted, rejected = (ends[f"{kind} {status}"] for status in (0, 2))
        print(f"{kind:12} {accepted:6,} accepted {rejected:6,} rejected")
    seconds, number = max(slow)
    print(
        f"{len(slow):,} files in {time.monotonic() - started:.0f} s, {failed} failed; the slowest (case {number}) "
        f"took {seconds:.1f} s, the largest {largest / 2**20:,.0f} MiB"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
