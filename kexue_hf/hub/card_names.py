"""The names by which a card's code loads the model: a folder's name works for its owner only, OWNER/NAME for all."""

import json
import re
from pathlib import Path

from kexue_hf.files.card_seal import is_untouched, seal

_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LOADED = re.compile(r'(?:from_pretrained\(|\bmodel=)("(?:[^"\\\n]|\\.)*")')
# Followed by a name as `shlex.quote` writes it.
_COMMANDS = r"(?P<command>^kexue-hf (?:match|performer-report|score|embed|correct) )"


def bare_names(text: str) -> list[str]:
    """Return the names without an owner that the code of a card loads, in their order."""
    found = [name for block in _BLOCK.findall(text) for name in _loaded(block)]
    return list(dict.fromkeys(name for name in found if "/" not in name))


def full_name(text: str) -> str | None:
    """Return the first OWNER/NAME that the code of a card loads, or None."""
    return next((name for block in _BLOCK.findall(text) for name in _loaded(block) if name.count("/") == 1), None)


def with_repository(text: str, repository: str, folder: Path | None = None) -> str:
    """Return a card whose code loads OWNER/NAME.

    Args:
        folder: replace this folder's name only; None for any name without an owner, and the repository that the code
            loads now.
    """
    if folder is None:
        names = [*bare_names(text), *filter(None, [full_name(text)])]
    else:
        names = [name for name in bare_names(text) if name == folder.resolve().name]

    def named(block: re.Match[str]) -> str:
        code = block[0]
        for name in names:
            code = code.replace(json.dumps(name, ensure_ascii=False), json.dumps(repository))
            # Quoted for the shell only if it has to be.
            quoted = re.escape(name.replace("'", "'\"'\"'"))
            code = re.sub(
                rf"{_COMMANDS}('{quoted}'|{quoted})(?=\s|$)",
                lambda found: f"{found['command']}{repository}",
                code,
                flags=re.MULTILINE,
            )
        return code

    return _BLOCK.sub(named, text) if names else text


def published_card(text: str, repository: str) -> str:
    """Return the card to publish under a name: a rendered one with that name in its code, any other as it is."""
    named = with_repository(text, repository) if is_untouched(text) else text
    return text if named == text else seal(named)


def other_repository(text: str, repository: str) -> str | None:
    """Return the OWNER/NAME that the code of the published card loads, if it is not this one; None if it is."""
    found = full_name(published_card(text, repository))
    return None if found == repository else found


def _loaded(block: str) -> list[str]:
    names = []
    for found in _LOADED.findall(block):
        try:
            names.append(str(json.loads(found)))
        except ValueError:  # an escape of Python that JSON does not have
            continue
    return names


__all__ = ["bare_names", "full_name", "other_repository", "published_card", "with_repository"]
