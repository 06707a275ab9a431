"""Warn about a tokenizer that does not belong to the model.

A character tokenizer with a word checkpoint raises no error: all its ids are valid, but the predictions are garbage.
So our configurations record the fingerprint of the vocabulary, and model and tokenizer are compared whenever
transformers combines them (`pipeline`, `Trainer`).
"""

import warnings
from typing import Any

from kexue_hf.models.wobert.vocabulary_wobert import (
    VocabularyMismatchWarning,
    count_chinese_words,
    vocabulary_fingerprint,
)

# Model types under which other implementations save word models.
_WORD_MODEL_TYPES = ("bert", "wobert", "nezha")
_CHARACTER_TOKENIZERS = ("BertTokenizer", "BertTokenizerFast")
# A character vocabulary may have a few added domain words.
WORDS_OF_A_WORD_MODEL = 1000


def check_pairing(model: Any, tokenizer: Any) -> list[str]:
    """Compare a tokenizer with the vocabulary that a model's configuration records, and warn if they differ.

    Args:
        model: a model or its configuration. A configuration that records no vocabulary passes, unless it is a BERT
            with a word vocabulary and a character tokenizer.
        tokenizer: any tokenizer of transformers.

    Returns:
        one sentence per difference, which are also issued as a `VocabularyMismatchWarning`; empty if there are none.
    """
    config = getattr(model, "config", model)
    expected_class = getattr(config, "tokenizer_class", None)
    expected_fingerprint = getattr(config, "vocab_fingerprint", None)
    if expected_fingerprint is None:
        return _check_words(config, tokenizer)
    problems = []
    # Compare names: a copy from the Hub is a different class, and a subclass tokenizes as its base.
    if expected_class and expected_class not in {base.__name__ for base in type(tokenizer).__mro__}:
        problems.append(f"the model was trained with {expected_class}, this is a {type(tokenizer).__name__}")
    if len(tokenizer) > config.vocab_size:
        problems.append(
            f"the tokenizer has {len(tokenizer):,} tokens, the model's embedding {config.vocab_size:,} rows"
        )
    if (found := _fingerprint(tokenizer)) != expected_fingerprint:
        problems.append(
            f"the model's vocabulary has the fingerprint {expected_fingerprint} ({config.vocab_size:,} tokens), "
            f"the tokenizer's {found} ({len(tokenizer):,} tokens)"
        )
    if problems:
        warnings.warn(
            "this tokenizer does not belong to this model, so predictions will be meaningless: "
            f"{'; '.join(problems)}. Load both from the same folder, the tokenizer with AutoTokenizer.",
            VocabularyMismatchWarning,
            stacklevel=3,
        )
    return problems


def _check_words(config: Any, tokenizer: Any) -> list[str]:
    """Warn about a WoBERT that another implementation saved as a BERT, whose tokenizer never finds its words."""
    if (
        getattr(config, "model_type", None) not in _WORD_MODEL_TYPES
        or type(tokenizer).__name__ not in _CHARACTER_TOKENIZERS
    ):
        return []
    words = count_chinese_words(tokenizer.get_vocab())
    if words < WORDS_OF_A_WORD_MODEL:
        return []
    problem = (
        f"the vocabulary has {words:,} Chinese words, but a {type(tokenizer).__name__} splits Chinese text into "
        "characters and finds none of them"
    )
    warnings.warn(
        f"this tokenizer does not belong to this model, so predictions will be poor: {problem}. If it is a WoBERT, "
        "convert it: kexue-hf convert FOLDER OUTPUT",
        VocabularyMismatchWarning,
        stacklevel=4,
    )
    return [problem]


def _fingerprint(tokenizer: Any) -> str:
    own = getattr(tokenizer, "vocab_fingerprint", None)
    if own is not None:
        return str(own)
    vocabulary = tokenizer.get_vocab()
    return vocabulary_fingerprint(sorted(vocabulary, key=vocabulary.__getitem__))
