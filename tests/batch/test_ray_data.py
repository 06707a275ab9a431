"""Ray Data calls the batch callables: the columns of a batch are NumPy arrays."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kexue_hf import CorrectTexts, EmbedTexts
from tests.pipelines import correction_models

ray = pytest.importorskip("ray", reason="needs ray: pip install 'kexue-hf[ray]'")
TEXTS = [*correction_models.TEXTS, None]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local", num_cpus=2, num_gpus=1, object_store_memory=100 << 20, include_dashboard=False,
        logging_level="error", log_to_driver=False, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
    )  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in correction_models.make("tta", tmp_path):
        part.save_pretrained(tmp_path)
    return tmp_path


def rows(data: Any) -> dict[str, list[Any]]:
    """Return the columns of a data set, sorted by the column `id`."""
    found = sorted(data.take_all(), key=lambda row: row["id"])
    return {name: [row[name] for row in found] for name in found[0]}


@pytest.mark.slow
def test_ray_data_passes_arrays_and_gets_columns(folder: Path) -> None:
    data = ray.data.from_items([{"id": number, "text": text} for number, text in enumerate(TEXTS)]).repartition(4)
    embed, correct = EmbedTexts(folder), CorrectTexts(folder, threshold=0.5)
    # With the same resources, one process runs both.
    resources = {"num_gpus": 1, "max_calls": 0}
    data = data.map_batches(embed, batch_size=2, **resources).map_batches(correct, batch_size=3, **resources)
    found = rows(data)
    expected = correct(embed({"text": TEXTS}))
    assert found["text"] == TEXTS and found["corrected"] == expected["corrected"].tolist()
    assert found["num_corrections"] == expected["num_corrections"].tolist()
    np.testing.assert_allclose(np.stack(found["vector"]), expected["vector"], atol=1e-5)
