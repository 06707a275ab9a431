"""Text that can be written as UTF-8, whatever bytes the names of files in it hold."""

import re

# Python holds the bytes of a name that are not UTF-8 as surrogates.
_SURROGATE = re.compile("[\ud800-\udfff]")


def utf8_text(text: str) -> str:
    """Return a text with each character that UTF-8 does not have replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


__all__ = ["utf8_text"]
