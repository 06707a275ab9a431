"""Measure the cost of conditional layer norms and the gain of batches of similar lengths.

    python benchmarks/matcher.py --data sohu2021 --vocab WOBERT_VOCAB [--device cuda] [--parts overhead bucketing]

overhead: a forward pass and a training step (forward, backward, AdamW) of a matcher of six tasks, against the same
network with plain layer norms. Contenders: all rows of one task; rows of all tasks in a batch; the matcher folded to
one task; and transformers' RoFormer with mean pooling and a linear layer, which only has eager attention. The weights
are random, of BERT-base's width, and take as long as trained ones. The vocabulary is small, since a large one would
add the same time to all. All rows have one length. A step leaves out what would cost all contenders the same and make
the overhead look smaller: dropout, padding, gradient clipping, averaged weights, tokenizing and collating.

bucketing: training steps with dropout on rows of all tasks, as examples/finetune_matcher.py prepares and orders them,
in batches of arbitrary lengths and of similar lengths. A repetition is a window of the shuffled rows, which both
orders read. Tokenizing, sorting, padding and the transfer to the device are not timed, nor are gradient clipping and
averaged weights, which do not depend on the length. The gain in a whole training is smaller accordingly.

On a CPU the script uses one thread and counts processor time, which other work on the machine does not change. On an
accelerator it counts the time until the work is done. The contenders' repetitions alternate, each after an untimed
call of the same contender, so none pays for what the previous one left in the caches. Medians are reported. Writes
benchmarks/results/matcher.json; parts that are not run keep their figures. --quick runs small sizes, whose figures
mean nothing, and writes no file.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from measuring import interleave, machine, read_result, summary, write_result

PARTS = ("overhead", "bucketing")
PLAIN, ONE, MIXED, FOLDED, PEER = (
    "plain layer norms",
    "conditional, one task",
    "conditional, mixed tasks",
    "folded",
    "transformers' RoFormer, eager",
)
ANY, ALIKE = "random", "group_by_length"
TASKS = 6
LEFT_OUT = ["gradient clipping", "averaged weights", "tokenizing", "collating"]
WANTED = {"overhead at most": 0.05, "overhead folded": 0.0, "throughput of bucketing at least": 1.5}


def clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    import torch

    torch.accelerator.synchronize()
    return time.perf_counter()


def timed(device: str, run: Callable[[], Any]) -> float:
    """Return the seconds of a call."""
    start = clock(device)
    run()
    return clock(device) - start


def after_untimed(run: Callable[[], float]) -> float:
    """Return what a second call measures, so that none depends on what another contender left in the caches."""
    run()
    return run()


def training_step(model: Any, optimizer: Any, batch: dict[str, Any]) -> None:
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def sizes_of(width: int, layers: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": 4 * width,
        "max_position_embeddings": 512,
    }


def optimizer_of(model: Any) -> Any:
    import torch

    return torch.optim.AdamW(model.parameters(), lr=1e-5)


# --- overhead -------------------------------------------------------------------------------------------------------


def peer_of(sizes: dict[str, Any]) -> Any:
    """Return transformers' RoFormer with the matcher's head: mean pooling and a linear layer."""
    from torch import nn
    from torch.nn import functional
    from transformers import RoFormerConfig, RoFormerModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Peer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.roformer = RoFormerModel(RoFormerConfig(**sizes))
            self.classifier = nn.Linear(sizes["hidden_size"], 2)

        def forward(self, labels: Any = None, **batch: Any) -> Any:
            logits = self.classifier(self.roformer(**batch).last_hidden_state.mean(1))
            loss = None if labels is None else functional.cross_entropy(logits, labels)
            return SequenceClassifierOutput(loss=loss, logits=logits)

    return Peer()


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from kexue_hf import ClnMatcherConfig, ClnMatcherForSequenceClassification

    torch.manual_seed(0)
    sizes = {"vocab_size": 2000, **sizes_of(options.hidden_size, options.layers)}
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    matcher = ClnMatcherForSequenceClassification(ClnMatcherConfig(num_tasks=TASKS, **sizes, **without))
    plain = ClnMatcherForSequenceClassification(ClnMatcherConfig(conditional=False, **sizes, **without))
    models = {PLAIN: plain, ONE: matcher, MIXED: matcher, FOLDED: matcher.fold_task(0), PEER: peer_of(sizes | without)}
    for model in models.values():
        model.to(options.device)
    rows, length, device = options.rows, options.length, options.device
    common = {
        "input_ids": torch.randint(1, sizes["vocab_size"], (rows, length), device=device),
        "attention_mask": torch.ones(rows, length, dtype=torch.long, device=device),
    }
    tasks = {ONE: torch.zeros(1, dtype=torch.long, device=device), MIXED: torch.arange(rows, device=device) % TASKS}
    batches = {name: common | ({"task_ids": tasks[name]} if name in tasks else {}) for name in models}
    found: dict[str, Any] = {
        "network": {name: sizes[name] for name in ("hidden_size", "num_hidden_layers", "vocab_size")},
        "batch": [rows, length],
        "a step has no": ["dropout", "padding", *LEFT_OUT],
        "parameters": {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()},
    }

    def forward(name: str) -> float:
        models[name].eval()
        with torch.inference_mode():
            return timed(device, lambda: models[name](**batches[name]))

    optimizers = {id(model): optimizer_of(model) for model in models.values()}
    labels = torch.arange(rows, device=device) % 2

    def step(name: str) -> float:
        model, batch = models[name].train(), batches[name] | {"labels": labels}
        return timed(device, lambda: training_step(model, optimizers[id(model)], batch))

    for what, run in (("forward", forward), ("training step", step)):
        for name in models:
            run(name)  # first calls create thread pools and the optimizer's moments
        seconds = interleave(
            {name: partial(after_untimed, partial(run, name)) for name in models}, options.repetitions
        )
        cells = {name: summary(times, 5) for name, times in seconds.items()}
        found[what] = {
            "seconds": cells,
            # Within each repetition, whose contenders ran one after the other.
            "more than plain layer norms": {
                name: summary([a / b - 1 for a, b in zip(seconds[name], seconds[PLAIN], strict=True)])
                for name in models
                if name != PLAIN
            },
        }
    return found


# --- bucketing ------------------------------------------------------------------------------------------------------


def bucketing(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import set_seed

    from examples.finetune_matcher import MatchingCollator, encoded
    from kexue_hf import ClnMatcherConfig, ClnMatcherForSequenceClassification, WoBertTokenizer
    from kexue_hf.corpora.matching_rows import read_matching_rows, tasks_of
    from kexue_hf.corpora.row_order import WINDOW, Batches, Share, Table
    from kexue_hf.pipelines.text_pairs import pair_frame_of

    set_seed(0)
    rows = read_matching_rows(options.data)
    names = tasks_of(rows)
    tokenizer = WoBertTokenizer(str(options.vocab))
    table = Table(encoded(rows, names, tokenizer, pair_frame_of(tokenizer), 512))
    lengths = table.column("length")
    config = ClnMatcherConfig(
        vocab_size=len(tokenizer), task_names=names, **sizes_of(options.bucketing_hidden_size, options.layers)
    )
    model = ClnMatcherForSequenceClassification(config).to(options.device).train()
    optimizer, collate = optimizer_of(model), MatchingCollator(tokenizer)
    share = Share(options.rows)
    windows = min(options.windows, len(table) // (share.rows * WINDOW))
    per_window = WINDOW
    if not windows:  # with fewer rows than a window, all rows are the window
        windows, per_window = 1, len(table) // share.rows
    if options.quick:
        windows, per_window = min(windows, 2), min(per_window, 3)
    made: dict[str, list[list[dict[str, Any]]]] = {}
    for strategy in (ANY, ALIKE):
        batches = list(Batches(len(table), share, 0, strategy, lengths))
        made[strategy] = [
            [{k: v.to(options.device) for k, v in collate(table.__getitems__(keys)).items()} for keys in window]
            for window in (batches[n * WINDOW : n * WINDOW + per_window] for n in range(windows))
        ]

    def run(strategy: str, number: int) -> float:
        """Return rows per second."""

        def train() -> None:
            for batch in made[strategy][number]:
                training_step(model, optimizer, batch)

        training_step(model, optimizer, made[strategy][number][0])  # untimed, see `after_untimed`
        return options.rows * per_window / timed(options.device, train)

    for strategy in made:
        training_step(model, optimizer, made[strategy][0][0])
    numbers = {strategy: iter(range(windows)) for strategy in made}
    speeds = interleave({s: lambda s=s: run(s, next(numbers[s])) for s in made}, windows)
    return {
        "network": {name: getattr(config, name) for name in ("hidden_size", "num_hidden_layers", "vocab_size")},
        "rows of a batch": options.rows,
        "batches of a repetition": per_window,
        "a step has no": LEFT_OUT,
        "rows of the data": {name: sum(row.task == name for row in rows) for name in names},
        "tokens of a row": {
            name: round(
                float(np.mean([length for row, length in zip(rows, lengths, strict=True) if row.task == name])), 1
            )
            for name in names
        },
        "longest row": int(lengths.max()),
        "share of padding": {strategy: round(padding(made[strategy]), 4) for strategy in made},
        "rows a second": {strategy: summary(values, 3) for strategy, values in speeds.items()},
        "similar lengths against any": summary([a / b for a, b in zip(speeds[ALIKE], speeds[ANY], strict=True)], 3),
        "threads": torch.get_num_threads(),
    }


def padding(windows: Sequence[Sequence[dict[str, Any]]]) -> float:
    """Return the share of padding among all tokens."""
    masks = [batch["attention_mask"] for window in windows for batch in window]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--data", nargs="+", help="folders for bucketing, as for examples/finetune_matcher.py")
    parser.add_argument("--vocab", type=Path, help="vocab.txt of a WoBERT; the packaged one by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hidden_size", type=int, default=768)
    parser.add_argument(
        "--bucketing_hidden_size",
        type=int,
        default=256,
        help="width of the network for bucketing; a thousand takes long on a CPU",
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rows", type=int, default=16, help="rows of a batch, for the overhead")
    parser.add_argument("--length", type=int, default=64, help="tokens of a row, for the overhead")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--windows", type=int, default=5, help="repetitions of bucketing, of 64 batches each")
    parser.add_argument("--quick", action="store_true", help="try the script with small sizes; write nothing")
    options = parser.parse_args()
    if "bucketing" in options.parts and not options.data:
        parser.error("bucketing needs --data")
    if options.quick:
        options.hidden_size = options.bucketing_hidden_size = 64
        options.layers, options.repetitions = 1, 2

    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    if options.device == "cpu":
        torch.set_num_threads(1)
    result = read_result("matcher")
    result["wanted"] = WANTED
    with resources.as_file(resources.files("kexue_hf") / "assets" / "wobert_tiny" / "vocab.txt") as packaged:
        options.vocab = options.vocab or packaged
        for part in options.parts:
            found = {"overhead": overhead, "bucketing": bucketing}[part](options)
            device = options.device if options.device == "cpu" else torch.cuda.get_device_name()
            result[part] = {"machine": {**machine("torch", "transformers"), "device": device}, **found}
            print(json.dumps(result[part], indent=2, ensure_ascii=False))
            if not options.quick:
                write_result("matcher", result)


if __name__ == "__main__":
    main()
