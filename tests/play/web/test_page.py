"""The page in a real browser: games by click, drag, touch and keyboard, against a player that answers at once."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kexue_hf.xiangqi import START, read_games
from tests.play.web.browser import BROWSER_ARGUMENTS, CHROMIUM
from tests.play.web.running_server import running
from tests.play.web.stub_player import StubPlayer

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
if CHROMIUM is None:
    pytest.skip("needs a browser: Chromium or Chrome", allow_module_level=True)

# The shortest game that ends by mate: Red's moves, and Black's help.
RED, BLACK = ("b2b4", "b4c4", "c4c9"), ("c6c5", "f9e8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=BROWSER_ARGUMENTS)
        yield browser
        browser.close()


class Site:
    """A server, and pages that are watched for errors and for requests to other places."""

    def __init__(self, browser: Any, address: str, player: StubPlayer) -> None:
        self.browser, self.address, self.player = browser, address, player
        self.faults: list[str] = []
        self.contexts: list[Any] = []

    def open(self, path: str = "", **options: Any) -> Any:
        context = self.browser.new_context(**{"locale": "en-US", "reduced_motion": "reduce", **options})
        context.set_default_timeout(15_000)
        self.contexts.append(context)
        return self.new_page(context, path)

    def new_page(self, context: Any, path: str = "") -> Any:
        page = context.new_page()
        page.on("console", lambda message: self.faults.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", lambda request: self._check(request.url))
        page.goto(self.address + path)
        wait_for(page, 0)
        return page

    def _check(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.address).netloc:
            self.faults.append(f"request: {url}")


@pytest.fixture
def site(browser: Any) -> Iterator[Site]:
    player = StubPlayer(BLACK)
    with running(player, name="the model") as address:
        site = Site(browser, address, player)
        yield site
        for context in site.contexts:
            context.close()
    assert site.faults == []


def cell(page: Any, square: str) -> Any:
    return page.locator(f"[data-square={square}]")


def centre(page: Any, square: str) -> tuple[float, float]:
    box = cell(page, square).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def click(page: Any, move: str) -> None:
    page.mouse.click(*centre(page, move[:2]))
    page.mouse.click(*centre(page, move[2:]))


def drag(page: Any, move: str) -> None:
    page.mouse.move(*centre(page, move[:2]))
    page.mouse.down()
    page.mouse.move(*centre(page, move[2:]), steps=4)
    page.mouse.up()


def press(page: Any, move: str) -> None:
    """Move with the keyboard from wherever the cursor is; Red is at the bottom."""
    page.locator(".cell[tabindex='0']").focus()
    for square in (move[:2], move[2:]):
        here = page.evaluate("document.activeElement.dataset.square")
        across, along = ord(square[0]) - ord(here[0]), int(square[1]) - int(here[1])
        for key, count in (("ArrowRight", across), ("ArrowLeft", -across), ("ArrowUp", along), ("ArrowDown", -along)):
            for _ in range(count):
                page.keyboard.press(key)
        page.keyboard.press("Enter")


def wait_for(page: Any, moves: int) -> None:
    """Wait until the game has as many moves and the page shows the model's judgement of the position."""
    page.wait_for_function(
        "count => document.querySelectorAll('#moves td[lang]').length === count"
        " && document.querySelector('.seat.on-move .note:not(.busy), #banner:not([hidden])')",
        arg=moves,
    )


def moves_of(page: Any) -> list[str]:
    texts: list[str] = page.locator("#moves td[lang]").all_inner_texts()
    return [text.split()[0] for text in texts]


def test_a_whole_game_to_mate_by_click_drag_and_keyboard(site: Site, tmp_path: Path) -> None:
    page = site.open()
    click(page, RED[0])
    wait_for(page, 2)
    drag(page, RED[1])
    wait_for(page, 4)
    press(page, RED[2])
    page.locator("#banner").wait_for()
    assert page.locator("#banner-result").inner_text() == "Red wins"
    assert page.locator("#banner-reason").inner_text() == "Checkmate"
    assert moves_of(page) == ["炮八进二", "卒３进１", "炮八平七", "士６进５", "炮七进五"]
    assert "cannon c4 to c9" in page.locator("#announcer").inner_text()
    assert page.locator(".check").count() == 1 and page.locator(".cell.movable").count() == 0
    assert page.locator("#hint").is_disabled()
    with page.expect_download() as download:
        page.locator("#save").click()
    download.value.save_as(tmp_path / "game.pgn")
    (game,) = read_games(tmp_path / "game.pgn")
    assert game.moves == ("b2b4", "c6c5", "b4c4", "f9e8", "c4c9") and game.result == "1-0"
    page.locator("#banner-close").click()
    assert page.locator("#banner").is_hidden()
    page.locator("#undo").click()
    wait_for(page, 4)


def test_a_picked_piece_shows_its_targets_and_is_put_back(site: Site) -> None:
    page = site.open()
    page.mouse.click(*centre(page, "h2"))
    assert page.locator(".target").count() == 12 and page.locator(".target.capture").count() == 1
    page.mouse.click(*centre(page, "e4"))
    assert page.locator(".target").count() == 0
    cell(page, "b0").focus()
    page.keyboard.press("Enter")
    assert page.locator(".target").count() == 2 and cell(page, "b0").get_attribute("aria-selected") == "true"
    page.keyboard.press("Escape")
    assert page.locator(".target").count() == 0
    # A piece of the other side, an empty point, and a drop on a square that is no target.
    page.mouse.click(*centre(page, "h7"))
    assert page.locator(".target").count() == 0
    drag(page, "a0a5")
    assert moves_of(page) == [] and page.locator(".piece.dragged").count() == 0
    page.mouse.move(*centre(page, "a0"))
    page.mouse.down()
    page.mouse.move(3, 3)
    page.mouse.up()
    assert moves_of(page) == []


def test_bars_arrows_and_a_hint(site: Site) -> None:
    page = site.open()
    first = page.locator("#candidates button").first
    page.locator("#candidates button").nth(7).wait_for()
    assert page.locator("#candidates button").count() == 8
    first.hover()
    assert page.locator(".arrow").count() == 1
    page.mouse.move(5, 5)
    assert page.locator(".arrow").count() == 0
    first.focus()
    assert page.locator(".arrow").count() == 1
    page.locator("#hint").click()
    page.locator(".arrow.hint").wait_for()
    assert page.locator("#candidates-title").inner_text().startswith("Hint: 200 nodes")
    assert page.locator("#candidates .bar.best").count() == 1
    assert "Hint:" in page.locator("#announcer").inner_text()
    assert page.locator("#evaluation").get_attribute("aria-label").startswith("Red wins ")
    page.locator("#show-candidates").uncheck()
    click(page, "h2e2")
    wait_for(page, 2)
    assert page.locator(".arrow").count() == 0 and page.locator("#candidates").is_hidden()


def test_a_new_game_as_black_from_a_position(site: Site) -> None:
    page = site.open()
    site.player.answers = ("h2e2",)
    page.locator("#new").click()
    page.locator("#new-game label", has_text="Black").click()
    page.locator("#new-strength").select_option("nodes-50")
    page.locator("summary").click()
    page.locator("#new-fen").fill("nonsense")
    page.locator("#new-start").click()
    page.locator("#new-error").wait_for()
    assert "expected w, r or b" in page.locator("#new-error").inner_text()
    # The browser itself notes the refused request.
    assert len(site.faults) == 1 and "400" in site.faults.pop()
    page.locator("#new-fen").fill(START)
    page.keyboard.press("Enter")
    wait_for(page, 1)
    assert moves_of(page) == ["炮二平五"] and site.player.calls == [(50, None)]
    assert centre(page, "e9")[1] > centre(page, "e0")[1]
    assert page.evaluate("document.activeElement.dataset.square") == "e0"
    assert page.locator("#strength").input_value() == "nodes-50" and page.locator("#undo").is_disabled()
    page.locator("#strength").select_option("seconds-1")
    cell(page, "h9").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait_for(page, 3)
    assert moves_of(page)[1] == "马８进７" and site.player.calls[-1] == (None, 1.0)


def test_flip_and_language(site: Site) -> None:
    page = site.open(locale="zh-CN")
    assert page.locator("#language").inner_text() == "English" and page.title() == "象棋"
    assert page.locator("#undo").inner_text() == "悔棋"
    before = centre(page, "e0")
    page.locator("#flip").click()
    assert centre(page, "e9") == pytest.approx(before)
    page.locator("#language").click()
    assert page.locator("#undo").inner_text() == "Undo" and page.evaluate("document.documentElement.lang") == "en"
    page.reload()
    wait_for(page, 0)
    assert page.locator("#undo").inner_text() == "Undo"


def test_a_reload_goes_on_and_a_second_page_keeps_up(site: Site) -> None:
    page = site.open()
    click(page, "h2e2")
    wait_for(page, 2)
    page.reload()
    wait_for(page, 2)
    other = site.new_page(site.contexts[0])
    other.goto(page.url)
    other.reload()
    wait_for(other, 2)
    click(page, "b0c2")
    wait_for(page, 4)
    assert site.faults == []
    click(other, "h0g2")
    wait_for(other, 4)
    assert moves_of(other) == moves_of(page) and "changed elsewhere" in other.locator("#error").inner_text()
    # The browser itself notes the refused request.
    assert len(site.faults) == 1 and "409" in site.faults.pop()


def test_undo_while_the_model_thinks(site: Site) -> None:
    page = site.open()
    site.player.hold = threading.Event()
    click(page, "h2e2")
    page.locator(".seat .note.busy").wait_for()
    page.locator("#undo").click()
    wait_for(page, 0)
    site.player.hold.set()
    click(page, "b0c2")
    wait_for(page, 2)
    assert moves_of(page)[0] == "马八进七"


@pytest.mark.parametrize(("width", "height"), [(360, 640), (390, 844)])
def test_a_phone(site: Site, width: int, height: int) -> None:
    page = site.open(viewport={"width": width, "height": height}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.touchscreen.tap(*centre(page, "b2"))
    page.touchscreen.tap(*centre(page, "b4"))
    wait_for(page, 2)
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (1024, 600), (821, 900), (360, 640)])
def test_everything_fits_and_has_a_name(site: Site, scheme: str, size: tuple[int, int]) -> None:
    page = site.open(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    names = page.evaluate(
        "[...document.querySelectorAll('button, a, select, input, [role=grid], .cell, section')].filter("
        "element => element.checkVisibility() && !(element.getAttribute('aria-label') || element.textContent.trim()"
        " || element.labels?.length)).map(element => element.outerHTML)"
    )
    assert names == []
    assert cell(page, "h2").get_attribute("aria-label") == "h2 Red cannon"


def test_a_server_that_has_gone_is_told(browser: Any) -> None:
    with running(StubPlayer()) as address:
        site = Site(browser, address, StubPlayer())
        page = site.open()
    click(page, "h2e2")
    page.locator("#error").wait_for()
    assert "does not answer" in page.locator("#error").inner_text()
    # The move is taken back on the board.
    page.wait_for_function("document.querySelectorAll('.cell.movable').length > 0")
    site.contexts[0].close()
