"""Finished runs of a folder become the two small files that are kept in the repository.

Command: ``python -m benchmarks.rlvr.training.collect``.  Runs that are there already and not in the folder stay.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.training.setting import Setting


def evaluations(folder: Path) -> pl.DataFrame:
    """Accuracy on the held-out prompts: a row a run and evaluation, with the run's setting in columns."""
    parts = []
    for path in sorted(folder.glob("*-s*.parquet")):
        if not path.name.endswith(".log.parquet"):
            table = pq.read_table(path)
            setting = json.loads(table.schema.metadata[b"setting"])
            named = [pl.lit(x).alias("steps_in_all" if name == "steps" else name) for name, x in setting.items()]
            parts.append(pl.from_arrow(table).with_columns(named))
    return pl.concat(parts)


def merge(found: pl.DataFrame, path: Path) -> pl.DataFrame:
    """With the runs of the file that are not among those found."""
    if not path.exists():
        return found
    kept = pl.read_parquet(path)
    run = [name for name in kept.columns if name not in ("step", "accuracy")]
    return pl.concat([found, kept.join(found.select(run).unique(), on=run, how="anti").select(found.columns)])


def recorded() -> set[str]:
    """Names of the runs whose results are in the repository."""
    path = RESULTS / "policies.parquet"
    if not path.exists():
        return set()
    table = pl.read_parquet(path).rename({"steps_in_all": "steps", "step": "at"})
    settings = table.select(field.name for field in fields(Setting)).unique()
    return {Setting(**row).name for row in settings.iter_rows(named=True)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Collect the results of finished runs.")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "policies.parquet"
    table = merge(evaluations(arguments.folder), path)
    order = ["task", "profile", "group", "reuse", "steps_in_all", "seed", "method", "rate", "step"]
    table.sort(order).write_parquet(path, compression="zstd", compression_level=19)
    print(f"{path}: {table.drop('step', 'accuracy').unique().height} runs")


if __name__ == "__main__":
    main()
