"""Performer BERT (https://kexue.fm/archives/7921, arXiv 2009.14794): a BERT that reads long texts in linear time.

Parameters are called as in transformers' BERT, so that any folder of a BERT, a RoBERTa-wwm (which is of BERT's type)
or a WoBERT loads: `PerformerBertForMaskedLM.from_pretrained(folder)`. How it departs from BERT:

* Inputs of at most `config.attention_switch_length` tokens have softmax, by transformers' implementations, to the same
  numbers as BERT; longer ones linear attention (`favor_performer_bert.py`), which is another function of the same
  weights: how near it comes depends on them, and on `kexue_hf.calibrate_performer`. What counts is the length of the
  batch, padding included: around the switch the numbers of a text depend on the longest text beside it. Where that
  must not be, sort texts by length, or set the switch to None (always linear) or to a length that none exceeds.
* A text has positions beyond the table: see `PerformerBertEmbeddings`.
* Linear attention takes a mask [batch, length]; other masks are refused above the switch length.
* The pooler is optional (`config.add_pooling_layer`), a classifier reads what `config.classifier_pooling` names, and
  losses are computed as in WoBERT (`losses_performer_bert.py`): given `num_items_in_batch`, accumulating gradients
  over micro-batches gives the loss of one batch.
* It has no cross-attention, and as an encoder no cache. What BERT takes for these is refused.
* `PerformerBertForCausalLM` looks back only. It is linear at any length, and what it keeps of the past has a fixed
  size: a token takes the same time after ten tokens as after ten thousand. Positions count real tokens only, so that
  a prompt which is padded on the left is continued as it is alone.
* An output layer that is not tied keeps its bias when the vocabulary is resized and saved: see `replace_decoder`.
"""

from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import bidirectional_mask_function, create_bidirectional_mask
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    CausalLMOutputWithPast,
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
from .cache_name_performer_bert import CACHE, given_cache, under_installed_name
from .configuration_performer_bert import PerformerBertConfig
from .favor_performer_bert import FAVOR, RECORDER, favor_mask
from .feature_maps_performer_bert import FeatureMap
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

# The length above which linear attention is the faster one, by type of device. For a CPU by benchmarks/performer.py
# (12 heads of 64, 256 features of the default map, 2 threads): attention alone forward from some 620 tokens on, with
# backward and in a whole encoder from some 540 and 570. Well above them, for they move with the machine: below it
# little is to be gained, and softmax is exact. Where nothing was measured it is the CPU's.
CROSSOVERS = {"cpu": 768}

_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_RECORDED = {"hidden_states": PerformerBertLayer, "attentions": PerformerBertSelfAttention}
_UNDIVIDED = ["PerformerBertEmbeddings", "PerformerBertLayer"]
# What a BERT's file may have and this model has not.
_PASSED_OVER = [r"pooler\.", r"^(cls|classifier|qa_outputs)\.", r"embeddings\.position_ids"]
# A BERT's file has no maps: they are made from the configuration.
_MADE = [r"\.favor_map\."]


class PerformerBertPreTrainedModel(PreTrainedModel):
    """What all classes share: configuration, initialization, what is passed over in files."""

    config: PerformerBertConfig
    config_class = PerformerBertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    # Of softmax, below the switch length.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = _UNDIVIDED
    _can_record_outputs = _RECORDED
    _keys_to_ignore_on_load_unexpected = _PASSED_OVER
    _keys_to_ignore_on_load_missing = _MADE

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
        """As everywhere; the saved configuration says whether these weights have a pooler, and look back."""
        said = self.config.add_pooling_layer, self.config.looks_back
        self.config.add_pooling_layer = any(".pooler." in f".{name}" for name, _ in self.named_parameters())
        encoder: Any = getattr(self, self.base_model_prefix, self)
        self.config.looks_back = encoder.is_causal
        try:
            return super().save_pretrained(*args, **kwargs)
        finally:
            self.config.add_pooling_layer, self.config.looks_back = said


class PerformerBertModel(PerformerBertPreTrainedModel):
    """The encoder: ids [batch, length] -> states [batch, length, hidden], and [batch, hidden] from the pooler.

    Args:
        config: the configuration.
        add_pooling_layer: whether to build the pooler; by default what `config.add_pooling_layer` says.
        is_causal: whether a token sees those before it only; by default what `config.looks_back` says.
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
        """Whether inputs of `length` tokens, padding included, have linear attention on that device."""
        switch = self.config.attention_switch_length
        if self.is_causal or self.config._attn_implementation == FAVOR or switch is None:
            return True
        if switch != "auto":
            return length > int(switch)
        kind = torch.device(device).type
        limit = CROSSOVERS.get(kind, CROSSOVERS["cpu"])
        linear = length > limit
        known = "the length measured" if kind in CROSSOVERS else "the CPU's, nothing was measured"
        # Linear attention is an approximation: that line is to be seen. Softmax is what everybody expects.
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
        """The states of all tokens and, from the pooler, of the text.

        Args:
            input_ids: [batch, length]; or `inputs_embeds`, their vectors [batch, length, hidden].
            attention_mask: [batch, length], 0 for padding; up to the switch length also [batch, heads or 1, length,
                length], as the implementation of softmax takes it.
            token_type_ids: segments [batch, length]; by default 0.
            position_ids: [batch or 1, length], below `max_position_embeddings` squared; by default 0, 1, ...
            state: of a causal model, what precedes; the sums of the layers are replaced by those with the tokens.

        Raises:
            ValueError: both or none of `input_ids` and `inputs_embeds`; a mask of pairs above the switch length; more
                tokens than positions; a state of another model, or for one that is not causal; or something that BERT
                takes and this model has no place for: `past_key_values`, `encoder_hidden_states`,
                `encoder_attention_mask`.
        """
        refuse_unknown("Performer BERT", kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        states = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        length = states.shape[1]
        # In calibration the linear layers are asked for what they would be given, and compute softmax.
        linear = RECORDER.get() is not None or self.is_linear(length, states.device)
        if not linear:
            attention_mask = create_bidirectional_mask(
                config=self.config, inputs_embeds=states, attention_mask=attention_mask
            )
        elif attention_mask is not None and attention_mask.dim() == 2:
            if attention_mask.shape != states.shape[:2]:
                raise ValueError(
                    f"attention_mask must be of the input's shape {tuple(states.shape[:2])}, got "
                    f"{tuple(attention_mask.shape)}"
                )
            attention_mask = favor_mask(
                states.shape[0], length, length, mask_function=bidirectional_mask_function,
                attention_mask=attention_mask.to(states.device),
            )  # fmt: skip
        if linear and self.config.linear_layers == "auto" and RECORDER.get() is None:
            logger.warning_once(
                "linear_layers='auto': nobody has chosen yet, all layers are linear; "
                "kexue_hf.calibrate_performer(model, texts, tokenizer) finds those that may be"
            )
        past = None if state is None else self._past(state)
        states = self.encoder(states, attention_mask, linear, past, **kwargs)
        pooled = self.pooler(states) if self.pooler is not None else None
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)

    def _past(self, state: PerformerBertState) -> list[LinearAttentionState]:
        maps = self.encoder.feature_maps()
        if not self.is_causal or len(maps) != len(self.encoder.layer):
            raise ValueError(
                "a state is of causal models whose layers are all linear: call without a state, or make the model "
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
    """A head with one tensor of labels. Subclasses say what they score, and as which output."""

    output_class: Any
    # Of the encoder; None for what the configuration says.
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
        """See the class for the shapes of `logits` and `labels`; the other inputs are `PerformerBertModel`'s.

        Args:
            num_items_in_batch: entries of `labels` (not -100) in the whole accumulated batch; the loss is then their
                sum / this number instead of their mean.
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
        """The `logits`, in the shape that the class says; every head has its own."""
        raise NotImplementedError

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        return cross_entropy(logits, labels, num_items_in_batch)


class PerformerBertForMaskedLM(_Head):
    """With the masked-word head, tied to the word embeddings.

    `logits` [batch, length, vocabulary]; `labels` ids [batch, length], -100 where no loss is wanted.
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


class PerformerBertForCausalLM(GenerationMixin, PerformerBertForMaskedLM):
    """With the masked-word head, looking back only; weights and their names are those of `PerformerBertForMaskedLM`.

    A BERT has never been asked to go on: it has to be trained for that. `generate` stops where `eos_token_id` says
    (the tokenizer's `sep_token_id`, for a BERT).
    """

    _auto_class = "AutoModelForCausalLM"
    is_causal = True
    # To transformers: what is kept cannot be cut back to fewer tokens.
    _is_stateful = True

    def __init__(self, config: PerformerBertConfig) -> None:
        if config.linear_layers is not None:
            raise ValueError(
                f"a causal Performer BERT is linear in all layers, got linear_layers {config.linear_layers!r}: only "
                "then is what it keeps of the past of a fixed size; set linear_layers=None"
            )
        super().__init__(config)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: PerformerBertState | None = None,
        use_cache: bool | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: PerformerBertState | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Scores of the token after each token, `logits` [batch, length, vocabulary].

        Args:
            attention_mask: [batch, past + length], 0 for padding.
            position_ids: [batch, length]; by default the number of real tokens before each.
            past_key_values: the state that a call with `use_cache` returned; the tokens are added to it when the
                forward pass has succeeded. Generation can also continue from a `copy.deepcopy` of it.
            use_cache: whether to return the state; by default only where one was given (`generate` asks for one). If
                False, a state that is given is read and stays as it is.
            labels: ids [batch, length], -100 where no loss is wanted; that of token i is predicted at token i - 1. Not
                with `logits_to_keep`, which takes `shift_labels`.
            num_items_in_batch: labels (not -100) in the whole accumulated batch; the loss is then sum / number.
            logits_to_keep: score only that many last tokens (0: all), or those at these indices (1-D).
            cache: transformers' name for `past_key_values` from 5.24 on.
            shift_labels (in `kwargs`, since `Trainer` requires every named label): instead of `labels`, the id to
                predict at each of the `logits`.

        Raises:
            ValueError: a mask that does not cover past and new tokens, another cache than this model's, labels of
                tokens that are left out, or weights of attention or gradient checkpointing together with a state.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("give either input_ids or inputs_embeds")
        keywords: dict[str, Any] = {**kwargs}
        shift_labels = keywords.pop("shift_labels", None)
        if labels is not None and shift_labels is None and (torch.is_tensor(logits_to_keep) or logits_to_keep):
            raise ValueError(
                "labels belong to all tokens, but logits_to_keep leaves some out: give shift_labels instead, the id "
                "that is to be predicted at each token that is kept"
            )
        state = given_cache(cache, past_key_values)
        # By name: a copy from the Hub has a class of its own.
        if state is not None and type(state).__name__ != PerformerBertState.__name__:
            raise ValueError(
                f"the past of a Performer BERT is a PerformerBertState, got {type(state).__name__}: call "
                "with use_cache=True first, or leave it out"
            )
        if state is None and use_cache:
            state = PerformerBertState(self.bert.encoder.feature_maps(), self.bert.encoder.scaling)
        if state is not None and self.training and self._is_checkpointing():
            raise ValueError("gradient checkpointing reads every token twice, which a state forbids: use_cache=False")
        if state is not None and keywords.get("output_attentions"):
            raise ValueError("no weights can be given out beside a state, which has no keys: pass use_cache=False")
        batch, length = given.shape[:2]
        past = 0 if state is None else state.get_seq_length()
        if attention_mask is None:
            real = torch.ones(batch, length, dtype=torch.bool, device=given.device)
        elif attention_mask.shape == (batch, past + length):
            real = (attention_mask[:, past:] != 0).to(given.device)
        else:
            raise ValueError(
                f"attention_mask must be of all tokens, {past} past and {length} new, {(batch, past + length)}, got "
                f"{tuple(attention_mask.shape)}"
            )
        counted = (real.cumsum(-1) - 1).clamp(min=0) if state is None else state.positions(real)
        draft = None if state is None else state.draft()
        outputs = self.bert(
            input_ids,
            None if attention_mask is None else real,
            token_type_ids,
            counted if position_ids is None else position_ids,
            inputs_embeds=inputs_embeds,
            state=draft,
            return_dict=True,
            **keywords,
        )
        states = outputs.last_hidden_state
        if isinstance(logits_to_keep, torch.Tensor):
            states = states[:, logits_to_keep]
        elif logits_to_keep:
            states = states[:, -logits_to_keep:]
        logits = self.cls(states)
        loss = None
        if shift_labels is not None:
            loss = cross_entropy(logits, shift_labels, num_items_in_batch)
        elif labels is not None:
            loss = cross_entropy(logits[:, :-1], labels[:, 1:], num_items_in_batch)
        if state is not None and draft is not None and use_cache is not False:
            state.commit(draft, real)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **{CACHE: state if use_cache is not False else None},
        )

    def generate(self, *arguments: Any, **options: Any) -> Any:
        """As in all of transformers; a cache may be called `cache` or `past_key_values`."""
        return super().generate(*arguments, **under_installed_name(options))

    def _is_checkpointing(self) -> bool:
        # Not by PreTrainedModel's property, whose name changed in transformers 5.24.
        return any(layer.gradient_checkpointing for layer in self.bert.encoder.layer)

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, *args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """As in all of transformers.

        Raises:
            ValueError: padding on the right of a prompt, after which nothing can go on.
        """
        if (
            kwargs.get("is_first_iteration")
            and attention_mask is not None
            and bool((attention_mask[:, -1] == 0).any())
        ):
            raise ValueError("a prompt is continued at its end, got padding there: tokenizer.padding_side = 'left'")
        return super().prepare_inputs_for_generation(input_ids, *args, attention_mask=attention_mask, **kwargs)


def _classifier_dropout(config: PerformerBertConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


class PerformerBertForSequenceClassification(_Head):
    """With a classifier of whole texts, over what `config.classifier_pooling` names.

    `logits` [batch, num_labels]; `labels` classes [batch], values [batch] or [batch, num_labels] for regression, or
    zeros and ones [batch, num_labels] (float) for multi-label: which of them, `config.problem_type` says, or else the
    first batch's labels.
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
    """With a classifier of every token.

    `logits` [batch, length, num_labels]; `labels` classes [batch, length], -100 where no loss is wanted.
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
    """Finds the span of the text which answers a question."""

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
        """Scores of every token as the start and as the end of the answer, [batch, length] each.

        Args:
            start_positions, end_positions: token positions [batch]; outside the text (or negative) means no loss.
            num_items_in_batch: rows in the whole accumulated batch; the loss is then sum / number.
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
