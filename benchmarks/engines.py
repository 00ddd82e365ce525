"""Reading a log here, and with two workers of Ray on the same machine.

    .venv-frameworks/bin/python -m benchmarks.engines [--rounds 3] [--smoke]

A folder of 2,000 files of verl with 256,000 rows (390 MB), and a parquet file of 5 million rows in groups of 8, in ten row
groups.  Writes results/engines.md, in about five minutes; `--smoke` reads a few rows, in one, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import ray

from benchmarks import RESULTS
from kernadv.logs import read_log

WAYS = ("local", "ray, started by the call", "ray, running")


def write_verl(path: Path, smoke: bool) -> None:
    """A file a step: 16 prompts, 8 traces each, with responses of 1,200 characters."""
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcdefghij klmnop "), 4000))
    path.mkdir()
    for step in range(1, 1 + (100 if smoke else 2000)):
        records = [
            {
                "input": f"question {p}: {text[p : p + 300]}",
                "output": text[at : at + 1200],
                "score": float(z),
                "step": step,
            }
            for p in rng.choice(500, 16, replace=False).tolist()
            for z, at in rng.integers(0, (2, 2000), (8, 2)).tolist()
        ]
        (path / f"{step}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def write_parquet(path: Path, smoke: bool) -> None:
    """200 groups a step, of 100,000 prompts."""
    rng = np.random.default_rng(0)
    n = 4_000 if smoke else 625_000
    groups = pl.DataFrame({"step": np.arange(n) // 200 + 1, "prompt_id": rng.integers(0, 100_000, n)})
    rows = groups.select(pl.all().repeat_by(8).explode()).with_columns(
        pl.format("prompt {}", "prompt_id").alias("prompt_id"),
        reward=pl.Series(rng.integers(0, 2, 8 * n)).cast(pl.Float64),
    )
    rows.write_parquet(path, row_group_size=len(rows) // 10)


LOGS: dict[str, tuple[str, Callable[[Path, bool], None]]] = {
    "2,000 files of verl, 256,000 rows": ("verl", write_verl),
    "one parquet file, 5 million rows": ("log.parquet", write_parquet),
}


def cpu() -> np.ndarray:
    """Seconds of CPU so far: of this process, of the workers, of Ray itself."""
    me = psutil.Process()
    times = {"me": sum(me.cpu_times()[:2]), "worker": 0.0, "ray": 0.0}
    for child in me.children(recursive=True):
        try:
            times["worker" if child.name().startswith("ray::") else "ray"] += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return np.array(list(times.values()))


def measure(path: Path) -> np.ndarray:
    """Wall time, and CPU time of this process and of the workers, of each way to read a log.  # (3, 3)"""
    read_log(path)  # imports, and the machine code of the loops
    found = []
    for way in WAYS:
        before, start = cpu(), time.perf_counter()
        if way == WAYS[1]:
            ray.init(num_cpus=2, logging_level="warning", log_to_driver=False)
        read_log(path, engine=way.partition(",")[0])
        wall = time.perf_counter() - start
        found.append([wall, *(cpu() - before)[:2]])
    ray.shutdown()
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    lines = ["| log | read by | wall time | CPU time here | CPU time of 2 workers |", "|---|---|---:|---:|---:|"]
    for title, (name, write) in LOGS.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / name, options.smoke)
            rounds = [measure(Path(folder) / name) for _ in range(1 if options.smoke else options.rounds)]
        for way, (wall, here, workers) in zip(WAYS, np.median(rounds, axis=0), strict=True):
            lines.append(f"| {title} | {way} | {wall:.1f} s | {here:.2f} s | {workers:.2f} s |")
    if not options.smoke:
        (RESULTS / "engines.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
