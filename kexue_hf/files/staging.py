"""Write files and folders that appear complete or not at all.

Everything is written into a stage, a folder beside OUTPUT named `.OUTPUT.partial-...`, and renamed at the end. An
error or Ctrl-C removes the stage. A process locks its stage while it runs. A killed process leaves its stage behind
without a lock, so the next run removes or resumes it. On systems without such locks, a file in the stage names its
owner.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError, KexueError, OutputError

_MAX_TRIES = 100
NOTHING_WRITTEN = "; nothing was written"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Flags of Linux' renameat2.
_NO_REPLACE, _EXCHANGE = 1, 2
_OWNER = ".owner"
_PARTIAL, _REPLACED = ".partial-", ".replaced-"


class Stage:
    """A locked folder to write into. Set `keep` to leave it behind for a later run to resume."""

    def __init__(self, path: Path, lock: int | None, resumed: bool = False) -> None:
        self.path = path
        self.resumed = resumed
        self.keep = False
        self._lock = lock
        if lock is None:
            # On a full disk, the first write of a result raises the error.
            with contextlib.suppress(OSError):
                (path / _OWNER).write_text(f"{os.getpid()} {socket.gethostname()}", encoding="utf-8")

    def disown(self) -> None:
        """Remove the file that names the owner."""
        (self.path / _OWNER).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder unless `keep` is set, and release the lock."""
        if self.keep:
            with contextlib.suppress(OSError):
                self.disown()
        else:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


@contextlib.contextmanager
def staged(
    output: str | os.PathLike[str],
    target: Path,
    publish: Callable[[Stage], object],
    resumable: Callable[[Path], bool] | None = None,
) -> Iterator[Stage]:
    """Yield a stage beside `target`, and publish it when the block ends without an error.

    Missing parents of `target` are created, and removed again after an error.

    Args:
        output: the target as the user named it, for messages.
        publish: moves the content of the stage to the target.
        resumable: whether a leftover stage can be resumed; the latest such stage is used.

    Raises:
        OutputError: the target cannot be written, or the disk is full; or with `resumable`, another process is
            writing it.
        InputError: the block failed to open or read another file.
    """
    created: list[Path] = []
    stage = None
    try:
        created = [folder for folder in target.parents if not folder.exists()]
        stage = _open_stage(output, target, resumable)
        try:
            yield stage
        except OSError as error:
            # The block may read: then the output is not at fault.
            if error.filename is None or _lies_in(stage.path, error.filename):
                raise
            raise InputError(f"{os.fsdecode(error.filename)}: {error.strerror or error}") from error
        stage.disown()  # The folder itself may become the result.
        publish(stage)
        created = []
    except OSError as error:
        if isinstance(error, KexueError):
            raise
        raise OutputError(write_error_message(output, error)) from error
    finally:
        if stage is not None:
            stage.close()
        for parent in created:
            with contextlib.suppress(OSError):
                parent.rmdir()


def put_file(file: Path, target: Path, *, overwrite: bool) -> None:
    """Rename a finished file to `target`.

    Raises:
        FileExistsError: the target exists, and `overwrite` is false.
    """
    if overwrite:
        os.replace(file, target)
    elif _rename(file, target, _NO_REPLACE):
        return
    elif target.exists():
        raise FileExistsError
    else:
        try:
            os.link(file, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            os.rename(file, target)


def put_folder(stage: Path, target: Path) -> None:
    """Rename a finished folder to `target`. A previous folder is removed, or ends up at the path of the stage."""
    if not target.exists() or not any(target.iterdir()):
        if target.exists() and contains_cwd(target):
            _move_content(stage, target)
            return
        if target.exists():
            target.rmdir()
        os.rename(stage, target)
    elif not _rename(stage, target, _EXCHANGE):
        old = target.with_name(f"{_prefix(target, _REPLACED)}{secrets.token_hex(4)}")
        os.rename(target, old)
        try:
            os.rename(stage, target)
        except BaseException:
            os.rename(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def contains_cwd(folder: Path) -> bool:
    """Return whether the current directory is the folder or lies inside it."""
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        return False
    return folder in (here, *here.parents)


def _lies_in(folder: Path, name: Any) -> bool:
    """Return whether the file name of an error, which may also be a descriptor, is a folder or lies in it."""
    if isinstance(name, int):
        return True
    path = Path(os.path.realpath(os.fsdecode(name)))
    return Path(os.path.realpath(folder)) in (path, *path.parents)


def write_error_message(output: object, error: OSError) -> str:
    """Return the message for an error while `output` was written."""
    if error.errno in _FULL:
        return f"{output}: the disk is full ({error.strerror}); free some space and try again{NOTHING_WRITTEN}"
    return f"{output}: cannot be written: {error.strerror or error}; name another place"


def _move_content(stage: Path, target: Path) -> None:
    """Move the content of the stage into an empty folder that is the current directory and cannot be replaced.

    This is not atomic, so the configuration, without which no loader opens the folder, comes last.
    """
    moved = []
    try:
        for name in sorted(os.listdir(stage), key=lambda name: (name.endswith("config.json"), name)):
            os.rename(stage / name, target / name)
            moved.append(name)
    except BaseException:
        for name in moved:
            os.rename(target / name, stage / name)
        raise


def _open_stage(output: object, target: Path, resumable: Callable[[Path], bool] | None) -> Stage:
    """Create the missing parents, and return a leftover that can be resumed, or a new stage."""
    for attempt in range(_MAX_TRIES):
        leftover = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            leftover = None if resumable is None else _resume_stage(output, target, resumable)
            _remove_leftovers(target)
            return leftover or Stage(*_make_stage(target))
        except (FileExistsError, FileNotFoundError):
            if leftover is not None:
                leftover.keep = True
                leftover.close()
            # Another writer that failed may have removed the parent that both needed.
            if attempt + 1 == _MAX_TRIES:
                raise
    raise AssertionError  # the last attempt returns or raises


def _prefix(target: Path, mark: str = _PARTIAL) -> str:
    """Return the prefix of the stages' names. A long name is replaced by its hash, because file names are limited."""
    try:
        longest = os.pathconf(target.parent, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):
        longest = 255
    name = target.name
    if len(os.fsencode(f".{name}{mark}")) + 8 > longest:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}{mark}"


def _make_stage(target: Path) -> tuple[Path, int | None]:
    """Make a new folder to write into; return it and the lock on it.

    Until it is locked, the folder looks like a leftover and another run may remove it. Then another one is made.
    """
    for _ in range(_MAX_TRIES):
        stage = target.with_name(f"{_prefix(target)}{secrets.token_hex(4)}")
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
    raise OutputError(f"{target}: another process keeps removing the files beside it; try again when it has ended")


def _stages(target: Path, mark: str = _PARTIAL) -> list[Path]:
    """Return all paths with the name of a stage, the latest first."""
    pattern = re.compile(re.escape(_prefix(target, mark)) + "[0-9a-f]{8}")
    found = []
    for name in os.listdir(target.parent):
        if pattern.fullmatch(name):
            with contextlib.suppress(FileNotFoundError):
                found.append((os.stat(target.with_name(name)).st_mtime_ns, target.with_name(name)))
    return [path for _, path in sorted(found, reverse=True)]


def _resume_stage(output: object, target: Path, resumable: Callable[[Path], bool]) -> Stage | None:
    """Lock and return the latest leftover that can be resumed."""
    for path in _stages(target):
        try:
            lock = _lock(path)
        except BlockingIOError:
            owner = path / _OWNER
            hint = f"; if it has ended, remove {owner}" if owner.exists() else ""
            raise OutputError(f"{output}: another process is writing it; wait until it has ended{hint}") from None
        except FileNotFoundError:
            continue
        if resumable(path):
            return Stage(path, lock, resumed=True)
        if lock is not None:
            os.close(lock)
    return None


def _remove_leftovers(target: Path) -> None:
    """Remove the stages of dead processes, and restore a folder that a dead process had moved away to replace it."""
    other_writers = False
    for leftover in _stages(target):
        try:
            lock = _lock(leftover)
        except (BlockingIOError, FileNotFoundError):
            other_writers = True
            continue
        if lock is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)
    for old in () if other_writers else _stages(target, _REPLACED):
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, target)


def _lock(folder: Path) -> int | None:
    """Return an open, locked descriptor of a folder; None if the system has no such locks.

    Raises:
        BlockingIOError: another process holds the lock, or owns the folder.
        FileNotFoundError: the folder is gone.
    """
    try:
        import fcntl
    except ImportError:
        _check_owner(folder)
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise
        _check_owner(folder)
        return None
    return descriptor


def _check_owner(folder: Path) -> None:
    """Raise BlockingIOError if a living process of this machine owns a folder that cannot be locked."""
    try:
        pid, host = (folder / _OWNER).read_text(encoding="utf-8").split(" ", 1)
        # Outside POSIX, signal 0 may end the process.
        if host != socket.gethostname() or os.name != "posix":
            return
        with contextlib.suppress(PermissionError):  # alive, but of another user
            os.kill(int(pid), 0)
    except (OSError, ValueError, OverflowError):
        return
    raise BlockingIOError


def _rename(one: Path, other: Path, how: int) -> bool:
    """Rename atomically with Linux' renameat2, either without replacing or swapping the two.

    Return False if that fails or is not available.
    """
    try:
        call = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    at_cwd = -100
    return bool(call(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), how) == 0)


__all__ = ["NOTHING_WRITTEN", "Stage", "put_file", "put_folder", "staged", "write_error_message"]
