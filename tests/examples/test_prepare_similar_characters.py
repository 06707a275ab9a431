"""examples/prepare_similar_characters.py on seven characters, and the packaged tables."""

import bz2
import re
import sys
from pathlib import Path

import pytest

from examples import prepare_similar_characters as script
from kexue_hf.pipelines import similar_characters

UNIHAN = {
    "Readings": """
# Unicode version: 15.0.0
# © 2022 Unicode®, Inc.
U+5973	kMandarin	nǚ
U+5973	kTGHZ2013	265.010:nǚ
U+7684	kMandarin	de
U+7684	kTGHZ2013	063.010:de 065.130:dī,dì
U+4F8D	kMandarin	shì
U+5F85	kMandarin	dài
U+9F98	kMandarin	dá
U+59B3	kMandarin	nǐ
U+6301	kMandarin	chí
""",
    "DictionaryLikeData": """
U+4F8D	kCangjie	OGDI
U+5F85	kCangjie	HOGDI
U+5973	kCangjie	V
U+7684	kCangjie	HAPI
U+6301	kCangjie	QGDI
U+4F8D	kFourCornerCode	2424.1
U+5F85	kFourCornerCode	2424.1
U+5973	kFourCornerCode	4040.0
U+6301	kFourCornerCode	5404.1
U+4F8D	kPhonetic	149
U+5F85	kPhonetic	149 1371
""",
    "IRGSources": "".join(
        f"U+{code}\tkTotalStrokes\t{strokes}\n"
        for code, strokes in {"5973": 3, "7684": 8, "4F8D": 8, "5F85": 9, "9F98": 48, "59B3": 7, "6301": 9}.items()
    ),
    "OtherMappings": """
U+5973	kTGH	2013:79
U+7684	kTGH	2013:1234
U+4F8D	kTGH	2013:1136
U+5F85	kTGH	2013:1580
U+6301	kTGH	2013:1499
U+9F98	kTGH	2013:8105
U+59B3	kBigFive	A970
""",
}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, content in UNIHAN.items():
        path = tmp_path / f"Unihan_{name}.txt"
        if name == "Readings":  # as in Debian's package
            path.with_suffix(".txt.bz2").write_bytes(bz2.compress(content.encode()))
        else:
            path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(script, "NEIGHBOURS", 1)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), "--output", str(tmp_path / "made.py")])
    script.main()
    namespace: dict[str, str] = {}
    exec((tmp_path / "made.py").read_text("utf-8"), namespace)
    return namespace


def test_readings_by_syllable_and_tone_without_rare_characters(made: dict[str, str]) -> None:
    lines = dict(line.split() for line in made["SOUNDS"].splitlines())
    assert lines == {
        "chi2": "持", "dai4": "待", "de5": "的", "di1": "的", "di4": "的", "ni3": "妳", "nv3": "女", "shi4": "侍"
    }  # fmt: skip


def test_each_pair_of_similar_shapes_is_written_once(made: dict[str, str]) -> None:
    pairs = [{char, other} for char, others in map(str.split, made["SHAPES"].splitlines()) for other in others]
    assert {"侍", "待"} in pairs and {"侍", "女"} not in pairs
    assert all(pairs.count(pair) == 1 for pair in pairs)


def test_the_file_names_source_and_licence(made: dict[str, str]) -> None:
    assert "(Unicode 15.0.0)" in made["__doc__"] and "1991-2022 Unicode, Inc." in made["__doc__"]
    assert similar_characters.__doc__ == made["__doc__"]


def test_the_package_names_the_licence() -> None:
    root = Path(__file__).parents[2]
    licence = (root / "LICENSE-UNICODE").read_text("utf-8").strip()
    assert licence.startswith("Copyright ©") and licence in similar_characters.__doc__
    project = (root / "pyproject.toml").read_text("utf-8")
    assert re.search(r'^license = ".*\bUnicode-DFS-2016\b', project, re.MULTILINE)
    listed = re.search(r"license-files = \[(.*)\]", project)[1]
    for name in re.findall(r'"([^"]+)"', listed):
        assert (root / name).is_file()
    assert '"NOTICE"' in listed and "similar_characters.py" in (root / "NOTICE").read_text("utf-8")


def test_a_failed_run_keeps_the_old_tables(
    made: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (tmp_path / "made.py").read_bytes()
    monkeypatch.setattr(script, "written", lambda *_: "\ud800")  # cannot be encoded, so the write fails
    with pytest.raises(UnicodeEncodeError):
        script.main()
    assert (tmp_path / "made.py").read_bytes() == before


def test_the_format_of_the_packaged_tables() -> None:
    assert all(re.fullmatch(r"[a-zê]+[1-5] \S{1,45}", line) for line in similar_characters.SOUNDS.splitlines())
    lines = [line.split() for line in similar_characters.SHAPES.splitlines()]
    assert all(len(char) == 1 and 1 <= len(others) <= 12 and char not in others for char, others in lines)
    pairs = [frozenset((char, other)) for char, others in lines for other in others]
    assert len(set(pairs)) == len(pairs)
