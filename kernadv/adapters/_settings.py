"""An estimator from the settings in a framework's configuration."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from kernadv._errors import ArgumentError, ArgumentTypeError
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
    try:
        options = {str(name): value for name, value in dict(settings).items()}
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"the settings of kernadv must be a mapping, e.g. {{h: 0.5}}, got {settings!r}"
        ) from None
    factory = options.pop("factory", None)
    if factory is not None:
        if options:
            raise ArgumentError(f"factory must stand alone, got {sorted(options)} beside it; set them in the function")
        return _named(factory)()
    known = {"h", "kernel", "allow_late", "cold_start", "max_visits", "max_total", "weighted", "backend"}
    if not options.keys() <= known:
        raise ArgumentError(
            f"unknown settings of kernadv {sorted(options.keys() - known)}; known: {sorted(known)}, factory"
        )
    return KernelValueEstimator.kae(**options) if "h" in options else KernelValueEstimator(**options)


def _named(factory: Any) -> Callable[[], Any]:
    """The function that a name stands for; what goes wrong inside it is its own."""
    module, _, name = factory.rpartition(".") if isinstance(factory, str) else ("", "", "")
    if not module or not all(part.isidentifier() for part in factory.split(".")):
        raise ArgumentError(f"factory must be the name of a function, 'package.module.function', got {factory!r}")
    try:
        function = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ArgumentError(
            f"factory={factory!r}: there is no module {error.name!r}; put its folder on PYTHONPATH, or correct the name"
        ) from None
    if not callable(function):
        what = "no function" if function is None else f"no function but {function!r:.80}"
        raise ArgumentError(f"factory={factory!r}: {name!r} of module {module!r} is {what}; name one without arguments")
    return function  # type: ignore[no-any-return]
