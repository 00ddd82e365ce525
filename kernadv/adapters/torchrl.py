"""torchrl: `MCAdvantage`, the transform of a replay buffer's writes, with the advantages of kernadv."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from kernadv._errors import ArgumentError
from kernadv.adapters._driver import Driver, check_version, driver_with
from kernadv.typing import Estimator

#: Versions of torchrl that are tested: from the first, below the last.
TESTED = (0, 14), (0, 15)

try:
    from torchrl.objectives.llm import MCAdvantage
except ImportError:
    check_version("torchrl", *TESTED)  # it is not installed, or older; say so
    raise

__all__ = ["KernelAdvantage"]


def __dir__() -> list[str]:
    return __all__


class KernelAdvantage(MCAdvantage):
    """`MCAdvantage` whose baseline is the kernel-smoothed value; groups of one trajectory are allowed.

    A group is handed to the estimator when its last trajectory is written, one call a group.

    Parameters
    ----------
    grpo_size : int
        Trajectories a group.
    prompt_key, rewards_key, advantage_key, done_key
        As in `MCAdvantage`.  The value of the prompt key, text or tensor, is the prompt's id.
    step : callable, optional
        Returns the version of the policy that wrote the trajectories, from 1: a function that reads a counter of yours.
    version_key : optional
        Key of the policy's version, a whole number from 0, as torchrl's ``PolicyVersion`` writes it, in place of `step`:
        each trajectory has the version of its first step.
    estimator : Estimator or Driver, optional
        Default: the pooled `KernelValueEstimator` with ``pessimism=2``, weighted if there is a `log_probs_key`, and with
        ``allow_late=True`` if there is a `version_key`.  With a `ComponentValueEstimator` the last axis of the rewards tells
        components, and the advantage is the sum of theirs.
    trajectory_return : {"sum", "max", "mean"}
        A trajectory's reward from those of its steps.
    log_probs_key : optional
        Key of the log-probabilities of the trajectory's tokens, 0 where padded; traces are weighed by them.
    weights : {"surprisal", "none"} or callable
    loss : {"sum", "trace"}
        See `Driver`: whether your loss divides each trajectory by its own number of tokens.

    Raises
    ------
    ArgumentError
        If grpo_size is not a whole number >= 1, or not one of `step` and `version_key` is given.

    Notes
    -----
    A trajectory is written whole, and so counts once, however many steps it has.

    One process writes: the history is not shared between processes by ``share_memory_``.
    """

    def __init__(
        self,
        grpo_size: int,
        prompt_key: Any = "query",
        rewards_key: Any = ("next", "reward"),
        advantage_key: Any = "advantage",
        done_key: Any = ("next", "done"),
        *,
        step: Callable[[], int] | None = None,
        version_key: Any = None,
        estimator: Estimator | Driver | None = None,
        trajectory_return: str = "sum",
        log_probs_key: Any = None,
        weights: Any = "surprisal",
        loss: str = "sum",
    ) -> None:
        if isinstance(grpo_size, bool) or grpo_size != int(grpo_size) or grpo_size < 1:
            raise ArgumentError(f"grpo_size must be a whole number >= 1, got {grpo_size!r}")
        if (step is None) == (version_key is None):
            raise ArgumentError("pass step, a function that returns the policy's version, or version_key, where it is")
        keys = (prompt_key, rewards_key, advantage_key, done_key)
        super().__init__(max(grpo_size, 2), *keys, trajectory_return=trajectory_return)
        self.grpo_size = self.candidate_group_size = self.candidate_selection_min_size = grpo_size
        check_version("torchrl", *TESTED)
        if estimator is None and version_key is not None:
            estimator = Driver(None, weights, loss, allow_late=True)
        self.kernadv = driver_with(estimator, weights, loss)
        self.step, self.version_key, self.log_probs_key = step, version_key, log_probs_key

    def share_memory_(self) -> Any:
        """Refuse: the history would be split over the writers."""
        raise ArgumentError(
            "the history cannot be shared between writers: write from one process, or through one actor"
        )

    def _trajectory_advantage(self, trajectories: Any) -> Any:
        rewards = [each.get(self.rewards_key) for each in trajectories]
        group = trajectories[0][0][self.prompt_key]
        name = group if isinstance(group, str) else str(group.reshape(-1).tolist())
        key = self.log_probs_key
        given = None if key is None else lambda: _surprisal([each.get(key) for each in trajectories])
        ids, returns, steps = [name] * len(trajectories), self._returns(rewards), self._steps(trajectories)
        advantages = self.kernadv.rows(ids, returns, steps, surprisal=given)
        for each, reward, advantage in zip(trajectories, rewards, advantages, strict=True):
            like = reward[..., :1] if self.kernadv.components else reward
            each.set(self.advantage_key, torch.full_like(like, float(advantage.sum())))
        self.selected_trajectories += len(trajectories)
        return self._cat_tensordicts(trajectories, -1)

    def _returns(self, rewards: Any) -> Any:
        """Of the trajectories (n,); by component (n, C) if the estimator tells the rewards' last axis apart."""
        if not self.kernadv.components:
            return self._trajectory_returns(rewards).float()
        columns = [[reward[..., k] for reward in rewards] for k in range(rewards[0].shape[-1])]
        return torch.stack([self._trajectory_returns(column) for column in columns], -1).float()

    def _steps(self, trajectories: Any) -> Any:
        """The step of all trajectories, or one for each."""
        if self.step is not None:
            return self.step()
        versions = [each.get(self.version_key)[0] for each in trajectories]
        if not all(torch.is_tensor(version) and not version.is_floating_point() for version in versions):
            raise ArgumentError(
                f"{self.version_key!r} must hold whole numbers, got {versions[0]!r:.80}: use PolicyVersion(version_type=int)"
            )
        return [1 + int(version.reshape(-1)[0]) for version in versions]

    def get_extra_state(self) -> Any:
        """State of the estimator, as a tensor of bytes in the module's ``state_dict``."""
        file = io.BytesIO()
        np.savez(file, **self.kernadv.state_dict())
        return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Replace the estimator's state; called by ``load_state_dict``."""
        with np.load(io.BytesIO(state.cpu().numpy().tobytes()), allow_pickle=False) as arrays:
            self.kernadv.load_state_dict(dict(arrays))


def _surprisal(log_probs: list[Any]) -> tuple[list[float], list[float]]:
    """Minus the log-probability of each trajectory, and its number of tokens: those whose log-probability is not 0."""
    return [-min(float(p.sum()), 0.0) for p in log_probs], [float((p != 0).sum()) for p in log_probs]
