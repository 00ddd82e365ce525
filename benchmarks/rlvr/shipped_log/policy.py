"""The transformer as a policy: sample completions, score them, and compute the exact value of a prompt."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.shipped_log.task import ALPHABET


@torch.no_grad()
def sample(model: Transformer, prompts: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Sample a completion of every prompt at temperature 1.

    Parameters
    ----------
    model : Transformer
    prompts : (B, T) int64
    length : int
        Characters drawn a completion; those after the end mark do not count, see `Alphabet.counted`.
    generator : torch.Generator

    Returns
    -------
    (B, length) int64
    """
    tokens = prompts
    for _ in range(length):
        probabilities = model(tokens)[:, -1].softmax(-1)  # (B, vocabulary)
        tokens = torch.cat([tokens, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
    return tokens[:, prompts.shape[1] :]


def log_probability(model: Transformer, prompts: Tensor, completions: Tensor) -> Tensor:
    """Log-probability that `sample` draws these completions, end mark included, by teacher forcing.

    Parameters
    ----------
    model : Transformer
    prompts : (B, T) int64
    completions : (B, L) int64
        What comes after the end mark is ignored.

    Returns
    -------
    (B,) float32
    """
    tokens = torch.cat([prompts, completions], dim=1)
    logits = model(tokens[:, :-1])[:, prompts.shape[1] - 1 :]  # (B, L, vocabulary)
    negative = F.cross_entropy(logits.transpose(1, 2), completions, reduction="none")  # (B, L)
    return -(negative * ALPHABET.counted(completions)).sum(-1)


@torch.no_grad()
def exact_value(model: Transformer, prompts: Tensor, answers: Tensor) -> Tensor:
    """Value V(x) = P(reward = 1 | prompt x), exact because one completion only is right.  # (B, T), (B, L) -> (B,)"""
    return log_probability(model, prompts, answers).exp()
