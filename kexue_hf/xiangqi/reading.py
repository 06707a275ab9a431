"""Files of games as a stream, whatever their size."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kexue_hf.errors import InputError, quoted
from kexue_hf.xiangqi.game_lines import iccs_records, jsonl_records
from kexue_hf.xiangqi.games import Game, GameBuilder, GameError
from kexue_hf.xiangqi.pgn import pgn_records

_READERS: dict[str, Callable[[Iterable[str]], Iterator[GameBuilder]]] = {
    "pgn": pgn_records,
    "jsonl": jsonl_records,
    "iccs": iccs_records,
}
_FORMAT_OF_SUFFIX = {".pgn": "pgn", ".jsonl": "jsonl", ".iccs": "iccs", ".txt": "iccs"}
_LONGEST_LINE = 1 << 20


def read_games(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    encoding: str = "utf-8",
    on_error: Callable[[GameError], object] | None = None,
) -> Iterator[Game]:
    """Yield the games of a file, one at a time.

    Args:
        path: a file of games.
        format: "pgn" (ICCS or Chinese moves), "jsonl" (an object with "moves" and "result" on each line) or "iccs" (a
            game on each line); by default from the suffix: .pgn, .jsonl, .iccs or .txt.
        encoding: of the text, such as "gb18030" or "big5"; a byte order mark of UTF-8 is skipped.
        on_error: called with the error of each game that cannot be used, `errors.append` for example; the other games
            are still read. By default the first such game raises.

    Raises:
        InputError: the file does not exist or cannot be read, or the format or encoding is unknown. At once.
        GameError: while iterating, if `on_error` is None: a game has an illegal move (the message names file, game and
            ply), an impossible FEN, two results, or text that cannot be decoded.
    """
    path = Path(path)
    format = format or _FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if format not in _READERS:
        came = "none, and the name does not tell it" if format is None else quoted(str(format))
        raise InputError(f"{path}: expected one of {', '.join(_READERS)} as format=, got {came}")
    if not _extends_ascii(encoding):
        raise InputError(
            f"expected an encoding that extends ASCII, such as utf-8, gb18030 or big5, got {quoted(str(encoding))}"
        )
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return _games(path, _READERS[format], encoding, on_error)


def _extends_ascii(encoding: str) -> bool:
    """Return whether a file in this encoding can be split into lines before it is decoded."""
    try:
        return b"a\n".decode(encoding) == "a\n"
    except (LookupError, UnicodeError):
        return False


def _games(
    path: Path,
    read: Callable[[Iterable[str]], Iterator[GameBuilder]],
    encoding: str,
    on_error: Callable[[GameError], object] | None,
) -> Iterator[Game]:
    for number, record in enumerate(read(_lines(path, encoding)), 1):
        try:
            game = record.game(str(path), number)
        except GameError as error:
            if on_error is None:
                raise
            on_error(error)
        else:
            yield game


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Yield the decoded lines. What cannot be decoded becomes U+FFFD, which is harmless but in a move."""
    try:
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    raise InputError(
                        f"{path}, line {number}: expected at most {_LONGEST_LINE:,} bytes; is it a file of games?"
                    )
                text = line.decode(encoding, "replace")
                yield text.removeprefix("\ufeff") if number == 1 else text
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
