"""A file that appears whole or not at all, and what is left where it did not."""

from pathlib import Path

import pytest

from kexue_hf.errors import OutputError
from kexue_hf.whole_file import whole_file


def test_it_is_there_once_it_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "new" / "deep" / "a.txt"
    with whole_file(output) as file:
        file.write("一\n")
        assert not output.exists()
    assert output.read_bytes() == "一\n".encode()
    assert [path.name for path in output.parent.iterdir()] == ["a.txt"]


def test_a_failure_leaves_no_folders(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyError), whole_file(tmp_path / "old" / "new" / "deep" / "a.txt"):
        raise KeyError
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]


def test_a_failure_leaves_folders_that_somebody_else_uses(tmp_path: Path) -> None:
    with pytest.raises(KeyError), whole_file(tmp_path / "new" / "deep" / "a.txt"):
        (tmp_path / "new" / "b.txt").touch()
        raise KeyError
    assert list(tmp_path.rglob("*")) == [tmp_path / "new", tmp_path / "new" / "b.txt"]


def test_a_file_in_the_place_of_a_folder_is_named_as_given(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    output = tmp_path / "a.py" / "x.jsonl"
    with pytest.raises(OutputError, match=f"^{output}: {output.parent} is a file and no folder"), whole_file(output):
        pass


def test_an_error_in_clearing_up_does_not_stand_in_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyError), whole_file(tmp_path / "a.txt"):
        raise KeyError
