"""A corpus in shards: streamed, whole or not at all, continued after an interruption, with a killed worker."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples import embed_corpus_ray
from examples.embed_corpus_ray import embed_shard, is_finished, main
from kexue_hf import EmbedTexts, InputError
from tests.pipelines.test_text_scoring import LONG, TEXTS, make

ROOT = Path(__file__).parents[2]
ROWS = [*TEXTS, None, LONG]


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


def test_a_wrong_cell_names_the_shard_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "bad.parquet", tmp_path / "out" / "bad.parquet"
    pq.write_table(pa.table({"text": [1, 2]}), source)
    with pytest.raises(InputError, match=r"bad.parquet: column 'text', row 0 of the batch: expected a text, got int"):
        embed_shard(EmbedTexts(folder), source, target, 10)
    with pytest.raises(InputError, match=r"bad.parquet: has no column 'body', only text; add --text-column"):
        embed_shard(EmbedTexts(folder, column="body"), source, target, 10)
    source.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"bad.parquet: "):
        embed_shard(EmbedTexts(folder), source, target, 10)
    assert not target.parent.exists()


def test_only_the_same_result_counts_as_finished(folder: Path, tmp_path: Path) -> None:
    embed, (source, longer) = EmbedTexts(folder), write_shards(tmp_path / "in", 2, 5)
    pq.write_table(pa.table({"id": [1], "text": ["今"]}), longer)
    target = tmp_path / source.name
    assert not is_finished(source, target, embed.fingerprint)
    embed_shard(embed, source, target, 10)
    assert is_finished(source, target, embed.fingerprint)
    with pytest.raises(InputError, match="by another model or with other options: name another --output"):
        is_finished(source, target, EmbedTexts(folder, normalize=True).fingerprint)
    with pytest.raises(InputError, match="of other rows: name another --output"):
        is_finished(longer, target, embed.fingerprint)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--input": "none"}, "no .parquet files here"),
        ({"--output": "in"}, "--output must be another folder than --input"),
        ({"--model": "none/at/all"}, "is not a folder"),
        ({"--max-length": "1000000"}, "max_length must be from"),
        ({"--workers": "0"}, "--workers must be at least 1, got 0"),
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


@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: pip install 'kexue-hf[ray]'")
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
        killed = kill_working_process(run, output)
        printed, errors = run.communicate(timeout=170)
    assert killed and run.returncode == 2, errors
    assert "3 shards, 0 finished before" in printed and "/3 shard-1.parquet: 400 rows" in printed
    lines = errors.splitlines()
    assert len(lines) == 2 and "shard-2.parquet: column 'text', row 0 of the batch" in lines[0], errors
    assert "1 shards failed; the others are complete" in lines[1]
    assert sorted(os.listdir(output)) == ["shard-0.parquet", "shard-1.parquet"]
    embed = EmbedTexts(folder)
    for source in sources[:2]:
        embed_shard(embed, source, tmp_path / "alone.parquet", 10)
        np.testing.assert_array_equal(vectors(output / source.name), vectors(tmp_path / "alone.parquet"))
        assert pq.read_table(output / source.name)["id"].to_pylist() == [*range(400)]


def kill_working_process(run: "subprocess.Popen[str]", output: Path) -> bool:
    """Kill a Ray worker of this run while it writes a shard; return whether there was one."""
    while run.poll() is None:
        if list(output.glob(".*partial*/*")):
            for process in psutil.Process(run.pid).children(recursive=True):
                if process.name().startswith("ray::embed_shar"):
                    process.send_signal(signal.SIGKILL)
                    return True
        time.sleep(0.01)
    return False
