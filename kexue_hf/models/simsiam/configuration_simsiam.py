"""Configuration of SimSiam, BYOL and SimCSE for text: an encoder's configuration and the parts that train it."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .auto_map_simsiam import AUTO_MAP
from .encoder_code_simsiam import config_class_of

_CHOICES = {
    "pooling": ("mean", "cls"),
    "norm": ("batch", "layer", "none"),
    "target": ("stop_gradient", "ema", "view_mean"),
    "momentum_schedule": ("cosine", "constant"),
    "negatives": ("none", "in_batch"),
}
_HUB_OPTIONS = ("cache_dir", "code_revision", "force_download", "local_files_only", "proxies", "revision", "token")
_COUNTS = ("projection_size", "projector_hidden_size", "predictor_hidden_size")


@strict
class SimSiamConfig(PreTrainedConfig):
    r"""Configuration of [`SimSiamModel`]. The defaults are those of SimSiam (arXiv 2011.10566).

    SimSiam compares the prediction for one view of a text with the projection of another view, through which no
    gradient flows. Other methods are changes of a field or two:

    - SimSiam: the defaults
    - BYOL (arXiv 2006.07733): `target="ema"`
    - SimCSE (arXiv 2104.08821), both ways: `negatives="in_batch", predictor=False, stop_gradient=False`
    - SimCSE without projector: the same, and `projector_layers=0`
    - prediction of the mean view (kexue.fm 7980): `target="view_mean"`
    - ablations that collapse: `predictor=False`, or `stop_gradient=False`

    Args:
        encoder_config (`PreTrainedConfig` or `dict`, *optional*):
            The encoder's configuration, by default BERT's. Fields that a dictionary lacks may be given directly, as in
            `SimSiamConfig(encoder_config={"model_type": "wobert"}, vocab_size=8000)`.
        hidden_size (`int`, *optional*):
            Size of a sentence vector; always that of the encoder.
        pooling (`str`, *optional*, defaults to `"mean"`):
            Sentence vector: `"mean"` of the last hidden states, or `"cls"`, the first one.
        excluded_token_ids (`list[int]`, *optional*):
            Tokens that the mean leaves out, such as [CLS] and [SEP]. Padding never counts.
        projector_layers (`int`, *optional*, defaults to 3):
            Linear layers of the projector; 0 for none, so that the sentence vectors themselves are compared.
        projector_hidden_size (`int`, *optional*):
            Width of the projector's hidden layers. Defaults to `projection_size`.
        projection_size (`int`, *optional*):
            Size of a projection. Defaults to the encoder's hidden size, as in the paper; without a projector it must
            be that size.
        predictor (`bool`, *optional*, defaults to `True`):
            Whether predictions are made by two more layers; otherwise the projection is compared itself.
        predictor_hidden_size (`int`, *optional*):
            Width of the predictor's hidden layer. Defaults to a quarter of `projection_size`, as in the paper.
        norm (`str`, *optional*, defaults to `"batch"`):
            Norm after each layer of projector and predictor but the predictor's last: `"batch"`, whose statistics
            cover the batches of all processes; `"layer"` or `"none"`, with which accumulated batches without
            negatives train exactly like one batch.
        target (`str`, *optional*, defaults to `"stop_gradient"`):
            What the prediction for a view is compared with. `"stop_gradient"`: the projection of another view.
            `"ema"`: the same by a moving average of encoder and projector, which `TargetAverageCallback` updates.
            `"view_mean"`: the projection of the mean of all views' input embeddings, without dropout. Views that move
            words to other places have no such mean; masking, cutoff and dropout do not.
        stop_gradient (`bool`, *optional*, defaults to `True`):
            Whether targets are constants.
        momentum (`float`, *optional*, defaults to 0.996):
            Weight of the old average at the first step; for `target="ema"`.
        momentum_schedule (`str`, *optional*, defaults to `"cosine"`):
            `"cosine"` raises it to 1 during the training as BYOL does; `"constant"` keeps it.
        negatives (`str`, *optional*, defaults to `"none"`):
            `"in_batch"` adds the other texts' targets, of all processes, as negatives (InfoNCE). Equal texts in a
            batch count as negatives of each other.
        temperature (`float`, *optional*, defaults to 0.05):
            Divides the cosines; for `negatives="in_batch"`.

    Raises:
        ValueError: a field has an invalid value; the encoder is unknown, a decoder, an encoder-decoder, or its
            configuration states no hidden size; or `hidden_size` differs from the encoder's.
    """

    model_type = "simsiam"
    _auto_class = "AutoConfig"
    sub_configs: ClassVar[dict[str, Any]] = {"encoder_config": AutoConfig}

    encoder_config: PreTrainedConfig | dict[str, Any] | None = None
    hidden_size: int | None = None
    pooling: str = "mean"
    excluded_token_ids: list[int] | None = None
    projector_layers: int = 3
    projector_hidden_size: int | None = None
    projection_size: int | None = None
    predictor: bool = True
    predictor_hidden_size: int | None = None
    norm: str = "batch"
    target: str = "stop_gradient"
    stop_gradient: bool = True
    momentum: float = 0.996
    momentum_schedule: str = "cosine"
    negatives: str = "none"
    temperature: float = 0.05
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "last_hidden_state",
        "projections",
        "predictions",
        "hidden_states",
        "attentions",
    ]

    def __post_init__(self, **kwargs: Any) -> None:
        if not isinstance(self.encoder_config, PreTrainedConfig):
            values = {
                key: value for key, value in (self.encoder_config or {}).items() if key != "transformers_version"
            }
            values.setdefault("model_type", "bert")
            kind = config_class_of(values)
            given = {name: kwargs.pop(name) for name in list(kwargs) if _of_encoder(name, kind)}
            if self.hidden_size is not None:
                given["hidden_size"] = self.hidden_size
            if twice := [name for name in given if values.get(name, given[name]) != given[name]]:
                raise ValueError(
                    f"{twice[0]} is {values[twice[0]]} in encoder_config and {given[twice[0]]} next to it: give one"
                )
            self.encoder_config = kind(**{**given, **values})
        # A configuration read from a file, which has a version, may hold attributes that were set on it later.
        elif not self.transformers_version and (
            wrong := [name for name in kwargs if _of_encoder(name, type(self.encoder_config))]
        ):
            raise ValueError(f"expected {wrong[0]} in encoder_config, got it next to encoder_config: set it there")
        size = getattr(self.encoder_config, "hidden_size", None)
        if size is None:
            raise ValueError(
                f"expected an encoder whose configuration has hidden_size, got {type(self.encoder_config).__name__}"
            )
        if self.hidden_size not in (None, size):
            raise ValueError(
                f"hidden_size is the encoder's, {size}; got {self.hidden_size}: set it in encoder_config, or omit it"
            )
        self.hidden_size = size
        self.projection_size = size if self.projection_size is None else self.projection_size
        if self.projector_hidden_size is None:
            self.projector_hidden_size = self.projection_size
        if self.predictor_hidden_size is None:
            self.predictor_hidden_size = max(1, self.projection_size // 4)
        self.check()
        # As in WoBERT: with all classes in the file, every Auto class loads the folder without this package.
        kwargs["auto_map"] = {**AUTO_MAP, **(kwargs.get("auto_map") or {})}
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise the errors named above. The model calls it again, since fields may change after construction."""
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in _COUNTS:
            if (getattr(self, name) or 0) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.projector_layers and self.projection_size != self.hidden_size:
            raise ValueError(
                f"without a projector, projection_size is the encoder's hidden size, {self.hidden_size}; got "
                f"{self.projection_size}: omit it"
            )
        if self.projector_layers < 0:
            raise ValueError(f"projector_layers must be 0 or more, got {self.projector_layers}")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must be from 0 to 1, got {self.momentum}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.target == "ema" and not self.stop_gradient:
            raise ValueError("a target that is a moving average has no gradient: leave stop_gradient=True")
        encoder: Any = self.encoder_config
        if encoder.is_encoder_decoder or getattr(encoder, "is_decoder", False) or _only_generates(encoder):
            raise ValueError(f"expected an encoder, got a decoder of type {encoder.model_type!r}")

    @property
    def vocab_size(self) -> int | None:
        """The encoder's number of tokens."""
        return getattr(self.encoder_config, "vocab_size", None)

    @vocab_size.setter
    def vocab_size(self, value: int) -> None:
        encoder: Any = self.encoder_config
        encoder.vocab_size = value

    @property
    def vocab_fingerprint(self) -> str | None:
        """Hash of the encoder's vocabulary, if it is known."""
        return getattr(self.encoder_config, "vocab_fingerprint", None)

    @property
    def max_position_embeddings(self) -> int | None:
        """The encoder's number of positions, if it is limited."""
        return getattr(self.encoder_config, "max_position_embeddings", None)

    @property
    def initializer_range(self) -> float:
        """Standard deviation of new weights: the encoder's."""
        return getattr(self.encoder_config, "initializer_range", 0.02)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """Return the encoder's configuration, which has the vocabulary."""
        return self.encoder_config

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the dictionary. The encoder's configuration is an object, whose code may be in the folder."""
        config_dict, rest = super().get_config_dict(*args, **kwargs)
        values = config_dict.get("encoder_config")
        if isinstance(values, dict):
            folder = str(kwargs.get("pretrained_model_name_or_path", args[0] if args else ""))
            hub = {name: kwargs[name] for name in _HUB_OPTIONS if kwargs.get(name) is not None}
            kind = config_class_of(values, folder, **hub)
            config_dict = {**config_dict, "encoder_config": kind(**values)}
        return config_dict, rest


def _only_generates(config: Any) -> bool:
    """Return whether transformers has the model as a causal language model only."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def _of_encoder(name: str, kind: Any) -> bool:
    """Return whether a field belongs to the encoder's configuration."""
    # Trainer sets `use_cache` on the configuration of every model.
    own = {*SimSiamConfig.__dataclass_fields__, "use_cache"}
    return name == "vocab_fingerprint" or (name in kind.__dataclass_fields__ and name not in own)


__all__ = ["SimSiamConfig"]
