"""Finds what belongs to a source: the checkpoint itself, its configuration and its vocabulary.

A file's kind is told by its first bytes, not by its name. What can hold code (pickles, archives of them) is recognised
in order to be refused; nothing here ever loads one.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from kexue_hf.errors import CheckpointError, InputError, printable
from kexue_hf.regular_file import open_regular, read_regular

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP, _GZIP, _PICKLE = b"PK\x03\x04", b"\x1f\x8b", b"\x80"
_PARTS = re.compile(r"(.+)\.(index|meta|data-\d{5}-of-\d{5})")
_KERAS_ENDINGS = (".h5", ".hdf5", ".weights")
_DEEPEST = 2
_LARGEST_STATE = 1 << 20


@dataclass(frozen=True)
class SourceFiles:
    """A checkpoint ("tensorflow": `path` is its prefix; "keras": an HDF5 file), its configuration, its vocabulary."""

    kind: str
    path: Path
    config: Path
    vocab: Path


def find_source(
    source: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
) -> SourceFiles:
    """Find the files of a source.

    Args:
        source: a folder as the originals unpack, a checkpoint prefix or one of a checkpoint's files, or a Keras file.
        config, vocab: the configuration and the vocabulary, where they do not lie beside it.

    Raises:
        CheckpointError: there is no checkpoint, or it is of a kind that is not read.
        InputError: there are several, or the configuration or the vocabulary is not to be found.
    """
    if not os.fspath(source):
        raise InputError("SOURCE is empty; name a folder, a checkpoint prefix or a Keras file")
    path = Path(source)
    if path.is_dir():
        kind, path = _in_folder(path)
    else:
        kind, path = _from_path(path)
    return SourceFiles(
        kind,
        path,
        _companion(
            config, path, "--config", "configuration", ("bert_config.json", "config.json"), r".*config.*\.json"
        ),
        _companion(vocab, path, "--vocab", "vocabulary", ("vocab.txt",), r".*vocab.*\.txt"),
    )


def _from_path(path: Path) -> tuple[str, Path]:
    match = _PARTS.fullmatch(path.name)
    prefix = path.with_name(match.group(1)) if match else path
    if match or Path(f"{path}.index").exists():
        return "tensorflow", prefix
    if path.exists():
        return "keras", _check_hdf5(path)
    if _siblings(path, rf"{re.escape(path.name)}\.data-.*"):
        raise CheckpointError(f"{path}.index: missing; it is the index of the checkpoint, keep its files together")
    raise CheckpointError(f"{path}: no such file, folder or checkpoint prefix")


def _in_folder(folder: Path, depth: int = 0) -> tuple[str, Path]:
    found = _candidates(folder)
    if not found and depth < _DEEPEST:
        below = [child for child in sorted(folder.iterdir()) if child.is_dir() and _holds_checkpoint(child, depth + 1)]
        if len(below) == 1:
            return _in_folder(below[0], depth + 1)
        if below:
            raise InputError(f"{folder}: checkpoints lie in {_listed(below)}; name one of them")
    if not found:
        orphans = _siblings(folder / "x", r".+\.data-\d{5}-of-\d{5}")
        if orphans:
            prefix = _PARTS.fullmatch(orphans[0].name)
            raise CheckpointError(
                f"{folder / (prefix.group(1) if prefix else '')}.index: missing; it is the index of the checkpoint "
                f"whose data ({orphans[0].name}) lies there"
            )
        hint = (
            "expected bert_model.ckpt.index and bert_model.ckpt.data-... (TensorFlow) or an .h5/.weights file (Keras)"
        )
        weights = [name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).exists()]
        if weights:
            hint = f"it has {weights[0]}, but no config.json of transformers"
            if (folder / "config.json").is_file():
                hint = "it is a folder of transformers, which has its own config.json; leave out --config"
        raise CheckpointError(f"{folder}: holds no checkpoint: {hint}")
    if len(found) > 1:
        named = _named_by_state_file(folder)
        found = [(kind, path) for kind, path in found if kind == "tensorflow" and path.name == named] or found
    if len(found) > 1:
        names = _listed([path for _, path in found])
        raise InputError(f"{folder}: holds several checkpoints ({names}); name one of them")
    kind, path = found[0]
    return kind, path if kind == "tensorflow" else _check_hdf5(path)


def _candidates(folder: Path) -> list[tuple[str, Path]]:
    try:
        names = sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read: {error.strerror}") from None
    prefixes = [("tensorflow", path.with_suffix("")) for path in names if path.suffix == ".index"]
    return prefixes + [("keras", path) for path in names if path.suffix in _KERAS_ENDINGS and path.is_file()]


def _holds_checkpoint(folder: Path, depth: int) -> bool:
    if _candidates(folder):
        return True
    return depth < _DEEPEST and any(
        _holds_checkpoint(child, depth + 1) for child in folder.iterdir() if child.is_dir()
    )


def _named_by_state_file(folder: Path) -> str | None:
    """The checkpoint that TensorFlow's own `checkpoint` file calls the latest."""
    try:
        text = read_regular(folder / "checkpoint", _LARGEST_STATE).decode("utf-8")
    except (OSError, ValueError):
        return None
    match = re.search(r'^model_checkpoint_path:\s*"([^"\n]*)"', text, re.MULTILINE)
    return os.path.basename(match.group(1)) if match else None


def _check_hdf5(path: Path) -> Path:
    """The path, if it is an HDF5 file."""
    try:
        with open_regular(path, error=CheckpointError) as file:
            start = file.read(8)
            # HDF5 allows for foreign bytes of 512, 1024, 2048, ... in front.
            offset = 512
            while start != _HDF5 and offset < min(os.fstat(file.fileno()).st_size, 1 << 20):
                file.seek(offset)
                if file.read(8) == _HDF5:
                    return path
                offset *= 2
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    if start == _HDF5:
        return path
    what = "is not an HDF5 file, and no TensorFlow checkpoint of that name lies there"
    if start.startswith(_PICKLE):
        what = f"is a Python pickle, which can run code when it is loaded and is never loaded here{_if_pytorch(path)}"
    elif start.startswith(_ZIP):
        what = (
            f"is a zip archive that may hold a pickle and is not loaded here{_if_pytorch(path)}"
            if path.suffix != ".zip"
            else "is a zip archive; unpack it first, and give the folder"
        )
    elif start.startswith(_GZIP):
        what = "is a compressed file; unpack it first"
    elif not start:
        what = "is empty"
    elif path.suffix == ".safetensors":
        what = "is a file of transformers; give the folder with it, config.json and vocab.txt"
    raise CheckpointError(f"{path}: {what}; expected a TensorFlow checkpoint or Keras weights (.h5, .weights)")


def _if_pytorch(path: Path) -> str:
    known = path.suffix in (".bin", ".pt", ".pth")
    return "; of PyTorch's files give the folder with pytorch_model.bin, config.json and vocab.txt" if known else ""


def _companion(
    given: str | os.PathLike[str] | None, path: Path, option: str, what: str, names: tuple[str, ...], pattern: str
) -> Path:
    if given is not None:
        if not Path(given).exists():
            raise InputError(f"{given}: no such file (the {what}, {option})")
        return _regular(Path(given))
    for name in names:
        if path.with_name(name).exists():
            return _regular(path.with_name(name))
    others = [
        other for other in _siblings(path, pattern) if other.is_file() and not other.name.startswith("tokenizer")
    ]
    if len(others) == 1:
        return others[0]
    listed = f" ({len(others)} files could be it)" if others else ""
    raise InputError(f"{path.with_name(names[0])}: missing{listed}; name the {what} of the checkpoint with {option}")


def _regular(path: Path) -> Path:
    """The path, if it is that of a regular file."""
    try:
        open_regular(path).close()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return path


def _siblings(path: Path, pattern: str) -> list[Path]:
    if not path.parent.is_dir():
        return []
    return sorted(other for other in path.parent.iterdir() if re.fullmatch(pattern, other.name))


def _listed(paths: list[Path]) -> str:
    return ", ".join(printable(path.name) for path in paths[:8]) + (", ..." if paths[8:] else "")
