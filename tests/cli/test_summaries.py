"""The line on stderr after a result file is written: alike in all commands, silenced by --quiet."""

import re
from pathlib import Path

import pytest

from kexue_hf.cli.main import main
from tests.pipelines.test_text_scoring import make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bert")
    for part in make("bert", made):
        part.save_pretrained(made)
    return made


@pytest.mark.parametrize(
    ("command", "options", "rows", "suffix"),
    [
        ("score", [], "2 texts", "jsonl"),
        ("embed", [], "2 vectors", "npy"),
        ("correct", ["--threshold", "100"], "0 corrections in 0 of 2 texts", "txt"),
    ],
)
def test_a_written_file_gets_one_line(
    folder: Path,
    command: str,
    options: list[str],
    rows: str,
    suffix: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts, output = tmp_path / "texts.txt", tmp_path / f"out.{suffix}"
    texts.write_text("今天\n明天\n", encoding="utf-8")
    arguments = [command, str(folder), "--file", str(texts), *options]

    def said(*more: str) -> tuple[str, str]:
        with pytest.raises(SystemExit) as stop:
            main([*arguments, *more])
        assert not stop.value.code
        return capsys.readouterr()

    out, error = said("--output", str(output))
    assert out == "" and re.fullmatch(rf"{rows} in \d+\.\d\d s, wrote {re.escape(str(output))}\n", error)
    assert said("--output", str(output), "--overwrite", "--quiet") == ("", "")
    # Results on stdout are seen.
    assert "wrote" not in said()[1]
