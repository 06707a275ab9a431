"""The sections of the card of a model with recovered linear attention: its source, its accuracy and its use."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from kexue_hf.hub.markdown import code, table

_FIGURES = {
    "cosine": "Cosine of the pooled vector, mean",
    "least_cosine": "minimum",
    "rank_agreement": "Rank correlation of similarities",
    "masked_word_loss": "Masked-word loss, nats",
}
_STAGES = {
    "swapped": "not calibrated",
    "calibrated": "calibrated",
    "transferred": "after attention transfer",
    "distilled": "after distillation",
}
_USE = """```python
import kexue_hf  # provides the linear attention; without it, the model is not the one that was measured
from transformers import {kind}, AutoTokenizer

model = {kind}.from_pretrained({name})
tokenizer = AutoTokenizer.from_pretrained({name})
```

```bash
kexue-hf performer-report {folder} --file texts.jsonl   # accuracy and speed on your own texts
```
"""


def recovery_sections(
    name: str, source: str, kind: str, feature_map: str, report: Mapping[str, Any]
) -> tuple[str, dict[str, str]]:
    """Return the summary and the sections, {heading: Markdown}.

    Args:
        name: name of the model's folder.
        source: name of the original model, without parent folders.
        kind: class of transformers that loads the model.
        feature_map: kind of the initial feature maps.
        report: the JSON output of examples/recover_performer.py.
    """
    # Attention transfer may have changed the maps of some layers.
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
    summary = (
        f"{code(source)} with linear attention in place of softmax (feature maps: {', '.join(maps)}), brought closer "
        "to the original by kexue-hf's `examples/recover_performer.py`. The licence is that of the original model."
    )
    accuracy = (
        f"Compared with the softmax model on {report['held_out_texts']:,} held-out texts of at most "
        f"{report['max_length']:,} tokens; {report['texts']:,} other texts were used for training.\n\n{table(lines)}"
    )
    use = _USE.format(kind=kind, name=json.dumps(name, ensure_ascii=False), folder=shlex.quote(name))
    return summary, {"Accuracy": accuracy, "Use": use}


__all__ = ["recovery_sections"]
