"""Write titles for abstracts with a small UniLM: ROUGE-L against the first sentence, the whole recipe in one run.

    python benchmarks/title.py --text zh_text/train.jsonl --csl csl --work_dir title-work

There are three stages. examples/finetune_title.py runs the last two; --work_dir keeps the result of each.

1. Make unlabelled pairs from plain paragraphs: a passage, and either some consecutive words of it or the clause that
   shares the most with the rest of the passage. They teach a network to copy. Paragraphs that share 20 consecutive
   letters with a held-out abstract, or 12 with a held-out title, are left out.
2. Train the packaged tiny WoBERT on these pairs.
3. Train it on the abstracts and titles of csl/train.jsonl and write titles for csl/dev.jsonl, with three seeds. For
   comparison, do the same with the packaged WoBERT without stage 2. The settings were chosen on 120 of the training
   rows, whose abstracts, unlike the held-out ones, are among the paragraphs of stage 1.

Writes benchmarks/results/title.json. Takes an hour on one core.
"""

import argparse
import json
import random
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import ROOT, json_lines, machine, write_result
from transformers import AutoModelForCausalLM

from examples import finetune_title
from kexue_hf import WoBertTokenizer
from kexue_hf.conversion.convert import convert

CLAUSE = re.compile(r"[^，。！？；：,;!?:\n]+(?:[.](?=[0-9A-Za-z])[^，。！？；：,;!?:\n]+)*")
# Phrases that open a clause of an abstract before its subject matter.
OPENING = re.compile(
    r"^.{0,8}?(?:提出|研究|分析|探讨|介绍|设计|讨论|阐述|给出|建立|采用|利用|通过)(?:了|并)?(?:一种|一个|一套)?"
)


def letters(text: str) -> str:
    return re.sub(r"\W+", "", text)


def runs(text: str, length: int) -> set[str]:
    """Return all runs of this many letters."""
    text = letters(text)
    return {text[i : i + length] for i in range(len(text) - length + 1)}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return json_lines(path)


def without_held_out(texts: list[str], held_out: list[dict[str, Any]]) -> list[str]:
    """Return the texts that share no long run of letters with a held-out abstract or title."""
    abstracts = set().union(*(runs(row["abstract"], 20) for row in held_out))
    titles = set().union(*(runs(row["title"], 12) for row in held_out))
    return [text for text in texts if not (runs(text, 20) & abstracts or runs(text, 12) & titles)]


def central_clause(passage: str) -> str | None:
    """Return the clause whose letter pairs occur most in the other clauses, without its opening words."""
    clauses = [match.group() for match in CLAUSE.finditer(passage)]
    pairs = [runs(clause, 2) for clause in clauses]
    best, chosen = 0.0, None
    for index, clause in enumerate(clauses):
        if not 8 <= len(clause) <= 40:
            continue
        others = set().union(*pairs[:index], *pairs[index + 1 :])
        share = len(pairs[index] & others) / (len(pairs[index]) + 4)
        if share > best:
            best, chosen = share, clause
    if chosen is None:
        return None
    shortened = OPENING.sub("", chosen)
    return shortened if len(shortened) >= 6 else chosen


def make_pairs(texts: list[str], tokenizer: Any, variants: int, length: int, seed: int = 0) -> list[dict[str, str]]:
    """Return pairs {"abstract": passage, "title": target} of at most `length` tokens, in random order."""
    draw = random.Random(seed)
    pairs = []
    for text in texts:
        spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        for _ in range(variants):
            first = draw.randrange(max(1, len(spans) - length + 1)) if draw.random() < 0.5 else 0
            window = spans[first : first + length]
            if len(window) < 20:
                continue
            passage = text[window[0][0] : window[-1][1]]
            target = central_clause(passage) if draw.random() < 0.5 else None
            if target is None:
                begin = draw.randrange(len(window) - 6)
                end = min(begin + draw.randrange(4, 17), len(window)) - 1
                target = text[window[begin][0] : window[end][1]]
            if target.strip():
                pairs.append({"abstract": passage, "title": target})
    draw.shuffle(pairs)
    return pairs


def train(arguments: list[str], output: Path) -> dict[str, Any]:
    """Run the example unless its report exists, and return the report."""
    report = output.parent / f"{output.name}.json"
    if not report.exists():
        command = [sys.executable, str(ROOT / "examples" / "finetune_title.py"), *arguments]
        common = ["--use_cpu", "--bf16", "--attention", "eager", "--report_to", "none", "--save_total_limit", "1"]
        subprocess.run(
            [*command, *common, "--output_dir", str(output), "--report", str(report), "--resume"], check=True
        )
    found: dict[str, Any] = json.loads(report.read_text("utf-8"))
    return found


def from_source_words(folder: Path, held_out: Path) -> float:
    """Return the ROUGE-L of the trained model if it may only write words of the abstract."""
    pairs = finetune_title.read_pairs(str(held_out), "abstract", "title")
    how = dict(zip(TITLES[::2], TITLES[1::2], strict=True))
    options = finetune_title.Options("", "", no_repeat=int(how["--no_repeat"]), source_words_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    written = finetune_title.write(
        model, WoBertTokenizer.from_pretrained(folder), [source for source, _ in pairs], options
    )
    scores = finetune_title.rouge_l([title for _, title in pairs], written)
    return sum(scores) / len(scores)


SEEDS = (0, 1, 2)
COPYING = shlex.split(
    "--max_steps 9000 --batch_size 32 --learning_rate 1.5e-3 --warmup_steps 500 --adam_beta2 0.98 --weight_decay 0.01 "
    "--dropout 0 --max_target_length 32 --save_steps 1000 --logging_steps 100"
)
TITLES = shlex.split(
    "--num_train_epochs 6 --batch_size 16 --learning_rate 2e-4 --warmup_steps 50 --weight_decay 0.01 --dropout 0 "
    "--no_repeat 2 --save_strategy no --logging_steps 50"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="paragraphs, .jsonl with `text`")
    parser.add_argument("--csl", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--work_dir", type=Path, default=Path(tempfile.gettempdir()) / "title-work")
    parser.add_argument("--variants", type=int, default=8, help="pairs per paragraph")
    options = parser.parse_args()
    options.work_dir.mkdir(parents=True, exist_ok=True)

    start = options.work_dir / "start"
    if not start.exists():
        convert(ROOT / "kexue_hf" / "assets" / "wobert_tiny", start)
    texts = [row["text"] for row in rows_of(options.text)]
    kept = without_held_out(texts, rows_of(options.csl / "dev.jsonl"))
    print(
        f"{len(texts) - len(kept)} of {len(texts)} paragraphs overlap with held-out rows and were left out", flush=True
    )
    pairs_file = options.work_dir / "pairs.jsonl"
    if not pairs_file.exists():
        pairs = make_pairs(kept, WoBertTokenizer.from_pretrained(start), options.variants, length=92)
        pairs_file.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), "utf-8")
    copying = train(["--model", str(start), "--train_file", str(pairs_file), *COPYING], options.work_dir / "copying")
    csl = ["--train_file", str(options.csl / "train.jsonl"), "--eval_file", str(options.csl / "dev.jsonl"), *TITLES]
    reports: dict[str, list[dict[str, Any]]] = {"copying and titles": [], "titles only": []}
    source_words = []
    for seed in SEEDS:
        for name, model in (("copying and titles", options.work_dir / "copying"), ("titles only", start)):
            folder = options.work_dir / f"{name.replace(' ', '-')}-{seed}"
            reports[name].append(train(["--model", str(model), *csl, "--seed", str(seed)], folder))
        folder = options.work_dir / f"copying-and-titles-{seed}"
        source_words.append(from_source_words(folder, options.csl / "dev.jsonl"))

    rows = [report.pop("rows") for report in reports["copying and titles"]]
    for report in reports["titles only"]:
        report.pop("rows")
    # For each row: the mean over the seeds minus the first sentence's score.
    leads = finetune_title.rouge_l(*([row[key] for row in rows[0]] for key in ("expected", "first sentence")))
    gains = [
        statistics.mean(row["rouge_l"] for row in seeds) - lead for *seeds, lead in zip(*rows, leads, strict=True)
    ]
    scores = {name: [report["rouge_l"] for report in found] for name, found in reports.items()}
    scores["copying and titles, source words only"] = source_words
    write_result(
        "title",
        {
            "machine": machine("torch", "transformers", "rouge-score"),
            "metric": "ROUGE-L F1 over characters, mean over the held-out rows and the seeds",
            "held_out_rows": len(leads),
            "rouge_l": {
                "first sentence": statistics.mean(leads),
                **{f"tiny WoBERT, {name}": statistics.mean(found) for name, found in scores.items()},
            },
            "gain over the first sentence": {
                "mean": statistics.mean(gains),
                "standard error over the rows": statistics.stdev(gains) / len(gains) ** 0.5,
            },
            "rouge_l of each seed": scores,
            "paragraphs": {"read": len(texts), "left out for overlap": len(texts) - len(kept)},
            "pairs": sum(1 for _ in pairs_file.open(encoding="utf-8")),
            "copying": {"arguments": " ".join(COPYING), **copying},
            "titles": {"arguments": " ".join(TITLES), **reports},
            "samples": rows[0][:12],
        },
    )


if __name__ == "__main__":
    main()
