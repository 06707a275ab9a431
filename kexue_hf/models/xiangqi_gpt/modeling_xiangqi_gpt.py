"""Xiangqi GPT (https://kexue.fm/archives/7877): BERT with a causal mask, trained on games of Chinese chess.

The network and its parameter names are those of transformers' `BertLMHeadModel` with `is_decoder=True`, so a folder
without `board_input` also loads there. Differences:

* Positions count from a row's first real token, so padding on the left changes nothing. The original pads on the
  right, where both ways of counting agree.
* The cache may be named `cache` or `past_key_values`, and is returned only if it is given or asked for.
* Losses are computed as in WoBERT (`losses_xiangqi_gpt.py`): given `num_items_in_batch`, accumulating gradients over
  micro-batches gives the loss of one batch.
* Keywords that carry data which the model would ignore are refused, and so are games longer than the table of
  positions.
* With `config.board_input`, the board after each token is worked out, and a vector that describes it (what stands
  where, what is attacked and guarded, where the chosen piece can go) is added to the token's embedding.
* An untied output layer keeps its bias when the vocabulary is resized and saved: see `replace_decoder`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import BertModel, BertPreTrainedModel, GenerationMixin
from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
)
from transformers.models.bert.modeling_bert import BertOnlyMLMHead
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .board_encoder_xiangqi_gpt import BoardEncoder
from .boards_xiangqi_gpt import SQUARES, boards_of
from .cache_name_xiangqi_gpt import CACHE, CACHE_NAMES, given_cache, under_installed_name
from .configuration_xiangqi_gpt import XiangqiGptConfig
from .keywords_xiangqi_gpt import REASONS, refuse_unknown
from .losses_xiangqi_gpt import cross_entropy, text_classification_loss

# Parts of a pre-trained model that other heads do not use: not worth a report.
_IGNORED_WEIGHTS = [r"(^|\.)pooler\.", r"^(cls|classifier)\."]
_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_REFUSED = {name: reason for name, reason in REASONS.items() if name not in CACHE_NAMES} | {
    "board": "the name is boards",
    "result": "the name is results",
}


class XiangqiGptPreTrainedModel(BertPreTrainedModel):
    """Base of all classes: configuration, and the weights ignored on loading."""

    config: XiangqiGptConfig
    config_class = XiangqiGptConfig
    _keys_to_ignore_on_load_unexpected = _IGNORED_WEIGHTS

    def __init__(self, config: XiangqiGptConfig, *inputs: Any, **kwargs: Any) -> None:
        config.check()
        super().__init__(config, *inputs, **kwargs)


class XiangqiGptModel(XiangqiGptPreTrainedModel, BertModel):
    """The trunk: ids [batch, length] -> states [batch, length, hidden], each of a token and those before it."""

    _auto_class = "AutoModel"

    def __init__(self, config: XiangqiGptConfig) -> None:
        super().__init__(config, add_pooling_layer=False)
        self.board_encoder = BoardEncoder(config) if config.board_input else None
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        cache: Any = None,
        boards: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Return the states of all tokens.

        Args:
            input_ids: [batch, length]; or `inputs_embeds`, their embeddings [batch, length, hidden].
            attention_mask: [batch, past + length], 0 for padding; or one of 4 dimensions, in the form that the
                attention implementation takes.
            token_type_ids: [batch, length]; defaults to 0, as in the original.
            position_ids: [batch, length]; by default they count from a row's first real token.
            past_key_values: a cache of the tokens before these, to which these are added.
            use_cache: whether to return a cache; by default only if one was given.
            cache: transformers' name for `past_key_values` from 5.24 on.
            boards: for a model with `board_input`, the board after each token, [batch, length, 90] (see
                `boards_xiangqi_gpt.py`). By default they are worked out from `input_ids`, if these are whole games.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`, more tokens than positions, a mask that
                does not cover past and new tokens, boards that are missing after a cache or would have no effect, or a
                keyword that would have no effect.
        """
        cache = given_cache(cache, past_key_values)
        keywords: dict[str, Any] = {**kwargs}
        refuse_unknown("Xiangqi GPT", keywords, _REFUSED, TransformersKwargs.__annotations__)
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError(
                f"expected either input_ids or inputs_embeds, got {'neither' if given is None else 'both'}"
            )
        length = given.shape[1]
        past = 0 if cache is None else cache.get_seq_length()
        if position_ids is None and attention_mask is not None and attention_mask.dim() == 2:
            limit = self.config.max_position_embeddings
            position_ids = positions_from_first(attention_mask, limit)[:, -length:]
        # A static cache's length is a tensor, and `generate` gives such a cache a mask of 4 dimensions.
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_tensor(past)):
            self._check_lengths(length, past, attention_mask, position_ids)
        if self.board_encoder is not None:
            inputs_embeds = self._with_boards(input_ids, inputs_embeds, attention_mask, boards, cache)
            input_ids = None
        elif boards is not None:
            raise ValueError("this model takes no boards: they need config.board_input=True")
        return super().forward(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=cache is not None if use_cache is None else use_cache,
            **{CACHE: cache},
            **keywords,
        )

    def _with_boards(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        boards: torch.Tensor | None,
        cache: Any,
    ) -> torch.Tensor:
        """Return the embeddings of the tokens plus those of their boards, [batch, length, hidden]."""
        if boards is None:
            if input_ids is None or (cache is not None and cache.get_seq_length()):
                raise ValueError(
                    "expected boards [batch, length, 90] beside inputs_embeds or a cache, whose moves the ids do not "
                    "tell; or give input_ids of whole games"
                )
            mask = attention_mask if attention_mask is not None and attention_mask.dim() == 2 else None
            boards = boards_of(input_ids, self.config.ids_per_square, mask)
        if inputs_embeds is None:
            inputs_embeds = self.embeddings.word_embeddings(input_ids)
        if boards.shape != (*inputs_embeds.shape[:2], SQUARES):
            raise ValueError(
                f"expected boards {[*inputs_embeds.shape[:2], SQUARES]}, one after each token, got "
                f"{list(boards.shape)}"
            )
        encoder: Any = self.board_encoder
        return inputs_embeds + encoder(boards)

    def _check_lengths(
        self, length: int, past: int, attention_mask: torch.Tensor | None, position_ids: torch.Tensor | None
    ) -> None:
        width = attention_mask.shape[1] if attention_mask is not None and attention_mask.dim() == 2 else past + length
        if width != past + length:
            raise ValueError(
                f"expected an attention_mask of all {past + length} tokens, {past} in the cache and {length} new, got "
                f"one of {width}"
            )
        limit = self.config.max_position_embeddings
        # Count the tokens first: reading the positions makes a GPU wait.
        if past + length > limit:
            needed = past + length if position_ids is None else int(position_ids.max()) + 1
            if needed > limit:
                raise ValueError(
                    f"expected a game of at most {limit} tokens (max_position_embeddings), the start included, got "
                    f"{needed}: cut it (truncation=True, max_length={limit}), or ask for fewer new tokens"
                )


def positions_from_first(attention_mask: torch.Tensor, limit: int) -> torch.Tensor:
    """Return positions [batch, length] that count from each row's first real token; 0 before it.

    Padding on the right stays below `limit`, since it may be wider than the table of positions.
    """
    real = attention_mask != 0
    first = real.int().argmax(-1, keepdim=True)
    positions = (torch.arange(attention_mask.shape[1], device=first.device) - first).clamp(min=0)
    return torch.where(real, positions, positions.clamp(max=limit - 1))


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


@dataclass
class XiangqiGptCausalLMOutput(CausalLMOutputWithPast):
    """transformers' output, and:

    Attributes:
        value_logits: scores of the game's result after each token, [batch, length, num_labels]; None without a value
            head.
    """

    value_logits: torch.Tensor | None = None


class XiangqiGptForCausalLM(XiangqiGptPreTrainedModel, GenerationMixin):
    """Xiangqi GPT that continues a game; the output layer is tied to the embeddings.

    `logits` [batch, length, vocabulary] score the token after each token; `labels` ids [batch, length] are shifted
    inside. `generate` stops at [PAD]; `kexue_hf.LegalMoves` restricts it to legal moves.

    With `config.value_head` it also has the classifier of `XiangqiGptForSequenceClassification`, applied after every
    token, and `results` trains it. A saved folder then loads as either class.
    """

    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = _TIED

    def __init__(self, config: XiangqiGptConfig) -> None:
        super().__init__(config)
        self.bert = XiangqiGptModel(config)
        self.cls = BertOnlyMLMHead(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels) if config.value_head else None
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        replace_decoder(self.cls.predictions, new_embeddings, self.config.tie_word_embeddings)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: Any = None,
        results: torch.Tensor | None = None,
        boards: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> XiangqiGptCausalLMOutput:
        """Return the scores of the token after each token; other arguments and errors as in `XiangqiGptModel`.

        Args:
            labels: ids [batch, length], -100 where there is no loss; that of token i is predicted at token i - 1. Not
                with `logits_to_keep`, which needs `shift_labels`.
            num_items_in_batch: labels (not -100) in the whole accumulated batch; the loss is then their sum divided by
                this number.
            logits_to_keep: score only this many last tokens (0: all), or those at these indices (1-D).
            results: class of each game's result, [batch], -100 if it is unknown. At every token with a label,
                `config.value_loss_weight` times the value head's loss is added. It needs `labels`.
            shift_labels (in `kwargs`, since `Trainer` requires every named label): instead of `labels`, the id to
                predict at each of the `logits`.
        """
        keywords: dict[str, Any] = {**kwargs}
        shift_labels = keywords.pop("shift_labels", None)
        if labels is not None and shift_labels is None and (torch.is_tensor(logits_to_keep) or logits_to_keep):
            raise ValueError(
                "labels belong to all tokens, but logits_to_keep drops some: give shift_labels instead, the ids to "
                "predict at the kept tokens"
            )
        if results is not None and (labels is None or self.classifier is None):
            raise ValueError("results train the value head: set config.value_head=True, and give labels too")
        outputs = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            use_cache=use_cache,
            cache=given_cache(cache, past_key_values),
            return_dict=True,
            boards=boards,
            **keywords,
        )
        states = outputs.last_hidden_state
        if isinstance(logits_to_keep, torch.Tensor):
            states = states[:, logits_to_keep]
        elif logits_to_keep:
            states = states[:, -logits_to_keep:]
        logits = self.cls(states)
        value_logits = None if self.classifier is None else self.classifier(states)
        loss = None
        if shift_labels is not None:
            loss = cross_entropy(logits, shift_labels, num_items_in_batch)
        elif labels is not None:
            loss = cross_entropy(logits[:, :-1], labels[:, 1:], num_items_in_batch)
        if results is not None and labels is not None and value_logits is not None and loss is not None:
            classes = torch.where(labels[:, 1:] == -100, -100, results.to(labels.device)[:, None])
            value_loss = cross_entropy(value_logits[:, :-1], classes, num_items_in_batch)
            # The mean over no known result is NaN.
            loss = loss + self.config.value_loss_weight * value_loss.nan_to_num(0.0)
        return XiangqiGptCausalLMOutput(
            loss=loss,
            logits=logits,
            value_logits=value_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **{CACHE: getattr(outputs, CACHE)},
        )

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, *arguments: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the inputs of the next pass, with the boards after its tokens if the model reads boards."""
        # `generate` looks for the name kwargs to know that other inputs are allowed.
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, *arguments, **kwargs)
        if self.config.board_input:
            mask, cache = kwargs.get("attention_mask"), kwargs.get("cache", kwargs.get("past_key_values"))
            given = inputs.get("input_ids")
            length = (inputs["inputs_embeds"] if given is None else given).shape[1]
            tokens = length + (0 if cache is None else int(cache.get_seq_length()))
            if tokens != input_ids.shape[1]:
                raise ValueError(
                    f"expected the ids of whole games, whose boards the model works out, got {input_ids.shape[1]} of "
                    f"{tokens} tokens: give the ids of the tokens in the cache too, and no prefill_chunk_size"
                )
            mask = mask if mask is not None and mask.dim() == 2 else None
            inputs["boards"] = boards_of(input_ids, self.config.ids_per_square, mask)[:, -length:]
        return inputs

    def generate(self, *arguments: Any, **options: Any) -> Any:
        """Generate as everywhere in transformers; the cache may be named `cache` or `past_key_values`.

        Raises:
            ValueError: a prompt has padding on the right, after which it cannot be continued; or the model works out
                boards, but gets them, embeddings, or a part of a game.
        """
        for name in ("boards", "inputs_embeds") if self.config.board_input else ():
            if options.get(name) is not None:
                raise ValueError(
                    f"generation takes no {name}: a model with board_input works the boards out from the ids of whole "
                    "games"
                )
        mask = options.get("attention_mask")
        if mask is not None and mask.dim() == 2 and bool((mask[:, -1] == 0).any()):
            raise ValueError(
                "expected a prompt padded on the left, got padding at its end: set tokenizer.padding_side = 'left'"
            )
        return super().generate(*arguments, **under_installed_name(options))


class XiangqiGptForSequenceClassification(XiangqiGptPreTrainedModel):
    """Xiangqi GPT with a classifier of the last real token, which knows all moves: by default, of the game's result.

    `logits` [batch, num_labels]; `labels` are classes [batch], values [batch] or [batch, num_labels] for regression,
    or zeros and ones [batch, num_labels] (float) for multi-label. `config.problem_type` selects one of these; if it is
    None, it is set from the first batch's labels.
    """

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: XiangqiGptConfig) -> None:
        super().__init__(config)
        self.bert = XiangqiGptModel(config)
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        cache: Any = None,
        boards: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutputWithPast:
        """Return the scores of the classes; other arguments and errors as in `XiangqiGptModel`.

        Args:
            attention_mask: without one, tokens with the id of [PAD] are padding, but for the first.
            num_items_in_batch: rows of the whole accumulated batch; the loss is then their sum divided by this number.
        """
        outputs = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            use_cache=use_cache,
            cache=given_cache(cache, past_key_values),
            return_dict=True,
            boards=boards,
            **kwargs,
        )
        states = outputs.last_hidden_state
        real = real_tokens(states, input_ids, attention_mask, self.config.pad_token_id)
        last = real.shape[1] - 1 - real.int().flip(-1).argmax(-1)
        last_states = states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0]
        logits = self.classifier(self.dropout(last_states))
        loss = None
        if labels is not None:
            loss = text_classification_loss(logits, labels.to(logits.device), self.config, num_items_in_batch)
        return SequenceClassifierOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **{CACHE: getattr(outputs, CACHE)},
        )


def real_tokens(
    states: torch.Tensor, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, pad_token_id: int | None
) -> torch.Tensor:
    """Return which tokens are real, boolean [batch, length]; `states` are theirs, [batch, length, hidden]."""
    batch, length = states.shape[:2]
    if attention_mask is None:
        if input_ids is None or pad_token_id is None:
            return torch.ones(batch, length, dtype=torch.bool, device=states.device)
        # The first [PAD] is the start of the game.
        return (input_ids != pad_token_id) | (torch.arange(length, device=input_ids.device) == 0)
    if attention_mask.dim() == 2:
        real = attention_mask != 0
    else:
        # Real is a token that any query may attend to; an additive mask holds 0 there.
        real = attention_mask if attention_mask.dtype == torch.bool else attention_mask > -1
        real = real.flatten(1, -2).any(1)
    return real[:, -length:].to(states.device)


__all__ = [
    "XiangqiGptForCausalLM",
    "XiangqiGptForSequenceClassification",
    "XiangqiGptModel",
    "XiangqiGptPreTrainedModel",
]
