"""Saved states with something wrong, by chance: what `load` must refuse, or take and work with.

`attack` changes the arrays of states, and gives them a checksum that fits; `attack_bytes` changes the bytes of files.  Both
count what happened, and list as faults: any error but `CheckpointError`, a warning, a state that a refusal changed, a state
that was taken and then does not work, a call that takes long or memory that is out of proportion.
"""

from __future__ import annotations

import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernadv import KernelValueEstimator, Steps, Visits
from kernadv._checkpoint import save_arrays
from kernadv._errors import CheckpointError
from kernadv.pooling import Pooling

State = dict[str, Any]

#: Seconds that a load may take, and memory beyond what was in use: as many times the size of the state, and 50 MB.
SECONDS, TIMES, BEYOND = 1.0, 10, 50 * 2**20

FEATURES = {key: [k / 4.0, 1.0 - k % 3] for k in range(8) for key in (k, f"prompt {k}")}
MORE_FEATURES = {key: [*row, 1.0 + row[0] ** 2] for key, row in FEATURES.items()}

MAKE: dict[str, Callable[[], KernelValueEstimator]] = {
    "default": KernelValueEstimator,
    "one filter": lambda: KernelValueEstimator(pooling=Pooling((2.0,), (0.1,), (), (0.0,))),
    "walks": lambda: KernelValueEstimator(pooling=Pooling(discounts=())),
    "other walks": lambda: KernelValueEstimator(pooling=Pooling(walks=(0.0, 0.5), common=(0.3,))),
    "kae": KernelValueEstimator.kae,
    "all": lambda: KernelValueEstimator(Steps(float("inf")), "uniform"),
    "visits": lambda: KernelValueEstimator(Visits(3)),
    "line": lambda: KernelValueEstimator(Steps(9.0), smoother="local_linear", allow_late=5),
    "capped": lambda: KernelValueEstimator(max_visits=3, max_total=20, allow_late=5),
    "weighted": lambda: KernelValueEstimator(weighted=True),
    "features": lambda: KernelValueEstimator(features=FEATURES),
    "more features": lambda: KernelValueEstimator(features=MORE_FEATURES),
    "function": lambda: KernelValueEstimator(features=lambda ids: [FEATURES[i] for i in ids]),
}


class Report(NamedTuple):
    """What became of the mutations.

    Attributes
    ----------
    outcomes : Counter of str
        "refused", "same" (taken, nothing had changed) or "taken".
    faults : list of str
    slowest : float
        Seconds of the longest load.
    """

    outcomes: Counter[str]
    faults: list[str]
    slowest: float


def filled(name: str, seed: int = 0, steps: int = 9) -> KernelValueEstimator:
    """An estimator with a short history; of an odd seed its ids are whole numbers."""
    est, rng = MAKE[name](), np.random.default_rng(seed)
    for step in range(1, steps + 1):
        row = rng.integers(0, 6, 12)
        batch = row if seed % 2 else [f"prompt {k}" for k in row]
        weights = {"weights": rng.random(12) + 0.1} if est.weighted else {}
        est.advantages(batch, (rng.random(12) < 0.5) * 1.0, step, **weights)
    return est


# ---------------------------------------------------------------- one change of a state; each may change what it is given


def _dtype(rng: Any, state: State, name: str) -> None:
    kinds = ["i1", "i4", "u8", "u1", "f4", "f2", "f8", "i8", "b1", "c16", "O", "U3", "M8[s]", ">f8", ">i8"]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = np.dtype(rng.choice(kinds))
        state[name] = state[name].astype("i8" if kind.kind == "M" else kind).astype(kind)


def _bits(rng: Any, state: State, name: str) -> None:
    kind = {8: "f8 i8 u8", 1: "i1 u1 b1"}.get(state[name].dtype.itemsize, "u1").split()
    state[name] = state[name].view(rng.choice(kind))


def _shape(rng: Any, state: State, name: str) -> None:
    x = state[name]
    ways = [
        x[None],
        x[..., None],
        x.ravel(),
        x.ravel()[:1].reshape(()) if x.size else x[None, None],
        x.T,
        x.ravel()[:0],
    ]
    state[name] = ways[rng.integers(len(ways))]


WHOLE = [0, 1, -1, 2, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), -(2**62), 255]
REAL = [0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e100, -1e100, 1e200, 1e-200, 1e30, 0.5]


def _value(rng: Any, x: Any) -> Any:
    if x.dtype.kind == "f":
        return rng.choice(REAL) if rng.random() < 0.8 else rng.normal() * 10.0 ** rng.integers(-30, 30)
    whole = int(WHOLE[rng.integers(len(WHOLE))])
    limits = np.iinfo(x.dtype) if x.dtype.kind in "iu" else None
    return whole if limits is None else min(max(whole, limits.min), limits.max)


def _extreme(rng: Any, state: State, name: str) -> None:
    x = state[name] = state[name].copy()
    if x.size:
        many = rng.choice([1, 1, 2, x.size])
        x.ravel()[rng.integers(0, x.size, many)] = _value(rng, x)


def _scale(rng: Any, state: State, name: str) -> None:
    with np.errstate(all="ignore"):
        state[name] = state[name] * rng.choice([-1, 0, 2, 10, 1000])


def _permute(rng: Any, state: State, name: str) -> None:
    state[name] = rng.permutation(state[name]) if state[name].ndim else state[name]


def _repeat(rng: Any, state: State, name: str) -> None:
    x = state[name] = state[name].copy()
    if x.ndim and len(x) > 1:
        a, b = rng.integers(0, len(x), 2)
        x[a] = x[b]


def _cut(rng: Any, state: State, name: str) -> None:
    x = state[name]
    state[name] = x[: rng.integers(0, len(x) + 1)] if x.ndim else x


def _extend(rng: Any, state: State, name: str) -> None:
    x = np.atleast_1d(state[name])
    state[name] = np.concatenate([x, x[: rng.integers(1, 4)]] if rng.random() < 0.8 else [x] * 50)


def _remove(rng: Any, state: State, name: str) -> None:
    del state[name]


def _rename(rng: Any, state: State, name: str) -> None:
    state[rng.choice(["n", "pool.x", "pool.common.x", "notes", name + "x", "ids_int", "unit", "x"])] = state.pop(name)


def _add(rng: Any, state: State, name: str) -> None:
    state[rng.choice(["x", "pool.x.y", "ids_int", "ids_text", "pool.features.centre", "unit"])] = np.ones(3)


def _wrap(rng: Any, state: State, name: str) -> None:
    """Lengths whose sum is right only because it wraps."""
    name = rng.choice([key for key in ("length", "ids_length") if key in state] or [name])
    x = state[name] = np.array(state[name], np.int64)
    if len(x) > 3 and x.ndim == 1:
        with np.errstate(all="ignore"):
            x[:4] += np.array([2**62] * 4, np.int64)


def _halve(rng: Any, state: State, name: str) -> None:
    """One visit less of one prompt, one more of another."""
    x = state.get("length")
    if x is not None and x.ndim == 1 and len(x) > 1:
        a, b = rng.integers(0, len(x), 2)
        x = state["length"] = x.copy()
        x[a], x[b] = x[a] - 1, x[b] + 1


def _huge(rng: Any, state: State, name: str) -> None:
    """Few bytes that ask for much."""
    state["pool.features.centre"] = np.zeros(rng.choice([1000, 20_000, 100_000]))


def _steps(rng: Any, state: State, name: str) -> None:
    if "step" in state and state["step"].ndim == 1 and len(state["step"]):
        x = state["step"] = state["step"].astype(np.int64)
        x[rng.integers(len(x))] = rng.choice([*WHOLE, -(2**53), -(2**53) - 1])


MUTATIONS = [_dtype, _bits, _shape, _extreme, _extreme, _extreme, _scale, _permute, _repeat, _cut, _extend, _remove, _rename,
             _add, _wrap, _halve, _huge, _steps]  # fmt: skip


def mutated(rng: Any, state: State, others: list[State]) -> State:
    """A copy of a state with one to three things changed, or with an array of another configuration's state."""
    state = dict(state)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        name = str(rng.choice(sorted(state)))
        if rng.random() < 0.1:
            other = others[rng.integers(len(others))]
            name = str(rng.choice(sorted(other)))
            state[name] = other[name]
        elif rng.random() < 0.03:
            keep = dict(state)
            state = dict(others[rng.integers(len(others))]) | {"config": keep.get("config", np.zeros(1, np.uint8))}
        else:
            change = MUTATIONS[rng.integers(len(MUTATIONS))]
            try:
                change(rng, state, name)
            except (ValueError, TypeError, OverflowError, IndexError):
                continue  # a change that this array does not allow
    return state


# ---------------------------------------------------------------- trying them


def same(a: State, b: State) -> bool:
    """Whether two states are equal, bit by bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def works(est: KernelValueEstimator) -> str:
    """What is wrong with the results of an estimator whose state was taken; nothing: it works."""
    newest = int(est.state_dict()["counters"][2])
    ids = (est._state.history.ids or ["prompt 1"])[:3]
    if est._rule.config(None, {}).get("features") is not None:
        ids = [i for i in ids if i in FEATURES] or ["prompt 1" if est._state.history.id_type is str else 1]
    for step in (newest + 1, newest + 2, 10**9 + newest):
        if step > 2**53:
            break
        rewards = np.tile([1.0, 0.0], len(ids))
        rows, weights = [i for i in ids for _ in range(2)], {"weights": np.ones(2 * len(ids))} if est.weighted else {}
        value = est.values(rows, rewards, step)
        if not np.isfinite(value.value[value.defined]).all():
            return f"values at step {step} are not finite"
        est.intervals(rows, rewards, step)
        if not np.isfinite(est.advantages(rows, rewards, step, **weights)).all():
            return f"advantages at step {step} are not finite"
        if est._state.history.find(ids[:1])[0] >= 0:
            est.explain(ids[0])
    again = est.state_dict()
    bad = [name for name, x in again.items() if not np.isfinite(x).all()]
    est.metrics()
    if not bad:
        est.load_state_dict(again)
    return f"{', '.join(bad)} of the state are not finite afterwards" if bad else ""


def _size(state: State) -> int:
    return sum(np.asarray(x).nbytes for x in state.values())


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _try(
    load: Callable[[KernelValueEstimator], None], target: str, seed: int, size: int, good: State
) -> tuple[str, str, float]:
    """Outcome, fault and processor seconds of a load into an estimator that has seen something else."""
    est = filled(target, seed, 2)
    before, peak, began = est.state_dict(), _peak(), time.process_time()
    outcome = fault = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            load(est)
        except CheckpointError:
            outcome = "refused"
        except Exception as error:
            fault = f"load raised {error!r:.200} at {traceback.extract_tb(error.__traceback__)[-1]}"
        took, more = time.process_time() - began, _peak() - peak
        if took > SECONDS:
            fault = fault or f"load took {took:.1f} s"
        if more > TIMES * size + BEYOND:
            fault = fault or f"load took {more / 2**20:.0f} MB for a state of {size} bytes"
        if outcome == "refused":
            if not same(est.state_dict(), before):
                fault = fault or "a refused state changed the estimator"
        elif not fault:
            outcome = "same" if same(est.state_dict(), good) else "taken"
            try:
                fault = works(est)
            except Exception as error:
                fault = f"taken, then {error!r:.200} at {traceback.extract_tb(error.__traceback__)[-1]}"
    return outcome, fault, took


def attack(count: int, seed: int = 0) -> Report:
    """Load `count` states with something changed and, where they are taken, use them.

    Half of them come through a file, with a checksum that fits.
    """
    rng = np.random.default_rng(seed)
    states = {(name, kind): filled(name, kind).state_dict() for name in MAKE for kind in (0, 1)}
    others = list(states.values())
    names = list(states)
    outcomes: Counter[str] = Counter()
    faults, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        for case in range(count):
            name, kind = names[rng.integers(len(names))]
            state = mutated(rng, states[name, kind], others)
            strict = bool(rng.random() < 0.8)
            load = lambda est, state=state, strict=strict: est.load_state_dict(state, strict=strict)
            if rng.random() < 0.5 and _writable(path, state):
                load = lambda est, strict=strict: est.load(path, strict=strict)
            outcome, fault, took = _try(load, name, kind, _size(state), states[name, kind])
            outcomes[outcome] += 1
            slowest = max(slowest, took)
            if fault:
                faults.append(f"case {case} of seed {seed}, {name}: {fault}")
    return Report(outcomes, faults, slowest)


def _writable(path: Path, state: State) -> bool:
    """Write the state, if the format of the file has its types."""
    try:
        save_arrays(path, state)
    except Exception:
        return False
    return True


WORDS = [
    *[
        "I64",
        "F64",
        "U8",
        "BF16",
        "F8_E4M3",
        "F8_E8M0",
        "I8",
        "BOOL",
        "F16",
        "U64",
        "C64",
        "-1,",
        "99999999999999999999,",
        "[[",
    ],
    "",
]


def changed_bytes(rng: Any, data: bytes) -> bytes:
    """A file with bytes changed, cut, put in or shuffled, or with words of its header replaced."""
    out, header = bytearray(data), struct.unpack("<Q", data[:8])[0]
    place = int(rng.integers(len(out)))
    way = int(rng.integers(8))
    if way < 3:
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            out[rng.integers(len(out))] ^= 1 << int(rng.integers(8))
    elif way == 3:
        out[rng.integers(8, 8 + header)] = rng.choice(list(b'0123456789",:[]{}FIU6432'))
    elif way == 4:
        end = place + int(rng.integers(1, 60))
        shuffled = bytes(rng.permutation(list(data[place:end])).astype("u1"))
        out[place:end] = [b"", rng.bytes(int(rng.integers(1, 30))), shuffled][rng.integers(3)]
    elif way == 5:
        del out[place:]
    elif way == 6:
        sizes = [0, 1, 2**63, 2**64 - 1, 2**32, header + 1, header - 1, 100_000_001]
        out[:8] = struct.pack("<Q", sizes[rng.integers(len(sizes))])
    else:
        text = data[8 : 8 + header].decode()
        old = str(rng.choice(["I64", "F64", "U8", "offsets", "shape", "[", "0,", "crc32", "pool", "step"]))
        found = [i for i in range(len(text)) if text.startswith(old, i)] or [0]
        at = found[rng.integers(len(found))]
        text = text[:at] + str(rng.choice(WORDS)) + text[at + len(old) :]
        new = text.encode()
        out = bytearray(struct.pack("<Q", len(new)) + new + data[8 + header :])
    return bytes(out)


def attack_bytes(count: int, seed: int = 0) -> Report:
    """Load `count` files with bytes changed; what is taken must be what was saved."""
    rng = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter()
    faults, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        whole = []
        for name in ("default", "kae", "features", "weighted"):
            for kind in (0, 1):
                saved = filled(name, kind)
                saved.save(path)
                whole.append((name, kind, path.read_bytes(), saved.state_dict()))
        for case in range(count):
            name, kind, data, good = whole[rng.integers(len(whole))]
            changed = changed_bytes(rng, data)
            path.write_bytes(changed)
            outcome, fault, took = _try(lambda est: est.load(path), name, kind, len(changed), good)
            outcomes[outcome] += 1
            slowest = max(slowest, took)
            if outcome == "taken":
                fault = fault or "other content was taken"
            if fault:
                faults.append(f"case {case} of seed {seed}, {name}: {fault}")
    return Report(outcomes, faults, slowest)
