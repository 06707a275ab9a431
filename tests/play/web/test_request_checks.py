"""Other sites in the same browser, the headers of answers, and the page's files."""

import fnmatch
import re
import sys
from pathlib import Path

import pytest

from kexue_hf.play.web.static_files import FOLDER
from tests.play.web.asgi_client import HOST, begin, client_of, path_of

if sys.version_info >= (3, 11):
    import tomllib

FIELDS = {"side": "w", "strength": "policy"}
FILES = sorted(path for path in FOLDER.iterdir())


@pytest.mark.parametrize(
    ("bound", "host", "is_answered"),
    [
        ("127.0.0.1", "127.0.0.1:8910", True),
        ("127.0.0.1", "LOCALHOST", True),
        ("127.0.0.1", "[::1]:8910", True),
        ("127.0.0.1", "evil.example:8910", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "192.168.1.5:8910", False),
        ("127.0.0.1", "localhost:8910@evil.example", False),
        ("127.0.0.1", "", False),
        ("192.168.1.5", "192.168.1.5:8910", True),
        ("fd00::5", "[fd00::5]:8910", True),
        ("box.example", "Box.Example:8910", True),
        ("box.example", "evil.example:8910", False),
        ("0.0.0.0", "192.168.1.5:8910", True),
        ("0.0.0.0", "[fd00::5]:8910", True),
        ("0.0.0.0", "evil.example:8910", False),
        ("::", "10.0.0.1", True),
    ],
)
def test_the_server_answers_to_its_own_names(bound: str, host: str, is_answered: bool) -> None:
    client = client_of(host=bound)
    assert client.get("/", host=host).status == (200 if is_answered else 421)
    answer = client.post("/api/games", FIELDS, host=host)
    assert answer.status == (201 if is_answered else 421)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"origin": f"http://{HOST}", "sec_fetch_site": "same-origin"}, 201),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "http://localhost:8910"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"http://{HOST}.evil.example"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
    ],
)
def test_only_the_page_itself_may_change_something(headers: dict[str, str], status: int) -> None:
    client = client_of()
    answer = client.post("/api/games", FIELDS, **headers)
    assert answer.status == status
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/settings", "/api/none", "/static/none"])
@pytest.mark.parametrize("host", [HOST, "evil.example"])
def test_every_answer_has_the_protecting_headers(path: str, host: str) -> None:
    headers = client_of().get(path, host=host).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert not [name for name in headers if name.startswith("access-control")]


def test_answers_about_games_are_not_cached() -> None:
    client = client_of()
    state = begin(client)
    for path in (path_of(state), path_of(state, "analysis"), path_of(state, "game.pgn"), "/api/settings", "/api/none"):
        assert client.get(path).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/static/../game.py", "/static/..%2fgame.py", "/static//etc/passwd", "/static/%2e%2e", "/game.py"]
)
def test_nothing_but_the_pages_files_is_served(path: str) -> None:
    assert client_of().get(path).status == 404


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_served_with_its_type_and_tag(path: Path) -> None:
    client = client_of()
    answer = client.get(f"/static/{path.name}")
    assert answer.status == 200 and answer.body == path.read_bytes()
    types = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"].split(";")[0] == types[path.suffix]
    assert client.get(f"/static/{path.name}", if_none_match=answer.headers["etag"]).status == 304


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline(path: Path) -> None:
    text = path.read_text("utf-8")
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\((?!#)|<style|<script(?![^>]+src=)|\son\w+=|\sstyle=|innerHTML|eval\(", text)
    assert len(text.splitlines()) <= 250


def test_imports_and_links_name_files_that_are_there() -> None:
    names = {path.name for path in FILES}
    for path in FILES:
        text = path.read_text("utf-8")
        found = re.findall(r"from \"\./([^\"]+)\"|\"/static/([^\"]+)\"", text)
        assert {first or second for first, second in found} <= names


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib of Python 3.11")
def test_the_wheel_holds_the_files() -> None:
    package = FOLDER.parents[2]
    with open(package.parent / "pyproject.toml", "rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["kexue_hf"]
    for path in FILES:
        name = path.relative_to(package).as_posix()
        assert any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns), name
