"""The tab for Chinese chess. A game is the list of its moves, kept by the visitor's session."""

from typing import Any

import gradio as gr
from text_tabs import told

from kexue_hf import XiangqiPlayer
from kexue_hf.errors import InputError
from kexue_hf.xiangqi import Board, from_chinese, svg_board, to_chinese
from kexue_hf.xiangqi.coordinates import parse_iccs

LEVELS = {"直觉 policy alone": 0.0, "0.3 s": 0.3, "1 s": 1.0, "3 s": 3.0}
SHOWN = 5


def play_tab(player: XiangqiPlayer) -> None:
    moves = gr.State([])
    with gr.Row():
        with gr.Column(scale=3):
            picture = gr.HTML(svg_board(Board(), coordinates="chinese"), elem_classes="board")
        with gr.Column(scale=2):
            status = gr.Markdown("红方先行，你执红。 You are Red.")
            move = gr.Textbox(
                label="着法 Move", placeholder="炮二平五 / h2e2", info="写着法后按回车 · write a move, press Enter"
            )
            level = gr.Radio(list(LEVELS), value="0.3 s", label="思考 Thinking")
            with gr.Row():
                again = gr.Button("新局 New game", min_width=80)
                back = gr.Button("悔棋 Undo", min_width=80)
                hint = gr.Button("提示 Hint", min_width=80)
            chances = gr.Label(
                label="模型的着法 The model's moves", num_top_classes=SHOWN, visible=False, show_heading=False
            )
            record = gr.Textbox(label="棋谱 Record", lines=4, interactive=False)

    def shown(played: list[str]) -> tuple[Any, ...]:
        board = board_of(played)
        # The hint was for the position before.
        no_hint = gr.update(visible=False)
        return played, svg_board(board, coordinates="chinese"), state_of(board), record_of(played), no_hint

    def play(played: list[str], text: str, thinking: str) -> tuple[Any, ...]:
        board = board_of(played)
        if board.outcome() is not None:
            raise InputError("这一局已经结束，请开新局。 The game is over: begin a new one.")
        board.push(read_move(board, text))
        if board.outcome() is None:
            seconds = LEVELS[thinking]
            board.push(player.choose(board, seconds=seconds or None).move)
        return (*shown(board.moves), "")

    def advise(played: list[str]) -> Any:
        board = board_of(played)
        found = {} if board.outcome() else player.move_probabilities(board)
        best = {to_chinese(board, iccs): p for iccs, p in list(found.items())[:SHOWN]}
        return gr.update(value=best, visible=bool(best))

    views = [moves, picture, status, record, chances]
    move.submit(told(play), [moves, move, level], [*views, move], api_name="play")
    again.click(lambda: shown([]), None, views, api_name="new_game")
    # The visitor is Red: with the answer, two half-moves go.
    back.click(
        lambda played: shown(played[: max(len(played) - 2 + len(played) % 2, 0)]), moves, views, api_name="undo"
    )
    hint.click(told(advise), moves, chances, api_name="hint")


def board_of(played: list[str]) -> Board:
    board = Board()
    for move in played:
        board.push(move)
    return board


def read_move(board: Board, text: str) -> str:
    """Return a move in ICCS or in Chinese notation as ICCS.

    Raises:
        InputError: it is neither.
    """
    text = (text or "").strip()
    try:
        return parse_iccs(text)
    except InputError:
        return from_chinese(board, text)


def state_of(board: Board) -> str:
    outcome = board.outcome()
    if outcome is not None:
        winner = {"w": "红胜 Red wins", "b": "黑胜 Black wins", None: "和棋 A draw"}[outcome.winner]
        return f"**{winner}** ({outcome.reason})"
    return "将军！ Check!" if board.is_check() else "轮到你走。 Your move."


def record_of(played: list[str]) -> str:
    board, lines = Board(), []
    for ply, move in enumerate(played):
        text = to_chinese(board, move)
        if ply % 2:
            lines[-1] += f"  {text}"
        else:
            lines.append(f"{ply // 2 + 1}. {text}")
        board.push(move)
    return "\n".join(lines)
