"""Settings and side information in a form that no baseline can use."""

import numpy as np
import pytest

from kernadv import KernadvError, Steps
from kernadv.baselines import Offline, SideInformation, Traces, Tuned, discover
from kernadv.baselines.basis import Basis
from kernadv.baselines.beta import DiscountedBeta, SinglePolicy
from kernadv.baselines.group_mean import LeaveOneOutMean
from kernadv.baselines.kae import KAE
from kernadv.baselines.quantile import GroupQuantile
from kernadv.simulation import Schedule, simulate

RUN = simulate("calib", Schedule(batch=4, stay=2, blocks=2, steps=8), 2)
TRACES = Traces(RUN.rewards.ravel(), RUN.length.ravel())

SETTINGS = {
    "discount None": (lambda: DiscountedBeta(None), "discount must be a number, got None"),
    "discount text": (lambda: SinglePolicy("0.9"), "rho must be a number, got '0.9'"),
    "discount 2": (lambda: DiscountedBeta(2), r"discount must lie in \(0, 1\], got 2"),
    "quantile": (lambda: GroupQuantile(np.ones(2)), "k must be a number, got array"),
    "betas a number": (lambda: Basis(0.5), "betas must be a list of one beta or more, .* got 0.5"),
    "no betas": (lambda: Basis([]), r"betas must be a list of one beta or more, .* got \[\]"),
    "bandwidth a number": (lambda: KAE(0.5), r"bandwidth must be Relative\(h\), Steps\(w\) or Visits\(k\), got 0.5"),
    "grid of names": (
        lambda: Tuned("mine", ["rloo"]),
        r"grid of mine must be a list of one Baseline or more, got \['",
    ),
    "grid of one": (lambda: Tuned("mine", LeaveOneOutMean()), "grid of mine must be a list"),
    "no grid": (lambda: Tuned("mine", []), r"grid of mine must be a list of one Baseline or more, got \[\]"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(case):
    make, message = SETTINGS[case]
    with pytest.raises(KernadvError, match=message):
        make()
    KAE(Steps(5))


@pytest.mark.parametrize("name", [name for name, b in discover().items() if b.offline_rollouts])
def test_offline_rollouts_in_another_form(name):
    for offline in ((RUN.offline, 8), RUN.offline, 8):
        with pytest.raises(KernadvError, match=r"must be given as Offline\(total, rollouts\), got"):
            discover()[name].replay(RUN.groups, SideInformation(TRACES, offline))
    for rollouts in (0, None, "8"):
        with pytest.raises(KernadvError, match=r"Offline\.rollouts must be a whole number >= 1, got"):
            discover()[name].replay(RUN.groups, SideInformation(TRACES, Offline(RUN.offline, rollouts)))


def test_offline_totals_in_another_form():
    with pytest.raises(KernadvError, match=r"Offline\.total must be an array, or a mapping from prompt ids, got None"):
        discover()["pvpo"].online(Offline(None, 8)).values([0, 0], [1.0, 0.0], 1)


@pytest.mark.parametrize("name", [name for name, b in discover().items() if b.needs_traces or name == "kernadv"])
def test_traces_in_another_form(name):
    side = SideInformation(TRACES, Offline(RUN.offline, 8))
    for traces in (RUN.rewards, RUN.rewards.ravel()):
        with pytest.raises(KernadvError, match=r"the traces must be given as Traces\(z, weight\), got"):
            discover()[name].replay(RUN.groups, side._replace(traces=traces))
    with pytest.raises(KernadvError, match=r"the groups have 64 traces, side\.traces has 63"):
        discover()[name].replay(RUN.groups, side._replace(traces=Traces(TRACES.z[1:], TRACES.weight[1:])))
