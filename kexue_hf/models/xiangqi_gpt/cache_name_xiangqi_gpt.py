# Copied from cache_name_wobert.py
"""The name of the key/value cache: `cache` from transformers 5.24 on, `past_key_values` before.

A saved copy of the code may run under either version. The forward passes accept both names and pass on the installed
version's.
"""

import warnings
from dataclasses import fields
from typing import Any

import torch
from transformers.modeling_outputs import CausalLMOutputWithPast

CACHE = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"
CACHE_NAMES = ("cache", "past_key_values")


def given_cache(cache: Any, past_key_values: Any) -> Any:
    """Return whichever of the two is not None, or None; warn about the old name as transformers' own models do.

    Raises:
        ValueError: both are given.
    """
    if cache is not None and past_key_values is not None:
        raise ValueError("cache and past_key_values are two names of one argument, got both: give only one")
    if past_key_values is not None and CACHE == "cache" and not torch.compiler.is_compiling():
        # The frames up to the caller are forward, can_return_tuple and two of torch's Module.
        warnings.warn("`past_key_values` is deprecated, transformers 5.24 says `cache`", FutureWarning, stacklevel=6)
    return past_key_values if cache is None else cache


def under_installed_name(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `generate` with the cache, if any, under the installed version's name."""
    given = [options[name] for name in CACHE_NAMES if options.get(name) is not None]
    if len(given) > 1:
        raise ValueError("cache and past_key_values are two names of one argument, got both: give only one")
    cache = given[0] if given else None
    others = {name: value for name, value in options.items() if name not in CACHE_NAMES}
    return others if cache is None else {**others, CACHE: cache}


__all__ = ["CACHE", "CACHE_NAMES", "given_cache", "under_installed_name"]
