"""Apply a family's weight map: plan which stored tensor becomes which parameter.

The conversion fails unless every stored tensor is mapped or dropped on purpose, and every parameter that the
configuration requires is present in the right shape. The maps are `models/<family>/weight_map_<family>.py`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kexue_hf.conversion.formats.weight_source import FLOATING, Move, StoredTensor
from kexue_hf.conversion.kept_tokens import is_selection
from kexue_hf.conversion.keras_head import Head, check_width, choose_head, unnested
from kexue_hf.conversion.weight_map import Slot, WeightMap
from kexue_hf.errors import ConversionError, printable, quoted

# (pattern of a name that only this network has, description of the network)
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
    (r".*\.ATTRIBUTES/.*", "a tf.keras object, whose variables have no layer names"),
)
_SHOWN = 6


def foreign_layout(names: Iterable[str]) -> str:
    """Return a phrase with the first names, and the network that they look like if it is a known one."""
    names = list(names)
    looks = next((what for pattern, what in _LAYOUTS if any(re.fullmatch(pattern, name) for name in names)), None)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    # repr escapes them: a name from a file may hold control characters.
    listed = ", ".join(repr(name)[1:-1][:60] for name in names[:_SHOWN]) or "none"
    return f"it has {listed}{more}" + (f", which look like {looks}" if looks else "")


# Advice at the end of a message, for an original checkpoint and for a saved folder.
_FIX_SOURCE = "give the configuration that belongs to it (--config)"
_FIX_FOLDER = "correct config.json, or save the model again"
_OLD_NORM = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$")
_NORM = {"gamma": "weight", "beta": "bias"}


@dataclass
class Plan:
    """All moves in the source's order, the dropped tensors as (name, reason), and the parts that the model has.

    `derived` are moves of tensors that the target stores and the source lacks (see `derived_weights`). `head`
    describes the classifier, if there is one.
    """

    moves: list[Move]
    dropped: list[tuple[str, str]]
    parts: frozenset[str]
    sizes: dict[str, int] = field(default_factory=dict)
    derived: list[Move] = field(default_factory=list)
    head: Head | None = None

    @property
    def parameters(self) -> int:
        """The number of values moved."""
        total = 0
        for move in self.moves:
            count = 1
            for size in move.shape:
                count *= size
            total += count
        return total


def plan_from_tensorflow(weight_map: WeightMap, tensors: Mapping[str, StoredTensor], sizes: Mapping[str, int]) -> Plan:
    """Match the variables of a TensorFlow checkpoint with the model's parameters.

    Args:
        sizes: the integers of the configuration.

    Raises:
        ConversionError: a variable is unknown, missing, or has the wrong shape or type.
    """
    _check_has_tensorflow(weight_map)
    check_layer_count(weight_map.TENSORFLOW, tensors, sizes, _FIX_SOURCE)
    targets = expand(weight_map.TENSORFLOW, sizes)
    found = {name: targets[name] for name in tensors if name in targets}
    return _plan(
        weight_map,
        tensors,
        sizes,
        found,
        weight_map.DROPPED_TENSORFLOW,
        {new: old for old, (new, _) in targets.items()},
        _FIX_SOURCE,
    )


def plan_from_keras(
    weight_map: WeightMap,
    tensors: Mapping[str, StoredTensor],
    layers: Iterable[tuple[str, list[str]]],
    sizes: Mapping[str, int],
    head: str = "auto",
) -> Plan:
    """Match the weights of a Keras file, layer by layer and within a layer by position.

    Other arguments and errors as `plan_from_tensorflow`.

    Args:
        layers: (layer name, names of its weights in order), including layers without weights if they are known.
        head: kind of the classifier, see `keras_head`.
    """
    _check_has_keras(weight_map)
    listed = list(layers)
    layers = [(layer, weights) for layer, weights in unnested(listed, weight_map.KERAS) if weights]
    if not {layer for layer, _ in layers} <= {layer for layer, _ in listed}:
        listed = layers  # The layers without weights of a nested model are unknown.
    check_layer_count(weight_map.KERAS, [layer for layer, _ in layers], sizes, _FIX_SOURCE)
    known = expand(weight_map.KERAS, sizes)
    for name in weight_map.KERAS_NUMBERED:
        meant = [layer for layer, weights in layers if layer not in known and _fits(weights, known[name])]
        if len(meant) == 1 and name not in dict(layers):
            known[meant[0]] = known.pop(name)
    heads = [layer for layer, weights in layers if layer not in known and _fits(weights, weight_map.KERAS_HEAD)]
    chosen = choose_head(listed, heads, head, weight_map.FAMILY)
    if chosen:
        words = dict(layers).get("Embedding-Token")
        width = tensors[words[0]].shape if words else None
        check_width(chosen, tensors[dict(layers)[chosen.layer][0]].shape, width)
    slots = {**known, chosen.layer: weight_map.KERAS_HEAD} if chosen else known
    left = [weight for layer, weights in layers if layer not in slots for weight in weights] if head == "none" else []
    found: dict[str, tuple[str, bool]] = {}
    for layer, weights in layers:
        if layer not in slots:
            continue
        if not _fits(weights, slots[layer]):
            expected = ", ".join("/".join(endings) for endings, _, _ in slots[layer])
            raise ConversionError(
                f"Keras layer {quoted(layer)} should hold the weights ({expected}), and holds "
                f"({_some([_ending(weight) for weight in weights])}): this is not a {weight_map.FAMILY} model"
            )
        found |= {
            weight: (target, transposed) for weight, (_, target, transposed) in zip(weights, slots[layer], strict=True)
        }
    names = {
        target: f"{layer}, weight {place}" for layer, row in slots.items() for place, (_, target, _) in enumerate(row)
    }
    patterns = (*weight_map.DROPPED_KERAS, *((re.escape(weight), "left out (--head none)") for weight in left))
    plan = _plan(weight_map, tensors, sizes, found, patterns, names, _FIX_SOURCE)
    plan.head = chosen
    return plan


def plan_from_saved(weight_map: WeightMap, tensors: Mapping[str, StoredTensor], sizes: Mapping[str, int]) -> Plan:
    """Match the tensors of a folder that transformers wrote. Arguments and errors as `plan_from_tensorflow`.

    The names are the model's own with three exceptions: a base model's file lacks the prefix or has BERT's, a tied
    parameter may be stored twice, and folders from before 2019 call layer-norm parameters gamma and beta.
    """
    modern = {name: _own_prefix(weight_map, modern_name(name)) for name in tensors}
    _check_own_layer_count(weight_map, {new: tensors[name] for name, new in modern.items()}, sizes)
    parameters = expand(weight_map.PARAMETERS, sizes)
    full = {name: canonical(weight_map, new, (*parameters, *weight_map.TWINS)) for name, new in modern.items()}
    twins = {name: weight_map.TWINS[own] for name, own in full.items() if own in weight_map.TWINS}
    stored = {name: tensor for name, tensor in tensors.items() if name not in twins}
    # A file may hold only the twin of a tied parameter.
    lone = {
        name: own for name, own in twins.items() if own not in {full[other] for other in stored} and own in parameters
    }
    stored |= {name: tensors[name] for name in lone}
    found = {name: (own, False) for name in stored if (own := lone.get(name, full[name])) in parameters}
    buffers = [name for name in stored if any(re.fullmatch(pattern, modern[name]) for pattern in weight_map.BUFFERS)]
    patterns = tuple((re.escape(name), "constant, not a weight") for name in buffers)
    plan = _plan(weight_map, stored, sizes, found, patterns, {}, _FIX_FOLDER)
    plan.dropped += [(name, f"tied to {own}") for name, own in twins.items() if name not in lone]
    return plan


def plan_to_tensorflow(weight_map: WeightMap, tensors: Mapping[str, StoredTensor], sizes: Mapping[str, int]) -> Plan:
    """Match our parameters with TensorFlow's variables, for export. Errors as `plan_from_tensorflow`."""
    _check_has_tensorflow(weight_map)
    _check_own_layer_count(weight_map, tensors, sizes)
    inverse = {new: (old, transposed) for old, (new, transposed) in expand(weight_map.TENSORFLOW, sizes).items()}
    return _reverse(weight_map, tensors, sizes, inverse)


def plan_to_keras(
    weight_map: WeightMap, tensors: Mapping[str, StoredTensor], sizes: Mapping[str, int]
) -> tuple[Plan, list[tuple[str, list[str]]]]:
    """Match our parameters with Keras weights, for export.

    Returns:
        the plan, and the layers in file order as (layer name, names of its weights).

    Raises:
        ConversionError: as `plan_from_tensorflow`; or bert4keras lacks the model or its head.
    """
    _check_has_keras(weight_map)
    _check_own_layer_count(weight_map, tensors, sizes)
    inverse: dict[str, tuple[str, bool]] = {}
    layers: list[tuple[str, list[str]]] = []
    heads = {weight_map.KERAS_HEAD_LAYER: weight_map.KERAS_HEAD} if weight_map.KERAS_HEAD else {}
    for layer, row in {**expand(weight_map.KERAS, sizes), **heads}.items():
        names = _keras_names(layer, row)
        layers.append((layer, names))
        inverse |= {target: (name, transposed) for name, (_, target, transposed) in zip(names, row, strict=True)}
    homeless = [name for name in tensors if name in weight_map.PARAMETERS and name not in inverse]
    if homeless:
        raise ConversionError(
            f"bert4keras has no layer for the head {printable(homeless[0].partition('.')[0])} ({_some(homeless)}); "
            "export the model as a TensorFlow checkpoint (--to tf)"
        )
    plan = _reverse(weight_map, tensors, sizes, inverse)
    written = {move.target for move in plan.moves}
    layers = [(layer, names) for layer, names in layers if names[0] in written]
    order = next((order for parts, order in weight_map.KERAS_ORDER if parts <= plan.parts), ())
    places = sorted(place for place, (layer, _) in enumerate(layers) if layer in order)
    moved = sorted((row for row in layers if row[0] in order), key=lambda row: order.index(row[0]))
    for place, row in zip(places, moved, strict=True):
        layers[place] = row
    return plan, layers


def _check_has_keras(weight_map: WeightMap) -> None:
    if not weight_map.KERAS:
        raise ConversionError(
            f"bert4keras has no {weight_map.FAMILY}; its weights are read and written only as TensorFlow checkpoints"
        )


def _check_has_tensorflow(weight_map: WeightMap) -> None:
    if not weight_map.TENSORFLOW:
        raise ConversionError(
            f"bert4keras saves no TensorFlow checkpoint of a {weight_map.FAMILY}; its weights are read and written "
            "only as Keras files (--to keras)"
        )


def _keras_names(layer: str, row: tuple[Slot, ...]) -> list[str]:
    """Return names such as `Layer/kernel:0`, or `Layer/dense_2/kernel:0` for a layer of several dense layers."""
    several = sum(endings[0] == "kernel" for endings, _, _ in row) > 1
    names, dense = [], 0
    for endings, _, _ in row:
        dense += several and endings[0] == "kernel"
        names.append(f"{layer}/{f'dense_{dense}/' if dense else ''}{endings[0]}:0")
    return names


def expand(rows: Mapping[str, object], sizes: Mapping[str, int]) -> dict:
    """Return a table with its `{n}` rows repeated for every layer."""
    out: dict[str, object] = {}
    layered = {key: row for key, row in rows.items() if "{n}" in key}
    first = min((position for position, key in enumerate(rows) if key in layered), default=0)
    for key, row in list(rows.items())[:first]:
        out[key] = row
    for number in range(sizes["num_hidden_layers"]):
        for key, row in layered.items():
            out[key.replace("{n}", str(number))] = _numbered(row, number)
    out |= {key: row for key, row in list(rows.items())[first:] if key not in layered}
    return out


def _numbered(value: object, number: int) -> object:
    if isinstance(value, str):
        return value.replace("{n}", str(number))
    if isinstance(value, tuple):
        return tuple(_numbered(part, number) for part in value)
    return value


def check_layer_count(
    rows: Iterable[str],
    names: Iterable[str],
    sizes: Mapping[str, int],
    advice: str,
    stored: Iterable[str] | None = None,
) -> None:
    """Raise ConversionError if the layers that occur in `names` differ from the configuration.

    Call this before `expand`: it bounds the expanded table by the stored layers.

    Args:
        rows: names in the weight map, with `{n}` for the layer number.
        advice: end of the message.
        stored: the names as stored, if they differ from `names`.
    """
    rows, names = list(rows), list(names)
    numbers = count_layers(rows, names)
    if not numbers and names:
        example = next((row for row in rows if "{n}" in row), "").replace("{n}", "0")
        raise ConversionError(
            f"no layer of the checkpoint has a name like {example}: {foreign_layout(stored or names)}"
        )
    if numbers != set(range(min(sizes["num_hidden_layers"], len(numbers) + 1))):
        raise ConversionError(
            f"the configuration says num_hidden_layers {sizes['num_hidden_layers']}, the checkpoint has "
            f"{_spans(numbers)}; {advice}"
        )


def count_layers(rows: Iterable[str], names: Iterable[str]) -> set[int]:
    """Return the layer numbers that occur in `names`; `rows` have `{n}` in place of the number."""
    patterns = [re.compile(re.escape(row).replace(r"\{n\}", r"(\d+)")) for row in rows if "{n}" in row]
    numbers = set()
    for name in names:
        match = next((match for pattern in patterns if (match := pattern.fullmatch(name))), None)
        if match:
            numbers.add(int(match.group(1)))
    return numbers


def _own_prefix(weight_map: WeightMap, name: str) -> str:
    """Return a parameter's name with the model's prefix in place of BERT's, which other implementations use."""
    bare = name.removeprefix("module.")
    return weight_map.BASE_PREFIX + bare.removeprefix("bert.") if bare.startswith("bert.") else bare


def modern_name(name: str) -> str:
    """Return a parameter's name as transformers has spelt it since 2019; layer norms had gamma and beta before."""
    return _OLD_NORM.sub(lambda match: _NORM[match.group(1)], name)


def _check_own_layer_count(
    weight_map: WeightMap, tensors: Mapping[str, StoredTensor], sizes: Mapping[str, int]
) -> None:
    """Check the layer count of a saved folder, whose names may lack the prefix."""
    names = [*tensors, *(weight_map.BASE_PREFIX + name for name in tensors)]
    check_layer_count(weight_map.PARAMETERS, names, sizes, _FIX_FOLDER, tensors)


def _spans(numbers: set[int]) -> str:
    ordered = sorted(numbers)
    if not ordered:
        return "no layers of that name"
    if ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"layers {ordered[0]} to {ordered[-1]}"
    return "layers " + ", ".join(map(str, ordered[:20]))


def _ending(weight: str) -> str:
    return weight.rsplit("/", 1)[-1].split(":")[0]


def _fits(weights: list[str], row: tuple[Slot, ...]) -> bool:
    return len(weights) == len(row) and all(
        _ending(weight) in endings for weight, (endings, _, _) in zip(weights, row, strict=True)
    )


def _plan(
    weight_map: WeightMap,
    tensors: Mapping[str, StoredTensor],
    sizes: Mapping[str, int],
    found: Mapping[str, tuple[str, bool]],
    patterns: tuple[tuple[str, str], ...],
    stored_names: Mapping[str, str],
    advice: str,
) -> Plan:
    dropped, unknown = _sort_out((name for name in tensors if name not in found), patterns)
    if unknown:
        raise ConversionError(
            f"{len(unknown)} of {len(tensors)} tensors are unknown to a {weight_map.FAMILY} model: {_some(unknown)}; "
            "is this another model's checkpoint?"
        )
    parameters = expand(weight_map.PARAMETERS, sizes)
    present = {target: tensors[name] for name, (target, _) in found.items()}
    all_sizes, parts = _parts(weight_map, parameters, present, sizes, advice)
    targets = {target for target, _ in found.values()}
    missing = [
        stored_names.get(name, name) for name, (part, _) in parameters.items() if part in parts and name not in targets
    ]
    if missing:
        raise ConversionError(f"{len(missing)} tensors are missing: {_some(missing)}; the checkpoint is incomplete")
    moves, wrong = [], []
    for name, (target, transposed) in found.items():
        expected = tuple(all_sizes[size] if isinstance(size, str) else size for size in parameters[target][1])
        tensor = tensors[name]
        if tensor.type is None or tensor.type.name not in FLOATING:
            kind = f"has type {tensor.type.name}" if tensor.type else tensor.obstacle
            raise ConversionError(f"tensor {quoted(name)} should hold floating-point weights, but {kind}")
        stored = expected[::-1] if transposed else expected
        if tensor.shape != stored:
            wrong.append(f"{name} is {list(tensor.shape)}, expected {list(stored)}")
        moves.append(Move(name, target, transposed, expected, tensor.type))
    rows = [tensors[name].shape[0] for name, (target, _) in found.items() if parameters[target][1][0] == "vocab_size"]
    if advice == _FIX_SOURCE and is_selection(rows, all_sizes["vocab_size"], len(wrong)):
        raise ConversionError(
            f"the embeddings have {rows[0]} rows, the configuration says vocab_size {all_sizes['vocab_size']}: the "
            "weights have only part of the vocabulary (bert4keras' keep_tokens); give the kept ids (convert "
            "--keep-tokens), or the configuration and the vocabulary of the kept tokens (--config, --vocab)"
        )
    if wrong:
        raise ConversionError(
            f"{len(wrong)} tensors do not have the shape that the configuration requires: {_some(wrong)}; {advice}"
        )
    return Plan(moves, dropped, parts, all_sizes)


def _parts(
    weight_map: WeightMap,
    parameters: Mapping[str, tuple[str, tuple[str | int, ...]]],
    found: Mapping[str, StoredTensor],
    sizes: Mapping[str, int],
    advice: str,
) -> tuple[dict[str, int], frozenset[str]]:
    """Return the sizes, completed from tensor shapes (such as the number of labels), and the parts present."""
    parts = frozenset(parameters[target][0] for target in found) | {"encoder"}
    for part, needed in weight_map.PARTS_NEED.items():
        absent = [other for other in needed if part in parts and other not in parts]
        if absent:
            raise ConversionError(
                f"the checkpoint has a head ({part}) but lacks its {absent[0]}; the checkpoint is incomplete"
            )
    all_sizes = {"num_labels": 2, **sizes}
    for target, tensor in found.items():
        if "num_labels" in parameters[target][1] and len(tensor.shape) == 1:
            all_sizes["num_labels"] = tensor.shape[0]
    for size, (target, axis) in weight_map.CONFIG_READ_OFF.items():
        if target in found and len(found[target].shape) > axis:
            stored = all_sizes[size] = found[target].shape[axis]
            if sizes.get(size, stored) != stored:
                raise ConversionError(
                    f"the configuration says {size} {sizes[size]}, the checkpoint has {stored}; {advice}"
                )
    return all_sizes, parts


def _reverse(
    weight_map: WeightMap,
    tensors: Mapping[str, StoredTensor],
    sizes: Mapping[str, int],
    inverse: Mapping[str, tuple[str, bool]],
) -> Plan:
    """Plan moves from our names to others.

    A base model's file lacks the prefix, and a tied parameter may be stored twice.
    """
    own = {name: canonical(weight_map, name, (*inverse, *weight_map.TWINS)) for name in tensors}
    present = set(own.values())
    twins = {name: weight_map.TWINS[full] for name, full in own.items() if weight_map.TWINS.get(full) in present}
    own = {name: weight_map.TWINS.get(full, full) for name, full in own.items()}
    stored = {name: tensor for name, tensor in tensors.items() if name not in twins}
    found = {name: inverse_row for name in stored if (inverse_row := inverse.get(own[name]))}
    patterns = tuple((pattern, "constant, not a weight") for pattern in weight_map.BUFFERS)
    names = {name: (own[name], False) for name in found}
    plan = _plan(weight_map, stored, sizes, names, patterns, {}, _FIX_FOLDER)
    plan.dropped += [(name, f"tied to {original}") for name, original in twins.items()]
    plan.moves = [
        Move(move.source, other, transposed, move.shape[::-1] if transposed else move.shape, move.type)
        for move in plan.moves
        for other, transposed in [found[move.source]]
    ]
    return plan


def canonical(weight_map: WeightMap, name: str, known: Iterable[str]) -> str:
    """Return the full name of a parameter that may come from a base model's file."""
    prefixed = weight_map.BASE_PREFIX + name
    return prefixed if name not in known and prefixed in known else name


def _sort_out(names: Iterable[str], patterns: tuple[tuple[str, str], ...]) -> tuple[list[tuple[str, str]], list[str]]:
    compiled = [(re.compile(pattern), reason) for pattern, reason in patterns]
    dropped, unknown = [], []
    for name in names:
        reason = next((reason for pattern, reason in compiled if pattern.fullmatch(name)), None)
        if reason is None:
            unknown.append(name)
        else:
            dropped.append((name, reason))
    return dropped, unknown


def _some(items: list[str], limit: int = 8) -> str:
    return ", ".join(map(printable, items[:limit])) + (f" and {len(items) - limit} more" if len(items) > limit else "")


__all__ = ["foreign_layout"]
