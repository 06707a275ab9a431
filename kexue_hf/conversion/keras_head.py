"""The layer that a fine-tuning script put on the encoder, in a Keras file: which it is, and what it classifies.

A Keras file has the names of all layers, those without weights too, in the order of the network: a dense layer that
follows the encoder itself reads every token, one behind a Lambda, a pooler or a pooling layer reads a text.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kexue_hf.errors import ConversionError, InputError

KINDS = ("auto", "text", "token", "choice", "none")

Layers = Sequence[tuple[str, list[str]]]
"""(name of the layer, the names of its weights in order)"""

# bert4keras' layers that score pairs of positions.
_POINTER = re.compile(r"(efficient_?)?global_?pointer.*", re.IGNORECASE)
_ENCODER_END = re.compile(r"Transformer-\d+-FeedForward-Norm")
_NO_STEP = re.compile(r"(.*[-_])?dropout.*|masking.*|activation.*", re.IGNORECASE)
_EACH_TOKEN = re.compile(r"time_?distributed", re.IGNORECASE)
_MEAN = re.compile(r"global_?average_?pooling.*", re.IGNORECASE)


@dataclass(frozen=True)
class Head:
    """A classifier: its layer, what it classifies ("text", "token", "choice"; None: nothing tells), what it reads.

    `pooling` is "mean" behind a layer that averages, else None. `said` if --head named the kind.
    """

    layer: str
    kind: str | None
    pooling: str | None = None
    said: bool = False


def check_kind(kind: str) -> None:
    """Raise InputError for a `--head` that is none."""
    if kind not in KINDS:
        raise InputError(f"--head {kind}: choose one of {', '.join(KINDS)}")


def choose_head(layers: Layers, candidates: Sequence[str], kind: str, family: str) -> Head | None:
    """Decide which layer is the classifier.

    Args:
        layers: all of the file.
        candidates: those whose weights are a kernel and a bias, and that belong to no encoder.
        kind: what `--head` says.

    Raises:
        ConversionError: there are several, or the one there is cannot be a classifier.
    """
    if kind == "none" or not candidates:
        return None
    if len(candidates) > 1:
        shown = ", ".join(repr(name)[1:-1][:60] for name in candidates[:8])
        raise ConversionError(
            f"the file has {len(candidates)} layers of its author's own ({shown}); "
            "one is read as the classifier, more are not a model that this package knows; convert --head none leaves "
            "them out"
        )
    (layer,) = candidates
    weights = dict(layers)[layer]
    inside = weights[0].split("/")[-2:-1] != [layer] and weights[0].count("/") > 1 and not _EACH_TOKEN.match(layer)
    if _POINTER.fullmatch(layer) or (inside and kind == "auto"):
        what = "bert4keras' GlobalPointer" if _POINTER.fullmatch(layer) else "a layer with a dense layer inside it"
        raise ConversionError(
            f"layer {layer!r} is {what}, for which a {family} of transformers has no head; convert --head none leaves "
            "it out"
        )
    use, pooling = _use(layers, layer)
    return Head(layer, use, pooling) if kind == "auto" else Head(layer, kind, pooling, said=True)


def _use(layers: Layers, layer: str) -> tuple[str | None, str | None]:
    """What a layer classifies and what it reads, by the layers before it; None where the file does not tell."""
    if all(weights for _, weights in layers):
        return None, None  # written by `export`, without the layers that have no weights
    names = [name for name, _ in layers]
    before = [name for name in names[: names.index(layer)] if not _NO_STEP.fullmatch(name)]
    if not before:
        return None, None
    if _ENCODER_END.fullmatch(before[-1]):
        return "token", None
    return "text", "mean" if _MEAN.fullmatch(before[-1]) else None


def check_width(head: Head, kernel: tuple[int, ...], embeddings: tuple[int, ...] | None) -> None:
    """Raise ConversionError for a layer that reads something else than one state of the encoder, by two shapes."""
    if embeddings and len(kernel) == len(embeddings) == 2 and kernel[0] != embeddings[1]:
        raise ConversionError(
            f"layer {head.layer!r} reads {kernel[0]} values, and a state of the encoder has {embeddings[1]}; it is no "
            "classifier that this package knows: convert --head none leaves it out"
        )


def unnested(layers: Layers, known: Iterable[str]) -> list[tuple[str, list[str]]]:
    """The layers of a model that lies within another as one layer, as `multi_gpu_model` makes it; else the same."""
    known = set(known)
    out: list[tuple[str, list[str]]] = []
    for layer, weights in layers:
        inner: dict[str, list[str]] = {}
        for weight in weights:
            inner.setdefault(weight.split("/")[0], []).append(weight)
        if layer not in known and len(inner) > 1 and known & set(inner):
            out += inner.items()
        else:
            out.append((layer, weights))
    return out


def head_note(head: Head, shape: tuple[int, int]) -> str:
    """What to know of a classifier that was recognised by its form; `shape` is (what it reads, labels)."""
    what = "the tokens" if head.kind == "token" else "a text"
    why = (
        "it reads the state of every token"
        if head.kind == "token"
        else "averaged states stand before it"
        if head.pooling == "mean"
        else "it does not read the states directly"
        if head.kind == "text"
        else "the file does not tell its use"
    )
    return (
        f"layer {head.layer!r} ({' x '.join(map(str, shape))}) is read as a classifier of {what} with {shape[1]} "
        f"labels: {why}; --head text, token, choice or none if it is another"
    )


__all__ = ["KINDS", "Head", "Layers", "check_kind", "check_width", "choose_head", "head_note", "unnested"]
