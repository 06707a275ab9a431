"""Ids against what bert4keras itself computed: tests/golden/tokenizer, whose case.json says how.

The two real vocabularies are not in the repository; where the measuring data lies beside it all rows are compared, and
elsewhere the oracle of tokenizer_oracle.py (which this file holds against the same rows) stands in for them.
"""

import gzip
import json
from pathlib import Path

import pytest

from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer
from tests.models.wobert import tokenizer_oracle as oracle
from tests.shared_data import SHARED, needs_shared

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "tokenizer"
VOCABULARIES = ["wobert", "wobert_plus"]
CASE = json.loads((GOLDEN / "case.json").read_text(encoding="utf-8"))


def rows(name):
    with gzip.open(GOLDEN / f"{name}.jsonl.gz", "rt", encoding="ascii") as file:
        return [json.loads(line) for line in file]


def has_special(text):
    return any(token in text for token in oracle.SPECIAL)


@pytest.fixture(scope="module", params=VOCABULARIES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(name):
    return WoBertTokenizer(SHARED / "golden" / "tokenizer" / f"{name}_vocab.txt")


@needs_shared
def test_every_single_text_has_the_original_ids(name, tokenizer):
    golden = rows(name)
    assert len(golden) == CASE["vocabularies"][name]["texts"]
    plain = [row for row in golden if not has_special(row["text"])]
    assert tokenizer([row["text"] for row in plain])["input_ids"] == [row["ids"] for row in plain]


@needs_shared
def test_texts_with_special_tokens_have_them_when_these_are_taken_apart(name, tokenizer):
    special = [row for row in rows(name) if has_special(row["text"])]
    assert special
    for row in special:
        assert tokenizer(row["text"], split_special_tokens=True)["input_ids"] == row["ids"]
        assert tokenizer(row["text"])["input_ids"] != row["ids"]


@needs_shared
def test_tokens_are_the_original_ones_but_for_unknown_words(name, tokenizer):
    for row in rows(name):
        vocabulary = tokenizer.vocab
        expected = [token if token in vocabulary else "[UNK]" for token in row["tokens"]]
        found = tokenizer.tokenize(row["text"], add_special_tokens=True, split_special_tokens=True)
        assert found == expected


@needs_shared
def test_every_pair_has_the_original_ids_and_segments(name, tokenizer):
    golden = rows(f"{name}_pairs")
    assert len(golden) == CASE["vocabularies"][name]["pairs"]
    assert any(row["maxlen"] and len(row["ids"]) == row["maxlen"] for row in golden)
    for row in golden:
        found = tokenizer(
            row["first"],
            row["second"],
            truncation="longest_first" if row["maxlen"] else False,
            max_length=row["maxlen"],
            split_special_tokens=True,
        )
        assert (found["input_ids"], found["token_type_ids"]) == (row["ids"], row["segment_ids"])


@needs_shared
def test_the_vocabulary_is_read_whole(name, tokenizer):
    facts = CASE["vocabularies"][name]
    assert len(tokenizer) == tokenizer.vocab_size == facts["lines"]
    assert {t: tokenizer.convert_tokens_to_ids(t) for t in facts["special_ids"]} == facts["special_ids"]


@needs_shared
def test_fast_and_plain_paths_agree_on_real_text(tokenizer):
    with open(SHARED / "data" / "sentiment" / "train.jsonl", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(300), file, strict=False)]
    found = tokenizer(texts, return_offsets_mapping=True)
    for i, text in enumerate(texts):
        assert found["input_ids"][i] == found.encodings[i].ids == oracle.encode(text, tokenizer.vocab)
        assert found["offset_mapping"][i] == found.encodings[i].offsets


def test_the_oracle_tokenizes_as_the_original_did(name):
    """With a vocabulary of the golden tokens alone: every token there must be found again."""
    golden = rows(name)
    unknown = CASE["vocabularies"][name]["special_ids"]["[UNK]"]
    vocabulary = {}
    for row in golden:
        vocabulary.update((t, i) for t, i in zip(row["tokens"], row["ids"], strict=True) if i != unknown)
    vocabulary["[UNK]"] = unknown
    tokenizer = WoBertTokenizer(vocab=vocabulary, pad_token=None, mask_token=None)
    same = 0
    for row in golden:
        found = oracle.tokenize(row["text"], vocabulary)
        assert tokenizer(row["text"], split_special_tokens=True)["input_ids"] == oracle.encode(row["text"], vocabulary)
        # A word of the vocabulary that is missing from the rows may have served to cut a longer one.
        same += ["[CLS]", *found, "[SEP]"] == row["tokens"]
    assert same == len(golden)
