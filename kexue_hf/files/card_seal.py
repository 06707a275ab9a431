"""The checksum at the end of a rendered card, which tells whether anybody has edited the card since."""

import re
import zlib

_SEAL = re.compile(r"\n<!-- kexue-hf card, checksum ([0-9a-f]{8}) -->\n*\Z")


def seal(text: str) -> str:
    """Return a text with its checksum at the end, in place of an older one, and with Unix's line ends."""
    text = unsealed(text.replace("\r\n", "\n")).rstrip("\n")
    return f"{text}\n\n<!-- kexue-hf card, checksum {_checksum(text)} -->\n"


def is_untouched(text: str) -> bool:
    """Return whether a card is as `render_card` or `complete_card` wrote it."""
    found = _SEAL.search(text.replace("\r\n", "\n"))
    return found is not None and _checksum(_SEAL.sub("", text.replace("\r\n", "\n"))) == found[1]


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.rstrip().encode('utf-8', 'surrogatepass')):08x}"


def unsealed(text: str) -> str:
    """Return a card without its checksum."""
    return _SEAL.sub("", text)


__all__ = ["is_untouched", "seal", "unsealed"]
