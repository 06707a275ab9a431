"""Train on short beginnings first: rows are cut to a length that grows in stages (kexue.fm 7877: 64 to 512)."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from kexue_hf.errors import InputError
from kexue_hf.trainers.ordered_trainer import OrderedTrainer


class LengthCurriculum:
    """The maximum length at each point of a training.

    Args:
        stages: pairs (fraction of the training at which the stage begins, maximum length), the first at 0.

    Raises:
        InputError: there is no stage, the first does not begin at 0, or the stages are not in order.

    Example:
        >>> LengthCurriculum([(0.0, 64), (0.25, 512)]).length_at(step=30, steps=100)
        512
    """

    def __init__(self, stages: Sequence[tuple[float, int]]) -> None:
        begins, lengths = [begin for begin, _ in stages], [length for _, length in stages]
        in_order = all(first < second for first, second in itertools.pairwise(begins))
        if not stages or begins[0] != 0 or not in_order or begins[-1] >= 1 or min(lengths) < 2:
            raise InputError(
                "expected stages (begin, length) with begins from 0 up to, but not including, 1 in order, and lengths "
                f"of at least 2, got {list(stages)}"
            )
        self.stages = [(float(begin), int(length)) for begin, length in stages]

    def length_at(self, step: int, steps: int) -> int:
        """Return the maximum length in a step, counted from 0, of a training of that many steps."""
        progress = step / max(1, steps)
        return [length for begin, length in self.stages if progress >= begin][-1]


class CurriculumTrainer(OrderedTrainer):
    """An [`OrderedTrainer`] whose batches are cut as a curriculum says; arguments as there, and:

    Args:
        curriculum: the lengths; None to cut nothing.

    The length depends on the step alone, so a resumed training continues where it was, and batches are cut when a step
    takes them, whatever loader workers have prepared. A callback could do neither: batches are loaded ahead of it.
    """

    def __init__(self, *arguments: Any, curriculum: LengthCurriculum | None = None, **options: Any) -> None:
        self.curriculum = curriculum
        super().__init__(*arguments, **options)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        return super().get_batch_samples(self._cut(epoch_iterator), num_batches, device)

    def _cut(self, batches: Iterable[dict[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
        for batch in batches:
            if self.curriculum is None:
                yield batch
                continue
            length = self.curriculum.length_at(self.state.global_step, self.state.max_steps)
            yield {name: tensor[:, :length] if tensor.dim() > 1 else tensor for name, tensor in batch.items()}


__all__ = ["CurriculumTrainer", "LengthCurriculum"]
