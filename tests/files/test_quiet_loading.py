"""Libraries are silent inside the block, and afterwards as they were before."""

import logging
import warnings
from collections.abc import Iterator

import pytest
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging as transformers_logging

from kexue_hf.files.quiet_loading import first_line, quiet_hub, quiet_libraries


@pytest.fixture(params=[True, False], ids=["bars", "no_bars"])
def bars(request: pytest.FixtureRequest) -> Iterator[bool]:
    before = not are_progress_bars_disabled()
    (enable_progress_bars if request.param else disable_progress_bars)()
    yield request.param
    (enable_progress_bars if before else disable_progress_bars)()


@pytest.mark.parametrize("quiet", [quiet_hub, quiet_libraries])
def test_silence_ends_with_the_block(quiet, bars: bool, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("huggingface_hub")
    before = logger.level, transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(KeyError), quiet():
            assert are_progress_bars_disabled()
            warnings.warn("heard", stacklevel=1)
            logger.warning("heard")
            raise KeyError
    assert caught == [] and "heard" not in caplog.text
    assert are_progress_bars_disabled() is not bars
    after = logger.level, transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    assert after == before


def test_the_bars_of_an_upload_may_stay(bars: bool) -> None:
    with quiet_hub(bars=True):
        assert are_progress_bars_disabled() is not bars


@pytest.mark.parametrize(("text", "line"), [("\n one\ntwo", "one"), ("", "ValueError"), (" \n", "ValueError")])
def test_an_error_without_text_is_its_class(text: str, line: str) -> None:
    assert first_line(ValueError(text)) == line
