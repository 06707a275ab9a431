"""Tokens back to readable text: no spaces between Chinese words, spaces between English ones.

The tokenizer drops white space, so this decides where it must have been. Chinese needs none; two neighbouring words
of letters or digits were parted by something; after a comma or a full stop of English there was a space unless digits
stand on both sides. Special tokens are no text, and stand between spaces.
"""

from collections.abc import Iterable

from .wordpiece_wobert import is_cjk

# Closing punctuation of English that a space follows.
_SPACE_AFTER = frozenset(",.!?;:")


def join_tokens(
    tokens: Iterable[str], special: frozenset[str] = frozenset(), whole: frozenset[str] = frozenset()
) -> str:
    """One string of the tokens.

    Args:
        tokens: words, and pieces that continue a word behind `##`.
        special: tokens with a space on both sides, whatever stands there; only a piece follows one directly.
        whole: tokens that are no pieces, also if they start with `##`.
    """
    parts: list[str] = []
    before = ""  # The last two characters, which decide about the space; " " where one must follow.
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
    """Of a script that puts spaces between its words."""
    return char.isalnum() and not is_cjk(ord(char)) and not "\u3040" <= char <= "\u30ff"


__all__ = ["join_tokens"]
