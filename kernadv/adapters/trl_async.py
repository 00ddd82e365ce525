"""TRL: `AsyncGRPOTrainer` whose advantages come from kernadv, with TRL's own `rollout_worker` or any other."""

from __future__ import annotations

import json
import os
import queue
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from kernadv._errors import ArgumentError, CheckpointError
from kernadv.adapters._driver import Driver, check_groups, check_version, driver_with
from kernadv.prompts import prompt_id
from kernadv.typing import Estimator

#: Versions of TRL that are tested: from the first, below the last.
TESTED = (1, 16), (1, 17)

try:
    from trl.experimental.async_grpo import async_grpo_trainer
    from trl.experimental.async_grpo.async_grpo_config import AsyncGRPOConfig
    from trl.experimental.async_grpo.async_rollout_worker import AsyncRolloutWorker
except ImportError:
    check_version("trl", *TESTED)  # it is not installed, or older; say so
    raise

__all__ = ["AsyncGRPOTrainer", "TrainerMixin"]


def __dir__() -> list[str]:
    return __all__


#: Name of the file with the policy version in a checkpoint; TRL keeps it for its own worker only.
VERSION_FILE = "kernadv_model_version.json"


class TrainerMixin:
    """Put it before a subclass of TRL's `AsyncGRPOTrainer`, with its arguments and these.

    The samples of the rollout queue get their advantages in the process of the trainer, a group at a time: the rows
    into which TRL forks one rollout count once, and the step is the version of the policy that the group was sampled
    from, plus one.  What is older than TRL's ``max_staleness`` is dropped by TRL, and not remembered.

    Parameters
    ----------
    estimator : Estimator or Driver, optional
        Default: the pooled `KernelValueEstimator`, weighted, with ``allow_late=max_staleness``.
    weights : {"surprisal", "none"} or callable
        What weighs the rollouts, see `Driver`.
    id_column : str
        Column of the data set that holds the prompts' ids; without it they are hashes of the prompts.
    sample_id : callable, optional
        Takes a sample of the queue and returns the id of its prompt; for a worker with prompts of its own.
    resume_cold : bool
        Go on without a past if a checkpoint holds none; otherwise that is an error.

    Raises
    ------
    ArgumentError
        If an estimator of your own takes no rewards as late as TRL does; if an environment writes the prompts, and
        nothing says their ids; if equal prompts of the data set have different ids.
    """

    def __init__(
        self,
        *args: Any,
        estimator: Estimator | Driver | None = None,
        weights: Any = "surprisal",
        id_column: str = "prompt_id",
        sample_id: Callable[[Any], Any] | None = None,
        resume_cold: bool = False,
        **rest: Any,
    ) -> None:
        check_version("trl", *TESTED)
        config = rest.get("args", args[2] if len(args) > 2 else None)
        late = getattr(config, "max_staleness", AsyncGRPOConfig.max_staleness)
        _check_late(estimator, late)
        driver = Driver(None, weights, allow_late=late) if estimator is None else estimator
        self.kernadv = driver_with(driver, weights, resume_cold=resume_cold)  # "sum": the loss divides by all tokens
        self.id_column = id_column
        super().__init__(*args, **rest)
        _put_between(self, sample_id, rest.get("environment_factory"))

    def _kernadv_advantages(self: Any, rollouts: list[list[Any]]) -> Iterator[float]:
        """An advantage for each row of the rollouts of one group, which are remembered."""
        traces, rows = zip(*((str(k), row) for k, rollout in enumerate(rollouts) for row in rollout), strict=True)
        ids = [str(self._kernadv_ids(row)) for row in rows]
        check_groups(ids, len(ids), column=self.id_column)
        steps = [rollouts[int(k)][0].model_version + 1 for k in traces]
        rewards = [_reward(row, self.kernadv.components) for row in rows]
        out = self.kernadv.rows(ids, rewards, steps, surprisal=lambda: _surprisal(rows), trace=traces)
        for name, number in self.kernadv.metrics().items():
            self._metrics["train"][name].append(number)
        return (float(row) for row in (out.sum(1) if self.kernadv.components else out))

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        if self.accelerator.is_main_process:  # first, so that no checkpoint is whole without it
            folder = os.path.join(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}")
            os.makedirs(folder, exist_ok=True)
            self.kernadv.save(folder)
            with open(os.path.join(folder, VERSION_FILE), "w") as file:
                json.dump(self.model_version, file)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self: Any, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.accelerator.is_main_process:
            self.kernadv.load(checkpoint)
            _go_on_counting(self, os.path.join(checkpoint, VERSION_FILE))


class AsyncGRPOTrainer(TrainerMixin, async_grpo_trainer.AsyncGRPOTrainer):
    """TRL's `AsyncGRPOTrainer` with the advantages of kernadv; further parameters as in `TrainerMixin`."""


class _Groups:
    """The rollout queue of a trainer, whose samples leave it as soon as their group is there and has its advantages.

    A group ends where the next one begins, or with its last rollout where nothing follows for as long as TRL waits.
    """

    def __init__(self, trainer: Any, samples: Any) -> None:
        self._trainer, self._samples = trainer, samples
        self._rollouts: list[list[Any]] = []  # the rows of each rollout of the group that is coming in
        self._ready: deque[Any] = deque()
        self._seen: set[Any] = set()

    def qsize(self) -> int:
        """Samples that were not taken yet."""
        return int(self._samples.qsize()) + len(self._ready) + sum(map(len, self._rollouts))

    def get(self, timeout: float | None = None) -> Any:
        """The next sample.

        Raises
        ------
        queue.Empty
            As that of the worker's queue.
        ArgumentError
            If a group comes in pieces, or its samples say different prompts.
        """
        while not self._ready:
            try:
                self._add(self._samples.get(timeout=timeout))
            except queue.Empty:
                if not self._rollouts or len(self._rollouts) < self._trainer.args.num_generations:
                    raise
                self._close()
        return self._ready.popleft()

    def _add(self, sample: Any) -> None:
        if self._rollouts and sample.group_id != self._rollouts[0][0].group_id:
            self._close()
        if sample.group_id in self._seen:
            raise ArgumentError(f"group {sample.group_id} came in pieces: a worker must put its rows one after another")
        if self._rollouts and _same_rollout(self._rollouts[-1][0], sample):
            self._rollouts[-1].append(sample)
        else:
            self._rollouts.append([sample])

    def _close(self) -> None:
        """Give the rows of the group their advantages, except those that TRL drops."""
        rollouts, self._rollouts = self._rollouts, []
        self._seen.add(rollouts[0][0].group_id)
        oldest = self._trainer.model_version - self._trainer.args.max_staleness
        if fresh := [rollout for rollout in rollouts if rollout[0].model_version >= oldest]:
            rows = [row for rollout in fresh for row in rollout]
            for row, advantage in zip(rows, self._trainer._kernadv_advantages(fresh), strict=True):
                row.advantage = advantage
        self._ready.extend(row for rollout in rollouts for row in rollout)


def _put_between(trainer: Any, sample_id: Callable[[Any], Any] | None, environments: Any) -> None:
    """Let the samples pass through `_Groups` on their way from the worker; only the main process has a queue."""
    if trainer.rollout_queue is not None:
        trainer._kernadv_ids = sample_id or _ids_of(trainer, trainer.id_column, environments)
        trainer.rollout_queue = _Groups(trainer, trainer.rollout_queue)


def _same_rollout(first: Any, sample: Any) -> bool:
    """Whether a sample is another row of the rollout that `first` begins.

    Samples say it, as ``rollout_id``, or else it is seen: rows of a rollout share prompt and completion, and a later one
    has more before its first sampled token, whereas another rollout that said the same begins as the first did.
    """
    if getattr(sample, "rollout_id", None) is not None:
        return bool(sample.rollout_id == first.rollout_id)
    equal = bool(sample.prompt == first.prompt and sample.completion == first.completion)
    return equal and _context(sample) != _context(first)


def _context(sample: Any) -> list[int]:
    """The tokens before the first sampled one."""
    return list(sample.input_ids[: sample.completion_mask.argmax()])


def _reward(sample: Any, components: int) -> Any:
    """The sum of the reward functions, NaN where none scored; or each of them."""
    if "reward" not in sample.metrics:
        raise ArgumentError(f"a sample needs metrics['reward'], the worker's has {sorted(sample.metrics)}")
    if components:
        return [x for name, x in sample.metrics.items() if name.startswith("rewards/")]
    return sample.metrics["reward"]


def _surprisal(rows: Any) -> tuple[list[float], list[float]]:
    """Minus the log-probability of each row, and its number of sampled tokens."""
    sums = [-float((row.old_log_probs * row.completion_mask).sum()) for row in rows]
    return sums, [float(row.completion_mask.sum()) for row in rows]


def _check_late(estimator: Any, staleness: int) -> None:
    """Refuse an estimator that would refuse what TRL still trains on."""
    own = estimator.estimator if isinstance(estimator, Driver) else estimator
    late = getattr(getattr(own, "columns", [own])[0], "allow_late", True)  # of a ComponentValueEstimator, the first
    if late is not True and late < staleness:
        raise ArgumentError(
            f"max_staleness={staleness} lets rewards come {staleness} versions late, but the estimator has "
            f"allow_late={late}: pass allow_late={staleness}"
        )


def _ids_of(trainer: Any, column: str, environments: Any) -> Callable[[Any], Any]:
    """What tells the id of a sample's prompt: the data set's column, or else the prompt."""
    data, worker = trainer.train_dataset, trainer.rollout_worker
    if column not in (data.column_names or ()):
        if environments is not None:
            raise ArgumentError(
                f"the environment writes the prompts, so the data set needs a column {column!r} that tells them apart "
                "(another name: id_column=...)"
            )
        return lambda sample: trainer.kernadv.ids([sample.prompt], None, f"no column {column!r}")[0]
    if not hasattr(data, "__len__"):
        raise ArgumentError(f"a stream's column {column!r} cannot be looked up: pass sample_id, or drop the column")
    if isinstance(worker, AsyncRolloutWorker):  # it takes a row a group, in order
        start = worker._loop_kwargs
        return lambda sample: data[(start["dataset_start_index"] + sample.group_id) % len(data)][column]
    return _by_prompt(data["prompt"], data[column])


def _by_prompt(prompts: Any, ids: Any) -> Callable[[Any], Any]:
    """What finds the id of a sample in the data set, by the prompt."""
    known: dict[str, Any] = {}
    for row, (prompt, name) in enumerate(zip(prompts, ids, strict=True)):
        if known.setdefault(prompt_id(prompt), name) != name:
            raise ArgumentError(f"row {row} of the data set has the prompt of another row, but the id {name!r:.40}")

    def find(sample: Any) -> Any:
        name = known.get(prompt_id(sample.prompt))
        if name is None:
            raise ArgumentError(
                f"no row of the data set has the prompt {sample.prompt!r:.80} and an id: pass sample_id"
            )
        return name

    return find


def _go_on_counting(trainer: Any, file: str) -> None:
    """Let the versions go on from a checkpoint, as TRL does with its own worker."""
    if isinstance(trainer.rollout_worker, AsyncRolloutWorker):
        return
    if os.path.isfile(file):
        with open(file) as saved:
            trainer.model_version = int(json.load(saved))
        trainer.rollout_worker.update_model_version(trainer.model_version)
    elif not trainer.kernadv.resume_cold:
        raise CheckpointError(
            f"{file} is not there: the versions of the policy would begin anew; or pass resume_cold=True"
        )
