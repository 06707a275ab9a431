"""What the card of a folder that `extend` made says of it: where its tokens are from and how their rows were made."""

from collections.abc import Sequence

from kexue_hf.conversion.element_types import ElementType
from kexue_hf.conversion.model_card import cast_of
from kexue_hf.conversion.weight_table import Plan

_SHOWN = 5


def extension(
    family: str,
    source: str,
    kept: int,
    words: Sequence[str],
    counted: str,
    user_words: int,
    plan: Plan,
    dtype: ElementType | None,
) -> str:
    """The text, two paragraphs.

    Args:
        source: name of the source's folder. kept: tokens that come from it. words: the new ones.
        counted: what decided on the words. user_words: how many of them, the last ones, are the user's own.
        plan: of the extended weights. dtype: what the tensors were cast to; None if they are as they were.
    """
    chosen = len(words) - user_words
    shown = f" ({', '.join([*words[:_SHOWN], *(['...'] if words[_SHOWN:] else [])])})" if words else ""
    if not user_words:
        whence = f", chosen by their frequency in {counted}" if chosen else ""
    elif chosen:
        whence = f", {chosen:,} chosen by their frequency in {counted} and {user_words:,} of its maker's own"
    else:
        whence = " of its maker's own"
    made = (
        "The embedding and the output bias of each new word are the means of its pieces'"
        if "mlm" in plan.parts
        else "The embedding of each new word is the mean of its pieces'"
    )
    cast = cast_of(plan, dtype)
    return (
        f"A {family} model made from `{source}` with `kexue-hf extend`: {kept:,} of its tokens and {len(words):,} "
        f"words{shown}{whence}. {made}, as in [WoBERT](https://kexue.fm/archives/7758); no other weight was changed."
        f"{f' The weights were {cast}.' if cast else ''}\n\n"
        "It has not been trained since: continue masked language modelling on text of your field before you judge it."
    )
