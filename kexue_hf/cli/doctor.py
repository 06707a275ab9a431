"""`kexue-hf doctor`: installed versions, or checks of a saved folder. Imports neither torch nor transformers."""

import importlib.metadata
import importlib.util
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kexue_hf.cli.result_output import counted
from kexue_hf.errors import InputError

if TYPE_CHECKING:
    from kexue_hf.hub.folder_report import FolderReport

_PACKAGES = (
    "kexue-hf", "torch", "transformers", "tokenizers", "datasets", "accelerate", "huggingface_hub", "safetensors",
    "rjieba", "jieba", "h5py", "crc32c", "numpy", "typer",
)  # fmt: skip


def add_commands(app: typer.Typer) -> None:
    """Add `doctor` to the command line."""
    app.command()(doctor)


def doctor(
    folder: Annotated[Path | None, typer.Argument(help="A saved model folder to check.")] = None,
    load: Annotated[
        bool,
        typer.Option(
            "--load",
            help="Also import the folder's code in a fresh process without kexue_hf. This runs that code.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show the installed versions; with FOLDER, check that it is complete, consistent and ready for the Hub."""
    if folder is None:
        if load:
            raise InputError("--load without FOLDER has no effect; leave it out")
        if as_json:
            print(json.dumps({"versions": installed_versions()}))
            return
        print("\n".join(_version_lines()))
        return
    facts = {"versions": installed_versions()}
    report = report_of(folder, load=load, json_facts=facts if as_json else None)
    if as_json:
        print(json.dumps({**report.to_dict(), **facts}, ensure_ascii=False))
    else:
        print("\n".join(report.lines()))
        if not report.model_problems and not report.is_foreign:
            print(f"{folder}: configuration, weights, vocabulary and code fit together{_unread(folder)}")
    if report.all_errors:
        raise InputError(not_ready(report))


def report_of(folder: Path, *, load: bool, json_facts: Mapping[str, object] | None) -> "FolderReport":
    """Return the report on a folder.

    Args:
        load: as for `folder_report`.
        json_facts: for output as JSON, what the object holds beside the report. Then a folder that cannot be examined
            gives an object, too, before the error.

    Raises:
        InputError: as `folder_report`.
    """
    from kexue_hf.hub.folder_report import FolderReport, folder_report

    try:
        return folder_report(folder, load=load)
    except (InputError, OSError) as error:
        if json_facts is not None:
            print(json.dumps({**FolderReport(folder, [str(error)]).to_dict(), **json_facts}, ensure_ascii=False))
        raise


def not_ready(report: "FolderReport") -> str:
    """Return the message that a folder should not be published. The errors themselves are in the printed report."""
    return f"{report.folder} is not ready for the Hub: {counted(len(report.all_errors), 'errors')}, listed above"


def _version_lines() -> list[str]:
    return [
        *(f"{name:16} {version or 'not installed'}" for name, version in installed_versions().items()),
        f"{'python':16} {platform.python_version()} on {platform.platform()}",
        f"{'word segmenter':16} {_segmenter()}",
    ]


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


__all__ = ["add_commands", "doctor", "installed_versions", "not_ready", "report_of"]
