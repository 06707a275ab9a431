"""Match pairs of texts: the probability that two texts match, by each task of a matcher.

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for probabilities in match_texts(model, tokenizer, [("今天天气不错", "今天天气很好")]):
        print(probabilities)  # {"短短匹配A类": 0.91, "短短匹配B类": 0.34, ...}

A matcher with conditional layer norms (`ClnMatcherForSequenceClassification`) has several tasks. Any other classifier
of pairs with two classes is a matcher with one task, called "match", where class 1 means a match.

A row is tokenized, padded and moved to the device once for all tasks. In a large batch, each task is a separate pass
with plain layer norms; for a few short pairs, all tasks share one pass.
"""

import inspect
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from .chunks import MAX_CHARACTERS, MAX_TEXTS, chunks
from .evaluation_mode import evaluating
from .finite_results import check_finite
from .own_tokenizer import check_tokenizer
from .padding_leaks import padding_leaks
from .pass_size import tokens_per_pass
from .text_pairs import EncodedPair, PairFrame, TextPair, encode_pairs, pair_frame_of, pair_length, read_pair

# Name of an ordinary classifier's task.
ONLY_TASK = "match"
# Below this number of tokens, one pass with scales and shifts that differ between rows is faster than several passes.
# Measured with hidden sizes of 312 and 768.
_MAX_COMBINED_TOKENS = 1024


def match_texts(
    model: Any,
    tokenizer: Any,
    pairs: Iterable[Any],
    tasks: str | int | Sequence[str | int] | None = None,
    *,
    max_length: int | None = None,
    batch_tokens: int | None = None,
    pairs_at_once: int = MAX_TEXTS,
    characters_at_once: int = MAX_CHARACTERS,
    pairs_done: int = 0,
) -> Iterator[dict[str, float]]:
    """Yield, for each pair in turn, the probability by each task that its two texts match.

    Args:
        model: a matcher, or any classifier of pairs with two classes (`AutoModelForSequenceClassification`), on any
            device, in any precision. It runs in evaluation mode; each module then returns to its own mode.
        tokenizer: the model's tokenizer.
        pairs: any number of pairs; the next two arguments limit how many are read ahead and sorted by length. A pair
            is two texts, or a dictionary with `text_a`, `text_b` and optionally `task`.
        tasks: the tasks to use, by name or id. None: the pair's `task`, or all tasks if it has none.
        max_length: tokens per pair, special tokens included; None for the limit of model and tokenizer. In a longer
            pair, the longer text is truncated.
        batch_tokens: maximum number of tokens per forward pass (but always at least one row); by default 1,024 on a
            CPU, 8,192 elsewhere.
        pairs_at_once: maximum number of pairs read ahead; fewer at first.
        characters_at_once: maximum number of characters read ahead (but always at least one pair).
        pairs_done: number of pairs of the same stream that were matched before, so that the pair_chunks, and with them
            the last digits, equal those of an uninterrupted run.

    Returns:
        {task: probability} for each pair, in the order of the pairs and of the requested tasks.

    Raises:
        ValueError: immediately, if the model does not have two classes, the tokenizer is not the model's, a task is
            unknown, or an option does not fit; during the iteration, with the number of the pair (from 0), if the pair
            has another form, an empty text or an unknown task; or if probabilities are not finite (for example after
            an overflow in float16).
    """
    if tokenizer is None:
        raise ValueError("expected the model's tokenizer, got None")
    if isinstance(pairs, str | dict):
        raise ValueError(f"expected a sequence of pairs, got a {type(pairs).__name__}: put it into a list")
    names = task_names(model)
    chosen = None if tasks is None else task_numbers(tasks, names)
    for option, value in {
        "pairs_at_once": pairs_at_once,
        "characters_at_once": characters_at_once,
    }.items():
        if value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    batch_tokens = tokens_per_pass(model, batch_tokens)
    check_tokenizer(model, tokenizer)
    frame = pair_frame_of(tokenizer)
    length = pair_length(model, tokenizer, frame, max_length)
    pair_chunks = chunks(
        _with_tasks(pairs, names, chosen),
        pairs_at_once,
        characters_at_once,
        lambda item: len(item[0].text_a) + len(item[0].text_b),
        pairs_done,
    )
    return (row for chunk in pair_chunks for row in _match(model, tokenizer, chunk, frame, length, batch_tokens))


def task_names(model: Any) -> list[str]:
    """Return the names of a model's tasks, in the order of their ids.

    Raises:
        ValueError: the model is not a classifier with two classes.
    """
    config = getattr(model, "config", None)
    classes = getattr(config, "num_labels", None)
    if classes != 2 or getattr(config, "problem_type", None) not in (None, "single_label_classification"):
        outputs = "values or several labels per pair" if classes == 2 else f"{classes} classes"
        raise ValueError(
            "expected a text matcher, a classifier of pairs with two classes (0 no match, 1 match), got a "
            f"{type(model).__name__} with {outputs}"
        )
    return list(model.config.task_names) if _is_matcher(model) else [ONLY_TASK]


def task_numbers(tasks: Any, names: Sequence[str]) -> list[int]:
    """Return the ids of tasks given by name or id (any integer, NumPy's too), one or several, without duplicates.

    Raises:
        ValueError: a name is unknown, an id is out of range, or there are no tasks.
    """
    single = isinstance(tasks, str) or _as_integer(tasks) is not None or not isinstance(tasks, Iterable)
    numbers = []
    for task in [tasks] if single else tasks:
        if isinstance(task, str) and task not in names:
            raise ValueError(f"unknown task {task!r:.60}; this model has {', '.join(map(repr, names))}")
        number = names.index(task) if isinstance(task, str) else _as_integer(task)
        if number is None:
            raise ValueError(f"expected the name or the id of a task, got {task!r:.60}")
        if not 0 <= number < len(names):
            raise ValueError(f"task id must be from 0 to {len(names) - 1} for this model, got {number}")
        numbers.append(number)
    if not numbers:
        raise ValueError(f"expected at least one task, got none; this model has {', '.join(map(repr, names))}")
    return list(dict.fromkeys(numbers))


def _as_integer(number: Any) -> int | None:
    """Return the value as int; None if it is not an integer, or is a bool."""
    try:
        return None if isinstance(number, bool) else operator.index(number)
    except TypeError:
        return None


def _is_matcher(model: Any) -> bool:
    return getattr(model.config, "model_type", None) == "cln_matcher"


def _with_tasks(
    pairs: Iterable[Any], names: Sequence[str], chosen: list[int] | None
) -> Iterator[tuple[TextPair, list[int]]]:
    """Yield each pair with the ids of its tasks."""
    all_numbers = list(range(len(names)))
    for number, given in enumerate(pairs):
        pair = read_pair(given, f"pair {number}")
        numbers = chosen
        if numbers is None and pair.task is not None:
            try:
                numbers = task_numbers([pair.task], names)
            except ValueError as error:
                raise ValueError(f"pair {number}: {error}") from None
        yield pair, all_numbers if numbers is None else numbers


def _match(
    model: Any,
    tokenizer: Any,
    jobs: list[tuple[TextPair, list[int]]],
    frame: PairFrame,
    length: int,
    batch_tokens: int,
) -> list[dict[str, float]]:
    """Return the probabilities of pairs, computed in batches of similar length."""
    names, segmented = task_names(model), _takes_segments(model, frame)
    rows = encode_pairs(tokenizer, [pair for pair, _ in jobs], frame, length)
    found: list[dict[int, float]] = [{} for _ in jobs]
    # The longest first, so that too large a batch fails at once.
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number].ids))
    start = 0
    with torch.inference_mode(), evaluating(model):
        while start < len(order):
            batch = order[start : start + max(1, batch_tokens // len(rows[order[start]].ids))]
            inputs = _tensors(model, [rows[number] for number in batch], tokenizer.pad_token_id or 0, segmented)
            extra = {"tasks": 0} if _is_matcher(model) else {}
            if not inputs["attention_mask"].all() and padding_leaks(model, inputs["input_ids"], **extra):
                batch = [number for number in batch if len(rows[number].ids) == len(rows[batch[0]].ids)]
                inputs = {name: tensor[: len(batch)] for name, tensor in inputs.items()}
            start += len(batch)
            wanted = [jobs[number][1] for number in batch]
            for places, tasks in _passes(wanted, inputs["input_ids"].shape[1], batch_tokens):
                values = _probabilities(model, inputs, places, tasks)
                for place, task, value in zip(places, tasks, values, strict=True):
                    found[batch[place]][task] = value
    return [{names[task]: values[task] for task in tasks} for values, (_, tasks) in zip(found, jobs, strict=True)]


def _passes(tasks: list[list[int]], width: int, batch_tokens: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the rows of each pass (their places in the batch), and the task of each row.

    The first pass takes the first task of every row, the next one the second, ...; all in one pass if they are few.
    """
    rounds = [
        [(place, own[number]) for place, own in enumerate(tasks) if number < len(own)]
        for number in range(max(map(len, tasks)))
    ]
    if sum(map(len, rounds)) * width <= min(batch_tokens, _MAX_COMBINED_TOKENS):
        rounds = [[job for jobs in rounds for job in jobs]]
    for jobs in rounds:
        yield [place for place, _ in jobs], [task for _, task in jobs]


def _probabilities(model: Any, inputs: dict[str, torch.Tensor], places: list[int], tasks: list[int]) -> list[float]:
    count = len(inputs["input_ids"])
    if places != list(range(count)):
        inputs = {name: tensor[places] for name, tensor in inputs.items()}
    extra: dict[str, Any] = {}
    if _is_matcher(model):
        # A single id selects plain layer norms. Not `task_ids`: PEFT's classifiers consume that argument.
        extra["tasks"] = tasks[0] if len(set(tasks)) == 1 else torch.tensor(tasks)
    logits = getattr(model(**inputs, **extra), "logits", None)
    if logits is None or logits.shape != (len(places), 2):
        raise ValueError(
            "expected a text matcher with two classes for a pair of texts, as loaded by "
            f"AutoModelForSequenceClassification, got {type(model).__name__}"
        )
    # Half precision has only a few numbers near 1.
    values = logits.float().softmax(-1)[:, 1]
    check_finite(values, "the probabilities", logits.dtype)
    found: list[float] = values.tolist()
    return found


def _takes_segments(model: Any, frame: PairFrame) -> bool:
    """Return whether the tokenizer has segments and the model distinguishes them."""
    kinds = getattr(model.config, "type_vocab_size", 2)
    parameters = inspect.signature(model.forward).parameters
    named = "token_type_ids" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    return frame.segments is not None and named and kinds > 1


def _tensors(model: Any, rows: list[EncodedPair], pad: int, segmented: bool) -> dict[str, torch.Tensor]:
    """Return the model's inputs, each [rows, longest], padded on the right."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    segments = torch.zeros((len(rows), longest), dtype=torch.long)
    for number, row in enumerate(rows):
        size = len(row.ids)
        ids[number, :size] = torch.tensor(row.ids)
        mask[number, :size] = 1
        if segmented:
            segments[number, :size] = torch.tensor(row.segments)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if segmented:
        inputs["token_type_ids"] = segments
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in inputs.items()}


__all__ = ["ONLY_TASK", "match_texts", "task_names", "task_numbers"]
