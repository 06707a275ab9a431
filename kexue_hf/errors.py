"""What goes wrong for a user, as exceptions with one clear line each.

* KexueError
  + CheckpointError  (ValueError)  a source checkpoint cannot be read: missing, truncated, damaged, not one at all
  + ConversionError  (ValueError)  it can be read, but does not fit the model or its configuration
  + OutputError      (OSError)     the result cannot be written where it was asked for
  + InputError       (ValueError)  an argument, a data file or a text is not what the call expects

The command line prints the message of any of them and exits with 2; each message says what was expected, what came,
and what to do. Every class is also a built-in error, so that `except ValueError` works for whoever never heard of us.
"""

import re
import unicodedata

_LONGEST_NAME = 120
_LONGEST_MESSAGE = 3000
# No part of a path is longer.
_LONG_PART = re.compile(r"[^\s/]{256,}")
# Control and format characters, surrogates, line and paragraph separators: what a terminal obeys or cannot show.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: str, longest: int = _LONGEST_NAME, keep: str = "") -> str:
    """Return a text from a file as it may be printed: escape what a terminal obeys, and shorten it in the middle.

    Args:
        longest: characters that are left, before they are escaped.
        keep: control characters that stay.
    """
    if len(text) > longest:
        half = (longest - 3) // 2
        text = f"{text[: longest - 3 - half]}...{text[-half:]}"
    if text.isprintable():
        return text
    return "".join(
        repr(char)[1:-1] if char not in keep and unicodedata.category(char) in _HIDDEN else char for char in text
    )


def printable_message(text: str) -> str:
    """Return a message as it may be printed, whatever names from files it quotes."""
    text = _LONG_PART.sub(lambda part: printable(part[0]), text)
    return printable(text, _LONGEST_MESSAGE, keep="\n\t")


def quoted(name: str) -> str:
    """Return a name from a file in quotation marks, printable and not too long."""
    return f"'{printable(name)}'"


class KexueError(Exception):
    """Base class of all errors that kexue_hf raises on purpose. Its message is printable, whatever it quotes."""

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__(printable_message(str(message)), *more)


class CheckpointError(KexueError, ValueError):
    """A source checkpoint cannot be read: missing, truncated, damaged, or not a checkpoint."""


class ConversionError(KexueError, ValueError):
    """A checkpoint was read, but its tensors do not fit the weight map or the configuration."""


class OutputError(KexueError, OSError):
    """A result cannot be written: the place exists already, is not writable, or the disk is full."""


class InputError(KexueError, ValueError):
    """An argument, a data file or a text is not what the call expects."""
