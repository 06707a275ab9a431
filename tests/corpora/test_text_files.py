"""Reading texts: every form, and every kind of damage with its file and line."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from kexue_hf.corpora.text_files import is_text_file, read_texts
from kexue_hf.errors import InputError

TEXTS = ["北京是中国的首都。", "他说\u2028今天天气很好。", "第三段"]
LINES = "".join(json.dumps({"id": i, "text": text}, ensure_ascii=False) + "\n\n" for i, text in enumerate(TEXTS))


def damaged_gzip(place: int) -> bytes:
    """Lines, compressed, with one byte of the file gone bad."""
    content = bytearray(gzip.compress(b"abc\n" * 1000))
    content[place] ^= 0xFF
    return bytes(content)


def write(folder: Path, name: str) -> Path:
    """The texts in the form that the name says."""
    path = folder / name
    form = name.split(".")[1]
    if form == "parquet":
        parquet.write_table(pyarrow.table({"id": range(3), "text": TEXTS}), path)
        return path
    array = json.dumps([{"text": text} for text in TEXTS], indent=1)
    content = {"txt": "\ufeff\n" + "\r\n".join(TEXTS), "json": array}.get(form, LINES).encode()
    compress = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(compress(content))
    return path


@pytest.mark.parametrize(
    "name", ["a.txt", "a.jsonl", "a.json", "a.parquet", "a.txt.gz", "a.jsonl.bz2", "a.jsonl.xz", "a.json.gz"]
)
def test_every_form_gives_the_same_texts(tmp_path, name):
    path = write(tmp_path, name)
    assert is_text_file(path)
    assert list(read_texts([path, path])) == TEXTS * 2


def test_zst(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.compress(LINES.encode()))
    assert list(read_texts([path])) == TEXTS


@pytest.mark.parametrize("name", ["a.csv", "a.gz", "a", "a.parquet.txt.pdf", "a.parquet.gz"])
def test_other_names_are_none_of_ours(name):
    assert not is_text_file(name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "一\n二\n".encode() + "三".encode("gb18030"), r"a.txt, line 3: not UTF-8 \(byte 0xc8 at position 0"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xe4\xb8"}\n', r"line 2: not UTF-8 \(byte 0xe4 at position 10"),
        ("a.txt", "\ufeffa".encode("utf-16-le"), r"line 1: not UTF-8 \(byte 0xff"),
        ("a.txt.gz", gzip.compress(b"a\n\xff"), r"a.txt.gz, line 2: not UTF-8"),
        ("a.txt.gz", gzip.compress(b"abc" * 1000)[:-9], r"cannot be read \(Compressed file ended"),
        ("a.txt.gz", b"abc", r"cannot be read \(Not a gzipped file"),
        ("a.txt.gz", damaged_gzip(10), r"after line 0: cannot be read \(Error -3 while decompressing"),
        ("a.txt.gz", damaged_gzip(-6), r"cannot be read \(CRC check failed"),
        ("a.txt.xz", b"abc", r"cannot be read"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', r"line 3: not JSON"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', r"line 2: expected a JSON object, got list"),
        ("a.jsonl", b'{"text": 3}\n', r"line 1: 'text' must be a string, got int"),
        ("a.jsonl", b'{"text": null}\n', r"must be a string, got NoneType"),
        (
            "a.jsonl",
            b'{"body": "a", "id": 1}\n',
            r"no column .text., only body, id; say which column holds the text",
        ),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r"line 1: half a surrogate pair"),
        ("a.json", b'[{"text": "a"}, 2]', r"a.json, element 2: expected a JSON object"),
        ("a.json", b'[{"text": "a"}', r"a.json: not JSON"),
        (
            "a.parquet.gz",
            b"",
            r"gz: expected .txt, .jsonl, .json \(perhaps .gz, .bz2, .xz or .zst\) or .parq",
        ),
        ("a.parquet", b"PAR1 or so", r"a.parquet, after row 0: cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("a.") else "",
)
def test_bad_content_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        list(read_texts([path]))
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(InputError, match=r"a\.jsonl does not exist$"):
        list(read_texts([tmp_path / "a.jsonl"]))


def test_bad_parquet_columns_and_rows(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"body": ["a"]}), path)
    with pytest.raises(InputError, match=r"has no column 'text', only body"):
        list(read_texts([path]))
    damaged = pyarrow.array([b"a", b"\xff"]).cast(pyarrow.string(), safe=False)
    parquet.write_table(pyarrow.table({"text": damaged}), path)
    with pytest.raises(InputError, match=r"row 2: not UTF-8"):
        list(read_texts([path]))


def test_a_small_file_that_is_a_line_of_a_gigabyte(tmp_path, monkeypatch):
    monkeypatch.setattr("kexue_hf.corpora.text_files._LONGEST_LINE", 1000)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a\n" + b"x" * 5000))
    with pytest.raises(InputError, match="line 2: has more than 1,000 bytes"):
        list(read_texts([tmp_path / "a.txt.gz"]))
