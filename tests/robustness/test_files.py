"""Saving: whole files, also from several threads at once, beside stale ones and where a folder cannot be flushed."""

import errno
import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from kernadv import KernelValueEstimator, Steps, _checkpoint

HOST = socket.gethostname().replace("-", "_")


def filled(count, steps=3):
    est = KernelValueEstimator(Steps(float("inf")), "uniform")
    for step in range(1, steps + 1):
        est.observe(list(range(count)), np.ones(count), step)
    return est


def test_saves_at_once_each_win_whole(tmp_path):
    """Threads had one temporary name: two of five saves failed."""
    path, errors, sizes = tmp_path / "state", [], [100, 2000, 20_000]
    estimators = [filled(size) for size in sizes]

    def save(est):
        try:
            for _ in range(25):
                est.save(path)
        except OSError as error:
            errors.append(error)

    def load():
        try:
            for _ in range(25):
                est = filled(1)
                est.load(path)
                assert est.metrics()["history_prompts"] in sizes
        except Exception as error:
            errors.append(error)

    estimators[0].save(path)
    threads = [threading.Thread(target=save, args=(est,)) for est in estimators] + [threading.Thread(target=load)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert os.listdir(tmp_path) == ["state"]


def test_stale_files_go_and_those_of_the_living_stay(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead = gone.stdout.strip()
    name = "a[1]*"
    stale = tmp_path / f".{name}.{HOST}-{dead}-0123.tmp"
    others = [
        tmp_path / f".{name}.{HOST}-{os.getpid()}-0123.tmp",  # another thread's
        tmp_path / f".{name}.elsewhere-{dead}-0123.tmp",  # another machine's
        tmp_path / f".a1.{HOST}-{dead}-0123.tmp",  # of another file
        tmp_path / f".a1x.{HOST}-{dead}-0123.tmp",
    ]
    for path in (stale, *others):
        path.touch()
    filled(2).save(tmp_path / name)
    assert set(tmp_path.iterdir()) == {tmp_path / name, *others}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_that_cannot_be_flushed(tmp_path, monkeypatch, code):
    flush, folders = os.fsync, []

    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            folders.append(descriptor)
            raise OSError(code, os.strerror(code))
        flush(descriptor)

    monkeypatch.setattr(_checkpoint.os, "fsync", fsync)
    est = filled(3)
    est.save(tmp_path / "state")
    assert folders
    again = filled(1)
    again.load(tmp_path / "state")
    assert again.metrics()["history_prompts"] == 3


def test_a_stale_file_that_cannot_be_removed(tmp_path, monkeypatch):
    stale = tmp_path / f".state.{HOST}-{2**30}-0.tmp"
    stale.touch()
    unlink = type(stale).unlink

    def refuse(self, *args, **options):
        if self.name == stale.name:
            raise PermissionError(errno.EPERM, "not yours", str(self))
        unlink(self, *args, **options)

    monkeypatch.setattr(type(stale), "unlink", refuse)
    filled(3).save(tmp_path / "state")
    assert (tmp_path / "state").is_file()
