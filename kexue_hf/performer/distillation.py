"""Train a model with linear attention towards the softmax model that it was: after attention transfer, the rest.

    kexue_hf.distil_performer(model, texts, tokenizer, steps=200)

The teacher is a frozen copy whose layers compute softmax. The pupil's feature maps are trained, and adapters of low
rank (LoRA, arXiv 2106.09685, by the package peft) on its other matrices, which are merged into them at the end: what
is left is the model with other numbers. The loss of a text is the mean over layers of the relative squared error of
its hidden states, and 1 - cosine of the mean of the last ones; where a model has a masked-language-model head its
texts are masked, and a tenth of the mean cross entropy of the masked tokens is added.

Every text of a step counts alike (batches that are not full are left out, if there are full ones), so that accumulated
batches and several processes make the steps of one large batch. Steps are those of transformers' `Trainer`; dropout is
off. Nothing is written on the way and nothing is resumed: it is short.
"""

import contextlib
import copy
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from kexue_hf.errors import InputError
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FeatureMap
from kexue_hf.performer.layer_comparison import watching
from kexue_hf.performer.transfer import Clock, text_length

# Of the tokens, where there is a head that predicts them.
MASKED = 0.15
# Beside the hidden states, whose relative squared error is some hundredths.
POOLED_WEIGHT = 1.0
TOKEN_WEIGHT = 0.1
# Adapters are not put on heads: what the loss does not reach, or what is to predict from softmax's states.
_UNUSED = r".*(pooler|classifier|lm_head|cls|predictions).*"


def distil_performer(
    model: Any,
    texts: Sequence[str],
    tokenizer: Any,
    *,
    steps: int = 200,
    learning_rate: float = 5e-4,
    map_learning_rate: float = 1e-3,
    rank: int | None = 16,
    batch_size: int = 8,
    accumulate: int = 1,
    max_length: int | None = None,
    evaluate: Callable[[Any], dict[str, float]] | None = None,
    evaluate_every: int = 50,
    minutes: float | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> tuple[Any, list[dict[str, float]]]:
    """Train maps and adapters of a model towards its own softmax.

    Args:
        model: one with feature maps, from `use_performer` or of type performer_bert, without adapters.
        texts: strings; they are taken in a random order, again and again.
        steps: of the optimiser; each takes `batch_size` times `accumulate` texts in every process.
        learning_rate, map_learning_rate: of AdamW, for adapters and for maps; both fall to 0 as a cosine.
        rank: of the adapters; 0 trains the maps alone, None all weights of the model, without adapters.
        max_length: tokens of a text; None for 256, or what the model takes if that is less.
        evaluate: called with the pupil every `evaluate_every` steps and at the end; its figures join the curve.
        minutes: begin no step later than that; rates fall with whichever runs out first. The number of steps then
            depends on the machine, of several processes on the first.
        seed: of order, masks and adapters.
        quiet: show no progress.

    Returns:
        The model, adapters merged, and the curve: per entry `step`, and `loss` or the figures of `evaluate`.

    Raises:
        InputError: a model without maps or of several tasks, no text, an option out of range, or adapters are wanted
            and peft is missing. Whatever the error, adapters are taken off again; what has been trained by then
            remains.
    """
    maps = [module for module in model.modules() if isinstance(module, FeatureMap)]
    if not maps:
        raise InputError("the model has no feature maps: attach them with kexue_hf.use_performer(model, 'learned')")
    options = {
        "steps": steps, "batch_size": batch_size, "accumulate": accumulate, "evaluate_every": evaluate_every,
    }  # fmt: skip
    for name, value in options.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if rank is not None and rank < 0:
        raise InputError(f"rank must be None or at least 0, got {rank}")
    rates = {"learning_rate": learning_rate, "map_learning_rate": map_learning_rate}
    for name, rate in rates.items():
        if not 0 < rate < math.inf:
            raise InputError(f"{name} must be a positive number, got {rate}")
    if isinstance(texts, str):
        raise InputError("expected several texts, got a single string: put texts into a list")
    if not len(texts):
        raise InputError("distillation needs at least one text, got none")
    if not rank and rank is not None and not any(True for found in maps for _ in found.parameters()):
        raise InputError("nothing to train: the maps have no parameters and rank is 0; raise rank")
    length = text_length(model, tokenizer, max_length)
    clock = Clock(steps, minutes, together=True)
    modes = [module for module in model.modules() if module.training]
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    use_cache = getattr(model.config, "use_cache", None)
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    pupil = None
    try:
        pupil = _with_adapters(model, rank, seed) if rank else model.requires_grad_(rank is None)
        for feature_map in maps:
            feature_map.requires_grad_(True)
        of_maps = {id(parameter) for feature_map in maps for parameter in feature_map.parameters()}
        parameters = [parameter for parameter in pupil.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in parameters if (id(p) in of_maps) == mine], "lr": its_rate}
            for mine, its_rate in ((False, learning_rate), (True, map_learning_rate))
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], betas=(0.9, 0.98), weight_decay=0.0
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, clock.rate)
        with tempfile.TemporaryDirectory() as nowhere, _always_linear(model):
            arguments = TrainingArguments(
                output_dir=nowhere, max_steps=steps, per_device_train_batch_size=batch_size,
                gradient_accumulation_steps=accumulate, max_grad_norm=1.0, logging_steps=max(1, min(10, steps // 10)),
                save_strategy="no", report_to=[], seed=seed, disable_tqdm=quiet, remove_unused_columns=False,
                use_cpu=model.device.type == "cpu", dataloader_pin_memory=False, ddp_find_unused_parameters=True,
                label_names=["labels"],
            )  # fmt: skip
            arguments.dataloader_drop_last = len(texts) >= batch_size * arguments.world_size
            trainer = _Distillation(
                teacher,
                model=pupil,
                args=arguments,
                train_dataset=_Tokenised(texts, tokenizer, length),
                data_collator=collator(model, tokenizer),
                optimizers=(optimizer, schedule),
            )
            curve = _Curve(evaluate, evaluate_every, clock)
            trainer.add_callback(curve)
            if quiet:
                from transformers import PrinterCallback

                trainer.remove_callback(PrinterCallback)
            trainer.train()
        if rank:
            pupil.merge_and_unload()
            pupil = None
    finally:
        if rank and pupil is not None:
            pupil.unload()
        # Trainer sets it as it trains.
        if use_cache is not None:
            model.config.use_cache = use_cache
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted.get(name, True))
            parameter.grad = None
        model.eval()
        for module in modes:
            module.training = True
    return model, curve.points


def collator(model: Any, tokenizer: Any) -> Any:
    """Pads texts; masks them where the model has a head that predicts masked tokens."""
    if has_masked_head(model) and getattr(tokenizer, "mask_token_id", None) is not None:
        return DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
    return DataCollatorWithPadding(tokenizer)


def has_masked_head(model: Any) -> bool:
    return type(model).__name__.endswith("ForMaskedLM")


class _Tokenised(torch.utils.data.Dataset):
    def __init__(self, texts: Sequence[str], tokenizer: Any, max_length: int) -> None:
        self.texts, self.tokenizer, self.max_length = texts, tokenizer, max_length

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.tokenizer(self.texts[index], truncation=True, max_length=self.max_length)
        return dict(row)


def text_losses(pupil: Any, teacher: Any, real: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """[texts]: what is minimised, of two outputs with hidden states.

    Args:
        real: [texts, length], not 0 where a token is real.
        labels: [texts, length], -100 where nothing is to be predicted; None without a head.
    """
    real = real[..., None].to(pupil.hidden_states[-1].dtype)
    total: Any = 0.0
    for mine, wanted in zip(pupil.hidden_states[1:], teacher.hidden_states[1:], strict=True):
        error = ((mine - wanted) * real).square().sum((1, 2))
        total = total + error / (wanted * real).square().sum((1, 2)).clamp_min(1e-12)
    total = total / max(1, len(pupil.hidden_states) - 1)
    means = [(side.hidden_states[-1] * real).sum(1) / real.sum(1).clamp_min(1.0) for side in (pupil, teacher)]
    total = total + POOLED_WEIGHT * (1 - nn.functional.cosine_similarity(means[0], means[1], dim=-1))
    if labels is not None and getattr(pupil, "logits", None) is not None:
        entropies = nn.functional.cross_entropy(pupil.logits.mT.float(), labels, reduction="none", ignore_index=-100)
        total = total + TOKEN_WEIGHT * entropies.sum(1) / (labels != -100).sum(1).clamp_min(1)
    return total


class _Distillation(Trainer):
    def __init__(self, teacher: Any, **options: Any) -> None:
        super().__init__(**options)
        self.teacher = teacher
        # The loss is a mean over texts, which Trainer then divides by the number of accumulated batches.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        # Without dropout, which the teacher has not either.
        model.eval()
        inputs = dict(inputs)
        labels = inputs.pop("labels", None)
        with torch.no_grad(), watching(lambda *_: None):
            wanted = self.teacher.to(inputs["input_ids"].device)(**inputs, output_hidden_states=True)
        found = model(**inputs, output_hidden_states=True)
        real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        loss = text_losses(found, wanted, real, labels).mean()
        return (loss, found) if return_outputs else loss


class _Curve(TrainerCallback):
    def __init__(self, evaluate: Callable[[Any], dict[str, float]] | None, every: int, clock: Clock) -> None:
        self.evaluate, self.every, self.clock = evaluate, every, clock
        self.points: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.points.append({"step": state.global_step, "loss": float(logs["loss"])})

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        step = state.global_step
        ends = self.clock.share(step) >= 1
        control.should_training_stop = control.should_training_stop or ends
        if self.evaluate is not None and (step % self.every == 0 or ends):
            model.eval()
            with torch.no_grad():
                self.points.append({"step": step, **self.evaluate(model)})


def _with_adapters(model: Any, rank: int, seed: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InputError(
            "adapters need another package: pip install 'kexue-hf[recovery]' (or peft); without one rank=0 trains the "
            "maps alone, rank=None all weights"
        ) from None
    torch.manual_seed(seed)
    settings = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", exclude_modules=_UNUSED
    )
    return get_peft_model(model, settings)


@contextlib.contextmanager
def _always_linear(model: Any) -> Iterator[None]:
    """A Performer BERT is linear at every length within the block."""
    if not hasattr(model.config, "attention_switch_length"):
        yield
        return
    switch, model.config.attention_switch_length = model.config.attention_switch_length, None
    try:
        yield
    finally:
        model.config.attention_switch_length = switch


__all__ = ["collator", "distil_performer", "has_masked_head", "text_losses"]
