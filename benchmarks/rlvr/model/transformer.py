"""A small decoder-only transformer over characters, with a cache for sampling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rlvr.tasks.alphabet import ALPHABET


class Cache(NamedTuple):
    """Keys and values of the characters so far, a tensor a layer.

    Attributes
    ----------
    key : list of (B, heads, D / heads, T)
    value : list of (B, heads, T, D / heads)
    """

    key: list[Tensor]
    value: list[Tensor]

    def take(self, rows: Tensor) -> Cache:
        """The cache of some rows."""
        return Cache([x[rows] for x in self.key], [x[rows] for x in self.value])


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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map the residual stream; also the keys and values.  # (B, T, D)"""
        b, t, d = x.shape
        parts = self.query_key_value(self.norm_attention(x)).view(b, t, 3, self.heads, d // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (B, heads, T, D / heads) each
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(b, t, d))
        return x + self.mlp(self.norm_mlp(x)), key, value

    def step(self, x: Tensor, keys: Tensor, values: Tensor, place: int) -> Tensor:
        """Map the newest character, and write its key and value at `place` of the cache.  # (B, D)"""
        b, d = x.shape
        query, key, value = (
            self.query_key_value(self.norm_attention(x)).view(b, 3, self.heads, d // self.heads).unbind(1)
        )
        keys[..., place], values[:, :, place] = key, value
        scores = query.unsqueeze(2) @ keys[..., : place + 1]  # (B, heads, 1, place + 1)
        weights = (scores * (d // self.heads) ** -0.5).softmax(-1)
        x = x + self.project((weights @ values[:, :, : place + 1]).view(b, d))
        return x + self.mlp(self.norm_mlp(x))


class Transformer(nn.Module):
    """Decoder-only transformer with learned positions.

    Parameters
    ----------
    length : int
        Longest sequence, prompt and trace together.
    width, layers, heads : int
        Size of the residual stream, number of blocks, attention heads a block.
    vocabulary : int
        Number of characters.
    """

    def __init__(
        self, length: int, width: int = 96, layers: int = 2, heads: int = 4, vocabulary: int = len(ALPHABET)
    ) -> None:
        super().__init__()
        self.shape = (length, width, layers, heads)
        self.length = length
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next character at every place.  # (B, T) -> (B, T, vocabulary)"""
        x = self.token(tokens) + self.position[: tokens.shape[1]]
        for block in self.blocks:
            x, _, _ = block(x)
        return self.head(self.norm(x))

    def start(self, prompts: Tensor) -> tuple[Tensor, Cache]:
        """Logits after the prompts, and a cache with room for all that follows.  # (B, T) -> (B, vocabulary)"""
        t = prompts.shape[1]
        x = self.token(prompts) + self.position[:t]
        keys, values = [], []
        for block in self.blocks:
            x, key, value = block(x)
            size = *key.shape[:2], self.length, key.shape[3]
            room = x.new_zeros(size)
            room[:, :, :t] = key
            keys.append(room.transpose(2, 3).contiguous())
            room = x.new_zeros(size)
            room[:, :, :t] = value
            values.append(room)
        return self.head(self.norm(x[:, -1])), Cache(keys, values)

    def step(self, tokens: Tensor, cache: Cache, place: int) -> Tensor:
        """Logits after one more character, which stands at `place`.  # (B,) -> (B, vocabulary)"""
        x = self.token(tokens) + self.position[place]
        for block, keys, values in zip(self.blocks, cache.key, cache.value, strict=True):
            x = block.step(x, keys, values, place)
        return self.head(self.norm(x))
