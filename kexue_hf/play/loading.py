"""Load the model of a player: a policy and, if the file has one, a value head, on one trunk."""

from pathlib import Path
from typing import Any

import torch
import transformers

from kexue_hf.errors import InputError
from kexue_hf.files.quiet_loading import chosen_device, first_line, quiet_libraries
from kexue_hf.play.model_place import model_place
from kexue_hf.vocabulary.tokenizer_check import check_pairing


def load_parts(name: str | Path | None, device: str) -> tuple[Any, Any, torch.nn.Module | None]:
    """Return a causal language model of games, its tokenizer, and its value head or None.

    Args:
        name: a folder, or a name on the Hub; None for the model in the package.
        device: a torch device; `auto` takes a CUDA GPU if there is one.

    Raises:
        InputError: the model cannot be loaded or is no Xiangqi GPT, the tokenizer belongs to another model, or the
            device does not exist.
    """
    place = model_place(name)
    target = chosen_device(device)
    with quiet_libraries():
        try:
            config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
        except Exception as error:
            raise InputError(f"{place}: cannot be loaded ({first_line(error)})") from error
        if config.model_type != "xiangqi_gpt":
            raise InputError(f"{place}: expected a model of type xiangqi_gpt, got {config.model_type}")
        model, missing = _load(transformers.AutoModelForCausalLM, place, config)
        if missing:
            raise InputError(
                f"{place} lacks weights of a causal language model ({missing[0]}): use a model that was trained as one"
            )
        value_head = model.classifier
        if value_head is None:
            value_head = _value_head(transformers.AutoModelForSequenceClassification, place, config)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        except Exception as error:
            raise InputError(f"{place}: its tokenizer cannot be loaded ({first_line(error)})") from error
        problems = check_pairing(model, tokenizer)
    if problems:
        raise InputError(f"{place}: the tokenizer does not belong to the model: {'; '.join(problems)}")
    try:
        return model.to(target).eval(), tokenizer, None if value_head is None else value_head.to(target).eval()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device}: {first_line(error)}") from error


def _load(auto_class: Any, place: str, config: Any) -> tuple[Any, list[str]]:
    """Return a model, and the names of its weights that the file lacks."""
    try:
        model, found = auto_class.from_pretrained(
            place, config=config, output_loading_info=True, trust_remote_code=False, dtype="float32"
        )
    except Exception as error:
        raise InputError(f"{place} cannot be loaded ({first_line(error)})") from error
    return model, sorted(found["missing_keys"])


def _value_head(auto_class: Any, place: str, config: Any) -> torch.nn.Module | None:
    """Return the classifier alone: its trunk is that of the policy, so it is not kept twice."""
    model, missing = _load(auto_class, place, config)
    return None if missing else model.classifier


__all__ = ["load_parts"]
