"""Kills: SIGKILL at any moment of loading, learning and saving.

A child loads the checkpoint, if there is one, and goes on: a step, a save, a step, a save, until it is killed.  The next one
starts from the file.  What each step gave is compared with a run that nobody has disturbed.
"""

from __future__ import annotations

import functools
import os
import signal
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks._estimators import CONFIGURATIONS, Configuration, Estimator, warm_up
from benchmarks.attacks._row import Part, Row

__all__ = ["KIND", "parts", "warm_up"]

KIND = "kills"
#: Prompts, rows a batch and longest life of a child in seconds: small files, and files whose writing takes long.
SIZES = {"small": (300, 64, 0.04), "large": (6000, 512, 0.25)}
#: Seconds for a child to come to the moment that it is killed at.
PATIENCE = 1.0
MOMENTS = ("at random", "at random", "at random", "before fsync", "after fsync", "before rename", "after rename")


def parts(short: bool, seed: int) -> list[Part]:
    """Parts with small and with large files."""
    if short:
        return [functools.partial(killed, size, "default", 10, seed) for size in SIZES]
    cases = [(size, name) for size in SIZES for name in ("default", "plain", "weighted", "capped", "forgetting")]
    return [functools.partial(killed, *case, 50, seed) for case in cases]


def killed(size: str, name: str, kills: int, seed: int, configuration: Configuration | None = None) -> Row:
    """Kill children that share one checkpoint."""
    row = Row(KIND, "SIGKILL during load, `advantages` and save")
    how = configuration or CONFIGURATIONS[name]
    prompts, rows, life = SIZES[size]
    batch = functools.partial(how.batch, seed, prompts=range(prompts), rows=rows)
    rng = np.random.default_rng([seed, *f"{size} {name}".encode()])
    with tempfile.TemporaryDirectory() as place:
        folder, log = Path(place) / "checkpoints", Path(place) / "log"
        folder.mkdir()
        log.touch()
        path, truth = folder / "state", Truth(how, batch)
        seen = saved = 0  # bytes of the log read; last step known to be saved
        for _ in range(kills):
            moment = MOMENTS[rng.integers(len(MOMENTS))]
            _kill_one(
                functools.partial(_live, how, batch, path, log), moment, rng.random() * life, int(rng.integers(1, 4))
            )
            row.count += 1
            lines = log.read_bytes()[seen:]
            seen += len(lines)
            for kind, step, check in map(bytes.split, lines.splitlines()):
                if kind == b"raised":
                    row.fail(f"{name}, {size} file: a child raised {bytes.fromhex(check.decode()).decode()}")
                elif kind == b"saved":
                    saved = max(saved, int(step))
                elif truth.advantages(int(step)) != int(check):
                    row.fail(f"{name}, {size} file: a step differs from an uninterrupted run's")
                else:
                    row.outcomes["steps equal to an uninterrupted run's"] += 1
            row.outcomes["kills that left an unfinished file"] += any(other != path for other in folder.iterdir())
            if not path.exists():
                if saved:
                    row.fail(f"{name}, {size} file, killed {moment}: there is no checkpoint any more")
                continue
            again = how.make()
            try:
                again.load(path)
            except Exception as raised:
                row.fail(
                    f"{name}, {size} file, killed {moment}: load raised {type(raised).__name__}: {str(raised)[:80]}"
                )
                path.unlink()
                continue
            if _check(again) == truth.state(saved + 1):  # this save has ended without a word
                saved += 1
            elif _check(again) != truth.state(saved):
                row.fail(
                    f"{name}, {size} file, killed {moment}: the checkpoint is not that of the last save or the next"
                )
        how.make().save(path)
        if left := sorted(other.name for other in folder.iterdir() if other != path):
            row.fail(f"{name}, {size} file: {len(left)} unfinished files left after the next save")
    return row


class Truth:
    """Checksums of an uninterrupted run."""

    def __init__(self, how: Configuration, batch: Callable[..., Any]) -> None:
        self.run = _run(how.make(), batch, 1)
        self.states, self.steps = [_check(how.make())], [0]

    def advantages(self, step: int) -> int:
        """Of the advantages of a step."""
        self._until(step)
        return self.steps[step]

    def state(self, step: int) -> int:
        """Of the state after a step."""
        self._until(step)
        return self.states[step]

    def _until(self, step: int) -> None:
        while len(self.steps) <= step:
            estimator, check = next(self.run)
            self.steps.append(check)
            self.states.append(_check(estimator))


def _run(estimator: Estimator, batch: Callable[..., Any], step: int) -> Iterator[tuple[Estimator, int]]:
    while True:
        arguments, options = batch(step)
        yield estimator, zlib.crc32(np.asarray(estimator.advantages(*arguments, **options)).tobytes())
        step += 1


def _check(estimator: Estimator) -> int:
    """Checksum of a state."""
    total = 0
    for name, array in sorted(estimator.state_dict().items()):
        total = zlib.crc32(array.tobytes(), zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total))
    return total


def _live(how: Configuration, batch: Callable[..., Any], path: Path, log: Path) -> None:
    """What a child does until it is killed; a line of the log says what it has done."""
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    estimator, step = how.make(), 1
    try:
        if path.exists():
            estimator.load(path)
            step = int(estimator.state_dict()["counters"][-1]) + 1
        for _, check in _run(estimator, batch, step):
            os.write(out, f"step {step} {check}\n".encode())
            estimator.save(path)
            os.write(out, f"saved {step} 0\n".encode())
            step += 1
    except Exception as raised:
        text = f"{type(raised).__name__}: {str(raised)[:80]}"
        os.write(out, f"raised {step} {text.encode().hex()}\n".encode())


def _kill_one(live: Callable[[], None], moment: str, after: float, which: int) -> None:
    """Fork a child and kill it, after some seconds or at its `which`-th flush or rename."""
    child = os.fork()
    if not child:
        if moment != "at random":
            _arm(moment, which)
        try:
            live()
        finally:
            os._exit(0)
    if moment == "at random":
        time.sleep(after)
    else:
        last = time.monotonic() + PATIENCE  # a writer that never flushes or renames is killed as well
        while time.monotonic() < last and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _arm(moment: str, which: int) -> None:
    """Have this process killed just before or after a flush or rename."""
    when, name = moment.split()
    name = {"rename": "replace"}.get(name, name)
    original, calls = getattr(os, name), 0

    def armed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == which and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments)
        if calls == which:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, name, armed)
