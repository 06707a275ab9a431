"""The tables of linear attention, for tables.py."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from table_parts import measured, result, table

PERFORMERS = ("SDPA", "performer-pytorch", "ours, low_order", "ours, favor+")


def performer_speed(language: str) -> str:
    zh = language == "zh"
    names = {
        "forward": "前向",
        "forward and backward": "前向与反向",
        "causal forward": "因果，前向",
        "causal forward and backward": "因果，前向与反向",
    }
    rows = []
    for measure, lengths in measured("performer", "attention").items():
        for length, cell in lengths.items():
            label = f"{names[measure] if zh else measure}, {int(length):,}"
            milliseconds = [f"{cell['ms'][name]['median']:,.1f}" if name in cell["ms"] else "" for name in PERFORMERS]
            faster = cell["times faster than"]
            # What is slower than SDPA is to be seen as such.
            times = [f"{value:.2f}" if value >= 1 else f"*{value:.2f}*" for value in _times(faster, "SDPA")]
            rows.append(
                [label, *milliseconds, *times, *(f"{value:.1f}" for value in _times(faster, PERFORMERS[1], 1))]
            )
    head = {
        "en": ["Attention, positions", "SDPA, ms", "performer-pytorch", "**low_order**", "favor+"],
        "zh": ["注意力，长度", "SDPA，毫秒", "performer-pytorch", "**low_order**", "favor+"],
    }
    times = {
        "en": ["low_order, times SDPA's speed", "favor+, times SDPA's", "low_order, times performer-pytorch's"],
        "zh": ["low_order 相对 SDPA 的倍数", "favor+ 相对 SDPA", "low_order 相对 performer-pytorch"],
    }
    width = len(head["en"]) + len(times["en"])
    return table([*head[language], *times[language]], [row + [""] * (width - len(row)) for row in rows])


def _times(faster: dict[str, Any], other: str, ours: int | None = None) -> list[float]:
    return [faster[name][other] for name in PERFORMERS[2:][:ours] if other in faster[name]]


def performer_head(language: str) -> str:
    """Forward passes of the default map, for README."""
    rows = []
    for length, cell in measured("performer", "attention", "forward").items():
        names = PERFORMERS[:3]
        milliseconds = [f"{cell['ms'][name]['median']:,.1f}" if name in cell["ms"] else "" for name in names]
        times = cell["times faster than"][PERFORMERS[2]]["SDPA"]
        rows.append([f"{int(length):,}", *milliseconds, f"{times:.1f}" if times >= 1 else f"*{times:.1f}*"])
    head = {
        "en": ["Attention, 12 heads of 64, tokens", "softmax (SDPA), ms", "performer-pytorch", "ours", "times faster"],
        "zh": [
            "注意力，12 头 × 64，token 数",
            "softmax（SDPA），毫秒",
            "performer-pytorch",
            "本包",
            "相对 SDPA 的倍数",
        ],
    }
    return table(head[language], rows)


def performer_encoder(language: str) -> str:
    rows = []
    for length, cell in measured("performer", "encoder").items():
        seconds = [f"{values['median']:.2f}" for values in cell["seconds"].values()]
        rows.append([f"{int(length):,}", *seconds, *(f"{value:.2f}" for value in cell["times faster"].values())])
    cell = measured("performer", "encoder").popitem()[1]
    head = {
        "en": [
            "BERT of base size, tokens",
            *(f"{name}, s" for name in cell["seconds"]),
            *(f"{name}, times faster" for name in cell["times faster"]),
        ],
        "zh": [
            "base 大小的 BERT，token 数",
            *(f"{name}，秒" for name in cell["seconds"]),
            *(f"{name}，倍数" for name in cell["times faster"]),
        ],
    }
    return table(head[language], rows)


def performer_memory(language: str) -> str:
    found = measured("performer", "memory")
    measures = ("forward", "forward and backward")
    rows = []
    for name in PERFORMERS:
        if name in found[measures[0]]["MB"]:
            rows.append([name, *(f"{found[measure]['MB'][name]['median']:.0f}" for measure in measures)])
    positions = f"{found['positions']:,}"
    head = {
        "en": [f"Extra memory at {positions} positions, MB", *measures],
        "zh": [f"长度 {positions} 时额外占用的内存，MB", "前向", "前向与反向"],
    }
    return table(head[language], rows)


def performer_crossovers(language: str) -> str:
    found = measured("performer", "crossovers")
    words = {
        "en": {"at": "{}", "below": "below {}", "above": "above {}"},
        "zh": {"at": "{}", "below": "小于 {}", "above": "大于 {}"},
    }[language]
    rows = []
    for measure in next(iter(found.values())):
        cells = [next(iter(crossings[measure].items())) for crossings in found.values()]
        rows.append([measure, *(words[kind].format(f"{length:,}") for kind, length in cells)])
    head = {"en": "Faster than SDPA from this many positions on", "zh": "从多长起快于 SDPA"}
    return table([head[language], *found], rows)


def performer_wanted(language: str) -> str:
    rows = []
    for row in measured("performer").get("wanted", []):
        bound = f"at least {row['at least']}" if "at least" in row else f"at most {row['at most']}"
        cells = []
        for name in PERFORMERS[2:]:
            value = row["found"].get(name)
            cells.append("" if value is None else f"{value:.2f}{'' if row['met'][name] else ', missed'}")
        rows.append([f"{row['what']}, {row['at']:,}, against {row['against']}", bound, *cells])
    return table(["What was wanted", "", *PERFORMERS[2:]], rows)


def performer_error(language: str) -> str:
    """Independent entries: each map and number of features by the standard deviation of queries and keys."""
    errors = measured("favor_error", "independent entries", "by standard deviation of queries and keys")
    first = next(iter(errors.values()))
    mean = "mean of v"
    rows = [
        ["均值" if language == "zh" else "the mean of v (no attention)", *(f"{e[mean]:.2g}" for e in errors.values())]
    ]
    for name, by_features in first.items():
        if name != mean:
            rows += [
                [f"{name}, {features}", *(_beside(e[name][features], e[mean]) for e in errors.values())]
                for features in by_features
            ]
    head = {"en": "Relative error; map, features", "zh": "相对误差；特征映射，特征数"}
    return table([head[language], *(f"std {std}" for std in errors)], rows)


def performer_error_encoder(language: str) -> str:
    """Layer by layer, on a trained encoder's own queries, keys and values."""
    encoder = measured("favor_error", "encoder")
    layers = encoder["layers, the first first"]
    spread = "standard deviation of the logits"
    rows = [[spread, *(f"{layer[spread]:.1f}" for layer in layers)]]
    rows += [
        [name, *(_beside(layer[name], layer["mean of v"]) for layer in layers)] for name in layers[0] if name != spread
    ]
    return table([f"{encoder['model']}, {encoder['features']} features", *map(str, range(1, len(layers) + 1))], rows)


def _beside(error: float, mean: float) -> str:
    """An error; in italics if attending to everything alike has a smaller one."""
    return f"*{error:.2g}*" if error > mean else f"{error:.2g}"


def performer_long_documents(language: str) -> str:
    """Accuracy and macro F1 of classifiers, by what they read."""
    baselines = measured("performer_long_documents", "baselines")
    short, long = (measured("performer_long_documents", part, "contenders") for part in ("held-out", "joined"))
    rows = []
    for name in (*baselines, *long):
        cells = []
        for part, contenders in (("held-out", short), ("joined", long)):
            found = baselines[name][part] if name in baselines else contenders.get(name)
            for measure in ("accuracy", "macro_f1"):
                value = None if found is None else found[measure]
                cells.append(
                    "" if value is None else f"{100 * (value['mean'] if isinstance(value, dict) else value):.1f}"
                )
        cells.append(f"{short[name]['seconds']['mean']:,.0f}" if name in short else "")
        cells.append(f"{1000 * long[name]['seconds a document']['mean']:,.0f}" if name in long else "")
        rows.append([name, *cells])
    data = measured("performer_long_documents", "data")
    sizes = [
        f"{data[part]['documents']} of {data[part]['tokens, median']:,} tokens" for part in ("held-out", "joined")
    ]
    head = [f"Descriptions of apps, {data['classes']} classes (100 x)", f"held out, {sizes[0]}: accuracy", "macro F1"]
    head += [f"joined, {sizes[1]}: accuracy", "macro F1", "training, s", "ms to read a joined document"]
    return table(head, rows)


def performer_long_speed(language: str) -> str:
    """Time of one document against its length."""
    kinds = ("forward", "forward and backward")
    rows = []
    for length, found in measured("performer_long_documents", "seconds of a document").items():
        cells = []
        for cell in (found.get(kind) for kind in kinds):
            medians = (
                [] if cell is None else [1000 * cell["seconds"][name]["median"] for name in ("softmax", "linear")]
            )
            cells += [f"{median:,.1f}" for median in medians] or ["", ""]
            # Where linear attention loses is to be seen.
            times = None if cell is None else cell["softmax / linear"]
            cells.append("" if times is None else f"{times:.2f}" if times >= 1 else f"*{times:.2f}*")
        rows.append([f"{int(length):,}", *cells])
    columns = [f"{kind}: {cell}" for kind in kinds for cell in ("softmax, ms", "linear, ms", "times faster")]
    return table(["One document of the classifier, tokens", *columns], rows)


def performer_long_text(language: str) -> str:
    found = measured("performer_long_documents", "long text")
    rows = [
        [name, *(f"{found[name][key]['median']:,.0f}" for key in ("seconds", "peak MB"))]
        for name in ("softmax", "linear")
    ]
    return table([f"A text of {found['tokens']:,} tokens, BERT's base size", "seconds", "peak memory, MB"], rows)


RECOVERY_STAGES = {
    "low_order": "low_order, as it comes",
    "low_order, calibrated": "low_order, calibrated",
    "swapped": "learned, random",
    "calibrated": "learned, begun at the keys' centroids",
    "transferred": "learned, after attention transfer",
    "distilled": "learned, after distillation",
}


def performer_recovery(language: str) -> str:
    """A sentence encoder, all layers linear: cosine and rank agreement with its softmax, after each stage."""
    found = measured("performer_recovery", "encoder")
    stages = measured("performer_recovery", "encoder", "stages")
    sets = list(next(iter(stages.values())))
    head = [f"{found['encoder']}, all layers linear, {found['features']} features"]
    head += [f"{kind}: {what}" for kind in sets for what in ("cosine", "ranks")]
    rows = []
    for name, label in RECOVERY_STAGES.items():
        if name in stages:
            step = {"transferred": "transfer", "distilled": "distillation"}.get(name)
            if step is not None:
                label += f" ({found[step]['steps']} steps, {found[step]['seconds'] / 60:.1f} minutes)"
            figures = [stages[name][kind] for kind in sets]
            rows.append([label, *(f"{f[key]:.3f}" for f in figures for key in ("cosine", "rank_agreement"))])
    return table(head, rows)


def performer_recovery_masked(language: str) -> str:
    """Held-out loss of masked words, after each stage, beside softmax's."""
    measured("performer_recovery", "masked")
    models = result("performer_recovery")["masked"]
    rows = []
    for name, label in RECOVERY_STAGES.items():
        losses = [next(iter(model["stages"][name].values()))["masked_word_loss"] for model in models]
        rows.append([label, *(f"{loss:.3f}" for loss in losses)])
    rows.append(["softmax", *(f"{model['softmax']['masked_word_loss']:.3f}" for model in models)])
    return table(["Loss of held-out masked words, nats", *(model["model"] for model in models)], rows)


PERFORMER_TABLES: dict[str, Callable[[str], str]] = {
    "performer_head": performer_head,
    "performer_speed": performer_speed,
    "performer_encoder": performer_encoder,
    "performer_memory": performer_memory,
    "performer_crossovers": performer_crossovers,
    "performer_wanted": performer_wanted,
    "performer_error": performer_error,
    "performer_error_encoder": performer_error_encoder,
    "performer_long_documents": performer_long_documents,
    "performer_long_speed": performer_long_speed,
    "performer_long_text": performer_long_text,
    "performer_recovery": performer_recovery,
    "performer_recovery_masked": performer_recovery_masked,
}
