"""The attacks of `benchmarks.robustness` find the faults that are planted here, and the table says so."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kernadv import CheckpointError, KernelValueEstimator, LocalLinear, NadarayaWatson, Steps

pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
from benchmarks import attacks

# The attacks fork; other tests may have left threads, which Python warns of from 3.12 on.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


class Halved(KernelValueEstimator):
    """Learns from a batch in two goes."""

    pause = 0.0

    def observe(self, prompt_ids, rewards, step, *, weights=None):
        """The first half, then the second."""
        half = len(prompt_ids) // 2
        super().observe(prompt_ids[:half], rewards[:half], step)
        time.sleep(self.pause)
        super().observe(prompt_ids[half:], rewards[half:], step)

    def advantages(self, prompt_ids, rewards, step, *, weights=None):
        """Rewards less values, learned in two goes."""
        values = self.values(prompt_ids, rewards, step)
        self.observe(prompt_ids, rewards, step)
        return np.where(values.defined, rewards - values.value, 0.0)


class Slow(Halved):
    """The same, with enough time in between for a signal."""

    pause = 0.03


def plain(kind, **how):
    """A configuration of a plain estimator of that class."""
    from benchmarks.attacks._estimators import Configuration

    return Configuration(lambda: kind(Steps(300.0), "uniform"), **how)


@pytest.mark.parametrize("operation", ["observe", "advantages"])
def test_interruptions_find_what_is_half_learned(operation):
    found = attacks.interruptions.raised("planted", operation, 150, 1, plain(Halved))
    assert found.failures.total() > 5
    assert any("state in between" in what and "kernadv/" in what for what in found.failures)
    assert attacks.interruptions.raised("sound", operation, 150, 1, plain(KernelValueEstimator)).failures.total() == 0
    seen = attacks.interruptions.saved("planted", operation, 150, 1, plain(Halved))
    assert 5 < seen.failures.total() < seen.count


def test_interruptions_find_what_goes_on_otherwise():
    """A fault that no state shows: the object alone remembers the calls that have begun."""

    class Counting(KernelValueEstimator):
        begun = 0

        def observe(self, *arguments, **options):
            self.begun += 1
            super().observe(*arguments, **options)

        def advantages(self, *arguments, **options):
            return super().advantages(*arguments, **options) + self.begun

    found = attacks.interruptions.raised("planted", "observe", 150, 1, plain(Counting))
    assert found.failures.total() > 5
    assert any("going on differs" in what for what in found.failures)


def test_every_bytecode_is_a_place():
    """Of a function with a known number of instructions, all are come to, and an exception hits each of them."""
    scene = attacks.interruptions.Scene(plain(KernelValueEstimator), "observe", 1)
    places = scene.places()
    assert len({(place.call, place.index) for place in places}) == len(places) > 1000
    assert {place.call for place in places} == set(range(1 + max(place.call for place in places)))
    hit = []
    for place in places[:: len(places) // 20]:
        with pytest.raises(MemoryError) as error:
            attacks.interruptions.interrupt(functools.partial(scene.run, scene.start()), place, MemoryError)
        hit.append(str(error.value))
        assert hit[-1] == place.where


def test_timers_and_exhausted_memory_find_what_is_half_learned():
    assert attacks.timers.interrupted("plain", 5, 1, plain(Slow)).failures.total() >= 1
    found = attacks.memory.failing_calls("planted", "observe", 3, 1, plain(Halved))
    assert found.failures.total() >= 1
    assert attacks.memory.failing_calls("sound", "observe", 3, 1, plain(KernelValueEstimator)).failures.total() == 0


def test_kills_find_a_file_that_is_written_in_place():
    class InPlace(KernelValueEstimator):
        def save(self, path):
            super().save(f"{path}-other")
            data = Path(f"{path}-other").read_bytes()
            os.remove(f"{path}-other")
            with open(path, "wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                time.sleep(0.2)
                file.write(data[len(data) // 2 :])

    found = attacks.kills.killed("large", "planted", 12, 1, plain(InPlace))
    assert found.count == 12
    assert any("load raised CheckpointError" in what for what in found.failures)


def test_kills_find_a_save_that_is_lost():
    class Lazy(KernelValueEstimator):
        def save(self, path):
            if int(self.state_dict()["counters"][-1]) <= 1:
                super().save(path)

    found = attacks.kills.killed("small", "planted", 4, 1, plain(Lazy))
    assert any("not that of the last save" in what for what in found.failures)


def test_checkpoints_find_loaders_that_accept_nonsense():
    class Gullible(KernelValueEstimator):
        def load(self, path, *, strict=True):
            try:
                super().load(path)
            except CheckpointError:
                self.__dict__.update(type(self)(Steps(300.0), "uniform").__dict__)

    failures = attacks.checkpoints.mutated("bytes", "planted", 20, 1, plain(Gullible)).failures
    assert any("accepted, other content" in what for what in failures)

    class Deaf(Gullible):
        def values(self, *arguments, **options):
            raise ZeroDivisionError

    failures = attacks.checkpoints.mutated("arrays", "planted", 20, 1, plain(Deaf)).failures
    assert any("accepted, but then ZeroDivisionError" in what for what in failures)


def test_checkpoints_count_crashes_raw_errors_changes_and_memory():
    def planted(on_error):
        class Careless(KernelValueEstimator):
            def load(self, path, *, strict=True):
                try:
                    super().load(path)
                except CheckpointError:
                    on_error(self)
                    raise

        return attacks.checkpoints.mutated("bytes", "planted", 6, 1, plain(Careless)).failures

    assert any("died with -9" in what for what in planted(lambda est: os.kill(os.getpid(), signal.SIGKILL)))
    assert any("load raised ZeroDivisionError" in what for what in planted(lambda est: 1 // 0))
    assert any("the state changed" in what for what in planted(lambda est: est.observe([1], [1.0], 99)))
    assert any("more memory" in what for what in planted(lambda est: np.ones(10_000_000)))


def test_calls_find_the_own_reward_and_reading_calls_that_write():
    class Leaking(KernelValueEstimator):
        def values(self, prompt_ids, rewards, step):
            found = super().values(prompt_ids, rewards, step)
            if isinstance(rewards, list):
                found = found._replace(value=found.value + 1e-12 * np.array(rewards, float))
            return found

        def metrics(self):
            super().observe(["new"], [1.0], 2**40)
            return super().metrics()

        def explain(self, *arguments):
            raise LookupError("raw")

    failures = attacks.calls.fuzzed("planted", 400, 1, lambda: Leaking(Steps(5.0))).failures
    assert any("own reward enters the own value" in what for what in failures)
    assert any("LookupError: raw" in what for what in failures)
    assert "the state has changed" in failures


def test_fits_find_wide_intervals_and_raw_errors():
    class Wide(LocalLinear):
        def interval(self, X, level=0.95, method="auto", groups=None):
            found = super().interval(X, level, method)
            return found._replace(high=found.high + 1e4 * (1.0 + np.ptp(self._smoother.y)))

        def summary(self):
            raise KeyError("raw")

    failures = attacks.fits.fuzzed(0, 12, 1, lambda rng: (Wide(0.5), "planted")).failures
    assert any("interval wider than 100 ranges" in what for what in failures)
    assert any("summary raised KeyError" in what for what in failures)


def test_permutations_weights_and_series_find_what_depends_on_them():
    class Ordered(KernelValueEstimator):
        def advantages(self, prompt_ids, rewards, step, *, weights=None):
            found = super().advantages(prompt_ids, rewards, step, weights=weights)
            return found + 1e-9 * np.arange(len(found)) + (0.0 if weights is None else 1e-6 * np.sum(weights))

    class Blind(NadarayaWatson):
        def fit(self, X, y, sample_weight=None, groups=None):
            return super().fit(X, y)

        def predict(self, X, return_std=False, groups=None):
            return super().predict(X)

    from benchmarks.attacks._estimators import Configuration

    assert attacks.permutations.estimator("planted", 3, 1, plain(Ordered)).failures.total() == 1
    weighted = Configuration(lambda: Ordered(weighted=True), weighted=True)
    assert attacks.weights.estimator(2, 1, weighted).failures.total() == len(attacks.weights.FACTORS)
    blind = attacks.series.separate("planted", 1, 1, lambda kernel: Blind(0.2, kernel="gaussian"))
    assert blind.failures.total() >= len(attacks.series.KERNELS)
    sound = attacks.series.separate("sound", 1, 1, lambda kernel: NadarayaWatson(0.2, kernel="gaussian"))
    assert sound.failures.total() == 0


def test_answers_that_differ_are_named():
    from benchmarks.attacks._answers import differing

    a = {"predict": np.array([1.0, np.nan]), "loo of rows": np.array([1.0, 2.0])}
    assert (
        differing(a, {"predict": np.array([1.0, np.nan]), "loo of rows": np.array([2.0, 1.0])}, 1.0, np.array([1, 0]))
        == []
    )
    assert differing(a, {"predict": np.array([1.0, 2.0]), "loo of rows": np.array([2.0, 1.0])}, 1.0) == [
        "loo of rows",
        "predict, in shape or what is defined",
    ]
    assert differing(a, {"predict": a["predict"] + 1e-8}, 1.0) == [
        "loo of rows is answered in one case only",
        "predict",
    ]


def test_disks_find_files_left_and_saves_that_fail(monkeypatch):
    class Untidy(KernelValueEstimator):
        def save(self, path):
            beside = Path(f"{path}.{os.getpid()}")
            beside.touch()
            super().save(path)
            os.remove(beside)

    monkeypatch.setattr(attacks.disk, "HOW", plain(Untidy))
    assert any("left" in what for what in attacks.disk.names(1).failures)
    assert any("FileNotFoundError" in what for what in attacks.disk.at_once("threads", 5, 1).failures)


def test_a_part_that_dies_or_hangs_is_a_failure():
    parts = [
        ("kills", functools.partial(attacks.Row, "kills", "nothing", 7)),
        ("disk", functools.partial(os._exit, 3)),
        ("fits", functools.partial(time.sleep, 60)),
    ]
    rows = dict(attacks.in_processes(parts, 3, patience=2.0))
    assert rows["kills"].count == 7
    assert list(rows["disk"].failures) == ["_exit(3,) ended with 3 before it was done"]
    assert list(rows["fits"].failures) == ["sleep(60,) hangs"]


def test_rows_are_merged():
    one, other = attacks.Row("a", "b", 2, slowest=1.0), attacks.Row("a", "b", 3, memory=5)
    other.fail("x", "first")
    other.fail("x", "second")
    one.merge(other)
    assert (one.count, one.failures["x"], one.examples, one.slowest, one.memory) == (5, 2, {"x": "first"}, 1.0, 5)


def test_the_command_writes_a_table_and_fails_if_an_attack_succeeds(tmp_path):
    pytest.importorskip("rich")
    path = tmp_path / "table.md"
    command = [
        sys.executable,
        "-m",
        "benchmarks.robustness",
        "--short",
        "--only",
        "disk",
        "--part",
        "failing",
        "--table",
    ]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True)
    rows = [line.split(" | ") for line in path.read_text().splitlines() if line.startswith("| disk")]
    assert [(row[1], row[2]) for row in rows] == [("rename and fsync fail, of file and folder", "11")]
    assert (done.returncode != 0) == (rows[0][3] != "0"), done.stderr
    assert "python -m benchmarks.robustness --short --seed 1" in path.read_text()
    assert "numpy" in path.read_text()
