"""T-TA, the Transformer-based Text Autoencoder (https://kexue.fm/archives/7661, arXiv 2004.08097).

A masked language model needs n passes for the n predictions p(token i | all others); T-TA makes them in one.
Differences from BERT:

* A token is hidden from itself: the diagonal of every layer's attention is masked (`config.mask_diagonal`).
* The mask alone would not be enough: the second layer would learn the token from its neighbours, which have seen it.
  So the keys and values of every layer come from the same inputs, LayerNorm(E + P), and only the queries pass through
  the layers, starting without the token (`config.query_source`). Thus logits[:, i] do not depend on token i, to the
  last bit, at any depth.
* A fully masked query, such as that of a text's only token, returns zeros in every implementation. (The original adds
  -10000 to all its scores, which lets it attend to all tokens, including itself.)
* There is no pooler and no next-sentence head; segments are optional.

Parameters are named as in transformers' BERT, so a T-TA can start from a folder of BERT or WoBERT:
`TtaForMaskedLM.from_pretrained(folder, mask_token_id=tokenizer.mask_token_id)`.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_tta import TtaConfig
from .keywords_tta import refuse_unknown
from .layers_tta import TtaEmbeddings, TtaEncoder, TtaLayer, TtaLMPredictionHead, TtaOnlyMLMHead, TtaSelfAttention
from .losses_tta import cross_entropy, text_classification_loss, widen

_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_RECORDED = {"hidden_states": TtaLayer, "attentions": TtaSelfAttention}
_NO_SPLIT = ["TtaEmbeddings", "TtaLayer"]
# Parameters of a BERT that T-TA does not have.
_IGNORED_WEIGHTS = [r"pooler\.", r"^(cls|classifier)\.", r"embeddings\.position_ids"]
# Implementations that support a boolean (length, length) mask.
_WITH_DIAGONAL = ("eager", "sdpa")


class TtaPreTrainedModel(PreTrainedModel):
    """Base of all T-TA classes: configuration, initialization, and the weights ignored on loading."""

    config: TtaConfig
    config_class = TtaConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = False
    _supports_flex_attn = False
    _supports_attention_backend = False
    _no_split_modules = _NO_SPLIT
    _can_record_outputs = _RECORDED
    _keys_to_ignore_on_load_unexpected = _IGNORED_WEIGHTS

    def __init__(self, config: TtaConfig, *inputs: Any, **kwargs: Any) -> None:
        # Not isinstance: a folder from the Hub has its own configuration class.
        if getattr(config, "model_type", None) != "tta":
            raise ValueError(
                f"expected a TtaConfig, got a {type(config).__name__}: omit `config`, or create one with "
                "TtaConfig.from_pretrained(folder, mask_token_id=tokenizer.mask_token_id)"
            )
        config.check()
        # Read by the base class's constructor.
        self._supports_flash_attn = not config.mask_diagonal
        super().__init__(config, *inputs, **kwargs)

    @property
    def needs_pairwise_mask(self) -> bool:
        """Whether attention needs a (length, length) mask, which linear attention does not support."""
        return bool(self.config.mask_diagonal)

    def _flash_attn_can_dispatch(self, *args: Any, **kwargs: Any) -> bool:
        if self.config.mask_diagonal:
            raise ValueError(
                "flash attention does not support a (length, length) mask, so the diagonal would not be masked. Use "
                "attn_implementation='sdpa', or mask_diagonal=False to fine-tune for classification"
            )
        return super()._flash_attn_can_dispatch(*args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TtaLMPredictionHead):
            init.zeros_(module.bias)


class TtaModel(TtaPreTrainedModel):
    """The T-TA encoder: ids [batch, length] -> states [batch, length, hidden]; state i does not depend on token i."""

    _auto_class = "AutoModel"

    def __init__(self, config: TtaConfig) -> None:
        super().__init__(config)
        self.embeddings = TtaEmbeddings(config)
        self.encoder = TtaEncoder(config)
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
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """Return the states of all tokens. `hidden_states`, if requested, are those of the query stream.

        Args:
            input_ids: [batch, length]; or `inputs_embeds`, their embeddings [batch, length, hidden].
            attention_mask: [batch, length], 0 for padding; or boolean [batch, heads or 1, length, length], True where
                a query may attend (the diagonal is masked as well).
            token_type_ids: segments [batch, length], defaults to 0; ignored if `type_vocab_size` is 0.
            position_ids: [batch or 1, length], by default 0, 1, ...; each below `max_position_embeddings`.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`; a sequence longer than
                `max_position_embeddings`; an attention mask of an unsupported shape; an attention implementation that
                cannot mask the diagonal; or a keyword of BERT that would be ignored: `past_key_values`,
                `encoder_hidden_states`, `encoder_attention_mask`.
        """
        refuse_unknown("T-TA", kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            given = "neither" if input_ids is None else "both"
            raise ValueError(f"expected either input_ids or inputs_embeds, got {given}")
        queries, inputs, start, padding = self.embeddings(
            input_ids, token_type_ids, position_ids, inputs_embeds, attention_mask
        )
        allowed, fully_masked = self._masks(attention_mask, inputs)
        return BaseModelOutput(last_hidden_state=self.encoder(queries, inputs, allowed, fully_masked, start, padding))

    def _masks(
        self, attention_mask: torch.Tensor | None, inputs: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return where queries may attend, and which are fully masked: see `TtaLayer`."""
        implementation = self.config._attn_implementation
        if implementation not in _WITH_DIAGONAL:
            if self.config.mask_diagonal:
                raise ValueError(
                    f"T-TA masks the diagonal of its attention, which {implementation!r} may not support: choose one "
                    f"of {' and '.join(_WITH_DIAGONAL)} as attn_implementation"
                )
            mask = create_bidirectional_mask(config=self.config, inputs_embeds=inputs, attention_mask=attention_mask)
            return mask, None
        allowed = None
        if attention_mask is not None:
            if attention_mask.shape == inputs.shape[:2]:
                allowed = (attention_mask != 0)[:, None, None, :].to(inputs.device)
            elif attention_mask.dim() == 4 and attention_mask.dtype == torch.bool:
                allowed = attention_mask.to(inputs.device)
            else:
                raise ValueError(
                    f"expected an attention_mask of the texts' shape {list(inputs.shape[:2])}, or boolean [batch, "
                    f"heads or 1, length, length], got {attention_mask.dtype} of {list(attention_mask.shape)}"
                )
        if self.config.mask_diagonal:
            length = inputs.shape[1]
            others = ~torch.eye(length, dtype=torch.bool, device=inputs.device)
            allowed = others[None, None] if allowed is None else allowed & others
            if attention_mask is None and length > 1:
                return allowed, None
        if allowed is None:
            return None, None
        # A fully masked query returns zeros in every implementation; the softmax needs something to attend to.
        fully_masked = ~allowed.any(-1, keepdim=True)
        return allowed | fully_masked, fully_masked


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


class _TtaHead(TtaPreTrainedModel):
    """A head with one tensor of labels. Subclasses define the logits and the output class."""

    output_class: Any

    def __init__(self, config: TtaConfig) -> None:
        super().__init__(config)
        self.bert = TtaModel(config)

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
        """Return scores and loss; shapes are in the class docstring, inputs in `TtaModel`.

        Args:
            num_items_in_batch: entries of `labels` (not -100) in the whole accumulated batch; the loss is then their
                sum divided by this number instead of their mean.
        """
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits = self._score(outputs.last_hidden_state, attention_mask)
        loss = None
        if labels is not None:
            loss = self._loss(logits, labels.to(logits.device), num_items_in_batch)
        return self.output_class(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _score(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Return the `logits` in the shape that the class docstring gives."""
        raise NotImplementedError

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        return cross_entropy(logits, labels, num_items_in_batch)


class TtaForMaskedLM(_TtaHead):
    """T-TA with the head that scores tokens, tied to the word embeddings: the language autoencoder.

    `logits` [batch, length, vocabulary] at position i depend on all other tokens only: no masking is needed. `labels`
    ids [batch, length], -100 where there is no loss, such as at padding and special tokens. (The collator for language
    autoencoding sets these; the original's loss averages over padding.)
    """

    _auto_class = "AutoModelForMaskedLM"
    _tied_weights_keys = _TIED
    output_class = MaskedLMOutput

    def __init__(self, config: TtaConfig) -> None:
        super().__init__(config)
        self.cls = TtaOnlyMLMHead(config)
        self.post_init()

    @property
    def predicts_all_tokens_at_once(self) -> bool:
        """Whether the logits at position i are p(token i | all others) without masking the text."""
        return self.config.mask_diagonal

    def get_output_embeddings(self) -> nn.Linear:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        replace_decoder(self.cls.predictions, new_embeddings, self.config.tie_word_embeddings)

    def _score(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        return self.cls(hidden_states)


def _classifier_dropout(config: TtaConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


class TtaForSequenceClassification(_TtaHead):
    """T-TA with a text classifier over the pooling that `config.classifier_pooling` names.

    `logits` [batch, num_labels]; `labels` are classes [batch], values [batch] or [batch, num_labels] for regression,
    or zeros and ones [batch, num_labels] (float) for multi-label. `config.problem_type` selects one of these; if it is
    None, it is set from the first batch's labels.
    """

    _auto_class = "AutoModelForSequenceClassification"
    output_class = SequenceClassifierOutput

    def __init__(self, config: TtaConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _score(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        if self.config.classifier_pooling == "cls":
            text = hidden_states[:, 0]
        else:
            text = masked_mean(hidden_states, attention_mask)
        return self.classifier(self.dropout(text))

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        return text_classification_loss(logits, labels, self.config, num_items_in_batch)


class TtaForTokenClassification(_TtaHead):
    """T-TA with a classifier of every token.

    `logits` [batch, length, num_labels]; `labels` classes [batch, length], -100 where there is no loss. With
    `mask_diagonal` a token is classified from the others alone; with `mask_diagonal=False` the token itself is seen.
    """

    _auto_class = "AutoModelForTokenClassification"
    output_class = TokenClassifierOutput

    def __init__(self, config: TtaConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _score(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        return self.classifier(self.dropout(hidden_states))


__all__ = [
    "TtaForMaskedLM",
    "TtaForSequenceClassification",
    "TtaForTokenClassification",
    "TtaModel",
    "TtaPreTrainedModel",
]
