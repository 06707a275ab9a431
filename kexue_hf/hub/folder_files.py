"""Which files of a folder are published, and which are left out and why."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

HIDDEN, TRAINING, PICKLE, CACHE, LINK, SPECIAL = "hidden", "training state", "pickle", "cache", "link", "special"
# Not .gitignore, which says what does not belong into a repository of code.
_KEPT_HIDDEN = (".gitattributes",)
_CACHES = ("__pycache__", "*.pyc", "*.tmp", "*.part", "*.lock", "_README.new.md")
_TRAINING = (
    "checkpoint-*", "global_step*", "optimizer.*", "optimizer_*", "scheduler.pt", "scaler.pt", "rng_state*",
    "trainer_state.json", "progress.json", "training_args.bin", "pytorch_model_fsdp*", "runs", "wandb", "mlruns",
    "events.out.tfevents*", "zero_to_fp32.py", "latest",
)  # fmt: skip
# Loading these can run any code.
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib", "*.dill")


@dataclass(frozen=True)
class FolderFile:
    """A file, or a left-out folder with all that is in it.

    Attributes:
        path: relative to the folder, with forward slashes; of a left-out folder with one at the end.
        size: in bytes.
        reason: why it is left out; empty if it is published.
    """

    path: str
    size: int
    reason: str = ""


def published_and_left_out(folder: Path) -> tuple[list[FolderFile], list[FolderFile]]:
    """Return the files that are published and those that are not, each sorted by path."""
    found = sorted(_walk(folder, "", folder.resolve()), key=lambda file: file.path)
    return [file for file in found if not file.reason], [file for file in found if file.reason]


def _walk(folder: Path, prefix: str, root: Path) -> Iterator[FolderFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            reason, path = _reason(entry.name), prefix + entry.name
            if entry.is_symlink():
                reason = reason or ("" if _is_inside(Path(entry.path), root) else LINK)
            if entry.is_dir(follow_symlinks=False):
                if reason:
                    yield FolderFile(f"{path}/", _size_of(Path(entry.path)), reason)
                else:
                    yield from _walk(Path(entry.path), f"{path}/", root)
            elif os.path.isfile(entry.path):
                yield FolderFile(path, entry.stat().st_size, reason)
            else:  # a link to a folder, to nothing or to itself; a socket, a pipe
                yield FolderFile(path, 0, reason or (LINK if entry.is_symlink() else SPECIAL))


def _is_inside(link: Path, root: Path) -> bool:
    """Return whether a link leads to a published file of the folder, or into the same repository of HF's cache."""
    # Unlike Path.resolve, this ends at a link that leads to itself.
    target = Path(os.path.realpath(link))
    if root.parent.name == "snapshots" and target.parent == root.parents[1] / "blobs":
        return os.path.isfile(target)
    return (
        os.path.isfile(target)
        and target.is_relative_to(root)
        and not any(map(_reason, target.relative_to(root).parts))
    )


def _reason(name: str) -> str:
    for reason, patterns in ((CACHE, _CACHES), (TRAINING, _TRAINING), (PICKLE, _PICKLES)):
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return reason
    return HIDDEN if name.startswith(".") and name not in _KEPT_HIDDEN else ""


def _size_of(folder: Path) -> int:
    files = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return sum(file.stat().st_size for file in files if file.is_file())


def readable_size(size: int) -> str:
    """Return a number of bytes as people read it: 512 B, 1.2 kB, 3.4 MB."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95 or unit == "TB":
            break
    return f"{value:.1f} {unit}"


__all__ = ["LINK", "PICKLE", "SPECIAL", "TRAINING", "FolderFile", "published_and_left_out", "readable_size"]
