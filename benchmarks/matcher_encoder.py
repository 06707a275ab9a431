"""Teach a small encoder to compare two texts, on unlabelled text, before it learns standards of "similar".

    python benchmarks/matcher_encoder.py --text zh_text/train.jsonl --data sohu2021 --output FOLDER [--steps 3000]

An encoder of this size that has only predicted masked words never attends from one text of a pair to the other, and
one label per pair is too little to learn it from. So this training asks about every word of a pair: does the other
text contain it? For masked words it asks which words they are. In equal shares, a pair is: a passage, and some of its
clauses in another order among clauses of another text; two neighbouring passages; two random passages. No labels of
the data are read. Of valid.txt, only texts that are also in train.txt are used.

--text names .jsonl files with `text`; --data names folders in the contest's format, of which the texts of train.txt
are used. Training starts from the packaged tiny WoBERT or from --model. The output folder is one that
examples/finetune_matcher.py accepts; its training.json has the accuracies on held-out pairs.
"""

import argparse
import json
import random
import re
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from measuring import json_lines

CLAUSE = re.compile(r"[^，。！？；：,!?;:]+[，。！？；：,!?;:]*")
SIZES = (16, 28, 45, 60)  # tokens of a passage
MASKED = 0.15
IGNORED = -100
# Gradients of masked words are many times larger and would drown the other question. In this share of the steps their
# weight is close to zero; the remaining steps relearn what was forgotten.
FIRST, FEW_WORDS = 0.4, 0.02
KEPT = 200  # held-out texts


def texts_of(files: list[Path], data: list[str]) -> list[str]:
    from kexue_hf.corpora.matching_rows import read_matching_rows

    texts = [row["text"] for file in files for row in json_lines(file)]
    if data:
        texts += [text for row in read_matching_rows(data, "train") for text in (row.text_a, row.text_b)]
    return list(dict.fromkeys(texts))


def clauses_of(texts: list[str], tokenizer: Any) -> list[list[list[int]]]:
    """Return the ids of the clauses of each text."""
    split = [[clause for clause in CLAUSE.findall(text) if clause.strip()] for text in texts]
    known = list(dict.fromkeys(clause for clauses in split for clause in clauses))
    ids = dict(zip(known, tokenizer(known, add_special_tokens=False, verbose=False)["input_ids"], strict=True))
    return [[ids[clause] for clause in clauses if ids[clause]] for clauses in split]


class Pairs:
    """Pairs of passages, as lists of ids."""

    def __init__(self, texts: list[list[list[int]]], seed: int) -> None:
        self.texts, self.random = [text for text in texts if text], random.Random(seed)

    def passage(self, text: list[list[int]], start: int, size: int) -> list[list[int]]:
        """Return whole clauses of at most this many tokens, or the beginning of the first one."""
        chosen, room = [], size
        for clause in text[start:]:
            if chosen and len(clause) > room:
                break
            chosen.append(clause[:room])
            room -= len(chosen[-1])
        return chosen

    def any_passage(self, size: int) -> list[list[int]]:
        text = self.random.choice(self.texts)
        return self.passage(text, self.random.randrange(len(text)), size)

    def __iter__(self) -> Iterator[tuple[list[int], list[int]]]:
        while True:
            size, kind = self.random.choice(SIZES), self.random.randrange(3)
            if kind == 0:
                first = self.any_passage(size)
                second = [clause for clause in first if self.random.random() < 0.6]
                second += self.any_passage(size // 2) if not second or self.random.random() < 0.6 else []
                self.random.shuffle(second)
            elif kind == 1:
                text = self.random.choice(self.texts)
                start = self.random.randrange(len(text))
                first = self.passage(text, start, size)
                second = self.passage(text, start + len(first), size) or self.any_passage(size)
            else:
                first, second = self.any_passage(size), self.any_passage(size)
            pair = [[word for clause in side for word in clause][: SIZES[-1]] for side in (first, second)]
            self.random.shuffle(pair)
            yield pair[0], pair[1]


class Batches:
    """Batches of pairs as model inputs, with labels: `words` (ids at masked positions) and `shared` (1.0 where the
    other text has the word, else 0.0), and -100 elsewhere."""

    def __init__(self, pairs: Pairs, tokenizer: Any, rows: int) -> None:
        from kexue_hf.pipelines.text_pairs import pair_frame_of

        self.pairs, self.rows, self.frame = iter(pairs), rows, pair_frame_of(tokenizer)
        self.mask, self.pad, self.random = tokenizer.mask_token_id, tokenizer.pad_token_id, pairs.random

    def row(self) -> dict[str, list[Any]]:
        sides = next(self.pairs)
        seen = [[self.mask if self.random.random() < MASKED else word for word in side] for side in sides]
        words, shared = [], []
        for side, own, other in zip(sides, seen, reversed(seen), strict=True):
            found = set(other)
            masked = [shown == self.mask for shown in own]
            words.append([word if hidden else IGNORED for word, hidden in zip(side, masked, strict=True)])
            shared.append(
                [IGNORED if hidden else float(word in found) for word, hidden in zip(side, masked, strict=True)]
            )
        frame = self.frame

        def framed(before: list, first: list, between: list, second: list, after: list) -> list:
            return [*before, *first, *between, *second, *after]

        def silent(first: list, second: list) -> list:
            parts = [[IGNORED] * len(part) for part in (frame.before, frame.between, frame.after)]
            return framed(parts[0], first, parts[1], second, parts[2])

        row = {
            "input_ids": framed(frame.before, seen[0], frame.between, seen[1], frame.after),
            "words": silent(*words),
            "shared": silent(*shared),
        }
        if frame.segments is not None:
            before, first, between, second, after = frame.segments
            row["token_type_ids"] = framed(before, [first] * len(seen[0]), between, [second] * len(seen[1]), after)
        return row

    def __next__(self) -> dict[str, Any]:
        import torch

        rows = [self.row() for _ in range(self.rows)]
        longest = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self.pad, "words": IGNORED, "shared": float(IGNORED), "token_type_ids": 0}
        batch = {
            name: torch.tensor([row[name] + [fill[name]] * (longest - len(row[name])) for row in rows])
            for name in rows[0]
        }
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        batch["attention_mask"] = (torch.arange(longest) < lengths[:, None]).long()
        return batch


def asked(model: Any, sharing: Any, batch: dict[str, Any], device: str) -> dict[str, Any]:
    """Return the losses and the accuracies of both questions."""
    from torch.nn import functional

    batch = {name: values.to(device) for name, values in batch.items()}
    words, shared = batch.pop("words"), batch.pop("shared")
    states = model.base_model(**batch)[0]
    masked, plain = words != IGNORED, shared != IGNORED
    logits, found = model.cls(states[masked]), sharing(states[plain])[:, 0]
    return {
        "loss of words": functional.cross_entropy(logits.float(), words[masked]),
        "loss of sharing": functional.binary_cross_entropy_with_logits(found.float(), shared[plain]),
        "words": (logits.argmax(-1) == words[masked]).float().mean(),
        "sharing": ((found > 0) == (shared[plain] > 0.5)).float().mean(),
        "shared in all": shared[plain].mean(),
    }


def train(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from tqdm import tqdm
    from transformers import AutoModelForMaskedLM, AutoTokenizer, get_linear_schedule_with_warmup, set_seed

    set_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForMaskedLM.from_pretrained(options.model, dtype="float32").to(options.device)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    sharing = torch.nn.Linear(model.config.hidden_size, 1).to(options.device)
    texts = texts_of(options.text, options.data)
    random.Random(options.seed).shuffle(texts)
    clauses = clauses_of(texts, tokenizer)
    batches = Batches(Pairs(clauses[KEPT:], options.seed), tokenizer, options.batch_size)
    kept = Batches(Pairs(clauses[:KEPT], 0), tokenizer, options.batch_size)
    kept_batches = [next(kept) for _ in range(10)]
    parameters = [*model.parameters(), *sharing.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, options.steps // 20, options.steps)
    start, reports = time.perf_counter(), []
    model.train()
    for step in (bar := tqdm(range(1, options.steps + 1), disable=options.quiet)):
        found = asked(model, sharing, next(batches), options.device)
        words = FEW_WORDS if step <= options.steps * FIRST else 1.0
        (words * found["loss of words"] + found["loss of sharing"]).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % max(1, options.steps // 10) == 0:
            model.eval()
            with torch.inference_mode():
                figures = [asked(model, sharing, batch, options.device) for batch in kept_batches]
            model.train()
            means = {name: round(sum(each[name].item() for each in figures) / len(figures), 4) for name in figures[0]}
            reports.append({"step": step, **means})
            bar.write(json.dumps(reports[-1]))
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    return {
        "texts": len(texts),
        "settings": {name: getattr(options, name) for name in ("steps", "batch_size", "rate", "seed")},
        "seconds": round(time.perf_counter() - start, 1),
        "kept out": reports,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="*", type=Path, default=[], help=".jsonl files of objects with `text`")
    parser.add_argument("--data", nargs="*", default=[], help="folders in the contest's format")
    parser.add_argument("--output", type=Path, required=True, help="folder for the encoder")
    parser.add_argument(
        "--model", type=Path, help="folder of a masked language model; the packaged tiny WoBERT by default"
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args()
    if not options.text and not options.data:
        parser.error("give --text or --data: there is nothing to read")

    from kexue_hf import convert

    options.output.mkdir(parents=True, exist_ok=True)
    if options.model is None:
        with resources.as_file(resources.files("kexue_hf") / "assets" / "wobert_tiny") as packaged:
            options.model = options.output / "start"
            if not options.model.exists():
                convert(packaged, options.model, dtype="float32")
    result = train(options)
    content = json.dumps(result, indent=2, ensure_ascii=False)
    (options.output / "training.json").write_text(content + "\n", encoding="utf-8")
    print(content)


if __name__ == "__main__":
    main()
