"""Performer BERT configuration: BERT's, with linear attention for long inputs and positions beyond the table.

The configuration of a BERT (model type "bert", which RoBERTa-wwm also has) or WoBERT is read as one of the same sizes.
"""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

from .auto_map_performer_bert import AUTO_MAP


@strict
class PerformerBertConfig(BertConfig):
    r"""Configuration of the Performer BERT models; all of [`BertConfig`]'s fields, and:

    Args:
        feature_map (`str`, *optional*, defaults to `"low_order"`):
            Approximation of exp(q . k): `"low_order"`, `"favor+"`, `"favor++"` or, once trained, `"learned"`.
        num_features (`int`, *optional*, defaults to 256):
            Maximum number of features per head.
        norm (`str`, *optional*, defaults to `"chi"`):
            Norms of random features: `"chi"`, `"sqrt_d"` or `"stratified"`.
        seed (`int`, *optional*, defaults to 0):
            Seed of random features; each layer has different draws.
        redraw (`int`, *optional*):
            Number of optimizer steps after which random features are drawn again; `None` means never.
        linear_layers (`list[int]` or `str`, *optional*):
            The layers, from 0, with linear attention; the others keep softmax. `None` means all. `"auto"` means the
            layers that are close enough to softmax on your texts: `kexue_hf.calibrate_performer(model, texts,
            tokenizer)` writes their numbers here; until then all layers are linear, with a warning.
        attention_switch_length (`int` or `str`, *optional*, defaults to `"auto"`):
            Inputs of up to this many tokens (padding included) use softmax, which is exact and faster there; longer
            ones use linear attention. `"auto"` is the length from which linear attention is faster on the device: 768
            on a CPU and on devices that were not measured. `None` or 0: always linear. A causal model is always
            linear. Padding counts, so near this length the results of a text depend on the longest text of its batch.
        looks_back (`bool`, *optional*, defaults to `False`):
            Whether a token sees only itself and the tokens before it. Saving a `PerformerBertForCausalLM` sets it; the
            encoder and other heads loaded from that folder then look back too.
        position_alpha (`float`, *optional*, defaults to 0.4):
            Parameter of the hierarchical decomposition of positions, see `PerformerBertEmbeddings`.
        max_position_embeddings (`int`, *optional*, defaults to 512):
            Rows of the position table, n; texts of up to n^2 tokens have positions.
        attention_probs_dropout_prob (`float`, *optional*, defaults to 0.0):
            Dropout of softmax; linear attention has no weights to drop. Another model's value is not carried over:
            training would differ above and below the switch length.
        classifier_pooling (`str`, *optional*, defaults to `"pooler"`):
            Input of `PerformerBertForSequenceClassification`: `"pooler"` is BERT's tanh(dense([CLS])), `"cls"` the
            last hidden state of [CLS], `"mean"` the mean of the last hidden states of all tokens except padding.
        add_pooling_layer (`bool`, *optional*, defaults to `True`):
            Whether the checkpoint has a pooler. `classifier_pooling="pooler"` always has one, newly initialised if
            the checkpoint has none.
        vocab_fingerprint (`str`, *optional*):
            Hash of the vocabulary that the weights belong to. A tokenizer with a different one causes a warning.

    Raises:
        ValueError: a field has an invalid value, a decoder is requested, or the configuration is of a model other than
            BERT or WoBERT.
    """

    model_type = "performer_bert"
    _auto_class = "AutoConfig"

    vocab_size: int = 21128
    attention_probs_dropout_prob: float | int = 0.0
    feature_map: str = "low_order"
    num_features: int = 256
    norm: str = "chi"
    seed: int = 0
    redraw: int | None = None
    linear_layers: list[int] | str | None = None
    attention_switch_length: int | str | None = "auto"
    # Not is_causal, which transformers passes on to attention as an argument.
    looks_back: bool = False
    position_alpha: float = 0.4
    classifier_pooling: str = "pooler"
    add_pooling_layer: bool = True
    vocab_fingerprint: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.check()
        # As in WoBERT: with all classes in the file, every Auto class loads the folder without this package.
        kwargs["auto_map"] = {**AUTO_MAP, **(kwargs.get("auto_map") or {})}
        super().__post_init__(**kwargs)

    @property
    def max_text_tokens(self) -> int:
        """Number of tokens of the longest text, special tokens included: positions continue beyond their table."""
        return self.max_position_embeddings**2

    def check(self) -> None:
        """Raise the errors named above. The models call it again, since `from_pretrained` sets fields afterwards."""
        maps = ("low_order", "favor+", "favor++", "learned")
        if self.feature_map not in maps:
            raise ValueError(f"feature_map must be one of {', '.join(maps)}, got {self.feature_map!r}")
        if self.num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {self.num_features}")
        if self.norm not in ("chi", "sqrt_d", "stratified"):
            raise ValueError(f"norm must be one of chi, sqrt_d, stratified, got {self.norm!r}")
        if self.redraw is not None and (self.feature_map in ("low_order", "learned") or self.redraw < 1):
            raise ValueError(
                "redraw must be a number of steps of at least 1, and needs random features, got "
                f"{self.redraw} with feature_map {self.feature_map!r}"
            )
        layers = range(self.num_hidden_layers)
        chosen = [] if self.linear_layers in (None, "auto") else self.linear_layers
        if isinstance(chosen, str) or not all(layer in layers for layer in chosen or []):
            raise ValueError(f"linear_layers must be of 0 to {len(layers) - 1}, or 'auto', got {self.linear_layers!r}")
        switch = self.attention_switch_length
        is_length = isinstance(switch, int) and not isinstance(switch, bool) and switch >= 0
        if not is_length and switch not in ("auto", None):
            raise ValueError(f"attention_switch_length must be 'auto', a number of tokens or None, got {switch!r}")
        if not 0 <= self.position_alpha < 1:
            raise ValueError(f"position_alpha must be at least 0 and below 1, got {self.position_alpha}")
        if self.classifier_pooling not in ("pooler", "cls", "mean"):
            raise ValueError(f"classifier_pooling must be 'pooler', 'cls' or 'mean', got {self.classifier_pooling!r}")
        if self.is_decoder or self.add_cross_attention:
            raise ValueError("Performer BERT is an encoder: set is_decoder and add_cross_attention to False")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read a Performer BERT's configuration, or convert a BERT's or WoBERT's to one of the same sizes.

        Raises:
            ValueError: the configuration is another model's, or a BERT's with relative positions.
        """
        found = config_dict.get("model_type")
        if found is not None and found != cls.model_type:
            if found not in _BACKBONES:
                raise ValueError(
                    f"Performer BERT can start from {' or '.join(_BACKBONES)}, got a model of type {found!r}; "
                    "for other models use kexue_hf.use_performer(model)"
                )
            if config_dict.get("position_embedding_type", "absolute") != "absolute":
                raise ValueError("Performer BERT needs a BERT with absolute positions, got one with relative ones")
            config_dict = {key: value for key, value in config_dict.items() if key not in _MODEL_FIELDS}
        return super().from_dict(config_dict, **kwargs)


_BACKBONES = ("bert", "wobert")
# Fields of another model's configuration that must not be carried over.
_MODEL_FIELDS = ("model_type", "architectures", "auto_map", "attention_probs_dropout_prob", "is_decoder")

__all__ = ["PerformerBertConfig"]
