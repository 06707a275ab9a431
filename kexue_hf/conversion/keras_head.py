"""Find the classifier that a fine-tuning script put on the encoder of a Keras model, and what it classifies.

A Keras file names all layers in network order, including those without weights. A dense layer that follows the encoder
directly classifies tokens; one that follows a Lambda, a pooler or a pooling layer classifies texts.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kexue_hf.errors import ConversionError, InputError

KINDS = ("auto", "text", "token", "choice", "none")

Layers = Sequence[tuple[str, list[str]]]
"""(layer name, names of its weights in order)"""

# bert4keras' span-scoring layers.
_POINTER = re.compile(r"(efficient_?)?global_?pointer.*", re.IGNORECASE)
_ENCODER_END = re.compile(r"Transformer-\d+-FeedForward-Norm")
_PASS_THROUGH = re.compile(r"(.*[-_])?dropout.*|masking.*|activation.*", re.IGNORECASE)
_EACH_TOKEN = re.compile(r"time_?distributed", re.IGNORECASE)
_MEAN = re.compile(r"global_?average_?pooling.*", re.IGNORECASE)


@dataclass(frozen=True)
class Head:
    """A classifier: its layer and what it classifies ("text", "token", "choice"; None: unknown).

    `pooling` is "mean" behind an averaging layer, else None. `explicit` is true if `--head` gave the kind.
    """

    layer: str
    kind: str | None
    pooling: str | None = None
    explicit: bool = False


def check_kind(kind: str) -> None:
    """Raise InputError unless `kind` is a value of `--head`."""
    if kind not in KINDS:
        raise InputError(f"--head {kind}: choose one of {', '.join(KINDS)}")


def choose_head(layers: Layers, candidates: Sequence[str], kind: str, family: str) -> Head | None:
    """Return the classifier of a Keras file; None if it has none, or with `kind` "none".

    Args:
        layers: all layers of the file.
        candidates: layers that hold a kernel and a bias and are not part of the encoder.
        kind: the value of `--head`.

    Raises:
        ConversionError: there are several candidates, or the only one cannot be a classifier.
    """
    if kind == "none" or not candidates:
        return None
    if len(candidates) > 1:
        shown = ", ".join(repr(name)[1:-1][:60] for name in candidates[:8])
        raise ConversionError(
            f"expected at most one layer on top of the encoder, the classifier, got {len(candidates)} ({shown}); "
            "convert --head none leaves them out"
        )
    (layer,) = candidates
    weights = dict(layers)[layer]
    inside = weights[0].split("/")[-2:-1] != [layer] and weights[0].count("/") > 1 and not _EACH_TOKEN.match(layer)
    if _POINTER.fullmatch(layer) or (inside and kind == "auto"):
        what = "bert4keras' GlobalPointer" if _POINTER.fullmatch(layer) else "a layer with a dense layer inside it"
        raise ConversionError(
            f"layer {layer!r} is {what}, and a {family} has no such head; convert --head none leaves it out"
        )
    use, pooling = _use(layers, layer)
    return Head(layer, use, pooling) if kind == "auto" else Head(layer, kind, pooling, explicit=True)


def _use(layers: Layers, layer: str) -> tuple[str | None, str | None]:
    """Return what a layer classifies and its pooling, by the layers before it; None where they do not decide."""
    if all(weights for _, weights in layers):
        return None, None  # `export` writes no layers without weights
    names = [name for name, _ in layers]
    before = [name for name in names[: names.index(layer)] if not _PASS_THROUGH.fullmatch(name)]
    if not before:
        return None, None
    if _ENCODER_END.fullmatch(before[-1]):
        return "token", None
    return "text", "mean" if _MEAN.fullmatch(before[-1]) else None


def check_width(head: Head, kernel: tuple[int, ...], embeddings: tuple[int, ...] | None) -> None:
    """Raise ConversionError unless the head reads one hidden state.

    Args:
        kernel: shape of its kernel. embeddings: shape of the word embeddings, if known.
    """
    if embeddings and len(kernel) == len(embeddings) == 2 and kernel[0] != embeddings[1]:
        raise ConversionError(
            f"layer {head.layer!r} reads {kernel[0]} values, expected the hidden size, {embeddings[1]}; convert "
            "--head none leaves it out"
        )


def unnested(layers: Layers, known: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return the layers with the layers of a nested model, such as `multi_gpu_model` makes, listed one by one."""
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
    """Return a note that says how a classifier was recognised.

    Args:
        shape: [input size, labels] of its kernel.
    """
    what = "token" if head.kind == "token" else "text"
    why = (
        "it reads the state of every token"
        if head.kind == "token"
        else "it reads averaged states"
        if head.pooling == "mean"
        else "a pooling or another layer lies between the states and it"
        if head.kind == "text"
        else "the file does not show what it reads"
    )
    return (
        f"layer {head.layer!r} ({' x '.join(map(str, shape))}) is read as a {what} classifier with {shape[1]} "
        f"labels: {why}; if that is wrong, use --head text, token, choice or none"
    )


__all__ = ["KINDS", "Head", "Layers", "check_kind", "check_width", "choose_head", "head_note", "unnested"]
