"""WoBERT (https://kexue.fm/archives/7758): BERT over words.

The network is BERT's, parameter names included, so a WoBERT folder also loads into transformers' BERT classes. Where
this departs from them:

* The pooler is optional (`config.add_pooling_layer`): the released checkpoints were trained on masked language
  modelling only and have none.
* `config.classifier_pooling="cls"` classifies the last hidden state of [CLS] itself, as bert4keras' scripts do.
* Losses are right under gradient accumulation and data parallelism: with `num_items_in_batch` (which `Trainer` passes)
  a loss is the sum over the items divided by that number. BERT's own heads accept the argument and ignore it, so that
  accumulating over N micro-batches makes their loss and gradients N times too large.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
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
from transformers.modeling_outputs import (
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput
from transformers.utils import can_return_tuple

from .configuration_wobert import WoBertConfig


def _cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None, ignore_index: int = -100
) -> torch.Tensor:
    """Cross entropy of logits [..., classes] and labels [...]: the mean over the labels that are not `ignore_index`,
    or their sum divided by `num_items_in_batch`, the number of labels in the whole accumulated, distributed batch."""
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1).to(logits.device)
    if num_items_in_batch is None:
        return functional.cross_entropy(logits, labels, ignore_index=ignore_index)
    total = functional.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum")
    return total / torch.as_tensor(num_items_in_batch, device=total.device)


class WoBertPreTrainedModel(BertPreTrainedModel):
    """What all WoBERT classes share: their configuration."""

    config: WoBertConfig
    config_class = WoBertConfig


class FirstTokenPooler(nn.Module):
    """[batch, length, hidden] -> [batch, hidden]: the first token's state as it is, in the place of BERT's pooler."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states[:, 0]


class WoBertModel(WoBertPreTrainedModel, BertModel):
    """The WoBERT encoder: ids [batch, length] -> states [batch, length, hidden], and [batch, hidden] from the pooler.

    Args:
        config: the configuration.
        add_pooling_layer: whether to build the pooler; by default what `config.add_pooling_layer` says.
    """

    _auto_class = "AutoModel"

    def __init__(self, config: WoBertConfig, add_pooling_layer: bool | None = None) -> None:
        super().__init__(config, config.add_pooling_layer if add_pooling_layer is None else add_pooling_layer)


class WoBertForPreTraining(WoBertPreTrainedModel, BertForPreTraining):
    """WoBERT with both pre-training heads: masked words (MLM) and next sentence (NSP)."""

    _auto_class = "AutoModelForPreTraining"

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
        **kwargs: Any,
    ) -> BertForPreTrainingOutput:
        """Scores of every token's word [batch, length, vocabulary] and of the second sentence [batch, 2].

        Args:
            labels: ids [batch, length], -100 where no loss is wanted.
            next_sentence_label: [batch], 0 if the second sentence follows the first, 1 if it is a random one. The loss
                is the sum of both, or the one whose labels are given.
            num_items_in_batch: labels (not -100) in the whole accumulated batch. The NSP loss, which has no such count
                of its own, is weighted by this micro-batch's share of them.
        """
        outputs = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        losses = []
        if labels is not None:
            losses.append(_cross_entropy(outputs.prediction_logits, labels, num_items_in_batch))
        if next_sentence_label is not None:
            next_sentence_loss = _cross_entropy(outputs.seq_relationship_logits, next_sentence_label, None)
            if labels is not None and num_items_in_batch is not None:
                next_sentence_loss = next_sentence_loss * (labels.ne(-100).sum() / num_items_in_batch)
            losses.append(next_sentence_loss)
        if losses:
            outputs.loss = torch.stack([loss.reshape(()) for loss in losses]).sum()
        return outputs


class WoBertForMaskedLM(WoBertPreTrainedModel, BertForMaskedLM):
    """WoBERT with the masked-word head, tied to the word embeddings."""

    _auto_class = "AutoModelForMaskedLM"

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
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Scores [batch, length, vocabulary], before the softmax.

        Args:
            labels: ids [batch, length], -100 where no loss is wanted.
            num_items_in_batch: labels (not -100) in the whole accumulated batch; the loss is then sum / number.
        """
        outputs = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        if labels is not None:
            outputs.loss = _cross_entropy(outputs.logits, labels, num_items_in_batch)
        return outputs


class WoBertForNextSentencePrediction(WoBertPreTrainedModel, BertForNextSentencePrediction):
    """WoBERT with the next-sentence head."""

    _auto_class = "AutoModelForNextSentencePrediction"

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
        **kwargs: Any,
    ) -> NextSentencePredictorOutput:
        """Scores [batch, 2]: class 0 is "the second sentence follows the first".

        Args:
            labels: classes [batch].
            num_items_in_batch: pairs in the whole accumulated batch; the loss is then sum / number.
        """
        outputs = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        if labels is not None:
            outputs.loss = _cross_entropy(outputs.logits, labels, num_items_in_batch)
        return outputs


class WoBertForSequenceClassification(WoBertPreTrainedModel, BertForSequenceClassification):
    """WoBERT with a classifier of whole texts, over what `config.classifier_pooling` names."""

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: WoBertConfig) -> None:
        super().__init__(config)
        if config.classifier_pooling == "cls":
            self.bert.pooler = FirstTokenPooler()

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
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Scores [batch, num_labels], before the softmax.

        Args:
            labels: classes [batch], values [batch] or [batch, num_labels] for regression, or zeros and ones
                [batch, num_labels] (float) for multi-label; which of them, `config.problem_type` says, or the first
                batch's labels.
            num_items_in_batch: entries of the labels in the whole accumulated batch; the loss is then sum / number.
        """
        outputs = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        if labels is not None:
            outputs.loss = self._loss(outputs.logits, labels.to(outputs.logits.device), num_items_in_batch)
        return outputs

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        if self.config.problem_type is None:
            if self.num_labels == 1:
                self.config.problem_type = "regression"
            elif labels.dtype in (torch.long, torch.int):
                self.config.problem_type = "single_label_classification"
            else:
                self.config.problem_type = "multi_label_classification"
        if self.config.problem_type == "single_label_classification":
            return _cross_entropy(logits, labels, num_items_in_batch)
        loss_function = (
            functional.mse_loss
            if self.config.problem_type == "regression"
            else functional.binary_cross_entropy_with_logits
        )
        labels = labels.to(logits.dtype).reshape(logits.shape)
        if num_items_in_batch is None:
            return loss_function(logits, labels)
        total = loss_function(logits, labels, reduction="sum")
        return total / torch.as_tensor(num_items_in_batch, device=total.device)


class WoBertForMultipleChoice(WoBertPreTrainedModel, BertForMultipleChoice):
    """WoBERT that chooses one of several texts, over what `config.classifier_pooling` names."""

    _auto_class = "AutoModelForMultipleChoice"

    def __init__(self, config: WoBertConfig) -> None:
        super().__init__(config)
        if config.classifier_pooling == "cls":
            self.bert.pooler = FirstTokenPooler()

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
        **kwargs: Any,
    ) -> MultipleChoiceModelOutput:
        """Scores [batch, choices] of inputs [batch, choices, length].

        Args:
            labels: the right choice of each row [batch].
            num_items_in_batch: rows in the whole accumulated batch; the loss is then sum / number.
        """
        outputs = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        if labels is not None:
            outputs.loss = _cross_entropy(outputs.logits, labels, num_items_in_batch)
        return outputs


class WoBertForTokenClassification(WoBertPreTrainedModel, BertForTokenClassification):
    """WoBERT with a classifier of every token."""

    _auto_class = "AutoModelForTokenClassification"

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
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Scores [batch, length, num_labels], before the softmax.

        Args:
            labels: classes [batch, length], -100 where no loss is wanted.
            num_items_in_batch: labels (not -100) in the whole accumulated batch; the loss is then sum / number.
        """
        outputs = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        if labels is not None:
            outputs.loss = _cross_entropy(outputs.logits, labels, num_items_in_batch)
        return outputs


class WoBertForQuestionAnswering(WoBertPreTrainedModel, BertForQuestionAnswering):
    """WoBERT that finds the span of the text which answers a question."""

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
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """Scores of every token as the start and as the end of the answer, [batch, length] each.

        Args:
            start_positions, end_positions: token positions [batch]; outside the text (or negative) means no loss.
            num_items_in_batch: rows in the whole accumulated batch; the loss is then sum / number.
        """
        outputs = super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        if start_positions is not None and end_positions is not None:
            length = outputs.start_logits.shape[1]
            losses = []
            for logits, positions in ((outputs.start_logits, start_positions), (outputs.end_logits, end_positions)):
                positions = positions.reshape(-1)
                positions = positions.masked_fill((positions < 0) | (positions >= length), -100)
                losses.append(_cross_entropy(logits, positions, num_items_in_batch))
            outputs.loss = (losses[0] + losses[1]) / 2
        return outputs


__all__ = [
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
