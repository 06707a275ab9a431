"""The layers of the matcher: RoFormer's or BERT's under BERT's names, with conditional layer norms.

`conditions` and `rows`, the inputs of the layer norms (see `norm_cln_matcher.py`), go through all layers as positional
arguments, so that gradients reach them under both kinds of gradient checkpointing.
"""

import functools
import math
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import BertIntermediate
from transformers.pytorch_utils import apply_chunking_to_forward

from .configuration_cln_matcher import ClnMatcherConfig
from .norm_cln_matcher import ClnMatcherLayerNorm
from .rotary_cln_matcher import rotate


def create_norm(config: ClnMatcherConfig) -> ClnMatcherLayerNorm:
    """Create a layer norm, conditional or plain as the configuration says."""
    size = config.task_embedding_size if config.conditional else None
    return ClnMatcherLayerNorm(config.hidden_size, size, config.layer_norm_eps)


class ClnMatcherEmbeddings(nn.Module):
    """Word and segment embeddings and, without rotary positions, BERT's position embeddings."""

    def __init__(self, config: ClnMatcherConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        if config.position_embedding_type == "absolute":
            self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = create_norm(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor,
        inputs_embeds: torch.Tensor | None,
        conditions: torch.Tensor | None,
        rows: torch.Tensor | None,
    ) -> torch.Tensor:
        """Embed ids: [batch, length] -> [batch, length, hidden]."""
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        # In BERT's order, so that the sum equals BERT's to the last bit.
        states = inputs_embeds + self.token_type_embeddings(token_type_ids)
        if hasattr(self, "position_embeddings"):
            states = states + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(states, conditions, rows))


# All functions in ALL_ATTENTION_FUNCTIONS, "sdpa" for example, have this signature.
def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention step by step: query, key, value [batch, heads, length, dim], an additive mask.

    Returns:
        The output [batch, length, heads, dim] and the probabilities [batch, heads, length, length].
    """
    scores = query @ key.transpose(-1, -2)
    # RoFormer divides by the root, BERT multiplies by its inverse; the last bit differs.
    scores = scores / math.sqrt(query.shape[-1]) if module.is_rotary else scores * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = nn.functional.softmax(scores, dim=-1)
    output = nn.functional.dropout(probabilities, dropout, module.training) @ value
    return output.transpose(1, 2).contiguous(), probabilities


class ClnMatcherSelfAttention(nn.Module):
    """Multi-head attention: [batch, length, hidden] -> the same, and the probabilities (None under "sdpa")."""

    def __init__(self, config: ClnMatcherConfig) -> None:
        super().__init__()
        self.config = config
        self.is_rotary = config.position_embedding_type == "rotary"
        pairs = 2 if self.is_rotary else 1
        if config.hidden_size % (pairs * config.num_attention_heads):
            raise ValueError(
                f"hidden_size must be a multiple of {'twice ' if self.is_rotary else ''}num_attention_heads, got "
                f"{config.hidden_size} and {config.num_attention_heads}"
            )
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
        attention_mask: torch.Tensor | None = None,
        cosines: torch.Tensor | None = None,
        sines: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        shape = hidden_states.shape[:-1]
        query, key, value = (
            project(hidden_states).view(*shape, -1, self.attention_head_size).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        if cosines is not None and sines is not None:
            query, key = rotate(query, cosines, sines), rotate(key, cosines, sines)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        dropout = self.dropout.p if self.training else 0.0
        output, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        return output.reshape(*shape, -1).contiguous(), weights


class ClnMatcherResidual(nn.Module):
    """Projection, residual and layer norm: the end of attention and of the feed-forward network."""

    def __init__(self, config: ClnMatcherConfig, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, config.hidden_size)
        self.LayerNorm = create_norm(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        input_states: torch.Tensor,
        conditions: torch.Tensor | None,
        rows: torch.Tensor | None,
    ) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + input_states, conditions, rows)


class ClnMatcherAttention(nn.Module):
    """Attention with its projection and residual."""

    def __init__(self, config: ClnMatcherConfig) -> None:
        super().__init__()
        self.self = ClnMatcherSelfAttention(config)
        self.output = ClnMatcherResidual(config, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cosines: torch.Tensor | None,
        sines: torch.Tensor | None,
        conditions: torch.Tensor | None,
        rows: torch.Tensor | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        attended, _ = self.self(hidden_states, attention_mask, cosines, sines, **kwargs)
        return self.output(attended, hidden_states, conditions, rows)


class ClnMatcherLayer(GradientCheckpointingLayer):
    """Attention and feed-forward network.

    Args of `forward`:
        hidden_states: [batch, length, hidden].
        attention_mask: in the form that the attention implementation takes.
        cosines, sines: of the positions, [batch or 1, 1, length, head size]; None without rotary positions.
        conditions, rows: inputs of the layer norms, see `ClnMatcherLayerNorm`.
    """

    def __init__(self, config: ClnMatcherConfig) -> None:
        super().__init__()
        self.chunk_size_feed_forward = config.chunk_size_feed_forward
        self.attention = ClnMatcherAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = ClnMatcherResidual(config, config.intermediate_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        cosines: torch.Tensor | None = None,
        sines: torch.Tensor | None = None,
        conditions: torch.Tensor | None = None,
        rows: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        attended = self.attention(hidden_states, attention_mask, cosines, sines, conditions, rows, **kwargs)
        feed_forward = functools.partial(self.feed_forward, conditions, rows)
        return apply_chunking_to_forward(feed_forward, self.chunk_size_feed_forward, 1, attended)

    def feed_forward(
        self, conditions: torch.Tensor | None, rows: torch.Tensor | None, attended: torch.Tensor
    ) -> torch.Tensor:
        return self.output(self.intermediate(attended), attended, conditions, rows)


class ClnMatcherEncoder(nn.Module):
    """All layers."""

    def __init__(self, config: ClnMatcherConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList([ClnMatcherLayer(config) for _ in range(config.num_hidden_layers)])

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cosines: torch.Tensor | None,
        sines: torch.Tensor | None,
        conditions: torch.Tensor | None,
        rows: torch.Tensor | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        for layer in self.layer:
            hidden_states = layer(hidden_states, attention_mask, cosines, sines, conditions, rows, **kwargs)
        return hidden_states
