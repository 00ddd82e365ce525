"""Value baselines over simulated runs: every method on the same prompts, truth and rewards, in a long table.

All tables are polars data frames.  `compare` runs, `summary` sets every method against one of them with paired standard
errors, `in_hindsight` picks the best of several settings knowing the truth, `at_equal_rollouts` charges rollouts from before
training, and `Floor` is the best that any method can do.  The study of all methods: `chosen` ones, `measure`, `report`.
"""

from benchmarks.comparison.floor import Floor
from benchmarks.comparison.markdown import against, report
from benchmarks.comparison.run import compare, side_information
from benchmarks.comparison.study import chosen, fair, measure
from benchmarks.comparison.tables import at_equal_rollouts, in_hindsight, summary

__all__ = [
    "Floor",
    "against",
    "at_equal_rollouts",
    "chosen",
    "compare",
    "fair",
    "in_hindsight",
    "measure",
    "report",
    "side_information",
    "summary",
]
