"""How much faster are words? A word BERT against a character BERT of the same size, tokenizing and encoding reviews.

    python benchmarks/wobert_speed.py --reviews FILE.jsonl --vocab WOBERT_VOCAB

Both encoders are of base size (12 layers, 768) with random weights, which take as long as trained ones. Both read the
same texts in batches of the same size: in their given order, or sorted by number of tokens, which we recommend
whenever all texts are available (`train_sampling_strategy="group_by_length"` in training). The character vocabulary is
the word vocabulary without its words.

A text of N characters is a review of at least N characters, cut to N. The script uses one thread and counts processor
time, which other work on the machine does not change; the repetitions of all contenders alternate. Writes
results/wobert_speed.json and docs/wobert_speed.svg.
"""

import argparse
import itertools
import random
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from drawing import picture_of
from measuring import ROOT, interleave, json_lines, machine, summary, write_result

LENGTHS = (128, 256, 512)
ORDERS = ("as they come", "sorted by length")
UNITS = ("characters", "words")
# From https://kexue.fm/archives/7758: speed against BERT on a GPU.
POST = {128: 1.16, 256: 1.22, 512: 1.28}
WANTED = 1.3
is_word = re.compile("[\u4e00-\u9fff]{2,}").fullmatch


def batches(rows: list[list[int]], order: str, size: int, pad: int) -> list[Any]:
    """Return rows of ids as padded tensors [size, longest]."""
    import torch

    rows = sorted(rows, key=len, reverse=True) if order == "sorted by length" else rows
    made = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        longest = max(map(len, part))
        made.append(torch.tensor([row + [pad] * (longest - len(row)) for row in part]))
    return made


def encode(tokenizer: Any, model: Any, texts: list[str], order: str, size: int) -> float:
    """Return the processor seconds from the texts to the last hidden state of the last batch."""
    import torch

    start = time.process_time()
    rows = tokenizer(texts, truncation=True, max_length=512)["input_ids"]
    with torch.inference_mode():
        for ids in batches(rows, order, size, tokenizer.pad_token_id):
            model(input_ids=ids, attention_mask=ids.ne(tokenizer.pad_token_id).long())
    return time.process_time() - start


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    from kexue_hf import WoBertConfig, WoBertModel, WoBertTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    texts = [row["text"] for row in json_lines(arguments.reviews)]
    words = WoBertTokenizer(str(arguments.vocab))
    characters = BertTokenizer(
        vocab={token: number for number, token in enumerate(t for t in words.get_vocab() if not is_word(t))}
    )
    tokenizers = {"characters": characters, "words": words}
    models = {
        "characters": BertModel(BertConfig(vocab_size=len(characters)), add_pooling_layer=False).eval(),
        "words": WoBertModel(WoBertConfig(vocab_size=len(words)), add_pooling_layer=False).eval(),
    }
    result: dict[str, Any] = {
        "machine": {**machine("torch", "transformers", "tokenizers", "rjieba"), "threads": 1},
        "batch size": arguments.batch_size,
        "vocabulary": {unit: len(tokenizer) for unit, tokenizer in tokenizers.items()},
        "the post's (GPU)": POST,
        "wanted at least, sorted by length": WANTED,
        "lengths": {},
    }
    for length in arguments.lengths:
        fitting = [text[:length] for text in texts if len(text) >= length]
        chosen = random.Random(0).sample(fitting, min(arguments.characters // length, len(fitting)))
        contenders: dict[str, Callable[[], float]] = {
            f"{unit}, {order}": partial(encode, tokenizers[unit], models[unit], chosen, order, arguments.batch_size)
            for order, unit in itertools.product(ORDERS, UNITS)
        }
        for unit in UNITS:
            encode(
                tokenizers[unit], models[unit], chosen[:2], ORDERS[0], 2
            )  # the first call fills caches and creates thread pools
        seconds = {name: summary(times) for name, times in interleave(contenders, arguments.repetitions).items()}
        tokens = {unit: sum(map(len, tokenizers[unit](chosen)["input_ids"])) for unit in UNITS}
        cells = {
            "texts": len(chosen),
            "seconds": seconds,
            "tokens": tokens,
            "tokens with padding": {
                f"{unit}, {order}": sum(
                    ids.numel()
                    for ids in batches(tokenizers[unit](chosen)["input_ids"], order, arguments.batch_size, 0)
                )
                for order, unit in itertools.product(ORDERS, UNITS)
            },
            "token ratio": round(tokens["characters"] / tokens["words"], 3),
            "speed of words": {
                order: round(seconds[f"characters, {order}"]["median"] / seconds[f"words, {order}"]["median"], 3)
                for order in ORDERS
            },
        }
        result["lengths"][str(length)] = cells
        print(
            f"{length} characters: token ratio {cells['token ratio']}, words are faster by {cells['speed of words']}"
        )
    return result


def picture(lengths: dict[str, Any], path: Path) -> None:
    with picture_of(path, (7.5, 3.2), tight=False) as (axes,):
        width = 0.27
        series = [
            ("here, texts as they come", "tab:blue", [c["speed of words"][ORDERS[0]] for c in lengths.values()]),
            ("here, sorted by length", "tab:green", [c["speed of words"][ORDERS[1]] for c in lengths.values()]),
            ("the post (GPU)", "0.75", [POST.get(int(length), 0) for length in lengths]),
        ]
        for number, (label, colour, heights) in enumerate(series):
            places = [place + (number - 1) * width for place in range(len(heights))]
            bars = axes.bar(places, heights, width, label=label, color=colour)
            axes.bar_label(bars, fmt="%.2f", fontsize=8)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks(range(len(lengths)), [f"{length} characters" for length in lengths])
        axes.set_ylabel("times the character BERT's speed")
        axes.set_ylim(0.9, None)
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=Path, required=True, help=".jsonl of objects with `text`")
    parser.add_argument("--vocab", type=Path, required=True, help="WoBERT's vocab.txt")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="characters per text")
    parser.add_argument("--characters", type=int, default=3 << 13, help="total characters of the texts of one length")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=2)
    result = measure(parser.parse_args())
    picture(result["lengths"], ROOT / "docs" / "wobert_speed.svg")
    print(f"written to {write_result('wobert_speed', result)}")


if __name__ == "__main__":
    main()
