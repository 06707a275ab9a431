"""An engine of xiangqi for graphical programs: one loop for the protocols UCI and UCCI.

It reads commands from a stream and answers on another. It thinks in a thread, so it answers `isready` and `stop`
meanwhile. A line that it does not understand gets `info string error: ...`, and the loop goes on; of a `go`, only the
words that it does not understand count for nothing, since the program waits for the move.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from kexue_hf.errors import InputError, KexueError, printable_message, quoted
from kexue_hf.play.alpha_beta import LONGEST_LINE as DEEPEST
from kexue_hf.play.bounded_lines import LONGEST_LINE, bounded_lines
from kexue_hf.play.continued_game import continued_game
from kexue_hf.play.engine_dialects import Dialect
from kexue_hf.play.engine_limits import GoLimits, read_limits
from kexue_hf.xiangqi import START, Board, text_board
from kexue_hf.xiangqi.games import MOST_PLIES

if TYPE_CHECKING:
    from kexue_hf.play.player import XiangqiPlayer


class Engine:
    """The state of a connection.

    Args:
        load: returns the player that chooses the moves. It runs in a thread, so that a program which starts the engine
            gets its first answer at once.
        dialect: UCI or UCCI.
        output: where the answers go, one line each.
        seconds: time for a `go` without limits if the player has no nodes; None for its policy alone.
        defaults: the player's `nodes`, `temperature` and `opening_plies`, for the list of options.
    """

    def __init__(
        self,
        load: Callable[[], "XiangqiPlayer"],
        dialect: Dialect,
        output: TextIO,
        seconds: float | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self._dialect, self._output, self._seconds = dialect, output, seconds
        self._defaults = {"nodes": 0, "temperature": 0.0, "opening_plies": 0, **(defaults or {})}
        self._loaded: Future[XiangqiPlayer] = Future()
        threading.Thread(target=self._load, args=(load,), daemon=True).start()
        self._board = Board()
        # The move of the last `go`, if the position is still the same.
        self._answer: str | None = None
        self._banned: frozenset[str] = frozenset()
        self._unit = 1.0 if dialect.hello == "ucci" else 0.001
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        # Set by `ponderhit`, and by `stop`.
        self._ponder_hit = threading.Event()
        self._ponders = self._infinite = False
        # Whether the last `position` was wrong.
        self._is_lost = False
        self._commands: dict[str, Callable[[list[str]], object]] = {
            dialect.hello: self._greet,
            "isready": self._get_ready,
            f"{dialect.hello}newgame": self._new_game,
            "setoption": self._set_option,
            "position": self._set_position,
            "banmoves": self._ban,
            "go": self._go,
            "stop": lambda words: self._end_thinking(),
            "ponderhit": self._end_pondering,
            "d": self._display,
            "debug": lambda words: None,
            "register": lambda words: None,
        }

    def run(self, stream: BinaryIO) -> None:
        """Obey the commands of a stream until `quit` or its end. A search with limits is finished at the end.

        Raises:
            KexueError: the player cannot be loaded; other errors of `load` too.
        """
        try:
            for line in bounded_lines(stream):
                if line == "quit":
                    self._end_thinking()
                    if self._dialect.farewell is not None:
                        self._say(self._dialect.farewell)
                    return
                self.obey(line)
                if self._loaded.done():
                    self._loaded.result()
            if self._ponders or self._infinite:
                self._stop_search()
            self._finish_thinking()
        except BrokenPipeError:  # nobody listens any more
            self._stop.set()
        except BaseException:
            self._stop.set()
            raise

    def obey(self, line: str | None) -> None:
        """Obey one command; None stands for a line that was too long."""
        try:
            if line is None:
                raise InputError(f"expected at most {LONGEST_LINE:,} bytes in a line")
            words = line.split()
            if not words:
                return
            command = self._commands.get(words[0])
            if command is None:
                raise InputError(f"unknown command {quoted(words[0])}; known: {', '.join(self._commands)}, quit")
            command(words[1:])
        except KexueError as error:
            self._say(f"info string error: {' '.join(str(error).split())}")

    def _load(self, load: Callable[[], "XiangqiPlayer"]) -> None:
        try:
            self._loaded.set_result(load())
        except BaseException as error:  # raised again in the thread of `run`
            self._loaded.set_exception(error)

    def _get_ready(self, words: list[str]) -> None:
        self._loaded.result()
        self._say("readyok")

    def _say(self, line: str) -> None:
        with self._lock:
            self._output.write(line + "\n")
            self._output.flush()

    def _greet(self, words: list[str]) -> None:
        self._say("id name kexue-hf xiangqi")
        self._say("id author the authors of kexue-hf")
        for option in self._dialect.options:
            self._say(option.format(**self._defaults))
        self._say(f"{self._dialect.hello}ok")

    def _new_game(self, words: list[str]) -> None:
        self._wait_for_answer()
        self._board, self._answer, self._banned, self._is_lost = Board(), None, frozenset(), False

    def _set_option(self, words: list[str]) -> None:
        self._wait_for_answer()
        if words[:1] == ["name"]:
            middle = words.index("value") if "value" in words else len(words)
            name, value = " ".join(words[1:middle]), " ".join(words[middle + 1 :])
        else:
            name, value = " ".join(words[:1]), " ".join(words[1:])
        player = self._loaded.result()
        setters: dict[str, Callable[[str], object]] = {
            "uci_variant": self._set_variant,
            "ponder": lambda text: None,
            "usemillisec": self._set_unit,
            "nodes": lambda text: setattr(player, "nodes", _whole(name, text)),
            "openingplies": lambda text: setattr(player, "opening_plies", _whole(name, text)),
            "temperature": lambda text: setattr(player, "temperature", _number(name, text)),
        }
        setter = setters.get(name.lower())
        if setter is None:
            raise InputError(f"unknown option {quoted(name)}; {self._dialect.hello} lists the options")
        setter(value)

    def _set_variant(self, text: str) -> None:
        if text.lower() != "xiangqi":
            raise InputError(f"UCI_Variant: expected xiangqi, got {quoted(text)}")

    def _set_unit(self, text: str) -> None:
        self._unit = 0.001 if text.lower() in ("true", "on", "1", "yes") else 1.0

    def _set_position(self, words: list[str]) -> None:
        """Set the position; after a wrong one, `go` has none to search."""
        self._wait_for_answer()
        self._is_lost = True
        middle = words.index("moves") if "moves" in words else len(words)
        kind, moves = words[:1], words[middle + 1 :]
        if kind not in (["startpos"], ["fen"]):
            raise InputError(f"position: expected startpos or fen, got {quoted(' '.join(kind))}")
        if len(moves) > MOST_PLIES:
            raise InputError(f"position: expected at most {MOST_PLIES:,} moves, got {len(moves):,}")
        board = Board(START if kind == ["startpos"] else " ".join(words[1:middle]))
        board = continued_game(board, self._board, self._answer)
        for number, move in enumerate(moves, 1):
            try:
                board.push(self._dialect.from_text(move))
            except InputError as error:
                raise InputError(f"position: move {number}: {error}") from None
        self._board, self._answer, self._banned, self._is_lost = board, None, frozenset(), False

    def _ban(self, words: list[str]) -> None:
        self._wait_for_answer()
        self._banned = frozenset(map(self._dialect.from_text, words))

    def _go(self, words: list[str]) -> None:
        self._wait_for_answer()
        if self._is_lost:
            self._say("info string error: go: the last position was wrong; send another")
            self._say(self._dialect.no_move)
            return
        limits = read_limits(words, self._board.side, self._dialect.from_text, self._unit)
        for problem in limits.problems:
            self._say(f"info string error: {problem}; ignored")
        board = self._board.copy()
        excluded = set(self._banned)
        if limits.searched is not None:
            excluded |= set(board.legal_moves()) - limits.searched
        self._stop, self._ponder_hit = threading.Event(), threading.Event()
        self._ponders, self._infinite = limits.ponders, limits.infinite
        arguments = (board, limits, excluded, self._stop, self._ponder_hit)
        self._thread = threading.Thread(target=self._think, args=arguments, daemon=True)
        self._thread.start()

    def _think(
        self, board: Board, limits: GoLimits, excluded: set[str], stop: threading.Event, ponder_hit: threading.Event
    ) -> None:
        """Choose a move in a thread and say it; whatever happens, `go` gets its answer."""
        answer = self._dialect.no_move
        try:
            if set(board.legal_moves()) - excluded:
                choice = self._loaded.result().choose(
                    board,
                    **self._search_limits(limits),
                    exclude=excluded,
                    stop=stop,
                    ponder_hit=ponder_hit if limits.ponders else None,
                    report=lambda progress: self._say(self._dialect.progress(progress)),
                )
                if limits.ponders:
                    ponder_hit.wait()
                if limits.infinite:
                    stop.wait()
                self._answer = choice.move
                answer = f"bestmove {self._dialect.to_text(choice.move)}"
                if len(choice.line) > 1:
                    answer += f" ponder {self._dialect.to_text(choice.line[1])}"
        except BrokenPipeError:
            return
        except Exception as error:  # the other program waits for an answer
            self._try_to_say(f"info string error: {printable_message(' '.join(str(error).split()))}")
        self._try_to_say(answer)

    def _search_limits(self, limits: GoLimits) -> dict[str, Any]:
        if limits.infinite:
            return {"depth": DEEPEST}
        if not limits.limited:
            # The option Nodes, once set, comes before the time.
            return {"seconds": self._seconds} if self._seconds is not None and not self._loaded.result().nodes else {}
        return {"depth": limits.depth, "nodes": limits.nodes, "seconds": limits.seconds}

    def _try_to_say(self, line: str) -> None:
        try:
            self._say(line)
        except (BrokenPipeError, ValueError):  # the output is closed
            self._stop.set()

    def _end_pondering(self, words: list[str]) -> None:
        if not self._ponders or self._thread is None or not self._thread.is_alive():
            raise InputError("ponderhit: expected after go ponder; nothing is pondered")
        self._ponders = False
        self._ponder_hit.set()

    def _display(self, words: list[str]) -> None:
        for line in text_board(self._board, ascii=True).splitlines():
            self._say(line)
        self._say(f"Fen: {self._board.fen()}")

    def _wait_for_answer(self) -> None:
        """Let a search with limits end by them, as a program expects that sends commands ahead; stop any other."""
        if self._ponders or self._infinite:
            self._stop_search()
        self._finish_thinking()

    def _end_thinking(self) -> None:
        """Stop the search, if one runs, and wait for its answer."""
        self._stop_search()
        self._finish_thinking()

    def _stop_search(self) -> None:
        self._stop.set()
        self._ponder_hit.set()

    def _finish_thinking(self) -> None:
        """Wait for the search; one without limits is stopped."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        while thread.is_alive():
            thread.join(0.05)


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InputError(f"{name}: expected a whole number from 0, got {quoted(text)}")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise InputError(f"{name}: expected a number from 0 to 100, got {quoted(text)}")
    return number


__all__ = ["Engine"]
