"""Texts that a language model writes while it trains, for rewards of whole texts."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from kexue_hf.errors import InputError
from kexue_hf.losses.items import IGNORED

# Settings of `generate` that change the distribution, and the values with which they do not.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "min_p": (None, 0.0), "typical_p": (None, 1.0), "top_h": (None,), "epsilon_cutoff": (None, 0.0),
    "eta_cutoff": (None, 0.0), "min_length": (None, 0), "min_new_tokens": (None, 0), "bad_words_ids": (None,),
    "begin_suppress_tokens": (None,), "forced_bos_token_id": (None,), "forced_eos_token_id": (None,),
}  # fmt: skip


@dataclass(frozen=True)
class SampledTexts:
    """Samples of each row's prompt, the samples of a row beside each other.

    Attributes:
        inputs: what the model takes, without labels: prompts padded on the left, then what was written.
        labels: ids of what was written [rows x samples, length], -100 elsewhere.
        predictions: the same ids without the prompt's columns.
        references: the rows' own targets [rows x samples, longest], -100 behind their ends.
        suppressed: ids that `generate` never writes, because of the model's generation configuration.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    predictions: torch.Tensor
    references: torch.Tensor
    suppressed: list[int]


def sample_texts(
    model: Any, inputs: dict[str, torch.Tensor], samples: int, max_new_tokens: int
) -> SampledTexts | None:
    """Sample continuations of the prompts, the tokens before the first label, from the model's own distribution.

    Dropout is off and the generation configuration's temperature, top-k, top-p and penalties are not used.

    Args:
        model: an unwrapped UniLM or causal language model with `generate`.
        inputs: `input_ids`, `labels` and maybe `attention_mask` and `token_type_ids`, as for ordinary training. With
            `token_type_ids`, written tokens get the type 1.

    Returns:
        None if no row has labels.

    Raises:
        InputError: a row has labels and no prompt.
    """
    written = inputs["labels"] != IGNORED
    written = written[written.any(-1)]
    if not len(written):
        return None
    chosen = (inputs["labels"] != IGNORED).any(-1)
    ids, labels = inputs["input_ids"][chosen], inputs["labels"][chosen]
    mask = inputs["attention_mask"][chosen] if "attention_mask" in inputs else torch.ones_like(ids)
    places = torch.arange(ids.shape[1], device=ids.device)
    prompt = (mask != 0) & (places < written.int().argmax(-1, keepdim=True))
    if not bool(prompt.any(-1).all()):
        raise InputError(
            "a row has labels from its first token on; prompts need at least one token with the label -100"
        )
    settings = model.generation_config
    for name, neutral in _NEUTRAL.items():
        if getattr(settings, name, None) not in neutral:
            raise InputError(
                f"generation_config.{name} is {getattr(settings, name)!r}, which samples from another distribution "
                f"than the loss differentiates: set it to {neutral[0]}"
            )
    end = settings.eos_token_id
    ends = torch.tensor([end] if isinstance(end, int) else end or [], device=ids.device, dtype=torch.long)
    pad = next(
        (one for one in (settings.pad_token_id, getattr(model.config, "pad_token_id", None)) if one is not None), 0
    )
    prompts, prompt_mask = _to_the_left(ids, prompt, pad)
    prompts, prompt_mask = (each.repeat_interleave(samples, 0) for each in (prompts, prompt_mask))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            whole = model.generate(
                input_ids=prompts, attention_mask=prompt_mask, max_new_tokens=max_new_tokens, pad_token_id=pad,
                do_sample=True, num_beams=1, temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0,
                no_repeat_ngram_size=0, return_dict_in_generate=False,
            )  # fmt: skip
    finally:
        model.train(training)
    new = whole[:, prompts.shape[1] :]
    ended = torch.isin(new, ends)
    # The first end belongs to the text.
    real = (ended.cumsum(-1) - ended.long()) == 0
    full_mask = torch.cat([prompt_mask, real.to(prompt_mask.dtype)], -1)
    batch = {"input_ids": whole, "attention_mask": full_mask}
    if "token_type_ids" in inputs:
        batch["token_type_ids"] = torch.cat([torch.zeros_like(prompts), torch.ones_like(new)], -1)
    if "position_ids" in inspect.signature(model.forward).parameters:
        batch["position_ids"] = (full_mask.cumsum(-1) - 1).clamp(min=0)
    predictions = new.masked_fill(~real, IGNORED)
    references, kept = _to_the_left(labels, written, IGNORED)
    return SampledTexts(
        inputs=batch,
        labels=torch.cat([torch.full_like(prompts, IGNORED), predictions], -1),
        predictions=predictions,
        references=_to_the_right(references, kept).repeat_interleave(samples, 0),
        suppressed=list(settings.suppress_tokens or []),
    )


def joined_rows(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return two batches of texts as one, padded on the right; only what the first holds."""
    second = dict(second)
    if "attention_mask" not in second:
        second["attention_mask"] = torch.ones_like(second["input_ids"])
    if "position_ids" in first:
        second.setdefault("position_ids", (second["attention_mask"].cumsum(-1) - 1).clamp(min=0))
    length = max(first["input_ids"].shape[1], second["input_ids"].shape[1])
    found = {}
    for name, rows in first.items():
        padding = IGNORED if name == "labels" else 0
        padded = [functional.pad(each, (0, length - each.shape[1]), value=padding) for each in (rows, second[name])]
        found[name] = torch.cat(padded)
    return found


def _to_the_left(values: torch.Tensor, kept: torch.Tensor, padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the kept values of each row with padding before them, and their mask."""
    width = int(kept.sum(-1).max())
    order = kept.int().argsort(dim=-1, stable=True)[:, -width:]
    mask = kept.gather(-1, order)
    return values.gather(-1, order).masked_fill(~mask, padding), mask.long()


def _to_the_right(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return values.gather(-1, mask.argsort(dim=-1, stable=True, descending=True))


def text_log_probabilities(logits: torch.Tensor, texts: SampledTexts) -> torch.Tensor:
    """Return the log probability of each sampled text [rows x samples].

    Args:
        logits: [rows x samples, length, vocabulary], scores of the token after each token.
    """
    logits, labels = logits[:, :-1].float(), texts.labels[:, 1:]
    if texts.suppressed:
        excluded = torch.tensor(texts.suppressed, device=logits.device)
        logits = logits.index_fill(-1, excluded[excluded < logits.shape[-1]], -torch.inf)
    kept = labels != IGNORED
    chosen = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    return chosen.where(kept, 0.0).sum(-1)


__all__ = ["SampledTexts", "joined_rows", "sample_texts", "text_log_probabilities"]
