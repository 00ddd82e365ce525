"""Laws of KernelValueEstimator, and the paper's formula written out."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernadv import KernelValueEstimator, Pooling, Relative, Steps, Visits
from kernadv.kernels import KERNELS

EVERY = [
    KernelValueEstimator,
    lambda: KernelValueEstimator(pooling=Pooling(priors=(1.0,), walks=(0.1,), discounts=(), common=(0.0,))),
    lambda: KernelValueEstimator(pooling=Pooling(walks=(0.0,), discounts=(0.02, 0.2), common=(0.1, 1.0))),
    lambda: KernelValueEstimator(features=lambda ids: [[1.0, float(str(i).strip("p"))] for i in ids], backend="numpy"),
    *(lambda k=k: KernelValueEstimator.kae(0.3, k) for k in KERNELS),
    lambda: KernelValueEstimator(Steps(7), smoother="local_linear"),
    lambda: KernelValueEstimator(Visits(4), "uniform"),
    lambda: KernelValueEstimator(Steps(7), "exponential", smoother="local_linear", backend="numpy"),
    lambda: KernelValueEstimator(Visits(3), "gaussian", backend="torch"),
]
every = pytest.mark.parametrize("make", EVERY)
every_plain = pytest.mark.parametrize("make", EVERY[4:])


def run(rng, prompts=6, steps=12, group=4):
    """A random run: for each step ids, rewards (some NaN) and the step, in random order with unequal groups."""
    for step in range(1, steps + 1):
        size = rng.integers(1, prompts * group)
        ids = [f"p{k}" for k in rng.integers(0, prompts, size)]
        z = rng.random(size)
        z[rng.random(size) < 0.1] = np.nan
        yield ids, z, step


def paper(history, group, g, step, h, kernel):
    """Vhat_i^(g)(x), a double loop over single rewards."""
    top = bottom = 0.0
    for past, z in history:
        u = (step - past) / (step * h)
        weight = float(kernel.profile(np.array(u))) if step - past <= kernel.reach(np.array(step * h)) else 0.0
        top += weight * z
        bottom += weight
    for k, z in enumerate(group):
        if k != g:
            top += z
            bottom += 1.0
    return top / bottom if bottom > 0 else None


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda k: k.name)
@pytest.mark.parametrize("h", [0.05, 0.29, 1.0, 3.0])
def test_kae_is_the_papers_formula(kernel, h):
    rng = np.random.default_rng(0)
    est = KernelValueEstimator.kae(h, kernel)
    history = {}
    for ids, z, step in run(rng, steps=25):
        got = est.values(ids, z, step)
        for row, x in enumerate(ids):
            group = [(k, r) for k, (y, r) in enumerate(zip(ids, z, strict=True)) if y == x and not np.isnan(r)]
            g = next((i for i, (k, _) in enumerate(group) if k == row), None)
            expected = paper(history.get(x, []), [r for _, r in group], g, step, h, kernel)
            assert got.defined[row] == (expected is not None)
            assert (
                got.value[row] == pytest.approx(expected, abs=1e-12)
                if expected is not None
                else np.isnan(got.value[row])
            )
        for x, r in zip(ids, z, strict=True):
            if not np.isnan(r):
                history.setdefault(x, []).append((step, r))
        est.observe(ids, z, step)


@every
def test_own_reward_never_enters_its_own_value(make):
    rng = np.random.default_rng(2)
    est = make()
    for ids, z, step in run(rng):
        before = est.values(ids, z, step)
        for row in rng.integers(0, len(ids), 4):
            for other in (-1e9, 1e17, 0.3, np.nan):
                moved = z.copy()
                moved[row] = other
                after = est.values(ids, moved, step)
                for a, b in zip(before, after, strict=True):
                    np.testing.assert_array_equal(a[row], b[row])
        est.observe(ids, z, step)


@every
def test_order_of_the_rows_does_not_matter(make):
    rng = np.random.default_rng(3)
    one, two = make(), make()
    for ids, z, step in run(rng):
        order = rng.permutation(len(ids))
        a = one.advantages(ids, z, step)
        b = two.advantages([ids[k] for k in order], z[order], step)
        np.testing.assert_allclose(a[order], b, atol=1e-12)


@every
def test_advantages_are_values_then_observe(make):
    rng = np.random.default_rng(4)
    one, two = make(), make()
    for ids, z, step in run(rng):
        got = one.advantages(ids, z, step)
        values = two.values(ids, z, step)
        two.observe(ids, z, step)
        known = values.defined & ~np.isnan(z)
        np.testing.assert_array_equal(got[known], (z - values.value)[known])
        np.testing.assert_array_equal(got[np.isnan(z)], 0.0)


@every
def test_values_reads_only(make):
    rng = np.random.default_rng(5)
    est = make()
    for ids, z, step in run(rng, steps=5):
        before = est.state_dict()
        est.values(ids, z, step)
        for name, array in est.state_dict().items():
            np.testing.assert_array_equal(array, before[name])
        est.observe(ids, z, step)


@every
def test_int_and_str_ids_give_the_same(make):
    rng = np.random.default_rng(6)
    one, two = make(), make()
    for ids, z, step in run(rng):
        numbers = np.array([int(x[1:]) for x in ids])
        np.testing.assert_array_equal(one.advantages(ids, z, step), two.advantages(numbers, z, step))


@every_plain
def test_one_call_per_prompt_equals_one_call_a_step(make):
    """Apart from the cold start, which looks at the other prompts of the batch."""
    rng = np.random.default_rng(7)
    one, two = make(), make()
    for ids, z, step in run(rng):
        whole = one.values(ids, z, step)
        one.observe(ids, z, step)
        for x in dict.fromkeys(ids):
            own = [k for k, y in enumerate(ids) if y == x]
            part = two.values([x] * len(own), z[own], step)
            np.testing.assert_allclose(part.value, whole.value[own], atol=1e-12)
            two.observe([x] * len(own), z[own], step)


@every_plain
def test_every_step_of_a_batch_sees_the_history_before_the_batch(make):
    rng = np.random.default_rng(8)
    batches = list(run(rng))
    one, two = make(), make()
    for ids, z, step in batches[:6]:
        one.observe(ids, z, step)
    ids = [x for batch in batches[:6] for x in batch[0]]
    z = np.concatenate([batch[1] for batch in batches[:6]])
    steps = np.concatenate([np.full(len(batch[0]), batch[2]) for batch in batches[:6]])
    order = rng.permutation(len(ids))
    two.observe([ids[k] for k in order], z[order], steps[order])
    ids, z, step = batches[6]
    np.testing.assert_allclose(one.values(ids, z, step).value, two.values(ids, z, step).value, atol=1e-12)


@pytest.mark.parametrize("kernel", ["triangular", "uniform", "exponential", "gaussian"])
@pytest.mark.parametrize(
    "bandwidth", [Steps(3), Relative(0.15), Relative(0.1, floor=4), Visits(3), Visits(3, floor=9)], ids=repr
)
@pytest.mark.parametrize("late", [False, 2])
def test_forgetting_changes_no_estimate(monkeypatch, kernel, bandwidth, late):
    from kernadv import history

    rng = np.random.default_rng(9)
    monkeypatch.setattr(history, "FIRST_SWEEP", 40)
    keeps = KernelValueEstimator(bandwidth, kernel, allow_late=late)
    keeps._state.history._next_sweep = 10**9
    forgets = KernelValueEstimator(bandwidth, kernel, allow_late=late)
    for ids, z, step in run(rng, prompts=40, steps=150, group=1):
        step = max(1, step - int(rng.integers(0, int(late) + 1)))
        a, b = keeps.values(ids, z, step), forgets.values(ids, z, step)
        np.testing.assert_array_equal(a.defined, b.defined)
        np.testing.assert_allclose(a.value, b.value, atol=1e-10)
        keeps.observe(ids, z, step)
        forgets.observe(ids, z, step)
    assert keeps._state.history.counters.evicted == 0
    if kernel in ("triangular", "uniform") or (isinstance(bandwidth, Steps) and not late):
        assert forgets._state.history.counters.evicted > 100


def test_late_rows_see_only_their_past():
    est = KernelValueEstimator(Steps(10), allow_late=True)
    est.observe(["a"] * 2, [1.0, 1.0], 5)
    est.observe(["a"], [0.0], 9)
    assert est.values(["a"], [0.5], 7).value[0] == 1.0
    est.observe(["a"], [0.0], 7)
    assert est.values(["a"], [0.5], 7).value[0] == pytest.approx(2 * 0.8 / (2 * 0.8 + 1.0))


def test_same_step_again_counts_at_lag_zero():
    est = KernelValueEstimator.kae(0.5)
    est.observe(["a"], [1.0], 4)
    assert est.values(["a"], [0.0], 4).value[0] == 1.0
    est.observe(["a", "a"], [0.0, 0.0], 4)
    assert est.values(["a"], [0.0], 4).value[0] == pytest.approx(1 / 3)


def test_cold_start():
    ids, z = ["a", "b", "b", "c"], [1.0, 0.0, 1.0, 0.0]
    estimate = KernelValueEstimator.kae().values(ids, z, 1)
    assert estimate.defined.tolist() == [False, True, True, False]
    assert np.isnan(estimate.value[[0, 3]]).all()
    got = KernelValueEstimator.kae().advantages(ids, z, 1)
    np.testing.assert_allclose(got, [1 - 1 / 3, -1, 1, 0 - 2 / 3])
    np.testing.assert_allclose(KernelValueEstimator.kae(cold_start=0.25).advantages(ids, z, 1), [0.75, -1, 1, -0.25])


def test_cold_start_of_the_pooled_estimator():
    """At the very first step a prompt starts at the level of the others; alone, nothing is known."""
    ids, z = ["a", "b", "b", "c", "c"], [1.0, 0.0, 1.0, 0.0, 0.0]
    how = Pooling((2.0,), (0.0,), (), (0.0,))
    worth = 2 * 3 / (2 + 2)  # two rollouts of a prompt, in those of different prompts
    odds_a = (0.5 * worth + 0.5) / (1.5 * worth + 0.5)
    odds_b, odds_c = (1 + 0.5) / (worth + 0.5), (1 + 0.5 * worth + 0.5) / (0.5 * worth + 0.5)
    expected = [odds_a / (1 + odds_a)]
    for odds, others in ((odds_b, (1.0, 0.0)), (odds_c, (0.0, 0.0))):
        alpha, beta = (1 + odds) / 2, (1 + 1 / odds) / 2
        expected += [(alpha + other) / (alpha + beta + 1) for other in others]
    estimate = KernelValueEstimator(pooling=how).values(ids, z, 1)
    np.testing.assert_allclose(estimate.value, expected)
    alone = KernelValueEstimator()
    assert not alone.values(["a"], [1.0], 1).defined[0]
    assert alone.advantages(["a"], [1.0], 1)[0] == 1.0
    assert alone.values(["new"], [0.0], 2).value[0] == 1.0


def test_cold_start_without_other_prompts():
    est = KernelValueEstimator(Steps(1))
    assert est.advantages(["a"], [1.0], 1)[0] == 1.0
    est.observe(["b", "b", "c"], [1.0, 0.0, 0.0], 2)
    assert est.advantages(["d"], [1.0], 50)[0] == pytest.approx(1 - 2 / 4)


def test_cold_start_error_stores_nothing():
    from kernadv import KernadvError

    est = KernelValueEstimator.kae(cold_start="error")
    with pytest.raises(KernadvError, match="1 of 3 rows have no past visit"):
        est.advantages(["a", "a", "b"], [1.0, 0.0, 1.0], 1)
    assert est.metrics()["history_visits"] == 0


@given(
    z=st.lists(
        st.one_of(st.sampled_from([0.0, 1.0]), st.floats(-3, 3), st.just(float("nan"))), min_size=1, max_size=12
    ),
    seed=st.integers(0, 99),
)
@example(z=[np.nan, 1.0, np.nan, 0.0, 2.2e-309], seed=0)  # a range too small to divide by
@settings(max_examples=60, deadline=None)
def test_nan_rows_are_as_if_they_were_not_there(z, seed):
    rng = np.random.default_rng(seed)
    z = np.array(z)
    ids = rng.integers(0, 3, len(z))
    with_nan, without = KernelValueEstimator(), KernelValueEstimator()
    for step in (1, 2):
        scored = ~np.isnan(z)
        a = with_nan.advantages(ids, z, step)
        assert (a[~scored] == 0).all()
        if scored.any():
            np.testing.assert_allclose(a[scored], without.advantages(ids[scored], z[scored], step), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_same_kind_and_dtype_out_numpy(dtype):
    z = np.array([1, 0, 1], dtype)
    est = KernelValueEstimator()
    got = est.advantages(["a", "a", "b"], z, 1)
    assert got.dtype == dtype
    assert est.values(["a", "a", "b"], z, 2).value.dtype == dtype
    assert est.values(["a", "a", "b"], z, 2).defined.dtype == bool


@pytest.mark.parametrize("z", [[1, 0, 1], (True, False, True), np.array([1, 0, 1])])
def test_integers_become_float64(z):
    assert KernelValueEstimator().advantages(["a", "a", "b"], z, 1).dtype == np.float64


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_same_kind_and_dtype_out_torch(dtype):
    torch = pytest.importorskip("torch")
    z = torch.tensor([1, 0, 1], dtype=getattr(torch, dtype), requires_grad=True)
    est = KernelValueEstimator.kae()
    got = est.advantages(torch.tensor([5, 5, 7]), z, torch.tensor(1))
    assert isinstance(got, torch.Tensor)
    assert got.dtype == z.dtype
    assert not got.requires_grad
    assert got.tolist() == [1.0, -1.0, 0.5]
    estimate = est.values(torch.tensor([5, 5, 7]), z, 2)
    assert estimate.value.dtype == z.dtype
    assert estimate.defined.dtype == torch.bool


def test_torch_integers_become_floats():
    torch = pytest.importorskip("torch")
    assert KernelValueEstimator().advantages([1, 1], torch.tensor([1, 0]), 1).dtype == torch.float32


def test_metrics():
    est = KernelValueEstimator(Steps(4), max_visits=2)
    assert set(est.metrics()) == {"history_visits", "history_prompts", "dropped_visits"}
    est.advantages(["a", "a", "b"], [1.0, 0.0, np.nan], 1)
    assert est.metrics() == {
        "n_eff": 1.0,
        "cold_fraction": pytest.approx(1 / 3),
        "bandwidth_steps": 4.0,
        "unscored_rows": 1.0,
        "advantage_mean": 0.0,
        "negative_share": 0.5,
        "value_mse": pytest.approx(0.5),  # (0 - 1)^2 and (1 - 0)^2, less the variance of 1 and 0
        "rloo_mse": pytest.approx(0.5),
        "batch_mean_mse": pytest.approx(0.5),
        "gradient_ratio": pytest.approx(1.0),
        "dead": 0.0,
        "dead_0": 0.0,
        "dead_1": 0.0,
        "history_visits": 1.0,
        "history_prompts": 1.0,
        "dropped_visits": 0.0,
    }
    est.advantages(["a", "c"], [1.0, 0.0], 2)
    est.advantages(["a"], [1.0], 4)
    after = est.metrics()
    assert after["revisit_gap"] == 2.0
    assert after["dropped_visits"] == 1.0
    assert after["history_visits"] == 3.0
    est.advantages(["a"], [1.0], 20)  # what has left the window costs nothing
    assert est.metrics()["dropped_visits"] == 1.0


@pytest.mark.parametrize("options", [{}, {"weighted": True}, {"pessimism": 3.0}])
def test_metrics_of_the_advantages(options):
    rng, est = np.random.default_rng(0), KernelValueEstimator(**options)
    for step in range(1, 6):
        ids, z = rng.integers(0, 4, 12), (rng.random(12) < 0.7) * 1.0
        advantage = est.advantages(ids, z, step, **({"weights": rng.random(12) + 0.1} if est.weighted else {}))
        metrics = est.metrics()
        assert metrics["advantage_mean"] == pytest.approx(advantage.mean(), abs=1e-15)
        assert metrics["negative_share"] == pytest.approx(np.abs(advantage[z == 0]).sum() / np.abs(advantage).sum())


def test_repr_names_what_was_chosen():
    text = repr(KernelValueEstimator.kae(0.2, "tricube"))
    assert "Relative(h=0.2" in text
    assert "tricube" in text


def test_threads_may_read_at_a_time():
    from concurrent.futures import ThreadPoolExecutor

    est = KernelValueEstimator(Steps(1000))
    for step in range(1, 101):
        est.observe(list(range(400)), np.arange(400.0), step)

    def read(low):
        return est.values(list(range(low, low + 200)), np.zeros(200), 101).value

    with ThreadPoolExecutor(4) as pool:
        for k, value in enumerate(pool.map(read, [0, 200] * 100)):
            np.testing.assert_allclose(value, np.arange(200.0) + 200 * (k % 2))


@pytest.mark.parametrize("how", ["copy", "pickle"])
def test_copies_are_independent_and_equal(how):
    import copy
    import pickle

    rng = np.random.default_rng(10)
    batches = list(run(rng))
    est = KernelValueEstimator(Visits(4), "uniform", backend="numpy")
    for batch in batches[:6]:
        est.observe(*batch)
    twin = copy.deepcopy(est) if how == "copy" else pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(est.advantages(*batches[6]), twin.advantages(*batches[6]))
    est.observe(*batches[7])
    assert twin.metrics()["history_visits"] < est.metrics()["history_visits"] or len(batches[7][0]) == 0


def test_late_rows_keep_their_past_under_kernels_without_an_edge(monkeypatch):
    from kernadv import history

    monkeypatch.setattr(history, "FIRST_SWEEP", 0)
    est = KernelValueEstimator(Steps(1), "exponential", allow_late=5)
    est.observe(["a"], [1.0], 1)
    est.observe(["a"], [0.0], 100)
    assert est.values(["a"], [0.0], 97).value[0] == 1.0


@pytest.mark.parametrize("width", [1e18, 1e300])
def test_very_wide_windows_of_kernels_without_an_edge(monkeypatch, width):
    from kernadv import history

    monkeypatch.setattr(history, "FIRST_SWEEP", 0)
    est = KernelValueEstimator(Steps(width), "exponential")
    est.observe(["a"], [1.0], 1)
    assert est.values(["a"], [0.0], 2).value[0] == 1.0


def test_vanishing_weights_count_as_none():
    est = KernelValueEstimator(Steps(20), "gaussian")
    est.observe(["a", "a", "b"], [1.0, 0.0, 0.3], 1)
    for step in range(400, 900, 50):
        estimate = est.values(["a", "b"], [np.nan, np.nan], step)
        assert not np.isnan(estimate.n_eff).any()
        assert (np.isnan(estimate.value) == ~estimate.defined).all()
        if estimate.defined[1]:
            assert estimate.value[1] == pytest.approx(0.3)
    est.advantages(["a", "b"], [0.0, 1.0], 900)


@pytest.mark.parametrize("unit", [1e-90, 1e-5, 1e6, 1e90])
def test_the_unit_of_the_rewards_does_not_matter(unit):
    rng = np.random.default_rng(11)
    one, two = KernelValueEstimator(), KernelValueEstimator()
    for ids, z, step in run(rng, steps=20):
        a, b = one.advantages(ids, z, step), two.advantages(ids, unit * z, step)
        np.testing.assert_allclose(b / unit, a, atol=1e-9)


@pytest.mark.parametrize(("origin", "close"), [(1.0, 1e-12), (-100.0, 1e-10), (1e4, 1e-6), (-1e6, 1e-3)])
def test_rewards_far_from_zero_give_the_same_advantages(origin, close):
    rng = np.random.default_rng(13)
    one, two = KernelValueEstimator(), KernelValueEstimator()
    for ids, z, step in run(rng, steps=30):
        a, b = one.advantages(ids, z, step), two.advantages(ids, origin + z, step)
        np.testing.assert_allclose(b, a, atol=close)
    bounds = zip(one.intervals(ids, z, 31), two.intervals(ids, origin + z, 31), strict=True)
    assert all(np.abs(b - origin - a).max() < 10 * close for a, b in bounds)
    why = [est.explain("p1") for est in (one, two)]
    assert why[1]["prior"] - origin == pytest.approx(why[0]["prior"], abs=close)
    assert two.metrics()["pooled_mean"] - origin == pytest.approx(one.metrics()["pooled_mean"], abs=close)


def test_a_reward_out_of_all_proportion_leaves_a_working_estimator():
    rng = np.random.default_rng(12)
    est = KernelValueEstimator()
    for ids, z, step in run(rng, steps=20):
        z[0] = 1e-3 if step < 10 else 1e95
        assert np.isfinite(est.advantages(ids, z, step)).all()


def test_masked_rewards_could_not_be_scored():
    z = np.ma.array([1.0, 5000.0, 0.0], mask=[False, True, False])
    assert KernelValueEstimator().advantages(["a"] * 3, z, 1).tolist() == [1.0, 0.0, -1.0]
