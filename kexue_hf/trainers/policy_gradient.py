"""Training on a metric itself, by policy gradient (https://kexue.fm/archives/7737)."""

import copy
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kexue_hf.errors import InputError
from kexue_hf.losses.items import IGNORED, as_items, logits_of, number_of_items
from kexue_hf.trainers.policy_objective import (
    Reward,
    checked_rewards,
    divergence,
    entropy,
    leave_one_out_advantage,
    likeliest_loss,
    log_probabilities,
    policy_loss,
    with_value,
)
from kexue_hf.trainers.rewards import SetReward
from kexue_hf.trainers.sampled_texts import SampledTexts, joined_rows, sample_texts, text_log_probabilities
from kexue_hf.trainers.whole_checkpoints import AtomicCheckpointTrainer


@dataclass(frozen=True)
class PolicyGradientOptions:
    """How [`PolicyGradientTrainer`] estimates the gradient, and what it adds to the reward.

    Args:
        samples: number of samples where the expectation is not exact; 2 or more. Each sample's baseline is the mean
            reward of the others.
        exact_classes: largest number of classes over which the expectation of a reward of each label is summed
            exactly; 0: always sample. A reward of each row is always sampled, since the combinations are too many.
        entropy: weight of the entropy of the predictions (mean over labels), which keeps them from becoming certain.
        kl: weight of the Kullback-Leibler divergence from the model at the start (mean over labels). Above 0, the
            trainer keeps a frozen copy of the model: as much memory again as the weights, whole on each device, and
            one more forward pass a step.
        mix: weight of the ordinary loss: `compute_loss_func` if given, else cross entropy.
        max_new_tokens: for language models: write texts of at most this length and reward these. None: reward the
            class that is predicted at each label.
    """

    samples: int = 8
    exact_classes: int = 64
    entropy: float = 0.0
    kl: float = 0.0
    mix: float = 0.0
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        for name, low in (("samples", 2), ("exact_classes", 0), ("max_new_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"{name} must be {low} or more, got {value}")
        for name in ("entropy", "kl", "mix"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must be 0 or more and finite, got {value}")


class PolicyGradientTrainer(AtomicCheckpointTrainer):
    """A [`AtomicCheckpointTrainer`] that maximises the expected reward of a model's predictions, instead of a loss.

    For models that classify texts or tokens, with any number of labels, and with `max_new_tokens` for UniLM and causal
    language models that write. Start from a model that was trained with an ordinary loss: a model that is hardly ever
    right gets hardly any gradient. Use a learning rate of a tenth of that training's, or less.

    * The gradient is unbiased: exact for a reward of each label with few classes, else estimated from samples.
    * Rewards of labels are averaged over the labels of the whole accumulated, distributed batch, rewards of rows over
      its rows. A [`SetReward`] is that of the items that go through the model together in one process; the sets of an
      accumulated, distributed batch are averaged, weighted by their items. Prefer large batches to accumulation.
    * The logged loss is minus the mean expected reward (of a `SetReward`: minus the sum of the credits), plus the
      weighted other terms. The loss of an evaluation is minus the mean reward of the likeliest classes; of a model
      that writes, the ordinary loss.
    * Rows without labels, and labels of -100, count for nothing.
    * Sampling uses torch's generator, which a checkpoint holds: a resumed run continues as if never stopped.
    * A model that writes draws samples with dropout off and trains with it on; set dropout to 0 for an unbiased
      gradient. Entropy and divergence are then those of whole texts (mean over rows). FSDP and DeepSpeed ZeRO-3 are
      not supported with `max_new_tokens`. For plain causal models TRL's `RLOOTrainer` offers more.

    Args:
        reward: `reward(predictions, labels)`, see `kexue_hf.trainers.rewards`.
        options: see [`PolicyGradientOptions`].

    Raises:
        InputError: the model writes texts and `max_new_tokens` is missing, or the reverse; in training, a reward is
            not finite or has another shape than the labels or rows, or rows have no labels.
    """

    compute_loss_func: Any

    def __init__(
        self,
        *arguments: Any,
        reward: Reward,
        options: PolicyGradientOptions | None = None,
        **trainer_options: Any,
    ) -> None:
        super().__init__(*arguments, **trainer_options)
        self.reward = reward
        self.options = options or PolicyGradientOptions()
        self._check_kind()
        self.ordinary_loss = self.compute_loss_func or self._cross_entropy
        # Trainer counts the labels of the accumulated batch, and scales the loss, for such a function.
        self.compute_loss_func = self._objective
        self.start_model = self._frozen_copy() if self.options.kl else None
        self.facts = {**self._policy_facts(), **self.facts}
        self._rows: Any = None
        self._training = False
        self._start_logits: torch.Tensor | None = None
        self._texts: SampledTexts | None = None

    def _check_kind(self) -> None:
        model: Any = self.accelerator.unwrap_model(self.model)
        writes = callable(getattr(model, "can_generate", None)) and model.can_generate()
        if self.options.max_new_tokens is None:
            if writes:
                raise InputError(
                    f"{type(model).__name__} writes texts: give max_new_tokens, the length of the texts to sample"
                )
            return
        if not writes or getattr(model.config, "is_encoder_decoder", False):
            raise InputError(
                f"max_new_tokens is for UniLM and causal language models, got {type(model).__name__}: leave it out"
            )
        if isinstance(self.reward, SetReward):
            raise InputError("texts need a reward of each row, got one of a set: use TextReward, or a function")

    def _frozen_copy(self) -> nn.Module:
        start: nn.Module = copy.deepcopy(self.accelerator.unwrap_model(self.model))
        return start.eval().requires_grad_(False)

    def _policy_facts(self) -> dict[str, Any]:
        name = getattr(self.reward, "__qualname__", type(self.reward).__qualname__)
        facts: dict[str, Any] = {"reward": name, "policy gradient": repr(self.options)}
        if self.start_model is not None:
            checksum = 0
            for weights in self.start_model.state_dict().values():
                checksum = zlib.crc32(
                    weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy(), checksum
                )
            facts["checksum of the start"] = checksum
        return facts

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> Any:
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = sum(_rows_with_labels(batch["labels"]) for batch in batches if "labels" in batch)
        if self.args.average_tokens_across_devices:
            if self.args.world_size > 1:
                rows = self.accelerator.gather(torch.as_tensor(rows, device=device)).sum()
            # Trainer multiplies the loss by the number of devices of nn.DataParallel.
            rows = rows * max(1, self.args.n_gpu)
        self._rows = rows
        return batches, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        if inputs.get("labels") is None:
            raise InputError("policy gradient needs rows with labels, got none")
        inputs, self._training = dict(inputs), model.training
        if not model.training:
            num_items_in_batch = None  # Trainer counts the labels of this batch, but not its rows
        if self.options.max_new_tokens is not None and model.training:
            inputs = self._written(model, inputs)
        if self.start_model is not None and model.training:
            self.start_model.to(self.args.device)
            given = {name: value for name, value in inputs.items() if name != "labels"}
            # Trainer puts autocast onto the model that it trains, not onto this copy.
            with torch.no_grad(), self.accelerator.autocast():
                self._start_logits = logits_of(self.start_model(**given))
        try:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            self._start_logits = self._texts = None

    def _written(self, model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return samples instead of the given rows, and with `mix` these too, behind them."""
        options = self.options
        assert options.max_new_tokens is not None
        texts = sample_texts(self.accelerator.unwrap_model(model), inputs, options.samples, options.max_new_tokens)
        if texts is None:
            return inputs
        self._texts = texts
        rows = {**texts.inputs, "labels": texts.labels}
        return joined_rows(rows, inputs) if options.mix else rows

    def _objective(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Return the loss of a model's outputs; `Trainer` calls it as its `compute_loss_func`."""
        options = self.options
        if options.max_new_tokens is not None:
            if self._training:
                return self._objective_of_texts(outputs, labels, num_items_in_batch)
            loss: torch.Tensor = self.ordinary_loss(outputs, labels, num_items_in_batch=num_items_in_batch)
            return loss
        log_p = log_probabilities(logits_of(outputs), labels)
        items, rows = number_of_items(labels, num_items_in_batch), self._number_of_rows(labels, num_items_in_batch)
        if not self._training:
            return likeliest_loss(log_p, labels, self.reward, items=items, rows=rows)
        loss = policy_loss(
            log_p,
            labels,
            self.reward,
            samples=options.samples,
            exact_classes=options.exact_classes,
            items=items,
            rows=rows,
        )
        kept = labels != IGNORED
        if options.entropy:
            loss = loss - options.entropy * entropy(log_p[kept]).sum() / items
        if self._start_logits is not None:
            start = log_probabilities(self._start_logits, labels)
            loss = loss + options.kl * divergence(log_p[kept], start[kept]).sum() / items
        if options.mix:
            loss = loss + options.mix * self.ordinary_loss(outputs, labels, num_items_in_batch=num_items_in_batch)
        return loss

    def _objective_of_texts(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any) -> torch.Tensor:
        options, texts, logits = self.options, self._texts, logits_of(outputs)
        if texts is None:  # no row has labels
            return logits[:0].sum()
        number, length = texts.labels.shape
        log_p = text_log_probabilities(logits[:number, :length], texts)
        found = self.reward(texts.predictions, texts.references)
        rewards = checked_rewards(found, texts.references, ((number,),))
        # Entropy and divergence of texts are expectations too: of -log p and of log p - log p_start.
        rewards = rewards - (options.entropy + options.kl) * log_p.detach()
        if self._start_logits is not None:
            start = text_log_probabilities(self._start_logits[:number, :length], texts)
            rewards = rewards + options.kl * start
        rewards, log_p = (each.view(-1, options.samples).T for each in (rewards, log_p))
        rows = self._number_of_rows(texts.labels[:: options.samples], num_items_in_batch)
        loss = -(leave_one_out_advantage(rewards) * log_p).mean(0).sum() / rows
        loss = with_value(loss, -rewards.mean(0).sum() / rows)
        if options.mix:
            ordinary = {"logits": logits[number:]}
            loss = loss + options.mix * self.ordinary_loss(
                ordinary, labels[number:], num_items_in_batch=num_items_in_batch
            )
        return loss

    def _cross_entropy(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = logits_of(outputs)
        if self.options.max_new_tokens is not None:
            logits, labels = logits[:, :-1], labels[:, 1:]
        loss = functional.cross_entropy(*as_items(logits, labels), reduction="sum")
        return loss / number_of_items(labels, num_items_in_batch)

    def _number_of_rows(self, labels: torch.Tensor, num_items_in_batch: Any) -> torch.Tensor | float:
        counted = num_items_in_batch is not None and self._rows is not None
        rows = self._rows if counted else _rows_with_labels(labels)
        return torch.as_tensor(rows, device=labels.device).clamp(min=1)


def _rows_with_labels(labels: torch.Tensor) -> torch.Tensor:
    return (labels != IGNORED).reshape(len(labels), -1).any(-1).sum()


__all__ = ["PolicyGradientOptions", "PolicyGradientTrainer"]
