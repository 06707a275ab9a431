"""The layers of Performer BERT: BERT's, under the same parameter names, with two differences.

Positions continue beyond the table, and there are two kinds of attention; the model chooses one for each input.
"""

from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import (
    BertIntermediate,
    BertOutput,
    BertSelfOutput,
    eager_attention_forward,
)
from transformers.pytorch_utils import apply_chunking_to_forward

from .attention_performer_bert import LinearAttentionState
from .configuration_performer_bert import PerformerBertConfig
from .favor_performer_bert import MAP_NAME, SOFTMAX_MARK, favor_attention
from .feature_maps_performer_bert import FeatureMap, RandomFeatures, create_feature_map
from .redraws_performer_bert import start_counting


class PerformerBertEmbeddings(nn.Module):
    """BERT's embeddings of words, positions and segments, with positions beyond the table of n, up to n^2.

    They use the hierarchical decomposition (https://kexue.fm/archives/7947): with p the table and u_i = (p_i - alpha
    p_0) / (1 - alpha), position i n + j is alpha u_i + (1 - alpha) u_j. That is p_j + alpha / (1 - alpha) (p_i - p_0):
    the first n equal the table's rows to the last bit.
    """

    def __init__(self, config: PerformerBertConfig) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed ids: [batch, length] -> [batch, length, hidden]; arguments as in `PerformerBertModel`.

        Raises:
            ValueError: a text has more tokens than there are positions.
        """
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        length = inputs_embeds.shape[1]
        rows = self.position_embeddings.num_embeddings
        limit = rows**2
        # A compiled or exported program has one code path for both cases, because its length is a variable.
        inside = position_ids is None and not torch.compiler.is_compiling() and length <= rows
        if position_ids is None:
            if length > limit:
                raise ValueError(
                    f"expected texts of at most {limit} tokens (max_position_embeddings squared), got {length}: "
                    "truncate them"
                )
            position_ids = torch.arange(length, device=inputs_embeds.device)[None]
        elif _is_readable(position_ids) and int(position_ids.max()) >= limit:
            raise ValueError(f"positions of at most {limit - 1} (max_position_embeddings squared), got a larger one")
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        embeddings = inputs_embeds + self.token_type_embeddings(token_type_ids)
        embeddings = embeddings + (self.position_embeddings if inside else self.positions)(position_ids)
        return self.dropout(self.LayerNorm(embeddings))

    def positions(self, position_ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of positions [...] from 0 to n^2 - 1: [..., hidden]."""
        rows = self.position_embeddings.num_embeddings
        inner = self.position_embeddings(position_ids % rows)
        outer = self.position_embeddings(position_ids.div(rows, rounding_mode="floor"))
        ratio = self.config.position_alpha / (1 - self.config.position_alpha)
        # A call, not an access to the weight: offloading loads a module's tensors for its own calls only.
        return inner + ratio * (outer - self.position_embeddings(torch.zeros_like(position_ids[..., :1])))


def _is_readable(states: torch.Tensor) -> bool:
    """Return whether reading a value makes no device wait and no compiler stop, and there is a value."""
    return states.device.type == "cpu" and not torch.compiler.is_compiling() and states.numel() > 0


class PerformerBertSelfAttention(nn.Module):
    """Softmax or linear attention of the same queries, keys and values; the caller chooses."""

    def __init__(self, config: PerformerBertConfig, layer_idx: int, is_causal: bool = False) -> None:
        super().__init__()
        heads = config.num_attention_heads
        if config.hidden_size % heads:
            raise ValueError(f"hidden_size must be a multiple of the {heads} heads, got {config.hidden_size}")
        self.config, self.layer_idx, self.is_causal = config, layer_idx, is_causal
        self.attention_head_size = config.hidden_size // heads
        self.scaling = self.attention_head_size**-0.5
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        if config.linear_layers not in (None, "auto") and layer_idx not in config.linear_layers:
            setattr(self, SOFTMAX_MARK, True)
            return
        # Different draws for every layer.
        seed = config.seed * 1_009 + layer_idx
        feature_map = create_feature_map(
            config.feature_map, self.attention_head_size, config.num_features, heads, config.norm, seed
        )
        if config.redraw is not None and isinstance(feature_map, RandomFeatures):
            start_counting(feature_map, config.redraw)
        setattr(self, MAP_NAME, feature_map)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        linear: bool,
        state: LinearAttentionState | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend: [batch, length, hidden] -> the same, and the weights if requested.

        Args:
            attention_mask: boolean [batch, length] if `linear`, else in the form that the softmax implementation
                takes.
            state: the past of a causal layer; the tokens are added to it.
        """
        shape = hidden_states.shape[:-1]
        query, key, value = (
            project(hidden_states).view(*shape, -1, self.attention_head_size).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        if state is not None:
            output = state.step(query, key, value, attention_mask).transpose(1, 2)
            return output.reshape(*shape, -1).contiguous(), None
        attend = favor_attention
        if not linear:
            attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.dropout.p if self.training else 0.0
        output, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        return output.reshape(*shape, -1).contiguous(), weights


class PerformerBertAttention(nn.Module):
    def __init__(self, config: PerformerBertConfig, layer_idx: int, is_causal: bool = False) -> None:
        super().__init__()
        self.self = PerformerBertSelfAttention(config, layer_idx, is_causal)
        self.output = BertSelfOutput(config)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, linear: bool, **kwargs: Any
    ) -> torch.Tensor:
        attended, _ = self.self(hidden_states, attention_mask, linear, **kwargs)
        return self.output(attended, hidden_states)


class PerformerBertLayer(GradientCheckpointingLayer):
    def __init__(self, config: PerformerBertConfig, layer_idx: int, is_causal: bool = False) -> None:
        super().__init__()
        self.chunk_size_feed_forward = config.chunk_size_feed_forward
        self.attention = PerformerBertAttention(config, layer_idx, is_causal)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, linear: bool, **kwargs: Any
    ) -> torch.Tensor:
        attended = self.attention(hidden_states, attention_mask, linear, **kwargs)
        return apply_chunking_to_forward(self._feed_forward, self.chunk_size_feed_forward, 1, attended)

    def _feed_forward(self, attended: torch.Tensor) -> torch.Tensor:
        return self.output(self.intermediate(attended), attended)


class PerformerBertEncoder(nn.Module):
    def __init__(self, config: PerformerBertConfig, is_causal: bool = False) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            [PerformerBertLayer(config, number, is_causal) for number in range(config.num_hidden_layers)]
        )
        self.scaling = (config.hidden_size // config.num_attention_heads) ** -0.5

    def feature_maps(self) -> list[FeatureMap]:
        """Return the feature maps of all layers that have one, in order."""
        return [module for module in self.modules() if isinstance(module, FeatureMap)]

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        linear: bool,
        states: list[LinearAttentionState] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        for number, layer in enumerate(self.layer):
            state = None if states is None else states[number]
            hidden_states = layer(hidden_states, attention_mask, linear, state=state, **kwargs)
        return hidden_states
