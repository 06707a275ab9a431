"""Functions that read users' texts take linear time, whatever the texts contain."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from examples.finetune_title import FIRST_SENTENCE
from kexue_hf.corpora.matching_rows import standard_of
from kexue_hf.corpora.packing import LINE_OR_SENTENCE, SENTENCE, split_segments
from kexue_hf.models.wobert.normalization_wobert import Normalizer
from kexue_hf.models.wobert.segmentation_wobert import Segmenter
from kexue_hf.models.wobert.unilm_wobert import NEVER_WRITTEN
from kexue_hf.pipelines.confusion import is_han
from kexue_hf.vocabulary.user_dictionary import _word_of

LENGTH = 200_000
SEEDS = ["词", " ", "a", "。", "”", "1.", "[", "[unused", "a_", " A", "类", "\n", "\u0301", "?"]
READERS: dict[str, Callable[[str], Any]] = {
    "sentences": SENTENCE.findall,
    "lines": LINE_OR_SENTENCE.findall,
    "segments": lambda text: list(split_segments(text, 100)),
    "first_sentence": FIRST_SENTENCE.match,
    "never_written": NEVER_WRITTEN.search,
    "standard": standard_of,
    "han": is_han,
    "word": _word_of,
    "normalizer": Normalizer(True),
    "segmenter": Segmenter(["机器学习", "ab"]),
}


@pytest.mark.parametrize("reader", READERS)
def test_long_texts_are_read_in_linear_time(reader: str) -> None:
    for seed in SEEDS:
        text = f"词{seed * (LENGTH // len(seed))}x!"
        started = time.process_time()
        READERS[reader](text)
        assert time.process_time() - started < 2, seed
