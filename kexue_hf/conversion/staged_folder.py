"""A result folder that appears whole or not at all.

Everything is written into a sibling of OUTPUT named `.OUTPUT.partial-...`, which is renamed at the end. An error or
Ctrl-C removes it. A killed process leaves it behind; it holds a lock on it as long as it lives, so the next run can
tell a left-over from the work of somebody else and removes it.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from kexue_hf.conversion.python_files import names_of_python_files
from kexue_hf.errors import KexueError, OutputError

# What a model folder is made of. --overwrite replaces a folder of these; anything else in it is somebody's own.
_OURS = re.compile(
    r"model(-\d+-of-\d+)?\.safetensors|(config|generation_config|tokenizer_config|tokenizer|special_tokens_map|added_tokens)\.json"
    r"|model\.safetensors\.index\.json|vocab\.txt|README\.md|\.gitattributes|training_args\.bin|__pycache__"
    r"|bert_config\.json|checkpoint|bert_model\.ckpt\.(index|meta|data-\d{5}-of-\d{5})|best_model\.h5"
)
_MOST_LINKS = 40
_MOST_TRIES = 100
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def staged_folder(
    output: str | os.PathLike[str], *, overwrite: bool = False, need: int = 0, keep: Iterable[Path] = ()
) -> Iterator[Path]:
    """A folder to write into; when the block ends without an error, it becomes `output`.

    Args:
        overwrite: replace a folder that is there and holds nothing but a model. One that is empty is always replaced.
        need: bytes that will be written; refused at once if the disk has less.
        keep: files and folders that are read meanwhile: a folder that holds one of them, or a link on the way to one,
            is not replaced.

    Raises:
        OutputError: `output` is in use, holds other things, or cannot be written, or the disk is full. What was at
            `output` before is still there.
    """
    target = Path(os.path.realpath(output))
    check_output(output, overwrite=overwrite)
    _check_kept(output, target, keep)
    created = _make_parents(target)
    stage, lock = None, None
    try:
        _remove_leftovers(target)
        stage, lock = _make_stage(target)
        free = shutil.disk_usage(stage).free
        if free < need:
            raise OutputError(f"{output}: {need:,} bytes are needed, the disk has {free:,} left; free some space")
        yield stage
        check_output(output, overwrite=overwrite)  # somebody else may have written there meanwhile
        _publish(stage, target)
        created = []
    except OSError as error:
        if isinstance(error, KexueError):
            raise
        raise OutputError(_explain(output, error)) from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        for parent in created:
            with contextlib.suppress(OSError):
                parent.rmdir()


def check_output(output: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise OutputError unless a result may be put at `output`."""
    if not os.fspath(output):
        raise OutputError("OUTPUT is empty; name the folder to make")
    target = Path(os.path.realpath(output))
    if not target.name:
        raise OutputError(f"{output}: not a place for a model folder")
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"{output}: is a file; name a folder that does not exist yet")
    try:
        there = sorted(os.listdir(target))
    except OSError as error:
        raise OutputError(_explain(output, error)) from None
    if there and not overwrite:
        raise OutputError(f"{output}: exists and is not empty; name another folder, or replace it with --overwrite")
    others = [name for name in there if not _is_ours(name) or ((target / name).is_dir() and name != "__pycache__")]
    if there and not {"config.json", "bert_config.json"} & set(there):
        others = there
    if others:
        raise OutputError(
            f"{output}: holds what is no part of a model ({', '.join(others[:5])}{', ...' if others[5:] else ''}) and "
            "would be lost; name another folder, or move it away"
        )


@cache
def _python_files() -> frozenset[str]:
    return names_of_python_files()


def _is_ours(name: str) -> bool:
    return bool(_OURS.fullmatch(name)) or name in _python_files()


def _check_kept(output: object, target: Path, keep: Iterable[Path]) -> None:
    """Refuse to replace `target` if something to keep is it, or is in it, by name or along its links."""
    try:
        there = os.stat(target)
    except OSError:
        return  # Nothing is there that could be lost.
    for path in keep:
        for place in _places(path):
            for folder in (place, *place.parents):
                try:
                    same = os.path.samestat(os.stat(folder), there)
                except OSError:
                    continue
                if same:
                    raise OutputError(f"{output}: holds the source ({path}), which would be lost; name another folder")


def _places(path: Path) -> list[Path]:
    """Where a path leads through: as it is named, and every link from there to the file."""
    places = [Path(os.path.abspath(path)), Path(os.path.realpath(path))]
    at = os.fspath(path)
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(os.path.abspath(at))
        at = os.path.join(os.path.realpath(folder), name)
        places.append(Path(at))
        if not os.path.islink(at):
            break
        at = os.path.join(os.path.dirname(at), os.readlink(at))
    return places


def _make_parents(target: Path) -> list[Path]:
    """Create the missing parents; those that were created, innermost first."""
    missing = []
    parent = target.parent
    while not parent.exists() and parent != parent.parent:
        missing.append(parent)
        parent = parent.parent
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(_explain(target, error)) from None
    return missing


def _make_stage(target: Path) -> tuple[Path, int | None]:
    """A new folder to write into, and the lock on it.

    Until it is locked, it looks like a left-over, and another run may be removing it: then a new one is made.
    """
    for _ in range(_MOST_TRIES):
        stage = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
        os.mkdir(stage)
        try:
            lock = _lock(stage)
        except (BlockingIOError, FileNotFoundError):
            continue
        try:
            if lock is None or os.path.samestat(os.fstat(lock), os.stat(stage)):
                return stage, lock
        except FileNotFoundError:
            pass
        if lock is not None:
            os.close(lock)
    raise OutputError(f"{target}: another process removes whatever is made beside it; try again when it has ended")


def _remove_leftovers(target: Path) -> None:
    pattern = re.compile(re.escape(f".{target.name}.partial-") + "[0-9a-f]{8}")
    for name in os.listdir(target.parent):
        if pattern.fullmatch(name):
            leftover = target.with_name(name)
            try:
                lock = _lock(leftover)
            except (BlockingIOError, FileNotFoundError):
                continue
            if lock is not None:
                shutil.rmtree(leftover, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """An open, locked descriptor of a folder; None if the system has no such locks.

    Raises:
        BlockingIOError: somebody else holds it. FileNotFoundError: the folder is gone.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise
        return None
    return descriptor


def _publish(stage: Path, target: Path) -> None:
    """Put the finished folder at its place; what was there ends up under the stage's name."""
    if not target.exists() or not any(target.iterdir()):
        if target.exists():
            target.rmdir()
        os.rename(stage, target)
    elif not _exchange(stage, target):
        old = target.with_name(f".{target.name}.replaced-{secrets.token_hex(4)}")
        os.rename(target, old)
        try:
            os.rename(stage, target)
        except BaseException:
            os.rename(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, where the system can (Linux); False where it cannot."""
    import ctypes

    try:
        call = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    at_cwd, exchange = -100, 2
    return bool(call(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0)


def _explain(output: object, error: OSError) -> str:
    if error.errno in _FULL:
        return f"{output}: the disk is full ({error.strerror}); free some space and try again; nothing was written"
    return f"{output}: cannot be written: {error.strerror or error}; name another place"
