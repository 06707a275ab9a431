import functools
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Set before huggingface_hub is imported, so that a test that needs the network fails instead of hanging.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Several test processes share the cores, so more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# Objects that may pass each collection. Each `Trainer.train` collects, which took a second without this.
_MOST_OBJECTS = 200_000


def pytest_collection_finish() -> None:
    _exempt_from_collection()


@pytest.fixture(scope="module", autouse=True)
def few_objects() -> Iterator[None]:
    """Between the files of tests, exempt what imports and caches hold from garbage collection."""
    yield
    if len(gc.get_objects()) > _MOST_OBJECTS:
        _exempt_from_collection()


def _exempt_from_collection() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder that a golden case is converted to, once a session; a test must not change it."""
    from kexue_hf.conversion.convert import convert

    @functools.cache
    def folder_of(case: str) -> Path:
        folder = tmp_path_factory.mktemp("converted") / case
        convert(Path(__file__).parent / "golden" / case, folder)
        return folder

    return folder_of
