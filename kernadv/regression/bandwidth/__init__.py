"""Bandwidth selectors, one a file, one protocol.

A new selector is a new file with a tuple `SELECTORS` of objects; it is found by walking this package.

Settings are in the classes: ``LocalLinear(HBlock(block=5))``; a name stands for a class with its default settings.

| name | class | idea | use |
|---|---|---|---|
| `leave_one_out` | `LeaveOneOut` | prediction error of each point from the others | independent errors; the default |
| `k_fold` | `KFold` | the same, leaving out random folds | expensive predictions |
| `h_block` | `HBlock` | the same, leaving out neighbours as well | dependent errors |
| `gcv` | `GCV` | residuals and a penalty on the degrees of freedom | independent errors, large samples |
| `aicc` | `AICc` | the same with another penalty | independent errors, small samples; varies less |
| `one_sided` | `OneSided` | leave-one-out of a one-sided fit, rescaled | independent errors, one smooth curve |
| `prequential` | `Prequential` | prediction error of each point from its past | one-sided smoothing, series, feedback |
| `plug_in` | `PlugIn` | noise and curvature in an asymptotic formula | one smooth curve, large samples, speed |
| `quartic_rule` | `QuarticRule` | the same from one quartic | a first look |
| `rule_of_thumb`, `silverman` | `NormalReference` | the spread of the design only | a scale to start from |
| `mse_optimal` | `MSEOptimal` | the formula at each query | curvature that changes; derivatives |
| `mse_rule` | `MSERule` | the same from one quartic | a first look at it |
| `lepski` | `Lepski` | the widest bandwidth that agrees with all narrower ones | unknown smoothness |
| `k_neighbors` | `KNeighbors` | number of neighbours by leave-one-out | designs of very uneven density |

With categorical columns `leave_one_out`, `gcv` and `aicc` choose lambda as well.
"""

from __future__ import annotations

import importlib
import pkgutil

from kernadv._errors import ArgumentTypeError, check_choice
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._criterion import CriterionSelector
from kernadv.regression.bandwidth.aicc import AICc
from kernadv.regression.bandwidth.gcv import GCV
from kernadv.regression.bandwidth.h_block import HBlock
from kernadv.regression.bandwidth.k_fold import KFold
from kernadv.regression.bandwidth.k_neighbors import KNeighbors
from kernadv.regression.bandwidth.criteria import LeaveOneOut
from kernadv.regression.bandwidth.lepski import Lepski
from kernadv.regression.bandwidth.mse_optimal import MSEOptimal
from kernadv.regression.bandwidth.mse_rule import MSERule
from kernadv.regression.bandwidth.one_sided import OneSided
from kernadv.regression.bandwidth.plug_in import PlugIn
from kernadv.regression.bandwidth.prequential import Prequential
from kernadv.regression.bandwidth.quartic_rule import QuarticRule
from kernadv.regression.bandwidth.rule_of_thumb import NormalReference

__all__ = [
    "GCV",
    "SELECTORS",
    "AICc",
    "CriterionSelector",
    "HBlock",
    "KFold",
    "KNeighbors",
    "LeaveOneOut",
    "Lepski",
    "MSEOptimal",
    "MSERule",
    "NormalReference",
    "OneSided",
    "PlugIn",
    "Prequential",
    "QuarticRule",
    "Selection",
    "Selector",
    "get",
]


def _discover() -> dict[str, Selector]:
    found: dict[str, Selector] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            for selector in importlib.import_module(f"{__name__}.{module.name}").SELECTORS:
                found[selector.name] = selector
    return found


#: Every selector by name, with its default settings.
#:
#: :meta hide-value:
SELECTORS: dict[str, Selector] = _discover()


def get(selector: str | Selector) -> Selector:
    """Return the selector of that name; a `Selector` is returned as it is.

    Raises
    ------
    ArgumentError
        If the name is unknown; the message lists the known ones.
    """
    if isinstance(selector, Selector):
        return selector
    if not isinstance(selector, str):
        raise ArgumentTypeError(
            f"bandwidth selector must be a name or a Selector, got {selector!r}; names: {', '.join(sorted(SELECTORS))}"
        )
    return SELECTORS[check_choice(selector, "bandwidth selector", SELECTORS)]
