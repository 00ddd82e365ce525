"""The floor as one more method of a comparison."""

from __future__ import annotations

from kernadv._errors import ArgumentError, check_count
from kernadv.baselines import Baseline, SideInformation, TraceValues
from kernadv.baselines._base import NOTHING
from kernadv.groups import Groups
from kernadv.simulation.floor import SETS


class Floor(Baseline):
    """Posterior mean of the value under the law that the run was drawn from: see `kernadv.simulation.posterior`.

    No method that reads the rewards of the run alone, and leaves the own one out, has a smaller expected error, except where
    prompts share random paths.  What the finite number of trajectories adds to the errors is taken off them.

    Parameters
    ----------
    without : int, optional
        Leave out one of the independent sets of trajectories, from 0: the jackknife over them gives the Monte Carlo error.

    Raises
    ------
    ArgumentError
        If there is no such set.
    """

    needs_truth = True

    def __init__(self, without: int | None = None) -> None:
        self.without = None if without is None else check_count(without, "without", least=0, most=SETS - 1)
        self.name = "floor" if without is None else f"floor without set {without}"
        self.title = "posterior mean under the true law (floor)"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> TraceValues:
        """``side.posterior()``."""
        traces = self.check_traces(groups, side)
        if side.posterior is None:
            raise ArgumentError("the floor reads the law of a simulation: pass the side_information of a simulated run")
        found = side.posterior()
        if self.without is not None:
            found = found.without(self.without)
        return TraceValues(found.value.ravel(), traces.z, found.variance.ravel())
