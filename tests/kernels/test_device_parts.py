"""The parts of the history on a device, one by one: table, groups, what is forgotten, bounds."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from waiting import Forbidden, fake, unread  # noqa: E402

from kernadv.batch import read_batch  # noqa: E402
from kernadv.clock import Retention  # noqa: E402
from kernadv.device import groups, history, state, transfer  # noqa: E402
from kernadv.device.features import DeviceFeatures  # noqa: E402
from kernadv.device.ids import Names, read_ids  # noqa: E402
from kernadv.device.table import Table, enter  # noqa: E402
from kernadv.features import Features  # noqa: E402
from kernadv.groups import Groups  # noqa: E402

CPU = torch.device("cpu")


@given(st.lists(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), st.booleans()), min_size=1,
                         max_size=8), max_size=8))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_table_is_a_dictionary(rounds):
    table, known = Table(CPU, 64), {}
    for batch in rounds:
        ids = torch.tensor(sorted(key for key, _ in batch))
        found = table.find(ids)
        assert found[1].tolist() == [key in known for key in ids.tolist()]
        first = torch.cat([torch.ones(1, dtype=torch.bool), ids[1:] != ids[:-1]])
        some = torch.tensor([dict(batch)[key] for key in ids.tolist()])
        rows = enter(table.keys, table.rows, table.used, ids, *found, first & some)
        for key in dict.fromkeys(ids[first & some].tolist()):
            known.setdefault(key, len(known))
        assert rows[first & some].tolist() == [known[key] for key in ids[first & some].tolist()]
    every = torch.tensor(list(known) or [0])
    assert table.find(every)[0][: len(known)].tolist() == list(known.values())
    assert int(table.used) == len(known)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.floats(-9, 9) | st.just(np.nan)), min_size=1,
                max_size=30))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_groups_are_those_of_a_double_loop(rows):
    ids, tick, z = (np.array(column) for column in zip(*rows, strict=True))
    made = unread(*(torch.as_tensor(part) for part in (ids, z.astype(float), tick)), [1, 2, 3])
    own = made.own
    got = groups.sum_of_groupmates(torch.cat([own, own[1:] ** 2]), made.group, made.end)
    others = torch.stack([made.restore(part) for part in got]).numpy()
    never, seen = torch.zeros(len(z), dtype=torch.bool), torch.tensor([2.0, -10.0])
    means = made.restore(made.filled(made.z, never, seen)).numpy()
    for b in range(len(z)):
        own = [z[k] for k in range(len(z)) if k != b and (ids[k], tick[k]) == (ids[b], tick[b]) and z[k] == z[k]]
        np.testing.assert_allclose(others[:, b], [len(own), sum(own), sum(x * x for x in own)], atol=1e-12)
        else_ = z[(ids != ids[b]) & ~np.isnan(z)]
        np.testing.assert_allclose(means[b], else_.mean() if len(else_) else -5.0, atol=1e-12)
    assert int(made.first.sum()) == len({(i, t) for i, t, _ in rows})


def test_others_take_nothing_from_elsewhere():
    """Not a bit of the own part, nor of a huge one next door; one group over all, single rows, unequal groups."""
    rng = np.random.default_rng(6)
    for ids in (np.zeros(37, int), np.arange(16), np.repeat(np.arange(9), rng.integers(1, 12, 9)), np.zeros(1, int)):
        made = unread(*torch.as_tensor(np.stack([ids, ids])))
        parts = torch.as_tensor(rng.normal(size=(2, len(ids))))
        before = groups.sum_of_groupmates(parts, made.group, made.end)
        for row in range(len(ids)):
            changed = parts.clone()
            changed[:, row] = 1e200
            after = groups.sum_of_groupmates(changed, made.group, made.end)
            same = torch.as_tensor((ids != ids[row]) | (np.arange(len(ids)) == row))
            assert torch.equal(after[:, same], before[:, same])


@pytest.mark.parametrize("smoother", ["nadaraya_watson", "local_linear"])
def test_rows_without_the_fused_kernel_do_not_wait(smoother):
    """As on a GPU without Triton."""
    with fake():
        z, edge = torch.empty(60, dtype=torch.float64), torch.empty(60, dtype=torch.int64)
        past = torch.empty(9, 60, dtype=torch.float64)
        with Forbidden() as watch:
            out, *_ = groups.estimates(past, z, edge, edge, smoother)
    assert out.shape == (6, 60)
    assert watch.calls > 40


def test_eviction_keeps_what_matters():
    """By age of all, by age behind the prompt's newest visit, and by number."""
    held = history.DeviceHistory(CPU)
    step, prompt, one = np.array([1, 2, 3, 8, 9, 4, 5]), np.array([0, 0, 0, 0, 0, 1, 1]), np.ones(7)
    held.load(np.array([5, 7]), Groups(prompt, step, one, one * step, one), np.empty((2, 0)))
    for keep, left in [(Retention(3, 2**62, 0), [[3, 8, 9], [4, 5]]), (Retention(-(2**62), 1, 0), [[8, 9], [4, 5]]),
                       (Retention(100, 0, 1), [[9], [5]])]:  # fmt: skip
        held._evict(keep)
        keys, visits, _ = held.arrays()
        assert keys.tolist() == [5, 7]
        assert [visits.step[visits.prompt == p].tolist() for p in (0, 1)] == left
        assert (visits.s == visits.step).all()
    assert int(held.evicted) == 5
    held._evict(Retention(9, 2**62, 0))
    assert held.arrays()[0].tolist() == [5]
    held._pack()
    assert held.visits.newest.tolist()[:2] == [9, 0]


@given(st.lists(st.tuples(st.sampled_from([-(2**63), -5, 0, 3, 4, 2**63 - 2, 2**63 - 1]) | st.integers(0, 40),
                          st.integers(1, 9)), max_size=60), st.integers(0, 9))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_prompts_without_visits_leave(rows, oldest):
    """What is left is found, in its order, with what is noted of it; the places that were freed take others."""
    steps = {}
    for key, step in rows:
        steps.setdefault(key, set()).add(step)
    held = history.DeviceHistory(CPU, noted=2)
    note = lambda key: [float(key), float(key % 7)]

    def load(steps):
        flat = np.array([step for own in steps.values() for step in sorted(own)], np.int64)
        length = np.array([len(own) for own in steps.values()], np.int64)
        one = np.ones(len(flat))
        held.load(
            np.array(list(steps), np.int64),
            Groups(np.repeat(np.arange(len(steps)), length), flat, one, one * flat, one),
            np.array([note(key) for key in steps]).reshape(-1, 2),
        )

    load(steps)
    held._evict(Retention(oldest, 2**62, 0))
    held._pack()
    left = {key: sorted(step for step in own if step >= oldest) for key, own in steps.items()}
    left = {key: own for key, own in left.items() if own}
    rows, hit, _ = held.table.find(torch.tensor(sorted(steps) or [0]))
    assert hit.tolist() == [key in left for key in sorted(steps) or [0]]
    assert rows[hit].tolist() == [list(left).index(key) for key in sorted(left)]
    for key, row in zip(sorted(left), rows[hit].tolist(), strict=True):
        cells = slice(row * held.room, row * held.room + int(held.visits.size[row]))
        assert held.visits.step[cells].tolist() == left[key][::-1]
        assert held.visits.first[cells].tolist() == left[key][::-1]
        assert held.visits.newest[row] == left[key][-1]
        assert held.notes[row].tolist() == note(key)
    keys, _, notes = held.arrays()
    assert notes.tolist() == [note(key) for key in keys.tolist()]
    assert int(held.table.used) == len(left)
    assert int(held.evicted) == sum(map(len, steps.values())) - sum(map(len, left.values()))
    new = torch.arange(100, 140)
    yes = torch.ones(40, dtype=torch.bool)
    got = enter(held.table.keys, held.table.rows, held.table.used, new, *held.table.find(new), yes)
    assert got.tolist() == list(range(len(left), len(left) + 40))


def test_bound_is_never_too_low():
    bound, counter = transfer.Bound(CPU), torch.tensor(0)
    for k in range(50):
        bound.add(3)
        counter += k % 3
        if k % 4 == 0:
            bound.ask(counter)
        assert bound.most >= int(counter)
    bound.ask(counter)
    assert bound.most == int(counter)


def test_what_comes_from_main_memory_is_pinned(monkeypatch):
    """Ids, weights and what is looked up by ids; a copy from pageable memory may wait for what runs on a GPU."""
    pinned, there = [], torch.device("meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(len(x)) or x)
    given, _ = read_ids(torch.arange(5, dtype=torch.int32))
    assert Names().keys(given, there).dtype == torch.int64
    assert state._weights(torch.ones(6, dtype=torch.bfloat16), 6, there).dtype == torch.float64
    assert state._weights([1.0] * 7, 7, there).dtype == torch.float64
    source = Features({k: np.ones(2) for k in range(3)})
    assert DeviceFeatures(source, there).rows(given, None).shape == (5, 2)
    assert pinned == [5, 6, 7, 3, 4, 5]
    state._weights(torch.ones(6, device=there), 6, there)
    assert len(pinned) == 6


def test_sums_elsewhere_are_the_same_where_torch_is_deterministic():
    """Its running sums of real numbers would be refused there on a GPU."""
    ids = torch.sort(torch.randint(0, 9, (77,))).values
    ends = [torch.searchsorted(ids, ids, right=right) for right in (False, True)]
    parts = torch.rand((3, 77), dtype=torch.float64)
    expected = groups.sums_elsewhere(parts, *ends)
    torch.use_deterministic_algorithms(True)
    try:
        torch.testing.assert_close(groups.sums_elsewhere(parts, *ends), expected, rtol=1e-13, atol=1e-13)
        changed = parts.clone()
        changed[:, ids == ids[40]] = 1e200
        assert torch.equal(groups.sums_elsewhere(changed, *ends)[:, 40], groups.sums_elsewhere(parts, *ends)[:, 40])
    finally:
        torch.use_deterministic_algorithms(False)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.floats(-9, 9) | st.just(np.nan), st.floats(0.1, 5)),
                min_size=1, max_size=30), st.booleans())  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_a_rule_is_told_the_same_of_a_batch_wherever_it_lies(rows, weighted):
    """In main memory a group is a number, on a device the place of its first row."""
    ids, tick, z, w = (np.array(column) for column in zip(*rows, strict=True))
    w = np.where(np.isnan(z), 0.0, w)
    here = read_batch(ids, z.astype(float), tick + 1)._replace(weight=w if weighted else None)
    given = [torch.as_tensor(part) for part in (ids, z.astype(float), tick)]
    there = unread(*given, [1, 2, 3], torch.as_tensor(w) if weighted else None)

    def same(mine, theirs):
        theirs = torch.as_tensor(theirs)
        np.testing.assert_allclose(there.restore(theirs[there.group].double()).numpy(), mine[here.group], atol=1e-9)

    for mine, theirs in zip(here.heard, there.heard, strict=True):
        np.testing.assert_allclose(there.restore(theirs).numpy(), mine, atol=1e-9)
    seen = SimpleNamespace(empty=False, low=0.0)
    for mine, theirs in zip(here.sums(seen)[1:8], there.sums(seen)[1:8], strict=True):
        same(mine, theirs)
    for mine, theirs in zip((*here.extremes(), here.step, *here.groups[2:]),
                            (*there.extremes(), there.step, *there.visits), strict=True):  # fmt: skip
        same(mine, theirs)
    assert (here.chain is None) == (len(here.prompt) == len(here.ids))
