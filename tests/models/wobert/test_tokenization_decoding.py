"""Ids back to text: no spaces in Chinese, spaces in English, and the same ids when the text is read again."""

import pytest
from hypothesis import given, settings

from kexue_hf.models.wobert.decoding_wobert import join_tokens
from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer
from tests.models.wobert import tokenizer_oracle as oracle
from tests.models.wobert.tokenizer_texts import ORDINARY, texts

TOKENIZER = WoBertTokenizer(vocab=oracle.make_vocabulary())


@pytest.mark.parametrize(
    "text",
    [
        "今天天气真好，我们来北京大学",
        "hello world, a3.14%b!好",
        "在c++的hello world。今天10:30，100%",
        "a: b; c? d",
        "“今天”……的·中国",
        "x-y a_b a/b a&b",
        "苏剑林、哈利·波特",
    ],
    ids=str,
)
def test_ordinary_text_comes_back(text):
    decoded = TOKENIZER.decode(TOKENIZER(text, add_special_tokens=False)["input_ids"])
    assert "[UNK]" not in decoded
    assert decoded == text


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["今天", "天气"], "今天天气"),
        (["hello", "world"], "hello world"),
        (["wor", "##ld", "!"], "world!"),
        (["3", ".", "14", "%"], "3.14%"),
        (["1", ",", "000"], "1,000"),
        (["end", ".", "begin"], "end. begin"),
        (["好", ".", "begin"], "好.begin"),
        (["a", "今天", "b"], "a今天b"),
        (["windows", "10", "系统"], "windows 10系统"),
        (["##"], "##"),
        (["#", "#", "x"], "##x"),
        (["か", "な"], "かな"),
        (["", "今天"], "今天"),
        (["[CLS]", "今天", "[MASK]", "好", "[SEP]", "[PAD]"], "[CLS] 今天 [MASK] 好 [SEP] [PAD]"),
        (["[CLS]", "[UNK]", "在", "，", "[MASK]", "。", "[SEP]"], "[CLS] [UNK] 在， [MASK] 。 [SEP]"),
        (["今天", "[MASK]", "##ing", "a"], "今天 [MASK]ing a"),
        (["我", "苏剑林", "在", "##not", "new", "new"], "我苏剑林在##not new new"),
        (["hello", "[MASK]", "world"], "hello [MASK] world"),
        ([], ""),
    ],
    ids=str,
)
def test_where_spaces_go(tokens, expected):
    assert join_tokens(tokens, frozenset(oracle.SPECIAL), frozenset(["苏剑林", "##not", "new"])) == expected


@settings(max_examples=150, deadline=None)
@given(text=texts)
def test_reading_again_gives_the_same_text(text):
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    decoded = TOKENIZER.decode(ids)
    again = TOKENIZER.decode(TOKENIZER(decoded, add_special_tokens=False)["input_ids"])
    assert again.replace(" ", "") == decoded.replace(" ", "")


@pytest.mark.parametrize("text", ORDINARY)
def test_batches_and_skipping(text):
    rows = TOKENIZER([text, "今天"], padding=True, return_tensors="np")["input_ids"]
    assert TOKENIZER.batch_decode(rows, skip_special_tokens=True)[1] == "今天"
    assert TOKENIZER.decode(rows[1]).startswith("[CLS] 今天 [SEP]")
    assert TOKENIZER.decode(6 if TOKENIZER.ids_to_tokens[6] else 7) == TOKENIZER.ids_to_tokens[6]


def test_special_tokens_stand_between_spaces_and_added_ones_as_words_do():
    tokenizer = WoBertTokenizer(vocab=oracle.make_vocabulary())
    tokenizer.add_tokens(["苏剑林"])
    tokenizer.add_special_tokens({"extra_special_tokens": ["<e>"]})
    assert tokenizer.decode(tokenizer("今天<e>苏剑林在[MASK]，")["input_ids"]) == (
        "[CLS] 今天 <e> 苏剑林在 [MASK] ， [SEP]"
    )


def test_conversions():
    vocab = TOKENIZER.get_vocab()
    assert TOKENIZER.convert_tokens_to_ids(["今天", "没有的"]) == [vocab["今天"], vocab["[UNK]"]]
    assert TOKENIZER.convert_ids_to_tokens([vocab["今天"], 10**6]) == ["今天", "[UNK]"]
    assert TOKENIZER.convert_tokens_to_string(["今天", "wor", "##ld"]) == "今天world"
