"""Score every token of a sentence: one pass of a T-TA against a masked language model with one pass per token.

    python benchmarks/tta_scoring.py            # writes results/tta_scoring.json and docs/tta_scoring.svg
    python benchmarks/tta_scoring.py --quick    # tries short sentences and writes nothing

One sentence at a time; repetitions are interleaved, after a warm-up of each contender on 32 tokens. The script uses
one thread and counts processor time, which other work on the machine does not change. The weights are random and take
as long as trained ones; base size has WoBERT's vocabulary of 33,586, the official checkpoint's size its 29,530.
Contenders:

* T-TA: ours (`leave_one_out`): one pass, with the vocabulary projection only at the scored tokens.
* BERT, ours: `leave_one_out` as well: the projection only at the masked position of each copy, and copies in batches
  of a bounded number of tokens. It is the fastest way we know for a masked language model.
* BERT, plain: n masked copies as one batch, `model(...).logits`, as scripts for pseudo-log-likelihood do.

Wherever a ratio is shown, both are; the ratio to the best masking is the smaller one and comes first.

The encoder alone is timed against BertModel of the same size on the same rows, which is the cost of the second stream.
Takes seven to eight minutes on one core.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from drawing import picture_of
from measuring import BASE_SIZES, ROOT, interleave, machine, summary, write_result

# Tokens of a sentence, including special ones -> repetitions
LENGTHS = {16: 7, 32: 5, 64: 3, 128: 3}
WARM_UP = 32
OURS, MASKED, PLAIN = "T-TA", "BERT, ours", "BERT, plain"
SIZES: dict[str, dict[str, int]] = {
    "base: 12 layers, 768": {"vocab_size": 33_586, **BASE_SIZES},
    "official: 3 layers, 512": {
        "vocab_size": 29_530,
        "hidden_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "max_position_embeddings": 128,
    },
}
WANTED = {
    "against": PLAIN,
    "times faster, base, 32 tokens": 12,
    "times faster, base, 128 tokens": 80,
    "trunk, of BERT's time": 1.05,
}
MASK = 4


def timed(work: Callable[[], Any], times: int = 1) -> float:
    """Return the processor seconds of a call, the median of `times` calls."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return median(seconds)


def score(model: Any, ids: Any) -> Any:
    """Return the log-probabilities of all tokens but the two special ones, as the package computes them."""
    import torch

    from kexue_hf.pipelines.leave_one_out import leave_one_out

    wanted = torch.ones_like(ids, dtype=torch.bool)
    wanted[:, [0, -1]] = False
    found = torch.zeros(ids.shape)

    def keep(scores: Any, rows: Any, columns: Any) -> None:
        found[rows, columns] = scores.gather(1, ids[rows, columns][:, None])[:, 0]

    leave_one_out(model, ids, None, wanted, keep, mask_token_id=MASK)
    return found[0, 1:-1]


def score_plainly(model: Any, ids: Any) -> Any:
    """Return the same from masked copies in one batch and the scores of the whole model."""
    import torch

    places = torch.arange(1, ids.shape[1] - 1)
    copies = ids.repeat(len(places), 1)
    copies[torch.arange(len(places)), places] = MASK
    with torch.inference_mode():
        logits = model(input_ids=copies).logits[torch.arange(len(places)), places]
        return logits.log_softmax(-1).gather(1, ids[0, places][:, None])[:, 0]


def forward(model: Any, ids: Any) -> None:
    import torch

    with torch.inference_mode():
        model(input_ids=ids)


def models(sizes: dict[str, int]) -> tuple[Any, Any]:
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from kexue_hf import TtaConfig, TtaForMaskedLM

    torch.manual_seed(0)
    return TtaForMaskedLM(TtaConfig(**sizes)).eval(), BertForMaskedLM(BertConfig(**sizes)).eval()


def compare(tta: Any, bert: Any, length: int, repetitions: int) -> dict[str, Any]:
    """Return the seconds per sentence of each contender, and how many times faster a T-TA is."""
    import torch

    ids = torch.randint(10, tta.config.vocab_size, (1, length))
    if length <= 32:
        torch.testing.assert_close(score(bert, ids), score_plainly(bert, ids), atol=1e-4, rtol=0)
    ways = {OURS: partial(score, tta), MASKED: partial(score, bert), PLAIN: partial(score_plainly, bert)}
    for way in ways.values():
        way(ids[:, :WARM_UP])
    contenders = {name: partial(timed, partial(way, ids), 5 if name == OURS else 1) for name, way in ways.items()}
    measured = interleave(contenders, repetitions)
    seconds = {name: summary(times) for name, times in measured.items()}
    ratios = {name: median(measured[name]) / median(measured[OURS]) for name in (MASKED, PLAIN)}
    return {"seconds": seconds, "times faster than": {name: round(ratio, 2) for name, ratio in ratios.items()}}


def compare_trunks(tta: Any, bert: Any, rows: int, length: int, seconds: float) -> dict[str, Any]:
    """Return the milliseconds of a forward pass without the head, and the median ratio.

    The ratio is taken within each repetition, whose two passes run one after the other.
    """
    import torch

    ids = torch.randint(10, tta.config.vocab_size, (rows, length))
    contenders: dict[str, Callable[[], float]] = {
        "T-TA": partial(timed, partial(forward, tta.bert, ids)),
        "BERT": partial(timed, partial(forward, bert.bert, ids)),
    }
    once = sum(contender() for contender in [*contenders.values()] * 2) / 2
    measured = interleave(contenders, min(400, max(5, round(seconds / once))))
    ratios = [one / other for one, other in zip(measured["T-TA"], measured["BERT"], strict=True)]
    return {
        "repetitions": len(ratios),
        "ms": {name: round(1000 * median(times), 3) for name, times in measured.items()},
        "T-TA / BERT": round(median(ratios), 3),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "machine": {**machine("torch", "transformers"), "threads": 1},
        "wanted": WANTED,
        "sizes": {},
    }
    for name, sizes in SIZES.items():
        tta, bert = models(sizes)
        cells: dict[str, Any] = {"parameters": tta.num_parameters(), **sizes, "tokens": {}, "trunk": {}}
        result["sizes"][name] = cells
        for rows, length in arguments.trunks:
            cell = compare_trunks(tta, bert, rows, length, arguments.trunk_seconds)
            cells["trunk"][f"{rows} x {length}"] = cell
            print(f"{name}, trunk, {rows} x {length}: {cell['ms']} ms, {cell['T-TA / BERT']}", flush=True)
        for length, repetitions in arguments.lengths.items():
            cell = compare(tta, bert, length, repetitions)
            cells["tokens"][str(length)] = cell
            report(f"{name}, {length} tokens", cell)
    return result


def report(name: str, cell: dict[str, Any]) -> None:
    seconds = {contender: values["median"] for contender, values in cell["seconds"].items()}
    print(f"{name}: {seconds} s, {cell['times faster than']} times", flush=True)


def picture(sizes: dict[str, Any], path: Path) -> None:
    with picture_of(path, (8.5, 3.2), len(sizes), tight=False, sharey=True) as axes:
        colours = {OURS: "tab:blue", MASKED: "tab:orange", PLAIN: "0.45"}
        names = {OURS: OURS, MASKED: "BERT, best masking", PLAIN: PLAIN}
        for axis, (name, cells) in zip(axes, sizes.items(), strict=True):
            lengths = [int(length) for length in cells["tokens"]]
            for contender, colour in colours.items():
                heights = [1000 * cell["seconds"][contender]["median"] for cell in cells["tokens"].values()]
                axis.plot(lengths, heights, marker="o", color=colour, label=names[contender])
                if contender == OURS:
                    for length, height, cell in zip(lengths, heights, cells["tokens"].values(), strict=True):
                        ratios = [f"{cell['times faster than'][name]:.0f}" for name in (MASKED, PLAIN)]
                        note = f"{'–'.join(ratios)}x"
                        axis.annotate(
                            note, (length, height), (0, 7), textcoords="offset points", fontsize=8, ha="center"
                        )
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.margins(x=0.12)  # space for the first note
            axis.set_xticks(lengths, [str(length) for length in lengths])
            axis.set_xlabel("tokens of a sentence")
            axis.set_title(name, fontsize=10)
        axes[0].set_ylabel("ms a sentence")
        axes[0].legend(fontsize=8, frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short sentences and one repetition; write nothing")
    arguments = parser.parse_args()
    arguments.lengths = {16: 1, 32: 1} if arguments.quick else LENGTHS
    arguments.trunks = ((1, 32),) if arguments.quick else ((1, 32), (1, 128), (8, 32), (8, 128))
    arguments.trunk_seconds = 2.0 if arguments.quick else 4.0
    result = measure(arguments)
    if arguments.quick:
        return
    picture(result["sizes"], ROOT / "docs" / "tta_scoring.svg")
    print(f"written to {write_result('tta_scoring', result)}")


if __name__ == "__main__":
    main()
