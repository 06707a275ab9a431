"""The sections of a trained matcher's card: its tasks, rows and figures for each task, and its use."""

import json
import shlex
from collections.abc import Mapping, Sequence

from kexue_hf.corpora.matching_rows import MatchingRow
from kexue_hf.evaluation.matching import Reliability
from kexue_hf.hub.markdown import plain, table
from kexue_hf.hub.model_facts import facts_of

_USE = """```python
import kexue_hf
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained({name})
tokenizer = AutoTokenizer.from_pretrained({name})
pairs = [("one text", "another text")]
for found in kexue_hf.match_texts(model, tokenizer, pairs):
    print(found)  # the probability of a match for each task
for found in kexue_hf.match_texts(model, tokenizer, pairs, tasks={task}):
    print(found)  # for this task only
```

```bash
kexue-hf match {folder} "one text" "another text" --task {quoted}
kexue-hf match {folder} --file pairs.jsonl --evaluate --picture reliability.svg
```

Pairs longer than {length} tokens are truncated at the end of the longer text, as in training.

Without kexue-hf, use the code in this folder if you trust it (`trust_remote_code=True`):

```python
model = AutoModelForSequenceClassification.from_pretrained({name}, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained({name}, trust_remote_code=True)
inputs = tokenizer("one text", "another text", truncation=True, return_tensors="pt")
print(model(**inputs, task_ids={task}).logits.softmax(-1)[0, 1].item())
```
"""


def matcher_sections(
    name: str,
    task_names: Sequence[str],
    rows: Mapping[str, Sequence[MatchingRow]],
    figures: Mapping[str, float],
    tasks: Mapping[str, Reliability],
    *,
    max_length: int,
    picture: str | None = None,
) -> tuple[str, dict[str, str]]:
    """Return the summary and the sections, {heading: Markdown}.

    Args:
        name: name of the model's folder.
        task_names: task names, in the order of their ids.
        rows: the rows of "train" and optionally of "held-out".
        figures: figures of the held-out rows, named as by `probability_figures`; may be empty.
        tasks: reliability of the probabilities, for the tasks that occur in the held-out rows.
        max_length: maximum tokens of a pair.
        picture: file name of the reliability picture beside the card.
    """
    single_task = len(task_names) == 1
    summary = (
        f"Predicts whether two texts match{'' if single_task else ', by several standards'}. A matcher of "
        f"{len(task_names)} {'task' if single_task else 'tasks'} with conditional layer norms "
        "([post](https://kexue.fm/archives/8337), [layer norms](https://kexue.fm/archives/7124)), trained with "
        "kexue-hf."
    )
    task = task_names[0]
    limits = [*facts_of("cln_matcher").limits]
    if not single_task:
        limits.append(
            "The tasks share all weights except their task vectors: further training on one task changes the others, "
            "unless the training data includes their rows."
        )
    sections = {
        "Tasks": _tasks(task_names, rows, figures, tasks) + (f"\n{_overall(figures)}" if figures else ""),
        "Use": _USE.format(
            name=_quoted(name), task=_quoted(task), folder=shlex.quote(name), quoted=shlex.quote(task),
            length=f"{max_length:,}",
        ),
        "Limits": "\n".join(f"- {limit}" for limit in limits),
    }  # fmt: skip
    if picture:
        sections["Reliability"] = (
            f"![Reliability diagram of each task]({picture})\n\n"
            "Of the held-out pairs with a probability of 0.8, do 80 % match? Points on the dashed line mean yes; bars "
            "are 95 % confidence intervals. Below: the distribution of the probabilities, separately for pairs that "
            "match and pairs that do not."
        )
    return summary, sections


def _tasks(
    names: Sequence[str],
    rows: Mapping[str, Sequence[MatchingRow]],
    figures: Mapping[str, float],
    tasks: Mapping[str, Reliability],
) -> str:
    lines = [["Id", "Task"]]
    for part, title in (("train", "Rows trained on"), ("held-out", "Held-out rows")):
        if part in rows:
            lines[0] += [title, "matches"]
    columns = {
        "F1": "f1 of",
        "Best F1": "best f1 of",
        "Best threshold": "best threshold of",
        "Average precision": "average precision of",
    }
    if figures:
        lines[0] += [*columns, "Calibration error"]
    for number, name in enumerate(names):
        line = [str(number), plain(name)]
        for part in ("train", "held-out"):
            if part in rows:
                labels = [row.label for row in rows[part] if row.task == name]
                line += [f"{len(labels):,}", f"{sum(labels) / len(labels):.1%}" if labels else "-"]
        if figures:
            line += [_number(figures.get(f"{figure} {name}")) for figure in columns.values()]
            line.append(_number(tasks[name].calibration_error if name in tasks else None))
        lines.append(line)
    return table(lines)


def _overall(figures: Mapping[str, float]) -> str:
    overall = [
        f"{title}: {figures[name]:.4f}"
        for name, title in (("f1_A", "F1 of all A tasks"), ("f1_B", "F1 of all B tasks"), ("f1", "mean F1"))
        if name in figures
    ]
    return (
        f"**{'; '.join(overall)}.** Measured on the held-out rows, which were also used to choose the best checkpoint "
        "if there were several. F1 counts a probability above one half as a match. The best F1 is an upper bound, "
        "because its threshold was chosen on the same rows.\n"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


__all__ = ["matcher_sections"]
