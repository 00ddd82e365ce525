"""Training runs with known truth: reward processes, prompt schedules and the rollouts they produce.

The value of prompt x at step t is

    V_x(t) = sigmoid( a_x sd(t) + mu(t) + d_x(t) ),    a_x ~ N(0, 1),    g(t) = 1 - exp(-t / time_constant),
    mu(t) = start + rise g(t),    sd(t) = spread + spread_rise g(t),

where d_x is the prompt's own path.  Rewards are Bernoulli(V), or Beta draws with mean V.  One seed gives the same prompts,
truth, features and offline rollouts for every group size, and the first traces of a large group are those of a small one,
so that comparisons across group sizes and methods are paired.  `posterior` is the best that an estimator can do.
"""

from kernadv.simulation.floor import Posterior, posterior
from kernadv.simulation.process import PROCESSES, Process
from kernadv.simulation.run import Simulation, simulate
from kernadv.simulation.schedule import SCHEDULES, Schedule

__all__ = ["PROCESSES", "SCHEDULES", "Posterior", "Process", "Schedule", "Simulation", "posterior", "simulate"]


def __dir__() -> list[str]:
    return __all__
