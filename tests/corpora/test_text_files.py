"""Read texts in every format; report every kind of damage with file and line."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from kexue_hf.corpora.text_files import is_text_file, read_objects, read_texts
from kexue_hf.errors import InputError

TEXTS = ["北京是中国的首都。", "他说\u2028今天天气很好。", "第三段"]
LINES = "".join(json.dumps({"id": i, "text": text}, ensure_ascii=False) + "\n\n" for i, text in enumerate(TEXTS))


def damaged_gzip(place: int) -> bytes:
    """Return compressed lines with one damaged byte."""
    content = bytearray(gzip.compress(b"abc\n" * 1000))
    content[place] ^= 0xFF
    return bytes(content)


def write(folder: Path, name: str) -> Path:
    """Write the texts in the format of the file name."""
    path = folder / name
    form = name.split(".")[1]
    if form == "parquet":
        parquet.write_table(pyarrow.table({"id": range(3), "text": TEXTS}), path)
        return path
    array = json.dumps([{"text": text} for text in TEXTS], indent=1)
    table = "".join(f"{i}\t{text}\r\n" for i, text in enumerate(TEXTS))
    content = {
        "txt": "\ufeff\n" + "\r\n".join(TEXTS),
        "json": array,
        "csv": "\ufeffid,text\r\n" + table.replace("\t", ","),
        "tsv": "id\ttext\n\n" + table,
    }.get(form, LINES).encode()
    compress = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(compress(content))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        "a.jsonl",
        "a.json",
        "a.parquet",
        "a.txt.gz",
        "a.jsonl.bz2",
        "a.jsonl.xz",
        "a.json.gz",
        "a.csv",
        "a.tsv",
        "a.csv.gz",
    ],
)
def test_every_form_gives_the_same_texts(tmp_path, name):
    path = write(tmp_path, name)
    assert is_text_file(path)
    assert list(read_texts([path, path])) == TEXTS * 2


def test_values_of_tables(tmp_path):
    """Quotation marks delimit values in .csv files; in .tsv files they are part of the value."""
    (tmp_path / "a.csv").write_text('text,id\n"一,""二""\n三",1\n四,2\n', encoding="utf-8")
    (tmp_path / "a.tsv").write_text('text\tid\n"一,二\t1\n四\t2\n', encoding="utf-8")
    rows = [("line 2", {"text": '一,"二"\n三', "id": "1"}), ("line 4", {"text": "四", "id": "2"})]
    assert list(read_objects(tmp_path / "a.csv")) == [(f"{tmp_path / 'a.csv'}, {place}", row) for place, row in rows]
    assert [row["text"] for _, row in read_objects(tmp_path / "a.tsv")] == ['"一,二', "四"]
    assert list(read_texts([tmp_path / "a.tsv"])) == ['"一,二', "四"]


def test_zst(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.compress(LINES.encode()))
    assert list(read_texts([path])) == TEXTS


@pytest.mark.parametrize("name", ["a.tsx", "a.gz", "a", "a.parquet.txt.pdf", "a.parquet.gz"])
def test_other_names_are_not_text_files(name):
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
        ("a.jsonl", b'{"text": null}\n', r"a.jsonl, line 1: column 'text' is null, expected a string: fill it in"),
        ("a.csv", b"id,text\n1,a\n2\n", r"a.csv, line 3: column 'text' is null, expected a string"),
        (
            "a.csv",
            b"id,text\n1,a,b\n",
            r"line 2: has 3 values, but the first row names 2 columns; put a value with a comma",
        ),
        ("a.csv", b'id,text\n1,a\n2,"b\n3,c\n', r"a.csv, line 3: not a valid row \(unexpected end of data"),
        ("a.csv", b'id,text\n1,"a"b\n', r"a.csv, line 2: not a valid row"),
        ("a.csv", "id,text\n1,天\n".encode("gb18030"), r"line 2: not UTF-8 .*: iconv -f gb18030 -t utf-8"),
        ("a.tsv", b"id\tbody\n1\ta\n", r"a.tsv, line 2: has no column 'text', only id, body; name the text column"),
        ("a.tsv", b"id\ttext\n1\ta\t\n", r"a.tsv, line 2: has 3 values, but the first row names 2 columns$"),
        (
            "a.jsonl",
            b'{"body": "a", "id": 1}\n',
            r"no column .text., only body, id; name the text column \(--text-column\)",
        ),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r"line 1: half a surrogate pair"),
        ("a.json", b'[{"text": "a"}, 2]', r"a.json, element 2: expected a JSON object"),
        ("a.json", b'[{"text": "a"}', r"a.json: not JSON"),
        (
            "a.parquet.gz",
            b"",
            r"gz: expected .txt, .jsonl, .json, .csv, .tsv \(optionally .gz, .bz2, .xz or .zst\) or .parq",
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


def test_a_missing_file(tmp_path):
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


def test_a_small_file_that_unpacks_to_a_huge_line(tmp_path, monkeypatch):
    monkeypatch.setattr("kexue_hf.corpora.text_files._LONGEST_LINE", 1000)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a\n" + b"x" * 5000))
    with pytest.raises(InputError, match="line 2: has more than 1,000 bytes"):
        list(read_texts([tmp_path / "a.txt.gz"]))
