"""Where an estimator's history is: in main memory, or on the device that its rewards come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernadv import moments
from kernadv._errors import ArgumentError
from kernadv._typing import FloatArray
from kernadv.estimator._rule import Rule
from kernadv.history import History

if TYPE_CHECKING:
    from kernadv.device.state import OnDevice, Reading


class Placed:
    """What of `KernelValueEstimator` moves the history to where it is needed."""

    allow_late: bool | int
    weighted: bool
    _asked: str
    _rule: Rule
    _history: History
    _seen: FloatArray
    _last: dict[str, float]
    _device: OnDevice | None

    def _on_device(self, rewards: Any) -> OnDevice | None:
        """The history where the rewards are, on a GPU; None, with the history in main memory, for all other rewards.

        Of an estimator that is pooled or has one of the package's bandwidths; the others work in main memory, wherever the
        rewards are.
        """
        if not moments.on_device(self._asked, rewards):
            self._home()
            return None
        if self._device is None or self._device.device != rewards.device:
            self._home()
            rule = self._rule.on_device(rewards.device)
            if rule is not None:
                from kernadv.device.state import OnDevice

                self._device = OnDevice(rule, self._history, self._seen, rewards.device)
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
            last = self._last | device.metrics()
            history, seen = device.home()
            self.__dict__.update(_last=last, _history=history, _seen=seen, _device=None)

    def _read_there(self, device: OnDevice, prompt_ids: Any, rewards: Any, step: Any, weights: Any) -> Reading:
        """Check a batch on a device, also against the history, and smooth it."""
        self._check_weights(weights)
        check = lambda earliest: self._check_clock(earliest, device.newest)
        return device.read(prompt_ids, rewards, step, weights, check)

    def _check_weights(self, weights: Any) -> None:
        """Refuse weights that are not expected, or their absence."""
        if self.weighted and weights is None:
            raise ArgumentError(
                "the estimator is weighted: pass weights, one a row, e.g. the squared norms of the scores"
            )
        if weights is not None and not self.weighted:
            raise ArgumentError("weights need an estimator that expects them: KernelValueEstimator(weighted=True)")

    def _check_clock(self, earliest: int, newest: int) -> None:
        """Refuse steps before the newest one, as far as they may not be late."""
        late = self.allow_late
        if late is True or earliest >= newest - int(late):
            return
        hint = f"allow_late={late} allows {late} steps" if late else "pass allow_late=True for asynchronous rollouts"
        raise ArgumentError(f"step {earliest} lies before step {newest}, the newest seen; {hint}")
