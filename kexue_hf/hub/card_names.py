"""The names by which a card's code loads the model: a folder's name works for its owner only, OWNER/NAME for all."""

import ast
import json
import re
from pathlib import Path

from kexue_hf.files.card_seal import is_untouched, seal
from kexue_hf.files.utf8_text import utf8_text
from kexue_hf.hub.markdown import code_blocks

_LOADED = re.compile(
    r"""(?P<call>from_pretrained\(\s*|\bmodel\s*=\s*)(?P<name>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
)
# Followed by a name as `shlex.quote` writes it.
_COMMANDS = r"(?P<command>^kexue-hf (?:match|performer-report|score|embed|correct) )"


def bare_names(text: str) -> list[str]:
    """Return the names without an owner that the code of a card loads, in their order."""
    return list(dict.fromkeys(name for name in _loaded(text) if "/" not in name))


def full_name(text: str) -> str | None:
    """Return the first OWNER/NAME that the code of a card loads, or None."""
    return next((name for name in _loaded(text) if name.count("/") == 1), None)


def with_repository(text: str, repository: str, folder: Path | None = None) -> str:
    """Return a card whose code loads OWNER/NAME.

    Args:
        folder: replace this folder's name only; None for any name without an owner, and the repository that the code
            loads now.
    """
    if folder is None:
        names = [*bare_names(text), *filter(None, [full_name(text)])]
    else:
        names = [name for name in bare_names(text) if name == written_name(folder)]

    def loading(found: re.Match[str]) -> str:
        return found["call"] + (json.dumps(repository) if _parsed(found["name"]) in names else found["name"])

    def named(code: str) -> str:
        code = _LOADED.sub(loading, code)
        for name in names:
            # Quoted for the shell only if it has to be.
            quoted = re.escape(name.replace("'", "'\"'\"'"))
            code = re.sub(
                rf"{_COMMANDS}('{quoted}'|{quoted})(?=\s|$)",
                lambda found: f"{found['command']}{repository}",
                code,
                flags=re.MULTILINE,
            )
        return code

    for block in reversed(code_blocks(text) if names else []):
        text = text[: block.start] + named(text[block.start : block.end]) + text[block.end :]
    return text


def published_card(text: str, repository: str) -> str:
    """Return the card to publish under a name: a rendered one with that name in its code, any other as it is."""
    named = with_repository(text, repository) if is_untouched(text) else text
    return text if named == text else seal(named)


def other_repository(text: str, repository: str) -> str | None:
    """Return the OWNER/NAME that the code of the published card loads, if it is not this one; None if it is."""
    found = full_name(published_card(text, repository))
    return None if found == repository else found


def written_name(folder: Path) -> str:
    """Return the name of a folder as cards write it."""
    return utf8_text(folder.resolve().name)


def _loaded(text: str) -> list[str]:
    found = (_parsed(match["name"]) for block in code_blocks(text) for match in _LOADED.finditer(block.content))
    return [name for name in found if name is not None]


def _parsed(quoted: str) -> str | None:
    try:
        return str(ast.literal_eval(quoted))
    except (SyntaxError, ValueError):
        return None


__all__ = ["bare_names", "full_name", "other_repository", "published_card", "with_repository", "written_name"]
