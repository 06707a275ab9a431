"""The model card of a model that was given linear attention and recovered: what it is of, how near it is, its use."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

_FRONT = """---
library_name: transformers
tags:
- performer
- linear-attention
- kexue-hf
---
"""
_FIGURES = {
    "cosine": "Cosine of the pooled vector, mean",
    "least_cosine": "least",
    "rank_agreement": "Rank correlation of likenesses",
    "masked_word_loss": "Masked-word loss, nats",
}
_STAGES = {
    "swapped": "as it comes",
    "calibrated": "calibrated",
    "transferred": "after attention transfer",
    "distilled": "after distillation",
}
_USE = """## Use

```python
import kexue_hf  # which has the linear attention: without it, this is not the model that was measured
from transformers import {kind}, AutoTokenizer

model = {kind}.from_pretrained({name})
tokenizer = AutoTokenizer.from_pretrained({name})
```

```bash
kexue-hf performer-report {folder} --file texts.jsonl   # how near it is to softmax, and how fast, on texts of yours
```
"""


def recovery_card(name: str, source: str, kind: str, feature_map: str, report: Mapping[str, Any]) -> str:
    """The card, in Markdown.

    Args:
        name: of the model's folder.
        source: of the model that it was, without the folders above it.
        kind: the class of transformers that loads it.
        feature_map: the kind of those that it was begun with.
        report: what examples/recover_performer.py writes as JSON.
    """
    # In attention transfer some layers may have got others.
    maps = sorted(set(report.get("transfer", {}).get("maps", ()))) or [feature_map]
    stages: Mapping[str, Mapping[str, float]] = report["stages"]
    shown = [figure for figure in _FIGURES if any(figure in found for found in stages.values())]
    lines = [["", *(_FIGURES[figure] for figure in shown)]]
    for stage, found in stages.items():
        figures = (f"{found[figure]:.4f}" if figure in found else "-" for figure in shown)
        lines.append([_STAGES.get(stage, stage), *figures])
    if "softmax" in report:
        softmax = {"cosine": 1.0, "least_cosine": 1.0, "rank_agreement": 1.0, **report["softmax"]}
        lines.append(["softmax", *(f"{softmax[figure]:.4f}" for figure in shown)])
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join(
        [
            _FRONT,
            f"# {_code(name)}\n",
            f"{_code(source)} with linear attention in place of softmax (feature maps: {', '.join(maps)}), brought "
            "nearer to what it was by kexue-hf's `examples/recover_performer.py`. The licence is that of the model "
            "that it was.\n",
            "## How near\n",
            f"Beside the softmax model, on {report['held_out_texts']:,} held-out texts of at most "
            f"{report['max_length']:,} tokens; {report['texts']:,} others were trained on.\n",
            head,
            "| --- |" + " --: |" * len(shown),
            *rest,
            "",
            _USE.format(kind=kind, name=json.dumps(name, ensure_ascii=False), folder=shlex.quote(name)),
        ]
    )


def _code(text: str) -> str:
    """A name as code, in which Markdown finds nothing to format."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{' '.join(text.split())}{fence}"


__all__ = ["recovery_card"]
