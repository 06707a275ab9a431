"""Complete and replace cards: the text of a person is kept.

A card that is as it was rendered may be replaced by the next training. Any other card was written by a person or
another tool, and is only completed.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError
from kexue_hf.files.card_seal import is_untouched, seal, unsealed
from kexue_hf.files.whole_file import whole_file
from kexue_hf.hub.card_fields import CARD, parse_card, read_card
from kexue_hf.hub.card_names import full_name, with_repository
from kexue_hf.hub.folder_facts import filled_from_card, with_card
from kexue_hf.hub.model_card import (
    DATA,
    UNKNOWN_LICENSE,
    CardFacts,
    card_data,
    card_sections,
    data_sentences,
    render_card,
)

# Trainer uploads the whole output folder except names with this first character.
NEW_CARD = "_README.new.md"
# Headings of other writers for the same content.
_SAME = {"Use": ("use", "usage", "use it", "load it", "how to use", "uses"), "Limits": ("limits", "limitations"),
         "Data and licence": ("data and licence", "training data", "licence", "license")}  # fmt: skip
_HEADING = re.compile(r"^##? +(.+?) *#*$", re.MULTILINE)
_TRAINED_ON = re.compile(r"Trained on `.*?`\. ")
_FRONT = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def complete_card(text: str, facts: CardFacts, *, overwrite: bool = False, fields: Collection[str] = ()) -> str:
    """Return a card with the missing fields and sections added. A fresh checksum replaces one that fitted.

    The sections of a card with a fitting checksum are never replaced: who wrote them knew more than `facts`.

    Args:
        overwrite: also replace the fields and the sections that it has already and that `facts` knows.
        fields: replace these fields, of license, language, base_model and datasets, and the sentences on them.

    Raises:
        InputError: the card's metadata cannot be read.
    """
    ours = is_untouched(text)
    # A new section must not contradict the fields that stay.
    before = with_card(facts, text)
    given = {name: getattr(facts, name) for name in fields}
    facts = filled_from_card(facts, text) if overwrite else replace(before, **given)
    body = unsealed(text)
    wanted = {name: value for name, value in card_data(facts).to_dict().items() if name != "model-index"}
    body = _complete_fields(body, wanted, set(wanted) if overwrite else set(fields))
    body = _restate(body, filled_from_card(CardFacts("", "", ""), text), facts, ours)
    present = {_normal(heading): heading for heading in _HEADING.findall(_without_code(body))}
    for heading, section in card_sections(facts).items():
        names = (heading.lower(), *_SAME.get(heading, ()))
        there = next((present[name] for name in names if name in present), None)
        if there is None:
            body = f"{body.rstrip()}\n\n## {heading}\n\n{section.strip()}\n"
        elif overwrite and not ours and heading != DATA:
            body = _replace_section(body, there, section.strip())
    return seal(body) if ours else body


def write_card(folder: Path, facts: CardFacts, repository: str | None = None) -> Path:
    """Render and write a card; one that is not as it was rendered is kept, and the new one is written beside it.

    What the old card states (licence, languages, base model, data sets, name on the Hub) and the facts do not know is
    taken over.

    Args:
        repository: OWNER/NAME, by which the card's code loads the model.

    Returns:
        The file that was written.
    """
    try:
        old = read_card(folder)
        facts = facts if old is None else filled_from_card(facts, old)
    except InputError:  # not a text, or broken metadata: never ours
        old = ""
    if repository is None and old and is_untouched(old):
        repository = full_name(old)
    text = render_card(facts)
    if repository is not None:
        text = seal(with_repository(text, repository))
    path = folder / (CARD if old is None or is_untouched(old) else NEW_CARD)
    with whole_file(path, overwrite=True) as file:
        file.write(text)
    return path


def _restate(text: str, before: CardFacts, after: CardFacts, ours: bool) -> str:
    """Return a card whose sentences on licence, base model and data sets say what its fields say.

    Args:
        before: what the card stated.
        ours: whether the whole section on the data was rendered, so that sentences can be added to it.
    """
    old, new = data_sentences(before), data_sentences(after)
    present = next((match[1] for match in _HEADING.finditer(_without_code(text)) if match[1] == DATA), None)
    if ours and present is not None:
        trained_on = _TRAINED_ON.search(text)
        return _replace_section(text, present, (trained_on[0] if trained_on else "") + " ".join(new.values()))
    if after.license:
        text = text.replace(UNKNOWN_LICENSE, new["license"])
    for name, sentence in old.items():
        text = text.replace(sentence, new.get(name, sentence))
    return text


def _complete_fields(text: str, wanted: Mapping[str, Any], replaced: Collection[str]) -> str:
    card = parse_card(text)
    changed, added = dict[str, Any](), dict[str, Any]()
    for name, value in wanted.items():
        old = card.data.get(name)
        if not old:
            added[name] = value
        elif isinstance(value, list) and (name == "tags" or name not in replaced):
            # Naming more data sets or tags takes nothing away.
            union = [*(old if isinstance(old, list) else [old])]
            union += [item for item in value if item not in union]
            if union != old:
                changed[name] = union
        elif name in replaced and old != value:
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
