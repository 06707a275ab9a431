"""Rows and segments: no tokens are lost except documented ones, sentences stay whole, words are numbered."""

from itertools import pairwise

import pytest

from kexue_hf import TtaTokenizer, WoBertTokenizer
from kexue_hf.corpora.packing import FullRows, Segments, split_segments
from kexue_hf.errors import InputError
from kexue_hf.vocabulary.corpus_counts import CorpusCounts
from kexue_hf.vocabulary.vocabulary_files import build_vocabulary

SENTENCES = [
    "实验结果表明，该方法是有效的。",
    "本文提出了一种新的图像分割方法。",
    "北京是中国的首都，人口很多。",
    "他说今天天气很好。",
]
TEXTS = ["".join(SENTENCES[(i + j) % 4] for j in range(1 + i % 5)) + f"第{i}段。" for i in range(48)]


@pytest.fixture(scope="module")
def tokenizer() -> WoBertTokenizer:
    return WoBertTokenizer(vocab=build_vocabulary(CorpusCounts(), 12_000))


def contents(rows: dict, tokenizer: WoBertTokenizer) -> list[list[int]]:
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    return [[i for i in ids if i not in special] for ids in rows["input_ids"]]


def ids_of(tokenizer: WoBertTokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", [FullRows, Segments])
def test_words_are_numbered_from_0_and_lengths_are_right(tokenizer, kind):
    rows = kind(tokenizer, 24)({"text": TEXTS})
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for ids, words, length in zip(rows["input_ids"], rows["word_ids"], rows["length"], strict=True):
        assert len(ids) == len(words) == length <= 24 and ids[0] == cls and ids[-1] == sep
        assert min(w for w in words if w >= 0) == 0
        assert [w == -1 for w in words] == [i in (cls, sep) for i in ids]


def test_full_rows_keep_sentences_and_lose_nothing(tokenizer):
    rows = FullRows(tokenizer, 24)({"text": TEXTS})
    assert [i for ids in contents(rows, tokenizer) for i in ids] == [
        i for text in TEXTS for i in ids_of(tokenizer, text)
    ]
    stops = sum(tokenizer.convert_ids_to_tokens(ids[-2]) == "。" for ids in rows["input_ids"])
    assert stops == len(rows["input_ids"])  # no sentence here is longer than a row
    # A separator stands between texts of a row.
    assert any(tokenizer.sep_token_id in ids[:-1] for ids in rows["input_ids"])
    long = FullRows(tokenizer, 8)({"text": ["实验" * 20]})
    assert [len(ids) for ids in long["input_ids"]] == [8, 8, 8, 4]


def test_a_stream_of_texts_and_a_batch_of_them_give_the_same_rows(tokenizer):
    packing = FullRows(tokenizer, 24)
    assert [row["input_ids"] for row in packing.split(iter(TEXTS))] == packing({"text": TEXTS})["input_ids"]


@pytest.mark.parametrize("limit", [1, 7, 20, 31, 1000])
def test_segments_join_sentences_up_to_the_limit(limit):
    for text in [*TEXTS, "没有句号", "一\n\n二。三", "长" * 100 + "。短。", ""]:
        parts = list(split_segments(text, limit))
        assert "".join(parts) == text and all(0 < len(part) <= limit for part in parts)
        for part, following in pairwise(parts):
            whole = part.endswith(("。", "\n"))
            first = following.replace("\n", "。").split("。")[0] + "。"
            # A part is full, or the next sentence does not fit.
            assert len(part) == limit or (whole and len(part) + min(len(first), len(following)) > limit)


def test_a_segment_is_of_one_text_and_what_does_not_fit_is_dropped(tokenizer):
    packing = Segments(tokenizer, 24)
    assert packing.characters == 31
    rows = packing({"text": TEXTS})
    segments = [part for text in TEXTS for part in split_segments(text, 31)]
    assert contents(rows, tokenizer) == [ids_of(tokenizer, segment)[:22] for segment in segments]
    assert Segments(tokenizer, 24, 10).characters == 10


@pytest.mark.parametrize("characters", [0, -5])
def test_a_segment_of_no_characters_is_refused(tokenizer, characters):
    with pytest.raises(InputError, match=f"at least 1 character, got {characters}"):
        Segments(tokenizer, 24, characters)


def test_segments_can_be_encoded_later(tokenizer):
    packing = Segments(tokenizer, 24)
    parts = list(packing.split([*TEXTS, " \n"]))
    assert all(part["length"] == len(part["text"]) for part in parts)
    rows = packing.encode([part["text"] for part in parts])
    assert [row["input_ids"] for row in rows] == packing({"text": TEXTS})["input_ids"]
    assert packing({"text": ["\n"]}) == {"input_ids": [], "word_ids": [], "length": []}


@pytest.mark.parametrize("kind", [FullRows, Segments])
def test_rows_have_the_special_tokens_of_the_tokenizer(kind):
    tokenizer = TtaTokenizer(vocab=["[PAD]", "[EOS]", "[UNK]", "[SOS]", "[MASK]", "[CLS]", "[SEP]", *"天地玄黄"])
    rows = kind(tokenizer, 9)({"text": ["天地。", "玄黄。"]})["input_ids"]
    first, second = [7, 8, 2], [9, 10, 2]
    if kind is FullRows:
        assert rows == [[3, *first, 1, *second, 1]]
    else:
        assert rows == [[3, *first, 1], [3, *second, 1]]


def test_a_tokenizer_that_puts_nothing_around_a_text_is_refused(tokenizer):
    def bare(text: str) -> dict[str, list[int]]:
        return {"input_ids": []}

    bare.convert_ids_to_tokens = tokenizer.convert_ids_to_tokens
    with pytest.raises(InputError, match="expected a tokenizer that puts one token before a text and one after"):
        FullRows(bare, 24)
