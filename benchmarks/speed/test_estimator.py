"""The value estimator beside a dictionary loop, and a history of a million prompts."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.speed import memory
from benchmarks.speed.dictionary import DictionaryEstimator
from kernadv import KernelValueEstimator, Steps

PROMPTS, GROUP, PAST = 1024, 8, 256
BATCH = f"{PROMPTS} prompts x {GROUP} traces, {PAST} visits of history each"
IDS = [f"prompt-{k}" for k in range(PROMPTS)] * GROUP


def rewards(rng: np.random.Generator) -> np.ndarray:
    """0 or 1 for each trace."""
    return (rng.random(len(IDS)) < 0.4).astype(float)


def filled(estimator: KernelValueEstimator) -> KernelValueEstimator:
    """The estimator after `PAST` steps."""
    rng = np.random.default_rng(0)
    for step in range(1, PAST + 1):
        estimator.observe(IDS, rewards(rng), step)
    return estimator


def test_advantages(measure):
    """Of KAE, online: a step a round."""
    est, z, step = filled(KernelValueEstimator.kae(1.0)), rewards(np.random.default_rng(1)), itertools.count(PAST + 1)
    case = f"`advantages` of `.kae()`, {BATCH}"
    measure(case, "kernadv", lambda: est.advantages(IDS, z, next(step)), 50, target="< 5 ms")


def test_advantages_of_a_dictionary(measure):
    """The same values, from a loop in Python."""
    loop, rng = DictionaryEstimator(1.0), np.random.default_rng(0)
    for step in range(1, PAST + 1):
        for prompt, reward in zip(IDS, rewards(rng).tolist(), strict=True):
            loop.history.setdefault(prompt, []).append((step, reward))
    z, step = rewards(np.random.default_rng(1)), itertools.count(PAST + 2)
    ours = filled(KernelValueEstimator.kae(1.0)).advantages(IDS, z, PAST + 1)
    np.testing.assert_allclose(ours, loop.advantages(IDS, z.tolist(), PAST + 1), atol=1e-12)
    call = lambda: loop.advantages(IDS, z.tolist(), next(step))
    measure(f"`advantages` of `.kae()`, {BATCH}", "a Python dictionary loop", call, 3, target=">= 20 times")


def test_advantages_of_the_default(measure):
    """On the same batch."""
    est, z, step = filled(KernelValueEstimator()), rewards(np.random.default_rng(1)), itertools.count(PAST + 1)
    saved = est.state_dict()
    state = sum(array.nbytes for name, array in saved.items() if name.startswith("pool."))
    kept = f"{saved['notes'][0].nbytes} bytes a prompt and {state} in all"
    call = lambda: est.advantages(IDS, z, next(step))
    measure(
        f"`advantages` of the default, {BATCH}",
        "kernadv",
        call,
        50,
        warm_up=3,
        memory=kept,
        target="< 5 ms",
    )


def test_advantages_of_the_default_of_many_prompts(measure):
    """Ten steps in."""
    est, rng = KernelValueEstimator(), np.random.default_rng(0)
    ids = [f"prompt-{k}" for k in range(8 * PROMPTS)] * GROUP
    batches = [(rng.random(len(ids)) < 0.4).astype(float) for _ in range(3)]
    for step in range(1, 11):
        est.observe(ids, batches[step % 3], step)
    step = itertools.count(11)
    call = lambda: est.advantages(ids, batches[0], next(step))
    case = f"`advantages` of the default, {8 * PROMPTS} prompts x {GROUP} traces"
    measure(case, "kernadv", call, 20, warm_up=3, target="< 28 ms")


@pytest.mark.usefixtures("full")
def test_history(measure):
    """A million prompts x 20 visits, appended batch by batch."""
    est, batches = KernelValueEstimator(Steps(np.inf)), memory.batches()
    resident, arrays = (mib / 2**10 for mib in memory.measured("history"))
    count = -(-memory.PROMPTS // memory.BATCH) * memory.VISITS
    case = f"append {memory.BATCH} rows to a history of {memory.PROMPTS:,} prompts x {memory.VISITS} visits"
    beside = {
        "memory": f"{resident:.2f} GiB, ids included; {arrays:.2f} GiB of arrays",
        "target": "< 20 ms, < 1 GiB",
    }
    setup = lambda: (next(batches), {})
    measure(case, "kernadv", est.observe, count, warm_up=0, setup=setup, **beside)
    assert est.metrics()["history_visits"] == memory.PROMPTS * memory.VISITS


@pytest.mark.parametrize(("by", "code"), [("kernadv imported", "import kernadv"), ("nothing imported", "pass")])
def test_import(measure, by, code):
    """A fresh Python, with the package and without."""
    beside = {"target": "< 300 ms beyond Python's own"} if by.startswith("kernadv") else {}
    measure("start Python", by, lambda: subprocess.run([sys.executable, "-c", code], check=True), 7, **beside)
