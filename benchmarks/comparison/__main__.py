"""Every value baseline on every simulated scenario: the default against the best of them, and each against KAE.

    python -m benchmarks.comparison [--seeds 20] [--workers 2] [--features informative|noise | --pieces | --hindsight]

Writes results/comparison.md and results/comparison.parquet (means over the paired runs): about two CPU hours for
20 seeds.  With features, for the default with one piece changed, or for every setting of every tuned family in hindsight,
only those are run, into files of their own.
"""

from __future__ import annotations

import argparse

from benchmarks import RESULTS
from benchmarks.comparison.markdown import hindsight, report
from benchmarks.comparison.study import chosen, measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--features", choices=("informative", "noise"))
    parser.add_argument("--pieces", action="store_true")
    parser.add_argument("--hindsight", action="store_true")
    options = parser.parse_args()
    every = chosen(options.features, options.pieces, options.hindsight)
    table = measure(every, range(options.seeds), options.workers, options.features)
    if options.hindsight:
        (RESULTS / "hindsight.md").write_text(hindsight(table))
        return
    part = f"{options.features}_features" if options.features else "pieces" if options.pieces else ""
    report(table, every, "_".join(filter(None, ["comparison", part])))


if __name__ == "__main__":
    main()
