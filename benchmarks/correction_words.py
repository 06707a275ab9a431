"""How much rarer are errors within words that jieba knows? Counted on SIGHAN's training rows (data for research).

    python benchmarks/correction_words.py --data csc

DATA has train.jsonl: objects with `source` and `target` of one length. The erroneous texts are cut into jieba's words
without guessed ones. Of the characters in words of one, of two, and of three and more characters, right and wrong ones
are counted; a cost is the logarithm of the odds of being right, less that of single characters. One decimal is kept.

Writes benchmarks/results/correction_words.json, which a test holds against `WORD_COSTS`.
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
    """Right and wrong characters, by the length of the word (3: and longer) that they stand in."""
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
