"""`kernadv watch`: a log that grows while it is read, on a terminal and in a pipe."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from kernadv import KernelValueEstimator
from kernadv.auditing import Watch
from kernadv.report import watching

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals")

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
START = [sys.executable, "-P", "-W", "error", "-c", "from kernadv.cli import main\nmain()", "watch"]
COLOURS = {"FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "COLUMNS", "LINES", "TERM"}


def environment(**more):
    return {name: value for name, value in os.environ.items() if name not in COLOURS} | {"PYTHONUTF8": "1"} | more


def batches(steps, first=1):
    """Of each step the records of 6 prompts with 4 traces."""
    rng = np.random.default_rng(0)
    for step in range(first, first + steps):
        yield [
            {"step": step, "prompt": f"p{k // 4}", "reward": float(rng.random() < (k // 4 + 1) / 8)} for k in range(24)
        ]


def rows(steps, first=1):
    """The records of all steps."""
    return [record for records in batches(steps, first) for record in records]


def text(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def numbers(line):
    """``a=1 b=2`` as a dict."""
    return {name: float(value) for name, value in (part.split("=") for part in line.split())}


class Running:
    """`kernadv watch` in another process, whose lines are collected as they come."""

    def __init__(self, *arguments, **options):
        self.process = subprocess.Popen(
            [*START, *map(str, arguments)], stdout=-1, stderr=-1, text=True, env=environment(), **options
        )
        self.lines, self.remarks = [], []
        pairs = ((self.process.stdout, self.lines), (self.process.stderr, self.remarks))
        self.readers = [threading.Thread(target=self._collect, args=pair) for pair in pairs]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _collect(stream, into):
        for line in stream:
            into.append(line.rstrip("\n"))

    def until(self, condition):
        """Wait until it holds, at most three minutes; the process must be alive."""
        end = time.monotonic() + 180
        while not condition():
            assert self.process.poll() is None, self.remarks
            assert time.monotonic() < end, (self.lines, self.remarks)
            time.sleep(0.02)

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(120)
        self.end()
        return code

    def end(self):
        self.process.kill()
        for reader in self.readers:
            reader.join(30)
        self.process.stdout.close()
        self.process.stderr.close()
        self.process.wait()


@pytest.fixture
def start():
    """Start `kernadv watch`; what still runs at the end is killed."""
    with contextlib.ExitStack() as stack:

        def call(*arguments, **options):
            running = Running(*arguments, "--every", "0.1", **options)
            stack.callback(running.end)
            return running

        yield call


def test_a_log_that_grows_half_a_line_at_a_time(start, tmp_path):
    """The numbers after each step are those of an estimator in the training loop."""
    path = tmp_path / "log.jsonl"
    running = start(path)
    running.until(lambda: any("waiting: expected a log file or folder" in line for line in running.remarks))
    est, expected = KernelValueEstimator(), {}
    with path.open("w") as file:
        for records in batches(6):
            est.advantages([r["prompt"] for r in records], [r["reward"] for r in records], records[0]["step"])
            expected[records[0]["step"]] = est.metrics()
            whole = text(records)
            for part in (whole[:37], whole[37:1000], whole[1000:]):
                file.write(part)
                file.flush()
                time.sleep(0.15)
    running.until(lambda: running.lines and numbers(running.lines[-1])["step"] == 5)
    assert running.interrupt() == 0
    assert all(line.startswith("waiting: ") for line in running.remarks)
    shown = [numbers(line) for line in running.lines]
    assert [line["step"] for line in shown] == sorted({line["step"] for line in shown})
    names = {"kernadv": "value_mse", "rloo": "rloo_mse", "batch_mean": "batch_mean_mse"}
    names |= {name: name for name in ("gradient_ratio", "dead", "dead_0", "dead_1")}
    for line in shown:
        assert line["traces"] == 24 * line["step"]
        for name, metric in names.items():
            assert line[name] == pytest.approx(expected[int(line["step"])][metric], abs=6e-4)


def test_a_log_that_is_truncated_is_read_again(start, tmp_path):
    path = tmp_path / "log.jsonl"
    old, new = map(text, (rows(4), rows(2, 50)))
    path.write_text(old)
    running = start(path)
    running.until(lambda: running.lines)
    path.write_text(new)
    running.until(lambda: running.lines[-1].startswith("step=50 "))
    assert numbers(running.lines[-1])["traces"] == 24
    assert running.interrupt() == 0
    assert any("was truncated, replaced or written anew: read again from its start" in line for line in running.remarks)


def test_once(run, tmp_path):
    path = tmp_path / "log.csv"
    records = rows(3)
    pl.DataFrame(records).write_csv(path)
    done = run("watch", path, "--once")
    assert (done.code, done.err, len(done.out.splitlines())) == (0, "", 1)
    shown = numbers(done.out)
    assert (shown["step"], shown["traces"]) == (3, 72)
    assert shown["mean_reward"] == pytest.approx(np.mean([r["reward"] for r in records[48:]]), abs=6e-4)


@pytest.mark.parametrize("content", [None, ""])
def test_once_without_a_log(run, tmp_path, content):
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_text(content)
    done = run("watch", path, "--once")
    assert (done.code, done.out) == (2, "")
    assert ("does not exist" if content is None else "has no whole row yet") in done.err


@pytest.mark.parametrize("every", ["0", "nan", "inf", "-1"])
def test_bad_intervals(run, tmp_path, every):
    done = run("watch", tmp_path / "log.jsonl", "--every", every)
    assert done.code == 2
    assert "--every" in done.err


def test_options_are_those_of_the_audit(run, tmp_path):
    frame = pl.DataFrame({"iter_nr": [1, 2], "qid": ["a", "a"], "right": [3, 4], "all": [4, 4]})
    frame.write_csv(tmp_path / "log.csv")
    names = ("--map", "step=iter_nr", "--map", "prompt=qid", "--counts", "right,all")
    shown = numbers(run("watch", tmp_path / "log.csv", "--once", *names).out)
    assert (shown["traces"], shown["mean_reward"], shown["dead"]) == (8, 1.0, pytest.approx(0.5, abs=0.01))


def test_a_broken_line_ends_it(run, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(text(rows(2)) + '{"step": 3,\n')
    done = run("watch", path, "--every", "0.1")
    assert done.code == 2
    assert f"error: {path}, line 49: " in done.err


def test_the_reader_of_the_pipe_may_go(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(text(rows(3)))
    command = " ".join(f"'{part}'" for part in [*START, str(path), "--every", "0.1"])
    shell = f"({command}; echo rc=$? >&2) | head -n 1"
    done = subprocess.Popen(shell, shell=True, stdout=-1, stderr=-1, text=True, env=environment())
    assert done.stdout.readline().startswith("step=2 ")
    with path.open("a") as file:
        for records in batches(200, 4):
            file.write(text(records))
            file.flush()
            time.sleep(0.1)
            if select.select([done.stderr], [], [], 0)[0]:
                break
    with done:
        assert done.communicate(timeout=120)[1] == "rc=0\n"


def on_terminal(path, ready, columns=100, **variables):
    """What a terminal of so many columns shows of a run that is interrupted when `ready` holds, and the exit code."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [*START, str(path), "--every", "0.1"]
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment(TERM="xterm") | variables) as done:
        os.close(terminal)
        seen, end, sent = b"", time.monotonic() + 180, False
        while time.monotonic() < end:
            try:
                seen += os.read(controller, 1 << 16)
            except OSError:
                break
            if ready(seen.decode(errors="replace")) and not sent:
                done.send_signal(signal.SIGINT)
                sent = True
        code = done.wait(30)
    os.close(controller)
    return code, seen.decode()


@pytest.mark.parametrize("columns", [100, 40, 20])
def test_the_table_on_a_terminal(tmp_path, columns):
    path = tmp_path / "log.jsonl"
    path.write_text(text(rows(30)))
    code, seen = on_terminal(path, lambda seen: "mean reward" in seen, columns)
    assert code == 0
    last = ANSI.sub("", seen).replace("\r", "").split(str(tmp_path)[:8])[-1]
    lines = last.splitlines()
    assert max(map(len, lines)) <= columns
    for name in ("kernadv", "RLOO", "group mean", "batch mean", "dead groups"):
        assert any(line.startswith(name) for line in lines), lines
    bars = [line for line in lines if set(line) & set("▁▂▃▄▅▆▇█")]
    assert bool(bars) == (columns > 32)


def test_without_colours(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(text(rows(3)))
    code, seen = on_terminal(path, lambda seen: "mean reward" in seen, NO_COLOR="1")
    assert code == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", seen)


def test_a_dumb_terminal_gets_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(text(rows(3)))
    code, seen = on_terminal(path, lambda seen: "mean_reward" in seen, TERM="dumb")
    assert code == 0
    assert "\x1b" not in seen
    assert seen.startswith("step=2 traces=48 kernadv=")


def watched(group, low=0.0, high=1.0, steps=30):
    rng, watch = np.random.default_rng(1), Watch()
    for step in range(1, steps + 1):
        ids = np.repeat(np.arange(6), group)
        watch.add(ids, np.where(rng.random(len(ids)) < 0.4, high, low), np.full(len(ids), step))
    watch.finish()
    return watch


def drawn(watch, width=80, encoding="utf-8"):
    """The lines of the table; all must fit."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, highlight=False)
    console.print(watching.table(watch, "log", ["a note"], console))
    file.flush()
    lines = file.buffer.getvalue().decode(encoding).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    return lines


def test_bars_are_as_high_as_their_values():
    assert watching.sparkline(np.array([0.0, 0.124, 0.126, 0.5, 0.99, 1.0, np.nan, 7.0, -1.0]), 0.0, 1.0) == "▁▁▂▅██ █▁"
    assert watching.sparkline(np.array([3.0, 3.0]), 3.0, 3.0, ascii_only=True) == "__"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 2.5)])
def test_dead_groups_are_named_after_their_rewards(low, high):
    watch = watched(2, low, high)
    lines = drawn(watch)
    for end, name in ((low, "dead_0"), (high, "dead_1")):
        row = next(line for line in lines if line.startswith(f"  all {end:g} "))
        assert int(row.split()[2].removesuffix("%")) == pytest.approx(100 * watch.now[name], abs=0.5)


def test_the_table_has_a_bar_for_each_step_while_they_fit():
    watch = watched(4)
    rows = [re.split(" {2,}", line.strip()) for line in drawn(watch) if set(line) & set("▁▂▃▄▅▆▇█")]
    bars = {row[0]: row[-1] for row in rows}
    assert set(map(len, bars.values())) == {30}
    rewards = np.array(watch.series["mean_reward"])
    heights = ["▁▂▃▄▅▆▇█".index(bar) for bar in bars["mean reward"]]
    assert (heights[rewards.argmax()], heights[rewards.argmin()]) == (7, 0)
    assert np.all(np.diff(np.array(heights)[np.argsort(rewards)]) >= 0)


def test_groups_of_one():
    """Differences to the batch mean, which is also what gradients are compared with."""
    watch = watched(1)
    lines = drawn(watch, 40)
    names = [line.split("  ")[0] for line in lines]
    assert [name for name in names if "kernadv" in name or "grad" in name] == [
        "kernadv - batch mean",
        "grad. var. vs batch",
    ]
    assert not any(name in ("RLOO", "group mean", "dead groups") for name in names)
    assert set(numbers(watching.line(watch))) == {"step", "traces", "value_excess", "gradient_ratio", "mean_reward"}


def test_a_terminal_that_knows_only_ascii():
    assert all(line.isascii() for line in drawn(watched(4), 80, "ascii"))
