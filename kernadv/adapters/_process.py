"""For frameworks that call a registered function: the estimator of the process, and what surrounds a call."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from kernadv._errors import ArgumentError, ArgumentTypeError, check_flag
from kernadv.adapters._driver import Driver, driver_with
from kernadv.estimator import KernelValueEstimator
from kernadv.typing import Estimator

#: The estimator's name in a framework's configuration.
NAME = "kernadv"


class Call(NamedTuple):
    """What the framework does not hand to the function."""

    step: Any  # one, or one a row
    keys: Any = None  # verl: {uid}_{session}_{output}, one a row
    batch: Any = None


_CALL: ContextVar[Call | None] = ContextVar("kernadv", default=None)
_DRIVERS: dict[str, Driver] = {}


def use(estimator: Estimator | Driver) -> None:
    """Take an estimator of your own in this process, or a driver, instead of what the configuration describes.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> from kernadv.adapters import slime, use
    >>> est = KernelValueEstimator()
    >>> est.observe(["a"], [1.0], step=1)
    >>> use(est)
    >>> slime.metrics()["kernadv/history_visits"]  # the functions that frameworks call now have this one
    1.0
    """
    _DRIVERS[NAME] = driver_with(estimator)


def driver(algorithm: Any = None, loss: Callable[[], str | None] = lambda: "sum") -> Driver:
    """The only estimator of the process, with what feeds it; built from ``algorithm.kernadv`` when first asked for.

    Parameters
    ----------
    algorithm : mapping, optional
        Part of the framework's configuration.
    loss : callable
        Reads the framework's loss, see `Driver`; called when the estimator is built.
    """
    settings = (algorithm.get(NAME) if hasattr(algorithm, "get") else None) or {}
    if NAME not in _DRIVERS:
        _DRIVERS[NAME] = driver_of(settings, loss())
    elif hasattr(settings, "get"):  # also of one that `use` brought
        _DRIVERS[NAME].resume_cold |= check_flag(settings.get("resume_cold", False), "resume_cold")
    return _DRIVERS[NAME]


def current() -> Call:
    """The call under way.

    Raises
    ------
    ArgumentError
        If nobody said at which step.
    """
    call = _CALL.get()
    if call is None:
        raise ArgumentError("the step is not known: wrap the call in `with kernadv.adapters.at_step(step):`")
    return call


@contextmanager
def at_step(step: int | Sequence[int], keys: Any = None, batch: Any = None) -> Iterator[None]:
    """Say at which step, or at which ones, one a row, rewards were made; the wrapped trainers do so by themselves.

    Examples
    --------
    >>> from kernadv.adapters import at_step
    >>> from kernadv.adapters._process import current  # for whoever registers a function with a framework
    >>> with at_step(7):
    ...     print(current().step)
    7
    """
    token = _CALL.set(Call(step, keys, batch))
    try:
        yield
    finally:
        _CALL.reset(token)


def driver_of(settings: Mapping[str, Any], loss: str | None = "sum") -> Driver:
    """Build an estimator, and what feeds it, from a framework's configuration.

    ``h`` (and ``kernel``) give the paper's estimator, ``factory`` names a function without arguments that returns any
    estimator ("package.module.function"); other settings are arguments of `KernelValueEstimator`.  ``weights`` is as in
    `Driver`, a function's name stands for it; so is ``resume_cold``.  ``remote`` is a mapping with a ``name`` and a
    ``folder``, see `kernadv.adapters.remote.RemoteEstimator`: the estimator is then shared with all that name it.

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
    weights = options.pop("weights", "surprisal")
    if weights not in ("surprisal", "none"):
        weights = _named(weights, "weights")
    cold = options.pop("resume_cold", False)
    remote = options.pop("remote", None)
    factory = options.pop("factory", None)
    if factory is not None:
        if options:
            raise ArgumentError(f"factory must stand alone, got {sorted(options)} beside it; set them in the function")
        if remote is None:
            return driver_with(_named(factory, "factory")(), weights, loss, resume_cold=cold)
    known = {"h", "kernel", "allow_late", "cold_start", "max_visits", "max_total", "weighted", "pessimism", "backend"}
    if not options.keys() <= known:
        raise ArgumentError(
            f"unknown settings of kernadv {sorted(options.keys() - known)}; known: {sorted(known)}, weights, resume_cold, "
            "factory, remote"
        )
    if remote is not None:
        from kernadv.adapters.remote import remote_of  # here: it needs Ray

        made_by = options if factory is None else _named(factory, "factory")
        return Driver(remote_of(remote, made_by, weights, loss), weights, loss, resume_cold=cold)
    if "h" in options:
        return Driver(KernelValueEstimator.kae(**options), weights, loss, resume_cold=cold)
    return Driver(None, weights, loss, resume_cold=cold, **options)


def _named(given: Any, setting: str) -> Callable[..., Any]:
    """The function that a name stands for; what goes wrong inside it is its own."""
    module, _, name = given.rpartition(".") if isinstance(given, str) else ("", "", "")
    if not module or not all(part.isidentifier() for part in given.split(".")):
        known = "'surprisal', 'none' or " if setting == "weights" else ""
        raise ArgumentError(
            f"{setting} must be {known}the name of a function, 'package.module.function', got {given!r}"
        )
    try:
        function = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ArgumentError(
            f"{setting}={given!r}: there is no module {error.name!r}; put its folder on PYTHONPATH, or correct the name"
        ) from None
    if not callable(function):
        what = "no function" if function is None else f"no function but {function!r:.80}"
        raise ArgumentError(f"{setting}={given!r}: {name!r} of module {module!r} is {what}")
    return function  # type: ignore[no-any-return]
