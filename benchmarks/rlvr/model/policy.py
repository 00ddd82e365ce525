"""The transformer as a policy: sample traces, and the log-probabilities of traces."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.tasks.alphabet import ALPHABET

SEGMENT = 6  # characters after which the traces that ended are dropped


class Traces(NamedTuple):
    """Sampled traces, padded on the right.

    Attributes
    ----------
    tokens : (B, L) int64
    logits : (B, L, vocabulary)
        That each character was drawn from, at the temperature of the sampling; 0 after the end mark.
    """

    tokens: Tensor
    logits: Tensor

    @property
    def mask(self) -> Tensor:
        """True for the characters of the trace.  # (B, L)"""
        return ALPHABET.counted(self.tokens)


def sample(model: Transformer, prompts: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Traces:
    """Sample a trace of every prompt by inverting the distribution function at given uniform numbers.

    Parameters
    ----------
    model : Transformer
    prompts : (B, T) int64
    uniforms : (B, L) float
        In [0, 1), L the length of the longest trace; drawn by the caller, so that runs on any device draw the same ones.
    temperature : float
    """
    with torch.inference_mode():
        traces = _sample(model, prompts, uniforms, temperature)
    return Traces(*(part.clone() for part in traces))  # of use to autograd


def _sample(model: Transformer, prompts: Tensor, uniforms: Tensor, temperature: float) -> Traces:
    (b, t), length = prompts.shape, uniforms.shape[1]
    now, cache = model.start(prompts)
    tokens = prompts.new_full((b, length), ALPHABET.pad)
    logits = now.new_zeros(b, length, now.shape[1])
    rows = torch.arange(b, device=prompts.device)  # that still write
    u, newest = uniforms.to(now), prompts[:, -1]
    for low in range(0, length, SEGMENT):
        high = min(low + SEGMENT, length)
        drawn, seen = [], []
        for place in range(low, high):
            if place:
                now = model.step(newest, cache, t + place - 1)
            now = now / temperature if temperature != 1.0 else now
            below = now.softmax(-1).cumsum(-1) < u[:, place, None]
            newest = below.sum(-1).clamp_(max=now.shape[1] - 1)  # (rows,)
            drawn.append(newest)
            seen.append(now)
        written = torch.stack(drawn, 1)  # (rows, SEGMENT)
        tokens[rows, low:high], logits[rows, low:high] = written, torch.stack(seen, 1)
        writes = (written != ALPHABET.end).all(1)
        left = int(writes.sum())
        if not left:
            break
        if left < len(rows):
            rows, newest, u, cache = rows[writes], newest[writes], u[writes], cache.take(writes)
    mask = ALPHABET.counted(tokens)
    return Traces(torch.where(mask, tokens, ALPHABET.pad), logits * mask[..., None])


def log_probability(model: Transformer, prompts: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of each trace, end mark included.

    Parameters
    ----------
    model : Transformer
    prompts : (B, T) int64
    tokens : (B, L) int64
        What comes after the end mark is ignored.
    temperature : float

    Returns
    -------
    (B,) float32
    """
    return token_log_probabilities(model, prompts, tokens, temperature).sum(-1)


def token_log_probabilities(model: Transformer, prompts: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Of each character of the traces, 0 after the end mark; parameters as of `log_probability`.  # (B, L) float32"""
    sequence = torch.cat([prompts, tokens[:, :-1]], dim=1)
    logits = model(sequence)[:, prompts.shape[1] - 1 :] / temperature  # (B, L, vocabulary)
    negative = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape)
    return -negative * ALPHABET.counted(tokens)


def backward(model: Transformer, prompts: Tensor, tokens: Tensor, coefficients: Tensor, chunk: int = 16) -> float:
    """Add the gradient of ``- sum coefficients * log_probability`` to the parameters.

    The coefficients are those of the traces, (B,), or of their characters, (B, L).  Rows that have only zeros are left out,
    and rows of like length are processed together.

    Returns
    -------
    float
        The sum.
    """
    length = ALPHABET.counted(tokens).sum(1)
    per_token = coefficients.view(len(tokens), -1)  # (B, 1) or (B, L)
    rows = torch.nonzero(per_token.any(1)).squeeze(1)
    rows = rows[length[rows].argsort()]
    total = 0.0
    for part in rows.split(chunk) if len(rows) else ():
        short = tokens[part, : int(length[part].max())]
        log_probabilities = token_log_probabilities(model, prompts[part], short)
        loss = -(per_token[part, : short.shape[1]] * log_probabilities).sum()
        loss.backward()
        total += loss.item()
    return total
