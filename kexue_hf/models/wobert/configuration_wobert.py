"""WoBERT configuration.

WoBERT is a BERT over words (https://kexue.fm/archives/7758): the network is BERT's to the last bit, the vocabulary
consists of words. The configuration adds to BERT's the vocabulary that the weights were trained with, whether the
checkpoint has a pooler, and the input of a classifier.
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
            Input of `WoBertForSequenceClassification` and `WoBertForMultipleChoice`: `"pooler"` is BERT's
            tanh(dense([CLS])), `"cls"` the last hidden state of [CLS], as in bert4keras' fine-tuning scripts,
            `"mean"` the mean of the last hidden states of all tokens except padding.
        add_pooling_layer (`bool`, *optional*, defaults to `True`):
            Whether the checkpoint has a pooler. False for a checkpoint trained on masked language modelling only;
            `WoBertModel` then has none. `WoBertForPreTraining`, `WoBertForNextSentencePrediction` and
            `classifier_pooling="pooler"` always have one, newly initialised if the checkpoint has none.
        vocab_fingerprint (`str`, *optional*):
            Hash of the vocabulary that the weights belong to, see `vocabulary_fingerprint`. A tokenizer with a
            different vocabulary causes a warning when it meets the model.

    Raises:
        ValueError: `classifier_pooling` is not one of the three.
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
        # transformers would record only the class being saved; with all of them in the file, every Auto class loads
        # the folder without this package.
        kwargs["auto_map"] = {**AUTO_MAP, **(kwargs.get("auto_map") or {})}
        super().__post_init__(**kwargs)


__all__ = ["WoBertConfig"]
