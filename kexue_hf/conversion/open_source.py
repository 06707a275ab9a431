"""Open a conversion source: files, configuration, vocabulary and weights, checked against each other.

A source is an original checkpoint (TensorFlow or Keras), or a BERT folder that transformers saved. Nothing that could
run code is loaded: a `pytorch_model.bin` is read with torch's restricted unpickler.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kexue_hf.conversion.derived_weights import add_derived_weights
from kexue_hf.conversion.families import (
    FAMILIES,
    choose,
    convertible,
    has_masked_lm,
    load_weight_map,
    number_of_tokens,
)
from kexue_hf.conversion.fixed_vocabulary import fixed_tokens, keep_rows
from kexue_hf.conversion.formats.pytorch import PyTorchWeights
from kexue_hf.conversion.formats.tensorflow import TensorFlowCheckpoint
from kexue_hf.conversion.formats.weight_source import WeightSource
from kexue_hf.conversion.kept_tokens import kept_vocabulary
from kexue_hf.conversion.keras_head import Head, check_kind
from kexue_hf.conversion.saved_folder import INDEX, WEIGHTS, FolderVocabulary, open_safetensors, read_folder_vocabulary
from kexue_hf.conversion.source import (
    MAX_PADDING,
    SourceConfig,
    SourceFiles,
    SourceVocabulary,
    find_source,
    load_json_object,
    read_config,
    read_tokens,
    read_vocabulary,
    source_vocabulary,
    tokens_by_id,
)
from kexue_hf.conversion.weight_map import WeightMap
from kexue_hf.conversion.weight_plan import Plan, plan_from_keras, plan_from_saved, plan_from_tensorflow
from kexue_hf.errors import CheckpointError, ConversionError, InputError
from kexue_hf.files.hub_names import local_source
from kexue_hf.files.regular_file import check_folder

# transformers saves TensorFlow weights under this name; they have no Keras or bert4keras layers.
_NO_ORIGINAL = ("tf_model.h5",)
# transformers' model_type -> our family, where the two differ.
_FAMILY_OF = {"bert": "wobert"}
_PYTORCH = "pytorch_model.bin"
_DECODER = "cls.predictions.decoder.weight"


@dataclass(frozen=True)
class OpenedSource:
    """A source whose files, names, shapes and vocabulary were checked; only the weight values are still unread.

    `tokens` are those of its vocabulary, without added tokens.
    """

    files: SourceFiles
    weights: WeightSource
    weight_map: WeightMap
    config: SourceConfig
    vocabulary: SourceVocabulary
    plan: Plan
    tokens: list[str]

    def __enter__(self) -> "OpenedSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.weights.close()


def open_source(
    source: str | os.PathLike[str],
    *,
    family: str = "auto",
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
    task_names: Sequence[str] | None = None,
    head: str = "auto",
    keep_tokens: str | os.PathLike[str] | None = None,
) -> tuple[OpenedSource, FolderVocabulary | None]:
    """Open a source of any kind. Arguments and errors as `convert`.

    Returns:
        the source, and its tokenizer's vocabulary (None for an original checkpoint, which has no tokenizer).
    """
    source = local_source(source)
    if _holds_original(source) or not is_saved_folder(source, config):
        opened = open_original(
            source,
            family=family,
            config=config,
            vocab=vocab,
            task_names=task_names,
            head=head,
            keep_tokens=keep_tokens,
        )
        return opened, None
    given = {"--task-names": task_names, "--keep-tokens": keep_tokens, "--head": None if head == "auto" else head}
    if wrong := next((option for option, value in given.items() if value is not None), None):
        raise InputError(f"{wrong}: leave it out; {source} is a transformers folder, whose config.json decides this")
    _refuse_converted(Path(source))
    opened, found = open_transformers_folder(source, family, vocab)
    try:
        ids = {token: index for index, token in enumerate(opened.tokens)}
        opened = replace(opened, vocabulary=source_vocabulary(found.path, ids, weight_map=opened.weight_map))
        if opened.weight_map.FAMILY == "wobert" and not opened.vocabulary.has_words:
            raise InputError(
                f"{source}: is a character BERT, which transformers loads without conversion; kexue-hf extend turns "
                "it into a WoBERT"
            )
    except BaseException:
        opened.weights.close()
        raise
    return opened, found


def open_original(
    source: str | os.PathLike[str],
    *,
    family: str = "auto",
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
    task_names: Sequence[str] | None = None,
    head: str = "auto",
    keep_tokens: str | os.PathLike[str] | None = None,
) -> OpenedSource:
    """Open an original checkpoint and match its tensors with the model's parameters.

    Arguments and errors as `convert`.
    """
    check_kind(head)
    files = find_source(source, config, vocab)
    raw = load_json_object(files.config)
    weights = _open_weights(files)
    try:
        weight_map = choose(family, weights.tensors, raw)
        if task_names is not None and "num_tasks" not in weight_map.CONFIG_READ_OFF:
            raise InputError(f"--task-names: leave it out; {source} is a {weight_map.FAMILY}, which has no tasks")
        settings = read_config(files.config, weight_map, task_names)
        lines = read_tokens(files.vocab, weight_map)
        kept = None if keep_tokens is None else kept_vocabulary(keep_tokens, lines)
        rows: list[int] | None = None
        if weight_map.FIXED_VOCABULARIES:
            kept, rows = fixed_tokens(files.vocab, weight_map, number_of_tokens(weights.tensors), lines, kept)
        own_size = {} if kept is None else {"vocab_size": len(kept)}
        plan = _plan(weights, weight_map, settings.sizes | (own_size if rows is None else {}), head)
        if rows is not None:
            plan, weights = keep_rows(weight_map, plan, weights, rows)
        settings = replace(settings, fields=settings.fields | own_size)
        if head not in ("auto", "none") and "classifier" not in plan.parts:
            raise InputError(f"--head {head}: {source} has no classifier")
        if kept is None:
            vocabulary = read_vocabulary(files.vocab, settings.fields["vocab_size"], weight_map=weight_map)
            tokens = lines
        else:
            vocabulary = source_vocabulary(
                files.vocab, {token: index for index, token in enumerate(kept)}, weight_map=weight_map
            )
            tokens = kept
        weights = add_derived_weights(weights, plan, weight_map.DERIVED_SAVED, settings.sizes)
    except BaseException:
        weights.close()
        raise
    return OpenedSource(files, weights, weight_map, settings, vocabulary, plan, tokens)


def is_saved_folder(source: str | os.PathLike[str], config: str | os.PathLike[str] | None) -> bool:
    """Return whether a source is a folder that transformers wrote, not an original checkpoint.

    Raises:
        CheckpointError: its weights are in several PyTorch files.
    """
    folder = Path(source)
    if config is not None or not folder.is_dir() or not (folder / "config.json").exists():
        return False
    if (folder / WEIGHTS).exists() or (folder / INDEX).exists():
        return True
    if list(folder.glob("*.index")):
        return False
    if (folder / _PYTORCH).exists():
        return True
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if pickles:
        raise CheckpointError(
            f"{pickles[0]}: expected one PyTorch file, got several; save the model as safetensors first: "
            'python -c "from transformers import AutoModelForPreTraining as M, AutoTokenizer '
            f"as T; M.from_pretrained('{folder}').save_pretrained('NEW'); "
            f"T.from_pretrained('{folder}').save_pretrained('NEW')\""
        )
    return False


def open_transformers_folder(
    source: str | os.PathLike[str], family: str = "auto", vocab: str | os.PathLike[str] | None = None
) -> tuple[OpenedSource, FolderVocabulary]:
    """Open a transformers folder and match its tensors with the parameters of this package's model.

    Args:
        family: "auto", or the family that the folder must have.
        vocab: a `vocab.txt` to use in place of the folder's own.

    Returns:
        the source, its configuration with this package's field names; and its tokenizer's vocabulary.

    Raises:
        InputError: it is not a BERT, or has no vocabulary.
        CheckpointError: its weights are damaged.
        ConversionError: weights, configuration and vocabulary do not fit each other.
    """
    folder = Path(source)
    check_folder(folder)
    raw = load_json_object(folder / "config.json")
    weight_map = _weight_map(folder, raw)
    if family not in ("auto", weight_map.FAMILY):
        raise ConversionError(f"{folder}: expected a {family} (--family), got a {weight_map.FAMILY}")
    settings = read_config(folder / "config.json", weight_map)
    given = Path(vocab) if vocab is not None else None
    found = read_folder_vocabulary(folder, given, settings.fields["vocab_size"], weight_map)
    recorded = raw.get("vocab_fingerprint")
    if recorded and recorded not in (found.vocabulary.fingerprint, _base_vocab_fingerprint(found)):
        raise ConversionError(
            f"{found.path}: its fingerprint is {found.vocabulary.fingerprint}, config.json says vocab_fingerprint "
            f"{recorded}: it belongs to another model; give the vocabulary that the weights were trained with "
            "(--vocab)"
        )
    spare = settings.fields["vocab_size"] - len(found.vocabulary.ids)
    if not recorded and spare > MAX_PADDING:
        raise ConversionError(
            f"{found.path}: has {len(found.vocabulary.ids)} tokens, the model has embeddings for "
            f"{settings.fields['vocab_size']}, the difference is too large to be padding, so the vocabulary probably "
            "belongs to another model; give the vocabulary that the weights were trained with (--vocab)"
        )
    pickled = not (folder / WEIGHTS).is_file() and not (folder / INDEX).is_file()
    weights = PyTorchWeights(folder / _PYTORCH) if pickled else open_safetensors(folder)
    try:
        plan = plan_from_saved(weight_map, weights.tensors, settings.sizes)
        _check_tied(weights, raw)
        weights = add_derived_weights(weights, plan, weight_map.DERIVED_SAVED, settings.sizes)
    except BaseException:
        weights.close()
        raise
    # Added tokens are left out: tokenizer_config.json holds them.
    tokens = read_tokens(found.path, weight_map) if found.path.suffix == ".txt" else tokens_by_id(found.base)
    files = SourceFiles("safetensors", folder / (_PYTORCH if pickled else WEIGHTS), folder / "config.json", found.path)
    raw = raw | {"architectures": [_local_class_name(name) for name in raw.get("architectures") or [] if name]}
    # The remaining keys of config.json are transformers' own, so no note reports them as ignored.
    settings = replace(settings, raw=raw, ignored=())
    return OpenedSource(files, weights, weight_map, settings, found.vocabulary, plan, tokens), found


def _holds_original(source: str | os.PathLike[str]) -> bool:
    folder = Path(source)
    if not folder.is_dir():
        return False
    names = [path.name for path in folder.iterdir()]
    return any(
        name.endswith(".index") or (name.endswith((".h5", ".hdf5", ".weights")) and name not in _NO_ORIGINAL)
        for name in names
    )


def _refuse_converted(folder: Path) -> None:
    """Raise CheckpointError for a folder that this package saved and that needs no conversion."""
    config = load_json_object(folder / "config.json")
    if config.get("model_type") == "bert" or not config.get("vocab_fingerprint"):
        return
    raise CheckpointError(f"{folder}: already converted; load it with from_pretrained")


def _open_weights(files: SourceFiles) -> WeightSource:
    if files.kind == "tensorflow":
        return TensorFlowCheckpoint(files.path)
    from kexue_hf.conversion.formats.keras import KerasWeights  # imports h5py

    return KerasWeights(files.path)


def _plan(weights: WeightSource, weight_map: WeightMap, sizes: dict[str, int], head: str) -> Plan:
    layers = getattr(weights, "layers", None)
    if layers is not None:
        return plan_from_keras(weight_map, weights.tensors, layers, sizes, head)
    tensors, left = dict(weights.tensors), []
    if head == "none":
        heads = {
            name for name, (own, _) in weight_map.TENSORFLOW.items() if weight_map.PARAMETERS[own][0] == "classifier"
        }
        left = [name for name in tensors if name in heads]
    plan = plan_from_tensorflow(
        weight_map, {name: tensor for name, tensor in tensors.items() if name not in left}, sizes
    )
    plan.dropped += [(name, "left out (--head none)") for name in left]
    if head not in ("auto", "none"):
        plan.head = Head("output_weights", head, explicit=True)
    return plan


def _weight_map(folder: Path, raw: dict[str, Any]) -> WeightMap:
    config = folder / "config.json"
    kind = raw.get("model_type")
    family = _FAMILY_OF.get(kind, kind) if isinstance(kind, str) else None
    if family not in FAMILIES:
        maps = {name: load_weight_map(name) for name in convertible()}
        word_models = (name for name, own in maps.items() if "words" in own.TOKENIZERS and has_masked_lm(own))
        known = sorted({*_FAMILY_OF, *word_models})
        raise InputError(f"{config}: model_type is {kind!r:.60}, expected one of {', '.join(known)}")
    weight_map = load_weight_map(family)
    has_own_positions = "position_embedding_type" in weight_map.CONFIG_DERIVED
    if not has_own_positions and raw.get("position_embedding_type", "absolute") not in (None, "absolute"):
        raise ConversionError(
            f"{config}: position_embedding_type is {raw['position_embedding_type']!r}, which a {family} does not have"
        )
    if raw.get("is_decoder") or raw.get("add_cross_attention"):
        raise ConversionError(f"{config}: is_decoder or add_cross_attention is on; expected an encoder")
    return weight_map


def _check_tied(weights: WeightSource, raw: dict[str, Any]) -> None:
    if raw.get("tie_word_embeddings", True) is False and _DECODER in weights.tensors:
        raise ConversionError(
            f"{weights.path}: {_DECODER} is not tied to the embeddings (tie_word_embeddings is false); no model of "
            "this package has untied embeddings: tie them and save the model again"
        )


def _base_vocab_fingerprint(found: FolderVocabulary) -> str:
    """Return the fingerprint of `vocab.txt` without added tokens."""
    return read_vocabulary(found.path, None).fingerprint if found.path.suffix == ".txt" else ""


def _local_class_name(name: object) -> str:
    """Return the name of this package's class for a BERT class of another implementation."""
    return f"Wo{name}" if str(name).startswith("Bert") else str(name)


__all__ = ["OpenedSource", "is_saved_folder", "open_original", "open_source", "open_transformers_folder"]
