"""Two workers of Ray read the same as this process: every number bit for bit, every remark, and every error."""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import polars as pl
import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed: make test-adapters")

from kernadv._errors import LogError
from kernadv.auditing import audit
from kernadv.logs import _ray, _splits, read_log

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def workers():
    """A cluster of two processors, which the caller has started; whatever else lies on this machine, it does not wait."""
    unhurried = {"memory_monitor_refresh_ms": 0, "local_fs_capacity_threshold": 1.0}
    ray.init("local", num_cpus=2, logging_level="warning", log_to_driver=False, _system_config=unhurried)
    yield
    assert ray.is_initialized()
    ray.shutdown()


def bits(value):
    """A value as something that is equal only if every bit is."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if dataclasses.is_dataclass(value):
        return {field.name: bits(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return tuple(map(bits, value)) if isinstance(value, tuple) else repr(value)


def traces(seed=0, steps=12, prompts=9, group=4, **columns):
    """A run with rewards whose sums depend on their order, some of them missing, and prompts written in several ways."""
    rng = np.random.default_rng(seed)
    names = [*(f"p{k} " + "long text " * (k % 3) * 5 for k in range(prompts - 2)), "1", "1.0"]
    step = np.repeat(np.arange(1, steps + 1), prompts * group)
    reward = rng.normal(0.3, 1.0, len(step))
    reward[rng.random(len(step)) < 0.05] = np.nan
    return pl.DataFrame({"step": step, "prompt": np.tile(np.repeat(names, group), steps), "reward": reward, **columns})


def in_files(frame, folder, ending, by="step", name="{}"):
    """A file for each value of a column, or each pair of rows of it."""
    for (key,), part in frame.group_by([by], maintain_order=True):
        path = folder / f"{name.format(key)}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        (part.write_csv if ending == "csv" else part.write_parquet if ending == "parquet" else part.write_ndjson)(path)
    return folder


def verl(kit, folder, seed=0):
    """Trajectories of several outputs, in files of their steps."""
    rng = np.random.default_rng(seed)
    for step in range(9):
        kit.write_lines(
            folder / f"{step}.jsonl",
            [
                {"input": f"q{p}", "output": "", "score": rng.normal(), "step": step, "uid": f"u{step}{p}_{k}_{o}"}
                for p in rng.permutation(7).tolist()
                for k in range(4)
                for o in range(1 + (p + step) % 2)
            ],
        )
    return folder


def trl(kit, folder):
    """A generation is dumped two or three times, and one dump is not complete."""
    rng = np.random.default_rng(0)
    step = 0
    for generation in range(6):
        prompts = [f"q{p}" for p in np.repeat(rng.permutation(5), 4)]
        parts = {"accuracy": rng.normal(size=20), "format": rng.normal(size=20)}
        for dump in range(2 + generation % 2):
            step += 1
            n = 12 if (generation, dump) == (3, 0) else 20
            columns = {name: part[:n] for name, part in parts.items()}
            kit.write_trl(folder, step, prompts[:n], f"g{generation}", **columns)
    return folder


def swift(kit, folder):
    rng = np.random.default_rng(0)
    dumps = []
    for step in range(1, 9):
        lists = {"step": [str(step)] * 8, "prompt": [f"q{p}" for p in np.repeat([0, step % 3], 4)]}
        lists |= {"completion": [f"{step} {k}" for k in range(8)], "Right": rng.normal(size=8).tolist()}
        dumps.append(lists | {"advantages": [0.0] * 8})
    return kit.write_lines(folder / "completions.jsonl", dumps).parent


def resumed(folder, ending="jsonl"):
    return in_files(
        pl.concat(
            [traces(0).with_columns(part=pl.col("step")), traces(1).with_columns(part=pl.col("step") + 8 + 12)]
        ).filter((pl.col("part") <= 12) | (pl.col("step") > 5)),
        folder,
        ending,
        "part",
    )


def one_parquet(folder, frame):
    frame.write_parquet(folder / "log.parquet", row_group_size=50)
    return folder


def cut_off(folder):
    """The last file has an incomplete line, as that of a running job."""
    path = in_files(traces(), folder, "jsonl") / "12.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    return folder


def packed(folder):
    for path in list(in_files(traces(), folder, "csv").iterdir()):
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return folder


LENGTHS = {"length": np.random.default_rng(3).integers(1, 99, 432)}
RIGHT = {"n_right": np.random.default_rng(4).integers(0, 5, 432), "n": np.full(432, 4)}
TIMES = pl.col("step").map_elements(lambda i: f"2026-01-01T{i:02d}:10:00", pl.String)
LOGS = {
    "verl": (verl, {}),
    "TRL": (trl, {"rewards": {"accuracy": 1.0, "format": 0.1}}),
    "ms-swift": (swift, {}),
    "jsonl": (lambda _, folder: in_files(traces(), folder, "jsonl"), {}),
    "csv": (lambda _, folder: in_files(traces(), folder, "csv"), {}),
    "parquet": (lambda _, folder: in_files(traces(), folder, "parquet"), {}),
    "row groups": (lambda _, folder: one_parquet(folder, traces()), {}),
    "compressed": (lambda _, folder: packed(folder), {}),
    "far from 0": (lambda _, folder: in_files(traces().with_columns(pl.col("reward") + 12345.6), folder, "csv"), {}),
    "values and weights": (
        lambda _, folder: one_parquet(folder, traces(**LENGTHS).with_columns(truth=pl.col("step") / 7)),
        {"columns": {"value": "truth", "weight": "length"}},
    ),
    "traces kept": (lambda _, folder: in_files(traces(), folder, "jsonl"), {"keep_traces": True}),
    "sums": (
        lambda _, folder: in_files(traces().with_columns(bonus=pl.col("reward").reverse()), folder, "jsonl"),
        {"rewards": {"reward": 0.3, "bonus": 1.7}},
    ),
    "counts": (lambda _, folder: one_parquet(folder, traces(**RIGHT)), {"counts": ("n_right", "n")}),
    "lists": (
        lambda _, folder: in_files(
            traces().fill_nan(0.0).group_by(["step", "prompt"], maintain_order=True).agg("reward"), folder, "parquet"
        ),
        {},
    ),
    "step of the path": (
        lambda _, folder: in_files(traces(), folder, "csv", name="step_{}/part"),
        {"columns": {"step": "path"}},
    ),
    "times": (
        lambda _, folder: in_files(traces().with_columns(time=TIMES), folder, "jsonl"),
        {"columns": {"step": "time"}, "step_every": "1h"},
    ),
    "ranks": (lambda _, folder: in_files(traces(), folder, "csv"), {"columns": {"step": "rank:step"}}),
    "resumed, merge": (lambda _, folder: resumed(folder), {"on_repeat": "merge"}),
    "resumed, last": (lambda _, folder: resumed(folder, "csv"), {"on_repeat": "last"}),
    "resumed, offset": (lambda _, folder: resumed(folder), {"on_repeat": "offset", "keep_traces": True}),
    "running": (lambda _, folder: cut_off(folder), {}),
}
#: Logs whose rows cannot be read without those before.
WHOLE = ("TRL", "ms-swift", "ranks")


@pytest.fixture
def seen(monkeypatch):
    """Splits that the workers have read."""
    splits = []

    def reductions(*arguments, reductions=_ray.reductions):
        splits.extend(arguments[-1])
        return reductions(*arguments)

    monkeypatch.setattr(_ray, "reductions", reductions)
    return splits


@pytest.mark.parametrize("name", LOGS)
def test_bit_for_bit(workers, small_splits, seen, kit, tmp_path, name):
    write, options = LOGS[name]
    log = write(kit, tmp_path)
    local = read_log(log, **options)
    found = read_log(log, engine="ray", **options)
    assert len(seen) >= 5 if name not in WHOLE else not seen
    assert bits(found) == bits(local)


def test_the_same_audit(workers, small_splits, seen, kit, tmp_path):
    logs = [read_log(resumed(tmp_path), on_repeat="merge", engine=engine) for engine in ("local", "ray")]
    local, found = (audit(log, draws=50) for log in logs)
    assert seen
    assert repr(found.to_dict()) == repr(local.to_dict())


def broken(path):
    lines = path.read_text().splitlines()
    lines[4] = '{"step": 7, "prompt": "p", "reward": "good"}'
    path.write_text("\n".join(lines) + "\n")


def torn(path):
    path.write_text(path.read_text()[:-20])


def other(path):
    path.write_text("[1, 2]\n")


@pytest.mark.parametrize("harm", [broken, torn, other])
def test_the_same_error(workers, small_splits, seen, tmp_path, harm):
    in_files(traces(), tmp_path, "jsonl")
    for step in (7, 9):
        harm(tmp_path / f"{step}.jsonl")
    errors = []
    for engine in ("local", "ray"):
        with pytest.raises(LogError, match=re.escape(str(tmp_path / "7.jsonl"))) as error:
            read_log(tmp_path, engine=engine)
        errors.append(error.value)
    assert seen
    assert [(type(error), str(error)) for error in errors[1:]] == [(type(errors[0]), str(errors[0]))]


def test_the_steps_that_come_again_have_their_place(workers, small_splits, seen, tmp_path):
    resumed(tmp_path)
    texts = set()
    for engine in ("local", "ray"):
        with pytest.raises(LogError, match=r"26\.jsonl, row 1: the step goes back") as error:
            read_log(tmp_path, engine=engine)
        texts.add(str(error.value))
    assert seen
    assert len(texts) == 1


def test_a_file_that_a_worker_does_not_see(workers, small_splits, monkeypatch, tmp_path):
    in_files(traces(), tmp_path, "csv")

    def splits(query, reader, splits=_splits.splits):
        found = splits(query, reader)
        (tmp_path / "9.csv").unlink()
        return found

    monkeypatch.setattr(_splits, "splits", splits)
    with pytest.raises(LogError, match=r"9\.csv is not there on .*all machines must see the same files"):
        read_log(tmp_path, engine="ray")


def test_relative_paths(workers, small_splits, seen, monkeypatch, tmp_path):
    in_files(traces(), tmp_path / "run", "csv")
    monkeypatch.chdir(tmp_path)
    assert bits(read_log("run", engine="ray")) == bits(read_log("run"))
    assert seen


def test_progress(workers, small_splits, tmp_path):
    in_files(traces(), tmp_path, "csv")
    done = []
    read_log(tmp_path, engine="ray", progress=lambda share, rows: done.append((share, rows)))
    assert done == sorted(done)
    assert done[-1] == (1.0, 432)
    assert len(done) > 12


def test_few_splits_are_on_their_way(workers, small_splits, monkeypatch, tmp_path):
    for k in range(40):
        traces(k, steps=1).with_columns(step=pl.lit(k)).write_csv(tmp_path / f"{k}.csv")
    begun = []
    monkeypatch.setattr(ray, "remote", lambda **options: lambda read: Counted(begun, options, read))
    most = 0

    def progress(share, rows):
        nonlocal most
        most = max(most, len(begun) - rows // 36)

    read_log(tmp_path, engine="ray", progress=progress)
    assert len(begun) == 39
    assert most <= 2 * 2


REMOTE = ray.remote


class Counted:
    """A remote function that counts its calls."""

    def __init__(self, begun, options, read):
        self.begun, self.task = begun, REMOTE(**options)(read)

    def remote(self, *arguments):
        self.begun.append(arguments)
        return self.task.remote(*arguments)


def test_an_interrupt_cancels_what_the_workers_do(workers, small_splits, monkeypatch, tmp_path):
    in_files(traces(), tmp_path / "run", "csv")
    begun, over = tmp_path / "begun", threading.Event()

    def sleep(job, split):
        begun.touch()
        for _ in range(6000):
            time.sleep(0.1)
        yield

    def press():
        """Ctrl-C once the workers are busy, and again should Python have been where it passes over a signal."""
        while not begun.exists() and not over.wait(0.1):
            pass
        over.wait(2.0)
        while not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            over.wait(20.0)

    monkeypatch.setattr(_ray, "_read", sleep)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes pass over it
    finger = threading.Thread(target=press, daemon=True)
    finger.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            read_log(tmp_path / "run", engine="ray")
    finally:
        over.set()
        finger.join(30)
        signal.signal(signal.SIGINT, before)
    end = time.monotonic() + 30
    while (free := ray.available_resources().get("CPU")) != 2:
        assert time.monotonic() < end, free
        time.sleep(0.1)


# ---------------------------------------------------------------- clusters that are not the caller's


def command(folder, *options, **environment):
    """Run the audit in a process of its own."""
    run = [sys.executable, "-c", "from kernadv.cli import main; main()", "audit", folder, "--draws", "40", *options]
    environment = {**os.environ, "RAY_ADDRESS": "local", **environment}
    return subprocess.run(run, capture_output=True, text=True, timeout=240, env=environment)


def test_the_command(tmp_path):
    traces(steps=130).with_columns(part=pl.col("step")).pipe(in_files, tmp_path / "run", "csv", "part")
    for engine in ("local", "ray"):
        done = command(tmp_path / "run", "--engine", engine, "--json", tmp_path / f"{engine}.json")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "ray.json").read_text() == (tmp_path / "local.json").read_text()


def test_an_address_that_leads_nowhere(tmp_path):
    traces(steps=130).pipe(in_files, tmp_path / "run", "csv")
    done = command(tmp_path / "run", "--engine", "ray", RAY_ADDRESS="nothing")
    assert done.returncode == 2
    assert "no Ray cluster can be reached or started: " in done.stderr
    assert "look at RAY_ADDRESS" in done.stderr
