"""What the actor of a shared estimator does; it knows nothing of Ray."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import kernadv
from kernadv._errors import ArgumentError, ArgumentTypeError, CheckpointError, KernadvError
from kernadv.adapters._remote_log import (
    ABANDONED,
    SNAPSHOTS,
    Batch,
    Entry,
    Log,
    content_of,
    from_arrays,
    position_of,
    store,
    to_arrays,
    told,
)
from kernadv.estimator import ComponentValueEstimator, KernelValueEstimator
from kernadv.typing import AnyArray

#: Says of which configuration a folder is.
CONFIG = "_kernadv.json"
#: What the estimator's arrays are called in a snapshot.
OWN = "estimator/"

_log = logging.getLogger("kernadv")


class Recipe(NamedTuple):
    """How the estimator is made and kept; callers with another one are refused.

    Attributes
    ----------
    made_by : str
        The settings, or the name of the function.
    version : str
        Of kernadv.
    folder : str
        Of the actor; empty in what is saved, because a folder may be moved.
    """

    made_by: str
    version: str
    folder: str = ""


class Seen(NamedTuple):
    """What a caller knows of the log: the number of its batches, and how often it went back."""

    position: int = 0
    branch: int = 0


class About(NamedTuple):
    """What a caller must know of the estimator."""

    weighted: bool
    components: int


def recipe(factory: Any) -> tuple[Callable[[], Any], Recipe]:
    """How to make an estimator.

    Parameters
    ----------
    factory : mapping or callable
        Arguments of `KernelValueEstimator`; with ``h`` of its `kae`, with ``components`` of `ComponentValueEstimator`.
        Or a function without arguments.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If it is neither, or settings are not plain.
    """
    if callable(factory):
        name = f"{getattr(factory, '__module__', '')}.{getattr(factory, '__qualname__', '')}"
        if name.endswith(".") or "<lambda>" in name:
            raise ArgumentTypeError(
                f"a factory must have a name, by which callers know that it is theirs: got {factory!r:.80}"
            )
        return factory, Recipe(f"{name}()", kernadv.__version__)
    if not isinstance(factory, Mapping):
        raise ArgumentTypeError(
            f"expected settings such as {{'allow_late': 8}}, or a function that returns an estimator, got {factory!r:.80}"
        )
    settings = dict(factory)
    try:
        text = json.dumps(settings, sort_keys=True)
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"settings must be plain numbers, texts and lists, got {settings!r:.200}; or give a function without arguments"
        ) from None
    kind = (
        ComponentValueEstimator
        if "components" in settings
        else KernelValueEstimator.kae
        if "h" in settings
        else KernelValueEstimator
    )
    return partial(_made, kind, settings), Recipe(text, kernadv.__version__)


def _made(kind: Callable[..., Any], settings: dict[str, Any]) -> Any:
    try:
        return kind(**settings)
    except KernadvError:
        raise
    except TypeError as error:
        raise ArgumentTypeError(f"the settings {settings!r:.200} cannot be used: {error}") from None


class Shared:
    """An estimator whose every batch is in a log before it is answered.

    Parameters
    ----------
    make : callable
        Returns a new estimator.
    own : Recipe
        With the folder.
    snapshot_every : int
        Batches between two snapshots.
    """

    def __init__(self, make: Callable[[], Any], own: Recipe, snapshot_every: int) -> None:
        self._make, self._own, self._folder, self._every = make, own, own.folder, snapshot_every
        self._store: Any = None
        self._estimator: Any = None  # None: to be made from the folder
        self._log: Any = None
        self._branch = 0
        self._writer: threading.Thread | None = None
        self._snapshots = self._failed = self._newest = 0

    def about(self, caller: Recipe, seen: Seen) -> tuple[About, Seen]:
        """What the caller must know, once the folder is read."""
        estimator = self._ready(caller, seen)
        columns = getattr(estimator, "columns", None)
        first = estimator if columns is None else columns[0]
        return About(bool(getattr(first, "weighted", False)), len(columns or ())), self._seen

    def advantages(
        self, caller: Recipe, seen: Seen, batch_id: str, ids: Any, rewards: Any, step: Any, weights: Any, trace: Any
    ) -> tuple[AnyArray, Seen]:
        """Advantages of a batch, which is stored; of one that is there already, those that were given then."""
        estimator = self._ready(caller, seen)
        known = self._log.find(batch_id)
        if known is not None:
            return self._again(known, batch_id, ids, rewards, step, weights, trace), self._seen
        options = {} if weights is None else {"weights": weights}
        if trace is not None:
            options["trace"] = trace
        try:
            out = np.asarray(estimator.advantages(ids, rewards, step, **options))
            batch, content = _batch(batch_id, ids, rewards, step, weights, trace, out)
            self._log.append(batch, content)
        except (ArgumentError, ArgumentTypeError):  # of the estimator, which is as before
            raise
        except BaseException:  # it may have learned what is not stored: what counts is the log
            self._estimator = None
            raise
        self._snapshot_if_due()
        return out, self._seen

    def values(self, caller: Recipe, seen: Seen, *args: Any, **options: Any) -> tuple[Any, Seen]:
        """As the estimator's."""
        return self._ready(caller, seen).values(*args, **options), self._seen

    def predict(self, caller: Recipe, seen: Seen, *args: Any, **options: Any) -> tuple[Any, Seen]:
        """As the estimator's."""
        return self._ready(caller, seen).predict(*args, **options), self._seen

    def metrics(self, caller: Recipe, seen: Seen) -> tuple[dict[str, float], Seen]:
        """The estimator's, and the numbers of batches, of snapshots, and of those that failed."""
        numbers = dict(self._ready(caller, seen).metrics())
        own = {"batches": len(self._log), "snapshots": self._snapshots, "snapshots_failed": self._failed}
        return {**numbers, **{name: float(x) for name, x in own.items()}}, self._seen

    def state_dict(self, caller: Recipe, seen: Seen) -> tuple[dict[str, AnyArray], Seen]:
        """The whole state of the estimator."""
        return dict(self._ready(caller, seen).state_dict()), self._seen

    def position(self, caller: Recipe, seen: Seen) -> tuple[tuple[int, bytes], Seen]:
        """The number of batches, and their hash."""
        self._ready(caller, seen)
        return (len(self._log), self._log.chain), self._seen

    def go_back(self, caller: Recipe, seen: Seen, position: int, chain: bytes) -> tuple[None, Seen]:
        """Forget what came after a position.

        Raises
        ------
        CheckpointError
            If the log has no such position; it is then as before.
        """
        self._ready(caller, seen)
        if position > len(self._log) or self._log.chain_at(position) != chain:
            raise CheckpointError(
                f"{self._folder} never was where the checkpoint was saved, after batch {position}: it belongs to another "
                "folder, or to a past that was given up; load another checkpoint, or give the folder of this one"
            )
        if position < len(self._log):
            self._finish()
            log, estimator = self._read(position)
            self._estimator = None
            self._log.abandon(position, self._branch + 1)
            self._log, self._estimator, self._branch = log, estimator, self._branch + 1
            self._newest = position
        return None, self._seen

    def snapshot(self, caller: Recipe, seen: Seen, wait: bool) -> tuple[int, Seen]:
        """Write a snapshot of now; returns its position."""
        self._ready(caller, seen)
        self._finish()
        self._begin_snapshot()
        if wait:
            self._finish()
        return self._newest, self._seen

    def has_folder(self) -> bool:
        """Whether the folder could be taken."""
        return self._store is not None

    def close(self) -> None:
        """Wait for the snapshot under way, and let go of the folder."""
        self._finish()
        if self._store is not None:
            self._store.close()
        self._store = self._estimator = None

    @property
    def _seen(self) -> Seen:
        return Seen(len(self._log), self._branch)

    def _ready(self, caller: Recipe, seen: Seen) -> Any:
        """The estimator, for a caller who has the right one in mind and knows of no batch that is lost."""
        _check(caller, self._own, "the estimator of this name")
        if self._estimator is None:
            self._recover()
        if seen.branch == self._branch and seen.position > len(self._log):
            raise CheckpointError(
                f"the log of {self._folder} has lost batches: {seen.position} were answered, {len(self._log)} are there; "
                "bring the file back, or load a checkpoint"
            )
        return self._estimator

    def _recover(self) -> None:
        """Read the folder: the newest snapshot that is whole, and the log after it."""
        self._finish()
        if self._store is None:
            _checked(self._make())  # before the folder is of these settings
            folder = store(self._folder)
            try:
                self._adopt(folder)
            except BaseException:
                folder.close()
                raise
            self._store = folder
        with told(f"{self._folder} cannot be read"):
            tails = self._store.sizes(ABANDONED)
        self._branch = max((int(name.partition("-")[0]) for name in tails if name[:6].isdigit()), default=0)
        self._log, self._estimator = self._read(None)

    def _adopt(self, folder: Any) -> None:
        """Write the recipe into a new folder; refuse a folder of another one."""
        with told(f"{self._folder} cannot be read"):
            names = folder.sizes()
            saved = folder.read(CONFIG) if CONFIG in names else None
        if saved is None:
            if any(name.startswith("log-") for name in names):
                raise CheckpointError(f"{self._folder} has a log, but no {CONFIG} that says of what: bring it back")
            try:
                folder.write(CONFIG, json.dumps(self._own._replace(folder="")._asdict()).encode())
            except Exception as error:  # of any file system, whose errors share no class
                raise ArgumentError(f"folder={self._folder!r} cannot be written: {error}; give another one") from error
            return
        try:
            found = Recipe(**json.loads(saved))
        except (ValueError, TypeError):
            raise CheckpointError(
                f"{CONFIG} of {self._folder} is damaged: bring it back, or begin a new folder"
            ) from None
        _check(self._own._replace(folder=""), found, f"the history in {self._folder}")

    def _read(self, until: int | None) -> tuple[Log, Any]:
        """A log up to a position, and an estimator that knows its batches."""
        with told(f"{self._folder} cannot be read"):
            positions = {position_of(name): name for name in self._store.sizes(SNAPSHOTS)}
        known = [p for p in positions if p >= 0 and (until is None or p <= until)]
        for position in (*sorted(known, reverse=True), 0):
            log, estimator, entries = Log(self._store), _checked(self._make()), list[Entry]()
            if position:
                try:
                    with told("a snapshot cannot be read"):
                        arrays = self._store.load(f"{SNAPSHOTS}/{positions[position]}")
                        entries = from_arrays(arrays)
                        own = {name.removeprefix(OWN): x for name, x in arrays.items() if name.startswith(OWN)}
                        estimator.load_state_dict(own)
                except CheckpointError as error:  # the one before, and more of the log
                    _log.warning("kernadv: %s of %s is passed over: %s", positions[position], self._folder, error)
                    continue
            for batch in log.follow(entries, until):
                weights = {} if batch.weights is None else {"weights": batch.weights}
                try:
                    estimator.advantages(batch.ids, batch.rewards, batch.steps, **weights)
                except KernadvError as error:
                    raise CheckpointError(f"batch {len(log)} of the log cannot be replayed: {error}") from error
            self._newest = position
            return log, estimator
        raise AssertionError("an empty past can always be read")

    def _again(
        self, known: Entry, batch_id: str, ids: Any, rewards: Any, step: Any, weights: Any, trace: Any
    ) -> AnyArray:
        """The advantages that a batch was given."""
        try:
            batch, content = _batch(batch_id, ids, rewards, step, weights, trace, None)
        except (TypeError, ValueError, OverflowError):
            content = b""
        if content != known.content:
            raise ArgumentError(
                f"batch_id={batch_id!r:.80} was given to a batch with other rows; a batch that is sent again must be the "
                "same, and another one needs another id"
            )
        order = {name: k for k, name in enumerate(batch.traces)}
        rows = [order[name] for name in (trace if trace is not None else batch.traces)]
        dtype = np.asarray(rewards).dtype
        given: AnyArray = self._log.get(known).advantages[rows]
        return given.astype(dtype if dtype.kind == "f" else np.float64)

    def _snapshot_if_due(self) -> None:
        writing = self._writer is not None and self._writer.is_alive()
        if not writing and len(self._log) - self._newest >= self._every:
            self._finish()
            self._begin_snapshot()

    def _begin_snapshot(self) -> None:
        """Copy the state, and write it in a thread."""
        own = {OWN + name: np.asarray(x) for name, x in self._estimator.state_dict().items()}
        entries, position = tuple(self._log.entries), len(self._log)
        self._newest = position
        self._writer = threading.Thread(target=self._write_snapshot, args=(own, entries, position), daemon=True)
        self._writer.start()

    def _write_snapshot(self, own: dict[str, AnyArray], entries: tuple[Entry, ...], position: int) -> None:
        try:
            self._store.save(f"{SNAPSHOTS}/{position:012d}.safetensors", {**own, **to_arrays(entries)})
            for old in _superfluous([position_of(name) for name in self._store.sizes(SNAPSHOTS)], self._every):
                self._store.cut(f"{SNAPSHOTS}/{old:012d}.safetensors", 0)
        except Exception as error:  # nothing is lost: the log has all; a thread has nobody to raise to
            self._failed += 1
            _log.warning("kernadv: no snapshot in %s: %s", self._folder, error)
            return
        self._snapshots += 1

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.join()
            self._writer = None


def _superfluous(positions: list[int], every: int) -> list[int]:
    """Snapshots that are not needed: beside the two newest, one is kept for each doubling of the distance from here."""
    found = sorted(position for position in positions if position >= 0)
    oldest: dict[int, int] = {}
    for position in found:
        oldest.setdefault(((found[-1] - position) // every).bit_length(), position)
    return [position for position in found[:-2] if position not in oldest.values()]


def _batch(
    batch_id: str, ids: Any, rewards: Any, step: Any, weights: Any, trace: Any, advantages: AnyArray | None
) -> tuple[Batch, bytes]:
    """What the log keeps of B rows, one for each trace, and the hash of all of them."""
    z = np.ma.filled(np.asanyarray(rewards).astype(np.float64), np.nan)  # masked: could not be scored
    names = [str(x) if isinstance(x, str) else int(x) for x in (ids.tolist() if hasattr(ids, "tolist") else ids)]
    steps = np.broadcast_to(np.asarray(step).astype(np.int64), len(names))
    w = None if weights is None else np.asarray(weights, np.float64)
    given = None if trace is None else [x if isinstance(x, str) else int(x) for x in trace]
    content = content_of(names, z, steps, w, given)
    first = {name: row for row, name in reversed(list(enumerate(range(len(names)) if given is None else given)))}
    rows = sorted(first.values())
    traces = sorted(first, key=lambda name: first[name])
    out = z if advantages is None else np.asarray(advantages, np.float64)
    batch = Batch(
        batch_id, [names[row] for row in rows], traces, steps[rows], z[rows], out[rows], None if w is None else w[rows]
    )
    return batch, content


def _check(asked: Recipe, found: Recipe, what: str) -> None:
    """Raise if a recipe is another one."""
    if asked.version != found.version:
        raise CheckpointError(
            f"{what} is of kernadv {found.version}, this is {asked.version}: a log gives the same numbers only under the "
            "version that wrote it; go on with that one, or take another name and folder"
        )
    if asked.made_by != found.made_by:
        raise ArgumentError(
            f"{what} was made by {found.made_by:.500}, this one by {asked.made_by:.500}; give the same settings, or take "
            "another name and folder"
        )
    if asked.folder != found.folder:
        raise ArgumentError(
            f"{what} keeps its log in {found.folder}, this one asks for {asked.folder}; give the same folder"
        )


def _checked(estimator: Any) -> Any:
    needed = ("advantages", "metrics", "state_dict", "load_state_dict")
    missing = [name for name in needed if not callable(getattr(estimator, name, None))]
    if missing:
        raise ArgumentTypeError(
            f"a shared estimator has the methods {', '.join(needed)}; {estimator!r:.80} has no {', '.join(missing)}"
        )
    return estimator
