"""Count the words of a stream: correct, in bounded memory, and with a record of forgotten words."""

from collections import Counter

import pytest

from kexue_hf.models.wobert.normalization_wobert import Normalizer
from kexue_hf.models.wobert.segmentation_wobert import Segmenter
from kexue_hf.vocabulary import corpus_counts
from kexue_hf.vocabulary.corpus_counts import count_corpus, dictionary_frequencies

TEXTS = ["他们在北京大学读书，", "北京大学的学生们。", "", "ABC abc 2020年\n第二行 北京", "读书 读书"]


def one_by_one(texts: list[str], lower: bool = True) -> tuple[Counter, Counter]:
    cut, normalize = Segmenter(), Normalizer(lower)
    words: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(normalize(text))
        words.update(word for word in cut(normalize(text)) if len(word) > 1 and word.isalnum())
    return words, characters


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
@pytest.mark.parametrize("lower", [True, False], ids=["uncased", "cased"])
def test_texts_segmented_together_give_the_same_counts(monkeypatch, chunk, lower):
    monkeypatch.setattr(corpus_counts, "_CHUNK", chunk)
    counts = count_corpus(iter(TEXTS), lower=lower)
    assert (counts.words, counts.characters) == one_by_one(TEXTS, lower)
    assert counts.forgotten == 0 and counts.words["北京大学"] == 2


def test_a_custom_segmenter_gets_one_text_at_a_time():
    seen = []
    count_corpus(["甲", "乙"], cut=lambda text: seen.append(text) or [text])
    assert seen == ["甲", "乙"]


def test_memory_is_bounded_and_frequent_words_stay(monkeypatch):
    monkeypatch.setattr(corpus_counts, "_CHUNK", 1)
    texts = [f"word{number} 北京大学" for number in range(1000)]
    counts = count_corpus(texts, max_words=100)
    assert len(counts.words) <= 101
    assert 1000 - counts.forgotten <= counts.words["北京大学"] <= 1000
    assert counts.words["北京大学"] == 1000  # never among the rarest
    assert counts.forgotten >= 1
    exact = Counter(word for text in texts for word in text.split())
    assert all(exact[word] - counts.forgotten <= count <= exact[word] for word, count in counts.words.items())


def test_the_dictionary_is_normalised_like_texts():
    lower, cased = dictionary_frequencies(), dictionary_frequencies(lower=False)
    assert lower["t恤"] == cased["T恤"] > 0 and not lower["T恤"] and not cased["t恤"]
    assert lower.most_common(2) == [("一个", 142747), ("中国", 104290)] or lower["一个"] > lower["中国"] > 100_000
