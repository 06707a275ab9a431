"""NEZHA (https://huggingface.co/papers/1909.00204): a BERT with functional relative positions.

transformers had this model up to version 4; parameters have the same names, so its folders load. WoNEZHA
(https://github.com/ZhuiyiTechnology/WoBERT) is this network over WoBERT's words. Differences from transformers 4:

* No tensor of (length, length, dimension) is built: see `attention_nezha.py`. transformers 4 kept one in every layer,
  805 MB in a base model. Old files may still hold it; it is ignored.
* No table limits the length. Beyond `max_position_embeddings`, distances are clipped.
* `attn_implementation="sdpa"` exists: torch's fused kernel for texts of up to `max_relative_position` + 1 tokens,
  the eager computation for longer ones. Flash and flex attention cannot compute it and are refused.
* The pooler is optional (`config.add_pooling_layer`), `config.classifier_pooling` selects the classifier's input, and
  losses are computed as in WoBERT (`losses_nezha.py`): given `num_items_in_batch`, accumulating gradients over
  micro-batches gives the loss of one batch.
* It is an encoder only: no cross-attention, no cache. Their keywords and `position_ids`, which BERT accepts, are
  refused.
* An untied output layer keeps its bias when the vocabulary is resized and saved: see `replace_decoder`.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention_nezha import sinusoid_table
from .configuration_nezha import NezhaConfig
from .heads_nezha import NezhaHeads, NezhaLMPredictionHead, NezhaPooler
from .keywords_nezha import REASONS, refuse_unknown
from .layers_nezha import NezhaEmbeddings, NezhaEncoder, NezhaLayer, NezhaRelativePositions, NezhaSelfAttention
from .losses_nezha import cross_entropy, pretraining_loss, span_loss, text_classification_loss, widen

_TIED = {
    "cls.predictions.decoder.weight": "nezha.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_RECORDED = {"hidden_states": NezhaLayer, "attentions": NezhaSelfAttention}
_NO_SPLIT = ["NezhaEmbeddings", "NezhaLayer"]
# Constants in files of transformers 4, and parts of a pre-trained model that other heads do not use.
_IGNORED_WEIGHTS = [
    r"relative_positions_encoding\.positions_encoding",
    r"embeddings\.token_type_ids",
    r"(^|\.)pooler\.",
    r"^(cls|classifier|qa_outputs)\.",
]
_REFUSED = {"position_ids": "its positions are relative", **REASONS}


class NezhaPreTrainedModel(PreTrainedModel):
    """Base of all NEZHA classes: configuration, initialization, and the weights ignored on loading."""

    config: NezhaConfig
    config_class = NezhaConfig
    base_model_prefix = "nezha"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # Their kernels cannot add a custom bias to the scores, and do not return the probabilities.
    _supports_flash_attn = False
    _supports_flex_attn = False
    _supports_attention_backend = False
    _no_split_modules = _NO_SPLIT
    _can_record_outputs = _RECORDED
    _keys_to_ignore_on_load_unexpected = _IGNORED_WEIGHTS

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, NezhaLMPredictionHead):
            init.zeros_(module.bias)
        elif isinstance(module, NezhaRelativePositions):
            init.copy_(module.table, sinusoid_table(module.max_distance, module.dim))

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """Save the model; the saved configuration records whether these weights include a pooler."""
        configured = self.config.add_pooling_layer
        self.config.add_pooling_layer = any(".pooler." in f".{name}" for name, _ in self.named_parameters())
        try:
            return super().save_pretrained(*args, **kwargs)
        finally:
            self.config.add_pooling_layer = configured


class NezhaModel(NezhaPreTrainedModel):
    """The NEZHA encoder: ids [batch, length] -> states [batch, length, hidden], and [batch, hidden] from the pooler.

    Args:
        config: the configuration.
        add_pooling_layer: whether to build the pooler; defaults to `config.add_pooling_layer`.
    """

    _auto_class = "AutoModel"

    def __init__(self, config: NezhaConfig, add_pooling_layer: bool | None = None) -> None:
        config.check()
        super().__init__(config)
        self.embeddings = NezhaEmbeddings(config)
        self.encoder = NezhaEncoder(config)
        pooler = config.add_pooling_layer if add_pooling_layer is None else add_pooling_layer
        self.pooler = NezhaPooler(config) if pooler else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings.word_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Return the states of all tokens and, from the pooler, of the text.

        Args:
            input_ids: [batch, length]; or `inputs_embeds`, their embeddings [batch, length, hidden].
            attention_mask: [batch, length], 0 for padding; or [batch, heads or 1, length, length], boolean or
                additive.
            token_type_ids: segments [batch, length]; defaults to 0.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`; or a keyword of BERT that would be ignored:
                `position_ids`, `past_key_values`, `encoder_hidden_states`, `encoder_attention_mask`.
        """
        refuse_unknown("NEZHA", kwargs, _REFUSED)
        if (input_ids is None) == (inputs_embeds is None):
            given = "neither" if input_ids is None else "both"
            raise ValueError(f"expected either input_ids or inputs_embeds, got {given}")
        states = self.embeddings(input_ids, token_type_ids, inputs_embeds)
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=states, attention_mask=attention_mask
        )
        states = self.encoder(states, attention_mask)
        pooled = self.pooler(states) if self.pooler is not None else None
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)


# Copied from modeling_wobert.replace_decoder
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


# Copied from modeling_wobert.masked_mean
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


class _NezhaHead(NezhaPreTrainedModel):
    """A head with one tensor of labels. Subclasses define the logits and the output class."""

    output_class: Any
    of_choices = False

    def __init__(self, config: NezhaConfig, pooler: bool = False) -> None:
        super().__init__(config)
        self.nezha = NezhaModel(config, add_pooling_layer=pooler)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Any:
        """Return scores and loss; shapes are in the class docstring, inputs in `NezhaModel`.

        Args:
            num_items_in_batch: entries of `labels` (not -100) in the whole accumulated batch; the loss is then their
                sum divided by this number instead of their mean.
        """
        if self.of_choices:
            one = inputs_embeds if input_ids is None else input_ids
            if one is None:
                given = "neither" if input_ids is None else "both"
                raise ValueError(f"expected either input_ids or inputs_embeds, got {given}")
            choices = one.shape[1]
            input_ids, attention_mask, token_type_ids, inputs_embeds = (
                None if given is None else given.flatten(0, 1)
                for given in (input_ids, attention_mask, token_type_ids, inputs_embeds)
            )
        outputs = self.nezha(
            input_ids, attention_mask, token_type_ids, inputs_embeds=inputs_embeds, return_dict=True, **kwargs
        )
        logits = self._score(outputs, attention_mask)
        if self.of_choices:
            logits = logits.view(-1, choices)
        loss = None
        if labels is not None:
            loss = self._loss(logits, labels.to(logits.device), num_items_in_batch)
        return self.output_class(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _score(self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Return the `logits` in the shape that the class docstring gives."""
        raise NotImplementedError

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        return cross_entropy(logits, labels, num_items_in_batch)


class _OutputLayer(NezhaPreTrainedModel):
    """A model that scores words: accessors of the output layer."""

    _tied_weights_keys = _TIED
    cls: NezhaHeads

    def get_output_embeddings(self) -> nn.Linear:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        replace_decoder(self.cls.predictions, new_embeddings, self.config.tie_word_embeddings)


class NezhaForPreTraining(_OutputLayer):
    """NEZHA with both pre-training heads: masked words (MLM) and next sentence (NSP)."""

    _auto_class = "AutoModelForPreTraining"
    # `Trainer` requires every label in the signature; this makes it evaluate rows without this label too.
    optional_label_names = ("next_sentence_label",)

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config)
        self.nezha = NezhaModel(config, add_pooling_layer=True)
        self.cls = NezhaHeads(config, predictions=True, seq_relationship=True)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
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
        outputs = self.nezha(
            input_ids, attention_mask, token_type_ids, inputs_embeds=inputs_embeds, return_dict=True, **kwargs
        )
        words = self.cls.predictions(outputs.last_hidden_state)
        sentences = self.cls.seq_relationship(outputs.pooler_output)
        return BertForPreTrainingOutput(
            loss=pretraining_loss(words, sentences, labels, next_sentence_label, num_items_in_batch),
            prediction_logits=words,
            seq_relationship_logits=sentences,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class NezhaForMaskedLM(_OutputLayer, _NezhaHead):
    """NEZHA with the masked-word head, tied to the word embeddings.

    `logits` [batch, length, vocabulary]; `labels` ids [batch, length], -100 where there is no loss.
    """

    _auto_class = "AutoModelForMaskedLM"
    output_class = MaskedLMOutput

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config)
        self.cls = NezhaHeads(config, predictions=True)
        self.post_init()

    def _score(self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None) -> torch.Tensor:
        return self.cls.predictions(outputs.last_hidden_state)


class NezhaForNextSentencePrediction(_NezhaHead):
    """NEZHA with the next-sentence head.

    `logits` [batch, 2], class 0 is "the second sentence follows the first"; `labels` classes [batch].
    """

    _auto_class = "AutoModelForNextSentencePrediction"
    output_class = NextSentencePredictorOutput

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config, pooler=True)
        self.cls = NezhaHeads(config, seq_relationship=True)
        self.post_init()

    def _score(self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None) -> torch.Tensor:
        return self.cls.seq_relationship(outputs.pooler_output)


class _NezhaTextHead(_NezhaHead):
    """Dropout and one linear layer over the text's pooled state, see `config.classifier_pooling`."""

    def __init__(self, config: NezhaConfig, num_outputs: int) -> None:
        super().__init__(config, pooler=config.classifier_pooling == "pooler")
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, num_outputs)
        self.post_init()

    def _score(self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None) -> torch.Tensor:
        if self.config.classifier_pooling == "pooler":
            text = outputs.pooler_output
        elif self.config.classifier_pooling == "cls":
            text = outputs.last_hidden_state[:, 0]
        else:
            text = masked_mean(outputs.last_hidden_state, attention_mask)
        return self.classifier(self.dropout(text))


def _classifier_dropout(config: NezhaConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


class NezhaForSequenceClassification(_NezhaTextHead):
    """NEZHA with a text classifier over the pooling that `config.classifier_pooling` names.

    `logits` [batch, num_labels]; `labels` are classes [batch], values [batch] or [batch, num_labels] for regression,
    or zeros and ones [batch, num_labels] (float) for multi-label. `config.problem_type` selects one of these; if it is
    None, it is set from the first batch's labels.
    """

    _auto_class = "AutoModelForSequenceClassification"
    output_class = SequenceClassifierOutput

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config, num_outputs=config.num_labels)

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        return text_classification_loss(logits, labels, self.config, num_items_in_batch)


class NezhaForMultipleChoice(_NezhaTextHead):
    """NEZHA that chooses one of several texts, by the pooling that `config.classifier_pooling` names.

    Inputs [batch, choices, length]; `logits` [batch, choices]; `labels` [batch], the right choice of each row.
    """

    _auto_class = "AutoModelForMultipleChoice"
    output_class = MultipleChoiceModelOutput
    of_choices = True

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config, num_outputs=1)


class NezhaForTokenClassification(_NezhaHead):
    """NEZHA with a classifier of every token.

    `logits` [batch, length, num_labels]; `labels` classes [batch, length], -100 where there is no loss.
    """

    _auto_class = "AutoModelForTokenClassification"
    output_class = TokenClassifierOutput

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _score(self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None) -> torch.Tensor:
        return self.classifier(self.dropout(outputs.last_hidden_state))


class NezhaForQuestionAnswering(NezhaPreTrainedModel):
    """NEZHA that finds the span of a text that answers a question."""

    _auto_class = "AutoModelForQuestionAnswering"

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config)
        self.nezha = NezhaModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
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
        outputs = self.nezha(
            input_ids, attention_mask, token_type_ids, inputs_embeds=inputs_embeds, return_dict=True, **kwargs
        )
        starts, ends = (scores.contiguous() for scores in self.qa_outputs(outputs.last_hidden_state).unbind(-1))
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(starts, ends, start_positions, end_positions, num_items_in_batch)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=starts,
            end_logits=ends,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


__all__ = [
    "NezhaForMaskedLM",
    "NezhaForMultipleChoice",
    "NezhaForNextSentencePrediction",
    "NezhaForPreTraining",
    "NezhaForQuestionAnswering",
    "NezhaForSequenceClassification",
    "NezhaForTokenClassification",
    "NezhaModel",
    "NezhaPreTrainedModel",
]
