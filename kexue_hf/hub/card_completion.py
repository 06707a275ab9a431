"""Complete and replace cards: the text of a person is kept.

A card that is as it was rendered may be replaced by the next training. Any other card was written by a person or
another tool, and is only completed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError
from kexue_hf.files.whole_file import whole_file
from kexue_hf.hub.card_fields import CARD, parse_card, read_card
from kexue_hf.hub.card_seal import is_untouched, seal, unsealed
from kexue_hf.hub.folder_facts import with_card
from kexue_hf.hub.model_card import UNKNOWN_LICENSE, CardFacts, card_data, card_sections, license_sentence

NEW_CARD = "README.new.md"
# Headings of other writers for the same content.
_SAME = {"Use": ("use", "usage", "use it", "load it", "how to use", "uses"), "Limits": ("limits", "limitations"),
         "Data and licence": ("data and licence", "training data", "licence", "license")}  # fmt: skip
_HEADING = re.compile(r"^##? +(.+?) *#*$", re.MULTILINE)
_FRONT = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def complete_card(text: str, facts: CardFacts, *, overwrite: bool = False) -> str:
    """Return a card with the missing fields and sections added. A fresh checksum replaces one that fitted.

    Args:
        overwrite: also replace the fields and the sections that it has already and that `facts` knows.

    Raises:
        InputError: the card's metadata cannot be read.
    """
    ours = is_untouched(text)
    # A new section must not contradict the fields that stay.
    facts = facts if overwrite else with_card(facts, text)
    body = unsealed(text)
    wanted = {name: value for name, value in card_data(facts).to_dict().items() if name != "model-index"}
    body = _complete_fields(body, wanted, overwrite)
    if license := parse_card(body).data.get("license"):
        body = body.replace(UNKNOWN_LICENSE, license_sentence(str(license)))
    present = {_normal(heading): heading for heading in _HEADING.findall(_without_code(body))}
    for heading, section in card_sections(facts).items():
        names = (heading.lower(), *_SAME.get(heading, ()))
        there = next((present[name] for name in names if name in present), None)
        if there is None:
            body = f"{body.rstrip()}\n\n## {heading}\n\n{section.strip()}\n"
        elif overwrite:
            body = _replace_section(body, there, section.strip())
    return seal(body) if ours else body


def write_card(folder: Path, text: str) -> Path:
    """Write a rendered card; a card that a person edited is kept, and the new one is written beside it.

    Returns:
        The file that was written.
    """
    try:
        old = read_card(folder)
    except InputError:  # not a text: never ours
        old = ""
    path = folder / (CARD if old is None or is_untouched(old) else NEW_CARD)
    with whole_file(path, overwrite=True) as file:
        file.write(text)
    return path


def _complete_fields(text: str, wanted: Mapping[str, Any], overwrite: bool) -> str:
    card = parse_card(text)
    changed, added = dict[str, Any](), dict[str, Any]()
    for name, value in wanted.items():
        old = card.data.get(name)
        if not old:
            added[name] = value
        elif isinstance(value, list):
            # Naming more data sets or tags takes nothing away.
            union = [*(old if isinstance(old, list) else [old])]
            union += [item for item in value if item not in union]
            if union != old:
                changed[name] = union
        elif overwrite and old != value:
            changed[name] = value
    if changed:
        for name, value in {**changed, **added}.items():
            card.data[name] = value
        return str(card)
    if not added:
        return text
    from huggingface_hub import ModelCardData

    # The person's own lines stay as they are, with their comments.
    lines = ModelCardData(**added).to_yaml()
    front = _FRONT.match(text)
    if front is None:
        return f"---\n{lines}\n---\n{text.lstrip()}"
    written = [line for line in front[1].splitlines() if re.sub(r":.*", "", line) not in added]
    return f"---\n{chr(10).join([*written, lines])}\n---\n{text[front.end() :]}"


def _replace_section(text: str, heading: str, section: str) -> str:
    """Return a text with the content of a section, up to the next heading of its level, replaced."""
    hidden = _without_code(text)
    start = next(match for match in _HEADING.finditer(hidden) if match[1] == heading)
    after = _HEADING.search(hidden, start.end())
    end = after.start() if after else len(text)
    return f"{text[: start.end()]}\n\n{section}\n\n{text[end:]}".rstrip() + "\n"


def _without_code(text: str) -> str:
    """Return a text of the same length in which the lines of code blocks are blank: they may start with #."""
    return re.sub(r"^```.*?^```", lambda code: re.sub(r"[^\n]", " ", code[0]), text, flags=re.DOTALL | re.MULTILINE)


def _normal(heading: str) -> str:
    return " ".join(heading.split()).lower()


__all__ = ["NEW_CARD", "complete_card", "write_card"]
