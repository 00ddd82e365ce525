"""Which runs the study has."""

from __future__ import annotations

from benchmarks.policies.study import Panel
from benchmarks.rlvr.training.setting import Setting

METHODS = (
    "none", "batch", "batch-tilted", "rloo", "kae", "plain", "plain-tilted", "plain-tilted-2", "weighted",
    "weighted-uncapped", "weighted-tilted",
)  # fmt: skip
BOTH = {"clip": (1.0, 0.0), "group": (1, 4)}
#: Task -> its runs; the learning rates are those around the best.
PANELS = {
    "lookup": Panel("lookup", METHODS, (2e-4, 4e-4, 8e-4), {"task": ("lookup",)} | BOTH, 8, Setting),
    "chain_sum": Panel("chain_sum", METHODS, (5e-5, 1e-4, 2e-4), {"task": ("chain_sum",)} | BOTH, 8, Setting),
}
ALONG = ("weighted", "weighted-tokens", "weighted-tilted", "weighted-tokens-tilted")
#: Baselines along the trace, beside those of the trace.
TOKENS = {
    name: Panel(name, ALONG, panel.rates, panel.vary | {"group": (1,)}, 8, Setting) for name, panel in PANELS.items()
}
_tiny = {"task": ("lookup",), "clip": (1.0,), "group": (1,), "steps": (4,)}
SMOKE = {"lookup": Panel("lookup", ("none", "weighted"), (4e-4,), _tiny, 2, Setting)}
