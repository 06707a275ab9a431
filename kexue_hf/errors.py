"""The exceptions that kexue_hf raises on purpose, each with a one-line message.

* KexueError
  + CheckpointError  (ValueError)  a source checkpoint cannot be read: missing, truncated, damaged, not a checkpoint
  + ConversionError  (ValueError)  a checkpoint was read, but does not fit the model or its configuration
  + OutputError      (OSError)     the result cannot be written
  + InputError       (ValueError)  an argument, a data file or a text is not what the call expects

A message says what was expected, what came, and what to do. The command line prints it and exits with code 2. Every
class is also a built-in error, so `except ValueError` works for someone who does not know this package.
"""

import re
import unicodedata

_LONGEST_NAME = 120
_LONGEST_MESSAGE = 3000
# File systems allow at most 255 bytes in one part of a path.
_LONG_PART = re.compile(r"[^\s/]{256,}")
# Unicode categories that a terminal obeys or cannot show: control, format, surrogate, line and paragraph separator.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: str, longest: int = _LONGEST_NAME, keep: str = "") -> str:
    """Return a text with control characters escaped and its middle shortened, so that it is safe to print.

    Args:
        longest: maximum number of characters, counted before escaping.
        keep: control characters to leave as they are.
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
    """Return a message that is safe to print even if it quotes names from files."""
    text = _LONG_PART.sub(lambda part: printable(part[0]), text)
    return printable(text, _LONGEST_MESSAGE, keep="\n\t")


def quoted(name: str) -> str:
    """Return a name from a file in quotation marks, escaped and shortened for printing."""
    return f"'{printable(name)}'"


class KexueError(Exception):
    """Base class of all errors that kexue_hf raises on purpose. Its message is safe to print."""

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__(printable_message(str(message)), *more)


class CheckpointError(KexueError, ValueError):
    """A source checkpoint cannot be read: missing, truncated, damaged, or not a checkpoint."""


class ConversionError(KexueError, ValueError):
    """A checkpoint was read, but its tensors do not fit the weight map or the configuration."""


class OutputError(KexueError, OSError):
    """A result cannot be written: the path exists already, is not writable, or the disk is full."""


class InputError(KexueError, ValueError):
    """An argument, a data file or a text is not what the call expects."""
