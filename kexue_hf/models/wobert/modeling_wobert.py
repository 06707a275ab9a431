"""WoBERT (https://kexue.fm/archives/7758): BERT over words.

The network and its parameter names are BERT's, so a WoBERT folder also loads into transformers' BERT classes.
Differences:

* The pooler is optional (`config.add_pooling_layer`): the released checkpoints were trained on masked language
  modelling only and have none.
* `config.classifier_pooling="cls"` classifies the last hidden state of [CLS], as bert4keras' scripts do; `"mean"` the
  mean of the last hidden states of all tokens except padding.
* The loss of a head with one tensor of `labels` is the same under gradient accumulation and data parallelism as in
  one batch: given `num_items_in_batch` (which `Trainer` counts and passes), it is the sum over the items divided by
  that number. BERT's heads accept the argument and ignore it, so accumulating over N micro-batches makes their loss
  and gradients N times too large. `Trainer` does not count the labels of two heads: question answering averages over
  micro-batches, and the next-sentence loss is weighted by each micro-batch's share of masked words.
* Losses are computed in float32 or wider whatever the weights are: a sum over a large batch overflows float16.
* A saved configuration records whether the saved weights include a pooler.
* An untied output layer keeps its bias when the vocabulary is resized and saved: see `replace_decoder`.
"""

import functools
from typing import Any

import torch
from torch import nn
from transformers import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertPreTrainedModel,
)
from transformers.modeling_outputs import QuestionAnsweringModelOutput
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .bert_keywords_wobert import bert_keywords
from .configuration_wobert import WoBertConfig
from .losses_wobert import cross_entropy, pretraining_loss, span_loss, text_classification_loss, widen, with_loss
from .unilm_wobert import UniLmGenerationMixin

# Parts of a pre-trained model that other heads do not use: not worth a report.
_IGNORED_WEIGHTS = [r"(^|\.)pooler\.", r"^(cls|classifier|qa_outputs)\."]


class WoBertPreTrainedModel(BertPreTrainedModel):
    """Base of all WoBERT classes: configuration, and the weights ignored on loading."""

    config: WoBertConfig
    config_class = WoBertConfig
    _keys_to_ignore_on_load_unexpected = _IGNORED_WEIGHTS

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """Save the model; the saved configuration records whether these weights include a pooler."""
        configured = self.config.add_pooling_layer
        self.config.add_pooling_layer = any(".pooler." in f".{name}" for name, _ in self.named_parameters())
        try:
            return super().save_pretrained(*args, **kwargs)
        finally:
            self.config.add_pooling_layer = configured


class _HeadWithLabels(WoBertPreTrainedModel):
    """Mixin before a BERT head: that head's outputs, with our loss."""

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Any:
        """Return the head's outputs; shapes are in the class docstring, the inputs are BERT's.

        Args:
            num_items_in_batch: entries of `labels` (not -100) in the whole accumulated batch; the loss is then their
                sum divided by this number instead of their mean.
        """
        keywords = bert_keywords(self.config, {**kwargs})
        outputs = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **keywords,
        )
        if labels is None:
            return outputs
        loss = self._loss(outputs.logits, labels.to(outputs.logits.device), num_items_in_batch)
        return with_loss(outputs, loss)

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        return cross_entropy(logits, labels, num_items_in_batch)


class FirstTokenPooler(nn.Module):
    """[batch, length, hidden] -> [batch, hidden]: the first token's state, in place of BERT's pooler."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states[:, 0]


def replace_decoder(predictions: Any, decoder: nn.Linear, tied: bool) -> None:
    """Replace the output layer of a masked-word head, as resizing the vocabulary does.

    The head has two biases, its own and the decoder's, and only the decoder's is added to the scores. If the
    embeddings are tied, so are the biases. If not, the biases must stay two tensors, unlike in BERT: a shared tensor
    would be saved under one name, and loading would not find the other.
    """
    bias = decoder.bias
    if not tied and bias is not None:
        old = predictions.bias
        bias = nn.Parameter(bias.detach().clone(), requires_grad=old.requires_grad)
        kept = min(len(old), len(bias))
        bias.data[:kept] = old.data[:kept]
    predictions.decoder, predictions.bias = decoder, bias


def masked_mean(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean over the real tokens, special ones included: [batch, length, hidden] -> [batch, hidden].

    Args:
        hidden_states: of any floating type; the sum is computed in float32 or wider.
        attention_mask: [batch, length], nonzero where a token is real; or [batch, heads or 1, queries, length],
            boolean or additive (0 or very negative), where a token is real if any query may attend to it; None means
            that all tokens are real. The mean of a row without real tokens is 0.
    """
    states = widen(hidden_states)
    if attention_mask is None:
        return states.mean(1).to(hidden_states.dtype)
    if attention_mask.dim() == 2:
        real = attention_mask != 0
    else:
        real = attention_mask if attention_mask.dtype == torch.bool else attention_mask > -1
        real = real.flatten(1, -2).any(1)
    real = real.to(states.device)[..., None]
    # Not multiplied by the mask: masked states may be infinite in float16.
    mean = states.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)
    return mean.to(hidden_states.dtype)


def _put_mean_in_pooler_output(encoder: nn.Module, args: Any, kwargs: dict[str, Any], outputs: Any) -> Any:
    """Set `pooler_output`, which BERT's heads read, to the mean; a hook, because a pooler does not get the mask."""
    mean = masked_mean(outputs[0], args[1] if len(args) > 1 else kwargs.get("attention_mask"))
    if isinstance(outputs, tuple):
        return outputs[0], mean, *outputs[1:]
    return type(outputs)(**{**outputs, "pooler_output": mean})


def _set_pooling(encoder: BertModel, pooling: str) -> None:
    if pooling == "cls":
        encoder.pooler = FirstTokenPooler()
    elif pooling == "mean":
        encoder.pooler = None
        encoder.register_forward_hook(_put_mean_in_pooler_output, with_kwargs=True)
    elif pooling != "pooler":
        # from_pretrained sets fields after the configuration has checked them.
        raise ValueError(f"classifier_pooling must be 'pooler', 'cls' or 'mean', got {pooling!r}")


class WoBertModel(WoBertPreTrainedModel, BertModel):
    """The WoBERT encoder: ids [batch, length] -> states [batch, length, hidden], and [batch, hidden] from the pooler.

    Args:
        config: the configuration.
        add_pooling_layer: whether to build the pooler; defaults to `config.add_pooling_layer`.
    """

    _auto_class = "AutoModel"

    def __init__(self, config: WoBertConfig, add_pooling_layer: bool | None = None) -> None:
        super().__init__(config, config.add_pooling_layer if add_pooling_layer is None else add_pooling_layer)

    @functools.wraps(BertModel.forward)
    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        keywords = bert_keywords(self.config, keywords)
        return super().forward(*arguments, **keywords)


class _OutputLayer(WoBertPreTrainedModel):
    """Mixin before a BERT head that scores words: replacing the output layer."""

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        replace_decoder(self.cls.predictions, new_embeddings, self.config.tie_word_embeddings)


class WoBertForPreTraining(_OutputLayer, BertForPreTraining):
    """WoBERT with both pre-training heads: masked words (MLM) and next sentence (NSP)."""

    _auto_class = "AutoModelForPreTraining"
    # `Trainer` requires every label in the signature; this makes it evaluate rows without this label too.
    optional_label_names = ("next_sentence_label",)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        next_sentence_label: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BertForPreTrainingOutput:
        """Return the scores of every token's word [batch, length, vocabulary] and of the second sentence [batch, 2].

        Args:
            labels: ids [batch, length], -100 where there is no loss.
            next_sentence_label: [batch], 0 if the second sentence follows the first, 1 if it is a random one. The loss
                is the sum of both, or the one that has labels.
            num_items_in_batch: labels (not -100) in the whole accumulated batch. The NSP loss, which `Trainer` does
                not count, is weighted by this micro-batch's share of them.
        """
        keywords = bert_keywords(self.config, {**kwargs})
        outputs = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **keywords,
        )
        loss = pretraining_loss(
            outputs.prediction_logits, outputs.seq_relationship_logits, labels, next_sentence_label, num_items_in_batch
        )
        return outputs if loss is None else with_loss(outputs, loss)


class WoBertForMaskedLM(_OutputLayer, _HeadWithLabels, BertForMaskedLM):
    """WoBERT with the masked-word head, tied to the word embeddings.

    `logits` [batch, length, vocabulary]; `labels` ids [batch, length], -100 where there is no loss.
    """

    _auto_class = "AutoModelForMaskedLM"


class WoBertForCausalLM(UniLmGenerationMixin, _OutputLayer, BertForMaskedLM):
    """WoBERT that continues a prompt, as a UniLM; weights and their names are those of `WoBertForMaskedLM`.

    `logits` [batch, length, vocabulary] score the token after each token; `labels` ids [batch, length] are shifted
    inside.
    """

    _auto_class = "AutoModelForCausalLM"


class WoBertForNextSentencePrediction(_HeadWithLabels, BertForNextSentencePrediction):
    """WoBERT with the next-sentence head.

    `logits` [batch, 2], class 0 is "the second sentence follows the first"; `labels` classes [batch].
    """

    _auto_class = "AutoModelForNextSentencePrediction"


class WoBertForSequenceClassification(_HeadWithLabels, BertForSequenceClassification):
    """WoBERT with a text classifier over the pooling that `config.classifier_pooling` names.

    `logits` [batch, num_labels]; `labels` are classes [batch], values [batch] or [batch, num_labels] for regression,
    or zeros and ones [batch, num_labels] (float) for multi-label. `config.problem_type` selects one of these; if it is
    None, it is set from the first batch's labels.
    """

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: WoBertConfig) -> None:
        super().__init__(config)
        _set_pooling(self.bert, config.classifier_pooling)

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        return text_classification_loss(logits, labels, self.config, num_items_in_batch)


class WoBertForMultipleChoice(_HeadWithLabels, BertForMultipleChoice):
    """WoBERT that chooses one of several texts, by the pooling that `config.classifier_pooling` names.

    Inputs [batch, choices, length]; `logits` [batch, choices]; `labels` [batch], the right choice of each row.
    """

    _auto_class = "AutoModelForMultipleChoice"

    def __init__(self, config: WoBertConfig) -> None:
        super().__init__(config)
        _set_pooling(self.bert, config.classifier_pooling)


class WoBertForTokenClassification(_HeadWithLabels, BertForTokenClassification):
    """WoBERT with a classifier of every token.

    `logits` [batch, length, num_labels]; `labels` classes [batch, length], -100 where there is no loss.
    """

    _auto_class = "AutoModelForTokenClassification"


class WoBertForQuestionAnswering(WoBertPreTrainedModel, BertForQuestionAnswering):
    """WoBERT that finds the span of a text that answers a question."""

    _auto_class = "AutoModelForQuestionAnswering"

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> QuestionAnsweringModelOutput:
        """Return the scores of every token as start and as end of the answer, [batch, length] each.

        Args:
            start_positions, end_positions: token positions [batch]; negative ones or those beyond the text are
                ignored.
            num_items_in_batch: rows in the whole accumulated batch; the loss is then their sum divided by this number.
        """
        keywords = bert_keywords(self.config, {**kwargs})
        outputs = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **keywords,
        )
        if start_positions is None or end_positions is None:
            return outputs
        loss = span_loss(outputs.start_logits, outputs.end_logits, start_positions, end_positions, num_items_in_batch)
        return with_loss(outputs, loss)


__all__ = [
    "WoBertForCausalLM",
    "WoBertForMaskedLM",
    "WoBertForMultipleChoice",
    "WoBertForNextSentencePrediction",
    "WoBertForPreTraining",
    "WoBertForQuestionAnswering",
    "WoBertForSequenceClassification",
    "WoBertForTokenClassification",
    "WoBertModel",
    "WoBertPreTrainedModel",
]
