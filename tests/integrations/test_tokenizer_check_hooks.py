"""The guard against a tokenizer that does not belong to the model."""

from pathlib import Path

import pytest
from transformers import BertTokenizer, Trainer, TrainingArguments, pipeline

from kexue_hf import (
    NezhaConfig,
    VocabularyMismatchWarning,
    WoBertConfig,
    WoBertForMaskedLM,
    WoBertTokenizer,
    check_pairing,
)
from kexue_hf.models.wobert.vocabulary_wobert import load_vocabulary, vocabulary_fingerprint

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "今", "天", "今天", "很", "好"]
OTHER_ORDER = [*SPECIAL, "天", "今", "今天", "很", "好"]
CHARACTERS = [*SPECIAL, "今", "天", "很", "好"]
MORE = [*WORDS, "天气", "不错"]


def write(folder: Path, tokens: list[str]) -> str:
    path = folder / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return str(path)


@pytest.fixture
def model() -> WoBertForMaskedLM:
    return WoBertForMaskedLM(
        WoBertConfig(
            vocab_size=len(WORDS),
            vocab_fingerprint=vocabulary_fingerprint(WORDS),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
        )
    )


@pytest.mark.parametrize(
    ("kind", "tokens", "message"),
    [
        (BertTokenizer, WORDS, "trained with WoBertTokenizer, this is a BertTokenizer"),
        (BertTokenizer, CHARACTERS, "fingerprint"),
        (WoBertTokenizer, OTHER_ORDER, "fingerprint"),
        (WoBertTokenizer, MORE, "knows 12 tokens, the model's embedding has 10 rows"),
    ],
    ids=["characters_of_the_same_file", "character_vocabulary", "other_order", "too_large"],
)
def test_a_foreign_tokenizer_is_warned_about(model, kind, tokens, message, tmp_path: Path) -> None:
    tokenizer = kind(write(tmp_path, tokens))
    with pytest.warns(VocabularyMismatchWarning, match=message):
        assert check_pairing(model, tokenizer)
    with pytest.warns(VocabularyMismatchWarning, match=message):
        pipeline("fill-mask", model=model, tokenizer=tokenizer)
    with pytest.warns(VocabularyMismatchWarning, match=message):
        Trainer(
            model, TrainingArguments(tmp_path, report_to="none", use_cpu=True), processing_class=tokenizer
        )  # fmt: skip


def test_the_right_tokenizer_is_not(model, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    tokenizer = WoBertTokenizer(write(tmp_path, WORDS))
    assert check_pairing(model, tokenizer) == []
    pipeline("fill-mask", model=model, tokenizer=tokenizer)
    Trainer(model, TrainingArguments(tmp_path, report_to="none", use_cpu=True), processing_class=tokenizer)
    assert not [warning for warning in recwarn if warning.category is VocabularyMismatchWarning]


def test_added_tokens_do_not_count_as_another_vocabulary(model, tmp_path: Path) -> None:
    tokenizer = WoBertTokenizer(write(tmp_path, WORDS))
    tokenizer.add_tokens(["[NEW]"])
    with pytest.warns(VocabularyMismatchWarning, match="knows 11 tokens"):
        check_pairing(model, tokenizer)
    model.resize_token_embeddings(len(tokenizer))
    assert check_pairing(model, tokenizer) == []


def test_added_tokens_do_not_count_for_a_tokenizer_of_transformers(tmp_path: Path) -> None:
    tokenizer = BertTokenizer(write(tmp_path, CHARACTERS))
    vocabulary = tokenizer.get_vocab()
    fingerprint = vocabulary_fingerprint(sorted(vocabulary, key=vocabulary.__getitem__))
    tokenizer.add_tokens(["[NEW]"])
    config = NezhaConfig(
        vocab_size=len(tokenizer), vocab_fingerprint=fingerprint, tokenizer_class="BertTokenizer", hidden_size=8,
        num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
    )  # fmt: skip
    assert check_pairing(config, tokenizer) == []
    config.vocab_fingerprint = "another"
    with pytest.warns(VocabularyMismatchWarning, match="fingerprint"):
        assert check_pairing(config, tokenizer)


def test_a_subclass_and_a_configuration_without_a_vocabulary_pass(model, tmp_path: Path) -> None:
    class MyTokenizer(WoBertTokenizer):
        pass

    assert check_pairing(model, MyTokenizer(write(tmp_path, WORDS))) == []
    model.config.vocab_fingerprint = None
    assert check_pairing(model, WoBertTokenizer(write(tmp_path, MORE))) == []


def test_importing_anew_does_not_warn_twice(model, tmp_path: Path) -> None:
    import importlib

    import kexue_hf

    importlib.reload(kexue_hf)
    with pytest.warns(VocabularyMismatchWarning) as caught:
        pipeline("fill-mask", model=model, tokenizer=BertTokenizer(write(tmp_path, WORDS)))
    assert len([warning for warning in caught if warning.category is VocabularyMismatchWarning]) == 1


def test_other_models_are_left_alone(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    pipeline("fill-mask", model=BertForMaskedLM(config), tokenizer=BertTokenizer(write(tmp_path, WORDS)))
    assert not [warning for warning in recwarn if warning.category is VocabularyMismatchWarning]


def test_a_vocabulary_keeps_its_empty_line_and_names_a_bad_one(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\r\n\n天\n".encode())
    assert load_vocabulary(path) == {"[PAD]": 0, "": 1, "天": 2}
    path.write_bytes(b"[PAD]\n\xff\xfe\n")
    with pytest.raises(ValueError, match="line 2: not UTF-8"):
        load_vocabulary(path)
