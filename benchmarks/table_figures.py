"""The formats of the tables' figures, and the figures that a table shows and a result does not hold.

`DERIVED` maps a result to a function that computes its further figures. Their names are keys beside the result's own.
"""

import statistics
from collections.abc import Callable
from typing import Any

Result = dict[str, Any]

THRESHOLDS = "held out, with thresholds"
UNITS = {"days": 24.0, "hours": 1.0, "min": 1 / 60}  # in hours
BILLION, MACHINES, CORES = 10**9, (1, 10, 100), 64
CONTENDERS = ("one matcher", "six models", "not told the task", "bigram overlap")


def with_error(mean: str, error: float | None) -> str:
    """Return a figure in percent with its standard error, which a single run lacks."""
    return mean if error is None else f"{mean} ± {100 * error:.1f}"


def percent(value: Any) -> str:
    """Return 100 x a figure, or 100 x the mean of several seeds."""
    return f"{100 * (value['mean'] if isinstance(value, dict) else value):.1f}"


def f1(value: Any) -> str:
    return with_error(percent(value), value["standard error"] if isinstance(value, dict) else None)


def perplexity(value: Any) -> str:
    """Return a perplexity and its standard error, from that of its logarithm."""
    return f"{value['perplexity']:.1f} ± {value['perplexity'] * value['standard error']:.1f}"


def crossing(value: Any) -> str:
    """Return a length, or the bound of one that lies outside the measured lengths."""
    ((kind, length),) = value.items()
    words = {"at": "{0}", "below": "below {0} || 小于 {0}", "above": "above {0} || 大于 {0}"}
    return words[kind].format(f"{length:,}")


def duration(hours: float) -> str:
    """Return hours in the largest unit of which there are two, or in seconds."""
    name, unit = next(((name, unit) for name, unit in UNITS.items() if hours >= 2 * unit), ("s", 1 / 3600))
    return f"{hours / unit:,.0f} {name}"


def times(digits: int) -> Callable[[float], str]:
    """Return the format of a speed-up: in italics below 1, where the reference is faster."""
    return lambda value: f"{value:.{digits}f}" if value >= 1 else f"*{value:.{digits}f}*"


FORMATS: dict[str, Callable[[Any], str]] = {
    "accuracy": lambda value: with_error(f"{value['mean_accuracy']:.1%}", value["standard_error"]),
    "crossing": crossing,
    "difference": lambda value: "0" if value == 0 else f"{value:.1e}",
    "duration": duration,
    "f1": f1,
    "lead": lambda value: with_error(f"{100 * value['difference']:+.1f}", value["standard error"]),
    "nats": lambda value: f"{value['mean']:+.3f} ± {value['standard error']:.3f}",
    "percent": percent,
    "perplexity": perplexity,
    "ratio": lambda value: f"{value['ours'] / value['transformers']:.2f}",
    "shape": lambda value: value.replace("x", "×"),
    "share": lambda value: f"{value['matches'] / value['pairs']:.0%}",
    "times.1f": times(1),
    "times.2f": times(2),
}


def large_corpora(found: Result) -> Result:
    """Return core hours of a billion sentences, and hours on several numbers of machines, extrapolated."""
    # The slowest start of the local workers, which includes their first shard.
    runs = [run for run in found.get("workers", {}).values() if isinstance(run, dict)]
    start = max((run.get("seconds until the first shard", 0) for run in runs), default=0)
    cost = {}
    for model, ways in found.get("speed", {}).items():
        hours = BILLION / ways["sorted by length"]["median"] / 3600
        on = {str(machines): hours / machines / CORES + start / 3600 for machines in MACHINES}
        cost[model] = {"core hours": hours, "hours on": on}
    return {"cost": cost, "start": start}


def tokenizer(found: Result) -> Result:
    speeds = found["MB/s (median)"]
    reference = speeds.get("bert4keras")
    return {"times": {name: speed / reference for name, speed in speeds.items() if reference}}


def tta_pretraining(found: Result) -> Result:
    """Return how many times faster a step is in chunks."""
    cells = found.get("head", {}).get("cells", {})
    medians = {
        name: [cell[way]["seconds a step"]["median"] for way in ("whole", "chunks")] for name, cell in cells.items()
    }
    return {"ratio": {name: whole / chunks for name, (whole, chunks) in medians.items()}}


def tta_correction(found: Result) -> Result:
    """Return the baselines, and the candidates of the first model that corrects in one pass."""
    one_pass = [model["candidates"] for model in found["models"].values() if model["method"] == "one pass"]
    return {"contenders": found["baselines"] | (one_pass[0] if one_pass else {})}


def performer(found: Result) -> Result:
    """Return the goals with what was found, and whether it was missed."""
    goals = []
    for row in found.get("wanted", []):
        shown = {name: f"{value:.2f}{'' if row['met'][name] else ', missed'}" for name, value in row["found"].items()}
        goals.append(row | {"shown": shown})
    return {"wanted": goals}


def performer_long_documents(found: Result) -> Result:
    """Return the figures of each contender, baselines first, by what it reads."""
    short, joined = (found[part]["contenders"] for part in ("held-out", "joined"))
    trained = {name: {"held-out": short.get(name), "joined": figures} for name, figures in joined.items()}
    return {"contenders": found["baselines"] | trained}


def performer_recovery(found: Result) -> Result:
    """Return the losses of all models after each stage, and with softmax."""
    models = found["masked"]
    losses = {
        stage: [next(iter(model["stages"][stage].values()))["masked_word_loss"] for model in models]
        for stage in models[0]["stages"]
    }
    return {"losses": losses | {"softmax": [model["softmax"]["masked_word_loss"] for model in models]}}


def favor_error(found: Result) -> Result:
    """Return the errors, in italics where attending to everything alike has a smaller one.

    "maps" has a row for each map and number of features, by the standard deviation of queries and keys; "layers" has a
    row for each map, by layer.
    """

    def beside(error: float, mean: float) -> str:
        return f"*{error:.2g}*" if error > mean else f"{error:.2g}"

    mean_of_v, spread = "mean of v", "standard deviation of the logits"
    maps: dict[str, dict[str, str]] = {}
    for deviation, errors in found["independent entries"]["by standard deviation of queries and keys"].items():
        mean = errors[mean_of_v]
        for name, by_features in errors.items():
            for key, error in {name: mean}.items() if name == mean_of_v else by_features.items():
                row = "the mean of v (no attention) || 均值" if name == mean_of_v else f"{name}, {key}"
                maps.setdefault(row, {})[deviation] = beside(error, mean)
    layers = found["encoder"]["layers, the first first"]
    by_layer = {
        name: [f"{layer[name]:.1f}" if name == spread else beside(layer[name], layer[mean_of_v]) for layer in layers]
        for name in layers[0]
    }
    return {"maps": maps, "layers": by_layer}


def matcher_tasks(found: Result) -> Result:
    """Return the contenders by kind of figure, their differences, how they were trained, and the note's figures."""
    contenders = {name: found["contenders"][name] for name in CONTENDERS if name in found["contenders"]}
    pairs, kept = found["rows"]["held-out"], found["matches"]["kept"]
    fewest = min(kept, key=kept.__getitem__)
    left_out = found["left out, their texts being in another part"].values()
    leads = ("one matcher better by", "one matcher better by, with thresholds")
    return {
        "by kind": {
            kind: {name: each | each[kind] for name, each in contenders.items() if kind in each}
            for kind in ("held out", THRESHOLDS)
        },
        "tasks": len(pairs),
        "pairs": sum(pairs.values()),
        "differences": {
            kind: {name: found[kind][name] for name in CONTENDERS if name in found[kind]} for kind in leads
        },
        "trained": {name: training(each) for name, each in contenders.items() if "learning_rate" in each},
        "versions": ", ".join(f"{package} {version}" for package, version in found["machine"]["packages"].items()),
        "dropped": sum(number for part in left_out for number in part.values()),
        "fewest": {"task": fewest, "matches": kept[fewest], "rows": found["rows"]["kept"][fewest]},
    }


def training(contender: Result) -> Result:
    """Return the chosen rate, which is marked at an end of those tried, and the precision with each rate."""
    rate, precisions = contender["learning_rate"], contender["chosen by"]
    tried = sorted(precisions, key=float)
    if len(tried) > 1 and rate in (tried[0], tried[-1]):
        rate += ", the lowest tried" if rate == tried[0] else ", the highest tried"
    return {"rate": rate, "precisions": ", ".join(f"{each}: {100 * found:.1f}" for each, found in precisions.items())}


def matcher(found: Result) -> Result:
    """Return the goals with their bounds and the median and range of all repetitions; devices; the gain's row."""
    wanted, rows = found["wanted"], []
    bounds = dict.fromkeys(("conditional, one task", "conditional, mixed tasks"), wanted["overhead at most"])
    for kind in ("forward", "training step"):
        for name, bound in (bounds | {"folded": wanted["overhead folded"]}).items():
            every = found["overhead"][kind]["more than plain layer norms"][name]["all"]
            median, least, most = (100 * figure for figure in (statistics.median(every), min(every), max(every)))
            # The folded model runs the same code as the plain one, so only a difference in every repetition counts.
            missed = (least if name == "folded" else median) > 100 * bound
            limit = f"{100 * bound:g} %" if name == "folded" else f"at most {100 * bound:g} %"
            shown = f"{median:+.1f} % ({least:+.1f} to {most:+.1f}){', missed' if missed else ''}"
            rows.append([f"{name}: {kind}, more than plain", limit, shown])
    bound, gain = wanted["throughput of bucketing at least"], found["bucketing"]["similar lengths against any"]
    shown = f"{gain['median']:.2f} ({min(gain['all']):.2f} to {max(gain['all']):.2f})"
    missed = ", missed" if gain["median"] < bound else ""
    rows.append(
        ["training on batches of similar lengths, times the rows per second", f"at least {bound:g}", shown + missed]
    )
    devices = {}
    for part in ("overhead", "bucketing"):
        machine = found[part]["machine"]
        one_thread = f"{machine['processor']}, one thread || {machine['processor']}，单线程"
        devices[part] = one_thread if machine["device"] == "cpu" else machine["device"]
    return {"goals": rows, "device": devices, "times": {"group_by_length": gain["median"]}}


def xiangqi(found: Result) -> Result:
    """Return how many times faster than whole sequences each way is, and whether the goal was met."""
    medians = {name: row["median"] for name, row in found["ms"].items()}
    verdict = "reached || 达到" if found["reached"] else "missed || 未达到"
    return {"times": {name: medians["whole sequences"] / ms for name, ms in medians.items()}, "verdict": verdict}


def xiangqi_accuracy(found: Result) -> Result:
    """Return the simple players and the model in one."""
    return {"players": found["baselines"] | {"model": found["model"]}}


def xiangqi_strength(found: Result) -> Result:
    """Return a row for each match, by opponent and player. Where one side won all games, the Elo is a bound only."""
    rows = []
    for name, match in found["matches"].items():
        if not match["games"]:
            continue
        player, opponent = name.split(" against ")
        low, high = match["95 % interval"]
        elo, interval = f"{match['Elo difference']:+d}", f"{low:+d} to {high:+d} || {low:+d} 至 {high:+d}"
        if match["games"] == match["wins"]:
            elo, interval = "won all || 全胜", f"above {low:+d} || 高于 {low:+d}"
        elif match["games"] == match["losses"]:
            elo, interval = "lost all || 全负", f"below {high:+d} || 低于 {high:+d}"
        shown = {
            "player": player_text(player), "opponent": player_text(opponent, match.get("engine seconds a move")),
            "elo": elo, "interval": interval,
        }  # fmt: skip
        rows.append(match | shown | {"order": (player_order(opponent), player_order(player))})
    return {"rows": sorted(rows, key=lambda row: row["order"])}


def player_text(name: str, seconds: float | None = None) -> str:
    """Return a player of xiangqi_opponents.py in words; `seconds` are the engine's for a move."""
    folder, _, plain = name.rpartition("@")
    kind, _, text = plain.partition(":")
    number = f"{float(text):,.10g}" if text else ""
    english, chinese = {
        "random": ("random legal moves", "随机着法"),
        "greedy": ("mate in one, else the greatest capture", "能一步杀则杀，否则吃最大的子"),
        "policy": ("the policy alone", "仅策略"),
        "nodes": (f"{number} positions a move", f"每步 {number} 个局面"),
        "seconds": (f"{number} s a move", f"每步 {number} 秒"),
        "fairy": (f"Fairy-Stockfish, {f'Elo {number}' if number else 'full strength'}",
                  f"Fairy-Stockfish，{f'Elo {number}' if number else '全力'}"),
    }[kind]  # fmt: skip
    if kind == "fairy" and seconds is not None:
        english, chinese = f"{english}, {seconds:g} s a move", f"{chinese}，每步 {seconds:g} 秒"
    if folder:
        model = folder.rstrip("/").rpartition("/")[2]
        english, chinese = f"{model}, {english}", f"{model}，{chinese}"
    return f"{english} || {chinese}"


def player_order(name: str) -> tuple[int, float, str]:
    """Return what sorts players: weaker kinds first, then by the number of the kind."""
    kind, _, number = name.rpartition("@")[2].partition(":")
    kinds = ("random", "greedy", "policy", "nodes", "seconds", "fairy")
    return kinds.index(kind), float(number or "inf"), name


DERIVED: dict[str, Callable[[Result], Result]] = {
    function.__name__: function
    for function in (
        large_corpora,
        tokenizer,
        tta_pretraining,
        tta_correction,
        performer,
        performer_long_documents,
        performer_recovery,
        favor_error,
        matcher_tasks,
        matcher,
        xiangqi,
        xiangqi_accuracy,
        xiangqi_strength,
    )
}
