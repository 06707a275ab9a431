"""The model card of a trained matcher: its tasks, what it was trained on, how good it is for each, how to use it.

Trainer's own has one figure a line, small letters for the names of tasks, and blanks that nobody fills in.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from kexue_hf.corpora.matching_rows import MatchingRow
from kexue_hf.evaluation.matching import Reliability

_FRONT = """---
library_name: transformers
pipeline_tag: text-classification
tags:
- cln_matcher
- text-matching
- kexue-hf
{more}---
"""

_USE = """## Use

```python
import kexue_hf
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained({name})
tokenizer = AutoTokenizer.from_pretrained({name})
pairs = [("one text", "another text")]
for found in kexue_hf.match_texts(model, tokenizer, pairs):
    print(found)  # the probability of a match, by each task
for found in kexue_hf.match_texts(model, tokenizer, pairs, tasks={task}):
    print(found)  # by this one
```

```bash
kexue-hf match {folder} "one text" "another text" --task {quoted}
kexue-hf match {folder} --file pairs.jsonl --evaluate --picture reliability.svg
```

A pair that is longer than {length} tokens, as in the training, loses the end of its longer text.

Without kexue-hf the code in this folder does, if you trust it (`trust_remote_code=True`):

```python
model = AutoModelForSequenceClassification.from_pretrained({name}, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained({name}, trust_remote_code=True)
inputs = tokenizer("one text", "another text", truncation=True, return_tensors="pt")
print(model(**inputs, task_ids={task}).logits.softmax(-1)[0, 1].item())
```
"""


def matcher_card(
    name: str,
    task_names: Sequence[str],
    rows: Mapping[str, Sequence[MatchingRow]],
    figures: Mapping[str, float],
    tasks: Mapping[str, Reliability],
    training: Mapping[str, Any],
    *,
    max_length: int,
    base_model: str | None = None,
    picture: str | None = None,
) -> str:
    """The card, in Markdown.

    Args:
        name: of the model's folder.
        task_names: in the order of their ids.
        rows: those that it was trained on, "train", and perhaps "held-out".
        figures: of the held-out rows, as `probability_figures` names them; may be empty.
        tasks: of the tasks that occur in held-out rows, how reliable the probabilities are.
        training: what else is to be told, by name.
        max_length: tokens of a pair.
        base_model: what it was begun from, if that is on the Hub.
        picture: the reliability picture's file, beside the card.
    """
    more = f"base_model: {_quoted(base_model)}\n" if base_model else ""
    one = len(task_names) == 1
    parts = [
        _FRONT.format(more=more),
        f"# {_plain(name)}\n",
        f"Do two texts match{'?' if one else ', by which standard?'} A matcher of {len(task_names)} "
        f"{'task' if one else 'tasks'} with conditional layer norms "
        "([post](https://kexue.fm/archives/8337), [layer norms](https://kexue.fm/archives/7124)), trained with "
        "kexue-hf. Its licence depends on the weights that it was begun from, and on the data.\n",
        "## Tasks\n",
        _tasks(task_names, rows, figures, tasks),
    ]
    if figures:
        parts.append(_explained(figures))
    folder, task = shlex.quote(name), task_names[0]
    parts.append(
        _USE.format(
            name=_quoted(name), task=_quoted(task), folder=folder, quoted=shlex.quote(task), length=f"{max_length:,}"
        )
    )
    if picture:
        parts.append(
            f"## How reliable\n\n![How reliable the probabilities are, for each task]({picture})\n\n"
            "Of the held-out pairs with a probability of 0.8, do 80 % match? Points on the dashed line say yes; a bar "
            "is the interval that holds the share with a probability of 95 %. Below: the probabilities of pairs that "
            "match and of those that do not, each in per cent of their number.\n"
        )
    parts.append("## Training\n")
    parts.append(_table([["", ""], *([what, _plain(str(value))] for what, value in training.items())]))
    parts.append(
        "## Limits\n\n"
        "- One half is not the threshold with the best F1, least of all where matches are few: choose one for each "
        "task, on pairs that were not trained on.\n"
        "- It judges pairs, each in a pass: to search many texts, use sentence vectors first.\n"
        + (
            ""
            if one
            else "- The tasks share all weights but their vectors: further training on one changes the others, unless "
            "their rows go along.\n"
        )
    )
    return "\n".join(parts)


def _tasks(
    names: Sequence[str],
    rows: Mapping[str, Sequence[MatchingRow]],
    figures: Mapping[str, float],
    tasks: Mapping[str, Reliability],
) -> str:
    table = [["Id", "Task"]]
    for part, title in (("train", "Rows trained on"), ("held-out", "Held-out rows")):
        if part in rows:
            table[0] += [title, "of which match"]
    columns = {
        "F1": "f1 of",
        "Best F1": "best f1 of",
        "at a threshold of": "best threshold of",
        "Average precision": "average precision of",
    }
    if figures:
        table[0] += [*columns, "Calibration error"]
    for number, name in enumerate(names):
        line = [str(number), _plain(name)]
        for part in ("train", "held-out"):
            if part in rows:
                labels = [row.label for row in rows[part] if row.task == name]
                line += [f"{len(labels):,}", f"{sum(labels) / len(labels):.1%}" if labels else "-"]
        if figures:
            line += [_number(figures.get(f"{figure} {name}")) for figure in columns.values()]
            line.append(_number(tasks[name].calibration_error if name in tasks else None))
        table.append(line)
    return _table(table)


def _explained(figures: Mapping[str, float]) -> str:
    overall = [
        f"{title}: {figures[name]:.4f}"
        for name, title in (("f1_A", "F1 of all A"), ("f1_B", "F1 of all B"), ("f1", "F1, the mean"))
        if name in figures
    ]
    return (
        f"**{'; '.join(overall)}.** Of the held-out rows, by which the best checkpoint was chosen if there were "
        "several. F1 takes a probability above one half for a match; the best F1 is a bound from above, since "
        "its threshold is chosen on the rows that it is measured on.\n"
    )


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(lines[0]) + "|", *rest]) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(text: str) -> str:
    """In Markdown, what it is."""
    return re.sub(r"([\\`*<>\[\]|])", r"\\\1", " ".join(text.split()))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


__all__ = ["matcher_card"]
