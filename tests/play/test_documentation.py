"""The Python blocks of docs/xiangqi.md run as they stand, with a small random model in place of the packaged one."""

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kexue_hf.play import model_place
from tests.play.tiny_players import tiny_folder
from tests.xiangqi.positions import played

DOCUMENT = Path(__file__).parents[2] / "docs" / "xiangqi.md"
PACKAGED = 'str(files("kexue_hf") / "assets" / "xiangqi_small")'


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    folder = tiny_folder(tmp_path / "model", "squares")
    monkeypatch.setattr(model_place, "PACKAGED", folder)
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL))
    assert code.count(PACKAGED) == 1
    exec(code.replace(PACKAGED, repr(str(folder))), {})
    printed = capsys.readouterr().out
    assert "马二进三 None\n" in printed and "('h2e2', 'h9g7') *\n" in printed
    assert ElementTree.parse("board.svg").getroot().tag.endswith("svg")
    first, second = ast.literal_eval(printed.splitlines()[-1])
    assert len(first) == 4 * 12 and len(second) == 4 * 10 and first.startswith("h2e2h9g7")
    for game in (first, second):
        played([game[start : start + 4] for start in range(0, len(game), 4)])
