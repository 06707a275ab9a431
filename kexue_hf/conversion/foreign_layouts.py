"""What a checkpoint looks like whose layers have none of the names that a family's weight map knows."""

import re
from collections.abc import Iterable

# (a name that only this network has, what it is)
_LAYOUTS: tuple[tuple[str, str], ...] = (
    (
        r"Encoder-\d+-(MultiHeadSelfAttention|FeedForward).*",
        "a BERT of keras-bert",
    ),
    (
        r"(bert/)?encoder/transformer/group_\d+/.*|Transformer-MultiHeadSelfAttention.*",
        "an ALBERT",
    ),
    (r"(Encoder|Decoder)-(Transformer|Embedding).*|(encoder|decoder)/block_\d+/.*", "a T5"),
    (r"Transformer-\d+-GatedAttentionUnit.*", "a GAU"),
    (r"(electra|generator|discriminator).*", "an ELECTRA"),
    (r"model/(transformer/layer|layer_|h)\d*.*", "an XLNet or a GPT"),
    (r".*\.ATTRIBUTES/.*", "an object of tf.keras, whose variables have no names of their own"),
)
_SHOWN = 6


def foreign_layout(names: Iterable[str]) -> str:
    """Return the names that were found, shortened, and the family that they look like, if it is a known one."""
    names = list(names)
    looks = next((what for pattern, what in _LAYOUTS if any(re.fullmatch(pattern, name) for name in names)), None)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    # As repr has them: a name from a file may hold anything.
    listed = ", ".join(repr(name)[1:-1][:60] for name in names[:_SHOWN]) or "none"
    return f"it has {listed}{more}" + (f", which look like {looks}" if looks else "")


__all__ = ["foreign_layout"]
