"""One trace counts once, in however many rows it comes."""

from copy import deepcopy
from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernadv import ComponentValueEstimator, KernelValueEstimator, Steps
from kernadv._errors import ArgumentError, ArgumentTypeError, KernadvError
from kernadv.parts import Parts, read_parts

nan = np.nan

#: Four rows: two parts of x, one of y, one of z.
GOOD = {"trace": ["x", "y", "x", "z"], "prompt_ids": ["a", "a", "a", "b"], "rewards": [1.0, 0.0, 1.0, nan], "step": 3}
BAD = {
    "rewards": (
        {"rewards": [1.0, 0.0, 0.0, nan]},
        ArgumentError,
        r"rows 0 and 2 .* rewards differ: 1\.0 and 0\.0; give each part the reward",
    ),
    "a reward and none": ({"rewards": [1.0, 0.0, nan, nan]}, ArgumentError, r"rewards differ: 1\.0 and nan"),
    "rewards of one component": (
        {"rewards": [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]},
        ArgumentError,
        r"rows 0 and 2 .* rewards differ: \[1\. 1\.\] and \[1\. 0\.\]",
    ),
    "two prompts": (
        {"prompt_ids": ["a", "a", "b", "b"]},
        ArgumentError,
        "prompts differ: 'a' and 'b'; a trace answers",
    ),
    "two steps": ({"step": [3, 3, 2, 3]}, ArgumentError, "rows 0 and 2 .* steps differ: 3 and 2; give all parts"),
    "two weights": ({"weights": [1.0, 1.0, 2.0, 1.0]}, ArgumentError, r"weights differ: 1\.0 and 2\.0; give each"),
    "too few": ({"trace": ["x", "y", "x"]}, ArgumentError, "got 4 prompt ids and 3 trace ids"),
    "too many": ({"trace": ["x", "y", "x", "z", "z"]}, ArgumentError, "got 4 prompt ids and 5 trace ids"),
    "none": ({"trace": ["x", None, "x", "z"]}, ArgumentTypeError, "trace ids must be .* got NoneType in row 1"),
    "all none": ({"trace": [None] * 4}, ArgumentTypeError, "got NoneType in row 0"),
    "NaN": ({"trace": np.array([1, nan, 1, 2])}, ArgumentTypeError, "got float in row 0"),
    "NaN among text": ({"trace": ["x", nan, "x", "z"]}, ArgumentTypeError, "got float in row 1: nan; use the number"),
    "floats": ({"trace": [1.0, 2.0, 1.0, 3.0]}, ArgumentTypeError, "trace ids must be str or int, got float"),
    "masked": ({"trace": np.ma.array([1, 2, 1, 3], mask=[0, 1, 0, 0])}, ArgumentTypeError, "got NoneType in row 1"),
    "bools": ({"trace": [True, False, True, False]}, ArgumentTypeError, "got bool"),
    "text and numbers": ({"trace": ["x", 1, "x", 2]}, ArgumentError, "trace ids must all be str or all be int"),
    "one text": ({"trace": "xyxz"}, ArgumentTypeError, "trace must be a sequence of ids"),
    "a number": ({"trace": 3}, ArgumentTypeError, "trace must be a sequence of ids"),
    "a set": ({"trace": {"x", "y", "z", "w"}}, ArgumentTypeError, "trace must be a sequence of ids"),
    "a matrix": ({"trace": np.ones((4, 1), int)}, ArgumentError, "trace must have one dimension"),
    "too large": ({"trace": [2**70, 1, 2**70, 2]}, ArgumentError, "int trace ids must fit 64 bits"),
}


@pytest.mark.parametrize(("wrong", "error", "message"), BAD.values(), ids=BAD)
def test_bad_parts(wrong, error, message):
    assert issubclass(error, KernadvError)
    with pytest.raises(error, match=message):
        read_parts(**{**GOOD, **wrong})


@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [[1.0]] * 3, [], 1.0, [[[1.0]]] * 4, [[1.0], [1.0, 2.0]], "text"])
def test_bad_rewards(rewards):
    with pytest.raises(KernadvError):
        read_parts(**{**GOOD, "rewards": rewards})


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20), st.booleans())
@settings(max_examples=100, deadline=None)
def test_parts_are_those_of_a_dictionary(rows, text):
    """Traces in the order of their first rows, whatever the ids look like."""
    names = [f"{prompt}/{k}" if text else 7 * prompt + k for prompt, k in rows]
    z = [float(k) if k else nan for _, k in rows]
    parts = read_parts(names, [prompt for prompt, _ in rows], z, 1)
    order = list(dict.fromkeys(names))
    assert isinstance(parts, Parts)
    assert parts.of.tolist() == [order.index(name) for name in names]
    assert parts.first.tolist() == [names.index(name) for name in order]
    matrix = read_parts(names, [prompt for prompt, _ in rows], np.column_stack([z, np.ones(len(z))]), 1)
    assert all(map(np.array_equal, matrix, parts))


def test_weights_of_what_is_not_scored_do_not_matter():
    parts = read_parts([1, 1, 2, 2], list("aabb"), [nan, nan, 1.0, 1.0], 1, weights=[5.0, nan, 2.0, 2.0])
    assert parts.first.tolist() == [0, 2]


#: With the wanted number of reward components; None: the rewards are no matrix.
MAKE = {
    "default": (KernelValueEstimator, None),
    "weighted": (lambda **more: KernelValueEstimator(weighted=True, **more), None),
    "pessimistic": (lambda **more: KernelValueEstimator(pessimism=2.0, allow_late=True, **more), None),
    "kae": (KernelValueEstimator.kae, None),
    "local-linear": (lambda **more: KernelValueEstimator(Steps(9), smoother="local_linear", **more), None),
    "components": (lambda **more: ComponentValueEstimator(2, **more), 2),
    "components-kae": (lambda **more: ComponentValueEstimator(2, bandwidth=Steps(9), **more), 2),
    "components-weighted": (lambda **more: ComponentValueEstimator(2, weighted=True, **more), 2),
}
every = pytest.mark.parametrize("name", MAKE)
everywhere = pytest.mark.parametrize("where", ["host", "device"])


def make(name, where):
    """An estimator, and what turns rewards into those that it takes there."""
    kind = MAKE[name][0]
    if where == "host":
        return kind(backend="numba"), np.asarray
    return kind(backend="torch"), pytest.importorskip("torch").as_tensor


def matrix(name, z):
    """Rewards of one or two components: the second is one minus the first."""
    return np.asarray(z) if MAKE[name][1] is None else np.column_stack([z, 1.0 - np.asarray(z)])


def weights(name, w):
    return {"weights": np.asarray(w)} if "weighted" in name else {}


def assert_same(mine, theirs, close=None):
    """Two states, or two sets of metrics, to the last bit, or closely."""
    assert mine.keys() == theirs.keys()
    for key in mine:
        if close is None or np.asarray(mine[key]).dtype.kind not in "f":
            np.testing.assert_array_equal(mine[key], theirs[key], err_msg=key)
        else:
            np.testing.assert_allclose(mine[key], theirs[key], rtol=close, atol=close, err_msg=key)


#: Prompt, probability of a reward, weight and number of rows of each trace.
TRACES = {
    "a/1": ("a", 0.3, 1.0, 3),
    "a/2": ("a", 0.3, 2.0, 1),
    "b/1": ("b", 0.6, 0.5, 2),
    "c/1": ("c", 0.8, 1.0, 2),
}


def gaps(name, where, told):
    """``E[A | z = 1] - E[A | z = 0]`` of each row, over all outcomes of the batch; `told` which rows are one trace."""
    est, kind = make(name, where)
    for step in range(1, 4):  # a and b have a past, c has none
        past = matrix(name, [1.0, float(step > 1), 0.0, 1.0])
        est.observe(["a", "a", "b", "b"], kind(past), step, **weights(name, [1.0, 2.0, 2.0, 1.0]))
    rows = [trace for turn in range(3) for trace, (*_, parts) in TRACES.items() if turn < parts]
    ids, p, w = ([TRACES[trace][k] for trace in rows] for k in range(3))
    given, total = weights(name, w) | ({"trace": rows} if told else {}), 0.0
    for outcome in product([0.0, 1.0], repeat=len(TRACES)):
        z_of = dict(zip(TRACES, outcome, strict=True))
        z = np.array([z_of[trace] for trace in rows])
        chance = prod(q if z_of[trace] else 1.0 - q for trace, (_, q, *_) in TRACES.items())
        advantages = np.asarray(deepcopy(est).advantages(ids, kind(matrix(name, z)), 4, **given))
        assert all(np.ptp(advantages[np.array(rows) == trace], axis=0).max() == 0.0 for trace in TRACES) or not told
        share = chance * np.where(z == 1.0, 1.0 / np.array(p), -1.0 / (1.0 - np.array(p)))
        total = total + (share * advantages.T).T
    return np.array(rows), total


@everywhere
@every
def test_the_own_reward_raises_the_advantage_by_one(name, where):
    """A rollout in several rows never meets its reward in its baseline."""
    _, gap = gaps(name, where, told=True)
    np.testing.assert_allclose(gap, np.broadcast_to(1.0 if gap.ndim == 1 else [1.0, -1.0], gap.shape), atol=1e-9)


@every
def test_rows_that_are_not_told_meet_their_own_reward(name):
    """What the law above is there for."""
    rows, gap = gaps(name, "host", told=False)
    split = [TRACES[trace][3] > 1 for trace in rows]
    assert (np.abs(gap)[split] < 0.99).all()


def stream(seed, steps=6):
    """Ids, rewards, steps, weights and traces of each row; and the first row of each trace.

    Traces of one to three rows in any order, some not scored, groups of any size, one step or several in a batch.
    """
    rng = np.random.default_rng(seed)
    for count in range(steps):
        size = int(rng.integers(1, 20))
        of = rng.permutation(np.repeat(np.arange(size), rng.integers(1, 4, size)))
        z = np.where(rng.random(size) < 0.15, nan, rng.normal(size=size) if seed % 2 else rng.integers(0, 2, size))
        at = 4 * count + 1 + rng.integers(0, 2, size) * (count % 2)
        ids = rng.integers(0, 6, size)
        names = of if count % 2 else [f"rollout {k}" for k in of]
        first = np.sort(np.unique(of, return_index=True)[1])
        yield ids[of], z[of], at[of], rng.gamma(2.0, size=size)[of], names, first


@everywhere
@every
@pytest.mark.parametrize("seed", range(2))
def test_equals_the_call_on_one_row_a_trace(name, where, seed):
    """To the last bit: results, states and metrics."""
    (split, kind), (whole, _) = make(name, where), make(name, where)
    for ids, z, at, w, trace, first in stream(seed):
        rewards, place = matrix(name, z), np.array([np.flatnonzero(first == list(trace).index(x))[0] for x in trace])
        rows, one = (ids, kind(rewards), at), (ids[first], kind(rewards[first]), at[first])
        here, there = weights(name, w), weights(name, w[first])
        results = [(split.values(*rows, trace=trace), whole.values(*one))]
        if MAKE[name][1] is None:
            results += [(split.intervals(*rows, trace=trace), whole.intervals(*one))]
            results += [([split.baselines(*rows, trace=trace, **here)], [whole.baselines(*one, **there)])]
        results += [([split.advantages(*rows, trace=trace, **here)], [whole.advantages(*one, **there)])]
        for mine, theirs in results:
            for a, b in zip(mine, theirs, strict=True):
                assert type(a) is type(b)
                np.testing.assert_array_equal(np.asarray(a), np.asarray(b)[place])
        assert_same(split.metrics(), whole.metrics())
        split.observe(ids, kind(rewards), at + 2, trace=trace, **here)
        whole.observe(ids[first], kind(rewards[first]), at[first] + 2, **there)
    assert_same(split.state_dict(), whole.state_dict())


@everywhere
@every
def test_the_order_of_the_rows_does_not_matter(name, where):
    (one, kind), (two, _), rng = make(name, where), make(name, where), np.random.default_rng(5)
    for ids, z, at, w, trace, _ in stream(1):
        order, rewards = rng.permutation(len(z)), matrix(name, z)
        here = one.advantages(ids, kind(rewards), at, trace=trace, **weights(name, w))
        there = two.advantages(
            ids[order], kind(rewards[order]), at[order], trace=[trace[k] for k in order], **weights(name, w[order])
        )
        np.testing.assert_allclose(np.asarray(here)[order], np.asarray(there), rtol=1e-9, atol=1e-9)
    assert_same(one.metrics(), two.metrics(), close=1e-9)


@everywhere
@every
def test_traces_of_one_row_change_nothing(name, where):
    (told, kind), (plain, _) = make(name, where), make(name, where)
    for ids, z, at, w, *_ in stream(2):
        rows, given = (ids, kind(matrix(name, z)), at), weights(name, w)
        here, there = told.advantages(*rows, trace=range(len(z)), **given), plain.advantages(*rows, **given)
        np.testing.assert_array_equal(np.asarray(here), np.asarray(there))
    assert_same(told.state_dict(), plain.state_dict())


@pytest.mark.parametrize(
    "kind", [list, np.float16, np.float32, np.int64, "torch.float32", "torch.bfloat16", "torch.int64"]
)
@everywhere
def test_results_are_of_the_kind_of_the_rewards(kind, where):
    est, _ = make("default", where)
    z = [1.0, 0.0, 1.0, 1.0]
    if isinstance(kind, str):
        torch = pytest.importorskip("torch")
        z = torch.tensor(z, dtype=getattr(torch, kind.partition(".")[2]))
    elif kind is not list:
        z = np.array(z, kind)
    calls = [
        lambda trace: est.baselines(list("aaab"), z, 1, **trace),
        lambda trace: est.advantages(list("aaab"), z, 1, **trace),
    ]
    for call in calls:
        out, plain = call({"trace": [7, 8, 7, 9]}), call({})
        assert (type(out), out.dtype, out.shape) == (type(plain), plain.dtype, plain.shape)


@everywhere
@pytest.mark.parametrize(
    ("name", "call"),
    [*product(["default", "kae", "weighted"], ["values", "baselines", "intervals", "observe", "advantages"]),
     *product(["components"], ["values", "observe", "advantages"])],
)  # fmt: skip
def test_a_refused_batch_leaves_the_state_alone(name, call, where):
    """Of what the host knows: ids, steps, and all of it in main memory."""
    est, kind = make(name, where)
    weighing = "weighted" in name and call not in ("values", "intervals")
    est.advantages(["a", "b"], kind(matrix(name, [1.0, 0.0])), 2, **weights(name, [1.0, 1.0]))
    before, metrics = deepcopy(est.state_dict()), est.metrics()
    for label, (wrong, error, message) in BAD.items():
        on_device = {"rewards", "a reward and none", "rewards of one component", "two weights"}
        if (where == "device" and label in on_device) or ("weights" in wrong and not weighing):
            continue
        batch = {**GOOD, **wrong}
        batch["rewards"] = np.asarray(batch["rewards"])
        if batch["rewards"].ndim == 1:
            batch["rewards"] = matrix(name, batch["rewards"])
        elif name != "components":
            continue
        given = {"weights": batch.pop("weights", [1.0] * 4)} if weighing else {}
        with pytest.raises(error, match=message if name != "components" else None):
            getattr(est, call)(**{**batch, "rewards": kind(batch["rewards"])}, **given)
        assert_same(est.state_dict(), before)
        assert est.metrics() == metrics
