"""`kexue-hf card`: write the model card of a folder, or complete the one that it has."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from kexue_hf.errors import InputError, printable


def add_commands(app: typer.Typer) -> None:
    """Add `card` to the command line."""
    app.command("card")(card)


def card(
    folder: Annotated[Path, typer.Argument(help="A saved model folder.")],
    license: Annotated[
        str | None, typer.Option(help="The Hub's id of the licence, like apache-2.0.", show_default=False)
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(help="The Hub's code of a language, like zh. Can be repeated.", show_default=False),
    ] = None,
    base_model: Annotated[
        list[str] | None,
        typer.Option(help="Name on the Hub of the model it started from. Can be repeated.", show_default=False),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Name on the Hub of a data set it was trained on. Can be repeated.", show_default=False),
    ] = None,
    repository: Annotated[
        str | None,
        typer.Option(help="OWNER/NAME on the Hub, for the code that loads the model.", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the fields that you pass, and the sentences on them; without any, all fields and sections.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the card and write nothing.")] = False,
) -> None:
    """Write README.md of FOLDER, or add the fields and the sections that it lacks.

    Text that a person wrote stays as it is, unless you pass --overwrite. The sections of a training's card stay.
    """
    from kexue_hf.files.card_seal import is_untouched, seal
    from kexue_hf.files.whole_file import whole_file
    from kexue_hf.hub.card_completion import complete_card
    from kexue_hf.hub.card_fields import CARD, parse_card, read_card
    from kexue_hf.hub.card_names import other_repository, with_repository
    from kexue_hf.hub.folder_facts import facts_of_folder, with_options
    from kexue_hf.hub.model_card import render_card
    from kexue_hf.hub.upload import check_repository_name

    if repository is not None:
        check_repository_name(repository)
        if "/" not in repository:
            raise InputError(f"--repository {repository}: expected OWNER/NAME")
    facts = with_options(facts_of_folder(folder), license, language, base_model, dataset)
    old = read_card(folder)
    if old is None:
        text = render_card(facts)
    else:
        there = parse_card(old).data
        given = {"license": license, "language": language, "base_model": base_model, "datasets": dataset}
        for field, value in given.items():
            if field == "datasets":  # more of them contradict nothing
                continue
            one = value[0] if isinstance(value, list) and len(value) == 1 else value
            if value and not overwrite and (found := there.get(field)) and found not in (value, one):
                raise InputError(
                    f"{folder / CARD} already has {field} {printable(str(found))}; --overwrite replaces it"
                )
        fields = [field for field, value in given.items() if value] if overwrite else []
        text = complete_card(old, facts, overwrite=overwrite and not fields, fields=fields)
    if repository is not None:
        named = with_repository(text, repository, None if is_untouched(text) else folder)
        text = seal(named) if is_untouched(text) else named
        if (other := other_repository(text, repository)) is not None:
            note = f"note: the code in {folder / CARD} loads {printable(other)}; the card was edited, so this stays"
            print(note, file=sys.stderr)
    if dry_run:
        print(text, end="")
    elif text == old:
        print(f"{folder / CARD} is complete already")
    else:
        with whole_file(folder / CARD, overwrite=True) as file:
            file.write(text)
        print(f"{'wrote' if old is None else 'completed'} {folder / CARD}")


__all__ = ["add_commands"]
