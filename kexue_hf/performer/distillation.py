"""Train a model with linear attention towards its own softmax, after attention transfer.

    kexue_hf.distil_performer(model, texts, tokenizer, steps=200)

The teacher is a frozen copy whose layers compute softmax. The pupil's feature maps are trained, and low-rank adapters
(LoRA, arXiv 2106.09685, by the package peft) on its other matrices, which are merged at the end: the result is the
same model with other weights. The loss of a text is the mean over layers of the relative squared error of its hidden
states, plus 1 - cosine of the mean of the last ones. If the model has a masked-language-model head, its texts are
masked, and a tenth of the mean cross entropy of the masked tokens is added.

Every text of a step has the same weight (incomplete batches are dropped if there are complete ones), so accumulated
batches and several processes make the steps of one large batch. transformers' `Trainer` runs the steps; dropout is
off. Nothing is written meanwhile and nothing can be resumed, because the training is short.
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
from kexue_hf.performer.layer_comparison import observed_softmax
from kexue_hf.performer.transfer import Clock, text_length
from kexue_hf.pipelines.evaluation_mode import evaluating

# Share of masked tokens, if the model has a head that predicts them.
MASKED = 0.15
# Weights relative to the hidden states, whose relative squared error is a few hundredths.
POOLED_WEIGHT = 1.0
TOKEN_WEIGHT = 0.1
# Layers without adapters: those that the loss does not reach, and heads, which must read softmax's states.
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
        model: a model with feature maps, from `use_performer` or of type performer_bert, without adapters.
        texts: strings; they are read repeatedly, in random order.
        steps: optimizer steps; each uses `batch_size` times `accumulate` texts in every process.
        learning_rate, map_learning_rate: learning rates of AdamW for adapters and for maps, with cosine decay to 0.
        rank: rank of the adapters; 0 trains the maps alone, None all weights of the model, without adapters.
        max_length: tokens per text; by default 256, or the model's maximum if that is less.
        evaluate: called with the pupil every `evaluate_every` steps and at the end; its figures join the curve.
        minutes: time limit for starting a step; the learning rates decay by steps or time, whichever is further along.
            The number of steps then depends on the machine (of several processes, on the first).
        seed: seed of order, masks and adapters.
        quiet: whether to hide the progress.

    Returns:
        The model with merged adapters, and the curve: each entry has `step`, and `loss` or the figures of `evaluate`.

    Raises:
        InputError: the model has no maps or several tasks, there is no text, an option is out of range, or peft is
            missing and `rank` requires it. After any error the adapters are removed; training up to then remains.
    """
    maps = [module for module in model.modules() if isinstance(module, FeatureMap)]
    if not maps:
        raise InputError("the model has no feature maps: add them with kexue_hf.use_performer(model, 'learned')")
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
    modes = contextlib.ExitStack()
    modes.enter_context(evaluating(model))
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    use_cache = getattr(model.config, "use_cache", None)
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    pupil = None
    try:
        pupil = _with_adapters(model, rank, seed) if rank else model.requires_grad_(rank is None)
        for feature_map in maps:
            feature_map.requires_grad_(True)
        map_parameters = {id(parameter) for feature_map in maps for parameter in feature_map.parameters()}
        parameters = [parameter for parameter in pupil.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in parameters if (id(p) in map_parameters) == mine], "lr": group_rate}
            for mine, group_rate in ((False, learning_rate), (True, map_learning_rate))
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], betas=(0.9, 0.98), weight_decay=0.0
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, clock.rate)
        with tempfile.TemporaryDirectory() as directory, _always_linear(model):
            arguments = TrainingArguments(
                output_dir=directory, max_steps=steps, per_device_train_batch_size=batch_size,
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
        # Trainer changes it while training.
        if use_cache is not None:
            model.config.use_cache = use_cache
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted.get(name, True))
            parameter.grad = None
        modes.close()
    return model, curve.points


def collator(model: Any, tokenizer: Any) -> Any:
    """Return a collator that pads texts, and masks them if the model has a masked-word head."""
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
    """Return the loss of each text, [texts], from two outputs with hidden states.

    Args:
        real: [texts, length], nonzero where a token is real.
        labels: [texts, length], -100 where nothing is predicted; None without a head.
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
        # The loss is a mean over texts; Trainer divides it by the number of accumulated batches.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        # Evaluation mode turns off dropout, as in the teacher.
        model.eval()
        inputs = dict(inputs)
        labels = inputs.pop("labels", None)
        with torch.no_grad(), observed_softmax(lambda *_: None):
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
            "adapters need the package peft: pip install 'kexue-hf[recovery]'; without it, rank=0 trains the maps "
            "alone and rank=None all weights"
        ) from None
    torch.manual_seed(seed)
    settings = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", exclude_modules=_UNUSED
    )
    return get_peft_model(model, settings)


@contextlib.contextmanager
def _always_linear(model: Any) -> Iterator[None]:
    """Make a Performer BERT linear at every length within the block."""
    if not hasattr(model.config, "attention_switch_length"):
        yield
        return
    switch, model.config.attention_switch_length = model.config.attention_switch_length, None
    try:
        yield
    finally:
        model.config.attention_switch_length = switch


__all__ = ["collator", "distil_performer", "has_masked_head", "text_losses"]
