"""The engine over pipes, as a graphical program uses it: both dialects, answers while it thinks, bad lines."""

import io
import os
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kexue_hf import InputError, XiangqiPlayer
from kexue_hf.play.bounded_lines import LONGEST_LINE, bounded_lines
from kexue_hf.play.engine import Engine
from kexue_hf.play.engine_dialects import UCCI, UCI, Dialect
from kexue_hf.play.engine_limits import read_limits
from kexue_hf.xiangqi import Board, from_uci
from tests.play.tiny_players import MATE_IN_ONE, tiny_parts, tiny_player

PATIENCE = 60


class Connection:
    """An engine in a thread, with a pipe at each end."""

    def __init__(self, player: XiangqiPlayer, dialect: Dialect) -> None:
        to_engine, self._write_end = os.pipe()
        from_engine, out = os.pipe()
        self._input = os.fdopen(to_engine, "rb")
        self._output = os.fdopen(out, "w", encoding="utf-8")
        self._commands = os.fdopen(self._write_end, "wb", buffering=0)
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(os.fdopen(from_engine, encoding="utf-8"),))
        self._reader.start()
        self._engine = threading.Thread(target=self._run, args=(Engine(lambda: player, dialect, self._output),))
        self._engine.start()

    def _run(self, engine: Engine) -> None:
        with self._input, self._output:
            engine.run(self._input)

    def _read(self, stream: Any) -> None:
        with stream:
            for line in stream:
                self._answers.put(line.rstrip("\n"))

    def send(self, *lines: str | bytes) -> None:
        for line in lines:
            data = (line.encode() if isinstance(line, str) else line) + b"\n"
            while data:
                data = data[self._commands.write(data) :]

    def until(self, beginning: str) -> list[str]:
        """Return the answers up to one that begins so."""
        found = []
        while not found or not found[-1].startswith(beginning):
            found.append(self._answers.get(timeout=PATIENCE))
        return found

    def close(self) -> None:
        if not self._commands.closed:
            self._commands.close()
        self._engine.join(PATIENCE)
        self._reader.join(PATIENCE)
        assert not self._engine.is_alive() and not self._reader.is_alive()


@pytest.fixture
def connect() -> Iterator[Any]:
    opened: list[Connection] = []

    def make(dialect: Dialect = UCI, **options: Any) -> Connection:
        opened.append(Connection(tiny_player(**options), dialect))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


def test_uci_greets_and_plays(connect: Any) -> None:
    engine = connect()
    engine.send("uci")
    greeting = engine.until("uciok")
    assert greeting[0].startswith("id name ") and any("UCI_Variant" in line for line in greeting)
    engine.send("setoption name UCI_Variant value xiangqi", "isready")
    assert engine.until("readyok") == ["readyok"]
    engine.send("ucinewgame", "position startpos moves h3e3 h10g8", "d", "go nodes 600")
    assert "Fen: rnbakab1r/9/1c4nc1/p1p1p1p1p/9/9/P1P1P1P1P/1C2C4/9/RNBAKABNR w - - 2 2" in engine.until("Fen")
    answers = engine.until("bestmove")
    words = answers[0].split()
    assert words[:3] == ["info", "depth", "1"]
    assert {"score", "nodes", "nps", "time", "pv"} <= set(words) and words[words.index("score") + 1] == "cp"
    board = Board()
    for move in ("h2e2", "h9g7", *map(from_uci, answers[-1].split()[1::2])):
        board.push(move)
    assert board.moves[2] and answers[-1].split()[2] == "ponder"


def test_ucci_has_its_own_words(connect: Any) -> None:
    engine = connect(UCCI)
    engine.send("ucci", "isready", "position fen " + Board().fen() + " moves h2e2", "go depth 2")
    answers = engine.until("bestmove")
    assert "ucciok" in answers and "readyok" in answers
    board = Board()
    board.push("h2e2")
    board.push(answers[-1].split()[1])
    assert any(line.startswith("info depth 2 score ") and " cp " not in line for line in answers)
    engine.send("quit")
    assert engine.until("bye") == ["bye"]


@pytest.mark.parametrize(
    ("dialect", "mating", "none"),
    [(UCI, "b1b10", "bestmove (none)"), (UCCI, "b0b9", "nobestmove")],
    ids=["uci", "ucci"],
)
def test_mate_and_the_end_of_the_game(connect: Any, dialect: Dialect, mating: str, none: str) -> None:
    engine = connect(dialect)
    engine.send(f"position fen {MATE_IN_ONE}", "go depth 3")
    answers = engine.until("bestmove")
    assert answers[-1].split()[1] == mating
    if dialect is UCI:
        assert "score mate 1" in answers[-2]
    engine.send(f"position fen {MATE_IN_ONE} moves {mating}", "go depth 3")
    assert engine.until(none) == [none]


def test_it_answers_while_it_thinks(connect: Any) -> None:
    engine = connect()
    engine.send("position startpos", "go infinite")
    engine.until("info depth 1")
    engine.send("isready")
    assert not any(line.startswith("bestmove") for line in engine.until("readyok"))
    engine.send("stop")
    assert engine.until("bestmove")


def test_infinite_waits_for_stop_even_if_nothing_is_left_to_search(connect: Any) -> None:
    engine = connect()
    engine.send(f"position fen {MATE_IN_ONE}", "go infinite")
    engine.until("info depth 1")
    engine.send("isready", "d")
    assert not any(line.startswith("bestmove") for line in engine.until("Fen"))
    engine.send("stop")
    assert engine.until("bestmove")[-1].split()[1] == "b1b10"


def test_pondering(connect: Any) -> None:
    engine = connect()
    engine.send("position startpos moves h3e3 h10g8", "go ponder wtime 1000 btime 1000")
    engine.until("info depth 1")
    engine.send("isready")
    assert not any(line.startswith("bestmove") for line in engine.until("readyok"))
    engine.send("ponderhit")
    engine.until("bestmove")
    engine.send("ponderhit")
    assert "nothing is pondered" in engine.until("info string error")[-1]


def depths(answers: list[str]) -> list[int]:
    return [int(line.split()[2]) for line in answers if line.startswith("info depth")]


@pytest.mark.parametrize("limit", ["depth 3", "nodes 3000", "movetime 300", "depth 3 movetime 60000"])
def test_the_limits_hold_from_ponderhit_on(connect: Any, limit: str) -> None:
    """A limit that is reached late does not end the search at once; one that was reached before does."""
    engine = connect()
    engine.send("position startpos", f"go ponder {limit}", "ponderhit")
    answers = engine.until("bestmove")
    if "depth" in limit:
        assert depths(answers)[-1] == 3
    assert len(depths(answers)) > 1

    engine.send("position startpos", f"go ponder {limit}")
    engine.until("info depth 4")
    engine.send("isready")
    assert not any(line.startswith("bestmove") for line in engine.until("readyok"))
    engine.send("ponderhit")
    assert len(depths(engine.until("bestmove"))) <= 2


def test_a_pondering_that_is_over_answers_ponderhit_at_once(connect: Any) -> None:
    engine = connect()
    engine.send(f"position fen {MATE_IN_ONE}", "go ponder movetime 600000")
    engine.until("info depth 1")
    engine.send("ponderhit")
    assert engine.until("bestmove")[-1].split()[1] == "b1b10"


def test_infinite_pondering_ends_by_stop_only(connect: Any) -> None:
    engine = connect()
    engine.send(f"position fen {MATE_IN_ONE}", "go infinite ponder", "ponderhit", "isready", "d")
    assert not any(line.startswith("bestmove") for line in engine.until("Fen"))
    engine.send("stop")
    assert engine.until("bestmove")


def test_pondering_without_limits_thinks_as_go_does(connect: Any) -> None:
    engine = connect(nodes=2000)
    engine.send("position startpos", "go ponder", "ponderhit")
    assert len(depths(engine.until("bestmove"))) > 1


class ListeningPlayer(XiangqiPlayer):
    """A player that keeps the games that it was asked about."""

    def choose(self, board: Board, **options: Any) -> Any:
        self.__dict__.setdefault("games", []).append(board.moves)
        return super().choose(board, **options)


def opened_with(dialect: Dialect) -> tuple[ListeningPlayer, Connection]:
    model, tokenizer, head = tiny_parts()
    player = ListeningPlayer(model, tokenizer, value_head=head)
    return player, Connection(player, dialect)


def after_last_capture(moves: list[str]) -> str:
    """Return what a UCCI program sends: the position after the last capture, and the moves since."""
    board, since, fen = Board(), [], Board().fen()
    for move in moves:
        captures = board.piece_at(move[2:]) is not None
        board.push(move)
        since.append(move)
        if captures:
            fen, since = board.fen(), []
    return f"position fen {fen}{' moves ' if since else ''}{' '.join(since)}"


def test_the_model_reads_the_game_that_ucci_cuts_at_captures() -> None:
    player, engine = opened_with(UCCI)
    try:
        played = Board()
        expected = []
        for opponent in ("h2h9", "h0g2", "b2b9", "g3g4", None):
            expected.append(played.moves)
            # The engine captures whenever it can.
            captures = (
                [move for move in played.legal_moves() if played.piece_at(move[2:])] if len(expected) > 1 else []
            )
            engine.send(after_last_capture(played.moves), f"go depth 1 searchmoves {' '.join(captures)}")
            played.push(engine.until("bestmove")[-1].split()[1])
            if opponent is not None:
                reply = opponent if played.is_legal(opponent) else played.legal_moves()[0]
                played.push(reply)
        # Moves taken back.
        expected += [played.moves[:5], []]
        engine.send(after_last_capture(played.moves[:5]), "go depth 1")
        engine.until("bestmove")
        engine.send("position startpos", "go depth 1")
        engine.until("bestmove")
        assert player.games == expected
        # A new game knows nothing of the old one.
        engine.send(after_last_capture(played.moves), "go depth 1")
        engine.until("bestmove")
        assert "/" in after_last_capture(played.moves) and player.games[-1] != played.moves
    finally:
        engine.close()


UNREADABLE = {
    "go depth": "expected a whole number after depth, got ''",
    "go depth 1.5": "expected a whole number after depth, got '1.5'",
    "go nodes depth 1": "expected a whole number after nodes, got ''",
    "go nodes " + "9" * 400: "expected a whole number after nodes",
    "go sideways depth 1": "expected one of infinite, ponder, draw, depth",
    "go searchmoves e0e1x depth 1": "searchmoves: expected",
}


@pytest.mark.parametrize("line", UNREADABLE, ids=lambda line: line[:30])
@pytest.mark.parametrize("dialect", [UCI, UCCI], ids=["uci", "ucci"])
def test_every_go_gets_a_move(connect: Any, dialect: Dialect, line: str) -> None:
    engine = connect(dialect)
    engine.send("position startpos", line)
    answers = engine.until("bestmove")
    errors = [answer for answer in answers if answer.startswith("info string error: ")]
    assert len(errors) == 1 and UNREADABLE[line] in errors[0] and len(errors[0]) < 1000
    assert answers[-1].split()[1] != "(none)"


def test_depth_infinite_of_ucci(connect: Any) -> None:
    engine = connect(UCCI)
    engine.send("position startpos", "go depth infinite")
    answers = engine.until("info depth 1")
    engine.send("stop")
    assert not any("error" in line for line in [*answers, *engine.until("bestmove")])


def test_banned_and_searched_moves(connect: Any) -> None:
    engine = connect(UCCI)
    engine.send(f"position fen {MATE_IN_ONE}", "banmoves b0b9", "go depth 2")
    assert engine.until("bestmove")[-1].split()[1] != "b0b9"
    other = connect()
    other.send("position startpos", "go depth 2 searchmoves a1a2 a1a3")
    assert other.until("bestmove")[-1].split()[1] in ("a1a2", "a1a3")


def test_the_end_of_the_input_finishes_a_limited_search_and_stops_another(connect: Any) -> None:
    for command in ("go nodes 500", "go infinite"):
        engine = connect()
        engine.send("position startpos", command)
        engine.close()
        assert engine.until("bestmove")


BAD = {
    "foo": "unknown command 'foo'; known: uci, isready",
    "position": "expected startpos or fen, got ''",
    "position fen x w": "FEN 'x w': expected 10 ranks",
    "position startpos moves h3e3 h3e3": "move 2: h2e2 is not legal",
    "position startpos moves h2": "move 1: expected a UCI move such as h3e3",
    "setoption name Nodes value many": "Nodes: expected a whole number from 0, got 'many'",
    "setoption name Temperature value inf": "Temperature: expected a number from 0 to 100, got 'inf'",
    "setoption name UCI_Variant value chess": "expected xiangqi, got 'chess'",
    "setoption name Hash value 1": "unknown option 'Hash'",
    "setoption": "unknown option ''",
    "\x00\x1b[2J": "unknown command '\\x00\\x1b[2J'",
    "\udcff": "unknown command",
    "a" * (1 << 20): "expected at most 131,072 bytes in a line",
    "position startpos moves " + "h3e3 " * 15_000: "expected at most 10,000 moves, got 15,000",
    "ponderhit": "nothing is pondered",
}


@pytest.mark.parametrize("line", BAD, ids=lambda line: line[:30].encode("ascii", "backslashreplace").decode())
def test_a_bad_line_is_one_error_and_changes_nothing(connect: Any, line: str) -> None:
    engine = connect()
    engine.send("position startpos moves h3e3", line.encode("utf-8", "surrogateescape"), "", "d")
    answers = engine.until("Fen")
    errors = [answer for answer in answers if answer.startswith("info string error: ")]
    assert len(errors) == 1 and BAD[line] in errors[0] and len(errors[0]) < 1000
    assert answers[-1].endswith("/P1P1P1P1P/1C2C4/9/RNBAKABNR b - - 1 1")


def test_a_failure_while_thinking_still_answers(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no memory\nleft")

    monkeypatch.setattr(XiangqiPlayer, "choose", broken)
    engine = connect()
    engine.send("go depth 1")
    assert engine.until("bestmove") == ["info string error: no memory left", "bestmove (none)"]


def test_a_player_that_cannot_be_loaded_ends_the_engine() -> None:
    def load() -> XiangqiPlayer:
        raise InputError("no such folder")

    output = io.StringIO()
    with pytest.raises(InputError, match="no such folder"):
        Engine(load, UCI, output).run(io.BytesIO(b"uci\nisready\nisready\n"))
    assert output.getvalue().count("readyok") == 0 and "uciok" in output.getvalue()


class Endless(io.RawIOBase):
    """A stream of `a` without an end of line; it counts what was read, and then ends."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.largest = 0

    def readline(self, size: int | None = -1) -> bytes:
        assert size is not None and size > 0
        self.largest = max(self.largest, size)
        count = min(size, self.left)
        self.left -= count
        return b"a" * count


def test_an_endless_line_is_read_in_bounded_parts() -> None:
    stream = Endless(10 * LONGEST_LINE)
    assert list(bounded_lines(stream)) == [None]  # type: ignore[arg-type]  # it only reads lines
    assert stream.left == 0 and stream.largest <= LONGEST_LINE + 1


def test_lines_of_any_length() -> None:
    lines = [b"a", b"b" * 10, b"c" * 11, b"d" * 9, b"", b"e"]
    assert list(bounded_lines(io.BytesIO(b"\n".join(lines)), longest=10)) == ["a", None, None, "d" * 9, "", "e"]


@pytest.mark.parametrize(
    ("command", "side", "seconds"),
    [
        ("wtime 60000 btime 9000", 1, 1.95),
        ("wtime 60000 btime 9000", -1, 0.25),
        ("wtime 60000 btime 9000 winc 1000 binc 0", 1, 2.75),
        ("wtime 60000 movestogo 1 btime 1", 1, 29.95),
        ("wtime -50 btime 5", 1, 0.01),
        ("movetime 700", 1, 0.7),
        ("infinite", 1, None),
    ],
)
def test_the_share_of_the_clock(command: str, side: int, seconds: float | None) -> None:
    assert read_limits(command.split(), side, from_uci, 0.001).seconds == pytest.approx(seconds)


def test_the_clock_of_ucci() -> None:
    limits = read_limits(["draw", "time", "60", "increment", "1"], -1, str, 1.0)
    assert limits.seconds == pytest.approx(2.75)


def test_commands_sent_ahead_wait_for_the_search(connect: Any) -> None:
    """As programs expect that write several positions at once."""
    engine = connect()
    engine.send("isready")
    engine.until("readyok")
    engine.send("position startpos", "go nodes 3000", "position startpos moves h3e3", "go nodes 3000")
    for side in ("Red", "Black"):
        searched = [line for line in engine.until("bestmove") if line.startswith("info depth")]
        assert len(searched) > 1, side


@pytest.mark.parametrize("wrong", ["position startpos moves a1a9", "position fen garbage", "position"])
@pytest.mark.parametrize("dialect", [UCI, UCCI], ids=["uci", "ucci"])
def test_a_wrong_position_has_no_move(connect: Any, dialect: Dialect, wrong: str) -> None:
    engine = connect(dialect)
    engine.send("position startpos", wrong, "go nodes 50")
    answers = engine.until(dialect.no_move)
    assert answers[0].startswith("info string error: ") and "send another" in answers[-2]
    engine.send("position startpos", "go nodes 50")
    assert engine.until("bestmove")[-1] != dialect.no_move
