"""What published formulas are, beside themselves: identities, closed forms, limits (`test_rivals.py` has the formulas)."""

import math

import numpy as np
import pytest

from kernadv import ArgumentError, Steps, Visits
from kernadv.baselines import Offline, SideInformation, Traces, discover
from kernadv.baselines.basis import Basis
from kernadv.baselines.beta import DiscountedBeta, SinglePolicy
from kernadv.baselines.kae import KAE
from kernadv.baselines.kalman import LocalLevel
from kernadv.baselines.offline import OptimalValue
from kernadv.baselines.quantile import GroupQuantile
from kernadv.groups import Groups
from kernadv.simulation import Process, Schedule, simulate

FOUND = discover()


def one_step(seed=0, prompts=6, size=4, binary=True):
    """Rewards (P, G) of one step, their groups and side information."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, (prompts, size)).astype(float) if binary else rng.normal(size=(prompts, size))
    groups = Groups(np.arange(prompts), np.ones(prompts, int), np.full(prompts, size), z.sum(1), (z * z).sum(1))
    side = SideInformation(Traces(z.ravel(), rng.uniform(1, 5, z.size)), Offline(rng.integers(1, 8, prompts), 8))
    return z, groups, side


def values(baseline, z, groups, side):
    return baseline.replay(groups, side).at(groups, z.ravel()).reshape(z.shape)


def others(x, i):
    return np.delete(x, i, axis=0)


def test_published_forms():
    """RLOO (arXiv 2402.14740), GRPO's group mean (arXiv 2402.03300) and the batch mean without the own reward, by hand."""
    z = [1.0, 0.0, 1.0, 0.0]
    by_hand = lambda name: FOUND[name].online().values(["a", "a", "a", "b"], z, 3).value
    np.testing.assert_allclose(by_hand("zero"), 0)
    np.testing.assert_allclose(by_hand("rloo"), [0.5, 1.0, 0.5, np.nan])
    np.testing.assert_allclose(by_hand("group_mean"), [2 / 3, 2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(by_hand("batch_mean"), [1 / 3, 2 / 3, 1 / 3, 2 / 3])
    np.testing.assert_allclose(by_hand("batch_mean_own"), 0.5)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_rloo_is_rescaled_dr_grpo_and_the_u_statistic(size):
    """RLOO = G / (G - 1) Dr. GRPO = the mean over pairs of (s_i - s_j)(z_i - z_j) / 2 (arXiv 2603.01162)."""
    z, groups, side = one_step(size, size=size, binary=False)
    rloo, grpo = z - values(FOUND["rloo"], z, groups, side), z - values(FOUND["group_mean"], z, groups, side)
    np.testing.assert_allclose(rloo, size / (size - 1) * grpo, atol=1e-12)
    score = np.random.default_rng(1).normal(size=(*z.shape, 5))
    gradient = np.einsum("pg,pgd->pd", rloo, score) / size
    pairs = [(i, j) for i in range(size) for j in range(i)]
    u = sum(0.5 * (score[:, i] - score[:, j]) * (z[:, i] - z[:, j])[:, None] for i, j in pairs) / len(pairs)
    np.testing.assert_allclose(gradient, u, atol=1e-12)


def test_one_trace_a_group():
    """G = 1: RLOO and James-Stein are undefined, the group mean is the reward itself, the rest have values."""
    z, groups, side = one_step(size=1)
    side = side._replace(value=np.full(len(z), 0.5))
    for name, baseline in FOUND.items():
        value = values(baseline, z, groups, side)
        assert np.isnan(value).all() == (baseline.min_group > 1), name
    np.testing.assert_array_equal(values(FOUND["group_mean"], z, groups, side), z)
    np.testing.assert_allclose(
        values(FOUND["eb_shrink"], z, groups, side), values(FOUND["batch_mean"], z, groups, side)
    )


def test_opo():
    z, groups, side = one_step(binary=False)
    length = side.traces.weight.reshape(z.shape)
    own = (z * length).sum(1) / length.sum(1)
    np.testing.assert_allclose(values(FOUND["opo"], z, groups, side), np.broadcast_to(own[:, None], z.shape))
    loo = values(FOUND["opo_loo"], z, groups, side)
    for p, g in np.ndindex(*z.shape):
        w = others(length[p], g)
        assert loo[p, g] == pytest.approx((others(z[p], g) * w).sum() / w.sum())


@pytest.mark.parametrize("weight", [None, np.array([1.0, 2.0, -1.0]), np.array([1.0, 2.0, np.nan])])
def test_opo_refuses_what_is_no_length(weight):
    groups = Groups(np.array([0]), np.array([1]), np.array([3]), np.array([2.0]), np.array([2.0]))
    with pytest.raises(ArgumentError, match="length"):
        FOUND["opo"].replay(groups, SideInformation(Traces(np.array([1.0, 1.0, 0.0]), weight)))


@pytest.mark.parametrize("k", [0.1, 0.4, 0.75])
def test_qae(k):
    """The K-quantile is the smallest reward with at least a share K of the group at or below it; binary: 1{q > 1 - K}."""
    z, groups, side = one_step(1, prompts=40, size=5)
    np.testing.assert_array_equal(
        values(GroupQuantile(k), z, groups, side), np.repeat(z.mean(1, keepdims=True) > 1 - k + 1e-12, 5, axis=1)
    )
    z, groups, side = one_step(2, size=7, binary=False)
    own, loo = values(GroupQuantile(k), z, groups, side), values(GroupQuantile(k, own=False), z, groups, side)
    for p, g in np.ndindex(*z.shape):
        assert own[p, g] == np.quantile(z[p], k, method="inverted_cdf")
        assert loo[p, g] == np.quantile(others(z[p], g), k, method="inverted_cdf")


def test_eb_shrink():
    z, groups, side = one_step(4, prompts=9, size=3, binary=False)
    z += np.linspace(0, 4, 9)[:, None]
    groups = groups._replace(s=z.sum(1), ss=(z * z).sum(1))
    found = values(FOUND["eb_shrink"], z, groups, side)
    m = z.shape[1]
    for i in range(len(z)):
        rest = others(z, i)
        noise, level = rest.var(1, ddof=1).mean(), rest.mean()
        between = rest.mean(1).var(ddof=1) - noise / m
        share = noise / (m - 1) / (noise / (m - 1) + between)
        assert between > 0
        for j in range(m):
            assert found[i, j] == pytest.approx((1 - share) * others(z[i], j).mean() + share * level)


@pytest.mark.parametrize("discount", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("size", [1, 4])
def test_discounted_beta_is_the_exponential_kernel_on_the_visit_clock(discount, size):
    """DBB, leave-one-out = NW with weights lambda^k, k visits ago, plus the pseudo-traces 1 and 0 at lambda^visits."""
    groups = simulate("fast", Schedule(batch=8, stay=3, blocks=2, steps=24), size, seed=0).groups
    loo = DiscountedBeta(discount, own=False).replay(groups)
    for k in range(len(groups.n)):
        past = np.flatnonzero((groups.prompt == groups.prompt[k]) & (groups.step < groups.step[k]))
        visit = len(past)
        weight = discount ** np.arange(visit, 0, -1)
        start = discount**visit
        total = (weight * groups.n[past]).sum() + 2 * start * discount + size - 1
        level = ((weight * groups.s[past]).sum() + start * discount) / total
        assert loo.level[k] == pytest.approx(level, abs=1e-12)
        assert loo.gain[k] == pytest.approx(1 / total, abs=1e-12)


def test_discounted_beta_is_the_kernel_estimate_of_this_package():
    """With a visit at each step: the exponential kernel of width -1 / log lambda, and two old traces."""
    lam, rng = 0.75, np.random.default_rng(0)
    s = rng.binomial(4, 0.6, 30).astype(float)
    n = np.full(31, 4)
    n[0] = 2  # the pseudo-traces 1 and 0, one visit before the first
    s = np.concatenate([[1.0], s])
    groups = Groups(np.zeros(31, int), np.arange(1, 32), n, s, s)
    kernel = KAE(Steps(-1 / math.log(lam)), "exponential").replay(groups)
    beta = DiscountedBeta(lam, own=False).replay(Groups(*(part[1:] for part in groups)))
    for ours, theirs in zip(beta, kernel, strict=True):
        np.testing.assert_allclose(ours, theirs[1:], atol=1e-12)


def test_krpo_is_the_scalar_filter_and_depends_on_the_order():
    z, groups, side = one_step(6, size=5)
    found = values(FOUND["krpo_paper"], z, groups, side)
    for p in range(len(z)):
        x, variance = 0.0, 1.0
        for g in range(5):
            variance += 1e-5
            gain = variance / (variance + 1e-2)
            x, variance = x + gain * (z[p, g] - x), (1 - gain) * variance
            assert found[p, g] == pytest.approx(x, abs=1e-12)
    np.testing.assert_allclose((z - found)[:, 0], 0.0099 * z[:, 0], atol=1e-4)
    turned = z[:, ::-1]
    assert not np.allclose(
        found, values(FOUND["krpo_paper"], turned, groups, SideInformation(Traces(turned.ravel())))[:, ::-1]
    )


def test_local_level_is_the_posterior_mean_of_the_gaussian_model():
    """Against the joint normal distribution of the path and the rewards, with the noise the filter took."""
    model = LocalLevel(drift=2e-3, spread=0.05)
    steps, n, s = np.array([1, 2, 5, 9]), np.array([4, 4, 2, 3]), np.array([2.0, 3.0, 1.0, 1.0])
    anchor = Groups(np.array([1]), np.array([1]), np.array([4]), np.array([2.0]), np.array([2.0]))
    mean, variance, noise = model._predict(np.zeros((1, 3)), np.array([8.0, 4.0]), anchor)
    assert (mean[0], variance[0], noise[0]) == (0.5, 0.05, 0.2)
    groups = Groups(np.zeros(4, int), steps, n, s, s)
    memory, shared, noises = model.start(1, None), np.array([8.0, 4.0]), []
    prior = 0.5
    for k in range(4):
        now = groups.take(np.array([k]))
        noises.append(model._predict(memory, shared, now)[2][0])
        found = model.read(memory, shared, now)
        path = 0.05 + 2e-3 * (np.minimum.outer(steps[: k + 1], steps[: k + 1]) - 1)
        used = n[: k + 1] - (np.arange(k + 1) == k)
        total = s[: k + 1] - (np.arange(k + 1) == k)  # the own trace had reward 1
        cover = path + np.diag(np.array(noises) / used)
        posterior = prior + path[-1] @ np.linalg.solve(cover, total / used - prior)
        assert found.level[0] + found.gain[0] * (s[k] - 1) == pytest.approx(posterior, abs=1e-10)
        memory, shared = model.update(memory, shared, now)


@pytest.mark.parametrize("size", [1, 3])
def test_basis_is_the_leave_one_out_least_squares_rescaling(size):
    """w_ij = (v_i v_j / s_j^2) / sum_{k != i} v_k^2 / s_k^2; a row sums to 1 against v, and holds no own reward."""
    z, groups, side = one_step(7, size=size)
    v = np.repeat(side.offline.total / 8, size)
    found = values(FOUND["basis_loo"], z, groups, side).ravel()
    noise = v * (1 - v)
    w = np.outer(v, v / noise) * (1 - np.eye(len(v)))
    w /= (v**2 / noise).sum() - (v**2 / noise)[:, None]
    np.testing.assert_allclose(w @ v, v, atol=1e-12)
    np.testing.assert_allclose(found, w @ z.ravel(), atol=1e-12)
    if size == 1:
        exact = groups._replace(s=v, ss=v * v)
        np.testing.assert_allclose(values(FOUND["basis_loo"], v[:, None], exact, side).ravel(), v, atol=1e-12)


def test_basis_takes_the_beta_with_the_smallest_error_and_drops_sure_prompts():
    z, groups, side = one_step(8, size=2, prompts=12)
    side = side._replace(offline=Offline(np.arange(12) % 9, 8))
    betas = (0.25, 1.0, math.inf)
    tried = [values(Basis((beta,)), z, groups, side) for beta in betas]
    best = tried[int(np.argmin([((t - z) ** 2).sum() for t in tried]))]
    np.testing.assert_allclose(values(Basis(betas), z, groups, side), best)
    sure = np.isin(np.arange(12) % 9, (0, 8))
    assert (values(FOUND["basis_loo"], z, groups, side)[sure] == 0).all()
    with pytest.raises(ArgumentError, match="betas must be a list of one beta or more"):
        Basis(())


def test_tilt_is_the_maximum_likelihood_one():
    """Against scipy's optimum over the other prompts; the parabola on the grid is good to 0.01 logits here."""
    from scipy.optimize import minimize_scalar

    z, groups, side = one_step(9, prompts=60, size=2)
    logit = np.log((side.offline.total + 0.5) / (8.5 - side.offline.total))
    found = values(FOUND["basis_tilt"], z, groups, side)[:, 0]
    for i in (0, 7, 31):
        loss = lambda c, i=i: np.delete(2 * np.logaddexp(0, logit + c) - z.sum(1) * c, i).sum()
        tilt = minimize_scalar(loss, bounds=(-6, 9), method="bounded").x
        assert np.log(found[i] / (1 - found[i])) - logit[i] == pytest.approx(tilt, abs=0.01)


def test_offline_values():
    z, groups, side = one_step(10)
    p = side.offline.total / 8
    np.testing.assert_allclose(values(FOUND["pvpo"], z, groups, side)[:, 0], p)
    np.testing.assert_allclose(
        values(OptimalValue(0.5), z, groups, side)[:, 0], 0.5 * np.log((1 - p) + p * np.exp(1 / 0.5))
    )
    own, loo = values(FOUND["v05_fuse"], z, groups, side), values(FOUND["v05_fuse_loo"], z, groups, side)
    for i, j in np.ndindex(*z.shape):
        for value, row in ((own, z[i]), (loo, others(z[i], j))):
            prior, noise, q = (side.offline.total[i] + 0.5) / 9, 0.25 / len(row), row.mean()
            apart = max(0.0, (q - prior) ** 2 - noise)
            w = apart / (apart + noise)
            assert value[i, j] == pytest.approx(w * q + (1 - w) * prior)


def test_kae_refuses_unknown_names():
    with pytest.raises(ArgumentError, match="unknown smoother 'cubic'"):
        KAE(Steps(8), smoother="cubic")
    with pytest.raises(ArgumentError, match="unknown kernel 'round'"):
        KAE(Steps(8), "round")


def test_local_linear_matches_least_squares():
    run = simulate("fast", Schedule(batch=4, stay=12, steps=24), 2, seed=0)
    groups, found = run.groups, KAE(Steps(8), smoother="local_linear").replay(run.groups)
    for k in np.flatnonzero(groups.step > 6)[:40]:
        past = (groups.prompt == groups.prompt[k]) & (groups.step <= groups.step[k])
        lag = groups.step[k] - groups.step[past]
        n = groups.n[past] - (lag == 0)
        weight = np.maximum(1 - lag / 8, 0) * n
        if (weight > 0).sum() < 2:
            continue
        mean = np.where(n > 0, (groups.s[past] - (lag == 0)) / np.maximum(n, 1), 0)  # an own reward of 1
        x = np.column_stack([np.ones(len(lag)), lag])
        intercept = np.linalg.solve(x.T @ (weight[:, None] * x), x.T @ (weight * mean))[0]
        assert found.level[k] + found.gain[k] * (groups.s[k] - 1) == pytest.approx(intercept, abs=1e-10)


@pytest.mark.parametrize("size", [2, 8])
def test_flat_truth_closed_form(size):
    """Values that do not move, infinite window: the error at visit s is v / (s G - 1); KAE / RLOO = mean (G-1) / (sG-1)."""
    flat, schedule = Process(), Schedule(batch=64, stay=10, steps=200)
    ratios = []
    for seed in range(20):
        run = simulate(flat, schedule, size, seed=seed)
        errors = [
            b.replay(run.groups).true_squared_error(run.groups, run.value).sum()
            for b in (KAE(Steps(math.inf)), FOUND["rloo"])
        ]
        ratios.append(errors[0] / errors[1])
    exact = np.mean([(size - 1) / (s * size - 1) for s in range(1, 11)])
    assert abs(np.mean(ratios) - exact) < 4 * np.std(ratios, ddof=1) / np.sqrt(20)
    assert np.mean(ratios) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("call", [lambda: DiscountedBeta(0), lambda: SinglePolicy(1.5), lambda: LocalLevel(-1.0),
                                  lambda: OptimalValue(0), lambda: GroupQuantile(1.0), lambda: KAE(Visits(0))])  # fmt: skip
def test_parameters_out_of_range(call):
    with pytest.raises(ArgumentError, match="must"):
        call()
