"""The layers of T-TA: BERT's, with two streams. Parameters are named as in transformers' BERT.

* The inputs, LayerNorm(E + P), are the source of every layer's keys and values; no layer changes them.
* The queries start without the tokens; the layers update them, residuals included.

The start of the queries depends only on the position (and on whether it is padding): `TtaEmbeddings` computes one or
two rows of it, and the first layer projects these rows instead of every text's.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.pytorch_utils import apply_chunking_to_forward

from .configuration_tta import TtaConfig


def spread(rows: torch.Tensor, padding: torch.Tensor | None, batch_size: int) -> torch.Tensor:
    """Give each text its rows: [1 or 2, length, features] -> [batch, length, features], a view if possible.

    Args:
        padding: [batch, length, 1], True where the second of two rows applies; None if there is only one.
    """
    if padding is None:
        return rows.expand(batch_size, -1, -1)
    return torch.where(padding, rows[1:], rows[:1])


class TtaEmbeddings(nn.Module):
    """Token, position and (if configured) segment embeddings; one LayerNorm for both streams."""

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        if config.type_vocab_size:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Return both streams, queries and inputs, [batch, length, hidden] each, and the arguments of `spread`.

        The latter are the rows that the queries were made of, if they are fewer than the texts, and the positions of
        the second row.

        Raises:
            ValueError: the texts are longer than the position table, or `config.mask_token_id` is not a token.
        """
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        batch_size, length, _ = inputs_embeds.shape
        if position_ids is None:
            if length > self.config.max_position_embeddings:
                raise ValueError(
                    f"expected texts of at most {self.config.max_position_embeddings} tokens "
                    f"(max_position_embeddings), got {length}: truncate them, or split them into windows"
                )
            position_ids = torch.arange(length, device=inputs_embeds.device)[None]
        places = self.position_embeddings(position_ids)
        if self.config.type_vocab_size:
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(position_ids)
            places = places + self.token_type_embeddings(token_type_ids)
        inputs = self.dropout(self.LayerNorm(inputs_embeds + places))
        queries, start, padding = self._queries(places, attention_mask, batch_size)
        return queries, inputs, start, padding

    def _queries(
        self, places: torch.Tensor, attention_mask: torch.Tensor | None, batch_size: int
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        # places: [1, length, hidden], or [batch, length, hidden] if positions or segments differ between texts.
        words, padding = None, None
        if self.config.query_source == "mask_embedding":
            mask = self.config.mask_token_id
            if mask is None or mask >= self.word_embeddings.num_embeddings:
                raise ValueError(
                    f"mask_token_id is {mask}, but the vocabulary has "
                    f"{self.word_embeddings.num_embeddings:,} tokens: set it to tokenizer.mask_token_id"
                )
            # Filled on the device: copying a tensor made from a list would make the host wait.
            tokens = [places.new_full((1,), mask, dtype=torch.long)]
            if attention_mask is not None and attention_mask.dim() == 2:
                padding = (attention_mask == 0)[..., None].to(places.device)
                tokens.append(places.new_full((1,), self.config.pad_token_id or 0, dtype=torch.long))
            words = self.word_embeddings(torch.cat(tokens))[:, None]
        if places.shape[0] > 1:
            if words is not None:
                places = places + (words[0] if padding is None else torch.where(padding, words[1], words[0]))
            return self.dropout(self.LayerNorm(places)), None, None
        start = self.LayerNorm(places if words is None else places + words)
        queries = self.dropout(spread(start, padding, batch_size))
        # With dropout every text has different queries.
        if self.training and self.dropout.p > 0:
            return queries, None, None
        return queries, start, padding


# All functions in ALL_ATTENTION_FUNCTIONS, "sdpa" for example, have this signature.
def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    fully_masked: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention step by step: query, key, value [batch, heads, length, dim], the masks of `TtaLayer`.

    Returns:
        The output [batch, length, heads, dim] and the probabilities [batch, heads, length, length].
    """
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    probabilities = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(query.dtype)
    if fully_masked is not None:
        probabilities = probabilities.masked_fill(fully_masked, 0.0)
    output = nn.functional.dropout(probabilities, dropout, module.training) @ value
    return output.transpose(1, 2), probabilities


class TtaSelfAttention(nn.Module):
    """Multi-head attention from the queries to the inputs: [batch, length, hidden] -> the same, and the probabilities.

    The probabilities are None under "sdpa".
    """

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        if config.hidden_size % config.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, got {config.hidden_size} and "
                f"{config.num_attention_heads}"
            )
        self.config = config
        self.num_attention_heads = config.num_attention_heads
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.scaling = self.attention_head_size**-0.5
        self.is_causal = False
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        inputs: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        fully_masked: torch.Tensor | None = None,
        start: torch.Tensor | None = None,
        padding: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # Not len(inputs), which would be a constant in an exported program.
        query = self.query(hidden_states) if start is None else spread(self.query(start), padding, inputs.shape[0])
        shape = (*inputs.shape[:-1], self.num_attention_heads, self.attention_head_size)
        query, key, value = (
            states.reshape(shape).transpose(1, 2) for states in (query, self.key(inputs), self.value(inputs))
        )
        implementation = self.config._attn_implementation
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention)
        options: dict[str, Any] = {"scaling": self.scaling, "dropout": self.dropout.p if self.training else 0.0}
        if attend is eager_attention:
            output, probabilities = attend(
                self, query, key, value, attention_mask, fully_masked=fully_masked, **options
            )
        else:
            output, probabilities = attend(self, query, key, value, attention_mask, **options)
            output = output if fully_masked is None else output.masked_fill(fully_masked.transpose(1, 2), 0.0)
        return output.reshape(inputs.shape), probabilities


class TtaSelfOutput(nn.Module):
    """Projection after attention, residual with the queries, and layer norm."""

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, attended: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(attended)) + hidden_states)


class TtaAttention(nn.Module):
    """Attention with its projection and residual."""

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        self.self = TtaSelfAttention(config)
        self.output = TtaSelfOutput(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        inputs: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        fully_masked: torch.Tensor | None = None,
        start: torch.Tensor | None = None,
        padding: torch.Tensor | None = None,
    ) -> torch.Tensor:
        attended, _ = self.self(hidden_states, inputs, attention_mask, fully_masked, start, padding)
        return self.output(attended, hidden_states)


class TtaIntermediate(nn.Module):
    """First half of the feed-forward network: hidden -> intermediate size."""

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.intermediate_act_fn(self.dense(hidden_states))


class TtaOutput(nn.Module):
    """Second half of the feed-forward network, residual and layer norm."""

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, input_states: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + input_states)


class TtaLayer(GradientCheckpointingLayer):
    """Attention and feed-forward network.

    Args of `forward`:
        hidden_states, inputs: the streams, [batch, length, hidden] each.
        attention_mask: boolean, [batch or 1, heads or 1, length, length]; True where a query may attend.
        fully_masked: boolean [batch or 1, heads or 1, length, 1]; True for a fully masked query: its output is zeros
            (before the projection). `attention_mask` lets it attend to everything, to avoid a softmax over nothing.
        start, padding: the arguments of `spread` that `hidden_states` were made of, in the first layer.
    """

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        self.chunk_size_feed_forward = config.chunk_size_feed_forward
        self.attention = TtaAttention(config)
        self.intermediate = TtaIntermediate(config)
        self.output = TtaOutput(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        inputs: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        fully_masked: torch.Tensor | None = None,
        start: torch.Tensor | None = None,
        padding: torch.Tensor | None = None,
    ) -> torch.Tensor:
        attended = self.attention(hidden_states, inputs, attention_mask, fully_masked, start, padding)
        return apply_chunking_to_forward(self.feed_forward, self.chunk_size_feed_forward, 1, attended)

    def feed_forward(self, attended: torch.Tensor) -> torch.Tensor:
        return self.output(self.intermediate(attended), attended)


class TtaEncoder(nn.Module):
    """All layers."""

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList([TtaLayer(config) for _ in range(config.num_hidden_layers)])

    def forward(
        self,
        hidden_states: torch.Tensor,
        inputs: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        fully_masked: torch.Tensor | None = None,
        start: torch.Tensor | None = None,
        padding: torch.Tensor | None = None,
    ) -> torch.Tensor:
        for layer in self.layer:
            hidden_states = layer(hidden_states, inputs, attention_mask, fully_masked, start, padding)
            start = padding = None
        return hidden_states


class TtaPredictionHeadTransform(nn.Module):
    """Dense layer, activation and layer norm before the token scores."""

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_act_fn = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.transform_act_fn(self.dense(hidden_states)))


class TtaLMPredictionHead(nn.Module):
    """Token scores, [..., hidden] -> [..., vocabulary], from the word embeddings and a bias."""

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        self.transform = TtaPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=True)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.transform(hidden_states))


class TtaOnlyMLMHead(nn.Module):
    """The head under its name in BERT's files."""

    def __init__(self, config: TtaConfig) -> None:
        super().__init__()
        self.predictions = TtaLMPredictionHead(config)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.predictions(hidden_states)
