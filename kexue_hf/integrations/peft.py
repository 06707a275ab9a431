"""Add our model types to PEFT's tables of default target modules, so that adapters go where they go in a BERT.

The layers of our models have BERT's names, so BERT's entry of each table holds for them.
"""

import importlib

from kexue_hf.integrations.auto_classes import MODEL_TYPES
from kexue_hf.integrations.hooks import Losses


def register_target_modules(losses: Losses) -> None:
    """Add our model types to the tables in `peft.utils.constants`, each with the value of "bert"."""
    for name, table in vars(importlib.import_module("peft.utils.constants")).items():
        if name.startswith("TRANSFORMERS_MODELS_TO_") and isinstance(table, dict) and "bert" in table:
            for model_type in MODEL_TYPES:
                table.setdefault(model_type, table["bert"])


__all__ = ["register_target_modules"]
