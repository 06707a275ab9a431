"""Opens a BERT in the form of transformers (config.json, weights, a tokenizer) as a source like any other.

Nothing that could run code is loaded: of a `pytorch_model.bin`, which is a pickle, torch's restricted reader takes the
tensors, and refuses a file that holds anything else.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from kexue_hf.conversion.derived_weights import add_constants
from kexue_hf.conversion.families import FAMILIES, convertible, load_weight_map
from kexue_hf.conversion.formats.pytorch import PyTorchWeights
from kexue_hf.conversion.formats.weight_source import WeightSource
from kexue_hf.conversion.original_source import OpenedSource
from kexue_hf.conversion.saved_folder import INDEX, WEIGHTS, FolderVocabulary, open_safetensors, read_folder_vocabulary
from kexue_hf.conversion.source import (
    MOST_PADDING,
    SourceFiles,
    load_json_object,
    read_config,
    read_lines,
    read_vocabulary,
    rows_of,
)
from kexue_hf.conversion.weight_table import WeightMap, plan_from_saved
from kexue_hf.errors import CheckpointError, ConversionError, InputError
from kexue_hf.files.regular_file import check_folder

# model_type of transformers: our family. Others have the same name here and there.
_FAMILY_OF = {"bert": "wobert"}
PYTORCH = "pytorch_model.bin"
_DECODER = "cls.predictions.decoder.weight"


def is_saved_folder(source: str | os.PathLike[str], config: str | os.PathLike[str] | None) -> bool:
    """Whether a source is a folder that transformers wrote, and not an original checkpoint.

    Raises:
        CheckpointError: its weights are there as several pickles only.
    """
    folder = Path(source)
    if config is not None or not folder.is_dir() or not (folder / "config.json").exists():
        return False
    if (folder / WEIGHTS).exists() or (folder / INDEX).exists():
        return True
    if list(folder.glob("*.index")):
        return False
    if (folder / PYTORCH).exists():
        return True
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if pickles:
        raise CheckpointError(
            f"{pickles[0]}: the weights are in several PyTorch files, of which only one is read; make them "
            'safetensors first: python -c "from transformers import AutoModelForPreTraining as M, AutoTokenizer '
            f"as T; M.from_pretrained('{folder}').save_pretrained('NEW'); "
            f"T.from_pretrained('{folder}').save_pretrained('NEW')\""
        )
    return False


def open_bert_folder(
    source: str | os.PathLike[str], family: str = "auto", vocab: str | os.PathLike[str] | None = None
) -> tuple[OpenedSource, FolderVocabulary]:
    """Open a folder of transformers and match its tensors with our model's parameters.

    Args:
        family: "auto", or the family that it has to be of. vocab: a `vocab.txt` from elsewhere.

    Returns:
        the source, its configuration in our terms; and its tokenizer's vocabulary.

    Raises:
        InputError: it is no BERT, or has no vocabulary.
        CheckpointError: its weights are damaged. ConversionError: something in it does not fit the rest.
    """
    folder = Path(source)
    check_folder(folder)
    raw = load_json_object(folder / "config.json")
    table = _weight_map(folder, raw)
    if family not in ("auto", table.FAMILY):
        raise ConversionError(f"--family {family} was asked for, but {folder} is a {table.FAMILY}")
    settings = read_config(folder / "config.json", table)
    given = Path(vocab) if vocab is not None else None
    found = read_folder_vocabulary(folder, given, settings.fields["vocab_size"], table)
    recorded = raw.get("vocab_fingerprint")
    if recorded and recorded not in (found.vocabulary.fingerprint, _without_added(found)):
        raise ConversionError(
            f"{found.path}: its fingerprint is {found.vocabulary.fingerprint}, config.json says vocab_fingerprint "
            f"{recorded}: it is another model's; give the one that the weights were trained with (--vocab)"
        )
    spare = settings.fields["vocab_size"] - len(found.vocabulary.ids)
    if not recorded and spare > MOST_PADDING:
        raise ConversionError(
            f"{found.path}: has {len(found.vocabulary.ids)} tokens, the model has embeddings for "
            f"{settings.fields['vocab_size']}, too many to be rounding: it is another model's; give the one that the "
            "weights were trained with (--vocab)"
        )
    pickled = not (folder / WEIGHTS).is_file() and not (folder / INDEX).is_file()
    weights = PyTorchWeights(folder / PYTORCH) if pickled else open_safetensors(folder)
    try:
        plan = plan_from_saved(table, weights.tensors, settings.sizes)
        _check_tied(weights, raw)
        weights = add_constants(weights, plan, table.CONSTANTS_SAVED, settings.sizes)
    except BaseException:
        weights.close()
        raise
    # Without added tokens, which tokenizer_config.json holds.
    lines = read_lines(found.path, table) if found.path.suffix == ".txt" else rows_of(found.base)
    files = SourceFiles("safetensors", folder / (PYTORCH if pickled else WEIGHTS), folder / "config.json", found.path)
    # What another class of BERT said of itself holds for ours.
    raw = raw | {"architectures": [_our_name(name) for name in raw.get("architectures") or [] if name]}
    # The other settings of a config.json of transformers are its own: nothing that was not understood.
    settings = replace(settings, raw=raw, ignored=())
    return OpenedSource(files, weights, table, settings, found.vocabulary, plan, lines), found


def _weight_map(folder: Path, raw: dict[str, Any]) -> WeightMap:
    kind = raw.get("model_type")
    family = _FAMILY_OF.get(kind, kind) if isinstance(kind, str) else None
    if family not in FAMILIES or FAMILIES[family][1] is None:
        known = sorted({*_FAMILY_OF, *(name for name in convertible() if "words" in load_weight_map(name).TOKENIZERS)})
        raise InputError(f"{folder / 'config.json'}: model_type is {kind!r:.60}, expected one of {', '.join(known)}")
    if raw.get("position_embedding_type", "absolute") not in (None, "absolute"):
        raise ConversionError(
            f"{folder / 'config.json'}: position_embedding_type is {raw['position_embedding_type']!r}, which is "
            f"another network than {family}"
        )
    if raw.get("is_decoder") or raw.get("add_cross_attention"):
        raise ConversionError(
            f"{folder / 'config.json'}: is_decoder or add_cross_attention is on; expected an encoder"
        )
    return load_weight_map(family)


def _check_tied(weights: WeightSource, raw: dict[str, Any]) -> None:
    if raw.get("tie_word_embeddings", True) is False and _DECODER in weights.tensors:
        raise ConversionError(
            f"{weights.path}: {_DECODER} is not tied to the embeddings (tie_word_embeddings is false), which no model "
            "of this package can hold; tie them and save the model again"
        )


def _without_added(found: FolderVocabulary) -> str:
    """The fingerprint as our tokenizer counts it: of `vocab.txt` alone."""
    return read_vocabulary(found.path, None).fingerprint if found.path.suffix == ".txt" else ""


def _our_name(architecture: object) -> str:
    name = str(architecture)
    return "Wo" + name if name.startswith("Bert") else name


__all__ = ["is_saved_folder", "open_bert_folder"]
