"""NEZHA's pooler and pre-training heads, the same as BERT's."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .configuration_nezha import NezhaConfig


class NezhaPooler(nn.Module):
    """tanh(dense([CLS])): [batch, length, hidden] -> [batch, hidden]."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = nn.Tanh()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.activation(self.dense(hidden_states[:, 0]))


class NezhaPredictionHeadTransform(nn.Module):
    """Dense layer, activation and layer norm before the word scores."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_act_fn = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.transform_act_fn(self.dense(hidden_states)))


class NezhaLMPredictionHead(nn.Module):
    """Word scores, [..., hidden] -> [..., vocabulary], from the word embeddings and a bias."""

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__()
        self.transform = NezhaPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=True)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.transform(hidden_states))


class NezhaHeads(nn.Module):
    """The pre-training heads of a model, under their names in saved files."""

    def __init__(self, config: NezhaConfig, predictions: bool = False, seq_relationship: bool = False) -> None:
        super().__init__()
        if predictions:
            self.predictions = NezhaLMPredictionHead(config)
        if seq_relationship:
            self.seq_relationship = nn.Linear(config.hidden_size, 2)
