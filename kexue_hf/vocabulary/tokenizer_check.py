"""Check that a tokenizer belongs to a model.

A character tokenizer with a word checkpoint raises no error: every id that it produces is valid, and the model
predicts nonsense. So our configurations record which vocabulary their weights were trained with.
"""

import warnings
from collections.abc import Iterable
from typing import Any

from kexue_hf.models.wobert.vocabulary_wobert import (
    VocabularyMismatchWarning,
    count_chinese_words,
    vocabulary_fingerprint,
)
from kexue_hf.pipelines.vocabulary_match import vocabulary_mismatch

# Model types under which other implementations saved word models, and tokenizers that cut Chinese into characters.
_AS_BERT = ("bert", "wobert", "nezha")
_CHARACTER_TOKENIZERS = ("BertTokenizer", "BertTokenizerFast")
# A character vocabulary may contain a few words of its field.
WORDS_OF_A_WORD_MODEL = 1000


def check_pairing(model: Any, tokenizer: Any) -> list[str]:
    """Compare a tokenizer with the vocabulary that a model's configuration records; warn about each difference.

    Args:
        model: a model, or its configuration. One whose configuration records no vocabulary passes, unless it is a
            BERT with a vocabulary of words and a tokenizer that finds only characters.
        tokenizer: any tokenizer of transformers.

    Returns:
        The differences, one sentence each; an empty list if they fit. They are issued as one
        `VocabularyMismatchWarning`, too.
    """
    config = getattr(model, "config", model)
    if getattr(config, "vocab_fingerprint", None) is None:
        problems, advice = _unfound_words(config, tokenizer), "If it is a WoBERT, kexue-hf convert FOLDER OUTPUT"
        advice += " makes a folder that loads as one"
    else:
        problems, advice = _differences(config, tokenizer), "Load both from one folder, the tokenizer with"
        advice += " AutoTokenizer"
    if problems:
        warnings.warn(
            f"this tokenizer does not belong to this model, whose predictions will be meaningless: "
            f"{'; '.join(problems)}. {advice}",
            VocabularyMismatchWarning,
            stacklevel=3,
        )
    return problems


def word_vocabulary(vocabulary: Iterable[str]) -> str | None:
    """Return why a character tokenizer does not suit a vocabulary, as a clause; None if it does."""
    words = count_chinese_words(vocabulary)
    if words < WORDS_OF_A_WORD_MODEL:
        return None
    return f"the vocabulary has {words:,} Chinese words, and its tokenizer cuts Chinese text into characters"


def _differences(config: Any, tokenizer: Any) -> list[str]:
    expected, problems = getattr(config, "tokenizer_class", None), []
    # By name: a copy from the Hub has its own class, and a subclass cuts text as its base does.
    if expected and expected not in {base.__name__ for base in type(tokenizer).__mro__}:
        problems.append(
            f"the model was trained with {expected}, this is a {type(tokenizer).__name__}, which cuts text in another "
            "way"
        )
    found = _fingerprints(tokenizer)
    problem = vocabulary_mismatch(len(tokenizer), found, config.vocab_size, config.vocab_fingerprint)
    return [*problems, *([problem] if problem else [])]


def _unfound_words(config: Any, tokenizer: Any) -> list[str]:
    """Find a WoBERT that another implementation saved as a BERT."""
    if getattr(config, "model_type", None) not in _AS_BERT or type(tokenizer).__name__ not in _CHARACTER_TOKENIZERS:
        return []
    problem = word_vocabulary(tokenizer.get_vocab())
    return [problem] if problem else []


def _fingerprints(tokenizer: Any) -> list[str]:
    """Return the fingerprints of the vocabulary; for a tokenizer of transformers with and without added tokens."""
    own = getattr(tokenizer, "vocab_fingerprint", None)
    if own is not None:
        return [str(own)]
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    base = [token for token in tokens if vocabulary[token] < tokenizer.vocab_size]
    return [vocabulary_fingerprint(tokens), vocabulary_fingerprint(base)]
