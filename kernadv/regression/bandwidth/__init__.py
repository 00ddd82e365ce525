"""Bandwidth selectors, one protocol.

To add a selector, write a file with a tuple `SELECTORS`; the package finds it and exports its class.

Settings belong to the classes: ``LocalLinear(HBlock(block=5))``.  A name stands for a class with its default settings.

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
| `lepski` | `Lepski` | at each query the widest bandwidth that agrees with all narrower ones | unknown smoothness |
| `k_neighbors` | `KNeighbors` | number of neighbours by leave-one-out | designs of very uneven density |

`leave_one_out`, `gcv` and `aicc` also choose the lambdas of categorical columns.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from kernadv._errors import ArgumentTypeError, check_choice
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._criterion import CriterionSelector

#: Every selector by name, with its default settings.
#:
#: :meta hide-value:
SELECTORS: dict[str, Selector] = {
    selector.name: selector
    for module in pkgutil.iter_modules(__path__)
    if not module.name.startswith("_")
    for selector in importlib.import_module(f"{__name__}.{module.name}").SELECTORS
}
_CLASSES: dict[str, type[Selector]] = {type(selector).__name__: type(selector) for selector in SELECTORS.values()}

__all__ = ["SELECTORS", "CriterionSelector", "Selection", "Selector", "get", *sorted(_CLASSES)]


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _CLASSES[name]


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
