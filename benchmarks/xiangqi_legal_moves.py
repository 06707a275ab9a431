"""Cost of `LegalMoves` in `generate`: games of xiangqi written by a model with random weights, with it and without.

    python benchmarks/xiangqi_legal_moves.py

The model has 4.9M parameters (6 layers of 256) and a cache; a game has 40 moves. All contenders run in turn in one
process with one thread; the figure is its CPU time for each step, in which every game of the batch gets a token, and
medians are reported. The processor's own time is measured inside the same runs.
Writes results/xiangqi_legal_moves.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from measuring import interleave, machine, summary, write_result

from kexue_hf import LegalMoves, XiangqiGptConfig, XiangqiGptForCausalLM, XiangqiTokenizer

MOVES = 40
SIZES = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 1024}


class Timed(LegalMoves):
    """The processor, with the CPU seconds spent in it."""

    seconds = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        started = time.process_time()
        scores = super().__call__(input_ids, scores)
        self.seconds += time.process_time() - started
        return scores


def contender(
    model: Any, tokenizer: XiangqiTokenizer, games: int, legal: bool, own: list[float]
) -> Callable[[], float]:
    """Return a run that gives the CPU milliseconds of a step; those of the processor are added to `own`."""
    batch = tokenizer([""] * games, return_tensors="pt")
    steps = MOVES * tokenizer.ids_per_move

    def run() -> float:
        processor = Timed(tokenizer)
        options: dict[str, Any] = {"logits_processor": [processor]} if legal else {"min_new_tokens": steps}
        torch.manual_seed(0)
        started = time.process_time()
        ids = model.generate(**batch, max_new_tokens=steps, do_sample=True, top_k=0, **options)
        seconds = time.process_time() - started
        done = ids.shape[1] - 1
        if legal:
            own.append(processor.seconds / done * 1000)
        return seconds / done * 1000

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases: dict[str, Any] = {}
    for vocab in ("characters", "squares"):
        tokenizer = XiangqiTokenizer(vocab=vocab)
        torch.manual_seed(0)
        model = XiangqiGptForCausalLM(XiangqiGptConfig(vocab_size=len(tokenizer), **SIZES)).eval()
        for games in (1, 16):
            own: list[float] = []
            contenders = {
                name: contender(model, tokenizer, games, legal, own)
                for name, legal in (("free", False), ("legal", True))
            }
            measured = interleave(contenders, options.repetitions)
            cases[f"{vocab}, {games} {'game' if games == 1 else 'games'}"] = {
                "ms a step": {name: summary(values) for name, values in measured.items()},
                "ms of the processor a step": summary(own),
                "ms of the processor a token": round(summary(own)["median"] / games, 4),
            }
    result = {
        "what": "CPU time of a step of generate with one thread, in milliseconds",
        "machine": machine("torch", "transformers"),
        "moves": MOVES,
        "cases": cases,
    }
    write_result("xiangqi_legal_moves", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
