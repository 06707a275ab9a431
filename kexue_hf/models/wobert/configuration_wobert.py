"""WoBERT configuration.

WoBERT is a BERT whose unit is the word (https://kexue.fm/archives/7758): the network is BERT's to the last bit, the
vocabulary is of words. The configuration therefore adds to BERT's only what tells the two apart: which vocabulary the
weights were trained with, whether the checkpoint has a pooler, and what a classifier reads.
"""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

from .auto_map_wobert import AUTO_MAP


@strict
class WoBertConfig(BertConfig):
    r"""Configuration of the WoBERT models; all of [`BertConfig`]'s fields, and:

    Args:
        classifier_pooling (`str`, *optional*, defaults to `"pooler"`):
            What `WoBertForSequenceClassification` and `WoBertForMultipleChoice` classify: `"pooler"` is BERT's
            tanh(dense([CLS])), `"cls"` the last hidden state of [CLS] itself, as bert4keras' fine-tuning scripts do,
            `"mean"` the mean of the last hidden states of all tokens that are not padding.
        add_pooling_layer (`bool`, *optional*, defaults to `True`):
            Whether the checkpoint has a pooler. False for one that was trained on masked language modelling only;
            `WoBertModel` then has none either. `WoBertForPreTraining`, `WoBertForNextSentencePrediction` and
            `classifier_pooling="pooler"` always have one, newly initialised where the checkpoint has none.
        vocab_fingerprint (`str`, *optional*):
            Hash of the vocabulary that the weights belong to, see `vocabulary_fingerprint`. A tokenizer with another
            vocabulary is warned about when it meets the model.

    Raises:
        ValueError: `classifier_pooling` is none of the three.
    """

    model_type = "wobert"
    _auto_class = "AutoConfig"

    vocab_size: int = 33586
    classifier_pooling: str = "pooler"
    add_pooling_layer: bool = True
    vocab_fingerprint: str | None = None
    tokenizer_class: str | None = "WoBertTokenizer"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.classifier_pooling not in ("pooler", "cls", "mean"):
            raise ValueError(f"classifier_pooling must be 'pooler', 'cls' or 'mean', got {self.classifier_pooling!r}")
        # transformers would record the one class that is being saved; with all of them in the file every Auto class
        # loads the folder where this package is not installed.
        kwargs["auto_map"] = {**AUTO_MAP, **(kwargs.get("auto_map") or {})}
        super().__post_init__(**kwargs)


__all__ = ["WoBertConfig"]
