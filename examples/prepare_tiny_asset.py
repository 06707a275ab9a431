"""Choose the demo's labelled samples from CSL, and the pre-training text of its tiny model.

    python examples/prepare_tiny_asset.py --csl data/csl --text data/zh_text/train.jsonl \\
        --samples kexue_hf/assets/samples --text-output pretraining.jsonl

The samples are titles and openings of abstracts of Chinese papers (CSL, Li et al., COLING 2022, Apache-2.0), equally
many from each of four fields. The pre-training corpus contains CSL abstracts too. Every text that shares 20
consecutive characters with the document of a held-out sample is removed from it, so the model has seen none of the
held-out documents, with or without label.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

# Humanities and social sciences are small in CSL, so they are one field.
FIELDS = {
    "工学": "工学",
    "医学": "医学",
    "农学": "农学",
    **dict.fromkeys(("管理学", "法学", "教育学", "经济学", "文学", "历史学", "哲学", "艺术学"), "人文社科"),
}
TRAIN_ROWS, HELD_OUT_ROWS = 66, 30  # of each field
TEXT_CHARACTERS = 110
NGRAM = 20


def read(path: Path) -> list[dict[str, Any]]:
    # Not splitlines: texts may hold other line separators.
    with path.open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def ngrams(text: str) -> set[str]:
    """Return all sequences of NGRAM letters and digits.

    Punctuation and spaces are skipped, because editions differ in them.
    """
    plain = "".join(character for character in text.lower() if character.isalnum())
    return {plain[i : i + NGRAM] for i in range(len(plain) - NGRAM + 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csl", type=Path, required=True, help="folder with CSL's train.jsonl and dev.jsonl")
    parser.add_argument("--text", type=Path, required=True, help="text for pre-training, .jsonl")
    parser.add_argument("--samples", type=Path, required=True, help="folder for train.jsonl and held_out.jsonl")
    parser.add_argument("--text-output", type=Path, required=True, help="the text without the held-out documents")
    options = parser.parse_args()

    documents: dict[str, list[dict[str, Any]]] = {field: [] for field in FIELDS.values()}
    for part in ("dev.jsonl", "train.jsonl"):  # held-out samples come from CSL's dev set as far as possible
        rows = read(options.csl / part)
        random.Random(0).shuffle(rows)
        for row in rows:
            if row["category"] in FIELDS:
                documents[FIELDS[row["category"]]].append(row)

    train, held_out, forbidden = [], [], set()
    for field, rows in documents.items():
        for row in rows[:HELD_OUT_ROWS]:
            held_out.append({"text": f"{row['title']}。{row['abstract']}"[:TEXT_CHARACTERS], "label": field})
            forbidden |= ngrams(row["abstract"])
        for row in rows[HELD_OUT_ROWS:]:
            taken = sum(sample["label"] == field for sample in train)
            if taken < TRAIN_ROWS and not ngrams(row["abstract"]) & forbidden:
                train.append({"text": f"{row['title']}。{row['abstract']}"[:TEXT_CHARACTERS], "label": field})
    random.Random(1).shuffle(train)
    random.Random(2).shuffle(held_out)
    write(options.samples / "train.jsonl", train)
    write(options.samples / "held_out.jsonl", held_out)

    text = read(options.text)
    kept = [row for row in text if not ngrams(row["text"]) & forbidden]
    write(options.text_output, kept)
    print(f"{len(train)} + {len(held_out)} samples; {len(kept)} of {len(text)} paragraphs kept for pre-training")


if __name__ == "__main__":
    main()
