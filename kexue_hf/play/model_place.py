"""Where the model of a player lies, checked before torch is imported."""

from pathlib import Path

from kexue_hf.errors import InputError
from kexue_hf.files.hub_names import check_model_name
from kexue_hf.files.regular_file import check_folder

PACKAGED = Path(__file__).parents[1] / "assets" / "xiangqi_small"


def model_place(name: str | Path | None) -> str:
    """Return the folder or the name on the Hub; for None, the folder of the model in the package.

    Raises:
        InputError: it cannot be the folder of a model, or the package has none.
    """
    if name is None:
        if not (PACKAGED / "config.json").exists():
            raise InputError("this installation has no packaged model of xiangqi; name the folder of one")
        return str(PACKAGED)
    text = str(name)
    if not text.strip():
        raise InputError("no model: expected a folder or a name on the Hub, got an empty string")
    path = Path(text)
    if path.is_file():
        raise InputError(f"{text} is a file; expected the folder of a transformers model")
    if path.is_dir():
        if not (path / "config.json").exists():
            raise InputError(f"{text}: no config.json here; expected the folder of a transformers model")
        check_folder(text)
    return check_model_name(text)


__all__ = ["PACKAGED", "model_place"]
