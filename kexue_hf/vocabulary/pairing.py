"""The guard against a tokenizer that does not belong to the model.

A character tokenizer beside a word checkpoint raises no error anywhere: every id it produces is valid, and the model
answers garbage. So a configuration of ours records which vocabulary its weights were trained with, and whenever
transformers brings a model and a tokenizer together (`pipeline`, `Trainer`) the two are compared.
"""

import warnings
from typing import Any

from kexue_hf.models.wobert.vocabulary_wobert import (
    VocabularyMismatchWarning,
    count_chinese_words,
    vocabulary_fingerprint,
)

# Model types under which other implementations saved word models, and tokenizers that cut Chinese into characters.
_AS_BERT = ("bert", "wobert", "nezha")
_OF_CHARACTERS = ("BertTokenizer", "BertTokenizerFast")
# A character vocabulary may have taken in a few words of its field.
WORDS_OF_A_WORD_MODEL = 1000


def check_pairing(model: Any, tokenizer: Any) -> list[str]:
    """Compare a tokenizer with the vocabulary that a model's configuration records; warn about each difference.

    Args:
        model: a model, or its configuration. One whose configuration records no vocabulary passes, but for a BERT
            with a vocabulary of words whose tokenizer finds characters only.
        tokenizer: any tokenizer of transformers.

    Returns:
        What does not fit, one sentence each; empty if all fits. The same is issued as `VocabularyMismatchWarning`.
    """
    config = getattr(model, "config", model)
    expected_class = getattr(config, "tokenizer_class", None)
    expected_fingerprint = getattr(config, "vocab_fingerprint", None)
    if expected_fingerprint is None:
        return _check_words(config, tokenizer)
    problems = []
    # By name: a copy from the Hub has a class of its own, and a subclass cuts as its base does.
    if expected_class and expected_class not in {base.__name__ for base in type(tokenizer).__mro__}:
        problems.append(
            f"the model was trained with {expected_class}, this is a {type(tokenizer).__name__}, "
            f"which cuts text in another way"
        )
    if len(tokenizer) > config.vocab_size:
        problems.append(
            f"the tokenizer knows {len(tokenizer):,} tokens, the model's embedding has {config.vocab_size:,} rows"
        )
    if (found := _fingerprint(tokenizer)) != expected_fingerprint:
        problems.append(
            f"the model's vocabulary has the fingerprint {expected_fingerprint} ({config.vocab_size:,} tokens), "
            f"the tokenizer's {found} ({len(tokenizer):,} tokens)"
        )
    if problems:
        warnings.warn(
            f"this tokenizer does not belong to this model, whose predictions will be meaningless: "
            f"{'; '.join(problems)}. Load both from the same folder, the tokenizer with AutoTokenizer.",
            VocabularyMismatchWarning,
            stacklevel=3,
        )
    return problems


def _check_words(config: Any, tokenizer: Any) -> list[str]:
    """Warn of a WoBERT that another implementation saved as a BERT: its tokenizer never finds its words."""
    if getattr(config, "model_type", None) not in _AS_BERT or type(tokenizer).__name__ not in _OF_CHARACTERS:
        return []
    words = count_chinese_words(tokenizer.get_vocab())
    if words < WORDS_OF_A_WORD_MODEL:
        return []
    problem = (
        f"the vocabulary has {words:,} Chinese words, of which a {type(tokenizer).__name__} finds none: it cuts "
        "Chinese text into characters"
    )
    warnings.warn(
        f"this tokenizer does not belong to this model, whose predictions will be poor: {problem}. If it is a WoBERT, "
        "make a folder that loads as one: kexue-hf convert FOLDER OUTPUT",
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
