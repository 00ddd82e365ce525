"""The whole command line on a log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

CODE = """
import sys
from benchmarks.speed.peak import peak
from kernadv.cli import main
try:
    main()
finally:
    print(peak() / 2**10, file=sys.stderr)
"""


def write_log(path: Path, rows: int, prompts: int, group: int = 8, per_step: int = 128) -> None:
    """A reward log in parquet: blocks of `per_step` prompts, each kept for 10 steps."""
    steps = -(-rows // (group * per_step))
    step = np.repeat(np.arange(1, steps + 1), group * per_step)[:rows]
    block = (step - 1) // 10 % max(prompts // per_step, 1)
    prompt = block * per_step + np.tile(np.repeat(np.arange(per_step), group), steps)[:rows]
    reward = (np.random.default_rng(0).random(rows) < 0.2 + 0.6 * (prompt % 97) / 96).astype(np.float64)
    table = pl.DataFrame({"step": step, "prompt": prompt, "reward": reward})
    table.with_columns(prompt=pl.format("question-{}", pl.col("prompt"))).write_parquet(path)


def command(path: Path, *options: str) -> float:
    """Run the command; its peak memory in GiB."""
    done = subprocess.run([sys.executable, "-c", CODE, "audit", str(path), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stderr.split()[-1])


def test_audit(measure, tmp_path):
    """Reading, the grid, 1000 bootstrap draws, the HTML report."""
    write_log(tmp_path / "log.parquet", 512_000, 2048)
    call = lambda: command(tmp_path / "log.parquet", "--html", f"{tmp_path}/audit.html")
    case = "`kernadv audit --html` of 512,000 rollouts, whole grid, 1000 draws"
    measure(case, "kernadv", call, 3, target="< 6 s")


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(("prompts", "steps", "group", "target"), [(1, 20_000, 2, "< 10 s"), (4, 5000, 4, "< 3 s")])
def test_long_audit(measure, tmp_path, prompts, steps, group, target):
    """Few prompts and many steps, where each step costs a constant time."""
    write_log(tmp_path / "log.parquet", prompts * steps * group, prompts, group, per_step=prompts)
    case = f"`kernadv audit` of {prompts} x {steps:,} groups of {group}: prompts by steps"
    measure(case, "kernadv", lambda: command(tmp_path / "log.parquet"), 3, target=target)


@pytest.mark.usefixtures("full")
def test_large_audit(measure, benchmark, tmp_path):
    """10 million rows."""
    write_log(tmp_path / "log.parquet", 10_000_000, 100_000)
    case = "`kernadv audit` of 10 million rows of parquet"
    gib = measure(case, "kernadv", lambda: command(tmp_path / "log.parquet"), 1, warm_up=0, target="< 1 GiB")
    benchmark.extra_info["memory"] = f"{gib:.2f} GiB"
