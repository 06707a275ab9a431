"""What a fresh process does with saved folders: load them with this package or without it, run them, save them again.

Nothing of this package is imported here, for a process in which it must not be.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

# The arguments of a tokenizer, one batch each.
Texts = list[list[Any]]


def model_outputs(model: Any, tokenizer: Any, texts: Texts) -> list[np.ndarray]:
    """All outputs for all batches; of a matcher under each task, and under mixed ones."""
    found = []
    for arguments in texts:
        batch = tokenizer(*arguments, padding=True, return_tensors="pt")
        if "MultipleChoice" in type(model).__name__:
            batch = {name: value[:, None] for name, value in batch.items()}
        tasks = getattr(model.config, "task_names", None)
        for task in [*tasks, [0, len(tasks) - 1]] if tasks else [None]:
            with torch.no_grad():
                outputs = model.eval()(**batch, **({} if task is None else {"task_ids": task}))
            found += [value.numpy() for value in outputs.values() if isinstance(value, torch.Tensor)]
    return found


def encodings(tokenizer: Any, texts: Texts) -> Any:
    """The tokenizer's class and size, and its ids, offsets, masks and decoded texts; as JSON has them."""
    found = [type(tokenizer).__name__, len(tokenizer)]
    for arguments in texts:
        given = tokenizer(*arguments, return_offsets_mapping=True, return_special_tokens_mask=True)
        found += [dict(given), tokenizer.batch_decode(given["input_ids"])]
    return json.loads(json.dumps(found))


def count_a_step(model: Any) -> None:
    """A copy of Performer BERT on the Hub must count optimizer steps for its redraws as well."""
    model.train()
    torch.optim.AdamW(model.parameters(), lr=0.0, fused=True).step()
    counts = [int(count) for name, count in model.named_buffers() if name.endswith("favor_map.steps")]
    assert set(counts) == ({1} if model.config.redraw else set()), counts


def main() -> None:
    """Arguments: with or without, texts as JSON, a folder to write to, and AutoClass=folder for each folder."""
    with_package, texts, target = sys.argv[1] == "with", json.loads(sys.argv[2]), Path(sys.argv[3])
    if with_package:
        import kexue_hf  # noqa: F401
    else:
        sys.modules["kexue_hf"] = None  # type: ignore[assignment]  # importing it raises ImportError
    sys.stdin = open(os.devnull)  # noqa: SIM115  # nobody answers whether to trust
    flags = {} if with_package else {"trust_remote_code": True}
    home = "kexue_hf" if with_package else "transformers_modules"
    results, tokenizations = {}, []
    for number, (auto, folder) in enumerate(pair.split("=", 1) for pair in sys.argv[4:]):
        config = transformers.AutoConfig.from_pretrained(folder, **flags)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **flags)
        model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True, **flags)
        own_tokenizer = type(tokenizer).__name__ != "BertTokenizer"
        for made in (config, model, *([tokenizer] if own_tokenizer else [])):
            assert type(made).__module__.startswith(home), type(made)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
        for name in () if with_package else (auto, *(["AutoTokenizer"] if own_tokenizer else [])):
            try:
                getattr(transformers, name).from_pretrained(folder)
            except ValueError:
                continue
            raise SystemExit(f"{name} needs no trust")
        for place, output in enumerate(model_outputs(model, tokenizer, texts)):
            results[f"{number}_{place}"] = output
        tokenizations.append(encodings(tokenizer, texts))
        if config.model_type == "performer_bert":
            count_a_step(model)
    model.save_pretrained(target / "again")
    tokenizer.save_pretrained(target / "again")
    again = getattr(transformers, auto).from_pretrained(target / "again", **flags)
    for one, other in zip(model_outputs(again, tokenizer, texts), model_outputs(model, tokenizer, texts), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    if hasattr(model, "fold_task"):
        model.fold_task(0).save_pretrained(target / "folded")
    np.savez(target / "outputs.npz", **results)
    (target / "tokenizations.json").write_text(json.dumps(tokenizations))


def serve_every_auto_class() -> None:
    """Arguments: a base model's folder, and AutoClass=class for each. What a head lacks is newly initialised."""
    sys.modules["kexue_hf"] = None  # type: ignore[assignment]
    for auto, name in (pair.split("=") for pair in sys.argv[2:]):
        model = getattr(transformers, auto).from_pretrained(sys.argv[1], trust_remote_code=True)
        assert type(model).__name__ == name and type(model).__module__.startswith("transformers_modules"), type(model)
