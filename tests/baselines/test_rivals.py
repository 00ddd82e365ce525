"""Every rival, written once more from its source as a plain loop, against the package on streams that are not tidy.

Groups of one to six traces, steps without a batch, prompts that come back, rewards of any kind.
"""

import math

import numpy as np
import pytest

from kernadv.baselines import Offline, SideInformation, Traces, discover, discover_tuned
from kernadv.groups import aggregate

FOUND = discover()


class Stream:
    """Steps of (prompt, rewards, lengths); each value function returns one array a group, in the same order."""

    def __init__(self, seed, kind):
        rng = np.random.default_rng(seed)
        draw = {
            "0/1": lambda n: rng.integers(0, 2, n).astype(float),
            "unit": lambda n: rng.random(n),
            "any": lambda n: rng.normal(2.0, 3.0, n),
        }[kind]
        self.steps = []
        for t in np.flatnonzero(rng.random(40) < 0.6) + 1:  # the others are idle
            prompts = rng.permutation(9)[: rng.integers(2, 8)]
            sizes = rng.integers(1, 7, len(prompts))
            groups = [
                (int(p), draw(n), rng.integers(1, 50, n).astype(float)) for p, n in zip(prompts, sizes, strict=True)
            ]
            self.steps.append((int(t), groups))
        self.right, self.rollouts = rng.permutation(9), 8  # of each prompt, before training: 0 of 8 and 8 of 8 too

    def rows(self):
        """Prompt, step, reward and length of each trace, sorted as `Traces` wants them."""
        rows = [
            (p, t, x, w) for t, groups in self.steps for p, z, length in groups for x, w in zip(z, length, strict=True)
        ]
        prompt, step, z, length = (np.array(column) for column in zip(*rows, strict=True))
        order = np.lexsort((step, prompt))
        return order, prompt, step, z, length

    def replayed(self, baseline):
        """The package's values in the order of the rows."""
        order, prompt, step, z, length = self.rows()
        groups = aggregate(prompt, step, np.ones(len(z), int), z, z**2)
        side = SideInformation(Traces(z[order], length[order]), Offline(self.right, self.rollouts))
        out = np.empty(len(z))
        out[order] = baseline.replay(groups, side).at(groups, z[order])
        return out


def without(x, g):
    return np.delete(np.asarray(x, float), g)


def pooled(groups, skip=None):
    """All rewards of a step, or those of the other prompts."""
    return np.concatenate([z for i, (_, z, _) in enumerate(groups) if i != skip] or [np.empty(0)])


def each_step(rule):
    """A rule for one step, run over all."""
    return lambda stream: [value for _, groups in stream.steps for value in rule(stream, groups)]


def each_group(rule):
    """A rule for one group alone."""
    return each_step(lambda _, groups: [np.asarray(rule(z, w), float) for _, z, w in groups])


def left_out(rule, alone=np.nan):
    """A rule for the other traces of the group."""
    return each_group(lambda z, w: [rule(without(z, g), without(w, g)) if len(z) > 1 else alone for g in range(len(z))])


def same(rule):
    """A rule with one value for the whole group."""
    return each_group(lambda z, w: np.full(len(z), rule(z, w)))


def batch_mean(_, groups):
    every = pooled(groups)
    return [(every.sum() - z) / (len(every) - 1) for _, z, _ in groups]


def lower_quantile(z, k):
    return np.sort(z)[max(math.ceil(k * len(z) - 1e-9) - 1, 0)]


def tokens(values, groups):
    """V + the mean over the tokens of what it leaves."""
    weight = np.concatenate([w for _, _, w in groups])
    off = np.concatenate([z - v for v, (_, z, _) in zip(values, groups, strict=True)])
    return [v + (weight * off).sum() / weight.sum() for v in values]


def mean_or_zero(z):
    return np.full(len(z), z.mean() if len(z) > 1 else 0.0)


def centre(values, groups, own):
    """V + the mean over the traces of what it leaves: of all, or of the other prompts."""
    off = [z - v for v, (_, z, _) in zip(values, groups, strict=True)]
    if own:
        return [v + np.concatenate(off).mean() for v in values]
    rest = [np.concatenate([x for j, x in enumerate(off) if j != i] or [np.zeros(1)]).mean() for i in range(len(off))]
    return [v + c for v, c in zip(values, rest, strict=True)]


def shrunk(factor, denominator):
    """(1 - lambda) q^(-g) + lambda qbar from the step's other prompts."""

    def rule(_, groups):
        out = []
        for i, (_, z, _) in enumerate(groups):
            rest = [x for j, (_, x, _) in enumerate(groups) if j != i]
            q = np.array([x.mean() for x in rest])
            noise = [x.var(ddof=1) / denominator(len(x)) for x in rest if len(x) > 1]
            raw = [x.var(ddof=1) / len(x) for x in rest if len(x) > 1]
            share = factor(len(z), q, np.mean(noise) if noise else 0.0, np.mean(raw) if raw else 0.0)
            out.append(np.array([(1 - share) * without(z, g).mean() + share * q.mean() if len(z) > 1
                                 else q.mean() if share == 1 else np.nan for g in range(len(z))]))  # fmt: skip
        return out

    return each_step(rule)


def jspo(size, q, v, _):
    return v / (v + ((q - q.mean()) ** 2).mean() + 1e-6)


def eb_shrink(size, q, noise, raw):
    if size == 1:
        return 1.0
    between = max((q.var(ddof=1) if len(q) > 1 else 0.0) - raw, 0.0)
    v = noise / (size - 1)
    return v / (v + between) if v + between > 0 else 0.0


def ebpo(own):
    def run(stream):
        rewards, means, out = [], [], []
        for _, groups in stream.steps:
            seen_r, seen_q = list(rewards), list(means)
            for _, z, _ in groups:
                rewards += list(z)
                means.append(z.mean())
            now_r, now_q = (rewards, means) if own else (seen_r, seen_q)
            values = []
            for i, (_, z, _) in enumerate(groups):
                if not now_r:  # the first step, leave-one-out
                    other = pooled(groups, i).mean()
                    values.append([without(z, g).mean() if len(z) > 1 else other for g in range(len(z))])
                    continue
                mu, noise, between = np.mean(now_r), np.var(now_r), np.var(now_q)
                row = []
                for g in range(len(z)):
                    used = z if own else without(z, g)
                    b = noise / len(used) / (noise / len(used) + between) if len(used) else 1.0
                    row.append((1 - b) * used.mean() + b * mu if len(used) else mu)
                values.append(row)
            values = [np.array(v) for v in values]
            out += centre(values, groups, own) if now_r else values
        return out

    return run


def dbb(own):
    def run(stream):
        counts, out = {}, []
        for _, groups in stream.steps:
            for p, z, _ in groups:
                a, b = counts.get(p, (1.0, 1.0))
                a, b = 0.75 * a, 0.75 * b
                sums = [z.sum() if own else without(z, g).sum() for g in range(len(z))]
                n = len(z) - (not own)
                out.append(np.array([(a + s) / (a + b + n) for s in sums]))
                counts[p] = a + z.sum(), b + len(z) - z.sum()
        return out

    return run


def pooled_beta(stream):
    counts, recent, out = {}, [], []
    for _, groups in stream.steps:
        for i, (p, z, _) in enumerate(groups):
            past = [(0.9 ** (len(recent) - 1 - j), x) for j, x in enumerate(recent)] + [(1.0, pooled(groups, i))]
            n, s = sum(w * len(x) for w, x in past), sum(w * x.sum() for w, x in past)
            a, b = counts.get(p, (0.0, 0.0))
            a, b = 0.75 * a, 0.75 * b
            out.append(
                np.array([(2.0 * s / n + a + without(z, g).sum()) / (2.0 + a + b + len(z) - 1) for g in range(len(z))])
            )
            counts[p] = a + z.sum(), b + len(z) - z.sum()
        recent.append(pooled(groups))
    return out


def offline_prior(stream, p):
    a = 8 * (stream.right[p] + 0.5) / (stream.rollouts + 1)
    return a, 8 - a


def spo(rho, form):
    """First visit: D = 0, so rho = .96.  Read before the update; A = r - p, less its mean."""

    def run(stream):
        counts, seen, out = {}, set(), []
        for _, groups in stream.steps:
            values = []
            for p, z, _ in groups:
                a, b = counts.get(p, offline_prior(stream, p))
                now = rho if p in seen else max(rho, 0.96)
                if form == "loo":
                    v = [(now * a + without(z, g).sum()) / (now * (a + b) + len(z) - 1) for g in range(len(z))]
                else:
                    v = [a / (a + b)] * len(z)
                values.append(np.array(v))
                counts[p] = now * a + z.sum(), now * b + len(z) - z.sum()
                seen.add(p)
            out += values if form == "tracker" else centre(values, groups, form == "own")
        return out

    return run


def spo_pp(form):
    """alpha(t) = rho^(t - 1) alpha_0 + sum over s < t of rho^(t - s) S(s)."""

    def run(stream):
        past, out = {}, []
        for t, groups in stream.steps:
            values = []
            for p, z, _ in groups:
                a, b = (0.875 ** (t - 1) * x for x in offline_prior(stream, p))
                for s, x in past.get(p, []):
                    a, b = a + 0.875 ** (t - s) * x.sum(), b + 0.875 ** (t - s) * (len(x) - x.sum())
                if form == "loo":
                    v = [(a + without(z, g).sum()) / (a + b + len(z) - 1) for g in range(len(z))]
                else:
                    v = [a / (a + b)] * len(z)
                values.append(np.array(v))
                past.setdefault(p, []).append((t, z))
            out += centre(values, groups, own=False) if form == "loo" else tokens(values, groups)
        return out

    return run


def krpo_paper(z, _):
    x, variance, out = 0.0, 1.0, []
    for reward in z:
        variance += 1e-5
        gain = variance / (variance + 1e-2)
        x, variance = x + gain * (reward - x), (1 - gain) * variance
        out.append(x)
    return out


def krpo_batch(own):
    def run(stream):
        x, variance, out = 0.0, 1.0, []
        for _, groups in stream.steps:
            variance += 1e-5
            gain = variance / (variance + 1e-2)
            every = pooled(groups)
            for _, z, _ in groups:
                means = [every.mean() if own else (every.sum() - r) / (len(every) - 1) for r in z]
                out.append(np.array([x + gain * (m - x) for m in means]))
            x, variance = x + gain * (every.mean() - x), (1 - gain) * variance
        return out

    return run


def local_level(stream):
    state, seen, out = {}, [], []
    for t, groups in stream.steps:
        new = []
        for i, (p, z, _) in enumerate(groups):
            if p in state:
                x, variance, last = state[p]
                variance += 4e-4 * (t - last)
            else:
                x, variance = np.mean(seen) if seen else pooled(groups, i).mean(), 0.1
            noise = max(x * (1 - x) - variance, 0.02)
            row = []
            for g in range(len(z) + 1):  # without each trace, then with all
                m, c = x, variance
                for reward in without(z, g) if g < len(z) else z:
                    k = c / (c + noise)
                    m, c = m + k * (reward - m), (1 - k) * c
                row.append(m)
            out.append(np.array(row[:-1]))
            new.append((p, (row[-1], c, t)))
        state.update(new)
        seen += list(pooled(groups))
    return out


def rate(stream, p):
    return stream.right[p] / stream.rollouts


def offline(rule):
    return each_step(lambda stream, groups: [np.full(len(z), rule(rate(stream, p))) for p, z, _ in groups])


def a_star(mean):
    right = round(8 * mean)
    return 0.5 * math.log(np.mean([math.exp(r / 0.5) for r in [1.0] * right + [0.0] * (8 - right)]))


def v05(own):
    def rule(stream, groups):
        out = []
        for p, z, _ in groups:
            prior, row = (stream.right[p] + 0.5) / 9, []
            for g in range(len(z)):
                used = z if own else without(z, g)
                if not len(used):
                    row.append(prior)
                    continue
                noise = 0.25 / len(used)
                apart = max(0.0, (used.mean() - prior) ** 2 - noise)
                w = apart / (apart + noise)
                row.append(w * used.mean() + (1 - w) * prior)
            out.append(np.array(row))
        return out

    return each_step(rule)


def basis(betas, smooth):
    """V_i = sum_j w_ij r_j trace by trace, and the beta with the smallest squared error on the step's own rewards."""

    def at(beta, stream, groups):
        prompt = np.concatenate([np.full(len(z), p) for p, z, _ in groups])
        r = pooled(groups)
        m = (stream.right[prompt] + 0.5) / 9 if smooth else stream.right[prompt] / 8
        v = m if math.isinf(beta) else beta * np.log(1 - m + m * np.exp(1 / beta))
        inside = (v > 1e-9) & (v < 1 - 1e-9)
        out = np.zeros(len(r))
        for i in np.flatnonzero(inside):
            j = np.flatnonzero(inside & (np.arange(len(r)) != i))
            s2 = v[j] * (1 - v[j])
            if len(j):
                out[i] = (v[i] * v[j] / s2 * r[j]).sum() / (v[j] ** 2 / s2).sum()
        return out, ((out - r) ** 2).sum()

    def rule(stream, groups):
        best = min((at(beta, stream, groups) for beta in betas), key=lambda found: found[1])[0]
        return np.split(best, np.cumsum([len(z) for _, z, _ in groups])[:-1])

    return each_step(rule)


def kae(weigh):
    """Past rewards of the prompt by their lag (and how many visits ago), and the group's other traces at K(0)."""

    def run(stream):
        past, out = {}, []
        for t, groups in stream.steps:
            for i, (p, z, _) in enumerate(groups):
                visits = past.get(p, [])
                n = s = 0.0
                for ago, (step, x) in enumerate(reversed(visits), 1):
                    w = weigh(t - step, t, ago)
                    n, s = n + w * len(x), s + w * x.sum()
                fill = pooled(groups, i).mean()
                row = [
                    (s + without(z, g).sum()) / (n + len(z) - 1) if n + len(z) - 1 > 0 else fill for g in range(len(z))
                ]
                out.append(np.array(row))
            for p, z, _ in groups:
                past.setdefault(p, []).append((t, z))
        return out

    return run


BETAS = (0.25, 0.5, 1.0, 2.0, math.inf)
WRITTEN = {
    "zero": same(lambda z, w: 0.0),
    "batch_mean": each_step(batch_mean),
    "batch_mean_own": each_step(lambda _, groups: [np.full(len(z), pooled(groups).mean()) for _, z, _ in groups]),
    "reinforce_pp": each_step(lambda _, groups: tokens([np.zeros(len(z)) for _, z, _ in groups], groups)),
    "reinforce_pp_baseline": each_step(lambda _, groups: tokens([mean_or_zero(z) for _, z, _ in groups], groups)),
    "group_mean": same(lambda z, w: z.mean()),
    "rloo": left_out(lambda z, w: z.mean()),
    "opo": same(lambda z, w: (w * z).sum() / w.sum()),
    "opo_loo": left_out(lambda z, w: (w * z).sum() / w.sum()),
    "otb_loo": left_out(lambda z, w: (w * z).sum() / w.sum()),
    "asymre": same(lambda z, w: z.mean() - 0.1 if len(z) > 1 else 0.0),
    "mc_grpo": same(lambda z, w: np.sort(z)[(len(z) - 1) // 2]),
    "qae": same(lambda z, w: lower_quantile(z, 0.4)),
    "qae_loo": left_out(lambda z, w: lower_quantile(z, 0.4)),
    "jspo": shrunk(jspo, lambda m: m),
    "eb_shrink": shrunk(eb_shrink, lambda m: 1),
    "ebpo": ebpo(own=True),
    "ebpo_loo": ebpo(own=False),
    "dbb": dbb(own=True),
    "dbb_loo": dbb(own=False),
    "pooled_beta": pooled_beta,
    "spo_tracker": spo(0.875, "tracker"),
    "spo": spo(0.875, "own"),
    "spo rho=0.96": spo(0.96, "own"),
    "spo_loo": spo(0.875, "loo"),
    "spo_loo rho=0.96": spo(0.96, "loo"),
    "spo_pp": spo_pp("own"),
    "spo_pp_loo": spo_pp("loo"),
    "krpo_paper": each_group(krpo_paper),
    "krpo_batch": krpo_batch(own=True),
    "krpo_batch_loo": krpo_batch(own=False),
    "local_level": local_level,
    "pvpo": offline(lambda mean: mean),
    "a_star": offline(a_star),
    "v05_fuse": v05(own=True),
    "v05_fuse_loo": v05(own=False),
    "basis": basis(BETAS, smooth=False),
    "basis_loo": basis((math.inf,), smooth=False),
    "basis_smooth": basis(BETAS, smooth=True),
    "basis_smooth_loo": basis((math.inf,), smooth=True),
    "kae h=0.5": kae(lambda lag, t, ago: max(0.0, 1 - lag / (0.5 * t))),
    "kae w=20": kae(lambda lag, t, ago: max(0.0, 1 - lag / 20)),
    "kae_exponential h=0.1": kae(lambda lag, t, ago: math.exp(-lag / (0.1 * t))),
    "kae_exponential w=10": kae(lambda lag, t, ago: math.exp(-lag / 10)),
    "knn_time k=10": kae(lambda lag, t, ago: float(ago <= 10)),
}


def test_what_is_written_once_more_is_there():
    assert WRITTEN.keys() <= FOUND.keys()


@pytest.mark.parametrize("family", discover_tuned().values(), ids=lambda f: f.name)
def test_tuned_takes_the_setting_that_predicted_best(family):
    """At each step the first member with the least discounted sum of mean squared errors, over the rows with a value."""
    stream = Stream(4, "0/1")
    _, _, step, z, _ = stream.rows()
    members = np.stack([stream.replayed(member) for member in family.grid])
    score, leaders = np.zeros(len(members)), []
    found = stream.replayed(family)
    for t in np.unique(step):
        rows = step == t
        first = (
            next(k for k in range(len(score)) if score[k] <= score.min() * (1 + 1e-9))
            if score.any()
            else len(score) // 2
        )
        leaders.append(first)
        np.testing.assert_allclose(found[rows], members[first, rows], rtol=1e-12, atol=1e-12)
        errors = [(m[rows] - z[rows])[~np.isnan(m[rows])] ** 2 for m in members]
        if len(errors[0]):
            score = 0.97 * score + [e.mean() for e in errors]
    assert len(set(leaders)) > 1


@pytest.mark.parametrize("name", ["spo_pp", "spo_pp_loo"])
def test_counts_of_long_ago_still_have_a_mean(name):
    """rho^(t - s) underflows after some thousand idle steps, and cancels in the mean of a group of one."""
    running = FOUND[name].online(Offline({"a": 8, "b": 0}, 8))
    running.observe(["a", "a", "b"], [1.0, 0.0, 0.0], 1)
    rest = {"weights": [1.0, 1.0]} if FOUND[name].needs_weights else {}
    a, b = ((8 * 8.5 / 9 + 1) / 10, (8 * 0.5 / 9) / 9)
    own = ((0 - a) + (1 - b)) / 2
    centre = np.array([own, own] if rest else [1 - b, 0 - a])
    np.testing.assert_allclose(
        running.values(["a", "b"], [0.0, 1.0], 10**6, **rest).value, np.add([a, b], centre), rtol=1e-12
    )


@pytest.mark.parametrize("kind", ["0/1", "unit", "any"])
@pytest.mark.parametrize("name", WRITTEN)
def test_equals_the_formula(name, kind):
    for seed in range(3):
        stream = Stream(seed, kind)
        written = np.concatenate(WRITTEN[name](stream))
        np.testing.assert_allclose(stream.replayed(FOUND[name]), written, rtol=1e-12, atol=1e-12)
