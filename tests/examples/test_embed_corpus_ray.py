"""A corpus in shards: streamed, whole or not at all, continued after an interruption, with a killed worker."""

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples import embed_corpus_ray
from examples.embed_corpus_ray import embed_shard, is_finished, main
from kexue_hf import EmbedTexts, InputError
from tests.examples.ray_workers import kill_worker
from tests.pipelines.test_text_scoring import LONG, TEXTS, make

ROOT = Path(__file__).parents[2]
ROWS = [*TEXTS, None, LONG]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: pip install 'kexue-hf[ray]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tta")
    for part in make("tta", made):
        part.save_pretrained(made)
    return made


def write_shards(folder: Path, number: int, rows: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"shard-{shard}.parquet" for shard in range(number)]
    for shard, path in enumerate(paths):
        texts = [ROWS[(shard + row) % len(ROWS)] for row in range(rows)]
        pq.write_table(pa.table({"id": [*range(rows)], "text": texts}), path)
    return paths


def vectors(path: Path) -> np.ndarray:
    return np.stack(pq.read_table(path)["vector"].to_numpy())


def test_a_shard_gets_a_column_batch_by_batch(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed, (source,) = EmbedTexts(folder), write_shards(tmp_path / "in", 1, 25)
    sizes: list[int] = []
    with_vectors = embed_corpus_ray.with_vectors
    monkeypatch.setattr(
        embed_corpus_ray,
        "with_vectors",
        lambda embed, batch: (sizes.append(len(batch)), with_vectors(embed, batch))[1],
    )
    target = tmp_path / "out" / source.name
    assert embed_shard(embed, source, target, batch_size=10) == 25
    assert sizes == [0, 10, 10, 5]
    found, given = pq.read_table(target), pq.read_table(source)
    assert found.select(["id", "text"]).equals(given)
    assert found.schema.field("vector").type == pa.list_(pa.float32(), 16)
    expected = embed({"text": given["text"].to_pylist()})["vector"]
    np.testing.assert_allclose(vectors(target), expected, atol=1e-5)
    assert os.listdir(target.parent) == [source.name]


def test_a_large_row_group_is_not_held_in_memory(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, used = tmp_path / "large.parquet", []
    pages = np.random.default_rng(0).bytes(30 << 20)
    columns = {"text": ["今天"] * 3072, "page": [pages[start : start + 10240] for start in range(0, 30 << 20, 10240)]}
    # A page ends after a batch of the writer at the earliest.
    pq.write_table(pa.table(columns), source, use_dictionary=["text"], compression="none", write_batch_size=64)
    del pages, columns
    before, with_vectors = pa.total_allocated_bytes(), embed_corpus_ray.with_vectors
    monkeypatch.setattr(
        embed_corpus_ray,
        "with_vectors",
        lambda embed, batch: (used.append(pa.total_allocated_bytes() - before), with_vectors(embed, batch))[1],
    )
    embed_shard(EmbedTexts(folder), source, tmp_path / "out.parquet", 100)
    assert max(used) < 10 << 20


def test_a_wrong_cell_names_the_shard_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "bad.parquet", tmp_path / "out" / "bad.parquet"
    pq.write_table(pa.table({"text": [1, 2]}), source)
    message = r"bad.parquet: in the batch from row 0: column 'text', row 0 of the batch: expected a text, got int"
    with pytest.raises(InputError, match=message):
        embed_shard(EmbedTexts(folder), source, target, 10)
    with pytest.raises(InputError, match=r"bad.parquet: has no column 'body', only text; name another one"):
        embed_shard(EmbedTexts(folder, column="body"), source, target, 10)
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), source)
    with pytest.raises(InputError, match=r"bad.parquet: has 2 columns 'text'; name another one with --text-column"):
        embed_shard(EmbedTexts(folder), source, target, 10)
    source.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"bad.parquet: "):
        embed_shard(EmbedTexts(folder), source, target, 10)
    assert not target.parent.exists()


def test_a_wrong_cell_is_found_in_a_later_batch(folder: Path, tmp_path: Path) -> None:
    source, text = tmp_path / "bad.parquet", pa.array([b"a"] * 24 + [b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"text": text}), source)
    with pytest.raises(InputError, match=r"bad.parquet: in the batch from row 20: .*codec can't decode byte 0xff"):
        embed_shard(EmbedTexts(folder), source, tmp_path / "out" / "bad.parquet", 10)


def test_a_damaged_page_is_an_error_of_the_input(folder: Path, tmp_path: Path) -> None:
    """Where pyarrow raises an OSError, that of the file being written would name the wrong one."""
    source, target = tmp_path / "bad.parquet", tmp_path / "out" / "bad.parquet"
    texts = [str(number**9) for number in range(1000)]
    pq.write_table(pa.table({"text": texts}), source, compression="snappy", use_dictionary=False)
    content = source.read_bytes()
    source.write_bytes(content[:200] + bytes(1000) + content[1200:])
    with pytest.raises(InputError, match=r"bad.parquet: cannot be read \("):
        embed_shard(EmbedTexts(folder), source, target, 10)
    assert not target.parent.exists()


def test_no_column_is_replaced(folder: Path, tmp_path: Path) -> None:
    embed, (source,) = EmbedTexts(folder), write_shards(tmp_path / "in", 1, 3)
    once, twice = tmp_path / "once.parquet", tmp_path / "twice.parquet"
    embed_shard(embed, source, once, 10)
    with pytest.raises(InputError, match=r"once.parquet: already has a column 'vector': name .* with --prefix"):
        embed_shard(embed, once, twice, 10)
    embed_shard(EmbedTexts(folder, prefix="my_"), once, twice, 10)
    found = pq.read_table(twice)
    assert found.column_names == ["id", "text", "vector", "my_vector"]
    assert found["vector"].equals(found["my_vector"])


def test_only_the_same_result_counts_as_finished(folder: Path, tmp_path: Path) -> None:
    embed, (source, longer) = EmbedTexts(folder), write_shards(tmp_path / "in", 2, 5)
    pq.write_table(pa.table({"id": [1], "text": ["今"]}), longer)
    pq.write_table(pq.read_table(source), source, compression="none")
    target = tmp_path / source.name
    assert not is_finished(source, target, embed.fingerprint)
    embed_shard(embed, source, target, 10)
    assert is_finished(source, target, embed.fingerprint)
    with pytest.raises(InputError, match="by another model or with other options: name another --output"):
        is_finished(source, target, EmbedTexts(folder, normalize=True).fingerprint)
    with pytest.raises(InputError, match="of another content of the shard: name another --output"):
        is_finished(longer, target, embed.fingerprint)
    # A copy has another time, and may have as many bytes as another content.
    os.utime(source, ns=(0, 0))
    assert is_finished(source, target, embed.fingerprint)
    table, size = pq.read_table(source), source.stat().st_size
    pq.write_table(table.take([1, 0, 2, 3, 4]), source, compression="none")
    assert source.stat().st_size == size
    with pytest.raises(InputError, match="of another content of the shard"):
        is_finished(source, target, embed.fingerprint)
    source.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        is_finished(source, target, embed.fingerprint)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--input": "none"}, "no .parquet files here"),
        ({"--output": "in"}, "--output must be another folder than --input"),
        ({"--model": "none/at/all"}, "is not a folder"),
        ({"--max-length": "1000000"}, "max_length must be from"),
        ({"--workers": "0"}, "--workers must be at least 1, got 0"),
        ({"--gpus-per-worker": "-1"}, "--gpus-per-worker must be at least 0, got -1"),
        ({"--device": "cdua"}, "no device 'cdua'; expected auto, cpu, cuda"),
    ],
)
def test_wrong_options_are_one_line(
    folder: Path,
    tmp_path: Path,
    changed: dict[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_shards(tmp_path / "in", 1, 3)
    monkeypatch.chdir(tmp_path)
    options = {"--model": str(folder), "--input": "in", "--output": "out", **changed}
    with pytest.raises(SystemExit) as stop:
        main([word for option in options.items() for word in option])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_workers_without_a_gpu_use_the_cpu(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards(tmp_path / "in", 1, 3)
    devices: list[str] = []
    monkeypatch.setattr(embed_corpus_ray, "results", lambda jobs, embed, options: devices.append(embed.device) or ())
    arguments = ["--model", str(folder), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    for more in ([], ["--gpus-per-worker", "0.5"], ["--device", "cuda:1"]):
        main([*arguments, *more])
    assert devices == ["cpu", "auto", "cuda:1"]


@pytest.mark.slow
@needs_ray
def test_an_error_costs_its_shard_and_a_process_keeps_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a GPU for each worker; that of another cluster, which the environment names, is not joined."""
    import ray

    def shard(embed: object, source: Path, target: Path, batch_size: int) -> int:
        if source.name == "b":
            raise RuntimeError("out of memory\n  more lines")
        return os.getpid()

    init = ray.init
    monkeypatch.setattr(ray, "init", lambda **given: init(**given, num_gpus=1))
    monkeypatch.setattr(embed_corpus_ray, "embed_shard", shard)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    options = argparse.Namespace(address=None, workers=2, gpus_per_worker=1, batch_size=10)
    jobs = [(Path(name), tmp_path) for name in "abcd"]
    found = {source.name: result for source, result in embed_corpus_ray.results(jobs, None, options)}
    error = found.pop("b")
    assert isinstance(error, InputError) and str(error) == "b: out of memory"
    assert sorted(found) == ["a", "c", "d"] and len({*found.values()}) == 1


@needs_ray
def test_no_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        assert options["address"] == "auto"
        raise ConnectionError("Could not find any running Ray instance.\nMore lines")

    monkeypatch.setattr("ray.init", init)
    options = argparse.Namespace(address="auto", workers=2, gpus_per_worker=0, batch_size=10)
    with pytest.raises(InputError, match=r"^Ray does not start: Could not find any running Ray instance.$"):
        list(embed_corpus_ray.results([], None, options))


@needs_ray
def test_workers_do_not_wait_for_gpus_that_no_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [(True, {"CPU": 8.0, "GPU": 1.0}), (True, {"CPU": 8.0}), (False, {"CPU": 8.0, "GPU": 4.0})]
    monkeypatch.setattr("ray.init", lambda **options: None)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": alive, "Resources": found} for alive, found in machines])
    options = argparse.Namespace(address="auto", workers=2, gpus_per_worker=2, batch_size=10)
    with pytest.raises(InputError, match="--gpus-per-worker is 2, but no machine has more than 1 GPUs: give less"):
        list(embed_corpus_ray.results([], None, options))


@pytest.mark.slow
@needs_ray
def test_a_killed_worker_changes_nothing(folder: Path, tmp_path: Path) -> None:
    """The first worker that works on a shard dies; one shard is wrong; the rest is what one process computes."""
    sources = write_shards(tmp_path / "in", 3, 400)
    pq.write_table(pa.table({"text": [1, 2]}), sources[2])
    output = tmp_path / "out"
    arguments = ["--model", folder, "--input", tmp_path / "in", "--output", output, "--batch-size", 10]
    command = [sys.executable, embed_corpus_ray.__file__, *map(str, arguments), "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as run:
        killed = kill_worker(run, output)
        printed, errors = run.communicate(timeout=170)
    assert killed and run.returncode == 2, errors
    assert "3 shards, 0 finished before" in printed and "/3 shard-1.parquet: 400 rows" in printed
    lines = errors.splitlines()
    assert len(lines) == 2 and "shard-2.parquet: in the batch from row 0: column 'text', row 0" in lines[0], errors
    assert "1 shards failed; the others are complete" in lines[1]
    assert sorted(os.listdir(output)) == ["shard-0.parquet", "shard-1.parquet"]
    embed = EmbedTexts(folder)
    for source in sources[:2]:
        embed_shard(embed, source, tmp_path / "alone.parquet", 10)
        np.testing.assert_array_equal(vectors(output / source.name), vectors(tmp_path / "alone.parquet"))
        assert pq.read_table(output / source.name)["id"].to_pylist() == [*range(400)]


@pytest.mark.slow
@needs_ray
def test_a_want_of_memory_ends(folder: Path, tmp_path: Path) -> None:
    """Ray kills every worker, as if the machine were full."""
    write_shards(tmp_path / "in", 1, 10)
    arguments = ["--model", folder, "--input", tmp_path / "in", "--output", tmp_path / "out", "--workers", 1]
    full = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "50"}
    done = subprocess.run(
        [sys.executable, embed_corpus_ray.__file__, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **full},
        timeout=170,
    )
    assert done.returncode == 2 and "shard-0.parquet: its worker died 4 times; is there enough memory?" in done.stderr
