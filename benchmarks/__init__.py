"""What the numbers of the README and the documentation are made with; run from the repository's root, never shipped.

`python -m benchmarks.NAME` runs one, and writes what it found to `benchmarks/results/`.
"""

from pathlib import Path

RESULTS = Path(__file__).parent / "results"
