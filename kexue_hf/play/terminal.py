"""A game in the terminal: you enter moves, the player answers.

Lines are read from one stream and written to another, so that anything may stand at both ends. A wrong entry gets one
line that says what to do, and the game goes on; the end of the input ends the game.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from kexue_hf.errors import InputError, KexueError, printable, quoted
from kexue_hf.files.whole_file import whole_file
from kexue_hf.play.player import XiangqiPlayer
from kexue_hf.xiangqi import (
    START,
    Board,
    GameError,
    Outcome,
    all_chinese,
    from_chinese,
    parse_iccs,
    pgn_text,
    read_games,
    text_board,
    to_chinese,
)
from kexue_hf.xiangqi.outcome import UNKNOWN

HELP = """\
Enter a move in ICCS (h2e2) or Chinese notation (炮二平五), or a command:
  undo       take back your last move, and the answer to it
  hint       the most probable moves
  moves      all legal moves
  flip       turn the board
  fen        the position as FEN
  save FILE  write the game as PGN
  load FILE  go on with the first game of a file (PGN)
  resign     give up the game
  new        begin a new game
  help       this text
  quit       leave
Ctrl-C while the model thinks makes it move at once.
In Chinese: 悔棋, 提示, 着法, 翻转, 存谱, 读谱, 认输, 新局, 帮助, 退出.
"""
_CHINESE_COMMANDS = {
    "悔棋": "undo", "提示": "hint", "着法": "moves", "翻转": "flip", "存谱": "save", "读谱": "load", "认输": "resign",
    "新局": "new", "帮助": "help", "退出": "quit",
}  # fmt: skip
_SIDES = {1: "Red", -1: "Black"}
_RESULTS = {"w": "Red wins", "b": "Black wins", None: "a draw"}
_HINTS = 5
# Names of files of games.
_GAMES = (".pgn", ".jsonl", ".iccs", ".txt")


@dataclass
class TerminalOptions:
    """How a game is played and shown.

    Attributes:
        sides: the sides that you play: 1 for Red, -1 for Black, both, or none.
        limits: of `XiangqiPlayer.choose`.
        fen: the position to start from.
        colour: use the colours of an ANSI terminal.
    """

    sides: frozenset[int] = frozenset({1})
    limits: Mapping[str, Any] = field(default_factory=dict)
    fen: str = START
    colour: bool = False


class TerminalGame:
    """Games between you and a player, one after the other.

    Args:
        player: chooses the moves of the other side.
        input: your lines.
        output: boards and answers.
    """

    def __init__(self, player: XiangqiPlayer, options: TerminalOptions, input: TextIO, output: TextIO) -> None:
        self._player, self._options, self._input, self._output = player, options, input, output
        self._board = Board(options.fen)
        self._flipped = options.sides == frozenset({-1})
        self._resigned: int | None = None
        self._commands: dict[str, Callable[[str], object]] = {
            "undo": self._undo,
            "hint": self._hint,
            "moves": self._list_moves,
            "flip": self._flip,
            "fen": lambda rest: self._print(self._board.fen()),
            "save": self._save,
            "load": self._load,
            "resign": self._resign,
            "new": self._new,
            "help": lambda rest: self._print(HELP.rstrip()),
        }

    def run(self) -> None:
        """Play until `quit` or the end of the input."""
        self._print("help lists the commands.")
        self._show_to_you()
        while True:
            ended = self._ended()
            if not ended and self._board.side not in self._options.sides:
                self._answer()
                continue
            if ended and not self._options.sides:
                return
            line = self._ask(ended)
            if line is None or line.lower() in ("quit", "exit", "q", "退出"):
                return
            if line:
                self._obey(line)

    def _ask(self, ended: bool) -> str | None:
        """Return a line of the input without its ends; None after the last."""
        self._output.write("new, undo, save FILE, load FILE or quit> " if ended else f"{_SIDES[self._board.side]}> ")
        self._output.flush()
        line = self._input.readline(10_000)
        if not line:
            self._print("")
            return None
        if not self._input.isatty():
            self._print(printable(line.strip()))
        return line.strip()

    def _obey(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        command = self._commands.get(_CHINESE_COMMANDS.get(word, word.lower()))
        try:
            if command is not None:
                command(rest.strip())
            else:
                self._move(line)
        except KexueError as error:
            self._print(f"{' '.join(str(error).split())}")

    def _move(self, text: str) -> None:
        """Make your move."""
        if self._ended():
            raise InputError("the game is over: new begins another, undo takes a move back")
        words = text.isascii()
        if words and not (len(text) in (4, 5) and text[1:2].isdigit()):
            raise InputError(
                f"expected a move such as h2e2 or 炮二平五, or a command ({', '.join(self._commands)}, quit), "
                f"got {quoted(text)}"
            )
        self._push(parse_iccs(text) if words else from_chinese(self._board, text))

    def _push(self, move: str) -> None:
        """Make a move; show the board unless the player answers at once."""
        self._board.push(move)
        outcome = self._board.outcome()
        if outcome is None:
            self._show_to_you()
        else:
            self._show()
            self._print(describe(outcome))

    def _answer(self) -> None:
        """Make the player's move, and say it."""
        board = self._board
        try:
            choice = self._player.choose(board, **self._options.limits)
        except KeyboardInterrupt:
            # A game without you ends by it.
            if not self._options.sides:
                raise
            self._print("interrupted: the move is the model's first thought")
            choice = self._player.choose(board, nodes=0)
        probability = next(entry.probability for entry in choice.candidates if entry.move == choice.move)
        text = f"{_SIDES[board.side]}: {to_chinese(board, choice.move)} ({choice.move}), probability {probability:.1%}"
        if choice.nodes:
            text += f", value {choice.value:+.2f}, {choice.nodes:,} positions in {choice.seconds:.1f} s"
        self._print(text)
        self._push(choice.move)

    def _undo(self, rest: str) -> None:
        """Take back moves until you are to move again."""
        if not self._board.moves:
            raise InputError("no move to take back: this is the start of the game")
        if self._resigned is not None:
            self._resigned = None
        else:
            self._board.pop()
        while self._board.moves and self._options.sides and self._board.side not in self._options.sides:
            self._board.pop()
        self._show()

    def _hint(self, rest: str) -> None:
        texts = all_chinese(self._board)
        if not texts:
            raise InputError("the game is over; undo takes a move back")
        probabilities, (red, draw, black) = self._player.assess(self._board)
        for move, probability in list(probabilities.items())[:_HINTS]:
            self._print(f"  {texts[move]}  {move}  {probability:6.1%}")
        self._print(f"  Red wins {red:.0%}, draw {draw:.0%}, Black wins {black:.0%}")

    def _list_moves(self, rest: str) -> None:
        texts = all_chinese(self._board)
        entries = [f"{text} {move}" for move, text in texts.items()]
        for start in range(0, len(entries), 6):
            self._print("  " + "   ".join(entries[start : start + 6]))
        if not entries:
            self._print("no legal move; undo takes a move back")

    def _flip(self, rest: str) -> None:
        self._flipped = not self._flipped
        self._show()

    def _save(self, rest: str) -> None:
        """Write the game; a file that exists is not replaced."""
        if not rest:
            raise InputError("expected a file after save, such as save game.pgn")
        rest = os.path.expanduser(rest)
        if os.path.isdir(rest):
            raise InputError(f"{quoted(rest)} is a folder; expected a file after save, such as save game.pgn")
        path = rest if rest.lower().endswith(".pgn") else f"{rest}.pgn"
        names = {side: "you" if side in self._options.sides else "kexue-hf" for side in (1, -1)}
        text = pgn_text(self._board, self._result(), {"Red": names[1], "Black": names[-1]})
        try:
            with whole_file(path) as file:
                file.write(text)
        except OSError as error:
            message = str(error).removesuffix(", or pass --overwrite")
            raise InputError(f"not saved: {message}") from None
        self._print(f"saved {quoted(path)}")

    def _load(self, rest: str) -> None:
        """Continue the first game of a file, and leave this one; a game that cannot be read changes nothing."""
        if not rest:
            raise InputError("expected a file after load, such as load game.pgn")
        path = os.path.expanduser(rest)
        if not path.lower().endswith(_GAMES):
            raise InputError(f"expected a file that ends in {', '.join(_GAMES)}, got {quoted(rest)}")
        try:
            game = next(read_games(path), None)
        except GameError as error:
            # Chinese programs write GB18030, which hardly any text fits by chance that is not UTF-8.
            try:
                game = next(read_games(path, encoding="gb18030"), None)
            except GameError:
                raise error from None
        if game is None:
            raise InputError(f"{quoted(path)} holds no game")
        board = Board(game.fen)
        for move in game.moves:
            board.push(move)
        self._board, self._resigned = board, None
        self._print(f"loaded {quoted(path)}: {len(game.moves)} half-moves")
        outcome = board.outcome()
        if outcome is None:
            self._show_to_you()
        else:
            self._show()
            self._print(describe(outcome))

    def _resign(self, rest: str) -> None:
        if self._ended():
            raise InputError("the game is over already; new begins another")
        self._resigned = self._board.side
        self._print(f"{_SIDES[self._board.side]} resigns: {_RESULTS['b' if self._board.side > 0 else 'w']}")

    def _new(self, rest: str) -> None:
        self._board, self._resigned = Board(self._options.fen), None
        self._show_to_you()

    def _ended(self) -> bool:
        return self._resigned is not None or self._board.outcome() is not None

    def _result(self) -> str:
        if self._resigned is not None:
            return "0-1" if self._resigned > 0 else "1-0"
        outcome = self._board.outcome()
        return UNKNOWN if outcome is None else outcome.result

    def _show_to_you(self) -> None:
        """Show the board unless the player is to move, which shows it after its move."""
        if not self._options.sides or self._board.side in self._options.sides:
            self._show()

    def _show(self) -> None:
        self._print(text_board(self._board, colour=self._options.colour, flip=self._flipped).rstrip("\n"))
        if self._board.is_check():
            self._print(f"{_SIDES[self._board.side]} is in check")

    def _print(self, text: str) -> None:
        self._output.write(text + "\n")
        self._output.flush()


def describe(outcome: Outcome) -> str:
    """Return how a game ended, such as "Red wins by checkmate"."""
    return f"{_RESULTS[outcome.winner]} by {outcome.reason}" if outcome.winner else f"a draw: {outcome.reason}"


__all__ = ["HELP", "TerminalGame", "TerminalOptions", "describe"]
