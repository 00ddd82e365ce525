"""The history against a plain dictionary, over random appends, evictions, caps and reloads."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kernadv import KernadvError
from kernadv.clock import KEEP_ALL, Retention
from kernadv.groups import Groups, aggregate
from kernadv.history import History
from kernadv.ids import id_key


def append(history, ids, steps, rewards):
    """Append rows of single rewards."""
    table = list(dict.fromkeys(ids))
    code = np.array([table.index(x) for x in ids])
    z = np.asarray(rewards, float)
    history.append(table, aggregate(code, np.asarray(steps), np.ones(len(z), int), z, z * z))


def contents(history, ids):
    """Visits of each prompt as lists of (step, n, s, ss)."""
    sample = history.histories(history.find(ids))
    out = {}
    for x, start, length in zip(ids, sample.start, sample.length, strict=True):
        own = slice(start, start + length)
        out[x] = list(zip(*(part[own].tolist() for part in sample[2:]), strict=True))
    return out


def kept(visits, keep):
    """What the definition of Retention keeps of a prompt's visits (ascending)."""
    newest = visits[-1][0]
    cut = max(keep.oldest, newest - keep.span)
    return [v for i, v in enumerate(visits) if v[0] >= cut or i >= len(visits) - keep.visits]


rows = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60), st.integers(0, 3)), min_size=1, max_size=60)


class AgainstDictionary(RuleBasedStateMachine):
    """A dictionary of sorted lists does the same, slowly."""

    def __init__(self):
        super().__init__()
        self.history = History()
        self.model = {}

    @rule(rows=rows)
    def append(self, rows):
        ids, steps, z = zip(*rows, strict=True)
        append(self.history, ids, steps, z)
        for x, i, reward in rows:
            n, s, ss = self.model.setdefault(x, {}).get(i, (0, 0, 0))
            self.model[x][i] = (n + 1, s + reward, ss + reward**2)

    @rule(oldest=st.integers(-5, 70), span=st.integers(0, 80), visits=st.integers(0, 12))
    def evict(self, oldest, span, visits):
        keep = Retention(oldest, span, visits)
        before = sum(map(len, self.model.values()))
        for x, visits_of in list(self.model.items()):
            left = kept(sorted((i, *v) for i, v in visits_of.items()), keep)
            self.model[x] = {i: tuple(v) for i, *v in left}
            if not left:
                del self.model[x]
        gone = self.history.evict(keep)
        assert gone == before - sum(map(len, self.model.values()))

    @rule()
    def reload(self):
        fresh = History()
        fresh.load_state_dict(self.history.state_dict())
        assert fresh.counters == self.history.counters
        self.history = fresh

    @invariant()
    def same(self):
        expected = {x: [(i, *v) for i, v in sorted(self.model[x].items())] if x in self.model else [] for x in range(6)}
        assert contents(self.history, list(range(6))) == expected
        assert self.history.counters.visits == sum(map(len, self.model.values()))
        assert self.history.counters.prompts == len(self.model)
        newest = [max(self.model[x]) if x in self.model else 0 for x in range(6)]
        assert self.history.newest_step(self.history.find(list(range(6)))).tolist() == newest


TestAgainstDictionary = AgainstDictionary.TestCase
TestAgainstDictionary.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_cap_per_prompt_drops_the_oldest_and_counts():
    history = History(max_visits=10)
    for step in range(1, 36):
        append(
            history,
            ["a", "b"] if step <= 12 else ["a"],
            [step] * (2 if step <= 12 else 1),
            [0] * (2 if step <= 12 else 1),
        )
        assert history.counters.visits <= 20
    assert [v[0] for v in contents(history, ["a"])["a"]] == list(range(26, 36))
    assert [v[0] for v in contents(history, ["b"])["b"]] == list(range(3, 13))
    assert history.counters.dropped == 25 + 2
    assert history.counters.evicted == 0


def test_total_cap_drops_the_oldest_of_all_and_counts():
    history = History(max_total=64)
    for step in range(1, 41):
        append(history, [f"p{step % 7}", "always"], [step, step], [1, 0])
        assert history.counters.visits <= 64
    held = history.counters
    assert held.visits + held.dropped == 80
    steps = [v[0] for visits in contents(history, ["always", *(f"p{k}" for k in range(7))]).values() for v in visits]
    assert sorted(steps) == sorted([*range(1, 41), *range(1, 41)])[-held.visits :]


def test_total_cap_holds_within_one_step():
    history = History(max_total=16)
    append(history, list(range(100)), [1] * 100, [1] * 100)
    assert history.counters == (14, 14, 0, 86)


@pytest.mark.parametrize("ids", [np.random.default_rng(0).permutation(99).tolist(), [f"p{k}" for k in range(99)]])
def test_visits_of_one_step_are_dropped_in_an_order_of_the_ids(ids):
    """Whatever came first, and whatever was forgotten before."""
    left = []
    for order in (ids, ids[::-1]):
        history = History(max_total=16)
        append(history, order[:9], [1] * 9, [1] * 9)
        history.evict(Retention(2, 2**60, 0))
        append(history, order, [2] * 99, [1] * 99)
        left.append(set(history.ids))
    assert left[0] == left[1] == set(sorted(ids, key=id_key)[-14:])


def test_what_cannot_matter_goes_before_a_cap_costs_anything():
    for caps in ({"max_visits": 3}, {"max_total": 3}):
        history = History(**caps)
        for step in range(1, 21):
            one = np.ones(1)
            history.append(
                ["a"], Groups(np.zeros(1, int), np.array([step]), one, one, one), Retention(step - 2, 2**60, 0)
            )
        assert history.counters == (1, 3, 17, 0)


def test_released_rows_are_used_again():
    history = History()
    for step in range(1, 200):
        append(history, [f"fresh-{step}"], [step], [1])
        history.evict(Retention(step, 2**60, 0))
    assert history.counters.prompts == 1
    assert len(history._ids) <= 2
    assert len(history._blocks) <= 64


def test_temporary_histories_do_not_share_their_memory():
    history = History()
    append(history, ["a", "b"], [1, 2], [1, 0])
    with (
        history.temporary_histories(history.find(["a"])) as one,
        history.temporary_histories(history.find(["b"])) as two,
    ):
        assert (one.step.tolist(), two.step.tolist()) == ([1], [2])
    fresh = history.histories(history.find(["a"]))
    with history.temporary_histories(history.find(["b"])):
        assert fresh.step.tolist() == [1]


def test_nothing_is_evicted_when_everything_is_kept():
    history = History()
    append(history, ["a"] * 20, list(range(1, 21)), [1] * 20)
    assert history.evict(KEEP_ALL) == 0


@pytest.mark.parametrize("cap", [0, -1, 1.5, True, "9"])
def test_caps_are_counts(cap):
    with pytest.raises(KernadvError, match="must be a whole number >= 1"):
        History(max_visits=cap)
    with pytest.raises(KernadvError, match="must be a whole number >= 1"):
        History(max_total=cap)


def test_groups_noise_is_the_unbiased_variance():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(7, 5)) + 3
    groups = aggregate(np.repeat(np.arange(7), 5), np.ones(35, int), np.ones(35, int), z.ravel(), z.ravel() ** 2)
    np.testing.assert_allclose(groups.noise, z.var(1, ddof=1))
    assert np.isnan(Groups(*(np.array([x]) for x in (0, 1, 1, 1.0, 1.0))).noise).all()


@pytest.mark.parametrize("far", [1, 2**40])
def test_aggregate_merges_and_sorts(far):
    rng = np.random.default_rng(1)
    prompt, step, z = rng.integers(0, 2**30, 300) % 5, (rng.integers(1, 9, 300) * far), rng.normal(size=300)
    prompt[prompt == 4] = 2**31
    groups = aggregate(prompt, step, np.ones(300, int), z, z * z)
    keys = list(zip(groups.prompt.tolist(), groups.step.tolist(), strict=True))
    assert keys == sorted(set(zip(prompt.tolist(), step.tolist(), strict=True)))
    for (x, i), n, s, ss in zip(keys, groups.n, groups.s, groups.ss, strict=True):
        own = z[(prompt == x) & (step == i)]
        assert n == len(own)
        np.testing.assert_allclose([s, ss], [own.sum(), (own**2).sum()], atol=1e-12)
