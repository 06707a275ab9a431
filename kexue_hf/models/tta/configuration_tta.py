"""T-TA configuration: BERT's, and the start of the queries (https://kexue.fm/archives/7661, arXiv 2004.08097).

Defaults are those of the official model: 3 layers of 512, 128 positions, no segments, [SOS] and [EOS] around a
sentence.
"""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

from .auto_map_tta import AUTO_MAP


@strict
class TtaConfig(BertConfig):
    r"""Configuration of the T-TA models; all of [`BertConfig`]'s fields, and:

    Args:
        query_source (`str`, *optional*, defaults to `"mask_embedding"`):
            Start of the query stream. `"mask_embedding"`: LayerNorm(E[MASK] + P), as in the official code (at padding
            the row of the padding token); `"position"`: LayerNorm(P), the post's formula.
        mask_token_id (`int`, *optional*, defaults to 4):
            The token whose embedding is E[MASK]. It must be given if a T-TA starts from the folder of another model.
        mask_diagonal (`bool`, *optional*, defaults to `True`):
            Whether every layer hides each token from itself. Without it, the model no longer predicts each token from
            the others; fine-tuning for classification may turn it off.
        type_vocab_size (`int`, *optional*, defaults to 0):
            Number of segments; with 0 there are no segment embeddings and `token_type_ids` are ignored.
        classifier_pooling (`str`, *optional*, defaults to `"mean"`):
            Input of `TtaForSequenceClassification`: `"mean"` is the mean of the last hidden states of all tokens
            except padding, `"cls"` the last hidden state of the first token.
        vocab_fingerprint (`str`, *optional*):
            Hash of the vocabulary that the weights belong to. A tokenizer with a different one causes a warning.

    Raises:
        ValueError: `query_source` or `classifier_pooling` is invalid, `mask_token_id` is missing or negative, a
            decoder is requested, or another model's configuration is read without a `mask_token_id`.
    """

    model_type = "tta"
    _auto_class = "AutoConfig"

    vocab_size: int = 29530
    hidden_size: int = 512
    num_hidden_layers: int = 3
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    max_position_embeddings: int = 128
    type_vocab_size: int = 0
    bos_token_id: int | None = 3
    eos_token_id: int | list[int] | None = 1
    mask_token_id: int | None = 4
    query_source: str = "mask_embedding"
    mask_diagonal: bool = True
    classifier_pooling: str = "mean"
    vocab_fingerprint: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.check()
        # As in WoBERT: with all classes in the file, every Auto class loads the folder without this package.
        kwargs["auto_map"] = {**AUTO_MAP, **(kwargs.get("auto_map") or {})}
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise the errors named above. The models call it again, since `from_pretrained` sets fields afterwards."""
        if self.query_source not in ("mask_embedding", "position"):
            raise ValueError(f"query_source must be 'mask_embedding' or 'position', got {self.query_source!r}")
        if self.classifier_pooling not in ("mean", "cls"):
            raise ValueError(
                f"classifier_pooling must be 'mean' or 'cls' (T-TA has no pooler), got {self.classifier_pooling!r}"
            )
        # The vocabulary size is not checked here, since it may be resized: the embeddings check when they use the row.
        if self.query_source == "mask_embedding" and (self.mask_token_id is None or self.mask_token_id < 0):
            raise ValueError(
                "query_source='mask_embedding' needs mask_token_id, the token whose embedding the queries start from, "
                f"got {self.mask_token_id}: give tokenizer.mask_token_id"
            )
        if self.is_decoder or self.add_cross_attention:
            raise ValueError("T-TA is an encoder only: set is_decoder and add_cross_attention to False")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read a T-TA's configuration, or convert another model's, such as BERT's, to a T-TA of the same sizes.

        Raises:
            ValueError: the configuration is another model's, and neither it nor `kwargs` has the `mask_token_id` that
                the queries start from; or that model's weights do not have BERT's names, so none would be loaded.
        """
        found = config_dict.get("model_type")
        if found != cls.model_type:
            if found is not None and found not in _BACKBONES:
                raise ValueError(
                    f"a T-TA can start from {', '.join(_BACKBONES)}, whose weights have its names, not from {found!r}"
                )
            config_dict = {key: value for key, value in config_dict.items() if key not in _MODEL_FIELDS}
            if config_dict.get("classifier_pooling") == "pooler":
                del config_dict["classifier_pooling"]
            for name in ("mask_token_id", "query_source"):
                if name in kwargs:
                    config_dict[name] = kwargs[name]
            if "mask_token_id" not in config_dict and config_dict.get("query_source") != "position":
                raise ValueError(
                    f"a T-TA that starts from a model of type {found!r} needs the id of [MASK], from which the "
                    "queries start: give mask_token_id=tokenizer.mask_token_id"
                )
        return super().from_dict(config_dict, **kwargs)


_BACKBONES = ("bert", "wobert", "tta")
# Fields of another model's configuration that must not be carried over.
_MODEL_FIELDS = ("model_type", "architectures", "auto_map")

__all__ = ["TtaConfig"]
