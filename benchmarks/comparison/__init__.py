"""Value baselines over simulated runs: every method on the same prompts, truth and rewards, in a long table.

All tables are polars data frames.  `compare` runs, `summary` sets every method against one of them with paired standard
errors, `in_hindsight` picks the best of several settings knowing the truth, `at_equal_rollouts` charges rollouts from before
training, and `Floor` is the best that any method can do.
"""

from kernadv.comparison.floor import Floor
from kernadv.comparison.run import compare, side_information
from kernadv.comparison.tables import at_equal_rollouts, in_hindsight, summary

__all__ = ["Floor", "at_equal_rollouts", "compare", "in_hindsight", "side_information", "summary"]
