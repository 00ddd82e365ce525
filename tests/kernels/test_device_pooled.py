"""The pooled estimator on a device, run on the CPU through the code that a GPU runs: the same numbers, and no waiting."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from streams import REWARDS, batches, hostile  # noqa: E402
from waiting import Forbidden, fake, leave_unanswered  # noqa: E402

from kernadv import KernadvError, KernelValueEstimator, Pooling  # noqa: E402
from kernadv.device import history  # noqa: E402
from kernadv.ids import decode_ids  # noqa: E402
from kernadv.pooling import NUMPY  # noqa: E402

CPU = torch.device("cpu")
#: Of the prompts of `batches`, but for one.
TABLE = {k * 10**15: np.array([math.sin(k), k / 5.0]) for k in range(-3, 12) if k != 4}
NAMED = {f"p{key}": vector for key, vector in TABLE.items()}


def embed(ids):
    return np.array([[math.cos(int(str(key).removeprefix("p")) / 10**15)] for key in ids])


def made(**options):
    return lambda backend, **more: KernelValueEstimator(backend=backend, **options, **more)


MAKE = {
    "default": made(),
    "late": made(allow_late=True),
    "late-capped": made(allow_late=3, max_visits=4),
    "constant": made(cold_start=0.25),
    "weighted": made(weighted=True),
    "features": made(features={**TABLE, **NAMED}),
    "weighted-features": made(features=embed, weighted=True),
    "one-filter": made(pooling=Pooling(priors=(2.0,), walks=(0.1,), discounts=(), common=(0.0,))),
}


def stream(name, kind="int", seed=0):
    """Batches with rewards of two values, or of many, with weights where they are wanted."""
    rng = np.random.default_rng(seed)
    for ids, z, step in batches(seed, kind, late=name.startswith("late")):
        if seed % 2:
            z = np.where(np.isnan(z), z, z > 0)
        yield ids, z, step, {"weights": rng.gamma(2.0, size=len(z))} if name.startswith("weighted") else {}


def tensors(z, more):
    return torch.as_tensor(z), {key: torch.as_tensor(w) for key, w in more.items()}


def assert_same_pools(mine, theirs, prefix):
    learned = sorted(key for key in theirs if "." in key and key.startswith(prefix))
    assert sorted(key for key in mine if "." in key and key.startswith(prefix)) == learned
    assert learned
    for key in learned:
        np.testing.assert_allclose(mine[key], theirs[key], rtol=1e-8, atol=1e-10, err_msg=key)


def assert_same_state(mine, theirs):
    """All that was learned, and what is noted of each prompt."""
    assert_same_pools(mine, theirs, "")
    for key in ("seen", "ends", "errors"):
        np.testing.assert_allclose(mine[key], theirs[key], rtol=1e-8, atol=1e-9 * theirs[key].max(), err_msg=key)
    mine, theirs = (dict(zip(decode_ids(state), state["notes"], strict=True)) for state in (mine, theirs))
    assert set(mine) == set(theirs)
    for key, row in theirs.items():
        np.testing.assert_allclose(mine[key], row, rtol=1e-8, atol=1e-9, err_msg=str(key))


@pytest.mark.filterwarnings("ignore:.* prompts have no features")
@pytest.mark.parametrize(
    ("name", "kind", "seed"),
    [(name, "int", 1) for name in MAKE]
    + [(name, kind, 0) for name in ("default", "weighted-features", "features") for kind in ("text", "tensor")],
)
def test_numbers_are_those_of_the_cpu(name, kind, seed):
    """Values, advantages, metrics, all that was learned, and intervals in the end."""
    here, there = MAKE[name]("numba"), MAKE[name]("torch")
    for count, (ids, z, step, more) in enumerate(stream(name, kind, seed)):
        own = torch.as_tensor(ids) if kind == "tensor" else ids
        rewards, given = tensors(z, more)
        for mine, theirs in zip(there.values(own, rewards, step), here.values(ids, z, step), strict=True):
            np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-10, atol=1e-10)
        got = there.advantages(own, rewards, step, **given)
        np.testing.assert_allclose(got.numpy(), here.advantages(ids, z, step, **more), rtol=1e-10, atol=1e-10)
        if count % 6 == 1:
            expected = {k: x for k, x in here.metrics().items() if not k.startswith("history_")}
            metrics = there.metrics()
            assert {k: metrics[k] for k in expected} == pytest.approx(expected, rel=1e-9, nan_ok=True)
    assert there._state.device is not None
    mine, theirs = there.state_dict(), here.state_dict()
    assert_same_state(mine, theirs)
    for mine, theirs in zip(there.intervals(own, rewards, 99), here.intervals(ids, z, 99), strict=True):
        np.testing.assert_allclose(np.asarray(mine), theirs, rtol=1e-8, atol=1e-9)


HOSTILE = {
    "default": {},
    "late": {"allow_late": True},
    "late-capped": {"allow_late": 3, "max_visits": 3},
    "few": {"max_total": 12, "max_visits": 2, "allow_late": True},
    "total": {"max_total": 30},
    "weighted": {"weighted": True},
    "weighted-late": {"weighted": True, "allow_late": True, "max_total": 30},
    "features": {"features": {k: np.array([math.sin(k), k / 5.0]) for k in range(40) if k != 4}, "allow_late": 3},
}


@pytest.mark.filterwarnings("ignore:.* prompts have no features")
@pytest.mark.parametrize("rewards", REWARDS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_streams(name, rewards, monkeypatch):
    """Whatever comes, in little room; in between the history goes home, and through a checkpoint."""
    for constant, value in (("PROMPTS", 8), ("VISITS", 2), ("PAUSE", 0)):
        monkeypatch.setattr(history, constant, value)
    options = HOSTILE[name]
    here, there = (KernelValueEstimator(backend=backend, **options) for backend in ("numba", "torch"))
    for count, (ids, z, w, at) in enumerate(hostile(7, rewards, options.get("allow_late", False))):
        more = {"weights": w} if here.weighted else {}
        rewarded, given = (z, more) if count % 8 == 3 else tensors(z, more)
        if count % 8 == 6:
            there.load_state_dict(there.state_dict())
        size = max(np.nanmax(np.abs(z), initial=0.0), 1.0)
        for mine, theirs in zip(there.values(ids, rewarded, at), here.values(ids, z, at), strict=True):
            np.testing.assert_allclose(np.asarray(mine), theirs, rtol=1e-9, atol=1e-9 * size)
        got = np.asarray(there.advantages(ids, rewarded, at, **given))
        np.testing.assert_allclose(got, here.advantages(ids, z, at, **more), rtol=1e-9, atol=1e-9 * size)
        if there._state.device is not None:
            assert not there._state.history.notes[-1].any()  # of no prompt
    assert_same_state(there.state_dict(), here.state_dict())


@pytest.mark.parametrize("caps", [{}, {"max_visits": 3}, {"max_total": 30}, {"max_total": 12, "max_visits": 2}])
@pytest.mark.parametrize("pooling", [None, Pooling(walks=(0.2,), discounts=())])
def test_when_something_is_forgotten_does_not_matter(pooling, caps, monkeypatch):
    """On a device, in main memory at each call, or never: one estimate."""
    for name, value in (("PROMPTS", 8), ("VISITS", 2), ("PAUSE", 0)):
        monkeypatch.setattr(history, name, value)
    rng = np.random.default_rng(5)
    never, always, there = (
        KernelValueEstimator(pooling=pooling, backend=x, **caps) for x in ("numba", "numba", "torch")
    )
    for step in range(2, 56, 2):
        ids, z = [f"p{k}" for k in rng.integers(0, step // 2 + 8, 20)], rng.integers(0, 2, 20).astype(float)
        always._state.history._next_sweep = 0
        expected = never.advantages(ids, z, step)
        np.testing.assert_allclose(always.advantages(ids, z, step), expected, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(
            there.advantages(ids, torch.as_tensor(z), step).numpy(), expected, rtol=1e-10, atol=1e-10
        )
    assert len({est.metrics()["dropped_visits"] for est in (never, always, there)}) == 1
    assert (never.metrics()["dropped_visits"] > 0) == bool(caps)


@pytest.mark.parametrize("scale", [1e-200, 1e60])
def test_rewards_of_any_size(scale):
    """Rewards whose squares would not fit, and rewards that outgrow the first ones and start the pool anew."""
    here, there = (KernelValueEstimator(backend=name) for name in ("numba", "torch"))
    for count, (ids, z, step, _) in enumerate(stream("default")):
        z = z * (scale if count > 9 else 1.0)
        got = there.advantages(ids, torch.as_tensor(z), step).numpy()
        expected = here.advantages(ids, z, step)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10 * np.nanmax(np.abs(z)))


@pytest.mark.parametrize("offset", [0.0, 5.0, -1e4])
def test_a_batch_without_rewards_teaches_nothing(offset):
    """At first, between others, and where the rewards lie far from 0."""
    here, there = (KernelValueEstimator(backend=name) for name in ("numba", "torch"))
    for count, (ids, z, step, _) in enumerate(stream("default")):
        z = offset + np.abs(z) if count % 4 else np.full_like(z, np.nan)
        got = there.advantages(ids, torch.as_tensor(z), step).numpy()
        np.testing.assert_allclose(got, here.advantages(ids, z, step), rtol=1e-9, atol=1e-9)
        if count % 4 == 0:
            assert np.array_equal(there.state_dict()["pool.running.range"], here.state_dict()["pool.running.range"])


def test_weights_that_are_all_0_teach_the_value_only():
    """In main memory they are refused; on a device, where nobody looks, the baseline learns nothing from them."""
    est, still = (begun(MAKE["weighted"]("torch"), 0, weighted=True) for _ in range(2))
    for count, (ids, z, step, more) in enumerate(stream("weighted", seed=1)):
        rewards, given = tensors(z, more)
        if count % 5 == 0:
            strangers = torch.arange(500, 504), torch.tensor([1.0, 0.0, 2.0, 9.0]), int(np.max(step))
            est.observe(*strangers, weights=torch.zeros(4))
        got, expected = (one.advantages(ids, rewards, np.max(step), **given) for one in (est, still))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    assert_same_pools(est.state_dict(), still.state_dict(), "weighted.")


def begun(est, first, weighted=False):
    """The same, after a first batch, from which a pool learns in main memory."""
    est.observe([first] * 2, [1.0, 0.0], 1, **({"weights": [1.0, 1.0]} if weighted else {}))
    return est


@pytest.mark.parametrize("name", MAKE)
def test_nothing_waits_for_the_device(name, monkeypatch):
    """Tensors without numbers pass through the whole call: nothing of what it does depends on a number."""
    leave_unanswered(monkeypatch)
    first = "p0" if name == "weighted-features" else 0
    est = begun(MAKE[name]("torch"), first, name.startswith("weighted"))
    with fake():
        ids, rewards = torch.empty(60, dtype=torch.int64), torch.empty(60)
        own = [f"p{key}" for key in TABLE] if "features" in name else list(range(60))
        own = (own * 5)[:60]
        given = {"weights": torch.empty(60)} if name.startswith("weighted") else {}
        told = ids if name != "weighted-features" else own  # a function must be told the ids
        for step in range(1, 9, 2):
            with Forbidden() as watch:
                out = est.advantages(told if step == 1 or name != "features" else own, rewards, step, **given)
                est.observe(told, rewards, np.repeat([step, step + 1], 30), **given)
            if name in ("features", "weighted-features"):
                break  # whole numbers and text do not mix in one history
        assert out.shape == (60,)
        assert watch.calls > 100


def test_features_of_text_do_not_wait(monkeypatch):
    leave_unanswered(monkeypatch)
    est = begun(MAKE["features"]("torch"), "p0")
    with fake():
        ids = (list(NAMED) * 5)[:60]
        for step in range(1, 4):
            with Forbidden():
                est.advantages(ids, torch.empty(60), step)


@pytest.mark.parametrize("name", ["default", "weighted", "late-capped"])
def test_checkpoints_fit_both(name, tmp_path):
    """A state saved on a device continues on the CPU, and the other way round."""
    for first, then in (("torch", "numba"), ("numba", "torch")):
        one, two, still = (MAKE[name](backend) for backend in (first, then, "numba"))
        for count, (ids, z, step, more) in enumerate(stream(name, "text", 1)):
            if count == 10:
                one.save(tmp_path / "state.safetensors")
                two.load(tmp_path / "state.safetensors")
            est = one if count < 10 else two
            rewards, given = tensors(z, more) if est.backend.name == "torch" else (z, more)
            got = np.asarray(est.advantages(ids, rewards, step, **given))
            np.testing.assert_allclose(got, still.advantages(ids, z, step, **more), rtol=1e-10, atol=1e-10)
        assert_same_state(two.state_dict(), still.state_dict())


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_history_without_notes_is_saved_again(backend):
    """Loaded under another pooling, of prompts that have not come since nothing is noted: they count as new."""
    one = KernelValueEstimator(pooling=Pooling(walks=(0.1,)))
    one.advantages(["a", "a", "b", "b", "c"], [1.0, 0.0, 1.0, 1.0, 0.0], 1)
    two, three = (KernelValueEstimator(backend=backend) for _ in range(2))
    two.load_state_dict(one.state_dict(), strict=False)
    rewards = torch.tensor([1.0, 0.0], dtype=torch.float64)
    two.advantages(["a", "a"], rewards, 2)
    three.load_state_dict(two.state_dict())
    got, expected = (np.asarray(est.advantages(["a", "b"], rewards, 3)) for est in (two, three))
    np.testing.assert_array_equal(got, expected)
    assert len(three.state_dict()["length"]) == 3


def test_what_was_learned_follows_the_rewards():
    """Lists and tensors by turns: one pool."""
    est, still = MAKE["default"]("torch"), MAKE["default"]("numba")
    for count, (ids, z, step, _) in enumerate(stream("default", "text", 1)):
        rewards = torch.as_tensor(z) if count % 3 else z
        got = np.asarray(est.advantages(ids, rewards, step))
        np.testing.assert_allclose(got, still.advantages(ids, z, step), rtol=1e-10, atol=1e-10)
    assert est.explain(ids[0])["value"] == pytest.approx(still.explain(ids[0])["value"], nan_ok=True)


def test_own_reward_never_enters():
    """Not in a single bit, for whatever the reward is."""
    rng = np.random.default_rng(3)
    est = MAKE["default"]("torch")
    for ids, z, step, _ in stream("default", "int", 1):
        est.advantages(ids, torch.as_tensor(z), step)
    ids, z = rng.integers(0, 20, 30) * 10**15, torch.as_tensor(rng.random(30))
    before = est.values(ids, z, 99).value
    for row in range(30):
        changed = z.clone()
        changed[row] = 1e9
        assert torch.equal(est.values(ids, changed, 99).value[row], before[row])


def test_weights_that_cannot_be_used_count_as_rewards_that_cannot():
    est = begun(MAKE["weighted"]("torch"), "c", weighted=True)
    w = torch.tensor([1.0, torch.nan, -1.0, 2.0])
    with pytest.warns(UserWarning, match="^2 rows so far .* a weight that is negative or not finite"):
        got = est.advantages(["a", "a", "b", "b"], torch.tensor([1.0, 0.0, 1.0, torch.nan]), 1, weights=w)
    assert got.isnan().tolist() == [False, True, True, False]
    assert got[3] == 0.0
    assert est.metrics()["history_visits"] == 2
    for weights, message in [(None, "the estimator is weighted"), ([1.0], "4 rows and weights of shape"),
                             ("abcd", "weights must be numbers"), (list("1234"), "weights must be numbers"),
                             (np.ones(4) * 1j, "weights must be numbers"),
                             (torch.ones(4) * 1j, "weights must be real")]:  # fmt: skip
        before = est.state_dict()
        with pytest.raises(KernadvError, match=message):
            est.advantages(["a", "a", "b", "b"], torch.ones(4), 2, weights=weights)
        assert all(np.array_equal(before[key], x) for key, x in est.state_dict().items())


def test_columns_of_tables():
    """Ids, rewards, steps and weights that do not lie together in memory."""
    here, there = (KernelValueEstimator(features=TABLE, weighted=True, backend=name) for name in ("numba", "torch"))
    rng = np.random.default_rng(1)
    for step in range(2, 9, 2):
        ids, at = 10**15 * rng.integers(5, 12, (24, 2)), step + rng.integers(0, 2, (24, 2))
        z, w = rng.random((24, 2)), rng.random((24, 2))
        own = [torch.as_tensor(x)[:, 1] for x in (ids, z, at, w)]
        np.testing.assert_allclose(there.advantages(*own[:3], weights=own[3]).numpy(),
                                   here.advantages(ids[:, 1], z[:, 1], at[:, 1], weights=w[:, 1]), atol=1e-10)  # fmt: skip


def test_features_that_do_not_fit_leave_everything_as_it_was():
    est = KernelValueEstimator(features=lambda ids: np.ones((len(ids), 1 + (ids[0] == "b"))), backend="torch")
    est.advantages(["a", "a"], torch.tensor([1.0, 0.0]), 1)
    with pytest.raises(KernadvError, match="features must have 1 columns"):
        est.advantages(["b", "b"], torch.tensor([1.0, 0.0]), 2)
    assert list(est._state.names._key) == ["a"]


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_features_of_another_state_do_not_fit(backend):
    """A mapping of two features, a state that learned from three."""
    one, two = (KernelValueEstimator(features={k: np.ones(n) for k in range(4)}, backend=backend) for n in (3, 2))
    one.advantages(torch.arange(4), torch.rand(4), 1)
    two.advantages(torch.arange(4), torch.rand(4), 1)
    with pytest.raises(KernadvError, match=r'"features": 3.*"features": 2.*strict=False'):
        two.load_state_dict(one.state_dict())
    two.advantages(torch.arange(4), torch.rand(4), 2)


@pytest.mark.parametrize("first", [[1, 1, 1], [1, 2, 1]])
def test_features_may_be_large_and_ids_too_large_for_a_batch(first):
    """What a first batch of one prompt leaves unlearned is not divided by."""
    table = {2**64: [1.0], **{k: [1e18 * k] for k in range(9)}}
    here, there = (KernelValueEstimator(features=table, backend=name) for name in ("numba", "torch"))
    rng = np.random.default_rng(0)
    for step in range(1, 9):
        ids, z = (first if step == 1 else rng.integers(0, 9, 30)), rng.random(3 if step == 1 else 30)
        got = there.advantages(torch.as_tensor(ids), torch.as_tensor(z), step).numpy()
        np.testing.assert_allclose(got, here.advantages(ids, z, step), rtol=1e-9, atol=1e-9)
    assert there.state_dict()["pool.features.trial"].any()


def test_the_pool_is_one_graph():
    """Nothing of its arithmetic branches on a number: the compiler traces it whole."""
    est, still = MAKE["default"]("torch"), MAKE["default"]("torch")
    for count, (ids, z, step, _) in enumerate(stream("default", "int", 1)):
        if count == 3:
            pool = est._state.pool
            for name in ("forecast", "learn"):
                setattr(pool, name, torch.compile(getattr(pool, name), fullgraph=True, dynamic=True, backend="eager"))
        got = est.advantages(ids, torch.as_tensor(z), step)
        torch.testing.assert_close(got, still.advantages(ids, torch.as_tensor(z), step), rtol=0, atol=1e-12)
        if count == 5:
            break


# ---------------------------------------------------------------- the namespace of the pieces
def test_the_namespace_agrees_with_that_of_numpy():
    """What torch does otherwise: the same numbers."""
    from kernadv.device.namespace import TorchNamespace

    xp, rng = TorchNamespace(CPU), np.random.default_rng(4)
    x, code = rng.normal(size=(5, 5)), rng.integers(0, 6, 40)
    system, parts = x @ x.T + np.eye(5), tuple(rng.normal(size=(3, 40)))
    for right in (rng.normal(size=5), rng.normal(size=(5, 7))):
        np.testing.assert_allclose(
            xp.host(xp.solve(xp.array(system), xp.array(right))), NUMPY.solve(system, right), rtol=1e-10
        )
    prompt = np.sort(code)
    ends = tuple(torch.as_tensor(np.searchsorted(prompt, prompt, side)) for side in ("left", "right"))
    mine = xp.sum_of_others(ends, *map(xp.array, parts))
    np.testing.assert_allclose(xp.host(mine), NUMPY.sum_of_others(prompt, *parts), atol=1e-12)


CALLS = {
    "ratio": lambda xp, x, y: xp.ratio(x, y, 7.0),
    "stack": lambda xp, x, y: xp.stack([x, y]),
    "number": lambda xp, x, y: xp.number(x > y),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_function_of_the_namespace_agrees_with_that_of_numpy(name):
    from kernadv.device.namespace import TorchNamespace

    xp, (x, y) = TorchNamespace(CPU), np.random.default_rng(5).normal(size=(2, 9))
    y[3] = 0.0
    with np.errstate(divide="ignore"):
        expected = CALLS[name](NUMPY, x, y)
    np.testing.assert_allclose(xp.host(CALLS[name](xp, xp.array(x), xp.array(y))), expected, rtol=1e-14)
