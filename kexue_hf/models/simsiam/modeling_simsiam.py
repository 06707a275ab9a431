"""Sentence vectors from unlabelled text: SimSiam, BYOL and SimCSE over any encoder (https://kexue.fm/archives/7980).

A text is seen in two views (dropout, or changed tokens). A predictor maps the projection of one view to that of the
other, which counts as a constant (SimSiam) or comes from a moving average of the network (BYOL). No negatives are
needed; the predictor and the constant target keep the vectors from collapsing to one point.

* `input_ids` [batch, length] gives sentence vectors; [batch, views, length] also gives the loss of the views.
* The views go through the encoder as one batch, and through each batch norm of projector and predictor one by one, as
  in the paper.
* `model.encoder.save_pretrained(folder)` saves the trained encoder as an ordinary model; projector and predictor serve
  the training only.
"""

import contextlib
import copy
import inspect
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .configuration_simsiam import SimSiamConfig
from .encoder_code_simsiam import model_class_of, save_encoder_code
from .heads_simsiam import SimSiamLinear, SimSiamPredictor, SimSiamProjector, mean_of_tokens, spread
from .keywords_simsiam import refuse_unknown
from .objectives_simsiam import compare, compare_in_batch

logger = logging.getLogger(__name__)

# A moving average that has not been updated for this many batches has been forgotten.
_FORGOTTEN = 500
_HUB_OPTIONS = ("cache_dir", "local_files_only", "proxies", "revision", "subfolder", "token")
_FIELDS = SimSiamConfig.__dataclass_fields__.keys() - PreTrainedConfig.__dataclass_fields__.keys()


@dataclass
class SimSiamOutput(ModelOutput):
    """Outputs of [`SimSiamModel`].

    Args:
        loss: scalar, float32; only with several views.
        sentence_vectors: [batch, hidden], or [batch, views, hidden].
        spread: scalar: standard deviation of the normalised projections over the batch, times the square root of their
            size; about 1 is healthy, 0 collapsed. Only with several views.
        projections: [batch, views, projection]; only with several views.
        predictions: the same shape; only with several views.
        last_hidden_state: the encoder's states, [batch, length, hidden] or [batch, views, length, hidden].
        hidden_states, attentions: those of the encoder, for batch x views rows.
    """

    loss: torch.Tensor | None = None
    sentence_vectors: torch.Tensor | None = None
    spread: torch.Tensor | None = None
    projections: torch.Tensor | None = None
    predictions: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class SimSiamPreTrainedModel(PreTrainedModel):
    """Base of the SimSiam classes: configuration, initialization, and saving with the encoder's code."""

    config: SimSiamConfig
    config_class = SimSiamConfig
    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The loss is a mean over the batch, so Trainer divides it by the number of accumulated batches.
    accepts_loss_kwargs = False

    def __init__(self, config: SimSiamConfig, *inputs: Any, **kwargs: Any) -> None:
        # Not isinstance: a folder from the Hub has its own configuration class.
        if getattr(config, "model_type", None) != "simsiam":
            raise ValueError(
                f"expected a SimSiamConfig, got a {type(config).__name__}: start from an encoder with "
                "SimSiamModel.from_encoder(name)"
            )
        config.check()
        super().__init__(config, *inputs, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SimSiamLinear):
            # The limits of torch's own initialization of nn.Linear.
            limit = module.in_features**-0.5
            init.uniform_(module.weight, -limit, limit)
            if module.bias is not None:
                init.uniform_(module.bias, -limit, limit)

    def save_pretrained(self, save_directory: str | PathLike[str], *arguments: Any, **options: Any) -> Any:
        """Save as transformers does, with the encoder's code, so that the folder loads without this package."""
        push = options.pop("push_to_hub", False)
        repo_id = options.pop("repo_id", None)
        result = super().save_pretrained(save_directory, *arguments, **options)
        if options.get("is_main_process", True):
            save_encoder_code(self.encoder, save_directory)
        if push:
            names = ("commit_message", "private", "token", "revision", "create_pr", "max_shard_size")
            known = {name: options[name] for name in names if name in options}
            return self.push_to_hub(repo_id or str(save_directory).rstrip("/").split("/")[-1], **known)
        return result


class SimSiamModel(SimSiamPreTrainedModel):
    """An encoder, and the projector and predictor that train its sentence vectors without labels.

    Example:
        >>> model = SimSiamModel.from_encoder("wobert", target="ema")
        >>> views = collator(rows)  # input_ids [batch, 2, length]
        >>> model(**views).loss
    """

    _auto_class = "AutoModel"

    def __init__(self, config: SimSiamConfig) -> None:
        super().__init__(config)
        self.encoder = _build_encoder(config)
        self.projector = SimSiamProjector(config)
        if config.predictor:
            self.predictor = SimSiamPredictor(config)
        if config.target == "ema":
            self.target_encoder = _build_encoder(config)
            self.target_projector = SimSiamProjector(config)
        self._batches_since_update = 0
        self.post_init()
        self.reset_target()

    @classmethod
    def from_encoder(
        cls, encoder: Any, *, tokenizer: Any = None, model_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> "SimSiamModel":
        """Start from a trained encoder.

        Args:
            encoder: an encoder, which then belongs to the new model, or its folder or name on the Hub. A head is left
                out. A pooler is kept but not trained.
            tokenizer: the encoder's tokenizer, whose tokens around a text the mean then leaves out. By default it is
                loaded from the folder, if there is one.
            model_kwargs: arguments of `AutoModel.from_pretrained`. Weights are loaded in float32 by default.
            options: fields of [`SimSiamConfig`].

        Raises:
            ValueError: an option is unknown or invalid, or the model is not an encoder.
        """
        if unknown := sorted(options.keys() - _FIELDS):
            raise ValueError(f"SimSiamConfig has no field {unknown[0]!r}: check the name")
        from transformers import AutoModel

        if isinstance(encoder, PreTrainedModel):
            encoder = encoder.base_model
        elif isinstance(encoder, nn.Module):
            raise ValueError(f"expected an encoder of transformers or its folder, got {type(encoder).__name__}")
        else:
            arguments = {"dtype": "float32", **(model_kwargs or {})}
            if tokenizer is None:
                hub = {key: arguments[key] for key in (*_HUB_OPTIONS, "trust_remote_code") if key in arguments}
                tokenizer = _tokenizer_of(encoder, hub)
            encoder = AutoModel.from_pretrained(encoder, **arguments)
        if tokenizer is not None and "excluded_token_ids" not in options:
            options["excluded_token_ids"] = sorted(set(tokenizer("")["input_ids"]))
        attention = encoder.config._attn_implementation
        model = cls(SimSiamConfig(encoder_config=encoder.config, attn_implementation=attention, **options))
        model.to(device=encoder.device, dtype=encoder.dtype)
        model.encoder = encoder
        if model.config.target == "ema":
            # Not rebuilt from the configuration: the encoder may be of a subclass.
            model.target_encoder = copy.deepcopy(encoder)
        model.reset_target()
        model._freeze()
        return model.eval()

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        """Load a folder, or start from that of an encoder as [`from_encoder`] does.

        If the folder was saved without a moving average, `target="ema"` starts one from its encoder.
        """
        wanted = options.pop("output_loading_info", False)
        name = options.get("pretrained_model_name_or_path", arguments[0] if arguments else None)
        if options.get("config") is None and name is not None:
            hub = {key: options[key] for key in _HUB_OPTIONS if key in options}
            found, _ = PreTrainedConfig.get_config_dict(name, **hub)
            if found.get("model_type") not in (None, cls.config_class.model_type):
                fields = {key: options.pop(key) for key in list(options) if key in _FIELDS}
                options.pop("pretrained_model_name_or_path", None)
                model = cls.from_encoder(name, model_kwargs=options, **fields)
                new = {key for key in model.state_dict() if not key.startswith("encoder.")}
                info = {"missing_keys": new, "unexpected_keys": set(), "mismatched_keys": set(), "error_msgs": []}
                return (model, info) if wanted else model
        model, info = super().from_pretrained(*arguments, output_loading_info=True, **options)
        if any(name.startswith("target_") for name in info["missing_keys"]):
            model.reset_target()
        model._freeze()
        return (model, info) if wanted else model

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def resize_token_embeddings(self, *arguments: Any, **options: Any) -> nn.Embedding:
        """Resize as transformers does, the moving average too, whose new rows are the encoder's."""
        resized = super().resize_token_embeddings(*arguments, **options)
        if self.config.target == "ema":
            old, new = self.target_encoder.get_input_embeddings().weight, copy.deepcopy(resized)
            rows = min(len(old), len(new.weight))
            with torch.no_grad():
                new.weight[:rows] = old[:rows]
            self.target_encoder.set_input_embeddings(new)
            self._freeze()
        return resized

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SimSiamOutput:
        """Return the sentence vectors and, for several views, the loss.

        Args:
            input_ids: [batch, length] or [batch, views, length]; or `inputs_embeds`, their embeddings, with one more
                dimension.
            attention_mask: the shape of `input_ids`; 0 for padding.
            token_type_ids, position_ids: the shape of `input_ids`, for encoders that take them.
            return_loss: False leaves out the loss, the projections and the predictions.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`; a mask of another shape; the encoder
                returns no states; a keyword that would be ignored; one view where several are expected; or a batch of
                one text, where batch norm or negatives need another.
        """
        known = inspect.signature(self.encoder.forward).parameters
        refuse_unknown("SimSiam", kwargs, known=known)
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError(
                f"expected either input_ids or inputs_embeds, got {'neither' if given is None else 'both'}"
            )
        several = given.dim() == (3 if inputs_embeds is None else 4)
        named = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "inputs_embeds": inputs_embeds,
        }
        inputs = {name: value for name, value in named.items() if value is not None}
        if not several:
            outputs = self._encode(self.encoder, inputs, kwargs)
            return SimSiamOutput(
                sentence_vectors=self._pool(outputs.last_hidden_state, inputs),
                last_hidden_state=outputs.last_hidden_state,
                hidden_states=outputs.get("hidden_states"),
                attentions=outputs.get("attentions"),
            )
        batch, views = given.shape[:2]
        rows = {name: value.flatten(0, 1) for name, value in inputs.items()}
        outputs = self._encode(self.encoder, rows, kwargs)
        vectors = self._pool(outputs.last_hidden_state, rows).unflatten(0, (batch, views))
        found: dict[str, Any] = {}
        if return_loss:
            if views < 2:
                raise ValueError(
                    f"expected at least 2 views of each text, got {views}: pass input_ids [batch, length] for one view"
                )
            found = self._compare(vectors, inputs, rows, kwargs)
        return SimSiamOutput(
            **found,
            sentence_vectors=vectors,
            last_hidden_state=outputs.last_hidden_state.unflatten(0, (batch, views)),
            hidden_states=outputs.get("hidden_states"),
            attentions=outputs.get("attentions"),
        )

    def _compare(
        self, vectors: torch.Tensor, inputs: dict[str, Any], rows: dict[str, Any], kwargs: Any
    ) -> dict[str, Any]:
        """Return loss, spread, projections and predictions for sentence vectors [batch, views, hidden]."""
        projections = [self.projector(view) for view in vectors.unbind(1)]
        predictions = [self.predictor(one) for one in projections] if self.config.predictor else projections
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.stop_gradient):
            targets = self._targets(projections, inputs, rows, kwargs)
        # Each view is compared with the mean of all views, or with every other view.
        target_is_shared = self.config.target == "view_mean"
        pairs = [
            (prediction, target)
            for own, prediction in enumerate(predictions)
            for other, target in enumerate(targets)
            if target_is_shared or own != other
        ]
        if self.config.negatives == "in_batch":
            losses = [compare_in_batch(*pair, self.config.temperature) for pair in pairs]
        else:
            losses = [compare(*pair) for pair in pairs]
        return {
            "loss": torch.stack(losses).mean(),
            "spread": torch.stack([spread(one) for one in projections]).mean(),
            "projections": torch.stack(projections, 1),
            "predictions": torch.stack(predictions, 1),
        }

    def _targets(
        self, projections: list[torch.Tensor], inputs: dict[str, Any], rows: dict[str, Any], kwargs: Any
    ) -> list[torch.Tensor]:
        """Return the targets, each [batch, projection]: one for each view, or one for all."""
        batch, views = projections[0].shape[0], len(projections)
        if self.config.target == "ema":
            self._count_batch()
            states = self._encode(self.target_encoder, rows, kwargs).last_hidden_state
            vectors = self._pool(states, rows).unflatten(0, (batch, views))
            return [self.target_projector(view) for view in vectors.unbind(1)]
        if self.config.target == "view_mean":
            return [self.projector(self._mean_view(inputs, kwargs))]
        return [one.detach() if self.config.stop_gradient else one for one in projections]

    def _count_batch(self) -> None:
        self._batches_since_update += self.training
        if self._batches_since_update == _FORGOTTEN:
            logger.warning(
                f"the moving average has not been updated for {_FORGOTTEN} batches: add TargetAverageCallback() to "
                "the trainer, or call model.update_target(momentum) after each optimizer step"
            )

    def _mean_view(self, inputs: dict[str, Any], kwargs: Any) -> torch.Tensor:
        """Return the sentence vectors [batch, hidden] of the mean of the views' embeddings, without dropout."""
        embeddings = inputs.get("inputs_embeds")
        if embeddings is None:
            embeddings = self.get_input_embeddings()(inputs["input_ids"])
        attended = inputs.get("attention_mask")
        attended = embeddings.new_ones(embeddings.shape[:-1]) if attended is None else attended
        weights = attended[..., None].to(embeddings.dtype)
        mean = (embeddings * weights).sum(1) / weights.sum(1).clamp_min(1)
        # Positions and segments of the first view; a place counts if it does in any view.
        row: dict[str, Any] = {
            name: inputs[name][:, 0] for name in ("token_type_ids", "position_ids") if name in inputs
        }
        row |= {"inputs_embeds": mean, "attention_mask": (attended != 0).any(1).long()}
        with evaluating(self.encoder):
            states = self._encode(self.encoder, row, kwargs).last_hidden_state
        if self.config.pooling == "cls":
            return states[:, 0]
        return mean_of_tokens(states, self._counted(inputs, embeddings.shape[:-1], states.device).any(1))

    def _encode(self, encoder: Any, inputs: dict[str, Any], kwargs: Any) -> Any:
        options: dict[str, Any] = {**kwargs, "return_dict": True}
        outputs = encoder(**inputs, **options)
        if outputs.get("last_hidden_state") is None:
            raise ValueError(
                f"expected an encoder that returns last_hidden_state, got {type(encoder).__name__}, which returns "
                f"{', '.join(outputs)}"
            )
        return outputs

    def _pool(self, states: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the vectors [rows, hidden] of states [rows, length, hidden]; zeros for a text without tokens."""
        if self.config.pooling == "cls":
            return states[:, 0]
        return mean_of_tokens(states, self._counted(inputs, states.shape[:-1], states.device))

    def _counted(self, inputs: dict[str, Any], shape: Any, device: torch.device) -> torch.Tensor:
        """Return which tokens count, boolean, in the shape of the ids."""
        counted = torch.ones(shape, dtype=torch.bool, device=device)
        mask = inputs.get("attention_mask")
        if mask is not None:
            if mask.shape != counted.shape:
                raise ValueError(
                    f"expected an attention mask of shape {tuple(counted.shape)}, that of the tokens, got "
                    f"{tuple(mask.shape)}"
                )
            counted = mask != 0
        if "input_ids" in inputs and self.config.excluded_token_ids:
            excluded = torch.tensor(self.config.excluded_token_ids, device=device)
            counted = counted & ~torch.isin(inputs["input_ids"], excluded)
        return counted

    @torch.no_grad()
    def reset_target(self) -> None:
        """Set the moving average, if there is one, to the present encoder and projector."""
        for own, target in self._averaged():
            target.load_state_dict(own.state_dict())
        self._freeze()

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Update the moving average, after an optimizer step: momentum x average + (1 - momentum) x weights.

        Raises:
            ValueError: the momentum is outside 0 to 1, or the model has no moving average.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be from 0 to 1, got {momentum}")
        if self.config.target != "ema":
            raise ValueError(f"a model with target={self.config.target!r} has no moving average")
        for own, target in self._averaged():
            weights = [weight.detach() for weight in own.parameters()]
            torch._foreach_lerp_(list(target.parameters()), weights, 1 - momentum)
        self._batches_since_update = 0

    def _averaged(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        if self.config.target == "ema":
            yield self.encoder, self.target_encoder
            yield self.projector, self.target_projector

    def _freeze(self) -> None:
        """Freeze the moving average, and a pooler, which gets no gradient: DDP would wait for it."""
        for _, target in self._averaged():
            target.requires_grad_(False)
        pooler = getattr(self.encoder, "pooler", None)
        if isinstance(pooler, nn.Module):
            pooler.requires_grad_(False)


def _tokenizer_of(folder: Any, hub: dict[str, Any]) -> Any:
    """Return the tokenizer of an encoder's folder, or None with a warning."""
    from transformers import AutoTokenizer

    reason = "it has only special tokens"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **hub)
        # For a folder without tokenizer files, transformers may return an empty tokenizer.
        if len(tokenizer) > len(tokenizer.all_special_ids):
            return tokenizer
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    logger.warning(
        f"no tokenizer could be loaded from {folder} ({reason}): the mean will include [CLS] and [SEP]; pass "
        "tokenizer=... to leave them out"
    )
    return None


def _build_encoder(config: SimSiamConfig) -> Any:
    return model_class_of(config.encoder_config)(config.encoder_config)


# Copied from evaluation_mode.evaluating
@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode within the block, then restore the mode of each module.

    `model.eval()` followed by `model.train(before)` would set all modules alike. A part that its owner had frozen in
    evaluation mode would then train with dropout.
    """
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


__all__ = ["SimSiamModel", "SimSiamOutput", "SimSiamPreTrainedModel"]
