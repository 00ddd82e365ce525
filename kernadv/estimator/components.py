"""Several reward components with one value each."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from kernadv._arrays import is_tensor
from kernadv._at_once import Call, at_once
from kernadv._checkpoint import load_arrays, save_arrays
from kernadv._errors import ArgumentError, ArgumentTypeError, CheckpointError, check_count, import_extra
from kernadv._states import as_arrays
from kernadv.estimator.course import Course
from kernadv.estimator.estimator import KernelValueEstimator
from kernadv.estimator.explanation import Explanation
from kernadv.estimator.prediction import Prediction
from kernadv.smoothers import Estimate
from kernadv.typing import AnyArray, ArrayRewards, FloatArray, Floats, PromptIds, Rewards, Step, Weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ComponentValueEstimator:
    """A `KernelValueEstimator` for each component of the reward, e.g. one a reward function.

    Rewards are a (B, C) matrix, or a mapping from the names of the components to their (B,) columns.

    Parameters
    ----------
    components : int or sequence of str
        Number C of components, which then are named "0", "1", ...; or their names.
    **options
        Arguments of `KernelValueEstimator`, the same for all components.

    Attributes
    ----------
    names : tuple of str
    components : int
        Their number C.
    columns : list of KernelValueEstimator
        One a component.
    weighted : bool

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If components is neither a whole number >= 1 nor different names without "/", or as `KernelValueEstimator`.

    Examples
    --------
    >>> est = ComponentValueEstimator(["correct", "format"])
    >>> est.advantages(["a", "a"], {"correct": [1.0, 0.0], "format": [1.0, 1.0]}, step=1)
    array([[ 1.,  0.],
           [-1.,  0.]])
    >>> est.predict(["a"])["format"].value
    array([1.])
    >>> est.observe(["a", "b"], {"correct": [1.0, 0.0], "format": [1.0, 1.0]}, step=2)
    >>> now = [[1.0, 1.0], [0.0, 1.0]]  # or a row a trace, a column a component
    >>> est.values(["a", "b"], now, step=3).value.shape, est.baselines(["a", "b"], now, step=3).shape
    ((2, 2), (2, 2))
    >>> low, high = est.intervals(["a", "b"], now, step=3)
    >>> bool((low < high).all())
    True
    >>> est.explain("a")["correct"]["steps"], est.course("a")["format"].step
    (array([1, 2]), array([1, 2, 3]))
    >>> [ax.get_ylabel() for ax in est.plot("a")]
    ['correct', 'format']
    >>> sorted(est.metrics())[:2]
    ['correct/advantage_mean', 'correct/batch_mean_mse']
    >>> other = ComponentValueEstimator(["correct", "format"])
    >>> other.load_state_dict(est.state_dict())
    >>> len(other)
    2
    """

    def __init__(self, components: int | Sequence[str], **options: Any) -> None:
        self.names = _names(components)
        self.columns = [KernelValueEstimator(**options) for _ in self.names]
        self.components = len(self.columns)
        self.weighted = self.columns[0].weighted

    def __repr__(self) -> str:
        options = repr(self.columns[0]).partition("(")[2]
        return f"ComponentValueEstimator({list(self.names)}{', ' * (options != ')')}{options}"

    def __len__(self) -> int:
        """Number of prompts in the history."""
        return max(map(len, self.columns))

    def __bool__(self) -> bool:
        """True, also before anything was observed."""
        return True

    @overload
    def values(
        self,
        prompt_ids: PromptIds,
        rewards: ArrayRewards | Mapping[str, ArrayRewards],
        step: Step,
        *,
        trace: PromptIds | None = None,
    ) -> Estimate[FloatArray]: ...

    @overload
    def values(
        self,
        prompt_ids: PromptIds,
        rewards: Floats | Mapping[str, Floats],
        step: Step,
        *,
        trace: PromptIds | None = None,
    ) -> Estimate[Floats]: ...

    def values(self, prompt_ids: Any, rewards: Any, step: Any, *, trace: PromptIds | None = None) -> Any:
        """Value of each row's prompt by component; arguments as in `KernelValueEstimator.values`, rewards (B, C).

        Returns
        -------
        Estimate of (B, C) arrays
        """
        parts = [
            est.values(prompt_ids, column, step, trace=trace)
            for est, column in zip(self.columns, self._split(rewards), strict=True)
        ]
        return Estimate(*(_stack([getattr(part, name) for part in parts]) for name in Estimate._fields))

    @overload
    def baselines(
        self,
        prompt_ids: PromptIds,
        rewards: ArrayRewards | Mapping[str, ArrayRewards],
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> FloatArray: ...

    @overload
    def baselines(
        self,
        prompt_ids: PromptIds,
        rewards: Floats | Mapping[str, Floats],
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> Floats: ...

    def baselines(
        self,
        prompt_ids: Any,
        rewards: Any,
        step: Any,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> Any:
        """What `advantages` subtracts from the rewards, see `KernelValueEstimator.baselines`.  Only reads.  # (B, C)"""
        parts = zip(self.columns, self._split(rewards), strict=True)
        return _stack([est.baselines(prompt_ids, z, step, weights=weights, trace=trace) for est, z in parts])

    @overload
    def intervals(
        self,
        prompt_ids: PromptIds,
        rewards: ArrayRewards | Mapping[str, ArrayRewards],
        step: Step,
        *,
        level: float = 0.95,
        trace: PromptIds | None = None,
    ) -> tuple[FloatArray, FloatArray]: ...

    @overload
    def intervals(
        self,
        prompt_ids: PromptIds,
        rewards: Floats | Mapping[str, Floats],
        step: Step,
        *,
        level: float = 0.95,
        trace: PromptIds | None = None,
    ) -> tuple[Floats, Floats]: ...

    def intervals(
        self, prompt_ids: Any, rewards: Any, step: Any, *, level: float = 0.95, trace: PromptIds | None = None
    ) -> Any:
        """Lower and upper bounds of the values, see `KernelValueEstimator.intervals`.  Only reads.  # (B, C) each"""
        parts = zip(self.columns, self._split(rewards), strict=True)
        bounds = [est.intervals(prompt_ids, z, step, level=level, trace=trace) for est, z in parts]
        return _stack([low for low, _ in bounds]), _stack([high for _, high in bounds])

    def predict(self, prompt_ids: PromptIds, step: Step | None = None, *, level: float = 0.95) -> dict[str, Prediction]:
        """What is known of prompts before any trace of `step`: the name of each component -> `Prediction`.  Only reads.

        Parameters and errors as in `KernelValueEstimator.predict`; the default of `step` is one after the newest.
        """
        return {name: est.predict(prompt_ids, step, level=level) for name, est in self._named()}

    def explain(self, prompt_id: str | int, step: int | None = None) -> dict[str, Explanation]:
        """How a prompt's values are computed, by component; see `KernelValueEstimator.explain`."""
        return {name: est.explain(prompt_id, step) for name, est in self._named()}

    def course(self, prompt_id: str | int, *, level: float = 0.95) -> dict[str, Course]:
        """What was known of a prompt before each step, by component; see `KernelValueEstimator.course`."""
        return {name: est.course(prompt_id, level=level) for name, est in self._named()}

    def plot(self, prompt_id: str | int, axes: Sequence[Axes] | None = None, *, level: float = 0.95) -> list[Axes]:
        """Draw the `course` of each component, one below the other.

        Parameters
        ----------
        prompt_id : str or int
        axes : sequence of C matplotlib Axes, optional
            Default: of a new figure.
        level : float

        Returns
        -------
        list of C matplotlib Axes

        Raises
        ------
        ArgumentError
            If the prompt is not in the history, or there are not C axes.
        """
        told = self.course(prompt_id, level=level)
        if axes is None:
            pyplot = import_extra("matplotlib.pyplot", "a plot", "audit")
            size = (7, 2.4 * self.components)
            axes = pyplot.subplots(self.components, sharex=True, squeeze=False, figsize=size, layout="constrained")[1][
                :, 0
            ]
        if len(axes) != self.components:
            raise ArgumentError(f"expected {self.components} axes, one a component, got {len(axes)}")
        for ax, (name, course) in zip(axes, told.items(), strict=True):
            course.plot(ax).set_ylabel(name)
        return list(axes)

    def observe_offline(
        self, prompt_ids: PromptIds, pass_rates: Rewards | Mapping[str, Rewards], rollouts: int, *, age: int = 10
    ) -> None:
        """Add rollouts that were scored before training, see `KernelValueEstimator.observe_offline`; pass_rates (P, C).

        Examples
        --------
        >>> from kernadv.clock import Steps
        >>> est = ComponentValueEstimator(["correct", "format"], bandwidth=Steps(20))
        >>> est.observe_offline(["a", "b"], {"correct": [0.1, 0.5], "format": [0.9, 1.0]}, rollouts=8)
        >>> est.predict(["a"], step=1)["format"].value
        array([0.9])
        """
        fresh = [copy.copy(est) for est in self.columns]
        for est, column in zip(fresh, self._split(pass_rates), strict=True):
            est._state = copy.deepcopy(est._on_host())
            est.observe_offline(prompt_ids, column, rollouts, age=age)
        self.columns = fresh

    def observe(
        self,
        prompt_ids: PromptIds,
        rewards: Rewards | Mapping[str, Rewards],
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> None:
        """Learn from a batch; rewards (B, C)."""
        parts = [
            est._observing(prompt_ids, column, step, weights, trace)
            for est, column in zip(self.columns, self._split(rewards), strict=True)
        ]
        at_once(*_together(parts))

    @overload
    def advantages(
        self,
        prompt_ids: PromptIds,
        rewards: ArrayRewards | Mapping[str, ArrayRewards],
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> FloatArray: ...

    @overload
    def advantages(
        self,
        prompt_ids: PromptIds,
        rewards: Floats | Mapping[str, Floats],
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> Floats: ...

    def advantages(
        self,
        prompt_ids: Any,
        rewards: Any,
        step: Any,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
    ) -> Any:
        """``rewards - baselines``, then `observe`.  rewards: (B, C) -> (B, C)"""
        parts = [
            est._advantages(prompt_ids, column, step, weights, trace)
            for est, column in zip(self.columns, self._split(rewards), strict=True)
        ]
        out = _stack([advantages for advantages, _ in parts])
        at_once(*_together([learning for _, learning in parts]))
        return out

    def metrics(self) -> dict[str, float]:
        """Metrics of each component, as ``component/name``; see `KernelValueEstimator.metrics`."""
        return {f"{own}/{name}": x for own, est in self._named() for name, x in est.metrics().items()}

    def state_dict(self) -> dict[str, AnyArray]:
        """All state, as ``component/name``."""
        return {f"{own}/{name}": x for own, est in self._named() for name, x in est.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Replace the state; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            As `KernelValueEstimator.load_state_dict`, and if it holds other components.
        """
        parts: dict[str, dict[str, AnyArray]] = {}
        for name, x in as_arrays(state).items():
            own, _, inner = name.partition("/")
            parts.setdefault(own, {})[inner] = x
        if parts.keys() != set(self.names):
            raise CheckpointError(f"the state holds {_listed(parts)}, this estimator has {_listed(self.names)}")
        loading = [est._loading(parts[name], strict) for name, est in self._named()]
        at_once(*_together(loading))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a safetensors file, or a URL, as `KernelValueEstimator.save`.

        Examples
        --------
        >>> import tempfile
        >>> est, other = (ComponentValueEstimator(["correct", "format"]) for _ in range(2))
        >>> est.observe(["a"], {"correct": [1.0], "format": [0.0]}, step=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     est.save(f"{folder}/values.safetensors")
        ...     other.load(f"{folder}/values.safetensors")
        >>> len(other)
        1
        """
        save_arrays(path, self.state_dict())

    def load(self, path: str | os.PathLike[str], *, strict: bool = True) -> None:
        """Replace the state with the one in `path`; errors as in `load_state_dict` and `KernelValueEstimator.load`.

        Examples
        --------
        >>> import tempfile
        >>> est, other = ComponentValueEstimator(["correct", "format"]), ComponentValueEstimator(["correct"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     est.save(f"{folder}/values.safetensors")
        ...     try:
        ...         other.load(f"{folder}/values.safetensors")
        ...     except CheckpointError as error:
        ...         print(error)
        the state holds 2 components (correct, format), this estimator has 1 component (correct)
        """
        self.load_state_dict(load_arrays(path), strict=strict)

    def _named(self) -> Iterator[tuple[str, KernelValueEstimator]]:
        return zip(self.names, self.columns, strict=True)

    def _split(self, rewards: Any) -> list[Any]:
        if isinstance(rewards, Mapping):
            if rewards.keys() != set(self.names):
                raise ArgumentError(f"rewards must have the names {list(self.names)}, got {list(map(str, rewards))}")
            return [rewards[name] for name in self.names]
        try:
            matrix = rewards if is_tensor(rewards) else np.asarray(rewards)
        except ValueError:
            raise ArgumentError(
                "rewards must be a matrix: its rows differ in length; NaN stands for no reward"
            ) from None
        if matrix.ndim != 2 or matrix.shape[1] != len(self.columns):
            raise ArgumentError(
                f"rewards must have {len(self.columns)} columns, one a component, or be a mapping from the names "
                f"{list(self.names)}, got shape {tuple(matrix.shape)}"
            )
        return [matrix[:, k] for k in range(len(self.columns))]


def _names(components: int | Sequence[str]) -> tuple[str, ...]:
    """Names of the components, or their numbers."""
    if isinstance(components, str) or not isinstance(components, Sequence):
        return tuple(map(str, range(check_count(components, "components"))))  # type: ignore[arg-type]
    names = tuple(components)
    if not names or not all(isinstance(name, str) and name and "/" not in name for name in names):
        raise ArgumentTypeError(f"components must be a number, or names without '/', got {components!r:.80}")
    if len(set(names)) < len(names):
        raise ArgumentError(f"components must have different names, got {list(names)}")
    return names


def _listed(names: Iterable[str]) -> str:
    """How many components, and which."""
    names = sorted(names)
    return f"{len(names)} component{'s' * (len(names) != 1)} ({', '.join(names)})"


def _together(parts: list[list[Call]]) -> list[Call]:
    """The calls of all columns, the first ones of each, which can fail, before the others."""
    return [call for call in chain.from_iterable(zip_longest(*parts)) if call is not None]


def _stack(columns: list[Any]) -> Any:
    if is_tensor(columns[0]):
        out = columns[0].new_empty((len(columns[0]), len(columns)))
        for k, column in enumerate(columns):
            out[:, k] = column
        return out
    return np.stack(columns, axis=1)
