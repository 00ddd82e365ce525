"""Scores of single traces, the gradients of their log-probabilities in all parameters, at the cost of one backward pass.

The gradient of a linear layer's weights is the sum over the characters of (gradient at its output) x (its input), so that
one pass through a batch, which keeps inputs and outputs of every layer, gives the score of each trace.
`kernadv.scores.trace_scores` gives the same numbers for any model, several times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rlvr.model.policy import log_probability, token_log_probabilities
from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.tasks.alphabet import ALPHABET

LAYERS = (nn.Linear, nn.LayerNorm, nn.Embedding)


def scores(
    model: Transformer, prompts: Tensor, tokens: Tensor, temperature: float = 1.0, chunk: int = 16
) -> tuple[Tensor, Tensor]:
    """Score and log-probability of each trace.

    Parameters
    ----------
    model : Transformer
    prompts : (B, T) int64
    tokens : (B, L) int64
    temperature : float
        Of the policy; the scores are those of the tempered one.
    chunk : int
        Traces, of like length, that are processed at once.

    Returns
    -------
    (B, D) and (B,) float32
        Columns in the order of ``model.parameters()``.
    """
    length = ALPHABET.counted(tokens).sum(1)
    out = prompts.new_empty((len(tokens), sum(p.numel() for p in model.parameters())), dtype=torch.float32)
    log_probabilities = out.new_empty(len(tokens))
    for part in length.argsort().split(chunk):
        short = tokens[part, : int(length[part].max())]
        with _recorded(model) as layers:
            log_probability_ = log_probability(model, prompts[part], short, temperature)
        gradients = torch.autograd.grad(log_probability_.sum(), [output for _, _, output in layers])
        found = {}
        for (layer, given, _), gradient in zip(layers, gradients, strict=True):
            found.update(_of_layer(model, layer, given, gradient))
        out[part] = torch.cat([found[id(p)].flatten(1) for p in model.parameters()], dim=1)
        log_probabilities[part] = log_probability_.detach()
    return out, log_probabilities


def token_products(model: Transformer, prompts: Tensor, tokens: Tensor) -> Any:
    """Inner products of the scores of each trace's characters, 0 after its end.  # (B, T), (B, L) -> (B, L, L) float32"""
    b, length = tokens.shape
    out = np.zeros((b, length, length), np.float32)
    for row, count in enumerate(ALPHABET.counted(tokens).sum(1).tolist()):
        at = torch.arange(count)
        with _recorded(model) as layers:  # the trace as often as it has characters; of each copy, one character
            each = token_log_probabilities(model, prompts[row].expand(count, -1), tokens[row, :count].expand(count, -1))
        gradients = torch.autograd.grad(each[at, at].sum(), [output for _, _, output in layers])
        for (layer, given, _), gradient in zip(layers, gradients, strict=True):
            for part in _of_layer(model, layer, given, gradient).values():
                out[row, :count, :count] += (part.flatten(1) @ part.flatten(1).T).numpy()
    return out


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """Every layer's input and output in a forward pass inside the block."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, output: seen.append((layer, given[0].detach(), output)))
        for layer in model.modules()
        if isinstance(layer, LAYERS)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _of_layer(model: Transformer, layer: Any, given: Tensor, gradient: Tensor) -> dict[int, Tensor]:
    """Gradients of a layer's parameters for each trace, by the parameter's id.  given: (B, T, in); gradient: (B, T, out)"""
    if isinstance(layer, nn.Linear):
        return {id(layer.weight): gradient.transpose(1, 2) @ given, id(layer.bias): gradient.sum(1)}
    if isinstance(layer, nn.LayerNorm):
        normed = F.layer_norm(given, layer.normalized_shape, eps=layer.eps)
        return {id(layer.weight): (gradient * normed).sum(1), id(layer.bias): gradient.sum(1)}
    which = F.one_hot(given, layer.num_embeddings).to(gradient)
    position = F.pad(gradient, (0, 0, 0, model.length - gradient.shape[1]))
    return {id(layer.weight): which.transpose(1, 2) @ gradient, id(model.position): position}
