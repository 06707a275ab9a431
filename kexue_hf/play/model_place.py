"""Where the model of a player lies, checked before torch is imported."""

from pathlib import Path

from kexue_hf.errors import InputError
from kexue_hf.files.model_folder import check_model_place

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
    return check_model_place(name)


__all__ = ["PACKAGED", "model_place"]
