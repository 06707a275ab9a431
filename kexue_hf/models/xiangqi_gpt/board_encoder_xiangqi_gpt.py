"""A board as a vector of the model's width."""

import torch
from torch import nn
from torch.nn.functional import embedding, embedding_bag, gelu

from .configuration_xiangqi_gpt import XiangqiGptConfig
from .threats_xiangqi_gpt import NUM_FEATURES, features_of


class BoardEncoder(nn.Module):
    """Boards [batch, length, 90] -> [batch, length, hidden]: the sum of a board's features through a small layer."""

    def __init__(self, config: XiangqiGptConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(NUM_FEATURES, config.board_hidden_size, padding_idx=0)
        self.norm = nn.LayerNorm(config.board_hidden_size, eps=config.layer_norm_eps)
        self.dense = nn.Linear(config.board_hidden_size, config.hidden_size)

    def forward(self, boards: torch.Tensor) -> torch.Tensor:
        rows, table = features_of(boards), self.embeddings.weight
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            # Exporters know no embedding_bag, which uses a 270th of the memory.
            summed = (embedding(rows, table) * (rows > 0)[..., None]).sum(-2)
        else:
            summed = embedding_bag(rows.flatten(0, -2), table, mode="sum", padding_idx=0).unflatten(0, rows.shape[:-1])
        return self.dense(gelu(self.norm(summed)))


__all__ = ["BoardEncoder"]
