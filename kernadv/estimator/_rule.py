"""The protocol of a rule: how a batch of rollouts and a history become values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from kernadv._errors import ArgumentError
from kernadv.batch import Batch
from kernadv.clock import KEEP_ALL, Bandwidth, Retention
from kernadv.features import Features
from kernadv.groups import Groups
from kernadv.kernels import Kernel
from kernadv.pooling import NUMPY, ArrayNamespace, Pool
from kernadv.smoothers import Estimate
from kernadv.tally import Tally
from kernadv.typing import AnyArray, FloatArray

if TYPE_CHECKING:
    from kernadv.device.batch import DeviceBatch


class State(Protocol):
    """What a rule sees of a `HostState` or a `DeviceState`."""

    @property
    def pool(self) -> Any:
        """What was learned beside the history."""

    @property
    def xp(self) -> ArrayNamespace:
        """The namespace of the arrays there."""

    @property
    def tally(self) -> Tally:
        """Totals over all batches."""

    def notes(self, batch: Any) -> Any:
        """What is noted of each group's prompt.  # (N, noted)"""

    def features(self, batch: Any, columns: int | None) -> Any:
        """Features of each group's prompt, as many as `columns` if that is known.  # (N, D)"""

    def past(self, batch: Any, bandwidth: Bandwidth, kernel: Kernel, degree: int) -> tuple[Any, Any]:
        """Half-width of the window of each group, and moments of its past, for `Batch.smoothed`.

        At degree 0 those that only a line needs may be 0.
        """


class Belief(NamedTuple):
    """Beta laws of the values of B rows, as shares of the range of the rewards.

    Attributes
    ----------
    mean : (B,)
    worth : (B,)
        alpha + beta.
    low, span : ()
        The lower end of the range, and its length; 0 while no two rewards have differed.
    """

    mean: Any
    worth: Any
    low: Any
    span: Any


class Rule(ABC):
    """From a batch and the history to values, in main memory or on a device.  It holds no state of its own.

    Parameters
    ----------
    allow_late : bool or int
        As in `KernelValueEstimator`.

    Attributes
    ----------
    noted : int
        Numbers that the history notes of a prompt for the rule.
    bandwidth, kernel
        Of the plain rule.
    features : Features, optional
    """

    noted: int = 0
    bandwidth: Bandwidth | None = None
    kernel: Kernel | None = None
    features: Features | None = None

    def __init__(self, allow_late: bool | int) -> None:
        self.allow_late = allow_late

    @abstractmethod
    def predict(self, batch: Batch | DeviceBatch, state: State) -> tuple[Estimate, Any]:
        """Values of the rows, and what they were made from; reads only."""

    def works_on_device(self, pool: Any) -> bool:
        """Whether it goes on from there on a device."""
        return True

    def baseline(self, estimate: Estimate, made_from: Any) -> Estimate:
        """What is subtracted from the rewards: the value itself, but for weights."""
        return estimate

    def tilted(self, value: Any, state: State, k: float) -> Any:
        """Values moved towards the lower end of the rewards, see `Pool.tilted`; only asked of pooled rules."""
        return value

    def half_width(self, made_from: Any) -> Any:
        """Half-width of each group's window in steps, for `metrics`; NaN where there is no single one.  # (N, 1)"""
        return np.full((1, 1), np.nan)

    @abstractmethod
    def arguments(self) -> list[str]:
        """The arguments of the estimator that differ from the defaults, as code."""

    @property
    def of_values(self) -> Rule:
        """The rule of the values alone, which no weights change."""
        return self

    def fresh(self, xp: ArrayNamespace = NUMPY) -> Pool | None:
        """A pool that has seen nothing; None if the rule learns nothing beside the history."""
        return None

    def learn(self, made_from: Any, pool: Pool) -> Any:
        """Learn from a batch that was predicted; returns what is then noted of each group's prompt, (N, noted).

        Only asked of rules with a pool.

        Parameters
        ----------
        made_from : Any
            As `predict` says.
        pool : Pool
            Takes over what the prediction was made from, if it is another one, and learns.
        """
        return None

    @abstractmethod
    def belief(self, batch: Batch | DeviceBatch, estimate: Estimate, made_from: Any, state: State) -> Belief:
        """What is believed of the true value of each row, from what `predict` said of it."""

    @abstractmethod
    def interval(self, estimate: Estimate, belief: Belief, level: float) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound of the true value of each row, in main memory; NaN where undefined.  # (B,), (B,)"""

    @abstractmethod
    def pieces(self, made_from: Any, visits: Groups, at: int) -> dict[str, Any]:
        """The ``weights`` of the visits in the value of a single group without traces, and what else made it."""

    def retention(self, newest: int) -> Retention:
        """What of the history can still matter after a batch."""
        return KEEP_ALL if self.allow_late is True else self._retention(newest, int(self.allow_late))

    @abstractmethod
    def _retention(self, newest: int, late: int) -> Retention:
        """What can still matter at steps >= newest - late."""

    def check_step(self, earliest: int, newest: int) -> None:
        """Refuse steps that are later than `allow_late` permits."""
        late = self.allow_late
        if late is True or earliest >= newest - int(late):
            return
        hint = f"allow_late={late} allows {late} steps" if late else "pass allow_late=True for asynchronous rollouts"
        raise ArgumentError(f"step {earliest} lies before step {newest}, the newest seen; {hint}")

    @abstractmethod
    def config(self, pool: Pool | None, arrays: Mapping[str, AnyArray]) -> dict[str, Any]:
        """What a saved state depends on, for JSON.  What the rule and `pool` leave open is taken from the saved `arrays`."""

    def metrics(self, pool: Pool | None) -> dict[str, float]:
        """Numbers for a logger, of what was learned."""
        return {}

    @abstractmethod
    def restored(self, pool: Pool | None, arrays: Mapping[str, Any] | None) -> Pool | None:
        """What was learned from the arrays of a saved state; None: nothing.  `pool` is the present one.

        Raises
        ------
        CheckpointError
            If the state is damaged.
        """
