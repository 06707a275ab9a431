"""The fields of a model card that the Hub and its readers need, and what is wrong with a given card's."""

from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError, printable
from kexue_hf.files.card_seal import is_untouched
from kexue_hf.files.hub_names import is_hub_name
from kexue_hf.files.regular_file import read_regular
from kexue_hf.hub.card_names import bare_names, written_name

CARD = "README.md"
_LARGEST = 1 << 22
# Field -> why readers need it.
_WANTED = {
    "language": "readers filter by it",
    "base_model": "readers see what it was made from",
    "datasets": "readers see what it was trained on",
}


def read_card(folder: Path) -> str | None:
    """Return the text of the folder's card; None if it has none.

    Raises:
        InputError: the card is not a text file of a reasonable size.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        return read_regular(path, _LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8: save it as UTF-8") from None


def parse_card(text: str) -> Any:
    """Return a card as a `huggingface_hub.ModelCard`.

    Raises:
        InputError: the lines between the `---` are not a YAML object, or the Hub's model-index is malformed in them.
    """
    import logging

    from huggingface_hub import ModelCard

    logger = logging.getLogger("huggingface_hub.repocard")
    # `card_problems` reports a card without metadata itself.
    disabled, logger.disabled = logger.disabled, True
    try:
        return ModelCard(text)
    except Exception as error:  # a YAMLError, or whatever the Hub's own parser meets in fields of a wrong type
        reason = " ".join(str(error).split())
        raise InputError(f"the metadata at the top of {CARD} cannot be read: {printable(reason, 300)}") from None
    finally:
        logger.disabled = disabled


def card_problems(folder: Path) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings about the folder's card, a line each."""
    try:
        text = read_card(folder)
        if text is None:
            return [f"no {CARD}: kexue-hf card {folder} --license LICENSE writes one"], []
        data = parse_card(text).data
    except InputError as error:
        return [str(error)], []
    errors: list[str] = []
    license, base = data.get("license"), data.get("base_model")
    if not license:
        errors.append(f"{CARD} names no license: kexue-hf card {folder} --license LICENSE adds it")
    elif not isinstance(license, str):
        errors.append(f"{CARD} should name one license as a text, got {license!r:.60}")
    for name in base if isinstance(base, list) else [base] if base else []:
        if not isinstance(name, str) or not is_hub_name(name):
            errors.append(f"{CARD}: base_model should be a name on the Hub, got {name!r:.100}")
    warnings = [f"{CARD} names no {field}: {why}" for field, why in _WANTED.items() if not data.get(field)]
    names = [name for name in bare_names(text) if is_untouched(text) or name == written_name(folder)]
    if names:
        warnings.append(
            f"the code in {CARD} loads {names[0]!r:.100}, which only you have: kexue-hf card {folder} --repository "
            f"OWNER/NAME replaces it{' (kexue-hf push does so too)' if is_untouched(text) else ''}"
        )
    if license == "other" and not data.get("license_link"):
        warnings.append(f"{CARD}: license other needs license_name and license_link")
    return errors, warnings


__all__ = ["CARD", "card_problems", "parse_card", "read_card"]
