"""Scores of single traces from a torch model, or from its last layer; torch is imported when a function is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernadv._arrays import is_tensor
from kernadv._errors import ArgumentError, ArgumentTypeError, check_count, import_extra
from kernadv.typing import FloatArray


def trace_scores(
    model: Any,
    log_prob: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    parameters: Callable[[str], bool] | None = None,
    projections: int | None = None,
    chunk_size: int = 8,
    seed: int = 0,
) -> FloatArray:
    """Score of each trace by `torch.func`: one gradient a trace, in chunks.

    Parameters
    ----------
    model : torch.nn.Module
        In the mode it samples in (call ``model.eval()`` to switch dropout off).
    log_prob : callable
        ``log_prob(call, *trace)`` -> scalar tensor: the log-probability of one trace, with ``call(...)`` the model's
        forward.
    inputs : sequence of tensors  # (R, ...)
        What describes the traces: `log_prob` gets one row of each.
    parameters : callable, optional
        Which parameters to differentiate, by name; default: all that require gradients.
    projections : int, optional
        Return that many random projections of each score instead: inner products are kept on average, their relative
        standard error is about sqrt(2 / projections).
    chunk_size : int
        Traces differentiated at once.
    seed : int
        Of the projections.

    Returns
    -------
    (R, D) or (R, projections) float64

    Raises
    ------
    ArgumentError
        If no parameter is chosen or the inputs disagree in length.
    KernadvError
        If torch is not installed.

    Examples
    --------
    >>> import torch
    >>> from kernadv.scores import trace_scores
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> trace_scores(model, lambda call, row: call(row).sum(), [x])  # of what is linear in the weights, the inputs
    array([[1., 2.],
           [3., 4.]])
    """
    torch = _torch()
    if not isinstance(model, torch.nn.Module) or not callable(log_prob):
        raise ArgumentTypeError(
            f"expected a torch.nn.Module and a callable log_prob, got {type(model).__name__} and {type(log_prob).__name__}"
        )
    if not isinstance(inputs, (list, tuple)) or not all(map(is_tensor, inputs)):
        raise ArgumentTypeError(f"inputs must be a list of tensors, each with one row a trace, got {inputs!r:.80}")
    chosen = {
        name: p.detach()
        for name, p in model.named_parameters()
        if p.requires_grad and (parameters is None or parameters(name))
    }
    if not chosen:
        raise ArgumentError("no parameter is left to differentiate; check requires_grad and the choice by name")
    rows = {len(x) if x.ndim else 0 for x in inputs}
    if len(rows) != 1:
        raise ArgumentError(f"the inputs must have one row a trace, got {sorted(rows)} rows")
    fixed = {name: p.detach() for name, p in (*model.named_parameters(), *model.named_buffers()) if name not in chosen}

    def one(changed: Any, *trace: Any) -> Any:
        call = lambda *args, **kwargs: torch.func.functional_call(model, {**fixed, **changed}, args, kwargs)
        return log_prob(call, *trace)

    per_trace = torch.func.vmap(torch.func.grad(one), in_dims=(None, *[0] * len(inputs)), randomness="different")
    matrices: dict[str, Any] = {}
    if projections is not None:
        generator = torch.Generator().manual_seed(check_count(seed, "seed", 0))
        scale = check_count(projections, "projections") ** -0.5
        for name, p in chosen.items():
            sign = torch.randint(0, 2, (p.numel(), projections), generator=generator, dtype=torch.int8)
            matrices[name] = ((2 * sign - 1).to(p.dtype) * scale).to(p.device)
    out = []
    for low in range(0, rows.pop(), check_count(chunk_size, "chunk_size")):
        found = per_trace(chosen, *(x[low : low + chunk_size] for x in inputs))
        flat = {name: gradient.flatten(1) for name, gradient in found.items()}
        if matrices:
            out.append(sum(flat[name] @ matrices[name] for name in flat))
        else:
            out.append(torch.cat(list(flat.values()), dim=1))
    return np.asarray(torch.cat(out).double().cpu().numpy())


def last_layer_scores(
    hidden: Any, logits: Any, tokens: Any, mask: Any, *, projections: int = 256, seed: int = 0
) -> FloatArray:
    """Random projections of each trace's score in the weights of the last linear layer; no backward pass.

    That score is ``sum_t (onehot(y_t) - p_t) h_t^T``; its projection on a random sign matrix ``u v^T`` is
    ``sum_t u . (onehot(y_t) - p_t)  v . h_t``.

    Parameters
    ----------
    hidden : (R, T, d) tensor
        Input of the last layer at each position.
    logits : (R, T, vocabulary) tensor
        Its output, at the temperature of the sampling.
    tokens : (R, T) tensor of int
        Token sampled from those logits.
    mask : (R, T) tensor
        1 for tokens of the response, 0 elsewhere.
    projections : int
        Their number; inner products are kept on average.
    seed : int

    Returns
    -------
    (R, projections) float64

    Raises
    ------
    ArgumentError
        If the shapes disagree.

    Examples
    --------
    >>> import torch
    >>> from kernadv.scores import last_layer_scores
    >>> hidden, logits = torch.ones(2, 3, 8), torch.zeros(2, 3, 4)
    >>> tokens, mask = torch.tensor([[0, 1, 2], [0, 1, 2]]), torch.tensor([[1, 1, 1], [0, 0, 0]])
    >>> scores = last_layer_scores(hidden, logits, tokens, mask, projections=16)
    >>> scores.shape, bool((scores[1] == 0.0).all())  # nothing of the second trace was sampled
    ((2, 16), True)
    """
    torch = _torch()
    error = _token_errors(torch, logits, tokens, mask)
    _check_tensors(hidden=hidden)
    if hidden.ndim != 3 or hidden.shape[:2] != tokens.shape:
        raise ArgumentError(f"hidden must be (R, T, d) with (R, T) = {tuple(tokens.shape)}, got {tuple(hidden.shape)}")
    generator = torch.Generator().manual_seed(check_count(seed, "seed", 0))
    count = check_count(projections, "projections")
    u, v = ((2.0 * torch.randint(0, 2, (x.shape[2], count), generator=generator) - 1.0).to(x) for x in (error, hidden))
    scores = ((error @ u) * (hidden.to(error.dtype) @ v.to(error.dtype))).sum(1) / count**0.5
    return np.asarray(scores.double().cpu().numpy())


def logit_norms(logits: Any, tokens: Any, mask: Any) -> FloatArray:
    """``sum_t |onehot(y_t) - p_t|^2`` of each trace, a stand-in for the squared norm of its score from logits alone.  # (R,)

    Parameters as in `last_layer_scores`.

    Raises
    ------
    ArgumentError
        If the shapes disagree.

    Examples
    --------
    >>> import torch
    >>> from kernadv.scores import logit_norms
    >>> logits = torch.zeros(1, 2, 4)  # four tokens, each as likely: |(1, 0, 0, 0) - (1, 1, 1, 1) / 4|^2 = 3 / 4
    >>> logit_norms(logits, torch.tensor([[0, 3]]), torch.ones(1, 2))
    array([1.5])
    """
    torch = _torch()
    error = _token_errors(torch, logits, tokens, mask)
    return np.asarray((error**2).sum((1, 2)).double().cpu().numpy())


def logit_weights(logits: Any, tokens: Any, mask: Any) -> FloatArray:
    """``(sum_t |onehot(y_t) - p_t|^2)^2``, a weight for each trace in place of its squared score norm.  # (R,)

    Free choices of style make up much of `logit_norms`, and hardly move the parameters; the square gives them less of the
    weight.  With the log-probabilities alone, `Surprisal` serves as well.

    Parameters as in `last_layer_scores`.

    Raises
    ------
    ArgumentError
        If the shapes disagree.

    Examples
    --------
    >>> import torch
    >>> from kernadv.scores import logit_weights
    >>> logit_weights(torch.zeros(1, 2, 4), torch.tensor([[0, 3]]), torch.ones(1, 2))  # 1.5^2
    array([2.25])
    """
    return np.asarray(logit_norms(logits, tokens, mask) ** 2)


def _torch() -> Any:
    """Torch, imported at the first use."""
    import_extra("torch", "a score", "torch")
    import torch

    return torch


def _check_tensors(**given: Any) -> None:
    for name, value in given.items():
        if not is_tensor(value):
            raise ArgumentTypeError(f"{name} must be a tensor, got {type(value).__name__}; torch.as_tensor makes one")


def _token_errors(torch: Any, logits: Any, tokens: Any, mask: Any) -> Any:
    """onehot(y_t) - p_t, 0 outside the mask.  # (R, T, vocabulary)"""
    _check_tensors(logits=logits, tokens=tokens, mask=mask)
    if logits.ndim != 3 or tokens.shape != logits.shape[:2] or mask.shape != tokens.shape:
        raise ArgumentError(
            "logits must be (R, T, vocabulary), tokens and mask (R, T), got "
            f"{tuple(logits.shape)}, {tuple(tokens.shape)} and {tuple(mask.shape)}"
        )
    if tokens.is_floating_point() or (
        tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < logits.shape[2]
    ):
        raise ArgumentError(
            f"tokens must be whole numbers from 0 to {logits.shape[2] - 1}, also outside the mask, got {tokens.dtype} from "
            f"{tokens.min()} to {tokens.max()}; replace the padding, e.g. tokens.clamp(min=0)"
        )
    error = -torch.softmax(logits.float() if logits.dtype != torch.float64 else logits, dim=-1)
    error.scatter_add_(2, tokens[..., None], torch.ones_like(tokens[..., None], dtype=error.dtype))
    return error * mask[..., None].to(error.dtype)
