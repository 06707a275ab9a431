"""The layers of NEZHA: BERT's, with attention over relative positions. Parameters are named as in transformers 4."""

from collections.abc import Callable

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import apply_chunking_to_forward

from .attention_nezha import fused_relative_attention, relative_attention, sinusoid_table
from .configuration_nezha import NezhaConfig


class NezhaEmbeddings(nn.Module):
    """Word and segment embeddings, without positions: ids [batch, length] -> [batch, length, hidden]."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros(inputs_embeds.shape[:-1], dtype=torch.long, device=inputs_embeds.device)
        states = inputs_embeds + self.token_type_embeddings(token_type_ids)
        return self.dropout(self.LayerNorm(states))


class NezhaRelativePositions(nn.Module):
    """The constant table that all layers and heads share, [2 max_relative_position + 1, head size], float32.

    Raises:
        ValueError: the head size is not an even integer.
    """

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        if config.hidden_size % (2 * config.num_attention_heads):
            raise ValueError(
                "hidden_size must be a multiple of twice num_attention_heads (a head's features are pairs of sine and "
                f"cosine), got {config.hidden_size} and {config.num_attention_heads}"
            )
        self.max_distance = config.max_relative_position
        self.dim = config.hidden_size // config.num_attention_heads
        # Not saved: it depends on the configuration only, and `_init_weights` rebuilds it after loading.
        self.table: torch.Tensor = nn.Buffer(sinusoid_table(self.max_distance, self.dim), persistent=False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "NezhaRelativePositions":
        # Every move and cast of a module comes here: `to_empty` leaves no values, and float16 loses precision.
        super()._apply(fn, recurse)
        if not self.table.is_meta:
            self.table = sinusoid_table(self.max_distance, self.dim).to(self.table)
        return self

    def forward(self) -> torch.Tensor:
        return self.table


class NezhaSelfAttention(nn.Module):
    """Multi-head attention: [batch, length, hidden] -> the same, and the probabilities.

    The probabilities are None under "sdpa", whichever computation a length takes.
    """

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.config = config
        self.num_attention_heads = config.num_attention_heads
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.scaling = self.attention_head_size**-0.5
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, table: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        shape = (*hidden_states.shape[:-1], self.num_attention_heads, self.attention_head_size)
        query, key, value = (
            project(hidden_states).view(shape).transpose(1, 2) for project in (self.query, self.key, self.value)
        )
        implementation = self.config._attn_implementation
        if implementation not in ("eager", "sdpa"):
            raise ValueError(f"NEZHA's attn_implementation must be 'eager' or 'sdpa', got {implementation!r}")
        table = table.to(query.dtype)
        dropout = self.dropout.p if self.training else 0.0
        arguments = (query, key, value, table, attention_mask, self.scaling, dropout)
        # An exported program serves all lengths: its code must not depend on this one.
        if implementation == "sdpa" and not _is_exporting() and key.shape[-2] <= self.config.max_relative_position + 1:
            output, probabilities = fused_relative_attention(*arguments), None
        else:
            output, probabilities = relative_attention(*arguments)
        output = output.transpose(1, 2).reshape(hidden_states.shape)
        return output, probabilities if implementation == "eager" else None


def _is_exporting() -> bool:
    # Older versions of torch lack this function.
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()


class NezhaSelfOutput(nn.Module):
    """Projection after attention, residual and layer norm."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, input_states: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + input_states)


class NezhaAttention(nn.Module):
    """Attention with its projection and residual."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.self = NezhaSelfAttention(config)
        self.output = NezhaSelfOutput(config)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, table: torch.Tensor
    ) -> torch.Tensor:
        attended, _ = self.self(hidden_states, attention_mask, table)
        return self.output(attended, hidden_states)


class NezhaIntermediate(nn.Module):
    """First half of the feed-forward network: hidden -> intermediate size."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.intermediate_act_fn(self.dense(hidden_states))


class NezhaOutput(nn.Module):
    """Second half of the feed-forward network, residual and layer norm."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, input_states: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + input_states)


class NezhaLayer(GradientCheckpointingLayer):
    """Attention and feed-forward network."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.chunk_size_feed_forward = config.chunk_size_feed_forward
        self.attention = NezhaAttention(config)
        self.intermediate = NezhaIntermediate(config)
        self.output = NezhaOutput(config)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, table: torch.Tensor
    ) -> torch.Tensor:
        attended = self.attention(hidden_states, attention_mask, table)
        return apply_chunking_to_forward(self.feed_forward, self.chunk_size_feed_forward, 1, attended)

    def feed_forward(self, attended: torch.Tensor) -> torch.Tensor:
        return self.output(self.intermediate(attended), attended)


class NezhaEncoder(nn.Module):
    """All layers, and the table of relative positions that they share."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.relative_positions = NezhaRelativePositions(config)
        self.layer = nn.ModuleList([NezhaLayer(config) for _ in range(config.num_hidden_layers)])

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        table = self.relative_positions()
        for layer in self.layer:
            hidden_states = layer(hidden_states, attention_mask, table)
        return hidden_states
