"""The cases: each returns rows of (what, measured, target)."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import regression
from timing import Rows, median_seconds, row


def peak_gib() -> float:
    """Peak resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def advantages() -> Rows:
    """`advantages` on 1024 prompts x 8 traces with 256 visits of history each, beside the dictionary loop."""
    from dictionary import DictionaryEstimator

    from kernadv import KernelValueEstimator

    prompts, group, visits, h = 1024, 8, 256, 1.0
    rng = np.random.default_rng(0)
    ids = [f"prompt-{k}" for k in range(prompts)] * group
    ours, loop = KernelValueEstimator.kae(h), DictionaryEstimator(h)
    for step in range(1, visits + 1):
        z = (rng.random(len(ids)) < 0.4).astype(float)
        ours.observe(ids, z, step)
        for prompt, reward in zip(ids, z.tolist(), strict=True):
            loop.history.setdefault(prompt, []).append((step, reward))
    z = (rng.random(len(ids)) < 0.4).astype(float)
    step = iter(range(visits + 1, visits + 1000))
    np.testing.assert_allclose(
        ours.advantages(ids, z, visits + 1), loop.advantages(ids, z.tolist(), visits + 1), atol=1e-12
    )
    next(step)
    fast = median_seconds(lambda: ours.advantages(ids, z, next(step)), 50)
    slow = median_seconds(lambda: loop.advantages(ids, z.tolist(), next(step)), 3)
    what = f"`advantages` of `.kae()`, {prompts} prompts x {group} traces, {visits} visits of history each"
    return [
        row(what, f"{1e3 * fast:.1f} ms", "< 5 ms"),
        row(
            "the same by a Python dictionary loop",
            f"{1e3 * slow:.0f} ms, {slow / fast:.0f} times slower",
            ">= 20 times",
        ),
    ]


def pooled() -> Rows:
    """`advantages` of the default estimator, on the same batch."""
    from kernadv import KernelValueEstimator

    prompts, group, visits = 1024, 8, 256
    rng = np.random.default_rng(0)
    ids = [f"prompt-{k}" for k in range(prompts)] * group
    est = KernelValueEstimator()
    for step in range(1, visits + 1):
        est.observe(ids, (rng.random(len(ids)) < 0.4).astype(float), step)
    z = (rng.random(len(ids)) < 0.4).astype(float)
    step = iter(range(visits + 1, visits + 1000))
    for _ in range(3):
        est.advantages(ids, z, next(step))
    seconds = median_seconds(lambda: est.advantages(ids, z, next(step)), 50)
    what = f"`advantages` of the default, {prompts} prompts x {group} traces, {visits} visits each"
    saved = est.state_dict()
    state = sum(array.nbytes for name, array in saved.items() if name.startswith("pool."))
    told = f"{1e3 * seconds:.1f} ms, pooled state {state} bytes and {saved['notes'][0].nbytes} bytes a prompt"
    return [row(what, told, "< 12 ms")]


def history() -> Rows:
    """One million prompts x 20 visits: memory, and the time to append a batch of 8192 rows."""
    from kernadv import KernelValueEstimator, Steps

    prompts, visits, batch = 1_000_000, 20, 8192
    rng = np.random.default_rng(0)
    est = KernelValueEstimator(Steps(np.inf))
    est.observe(["warm-up"], [1.0], 1)
    before = peak_gib()
    ids = [f"prompt-{k:08d}" for k in range(prompts)]
    est = KernelValueEstimator(Steps(np.inf))
    seconds = []
    for visit in range(visits):
        z = (rng.random(prompts) < 0.4).astype(float)
        for low in range(0, prompts, batch):
            part = slice(low, low + batch)
            start = time.perf_counter()
            est.observe(ids[part], z[part], visit + 1)
            seconds.append(time.perf_counter() - start)
    assert est.metrics()["history_visits"] == prompts * visits
    what = f"history of {prompts:,} prompts x {visits} visits"
    quick, worst = statistics.median(seconds), max(seconds)
    return [
        row(f"{what}, resident memory, ids included", f"{peak_gib() - before:.2f} GiB", "< 1 GiB"),
        row(f"{what}, its arrays", f"{est._state.history.nbytes / 2**30:.2f} GiB", ""),
        row(f"append {batch} rows to it", f"{1e3 * quick:.1f} ms, longest {1e3 * worst:.0f} ms", "< 20 ms"),
    ]


def write_log(path: Path, rows: int, prompts: int, group: int = 8, per_step: int = 128) -> None:
    """A reward log in parquet: blocks of `per_step` prompts, each kept for 10 steps."""
    import polars as pl

    steps = -(-rows // (group * per_step))
    step = np.repeat(np.arange(1, steps + 1), group * per_step)[:rows]
    block = (step - 1) // 10 % max(prompts // per_step, 1)
    prompt = block * per_step + np.tile(np.repeat(np.arange(per_step), group), steps)[:rows]
    reward = (np.random.default_rng(0).random(rows) < 0.2 + 0.6 * (prompt % 97) / 96).astype(np.float64)
    table = pl.DataFrame({"step": step, "prompt": prompt, "reward": reward})
    table.with_columns(prompt=pl.format("question-{}", pl.col("prompt"))).write_parquet(path)


def command(path: Path, *options: str) -> tuple[float, float]:
    """Wall seconds and peak GiB of the whole command line on a log."""
    code = (
        "import resource, sys\n"
        "from kernadv.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, file=sys.stderr)\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, "audit", str(path), *options], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    return seconds, float(done.stderr.split()[-1])


def audit() -> Rows:
    """The whole command on 512,000 rollouts: reading, the grid, 1000 bootstrap draws, the HTML report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        write_log(path, 512_000, 2048)
        command(path)
        seconds = statistics.median(command(path, "--html", f"{folder}/audit.html")[0] for _ in range(3))
    return [row("`kernadv audit --html` of 512,000 rollouts, whole grid, 1000 draws", f"{seconds:.1f} s", "< 6 s")]


def large_audit() -> Rows:
    """The whole command on 10 million rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        write_log(path, 10_000_000, 100_000)
        seconds, memory = command(path)
    return [row("`kernadv audit` of 10 million rows of parquet", f"{seconds:.0f} s, {memory:.2f} GiB", "< 3 GiB")]


def imports() -> Rows:
    """Cold start of the package in a fresh process."""
    seconds = median_seconds(lambda: subprocess.run([sys.executable, "-c", "import kernadv"], check=True), 7)
    bare = median_seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), 7)
    return [row("`import kernadv`, beyond starting Python", f"{1e3 * (seconds - bare):.0f} ms", "< 300 ms")]


CASES = {
    **regression.CASES,
    "advantages": advantages,
    "pooled": pooled,
    "history": history,
    "audit": audit,
    "large_audit": large_audit,
    "imports": imports,
}
