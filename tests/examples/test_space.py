"""The page of examples/space: what it does with texts and games, and the page itself in a browser."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kexue_hf.errors import InputError
from tests.play.web.browser import BROWSER_ARGUMENTS, CHROMIUM

SPACE = Path(__file__).parents[2] / "examples" / "space"


@pytest.fixture(scope="module")
def tools() -> Iterator[Any]:
    # As on the Hub, where the folder is the program's own.
    sys.path.insert(0, str(SPACE))
    try:
        from language_tools import LanguageTools

        yield LanguageTools(None, None)
    finally:
        sys.path.remove(str(SPACE))


def test_each_mask_is_filled(tools: Any) -> None:
    one = tools.fill(" 本文[MASK]了一种新的图像分割方法。")
    assert next(iter(one[0])) == "提出" and len(one[0]) == 5
    assert len(tools.fill("实验结果[MASK]，该方法是[MASK]的。")) == 2


def test_scores_belong_to_the_words(tools: Any) -> None:
    tokens, perplexity = tools.score("实验结果表明，该方法是有效的。")
    assert "".join(name for name, _ in tokens) == "实验结果表明，该方法是有效的。"
    assert all(log_prob < 0 for _, log_prob in tokens) and perplexity > 1
    assert tools.score("实验结果表明，该方法是有笑的。")[1] > perplexity


def test_changes_are_those_of_the_text(tools: Any) -> None:
    assert tools.too_weak_to_correct
    text = "本文提出了一种新的图象分割方发。"
    corrected, changes = tools.correct(text)
    assert changes and corrected != text
    for was, becomes, gain in changes:
        assert was in text and becomes in corrected and gain > 0


def test_related_texts_are_nearer(tools: Any) -> None:
    text = "本文研究了图像分割的方法。"
    near, far = tools.compare(text, "提出一种分割图像的新算法。"), tools.compare(text, "宝玉笑道：“你来了。”")
    assert far["cosine"] < near["cosine"] < 1


@pytest.mark.parametrize(
    ("call", "given", "message"),
    [
        ("fill", ("没有空缺。",), "expected 1 to 5"),
        ("score", (" ",), "got 0"),
        ("fill", ("长" * 200 + "[MASK]",), "at most 128 tokens"),
        ("score", ("\u200b",), "without any"),
        ("correct", ("长" * 501,), "got 501"),
        ("compare", ("甲", ""), "got 0"),
    ],
)
def test_bad_texts_are_one_line(tools: Any, call: str, given: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        getattr(tools, call)(*given)


def start(*arguments: str, **environment: str) -> Any:
    return subprocess.Popen(
        [sys.executable, SPACE / "app.py", *arguments],
        env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("gradio", reason="needs the package gradio")
    process = start()
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            raise AssertionError("".join(lines))
        yield found[0]
    finally:
        process.kill()
        process.wait(timeout=20)


@pytest.fixture(scope="module")
def site(address: str) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if CHROMIUM is None:
        pytest.skip("needs a browser: Chromium or Chrome")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=BROWSER_ARGUMENTS)
        yield SimpleNamespace(browser=browser, address=address)
        browser.close()


def test_programs_call_the_tabs_by_name(address: str) -> None:
    client = pytest.importorskip("gradio_client", reason="needs the package gradio").Client(address, verbose=False)
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert endpoints["unnamed_endpoints"] == {}
    assert {
        name: [parameter["parameter_name"] for parameter in endpoint["parameters"]]
        for name, endpoint in endpoints["named_endpoints"].items()
    } == {
        "/fill": ["sentence"], "/score": ["sentence"], "/correct": ["sentence"], "/match": ["first", "second"],
        "/play": ["text", "thinking"], "/new_game": [], "/undo": [], "/hint": [],
    }  # fmt: skip
    assert client.predict(sentence="本文[MASK]了一种方法。", api_name="/fill")["data"][0][1] == "提出"
    assert client.predict(first="甲", second="甲", api_name="/match")["label"] == "cosine"
    # The game is that of the client's session.
    record = client.predict(text="炮二平五", thinking="直觉 policy alone", api_name="/play")[2]
    assert record.startswith("1. 炮二平五  ")
    assert client.predict(api_name="/undo")[2] == ""


def open_page(site: Any, width: int) -> tuple[Any, list[str]]:
    page = site.browser.new_page(viewport={"width": width, "height": 844})
    page.set_default_timeout(20_000)
    elsewhere: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(site.address) else elsewhere.append(request.url))
    page.goto(site.address)
    page.get_by_role("button", name="填词 Fill").wait_for()
    return page, elsewhere


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_answers_without_other_hosts(site: Any, width: int) -> None:
    page, elsewhere = open_page(site, width)
    page.get_by_role("button", name="填词 Fill").click()
    page.wait_for_function("document.body.innerText.includes('提出')")
    page.get_by_role("tab", name="打分 Score").click()
    page.get_by_role("button", name="打分 Score").click()
    page.get_by_text("perplexity").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Data of pictures and fonts may be in the page itself.
    assert [url for url in elsewhere if not url.startswith(("data:", "blob:"))] == []


def test_a_game_is_played_and_taken_back(site: Any) -> None:
    page, _ = open_page(site, 1280)
    page.get_by_role("tab", name="象棋 Play").click()
    move = page.get_by_label("着法 Move")
    record = page.get_by_label("棋谱 Record")
    page.get_by_label("直觉 policy alone").check()
    move.fill("炮二平五")
    move.press("Enter")
    page.wait_for_function(
        "[...document.querySelectorAll('textarea')].some(box => box.value.startsWith('1. 炮二平五'))"
    )
    assert len(record.input_value().split()) == 3
    move.fill("炮二平五")
    move.press("Enter")
    page.locator(".toast-body").first.wait_for()
    page.get_by_role("button", name="悔棋 Undo").click()
    page.wait_for_function("[...document.querySelectorAll('textarea')].every(box => !box.value.startsWith('1.'))")


def test_a_model_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("gradio", reason="needs the package gradio")
    process = start(KEXUE_PLAYER="no/such-folder-here", HF_HUB_OFFLINE="1")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "Traceback" not in output
    assert output.strip().splitlines()[-1].startswith("error: ") and "no/such-folder-here" in output
