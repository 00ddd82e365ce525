"""Bandwidth selectors, one a file, one protocol.

A new selector is a new file with a tuple `SELECTORS` of objects; it is found by walking this package.

| name | idea | use |
|---|---|---|
| `leave_one_out` | prediction error of each point from the others | independent errors |
| `k_fold`, `h_block` | the same, leaving out random folds, or neighbours as well | large folds; dependent errors |
| `gcv`, `aicc` | residuals and a penalty on the degrees of freedom | independent errors, less variable than leave-one-out |
| `one_sided` | leave-one-out of a one-sided fit, rescaled | independent errors, one smooth curve |
| `prequential` | prediction error of each point from its past | one-sided smoothing, series, feedback |
| `rule_of_thumb`, `silverman`, `quartic_rule`, `plug_in` | asymptotic formulas | quick, one smooth curve |
| `mse_optimal`, `mse_rule`, `lepski` | a bandwidth a query | curvature that changes along the line |
| `k_neighbors` | number of neighbours by leave-one-out | designs of very uneven density |
"""

from __future__ import annotations

import importlib
import pkgutil

from kernadv._errors import ArgumentTypeError, check_choice
from kernadv.bandwidth._base import Selection, Selector

__all__ = ["SELECTORS", "Selection", "Selector", "get"]


def _discover() -> dict[str, Selector]:
    found: dict[str, Selector] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            for selector in importlib.import_module(f"{__name__}.{module.name}").SELECTORS:
                found[selector.name] = selector
    return found


#: Every selector by name, with its default settings.
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
