"""Write a model folder that appears complete or not at all (see `files.staging`), and decide what it may replace."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from kexue_hf.conversion.python_files import names_of_python_files
from kexue_hf.errors import OutputError, printable
from kexue_hf.files.staging import Stage, contains_cwd, put_folder, staged, write_error_message

# Files of a model folder. --overwrite replaces a folder that holds nothing else.
_OURS = re.compile(
    r"model(-\d+-of-\d+)?\.safetensors|(config|generation_config|tokenizer_config|tokenizer|special_tokens_map|added_tokens)\.json"
    r"|model\.safetensors\.index\.json|vocab\.txt|README\.md|\.gitattributes|training_args\.bin|__pycache__"
    r"|bert_config\.json|checkpoint|bert_model\.ckpt\.(index|meta|data-\d{5}-of-\d{5})|best_model\.h5"
)
_MAX_LINKS = 40


@contextlib.contextmanager
def staged_folder(
    output: str | os.PathLike[str], *, overwrite: bool = False, need: int = 0, keep: Iterable[Path] = ()
) -> Iterator[Path]:
    """Yield a folder to write into. It becomes `output` when the block ends without an error.

    Args:
        overwrite: replace an existing folder that holds only a model. An empty folder is always replaced.
        need: number of bytes that will be written; refuse at once if the disk has less.
        keep: files and folders that the block reads. A folder that holds one of them, or a link that leads to one, is
            not replaced.

    Raises:
        OutputError: `output` is in use, holds other files, or cannot be written, or the disk is full. The previous
            `output` is still there.
    """
    target = Path(os.path.realpath(output))
    check_output(output, overwrite=overwrite)
    _check_kept(output, target, keep)

    def publish(stage: Stage) -> None:
        check_output(output, overwrite=overwrite)  # another process may have written there meanwhile
        put_folder(stage.path, target)

    with staged(output, target, publish) as stage:
        free = shutil.disk_usage(stage.path).free
        if free < need:
            raise OutputError(f"{output}: {need:,} bytes are needed, the disk has {free:,} left; free some space")
        yield stage.path


def check_output(output: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise OutputError unless a model folder may be written to `output`."""
    if not os.fspath(output):
        raise OutputError("OUTPUT is empty; name the folder to make")
    target = Path(os.path.realpath(output))
    if not target.name:
        raise OutputError(f"{output}: cannot be a model folder; name another folder")
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"{output}: is a file; name a folder that does not exist yet")
    try:
        there = sorted(os.listdir(target))
    except OSError as error:
        raise OutputError(write_error_message(output, error)) from None
    if there and not overwrite:
        raise OutputError(f"{output}: exists and is not empty; name another folder, or replace it with --overwrite")
    others = [name for name in there if not _is_ours(name) or ((target / name).is_dir() and name != "__pycache__")]
    if there and not {"config.json", "bert_config.json"} & set(there):
        others = there
    if there and contains_cwd(target):
        raise OutputError(
            f"{output}: is or contains the current directory, which cannot be replaced; run the command from elsewhere"
        )
    if others:
        shown = ", ".join(map(printable, others[:5])) + (", ..." if others[5:] else "")
        raise OutputError(
            f"{output}: holds files that are not part of a model ({shown}) and would be lost; name another folder, or "
            "move them away"
        )


@cache
def _python_files() -> frozenset[str]:
    return names_of_python_files()


def _is_ours(name: str) -> bool:
    return bool(_OURS.fullmatch(name)) or name in _python_files()


def _check_kept(output: object, target: Path, keep: Iterable[Path]) -> None:
    """Raise OutputError if `target` is or contains a path in `keep`, by name or along its links."""
    try:
        there = os.stat(target)
    except OSError:
        return  # There is nothing to lose.
    for path in keep:
        for step in _link_chain(path):
            for folder in (step, *step.parents):
                try:
                    same = os.path.samestat(os.stat(folder), there)
                except OSError:
                    continue
                if same:
                    raise OutputError(f"{output}: holds the source ({path}), which would be lost; name another folder")


def _link_chain(path: Path) -> list[Path]:
    """Return the absolute path, and the path of every link between it and the file."""
    chain = [Path(os.path.abspath(path)), Path(os.path.realpath(path))]
    at = os.fspath(path)
    for _ in range(_MAX_LINKS):
        folder, name = os.path.split(os.path.abspath(at))
        at = os.path.join(os.path.realpath(folder), name)
        chain.append(Path(at))
        if not os.path.islink(at):
            break
        at = os.path.join(os.path.dirname(at), os.readlink(at))
    return chain
