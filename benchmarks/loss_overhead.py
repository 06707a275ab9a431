"""Measure what each loss adds to a training step of a base-size encoder over cross entropy.

    python benchmarks/loss_overhead.py

The step is forward, backward and AdamW of BERT-base with a classifier of 15 classes on 16 texts of 64 tokens. The
losses alone, forward and backward to the logits, take less than the step's noise, so they are timed alone, 200 calls
in a row, all losses in turn; the overhead is the difference from cross entropy divided by the step. One thread,
processor time, medians. Writes results/loss_overhead.json.
"""

import time
from collections.abc import Callable
from typing import Any

from measuring import BASE_SIZES, interleave, machine, summary, write_result

CLASSES, ROWS, LENGTH, CALLS = 15, 16, 64, 200


def main() -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from kexue_hf.losses import ClassPrior, make_loss
    from kexue_hf.losses.registry import LOSSES

    torch.set_num_threads(1)
    torch.manual_seed(0)
    prior = ClassPrior(tuple(range(10, 10 + CLASSES)))
    labels = torch.randint(CLASSES, (ROWS,))
    contenders = {name: make_loss(name, prior=prior) for name in LOSSES if name != "multi_label"}
    contenders["cross_entropy weight=inverse"] = make_loss("cross_entropy", ["weight=inverse"], prior)
    logits = torch.randn(ROWS, CLASSES, requires_grad=True)
    count = torch.tensor(ROWS)

    def timed(loss: Any) -> Callable[[], float]:
        def run() -> float:
            start = time.process_time()
            for _ in range(CALLS):
                loss({"logits": logits}, labels, count).backward()
            return (time.process_time() - start) / CALLS

        return run

    losses = interleave({name: timed(loss) for name, loss in contenders.items()}, 15)

    model = BertForSequenceClassification(BertConfig(vocab_size=1000, num_labels=CLASSES, **BASE_SIZES))
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(1000, (ROWS, LENGTH))

    def step() -> float:
        start = time.process_time()
        loss = contenders["cross_entropy"](model(ids), labels, count)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - start

    steps = summary([step() for _ in range(5)][1:])
    seconds = {name: summary(values, 7) for name, values in losses.items()}
    base = seconds["cross_entropy"]["median"]
    overhead = {name: round((found["median"] - base) / steps["median"], 6) for name, found in seconds.items()}
    result = {
        "machine": machine("torch", "transformers"),
        "setting": {"rows": ROWS, "tokens": LENGTH, "classes": CLASSES, "threads": 1},
        "seconds of a step": steps,
        "seconds of a loss": seconds,
        "overhead over cross entropy": overhead,
        "wanted at most": 0.01,
    }
    print({"step": steps["median"], "overhead": overhead})
    print(f"written to {write_result('loss_overhead', result)}")


if __name__ == "__main__":
    main()
