"""The integrity of a saved model folder: configuration, weights, vocabulary and code fit together.

Reads headers only: imports neither torch nor transformers, and runs no code of the folder.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kexue_hf.errors import CheckpointError, ConversionError, InputError, printable
from kexue_hf.files.model_folder import why_no_model
from kexue_hf.files.regular_file import check_folder

# transformers' own models that may have a tokenizer of this package.
NATIVE = ("roformer",)
_EMBEDDING = "embeddings.word_embeddings.weight"


def our_types() -> list[str]:
    """Return the model types whose classes this package has."""
    found = (Path(__file__).parents[1] / "models").glob("*/auto_map_*.py")
    return sorted(path.parent.name for path in found)


def foreign_type(config: Mapping[str, object]) -> str | None:
    """Return the model type if it is one of another library; None for ours, and for none at all."""
    found = config.get("model_type")
    return found if isinstance(found, str) and found and found not in (*our_types(), *NATIVE) else None


def needed_shards(folder: Path) -> set[str]:
    """Return the files that the index of sharded weights names; none if it is missing or damaged."""
    names = json_fields(folder / "model.safetensors.index.json").get("weight_map")
    return {file for file in names.values() if isinstance(file, str)} if isinstance(names, dict) else set()


def word_problems(folder: Path, config: Mapping[str, object]) -> list[str]:
    """Return the problem of a WoBERT that was saved as a BERT with a character tokenizer, if it is one."""
    try:
        problem = _words_without_a_segmenter(folder) if config.get("model_type") == "bert" else None
    except ValueError:  # no vocabulary that we can read, so none of ours
        return []
    return [problem] if problem else []


def examine_folder(folder: Path) -> list[str]:
    """Return the problems of a saved model folder, one phrase each; an empty list if it has none.

    Raises:
        InputError: the folder does not exist, or has no readable config.json of a known model.
    """
    config = read_saved_config(folder)
    check_folder(folder)
    model_type = config.get("model_type")
    if problems := word_problems(folder, config):
        return problems
    if model_type not in (known := (*our_types(), *NATIVE)):
        raise InputError(f"{folder}/config.json: model_type is {model_type!r}; expected one of {', '.join(known)}")
    return [
        *_code_problems(folder, config),
        *_weight_problems(folder, config),
        *_vocabulary_problems(folder, config),
    ]


def read_saved_config(folder: Path) -> dict[str, object]:
    """Return the content of config.json. Errors as `examine_folder`, for a missing or unreadable file."""
    path = folder / "config.json"
    if reason := why_no_model(folder):
        raise InputError(reason)
    from kexue_hf.conversion.source import load_json_object

    try:
        return load_json_object(path)
    except ConversionError as error:
        raise InputError(str(error)) from None


def json_fields(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file; an empty one for a file that is missing or cannot be read."""
    from kexue_hf.conversion.source import load_json_object

    try:
        return load_json_object(path) if path.is_file() else {}
    except (OSError, ValueError):
        return {}


def _code_problems(folder: Path, config: dict[str, object]) -> list[str]:
    auto_map = config.get("auto_map")
    modules = tokenizer_modules(folder)
    if config.get("model_type") not in NATIVE:
        if not isinstance(auto_map, dict) or "AutoModel" not in auto_map:
            return ["config.json has no complete auto_map, so the folder loads only where kexue_hf is installed"]
        modules |= {str(reference).split(".")[0] for reference in auto_map.values()}
    missing = sorted(f"{module}.py" for module in modules if not (folder / f"{module}.py").is_file())
    return [f"the code that auto_map names is missing: {', '.join(map(printable, missing[:8]))}"] if missing else []


def tokenizer_modules(folder: Path) -> set[str]:
    """Return the modules that the tokenizer's auto_map names; none for one of transformers' own tokenizers."""
    from kexue_hf.conversion.source import load_json_object

    try:
        fields = load_json_object(folder / "tokenizer_config.json")
        references = fields["auto_map"]["AutoTokenizer"]
        return {str(reference).split(".")[0] for reference in references if reference}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _weight_problems(folder: Path, config: dict[str, object]) -> list[str]:
    path = folder / "model.safetensors"
    if not path.is_file():
        return _shard_problems(folder / "model.safetensors.index.json", config)
    from kexue_hf.conversion.formats.safetensors import SafetensorsFile

    try:
        with SafetensorsFile(path) as weights:
            tensors = weights.tensors
    except CheckpointError as error:
        return [str(error)]
    rows = {tensor.shape[0] for name, tensor in tensors.items() if name.endswith(_EMBEDDING) and tensor.shape}
    problems = []
    size = _text_encoder(config).get("vocab_size")
    for count in sorted(rows):
        if count != size:
            problems.append(f"config.json says vocab_size {size!r:.60}, the embedding has {count} rows")
    return [*problems, *_missing(config, tensors)]


def _shard_problems(index: Path, config: dict[str, object]) -> list[str]:
    """Return the problems that the index of sharded weights shows, without reading the shards."""
    if not index.is_file():
        pickled = (index.parent / "pytorch_model.bin").is_file()
        return [f"no model.safetensors{' (kexue-hf convert reads pytorch_model.bin)' if pickled else ''}"]
    from kexue_hf.conversion.source import load_json_object

    try:
        names = load_json_object(index).get("weight_map")
    except ConversionError as error:
        return [str(error)]
    if not isinstance(names, dict) or not all(isinstance(file, str) and file for file in names.values()):
        return ["model.safetensors.index.json is damaged: its weight_map should name a file for each tensor"]
    missing = sorted({file for file in names.values() if "\0" in file or not (index.parent / file).is_file()})
    shown = ", ".join(map(printable, missing[:3]))
    return [*([f"shards are missing: {shown}"] if missing else []), *_missing(config, names)]


def _missing(config: dict[str, object], names: Iterable[str]) -> list[str]:
    from kexue_hf.conversion.missing_weights import missing_weights

    names = list(names)
    missing = missing_weights(config, names)
    if not missing:
        return []
    shown = ", ".join(missing[:3]) + (", ..." if missing[3:] else "")
    renamed = config.get("model_type") == "nezha" and any(name.startswith("bert.") for name in names)
    advice = " (they have BERT's names: kexue-hf convert renames them to NEZHA's)" if renamed else ""
    return [f"{len(missing)} weights that config.json needs are missing and would be random: {shown}{advice}"]


def _vocabulary_problems(folder: Path, config: dict[str, object]) -> list[str]:
    from kexue_hf.models.wobert.vocabulary_wobert import load_vocabulary, vocabulary_fingerprint
    from kexue_hf.pipelines.vocabulary_match import vocabulary_mismatch

    path = next((folder / name for name in ("vocab.txt", "tokenizer.json") if (folder / name).is_file()), None)
    if path is None:
        return ["no vocab.txt"]
    try:
        first_field = config.get("model_type") != "tta"
        vocabulary = load_vocabulary(path, first_field) if path.suffix == ".txt" else _json_vocabulary(folder)
    except ValueError as error:
        return [str(error)]
    encoder = _text_encoder(config)
    expected = encoder.get("vocab_fingerprint")
    found = vocabulary_fingerprint(sorted(vocabulary, key=vocabulary.__getitem__))
    size, rows = max(vocabulary.values(), default=-1) + 1, encoder.get("vocab_size")
    rows = rows if isinstance(rows, int) else None
    problem = vocabulary_mismatch(size, [found], rows, expected if isinstance(expected, str) else None)
    if problem is None and not expected and rows not in (None, size, size + _added_tokens(folder, vocabulary)):
        problem = f"it has {size:,} tokens, config.json says vocab_size {rows:,}"
    return [f"{path.name} is not the vocabulary that the weights were trained with: {problem}"] if problem else []


def _text_encoder(config: Mapping[str, object]) -> Mapping[str, object]:
    """Return the configuration of the encoder, which a SimSiam contains and any other model is."""
    inner = config.get("encoder_config")
    return inner if config.get("model_type") == "simsiam" and isinstance(inner, dict) else config


def _added_tokens(folder: Path, vocabulary: Mapping[str, int]) -> int:
    """Return how many added tokens have ids of their own, beyond the vocabulary."""
    from kexue_hf.conversion.saved_folder import read_folder_vocabulary

    try:
        added = read_folder_vocabulary(folder, None, 1 << 31).added
    except (OSError, ValueError):
        return 0
    return len(added.keys() - vocabulary.keys())


def _words_without_a_segmenter(folder: Path) -> str | None:
    """Return the problem of a WoBERT that another implementation saved as a BERT with a character tokenizer."""
    from kexue_hf.models.wobert.vocabulary_wobert import load_vocabulary
    from kexue_hf.vocabulary.tokenizer_check import word_vocabulary

    path = folder / "vocab.txt"
    if tokenizer_modules(folder):
        return None
    problem = word_vocabulary(load_vocabulary(path) if path.is_file() else _json_vocabulary(folder))
    return problem and f"{problem}: kexue-hf convert {folder} OUTPUT converts it to a WoBERT"


def _json_vocabulary(folder: Path) -> dict[str, int]:
    """Return the vocabulary, without added tokens, of a tokenizer without `vocab.txt`.

    Raises:
        ValueError: the folder has no vocabulary.
    """
    from kexue_hf.conversion.saved_folder import read_folder_vocabulary

    return read_folder_vocabulary(folder, None, 1 << 31).base


__all__ = [
    "examine_folder",
    "foreign_type",
    "json_fields",
    "needed_shards",
    "our_types",
    "read_saved_config",
    "word_problems",
]
