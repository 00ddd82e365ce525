"""A small decoder-only transformer over characters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Causal self-attention and a two-layer perceptron, each behind a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map the residual stream.  # (B, T, D) -> (B, T, D)"""
        b, t, d = x.shape
        heads = self.query_key_value(self.norm_attention(x)).view(b, t, 3, self.heads, d // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, heads, T, D / heads) each
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(b, t, d))
        return x + self.mlp(self.norm_mlp(x))


class TinyTransformer(nn.Module):
    """Decoder-only transformer with learned positions.

    Parameters
    ----------
    vocabulary : int
        Number of characters.
    length : int
        Longest sequence, prompt and completion together.
    width, layers, heads : int
        Size of the residual stream, number of blocks, attention heads a block.
    """

    def __init__(self, vocabulary: int, length: int, width: int = 64, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next character at every place.  # (B, T) -> (B, T, vocabulary)"""
        x = self.token(tokens) + self.position[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))
