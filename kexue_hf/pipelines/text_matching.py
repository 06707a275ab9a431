"""Do two texts match? The probability, by each of a matcher's standards.

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for found in match_texts(model, tokenizer, [("今天天气不错", "今天天气很好")]):
        print(found)  # {"短短匹配A类": 0.91, "短短匹配B类": 0.34, ...}

A matcher with conditional layer norms (`ClnMatcherForSequenceClassification`) has its tasks; any other classifier of
pairs with two classes is a matcher of one task, called "match", and the class 1 is that of pairs which match.

A row is tokenized, padded and moved to the device once, whatever the number of tasks. Of a large batch every task is a
pass of its own, in which the layer norms are plain ones; the tasks of a few short pairs go together in one pass.
"""

import inspect
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from .evaluation_mode import evaluating
from .finite_results import check_finite
from .own_tokenizer import check_tokenizer
from .padding_leaks import padding_leaks
from .text_pairs import EncodedPair, PairFrame, TextPair, encode_pairs, pair_frame_of, pair_length, read_pair
from .text_pieces import CHARACTERS_AT_ONCE, TEXTS_AT_ONCE, chunks

# What the task of an ordinary classifier is called.
ONLY_TASK = "match"


def match_texts(
    model: Any,
    tokenizer: Any,
    pairs: Iterable[Any],
    tasks: str | int | Sequence[str | int] | None = None,
    *,
    max_length: int | None = None,
    batch_tokens: int = 8192,
    pairs_at_once: int = TEXTS_AT_ONCE,
    characters_at_once: int = CHARACTERS_AT_ONCE,
    pairs_done: int = 0,
) -> Iterator[dict[str, float]]:
    """The probability that the two texts match, for each pair in turn and each task.

    Args:
        model: a matcher, or any classifier of pairs with two classes (`AutoModelForSequenceClassification`), on any
            device, in any precision. Read in evaluation mode, and each of its modules left in the mode it was in.
        tokenizer: the one that belongs to it.
        pairs: any number of them, read ahead as far as the next two arguments say and sorted by length within that. A
            pair is two texts, or a dictionary with `text_a` and `text_b`, perhaps with a `task`.
        tasks: by which tasks: a name, an id, or several. None for the pair's own `task`, or for all where it has none.
        max_length: tokens of a pair with those around it; None for what model and tokenizer allow. Of a longer pair
            the longer text is truncated.
        batch_tokens: at most so many tokens go through the model at a time (but always at least one row).
        pairs_at_once: pairs that are read ahead, fewer at first. characters_at_once: characters, likewise (but at
            least one pair).
        pairs_done: pairs of the same stream that were matched before; the last digits are then those of one go.

    Returns:
        {task: probability} of each pair, in the order of the pairs, and of the tasks as they were asked for.

    Raises:
        ValueError: at once, if the model has not two classes, the tokenizer cannot be its own, or a task is unknown or
            an option does not fit; later, with the number of the pair (from 0), if that is none, a text is empty, or
            its task is unknown; or if probabilities are not finite (NaN), as where float16 overflows.
    """
    if tokenizer is None:
        raise ValueError("a tokenizer is needed, the one that belongs to the model, got None")
    if isinstance(pairs, str | dict):
        raise ValueError(f"expected a sequence of pairs, got a single {type(pairs).__name__}: put it into a list")
    names = task_names(model)
    chosen = None if tasks is None else task_numbers(tasks, names)
    for option, value in {
        "batch_tokens": batch_tokens,
        "pairs_at_once": pairs_at_once,
        "characters_at_once": characters_at_once,
    }.items():
        if value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    check_tokenizer(model, tokenizer)
    frame = pair_frame_of(tokenizer)
    length = pair_length(model, tokenizer, frame, max_length)
    asked = _asked(pairs, names, chosen)
    pieces = chunks(
        asked,
        pairs_at_once,
        characters_at_once,
        lambda one: len(one[0].text_a) + len(one[0].text_b),
        pairs_done,
    )
    return (found for piece in pieces for found in _match(model, tokenizer, piece, frame, length, batch_tokens))


def task_names(model: Any) -> list[str]:
    """What the tasks of a model are called, in the order of their ids.

    Raises:
        ValueError: the model is no classifier with two classes.
    """
    config = getattr(model, "config", None)
    classes = getattr(config, "num_labels", None)
    if classes != 2 or getattr(config, "problem_type", None) not in (None, "single_label_classification"):
        raise ValueError(
            "a text matcher is needed, a classifier of pairs with two classes (0 no match, 1 match); got a "
            f"{type(model).__name__} of {'values or several labels a pair' if classes == 2 else f'{classes} classes'}"
        )
    return list(model.config.task_names) if _is_matcher(model) else [ONLY_TASK]


def task_numbers(tasks: Any, names: Sequence[str]) -> list[int]:
    """The ids of tasks that are given by name or by id (any whole number, NumPy's too), one or several, each once.

    Raises:
        ValueError: one is unknown, an id is out of range, or there are none.
    """
    single = isinstance(tasks, str) or _whole(tasks) is not None or not isinstance(tasks, Iterable)
    numbers = []
    for task in [tasks] if single else tasks:
        if isinstance(task, str) and task not in names:
            raise ValueError(f"unknown task {task!r:.60}; this model knows {', '.join(map(repr, names))}")
        number = names.index(task) if isinstance(task, str) else _whole(task)
        if number is None:
            raise ValueError(f"a task is given by its name or its id, got {task!r:.60}")
        if not 0 <= number < len(names):
            raise ValueError(f"task ids of this model are 0 to {len(names) - 1}, got {number}")
        numbers.append(number)
    if not numbers:
        raise ValueError(f"no tasks are named; this model knows {', '.join(map(repr, names))}")
    return list(dict.fromkeys(numbers))


def _whole(number: Any) -> int | None:
    """What is a whole number; None if it is none, or true or false."""
    try:
        return None if isinstance(number, bool) else operator.index(number)
    except TypeError:
        return None


def _is_matcher(model: Any) -> bool:
    return getattr(model.config, "model_type", None) == "cln_matcher"


def _asked(
    pairs: Iterable[Any], names: Sequence[str], chosen: list[int] | None
) -> Iterator[tuple[TextPair, list[int]]]:
    """Each pair, and the ids of the tasks that it is to be judged by."""
    everything = list(range(len(names)))
    for number, given in enumerate(pairs):
        pair = read_pair(given, f"pair {number}")
        numbers = chosen
        if numbers is None and pair.task is not None:
            try:
                numbers = task_numbers([pair.task], names)
            except ValueError as error:
                raise ValueError(f"pair {number}: {error}") from None
        yield pair, everything if numbers is None else numbers


def _match(
    model: Any,
    tokenizer: Any,
    asked: list[tuple[TextPair, list[int]]],
    frame: PairFrame,
    length: int,
    batch_tokens: int,
) -> list[dict[str, float]]:
    """The probabilities of pairs that go through the model together, in batches of similar length."""
    names, segmented = task_names(model), _takes_segments(model, frame)
    rows = encode_pairs(tokenizer, [pair for pair, _ in asked], frame, length)
    found: list[dict[int, float]] = [{} for _ in asked]
    # The longest first: if memory lacks, it lacks at once.
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
            wanted = [asked[number][1] for number in batch]
            for places, tasks in _passes(wanted, inputs["input_ids"].shape[1], batch_tokens):
                values = _probabilities(model, inputs, places, tasks)
                for place, task, value in zip(places, tasks, values, strict=True):
                    found[batch[place]][task] = value
    return [{names[task]: values[task] for task in tasks} for values, (_, tasks) in zip(found, asked, strict=True)]


def _passes(tasks: list[list[int]], width: int, batch_tokens: int) -> Iterator[tuple[list[int], list[int]]]:
    """Which rows go through the model at a time (their places in the batch), and by which task each.

    The first tasks of all rows, the second ones, ...; all together if they are few.
    """
    rounds = [
        [(place, own[number]) for place, own in enumerate(tasks) if number < len(own)]
        for number in range(max(map(len, tasks)))
    ]
    if sum(map(len, rounds)) * width <= min(batch_tokens, _TOGETHER):
        rounds = [[job for jobs in rounds for job in jobs]]
    for jobs in rounds:
        yield [place for place, _ in jobs], [task for _, task in jobs]


# Tokens: up to here, reading the weights again and starting every step again takes longer than scales and shifts that
# differ between rows. Measured with hidden sizes of 312 and 768.
_TOGETHER = 1024


def _probabilities(model: Any, inputs: dict[str, torch.Tensor], places: list[int], tasks: list[int]) -> list[float]:
    count = len(inputs["input_ids"])
    if places != list(range(count)):
        inputs = {name: tensor[places] for name, tensor in inputs.items()}
    extra: dict[str, Any] = {}
    if _is_matcher(model):
        # One for all is the way of plain layer norms. Not task_ids: PEFT's classifiers keep that to themselves.
        extra["tasks"] = tasks[0] if len(set(tasks)) == 1 else torch.tensor(tasks)
    logits = getattr(model(**inputs, **extra), "logits", None)
    if logits is None or logits.shape != (len(places), 2):
        raise ValueError(
            f"a text matcher is needed, such as AutoModelForSequenceClassification loads; a {type(model).__name__} "
            "gives no two classes for a pair of texts"
        )
    # In half precision, probabilities near 1 would be but a few.
    values = logits.float().softmax(-1)[:, 1]
    check_finite(values, "the probabilities", logits.dtype)
    found: list[float] = values.tolist()
    return found


def _takes_segments(model: Any, frame: PairFrame) -> bool:
    """Whether there are segments, and the model tells them apart: not all that a tokenizer serves do."""
    kinds = getattr(model.config, "type_vocab_size", 2)
    parameters = inspect.signature(model.forward).parameters
    named = "token_type_ids" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    return frame.segments is not None and named and kinds > 1


def _tensors(model: Any, rows: list[EncodedPair], pad: int, segmented: bool) -> dict[str, torch.Tensor]:
    """What the model takes, all [rows, longest] and padded on the right."""
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
