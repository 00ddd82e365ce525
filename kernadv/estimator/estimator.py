"""KernelValueEstimator: the value of each prompt under the moving policy, from its past rewards and its group."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from kernadv import kernels, moments, smoothers
from kernadv._checkpoint import load_arrays, save_arrays
from kernadv._errors import ArgumentError, CheckpointError, check_count
from kernadv._typing import AnyArray, BoolArray, FloatArray
from kernadv.batch import Batch, read_batch
from kernadv.clock import Bandwidth, Relative, Visits
from kernadv.history import History, check_id_type
from kernadv.kernels import Kernel
from kernadv.moments import Windows
from kernadv.smoothers import Estimate

#: The history is swept for visits that can no longer matter when it has doubled since the last sweep.
FIRST_SWEEP = 4096


class KernelValueEstimator:
    """Value of each prompt, smoothed over the steps of training, leave-one-out within the group.

    For trace g of prompt x at step i, with the prompt's past visits (I_j, Z_j) and bandwidth w,

        V_i^(g)(x) = [ sum_j K((i - I_j) / w) Z_j + sum_{k != g} K(0) Z^(k) ] / (sum of the weights).

    Parameters
    ----------
    bandwidth : Bandwidth
        `Relative(h)` (w = i h, the paper's), `Steps(w)` or `Visits(k)` (k-NN in time).
    kernel : str or Kernel
        Name in `kernadv.kernels.KERNELS`, or an object.
    smoother : {"nadaraya_watson", "local_linear"}
    cold_start : "batch_mean", "error" or float
        Value of a row without any observation (no past, no other trace), used by `advantages`: the mean of the other
        prompts' rewards of the batch (without other prompts, the mean of all rewards observed before; 0 at the very
        first), an error, or a constant.
    allow_late : bool or int
        Accept steps lower than the newest one seen (asynchronous rollouts): any (True), or up to that many steps late.
        A late row is smoothed over the visits at or before its own step.
    max_visits, max_total : int, optional
        Hard caps on the visits kept of a prompt and in all; `metrics()["dropped_visits"]` counts what they cost.
    backend : str
        Backend of the moments, see `kernadv.moments.select`.

    Raises
    ------
    ArgumentError
        If an argument cannot be used; names are checked here, not at the first call.

    Notes
    -----
    Several threads may call `values` at a time; while one calls `observe` or `advantages`, no other may use the object.

    Visits that can never again carry weight are forgotten from time to time: beyond the support for compact kernels,
    below 1e-12 of the weight of the prompt's newest visit for the others.  Compact kernels: no estimate changes by it;
    others: by no more than that share.

    References
    ----------
    Kernelized Advantage Estimation, arXiv 2604.28005, section 3.

    Examples
    --------
    >>> est = KernelValueEstimator.kae(h=0.5)
    >>> est.advantages(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], step=1)
    array([ 1., -1.,  0.,  0.])
    """

    def __init__(
        self,
        bandwidth: Bandwidth | None = None,
        kernel: str | Kernel = "triangular",
        *,
        smoother: str = "nadaraya_watson",
        cold_start: str | float = "batch_mean",
        allow_late: bool | int = False,
        max_visits: int | None = None,
        max_total: int | None = None,
        backend: str = "auto",
    ) -> None:
        self.bandwidth = Relative(0.5) if bandwidth is None else bandwidth
        if not isinstance(self.bandwidth, Bandwidth):
            raise ArgumentError(
                f"bandwidth must be Relative(h), Steps(w) or Visits(k), got {bandwidth!r}; "
                "Relative(0.5) is half of the steps so far, Steps(20) the last 20 steps"
            )
        self.kernel = kernels.get(kernel)
        if (
            isinstance(self.bandwidth, Visits)
            and self.bandwidth.k == 1
            and self.kernel.support == 1.0
            and not (self.kernel.closed)
        ):
            raise ArgumentError(
                f"Visits(1) gives the only visit the weight K(1) = 0 of the {self.kernel.name} kernel; "
                "take k >= 2 or kernel='uniform'"
            )
        self.smoother = smoother
        self._smooth = smoothers.get(smoother)
        self.cold_start = _check_cold_start(cold_start)
        self.allow_late = allow_late if isinstance(allow_late, bool) else check_count(allow_late, "allow_late")
        self.backend = moments.select(backend)
        self._history = History(max_visits, max_total)
        self._seen = np.zeros(2)  # count and sum of all rewards observed
        self._next_sweep = FIRST_SWEEP
        self._last: dict[str, float] = {}

    @classmethod
    def kae(cls, h: float = 0.5, kernel: str | Kernel = "triangular", **options: Any) -> KernelValueEstimator:
        """The paper's estimator: relative bandwidth ``i h``, Nadaraya-Watson.

        Parameters
        ----------
        h : float
            Bandwidth as a fraction of the step.
        kernel : str or Kernel
        **options
            Other arguments of the class.
        """
        return cls(Relative(h), kernel, **options)

    def __repr__(self) -> str:
        return (
            f"KernelValueEstimator({self.bandwidth!r}, kernel={self.kernel.name!r}, smoother={self.smoother!r}, "
            f"visits={self._history.counters.visits}, backend={self.backend.name!r})"
        )

    def values(self, prompt_ids: Any, rewards: Any, step: Any) -> Estimate:
        """Value of each row's prompt, without the row's own reward.  Reads only.

        Parameters
        ----------
        prompt_ids : sequence of str or of int  # (B,)
            In any order; groups may differ in size.
        rewards : array, tensor or sequence of float  # (B,)
            NaN: could not be scored; the trace then counts for no other.
        step : int, or (B,) ints
            Training step at generation (policy version), from 1.

        Returns
        -------
        Estimate of (B,) arrays, of the kind of `rewards`
            ``defined`` is False for a row without any observation.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If an argument cannot be used; nothing has changed then.
        """
        batch = self._read(prompt_ids, rewards, step)
        estimate, _ = self._estimate(batch)
        return Estimate(*(batch.restore(part) for part in estimate))

    def observe(self, prompt_ids: Any, rewards: Any, step: Any) -> None:
        """Add a batch to the history.  Parameters and errors as in `values`."""
        self._store(self._read(prompt_ids, rewards, step))

    def advantages(self, prompt_ids: Any, rewards: Any, step: Any) -> Any:
        """``rewards - values``, then `observe`.  Parameters and errors as in `values`.

        All rows are smoothed over the history before the batch.  A row whose reward is NaN has advantage 0 and is not
        stored.

        Returns
        -------
        (B,) array or tensor of the kind, dtype and device of `rewards`

        Raises
        ------
        ArgumentError
            Also if a row has no observation and ``cold_start="error"``.
        """
        batch = self._read(prompt_ids, rewards, step)
        estimate, width = self._estimate(batch)
        value = np.where(estimate.defined, estimate.value, self._cold_value(batch, estimate.defined))
        advantage = np.where(batch.scored, batch.z - value, 0.0)
        self._last = self._describe(batch, estimate, width)
        self._store(batch)
        return batch.restore(advantage)

    def metrics(self) -> dict[str, float]:
        """Numbers for a logger.

        Returns
        -------
        dict
            Of the last call of `advantages` (NaN before it): ``n_eff``, the mean effective sample size of the values;
            ``cold_fraction``, the share of rows without any observation; ``bandwidth_steps``, the mean half-width of the
            windows in steps; ``revisit_gap``, the mean number of steps since a known prompt's last visit;
            ``unscored_rows``, the rows with a NaN reward.  Of the history: ``history_visits`` and ``history_prompts``,
            its size; ``dropped_visits``, the visits lost to `max_visits` or `max_total` so far.
        """
        names = ("n_eff", "cold_fraction", "bandwidth_steps", "revisit_gap", "unscored_rows")
        held = self._history.counters
        return {name: self._last.get(name, math.nan) for name in names} | {
            "history_visits": float(held.visits),
            "history_prompts": float(held.prompts),
            "dropped_visits": float(held.dropped),
        }

    def state_dict(self) -> dict[str, AnyArray]:
        """All state as plain arrays, with the configuration beside it."""
        config = np.frombuffer(json.dumps(self._config(), sort_keys=True).encode(), np.uint8).copy()
        return {"config": config, "seen": self._seen.copy(), **self._history.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Replace the state; on an error it stays as it was.

        Parameters
        ----------
        state : mapping of arrays
            As made by `state_dict`.
        strict : bool
            Refuse a state saved under another bandwidth, kernel or `allow_late`: visits that could not matter under
            those may have been forgotten.

        Raises
        ------
        CheckpointError
            If the state is foreign, damaged, from a newer version or, with `strict`, of another configuration.
        """
        if not isinstance(state, Mapping):
            raise CheckpointError(f"a state is a mapping of names to arrays, got {type(state).__name__}")
        arrays = {name: np.asarray(array) for name, array in state.items()}
        if "config" not in arrays or "seen" not in arrays or arrays["seen"].shape != (2,):
            raise CheckpointError(f"not a state of KernelValueEstimator: it holds only {sorted(arrays)[:8]}")
        saved = arrays.pop("config").astype(np.uint8).tobytes().decode(errors="replace")
        ours = json.dumps(self._config(), sort_keys=True)
        if strict and saved != ours:
            raise CheckpointError(
                f"the state was saved under {saved}, this estimator is {ours}; pass strict=False to load it"
            )
        seen = arrays.pop("seen")
        if seen.dtype.kind not in "iuf" or not np.isfinite(seen).all() or seen[0] < 0:
            raise CheckpointError(f"the totals of the state are {seen}: it is damaged")
        seen = seen.astype(np.float64)
        self._history.load_state_dict(arrays)
        self._seen, self._last, self._next_sweep = seen, {}, FIRST_SWEEP

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a safetensors file; a crash in the middle leaves the old file whole."""
        save_arrays(path, self.state_dict())

    def load(self, path: str | os.PathLike[str], *, strict: bool = True) -> None:
        """Replace the state by the one in `path`; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            As `load_state_dict`, and if the file is truncated or foreign.
        FileNotFoundError
            If there is no such file.
        """
        self.load_state_dict(load_arrays(path), strict=strict)

    def __getstate__(self) -> dict[str, Any]:
        """State for pickle and copy: the backend by its name, because modules cannot be pickled."""
        return {**self.__dict__, "backend": self.backend.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, backend=moments.select(state["backend"]))

    def _config(self) -> dict[str, Any]:
        return {
            "bandwidth": [type(self.bandwidth).__name__, asdict(self.bandwidth)],  # type: ignore[call-overload]
            "kernel": repr(self.kernel),
            "allow_late": self.allow_late,
        }

    def _read(self, prompt_ids: Any, rewards: Any, step: Any) -> Batch:
        """Check a batch, also against the history."""
        batch = read_batch(prompt_ids, rewards, step)
        check_id_type(self._history.id_type, type(batch.ids[0]))
        self._check_clock(int(batch.groups.step.min()))
        return batch

    def _check_clock(self, earliest: int) -> None:
        newest, late = self._history.newest, self.allow_late
        if late is True or earliest >= newest - int(late):
            return
        hint = f"allow_late={late} allows {late} steps" if late else "pass allow_late=True for asynchronous rollouts"
        raise ArgumentError(f"step {earliest} lies before step {newest}, the newest seen; {hint}")

    def _estimate(self, batch: Batch) -> tuple[Estimate, FloatArray]:
        """Estimate of every row, and the half-width of every group's window."""
        at = batch.groups.step
        with self._history.borrowed(self._history.find(batch.ids)[batch.groups.prompt]) as sample:
            windows = Windows.of([self.bandwidth], self.kernel, sample, at)
            past = self.backend.backend.ragged_moments(sample, windows, self.kernel)
        rows = moments.Moments(*(np.asarray(part)[batch.group, 0] for part in past))
        return self._smooth(rows.add_at_query(*batch.others)), windows.width[:, 0]

    def _cold_value(self, batch: Batch, defined: BoolArray) -> FloatArray | float:
        """What stands in for the value of rows without any observation."""
        if isinstance(self.cold_start, float) or defined.all():
            return self.cold_start if isinstance(self.cold_start, float) else 0.0
        if self.cold_start == "error":
            raise ArgumentError(
                f"{int((~defined).sum())} of {len(batch.z)} rows have no past visit in the window and no other trace; "
                "nothing was stored; use cold_start='batch_mean' or a constant"
            )
        before = self._seen[1] / self._seen[0] if self._seen[0] else 0.0
        return batch.mean_of_other_prompts(before)

    def _store(self, batch: Batch) -> None:
        ids, groups = batch.observed()
        self._history.append(ids, groups)
        self._history.newest = max(self._history.newest, int(batch.groups.step.max()))
        self._seen += groups.n.sum(), groups.s.sum()
        if self._history.counters.visits >= self._next_sweep and self.allow_late is not True:
            keep = self.bandwidth.retention(self._history.newest, self.kernel, int(self.allow_late))
            self._history.evict(keep)
            self._next_sweep = max(2 * self._history.counters.visits, FIRST_SWEEP)

    def _describe(self, batch: Batch, estimate: Estimate, width: FloatArray) -> dict[str, float]:
        last = self._history.newest_step(self._history.find(batch.ids))[batch.groups.prompt]
        known = last > 0
        gap = np.maximum(batch.groups.step - last, 0)[known]
        defined = estimate.defined
        return {
            "n_eff": float(estimate.n_eff[defined].mean()) if defined.any() else math.nan,
            "cold_fraction": float(1.0 - defined.mean()),
            "bandwidth_steps": float(width.mean()),
            "revisit_gap": float(gap.mean()) if known.any() else math.nan,
            "unscored_rows": float((~batch.scored).sum()),
        }


def _check_cold_start(cold_start: str | float) -> str | float:
    if cold_start in ("batch_mean", "error"):
        return cold_start
    if isinstance(cold_start, (int, float)) and not isinstance(cold_start, bool) and math.isfinite(cold_start):
        return float(cold_start)
    raise ArgumentError(f"cold_start must be 'batch_mean', 'error' or a finite number, got {cold_start!r}")
