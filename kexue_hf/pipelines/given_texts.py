"""Read texts from any iterable of strings (a pandas Series, a NumPy array); a single string is one text."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def each_text(texts: Iterable[str] | str) -> Iterator[str]:
    """Iterate over texts.

    Raises:
        ValueError: immediately, if the argument is not a string or an iterable of strings (a table, a dictionary,
            bytes, a number); during the iteration, with the number of the text (from 0), if a text is not a string or
            contains an unpaired surrogate.
    """
    if isinstance(texts, str):
        return _checked([texts])
    # Iterating over a table yields its column names.
    if isinstance(texts, Mapping | bytes) or hasattr(texts, "columns"):
        kind = type(texts).__name__
        raise ValueError(f"expected texts, got a {kind}: pass one of its columns, or a list of strings")
    try:
        return _checked(iter(texts))
    except TypeError:
        raise ValueError(f"expected a text or an iterable of texts, got {type(texts).__name__}") from None


def _checked(texts: Iterable[Any]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {number} must be a string, got {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"text {number} contains an unpaired surrogate, which is not a character") from None
        yield text


def all_texts(texts: Iterable[str] | str) -> list[str]:
    """Return the texts as a list. Raises the same errors as `each_text`."""
    return list(each_text(texts))


def listed_inputs(inputs: Any) -> Any:
    """Convert a pipeline's tuple, Series or array to a list; return a text, generator or dataset unchanged."""
    if isinstance(inputs, tuple):
        return list(inputs)
    return inputs.tolist() if hasattr(inputs, "tolist") else inputs


__all__ = ["all_texts", "each_text", "listed_inputs"]
