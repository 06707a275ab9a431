"""Convert tasks (names, ids, or lists, arrays and tensors of them) to ids."""

import operator
from collections.abc import Sequence
from typing import Any

import torch


def task_id(task: str | int, names: Sequence[str]) -> int:
    """Return the id of a task given by its name or id.

    Raises:
        ValueError: the model has no task of that name, or the id is out of range.
    """
    if isinstance(task, str):
        if task not in names:
            raise ValueError(f"unknown task {task!r:.60}; this model knows {', '.join(map(repr, names))}")
        return list(names).index(task)
    try:
        # Accepts any integer type, including NumPy's.
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
    """Return the tasks of a batch as a tensor: [1] if one task serves all texts, else [batch].

    Args:
        tasks: a name or an id; a sequence or array of them, one per text; a tensor of ids, [], [1], [batch] or
            [batch, 1]; None for the only task of a model that has just one.
        names: task names in the order of their ids.

    Raises:
        ValueError: the model has several tasks and none is given; a name is unknown; an id is out of range; or the
            number of tasks differs from the number of texts. The range is not checked for a tensor on an accelerator,
            which would force a synchronisation, nor in a compiled or exported program: there torch itself raises an
            IndexError, RuntimeError or assertion when it looks up scale and shift.
    """
    if tasks is None:
        if len(names) > 1:
            raise ValueError(
                f"task_ids is missing: this model has {len(names)} tasks ({', '.join(map(repr, names))}); give one "
                "for all texts or one per text; where that is impossible (a CrossEncoder, sentence vectors) make a "
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
        raise ValueError(f"task_ids must be integers, got {tasks.dtype}")
    one_for_all = tasks.dim() == 0 or (tasks.dim() == 1 and is_one(tasks.shape[0]))
    column = tasks.dim() == 2 and tasks.shape[1] == 1
    if not one_for_all and not ((tasks.dim() == 1 or column) and tasks.shape[0] == batch_size):
        raise ValueError(
            f"task_ids must be one for all texts or one for each of {batch_size} texts, got shape {list(tasks.shape)}"
        )
    tasks = tasks.reshape(-1).long()
    if tasks.device.type == "cpu" and tasks.numel() and not torch.compiler.is_compiling():
        _check_range(int(tasks.min()), int(tasks.max()), len(names))
    return tasks.to(device)


def group_tasks(
    tasks: torch.Tensor, count: int, ask: bool = True, fixed: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the tasks whose embeddings a batch needs, and the index of each text's task among them.

    The index is None if one task serves all texts, or if there is one per text in order.

    Args:
        tasks: [1] or [batch]. count: number of the model's tasks.
        ask: whether the distinct tasks may be looked up. If not, the result covers all tasks of the model or one per
            text, whichever is fewer.
        fixed: without `ask`, always cover all tasks of the model.
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
    """Return whether a size is 1; False for a symbolic size of an exported program, which must stay open."""
    return isinstance(size, int) and size == 1


def _flat(tasks: Sequence[Any]) -> list[Any]:
    """Unwrap the one-element lists of a column."""
    return [task[0] if isinstance(task, list | tuple) and len(task) == 1 else task for task in tasks]


def _check_range(lowest: int, highest: int, count: int) -> None:
    if lowest < 0 or highest >= count:
        raise ValueError(f"task ids of this model are 0 to {count - 1}, got {lowest if lowest < 0 else highest}")
