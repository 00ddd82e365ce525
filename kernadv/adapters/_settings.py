"""An estimator from the settings in a framework's configuration."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from kernadv._errors import ArgumentError
from kernadv.estimator import KernelValueEstimator


def estimator_of(settings: Mapping[str, Any]) -> Any:
    """Build an estimator from a framework's configuration.

    ``h`` (and ``kernel``) give the paper's estimator, ``factory`` names a function without arguments that returns any
    estimator ("package.module.function"); other settings are arguments of `KernelValueEstimator`.  None: the pooled one.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a setting is unknown or cannot be used.
    """
    options = dict(settings)
    factory = options.pop("factory", None)
    if factory is not None:
        module, _, name = str(factory).rpartition(".")
        if options or not module:
            raise ArgumentError(f"factory must be 'package.module.function' and stand alone, got {dict(settings)}")
        return getattr(importlib.import_module(module), name)()
    known = {"h", "kernel", "allow_late", "cold_start", "max_visits", "max_total", "weighted", "backend"}
    if not options.keys() <= known:
        raise ArgumentError(
            f"unknown settings of kernadv {sorted(options.keys() - known)}; known: {sorted(known)}, factory"
        )
    return KernelValueEstimator.kae(**options) if "h" in options else KernelValueEstimator(**options)
