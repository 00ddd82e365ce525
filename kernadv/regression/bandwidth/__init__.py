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
import re
from difflib import get_close_matches
from typing import Any

from kernadv._errors import ArgumentError, ArgumentTypeError
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
#: Other names, after `plain`: those of np, statsmodels, KernSmooth, locfit, nprobust and stats.
ALIASES = {
    **dict.fromkeys(("loo", "loo_cv", "loocv", "cv", "cv_ls", "lscv", "ls_cv"), "leave_one_out"),
    **dict.fromkeys(("aic", "cv_aic", "aic_c"), "aicc"),
    **dict.fromkeys(("dpill", "rsw", "ruppert_sheather_wand", "dpi", "direct_plug_in", "plugin"), "plug_in"),
    **dict.fromkeys(("rot", "normal_reference", "scott", "nrd", "bw_nrd"), "rule_of_thumb"),
    **dict.fromkeys(("nrd0", "bw_nrd0"), "silverman"),
    **dict.fromkeys(("kfold", "k_fold_cv", "cv_kfold"), "k_fold"),
    **dict.fromkeys(("hblock", "h_block_cv", "block_cv"), "h_block"),
    **dict.fromkeys(("oscv", "one_sided_cv"), "one_sided"),
    **dict.fromkeys(("mse_dpi", "mse"), "mse_optimal"),
    **dict.fromkeys(("knn", "neighbors", "nearest_neighbors"), "k_neighbors"),
    "mse_rot": "mse_rule",
    "imse_rot": "quartic_rule",
    "generalized_cross_validation": "gcv",
    "intersection_of_confidence_intervals": "lepski",
}
_CLASSES: dict[str, type[Selector]] = {type(selector).__name__: type(selector) for selector in SELECTORS.values()}

__all__ = ["ALIASES", "SELECTORS", "CriterionSelector", "Selection", "Selector", "get", *sorted(_CLASSES)]


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _CLASSES[name]


def __dir__() -> list[str]:
    return __all__


def get(selector: str | Selector) -> Selector:
    """Return the selector of that name; a `Selector` is returned as it is.

    Capitals do not matter, and blanks, points and hyphens are underscores.  The usual names of other packages are known too,
    see `ALIASES`: ``get("CV.LS")`` is ``get("leave_one_out")``.

    Raises
    ------
    ArgumentError
        If the name is unknown; the message lists the known ones, and the nearest.

    Examples
    --------
    >>> from kernadv.regression.bandwidth import get
    >>> get("Leave One Out").name, get("dpill").name, get("AIC").name
    ('leave_one_out', 'plug_in', 'aicc')
    """
    if isinstance(selector, Selector):
        return selector
    if not isinstance(selector, str):
        raise ArgumentTypeError(
            f"bandwidth selector must be a name or a Selector, got {selector!r}; names: {', '.join(sorted(SELECTORS))}"
        )
    name = plain(selector)
    name = ALIASES.get(name, name)
    if name not in SELECTORS:
        near = get_close_matches(name, [*SELECTORS, *ALIASES], 1)
        guess = f"; did you mean {ALIASES.get(near[0], near[0])!r}?" if near else ""
        raise ArgumentError(f"unknown bandwidth selector {selector!r}; known: {', '.join(sorted(SELECTORS))}{guess}")
    return SELECTORS[name]


def plain(name: str) -> str:
    """A name in small letters, with underscores for blanks, points and hyphens."""
    return re.sub(r"[\s.\-]+", "_", name.strip()).lower()
