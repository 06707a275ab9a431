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
from kexue_hf.hub.front_matter import with_fields
from kexue_hf.hub.markdown import headings
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
_TRAINED_ON = re.compile(r"Trained on `.*?`\. ")


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
    present = {found.content.lower(): found.content for found in headings(body)}
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
    if ours and any(found.content == DATA for found in headings(text)):
        trained_on = _TRAINED_ON.search(text)
        return _replace_section(text, DATA, (trained_on[0] if trained_on else "") + " ".join(new.values()))
    if after.license:
        text = text.replace(UNKNOWN_LICENSE, new["license"])
    for name, sentence in old.items():
        text = text.replace(sentence, new.get(name, sentence))
    return text


def _complete_fields(text: str, wanted: Mapping[str, Any], replaced: Collection[str]) -> str:
    card = parse_card(text)
    changed = dict[str, Any]()
    for name, value in wanted.items():
        old = card.data.get(name)
        if not old:
            changed[name] = value
        elif isinstance(value, list) and (name == "tags" or name not in replaced):
            # Naming more data sets or tags takes nothing away.
            union = [*(old if isinstance(old, list) else [old])]
            union += [item for item in value if item not in union]
            if union != old:
                changed[name] = union
        elif name in replaced and old != value:
            changed[name] = value
    if not changed:
        return text
    edited = with_fields(text, changed)
    for name, value in changed.items():
        card.data[name] = value
    try:
        if parse_card(edited).data.to_dict() == card.data.to_dict():
            return edited
    except InputError:
        pass
    # Unusual YAML: all fields are right, but their comments are lost.
    return str(card)


def _replace_section(text: str, heading: str, section: str) -> str:
    """Return a text with the content of a section, up to the next heading of its level, replaced."""
    found = headings(text)
    place = next(number for number, one in enumerate(found) if one.content == heading)
    end = found[place + 1].start if found[place + 1 :] else len(text)
    return f"{text[: found[place].end].rstrip()}\n\n{section}\n\n{text[end:]}".rstrip() + "\n"


__all__ = ["NEW_CARD", "complete_card", "write_card"]
