"""Discounted counts of right and wrong answers of every prompt: Beta means that forget by the visit, or by the step."""

from __future__ import annotations

import numpy as np

from kernadv._errors import ArgumentError, check_positive
from kernadv.baselines._base import LinearValues, Offline, centred
from kernadv.baselines._recursive import Recursive, Setting, columns
from kernadv.groups import Groups
from kernadv.typing import FloatArray


def check_discount(value: float, name: str) -> float:
    """Return a discount, or raise if it is not in (0, 1].

    Examples
    --------
    >>> from kernadv import ArgumentError
    >>> from kernadv.baselines.beta import check_discount
    >>> check_discount(0.75, "discount")
    0.75
    >>> try:
    ...     check_discount(1.5, "discount")
    ... except ArgumentError as error:
    ...     print(error)
    discount must lie in (0, 1], got 1.5; 1 never forgets
    """
    if check_positive(value, name, "1 never forgets") > 1.0:
        raise ArgumentError(f"{name} must lie in (0, 1], got {value!r}; 1 never forgets")
    return float(value)


class _Discounted(Recursive):
    """Memory (alpha, beta, step of the last visit or 0); at each visit ``alpha <- k alpha + S, beta <- k beta + G - S``."""

    settings: tuple[str, ...] = ("discount",)

    def __init__(self, discount: float, name: str) -> None:
        self.discount: Setting = check_discount(discount, name)

    def start(self, prompts: int, offline: Offline | None) -> FloatArray:
        """No trace yet."""
        return np.zeros((prompts, 3))

    def kept(self, memory: FloatArray, groups: Groups) -> Setting:
        """The factor k of the earlier counts at a visit: the discount.  # broadcasts to (..., N)"""
        return self.discount

    def discounted(self, memory: FloatArray, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """k alpha and k beta, before the visit is counted."""
        k = self.kept(memory, groups)
        return k * memory[..., 0], k * memory[..., 1]

    def update(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Discount, then count the visit."""
        alpha, beta = self.discounted(memory, groups)
        return columns(alpha + groups.s, beta + groups.n - groups.s, groups.step), shared


class DiscountedBeta(_Discounted):
    """``V = alpha / (alpha + beta)`` after the current visit was counted; alpha = beta = 1 before the first.

    This is the kernel estimate with the exponential kernel lambda^k on the clock of the prompt's visits, and two
    pseudo-traces 1 and 0 at the start.

    Parameters
    ----------
    discount : float
        lambda in (0, 1]; published: 0.75 for an 8B model, 0.5 for 1.7B.
    own : bool
        Keep the own reward, as published; else the visit counts without it.

    Raises
    ------
    ArgumentError
        If the discount is not in (0, 1].

    References
    ----------
    DBB, arXiv 2603.18444, Algorithm 1, equations 11 and 12.

    Examples
    --------
    >>> from kernadv.baselines.beta import DiscountedBeta
    >>> online = DiscountedBeta(own=False).online()
    >>> online.values(["a"], [1.0], step=1).value  # 1 / (1 + 1)
    array([0.5])
    >>> online.observe(["a"], [1.0], step=1)
    >>> online.values(["a"], [0.0], step=2).value.round(2)  # (0.75 + 1) / (0.75 + 1 + 0.75)
    array([0.7])
    """

    def __init__(self, discount: float = 0.75, own: bool = True) -> None:
        super().__init__(discount, "discount")
        self.uses_own_reward = own
        self.name = f"dbb{'' if own else '_loo'}" + (f" lambda={discount:g}" if discount != 0.75 else "")
        self.title = f"discounted Beta, {'own reward' if own else 'leave-one-out'} (DBB), lambda={discount:g}"

    def start(self, prompts: int, offline: Offline | None) -> FloatArray:
        """One pseudo-trace right, one wrong."""
        return np.tile([1.0, 1.0, 0.0], (prompts, 1))

    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """Mean of the discounted counts with the visit's (other) traces."""
        alpha, beta = self.discounted(memory, groups)
        gain = 1.0 / (alpha + beta + groups.n - (not self.uses_own_reward))
        return LinearValues(alpha * gain, gain, gain if self.uses_own_reward else np.zeros(gain.shape))


class PooledBeta(_Discounted):
    """A discounted Beta mean drawn toward the recent mean of all prompts, instead of toward 1/2:

        V^(g) = (n0 m + lambda alpha + S - Z^(g)) / (n0 + lambda (alpha + beta) + G - 1),

    alpha = beta = 0 before the first visit.  The n0 pseudo-traces are not discounted.  m is the mean reward of the step's
    other prompts and of all earlier steps, these at 0.9 a step; 1/2 without any.

    Nobody published it: DBB's recursion, leave-one-out, with the pooling that published baselines lack.

    Parameters
    ----------
    discount : float
        lambda in (0, 1].
    pseudo : float
        n0, positive.

    Raises
    ------
    ArgumentError
        If the discount is not in (0, 1], or pseudo not positive.

    References
    ----------
    DBB, arXiv 2603.18444, for the recursion.

    Examples
    --------
    >>> from kernadv.baselines.beta import PooledBeta
    >>> online = PooledBeta().online()
    >>> online.observe(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], step=1)
    >>> online.values(["b", "c"], [1.0, 1.0], step=2).value.round(2)  # "c" is new: the mean of all others
    array([0.89, 0.8 ])
    """

    shared = (0.0, 0.0)  # count and sum of the rewards of all prompts, discounted by the step
    settings = ("discount", "pseudo")
    #: Weight of a step's rewards in the recent mean, one step later.
    recent = 0.9

    def __init__(self, discount: float = 0.75, pseudo: float = 2.0) -> None:
        super().__init__(discount, "discount")
        self.pseudo: Setting = check_positive(pseudo, "pseudo", "a number of traces, e.g. 2")
        changed = (f" lambda={discount:g}" if discount != 0.75 else "") + (f" n0={pseudo:g}" if pseudo != 2.0 else "")
        self.name = f"pooled_beta{changed}"
        self.title = f"discounted Beta with a pooled prior, lambda={discount:g}, n0={pseudo:g}"

    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """Mean of the pseudo-traces, the discounted counts and the visit's other traces."""
        alpha, beta = self.discounted(memory, groups)
        n = shared[0] + groups.n.sum() - groups.n
        mean = np.where(n > 0, (shared[1] + groups.s.sum() - groups.s) / np.where(n > 0, n, 1.0), 0.5)
        gain = 1.0 / (self.pseudo + alpha + beta + groups.n - 1.0)
        return LinearValues((self.pseudo * mean + alpha) * gain, gain, np.zeros(gain.shape))

    def update(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Count the visit for the prompt, and for all."""
        after, _ = super().update(memory, shared, groups)
        return after, self.recent * shared + np.array([groups.n.sum(), groups.s.sum()])


class OfflineCounts(_Discounted):
    """SPO's tracker alone: ``p = alpha / (alpha + beta)`` before the visit, then ``alpha <- rho alpha + S``, beta alike.

    Starts from n0 offline rollouts with S0 right: alpha = N (S0 + 1/2) / (n0 + 1), beta = N - alpha, N = 1 / (1 - 0.875).

    As published ``rho = 2^(-D / 0.06)``, clipped to [0.875, 0.96], with D the mean change of the log-probabilities of the
    prompt's last answer, which costs a forward pass; at the first visit D = 0, so rho = 0.96.  Without log-probabilities
    the two ends of that range can be shown: 0.875 is the better where values move, 0.96 where they stand still.

    Parameters
    ----------
    rho : float
        From the second visit on, in (0, 1].
    first : float
        At the first visit, or rho if that is larger.

    Raises
    ------
    ArgumentError
        If a rho is not in (0, 1].

    References
    ----------
    SPO, arXiv 2509.13232, and the authors' code, verl-recipe ``spo/spo_ray_trainer.py``.

    Examples
    --------
    >>> from kernadv.baselines import Offline
    >>> from kernadv.baselines.beta import OfflineCounts
    >>> online = OfflineCounts().online(Offline({"a": 6.0, "b": 2.0}, rollouts=8))
    >>> online.values(["a", "b"], [0.0, 1.0], step=1).value.round(2)  # (6 + 1/2) / 9 and (2 + 1/2) / 9
    array([0.72, 0.28])
    >>> online.observe(["a", "b"], [0.0, 1.0], step=1)
    >>> online.values(["a", "b"], [0.0, 1.0], step=2).value.round(2)
    array([0.64, 0.36])
    """

    settings = ("discount", "first")
    offline_rollouts = 8
    #: Pseudo-traces the offline rollouts are worth.
    weight = 8.0

    def __init__(self, rho: float = 0.875, first: float = 0.96) -> None:
        super().__init__(rho, "rho")
        self.first: Setting = check_discount(first, "first")
        self._call("spo_tracker", "discounted Beta from offline rollouts (SPO without its batch mean)")

    def _call(self, name: str, title: str) -> None:
        self.name = name + (f" rho={self.discount:g}" if self.discount != 0.875 else "")
        self.title = f"{title}, rho={self.discount:g}"

    def start(self, prompts: int, offline: Offline | None) -> FloatArray:
        """The offline rollouts, worth `weight` traces."""
        assert offline is not None
        alpha = self.weight * (np.asarray(offline.total, np.float64) + 0.5) / (offline.rollouts + 1.0)
        return np.column_stack([alpha, self.weight - alpha, np.zeros(len(alpha))])[:prompts]

    def kept(self, memory: FloatArray, groups: Groups) -> FloatArray:
        """rho, and the published one at the first visit.  # (..., N)"""
        return np.where(memory[..., 2] == 0, np.maximum(self.first, self.discount), self.discount)

    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """Mean of the counts before the visit."""
        level = memory[..., 0] / (memory[..., 0] + memory[..., 1])
        return LinearValues(level, np.zeros(level.shape), np.zeros(level.shape))

    def left_out(self, memory: FloatArray, groups: Groups) -> LinearValues:
        """Mean of the discounted counts and the group's other traces, plus what it leaves of the other prompts' rewards."""
        alpha, beta = self.discounted(memory, groups)
        total, several = alpha + beta + (groups.n - 1.0), groups.n > 1
        gain = np.where(several, 1.0 / np.where(several, total, 1.0), 0.0)  # old counts alone can be next to nothing
        return centred(LinearValues(alpha / total, gain, np.zeros(gain.shape)), groups, own=False)


class SinglePolicy(OfflineCounts):
    """``V = p + mean(Z - p)`` over all traces of the step, p the tracker of `OfflineCounts`.

    The published advantage is ``(A - mean A) / std A``, A = Z - p: the mean is part of the value, the division is not.
    Prompts are published to be drawn with weights sqrt(p (1 - p)) + 0.05; here the schedule is that of all methods.

    Parameters
    ----------
    rho : float
        As in `OfflineCounts`.
    own : bool
        The mean holds the own reward, as published.  Else it is that of the other prompts' traces, and p counts the group's
        other traces too (the published method has groups of one).

    Raises
    ------
    ArgumentError
        If rho is not in (0, 1].

    References
    ----------
    SPO, arXiv 2509.13232, and the authors' code, verl-recipe ``spo/spo_ray_trainer.py``.

    Examples
    --------
    >>> from kernadv.baselines import Offline
    >>> from kernadv.baselines.beta import SinglePolicy
    >>> online = SinglePolicy().online(Offline({"a": 6.0, "b": 2.0}, rollouts=8))
    >>> online.values(["a", "b"], [1.0, 1.0], step=1).value.round(2)  # the tracker, 0.72 and 0.28, raised by 1/2
    array([1.22, 0.78])
    """

    def __init__(self, rho: float = 0.875, own: bool = True) -> None:
        super().__init__(rho)
        self.uses_own_reward = own
        how = "own reward" if own else "leave-one-out"
        self._call(f"spo{'' if own else '_loo'}", f"discounted Beta from offline rollouts, centred, {how} (SPO)")

    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """The tracker, plus what it leaves of the step's rewards."""
        if self.uses_own_reward:
            return centred(super().read(memory, shared, groups), groups, own=True)
        return self.left_out(memory, groups)


class EventCounts(OfflineCounts):
    """SPO++'s tracker alone: that of `OfflineCounts`, forgetting by the training step,

    ``alpha(t) = rho^(t - 1) alpha_0 + sum of rho^(t - s) S(s)`` over the earlier visits s, beta alike; step 1 is the initial
    policy's.

    Parameters
    ----------
    rho : float
        In (0, 1]; published: 0.875.

    Raises
    ------
    ArgumentError
        If rho is not in (0, 1].

    References
    ----------
    SPO++, arXiv 2608.24870, section 3; read second hand.

    Examples
    --------
    >>> from kernadv.baselines import Offline
    >>> from kernadv.baselines.beta import EventCounts
    >>> offline = Offline({"a": 6.0}, rollouts=8)
    >>> early, late = EventCounts().online(offline), EventCounts().online(offline)
    >>> early.observe(["a"], [0.0], step=1)
    >>> late.observe(["a"], [0.0], step=20)
    >>> [online.values(["a"], [0.0], step=21).value.round(2) for online in (early, late)]  # late: old counts weigh less
    [array([0.64]), array([0.28])]
    """

    def __init__(self, rho: float = 0.875) -> None:
        super().__init__(rho)
        self._call(
            "spo_pp_tracker", "Beta from offline rollouts, discounted by the step (SPO++ without its batch mean)"
        )

    def kept(self, memory: FloatArray, groups: Groups) -> FloatArray:
        """rho to the steps since the last visit; never quite 0, as the mean of the counts stays.  # (..., N)"""
        lag: FloatArray = groups.step - np.maximum(memory[..., 2], 1.0)
        return np.maximum(self.discount**lag, 1e-200)


class StreamAligned(EventCounts):
    """The leave-one-out form of SPO++: `EventCounts` with the group's other traces, plus what it leaves of the other
    prompts' rewards.

    The published mean counts tokens (`kernadv.baselines.token_mean`); here it counts traces, which predicts the better.

    Parameters
    ----------
    rho : float
        In (0, 1].

    Raises
    ------
    ArgumentError
        If rho is not in (0, 1].

    References
    ----------
    SPO++, arXiv 2608.24870.

    Examples
    --------
    >>> from kernadv.baselines import Offline
    >>> from kernadv.baselines.beta import StreamAligned
    >>> online = StreamAligned().online(Offline({"a": 6.0, "b": 2.0}, rollouts=8))
    >>> online.values(["a", "b"], [1.0, 0.0], step=1).value.round(2)
    array([0.44, 0.56])
    >>> online.values(["a", "b"], [0.0, 0.0], step=1).value.round(2)  # only the value of "b" reads the reward of "a"
    array([ 0.44, -0.44])
    """

    def __init__(self, rho: float = 0.875) -> None:
        super().__init__(rho)
        self._call("spo_pp_loo", "Beta from offline rollouts, discounted by the step, leave-one-out (SPO++)")

    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """The tracker with the group's other traces, centred by the other prompts."""
        return self.left_out(memory, groups)


BASELINES = (
    DiscountedBeta(),
    DiscountedBeta(own=False),
    PooledBeta(),
    OfflineCounts(),
    SinglePolicy(),
    SinglePolicy(0.96),
    SinglePolicy(own=False),
    SinglePolicy(0.96, own=False),
    StreamAligned(),
)

_RHOS = (0.5, 0.65, 0.75, 0.8, 0.875, 0.92, 0.96, 1.0)
TUNED = {
    "dbb_loo": tuple(DiscountedBeta(x, own=False) for x in (0.3, 0.5, 0.65, 0.75, 0.85, 0.92, 0.96, 1.0)),
    "pooled_beta": tuple(PooledBeta(x, n) for x in (0.5, 0.75, 0.85, 0.95, 1.0) for n in (0.5, 1.0, 2.0, 4.0, 8.0)),
    "spo_loo": tuple(SinglePolicy(rho, own=False) for rho in _RHOS),
    "spo_pp_loo": tuple(StreamAligned(rho) for rho in _RHOS),
}
