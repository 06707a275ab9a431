"""`kexue-hf doctor`: installed versions, and checks of a saved folder. Imports neither torch nor transformers."""

import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from kexue_hf.errors import CheckpointError, ConversionError, InputError, printable
from kexue_hf.files.regular_file import check_folder
from kexue_hf.integrations.auto_classes import MODEL_TYPES

_PACKAGES = (
    "kexue-hf", "torch", "transformers", "tokenizers", "datasets", "accelerate", "huggingface_hub", "safetensors",
    "rjieba", "jieba", "h5py", "crc32c", "numpy", "typer",
)  # fmt: skip
# transformers' own models that may have a tokenizer of this package.
_NATIVE = ("roformer",)
_EMBEDDING = "embeddings.word_embeddings.weight"


def add_commands(app: typer.Typer) -> None:
    """Add `doctor` to the command line."""
    app.command()(doctor)


def doctor(
    folder: Annotated[Path | None, typer.Argument(help="A saved model folder to check.")] = None,
) -> None:
    """Show the installed versions; with FOLDER, also check that the folder is complete and consistent."""
    # Before the versions, so that a wrong argument fails without printing them.
    problems = examine_folder(folder) if folder is not None else []
    for name, version in installed_versions().items():
        print(f"{name:16} {version or 'not installed'}")
    print(f"{'python':16} {platform.python_version()} on {platform.platform()}")
    print(f"{'word segmenter':16} {_segmenter()}")
    if folder is not None:
        if problems:
            raise InputError(f"{folder}: {'; '.join(problems)}")
        print(f"{folder}: configuration, weights, vocabulary and code fit together{_unread(folder)}")


def _segmenter() -> str:
    if importlib.util.find_spec("rjieba") is not None:
        return "rjieba"
    if importlib.util.find_spec("jieba") is not None:
        return "jieba (rjieba gives the same words much faster: pip install rjieba)"
    return "none: pip install rjieba"


def installed_versions() -> dict[str, str | None]:
    """Return the versions of kexue_hf and its dependencies; None for a package that is not installed."""
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _unread(folder: Path) -> str:
    return "" if (folder / "model.safetensors").is_file() else " (the weights are in shards, which were not read)"


def examine_folder(folder: Path) -> list[str]:
    """Return the problems of a saved model folder, one phrase each; empty if there are none.

    Raises:
        InputError: the folder does not exist, or has no readable config.json of a known model.
    """
    config = _read_config(folder)
    check_folder(folder)
    model_type = config.get("model_type")
    known = (*MODEL_TYPES, *_NATIVE)
    if model_type == "bert" and (problem := _words_without_a_segmenter(folder)):
        return [problem]
    if model_type not in known:
        raise InputError(f"{folder}/config.json: model_type is {model_type!r}; expected one of {', '.join(known)}")
    return [
        *_code_problems(folder, config),
        *_weight_problems(folder, config),
        *_vocabulary_problems(folder, config),
    ]


def _read_config(folder: Path) -> dict[str, object]:
    path = folder / "config.json"
    if not path.exists():
        what = "no config.json here" if folder.is_dir() else "no such folder, and no config.json here"
        raise InputError(f"{folder}: {what}; expected a folder written by save_pretrained or convert")
    from kexue_hf.conversion.source import load_json_object

    try:
        return load_json_object(path)
    except ConversionError as error:
        raise InputError(str(error)) from None


def _code_problems(folder: Path, config: dict[str, object]) -> list[str]:
    auto_map = config.get("auto_map")
    modules = _tokenizer_modules(folder)
    if config.get("model_type") not in _NATIVE:
        if not isinstance(auto_map, dict) or "AutoModel" not in auto_map:
            return ["config.json has no complete auto_map, so the folder loads only where kexue_hf is installed"]
        modules |= {str(reference).split(".")[0] for reference in auto_map.values()}
    missing = sorted(f"{module}.py" for module in modules if not (folder / f"{module}.py").is_file())
    return [f"the code that auto_map names is missing: {', '.join(map(printable, missing[:8]))}"] if missing else []


def _tokenizer_modules(folder: Path) -> set[str]:
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
    for count in sorted(rows):
        if count != config.get("vocab_size"):
            problems.append(
                f"config.json says vocab_size {config.get('vocab_size')!r:.60}, the embedding has {count} rows"
            )
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
    expected = config.get("vocab_fingerprint")
    found = vocabulary_fingerprint(sorted(vocabulary, key=vocabulary.__getitem__))
    size, rows = max(vocabulary.values(), default=-1) + 1, config.get("vocab_size")
    rows = rows if isinstance(rows, int) else None
    problem = vocabulary_mismatch(size, [found], rows, expected if isinstance(expected, str) else None)
    if problem is None and not expected and rows not in (None, size):
        problem = f"it has {size:,} tokens, config.json says vocab_size {rows:,}"
    return [f"{path.name} is not the vocabulary that the weights were trained with: {problem}"] if problem else []


def _words_without_a_segmenter(folder: Path) -> str | None:
    """Return the problem of a WoBERT that another implementation saved as a BERT with a character tokenizer."""
    from kexue_hf.models.wobert.vocabulary_wobert import load_vocabulary
    from kexue_hf.vocabulary.tokenizer_check import word_vocabulary

    path = folder / "vocab.txt"
    if _tokenizer_modules(folder):
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
