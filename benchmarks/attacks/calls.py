"""Fuzzed calls of the estimator: valid and absurd arguments of every type that a user may come by.

Only errors of the package are raised, a failed or reading call changes nothing, nothing warns, no call takes long, and the
own reward of a trace never enters its own value, not even in its last bit.
"""

from __future__ import annotations

import collections
import copy
import decimal
import enum
import fractions
import functools
import pickle
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.attacks import _estimators
from benchmarks.attacks._estimators import CONFIGURATIONS, same
from benchmarks.attacks._row import Part, Row
from kernadv import KernadvError, KernelValueEstimator, Relative, Steps, Visits
from kernadv.pooling import Pooling

__all__ = ["KIND", "parts", "warm_up"]

KIND = "calls"
#: CPU seconds that a call may take.
SECONDS = 2.0
FEATURES = {k: [k / 8.0, k % 3] for k in range(6)} | {f"p{k}": [k / 8.0, k % 3] for k in range(6)}
#: One reward a trace only: those of `CONFIGURATIONS`, and more.
MAKE: dict[str, Callable[[], Any]] = {
    **{name: how.make for name, how in CONFIGURATIONS.items() if not how.components and name != "features"},
    "features": lambda: KernelValueEstimator(features=FEATURES),
    "endless": lambda: KernelValueEstimator(Steps(float("inf")), "uniform"),
    "neighbours": lambda: KernelValueEstimator(Visits(3)),
    "gaussian": lambda: KernelValueEstimator(Steps(3.0), "gaussian", allow_late=True),
    "few late": lambda: KernelValueEstimator(max_visits=3, max_total=16, allow_late=5),
    "weighted late": lambda: KernelValueEstimator(weighted=True, allow_late=3, pooling=Pooling(walks=(0.1,))),
    "strict": lambda: KernelValueEstimator(Relative(0.5), cold_start="error"),
    "constant": lambda: KernelValueEstimator(cold_start=0.25),
    "one filter": lambda: KernelValueEstimator(pooling=Pooling((2.0,), (0.0,), (), (0.0,))),
}
METHODS = (
    ("advantages",) * 4 + ("observe", "values") * 2 + ("baselines", "intervals", "explain", "metrics", "load", "copy")
)
READING = ("values", "baselines", "intervals", "explain", "metrics", "load", "copy")


class Number(enum.IntEnum):
    """An id that is an int of another class."""

    ONE = 1


class Text(str):
    """An id that is a str of another class."""


def parts(short: bool, seed: int) -> list[Part]:
    """100,000 calls, spread over the configurations."""
    calls = 40 if short else 100_000 // len(MAKE) + 1
    return [functools.partial(fuzzed, name, calls, seed) for name in MAKE]


def warm_up() -> None:
    """As for all estimators, and the libraries that arguments come from."""
    _estimators.warm_up()
    _torch(), _pandas(), _polars()


def fuzzed(name: str, calls: int, seed: int, make: Callable[[], Any] | None = None) -> Row:
    """Call an estimator of that name `calls` times; a new one now and then."""
    row = Row(KIND, "random calls of the estimator")
    rng = random.Random(f"{seed} {name}")
    while row.count < calls:
        estimator, text = (make or MAKE[name])(), rng.random() < 0.5
        newest = 1
        for _ in range(min(rng.randrange(5, 60), calls - row.count)):
            newest = _one(row, name, estimator, text, newest, make or MAKE[name], rng)
    return row


def _one(
    row: Row, name: str, estimator: Any, text: bool, newest: int, make: Callable[[], Any], rng: random.Random
) -> int:
    """One call and what must hold of it; returns the newest step."""
    rows = rng.choice([1, 1, 2, 3, 5, 8, 16]) if rng.random() > 0.02 else rng.choice([0, 200])
    base = [rng.randrange(6) for _ in range(rows)]
    bits = [float(rng.random() < 0.5) for _ in range(rows)]
    usual = ("p0 p1 ..." if text else "0 1 ...", [f"p{k}" for k in base] if text else base)
    id_kind, ids = usual if rng.random() < 0.5 else _drawn(IDS, rng, base)
    reward_kind, rewards = ("0 or 1", bits) if rng.random() < 0.5 else _drawn(REWARDS, rng, bits)
    step_kind, step = ("the next", newest + 1) if rng.random() < 0.5 else _drawn(STEPS, rng, newest, rows)
    weight_kind, weights = "none", None
    if estimator.weighted or rng.random() < 0.02:
        usual_weights = [rng.random() + 0.05 for _ in range(rows)]
        weight_kind, weights = ("usual", usual_weights) if rng.random() < 0.6 else _drawn(WEIGHTS, rng, rows)
    method = rng.choice(METHODS)
    said = f"{name}.{method}(ids {id_kind}, rewards {reward_kind}, step {step_kind}, weights {weight_kind})"
    before = estimator.state_dict()
    row.count += 1
    failed, result, began = False, None, time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = _call(estimator, method, ids, rewards, step, weights, before, make, rng)
            row.outcomes["done"] += 1
        except KernadvError:
            failed = True
            row.outcomes["refused"] += 1
        except Exception as error:
            failed = True
            row.fail(f"{type(error).__name__}: {str(error)[:60]}", said)
    took = time.process_time() - began
    row.slowest = max(row.slowest, took)
    if took > SECONDS:
        row.fail(f"more than {SECONDS:g} s of CPU", said)
    for warning in caught:
        if "no features" not in str(warning.message):  # said on purpose, of prompts without any
            row.fail(f"{warning.category.__name__}: {str(warning.message)[:60]}", said)
    after = estimator.state_dict()
    if (failed or method in READING) and not same(before, after):
        row.fail("the state has changed", f"{'failed ' if failed else ''}{said}")
    if not failed and method == "values" and reward_kind in ("0 or 1", "normal", "far from 0") and id_kind == usual[0]:
        _own_reward(row, estimator, ids, rewards, step, result, said, rng)
    if not failed and method == "advantages" and _wide(result) and not np.isfinite(_floats(result)).all():
        row.fail("an advantage is not finite", said)
    if not failed and method in ("advantages", "observe"):
        _own_state(row, estimator, make, said)
    return int(after["counters"][-1])


def _call(
    estimator: Any,
    method: str,
    ids: Any,
    rewards: Any,
    step: Any,
    weights: Any,
    state: Any,
    make: Any,
    rng: random.Random,
) -> Any:
    """The call, with what else it needs."""
    if method == "intervals":
        level = rng.choice([0.95, 0.5, 1 - 1e-9, 1e-12, 0.0, 1.0, "0.9", None])
        return estimator.intervals(ids, rewards, step, level=level)
    if method == "explain":
        first = ids[0] if isinstance(ids, list) and ids else ids
        return estimator.explain(
            rng.choice([first, 0, "p0", "no", None, 1.5, True, "\0", b"x", [1]]), rng.choice([None, step])
        )
    if method == "metrics":
        return estimator.metrics()
    if method == "load":
        saved = dict(state)
        if rng.random() < 0.5:
            del saved[rng.choice(sorted(saved))]
        return make().load_state_dict(saved)
    if method == "copy":
        return copy.deepcopy(estimator) if rng.random() < 0.5 else pickle.loads(pickle.dumps(estimator))
    if method == "values":
        return estimator.values(ids, rewards, step)
    return getattr(estimator, method)(ids, rewards, step, weights=weights)


def _own_reward(
    row: Row,
    estimator: Any,
    ids: Any,
    rewards: list[float],
    step: Any,
    first: Any,
    said: str,
    rng: random.Random,
) -> None:
    """Another reward of one trace must not change what is said of this trace."""
    if not ids:
        return
    at = rng.randrange(len(ids))
    other = list(rewards)
    other[at] = rng.choice([0.0, 1.0, -1.5, 3.7, 1e6, 1e-9, 1e60])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        second = estimator.values(ids, other, step)
    row.outcomes["checks of the own reward"] += 1
    for field in first._fields:
        x, y = (np.asarray(getattr(estimate, field))[at] for estimate in (first, second))
        if x.tobytes() != y.tobytes():
            row.fail(f"the own reward enters the own {field}", said)


def _own_state(row: Row, estimator: Any, make: Callable[[], Any], said: str) -> None:
    """What an estimator says is its state must be one that it takes back."""
    try:
        make().load_state_dict(estimator.state_dict())
    except KernadvError as error:
        row.fail(f"the own state is refused: {str(error)[:60]}", said)


def _drawn(kinds: dict[str, Callable[..., Any]], rng: random.Random, *arguments: Any) -> tuple[str, Any]:
    """One of some kinds of arguments, and its name."""
    name = rng.choice(list(kinds))
    return name, kinds[name](rng, *arguments)


def _torch() -> Any:
    import torch

    return torch


def _pandas() -> Any:
    import pandas

    return pandas


def _polars() -> Any:
    import polars

    return polars


def _tensor(kind: str) -> Callable[..., Any]:
    """The rewards in a tensor of that dtype."""
    return lambda rng, z: _torch().tensor(z, dtype=getattr(_torch(), kind))


def _numpy(kind: str) -> Callable[..., Any]:
    """The rewards in an array of that dtype."""
    return lambda rng, z: np.array(z).astype(kind)


def _floats(x: Any) -> np.ndarray:
    return np.asarray(x.detach().double().cpu() if hasattr(x, "detach") else x, np.float64)


def _wide(x: Any) -> bool:
    """Whether an array or tensor holds float64: a narrower type may not hold what rewards of another type amount to."""
    return str(x.dtype).endswith("float64")


def _masked(z: Any, all_of_it: bool) -> Any:
    return np.ma.array(z, mask=[all_of_it or k == 0 for k in range(len(z))])


def _read_only(z: Any) -> np.ndarray:
    array = np.array(z)
    array.setflags(write=False)
    return array


TEXTS = ["\0", "a\0", "\ud800", "é", "e\u0301", "", "x" * 100_000, "\U0001f600", "p\n"]
IDS: dict[str, Callable[..., Any]] = {
    "other ints": lambda rng, k: [np.int64(x) for x in k],
    "an array": lambda rng, k: np.array(k),
    "int8": lambda rng, k: np.array(k, np.int8),
    "uint64": lambda rng, k: np.array(k, np.uint64) + np.uint64(rng.choice([0, 2**63])),
    "huge": lambda rng, k: [rng.choice([2**63 - 1, -(2**63), 2**63, 2**200, x]) for x in k],
    "odd text": lambda rng, k: [rng.choice(TEXTS) for _ in k],
    "text in an array": lambda rng, k: np.array([f"p{x}" for x in k]),
    "text in an array of objects": lambda rng, k: np.array([f"p{x}" for x in k], object),
    "a tensor": lambda rng, k: _torch().tensor(k),
    "a meta tensor": lambda rng, k: _torch().zeros(len(k), dtype=_torch().long, device="meta"),
    "a pandas series": lambda rng, k: _pandas().Series([f"p{x}" for x in k], index=range(10, 10 + len(k))),
    "a pandas category": lambda rng, k: _pandas().Series([f"p{x}" for x in k]).astype("category"),
    "a pandas index": lambda rng, k: _pandas().Index(k),
    "a pandas series with gaps": lambda rng, k: _pandas().Series([1, None], dtype="Int64"),
    "a polars series": lambda rng, k: _polars().Series([f"p{x}" for x in k]),
    "a tuple": lambda rng, k: tuple(k),
    "None among them": lambda rng, k: [None, *k[1:]],
    "floats": lambda rng, k: [float(x) for x in k],
    "bools": lambda rng, k: [bool(x % 2) for x in k],
    "mixed": lambda rng, k: [x if i % 2 else f"p{x}" for i, x in enumerate(k)],
    "a subclass of str": lambda rng, k: [Text(f"p{x}") for x in k],
    "an enum": lambda rng, k: [Number.ONE for _ in k],
    "bytes": lambda rng, k: [b"p" for _ in k],
    "lists": lambda rng, k: [[x] for x in k],
    "two dimensions": lambda rng, k: np.array([k, k]),
    "a generator": lambda rng, k: (x for x in k),
    "a set": lambda rng, k: set(k),
    "one text": lambda rng, k: "p0",
    "bytes in an array": lambda rng, k: np.array([b"p0"] * len(k)),
    "dates": lambda rng, k: np.array(["2020-01-01"] * len(k), "M8[D]"),
    "masked": lambda rng, k: _masked(k, False),
    "a range": lambda rng, k: range(len(k)),
    "a deque": lambda rng, k: collections.deque(k),
    "no dimension": lambda rng, k: np.array(3),
    "a dict": lambda rng, k: dict.fromkeys(k, 1),
    "a memoryview": lambda rng, k: memoryview(bytes(k)),
    "a bytearray": lambda rng, k: bytearray(k),
    "None": lambda rng, k: None,
}
REWARDS: dict[str, Callable[..., Any]] = {
    "normal": lambda rng, z: [rng.gauss(0, 1) for _ in z],
    "far from 0": lambda rng, z: [1e8 + x for x in z],
    "very far from 0": lambda rng, z: [1e15 + x for x in z],
    "some NaN": lambda rng, z: [rng.choice([x, float("nan")]) for x in z],
    "all NaN": lambda rng, z: [float("nan")] * len(z),
    "infinite": lambda rng, z: [rng.choice([x, float("inf"), -float("inf")]) for x in z],
    "too large": lambda rng, z: [x * rng.choice([1e300, 1e99, 1e100]) for x in z],
    "as large as can be": lambda rng, z: [rng.choice([-1e100, 1e100, 1e99, 0.0]) for _ in z],
    "denormal": lambda rng, z: [rng.choice([5e-324, 1e-310, -5e-324, 0.0]) for _ in z],
    "of all sizes": lambda rng, z: [rng.choice([1e-200, 1e80, 1.0, -1e50]) for _ in z],
    "negative zeros": lambda rng, z: [-0.0] * len(z),
    "float16": _numpy("f2"),
    "float32": _numpy("f4"),
    "long double": _numpy("g"),
    "big-endian": _numpy(">f8"),
    "numpy bool": _numpy("?"),
    "complex": _numpy("c16"),
    "timedelta": lambda rng, z: np.array([1] * len(z), "m8[s]"),
    "uint64": lambda rng, z: np.array([2**64 - 1] * len(z), np.uint64),
    "ints": lambda rng, z: [int(x) for x in z],
    "bools": lambda rng, z: [bool(x) for x in z],
    "huge ints": lambda rng, z: [10 ** rng.choice([30, 400])] * len(z),
    "numpy scalars": lambda rng, z: [np.float32(x) for x in z],
    "decimals": lambda rng, z: [decimal.Decimal(rng.choice(["0.1", "NaN", "sNaN"])) for _ in z],
    "fractions": lambda rng, z: [fractions.Fraction(1, 3)] * len(z),
    "objects": lambda rng, z: [object()] * len(z),
    "Nones": lambda rng, z: [None] * len(z),
    "text": lambda rng, z: ["1.0"] * len(z),
    "complex numbers": lambda rng, z: [complex(x) for x in z],
    "lists": lambda rng, z: [[x] for x in z],
    "ragged lists": lambda rng, z: [[x] * (1 + i % 2) for i, x in enumerate(z)],
    "one short": lambda rng, z: z[:-1],
    "a tuple": lambda rng, z: tuple(z),
    "a generator": lambda rng, z: (x for x in z),
    "a scalar": lambda rng, z: 1.0,
    "no dimension": lambda rng, z: np.array(1.0),
    "a range": lambda rng, z: range(len(z)),
    "masked": lambda rng, z: _masked(z, False),
    "all masked": lambda rng, z: _masked(z, True),
    "read-only": lambda rng, z: _read_only(z),
    "reversed": lambda rng, z: np.array(z)[::-1],
    "strided": lambda rng, z: np.array(z + z)[::2],
    "a pandas series": lambda rng, z: _pandas().Series(z, index=range(5, 5 + len(z))),
    "a pandas series with gaps": lambda rng, z: _pandas().Series([_pandas().NA] * len(z), dtype="Float64"),
    "a data frame": lambda rng, z: _pandas().DataFrame({"a": z}),
    "a polars series": lambda rng, z: _polars().Series(z, dtype=_polars().Float64),
    "a polars series with gaps": lambda rng, z: _polars().Series([None, *z[1:]], dtype=_polars().Float64),
    "a tensor": _tensor("float32"),
    "a float64 tensor": _tensor("float64"),
    "a bfloat16 tensor": _tensor("bfloat16"),
    "a float16 tensor": _tensor("float16"),
    "an int tensor": _tensor("int64"),
    "a bool tensor": _tensor("bool"),
    "a complex tensor": _tensor("complex64"),
    "a float8 tensor": lambda rng, z: _torch().tensor(z).to(_torch().float8_e4m3fn),
    "a tensor with a gradient": lambda rng, z: _torch().tensor(z, requires_grad=True),
    "a parameter": lambda rng, z: _torch().nn.Parameter(_torch().tensor(z)),
    "a strided tensor": lambda rng, z: _torch().tensor(z + z)[::2],
    "an expanded tensor": lambda rng, z: _torch().tensor(1.0).expand(len(z)),
    "a meta tensor": lambda rng, z: _torch().zeros(len(z), device="meta"),
    "a sparse tensor": lambda rng, z: _torch().tensor(z).to_sparse(),
    "a tensor of two dimensions": lambda rng, z: _torch().tensor(z)[:, None],
    "tensors": lambda rng, z: [_torch().tensor(x) for x in z],
    "tensors with gradients": lambda rng, z: [_torch().tensor(x, requires_grad=True) for x in z],
}
STEPS: dict[str, Callable[..., Any]] = {
    "the newest": lambda rng, t, n: max(t, 1),
    "late": lambda rng, t, n: max(1, t - rng.randrange(1, 8)),
    "much later": lambda rng, t, n: t + rng.randrange(1, 300),
    "one a row": lambda rng, t, n: [t + rng.randrange(1, 5) for _ in range(n)],
    "one a row, some late": lambda rng, t, n: [max(1, t + rng.randrange(-4, 3)) for _ in range(n)],
    "int32": lambda rng, t, n: np.array([min(t + 1, 2**31 - 1)] * n, np.int32),
    "a float": lambda rng, t, n: float(t + 1),
    "a half": lambda rng, t, n: t + 0.5,
    "numpy float": lambda rng, t, n: np.float32(t + 1),
    "numpy int": lambda rng, t, n: np.int64(min(t + 1, 2**62)),
    "0": lambda rng, t, n: 0,
    "negative": lambda rng, t, n: -3,
    "beyond 2^53": lambda rng, t, n: rng.choice([2**53 + 1, 2**62, 2**63, 10**30]),
    "2^53, rarely": lambda rng, t, n: 2**53 if rng.random() < 0.2 else t + 1,
    "infinite": lambda rng, t, n: float("inf"),
    "NaN": lambda rng, t, n: float("nan"),
    "text": lambda rng, t, n: "3",
    "None": lambda rng, t, n: None,
    "True": lambda rng, t, n: True,
    "complex": lambda rng, t, n: complex(t + 1),
    "a decimal": lambda rng, t, n: decimal.Decimal(t + 1),
    "uint64": lambda rng, t, n: np.uint64(2**64 - 1),
    "objects": lambda rng, t, n: np.array([t + 1] * n, object),
    "masked": lambda rng, t, n: _masked([t + 1] * n, True),
    "two dimensions": lambda rng, t, n: [[t] * n],
    "one short": lambda rng, t, n: [t + 1] * (n - 1),
    "a pandas series": lambda rng, t, n: _pandas().Series([t + 1] * n, index=range(3, 3 + n)),
    "a tensor": lambda rng, t, n: _torch().tensor(t + 1),
    "a tensor of rows": lambda rng, t, n: _torch().full((n,), t + 1),
    "a bfloat16 tensor": lambda rng, t, n: _torch().full((n,), float(t + 1), dtype=_torch().bfloat16),
    "a meta tensor": lambda rng, t, n: _torch().zeros(n, dtype=_torch().long, device="meta"),
    "a tensor with a gradient": lambda rng, t, n: _torch().tensor([float(t + 1)] * n, requires_grad=True),
}
WEIGHTS: dict[str, Callable[..., Any]] = {
    "none": lambda rng, n: None,
    "0": lambda rng, n: [0.0] * n,
    "some 0": lambda rng, n: [rng.choice([0.0, 1.0]) for _ in range(n)],
    "negative": lambda rng, n: [-1.0] * n,
    "NaN": lambda rng, n: [float("nan")] * n,
    "infinite": lambda rng, n: [float("inf")] * n,
    "of all sizes": lambda rng, n: [rng.choice([1e100, 1.0, 1e-100]) for _ in range(n)],
    "powers of ten": lambda rng, n: [10.0 ** rng.randrange(-60, 60) for _ in range(n)],
    "denormal": lambda rng, n: [5e-324] * n,
    "tiny": lambda rng, n: [1e-200] * n,
    "a tensor": lambda rng, n: _torch().rand(n),
    "a bfloat16 tensor": lambda rng, n: _torch().rand(n).bfloat16(),
    "a tensor with a gradient": lambda rng, n: _torch().rand(n, requires_grad=True),
    "one short": lambda rng, n: [1.0] * (n - 1),
    "two dimensions": lambda rng, n: [[1.0]] * n,
    "text": lambda rng, n: ["a"] * n,
    "masked": lambda rng, n: _masked([1.0] * n, False),
}
