"""A board as a vector of the model's width."""

import torch
from torch import nn
from torch.nn.functional import embedding, embedding_bag, gelu

from .boards_xiangqi_gpt import is_exporting
from .configuration_xiangqi_gpt import XiangqiGptConfig
from .threats_xiangqi_gpt import NUM_FEATURES, features_of


class FeatureSums(nn.Embedding):
    """Rows of a table [..., features] -> their sums [..., width]; row 0 counts for nothing."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if is_exporting() or torch.jit.is_tracing():
            # embedding_bag avoids a tensor [..., features, width], but exporters lack it.
            return (embedding(rows, self.weight) * (rows > 0)[..., None]).sum(-2)
        bags = embedding_bag(rows.flatten(0, -2), self.weight, mode="sum", padding_idx=0)
        return bags.unflatten(0, rows.shape[:-1])


class BoardEncoder(nn.Module):
    """Boards [batch, length, 90] -> [batch, length, hidden]: the sum of a board's features through a small layer."""

    def __init__(self, config: XiangqiGptConfig) -> None:
        super().__init__()
        self.embeddings = FeatureSums(NUM_FEATURES, config.board_hidden_size, padding_idx=0)
        self.norm = nn.LayerNorm(config.board_hidden_size, eps=config.layer_norm_eps)
        self.dense = nn.Linear(config.board_hidden_size, config.hidden_size)

    def forward(self, boards: torch.Tensor) -> torch.Tensor:
        return self.dense(gelu(self.norm(self.embeddings(features_of(boards)))))


__all__ = ["BoardEncoder"]
