"""Performer BERT configuration: BERT's, with linear attention above some length and positions beyond the table.

A BERT's configuration (of model type "bert", as RoBERTa-wwm's also is, or "wobert") is read as one of the same sizes.
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
            What stands for exp(q . k): `"low_order"`, `"favor+"`, `"favor++"` or, once trained, `"learned"`.
        num_features (`int`, *optional*, defaults to 256):
            At most so many features a head.
        norm (`str`, *optional*, defaults to `"chi"`):
            Norms of random features: `"chi"`, `"sqrt_d"` or `"stratified"`.
        seed (`int`, *optional*, defaults to 0):
            Of random features; each layer has draws of its own.
        redraw (`int`, *optional*):
            Optimiser steps after which random features are drawn anew; `None` means never.
        linear_layers (`list[int]` or `str`, *optional*):
            The layers, from 0, that have linear attention; the others stay softmax. `None` means all. `"auto"` means
            those that are near enough to softmax on texts of yours: `kexue_hf.calibrate_performer(model, texts,
            tokenizer)` puts their numbers here; until then all are linear, and a warning says so.
        attention_switch_length (`int` or `str`, *optional*, defaults to `"auto"`):
            Inputs of at most so many tokens (padding included) have softmax, exact and there the faster one; longer
            ones linear attention. `"auto"` takes the length from which on linear attention is the faster one on the
            device: 768 on a CPU, and the same where nothing was measured. `None` or 0: always linear. A causal model
            is always linear. Padding counts: around this length the numbers of a text depend on the longest text of
            its batch.
        looks_back (`bool`, *optional*, defaults to `False`):
            Whether a token sees those before it only. A saved `PerformerBertForCausalLM` says so here, and the encoder
            and other heads that are loaded from its folder look back, too.
        position_alpha (`float`, *optional*, defaults to 0.4):
            Of the hierarchical decomposition of positions, see `PerformerBertEmbeddings`.
        max_position_embeddings (`int`, *optional*, defaults to 512):
            Rows of the table of positions, n; texts of up to n^2 tokens have positions.
        attention_probs_dropout_prob (`float`, *optional*, defaults to 0.0):
            Of softmax; linear attention has no weights to drop. Not taken over from another model's configuration:
            a model would be trained in another way above the switch length than below it.
        classifier_pooling (`str`, *optional*, defaults to `"pooler"`):
            What `PerformerBertForSequenceClassification` classifies: `"pooler"` is BERT's tanh(dense([CLS])), `"cls"`
            the last hidden state of [CLS] itself, `"mean"` the mean of all tokens' last hidden states, padding left
            out.
        add_pooling_layer (`bool`, *optional*, defaults to `True`):
            Whether the checkpoint has a pooler. `classifier_pooling="pooler"` always has one, newly initialised where
            the checkpoint has none.
        vocab_fingerprint (`str`, *optional*):
            Hash of the vocabulary that the weights belong to. A tokenizer with another one is warned about.

    Raises:
        ValueError: a value that none of these has; a decoder is asked for; or the configuration is of another model
            than BERT or WoBERT.
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
    # Not is_causal, which transformers hands on to attention as an argument.
    looks_back: bool = False
    position_alpha: float = 0.4
    classifier_pooling: str = "pooler"
    add_pooling_layer: bool = True
    vocab_fingerprint: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.check()
        # As in WoBERT: with all classes in the file every Auto class loads the folder without this package.
        kwargs["auto_map"] = {**AUTO_MAP, **(kwargs.get("auto_map") or {})}
        super().__post_init__(**kwargs)

    @property
    def max_text_tokens(self) -> int:
        """Tokens of the longest text, special ones included: positions go on beyond their table."""
        return self.max_position_embeddings**2

    def check(self) -> None:
        """Raise the errors named above. The models call it again, for `from_pretrained` sets fields afterwards."""
        maps = ("low_order", "favor+", "favor++", "learned")
        if self.feature_map not in maps:
            raise ValueError(f"feature_map must be one of {', '.join(maps)}, got {self.feature_map!r}")
        if self.num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {self.num_features}")
        if self.norm not in ("chi", "sqrt_d", "stratified"):
            raise ValueError(f"norm must be one of chi, sqrt_d, stratified, got {self.norm!r}")
        if self.redraw is not None and (self.feature_map in ("low_order", "learned") or self.redraw < 1):
            raise ValueError(
                "redraw must be a number of steps of at least 1 and is for random features, got "
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
            raise ValueError("Performer BERT is an encoder: is_decoder and add_cross_attention must be False")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in all of transformers; the configuration of a BERT or WoBERT becomes one of the same sizes.

        Raises:
            ValueError: it is another model's, or a BERT's with relative positions.
        """
        found = config_dict.get("model_type")
        if found is not None and found != cls.model_type:
            if found not in _READ_AS_OURS:
                raise ValueError(
                    f"Performer BERT starts from a model of type {' or '.join(_READ_AS_OURS)}, got one of {found!r}; "
                    "any other model gets linear attention by kexue_hf.use_performer(model)"
                )
            if config_dict.get("position_embedding_type", "absolute") != "absolute":
                raise ValueError("a Performer BERT has absolute positions, got a BERT with relative ones")
            config_dict = {key: value for key, value in config_dict.items() if key not in _OF_ITS_OWN_MODEL}
        return super().from_dict(config_dict, **kwargs)


_READ_AS_OURS = ("bert", "wobert")
# What must not be carried over from another model's configuration.
_OF_ITS_OWN_MODEL = ("model_type", "architectures", "auto_map", "attention_probs_dropout_prob", "is_decoder")

__all__ = ["PerformerBertConfig"]
