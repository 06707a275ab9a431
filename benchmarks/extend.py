"""Add 20,000 words to a BERT of base size: `kexue-hf extend` against transformers' own way, in whole processes.

    python benchmarks/extend.py

The script writes a BertForPreTraining of random weights with 21,128 tokens (characters, their ## pieces, [unused...])
to a temporary folder and runs, in turn:

* kexue-hf extend, the whole process as a user starts it: choosing the words, reading, writing, fsync
* transformers, which is given the same words: from_pretrained, tokenizer.add_tokens, resize_token_embeddings, a loop
  that initialises each new row to the mean of its word pieces, save_pretrained
* cp of the weights, for scale

It compares the new rows of the two results and writes benchmarks/results/extend.json.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, summary, write_result

from conversion import CONVERT, PARTS, RandomWeights, run
from conversion import SIZES as WOBERT_SIZES
from kexue_hf.conversion.formats.safetensors import SafetensorsFile, write_safetensors
from kexue_hf.conversion.formats.weight_source import BY_NAME, Move
from kexue_hf.conversion.weight_plan import expand
from kexue_hf.models.wobert import weight_map_wobert as weight_map
from kexue_hf.vocabulary.corpus_counts import dictionary_frequencies

WORDS, TOKENS = 20_000, 21_128
SIZES = WOBERT_SIZES | {"vocab_size": TOKENS}
EMBEDDINGS = "bert.embeddings.word_embeddings.weight"

TRANSFORMERS = """
import sys
import torch
from transformers import AutoModelForPreTraining, AutoTokenizer
source, output, words = sys.argv[1:]
words = open(words, encoding="utf-8").read().split("\\n")[:-1]
tokenizer = AutoTokenizer.from_pretrained(source)
model = AutoModelForPreTraining.from_pretrained(source)
pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
tokenizer.add_tokens(words)
model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
rows, bias = model.get_input_embeddings().weight, model.get_output_embeddings().bias
with torch.no_grad():
    for word, ids in zip(words, pieces):
        index = tokenizer.convert_tokens_to_ids(word)
        rows[index] = rows[ids].double().mean(0)
        bias[index] = bias[ids].double().mean()
model.save_pretrained(output)
tokenizer.save_pretrained(output)
"""


def make_bert(folder: Path) -> int:
    """Write a BERT as transformers does: weights, configuration, vocabulary; return the number of parameters."""
    parameters = expand(weight_map.PARAMETERS, SIZES)
    shapes = {
        name: tuple(SIZES[size] if isinstance(size, str) else size for size in shape)
        for name, (part, shape) in parameters.items()
        if part in PARTS
    }
    moves = [Move(name, name, False, shape, BY_NAME["float32"]) for name, shape in shapes.items()]
    write_safetensors(folder / "model.safetensors", RandomWeights(shapes), moves)
    config = SIZES | {"model_type": "bert", "architectures": ["BertForPreTraining"], "hidden_act": "gelu"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary()), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    return sum(int(np.prod(shape)) for shape in shapes.values())


def vocabulary() -> list[str]:
    """Return a vocabulary like Google's Chinese BERT's: special tokens, letters, common characters and ## pieces."""
    counts: dict[str, int] = {}
    for word, count in dictionary_frequencies().items():
        for character in word:
            counts[character] = counts.get(character, 0) + count
    special = ["[PAD]", *(f"[unused{number}]" for number in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    chinese = sorted((c for c in counts if "\u4e00" <= c <= "\u9fff"), key=lambda c: (-counts[c], c))
    chinese = chinese[: (TOKENS - len(special)) // 2 - len(letters)]
    tokens = [*special, *letters, *chinese, *(f"##{c}" for c in letters), *(f"##{c}" for c in chinese)]
    return [*tokens, *(f"##filler{number}" for number in range(TOKENS - len(tokens)))]


def compare(ours: Path, theirs: Path) -> str:
    """Compare the rows of the new words, the last ones in both files."""
    with SafetensorsFile(ours / "model.safetensors") as one, SafetensorsFile(theirs / "model.safetensors") as other:
        rows, others = one.read(EMBEDDINGS)[-WORDS:], other.read(EMBEDDINGS)[-WORDS:]
        if not np.array_equal(rows, others):
            return f"the rows of the new words differ by up to {np.abs(rows - others).max():.1e}"
        return f"the {WORDS:,} new rows are equal, bit for bit"


def measure(work: Path, repetitions: int) -> dict[str, Any]:
    """Run all contenders and return the content of the result file."""
    load_before = round(os.getloadavg()[0], 2)
    source, words = work / "source", work / "words.txt"
    source.mkdir()
    parameters = make_bert(source)
    python, weights = sys.executable, str(source / "model.safetensors")
    ours = [python, "-c", CONVERT, "extend", str(source), str(work / "out-ours"), "--words", str(WORDS), "--quiet"]
    run(ours)
    tokens = (work / "out-ours" / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    words.write_text("".join(f"{token}\n" for token in tokens[-WORDS:]), encoding="utf-8")
    commands = {
        "kexue-hf extend": ours,
        "transformers": [python, "-c", TRANSFORMERS, str(source), str(work / "out-theirs"), str(words)],
        "cp": ["cp", weights, str(work / "out-cp")],
        "import transformers' BERT": [python, "-c", "from transformers import BertForPreTraining"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repetitions):
        for name, command in commands.items():
            for old in work.glob("out-*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            os.sync()
            took, peak, _ = run(command)
            seconds[name].append(took)
            memory[name].append(peak)
    run(commands["kexue-hf extend"])
    run(commands["transformers"])
    equal = compare(work / "out-ours", work / "out-theirs")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    peak = {name: statistics.median(values) for name, values in memory.items()}
    return {
        "what": f"{WORDS:,} words for a BERT of {TOKENS:,} tokens; whole processes; seconds, peak RSS in MB",
        "machine": machine("numpy", "torch", "transformers", "tokenizers", "jieba"),
        "other load": {"load average before": load_before, "load average after": round(os.getloadavg()[0], 2)},
        "model": {"parameters": parameters, "bytes": os.path.getsize(weights), "tokens after": len(tokens)},
        "about transformers": "is given the words, keeps the ## pieces, and makes added tokens, which it searches for "
        "in every text",
        "seconds": {name: summary(values, 2) for name, values in seconds.items()},
        "peak RSS in MB": {name: summary(values, 1) for name, values in memory.items()},
        "ratios": {
            "times faster than transformers": round(median["transformers"] / median["kexue-hf extend"], 2),
            "times less memory": round(peak["transformers"] / peak["kexue-hf extend"], 2),
        },
        "rows": equal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--folder", help="where to work (default: the system's temporary folder); needs 2 GB")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as work:
        write_result("extend", measure(Path(work), arguments.repetitions))


if __name__ == "__main__":
    main()
