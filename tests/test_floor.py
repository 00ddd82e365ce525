"""The benchmark of the floor: its numbers from the runs, by hand."""

import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kernadv.baselines.pooled import PooledKernel
from kernadv.simulation import Schedule, posterior, simulate

pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
from benchmarks import floor
from benchmarks.comparison import side_information


@pytest.fixture(scope="module")
def table():
    return floor.measure(2, 1, processes=["calib", "clusters"], schedules=["epochs"], batches=[4, 8])


def mean_product(error):
    """Mean over pairs of sets of the product of their errors."""
    pairs = [error[r] * error[s] for r in range(len(error)) for s in range(r)]
    return np.mean(pairs)


def test_floor_and_its_monte_carlo_error_are_those_of_the_sets(table):
    row = floor.by_cell(table).row(by_predicate=(pl.col("process") == "calib") & (pl.col("batch") == 4)
                                   & (pl.col("group_size") == 8), named=True)  # fmt: skip
    runs = [simulate("calib", Schedule(batch=4, stay=1, blocks=16), 8, seed=seed) for seed in (0, 1)]
    errors = [posterior(run).sets - run.value[:, None] for run in runs]
    mean = np.mean([mean_product(error) for error in errors])
    left = [np.mean([mean_product(np.delete(error, own, axis=0)) for error in errors]) for own in range(4)]
    assert row["floor"] == pytest.approx(mean)
    assert row["monte_carlo"] == pytest.approx(np.sqrt(3 / 4 * ((left - np.mean(left)) ** 2).sum()))
    default = [PooledKernel().replay(r.groups, side_information(r)).true_squared_error(r.groups, r.value) for r in runs]
    assert row["to_floor"] == pytest.approx(np.mean(default) / 8 / mean)
    least = min(posterior(run).ess.min() for run in runs[:1])
    only = table.filter(process="calib", batch=4)
    assert floor.least_sample(only) == pytest.approx(least)


def test_tables_leave_out_what_the_floor_does_not_bound(table):
    text = floor.markdown(table, 2, 7.0)
    cells = floor.by_cell(table)
    assert "Prompts of clusters share their paths" in text
    assert "smallest effective number of trajectories 7" in text
    for batch in (4, 8):
        here = cells.filter(pl.col("process") != "clusters", batch=batch)
        assert re.search(rf"^\| {batch} \| {here['to_floor'].mean():.3f} \|", text, re.MULTILINE)
    curve = table.filter(pl.col("process") != "clusters", part="first", at=3, batch=8)
    low, ours = (1e3 * curve.filter(method=name)["mse"].mean() for name in ("floor", "kernadv"))
    assert f"{low:.1f}, {ours:.1f} ({ours / low:.3f}) |\n| 4 |" in text
    assert text.count("(exact)") == 2 * 4


def test_the_command_in_short(monkeypatch, capsys):
    """It prints the tables, and writes none."""
    few = {"processes": ["flat"], "schedules": ["epochs"], "batches": [4]}
    monkeypatch.setattr(floor, "SHORT", few)
    monkeypatch.setattr(floor, "RESULTS", Path("/nowhere"))
    monkeypatch.setattr(sys, "argv", ["floor", "--short", "--jobs", "1"])
    floor.main()
    shown = capsys.readouterr().out
    assert "1 paired run a cell" in shown
    assert "| epochs | 4 | 8 |" in shown
