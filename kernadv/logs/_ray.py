"""Ray: the workers of a cluster read and reduce the splits of a log; what they find comes back in the order of the log."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from kernadv._errors import BackendError, KernadvError, LogError, option
from kernadv.logs._base import Notes, Query, Reader, some
from kernadv.logs._files import File
from kernadv.logs._reduce import Reduced, reduce
from kernadv.logs._splits import chunks, read_as

#: Splits that are read, or wait for a worker or for those before, for each processor of the cluster.
_AHEAD = 2


def reductions(
    query: Query, reader: Reader, name: str, origin: float, splits: Sequence[Sequence[File]]
) -> Generator[tuple[int, Reduced], None, None]:
    """Yield the number of splits before, and what is kept of each chunk, in the order of the log.

    Parameters
    ----------
    query : Query
        Its memory holds the columns; its notes get those of the workers.
    reader, name
        Of the format.
    origin : float
        What rewards are counted from.
    splits : sequence of sequence of File
        What is to be read.

    Raises
    ------
    BackendError
        If there is no cluster, or it fails.
    KernadvError, OSError
        As raised where the split is read.
    """
    with _cluster():
        job = ray.put((replace(query, files=(), notes=Notes()), reader, name, origin, os.getcwd()))
        # a worker has one processor, as far as Ray knows
        task = ray.remote(num_returns="streaming", runtime_env={"env_vars": {"POLARS_MAX_THREADS": "1"}})(_read)
        ahead = max(_AHEAD * int(ray.cluster_resources().get("CPU", 0)), _AHEAD)
        running: deque[Any] = deque()
        try:
            for k, split in enumerate(splits):
                running += (task.remote(job, each) for each in splits[k + len(running) : k + ahead])
                try:
                    for found in map(ray.get, running[0]):
                        if isinstance(found, Reduced):
                            yield k, found
                        elif isinstance(found, Notes):
                            query.notes.extend(found)
                        else:
                            raise found
                except RayError as error:
                    lines = str(error).splitlines()
                    raise BackendError(
                        f"Ray could not read {some(map(str, split), 3)}: {lines[-isinstance(error, RayTaskError)]}; every "
                        "machine of the cluster needs kernadv[audit] in this version, and memory for each processor"
                    ) from None
                running.popleft()
        finally:
            for each in running:
                ray.cancel(each)


def _read(
    job: tuple[Query, Reader, str, float, str], split: Sequence[File]
) -> Iterator[Reduced | Notes | KernadvError | OSError]:
    """Yield what is kept of each chunk of a split, and then the notes, or an error."""
    query, reader, name, origin, folder = job
    query = replace(query, files=split, notes=Notes())
    try:
        with chdir(folder) if os.path.isdir(folder) else nullcontext(), read_as(query, name):
            for file in split:
                _check_here(file)
            for chunk in chunks(query, reader):
                yield reduce(chunk, origin, query)
        yield query.notes
    except (KernadvError, OSError) as error:
        yield error


def _check_here(file: File) -> None:
    """Raise if this machine has no such file, or a shorter one."""
    if "://" in file.path:
        return
    size = os.stat(file.path).st_size if os.path.isfile(file.path) else -1
    if size < (file.size or 0):
        raise LogError(
            f"{file} is {'shorter' if size >= 0 else 'not there'} on {socket.gethostname()}, where a worker of Ray was to "
            "read it: all machines must see the same files under the same paths, on a shared file system or by URLs; or "
            f"leave out {option('engine')}"
        )


@contextmanager
def _cluster() -> Iterator[None]:
    """The cluster that this process is connected to; or one that is found or started, and left at the end."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(logging_level="warning", log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise BackendError(
            f"no Ray cluster can be reached or started: {error}; call ray.init first, or look at RAY_ADDRESS"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
