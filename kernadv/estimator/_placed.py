"""Where an estimator's history is: in main memory, or on the device that its rewards come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernadv import moments
from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray
from kernadv.clock import Relative, Steps, Visits
from kernadv.estimator._plain import Plain
from kernadv.estimator._rule import Rule
from kernadv.history import History

if TYPE_CHECKING:
    from kernadv.estimator._device import OnDevice, Reading


class Placed:
    """What of `KernelValueEstimator` moves the history to where it is needed."""

    allow_late: bool | int
    _asked: str
    _rule: Rule
    _history: History
    _seen: FloatArray
    _last: dict[str, float]
    _device: OnDevice | None

    def _on_device(self, rewards: Any) -> OnDevice | None:
        """The history where the rewards are, on a GPU; None, with the history in main memory, for all other rewards.

        Of the plain estimator with one of the package's bandwidths and without `max_total`; the others work in main memory,
        wherever the rewards are.
        """
        own = isinstance(self._rule, Plain) and isinstance(self._rule.bandwidth, Steps | Relative | Visits)
        movable = own and self._history.max_total is None
        if not (movable and moments.on_device(self._asked, rewards)):
            self._home()
            return None
        if self._device is None or self._device.device != rewards.device:
            self._home()
            from kernadv.estimator._device import OnDevice

            assert isinstance(self._rule, Plain)
            self._device = OnDevice(self._rule, self._history, self._seen, rewards.device)
        return self._device

    @property
    def _held(self) -> str:
        """How many visits there are, or where they are."""
        return (
            f"visits={self._history.counters.visits}" if self._device is None else f"history on {self._device.device}"
        )

    def _home(self) -> None:
        """Move the history to main memory, if it is elsewhere."""
        device = self._device
        if device is not None:
            self._last = self._last | device.metrics()
            self._history, self._seen = device.home()
            self._device = None

    def _read_there(
        self, device: OnDevice, prompt_ids: Any, rewards: Any, step: Any, weights: Any, *, stored: bool
    ) -> Reading:
        """Check a batch on a device, also against the history, and smooth it."""
        if weights is not None:
            raise ArgumentError("weights need an estimator that expects them: KernelValueEstimator(weighted=True)")
        check = lambda earliest: self._check_clock(earliest, device.newest)
        return device.read(prompt_ids, rewards, step, check, stored=stored)

    def _check_clock(self, earliest: int, newest: int) -> None:
        """Refuse steps before the newest one, as far as they may not be late."""
        late = self.allow_late
        if late is True or earliest >= newest - int(late):
            return
        hint = f"allow_late={late} allows {late} steps" if late else "pass allow_late=True for asynchronous rollouts"
        raise ArgumentError(f"step {earliest} lies before step {newest}, the newest seen; {hint}")
