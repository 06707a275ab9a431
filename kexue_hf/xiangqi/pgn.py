"""Games in PGN: tags in brackets, then numbered moves, in ICCS or Chinese notation, with comments and variations.

    [Event "..."]
    [Result "1-0"]
    [FEN "..."]          only if the game does not begin at the start

    1. 炮二平五 马8进7 2. 马二进三 {a comment} 车9平8 1-0

Comments, variations in parentheses and annotations ($1, !?) are skipped. A game ends at its result, or before the tags
of the next game.
"""

import re
from collections.abc import Iterable, Iterator

from kexue_hf.xiangqi.games import GameBuilder
from kexue_hf.xiangqi.outcome import RESULTS

_TAG = re.compile(r'\[\s*(\w+)\s+"(.*)"\s*\]\s*')
# The first tag of a game, which also ends a comment that was never closed.
_FIRST_TAG = re.compile(r'\[\s*(Event|Game)\s+"')
_TOKEN = re.compile(r"[{}();]|[^\s{}();]+")
_COMMENT_END = re.compile("}")
_MOVE_NUMBER = re.compile(r"^\d+(?:\.+|$)", re.ASCII)
# Dots of "1. ... ", and marks of checks and of good or bad moves.
_MARKS = ".!?+#"
_MOST_TAGS = 1000
# Other words for the results that programs write into the tag.
_RESULT_WORDS = {
    **dict.fromkeys(("红胜", "紅勝"), "1-0"),
    **dict.fromkeys(("黑胜", "黑勝"), "0-1"),
    **dict.fromkeys(("和", "和棋"), "1/2-1/2"),
    **dict.fromkeys(("?", ""), "*"),
}


def pgn_records(lines: Iterable[str]) -> Iterator[GameBuilder]:
    """Yield the record of each game, sound or not, while the lines are read."""
    reader = _Reader()
    for line in lines:
        yield from reader.feed(line)
    yield from reader.finish()


class _Reader:
    """The state between two lines."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._record = GameBuilder()
        self._empty = True
        self._has_movetext = False
        self._in_comment = False
        self._variations = 0

    def finish(self) -> Iterator[GameBuilder]:
        """Yield the present record, if there is anything in it, and begin another."""
        if self._in_comment:
            self._record.fail("expected } at the end of a comment; the game ends within it")
        elif self._variations:
            self._record.fail("expected ) at the end of a variation; the game ends within it")
        record, empty = self._record, self._empty
        self._begin()
        if not empty:
            yield record

    def feed(self, line: str) -> Iterator[GameBuilder]:
        if line.startswith("%"):
            return
        tag_follows = line.startswith("[") and not self._in_comment and not self._variations
        if tag_follows or _FIRST_TAG.match(line):
            if self._has_movetext or self._in_comment:
                yield from self.finish()
            self._empty = False
            self._read_tag(line)
        else:
            yield from self._read_movetext(line)

    def _read_tag(self, line: str) -> None:
        match = _TAG.fullmatch(line)
        if match is None:
            self._record.fail(f'expected a tag such as [Event "..."], got {line.strip()[:80]!r}')
            return
        name, value = match[1], match[2].replace('\\"', '"').replace("\\\\", "\\")
        if len(self._record.tags) >= _MOST_TAGS:
            self._record.fail(f"expected at most {_MOST_TAGS} tags")
            return
        self._record.tags[name] = value
        if name == "FEN":
            self._record.start(value)
        elif name == "Result":
            self._record.add_result(_RESULT_WORDS.get(value.strip(), value.strip()))

    def _read_movetext(self, line: str) -> Iterator[GameBuilder]:
        position = 0
        while match := (_COMMENT_END if self._in_comment else _TOKEN).search(line, position):
            position = match.end()
            token = match[0]
            if self._in_comment:
                self._in_comment = False
            elif token == "{":
                self._in_comment = True
            elif token == ";":
                return
            elif token == "(":
                self._variations += 1
                self._has_movetext = True
            elif token == ")":
                self._variations = max(0, self._variations - 1)
            elif not self._variations:
                self._has_movetext = True
                if token in RESULTS:
                    self._record.add_result(token)
                    yield from self.finish()
                else:
                    self._empty = False
                    self._read_move(token)

    def _read_move(self, token: str) -> None:
        move = _MOVE_NUMBER.sub("", token).strip(_MARKS)
        if move and not move.startswith("$"):
            self._record.add_move(move)
