"""`kexue-hf push`: check a folder, then upload it to the Hub in one commit."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from kexue_hf.cli.doctor import not_ready, report_of
from kexue_hf.errors import InputError, KexueError, printable


def add_commands(app: typer.Typer) -> None:
    """Add `push` to the command line."""
    app.command("push")(push)


def push(
    folder: Annotated[Path, typer.Argument(help="A saved model folder.")],
    repository: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the Hub, or a NAME of yours.")],
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public",
            help="Visibility of the repository; an existing one must have it.",
            show_default="yours",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch to commit to; created if it is missing.", show_default="main")
    ] = None,
    message: Annotated[str, typer.Option(help="Commit message.")] = "Upload model",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and list the files, and stop. Needs no network.")
    ] = False,
    load: Annotated[
        bool,
        typer.Option("--load/--no-load", help="Import the folder's code in a fresh process without kexue_hf first."),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Upload despite errors of the check.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report and the commit as JSON.")] = False,
) -> None:
    """Check FOLDER as `doctor` does, and upload it to REPO in one commit.

    The token is that of `hf auth login`, or HF_TOKEN. Checkpoints, optimizer state, pickles and hidden files are left
    out.
    """
    from kexue_hf.hub.card_fields import CARD, read_card
    from kexue_hf.hub.card_names import other_repository
    from kexue_hf.hub.folder_files import readable_size
    from kexue_hf.hub.upload import check_repository_name, upload_folder

    if not message.strip():
        raise InputError("--message must not be empty")
    check_repository_name(repository)
    unpublished = {"commit": None, "new_commit": False}
    report = report_of(folder, load=load, json_facts=unpublished if as_json else None)
    card = None if report.all_errors or "/" not in repository else read_card(folder)
    if card is not None and (other := other_repository(card, repository)) is not None:
        report.warnings.append(f"the code in {CARD} loads {printable(other)}; it was edited, so it stays")
    if not as_json:
        for file in report.files:
            print(f"{readable_size(file.size):>10}  {printable(file.path)}")
        for file in report.left_out:
            print(f"{readable_size(file.size):>10}  {printable(file.path)}  left out: {file.reason}")
        print("\n".join(report.lines()))
    if report.all_errors and not force:
        if as_json:
            print(json.dumps({**report.to_dict(), **unpublished}, ensure_ascii=False))
        raise InputError(f"{not_ready(report)}; nothing was uploaded")
    done = None
    if not dry_run:
        sys.stdout.flush()
        try:
            done = upload_folder(folder, report.files, repository, private=private, revision=revision, message=message)
        except (KexueError, OSError) as error:
            if as_json:
                report.errors.append(str(error))
                print(json.dumps({**report.to_dict(), **unpublished}, ensure_ascii=False))
            raise
    if as_json:
        published = {"commit": done.commit, "new_commit": done.is_new} if done else unpublished
        print(json.dumps({**report.to_dict(), **published}, ensure_ascii=False))
    elif done is None:
        print(f"dry run: nothing was uploaded; without --dry-run, it goes to {_target(repository)}")
    else:
        if done.is_renamed:
            print("the code in the uploaded README.md loads the repository, not the folder")
        print(f"uploaded: {done.commit}" if done.is_new else f"no new commit, all files are in {done.commit}")


def _target(repository: str) -> str:
    """Return where a push goes. Who owns a repository without an owner is known to the Hub only."""
    if "/" in repository:
        return repository
    return f"OWNER/{repository}, where OWNER is the account of your token (name it as OWNER/{repository} to be sure)"


__all__ = ["add_commands"]
