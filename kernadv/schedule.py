"""Which prompts are visited at which step: smoothing over steps needs prompts that come back.

A schedule is a plain (S, B) array of row numbers: row s holds the B prompts of the s-th batch of rollouts.  It is made
from a seed, so a resumed run makes the same one and starts at its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError, check_count
from kernadv.typing import IntArray

__all__ = ["RevisitGap", "ScheduledDataset", "block_reuse", "revisit_gap", "rolling_reuse"]


def __dir__() -> list[str]:
    return __all__


def block_reuse(n: int, block: int, reuse: int, seed: int | Sequence[int] | None = 0, *, passes: int = 1) -> IntArray:
    """Keep each block of prompts for some consecutive batches.

    The prompts are shuffled (with a seed) and cut into blocks, and each block is visited `reuse` times in a row.
    ``reuse=1`` is the ordinary epoch: with `passes` > 1 a prompt then returns after about ``n / block`` batches.

    Parameters
    ----------
    n : int
        Number of prompts.
    block : int
        Prompts a batch.
    reuse : int
        Visits of a block in a row; 8 to 10 in the paper.
    seed : int or sequence of int, or None
        None keeps the order of the data, which some order by difficulty, in every pass.
    passes : int
        Passes over the prompts; with a seed each is shuffled anew.

    Returns
    -------
    (passes * (n // block) * reuse, block) int64
        The ``n % block`` prompts that fill no block are left out: with a seed others in each pass, without one always the
        last ones.

    Raises
    ------
    ArgumentError
        If a count is not a whole number >= 1, a seed not one >= 0, or a block does not fit into the prompts.

    References
    ----------
    Kernelized Advantage Estimation, arXiv 2604.28005, section 5 (J consecutive steps on a prompt).

    Examples
    --------
    >>> block_reuse(4, 2, 2, seed=0)
    array([[2, 0],
           [2, 0],
           [1, 3],
           [1, 3]])
    """
    n, block, reuse, passes = _counts(n=n, block=block, reuse=reuse, passes=passes)
    _check_fits(n, block)
    return np.concatenate([np.repeat(_cut(n, block, seed, k), reuse, axis=0) for k in range(passes)])


def rolling_reuse(n: int, block: int, reuse: int, seed: int | Sequence[int] | None = 0, *, passes: int = 1) -> IntArray:
    """Keep each prompt for `reuse` consecutive batches, and replace ``block / reuse`` of them after each batch.

    Every batch then holds the same share of new prompts, where `block_reuse` has all of them new at once.  Arguments,
    errors as in `block_reuse`; `block` must be a multiple of `reuse`.

    Returns
    -------
    (S, block) int64
        ``S = passes * (n // m) - reuse + 1`` with ``m = block / reuse``; the first batch is all new.  The m prompts
        that enter together leave together.  A batch holds no prompt twice, also where two passes meet, if
        ``n >= 2 * block``: prompts that are still there enter the next pass last.

    Examples
    --------
    >>> rolling_reuse(4, 2, 2, seed=None)  # each prompt twice, one new a batch
    array([[0, 1],
           [1, 2],
           [2, 3]])
    """
    n, block, reuse, passes = _counts(n=n, block=block, reuse=reuse, passes=passes)
    _check_fits(n, block)
    if block % reuse:
        raise ArgumentError(f"block must be a multiple of reuse, got {block} and {reuse}")
    part = block // reuse
    entering = [_cut(n, part, seed, 0)]  # (n // part, part) each
    for k in range(1, passes):
        there, order = entering[-1][len(entering[-1]) - reuse + 1 :], _cut(n, part, seed, k).ravel()
        last = np.isin(order, there)
        entering.append(np.concatenate([order[~last], order[last]]).reshape(-1, part))
    window = np.lib.stride_tricks.sliding_window_view(np.concatenate(entering), reuse, axis=0)  # (S, part, reuse)
    return np.ascontiguousarray(np.swapaxes(window, 1, 2).reshape(len(window), block))


class RevisitGap(NamedTuple):
    """How long prompts stay away; in training steps.

    Attributes
    ----------
    first_visits : float
        Share of the visits that are the prompt's first: they have no past.
    median, mean, longest : float
        Steps since the prompt's last visit, over the other visits; NaN if there are none.
    visits : float
        Mean number of visits a prompt.

    Examples
    --------
    >>> gap = revisit_gap([["a", "b"], ["c", "d"], ["a", "c"]])
    >>> round(gap.first_visits, 2), gap.mean, gap.visits
    (0.67, 1.5, 1.5)
    """

    first_visits: float
    median: float
    mean: float
    longest: float
    visits: float

    def __str__(self) -> str:
        if self.first_visits == 1.0:
            return "no prompt comes back: smoothing over steps has nothing to smooth"
        return (
            f"{self.visits:.3g} visits a prompt; {self.first_visits:.0%} of them are the first, the others come "
            f"{self.mean:.3g} steps after the last (median {self.median:g}, longest {self.longest:g})"
        )


def revisit_gap(schedule: Iterable[Any], *, steps_per_batch: int = 1) -> RevisitGap:
    """Revisit gaps of a schedule, or of any sequence of batches of prompts.

    Parameters
    ----------
    schedule : (S, B) array, or iterable of batches of prompt ids
        A prompt that occurs several times in a batch counts once.
    steps_per_batch : int
        Training steps that a batch of rollouts is used for, e.g. TRL's ``steps_per_generation * num_iterations /
        gradient_accumulation_steps``.

    Raises
    ------
    ArgumentError
        If the schedule is empty.
    ArgumentTypeError
        If it is not batches of prompt ids.

    Examples
    --------
    >>> print(revisit_gap(block_reuse(64, 8, 8)))
    8 visits a prompt; 12% of them are the first, the others come 1 steps after the last (median 1, longest 1)
    """
    steps = check_count(steps_per_batch, "steps_per_batch")
    last: dict[Any, int] = {}
    gaps: list[float] = []
    visits = 0
    for batch, prompts in enumerate(_batches(schedule)):
        for prompt in dict.fromkeys(prompts):
            visits += 1
            if prompt in last:
                gaps.append(steps * (batch - last[prompt]))
            last[prompt] = batch
    if not visits:
        raise ArgumentError("the schedule is empty: pass at least one batch")
    gap = np.array(gaps or [np.nan], np.float64)
    return RevisitGap(
        len(last) / visits, float(np.median(gap)), float(gap.mean()), float(gap.max()), visits / len(last)
    )


class ScheduledDataset:
    """A data set in the order of a schedule, for frameworks without a hook for samplers: switch their shuffling off.

    Parameters
    ----------
    dataset : sequence
        With `len` and integer indices, e.g. of `datasets` or `torch.utils.data`.
    schedule : (S, B) array of int
        Row numbers of the data set, as made by `block_reuse`; the framework's batch size must be B.

    Raises
    ------
    ArgumentError
        If the schedule names rows that the data set does not have.
    ArgumentTypeError
        If the data set has no rows by number, or the schedule is no (S, B) array of whole numbers.

    Examples
    --------
    >>> data = ScheduledDataset(["a", "b", "c", "d"], block_reuse(4, 2, 2, seed=0))
    >>> [data[i] for i in range(len(data))]
    ['c', 'a', 'c', 'a', 'b', 'd', 'b', 'd']
    """

    def __init__(self, dataset: Any, schedule: Any) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or hasattr(dataset, "iloc"):
            raise ArgumentTypeError(
                f"a data set has a length and rows by number, got {type(dataset).__name__}; of a data frame give "
                "to_dict('records')"
            )
        try:
            order = np.asarray(schedule)
        except ValueError:
            raise ArgumentTypeError(
                "a schedule is an (S, B) array of row numbers, got rows of several lengths"
            ) from None
        if order.dtype.kind not in "iu" or order.ndim != 2:
            raise ArgumentTypeError(f"a schedule is an (S, B) array of row numbers, got {order.dtype}{order.shape}")
        if order.size and (order.min() < 0 or order.max() >= len(dataset)):
            raise ArgumentError(
                f"the schedule names rows {order.min()} to {order.max()}, but the data set has {len(dataset)}"
            )
        self.dataset = dataset
        self.order = order.ravel()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.order[index])]


def _batches(schedule: Any) -> Iterator[Sequence[Any]]:
    """The batches of a schedule as lists."""
    flat = isinstance(schedule, (str, bytes, dict)) or hasattr(schedule, "columns") or not hasattr(schedule, "__iter__")
    for batch in () if flat else schedule:
        prompts = batch.tolist() if hasattr(batch, "tolist") else batch
        if isinstance(prompts, (str, bytes)) or not hasattr(prompts, "__iter__"):
            flat = True
            break
        yield prompts
    if flat:
        raise ArgumentTypeError(
            f"a schedule is batches of prompt ids, an (S, B) array or e.g. [['a', 'b'], ['c', 'd']], got {schedule!r:.80}"
        )


def _counts(**values: int) -> list[int]:
    return [check_count(value, name, most=2**31 - 1) for name, value in values.items()]


def _check_fits(n: int, block: int) -> None:
    if block > n:
        raise ArgumentError(f"a block of {block} prompts does not fit into {n}; take a block of at most {n}")


def _cut(n: int, block: int, seed: int | Sequence[int] | None, number: int) -> IntArray:
    """Blocks of one pass.  # (n // block, block)"""
    order = np.arange(n)
    if seed is not None:
        parts: Sequence[Any] = seed if isinstance(seed, (list, tuple)) else [seed]
        order = np.random.default_rng([*(check_count(part, "seed", 0) for part in parts), number]).permutation(n)
    return order[: n - n % block].reshape(-1, block)
