"""A Hub on this machine for the tests of uploads and downloads, and this process directed to it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.hub.loopback_hub import TOKEN, LoopbackHub, loopback_hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """Serve a Hub for the tests of a module, and direct huggingface_hub to it."""
    with loopback_hub() as served, pytest.MonkeyPatch.context() as patch:
        direct_to(served.address, patch, tmp_path_factory.mktemp("cache"))
        yield served


def direct_to(address: str, patch: pytest.MonkeyPatch, cache: Path) -> None:
    """Set what huggingface_hub reads from the environment when it is imported."""
    patch.setattr(constants, "ENDPOINT", address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    # Xet has servers of its own; without it, huggingface_hub uses LFS.
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    # transformers keeps a client with the address that was set when it was first used.
    patch.setattr("transformers.utils.hub._hf_api", None)
    patch.setenv("HF_TOKEN", TOKEN)
    patch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs `kexue-hf` in this process and returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        from kexue_hf.cli.main import main

        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([*map(str, arguments)])
        said = capsys.readouterr()
        assert TOKEN not in said.out + said.err
        return stop.value.code or 0, said.out, said.err

    return run
