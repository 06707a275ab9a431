"""Write the tables of README, docs/*.md and the trained models' cards from benchmarks/results/*.json.

    python benchmarks/tables.py            # rewrite them
    python benchmarks/tables.py --check    # exit 1 if they are not what the results say

A table stands between `<!-- table:NAME -->` and `<!-- end -->`. Of what has not been measured it says so.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from matcher_tables import MATCHER_TABLES  # noqa: E402 (found by the line above)
from performer_tables import PERFORMER_TABLES  # noqa: E402 (found by the line above)
from table_parts import Unmeasured, measured, result, table  # noqa: E402 (found by the line above)

READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh.md"}
DOCUMENTS = [
    *READMES.items(),
    *(("en", path) for path in sorted((ROOT / "docs").glob("*.md"))),
    ("en", ROOT / "model_cards" / "wobert_tiny.md"),
    ("en", ROOT / "model_cards" / "tta_small.md"),
    ("en", ROOT / "model_cards" / "performer_bert.md"),
    ("en", ROOT / "model_cards" / "cln_matcher.md"),
]
MARKED = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


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
    for task, cells in found.items():
        label = task
        if language == "zh":
            for english, chinese in tasks.items():
                label = label.replace(english, chinese)
        row = [label, f"{cells['majority_accuracy']:.1%}"]
        rows.append([*row, *(_with_error(cells["contenders"].get(name)) for name in names)])
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
    **PERFORMER_TABLES,
    **MATCHER_TABLES,
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
