"""Weights of traces from their log-probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv._arrays import check_floats, is_tensor
from kernadv._errors import ArgumentError, check_choice, check_range
from kernadv.typing import FloatArray

#: Largest log-probability that passes as 0 with the error of half precision.
ROUNDING = 1e-3
#: Share of the running mean of the weights that stays at a batch.
KEPT = 0.9
#: Rounds for the mean of the first batch.
ROUNDS = 16


class Surprisal:
    """Weights of traces from their log-probabilities, in place of the squared norms of their scores.

    With the surprisal x, minus the log-probability of the trace's T tokens, the weight is::

        min(x^2, cap m)          for loss="sum"
        min((x / T)^2, cap m)    for loss="trace"

    where m is the running mean of the capped weights.  A few long traces thus cannot make up all of the weight.

    Parameters
    ----------
    cap : float
        Largest weight, in running means; above 1, may be infinite.
    loss : {"sum", "trace"}
        "sum": one denominator for all traces (sums, a constant, the number of the batch's tokens).  "trace": each trace is
        divided by its own number of tokens, and so is its score.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument cannot be used.

    Examples
    --------
    >>> weigh = Surprisal()
    >>> weigh([[-1.0, -1.0], [-0.5, -9.0]], [[1, 1], [1, 0]])
    array([4.  , 0.25])
    >>> surprisal, tokens = weigh.sums([[-1.0, -1.0], [-0.5, -9.0]], [[1, 1], [1, 0]])
    >>> surprisal, tokens
    (array([2. , 0.5]), array([2., 1.]))
    >>> other = Surprisal()
    >>> other.load_state_dict(weigh.state_dict())  # the running mean
    >>> bool((other.of_traces(surprisal, tokens) == weigh.of_traces(surprisal, tokens)).all())
    True
    >>> sorted(weigh.metrics())
    ['weights_capped', 'weights_kish']
    """

    def __init__(self, cap: float = 3.0, loss: str = "sum") -> None:
        self.cap = cap if cap == np.inf else check_range(cap, "cap", 1.0)
        self.loss = check_choice(loss, "loss", ("sum", "trace"))
        self._mean: Any = 0.0
        self._shares: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Surprisal(cap={self.cap:g}, loss={self.loss!r})"

    def __call__(self, log_probs: Any, mask: Any) -> Any:
        """Weights of a batch, which moves the running mean.

        Parameters
        ----------
        log_probs : array or tensor  # (B, T)
            Of the tokens, at the temperature of the sampling.
        mask : array or tensor of 0 and 1  # (B, T)
            1 for the tokens that the policy chose; 0 for prompts, tools' answers and padding, which may hold anything.

        Returns
        -------
        (B,) float64, of the kind of `log_probs`, on its device

        Raises
        ------
        ArgumentError
            If the shapes differ, or a log-probability inside the mask is positive or not finite.
        """
        return self.of_traces(*self.sums(log_probs, mask))

    @staticmethod
    def sums(log_probs: Any, mask: Any) -> tuple[Any, Any]:
        """Surprisal and number of tokens of each trace; parameters and errors as in a call.  # (B,), (B,) float64"""
        if is_tensor(log_probs):
            import torch

            inside = torch.as_tensor(mask, device=log_probs.device) != 0
            given, chosen = log_probs.detach().double(), torch.where
        else:
            inside = check_floats(mask.cpu() if is_tensor(mask) else mask, "mask") != 0
            given, chosen = check_floats(log_probs, "log_probs"), np.where
        if given.ndim != 2 or given.shape != inside.shape:
            raise ArgumentError(
                f"log_probs and mask must have one shape (B, T), got {tuple(given.shape)} and {tuple(inside.shape)}"
            )
        x = -chosen(inside, given, 0.0)
        bad = ~((x >= -ROUNDING) & (x < np.inf))
        if bad.any():
            row = int(bad.any(1).nonzero()[0][0])
            raise ArgumentError(
                f"log-probabilities must be finite and not above 0, got {-float(x[row][bad[row]][0]):g} in row {row}; were "
                "probabilities meant, or is the mask that of other tokens?"
            )
        return x.clip(0.0).sum(1), inside.sum(1) * 1.0

    def of_traces(self, surprisal: Any, lengths: Any) -> Any:
        """Weights of a batch from each trace's surprisal and number of tokens, which moves the running mean.

        For batches that several processes hold in parts: gather what `sums` gives, then call this everywhere.

        Parameters
        ----------
        surprisal, lengths : arrays or tensors  # (B,)

        Returns
        -------
        (B,) float64, of the kind of `surprisal`, on its device

        Raises
        ------
        ArgumentError
            If a number is negative or not finite.
        """
        x, count = _checked(surprisal, "surprisal"), _checked(lengths, "lengths")
        if x.shape != count.shape or x.ndim != 1:
            raise ArgumentError(f"one length a trace: got shapes {tuple(x.shape)} and {tuple(count.shape)}")
        raw = (x if self.loss == "sum" else x / count.clip(1.0)) ** 2
        if not len(raw):
            return raw
        mean = self._mean if is_tensor(raw) else float(self._mean)
        first = _self_consistent_mean(raw, self.cap)
        top = self.cap * (mean + (mean <= 0) * first)  # without a mean yet: the batch's own
        weight = raw if self.cap == np.inf else _minimum(raw, top)
        now = weight.mean()
        self._mean = (mean > 0) * (KEPT * mean + (1.0 - KEPT) * now) + (mean <= 0) * now
        self._shares = {
            "weights_kish": weight.sum() ** 2 / (len(weight) * (weight**2).sum()).clip(1e-300),
            "weights_capped": (weight < raw).sum() / len(raw),
        }
        return weight

    def metrics(self) -> dict[str, float]:
        """Of the last batch: ``weights_kish``, the share of the traces that count, and ``weights_capped``."""
        return {name: float(share) for name, share in self._shares.items()}

    def state_dict(self) -> dict[str, FloatArray]:
        """The running mean."""
        return {"mean": np.array([float(self._mean)])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the running mean back."""
        self._mean = float(np.ravel(state["mean"])[0])


def _checked(x: Any, name: str) -> Any:
    """Numbers that are finite and not negative, in float64."""
    x = x.detach().double() if is_tensor(x) else check_floats(x, name)
    bad = ~((x >= 0) & (x < np.inf))
    if bad.any():
        raise ArgumentError(f"{name} must be finite and not negative, got {float(x[bad][0]):g}")
    return x


def _minimum(x: Any, top: Any) -> Any:
    return x.clip(max=top) if is_tensor(x) else np.minimum(x, top)


def _self_consistent_mean(weights: Any, cap: float) -> Any:
    """The largest m that is the mean of the weights capped at ``cap m``."""
    mean = weights.mean()
    if cap < np.inf:
        for _ in range(ROUNDS):
            mean = _minimum(weights, cap * mean).mean()
    return mean
