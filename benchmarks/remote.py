"""A shared estimator on Ray: what is lost when its actor is killed, how fast it answers, and how much memory it takes.

    python -m benchmarks.remote [--short] [--kills N] [--only PART]

Writes results/remote.md and ends with an error if a batch was lost or counted twice, or the state is not that of one
process.  `--short` kills a few times, takes a small history and writes nothing.  With `--only` the other lines stay.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import numpy as np
import ray

from benchmarks import RESULTS
from kernadv import KernelValueEstimator
from kernadv.adapters._remote_log import Log, store
from kernadv.adapters.remote import RemoteEstimator

RESULT = RESULTS / "remote.md"
PRODUCERS = 4
#: Seconds after which nothing waits any longer.
LIMIT = 900.0
SETTINGS = {"allow_late": True}
ROWS = 8192


def start(**options: Any) -> None:
    """Start Ray on this machine, which gives it 30 seconds a time: too few when it is busy."""
    for left in (5, 4, 3, 2, 1, 0):
        try:
            ray.init(**options, include_dashboard=False, log_to_driver=False)
            return
        except Exception:  # a start that took too long raises no class of its own
            ray.shutdown()
            if not left:
                raise


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Kill the actor of a shared estimator, and measure it.")
    parser.add_argument("--short", action="store_true", help="few of everything, in two minutes; writes no table")
    parser.add_argument("--kills", type=int, help="number of kills (default: 200)")
    parser.add_argument("--minutes", type=float, help="no kill after so many minutes")
    parser.add_argument("--only", choices=sorted(PARTS), help="this part only; the other lines of the table stay")
    parser.add_argument("--seed", type=int, default=1, help="what is random follows from it (default: 1)")
    asked = parser.parse_args()
    found: dict[str, str] = {}
    start(num_cpus=PRODUCERS, object_store_memory=400 << 20, logging_level="error")
    try:
        for name in [asked.only] if asked.only else PARTS:
            with tempfile.TemporaryDirectory() as folder:
                for line, text in PARTS[name](Path(folder), asked):
                    print(f"{line}: {text}", flush=True)
                    found[line] = text
    finally:
        ray.shutdown()
    if not asked.short:
        write(found, renew=bool(asked.only))


def kills(folder: Path, asked: argparse.Namespace) -> list[tuple[str, str]]:
    """SIGKILL at random moments, under load from several producers."""
    count = asked.kills or (3 if asked.short else 200)
    rng = np.random.default_rng(asked.seed)
    est = shared(folder, snapshot_every=20)
    stop = folder / "stop"
    tasks = [ray.remote(num_cpus=0)(produce).remote(est, k, asked.seed, stop) for k in range(PRODUCERS)]
    begun, last, at_once, done = time.monotonic(), "", 0, 0
    for k in range(count):
        if asked.minutes and time.monotonic() - begun > 60 * asked.minutes:
            break
        holder = wait_for(lambda last=last: next(iter(living(folder, last)), None))
        last = holder
        if k % 4:  # else at once: while the folder is read
            before = size(folder)
            wait_for(lambda before=before: size(folder) > before or None)
            time.sleep(float(rng.uniform(0.0, 1.0)))
        else:
            at_once += 1
            time.sleep(float(rng.uniform(0.0, 0.1)))
        with suppress(ProcessLookupError):
            os.kill(int(holder), signal.SIGKILL)
            done += 1
        print(f"\r{done} kills", end="", flush=True)
    wait_for(lambda: next(iter(living(folder, last)), None))
    seconds = time.monotonic() - begun
    time.sleep(1.0)
    stop.touch()
    answers: dict[str, bytes] = {}
    for each in ray.get(tasks, timeout=LIMIT):
        answers |= each
    state = bits(est.history())
    est.stop()
    place = store(folder / "log")
    alone, log, times = KernelValueEstimator(**SETTINGS), Log(place), Counter[str]()
    other = 0
    for batch in log.follow():
        out = alone.advantages(batch.ids, batch.rewards, batch.steps)
        times[batch.batch_id] += 1
        other += out.tobytes() != answers.get(batch.batch_id)
    lost = sum(name not in times for name in answers)
    twice = sum(n > 1 for n in times.values())
    equal = state == bits(alone.state_dict())
    text = (
        f"{done} SIGKILLs ({at_once} of them just after a restart) in {seconds:,.0f} s, under load from {PRODUCERS} "
        f"producers: {len(answers):,} batches answered, **{lost} lost, {twice} counted twice**, {other} with other "
        f"advantages than one process gives; state {'bit-equal to' if equal else 'DIFFERENT from'} that of one process"
    )
    if lost or twice or other or not equal:
        print(text)
        sys.exit("batches were lost, counted twice or answered otherwise")
    return [("kills", text)]


def produce(est: RemoteEstimator, producer: int, seed: int, stop: Path) -> dict[str, bytes]:
    """Send batches until told to stop; returns what was answered, by the id of the batch."""
    rng = np.random.default_rng([seed, producer])
    answers: dict[str, bytes] = {}
    while not stop.exists():
        step = 1 + len(answers) // 4
        ids = np.repeat([f"q{k}" for k in rng.integers(0, 256, 16)], 4).tolist()
        name = f"{producer}/{len(answers)}"
        answers[name] = est.advantages(ids, rng.normal(size=64), step, batch_id=name).tobytes()
    return answers


def speed(folder: Path, asked: argparse.Namespace) -> list[tuple[str, str]]:
    """Latency of one caller, and rows a second of several, in batches of 8,192 rows."""
    calls = 8 if asked.short else 60
    alone = KernelValueEstimator(**SETTINGS)
    own = timed(alone, 0, calls)
    est = shared(folder, snapshot_every=50)
    one = timed(est, 0, calls)
    begun = time.perf_counter()
    tasks = [ray.remote(num_cpus=0)(timed).remote(est, k, calls) for k in range(PRODUCERS)]
    together = np.concatenate(ray.get(tasks, timeout=LIMIT))
    seconds = time.perf_counter() - begun
    est.stop()
    rate = PRODUCERS * calls * ROWS / seconds
    return [
        (
            "latency",
            f"one caller, {ROWS:,} rows a call: {of_median(one)} (in the process itself, without a log: {of_median(own)})",
        ),
        (
            "throughput",
            f"{PRODUCERS} callers at once, {ROWS:,} rows a call: {rate:,.0f} rows/s, {of_median(together)} a call",
        ),
    ]


def timed(est: Any, producer: int, calls: int) -> Any:
    """Seconds of each call.  # (calls,)"""
    rng = np.random.default_rng(producer)
    seconds = []
    for step in range(1, calls + 3):
        ids = np.repeat([f"q{k}" for k in rng.integers(0, 20_000, ROWS // 8)], 8).tolist()
        rewards = rng.integers(0, 2, ROWS).astype(float)
        begun = time.perf_counter()
        est.advantages(ids, rewards, step)
        seconds.append(time.perf_counter() - begun)
    return np.array(seconds[2:])


def memory(folder: Path, asked: argparse.Namespace) -> list[tuple[str, str]]:
    """A million prompts: memory, the pause of a snapshot, and the time to come back."""
    prompts = 50_000 if asked.short else 1_000_000
    est = shared(folder, snapshot_every=10**9)
    rows = 20_000
    for start in range(0, prompts, rows):
        ids = [f"prompt {k}" for k in range(start, start + rows)]
        est.advantages(ids, np.random.default_rng(start).integers(0, 2, rows).astype(float), 1)
    pid = int((folder / "log" / "_lock").read_text().split()[0])
    held = status(pid, "VmRSS")
    est.snapshot(wait=False)
    waits = []
    while not list((folder / "log" / "_snapshots").glob("*.safetensors")):
        begun = time.perf_counter()
        est.advantages(["prompt 1"], [1.0], 2)
        waits.append(time.perf_counter() - begun)
    most = status(pid, "VmHWM")
    os.kill(pid, signal.SIGKILL)
    begun = time.perf_counter()
    assert est.metrics()["history_prompts"] == prompts
    back = time.perf_counter() - begun
    est.stop()
    return [
        (
            "memory",
            f"{prompts:,} prompts: {held:.2f} GiB held by the actor, {most:.2f} GiB at most while a snapshot is written; "
            f"the longest call of {len(waits)} beside the snapshot took {max(waits):.2f} s",
        ),
        ("restart", f"{prompts:,} prompts: {back:.0f} s from the kill to the first answer"),
    ]


def shared(folder: Path, **options: Any) -> RemoteEstimator:
    """A shared estimator in a folder."""
    return RemoteEstimator(uuid4().hex, SETTINGS, folder=folder / "log", timeout=LIMIT, **options)


def size(folder: Path) -> int:
    """Bytes of the log."""
    return sum(file.stat().st_size for file in (folder / "log").glob("log-*"))


def living(folder: Path, last: str) -> list[str]:
    """The process that holds the folder, unless it is the last one."""
    with suppress(FileNotFoundError):
        holder = (folder / "log" / "_lock").read_text().split(" ")[0]
        if holder and holder != last and Path(f"/proc/{holder}").exists():
            return [holder]
    return []


def wait_for(found: Callable[[], Any]) -> Any:
    """What is found, once it is."""
    end = time.monotonic() + LIMIT
    while (it := found()) is None:
        if time.monotonic() > end:
            sys.exit(f"the actor did not come back within {LIMIT:g} s")
        time.sleep(0.005)
    return it


def status(pid: int, name: str) -> float:
    """A number of /proc/PID/status, in GiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 2**20


def of_median(seconds: Any) -> str:
    """Median and 95th percentile."""
    return f"{1e3 * np.median(seconds):.0f} ms (median; 95th percentile {1e3 * np.quantile(seconds, 0.95):.0f} ms)"


def bits(state: dict[str, Any]) -> dict[str, Any]:
    """A state as something that is equal only if every bit is."""
    return {name: (x.dtype.str, x.shape, x.tobytes()) for name, x in state.items()}


def write(found: dict[str, str], renew: bool) -> None:
    """Write the table; `renew`: the lines that are not new stay."""
    lines = {}
    if renew and RESULT.exists():
        table = (line.split(" | ", 1) for line in RESULT.read_text(encoding="utf-8").splitlines() if " | " in line)
        lines = {name.strip("| "): text.removesuffix(" |") for name, text in table if name.strip("| ") in LINES}
    lines |= found
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "numpy"))
    load = os.getloadavg()[1]
    head = (
        "# A shared estimator on Ray\n\n"
        "Remade by `python -m benchmarks.remote` (`make remote`), which ends with an error if a batch is lost or counted "
        f"twice. Last run: {datetime.date.today()}, {os.cpu_count()} cores (load {load:.0f} in the last 5 minutes), "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {packages}.\n\n"
        "<!-- table -->\n\n| | |\n|---|---|\n"
    )
    RESULT.write_text(
        head + "".join(f"| {name} | {lines[name]} |\n" for name in LINES if name in lines), encoding="utf-8"
    )
    print(f"wrote {RESULT}")


PARTS = {"kills": kills, "speed": speed, "memory": memory}
LINES = ("kills", "latency", "throughput", "memory", "restart")


if __name__ == "__main__":
    main()
