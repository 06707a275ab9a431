"""What is wrong with a folder before it is published, and what would be published. `kexue-hf doctor` prints it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kexue_hf.errors import printable
from kexue_hf.hub.card_fields import card_problems
from kexue_hf.hub.folder_files import (
    LINK,
    PICKLE,
    SPECIAL,
    TRAINING,
    FolderFile,
    published_and_left_out,
    readable_size,
)
from kexue_hf.hub.private_traces import private_traces
from kexue_hf.hub.remote_code import code_problems, import_problems, needed_code
from kexue_hf.hub.saved_model import (
    examine_folder,
    foreign_type,
    needed_shards,
    read_saved_config,
    word_problems,
)

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
        is_foreign: whether the model is one of another library, whose weights and vocabulary were not examined.
    """

    folder: Path
    model_problems: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: list[FolderFile] = field(default_factory=list)
    left_out: list[FolderFile] = field(default_factory=list)
    is_foreign: bool = False

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


def folder_report(folder: Path, *, load: bool = False) -> FolderReport:
    """Examine a folder. Of a model of another library, only files, card and code are examined.

    Args:
        load: also import the folder's code in a fresh process without this package. This runs the code.

    Raises:
        InputError: the folder does not exist, or has no readable config.json with a model type.
    """
    config = read_saved_config(folder)
    foreign = foreign_type(config)
    problems = examine_folder(folder) if foreign is None else word_problems(folder, config)
    files, left_out = published_and_left_out(folder)
    code = code_problems(folder, config)
    errors, warnings = card_problems(folder)
    if foreign is not None:
        what = f"{foreign!r:.60} is not a model type of kexue_hf"
        warnings.insert(0, f"{what}: weights and vocabulary were not examined")
        if not any(file.path.endswith(".safetensors") for file in files):
            errors.append("no file of weights (*.safetensors) would be published")
    if not (folder / "tokenizer_config.json").is_file() and not any("vocab" in problem for problem in problems):
        errors.append("no tokenizer_config.json: save the tokenizer into the folder (tokenizer.save_pretrained)")
    errors += _lost_files(left_out, needed_code(folder, config) | needed_shards(folder))
    errors += private_traces(folder, files)
    warnings += [
        f"{file.path} ({readable_size(file.size)}) {_UNWANTED[file.reason]}; kexue-hf push leaves it out"
        for file in left_out
        if file.reason in _UNWANTED
    ]
    if load and not problems and not code:
        code = import_problems(folder, config, files)
    # Names and texts from the folder may hold what a terminal obeys.
    model, others, remarks = (
        [printable(text, 1000) for text in found] for found in (problems + code, errors, warnings)
    )
    return FolderReport(folder, model, others, remarks, files, left_out, is_foreign=foreign is not None)


def _lost_files(left_out: Sequence[FolderFile], needed: Collection[str]) -> list[str]:
    """Return a line for each file that readers need or expect, and do not get."""
    lost = []
    for file in left_out:
        if file.reason == LINK:
            lost.append(f"{file.path} is a link, and not to a published file: replace it by the file, or remove it")
        elif file.reason == SPECIAL:
            lost.append(f"{file.path} is a pipe, a socket or a device, not a file: remove it")
        elif any(name == file.path or (file.path.endswith("/") and name.startswith(file.path)) for name in needed):
            lost.append(f"{file.path} is needed, and is not published because of its name ({file.reason}): rename it")
    return lost


__all__ = ["FolderReport", "folder_report"]
