"""The table of the measured speeds, and the check of their ratios.

    python -m benchmarks.speed                   # results/speed.json -> results/speed.md
    python -m benchmarks.speed --check NEW.json  # are we as far ahead of the peers as in results/speed.json?

``python -m pytest benchmarks/speed --benchmark-json=FILE`` measures: in full for the results, with ``--short`` for the
check.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import RESULTS
from benchmarks.speed.table import nearer, page, ratios


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="NEW.json", help="compare ratios with the committed ones")
    new = parser.parse_args().check
    committed = json.loads((RESULTS / "speed.json").read_text())
    if new is None:
        (RESULTS / "speed.md").write_text(page(committed))
        return
    lost = nearer(ratios(committed["benchmarks"]), ratios(json.loads(new.read_text())["benchmarks"]))
    if lost:
        sys.exit("\n".join(lost))


if __name__ == "__main__":
    main()
