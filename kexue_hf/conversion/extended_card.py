"""The README.md of a folder that `extend` made: `model_card`'s, with what was done to the vocabulary."""

from collections.abc import Sequence

from kexue_hf.conversion.element_types import ElementType
from kexue_hf.conversion.model_card import model_card
from kexue_hf.conversion.weight_table import Plan

_HEADING = "## Load it"


def extended_card(
    name: str,
    family: str,
    architecture: str,
    source: str,
    kept: int,
    words: Sequence[str],
    counted: str,
    user_words: int,
    license: str | None,
    plan: Plan,
    dtype: ElementType | None,
) -> str:
    """Render the card.

    Args:
        source: name of the source's folder. kept: tokens that come from it. words: the new ones.
        counted: what decided on the words. user_words: how many of them, the last ones, are the user's own.
        name, family, architecture, license, plan, dtype: as for `model_card`.
    """
    front, _, rest = model_card(name, family, architecture, source, plan, license, dtype).partition(_HEADING)
    head = front[: front.index(f"\nA {family} model, converted")]
    source = source.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    own = f", {user_words:,} of which are its maker's own" if user_words else ""
    cast = f" The weights were cast to {dtype.name}." if dtype else ""
    return (
        f"{head}\nA {family} model made from `{source}` with `kexue-hf extend`: {kept:,} of its tokens and "
        f"{len(words):,} words ({', '.join(words[:5])}, ...), chosen by their frequency in {counted}{own}. The "
        "embedding and the output bias of each new word are the means of its pieces', as in "
        f"[WoBERT](https://kexue.fm/archives/7758); no other weight was changed.{cast}\n\n"
        "It has not been trained since: continue masked language modelling on text of your field before you judge "
        f"it.\n\n{_HEADING}{rest}"
    )
