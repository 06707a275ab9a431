"""`kexue-hf play --web` as a command."""

import subprocess
import sys
from pathlib import Path

import pytest

from kexue_hf.cli import play_web
from kexue_hf.errors import InputError
from kexue_hf.play.web import server


@pytest.mark.parametrize(
    ("options", "name"),
    [((None, 80, False), "--port"), (("0.0.0.0", None, False), "--host"), ((None, None, True), "--no-open")],
)
def test_options_without_effect_are_refused(options: tuple[str | None, int | None, bool], name: str) -> None:
    with pytest.raises(InputError, match=f"{name} without --web has no effect"):
        play_web.check_web_options(False, *options)
    play_web.check_web_options(True, *options)


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_package_is_one_line_that_names_the_extra(missing: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    code = f"""
import sys
sys.modules[{missing!r}] = None
from kexue_hf.cli import main
main.main(["play", {str(tmp_path)!r}, "--web", "--no-open"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f'kexue-hf: error: --web needs the package {missing}, which is not installed: pip install "kexue-hf[web]"'
    ]


def test_the_help_imports_neither_torch_nor_the_server() -> None:
    code = """
import sys
from kexue_hf.cli import main
try:
    main.main(["play", "--help"])
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {"torch", "transformers", "starlette", "uvicorn", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--no-open" in done.stdout


def test_the_port_is_opened_before_the_model_is_loaded() -> None:
    def load() -> None:
        raise AssertionError("loaded")

    with server.bind("127.0.0.1", 0) as taken, pytest.raises(InputError, match="is taken by another program"):
        play_web.serve_page(load, "model", "127.0.0.1", taken.getsockname()[1], True)  # type: ignore[arg-type]  # it is never called


@pytest.mark.parametrize(
    ("model", "name"), [(None, "kexue-hf"), ("owner/name", "owner/name"), ("saved/model", "model"), (".", "cwd")]
)
def test_the_page_shows_a_short_name(
    model: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    (tmp_path / "cwd" / "saved" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(server, "run", lambda application, listener: None)
    monkeypatch.setattr(
        "kexue_hf.play.web.application.build_application", lambda player, name, host: names.append(name)
    )
    play_web.serve_page(lambda: None, model, None, 0, True)  # type: ignore[arg-type, return-value]  # no player is needed
    assert names == [name]


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_wrong_port_is_refused(port: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kexue_hf.cli.main", "play", "--web", "--port", port],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "--port" in done.stderr


@pytest.mark.parametrize(("display", "opens"), [(":0", True), ("", False)])
def test_the_browser_is_opened_where_there_is_a_screen(
    display: str, opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr(server.sys, "platform", "linux")
    monkeypatch.setattr(server.webbrowser, "open", opened.append)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display)
    thread = server.open_browser("http://127.0.0.1:1/")
    if thread is not None:
        thread.join(20)
    assert opened == (["http://127.0.0.1:1/"] if opens else [])
