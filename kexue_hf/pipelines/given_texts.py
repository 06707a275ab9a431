"""What counts as texts: any iterable of strings (a pandas Series, a NumPy array); a string alone is one text."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def each_text(texts: Iterable[str] | str) -> Iterator[str]:
    """Iterate over texts.

    Raises:
        ValueError: at once, if it is no string and no iterable of them (a table, a dictionary, bytes, a number); at
            the text, with its number (from 0), if that is no string or holds half a surrogate pair.
    """
    if isinstance(texts, str):
        return _checked([texts])
    # A table iterates over the names of its columns.
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
            raise ValueError(f"text {number} holds half a surrogate pair, which is no character") from None
        yield text


def all_texts(texts: Iterable[str] | str) -> list[str]:
    """Return the texts as a list; raise as `each_text`."""
    return list(each_text(texts))


def listed_inputs(inputs: Any) -> Any:
    """Return a pipeline's inputs with a tuple, Series or array as a list; a text, generator or data set as it is."""
    if isinstance(inputs, tuple):
        return list(inputs)
    return inputs.tolist() if hasattr(inputs, "tolist") else inputs


__all__ = ["all_texts", "each_text", "listed_inputs"]
