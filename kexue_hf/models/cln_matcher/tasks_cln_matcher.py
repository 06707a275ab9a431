"""Which task a text is matched by: names, numbers or tensors of either, read as ids."""

import operator
from collections.abc import Sequence
from typing import Any

import torch


def task_id(task: str | int, names: Sequence[str]) -> int:
    """The id of a task that is given by its name or by its id.

    Raises:
        ValueError: no task of the model is called so, or the id is out of range.
    """
    if isinstance(task, str):
        if task not in names:
            raise ValueError(f"unknown task {task!r:.60}; this model knows {', '.join(map(repr, names))}")
        return list(names).index(task)
    try:
        # Whatever is a whole number, NumPy's too.
        number = None if isinstance(task, bool) else operator.index(task)
    except TypeError:
        number = None
    if number is None:
        raise ValueError(f"a task is given by its name or its id, got {task!r:.60}")
    _check_range(number, number, len(names))
    return number


def read_task_ids(
    tasks: Any, names: Sequence[str], batch_size: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """The tasks of a batch, as a tensor [1] if they are given as one for all texts, else [batch].

    Args:
        tasks: a name or an id; a sequence or an array of them, one for each text; a tensor of ids, [], [1], [batch] or
            [batch, 1]; None for the only task of a model that has but one.
        names: of the model's tasks, in the order of their ids.

    Raises:
        ValueError: there are several tasks and none is named; a name is unknown; an id is out of range; or there are
            not as many as texts. Ids are not looked at in a tensor that is on an accelerator, which would have to be
            waited for, nor in a compiled or exported program: there one out of range is torch's own IndexError,
            RuntimeError or assertion, where scale and shift are looked up.
    """
    if tasks is None:
        if len(names) > 1:
            raise ValueError(
                f"task_ids is missing: this model has {len(names)} tasks ({', '.join(map(repr, names))}); name one "
                "for all texts or one for each; where none can be named (a CrossEncoder, sentence vectors) make a "
                "model of one task with fold_task(name)"
            )
        tasks = 0
    if isinstance(tasks, str | int):
        return torch.tensor([task_id(tasks, names)], device=device)
    if not isinstance(tasks, torch.Tensor):
        listed = tasks.tolist() if hasattr(tasks, "tolist") else tasks
        if isinstance(listed, str | int):
            return torch.tensor([task_id(listed, names)], device=device)
        tasks = torch.tensor([task_id(task, names) for task in _flat(listed)], dtype=torch.long)
    if tasks.is_floating_point() or tasks.dtype == torch.bool:
        raise ValueError(f"task_ids must be whole numbers, got {tasks.dtype}")
    one_for_all = tasks.dim() == 0 or (tasks.dim() == 1 and is_one(tasks.shape[0]))
    column = tasks.dim() == 2 and tasks.shape[1] == 1
    if not one_for_all and not ((tasks.dim() == 1 or column) and tasks.shape[0] == batch_size):
        raise ValueError(
            f"task_ids must be one for all texts or one for each of {batch_size}, got shape {list(tasks.shape)}"
        )
    tasks = tasks.reshape(-1).long()
    if tasks.device.type == "cpu" and tasks.numel() and not torch.compiler.is_compiling():
        _check_range(int(tasks.min()), int(tasks.max()), len(names))
    return tasks.to(device)


def group_tasks(
    tasks: torch.Tensor, count: int, ask: bool = True, fixed: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The tasks whose vectors a batch needs, and which of them each text has; None if they are one for all, or one for
    each text in their order.

    Args:
        tasks: [1] or [batch]. count: of the model's tasks.
        ask: whether it may be looked up which are distinct. If not, they are all of the model's, or each text's,
            whichever are fewer.
        fixed: all of the model's, then, whichever are fewer.
    """
    if is_one(tasks.shape[0]):
        return tasks, None
    if ask:
        distinct, rows = tasks.unique(return_inverse=True)
        return distinct, rows if len(distinct) > 1 else None
    if fixed or count <= tasks.shape[0]:
        return torch.arange(count, device=tasks.device), tasks
    return tasks, None


def is_one(size: int | torch.SymInt) -> bool:
    """Whether a size is 1; not asked of one that an exported program leaves open, which would have to settle it."""
    return isinstance(size, int) and size == 1


def _flat(tasks: Sequence[Any]) -> list[Any]:
    """Without the lists of one in which a column may come."""
    return [task[0] if isinstance(task, list | tuple) and len(task) == 1 else task for task in tasks]


def _check_range(lowest: int, highest: int, count: int) -> None:
    if lowest < 0 or highest >= count:
        raise ValueError(f"task ids of this model are 0 to {count - 1}, got {lowest if lowest < 0 else highest}")
