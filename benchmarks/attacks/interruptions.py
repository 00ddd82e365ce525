"""Interruptions by enumeration: at every bytecode inside kernadv, one after the other.

`sys.settrace` stops an operation before its k-th bytecode, for every k.  There an exception is raised, as Ctrl-C, the
handler of a signal or an exhausted memory would; or, as a handler does that saves a checkpoint, `state_dict` is called and
the operation goes on.  The state is then the one before the operation or the one after it, never one in between.
"""

from __future__ import annotations

import copy
import dis
import functools
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np

import kernadv
from benchmarks.attacks._estimators import CONFIGURATIONS, Configuration, Estimator, State, changed, same, warm_up
from benchmarks.attacks._row import Part, Row

__all__ = ["KIND", "parts", "warm_up"]

KIND = "interruptions"
INSIDE = str(Path(kernadv.__file__).parent)
#: Instructions after which CPython lets a signal's handler run.
SIGNALS = ("CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD")
OPERATIONS = ("advantages", "observe", "load_state_dict")
ERRORS: list[type[BaseException]] = [KeyboardInterrupt, MemoryError]
#: Configurations interrupted at every bytecode, and of how many at one in the others.
EVERYWHERE, SOME = ("plain", "default", "weighted", "features", "capped"), 7
#: Steps that an estimator goes on for after an interruption.
GOING_ON = 20


class Place(NamedTuple):
    """A bytecode that an operation comes to.

    Attributes
    ----------
    call : int
        Which call of a function of kernadv (or which return into a generator) it lies in.
    index : int
        How many bytecodes this call has executed before.
    where : str
        File, line and function.
    signal : bool
        Whether a signal's handler can run there.
    """

    call: int
    index: int
    where: str
    signal: bool

    def __str__(self) -> str:
        return self.where + (" [signal]" if self.signal else "")


def parts(short: bool, seed: int) -> list[Part]:
    """One part for each configuration, operation and way to interrupt it."""
    cases = [(name, operation) for name in CONFIGURATIONS for operation in OPERATIONS]
    if short:
        return [functools.partial(attack, *case, 401, seed) for attack in (raised, saved) for case in cases[::2]]
    strides = [1 if name in EVERYWHERE else SOME for name, _ in cases]
    return [functools.partial(raised, *case, stride, seed) for case, stride in zip(cases, strides, strict=True)] + [
        functools.partial(saved, *case, 1, seed) for case in cases
    ]


def raised(name: str, operation: str, stride: int, seed: int, configuration: Configuration | None = None) -> Row:
    """Raise at every `stride`-th bytecode of an operation, one error after the other.

    `configuration`: instead of the one of that name.
    """
    row = Row(KIND, f"{' or '.join(error.__name__ for error in ERRORS)} raised {_at(stride)}")
    scene = Scene(configuration or CONFIGURATIONS[name], operation, seed)
    for k, place in enumerate(scene.places()[seed % stride :: stride]):
        estimator, error = scene.start(), ERRORS[k % len(ERRORS)]
        try:
            interrupt(functools.partial(scene.run, estimator), place, error)
        except error:
            pass
        else:
            raise RuntimeError(f"{operation} never came to {place}: it is not deterministic")
        row.count += 1
        row.outcomes["where a signal can arrive"] += place.signal
        if wrong := scene.verdict(estimator):
            row.outcomes["failures where a signal can arrive"] += place.signal
            row.fail(f"{name}.{operation}, {error.__name__} at {place}: {wrong}")
    return row


def saved(name: str, operation: str, stride: int, seed: int, configuration: Configuration | None = None) -> Row:
    """Call `state_dict` at every `stride`-th bytecode of an operation, which goes on."""
    row = Row(KIND, f"state_dict called by a handler {_at(stride)}")
    scene = Scene(configuration or CONFIGURATIONS[name], operation, seed)
    estimator = scene.start()
    label = f"{name}.{operation}, state_dict"
    passed = 0

    def look(where: str) -> None:
        nonlocal passed
        passed += 1
        if passed % stride:
            return
        row.count += 1
        try:
            wrong = scene.in_between(estimator.state_dict())
        except Exception as raised:
            wrong = _said("state_dict", raised)
        if wrong:
            row.fail(f"{label} at {where}: {wrong}")

    visit(functools.partial(scene.run, estimator), look)
    if not same(estimator.state_dict(), scene.after):
        row.fail(f"{label}: the operation ended otherwise ({changed(estimator.state_dict(), scene.after)})")
    elif wrong := scene.wrong_with(estimator):
        row.fail(f"{label}: {wrong}")
    return row


class Scene:
    """An operation that can be repeated from the same start, and what must hold after it was interrupted."""

    def __init__(self, configuration: Configuration, operation: str, seed: int, scale: int = 1) -> None:
        self.configuration, self.operation, self.seed, self.scale = configuration, operation, seed, scale
        self._origin = configuration.trained(seed, 8, range(60 * scale), 40 * scale)
        # New prompts beside known ones, so that what holds them must grow.
        batch, options = configuration.batch(seed, 9, range(30 * scale, 90 * scale), 40 * scale)
        if operation == "load_state_dict":
            foreign = configuration.trained(seed + 1, 12, range(20 * scale, 80 * scale), 40 * scale)
            self.arguments: tuple[Any, ...] = (foreign.state_dict(),)
            self.options: dict[str, Any] = {}
        else:
            self.arguments, self.options = batch, options
        self.run(self.start())  # compiled, imported, cached
        whole = self.start()
        self.before = whole.state_dict()
        self.run(whole)
        self.after = whole.state_dict()
        if same(self.before, self.after):
            raise RuntimeError(f"{operation} changes nothing: there is nothing to interrupt")
        self._known: dict[object, str | None] = {}
        self._expected = {
            "before": self._going_on(self.start(), again=True),
            "after": self._going_on(whole, again=False),
        }

    def start(self) -> Estimator:
        """A copy of the estimator before the operation."""
        return copy.deepcopy(self._origin)

    def run(self, estimator: Estimator) -> None:
        """The operation."""
        getattr(estimator, self.operation)(*self.arguments, **self.options)

    def places(self) -> list[Place]:
        """Every bytecode inside kernadv that the operation comes to."""
        found = _places(functools.partial(self.run, self.start()))
        if len(found) < 100:
            raise RuntimeError(f"only {len(found)} bytecodes of {self.operation} were seen")
        return found

    def in_between(self, state: State) -> str | None:
        """What of a state is neither that before the operation nor that after it; None: nothing."""
        if same(state, self.before) or same(state, self.after):
            return None
        return (
            f"state in between: {changed(state, self.before)} differ from before, "
            f"{changed(state, self.after)} from after"
        )

    def verdict(self, estimator: Estimator) -> str | None:
        """As `wrong_with`, which is asked once for equal content: that goes on equally."""
        content = _content(estimator)
        if content not in self._known:
            self._known[content] = self.wrong_with(estimator)
        return self._known[content]

    def wrong_with(self, estimator: Estimator) -> str | None:
        """What is wrong with an estimator after an interruption; None: nothing."""
        try:
            state = estimator.state_dict()
        except Exception as raised:
            return _said("state_dict", raised)
        if wrong := self.in_between(state):
            return wrong
        done = same(state, self.after)
        if wrong := self._round_trip(estimator, state):
            return wrong
        try:
            got = self._going_on(estimator, again=not done)
        except Exception as raised:
            return _said("going on", raised)
        for k, (ours, theirs) in enumerate(zip(got, self._expected["after" if done else "before"], strict=True)):
            if not same(ours, theirs):
                return f"going on differs from an uninterrupted run, first after {k + 1} steps"
        return None

    def _round_trip(self, estimator: Estimator, state: State) -> str | None:
        """What is wrong with saving and loading; components have no files of their own."""
        other = self.configuration.make()
        try:
            if hasattr(estimator, "save"):
                with tempfile.TemporaryDirectory() as folder:
                    estimator.save(Path(folder) / "state")
                    other.load(Path(folder) / "state")
            else:
                other.load_state_dict(state)
        except Exception as raised:
            return _said("save and load", raised)
        return None if same(other.state_dict(), state) else "a saved state is another one when loaded"

    def _going_on(self, estimator: Estimator, *, again: bool) -> list[dict[str, Any]]:
        """The operation `again`, then steps with known and new prompts: the advantages of each and the state at the end."""
        out = []
        if again:
            self.run(estimator)
        for step in range(20, 20 + (GOING_ON if self.scale == 1 else 3)):
            batch, options = self.configuration.batch(self.seed, step, range(90 * self.scale), 40 * self.scale)
            out.append({"advantages": np.asarray(estimator.advantages(*batch, **options))})
        out.append(estimator.state_dict())
        return out


def interrupt(operate: Callable[[], object], place: Place, error: type[BaseException]) -> None:
    """Run an operation, and raise `error` when it comes to a place."""
    calls = executed = 0

    def local(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal executed
        if event == "opcode":
            if executed == place.index:
                raise error(place.where)
            executed += 1
        return local

    def entered(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal calls
        if not frame.f_code.co_filename.startswith(INSIDE):
            return None
        calls += 1
        if calls - 1 != place.call:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return local

    _traced(operate, entered)


def visit(operate: Callable[[], object], look: Callable[[str], None]) -> None:
    """Run an operation, and call `look` with the place before each of its bytecodes."""

    def local(frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            look(_where(frame))
        return local

    def entered(frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(INSIDE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return local

    _traced(operate, entered)


def _places(operate: Callable[[], object]) -> list[Place]:
    """Every bytecode inside kernadv of an operation, in order."""
    seen: list[Place] = []
    calls = 0

    def entered(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal calls
        if not frame.f_code.co_filename.startswith(INSIDE):
            return None
        call, index, last = calls, 0, None
        calls += 1
        names = _names(frame.f_code)

        def local(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal index, last
            if event == "opcode":
                seen.append(Place(call, index, _where(frame), last in SIGNALS))
                index, last = index + 1, names.get(frame.f_lasti)
            return local

        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return local

    _traced(operate, entered)
    return seen


def _traced(operate: Callable[[], object], entered: Any) -> None:
    before = sys.gettrace()
    sys.settrace(entered)
    try:
        operate()
    finally:
        sys.settrace(before)


@functools.cache
def _names(code: CodeType) -> dict[int, str]:
    """Name of the instruction at each offset."""
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


def _where(frame: FrameType) -> str:
    return f"kernadv{frame.f_code.co_filename[len(INSIDE) :]}:{frame.f_lineno} {frame.f_code.co_name}"


def _content(estimator: Estimator) -> object:
    """All that an estimator holds, caches too; one of its own for an object that cannot be pickled."""
    try:
        return pickle.dumps(estimator)
    except Exception:
        return object()


def _at(stride: int) -> str:
    return "at every bytecode" if stride == 1 else f"at one bytecode in {stride}"


def _said(what: str, error: BaseException) -> str:
    return f"{what} raised {type(error).__name__}: {str(error)[:80]}"
