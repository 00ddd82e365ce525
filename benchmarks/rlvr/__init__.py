"""The training study: does a better baseline train better?  See README.md."""

from benchmarks import RESULTS as ALL_RESULTS

RESULTS = ALL_RESULTS / "rlvr"
