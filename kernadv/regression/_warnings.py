"""Warnings of the regressors."""

from __future__ import annotations

import warnings

import numpy as np

from kernadv._typing import BoolArray


class EmptyWindowWarning(UserWarning):
    """Some queries have no estimate: their window is empty, or its points do not determine the local polynomial."""


class BandwidthWarning(UserWarning):
    """No bandwidth could be selected, or the selected one should not be trusted."""


def warn_undefined(defined: BoolArray, why: str) -> None:
    """Warn once if some queries have no estimate.

    Parameters
    ----------
    defined : (m,) bool
    why : str
        What is the matter and what to do.
    """
    missing = np.flatnonzero(~defined)
    if len(missing):
        warnings.warn(
            f"{len(missing)} of {len(defined)} queries have no estimate (NaN), the first in row {missing[0]}: {why}",
            EmptyWindowWarning,
            stacklevel=4,
        )
