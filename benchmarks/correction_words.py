"""Count how much rarer errors are within words that jieba knows, on SIGHAN's training rows (data for research).

    python benchmarks/correction_words.py --data csc

DATA has train.jsonl: objects with `source` and `target` of equal length. jieba cuts the erroneous texts into words of
its dictionary only. The script counts right and wrong characters in words of one, two, and three or more characters.
A cost is the log odds that a character is right, minus the log odds for single characters, rounded to one decimal.

Writes benchmarks/results/correction_words.json. A test compares it with `WORD_COSTS`.
"""

import argparse
import json
import math
from collections import Counter
from pathlib import Path

import rjieba
from measuring import machine, write_result

from kexue_hf.pipelines.confusion import is_han


def count(lines: list[str]) -> dict[str, dict[str, int]]:
    """Count right and wrong characters by the length of their word, where 3 stands for three or more."""
    found: Counter[tuple[str, int]] = Counter()
    for line in lines:
        row = json.loads(line)
        position = 0
        for word in rjieba.cut(row["source"], False):
            for char in word:
                if is_han(char):
                    right = char == row["target"][position]
                    found["right" if right else "wrong", min(len(word), 3) if is_han(word) else 1] += 1
                position += 1
    return {kind: {str(length): found[kind, length] for length in (1, 2, 3)} for kind in ("right", "wrong")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl")
    counts = count((parser.parse_args().data / "train.jsonl").read_text(encoding="utf-8").splitlines())
    odds = {length: math.log(counts["right"][length] / counts["wrong"][length]) for length in counts["right"]}
    result = {
        "what": "errors within jieba's words, on SIGHAN's training rows (data for research)",
        "characters by the length of their word": counts,
        "costs": {length: round(odds[length] - odds["1"], 1) for length in odds},
        "machine": machine("rjieba"),
    }
    print(write_result("correction_words", result))
    print(result["costs"])


if __name__ == "__main__":
    main()
