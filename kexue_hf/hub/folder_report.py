"""What is wrong with a folder before it is published, and what would be published. `kexue-hf doctor` prints it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kexue_hf.errors import printable
from kexue_hf.hub.card_fields import card_problems
from kexue_hf.hub.folder_files import (
    PICKLE,
    TRAINING,
    FolderFile,
    published_and_left_out,
    readable_size,
)
from kexue_hf.hub.private_traces import private_traces
from kexue_hf.hub.remote_code import code_problems, import_problems
from kexue_hf.hub.saved_model import examine_folder, read_saved_config

_LARGEST_SHOWN = 3
_UNWANTED = {
    TRAINING: "is of use for training only",
    PICKLE: "is a pickle, which can run any code when it is loaded",
}


@dataclass(frozen=True)
class FolderReport:
    """The findings about a folder, one line each.

    Attributes:
        model_problems: configuration, weights, vocabulary or code do not fit together.
        errors: what else must not be published.
        warnings: what should be better, and what `kexue-hf push` leaves out.
        files: what is published.
        left_out: what is not.
    """

    folder: Path
    model_problems: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: list[FolderFile] = field(default_factory=list)
    left_out: list[FolderFile] = field(default_factory=list)

    @property
    def all_errors(self) -> list[str]:
        """The problems of the model and the other errors."""
        return [*self.model_problems, *self.errors]

    @property
    def total_size(self) -> int:
        """Bytes that are published."""
        return sum(file.size for file in self.files)

    def lines(self) -> list[str]:
        """Return the findings and the sizes as lines to print."""
        largest = sorted(self.files, key=lambda file: -file.size)[:_LARGEST_SHOWN]
        shown = ", ".join(f"{printable(file.path)} {readable_size(file.size)}" for file in largest)
        return [
            *(f"error: {text}" for text in self.all_errors),
            *(f"warning: {text}" for text in self.warnings),
            f"{len(self.files)} files to publish, {readable_size(self.total_size)}; the largest: {shown or 'none'}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "folder": str(self.folder),
            "errors": self.all_errors,
            "warnings": self.warnings,
            "files": [{"path": file.path, "bytes": file.size} for file in self.files],
            "left_out": [{"path": file.path, "bytes": file.size, "reason": file.reason} for file in self.left_out],
            "total_bytes": self.total_size,
        }


def folder_report(folder: Path, *, load: bool = False, model_problems: Sequence[str] | None = None) -> FolderReport:
    """Examine a folder.

    Args:
        load: also import the folder's code in a fresh process without this package. This runs the code.
        model_problems: the result of `examine_folder`, if it is known.

    Raises:
        InputError: the folder does not exist, or has no readable config.json of a known model.
    """
    problems = list(examine_folder(folder) if model_problems is None else model_problems)
    config = read_saved_config(folder)
    files, left_out = published_and_left_out(folder)
    code = code_problems(folder, config)
    errors, warnings = card_problems(folder)
    if not (folder / "tokenizer_config.json").is_file() and not any("vocab" in problem for problem in problems):
        errors.append("no tokenizer_config.json: save the tokenizer into the folder (tokenizer.save_pretrained)")
    errors += private_traces(folder, files)
    warnings += [
        f"{printable(file.path)} ({readable_size(file.size)}) {_UNWANTED[file.reason]}; kexue-hf push leaves it out"
        for file in left_out
        if file.reason in _UNWANTED
    ]
    if load and not problems and not code:
        code = import_problems(folder, config)
    return FolderReport(folder, problems + code, errors, warnings, files, left_out)


__all__ = ["FolderReport", "folder_report"]
