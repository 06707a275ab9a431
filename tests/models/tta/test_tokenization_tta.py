"""T-TA's tokenizer: the original's ids, and everything else that one does with a tokenizer.

Oracles: the golden `b0`, which the original code tokenised, and `tokenizer_oracle.py`.
"""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from datasets.fingerprint import Hasher
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizer

from kexue_hf import TtaConfig, TtaTokenizer, VocabularyMismatchWarning, check_pairing
from kexue_hf.models.tta import vocabulary_tta
from kexue_hf.models.wobert import vocabulary_wobert
from tests.models.tta import tokenizer_oracle as oracle

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "tta_tf_ckpt"
VOCABULARY = {token: index for index, token in enumerate(oracle.make_vocabulary())}
IDS = dict(list(VOCABULARY.items())[:7])
TEXTS = ["The boy's home, 今天 hello!", "", "naïve [MASK] boy", "不 ing"]


def make(**kwargs) -> TtaTokenizer:
    return TtaTokenizer(VOCABULARY, **kwargs)


@pytest.fixture
def tokenizer() -> TtaTokenizer:
    return make(model_max_length=99)


def outcome(tokenizer):
    found = tokenizer(TEXTS, return_offsets_mapping=True, return_special_tokens_mask=True)
    return (
        dict(found),
        [found.word_ids(row) for row in range(len(TEXTS))],
        tokenizer.batch_decode(found["input_ids"], skip_special_tokens=True),
        tokenizer("hello", "the boy", return_token_type_ids=True).data,
    )


# --- ids


def test_the_golden_texts_get_the_originals_ids():
    texts = json.loads((GOLDEN / "case.json").read_text(encoding="utf-8"))["texts_of_b0"]
    inputs = np.load(GOLDEN / "inputs.npz")
    found = TtaTokenizer(str(GOLDEN / "vocab.txt"))(texts, padding=True, return_tensors="np")
    assert set(found) == {"input_ids", "attention_mask"}
    np.testing.assert_array_equal(found["input_ids"], inputs["b0_input_ids"])
    np.testing.assert_array_equal(found["attention_mask"], inputs["b0_input_mask"])


# Characters on which the Rust tables and Python's agree. Of Greek no capital sigma, which Python lower-cases by its
# place in the word.
alphabet = st.one_of(
    st.sampled_from("".join(token.removeprefix("##") for token in VOCABULARY)),
    st.sampled_from(" \t\n\r\0\u00a0\u3000\u200b\ufffd\u0301İÀÉÜßØÆΑΩЖЯÅＡＢ、·…“”《》%$^`~<>|@#&*_{}\\/가𠀀龥豈"),
    st.characters(min_codepoint=32, max_codepoint=0x17F),
)
TOKENIZERS = {lower: make(do_lower_case=lower) for lower in (True, False)}


@pytest.mark.parametrize("lower", [True, False], ids=["lower", "cased"])
@settings(max_examples=150, deadline=None)
@example("ing的 hello Naïve don't... \u0301a")
@example("a" * 200 + " " + "a" * 201)
@given(text=st.text(alphabet, max_size=40))
def test_ids_are_those_of_berts_word_pieces(lower, text):
    found = TOKENIZERS[lower](text, split_special_tokens=True, return_offsets_mapping=True)
    assert found["input_ids"] == oracle.encode(text, VOCABULARY, lower)
    for start, end in found["offset_mapping"][1:-1]:
        assert 0 <= start < end <= len(text)


def test_special_tokens_in_the_text_are_recognised(tokenizer):
    assert tokenizer("[MASK] boy")["input_ids"] == [IDS["[SOS]"], IDS["[MASK]"], VOCABULARY["boy"], IDS["[EOS]"]]


# --- what stands around the text


def test_forms(tokenizer):
    sos, eos, boy, home = IDS["[SOS]"], IDS["[EOS]"], VOCABULARY["boy"], VOCABULARY["home"]
    assert tokenizer("")["input_ids"] == [sos, eos]
    assert dict(tokenizer("boy")) == {"input_ids": [sos, boy, eos], "attention_mask": [1, 1, 1]}
    pair = tokenizer("boy", "home", return_token_type_ids=True, return_special_tokens_mask=True)
    assert dict(pair) == {
        "input_ids": [sos, boy, eos, home, eos],
        "token_type_ids": [0, 0, 0, 1, 1],
        "attention_mask": [1] * 5,
        "special_tokens_mask": [1, 0, 1, 0, 1],
    }
    assert "token_type_ids" not in tokenizer("boy", "home")
    assert tokenizer("boy", add_special_tokens=False)["input_ids"] == [boy]
    assert (tokenizer.num_special_tokens_to_add(), tokenizer.num_special_tokens_to_add(pair=True)) == (2, 3)


def test_special_tokens_have_their_roles(tokenizer):
    roles = {"pad": "[PAD]", "eos": "[EOS]", "unk": "[UNK]", "bos": "[SOS]", "mask": "[MASK]", "cls": "[CLS]"}
    for role, token in {**roles, "sep": "[SEP]"}.items():
        assert getattr(tokenizer, f"{role}_token") == token
        assert getattr(tokenizer, f"{role}_token_id") == IDS[token] == vocabulary_tta.OFFICIAL_IDS[token]
    assert len(tokenizer) == tokenizer.vocab_size == len(VOCABULARY)
    assert tokenizer.is_fast


def test_truncation_padding_and_windows(tokenizer):
    text = "boy " * 9
    found = tokenizer([text, "boy"], truncation=True, max_length=5, padding="max_length")
    assert found["input_ids"][0] == [3, *[VOCABULARY["boy"]] * 3, 1]
    assert found["input_ids"][1] == [3, VOCABULARY["boy"], 1, 0, 0]
    assert found["attention_mask"][1] == [1, 1, 1, 0, 0]
    windows = tokenizer(text, truncation=True, max_length=6, stride=1, return_overflowing_tokens=True)
    assert [len(row) for row in windows["input_ids"]] == [6, 6, 5]
    assert all(row[0] == 3 and row[-1] == 1 for row in windows["input_ids"])
    pair = tokenizer(text, "home", truncation="only_first", max_length=7)["input_ids"]
    assert pair == [3, *[VOCABULARY["boy"]] * 3, 1, VOCABULARY["home"], 1]
    assert tokenizer.pad({"input_ids": [[3, 1], [3, 9, 1]]})["input_ids"][0] == [3, 1, 0]


def test_decoding(tokenizer):
    ids = tokenizer("hello boy, 今天")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "hello boy, 今 天"
    assert tokenizer.decode(ids).startswith("[SOS] hello") and tokenizer.decode(ids).endswith("[EOS]")


# --- saving and loading


@pytest.mark.parametrize("load", [TtaTokenizer.from_pretrained, AutoTokenizer.from_pretrained], ids=["own", "auto"])
@pytest.mark.parametrize("kwargs", [{}, {"do_lower_case": False, "strip_accents": True}], ids=["lower", "cased"])
def test_loading_gives_the_same_tokenizer(kwargs, load, tmp_path):
    tokenizer = make(model_max_length=99, **kwargs)
    tokenizer.add_tokens(["hello boy"])
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "TtaTokenizer"
    assert config["auto_map"] == {"AutoTokenizer": ["tokenization_tta.TtaTokenizer", None]}
    assert not any("/" in str(value) for value in config.values()), "no path of this machine"
    loaded = load(tmp_path)
    assert type(loaded) is TtaTokenizer
    assert outcome(loaded) == outcome(tokenizer)
    assert (len(loaded), loaded.model_max_length) == (len(VOCABULARY) + 1, 99)
    assert loaded.vocab_fingerprint == tokenizer.vocab_fingerprint == make().vocab_fingerprint
    loaded.save_pretrained(tmp_path / "again")
    assert outcome(load(tmp_path / "again")) == outcome(tokenizer)


def test_a_folder_with_nothing_but_the_vocabulary(tokenizer, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    assert outcome(TtaTokenizer.from_pretrained(tmp_path)) == outcome(tokenizer)
    assert outcome(TtaTokenizer(vocab_file=path)) == outcome(TtaTokenizer(list(VOCABULARY))) == outcome(tokenizer)
    TtaConfig(vocab_size=len(VOCABULARY), tokenizer_class=None).save_pretrained(tmp_path)
    assert outcome(AutoTokenizer.from_pretrained(tmp_path)) == outcome(tokenizer)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))],
    ids=["deepcopy", "pickle"],
)
def test_copies_are_equal(copied, tokenizer):
    tokenizer.add_tokens(["hello boy"])
    other = copied(tokenizer)
    assert outcome(other) == outcome(tokenizer) and len(other) == len(tokenizer)


def test_datasets_hash_and_map_it(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    first, second = TtaTokenizer.from_pretrained(tmp_path), TtaTokenizer.from_pretrained(tmp_path)
    before = Hasher.hash(first)
    assert before == Hasher.hash(second) != Hasher.hash(make(do_lower_case=False))
    first(TEXTS)
    assert Hasher.hash(first) == before
    rows = Dataset.from_dict({"text": TEXTS}).map(lambda row: first(row["text"]), num_proc=2)
    assert rows["input_ids"][:] == first(TEXTS)["input_ids"]


def _set(tokenizer: TtaTokenizer) -> None:
    tokenizer.bos_token, tokenizer.eos_token = "[CLS]", "[SEP]"


def _set_by_number(tokenizer: TtaTokenizer) -> None:
    tokenizer.bos_token_id = IDS["[CLS]"]


def _add(tokenizer: TtaTokenizer) -> None:
    tokenizer.add_special_tokens({"bos_token": "[NEW]", "eos_token": "[SEP]"})


def _set_then_add(tokenizer: TtaTokenizer) -> None:
    tokenizer.eos_token = "[END]"
    tokenizer.add_tokens("[END]", special_tokens=True)


@pytest.mark.parametrize("change", [_set, _set_by_number, _add, _set_then_add], ids=lambda change: change.__name__[1:])
def test_other_tokens_around_a_sentence_count_at_once(tokenizer, tmp_path, change):
    change(tokenizer)
    boy = tokenizer.convert_tokens_to_ids("boy")
    expected = [tokenizer.bos_token_id, boy, tokenizer.eos_token_id]
    assert tokenizer("boy")["input_ids"] == expected != [IDS["[SOS]"], boy, IDS["[EOS]"]]
    tokenizer.save_pretrained(tmp_path)
    for found in (copy.deepcopy(tokenizer), TtaTokenizer.from_pretrained(tmp_path)):
        assert outcome(found) == outcome(tokenizer)


@pytest.mark.parametrize("name", ["bos_token", "eos_token", "eos_token_id"])
def test_a_sentence_cannot_go_without_tokens_around_it(tokenizer, name):
    with pytest.raises(ValueError, match=f"around every sentence, so {name} cannot be None"):
        setattr(tokenizer, name, None)


def test_other_special_tokens_and_training_anew(tokenizer):
    other = TtaTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"], bos_token="[CLS]", eos_token="[SEP]")
    assert other("a")["input_ids"] == [2, 4, 3]
    assert other.mask_token is None and other.bos_token_id == other.cls_token_id == 2
    trained = tokenizer.train_new_from_iterator(["a boy a boy a girl"] * 9, vocab_size=60)
    assert type(trained) is TtaTokenizer
    ids = trained("boy")["input_ids"]
    assert (ids[0], ids[-1]) == (trained.bos_token_id, trained.eos_token_id) and trained.unk_token_id not in ids


def test_a_token_that_occurs_twice_leaves_no_id_to_others(tmp_path):
    path = tmp_path / "vocab.txt"
    lines = [*oracle.SPECIAL, "x", "x", "y"]
    path.write_text("".join(f"{token}\n" for token in lines), encoding="utf-8")
    tokenizer = TtaTokenizer(str(path))
    assert tokenizer("x y")["input_ids"] == [3, 8, 9, 1] and len(tokenizer) == len(lines)
    assert tokenizer.add_tokens(["z"]) == 1 and tokenizer.convert_tokens_to_ids("z") == len(lines)
    reference = vocabulary_wobert.load_vocabulary(path)
    expected = vocabulary_wobert.vocabulary_fingerprint(sorted(reference, key=reference.__getitem__))
    assert tokenizer.vocab_fingerprint == expected


# --- errors and the guard


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        (None, "needs a vocabulary"),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"], r"lacks \[EOS\], \[SOS\]: is it a T-TA's"),
        ("/nowhere/vocab.txt", "cannot read the vocabulary /nowhere"),
        ({"[PAD]": 0, "[EOS]": 0}, "a distinct id"),
        ([*oracle.SPECIAL, 7], "a token must be a string"),
    ],
    ids=["none", "bert", "no-file", "same-id", "no-string"],
)
def test_a_vocabulary_that_does_not_do(vocab, message):
    with pytest.raises(ValueError, match=message):
        TtaTokenizer(vocab)


def test_a_file_that_is_no_text_is_named_with_its_line(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\n的\n".encode() + b"\xff\n")
    with pytest.raises(ValueError, match="line 3: not UTF-8"):
        TtaTokenizer(str(path))


def test_the_guard_knows_the_right_tokenizer(tokenizer):
    config = TtaConfig(
        vocab_size=len(VOCABULARY), vocab_fingerprint=tokenizer.vocab_fingerprint, tokenizer_class="TtaTokenizer"
    )
    assert check_pairing(config, tokenizer) == []
    # The same vocabulary, with [CLS] and [SEP] around the text.
    with pytest.warns(VocabularyMismatchWarning, match="trained with TtaTokenizer, this is a BertTokenizer"):
        assert check_pairing(config, BertTokenizer(VOCABULARY))
    with pytest.warns(VocabularyMismatchWarning, match="fingerprint"):
        assert check_pairing(config, TtaTokenizer([*oracle.SPECIAL, "a"]))


def test_both_models_files_read_a_vocabulary_alike(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\r\n\n天\n天\n".encode())
    assert vocabulary_tta.load_vocabulary(path) == vocabulary_wobert.load_vocabulary(path)
    assert vocabulary_tta.vocabulary_fingerprint(["天"]) == vocabulary_wobert.vocabulary_fingerprint(["天"])


def test_lines_are_stripped_as_by_the_official_code(tmp_path):
    path = tmp_path / "vocab.txt"
    lines = ["\ufeff[PAD]", *oracle.SPECIAL[1:], "x ", "\ty", "\u2028", "new york"]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    tokenizer = TtaTokenizer(str(path))
    assert (tokenizer.pad_token_id, len(tokenizer)) == (0, 11)
    assert tokenizer("x\u2028y")["input_ids"] == [3, 7, 8, 1]
    assert vocabulary_tta.load_vocabulary(path) == vocabulary_wobert.load_vocabulary(path, first_field=False)
