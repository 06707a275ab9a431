"""Pieces of Markdown: tables, names that must not be interpreted, and the headings and code of a text."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from kexue_hf.hub.front_matter import FRONT_MATTER

_LINE_END = re.compile(r"\r\n?|\n")


class Block(NamedTuple):
    """A part of a text, from the first character of a line to the first of another line.

    Attributes:
        content: of a heading, what it says; of a block of code, its lines.
    """

    start: int
    end: int
    content: str


def headings(text: str) -> list[Block]:
    """Return the headings of the first two levels, in their order. A # in code or in a comment makes none."""
    return [
        Block(start, end, " ".join(inside.content.split()))
        for (token, start, end), (inside, _, _) in pairwise(_parsed(text))
        if token.type == "heading_open" and token.tag in ("h1", "h2") and token.level == 0
    ]


def code_blocks(text: str) -> list[Block]:
    """Return the blocks of code, in their order, with their fences."""
    return [
        Block(start, end, token.content)
        for token, start, end in _parsed(text)
        if token.type in ("fence", "code_block")
    ]


def _parsed(text: str) -> Iterator[tuple[Token, int, int]]:
    """Yield each token that has lines of its own, with the places of its first character and of the one after it."""
    front = FRONT_MATTER.match(text)
    if front is not None:
        text = re.sub(r"[^\r\n]", " ", front[0]) + text[front.end() :]
    places = [0, *(found.end() for found in _LINE_END.finditer(text)), len(text)]
    for token in MarkdownIt("commonmark").disable("inline").parse(text):
        if token.map is not None:
            first, last = (places[min(line, len(places) - 1)] for line in token.map)
            yield token, first, last


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first line is its head."""
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(lines[0]) + "|", *rest]) + "\n"


def plain(text: str) -> str:
    """Return a text with Markdown's special characters escaped."""
    return re.sub(r"([\\`*<>\[\]|])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Return a name as code, so that Markdown does not interpret it."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{' '.join(text.split())}{fence}"


__all__ = ["Block", "code", "code_blocks", "headings", "plain", "table"]
