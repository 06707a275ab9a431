"""Measure how far linear attention is from softmax: every feature map, by number of features.

    python benchmarks/favor_error.py
    python benchmarks/favor_error.py --encoder all-MiniLM-L6-v2

The error is the relative L2 distance between the output and that of exact softmax. "mean of v" attends to all
positions alike, for comparison.

First table: queries, keys and values of independent normal entries, dimension 64, 1024 positions, by the standard
deviation of queries and keys. Calibrated maps were calibrated on another sample of the same distribution. Second
table, with --encoder: the queries, keys and values of a trained BERT, layer by layer, on a text that is not the
calibration text. Writes results/favor_error.json.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from measuring import ROOT, machine, write_result
from torch.nn.functional import scaled_dot_product_attention

from kexue_hf.models.performer_bert.attention_performer_bert import linear_attention
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FeatureMap, create_feature_map
from kexue_hf.performer.calibrate_map import calibrate

FEATURES = (64, 128, 256, 512, 1024)
DEVIATIONS = (0.25, 0.35, 0.5, 0.7, 1.0)
LENGTH, DIM, DRAWS = 1024, 64, 4
MAPS: dict[str, dict[str, Any]] = {
    "low_order": {"name": "low_order"},
    "low_order, calibrated": {"name": "low_order", "calibrated": True},
    "favor+, chi": {"name": "favor+"},
    "favor+, sqrt_d": {"name": "favor+", "norm": "sqrt_d"},
    "favor+, stratified": {"name": "favor+", "norm": "stratified"},
    "favor++": {"name": "favor++"},
    "favor++, calibrated": {"name": "favor++", "calibrated": True},
    # Not trained: its directions are centroids of the sample's keys.
    "learned, calibrated": {"name": "learned", "calibrated": True},
}
# Tokens of the text to read: the positions that a BERT is trained with.
WINDOW = 512

States = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="folder of a BERT, for the second table")
    parser.add_argument("--text", type=Path, default=ROOT / "LICENSE", help="text to measure on")
    parser.add_argument("--calibration-text", type=Path, default=ROOT / "CONTRIBUTING.md", help="text to calibrate on")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    started = time.process_time()
    result = {
        "what": "relative L2 distance of the output of linear attention from that of exact softmax",
        "machine": machine("torch", "transformers"),
        "threads": options.threads,
        "independent entries": {
            "positions": LENGTH,
            "head_dim": DIM,
            "draws, of which the mean is given": DRAWS,
            "by standard deviation of queries and keys": {str(std): _independent(std) for std in DEVIATIONS},
        },
        "encoder": _encoder(options) if options.encoder else None,
    }
    result["CPU seconds in all"] = round(time.process_time() - started, 1)
    write_result("favor_error", result)
    print(json.dumps(result, indent=2))


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).detach().norm() / exact.norm())


def _mean_of_values(value: torch.Tensor) -> torch.Tensor:
    return value.mean(-2, keepdim=True).expand_as(value)


def _make(kind: dict[str, Any], heads: int, dim: int, features: int, seed: int, sample: Callable) -> FeatureMap:
    options = {name: option for name, option in kind.items() if name != "calibrated"}
    feature_map = create_feature_map(**options, head_dim=dim, num_features=features, num_heads=heads, seed=seed)
    if kind.get("calibrated"):
        calibrate(feature_map, [sample()])
    return feature_map


def _independent(std: float) -> dict[str, Any]:
    """Return the errors on independent entries: of the mean of v, and of each map by number of features."""

    def draw(seed: int, length: int = LENGTH) -> States:
        generator = torch.Generator().manual_seed(seed)
        query, key, value = torch.randn(3, 1, 1, length, DIM, generator=generator)
        return query * std, key * std, value

    def sample() -> tuple[torch.Tensor, torch.Tensor, None]:
        return (*draw(10_000, LENGTH // 2)[:2], None)

    inputs = [draw(seed) for seed in range(DRAWS)]
    exact = [scaled_dot_product_attention(*states) for states in inputs]
    errors: dict[str, Any] = {
        "mean of v": _rounded([_error(_mean_of_values(states[2]), e) for states, e in zip(inputs, exact, strict=True)])
    }
    for name, kind in MAPS.items():
        errors[name] = {}
        for features in FEATURES:
            found = []
            feature_map = _make(kind, 1, DIM, features, 0, sample)
            for seed, (states, wanted) in enumerate(zip(inputs, exact, strict=True)):
                if seed and hasattr(feature_map, "redraw"):
                    feature_map.redraw(seed)
                found.append(_error(linear_attention(*states, feature_map), wanted))
            errors[name][str(features)] = _rounded(found)
    return errors


def _rounded(values: list[float]) -> float:
    return float(f"{sum(values) / len(values):.3g}")


def _encoder(options: argparse.Namespace) -> dict[str, Any]:
    """Return the errors on a trained encoder's states, layer by layer, with 256 features."""
    from transformers import AutoModel, AutoTokenizer, logging

    logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    model = AutoModel.from_pretrained(options.encoder, dtype=torch.float32).eval()
    measured = _attended(model, tokenizer, options.text)
    sampled = _attended(model, tokenizer, options.calibration_text)
    layers = []
    for (query, key, value), (query_sample, key_sample, _) in zip(measured, sampled, strict=True):
        heads, dim = query.shape[1], query.shape[-1]
        exact = scaled_dot_product_attention(query, key, value)
        centred = key - key.mean(-2, keepdim=True)
        row: dict[str, Any] = {
            "standard deviation of the logits": _rounded([float((query @ centred.mT * dim**-0.5).std())]),
            "mean of v": _rounded([_error(_mean_of_values(value), exact)]),
        }
        for name, kind in MAPS.items():
            found = []
            for seed in range(DRAWS if kind["name"] != "low_order" else 1):
                feature_map = _make(kind, heads, dim, 256, seed, lambda: (query_sample, key_sample, None))  # noqa: B023 (called at once)
                found.append(_error(linear_attention(query, key, value, feature_map), exact))
            row[name] = _rounded(found)
        layers.append(row)
    return {
        "model": options.encoder.name,
        "head_dim": int(dim),
        "features": 256,
        "measured on": options.text.name,
        "calibrated on": options.calibration_text.name,
        "positions": int(query.shape[-2]),
        "layers, the first first": layers,
    }


def _attended(model: Any, tokenizer: Any, path: Path) -> list[States]:
    """Return queries, keys and values of each layer, [1, heads, positions, dim], on the first window of a text."""
    inputs = tokenizer(path.read_text(encoding="utf-8"), truncation=True, max_length=WINDOW, return_tensors="pt")
    heads = model.config.num_attention_heads
    collected: list[list[torch.Tensor]] = []
    hooks = []
    for layer in model.encoder.layer:
        states: list[torch.Tensor] = []
        collected.append(states)
        for name in ("query", "key", "value"):
            hooks.append(
                getattr(layer.attention.self, name).register_forward_hook(
                    lambda _, __, output, states=states: states.append(output.unflatten(-1, (heads, -1)))
                )
            )
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return [tuple(states.transpose(1, 2) for states in layer) for layer in collected]


if __name__ == "__main__":
    main()
