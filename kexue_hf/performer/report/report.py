"""Report the effect of linear attention on a model, on the user's own text, before anything is swapped.

Both kinds of attention run over passages of the text. The maps are calibrated on one half of the passages, and
everything is measured on the other half. The model itself is only read: a copy that shares its weights is swapped.

Thresholds and their reasons:

* `LINEAR_ERROR` (in layer_comparison.py): largest error of a linear layer.
* `NO_BETTER`: if a layer's error is not at least a twentieth below that of uniform attention, its map says nothing
  about the layer.
* `FINE_COSINE` and `FINE_SHARE`: the pooled vectors may move by a tenth of the distance between different passages of
  the text. The cosine alone would not be enough: many encoders give all texts nearly the same vector.
* `FINE_LOSS`: largest increase of the loss of masked (or next) words, in nats; perplexity then rises by at most 5 %.
"""

import copy
import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kexue_hf.errors import InputError
from kexue_hf.models.performer_bert.feature_maps_performer_bert import (
    FEATURE_MAPS,
    FeatureMap,
    LearnedMap,
    LowOrderMap,
    RandomFeatures,
)
from kexue_hf.performer.attention_modules import refuse_several_tasks
from kexue_hf.performer.calibrate_model import calibrate_performer
from kexue_hf.performer.layer_comparison import (
    LINEAR_ERROR,
    LayerComparison,
    close_enough,
    mean_map,
    weight_sharing_copy,
)
from kexue_hf.performer.report.passages import Passages
from kexue_hf.performer.report.speed import LENGTHS, AttentionSpeed, attention_speed
from kexue_hf.performer.report.text import ranges, report_text
from kexue_hf.performer.report.variants import (
    BothAttentions,
    Maps,
    compare_variant,
    compare_variants,
    each_variant,
    softmax,
)
from kexue_hf.performer.swap import replace_maps, use_performer

NO_BETTER = 0.95
FINE_COSINE = 0.99
FINE_SHARE = 0.1
FINE_LOSS = 0.05

FINE, RECOVER, DO_NOT, SOFTMAX = "fine as it is", "recover it", "do not", "softmax"
# Names of the variants.
MEAN, AS_MADE, CALIBRATED, AS_SAVED, SUGGESTED = "mean of v", "uncalibrated", "calibrated", "as saved", "suggested"
# Calibration takes exact softmax over all pairs, and does not need longer texts.
CALIBRATION_LENGTH = 256
# Default size of the used part of a text.
_TOKENS, _MIN_PASSAGES = 4096, 8
_WORST_HEADS = 5
_BATCH = 4


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One attention layer. Deviations are root mean squares over its heads, shares are means.

    Attributes:
        query_std, key_std: root mean square entry about the mean, in the unit in which q . k is divided by the root of
            head_dim.
        logit_std: standard deviation of a row's logits about the row's mean.
        attended: number of keys a row attends to (exp of its entropy), as a share of all; 1 is uniform attention.
        errors: relative L2 error of the layer alone, given the softmax model's queries, keys and values, by variant.
            Empty for a layer that keeps softmax.
        hidden_errors: relative L2 error of its hidden states in the model with all layers linear.
        head_errors: as `errors`, of each head, for the variant that is judged.
    """

    number: int
    name: str
    query_std: float
    key_std: float
    logit_std: float
    attended: float
    errors: dict[str, float]
    hidden_errors: dict[str, float]
    head_errors: list[float]
    verdict: str


@dataclasses.dataclass(frozen=True)
class OutputReport:
    """Output of the model, compared with softmax's.

    Attributes:
        cosine, least_cosine: mean and minimum over the passages of the cosine of the mean-pooled vectors.
        hidden_error: relative L2 error of the last hidden states.
        loss: nats per masked (or next) word; None if the model has no head for it.
    """

    cosine: float
    least_cosine: float
    hidden_error: float
    loss: float | None


@dataclasses.dataclass(frozen=True)
class PerformerReport:
    """A report; `str()` formats it as a table, `draw` as a picture, `to_dict` as plain values.

    Attributes:
        judged: variant that the verdict is about: "calibrated" or "as saved".
        cosine_between: mean cosine of the pooled vectors of different passages under softmax.
        outputs: by variant, in all layers or in the suggested ones.
        suggested_layers: layers close enough to be linear without training.
        loss_kind: "masked-word", "next-word" or None.
        verdict: "fine as it is", "recover it" or "do not"; `advice` explains it in a sentence.
    """

    model: str
    feature_map: str
    num_features: int
    heads: int
    head_dim: int
    causal: bool
    max_length: int
    pieces_found: int
    pieces_calibrated: int
    pieces_measured: int
    tokens_measured: int
    judged: str
    layers: list[LayerReport]
    outputs: dict[str, OutputReport]
    softmax_loss: float | None
    loss_kind: str | None
    cosine_between: float
    suggested_layers: list[int]
    linear_error: float
    verdict: str
    advice: str
    speed: AttentionSpeed | None = None

    def worst_heads(self, count: int = _WORST_HEADS) -> list[tuple[int, int, float]]:
        """Return (layer, head, error) of the heads farthest from softmax."""
        heads = [(layer.number, head, error) for layer in self.layers for head, error in enumerate(layer.head_errors)]
        return sorted(heads, key=lambda found: -found[2] if math.isfinite(found[2]) else -math.inf)[:count]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; non-finite numbers become None."""
        whole = {**dataclasses.asdict(self), "worst_heads": [list(head) for head in self.worst_heads()]}
        finite: dict[str, Any] = _finite(whole)
        return finite

    def draw(self, path: str | Path) -> None:
        """Write a picture, .png, .svg or .pdf.

        Raises:
            InputError: matplotlib is missing.
        """
        from kexue_hf.performer.report.drawing import draw_report

        draw_report(self, path)

    def __str__(self) -> str:
        return report_text(self)


def performer_report(
    model: Any,
    texts: Sequence[str],
    tokenizer: Any,
    *,
    feature_map: str | None = None,
    num_features: int | None = None,
    layers: Iterable[int] | None = None,
    pieces: int | None = None,
    max_length: int | None = None,
    linear_error: float = LINEAR_ERROR,
    lengths: Sequence[int] | None = LENGTHS,
    progress: bool = False,
) -> PerformerReport:
    """Compare linear attention with softmax in a model, on the user's own texts.

    The model is not changed in any way. A model with feature maps (of type performer_bert, or after `use_performer`)
    is reported with its own maps, unless `feature_map` or `num_features` are given.

    Args:
        model: any model that `use_performer` accepts, or one of type performer_bert.
        texts: each is cut into passages of up to `max_length` tokens.
        tokenizer: the model's.
        feature_map: a new map, "low_order", "favor+", "favor++" or "learned" (before training); None for the model's
            own, or "low_order".
        num_features: features per head; None for the model's own, or 256.
        layers: the linear layers, from 0; None for all, or the model's own choice.
        pieces: maximum number of passages, evenly spread over the texts: one half to calibrate on, the other to
            measure on. None for some 4,000 tokens, and at least eight passages.
        max_length: tokens per passage, special tokens included; None for the model's maximum.
        linear_error: largest error of a layer that is suggested to be linear.
        lengths: lengths at which the speed is measured; None skips it.
        progress: whether to show bars on stderr.

    Raises:
        InputError: the texts are too short for two passages, or a number is out of range.
        ValueError: the model's attention cannot be replaced, or it has several tasks; a layer or map does not exist.
    """
    if pieces is not None and pieces < 2:
        raise InputError(f"pieces must be at least 2, one to calibrate and one to measure on, got {pieces}")
    if not linear_error > 0:
        raise InputError(f"linear_error must be a positive number, got {linear_error}")
    if feature_map is not None and feature_map not in FEATURE_MAPS:
        raise InputError(f"feature_map must be one of {', '.join(FEATURE_MAPS)}, got {feature_map!r}")
    if num_features is not None and num_features < 1:
        raise InputError(f"num_features must be at least 1, got {num_features}")
    if getattr(model.config, "is_encoder_decoder", False):
        raise InputError(f"{type(model).__name__} has an encoder and a decoder: pass only one of them")
    refuse_several_tasks(model)
    if lengths is not None and (not lengths or min(lengths) < 1):
        raise InputError(f"lengths must be numbers of tokens of at least 1, got {list(lengths)}")
    cut = Passages(model, tokenizer, texts, max_length)
    count = min(pieces or max(_MIN_PASSAGES, _TOKENS // cut.max_length), len(cut.rows))
    chosen = [cut.rows[number * len(cut.rows) // count] for number in range(count)]

    as_saved = _has_maps(model) and feature_map is None and num_features is None
    wanted = None if layers is None else list(layers)
    shared = weight_sharing_copy(model)
    if not as_saved:
        attach = replace_maps if _is_ours(model) else use_performer
        attach(shared, **_settings(model, feature_map, num_features), layers=wanted)
    if _is_ours(model):
        shared.config.attention_switch_length = None
    if hasattr(shared.config, "use_cache"):
        shared.config.use_cache = False
    both = BothAttentions(shared)
    if as_saved and wanted is not None:
        both.maps = _maps_of(both, wanted)
    if not both.maps:
        raise InputError("the model has no linear layer to report on: give layers or a feature map")
    judged = AS_SAVED if as_saved else CALIBRATED
    to_calibrate, to_measure = ([], chosen) if as_saved else (chosen[0::2], chosen[1::2])
    variants: dict[str, Maps] = {MEAN: {name: mean_map(found) for name, found in both.maps.items()}}
    if not as_saved:
        variants[AS_MADE] = copy.deepcopy(both.maps)
        short = cut.batches([cut.shortened(row, CALIBRATION_LENGTH) for row in to_calibrate], _BATCH)
        try:
            calibrate_performer(shared, short, progress=progress)
        except ValueError as error:
            # The passages are too few or too short for the maps.
            raise InputError(f"the pieces of the text that the maps are calibrated on: {error}") from error
    variants[judged] = both.maps

    batches = cut.batches(to_measure, _BATCH)
    seen, differences, vectors = compare_variants(both, _bar(batches, "comparing", progress), variants)
    hidden = {variant: difference.relative() for variant, difference in differences.items()}
    reports = [
        _layer(number, name, seen[name], judged, hidden, len(both.modules), linear_error)
        for number, name in enumerate(both.modules)
        if seen[name].positions
    ]
    if not any(layer.errors for layer in reports):
        raise InputError(f"no linear layer of {type(model).__name__} has seen the text")
    linear = [layer for layer in reports if layer.errors]
    suggested = [layer.number for layer in linear if layer.verdict == FINE]
    if 0 < len(suggested) < len(linear):
        names = list(both.modules)
        variants[SUGGESTED] = {names[number]: variants[judged][names[number]] for number in suggested}
        differences[SUGGESTED] = compare_variant(both, batches, variants[SUGGESTED])
    losses, kind = _losses(both, cut, batches, variants, causal := _causal(both))
    outputs = {
        variant: OutputReport(
            statistics.fmean(found.cosines), min(found.cosines), found.relative()[-1], losses.get(variant)
        )
        for variant, found in differences.items()
    }
    between = _cosine_between(vectors)
    verdict, advice = _judge(linear, outputs, judged, between, losses.get(SOFTMAX), suggested)
    first = next(iter(variants[judged].values()))
    speed = None
    if lengths is not None:
        speed = attention_speed(
            first, first.num_heads, lengths, causal=causal, device=model.device, dtype=model.dtype,
            progress=lambda numbers: _bar(list(numbers), "timing", progress),
        )  # fmt: skip
    return PerformerReport(
        model=_title(model),
        feature_map=_name_of(first),
        num_features=first.num_features,
        heads=first.num_heads,
        head_dim=first.head_dim,
        causal=causal,
        max_length=cut.max_length,
        pieces_found=len(cut.rows),
        pieces_calibrated=len(to_calibrate),
        pieces_measured=len(to_measure),
        tokens_measured=sum(map(len, to_measure)),
        judged=judged,
        layers=reports,
        outputs=outputs,
        softmax_loss=losses.get(SOFTMAX),
        loss_kind=kind,
        cosine_between=between,
        suggested_layers=suggested,
        linear_error=linear_error,
        verdict=verdict,
        advice=advice,
        speed=speed,
    )


def _title(model: Any) -> str:
    """Return the name of the model's folder and its class."""
    name = Path(str(getattr(model.config, "_name_or_path", "") or "")).name
    return f"{name} ({type(model).__name__})" if name else type(model).__name__


def _maps_of(both: BothAttentions, layers: list[int]) -> Maps:
    """Return the maps of the given layers."""
    names = dict(enumerate(both.modules))
    linear = [number for number, name in names.items() if name in both.maps]
    if lacking := [layer for layer in layers if layer not in linear]:
        raise InputError(
            f"layers must be linear layers of this model, {ranges(linear)}, got {lacking[0]}; to make others linear "
            "give a feature map too"
        )
    return {names[layer]: both.maps[names[layer]] for layer in sorted(set(layers))}


def _is_ours(model: Any) -> bool:
    return getattr(model.config, "model_type", None) == "performer_bert"


def _has_maps(model: Any) -> bool:
    return any(isinstance(module, FeatureMap) for module in model.modules())


def _settings(model: Any, feature_map: str | None, num_features: int | None) -> dict[str, Any]:
    """Return the settings of new maps; those not given are the model's own, or the defaults."""
    saved = getattr(model.config, "performer", None)
    if _is_ours(model):
        saved = {name: getattr(model.config, name) for name in ("feature_map", "num_features", "norm", "seed")}
    own = saved if isinstance(saved, Mapping) else {}
    return {
        "feature_map": feature_map or own.get("feature_map", "low_order"),
        "num_features": num_features or own.get("num_features", 256),
        "norm": own.get("norm", "chi"),
        "seed": own.get("seed", 0),
    }


def _name_of(feature_map: FeatureMap) -> str:
    if isinstance(feature_map, RandomFeatures):
        return "favor++" if feature_map.optimal else "favor+"
    kinds = {LowOrderMap: "low_order", LearnedMap: "learned"}
    return kinds.get(type(feature_map), type(feature_map).__name__)


def _causal(both: BothAttentions) -> bool:
    return any(getattr(module, "is_causal", False) is True for module in both.modules.values())


def _layer(
    number: int,
    name: str,
    seen: LayerComparison,
    judged: str,
    hidden: dict[str, list[float]],
    count: int,
    linear_error: float,
) -> LayerReport:
    def size(values: torch.Tensor) -> float:
        return float(values.square().mean().sqrt())

    errors = {variant: float(seen.error(variant)) for variant in seen.maps}
    verdict = SOFTMAX
    if errors:
        # Uniform attention is computed by the linear kernel too, so rounding is the same on both sides.
        verdict = _judge_layer(errors[judged], errors[MEAN], linear_error)
    return LayerReport(
        number=number,
        name=name,
        query_std=size(seen.deviation("query")),
        key_std=size(seen.deviation("key")),
        logit_std=size(seen.logit_deviation()),
        attended=float(seen.share().mean()),
        errors=errors,
        hidden_errors={variant: found[number] for variant, found in hidden.items() if len(found) == count},
        head_errors=seen.error(judged, each_head=True).tolist() if errors else [],
        verdict=verdict,
    )


def _judge_layer(error: float, mean_error: float, linear_error: float) -> str:
    if close_enough(error, mean_error, linear_error):
        return FINE
    return RECOVER if error < NO_BETTER * mean_error else DO_NOT


def _losses(
    both: BothAttentions,
    cut: Passages,
    batches: list[dict[str, torch.Tensor]],
    variants: dict[str, Maps],
    causal: bool,
) -> tuple[dict[str, float], str | None]:
    """Return nats per word by variant and under softmax, and the kind of words; nothing without a head for them."""
    get = getattr(both.model, "get_output_embeddings", None)
    if get is None or get() is None or not (causal or cut.has_mask):
        return {}, None
    ask = cut.next_tokens if causal else cut.masked
    found: dict[str, float | None] = {}
    with torch.no_grad():
        with softmax():
            found[SOFTMAX] = both.loss(ask(batches))
        for variant in each_variant(both, variants):
            found[variant] = both.loss(ask(batches))
    known = {variant: loss for variant, loss in found.items() if loss is not None}
    return known, ("next-word" if causal else "masked-word") if known else None


def _cosine_between(vectors: torch.Tensor) -> float:
    """Return the mean over pairs of different passages; NaN if there is only one."""
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    count = len(unit)
    if count < 2:
        return math.nan
    return float(((unit @ unit.mT).sum() - count) / (count * (count - 1)))


def _judge(
    layers: list[LayerReport],
    outputs: dict[str, OutputReport],
    judged: str,
    between: float,
    softmax_loss: float | None,
    suggested: list[int],
) -> tuple[str, str]:
    found = outputs[judged]
    worse = None if softmax_loss is None or found.loss is None else found.loss - softmax_loss
    near = found.cosine >= FINE_COSINE and not 1 - found.cosine > FINE_SHARE * (1 - between)
    if near and (worse is None or worse <= FINE_LOSS):
        how = "swap it in, and calibrate" if judged == CALIBRATED else "use it as it is"
        return FINE, f"Linear attention in all these layers gives nearly the same result as softmax: {how}."
    part = ""
    if SUGGESTED in outputs:
        part = (
            f" Untrained, only layer{'s' * (len(suggested) > 1)} {ranges(suggested)} would do "
            f'(cosine {outputs[SUGGESTED].cosine:.3f}): layers={suggested}, or layers="auto".'
        )
    elif not suggested:
        part = " No layer is close enough to be linear without training."
    failed = [layer.number for layer in layers if layer.verdict == DO_NOT]
    if not found.hidden_error < NO_BETTER * outputs[MEAN].hidden_error:
        return DO_NOT, (
            "The result is no closer to softmax's than that of uniform attention: linear attention keeps nothing of "
            f"this model to start from.{part}"
        )
    if 2 * len(failed) > len(layers):
        return DO_NOT, (
            f"In most layers ({ranges(failed)}) linear attention is no closer to softmax than uniform attention: the "
            f"attention is too peaked for a fixed map.{part}"
        )
    kept = f"; layer{'s' * (len(failed) > 1)} {ranges(failed)} should stay softmax" if failed else ""
    return RECOVER, (
        "Much of the model is kept, but not enough to use it untrained: train learned maps "
        "(kexue_hf.transfer_attention, examples/recover_performer.py), fine-tune, or keep softmax in some layers"
        f"{kept}.{part}"
    )


def _bar(items: Sequence[Any], what: str, progress: bool) -> Iterable[Any]:
    if not progress:
        return items
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(items, desc=what, leave=False)
    return bar


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["LayerReport", "OutputReport", "PerformerReport", "performer_report"]
