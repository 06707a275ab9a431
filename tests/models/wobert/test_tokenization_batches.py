"""Pairs, truncation, padding, windows, words: every form in which a batch may come and go.

Oracle: the plain definition in each test, and the agreement of all outputs with the row's own encoding.
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import logging

from kexue_hf.models.wobert import analysis_wobert, batch_wobert
from kexue_hf.models.wobert.analysis_wobert import Analyzer
from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer
from kexue_hf.models.wobert.truncation_wobert import truncated_windows
from tests.models.wobert import tokenizer_oracle as oracle
from tests.models.wobert.tokenizer_texts import texts

CLS, SEP, PAD = 2, 3, 0
LONG = "今天天气真好，我们喜欢北京大学的人工智能。" * 3
ALL = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_length": True}


@pytest.fixture(scope="module")
def tokenizer():
    return WoBertTokenizer(vocab=oracle.make_vocabulary(), model_max_length=512)


def check_rows(batch):
    """What every batch must fulfil: all values of a row belong together, and to its encoding."""
    for i, ids in enumerate(batch["input_ids"]):
        encoding = batch.encodings[i]
        assert list(ids) == encoding.ids
        assert batch.tokens(i) == encoding.tokens
        for key, expected in {
            "token_type_ids": encoding.type_ids,
            "attention_mask": encoding.attention_mask,
            "special_tokens_mask": encoding.special_tokens_mask,
            "offset_mapping": encoding.offsets,
        }.items():
            if key in batch:
                assert batch[key][i] == expected, key
        if "length" in batch:
            assert batch["length"][i] == len(ids)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("padding", [False, True, "max_length"], ids=["as-is", "longest", "max_length"])
@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("special", [True, False], ids=["special", "bare"])
def test_rows_are_consistent(tokenizer, side, padding, pair, special):
    first = ["今天[MASK]天气", "", LONG, "hello world"]
    second = ["Él 3.14", LONG, "", "가"] if pair else None
    batch = tokenizer(
        first,
        second,
        padding=padding,
        padding_side=side,
        truncation=True,
        max_length=16,
        add_special_tokens=special,
        **ALL,
    )
    check_rows(batch)
    lengths = [len(ids) for ids in batch["input_ids"]]
    assert max(lengths) <= 16
    if padding:
        assert set(lengths) == {16}
    assert batch.n_sequences == (2 if pair else 1)


def test_pairs_may_be_given_in_any_form(tokenizer):
    expected = tokenizer("今天", "天气")["input_ids"]
    assert expected == [CLS, *tokenizer("今天")["input_ids"][1:-1], SEP, *tokenizer("天气")["input_ids"][1:-1], SEP]
    assert tokenizer([("今天", "天气")])["input_ids"] == [expected]
    assert tokenizer([["今天", "天气"]])["input_ids"] == [expected]
    assert tokenizer(["今天"], ["天气"])["input_ids"] == [expected]
    mixed = tokenizer([("今天", "天气"), "今天"], **ALL)
    assert mixed["input_ids"] == [expected, tokenizer("今天")["input_ids"]]
    check_rows(mixed)


def test_ids_may_come_instead_of_text(tokenizer):
    ids = tokenizer("今天 天气", add_special_tokens=False)["input_ids"]
    assert tokenizer(ids)["input_ids"] == tokenizer("今天 天气")["input_ids"]
    assert tokenizer([ids, ids])["input_ids"] == [tokenizer("今天 天气")["input_ids"]] * 2
    assert tokenizer(ids, ids, truncation=True, max_length=6)["input_ids"] == [CLS, ids[0], SEP, *ids, SEP]
    prepared = tokenizer.prepare_for_model(ids, ids, truncation=True, max_length=6)
    assert prepared["input_ids"] == [CLS, ids[0], SEP, *ids, SEP]


@pytest.mark.parametrize("make", [np.array, lambda rows: tuple(rows), iter], ids=["numpy", "tuple", "iterator"])
def test_batches_of_other_kinds(tokenizer, make):
    rows = ["今天", "天气真好"]
    if make is iter:
        with pytest.raises(ValueError, match="a text must be a string"):
            tokenizer(make(rows))
    else:
        assert tokenizer(make(rows))["input_ids"] == tokenizer(rows)["input_ids"]


@pytest.mark.parametrize(
    "bad", [None, 3, ["今天", None], [None], [["今天", "天气", "真好"]], b"abc", {"text": "今天"}], ids=repr
)
def test_what_is_no_text_is_refused(tokenizer, bad):
    with pytest.raises((ValueError, TypeError), match="text"):
        tokenizer(bad)
    with pytest.raises(ValueError, match="text"):
        tokenizer.tokenize(3)


def test_without_cls_there_are_no_special_tokens_to_add():
    tokenizer = WoBertTokenizer(vocab=oracle.make_vocabulary(), cls_token=None)
    with pytest.raises(ValueError, match="no cls_token"):
        tokenizer("今天")
    assert len(tokenizer("今天", add_special_tokens=False)["input_ids"]) == 1


def test_a_batch_of_pairs_needs_as_many_seconds(tokenizer):
    with pytest.raises(ValueError, match="batch of 2 texts, text_pair must be a list of 2 texts, got 1"):
        tokenizer(["今天", "天气"], ["今天"])


def test_nothing_is_something(tokenizer):
    assert tokenizer("")["input_ids"] == [CLS, SEP]
    assert tokenizer("", add_special_tokens=False, **ALL)["input_ids"] == []
    assert tokenizer([])["input_ids"] == []
    assert tokenizer([], padding=True)["input_ids"] == []
    assert tokenizer("", "", **ALL)["offset_mapping"] == [(0, 0)] * 3
    assert tokenizer([], is_split_into_words=True)["input_ids"] == [CLS, SEP]
    assert tokenizer([["今天"], []], is_split_into_words=True)["input_ids"][1] == [CLS, SEP]


@pytest.mark.parametrize("kind", ["pt", "np"])
def test_tensors(tokenizer, kind):
    single = tokenizer("今天 天气", return_tensors=kind, **ALL)
    assert tuple(single["input_ids"].shape) == (1, 4)
    assert tuple(single["offset_mapping"].shape) == (1, 4, 2)
    batch = tokenizer(["今天 天气", LONG], padding=True, pad_to_multiple_of=8, return_tensors=kind, **ALL)
    assert batch["input_ids"].shape[1] % 8 == 0
    assert isinstance(batch["input_ids"], torch.Tensor if kind == "pt" else np.ndarray)
    assert tuple(batch["offset_mapping"].shape) == (*batch["input_ids"].shape, 2)
    assert batch["attention_mask"].sum() == sum(len(r) for r in tokenizer(["今天 天气", LONG])["input_ids"])


def test_padding_of_given_encodings(tokenizer):
    """What data collators do."""
    rows = [tokenizer(text, return_special_tokens_mask=True) for text in ("今天", LONG)]
    padded = tokenizer.pad(rows, return_tensors="pt")
    assert padded["input_ids"].shape == padded["attention_mask"].shape == padded["special_tokens_mask"].shape
    assert padded["input_ids"][0, 3:].eq(PAD).all()


# --- truncation


@given(
    first=st.integers(0, 30),
    second=st.integers(0, 30),
    max_length=st.integers(3, 70),
)
def test_longest_first_takes_as_the_original_does(first, second, max_length):
    expected = oracle.truncate_pair(list(range(first)), list(range(second)), max_length)
    ((a, b),) = truncated_windows([first, second], max_length - 3, "longest_first", "right", 0, False)
    assert (list(range(*a)), list(range(*b))) == expected
    ((a, b),) = truncated_windows([first, second], max_length - 3, "longest_first", "left", 0, False)
    assert (a.end - a.start, b.end - b.start) == tuple(map(len, expected))
    assert (a.end, b.end) == (first, second)


@given(
    length=st.integers(0, 50),
    room=st.integers(1, 20),
    stride=st.integers(0, 19),
    side=st.sampled_from(["left", "right"]),
)
def test_windows_cover_everything_and_overlap_by_the_stride(length, room, stride, side):
    if stride >= room and length > room:
        with pytest.raises(ValueError, match="stride must be less than"):
            truncated_windows([length], room, "only_first", side, stride, True)
        return
    windows = [row[0] for row in truncated_windows([length], room, "only_first", side, stride, True)]
    if side == "left":
        windows = windows[::-1]
    covered = [i for window in windows for i in range(*window)]
    assert sorted(set(covered)) == list(range(length))
    assert all(window.end - window.start <= room for window in windows)
    overlaps = [before.end - after.start for before, after in itertools.pairwise(windows)]
    assert overlaps == [stride] * len(overlaps)
    assert len(windows) == 1 or all(w.end - w.start == room for w in (windows[1:] if side == "left" else windows[:-1]))


@pytest.mark.parametrize("side", ["left", "right"])
def test_windows_are_those_of_the_rust_tokenizers(tokenizer, side):
    """Oracle: a Rust word-level tokenizer over the same tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({**tokenizer.get_vocab()}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    names = {name: f"[{name[:-6].upper()}]" for name in ("unk_token", "pad_token", "cls_token", "sep_token")}
    rust = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    rust.truncation_side = side
    ours = WoBertTokenizer(vocab=tokenizer.get_vocab(), truncation_side=side)
    question, context = "今天", " ".join(ours.tokenize(LONG))
    keys = ["input_ids", "attention_mask", "special_tokens_mask", "offset_mapping", "overflow_to_sample_mapping"]
    for strategy, arguments in {
        "only_second": ([question, question], [context, context[:30]]),
        "only_first": ([context, question], None),
    }.items():
        options = {
            "truncation": strategy,
            "max_length": 14,
            "stride": 3,
            "padding": "max_length",
            "return_overflowing_tokens": True,
            "return_offsets_mapping": True,
            "return_special_tokens_mask": True,
        }
        expected, found = rust(*arguments, **options), ours(*arguments, **options)
        assert len(found["input_ids"]) > 5
        for key in keys:
            assert found[key] == expected[key], key
        for i in range(len(found["input_ids"])):
            assert found.sequence_ids(i) == expected.sequence_ids(i)
            assert found.tokens(i) == expected.tokens(i)
            sequence = found.n_sequences - 1
            for char in range(len(context)):
                assert found[i].char_to_token(char, sequence) == expected[i].char_to_token(char, sequence)


def test_windows_of_a_pair_cut_on_both_sides_are_every_combination(tokenizer):
    batch = tokenizer(LONG, LONG, truncation=True, max_length=23, stride=2, return_overflowing_tokens=True, **ALL)
    check_rows(batch)
    windows = {(row[1], row[12]) for row in batch["offset_mapping"]}  # the first span of either sequence
    assert len(windows) == len(batch["input_ids"]) == 36
    assert batch["overflow_to_sample_mapping"] == [0] * 36


def test_a_sequence_too_short_to_be_cut_is_named(tokenizer):
    with pytest.raises(ValueError, match=r"only_first.*sequence of 1.*use truncation='longest_first'"):
        tokenizer("今天", LONG, truncation="only_first", max_length=10)


@pytest.mark.parametrize(
    ("texts", "needed"),
    [(["今天天气"], 2), ([""], 2), (["今天", "天气"], 3), ([["今天", ("今天", "天气")]], 3)],
    ids=["text", "empty", "pair", "mixed"],
)
@pytest.mark.parametrize("overflow", [False, True], ids=["one-row", "overflow"])
def test_max_length_has_room_for_the_special_tokens(tokenizer, texts, needed, overflow):
    options = {"truncation": True, "return_overflowing_tokens": overflow}
    with pytest.raises(ValueError, match=f"room for the {needed} special tokens .*, got {needed - 1}"):
        tokenizer(*texts, max_length=needed - 1, **options)
    rows = tokenizer(*texts, max_length=needed, **options)["input_ids"]
    assert all(len(row) <= needed for row in (rows if isinstance(rows[0], list) else [rows]))
    bare = tokenizer("今天天气", max_length=1, add_special_tokens=False, **options)["input_ids"]
    assert bare[0] if overflow else bare


def test_truncation_of_pairs_says_nothing(tokenizer, caplog):
    logging.enable_propagation()
    try:
        tokenizer(LONG, LONG, truncation=True, max_length=10)
    finally:
        logging.disable_propagation()
    assert not caplog.records


def test_model_max_length_is_respected(tokenizer):
    text = LONG * 20
    assert len(tokenizer(text, truncation=True)["input_ids"]) == 512
    assert len(tokenizer("今天", padding="max_length")["input_ids"]) == 512
    assert len(tokenizer.encode(text, max_length=9)) == 9


# --- words and characters


def test_word_ids_count_the_words_of_the_segmenter(tokenizer):
    found = tokenizer("今天 hello, 苏剑林的worldx", "中国")
    pairs = list(zip(found.tokens(), found.word_ids(), found.sequence_ids(), strict=True))
    assert pairs == [
        ("[CLS]", None, None),
        ("今天", 0, 0),
        ("hello", 1, 0),
        (",", 2, 0),
        ("苏", 3, 0),
        ("剑", 4, 0),
        ("林", 5, 0),
        ("的", 6, 0),
        ("wor", 7, 0),
        ("##ld", 7, 0),
        ("##x", 7, 0),
        ("[SEP]", None, None),
        ("中国", 0, 1),
        ("[SEP]", None, None),
    ]
    assert found.word_to_tokens(7) == (8, 11)
    assert found.word_to_tokens(0, sequence_index=1) == (12, 13)
    assert found.word_to_chars(7) == (14, 20)
    assert found.word_to_tokens(99) is None
    assert found.char_to_word(15) == 7
    assert found.token_to_word(0, 9) == 7
    assert [found.token_to_sequence(i) for i in (0, 1, 12)] == [None, 0, 1]


@pytest.mark.parametrize("in_words", [False, True], ids=["text", "in-words"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_looking_up_is_looking_through(tokenizer, in_words, side):
    texts = (
        [["今天", "한국 hello", "", "É"], ["wor", "world", "今天"]]
        if in_words
        else ["각ΑΣ  hello\ufb01 3.14", "今天wor"]
    )
    batch = tokenizer(
        [tuple(texts)], is_split_into_words=in_words, padding="max_length", max_length=40, padding_side=side
    )
    row = batch.encodings[0]
    tokens = list(enumerate(zip(row.offsets, row.word_ids, row.sequence_ids, strict=True)))
    for sequence in range(3):
        for n in range(-1, 20):
            having = [t for t, ((start, end), _, of) in tokens if start <= n < end and of == sequence]
            assert row.char_to_token(n, sequence) == (having[0] if having else None)
            of_word = [t for t, (_, word, of) in tokens if word == n and of == sequence]
            assert row.word_to_tokens(n, sequence) == ((of_word[0], of_word[-1] + 1) if of_word else None)


def test_looking_up_every_character_takes_linear_time(tokenizer):
    """Counted, not timed: how often the spans of a long row are walked through."""
    row = tokenizer("今天天气，hello" * 200).encodings[0]
    walked = {"offsets": 0, "word_ids": 0}

    class Counting(list):
        def __init__(self, name, values):
            super().__init__(values)
            self.name = name

        def __iter__(self):
            walked[self.name] += 1
            return super().__iter__()

    row.offsets, row.word_ids = Counting("offsets", row.offsets), Counting("word_ids", row.word_ids)
    for char in range(2000):
        row.word_to_chars(row.char_to_word(char))
    assert max(walked.values()) == 1


def test_characters_and_tokens_lead_to_each_other(tokenizer):
    text = "今天 É世world[MASK]"
    found = tokenizer(text)
    assert [found.char_to_token(i) for i in range(len(text))] == [1, 1, None, 2, 3, 4, 4, 4, 5, 5, *[6] * 6]
    assert found.token_to_chars(0) is None
    assert tuple(found.token_to_chars(5)) == (8, 10)
    assert tuple(found.token_to_chars(6)) == (10, 16)
    assert found.char_to_token(0, sequence_index=1) is None


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
def test_texts_in_words_keep_their_numbers_and_spans(tokenizer, pair):
    words = ["今天中国", "", "HELLO world", " ", "É"]
    found = tokenizer(words, words if pair else None, is_split_into_words=True, **ALL)
    assert found.tokens()[1:6] == ["今天", "中国", "hello", "wor", "##ld"]
    assert found.word_ids()[:8] == [None, 0, 0, 2, 2, 2, 4, None]
    assert found["offset_mapping"][1:7] == [(0, 2), (2, 4), (0, 5), (6, 9), (9, 11), (0, 1)]
    batch = tokenizer([words, ["中国"]], [words, ["中国"]] if pair else None, is_split_into_words=True, **ALL)
    assert batch["input_ids"][0] == found["input_ids"]
    check_rows(batch)


def test_a_pair_of_texts_in_words_is_a_tuple(tokenizer):
    found = tokenizer([(["今天"], ["天气", "真好"])], is_split_into_words=True)
    assert found.sequence_ids(0) == [None, 0, None, 1, 1, 1, None]
    assert (
        tokenizer([["今天"], ["天气"]], is_split_into_words=True)["input_ids"]
        == tokenizer(["今天", "天气"])["input_ids"]
    )


@settings(max_examples=100, deadline=None)
@given(batch=st.lists(texts, min_size=1, max_size=4), max_length=st.integers(4, 20), stride=st.integers(0, 1))
def test_any_batch_is_consistent(batch, max_length, stride):
    tokenizer = TOKENIZER
    rows = tokenizer(
        batch,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        padding=True,
        **ALL,
    )
    check_rows(rows)
    whole = tokenizer(batch, add_special_tokens=False)["input_ids"]
    for sample, ids in enumerate(whole):
        mine = [i for i, of in enumerate(rows["overflow_to_sample_mapping"]) if of == sample]
        parts = [[t for t, s in zip(rows["input_ids"][i], rows.sequence_ids(i), strict=True) if s == 0] for i in mine]
        assert parts[0] + [token for part in parts[1:] for token in part[stride:]] == ids


TOKENIZER = WoBertTokenizer(vocab=oracle.make_vocabulary())


# --- words of many rows at once


WITH_SPECIAL = st.lists(texts | st.sampled_from(["[MASK]", "[SEP]", "[CLS] ", "\uffff", "É", " "]), max_size=4).map(
    "".join
)


@settings(max_examples=100, deadline=None)
@given(
    samples=st.lists(
        WITH_SPECIAL
        | st.tuples(WITH_SPECIAL, WITH_SPECIAL)
        | st.lists(st.integers(0, 20), min_size=1, max_size=4).map(tuple),
        min_size=1,
        max_size=6,
    ),
    split=st.booleans(),
    block=st.sampled_from([1, 40, 10**6]),
    order=st.randoms(use_true_random=False),
)
def test_rows_are_analysed_together_as_each_by_itself(samples, split, block, order):
    """Whichever row is asked for first, and wherever a block ends."""
    samples = ["今天", *samples]
    analyse = TOKENIZER._analyzer.analyse
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_wobert, "_BLOCK", block)
        patch.setattr(analysis_wobert, "_SMALL", 0)
        batch = TOKENIZER(samples, split_special_tokens=split)
        for number in order.sample(range(len(samples)), len(samples)):
            sample = samples[number]
            words, spans = [None], [(0, 0)]
            if isinstance(sample, tuple) and isinstance(sample[0], int):
                words, spans = [None, *range(len(sample)), None], [(0, 0)] * (len(sample) + 2)
            else:
                for part in [sample] if isinstance(sample, str) else sample:
                    found = analyse(part, not split)
                    words, spans = [*words, *found.words, None], [*spans, *found.spans, (0, 0)]
            assert batch.word_ids(number) == words
            assert batch.encodings[number].offsets == spans
            assert batch.encodings[number].ids == batch["input_ids"][number]


@settings(max_examples=50, deadline=None)
@given(samples=st.lists(st.lists(WITH_SPECIAL, min_size=1, max_size=4), min_size=1, max_size=4))
def test_rows_that_come_in_words_are_analysed_together(samples):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis_wobert, "_SMALL", 0)
        batch = TOKENIZER(samples, is_split_into_words=True)
        for number, sample in enumerate(samples):
            found = [TOKENIZER._analyzer.analyse(word) for word in sample]
            words = [position for position, word in enumerate(found) for _ in word.ids]
            assert batch.word_ids(number) == [None, *words, None]
            assert batch.encodings[number].offsets[1:-1] == [span for word in found for span in word.spans]


def test_words_are_asked_for_a_block_at_a_time(tokenizer, monkeypatch):
    """Counted, not timed: nobody pays who does not ask; and once for a block, whatever of its rows is asked for."""
    calls = []
    many = Analyzer.analyses
    monkeypatch.setattr(Analyzer, "analyses", lambda *args: calls.append(len(args[1])) or many(*args))
    monkeypatch.setattr(Analyzer, "analyse", None)  # Nothing is left to plain Python.
    batch = tokenizer([LONG] * 600, truncation=True, max_length=16, return_overflowing_tokens=True, padding=True)
    assert not calls
    for number in range(len(batch["input_ids"])):
        batch.word_ids(number)
        batch.encodings[number].tokens  # noqa: B018 (a property that asks nobody)
    assert sum(calls) == 600 and 1 < len(calls) < 10
