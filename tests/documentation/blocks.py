"""The code blocks of a page, and the commands of a bash block."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("CONTRIBUTING.md", "docs/**/*.md", "model_cards/*.md", "conversion/*.md", "kexue_hf/assets/*.md")
    for path in ROOT.glob(pattern)
)
# Languages that nothing runs: data, output, files of other programs.
SHOWN = ("", "json", "sh", "text")
BLOCK = re.compile(r"(?:^<!-- not run: (?P<reason>.+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A block; `reason` says why it cannot run, as the page's comment before it does: `<!-- not run: REASON -->`."""

    language: str
    code: str
    line: int
    reason: str | None


def blocks_of(page: str) -> list[Block]:
    text = (ROOT / page).read_text("utf-8")
    return [
        Block(found["language"], found["code"], text[: found.start("language")].count("\n") + 1, found["reason"])
        for found in BLOCK.finditer(text)
    ]


def commands_of(code: str) -> list[list[str]]:
    """Return the words of each command, with variables that the block sets put in, and without `...`."""
    for name, value in re.findall(r'^(\w+)="([^"]*)"$', code, re.M):
        code = code.replace(f'{name}="{value}"\n', "").replace(f"${name}", " ".join(value.split()))
    lines = code.replace("\\\n", " ").splitlines()
    words = [[word for word in shlex.split(line, comments=True) if word != "..."] for line in lines]
    return [command for command in words if command]
