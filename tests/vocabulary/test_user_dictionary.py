"""User dictionaries: jieba's format, and one line about invalid words."""

import itertools
import re
import time

import pytest

from kexue_hf.corpora.text_files import read_lines
from kexue_hf.errors import InputError
from kexue_hf.vocabulary.user_dictionary import _word_of, read_user_dictionary


def read(tmp_path, content: bytes | str, **options):
    path = tmp_path / "words.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_user_dictionary(path, ["[MASK]", "<e1>"], **options)


def test_jiebas_format(tmp_path):
    content = "\ufeff大模型\r\n机器学习 10\n深度学习 10 nz\n  云计算 nz \n\nC++\nT恤 3 n\n"
    assert read(tmp_path, content) == ["大模型", "机器学习", "深度学习", "云计算", "C++", "T恤"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("好\n机器 学习\n", "line 2: a user word must not hold white space, got '机器 学习'"),
        ("机器 学习 3 nz\n", "line 1: a user word must not hold white space, got '机器 学习'"),
        ("好词\n[MASK]词\n", r"line 2: a user word must not hold a special .* which has '\[MASK\]'"),
        ("<e1>\n", "line 1: a user word must not hold a special or added token, got '<e1>', which has '<e1>'"),
        ("<E1>词\n", "line 1: a user word must not hold a special or added token, got '<E1>词', which has '<e1>'"),
        ("ABC\n好词\nabc\n", "line 3: 'abc' repeats line 1"),
        ("##化\n", "line 1: '##化' begins with ##, which marks a word piece"),
        ("\u0301\n", "line 1: a user word must have a character left after normalisation"),
        (b"\xe5\xa5\xbd\n\xc4\xe3\xba\xc3\n", r"line 2: not UTF-8 \(byte 0xc4 at position 0 of the line\); convert"),
        ("甲 乙\n" * 7, r"line 5: .*; and 2 more; expected one word a line"),
    ],
    ids=["space", "space_frequency", "special", "added", "normal", "twice", "piece", "mark", "encoding", "many"],
)
def test_bad_lines(tmp_path, content, problem):
    with pytest.raises(InputError, match=problem):
        read(tmp_path, content, strict=True)


def test_bad_lines_are_skipped_with_one_warning(tmp_path):
    content = "ABC\nEdu Trust认证 2000\n好词\nabc\n[MASK]词 3\n" + "甲 乙\n" * 1000
    with pytest.warns(
        UserWarning, match=r"1,003 lines were skipped \(2 words are left\): line 2: .*; and 998 more"
    ) as seen:
        assert read(tmp_path, content) == ["ABC", "好词"]
    assert len(seen) == 1 and len(str(seen[0].message)) < 1000
    warned = []
    assert read(tmp_path, "好词\n好词\n", warn=warned.append) == ["好词"]
    assert "words.txt: 1 line was skipped (1 words are left): line 2: '好词' repeats line 1" in warned[0]


def test_a_file_without_a_word_is_refused(tmp_path):
    with pytest.raises(InputError, match="line 1: a user word must not hold white space"):
        read(tmp_path, "甲 乙\n丙 丁\n")


@pytest.mark.parametrize(
    ("encoding", "start", "name"),
    [
        ("utf-16", "", "utf-16"),
        ("utf-16-be", "\ufeff", "utf-16"),
        ("utf-16-le", "", "utf-16le"),
        ("gb18030", "", "gb18030"),
    ],
)
def test_the_advice_names_the_encoding(tmp_path, encoding, start, name):
    raw = f"{start}深度 3 n\n天气\n".encode(encoding)
    with pytest.raises(InputError, match=f"iconv -f {name} -t utf-8"):
        read(tmp_path, raw)
    (tmp_path / "corpus.txt").write_bytes(raw)
    with pytest.raises(InputError, match=f"iconv -f {name} -t utf-8"):
        list(read_lines(tmp_path / "corpus.txt"))


def test_cased_words_differ(tmp_path):
    assert read(tmp_path, "ABC\nabc\n", lower=False) == ["ABC", "abc"]


def test_a_missing_dictionary(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_user_dictionary(tmp_path / "none.txt")


def test_frequency_and_tag_match_the_pattern_of_jieba():
    pattern = re.compile(r"(.+?)(?:\s+[0-9]+)?(?:\s+[A-Za-z]+)?")  # takes quadratic time for some lines
    for length in range(1, 7):
        for text in map("".join, itertools.product("词 7n\u3000", repeat=length)):
            if text == text.strip():
                assert _word_of(text) == pattern.fullmatch(text)[1], text


@pytest.mark.parametrize("end", ["x!", "7 n", "n 7"])
def test_a_line_of_spaces_is_read_in_linear_time(tmp_path, end):
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"white space|expected one word a line"):
        read(tmp_path, f"词{' ' * 100_000}x{' ' * 100_000}{end}")
    assert time.perf_counter() - started < 2
