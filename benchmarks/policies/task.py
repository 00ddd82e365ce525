"""Prompts that are chains of skills, and the exact pass rates and squared score norms of a policy on them.

A skill is a softmax over ten actions, of which action 0 is right.  A prompt asks for one to three of a hundred skills; its
trace is right if all its actions are.  Besides, a trace writes style tokens, each a softmax over ten actions that no reward
depends on; their number varies as a `Lengths` says.  Half of the variance of the logits is private to a slot (a skill or a
style), the other half goes through random features that all slots share, so that prompts help and disturb each other.

The scores of a trace's tokens are martingale differences: the squared norm of their sum is, on average, the sum of their
squared norms.  So everything a baseline does to the variance of the gradient has a closed form here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernadv.typing import BoolArray, FloatArray, IntArray

SKILLS, STYLES, ACTIONS, FEATURES = 100, 20, 10, 60
TRAINED, HELD_OUT = 256, 512  # prompts
MOST_SKILLS = 3  # of a prompt
LONGEST = 150  # style tokens of a trace
QUANTILES = 256  # of the law of lengths
PRIVATE, SHARED = 0.5, 0.6  # variances of a logit's two parts

#: Law of the errors of the skills at the start, Beta(a, b).
STARTS = {"low": (1.2, 0.8), "middle": (0.55, 1.1), "high": (0.3, 2.0), "bimodal": (0.25, 0.35)}


@dataclass(frozen=True)
class Lengths:
    """How many style tokens a trace writes, beside one token a skill.

    Attributes
    ----------
    title : str
        In tables.
    median : float
        Style tokens a skill.
    sd : float
        Standard deviation of the log number within a prompt.
    wrong : float
        Factor by which wrong traces write more.
    extra_wrong, extra_right : int
        Tokens that wrong, and right, traces write besides.
    """

    title: str
    median: float = 1.0
    sd: float = 0.0
    wrong: float = 1.0
    extra_wrong: int = 0
    extra_right: int = 0


#: Name -> law of the lengths.  They set k, the squared score norm of wrong over that of right traces.
LENGTHS = {
    "longer": Lengths("wrong traces 3 tokens longer", extra_wrong=3),
    "much_longer": Lengths("wrong traces 9 tokens longer", extra_wrong=9),
    "shorter": Lengths("right traces 4 tokens longer", extra_right=4),
    "lognormal": Lengths("lognormal, sd 0.7", median=3.0, sd=0.7),
    "heavy": Lengths("lognormal, sd 1.2", median=3.0, sd=1.2),
    "heavy_longer": Lengths("lognormal, sd 1.2, wrong traces twice as long", median=3.0, sd=1.2, wrong=2.0),
}


class Norms(NamedTuple):
    """Exact values and mean squared score norms of prompts.  # (n,) each"""

    value: FloatArray
    wrong: FloatArray
    right: FloatArray

    @property
    def optimal(self) -> FloatArray:
        """The baseline of least variance, ``b* = V / (V + (1 - V) k)`` with k = wrong / right."""
        top = self.value * self.right
        return top / np.maximum(top + (1.0 - self.value) * self.wrong, 1e-300)

    def second_moment(self, baseline: FloatArray) -> FloatArray:
        """``E |(Z - b) s|^2`` of one trace of each prompt."""
        return self.value * self.right * (1.0 - baseline) ** 2 + (1.0 - self.value) * self.wrong * baseline**2


class Traces(NamedTuple):
    """Traces of a batch.

    Attributes
    ----------
    reward : (n,) of 0 and 1
    slots, actions : (n, T) ints
        What wrote each token, and what it wrote.
    mask : (n, T) bool
    error : (n, T, ACTIONS)
        ``onehot(action) - p``, 0 outside the mask: the score of a token in the logits of its slot.
    log_probs : (n, T)
        Of the tokens; 0 outside the mask.
    """

    reward: FloatArray
    slots: IntArray
    mask: BoolArray
    error: FloatArray
    log_probs: FloatArray


class Task:
    """Prompts to train on, held-out prompts, and the logits that a policy starts from.

    Parameters
    ----------
    start : str
        Key of `STARTS`.
    lengths : str
        Key of `LENGTHS`.
    table : int
        Seed of the skills.
    """

    def __init__(self, start: str, lengths: str, table: int) -> None:
        draw = np.random.default_rng((table, list(STARTS).index(start)))
        self.lengths = LENGTHS[lengths]
        error = draw.beta(*STARTS[start], SKILLS).clip(0.01, 0.99)
        p = np.full((SKILLS, ACTIONS), 0.02 / ACTIONS)
        p[:, 0] += 0.98 * (1.0 - error)
        p[np.arange(SKILLS), draw.integers(1, ACTIONS, SKILLS)] += 0.98 * error
        slots, prompts = SKILLS + STYLES, TRAINED + HELD_OUT
        self.logits = np.concatenate([np.log(p), np.zeros((STYLES, ACTIONS))])
        self.features = draw.normal(size=(slots, FEATURES)) * (SHARED / FEATURES) ** 0.5
        self.kernel = PRIVATE * np.eye(slots) + self.features @ self.features.T  # of the gradients of the slots' logits
        self.asked = draw.integers(1, MOST_SKILLS + 1, prompts)  # skills of a prompt
        self.skills = draw.integers(0, SKILLS, (prompts, MOST_SKILLS))
        self.on = np.arange(MOST_SKILLS) < self.asked[:, None]
        self.styles = SKILLS + (draw.integers(0, STYLES, (prompts, 1)) + 3 * np.arange(LONGEST)) % STYLES
        self.counts = self._counts()  # style tokens: (wrong, right) x prompt x quantile

    def _counts(self) -> IntArray:
        law = self.lengths
        normal = np.sort(np.random.default_rng(0).normal(size=99 * QUANTILES))[49::99]
        median = law.median * self.asked[:, None]
        parts = ((law.wrong, law.extra_wrong), (1.0, law.extra_right))
        drawn = [np.rint(factor * median * np.exp(law.sd * normal)) + extra for factor, extra in parts]
        return np.clip(drawn, 1, LONGEST).astype(np.int64)

    def values(self, p: FloatArray, prompts: IntArray) -> FloatArray:
        """Pass rates under the policy with probabilities p.  # (slots, ACTIONS), (n,) -> (n,)"""
        return np.where(self.on[prompts], p[self.skills[prompts], 0], 1.0).prod(1)

    def greedy(self, p: FloatArray, prompts: IntArray) -> FloatArray:
        """1 where the most probable actions solve the prompt, else 0.  # (n,)"""
        return np.where(self.on[prompts], p[self.skills[prompts]].argmax(2) == 0, True).all(1).astype(np.float64)

    def entropy(self, p: FloatArray, prompts: IntArray) -> FloatArray:
        """Mean entropy of the tokens that decide, in nats.  # (n,)"""
        each = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
        return np.where(self.on[prompts], each[self.skills[prompts]], 0.0).sum(1) / self.asked[prompts]

    def norms(self, p: FloatArray, prompts: IntArray, *, per_trace: bool) -> Norms:
        """Values, and mean squared norms of the scores of wrong and right traces.

        Parameters
        ----------
        p : (slots, ACTIONS)
        prompts : (n,)
        per_trace : bool
            Of the score over the number of the trace's tokens.
        """
        value, on, skills = self.values(p, prompts), self.on[prompts], self.skills[prompts]
        token = (1.0 - (p**2).sum(1)) * np.diag(self.kernel)  # E |score|^2 of a token of each slot
        all_traces = np.where(on, token[skills], 0.0).sum(1)
        error = np.where(on[..., None], np.eye(ACTIONS)[0] - p[skills], 0.0)  # of a right trace
        inner = self.kernel[skills[:, :, None], skills[:, None]]
        right = np.einsum("nia,nja,nij->n", error, error, inner)
        wrong = (all_traces - value * right) / np.maximum(1.0 - value, 1e-9)
        style = np.concatenate([np.zeros((len(prompts), 1)), token[self.styles[prompts]].cumsum(1)], axis=1)
        parts = []
        for skill, count in zip((wrong, right), self.counts[:, prompts], strict=True):
            length = count + self.asked[prompts, None] if per_trace else 1.0
            parts.append(((skill[:, None] + np.take_along_axis(style, count, 1)) / length**2).mean(1))
        return Norms(value, *parts)

    def sample(self, p: FloatArray, prompts: IntArray, draw: np.random.Generator) -> Traces:
        """One trace a row; the draws do not depend on the policy."""
        solved = (draw.random((len(prompts), MOST_SKILLS)) < p[self.skills[prompts], 0]) | ~self.on[prompts]
        uniform = draw.random((len(prompts), MOST_SKILLS + LONGEST + 1))
        other = p[self.skills[prompts], 1:].cumsum(2)
        missed = (other < uniform[:, :MOST_SKILLS, None] * other[..., -1:]).sum(2).clip(max=ACTIONS - 2) + 1
        reward = solved.all(1)
        quantile = (uniform[:, -1] * QUANTILES).astype(np.int64)
        count = self.counts[reward.astype(np.int64), prompts, quantile]
        wide = count.max()
        styles = self.styles[prompts, :wide]
        written = p.cumsum(1)[styles] < uniform[:, MOST_SKILLS : MOST_SKILLS + wide, None]
        slots = np.concatenate([self.skills[prompts], styles], axis=1)
        actions = np.concatenate([np.where(solved, 0, missed), written.sum(2).clip(max=ACTIONS - 1)], axis=1)
        mask = np.concatenate([self.on[prompts], np.arange(wide) < count[:, None]], axis=1)
        chosen = p[slots]
        error = (np.eye(ACTIONS)[actions] - chosen) * mask[..., None]
        log_probs = np.log(np.take_along_axis(chosen, actions[..., None], axis=2)[..., 0]) * mask
        return Traces(reward.astype(np.float64), slots, mask, error, log_probs)
