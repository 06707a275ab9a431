"""Render the tables that tables.yaml declares as Markdown, in English or Chinese. All texts there are templates:

first | second                      cells
peak MB || 内存峰值 MB              English and Chinese; a text without " || " serves both
{seconds.$1.median:.2f}             a figure of the result, by its keys, and a format
{errors[0.25].low_order:*100 .2g}   a key that contains a dot or a colon; "*100 " or "/60 " scales the figure
{$1}                                the row's key, or its label; {$2} is the key one level below
{.:share}                           the row's whole value
{mean} ± {error} // {mean} //       texts to try in turn until one has all its figures; here the last one is empty

A path is looked up in the row first, then in the whole result. A format is Python's or one of `FORMATS`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from table_figures import DERIVED, FORMATS

RESULTS = Path(__file__).resolve().parent / "results"
FIGURE = re.compile(r"\{((?:[^{}:\[]|\[[^\]]*\])+)(?::([^{}]*))?\}")
KEY = re.compile(r"\[([^\]]+)\]|([^.\[\]]+)")
SCALED = re.compile(r"([*/])([\d.e]+) (.*)")


class TableError(Exception):
    """A table cannot be rendered; the message is one line."""


class MissingFigure(TableError):
    def __init__(self, result: str, figure: str) -> None:
        super().__init__(f"benchmarks/results/{result}.json has no {figure}: run python benchmarks/{result}.py")


@dataclass(frozen=True)
class Row:
    """What the templates of a row can name: its keys, its value and the whole result."""

    table: "Table"
    language: str
    result: dict[str, Any]
    keys: tuple[str, ...] = ()
    value: Any = None

    def __getitem__(self, path: str) -> Any:
        keys = [bracketed or plain for bracketed, plain in KEY.findall(path)]
        for number, key in enumerate(self.keys, 1):
            keys = [each.replace(f"${number}", key) for each in keys]
        for found in (self.value, self.result):
            for key in keys:
                found = dict(items(found)).get(key)
            if found is not None:
                return found
        result = keys[0] if "+" in self.table.result else self.table.result
        raise MissingFigure(result, f"figure '{'.'.join(keys)}'")

    def fill(self, text: str) -> str:
        """Return a template in the row's language, with its figures."""
        return FIGURE.sub(lambda match: self._figure(match[1], match[2] or ""), translated(text, self.language))

    def _figure(self, path: str, form: str) -> str:
        value = self.keys[int(path[1:]) - 1] if path.startswith("$") else self[path]
        if path.startswith("$") and not form:
            return self.fill(self.table.labels.get(value, value))
        try:
            return translated(formatted(value, form), self.language)
        except (ValueError, TypeError, KeyError) as error:
            raise TableError(f"figure '{path}' does not fit the format '{form}': {error!r}") from None

    def cells(self, line: str) -> list[str]:
        return [self._first([each.strip() for each in cell.split("//")]) for cell in line.split(" | ")]

    def _first(self, alternatives: list[str]) -> str:
        for text in alternatives[:-1]:
            try:
                return self.fill(text)
            except MissingFigure:
                continue
        return self.fill(alternatives[-1])


@dataclass(frozen=True)
class Table:
    """A table of one result; tables.yaml explains the fields."""

    source: str
    row: str | Sequence[str]
    en: str = ""
    zh: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def result(self) -> str:
        return self.source.partition(".")[0]

    def render(self, language: str, result: dict[str, Any] | None = None) -> str:
        """Return the table as Markdown; `result` stands in for the content of the result file.

        Raises:
            TableError: the file or one of its figures is missing.
        """
        names = self.result.split("+")
        found = {name: with_derived(name, read_result(name) if result is None else result) for name in names}
        whole = Row(self, language, found if len(names) > 1 else found[self.result])
        if isinstance(self.row, str):
            lines = [row.cells(self.row) for row in self._rows(whole)]
        else:
            lines = [whole.cells(line) for line in self.row]
        head = [whole.fill(heading) for heading in (self.zh if self.zh and language == "zh" else self.en).split(" | ")]
        # The first column is text, the others are figures.
        start = line_of(head) + line_of(["---", *["--:"] * (len(head) - 1)])
        if not self.en:
            start = f"|{' |' * len(lines[0])}\n|{'---|' * len(lines[0])}\n"
        return start + "".join(map(line_of, lines)) + (f"\n{whole.fill(self.note)}\n" if self.note else "")

    def _rows(self, whole: Row) -> Iterator[Row]:
        """Yield a row for each entry at the source's path, in which `*` stands for every key."""
        outer, *inner = self.source.removeprefix(f"{self.result}.").split(".*")
        found = dict(items(whole[outer]))
        entries = [((key,), found[key]) for key in self.labels or found if key in found]
        for path in inner:
            below = [(keys, Row(self, whole.language, value)[path] if path else value) for keys, value in entries]
            entries = [((*keys, key), each) for keys, value in below for key, each in items(value)]
        for keys, value in entries:
            yield Row(self, whole.language, whole.result, keys, value)


def declared_tables() -> dict[str, Table]:
    """Return the tables of tables.yaml by their names."""
    declared = yaml.safe_load((RESULTS.parent / "tables.yaml").read_text("utf-8"))
    return {name: Table(**fields) for name, fields in declared.items()}


def with_derived(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with the figures that are computed from it."""
    try:
        return result | DERIVED.get(name, lambda _: {})(result)
    except KeyError as missing:
        raise MissingFigure(name, f"figure {missing}") from None


def read_result(name: str) -> dict[str, Any]:
    """Return the content of benchmarks/results/<name>.json."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        raise TableError(f"benchmarks/results/{name}.json is missing: run python benchmarks/{name}.py")
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def items(entries: Any) -> Iterator[tuple[str, Any]]:
    """Yield keys and values of a dictionary or a list, and nothing of a figure."""
    pairs = entries.items() if isinstance(entries, dict) else enumerate(entries) if isinstance(entries, list) else ()
    return ((str(key), value) for key, value in pairs)


def translated(text: str, language: str) -> str:
    """Return the English or the Chinese half of a text."""
    english, _, chinese = text.partition(" || ")
    return chinese if chinese and language == "zh" else english


def formatted(value: Any, form: str) -> str:
    if form in FORMATS:
        return FORMATS[form](value)
    if scaled := SCALED.fullmatch(form):
        sign, factor, form = scaled.groups()
        value = value * float(factor) if sign == "*" else value / float(factor)
    return format(int(value) if form and isinstance(value, str) else value, form)


def line_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
