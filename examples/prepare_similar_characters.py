"""Build kexue_hf/pipelines/similar_characters.py, tables of similar characters, from the Unihan database.

    python examples/prepare_similar_characters.py UNIHAN --output kexue_hf/pipelines/similar_characters.py

UNIHAN is a folder with the Unihan_*.txt of the Unicode Character Database, optionally as .bz2 (Debian's package
unicode-data installs them in /usr/share/unicode). The file in the repository comes from Unicode 15.0.

Characters: the first two levels of China's general standard (6,500) and level 1 of Big5 (5,401, traditional).

Sounds: all readings of two dictionaries (kTGHZ2013, kXHC1983) and the most common one (kMandarin), which is often the
only one of a traditional character. The neutral tone is written as 5.

Shapes: the similarity of two characters is the sum of five parts: similarity of their Cangjie codes (edit distance,
longest common subsequence), fraction of equal corners in the four-corner code, equality of the whole code, similarity
of their stroke counts, and membership in the same phonetic series. Each character gets its NEIGHBOURS most similar
characters. Similarity is symmetric, so each pair is written once.
"""

import argparse
import bz2
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kexue_hf.files.whole_file import whole_file

FILES = ("Readings", "DictionaryLikeData", "IRGSources", "OtherMappings")
FIELDS = (
    *("kTGH", "kBigFive", "kTGHZ2013", "kXHC1983", "kMandarin"),
    *("kCangjie", "kFourCornerCode", "kTotalStrokes", "kPhonetic"),
)
NEIGHBOURS = 12
MAX_LINE_CHARACTERS = 45
TONES = {"\u0304": "1", "\u0301": "2", "\u030c": "3", "\u0300": "4"}
SAME_CODE = 0.3
# Similarity if one character has no such code: about that of two random characters.
UNKNOWN_CANGJIE, UNKNOWN_CORNERS = 0.3, 0.4

HEAD = '''\
"""Chinese characters that sound alike (SOUNDS) and that look alike (SHAPES).

Built by examples/prepare_similar_characters.py from the Unihan database (Unicode %(version)s). The data are modified;
they are not Unihan itself. Longer than 500 lines: a table of data. It is a Python file because only Python files
travel to the Hub with a saved pipeline.

SOUNDS: each line has a syllable with its tone (v is ü) and the characters with this reading; a long line continues in
the next line of the same syllable. SHAPES: each line has a character and those that look like it. Similarity is
symmetric, and each pair is written once.

The licence of the data allows any use as long as this notice stays with it:

Copyright © 1991-%(year)s Unicode, Inc. All rights reserved. Distributed under the Terms of Use in
https://www.unicode.org/copyright.html.

Permission is hereby granted, free of charge, to any person obtaining a copy of the Unicode data files and any
associated documentation (the "Data Files") or Unicode software and any associated documentation (the "Software") to
deal in the Data Files or Software without restriction, including without limitation the rights to use, copy, modify,
merge, publish, distribute, and/or sell copies of the Data Files or Software, and to permit persons to whom the Data
Files or Software are furnished to do so, provided that either (a) this copyright and permission notice appear with all
copies of the Data Files or Software, or (b) this copyright and permission notice appear in associated Documentation.

THE DATA FILES AND SOFTWARE ARE PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT OF THIRD PARTY
RIGHTS. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR HOLDERS INCLUDED IN THIS NOTICE BE LIABLE FOR ANY CLAIM, OR ANY
SPECIAL INDIRECT OR CONSEQUENTIAL DAMAGES, OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS,
WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR
PERFORMANCE OF THE DATA FILES OR SOFTWARE.

Except as contained in this notice, the name of a copyright holder shall not be used in advertising or otherwise to
promote the sale, use or other dealings in these Data Files or Software without prior written authorization of the
copyright holder.
"""

'''


def read_unihan(folder: Path) -> tuple[dict[str, dict[str, str]], str, str]:
    """Return {field: {character: value}}, the version of Unicode, and the year of its copyright."""
    table: dict[str, dict[str, str]] = defaultdict(dict)
    version = year = ""
    for name in FILES:
        for line in _lines(folder / f"Unihan_{name}.txt"):
            if line.startswith("U+"):
                code, field, value = line.rstrip("\n").split("\t")
                if field in FIELDS:
                    table[field][chr(int(code[2:], 16))] = value
            elif "Unicode version:" in line:
                version = line.split(":")[1].strip()
            elif "Unicode®" in line:
                year = line.split()[2]
    return table, version, year


def _lines(path: Path) -> Iterator[str]:
    packed = path.with_name(f"{path.name}.bz2")
    with bz2.open(packed, "rt", encoding="utf-8") if packed.exists() else path.open(encoding="utf-8") as file:
        yield from file


def common_characters(table: dict[str, dict[str, str]]) -> list[str]:
    simplified = {char for char, value in table["kTGH"].items() if int(value.split(":")[1]) <= 6500}
    traditional = {char for char, value in table["kBigFive"].items() if 0xA440 <= int(value, 16) <= 0xC67E}
    return sorted(simplified | traditional)


def readings(char: str, table: dict[str, dict[str, str]]) -> set[str]:
    """Return the syllables with tones, such as lv4 and de5."""
    found: set[str] = set()
    for field in ("kTGHZ2013", "kXHC1983"):
        for entry in table[field].get(char, "").split():
            found.update(entry.split(":")[1].split(","))
    found.update(table["kMandarin"].get(char, "").split())
    return {_with_digit(reading) for reading in found}


def _with_digit(reading: str) -> str:
    letters, tone = "", "5"
    for part in unicodedata.normalize("NFD", reading):
        if part in TONES:
            tone = TONES[part]
        elif part == "\u0308":
            letters = letters[:-1] + "v"
        elif part == "\u0302":
            pass  # ê
        else:
            letters += part
    return letters + tone


def look_alikes(chars: list[str], table: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """Return {character: its neighbours, the most similar first}."""
    codes = [table["kCangjie"].get(char, "").split()[:1] for char in chars]
    cangjie = np.array([[*map(ord, code[0])] + [0] * (6 - len(code[0])) if code else [0] * 6 for code in codes])
    lengths = (cangjie > 0).sum(1)
    corners = np.array([_corners(table["kFourCornerCode"].get(char, "")) for char in chars])
    strokes = np.array([int(table["kTotalStrokes"][char].split()[0]) for char in chars])
    series = [set(table["kPhonetic"].get(char, "").replace("*", "").replace("x", "").split()) for char in chars]
    members: dict[str, list[int]] = defaultdict(list)
    for index, names in enumerate(series):
        for name in names:
            members[name].append(index)
    found = {}
    for index, char in enumerate(tqdm(chars, unit=" characters", mininterval=1)):
        longer = np.maximum(lengths, lengths[index])
        distance, common = _edits(cangjie[index, : lengths[index]], cangjie, lengths)
        similarity = 0.5 * (1 - distance / np.maximum(longer, 1)) + common / np.maximum(lengths + lengths[index], 1)
        similarity[(lengths == 0) | (lengths[index] == 0)] = UNKNOWN_CANGJIE
        equal = (corners == corners[index])[:, :4].sum(1) / 4
        equal[(corners[:, 0] < 0) | (corners[index, 0] < 0)] = UNKNOWN_CORNERS
        # The fifth digit distinguishes characters with equal corners.
        similarity += 0.5 * equal + SAME_CODE * ((corners == corners[index]).all(1) & (corners[index, 4] >= 0))
        similarity += 0.5 * (1 - abs(strokes - strokes[index]) / np.maximum(strokes, strokes[index]))
        similarity[sorted({other for name in series[index] for other in members[name]})] += 0.5
        similarity[index] = -1
        found[char] = [chars[other] for other in np.argsort(-similarity, kind="stable")[:NEIGHBOURS]]
    return found


def _corners(codes: str) -> list[int]:
    digits = codes.split()[0].replace(".", "") if codes else ""
    return [*map(int, digits), *[-1] * (5 - len(digits))]


def _edits(code: np.ndarray, others: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return edit distances and longest common subsequence lengths, [m] each, of a code [n] and all codes [m, 6]."""
    number, width = others.shape
    distance = np.tile(np.arange(width + 1), (number, 1))
    common = np.zeros((number, width + 1), dtype=int)
    for row, letter in enumerate(code, 1):
        new_distance, new_common = np.full_like(distance, row), np.zeros_like(common)
        for column in range(1, width + 1):
            same = others[:, column - 1] == letter
            new_distance[:, column] = np.minimum(
                np.minimum(distance[:, column], new_distance[:, column - 1]) + 1, distance[:, column - 1] + ~same
            )
            new_common[:, column] = np.where(
                same, common[:, column - 1] + 1, np.maximum(common[:, column], new_common[:, column - 1])
            )
        distance, common = new_distance, new_common
    rows = np.arange(number)
    return distance[rows, lengths], common[rows, lengths]


def written(chars: list[str], table: dict[str, dict[str, str]], neighbours: dict[str, list[str]]) -> str:
    """Return the two tables as Python code."""
    sounds: dict[str, str] = defaultdict(str)
    for char in chars:
        for reading in readings(char, table):
            sounds[reading] += char
    lines = ['SOUNDS = """\\']
    for reading, group in sorted(sounds.items()):
        starts = range(0, len(group), MAX_LINE_CHARACTERS)
        lines += [f"{reading} {group[start : start + MAX_LINE_CHARACTERS]}" for start in starts]
    lines += ['"""', "", 'SHAPES = """\\']
    for char, others in neighbours.items():
        # Each pair is written with the character that comes first.
        kept = [other for other in others if char not in neighbours[other] or char < other]
        lines += [f"{char} {''.join(kept)}"] if kept else []
    return "\n".join([*lines, '"""', ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unihan", type=Path, help="folder with Unihan_Readings.txt and the other tables")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    options = parser.parse_args()
    table, version, year = read_unihan(options.unihan)
    chars = common_characters(table)
    tables = written(chars, table, look_alikes(chars, table))
    with whole_file(options.output, overwrite=True) as file:
        file.write(HEAD % {"version": version, "year": year} + tables)


if __name__ == "__main__":
    main()
