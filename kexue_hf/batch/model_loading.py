"""Load a model with its tokenizer, and check them before they are used: for the commands and for batches."""

import contextlib
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError
from kexue_hf.files.model_folder import check_model_place
from kexue_hf.files.quiet_loading import chosen_device, first_line, quiet_libraries
from kexue_hf.vocabulary.tokenizer_check import check_pairing

DTYPES = ("auto", "float32", "float16", "bfloat16")


def load_masked_lm(name: str, device: str = "auto", dtype: str = "auto") -> tuple[Any, Any]:
    """Return a masked language model, in evaluation mode on its device, and its tokenizer.

    Args:
        name: a folder, or a name on the Hub.
        device: a torch device; `auto` takes a CUDA GPU if there is one.
        dtype: `auto` keeps the type in the file, but computes float16 in float32 on a CPU, where that is faster.

    Raises:
        InputError: the model cannot be loaded or has no MLM head, the tokenizer belongs to another model, or the
            device does not exist.
    """
    return _load(name, "AutoModelForMaskedLM", "a masked language model", device, dtype)


def load_encoder(name: str, device: str = "auto", dtype: str = "auto") -> tuple[Any, Any]:
    """Return a text encoder without its head, and its tokenizer. Arguments as in `load_masked_lm`.

    Raises:
        InputError: as `load_masked_lm`; or the model has a decoder, or encodes more than text.
    """
    return _load(name, "AutoModel", "an encoder", device, dtype)


def load_text_matcher(name: str, device: str = "auto", dtype: str = "auto") -> tuple[Any, Any]:
    """Return a matcher, or another two-class classifier of text pairs, and its tokenizer.

    Arguments as in `load_masked_lm`.

    Raises:
        InputError: as `load_masked_lm`; or the model does not have two classes.
    """
    from kexue_hf.pipelines.text_matching import task_names

    kind = "a two-class classifier of text pairs"
    model, tokenizer = _load(name, "AutoModelForSequenceClassification", kind, device, dtype)
    try:
        task_names(model)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    return model, tokenizer


def load_with_head(name: str, device: str = "auto", dtype: str = "auto") -> tuple[Any, Any]:
    """Return an encoder or a decoder, with the language model head that its configuration names, and its tokenizer.

    Arguments as in `load_masked_lm`.

    Raises:
        InputError: as `load_encoder`.
    """
    place = check_model_place(name)
    import transformers

    architectures = ""
    with contextlib.suppress(Exception), quiet_libraries():  # `_load` reports the problem
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
        architectures = " ".join(config.architectures or [])
    if "ForMaskedLM" in architectures or "ForPreTraining" in architectures:
        return load_masked_lm(name, device, dtype)
    if "ForCausalLM" in architectures or "LMHeadModel" in architectures:
        return _load(name, "AutoModelForCausalLM", "a causal language model", device, dtype)
    return load_encoder(name, device, dtype)


def _load(name: str, auto_class: str, kind: str, device: str, dtype: str) -> tuple[Any, Any]:
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    place = check_model_place(name)
    import torch
    import transformers

    from kexue_hf.pipelines.own_tokenizer import check_tokenizer

    target = chosen_device(device)
    with quiet_libraries():
        try:
            model, found = getattr(transformers, auto_class).from_pretrained(
                place,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                output_loading_info=True,
                trust_remote_code=False,
            )
        except Exception as error:
            raise InputError(_no_model(name, kind, error)) from error
        if auto_class == "AutoModel":
            _check_encoder(model.config, name)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        except Exception as error:
            raise InputError(f"{name}: its tokenizer cannot be loaded ({first_line(error)})") from error
        problems = check_pairing(model, tokenizer)
    # transformers initialises BERT's pooler if the file has none; no command uses it.
    if missing := sorted(key for key in found["missing_keys"] if "pooler." not in key):
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise InputError(f"{name} lacks weights of {kind} ({shown}): use a model that was trained as one")
    if not problems:
        try:
            check_tokenizer(model, tokenizer, strict=True)
        except ValueError as error:
            problems = [str(error)]
    if problems:
        raise InputError(f"{name}: the tokenizer does not belong to the model: {'; '.join(problems)}")
    # Most CPUs have no arithmetic of float16.
    is_slow = dtype == "auto" and target.type == "cpu" and model.dtype == torch.float16
    # A quantized model has types of its own, and refuses even the question for another one.
    is_slow = is_slow and getattr(model, "quantization_method", None) is None
    try:
        model = model.to(target)
        return (model.to(torch.float32) if is_slow else model).eval(), tokenizer
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device}: {first_line(error)}") from error


def _check_encoder(config: Any, name: str) -> None:
    kind = type(config).__name__
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(f"{name} is an encoder with a decoder ({kind}); expected an encoder only, such as BERT")
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers")
    if missing := [size for size in sizes if not isinstance(getattr(config, size, None), int)]:
        raise InputError(f"{name} is not a text encoder ({kind} has no {missing[0]}); expected one, such as BERT")


def _no_model(name: str, kind: str, error: Exception) -> str:
    reason = first_line(error)
    if "Unrecognized configuration class" in reason:
        other = getattr(error, "args", [""])[0].split("<class '")[-1].split("'>")[0].rpartition(".")[2]
        return f"{name} is not {kind} ({other or 'another kind'})"
    if not Path(name).exists():
        return f"{name} is not a folder, and cannot be downloaded from the Hub ({reason})"
    return f"{name} cannot be loaded as {kind} ({reason})"


__all__ = ["DTYPES", "load_encoder", "load_masked_lm", "load_text_matcher", "load_with_head"]
