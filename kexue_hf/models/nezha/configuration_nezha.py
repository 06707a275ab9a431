"""NEZHA configuration: BERT's, with relative positions (https://huggingface.co/papers/1909.00204).

Fields and defaults are those of transformers 4, which had this model, so its repositories on the Hub load again. The
fields for the pooler, the classifier's input and the vocabulary are those of WoBERT.
"""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

from .auto_map_nezha import AUTO_MAP


@strict
class NezhaConfig(BertConfig):
    r"""Configuration of the NEZHA models; all of [`BertConfig`]'s fields, and:

    Args:
        max_relative_position (`int`, *optional*, defaults to 64):
            Distance at which relative positions are clipped.
        max_position_embeddings (`int`, *optional*, defaults to 512):
            Length that the model was trained with. There is no position table: longer texts work too.
        classifier_dropout (`float`, *optional*, defaults to 0.1):
            Dropout before a head's linear layer; `None` means `hidden_dropout_prob`.
        classifier_pooling (`str`, *optional*, defaults to `"pooler"`):
            Input of `NezhaForSequenceClassification` and `NezhaForMultipleChoice`: `"pooler"` is BERT's
            tanh(dense([CLS])), `"cls"` the last hidden state of [CLS], `"mean"` the mean of the last hidden states of
            all tokens except padding.
        add_pooling_layer (`bool`, *optional*, defaults to `True`):
            Whether the checkpoint has a pooler. `NezhaForPreTraining`, `NezhaForNextSentencePrediction` and
            `classifier_pooling="pooler"` always have one, newly initialised if the checkpoint has none.
        vocab_fingerprint (`str`, *optional*):
            Hash of the vocabulary that the weights belong to. A tokenizer with a different one causes a warning.

    Raises:
        ValueError: `classifier_pooling` is not one of the three, `max_relative_position` is below 1, or a decoder is
            requested.
    """

    model_type = "nezha"
    _auto_class = "AutoConfig"

    vocab_size: int = 21128
    max_relative_position: int = 64
    classifier_dropout: float | int | None = 0.1
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3
    classifier_pooling: str = "pooler"
    add_pooling_layer: bool = True
    vocab_fingerprint: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.check()
        # As in WoBERT: with all classes in the file, every Auto class loads the folder without this package.
        kwargs["auto_map"] = {**AUTO_MAP, **(kwargs.get("auto_map") or {})}
        super().__post_init__(**kwargs)

    @property
    def max_text_tokens(self) -> None:
        """None: positions are relative, so a text may have any number of tokens."""
        return None

    def check(self) -> None:
        """Raise the errors named above. The models call it again, since `from_pretrained` sets fields afterwards."""
        if self.classifier_pooling not in ("pooler", "cls", "mean"):
            raise ValueError(f"classifier_pooling must be 'pooler', 'cls' or 'mean', got {self.classifier_pooling!r}")
        if self.max_relative_position < 1:
            raise ValueError(f"max_relative_position must be at least 1, got {self.max_relative_position}")
        if self.is_decoder or self.add_cross_attention:
            raise ValueError("NEZHA is an encoder only: set is_decoder and add_cross_attention to False")


__all__ = ["NezhaConfig"]
