"""Mutated checkpoints: bytes of the file, or its arrays with a checksum that fits.

`load` must refuse with a CheckpointError and change nothing, or accept.  What it accepts of a file with mutated bytes is the
original content; of mutated arrays it is a state that an estimator can go on from.
"""

from __future__ import annotations

import functools
import os
import resource
import struct
import tempfile
import time
import tracemalloc
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.attacks._estimators import CONFIGURATIONS, Configuration, State, same, warm_up
from benchmarks.attacks._isolated import isolated
from benchmarks.attacks._row import Part, Row
from kernadv import CheckpointError
from kernadv._checkpoint import save_arrays  # the library's own writer, so that the checksum fits

__all__ = ["KIND", "parts", "warm_up"]

KIND = "checkpoints"
NAMES = ("plain", "kae", "default", "weighted", "features", "capped", "late", "forgetting")
#: Limits of one load: CPU seconds, and bytes beside ten times the file.
SECONDS, BYTES = 1.0, 50 << 20
#: Address space that a child may take beyond what it has; a wrong allocation must not take the machine down.
ROOM = 4 << 30
INTEGERS = [
    0,
    1,
    -1,
    2,
    255,
    2**31 - 1,
    2**31,
    -(2**31),
    2**53,
    2**53 + 1,
    -(2**53),
    2**62,
    -(2**62),
    2**63 - 1,
    -(2**63),
]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, np.nan, np.inf, -np.inf, 1e308, -1e308, 1e100, 1e-300, 5e-324, 1e16, 2.0**63]


class Answer(NamedTuple):
    """What came of one mutated file."""

    outcome: str
    failed: bool
    seconds: float
    memory: int


def parts(short: bool, seed: int) -> list[Part]:
    """20,000 mutations of arrays and 25,000 of bytes, in parts."""
    arrays, size = (60, 125) if short else (2500, 3125)
    return [
        functools.partial(mutated, kind, name, count, seed)
        for kind, count in (("arrays", arrays), ("bytes", size))
        for name in NAMES
    ]


def mutated(kind: str, name: str, count: int, seed: int, configuration: Configuration | None = None) -> Row:
    """Load files with mutated "arrays" or "bytes"."""
    done = {"arrays": "arrays mutated, with a valid checksum", "bytes": "bytes of the file mutated"}[kind]
    row = Row(KIND, done)
    with tempfile.TemporaryDirectory() as folder:
        target = Target(configuration or CONFIGURATIONS[name], Path(folder) / "state", seed)
        attempt = functools.partial(_attempt, kind, name, target, seed)
        for item, answer, died in isolated(attempt, range(count)):
            row.count += 1
            if answer is None:
                row.fail(f"{name}, {kind}: {died} (mutation {item})")
                continue
            row.slowest, row.memory = max(row.slowest, answer.seconds), max(row.memory, answer.memory)
            if answer.failed:
                row.fail(f"{name}, {kind}: {answer.outcome}")
            else:
                row.outcomes[answer.outcome] += 1
    return row


class Target:
    """A checkpoint, and an estimator with another state that loads what is made of it."""

    def __init__(self, how: Configuration, path: Path, seed: int) -> None:
        self.how, self.path = how, path
        saved = how.trained(seed, 6, range(20), 16)
        assert not hasattr(saved, "columns")
        self.state = saved.state_dict()
        save_arrays(path, self.state)
        self.data = path.read_bytes()
        self.estimator = how.trained(seed + 1, 3, range(10), 8)
        self.before = self.estimator.state_dict()

    def restore(self) -> None:
        """The estimator as it was."""
        self.estimator = self.how.make()
        self.estimator.load_state_dict(self.before)


def _attempt(kind: str, name: str, target: Target, seed: int, item: int) -> Answer:
    """Mutate, load, and look at what came of it; in a child."""
    _limit()
    rng = np.random.default_rng([seed, *name.encode(), item])
    if kind == "arrays":
        state, what = mutate_arrays(target.state, rng)
        try:
            save_arrays(target.path, state)
        except Exception as error:
            return Answer(f"not written ({type(error).__name__})", False, 0.0, 0)
    else:
        data, what = mutate_bytes(target.data, rng)
        target.path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracemalloc.start()
        began = time.process_time()
        try:
            target.estimator.load(target.path)
            outcome = None
        except CheckpointError:
            outcome = "refused"
        except BaseException as error:
            outcome = f"load raised {type(error).__name__}: {str(error)[:60]} ({what})"
        seconds, memory = time.process_time() - began, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        failed = outcome not in (None, "refused")
        size = target.path.stat().st_size
        if seconds > SECONDS:
            outcome, failed = f"load took more than {SECONDS:g} s ({what})", True
        elif memory > 10 * size + BYTES:
            outcome, failed = f"load took more memory than 10 times the file and {BYTES >> 20} MiB ({what})", True
        elif outcome is None:
            outcome, failed = _accepted(kind, target, what)
            target.restore()
        elif not same(target.estimator.state_dict(), target.before):
            outcome, failed = f"the state changed though load failed ({what})", True
            target.restore()
    return Answer(outcome, failed, seconds, memory)


def _accepted(kind: str, target: Target, what: str) -> tuple[str, bool]:
    """Whether content that was accepted is a failure."""
    try:
        state = target.estimator.state_dict()
        if same(state, target.state):
            return "accepted, same content", False
        if kind == "bytes":
            return f"accepted, other content ({what})", True
        _go_on(target.how, target.estimator, state)
    except BaseException as error:
        return f"accepted, but then {type(error).__name__}: {str(error)[:60]} ({what})", True
    return "accepted, another state that works", False


def _go_on(how: Configuration, estimator: Any, state: State) -> None:
    """Every call on an estimator that was loaded; its state must load again."""
    again = how.make()
    again.load_state_dict(state)
    assert same(again.state_dict(), state), "its state is another one when loaded"
    newest = int(state["counters"][-1])
    for step in (max(newest, 1), newest + 1, newest + 2):
        step = min(step, 2**53)
        (ids, rewards, _), options = how.batch(5, 3, range(20), 16)
        values = estimator.values(ids, rewards, step)
        assert np.isfinite(values.value[values.defined]).all(), "a value is not finite"
        estimator.intervals(ids, rewards, step)
        assert np.isfinite(estimator.baselines(ids, rewards, step, **options)).all(), "a baseline is not finite"
        assert np.isfinite(estimator.advantages(ids, rewards, step, **options)).all(), "an advantage is not finite"
        estimator.metrics()
        estimator.explain(ids[0], step)
    again.load_state_dict(estimator.state_dict())


def mutate_arrays(state: State, rng: np.random.Generator) -> tuple[State, str]:
    """A state with one to three arrays mutated, and what was done."""
    state, done = dict(state), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        name = str(rng.choice(sorted(state)))
        how = str(rng.choice(list(ARRAYS)))
        changed = ARRAYS[how](state[name].copy(), rng)
        if changed is None:
            del state[name]
        else:
            state[name] = changed
        done.append(f"{how} of {name}")
    return state, " and ".join(done)


def _extreme(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some elements set to values at the ends of their type."""
    if array.size:
        at = rng.integers(array.size, size=rng.choice([1, 1, 2, array.size]))
        values = FLOATS if array.dtype.kind == "f" else INTEGERS
        chosen = [values[k] for k in rng.integers(len(values), size=len(at))]
        with np.errstate(all="ignore"):
            array.reshape(-1)[at] = np.array(chosen, np.float64 if array.dtype.kind == "f" else np.int64).astype(
                array.dtype
            )
    return array


def _nudged(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One element a bit larger or smaller."""
    if array.size:
        at = rng.integers(array.size)
        delta = rng.choice([-1, 1]) if array.dtype.kind != "f" else rng.normal()
        with np.errstate(all="ignore"):
            array.reshape(-1)[at : at + 1] += np.array(delta).astype(array.dtype)
    return array


def _wrapping(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Elements moved so far that their sum, in 64 bits, is what it was."""
    if array.size >= 4 and array.dtype == np.int64:
        array.reshape(-1)[rng.choice(array.size, 4, replace=False)] += np.int64(2**62)
    return array


def _other_shape(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same elements in other dimensions."""
    shapes = [
        array.reshape(-1),
        array.reshape(1, -1),
        array.reshape(-1, 1),
        array.reshape(-1)[:1].reshape(()) if array.size else array,
    ]
    return shapes[rng.integers(len(shapes))]


def _other_type(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same elements in another type."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return array.astype(rng.choice(["i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8", "?", "c8"]))


def _larger(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Zeros, many more of them."""
    return np.zeros(int(rng.choice([1000, 20_000])), array.dtype)


ARRAYS: dict[str, Any] = {
    "extreme elements": _extreme,
    "more extreme elements": _extreme,
    "a nudged element": _nudged,
    "a sum that wraps": _wrapping,
    "another shape": _other_shape,
    "another type": _other_type,
    "many zeros": _larger,
    "a shorter copy": lambda array, rng: array[: rng.integers(len(array))] if array.ndim and len(array) else array,
    "a longer copy": lambda array, rng: np.concatenate([array, array[: rng.integers(1, 9)]]) if array.ndim else array,
    "nothing": lambda array, rng: array[:0] if array.ndim else array,
    "another order": lambda array, rng: rng.permutation(array) if array.ndim else array,
    "the reverse": lambda array, rng: array[::-1].copy() if array.ndim else array,
    "the opposite": lambda array, rng: np.negative(array) if array.dtype.kind in "if" else array,
    "one element everywhere": lambda array, rng: np.full_like(array, array.reshape(-1)[0]) if array.size else array,
    "absence": lambda array, rng: None,
}


def mutate_bytes(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A file with bytes mutated, and what was done."""
    how = str(
        rng.choice(
            [
                "flipped bits",
                "flipped bits",
                "header",
                "header",
                "edited header",
                "length",
                "cut",
                "more",
                "fewer",
                "mixed",
            ]
        )
    )
    out, header = bytearray(data), struct.unpack("<Q", data[:8])[0]
    at = int(rng.integers(len(out)))
    if how == "flipped bits":
        for k in rng.integers(len(out), size=rng.choice([1, 1, 1, 2, 5])):
            out[k] ^= 1 << rng.integers(8)
    elif how == "header":
        out[int(rng.integers(8, 8 + header))] = rng.choice(list(b'0123456789",:[]{}FIU6432'))
    elif how == "edited header":
        text = data[8 : 8 + header].decode()
        old = str(
            rng.choice(["I64", "F64", "U8", "data_offsets", "shape", "[", "0,", "crc32", "pool", "step", "length"])
        )
        new = str(
            rng.choice(
                [
                    "F64",
                    "I64",
                    "U8",
                    "BF16",
                    "F8_E4M3",
                    "I8",
                    "BOOL",
                    "F16",
                    "U64",
                    "C64",
                    "-1,",
                    "9" * 20 + ",",
                    "[[",
                    "crc33",
                    "",
                ]
            )
        )
        places = [k for k in range(len(text)) if text.startswith(old, k)]
        if places:
            k = int(rng.choice(places))
            text = text[:k] + new + text[k + len(old) :]
        edited = text.encode()
        if rng.random() < 0.5:
            edited = edited.ljust(header)[:header]
        out = bytearray(struct.pack("<Q", len(edited)) + edited + data[8 + header :])
    elif how == "length":
        sizes = [0, 1, 2**63, 2**64 - 1, 2**32, header + 1, header - 1, 100_000_001, 99_999_999]
        out[:8] = struct.pack("<Q", sizes[rng.integers(len(sizes))])
    elif how == "cut":
        del out[at:]
    elif how == "more":
        out[at:at] = rng.bytes(rng.integers(1, 30))
    elif how == "fewer":
        del out[at : at + int(rng.integers(1, 60))]
    else:
        first, last = sorted(rng.integers(len(out), size=2).tolist())
        out[first:last] = bytes(rng.permutation(np.frombuffer(data[first:last], np.uint8)))
    return bytes(out), how


def _limit() -> None:
    """Let this process take no more than `ROOM` beyond what it has, once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        pages = int(Path(f"/proc/{os.getpid()}/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
