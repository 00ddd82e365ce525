"""What a baseline does to a policy, in a simulator where pass rates and gradients are exact.

    python -m benchmarks.policies [--panels starts groups ...] [--workers 2] [--smoke]
    python -m benchmarks.policies --tables

Writes results/policies.md and results/policies.parquet (every run): about two hours of two cores.  Runs lie in
runs/policies.jsonl; stopped, the command goes on where it was.  `--smoke` runs a few, in less than a minute, prints their
table and writes nothing; `--tables` makes the tables anew from results/policies.parquet.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import polars as pl

from benchmarks import RESULTS
from benchmarks.policies.run import train
from benchmarks.policies.study import PANELS, SMOKE, carry_out
from benchmarks.policies.tables import report, stored

FILE = RESULTS / "policies.parquet"
HEAD = """# Policies in the exact simulator

`python -m benchmarks.policies` makes this file and `policies.parquet`, which has every run.

{about}
"""
ABOUT = """\
A prompt asks for one to three of a hundred skills; accuracies are exact, over 512 held-out prompts.  32 traces a step, 100
steps.  The learning rate of each method is the one with the best area on the seeds of the other half.  The first column
*area* is the mean accuracy over the training in points; those after it are differences from no baseline, paired over the
seeds, with 95% intervals (Student's t; bold where they leave out 0; no correction for the number of comparisons; seeds s and
s + 4 share the skills).  *Entropy*: of the tokens that decide, at the end, in nats.  *Gradient*: exact second moment of the
gradient along the method's own path, over that of the oracle b\\*.  *Tilted*: v / (v + k (1 - v)) for the value v and k = 3,
or 2 where it says so; without weights a control, and "weighted, tilted by 2" is what the adapters do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panels", nargs="+", choices=list(PANELS), default=list(PANELS))
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            runs = carry_out(list(SMOKE.values()), train, Path(folder) / "policies.jsonl", options.workers)
        print(markdown(runs, SMOKE))
        return
    if options.tables:
        runs = pl.read_parquet(FILE)
    else:
        chosen = [PANELS[name] for name in options.panels]
        runs = carry_out(chosen, train, options.folder / "policies.jsonl", options.workers)
        stored(runs).write_parquet(FILE, compression_level=19)
        runs = pl.read_parquet(FILE)
    (RESULTS / "policies.md").write_text(markdown(runs, PANELS))


def markdown(runs: pl.DataFrame, panels: dict) -> str:
    parts = [HEAD.format(about=ABOUT)]
    parts += [f"## {heading}\n\n{text}\n" for heading, text in report(runs, panels)]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
