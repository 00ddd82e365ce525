"""Between numbers of rows and numbers of tokens."""

from __future__ import annotations

from typing import Any


def spread(row: Any, token_rewards: Any, mask: Any) -> Any:
    """Each row's number at its tokens, 0 outside the mask, of the kind of `token_rewards`.  # (B,) -> (B, T)"""
    return row.to(token_rewards).unsqueeze(-1) * mask.to(token_rewards)


def surprisal(log_probs: Any, mask: Any) -> Any:
    """Minus the log-probability of each trace.

    Parameters
    ----------
    log_probs, mask : tensors; what lies outside the mask does not count  # (B, T)

    Returns
    -------
    (B,) float32 tensor on the CPU, not negative
    """
    inside = mask.bool()
    return -log_probs.detach().masked_fill(~inside, 0.0).float().sum(-1).clamp(max=0.0).cpu()
