"""Convert tokens to readable text: no spaces between Chinese words, spaces between English ones.

The tokenizer drops white space, so this module decides where it must have been. Chinese needs none; two adjacent words
of letters or digits were separated; an English comma or full stop was followed by a space unless it has digits on both
sides. Special tokens are not text and get spaces around them.
"""

from collections.abc import Iterable

from .wordpiece_wobert import is_cjk

# English closing punctuation that is followed by a space.
_SPACE_AFTER = frozenset(",.!?;:")


def join_tokens(
    tokens: Iterable[str], special: frozenset[str] = frozenset(), whole: frozenset[str] = frozenset()
) -> str:
    """Join tokens to one string.

    Args:
        tokens: words, and word pieces that start with `##`.
        special: tokens that get a space on both sides; only a word piece follows one directly.
        whole: tokens that are not word pieces even if they start with `##`.
    """
    parts: list[str] = []
    before = ""  # The last two characters, which decide about the space; " " if one must follow.
    for token in tokens:
        if not token:
            continue
        if token in special:
            if parts:
                parts.append(" ")
            parts.append(token)
            before = " "
            continue
        if len(token) > 2 and token.startswith("##") and token not in whole:
            token = token[2:]
        elif before == " " or (before and _wants_space(before, token[0])):
            parts.append(" ")
        parts.append(token)
        before = (before + token)[-2:]
    return "".join(parts)


def _wants_space(before: str, after: str) -> bool:
    last = before[-1]
    if not _is_wordlike(after):
        return False
    if _is_wordlike(last):
        return True
    return last in _SPACE_AFTER and len(before) > 1 and _is_wordlike(before[0]) and not after.isdigit()


def _is_wordlike(char: str) -> bool:
    """Return whether a character belongs to a script that puts spaces between words."""
    return char.isalnum() and not is_cjk(ord(char)) and not "\u3040" <= char <= "\u30ff"


__all__ = ["join_tokens"]
