"""Write the tables of README, docs/*.md and the trained models' cards from benchmarks/results/*.json.

    python benchmarks/tables.py            # rewrite them
    python benchmarks/tables.py --check    # exit 1 if they are not what the results say

A table stands between `<!-- table:NAME -->` and `<!-- end -->`. Of what has not been measured it says so.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh.md"}
DOCUMENTS = [
    *READMES.items(),
    *(("en", path) for path in sorted((ROOT / "docs").glob("*.md"))),
    ("en", ROOT / "model_cards" / "wobert_tiny.md"),
    ("en", ROOT / "model_cards" / "tta_small.md"),
]
MARKED = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def result(name: str) -> dict[str, Any]:
    """The content of benchmarks/results/<name>.json."""
    content: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
    return content


class Unmeasured(Exception):
    """A result, or the part of it that a table shows, is not there; `script` measures it."""

    def __init__(self, script: str) -> None:
        self.script = script


def measured(name: str, *parts: str) -> dict[str, Any]:
    """As `result`, or within it result[part][part]...; `Unmeasured` where there is no such file or part."""
    if not (ROOT / "benchmarks" / "results" / f"{name}.json").exists():
        raise Unmeasured(f"benchmarks/{name}.py")
    content = result(name)
    for part in parts:
        if part not in content:
            raise Unmeasured(f"benchmarks/{name}.py")
        content = content[part]
    return content


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def tokenizer(language: str) -> str:
    found = result("tokenizer")
    speed = found["MB/s (median)"]
    base = speed.get("bert4keras")
    names = {
        "ours": ("**WoBertTokenizer**", "**WoBertTokenizer**"),
        "ours, with offsets": ("**WoBertTokenizer, with offsets**", "**WoBertTokenizer，带偏移**"),
        "bert4keras": ("bert4keras' Tokenizer with jieba", "bert4keras 的 Tokenizer 加 jieba"),
        "RoFormerTokenizer": ("transformers' RoFormerTokenizer", "transformers 的 RoFormerTokenizer"),
        "RoFormerTokenizer, with offsets": ("RoFormerTokenizer, with offsets", "RoFormerTokenizer，带偏移"),
        "BertTokenizer (characters, Rust)": ("BertTokenizer (characters, Rust)", "BertTokenizer（按字，Rust）"),
    }
    rows = [
        [names[name][language == "zh"], f"{speed[name]:.2f}", f"{speed[name] / base:.1f}" if base else "–"]
        for name in names
        if name in speed
    ]
    size = f"{found['texts']['number']:,}"
    head = {
        "en": [f"Tokenising {size} reviews, one core", "MB/s", "times bert4keras"],
        "zh": [f"切分 {size} 条评论，单核", "MB/s", "相对 bert4keras 的倍数"],
    }
    return table(head[language], rows)


def conversion(language: str) -> str:
    found = result("conversion")
    names = {
        "kexue-hf convert": ("**`kexue-hf convert`**, whole process", "**`kexue-hf convert`**，整个进程"),
        "TensorFlow": ("TensorFlow: load, transpose, save", "TensorFlow：读取、转置、保存"),
        "cp": ("`cp` of the file", "`cp` 同一文件"),
        "import torch": ("`import torch` alone", "仅 `import torch`"),
    }
    memory = found["peak RSS in MB"]
    rows = [
        [names[name][language == "zh"], f"{found['seconds'][name]['median']:.2f}", f"{memory[name]['median']:.0f}"]
        for name in names
        if name in found["seconds"]
    ]
    parameters = f"{found['checkpoint']['parameters'] / 1e6:.1f}"
    head = {
        "en": [f"Converting {parameters}M parameters (450 MB, warm cache)", "s", "peak MB"],
        "zh": [f"转换 {parameters}M 参数（450 MB，已缓存）", "秒", "内存峰值 MB"],
    }
    return table(head[language], rows)


def startup(language: str) -> str:
    found = result("startup")["processes"]
    rows = [[f"`{name}`", f"{values['median']:.2f}"] for name, values in found.items()]
    return table({"en": ["Whole process", "s"], "zh": ["整个进程", "秒"]}[language], rows)


def parity(language: str) -> str:
    found = result("parity")
    rows = [[name, f"{case['largest']:.1e}"] for name, case in found["cases"].items()]
    head = {
        "en": ["Golden checkpoint of the original code", f"largest deviation (allowed {found['tolerance']:.0e})"],
        "zh": ["原始代码的基准检查点", f"最大偏差（允许 {found['tolerance']:.0e}）"],
    }
    return table(head[language], rows)


def finetune(language: str) -> str:
    found = result("finetuning")["tasks"]
    names = {
        "bag of words": {"en": "bag of words", "zh": "词袋"},
        "random weights": {"en": "random weights", "zh": "随机权重"},
        "packaged": {"en": "the packaged tiny model", "zh": "自带的极小模型"},
        "packaged, adapted": {"en": "adapted to the text", "zh": "先在该类文本上继续预训练"},
    }
    tasks = {"fields of papers": "论文领域", "review sentiment": "评论情感", "rows": "条"}
    rows = []
    for task, measured in found.items():
        label = task
        if language == "zh":
            for english, chinese in tasks.items():
                label = label.replace(english, chinese)
        row = [label, f"{measured['majority_accuracy']:.1%}"]
        rows.append([*row, *(_with_error(measured["contenders"].get(name)) for name in names)])
    head = {
        "en": ["Fine-tuning, held-out accuracy", "commonest label"],
        "zh": ["微调，留出集准确率", "最常见标签"],
    }
    return table([*head[language], *(name[language] for name in names.values())], rows)


def _with_error(cell: dict[str, Any] | None) -> str:
    """A mean in percent and its standard error, which a single run has not."""
    if cell is None:
        return ""
    error = cell["standard_error"]
    return f"{cell['mean_accuracy']:.1%}" + ("" if error is None else f" ± {100 * error:.1f}")


def tiny_model(language: str) -> str:
    found = result("pretrain_tiny")["packaged"]
    rows = [
        ["masked words (15 %), accuracy", f"{found['held_out_accuracy']:.1%}"],
        ["next segment, accuracy", f"{found['held_out_next_segment_accuracy']:.1%}"],
    ]
    return table(["Held-out text", ""], rows)


def title(language: str) -> str:
    found = result("title")["rouge_l"]
    names = {
        "first sentence": ("the abstract's first sentence", "摘要的第一句"),
        "tiny WoBERT, titles only": ("the packaged tiny model, titles only", "自带的极小模型，只学标题"),
        "tiny WoBERT, copying and titles": (
            "**the packaged tiny model, copying first**",
            "**自带的极小模型，先学抄写**",
        ),
        "tiny WoBERT, copying and titles, source words only": (
            "the same, writing only words of the abstract",
            "同上，只写摘要中出现的词",
        ),
    }
    rows = [[names[name][language == "zh"], f"{100 * found[name]:.1f}"] for name in names if name in found]
    head = {
        "en": ["Titles of held-out abstracts", "ROUGE-L"],
        "zh": ["为留出的摘要写标题", "ROUGE-L"],
    }
    return table(head[language], rows)


def extend(language: str) -> str:
    found = result("extend")
    names = {
        "kexue-hf extend": ("**`kexue-hf extend`**", "**`kexue-hf extend`**"),
        "transformers": (
            "transformers: `add_tokens`, `resize_token_embeddings`, a loop",
            "transformers：`add_tokens`、`resize_token_embeddings` 加循环",
        ),
        "cp": ("`cp` of the file", "`cp` 同一文件"),
    }
    rows = [
        [
            names[name][language == "zh"],
            f"{found['seconds'][name]['median']:.1f}",
            f"{found['peak RSS in MB'][name]['median']:.0f}" if name in found["peak RSS in MB"] else "–",
        ]
        for name in names
    ]
    head = {
        "en": ["20,000 words for a base-size BERT, whole process", "s", "peak MB"],
        "zh": ["给 base 大小的 BERT 加 20,000 个词，整个进程", "秒", "内存峰值 MB"],
    }
    return table(head[language], rows)


def wobert_speed(language: str) -> str:
    found = result("wobert_speed")
    post = found["the post's (GPU)"]
    rows = [
        [
            f"{length}",
            f"{cells['token ratio']:.2f}",
            *(f"{cells['speed of words'][order]:.2f}" for order in ("as they come", "sorted by length")),
            f"{post[length]:.2f}",
        ]
        for length, cells in found["lengths"].items()
    ]
    head = {
        "en": ["Characters of a text", "characters' tokens / words'", "speed, as they come", "sorted", "the post's"],
        "zh": ["文本字数", "字的 token 数 / 词的", "速度倍数：原顺序", "按长度排序", "原文报告"],
    }
    return table(head[language], rows)


def pretraining_losses(language: str) -> str:
    found = result("pretraining")["losses"]["runs"]
    rows = []
    for name, run in found.items():
        shown = [f"{run['losses'][step - 1]:.6f}" for step in (1, 15, 16, 40)]
        if "compared with" in run:
            differences = [run[f"largest difference of {what}"] for what in ("losses", "weights")]
            shown += ["0" if value == 0 else f"{value:.1e}" for value in differences]
            rows.append([f"{name} (against {run['compared with']})", *shown])
        else:
            rows.append([f"**{name}**", *shown, "", ""])
    head = ["Run", "loss of step 1", "15", "16", "40", "largest difference of all 40", "of the final weights"]
    return table(head, rows)


def pretraining_held_out(language: str) -> str:
    found = result("pretraining")["held_out"]
    losses, accuracies = found["held-out loss"], found["held-out accuracy"]
    rows = [[f"{int(step):,}", f"{losses[step]:.3f}", f"{accuracies[step]:.1%}"] for step in losses]
    return table(["Steps", "held-out loss", "accuracy"], rows)


def pretraining_speed(language: str) -> str:
    rows = []
    for name, cell in result("pretraining")["speed"]["cells"].items():
        tokens, characters = cell["tokens/s"], cell["characters/s"]
        ratio = characters["ours"] / characters["transformers"]
        row = [f"{cell['parameters'] / 1e6:.1f}M", f"{tokens['ours']:,}", f"{tokens['transformers']:,}"]
        row += [f"{characters['ours']:,}", f"{characters['transformers']:,}", f"{ratio:.2f}"]
        rows.append([name, *row, f"{cell['GFLOP per token, ours']:.3f}", f"{cell['GFLOP/s, ours']:.0f}"])
    head = ["Size, row", "weights", "tokens/s", "transformers", "characters/s", "transformers", "ratio"]
    return table([*head, "GFLOP a token", "GFLOP/s"], rows)


def pretraining_reading(language: str) -> str:
    found = result("pretraining")["reading"]["MB/s"]
    return table(["One core", "MB/s"], [[name, f"{speed['median']:.1f}"] for name, speed in found.items()])


def pretraining_cost(language: str) -> str:
    cost = result("pretraining")["cost"]
    rows, counts = [], []
    for name, gpu in cost["GPUs"].items():
        hours = [*gpu["hours of a pass"].values(), gpu["hours of WoBERT's schedule on one"]]
        counts = [f"hours on {number}" for number in gpu["hours of a pass"]]
        figures = [f"{gpu['peak TFLOP/s']:g}", f"{gpu['tokens/s of one']:,}", *(f"{value:.1f}" for value in hours)]
        rows.append([name, *figures])
    return table(["Estimate", "peak TFLOP/s", "tokens/s of one", *counts, "WoBERT's schedule on 1"], rows)


def tta_facts(language: str) -> str:
    sizes, data = measured("tta_pretraining", "setting"), measured("tta_pretraining", "data")
    train = measured("tta_pretraining", "train")
    text = data["training text"]
    layers, width, heads = (sizes[name] for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    rows = [
        ["Architecture", f"T-TA: {layers} layers, {width} wide, {heads} heads, {sizes['max_length']} positions"],
        [
            "Vocabulary",
            f"{data['vocabulary']:,} tokens: the characters that occur {sizes['characters']['min_character_count']} "
            "times in the text or more",
        ],
        ["Training text", f"{text['texts']:,} paragraphs, {text['characters'] / 1e6:.1f} million characters"],
        [
            "Training",
            f"every token predicted: {train['steps']:,} steps of {train['rows a step']} rows of {sizes['max_length']} "
            f"tokens, rate {train['models']['T-TA']['learning rate']}; one CPU core",
        ],
        ["Tokenizer", "`TtaTokenizer`: lower case, a token for each Chinese character, [SOS] before and [EOS] after"],
    ]
    return f"| | |\n|---|---|\n{''.join(f'| {name} | {value} |{chr(10)}' for name, value in rows)}"


def tta_training(language: str) -> str:
    found = measured("tta_pretraining", "train", "models")
    perplexities = measured("tta_pretraining", "measure", "final")
    zh = language == "zh"
    both = [(found[name], perplexities[name]) for name in ("T-TA", "MLM")]
    chance = perplexities["unigrams"]["perplexity"]

    def row(english: str, chinese: str, value: Callable[[dict[str, Any], dict[str, Any]], str]) -> list[str]:
        return [chinese if zh else english, *(value(*one) for one in both)]

    rows = [
        row("parameters", "参数", lambda model, _: f"{model['parameters']:,}"),
        row("tokens read, million", "读过的 token（百万）", lambda model, _: f"{model['tokens'] / 1e6:.1f}"),
        row("passes over the text", "遍数", lambda model, _: f"{model['epochs']:.1f}"),
        row(
            f"held-out pseudo-perplexity (unigrams: {chance:,.0f})",
            f"留出集伪困惑度（一元模型：{chance:,.0f}）",
            lambda _, final: f"{final['perplexity']:.1f} ± {final['perplexity'] * final['standard error']:.1f}",
        ),
    ]
    less = measured("tta_pretraining", "measure").get("T-TA less MLM, nats a token")
    if less is not None:
        difference = f"{less['mean']:+.3f} ± {less['standard error']:.3f}"
        rows.append(["其对数与 MLM 之差" if zh else "its logarithm, difference to the MLM's", difference, ""])
    head = ["同样的文本、大小与步数", "T-TA", "MLM"] if zh else ["Same text, size and steps", "T-TA", "MLM"]
    return table(head, rows)


def tta_head(language: str) -> str:
    cells = measured("tta_pretraining", "head", "cells")
    rows = []
    for precision, cell in cells.items():
        seconds, memory = ([cell[way][name]["median"] for way in ("whole", "chunks")] for name in _HEAD)
        values = [f"{seconds[0]:.2f}", f"{seconds[1]:.2f}", f"{seconds[0] / seconds[1]:.2f}"]
        rows.append([precision, *values, *(f"{value:,.0f}" for value in memory)])
    return table(["One core", "s a step, whole", "in chunks", "ratio", "MB, whole", "in chunks"], rows)


_HEAD = ("seconds a step", "peak MB")


def tta_correction(language: str) -> str:
    baselines = measured("tta_correction", "baselines")
    zh = language == "zh"
    named = {
        "no change": ("no change", "不改"),
        "bigrams": ("counts of neighbouring characters, sound or shape", "相邻字计数，音近或形近"),
        "same sound": ("T-TA, same sound", "T-TA，同音"),
        "same or near sound": ("T-TA, same or near sound", "T-TA，同音或近音"),
        "similar shape": ("T-TA, similar shape", "T-TA，形近"),
        "sound or shape": ("**T-TA, sound or shape**", "**T-TA，音近或形近**"),
        "sound or shape, no costs": ("T-TA, sound or shape, without costs", "T-TA，音近或形近，不计代价"),
        "top-k": ("T-TA, any character", "T-TA，任意字"),
    }
    one_pass = [model for model in measured("tta_correction", "models").values() if model["method"] == "one pass"]
    contenders = {**baselines, **(one_pass[0]["candidates"] if one_pass else {})}
    rows = []
    for name, label in named.items():
        if name in contenders:
            dev = contenders[name]["dev"]
            characters = [
                f"{100 * dev['character']['correction'][part]:.1f}" for part in ("precision", "recall", "f1")
            ]
            sentences = [f"{100 * dev['sentence_strict'][part]['f1']:.1f}" for part in ("detection", "correction")]
            spoilt = f"{contenders[name]['dev targets']['share of sentences changed']:.1%}"
            rows.append([label[zh], *characters, *sentences, spoilt])
    number = f"{measured('tta_correction', 'dev')['rows']:,}"
    head = {
        "en": [
            f"Correction of {number} sentences (100 x)",
            "characters: precision",
            "recall",
            "F1",
            "sentences, strictly: F1 of detection",
            "F1 of correction",
            "right sentences changed",
        ],
        "zh": [
            f"{number} 句纠错（×100）",
            "字：精确率",
            "召回率",
            "F1",
            "句（严格）：检测 F1",
            "纠正 F1",
            "正确的句子被改动",
        ],
    }
    return table(head[language], rows)


def tta_sts(language: str) -> str:
    rows = measured("tta_sts", "rows")
    names = {
        "bag of characters": ("bag of characters", "字袋"),
        "bag of characters, tf-idf": ("bag of characters, tf-idf", "字袋，tf-idf"),
        "random weights": ("T-TA with random weights", "随机权重的 T-TA"),
        "static embeddings": ("mean of the T-TA's static embeddings", "T-TA 静态词向量的平均"),
        "masked language model": ("masked language model of the same size", "同样大小的 MLM"),
        "T-TA": ("**T-TA**", "**T-TA**"),
    }
    shown = []
    for name, label in names.items():
        if name in rows:
            cells = [_correlation(rows[name], kind) for kind in ("spearman", "pearson")]
            shown.append([label[language == "zh"], *cells, _correlation(rows.get(f"{name}, whitened"), "spearman")])
    pairs = f"{measured('tta_sts', 'data')['pairs']:,}"
    head = {
        "en": [f"Similarity without labels, {pairs} pairs (100 x)", "Spearman", "Pearson", "Spearman, whitened"],
        "zh": [f"无监督相似度，{pairs} 对（×100）", "Spearman", "Pearson", "Spearman，白化后"],
    }
    return table(head[language], shown)


def _correlation(row: dict[str, Any] | None, kind: str) -> str:
    return "" if row is None else f"{100 * row[kind]:.1f} ± {100 * row[f'{kind}, standard error']:.1f}"


def tta_speed(language: str) -> str:
    zh = language == "zh"
    contenders = ("T-TA", "BERT, ours", "BERT, plain")
    rows = []
    for size, cells in measured("tta_scoring", "sizes").items():
        for length, cell in cells["tokens"].items():
            milliseconds = [f"{1000 * cell['seconds'][name]['median']:.1f}" for name in contenders]
            times = [f"{cell['times faster than'][name]:.1f}" for name in contenders[1:]]
            rows.append([f"{size}; {length} {'个 token' if zh else 'tokens'}", *milliseconds, *times])
    head = {
        "en": [
            "Scoring a sentence, one core",
            "T-TA, ms",
            "BERT, best masking, ms",
            "BERT, plain masking, ms",
            "times faster than the best",
            "than the plain",
        ],
        "zh": [
            "为一句话打分，单核",
            "T-TA，毫秒",
            "BERT，最佳掩码做法，毫秒",
            "BERT，朴素掩码做法，毫秒",
            "比最佳做法快多少倍",
            "比朴素做法",
        ],
    }
    return table(head[language], rows)


def tta_trunk(language: str) -> str:
    zh = language == "zh"
    rows = []
    for size, cells in measured("tta_scoring", "sizes").items():
        for shape, cell in cells["trunk"].items():
            milliseconds = [f"{cell['ms'][name]:.1f}" for name in ("T-TA", "BERT")]
            label = f"{size}; {shape.replace('x', '×')} {'个 token' if zh else 'tokens'}"
            rows.append([label, *milliseconds, f"{cell['T-TA / BERT']:.2f}"])
    head = {
        "en": ["The encoder alone, one pass, one core", "T-TA, ms", "BERT, ms", "T-TA / BERT"],
        "zh": ["仅编码器，一次前向，单核", "T-TA，毫秒", "BERT，毫秒", "T-TA / BERT"],
    }
    return table(head[language], rows)


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


TABLES: dict[str, Callable[[str], str]] = {
    "tokenizer": tokenizer,
    "conversion": conversion,
    "startup": startup,
    "parity": parity,
    "finetune": finetune,
    "pretraining_losses": pretraining_losses,
    "pretraining_held_out": pretraining_held_out,
    "pretraining_speed": pretraining_speed,
    "pretraining_reading": pretraining_reading,
    "pretraining_cost": pretraining_cost,
    "tiny_model": tiny_model,
    "title": title,
    "extend": extend,
    "wobert_speed": wobert_speed,
    "tta_facts": tta_facts,
    "tta_training": tta_training,
    "tta_head": tta_head,
    "tta_correction": tta_correction,
    "tta_sts": tta_sts,
    "tta_speed": tta_speed,
    "tta_trunk": tta_trunk,
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
}


def rendered(path: Path, language: str) -> str:
    """A document with its tables made anew."""
    text = path.read_text("utf-8")
    return MARKED.sub(lambda match: f"{match[1]}{_table_of(match[2], language)}{match[3]}", text)


def _table_of(name: str, language: str) -> str:
    try:
        return TABLES[name](language)
    except Unmeasured as missing:
        sentence = {"en": "Not measured yet: `python {}` does.\n", "zh": "尚未测量：`python {}`。\n"}
        return sentence[language].format(missing.script)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a table is out of date")
    check = parser.parse_args().check
    for language, path in DOCUMENTS:
        new = rendered(path, language)
        if new == path.read_text("utf-8"):
            continue
        if check:
            raise SystemExit(f"{path.name} is out of date: run python benchmarks/tables.py")
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
