"""What a saved folder, and the card of the model that it started from, say about a model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from kexue_hf.conversion.model_card import check_language, check_license
from kexue_hf.errors import InputError
from kexue_hf.files.hub_names import is_hub_name
from kexue_hf.hub.card_fields import parse_card, read_card
from kexue_hf.hub.model_card import CardFacts
from kexue_hf.hub.saved_model import json_fields, read_saved_config


def facts_of_folder(folder: Path) -> CardFacts:
    """Return what config.json and tokenizer_config.json say.

    Raises:
        InputError: there is no readable config.json.
    """
    config = read_saved_config(folder)
    tokenizer = json_fields(folder / "tokenizer_config.json")
    names = config.get("architectures")
    return CardFacts(
        name=folder.resolve().name,
        model_type=str(config.get("model_type") or "unknown"),
        architecture=str(names[0]) if isinstance(names, list) and names else "Model",
        word_tokenizer=tokenizer.get("tokenizer_class") == "WoBertTokenizer",
        own_code="auto_map" in config,
        own_tokenizer="auto_map" in tokenizer,
        adapter=(folder / "adapter_config.json").is_file(),
    )


def facts_of_model(name: str, model: Any, tokenizer: Any) -> CardFacts:
    """Return what a model and its tokenizer say.

    Args:
        name: name of the folder that they are saved to.
    """
    adapter = hasattr(model, "peft_config") and hasattr(model, "get_base_model")
    base = model.get_base_model() if adapter else model
    return CardFacts(
        name=name,
        model_type=str(base.config.model_type),
        architecture=type(base).__name__,
        word_tokenizer=type(tokenizer).__name__ == "WoBertTokenizer",
        own_code=_is_own(base),
        own_tokenizer=_is_own(tokenizer),
        adapter=adapter,
    )


def _is_own(part: Any) -> bool:
    """Return whether a model or a tokenizer is of a class that this package, or a folder's code, defines."""
    return type(part).__module__.split(".")[0] in ("kexue_hf", "transformers_modules")


def with_base_model(facts: CardFacts, source: str | None) -> CardFacts:
    """Return the facts with the model that a training started from, and with its language.

    The licence is not taken over: that of a trained model may depend on its data too.

    Args:
        source: a local folder, whose card names the language; or a name on the Hub. None for a new model.
    """
    if source is None:
        return facts
    if not Path(source).is_dir():
        return replace(facts, base_model=(source,)) if is_hub_name(source) else facts
    try:
        text = read_card(Path(source))
        data = parse_card(text).data if text is not None else {}
    except InputError:
        return facts
    language, base = (_texts(data.get(field)) for field in ("language", "base_model"))
    return replace(facts, language=facts.language or language, base_model=facts.base_model or base)


def with_options(
    facts: CardFacts,
    license: str | None = None,
    language: list[str] | None = None,
    base_model: list[str] | None = None,
    datasets: list[str] | None = None,
) -> CardFacts:
    """Return the facts with what a user states.

    Raises:
        InputError: a value is not one of the Hub.
    """
    check_license(license)
    for code in language or ():
        check_language(code)
    for option, names in (("--base-model", base_model), ("--dataset", datasets)):
        for name in names or ():
            if not is_hub_name(name):
                raise InputError(f"{option} {name!r:.100}: expected a name on the Hub, like OWNER/NAME")
    return replace(
        facts,
        license=license or facts.license,
        language=tuple(language or facts.language),
        base_model=tuple(base_model or facts.base_model),
        datasets=tuple(datasets or facts.datasets),
    )


def with_card(facts: CardFacts, text: str) -> CardFacts:
    """Return the facts, with those that a card states in place of them. Errors as `parse_card`."""
    data = parse_card(text).data
    license = data.get("license")
    return replace(
        facts,
        license=license if isinstance(license, str) and license else facts.license,
        language=_texts(data.get("language")) or facts.language,
        base_model=_texts(data.get("base_model")) or facts.base_model,
        datasets=tuple(dict.fromkeys([*_texts(data.get("datasets")), *facts.datasets])),
    )


def filled_from_card(facts: CardFacts, text: str) -> CardFacts:
    """Return the facts, with what a card states where the facts say nothing. Errors as `parse_card`."""
    stated = with_card(facts, text)
    return replace(
        facts,
        license=facts.license or stated.license,
        language=facts.language or stated.language,
        base_model=facts.base_model or stated.base_model,
        datasets=facts.datasets or stated.datasets,
    )


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(item for item in values if isinstance(item, str) and item)


__all__ = ["facts_of_folder", "facts_of_model", "filled_from_card", "with_base_model", "with_card", "with_options"]
