"""Scores of traces, and weights that stand in for their squared norms.

The score of a trace is the gradient of its log-probability by the parameters, ``s = grad log pi``, as in statistics; a
reward is never called so.
"""

from kernadv.scores._models import last_layer_scores, logit_norms, logit_weights, trace_scores
from kernadv.scores._surprisal import Surprisal

__all__ = ["Surprisal", "last_layer_scores", "logit_norms", "logit_weights", "trace_scores"]


def __dir__() -> list[str]:
    return __all__
