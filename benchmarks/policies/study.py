"""The panels of the study, and their runs, which can be stopped and go on."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, fields
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from benchmarks.policies.methods import METHODS
from benchmarks.policies.run import Setting
from benchmarks.policies.task import LENGTHS, STARTS
from kernadv.cli._progress import Bars

SEEDS = 16
#: The rows of every table; the others are shown in the first one only.
CONTROLLED = (
    "none", "mirror", "batch", "batch-tilted", "kae", "plain", "plain-tilted", "plain-tilted-2", "weighted",
    "weighted-tilted", "value", "optimal",
)  # fmt: skip
GROUPED = ("none", "batch", "rloo", "kae", "plain", "plain-tilted", "weighted", "weighted-tilted", "value", "optimal")


class Panel(NamedTuple):
    """Runs that share a table for each combination of `vary`.

    Attributes
    ----------
    title : str
    methods : tuple of str
    rates : tuple of float
        Learning rates; each method gets the one that is best for it on other seeds.
    vary : dict
        Field of the setting -> values.
    seeds : int
    setting : type
        Dataclass of a run, with the fields method, seed, rate, group and those of `vary`.
    """

    title: str
    methods: tuple[str, ...]
    rates: tuple[float, ...]
    vary: dict[str, tuple[Any, ...]]
    seeds: int = SEEDS
    setting: type = Setting

    def cells(self) -> Iterator[dict[str, Any]]:
        """Varied fields of each table."""
        for values in product(*self.vary.values()):
            yield dict(zip(self.vary, values, strict=True))

    def of_cell(self, cell: dict[str, Any], seed: int) -> Iterator[Any]:
        """The runs of one table and seed."""
        for method, rate in product(self.methods, self.rates):
            setting = self.setting(method=method, seed=seed, rate=rate, **cell)
            if METHODS[method].least_group <= setting.group:
                yield setting

    def settings(self) -> Iterator[Any]:
        """All runs."""
        for cell, seed in product(list(self.cells()), range(self.seeds)):
            yield from self.of_cell(cell, seed)


SINGLE = tuple(name for name, method in METHODS.items() if method.least_group == 1 and not method.per_token)
THREE = {"start": ("low", "middle", "high")}
ADAM = (0.05, 0.1, 0.2, 0.4)
PANELS = {
    "starts": Panel("One trace a prompt", SINGLE, ADAM, {"start": tuple(STARTS)}),
    "lengths": Panel(
        "Lengths, and with them k", CONTROLLED, (0.1, 0.2, 0.4),
        THREE | {"lengths": tuple(name for name in LENGTHS if name != "longer")},
    ),
    "losses": Panel(
        "Losses", CONTROLLED, (0.1, 0.2, 0.4), THREE | {"loss": ("batch", "trace"), "lengths": ("longer", "heavy_longer")}
    ),
    "sgd": Panel("Plain gradient steps", CONTROLLED, (4.0, 8.0, 16.0, 32.0, 64.0), THREE | {"optimizer": ("sgd",)}),
    "clip": Panel("Clipped at most steps", CONTROLLED, (0.1, 0.2, 0.4), THREE | {"clip": (0.02,)}),
    "groups": Panel("Equal rollouts", GROUPED, (0.1, 0.2, 0.4), THREE | {"group": (1, 2, 4, 8)}),
}  # fmt: skip
SMOKE = {
    "starts": Panel("One trace a prompt", ("none", "plain", "weighted", "optimal"), (0.2,), {"start": ("low",)}, 2)
}


def rows(file: Path) -> pl.DataFrame:
    """Finished runs; a last line that a stopped process left incomplete is not one."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return pl.DataFrame([json.loads(line) for line in lines if line.endswith("\n")], infer_schema_length=None)


def carry_out(
    panels: Sequence[Panel], train: Callable[[Any], dict[str, Any]], file: Path, workers: int
) -> pl.DataFrame:
    """All runs of the panels that are not in the file yet, which they are appended to.

    Parameters
    ----------
    panels : sequence of Panel
    train : callable
        From a setting to its row, which has the fields of the setting; can be pickled.
    file : Path
        One run a line.
    workers : int
        Processes.

    Returns
    -------
    polars.DataFrame of all runs in the file
    """
    every = dict.fromkeys(setting for panel in panels for setting in panel.settings())
    wanted = sorted(every, key=attrgetter("seed"))  # all tables have their first seeds early
    done = rows(file)
    names = [field.name for field in fields(wanted[0])]
    known = {tuple(row[name] for name in names) for row in done.iter_rows(named=True)}
    missing = [setting for setting in wanted if astuple(setting) not in known]
    file.parent.mkdir(parents=True, exist_ok=True)
    if done.height:
        _rewrite(file)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    with file.open("a") as out, pool, Bars() as bars, bars.bar("training") as show:
        started = [pool.submit(train, setting) for setting in missing]
        for number, future in enumerate(as_completed(started), 1):
            row = future.result()
            out.write(json.dumps(row) + "\n")
            out.flush()
            show(number / len(missing), f"{row['method']}, seed {row['seed']}, {number} of {len(missing)}")
    return rows(file)


def _rewrite(file: Path) -> None:
    """Drop an incomplete last line."""
    lines = file.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        file.write_text("".join(lines[:-1]))
