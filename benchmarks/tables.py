"""Write the tables of README, docs/*.md and the trained models' cards from benchmarks/results/*.json.

    python benchmarks/tables.py            # rewrite them
    python benchmarks/tables.py --check    # name the tables that differ from the results, and exit with 1

A table stands between `<!-- table:NAME -->` and `<!-- end -->`. To add one, declare it in tables.yaml.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from table_renderer import TableError, declared_tables

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (ROOT, ROOT / "docs", ROOT / "model_cards")
TABLES = declared_tables()
MARKED = re.compile(r"(<!-- table:(\w+) -->\n)(.*?)(<!-- (?:end|table:\w+) -->|\Z)", re.DOTALL)


def render(name: str, language: str) -> str:
    """Return a table as Markdown."""
    if name not in TABLES:
        raise TableError("no table has this name: declare it in benchmarks/tables.yaml")
    return TABLES[name].render(language)


def rewritten(path: Path, changed: Callable[[str], None]) -> str:
    """Return a document with its tables rendered again, and call `changed` with the names of those that differ."""
    language = "zh" if path.name.endswith(".zh.md") else "en"

    def replace(match: re.Match[str]) -> str:
        start, name, old, end = match.groups()
        try:
            if end != "<!-- end -->":
                raise TableError("no <!-- end --> follows it")
            new = render(name, language)
        except TableError as error:
            raise SystemExit(f"{path.name}: table {name}: {error}") from None
        if new != old:
            changed(name)
        return start + new + end

    return MARKED.sub(replace, path.read_text("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table is out of date")
    check = parser.parse_args().check
    outdated: list[str] = []
    for path in (path for folder in FOLDERS for path in sorted(folder.glob("*.md"))):
        changed: list[str] = []
        text = rewritten(path, changed.append)
        if changed and not check:
            path.write_text(text, encoding="utf-8")
        outdated += [f"{path.name}: table {name} is out of date: run python benchmarks/tables.py" for name in changed]
    if check and outdated:
        raise SystemExit("\n".join(outdated))


if __name__ == "__main__":
    main()
