"""The policy gradient of a reward (https://kexue.fm/archives/7737), as a loss over logits.

The expected reward E[sum_y p(y|x) r(y)] has a gradient where the reward of the likeliest class has none. If classes
are few the sum is computed; else it is estimated from k samples by (r - b) grad log p, b the mean reward of the other
k - 1 samples. Both are unbiased.
"""

from collections.abc import Callable
from typing import Any

import torch

from kexue_hf.errors import InputError
from kexue_hf.losses.items import IGNORED, as_items
from kexue_hf.trainers.rewards import SetReward

Reward = Callable[[torch.Tensor, torch.Tensor], Any]


def log_probabilities(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return float32 log probabilities [*labels.shape, classes].

    Args:
        logits, labels: of texts, tokens, one logit of two classes or several labels; see `losses.items.as_items`.

    Raises:
        ValueError: the shapes do not fit, or a label is not below the number of classes.
    """
    as_items(logits, labels)
    logits = logits.float()
    if labels.shape == logits.shape or logits.shape[-1] == 1:
        logits = logits.reshape(labels.shape)
        logits = torch.stack([torch.zeros_like(logits), logits], -1)
    # An excluded class (logit -inf) has p log p = 0, not NaN.
    return logits.log_softmax(-1).clamp(min=torch.finfo(torch.float32).min)


def checked_rewards(values: Any, labels: torch.Tensor, allowed: tuple[tuple[int, ...], ...]) -> torch.Tensor:
    """Return rewards as a float32 tensor, 0 where there is no label.

    Raises:
        InputError: their shape is not allowed, or one of them is not finite where there is a label.
    """
    rewards = torch.as_tensor(values, dtype=torch.float32, device=labels.device).detach()
    if tuple(rewards.shape) not in allowed:
        shapes = " or ".join(str(list(shape)) for shape in dict.fromkeys(allowed))
        hint = "; wrap a metric of the whole batch in LeaveOneOut" if rewards.dim() == 0 else ""
        raise InputError(f"the reward must return the shape {shapes}, got {list(rewards.shape)}{hint}")
    kept = labels != IGNORED
    if rewards.shape != labels.shape:
        kept = kept.flatten(1).any(-1) if rewards.dim() == 1 else kept[..., None].expand_as(rewards)
    wrong = kept & ~rewards.isfinite()
    if bool(wrong.any()):
        place = wrong.nonzero()[0].tolist()
        raise InputError(f"the reward must be finite, got {float(rewards[tuple(place)])} at {place} of the batch")
    return rewards.where(kept, 0.0)


def draw(log_p: torch.Tensor, labels: torch.Tensor, samples: int) -> torch.Tensor:
    """Return predictions [samples, *labels.shape] drawn from the model, -100 where the label is."""
    kept = labels != IGNORED
    found = torch.full((samples, *labels.shape), IGNORED, device=labels.device)
    if bool(kept.any()):
        found[:, kept] = torch.multinomial(log_p.detach()[kept].exp(), samples, replacement=True).T
    return found


def leave_one_out_advantage(rewards: torch.Tensor) -> torch.Tensor:
    """Return each sample's reward minus the mean of the others'; samples are the first dimension, 2 or more."""
    samples = len(rewards)
    return (rewards - rewards.mean(0)) * (samples / (samples - 1))


def with_value(loss: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return `value` with the gradient of `loss`."""
    return loss + (value - loss).detach()


def policy_loss(
    log_p: torch.Tensor,
    labels: torch.Tensor,
    reward: Reward,
    *,
    samples: int,
    exact_classes: int,
    items: Any,
    rows: Any,
) -> torch.Tensor:
    """Return minus the expected reward, with an unbiased gradient.

    Args:
        log_p: [*labels.shape, classes].
        labels: [...], -100 at items to ignore.
        reward: see `kexue_hf.trainers.rewards`.
        samples: number of samples, 2 or more, where the expectation is not exact. Of a `SetReward`, the expectation
            over the classes of an item is exact, and over the other items it is estimated from samples.
        exact_classes: largest number of classes over which to sum.
        items, rows: what sums over labels and over rows are divided by.

    Raises:
        InputError: a reward is not finite, or has another shape.
    """
    kept, classes = labels != IGNORED, log_p.shape[-1]
    if not bool(kept.any()):
        return log_p[kept].sum()
    labels = labels.long()
    if classes <= exact_classes:
        if isinstance(reward, SetReward):
            rewards = _credits_of_classes(log_p, labels, reward, samples)
            return -(log_p.exp() * rewards)[kept].sum() * _share(kept, items)
        of_classes = _rewards_of_classes(labels, reward, classes)
        if of_classes is not None:
            return -(log_p.exp() * of_classes)[kept].sum() / items
    drawn = draw(log_p, labels, samples)
    shapes = _shapes(labels)
    if isinstance(reward, SetReward):
        shapes = shapes[:1]
    rewards = torch.stack([checked_rewards(reward(one, labels), labels, shapes) for one in drawn])
    log_drawn = log_p.expand(samples, *log_p.shape).gather(-1, drawn.clamp(min=0)[..., None]).squeeze(-1)
    if rewards.shape == drawn.shape:
        factor = _share(kept, items) if isinstance(reward, SetReward) else 1 / items
    else:
        log_drawn, kept = log_drawn.where(kept, 0.0).flatten(2).sum(-1), kept.flatten(1).any(-1)
        factor = 1 / rows
    loss = -(leave_one_out_advantage(rewards) * log_drawn)[:, kept].sum() / samples * factor
    return with_value(loss, -rewards[:, kept].sum() / samples * factor)


def _shapes(labels: torch.Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple(labels.shape), tuple(labels.shape[:1])


def _credits_of_classes(log_p: torch.Tensor, labels: torch.Tensor, reward: SetReward, samples: int) -> torch.Tensor:
    """Return each item's credit for each class [*labels.shape, classes], a mean over samples of the other items."""
    classes = log_p.shape[-1]
    found = torch.zeros_like(log_p)
    for drawn in draw(log_p, labels, samples):
        credits = reward.of_classes(drawn, labels, classes)
        found = found + checked_rewards(credits, labels, ((*labels.shape, classes),)) / samples
    return found


def _rewards_of_classes(labels: torch.Tensor, reward: Reward, classes: int) -> torch.Tensor | None:
    """Return the reward of each label for each class [*labels.shape, classes]; None if it rewards rows of labels."""
    found: list[torch.Tensor] = []
    for one in range(classes):
        constant = torch.full_like(labels, one).masked_fill(labels == IGNORED, IGNORED)
        found.append(checked_rewards(reward(constant, labels), labels, _shapes(labels)))
        if found[-1].shape != labels.shape:
            return None
    return torch.stack(found, -1)


def likeliest_loss(
    log_p: torch.Tensor, labels: torch.Tensor, reward: Reward, *, items: Any, rows: Any
) -> torch.Tensor:
    """Return minus the mean reward of the likeliest classes, of a `SetReward` minus the sum; arguments as above."""
    kept, labels = labels != IGNORED, labels.long()
    if not bool(kept.any()):
        return log_p[kept].sum()
    likeliest = log_p.argmax(-1).masked_fill(~kept, IGNORED)
    rewards = checked_rewards(reward(likeliest, labels), labels, _shapes(labels))
    if isinstance(reward, SetReward):
        return -rewards[kept].sum() * _share(kept, items)
    if rewards.shape == labels.shape:
        return -rewards[kept].sum() / items
    return -rewards[kept.flatten(1).any(-1)].sum() / rows


def _share(kept: torch.Tensor, items: Any) -> Any:
    # A metric of a set is a mean already: sets are averaged, weighted by their items.
    return kept.sum() / items


def entropy(log_p: torch.Tensor) -> torch.Tensor:
    """Return the entropy of each distribution [...], in nats."""
    return -(log_p.exp() * log_p).sum(-1)


def divergence(log_p: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of each distribution [...] from that of the start, in nats."""
    return (log_p.exp() * (log_p - start)).sum(-1)


__all__ = [
    "Reward",
    "checked_rewards",
    "divergence",
    "draw",
    "entropy",
    "leave_one_out_advantage",
    "likeliest_loss",
    "log_probabilities",
    "policy_loss",
    "with_value",
]
