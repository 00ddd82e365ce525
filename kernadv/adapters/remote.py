"""One estimator for several processes and machines: a named actor of Ray that keeps a log of every batch."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, overload
from uuid import uuid4

import numpy as np

from kernadv._checkpoint import load_arrays, resolve, save_arrays
from kernadv._errors import (
    ArgumentError,
    ArgumentTypeError,
    BackendError,
    CheckpointError,
    check_count,
    check_positive,
    import_extra,
)
from kernadv.adapters._driver import PESSIMISM
from kernadv.adapters._remote_state import About, Recipe, Seen, Shared, recipe
from kernadv.smoothers import Estimate
from kernadv.typing import AnyArray, ArrayRewards, FloatArray, Floats, PromptIds, Step, Weights

__all__ = ["RemoteEstimator", "remote_of"]


def __dir__() -> list[str]:
    return __all__


ray = import_extra("ray", "kernadv.adapters.remote", "ray")
exceptions = import_extra("ray.exceptions", "kernadv.adapters.remote", "ray")

#: Arrays of a checkpoint that names a position.
POSITION, CHAIN, RECIPE = "remote.position", "remote.chain", "remote.recipe"
#: Seconds between two tries while the actor starts again, at most.
SLOWEST = 2.0


class RemoteEstimator:
    """An estimator that lives in a named actor of Ray, for several producers, trainers or asynchronous workers.

    Whoever asks first starts the actor; it outlives all callers and starts again when it dies.  A batch is in its log, and
    the log on disk, before its advantages are returned.  After a crash the newest snapshot is loaded and the rest of the log
    replayed, which gives the same state bit for bit.  The log is one that ``kernadv audit FOLDER`` reads; with
    ``--on-repeat merge``, where several producers work at different steps.

    Parameters
    ----------
    name : str
        Of the actor; callers with the same name and namespace share it.
    factory : mapping or callable
        Plain settings of `KernelValueEstimator`; with ``h`` of its `kae`, with ``components`` of `ComponentValueEstimator`.
        Or a function without arguments that returns an estimator with `state_dict` and `load_state_dict`; it must be
        importable where the actor runs, and callers are told apart by its name.
    folder : str or Path
        Where the log and the snapshots are: a folder that every machine sees on which the actor may start, or a URL that
        fsspec knows (``s3://``, ``gs://``, ...).  It belongs to this name alone.
    snapshot_every : int
        Batches between two snapshots, which are written beside the work.
    namespace : str
        Of Ray; jobs with other namespaces than theirs share the actor, too.
    timeout : float
        Seconds that a call waits for the actor, also while it starts again.

    Attributes
    ----------
    weighted : bool
        Whether `advantages` expects weights.
    components : int
        Number of columns of the rewards, of a `ComponentValueEstimator`; 0: they are (B,).
    shared : bool
        True: a batch that several processes hold must be sent by one of them.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument cannot be used, the folder cannot be written or is in use, or the actor or the folder is of other
        settings.
    CheckpointError
        If the folder is damaged, or it or the actor is of another version of kernadv.
    BackendError
        If the actor does not answer in time.

    Notes
    -----
    A call that finds the actor dead is sent again, with the id of its batch, until `timeout`.  Errors of the estimator reach
    the caller as they are, and leave nothing behind.  `ray.init` comes first; where a cluster was not joined, Ray starts one
    that ends with this process, and the actor with it.

    The object can be sent to tasks and actors of Ray; each copy finds the same actor.
    """

    shared = True

    def __init__(
        self,
        name: str,
        factory: Any,
        *,
        folder: str | os.PathLike[str],
        snapshot_every: int = 50,
        namespace: str = "kernadv",
        timeout: float = 600.0,
    ) -> None:
        for given, what in ((name, "name"), (namespace, "namespace")):
            if not isinstance(given, str) or not given:
                raise ArgumentTypeError(f"{what} must be a text, got {given!r:.80}")
        if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
            raise ArgumentTypeError(f"folder must be a path or a URL, got {folder!r:.80}")
        self.name, self.namespace = name, namespace
        system, place = resolve(folder)
        self.folder = os.path.abspath(os.path.expanduser(place)) if system is None else os.fspath(folder)
        self._every = check_count(snapshot_every, "snapshot_every")
        self._timeout = check_positive(timeout, "timeout", "it is in seconds")
        self._make, own = recipe(factory)
        self._own = own._replace(folder=self.folder)
        self._seen, self._actor = Seen(), None
        try:
            self._about: About = self._call("about")
        except (ArgumentError, ArgumentTypeError, CheckpointError):
            self._give_up()
            raise

    def __repr__(self) -> str:
        return f"RemoteEstimator({self.name!r}, folder={self.folder!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Without the handle, which the copy finds by the name."""
        return {**self.__dict__, "_actor": None}

    @property
    def weighted(self) -> bool:
        """Whether `advantages` expects weights."""
        return self._about.weighted

    @property
    def components(self) -> int:
        """Number of columns of the rewards; 0: they are (B,)."""
        return self._about.components

    @overload
    def advantages(
        self,
        prompt_ids: PromptIds,
        rewards: ArrayRewards,
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
        batch_id: str | None = None,
    ) -> FloatArray: ...

    @overload
    def advantages(
        self,
        prompt_ids: PromptIds,
        rewards: Floats,
        step: Step,
        *,
        weights: Weights | None = None,
        trace: PromptIds | None = None,
        batch_id: str | None = None,
    ) -> Floats: ...

    def advantages(
        self,
        prompt_ids: Any,
        rewards: Any,
        step: Any,
        *,
        weights: Any = None,
        trace: Any = None,
        batch_id: str | None = None,
    ) -> Any:
        """Advantages of a batch, which is stored before they are returned.

        Parameters
        ----------
        prompt_ids, rewards, step, weights, trace
            As in `KernelValueEstimator.advantages`; what is on a device comes to main memory.  The log has one line a trace.
        batch_id : str, optional
            Name of the batch.  Sent again, the batch counts once and gets the same advantages.  Default: a new one a call.

        Returns
        -------
        (B,), or (B, C) of several components, of the kind, dtype and device of `rewards`

        Raises
        ------
        ArgumentError, ArgumentTypeError
            As the estimator raises them; and if the id was given to a batch with other rows.
        CheckpointError
            If the batch could not be stored, which then does not count; or if the log has lost batches.
        BackendError
            If the actor does not answer in time.  The batch may then have been stored: send it again with the same id.
        """
        if batch_id is None:
            batch_id = uuid4().hex
        if not isinstance(batch_id, str) or not batch_id:
            raise ArgumentTypeError(f"batch_id must be a text, got {batch_id!r:.80}")
        plain = (_plain(part) for part in (prompt_ids, rewards, step, weights, trace))
        return _like(rewards, self._call("advantages", batch_id, *plain))

    @overload
    def values(
        self, prompt_ids: PromptIds, rewards: ArrayRewards, step: Step, *, trace: PromptIds | None = None
    ) -> Estimate[FloatArray]: ...

    @overload
    def values(
        self, prompt_ids: PromptIds, rewards: Floats, step: Step, *, trace: PromptIds | None = None
    ) -> Estimate[Floats]: ...

    def values(self, prompt_ids: Any, rewards: Any, step: Any, **options: Any) -> Any:
        """As `KernelValueEstimator.values`; the parts of the `Estimate` are of the kind of `rewards`."""
        plain = {name: _plain(part) for name, part in options.items()}
        found = self._call("values", _plain(prompt_ids), _plain(rewards), _plain(step), **plain)
        return type(found)(*(_like(rewards, part) for part in found))

    def predict(self, prompt_ids: PromptIds, step: Step | None = None, *, level: float = 0.95) -> Any:
        """As `KernelValueEstimator.predict`: what is known of prompts, for a sampler on any machine."""
        return self._call("predict", _plain(prompt_ids), _plain(step), level=level)

    def metrics(self) -> dict[str, float]:
        """Those of the estimator, and the numbers of ``batches``, ``snapshots`` and ``snapshots_failed``."""
        return dict(self._call("metrics"))

    def history(self) -> dict[str, AnyArray]:
        """The state of the estimator itself, for its `load_state_dict` in this process."""
        return dict(self._call("state_dict"))

    def snapshot(self, wait: bool = True) -> int:
        """Write a snapshot of now, and by default wait for it; returns the number of batches in it."""
        return int(self._call("snapshot", wait))

    def state_dict(self) -> dict[str, AnyArray]:
        """Where the log is now: small arrays that `load_state_dict` goes back to."""
        position, chain = self._call("position")
        own = "\n".join(self._own[:2]).encode()
        return {
            POSITION: np.array([position]),
            CHAIN: np.frombuffer(chain, np.uint8).copy(),
            RECIPE: np.frombuffer(own, np.uint8).copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where the log was, and forget what came after; errors as in `load`."""
        if not {POSITION, CHAIN, RECIPE} <= set(state):
            raise CheckpointError(
                f"not the position of a shared estimator: it holds {sorted(map(str, state))[:6]}; the state of an estimator "
                "in a process of its own cannot be loaded here"
            )
        saved = Recipe(*np.asarray(state[RECIPE], np.uint8).tobytes().decode(errors="replace").partition("\n")[::2])
        if saved != self._own._replace(folder=""):
            raise CheckpointError(
                f"the checkpoint is of an estimator made by {saved.made_by:.500} under kernadv {saved.version:.20}, this "
                f"one is made by {self._own.made_by:.500} under {self._own.version}"
            )
        position = np.asarray(state[POSITION]).ravel()
        if len(position) != 1 or position.dtype.kind not in "iu" or position[0] < 0:
            raise CheckpointError("the position of the checkpoint is no whole number: it is damaged")
        self._call("go_back", int(position[0]), np.asarray(state[CHAIN], np.uint8).tobytes())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write where the log is now, with a framework's checkpoint; the history itself stays in the folder."""
        save_arrays(path, self.state_dict())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go back to where the log was when the file was saved, and forget what came after.

        One process does so, while no other sends batches.  What is forgotten is kept in ``_abandoned``, which the audit does
        not read.

        Raises
        ------
        CheckpointError
            If the file is damaged, or of other settings, another version or another folder; nothing has changed then.
        FileNotFoundError
            If there is no such file.
        """
        self.load_state_dict(load_arrays(path))

    def stop(self) -> None:
        """End the actor, for all callers.  The folder stays; the next call starts an actor that goes on from it."""
        actor = self._found()
        with suppress(exceptions.RayError):  # it is dead or hangs: the log has all that was answered
            ray.get(actor.close.remote(), timeout=self._timeout)
        ray.kill(actor)
        self._actor = None

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        """The answer of the actor; asked again while it starts again."""
        end, wait = time.monotonic() + self._timeout, 0.05
        while True:
            try:
                asked = getattr(self._found(), method).remote(self._own, self._seen, *args, **options)
                answer, self._seen = ray.get(asked, timeout=max(end - time.monotonic(), 0.0))
                return answer
            except exceptions.RayTaskError as error:
                raise getattr(error, "cause", error) from None
            except (exceptions.RayActorError, exceptions.GetTimeoutError) as error:
                self._actor = None
                if time.monotonic() + wait > end:
                    raise BackendError(
                        f"the actor {self.name!r} of namespace {self.namespace!r} did not answer in {self._timeout:g} s: "
                        f"{str(error).splitlines()[0]:.200}; look at `ray status`, or give a longer timeout"
                    ) from None
                time.sleep(wait)
                wait = min(2.0 * wait, SLOWEST)

    def _found(self) -> Any:
        """The actor of the name, which is started if there is none."""
        if self._actor is None:
            options = {"lifetime": "detached", "max_restarts": -1, "max_task_retries": 0, "num_cpus": 0}
            kind = ray.remote(Shared).options(name=self.name, namespace=self.namespace, get_if_exists=True, **options)
            self._actor = kind.remote(self._make, self._own, self._every)
        return self._actor

    def _give_up(self) -> None:
        """End an actor that could not take its folder, so that its name is free."""
        with suppress(exceptions.RayError):
            if not ray.get(self._found().has_folder.remote(), timeout=self._timeout):
                ray.kill(self._actor)
        self._actor = None


def remote_of(settings: Any, options: Any, weights: Any = "surprisal", loss: str | None = "sum") -> RemoteEstimator:
    """The shared estimator that a framework's configuration describes: ``remote: {name: ..., folder: ...}``.

    Parameters
    ----------
    settings : mapping
        Arguments of `RemoteEstimator`, without the factory.
    options : mapping or callable
        The other settings of kernadv, or the function that its ``factory`` names.
    weights, loss
        As in `Driver`: the estimator is weighted, and has a pessimism, where that of a `Driver` would, unless the options
        say otherwise.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a setting is unknown or cannot be used; and as `RemoteEstimator`.
    """
    given = dict(settings) if isinstance(settings, Mapping) or hasattr(settings, "keys") else {}
    known = {"name", "folder", "snapshot_every", "namespace", "timeout"}
    if not {"name", "folder"} <= given.keys() <= known:
        raise ArgumentError(
            "remote must be a mapping with a name and a folder, e.g. {name: run-42, folder: /shared/run-42}; known are "
            f"{', '.join(sorted(known))}; got {settings!r:.200}"
        )
    factory = options
    if not callable(options) and "h" not in options:
        weighted = weights != "none" and (weights != "surprisal" or loss is not None)
        tilt = {"pessimism": PESSIMISM} if weights == "surprisal" else {}
        factory = {"weighted": weighted, **tilt, **options}
    return RemoteEstimator(given.pop("name"), factory, **given)


def _plain(x: Any) -> Any:
    """Tensors as arrays in main memory, everything else as it is."""
    if not hasattr(x, "detach"):
        return x
    x = x.detach().cpu()
    return x.float().numpy() if str(x.dtype) == "torch.bfloat16" else x.numpy()


def _like(rewards: Any, x: Any) -> Any:
    """An array as a tensor, if the rewards are one."""
    if not hasattr(rewards, "detach"):
        return x
    like = rewards if rewards.is_floating_point() else rewards.float()
    made = like.new_tensor(x)
    return made.bool() if x.dtype.kind == "b" else made
