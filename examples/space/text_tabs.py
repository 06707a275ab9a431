"""The tabs for texts: one input, one button, one answer."""

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr
from language_tools import LanguageTools

from kexue_hf.errors import KexueError

WEAK = """**校准的结论：这个模型太弱，它的改动多数是错的。** The calibration of this model says that it is too weak:
most of its changes are wrong. Start the page with a larger `--language-model`."""
SENTENCE = "本文[MASK]了一种新的图像分割方法。"


def told(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with bad input shown on the page, in one line."""

    @functools.wraps(call)  # its parameters are those of the API
    def run(*given: Any) -> Any:
        try:
            return call(*given)
        except (KexueError, ValueError) as error:
            raise gr.Error(str(error), print_exception=False) from None

    return run


def fill_tab(tools: LanguageTools) -> None:
    text = gr.Textbox(SENTENCE, label="句子 Sentence", info="[MASK] 是空缺的词 · [MASK] stands for a missing word")
    button = gr.Button("填词 Fill", variant="primary")
    answer = gr.Dataframe(headers=["空 Mask", "词 Word", "概率 Probability"], label="结果 Answer", interactive=False)

    def run(sentence: str) -> list[list[Any]]:
        found = tools.fill(sentence)
        return [[place, word, f"{p:.1%}"] for place, row in enumerate(found, 1) for word, p in row.items()]

    answered(button, text, run, answer, "fill")
    gr.Examples([[SENTENCE], ["实验结果[MASK]，该方法是[MASK]的。"], ["宝玉[MASK]道：“你来了。”"]], text)


def score_tab(tools: LanguageTools) -> None:
    text = gr.Textbox("实验结果表明，该方法是有效的。", label="句子 Sentence")
    button = gr.Button("打分 Score", variant="primary")
    answer = gr.HighlightedText(
        label="log p(词 | 其余) · of each word given all others", combine_adjacent=False, show_legend=False
    )
    summary = gr.Markdown()
    table = gr.Dataframe(headers=["词 Token", "log p"], show_label=False, interactive=False)

    def run(sentence: str) -> tuple[list[tuple[str, float]], str, list[list[Any]]]:
        tokens, perplexity = tools.score(sentence)
        # Highlights go from -1, improbable, to 0.
        shown = [(token, round(max(log_prob, -10) / 10, 3)) for token, log_prob in tokens]
        return shown, f"perplexity **{perplexity:.1f}**", [[token, round(log_prob, 2)] for token, log_prob in tokens]

    answered(button, text, run, [answer, summary, table], "score")
    gr.Examples([["实验结果表明，该方法是有效的。"], ["实验结果表明，该方法是有笑的。"]], text)


def correct_tab(tools: LanguageTools) -> None:
    if tools.too_weak_to_correct:
        gr.Markdown(WEAK)
    text = gr.Textbox("本文提出了一种新的图象分割方发。", label="句子 Sentence")
    button = gr.Button("纠错 Correct", variant="primary")
    answer = gr.Textbox(label="改正 Corrected", interactive=False)
    changes = gr.Dataframe(
        headers=["原文 Was", "改为 Is", "增益 Gain (nats)"], label="改动 Changes", interactive=False
    )

    def run(sentence: str) -> tuple[str, list[list[Any]]]:
        corrected, found = tools.correct(sentence)
        return corrected, [[was, becomes, round(gain, 2)] for was, becomes, gain in found]

    answered(button, text, run, [answer, changes], "correct")


def compare_tab(tools: LanguageTools) -> None:
    first = gr.Textbox("本文研究了图像分割的方法。", label="甲 First")
    second = gr.Textbox("提出一种分割图像的新算法。", label="乙 Second")
    button = gr.Button("匹配 Match", variant="primary")
    answer = gr.Label(label="匹配的概率 Probability" if tools.has_matcher else "句向量的余弦 Cosine")

    answered(button, [first, second], tools.compare, answer, "match")


def answered(button: gr.Button, given: Any, run: Callable[..., Any], answer: Any, name: str) -> None:
    """Answer when the button is pressed, when Enter is pressed in a text, and as the endpoint `name` of the API."""
    boxes = given if isinstance(given, list) else [given]
    gr.on([button.click, *(box.submit for box in boxes)], told(run), given, answer, api_name=name)
