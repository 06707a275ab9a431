"""Performer BERT (https://kexue.fm/archives/7921, arXiv 2009.14794): a BERT that reads long texts in linear time.

Parameters are named as in transformers' BERT, so any folder of a BERT, RoBERTa-wwm (which has BERT's model type) or
WoBERT loads: `PerformerBertForMaskedLM.from_pretrained(folder)`. Differences from BERT:

* Inputs of up to `config.attention_switch_length` tokens use softmax, by transformers' implementations, and get BERT's
  numbers; longer ones use linear attention (`favor_performer_bert.py`), a different function of the same weights. How
  close it comes depends on them, and on `kexue_hf.calibrate_performer`. The length is that of the batch, padding
  included: near the switch, the results of a text depend on the longest text of its batch. To avoid that, sort texts
  by length, or set the switch to None (always linear) or to a length that no text exceeds.
* A text has positions beyond the table: see `PerformerBertEmbeddings`.
* Linear attention takes a mask [batch, length]; other masks are refused above the switch length.
* The pooler is optional (`config.add_pooling_layer`), `config.classifier_pooling` selects the classifier's input, and
  losses are computed as in WoBERT (`losses_performer_bert.py`): given `num_items_in_batch`, accumulating gradients
  over micro-batches gives the loss of one batch.
* There is no cross-attention, and the encoder has no cache. BERT's keywords for these are refused.
* `PerformerBertForCausalLM` is causal: see `generation_performer_bert.py`.
* An untied output layer keeps its bias when the vocabulary is resized and saved: see `replace_decoder`.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import bidirectional_mask_function, create_bidirectional_mask
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.bert.modeling_bert import BertLMPredictionHead, BertOnlyMLMHead, BertPooler
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, logging
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention_performer_bert import LinearAttentionState
from .configuration_performer_bert import PerformerBertConfig
from .favor_performer_bert import FAVOR, RECORDER, favor_mask
from .feature_maps_performer_bert import FeatureMap
from .generation_performer_bert import PerformerBertGenerationMixin
from .keywords_performer_bert import refuse_unknown
from .layers_performer_bert import (
    PerformerBertEmbeddings,
    PerformerBertEncoder,
    PerformerBertLayer,
    PerformerBertSelfAttention,
)
from .losses_performer_bert import cross_entropy, span_loss, text_classification_loss, widen
from .redraws_performer_bert import count_steps, fill_missing
from .state_performer_bert import PerformerBertState

logger = logging.get_logger(__name__)

# Length above which linear attention is faster, by type of device; others use the CPU's. It is well above the 540 to
# 620 tokens measured by benchmarks/performer.py, which depend on the machine: below it little is gained.
CROSSOVERS = {"cpu": 768}

_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_RECORDED = {"hidden_states": PerformerBertLayer, "attentions": PerformerBertSelfAttention}
_NO_SPLIT = ["PerformerBertEmbeddings", "PerformerBertLayer"]
# Parameters of a BERT's file that this model does not have.
_IGNORED_WEIGHTS = [r"pooler\.", r"^(cls|classifier|qa_outputs)\.", r"embeddings\.position_ids"]
# A BERT's file has no feature maps: they are created from the configuration.
_CREATED_WEIGHTS = [r"\.favor_map\."]


class PerformerBertPreTrainedModel(PreTrainedModel):
    """Base of all classes: configuration, initialization, and the weights ignored on loading."""

    config: PerformerBertConfig
    config_class = PerformerBertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    # These apply to softmax, below the switch length.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = _NO_SPLIT
    _can_record_outputs = _RECORDED
    _keys_to_ignore_on_load_unexpected = _IGNORED_WEIGHTS
    _keys_to_ignore_on_load_missing = _CREATED_WEIGHTS

    def __init__(self, config: PerformerBertConfig, *inputs: Any, **kwargs: Any) -> None:
        config.check()
        super().__init__(config, *inputs, **kwargs)

    def post_init(self) -> None:
        super().post_init()
        count_steps(self)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, BertLMPredictionHead):
            init.zeros_(module.bias)
        elif isinstance(module, FeatureMap):
            fill_missing(module)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """Save the model; the saved configuration records whether it has a pooler and whether it looks back."""
        configured = self.config.add_pooling_layer, self.config.looks_back
        self.config.add_pooling_layer = any(".pooler." in f".{name}" for name, _ in self.named_parameters())
        encoder: Any = getattr(self, self.base_model_prefix, self)
        self.config.looks_back = encoder.is_causal
        try:
            return super().save_pretrained(*args, **kwargs)
        finally:
            self.config.add_pooling_layer, self.config.looks_back = configured


class PerformerBertModel(PerformerBertPreTrainedModel):
    """The encoder: ids [batch, length] -> states [batch, length, hidden], and [batch, hidden] from the pooler.

    Args:
        config: the configuration.
        add_pooling_layer: whether to build the pooler; defaults to `config.add_pooling_layer`.
        is_causal: whether a token sees only itself and the tokens before it; defaults to `config.looks_back`.
    """

    _auto_class = "AutoModel"

    def __init__(
        self, config: PerformerBertConfig, add_pooling_layer: bool | None = None, is_causal: bool | None = None
    ) -> None:
        super().__init__(config)
        self.is_causal = config.looks_back if is_causal is None else is_causal
        self.embeddings = PerformerBertEmbeddings(config)
        self.encoder = PerformerBertEncoder(config, self.is_causal)
        pooler = config.add_pooling_layer if add_pooling_layer is None else add_pooling_layer
        self.pooler = BertPooler(config) if pooler else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings.word_embeddings = value

    def is_linear(self, length: int, device: torch.device | str = "cpu") -> bool:
        """Return whether inputs of `length` tokens, padding included, use linear attention on that device."""
        switch = self.config.attention_switch_length
        if self.is_causal or self.config._attn_implementation == FAVOR or switch is None:
            return True
        if switch != "auto":
            return length > int(switch)
        kind = torch.device(device).type
        limit = CROSSOVERS.get(kind, CROSSOVERS["cpu"])
        linear = length > limit
        known = "the length measured" if kind in CROSSOVERS else "the CPU's, nothing was measured"
        # A warning only for linear attention, which is an approximation.
        (logger.warning_once if linear else logger.info_once)(
            f"attention_switch_length='auto': {'linear' if linear else 'softmax'} attention for inputs of "
            f"{'more than' if linear else 'at most'} {limit} tokens ({known} on {kind})"
        )
        return linear

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        state: PerformerBertState | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Return the states of all tokens and, from the pooler, of the text.

        Args:
            input_ids: [batch, length]; or `inputs_embeds`, their embeddings [batch, length, hidden].
            attention_mask: [batch, length], 0 for padding; up to the switch length also [batch, heads or 1, length,
                length], in the form that the softmax implementation takes.
            token_type_ids: segments [batch, length]; defaults to 0.
            position_ids: [batch or 1, length], below `max_position_embeddings` squared; by default 0, 1, ...
            state: the past of a causal model; the layers' sums are replaced by sums that include the tokens.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`; a mask of pairs above the switch length;
                more tokens than positions; a state of another model, or for a model that is not causal; or a keyword
                of BERT that would be ignored: `past_key_values`, `encoder_hidden_states`, `encoder_attention_mask`.
        """
        refuse_unknown("Performer BERT", kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            given = "neither" if input_ids is None else "both"
            raise ValueError(f"expected either input_ids or inputs_embeds, got {given}")
        states = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        length = states.shape[1]
        # Calibration needs the inputs of linear attention even below the switch length; the layers compute softmax.
        linear = RECORDER.get() is not None or self.is_linear(length, states.device)
        if not linear:
            attention_mask = create_bidirectional_mask(
                config=self.config, inputs_embeds=states, attention_mask=attention_mask
            )
        elif attention_mask is not None and attention_mask.dim() == 2:
            if attention_mask.shape != states.shape[:2]:
                raise ValueError(
                    f"expected an attention_mask of the input's shape {tuple(states.shape[:2])}, got "
                    f"{tuple(attention_mask.shape)}"
                )
            attention_mask = favor_mask(
                states.shape[0], length, length, mask_function=bidirectional_mask_function,
                attention_mask=attention_mask.to(states.device),
            )  # fmt: skip
        if linear and self.config.linear_layers == "auto" and RECORDER.get() is None:
            logger.warning_once(
                "linear_layers='auto' has not been resolved, so all layers are linear; "
                "kexue_hf.calibrate_performer(model, texts, tokenizer) chooses the layers"
            )
        past = None if state is None else self._past(state)
        states = self.encoder(states, attention_mask, linear, past, **kwargs)
        pooled = self.pooler(states) if self.pooler is not None else None
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)

    def _past(self, state: PerformerBertState) -> list[LinearAttentionState]:
        maps = self.encoder.feature_maps()
        if not self.is_causal or len(maps) != len(self.encoder.layer):
            raise ValueError(
                "a state is for causal models whose layers are all linear: call without a state, or create the model "
                "with is_causal=True and linear_layers=None"
            )
        state.check(maps)
        return state.layers


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


class _Head(PerformerBertPreTrainedModel):
    """A head with one tensor of labels. Subclasses define the logits and the output class."""

    output_class: Any
    # The encoder's direction; None takes the configuration's.
    is_causal: bool | None = None

    def __init__(self, config: PerformerBertConfig, pooler: bool = False) -> None:
        super().__init__(config)
        self.bert = PerformerBertModel(config, add_pooling_layer=pooler, is_causal=self.is_causal)

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
        """Return scores and loss; shapes are in the class docstring, inputs in `PerformerBertModel`.

        Args:
            num_items_in_batch: entries of `labels` (not -100) in the whole accumulated batch; the loss is then their
                sum divided by this number instead of their mean.
        """
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds=inputs_embeds, return_dict=True,
            **kwargs,
        )  # fmt: skip
        logits = self._score(outputs, attention_mask)
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


class PerformerBertForMaskedLM(_Head):
    """Performer BERT with the masked-word head, tied to the word embeddings.

    `logits` [batch, length, vocabulary]; `labels` ids [batch, length], -100 where there is no loss.
    """

    _auto_class = "AutoModelForMaskedLM"
    _tied_weights_keys = _TIED
    output_class = MaskedLMOutput

    def __init__(self, config: PerformerBertConfig) -> None:
        super().__init__(config)
        self.cls = BertOnlyMLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        replace_decoder(self.cls.predictions, new_embeddings, self.config.tie_word_embeddings)

    def _score(self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None) -> torch.Tensor:
        return self.cls(outputs.last_hidden_state)


class PerformerBertForCausalLM(PerformerBertGenerationMixin, PerformerBertForMaskedLM):
    """Causal Performer BERT with the masked-word head; weights and names are those of `PerformerBertForMaskedLM`.

    A BERT was not trained to continue texts, so it needs training first. `generate` stops at `eos_token_id` (for a
    BERT, set it to the tokenizer's `sep_token_id`).
    """

    _auto_class = "AutoModelForCausalLM"
    is_causal = True

    def __init__(self, config: PerformerBertConfig) -> None:
        if config.linear_layers is not None:
            raise ValueError(
                f"a causal Performer BERT must be linear in all layers, got linear_layers {config.linear_layers!r}: "
                "set linear_layers=None"
            )
        super().__init__(config)


def _classifier_dropout(config: PerformerBertConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


class PerformerBertForSequenceClassification(_Head):
    """Performer BERT with a text classifier over the pooling that `config.classifier_pooling` names.

    `logits` [batch, num_labels]; `labels` are classes [batch], values [batch] or [batch, num_labels] for regression,
    or zeros and ones [batch, num_labels] (float) for multi-label. `config.problem_type` selects one of these; if it is
    None, it is set from the first batch's labels.
    """

    _auto_class = "AutoModelForSequenceClassification"
    output_class = SequenceClassifierOutput

    def __init__(self, config: PerformerBertConfig) -> None:
        super().__init__(config, pooler=config.classifier_pooling == "pooler")
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _score(self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None) -> torch.Tensor:
        if self.config.classifier_pooling == "pooler":
            text = outputs.pooler_output
        elif self.config.classifier_pooling == "cls":
            text = outputs.last_hidden_state[:, 0]
        else:
            text = masked_mean(outputs.last_hidden_state, attention_mask)
        return self.classifier(self.dropout(text))

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        return text_classification_loss(logits, labels, self.config, num_items_in_batch)


class PerformerBertForTokenClassification(_Head):
    """Performer BERT with a classifier of every token.

    `logits` [batch, length, num_labels]; `labels` classes [batch, length], -100 where there is no loss.
    """

    _auto_class = "AutoModelForTokenClassification"
    output_class = TokenClassifierOutput

    def __init__(self, config: PerformerBertConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _score(self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None) -> torch.Tensor:
        return self.classifier(self.dropout(outputs.last_hidden_state))


class PerformerBertForQuestionAnswering(PerformerBertPreTrainedModel):
    """Performer BERT that finds the span of a text that answers a question."""

    _auto_class = "AutoModelForQuestionAnswering"

    def __init__(self, config: PerformerBertConfig) -> None:
        super().__init__(config)
        self.bert = PerformerBertModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

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
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds=inputs_embeds, return_dict=True,
            **kwargs,
        )  # fmt: skip
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
    "PerformerBertForCausalLM",
    "PerformerBertForMaskedLM",
    "PerformerBertForQuestionAnswering",
    "PerformerBertForSequenceClassification",
    "PerformerBertForTokenClassification",
    "PerformerBertModel",
    "PerformerBertPreTrainedModel",
]
