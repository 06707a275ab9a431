"""Take the pictures docs/xiangqi_web.png and docs/xiangqi_web_phone.png of the page, in a game of a model with itself.

    python benchmarks/web_screenshots.py [MODEL]

MODEL is a folder or a name on the Hub; without it, the packaged model plays. Needs kexue-hf[web], playwright, Pillow,
/usr/bin/chromium, and a font with Chinese characters.
"""

import io
import json
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from kexue_hf.play.player import XiangqiPlayer
from kexue_hf.play.web import server
from kexue_hf.play.web.application import build_application

DOCS = Path(__file__).parents[1] / "docs"
MOST_BYTES = 150_000
# Moves of each side before the pictures.
MOVES = 9
PICTURES: dict[str, dict[str, Any]] = {
    "xiangqi_web": {"viewport": {"width": 1280, "height": 800}, "locale": "zh-CN"},
    "xiangqi_web_phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "has_touch": True,
        "is_mobile": True,
        "locale": "en-US",
    },
}


def ask(address: str, fields: object = None) -> Any:
    body = None if fields is None else json.dumps(fields).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def middle_game(address: str) -> Any:
    """Play moves of the policy against those of a search, and return the state."""
    state = ask(f"{address}api/games", {"side": "w", "strength": "nodes-800"})
    game = f"{address}api/games/{state['id']}"
    for _ in range(MOVES):
        best = ask(f"{game}/analysis")["candidates"][0]["move"]
        state = ask(f"{game}/move", {"move": best, "revision": state["revision"]})
        state = ask(f"{game}/reply", {"revision": state["revision"]})
    return state


def smallest(picture: bytes) -> bytes:
    """Return a PNG with as many colours as fit in MOST_BYTES."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in (256, 224, 192, 160, 128, 96, 64, 48, 32):
        file = io.BytesIO()
        # Other methods give all colours to the wood, and none to the few green marks.
        image.quantize(colours, Image.Quantize.MAXCOVERAGE, 1, dither=Image.Dither.NONE).save(
            file, "png", optimize=True
        )
        if file.tell() < MOST_BYTES:
            break
    return file.getvalue()


def take_pictures(address: str) -> None:
    state = middle_game(address)
    # The piece with the most targets shows them.
    picked = max(state["targets"], key=lambda square: len(state["targets"][square]))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        for name, options in PICTURES.items():
            page = browser.new_context(reduced_motion="reduce", **options).new_page()
            page.goto(f"{address}#{state['id']}")
            page.locator("#candidates button").first.wait_for()
            page.locator(f"[data-square={picked}]").focus()
            page.keyboard.press("Enter")
            page.evaluate("document.activeElement.blur()")
            picture = smallest(page.screenshot())
            (DOCS / f"{name}.png").write_bytes(picture)
            print(f"{name}.png: {len(picture):,} bytes")
        browser.close()


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else None
    listener = server.bind("127.0.0.1", 0)
    application = build_application(XiangqiPlayer.from_pretrained(model, device="cpu"), name="kexue-hf")
    runner = server.Server(application)
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not runner.started:
            time.sleep(0.05)
        take_pictures(server.address_of(listener, "127.0.0.1"))
    finally:
        runner.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
