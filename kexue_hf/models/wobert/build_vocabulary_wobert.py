"""Moved to `kexue_hf.vocabulary`; the names are here as long as somebody imports them from here."""

from kexue_hf.vocabulary.building import SPECIAL_TOKENS, build_vocabulary, save_vocabulary
from kexue_hf.vocabulary.counting import CorpusCounts, count_corpus, dictionary_frequencies

__all__ = [
    "SPECIAL_TOKENS",
    "CorpusCounts",
    "build_vocabulary",
    "count_corpus",
    "dictionary_frequencies",
    "save_vocabulary",
]
