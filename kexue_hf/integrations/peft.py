"""PEFT's defaults for our models: adapters without `target_modules` go where they go in a BERT.

Our layers have BERT's names, so that its entry of each of PEFT's tables holds for them (tried: PEFT 0.15 and 0.21).
"""

import warnings
from types import ModuleType


def register_target_modules(module: ModuleType, model_types: tuple[str, ...]) -> None:
    """Add our model types to the tables in `peft.utils.constants`, each with the value that "bert" has there."""
    tables = [
        table
        for name, table in vars(module).items()
        if name.startswith("TRANSFORMERS_MODELS_TO_") and isinstance(table, dict) and "bert" in table
    ]
    if not tables:
        warnings.warn(
            "this PEFT has no tables of target modules where PEFT 0.21 has them: name target_modules yourself, "
            '["query", "value"] for models of kexue_hf',
            stacklevel=2,
        )
    for table in tables:
        for model_type in model_types:
            table.setdefault(model_type, table["bert"])
