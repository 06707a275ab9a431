"""A page to try the models: fill in words, score, correct, compare, play. See README.md beside this file."""

import argparse
import os
import sys

import gradio as gr
from language_tools import LanguageTools
from text_tabs import compare_tab, correct_tab, fill_tab, score_tab
from xiangqi_tab import play_tab

from kexue_hf import XiangqiPlayer
from kexue_hf.errors import KexueError

TITLE = """# kexue_hf
科学空间 (kexue.fm) 的中文模型 · the Chinese language models of kexue.fm in HuggingFace"""
SMALL = """*包内的小模型只作演示。The models in the package are small: they show how things work, not
how well larger ones do them.*"""
# The board fills a phone's width, and tables scroll inside.
CSS = ".board svg {width: 100%; max-width: 460px; height: auto; display: block; margin: auto}"


def build(language_model: str | None, matcher: str | None, player: str | None) -> gr.Blocks:
    """Return the page, its models loaded.

    Raises:
        KexueError: a model cannot be loaded, or does not do what it is named for.
    """
    tools = LanguageTools(language_model, matcher)
    opponent = XiangqiPlayer.from_pretrained(player)
    with gr.Blocks(title="kexue_hf") as page:
        gr.Markdown(TITLE)
        if not (language_model and matcher and player):
            gr.Markdown(SMALL)
        with gr.Tab("填词 Fill"):
            fill_tab(tools)
        with gr.Tab("打分 Score"):
            score_tab(tools)
        with gr.Tab("纠错 Correct"):
            correct_tab(tools)
        with gr.Tab("匹配 Match"):
            compare_tab(tools)
        with gr.Tab("象棋 Play"):
            play_tab(opponent)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, what in (
        ("language-model", "masked language model"),
        ("matcher", "classifier of text pairs"),
        ("player", "Xiangqi GPT"),
    ):
        variable = "KEXUE_" + name.replace("-", "_").upper()
        parser.add_argument(
            f"--{name}", default=os.environ.get(variable), help=f"{what}: folder or Hub name; default: ${variable}"
        )
    parser.add_argument("--port", type=int, help="by default the first free one from 7860 on")
    options = parser.parse_args()
    try:
        page = build(options.language_model, options.matcher, options.player)
    except KexueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    page.launch(server_port=options.port, css=CSS, footer_links=[])


if __name__ == "__main__":
    main()
