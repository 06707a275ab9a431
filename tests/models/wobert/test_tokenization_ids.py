"""Ids and spans of any text whatever, against tokenizer_oracle.py; and both segmenters against jieba."""

import contextlib
import random

import pytest
from hypothesis import example, given, settings

from kexue_hf.models.wobert import analysis_wobert, segmentation_wobert
from kexue_hf.models.wobert.analysis_wobert import Analyzer
from kexue_hf.models.wobert.normalization_wobert import Normalizer, _changes_otherwise, _may_change
from kexue_hf.models.wobert.segmentation_wobert import Segmenter
from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer
from tests.models.wobert import tokenizer_oracle as oracle
from tests.models.wobert.tokenizer_texts import ODD, ORDINARY, texts

VOCABULARY = {token: index for index, token in enumerate(oracle.make_vocabulary())}
TOKENIZERS = {lower: WoBertTokenizer(vocab=VOCABULARY, do_lower_case=lower) for lower in (True, False)}
BOTH = [Segmenter(backend="rjieba"), Segmenter(backend="jieba")]
# Texts in a chunk, whatever they come to; and one by one.
WAYS = {"chunk": 0, "one-by-one": 10**9}
fuzz = settings(max_examples=150, deadline=None)
each_odd = [example(text) for text in (*ODD, *ORDINARY, "".join(ODD))]


@contextlib.contextmanager
def the_way(way):
    small = analysis_wobert._SMALL
    analysis_wobert._SMALL = WAYS[way]
    try:
        yield
    finally:
        analysis_wobert._SMALL = small


def with_examples(test):
    for decorate in each_odd:
        test = decorate(test)
    return test


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lower", [True, False], ids=["lower", "cased"])
@fuzz
@with_examples
@given(text=texts)
def test_ids_are_those_of_the_original(lower, way, text):
    tokenizer = TOKENIZERS[lower]
    with the_way(way):
        assert tokenizer(text, split_special_tokens=True)["input_ids"] == oracle.encode(text, VOCABULARY, lower)


@fuzz
@with_examples
@given(text=texts)
def test_spans_slice_back_to_the_token(text):
    tokenizer = TOKENIZERS[True]
    found = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    sources = Normalizer().sources(text)
    in_order = sources == sorted(sources)  # NFD may exchange two marks; their spans are then exchanged too
    last = (0, 0)
    for token, (start, end) in zip(found.tokens(), found["offset_mapping"], strict=True):
        assert 0 <= start < end <= len(text)
        if in_order:
            assert start >= last[1] or (start, end) == last, "two tokens share more than one character that was split"
        last = (start, end)
        if token in oracle.SPECIAL:
            assert token == "[UNK]" or text[start:end] == token
            continue
        normal = oracle.normalize(text[start:end]).replace("ς", "σ")
        # A final sigma is one only where the word ends, and one character may have become several.
        spelt = token.replace("ς", "σ")
        piece = spelt if spelt in normal else spelt.removeprefix("##")
        assert piece in normal
        assert len(normal) == len(piece) or end - start == 1 or any(c not in piece for c in normal)


@pytest.mark.parametrize("way", WAYS)
@fuzz
@with_examples
@given(text=texts)
def test_batch_and_single_analysis_agree(way, text):
    for tokenizer in TOKENIZERS.values():
        analyzer = tokenizer._analyzer
        others = ["今天", text, "", "E\u0301a 한 ΑΣ"]
        with the_way(way):
            ids, spans = analyzer.batch(others, True, True)
            without_spans = analyzer.batch(others)[0]
        assert spans is not None
        for other, row, row_spans in zip(others, ids, spans, strict=True):
            plain = analyzer.analyse(other)
            assert (row, row_spans) == (plain.ids, plain.spans)
            assert len(plain.words) == len(row)
            assert sorted(set(plain.words)) == list(range(len(set(plain.words)))), "words are counted without gaps"
        assert without_spans == ids


@fuzz
@with_examples
@given(text=texts)
def test_both_segmenters_cut_like_jieba(text):
    expected = oracle.jieba_cut(text)
    assert [segment(text) for segment in BOTH] == [expected, expected]


def test_both_segmenters_cut_long_text_alike():
    words = oracle.jieba_words(5000)
    random.Random(0).shuffle(words)
    text = "".join(words)
    assert BOTH[0](text) == BOTH[1](text) == oracle.jieba_cut(text)


def test_normalisation_of_every_character():
    normalize = Normalizer()
    for code in [*range(0x32000), *range(0xE0000, 0xE0200)]:  # the planes that have characters
        char = chr(code)
        expected = oracle.normalize(char)
        assert normalize(char) == expected
        assert _may_change(char) is not None or expected == char
        assert _changes_otherwise(char) is not None or expected == char.lower()
        if len(expected) == 1:
            assert normalize.sources(char) == [0]


@fuzz
@with_examples
@given(text=texts)
def test_normalisation_and_its_sources(text):
    normalize = Normalizer()
    for _ in range(2):  # The second time the table knows the characters.
        normal = normalize(text)
        sources = normalize.sources(text)
        assert normal == oracle.normalize(text)
        assert len(sources) == len(normal)
        if normalize.is_aligned(text, normal):
            assert sources == list(range(len(text)))
        for char, source in zip(normal, sources, strict=True):
            assert char.replace("ς", "σ") in oracle.normalize(text[source]).replace("ς", "σ")


def test_the_normaliser_notices_equal_length_that_is_not_aligned():
    text = "e\u0301각x"  # one mark dropped, one syllable grown to three
    normalize = Normalizer()
    normal = normalize(text + "\u0301")
    assert len(normal) == len(text) + 1
    assert not normalize.is_aligned(text + "\u0301", normal)


@pytest.mark.parametrize(
    "text",
    [
        "人工智能的国" * 170_000,
        "ab1" * 330_000,
        "的" * 10_000,
        "a" * 10_000,
        " " * 1_000_000,
        "[" * 1_000_000,
        "[MASK" * 200_000,
        "[MASK]" * 100_000,
        "e" + "\u0301" * 1_000_000,
        "\u302e\u302f" * 100_000,
        "\ud800" * 100_000,
        "\x00" * 1_000_000,
        "😀" * 250_000,
    ],
    ids=lambda text: f"{text[:6]!r}x{len(text)}",
)
def test_a_megabyte_of_the_same_takes_linear_time(text):
    """Nothing is measured: what is quadratic takes hours here."""
    found = TOKENIZERS[True](text, return_offsets_mapping=True)
    assert len(found["offset_mapping"]) == len(found["input_ids"])
    assert found["offset_mapping"][-2][1] <= len(text)


def test_a_long_word_costs_a_bounded_number_of_look_ups(monkeypatch):
    class Counting(dict):
        looks = 0

        def get(self, *args):
            Counting.looks += 1
            return super().get(*args)

    analyzer = Analyzer(Counting(VOCABULARY), unk_id=1)
    analyzer.batch([" ".join(["x" * 199 + str(i % 10) for i in range(100)])])
    assert Counting.looks < 100 * 200 * 10, "look-ups a character: at most as many as the longest token has characters"


def test_caches_are_bounded(monkeypatch):
    from kexue_hf.models.wobert import normalization_wobert

    monkeypatch.setattr(analysis_wobert, "_CACHED_WORDS", 50)
    monkeypatch.setattr(normalization_wobert, "_TABLE_LIMIT", 50)
    analyzer = Analyzer(VOCABULARY, unk_id=1)
    texts = [f"a{i} {'b' * i} É{chr(0xC0 + i)} 的{i}" for i in range(250)]
    assert analyzer.batch(texts)[0] == [oracle.encode(text, VOCABULARY)[1:-1] for text in texts]
    assert len(analyzer._records) <= 50
    assert len(analyzer.normalize._table) <= 50
    assert max(map(len, analyzer._records)) <= analysis_wobert._CACHED_LENGTH


@pytest.mark.parametrize("missing", [("rjieba",), ("rjieba", "jieba")], ids="+".join)
def test_segmenters_that_are_not_installed(missing, monkeypatch):
    import_module = segmentation_wobert.importlib.import_module

    def import_or_miss(name):
        if name in missing:
            raise ModuleNotFoundError(name)
        return import_module(name)

    monkeypatch.setattr(segmentation_wobert.importlib, "import_module", import_or_miss)
    if "jieba" in missing:
        with pytest.raises(ImportError, match="pip install rjieba"):
            Segmenter()
    else:
        assert Segmenter().backend == "jieba"
    with pytest.raises(ImportError, match="rjieba is not installed: pip install rjieba"):
        Segmenter(backend="rjieba")
