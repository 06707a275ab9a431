"""The tables of the matcher, for tables.py."""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from table_parts import ROOT, Unmeasured, measured, table

# As matcher_tasks.py calls them.
CONTENDERS = {
    "one matcher": ("**one matcher**", "**一个匹配器**"),
    "six models": ("six models", "六个模型"),
    "not told the task": ("one model, not told the task", "一个模型，不告知任务"),
    "bigram overlap": ("bigram overlap", "二元字重合度"),
}
# Of the data that the results are of, only 短短 are the contest's; the other tasks are stand-ins, and marked.
REAL, MARK = ("短短匹配A类", "短短匹配B类"), "†"
PLAIN, THRESHOLDS = "held out", "held out, with thresholds"
DIFFERENCES = {
    "one matcher better by": (", the likelier class", "，取更可能的一类"),
    "one matcher better by, with thresholds": (", with thresholds", "，有阈值"),
}
SUMS = {"f1_A": ("F1, A", "A 类 F1"), "f1_B": ("F1, B", "B 类 F1"), "f1": ("mean", "平均")}


def f1_columns(kind: str) -> list[str]:
    """The figures that there are, those over several tasks first."""
    named = next(iter(tasks_measured(kind).values()))[kind]
    sums = [name for name in SUMS if name in named]
    return [*sums, *(name for name in named if name not in SUMS)]


def tasks_measured(kind: str) -> dict[str, Any]:
    """The contenders that have figures of the kind, in the tables' order."""
    found = measured("matcher_tasks", "contenders")
    some = {name: found[name] for name in CONTENDERS if kind in found.get(name, ())}
    if not some:
        raise Unmeasured("benchmarks/matcher_tasks.py")
    return some


def f1_cell(found: Any) -> str:
    """100 x F1; of several seeds the mean and its standard error."""
    if not isinstance(found, dict):
        return f"{100 * found:.1f}"
    error = "" if found["standard error"] is None else f" ± {100 * found['standard error']:.1f}"
    return f"{100 * found['mean']:.1f}{error}"


def label(name: str, language: str) -> str:
    """What a figure's column is called."""
    if name in SUMS:
        return SUMS[name][language == "zh"] + MARK
    task = name.removeprefix("f1 of ")
    return task if task in REAL else task + MARK


def seconds_cell(contender: dict[str, Any]) -> str:
    return f"{contender['training seconds']:,.0f}" if "training seconds" in contender else ""


def f1_table(kind: str, language: str) -> str:
    zh = language == "zh"
    names = f1_columns(kind)
    rows = [
        [
            CONTENDERS[name][zh],
            *(f1_cell(contender[kind][each]) for each in names),
            f"{contender['parameters']:,}",
            seconds_cell(contender),
        ]
        for name, contender in tasks_measured(kind).items()
    ]
    number = sum(measured("matcher_tasks", "rows", "held-out").values())
    how = {
        PLAIN: ("the likelier class", "取概率较大的一类"),
        THRESHOLDS: ("thresholds chosen on training rows kept out", "阈值在留出的训练数据上选取"),
    }[kind][zh]
    first = f"100 × F1，{number:,} 对测试数据；{how}" if zh else f"100 x F1, {number:,} held-out pairs; {how}"
    columns = [label(name, language) for name in names]
    last = ["参数", "训练秒数"] if zh else ["parameters", "training, s"]
    return table([first, *columns, *last], rows)


def matcher_tasks(language: str) -> str:
    return f1_table(PLAIN, language)


def matcher_thresholds(language: str) -> str:
    return f1_table(THRESHOLDS, language)


def matcher_head(language: str) -> str:
    """What README shows: F1 of the real tasks, and the mean, with thresholds, which overlap has to have."""
    zh = language == "zh"
    some = tasks_measured(THRESHOLDS)
    shown = [*(f"f1 of {task}" for task in REAL), "f1"]
    names = [name for name in shown if name in f1_columns(THRESHOLDS)]
    rows = []
    for name, contender in some.items():
        cells = [f1_cell(contender[THRESHOLDS][each]) for each in names]
        rows.append([CONTENDERS[name][zh], *cells, f"{contender['parameters']:,}"])
    number = len(measured("matcher_tasks", "rows", "held-out"))
    first = f"{number} 种标准，100 × F1" if zh else f"{number} standards, 100 x F1"
    last = "参数" if zh else "parameters"
    return table([first, *(label(name, language) for name in names), last], rows)


def matcher_differences(language: str) -> str:
    """By how much the one matcher is better than the others."""
    zh = language == "zh"
    names = f1_columns(THRESHOLDS)
    rows = []
    for kind, (english, chinese) in DIFFERENCES.items():
        found = measured("matcher_tasks", kind)
        if not found:
            raise Unmeasured("benchmarks/matcher_tasks.py")
        for other in (name for name in CONTENDERS if name in found):
            cells = [found[other][name] for name in names]
            rows.append(
                [
                    f"{CONTENDERS[other][zh]}{chinese if zh else english}",
                    *(f"{100 * cell['difference']:+.1f} ± {100 * cell['standard error']:.1f}" for cell in cells),
                ]
            )
    first = "一个匹配器减去……，100 × F1" if zh else "One matcher less ..., 100 x F1"
    return table([first, *(label(name, language) for name in names)], rows)


def matcher_training(language: str) -> str:
    """What the figures were measured with."""
    found = measured("matcher_tasks")
    settings, machine = found["settings"], found["machine"]
    rows = []
    for name, contender in found["contenders"].items():
        if "learning_rate" in contender:
            chosen = ", ".join(f"{rate}: {100 * each:.1f}" for rate, each in contender["chosen by"].items())
            rate = contender["learning_rate"]
            tried = sorted(contender["chosen by"], key=float)
            if len(tried) > 1 and rate in (tried[0], tried[-1]):  # a better one may lie beyond it
                rate += ", the lowest tried" if rate == tried[0] else ", the highest tried"
            rows.append([CONTENDERS[name][language == "zh"], rate, chosen])
    if not rows:
        raise Unmeasured("benchmarks/matcher_tasks.py")
    sizes = f"{settings['epochs']} epochs, batches of {settings['batch_size']}, {settings['seeds']} seed(s)"
    versions = ", ".join(f"{package} {version}" for package, version in machine["packages"].items())
    left_out = found["left out, their texts being in another part"]
    dropped = sum(number for part in left_out.values() for number in part.values())
    fewest = min(found["matches"]["kept"], key=lambda name: found["matches"]["kept"][name])
    kept = f"{found['matches']['kept'][fewest]} of {found['rows']['kept'][fewest]}"
    facts = (
        f"\nEncoder `{found['model']}`; {sizes}; {machine['processor']}; {versions}. Left out, since another part has "
        f"the same two texts: {dropped} rows. Of the rows kept out of {fewest}, {kept} match.\n"
    )
    return table(["Trained", "rate", "100 x average precision on the rows kept out, by rate"], rows) + facts


def matcher_reliability(language: str) -> str:
    """How far the probabilities are off, and the picture."""
    tasks = measured("matcher_tasks", "reliability", "tasks")
    rows = [
        [
            label(name, language),
            f"{found['pairs']:,}",
            f"{found['matches'] / found['pairs']:.0%}",
            f"{found['calibration_error']:.3f}",
        ]
        for name, found in tasks.items()
    ]
    shown = table(["One matcher, held-out pairs", "pairs", "match", "expected calibration error"], rows)
    if (ROOT / "docs" / "matcher_reliability.svg").exists():
        # From the folder beside docs as from docs itself.
        shown += (
            "\n![Share of pairs that match against the predicted probability, and the probabilities of pairs that "
            "match and of those that do not, for each task](../docs/matcher_reliability.svg)\n"
        )
    return shown


def matcher_overhead(language: str) -> str:
    """A forward pass and a training step of each way against plain layer norms."""
    found = measured("matcher", "overhead")
    zh = language == "zh"
    labels = {
        "plain layer norms": "普通 LayerNorm",
        "conditional, one task": "条件 LayerNorm，单一任务",
        "conditional, mixed tasks": "条件 LayerNorm，任务混合",
        "folded": "折叠",
        "transformers' RoFormer, eager": "transformers 的 RoFormer，eager",
    }
    kinds = {"forward": "前向", "training step": "训练一步"}
    rows = []
    for name, parameters in found["parameters"].items():
        cells = []
        for kind in kinds:
            more = found[kind]["more than plain layer norms"].get(name)
            cells += [
                f"{1000 * found[kind]['seconds'][name]['median']:,.1f}",
                "" if more is None else f"{100 * more['median']:+.1f} %",
            ]
        rows.append([labels[name] if zh else name, f"{parameters:,}", *cells])
    network, shape = found["network"], " x ".join(map(str, found["batch"]))
    layers, width, device = network["num_hidden_layers"], network["hidden_size"], device_of(found, language)
    if zh:
        head = [f"{layers} 层，宽 {width}，{shape} 个 token，{device}", "参数"]
        head += [each for kind in kinds.values() for each in (f"{kind}，毫秒", "多用时间")]
    else:
        head = [f"{layers} layers, {width} wide, {shape} tokens, {device}", "parameters"]
        head += [each for kind in kinds for each in (f"{kind}, ms", "more")]
    return table(head, rows)


def device_of(found: dict[str, Any], language: str) -> str:
    device: str = found["machine"]["device"]
    thread = {"en": ", one thread", "zh": "，单线程"}[language]
    return f"{found['machine']['processor']}{thread}" if device == "cpu" else device


def matcher_bucketing(language: str) -> str:
    """Training with batches of rows of any lengths and of similar ones."""
    found = measured("matcher", "bucketing")
    zh = language == "zh"
    labels = {"random": ("any lengths", "任意长度"), "group_by_length": ("**similar lengths**", "**长度相近**")}
    speeds, gains = found["rows a second"], found["similar lengths against any"]
    rows = []
    for name, speed in speeds.items():
        gain = f"{gains['median']:.2f}" if name == "group_by_length" else ""
        rows.append([labels[name][zh], f"{found['share of padding'][name]:.1%}", f"{speed['median']:,.1f}", gain])
    layers, width = (found["network"][name] for name in ("num_hidden_layers", "hidden_size"))
    size = f"{layers} 层，宽 {width}" if zh else f"{layers} layers, {width} wide"
    size += f"，{device_of(found, language)}" if zh else f", {device_of(found, language)}"
    head = {
        "en": [f"Training, batches of {found['rows of a batch']} ({size})", "padding", "rows a second", "times"],
        "zh": [f"训练，每批 {found['rows of a batch']} 对（{size}）", "填充", "每秒对数", "倍数"],
    }
    return table(head[language], rows)


def matcher_wanted(language: str) -> str:
    """What was wanted of the times, beside what was found."""
    wanted = measured("matcher", "wanted")
    content = measured("matcher")
    rows = []
    if "overhead" in content:
        bounds = {
            "conditional, one task": wanted["overhead at most"],
            "conditional, mixed tasks": wanted["overhead at most"],
            "folded": wanted["overhead folded"],
        }
        for kind in ("forward", "training step"):
            for name, bound in bounds.items():
                all_of = content["overhead"][kind]["more than plain layer norms"][name]["all"]
                # Two clocks never agree: of the folded, which runs the same code, nothing is claimed that the
                # repetitions do not agree on.
                over = min(all_of) > bound if name == "folded" else statistics.median(all_of) > bound
                shown = (
                    f"{100 * statistics.median(all_of):+.1f} % ({100 * min(all_of):+.1f} to {100 * max(all_of):+.1f})"
                )
                limit = f"{100 * bound:g} %" if name == "folded" else f"at most {100 * bound:g} %"
                rows.append([f"{name}: {kind}, more than plain", limit, f"{shown}{', missed' if over else ''}"])
    if "bucketing" in content:
        bound, gain = wanted["throughput of bucketing at least"], content["bucketing"]["similar lengths against any"]
        shown = f"{gain['median']:.2f} ({min(gain['all']):.2f} to {max(gain['all']):.2f})"
        missed = ", missed" if gain["median"] < bound else ""
        rows.append(["training on batches of similar lengths, times the rows", f"at least {bound:g}", shown + missed])
    if not rows:
        raise Unmeasured("benchmarks/matcher.py")
    return table(["What was wanted", "", "found: median (all repetitions)"], rows)


MATCHER_TABLES: dict[str, Callable[[str], str]] = {
    "matcher_head": matcher_head,
    "matcher_tasks": matcher_tasks,
    "matcher_thresholds": matcher_thresholds,
    "matcher_differences": matcher_differences,
    "matcher_training": matcher_training,
    "matcher_reliability": matcher_reliability,
    "matcher_overhead": matcher_overhead,
    "matcher_bucketing": matcher_bucketing,
    "matcher_wanted": matcher_wanted,
}
