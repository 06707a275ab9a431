"""Open corpora by name: files, globs, folders of two kinds, the Hub."""

import gzip
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from kexue_hf.corpora.reading import load_corpus, stream_corpus
from kexue_hf.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two files with three texts (one in a subfolder), another file, and two saved data sets."""
    root = tmp_path_factory.mktemp("corpora")
    files = root / "files"
    (files / "sub").mkdir(parents=True)
    (files / "a.txt").write_text("一\n二\n", encoding="utf-8")
    (files / "sub" / "b.jsonl.gz").write_bytes(gzip.compress('{"text": "三", "id": 1}\n'.encode()))
    (files / "notes.pdf").write_bytes(b"\xff")
    (root / "empty").mkdir()
    saved = Dataset.from_dict({"body": ["四", "五"]})
    saved.save_to_disk(root / "saved")
    DatasetDict({"train": saved, "test": saved}).save_to_disk(root / "splits")
    DatasetDict({"test": saved}).save_to_disk(root / "no train")
    Dataset.from_dict({"text": [1, 2]}).save_to_disk(root / "numbers")
    Dataset.from_dict({"text": ["一", None]}).save_to_disk(root / "nothing")
    return root


@pytest.mark.parametrize(
    ("names", "column", "expected"),
    [
        (["files"], "text", "一二三"),
        (["files/sub/b.jsonl.gz", "files/a.txt"], "text", "三一二"),
        (["files/*.txt"], "text", "一二"),
        (["files/**/*.gz"], "text", "三"),
        (["saved"], "body", "四五"),
        (["splits", "saved"], "body", "四五四五"),
    ],
    ids=["folder", "files", "glob", "deep glob", "saved", "several"],
)
def test_table_and_stream_hold_the_same(folder, monkeypatch, names, column, expected):
    monkeypatch.chdir(folder)
    table = load_corpus(names, column)
    stream = stream_corpus(names, column)
    assert table.column_names == ["text"] and "".join(table["text"]) == expected
    assert "".join(stream) == expected == "".join(stream)  # read again


def test_files_read_in_parallel_keep_their_order(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(f"{number}\n", encoding="utf-8")
    assert load_corpus([str(tmp_path)], num_proc=2)["text"][:] == list("01234")


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("一", "一二"):
        path.write_text(text, encoding="utf-8")
        assert load_corpus([str(path)])["text"][:] == [text]


@pytest.mark.parametrize("load", [load_corpus, stream_corpus], ids=["table", "stream"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "is a folder without text files; expected .txt"),
        ("nowhere.jsonl", "nowhere.jsonl does not exist; expected .txt"),
        ("a/b/c", "a/b/c does not exist"),
        ("*.jsonl", "no file matches"),
        ("files/notes.pdf", "notes.pdf: expected .txt"),
        ("saved", "has no column 'text', only body"),
        ("no train", "has no split train, only test"),
        ("numbers", "numbers: column 'text' must hold strings, got int64"),
        ("nothing", "nothing, row 2: column 'text' is null"),
        ("nobody/has-this:config", "is not a file, and cannot be downloaded from the Hub"),
    ],
)
def test_missing_names_are_reported(folder, monkeypatch, load, name, message):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=message) as error:
        list(load([name]))
    assert "\n" not in str(error.value)


def test_the_version_of_a_stream_depends_on_its_files(tmp_path):
    versions = []
    for folder, text in (("a", "一"), ("b", "二"), ("c", "一二")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(text, encoding="utf-8")
        versions.append(stream_corpus([str(tmp_path / folder)]).version())
    # A moved file is the same corpus, a file of another size is not.
    assert versions[0] == versions[1] != versions[2] and versions[0].startswith("1 files of 3 bytes, 0 data sets")


def test_bad_files_keep_their_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\n\xff\n")
    with pytest.raises(InputError, match=r"a\.txt, line 2: not UTF-8"):
        load_corpus([str(path)])
    with pytest.raises(InputError, match=r"a\.txt, line 2: not UTF-8"):
        list(stream_corpus([str(path)]))
    path.write_bytes(b"\n")
    with pytest.raises(InputError, match="holds no text"):
        load_corpus([str(path)])
