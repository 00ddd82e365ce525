"""The report in a terminal: fits the width, colours only what means something, shows progress only to a person."""

import builtins
import io
import os
import pty
import re
import sys
import threading
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from kernadv.auditing import Check, audit, compare
from kernadv.auditing.verdict import apart
from kernadv.logs import read_log
from kernadv.report import _wording
from kernadv.report.terminal import show

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def report(log):
    found = read_log(log, columns={"value": "value"})
    return replace(audit(found, draws=60), source="log.parquet")


def printed(report, width, **options):
    console = Console(file=io.StringIO(), width=width, highlight=False, **options)
    show(report, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 72, 80, 100, 120, 200])
def test_fits_the_width(report, width):
    lines = printed(report, width).splitlines()
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith("KAE ")]
    assert len(rows) >= 6
    assert all("…" not in line and "..." not in line for line in lines)
    heading = "".join(lines[lines.index(next(line for line in lines if line.startswith("baseline"))) :][:2])
    worth = any(line.startswith("Worth G") for line in lines)
    assert worth is ("worth" in heading)  # nothing is explained that is not shown


def test_eighty_columns_keep_every_column(report):
    text = printed(report, 80)
    heading = next(line for line in text.splitlines() if line.lstrip().startswith("[95% interval]"))
    assert re.split(r"\s{2,}", heading.strip())[1:] == ["vs RLOO", "vs batch", "vs RLOO", "G", "MSE"]
    best = report.finding(report.best)
    row = next(line for line in text.splitlines() if " * " in line)
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", row.partition(" * ")[2])]
    shown = [*best.mse, 100 * best.vs_rloo.estimate, 100 * best.vs_batch.estimate, best.gradient_ratio.estimate]
    assert numbers == pytest.approx([*shown, best.worth, best.true_mse], abs=0.5)
    assert numbers[:3] == pytest.approx([*best.mse], abs=5.1e-3)


def test_wide_table_has_the_intervals(report):
    best = report.finding(report.best)
    row = next(line for line in printed(report, 160).splitlines() if " * " in line)
    assert row.count("[") == 4
    low, high = best.vs_rloo.low, best.vs_rloo.high
    assert f"[{low:.0%}, {high:.0%}]" in row


def test_true_column_only_with_true_values(report, log):
    without = replace(audit(read_log(log), draws=60), source="log.parquet")
    assert "true" in printed(report, 120)
    assert "true" not in printed(without, 120)


def test_the_advised_row_alone_is_green(report):
    text = printed(report, 120, force_terminal=True, color_system="standard")
    green = [line for line in text.splitlines() if "\x1b[1;32m" in line]
    assert len(green) == 1
    assert "kernadv" in green[0]
    colours = set(re.findall(r"\x1b\[([\d;]*)m", text))
    assert colours <= {"0", "1", "2", "1;32", "33"}


def test_checks_and_notes_come_before_the_headline_and_that_before_the_table(report):
    checks = [
        Check("steps in order", "suspect", "The steps go back.", "Do something."),
        Check("enough digits", "ok", "fine"),
    ]
    text = printed(replace(report, checks=checks, notes=["a note"]), 80)
    shown = ["1 of 2 checks failed", "- The steps go back. Do something.", "Note: a note.", report.verdict[:20], "────"]
    at = [text.index(part) for part in shown]
    assert at == sorted(at)
    assert "Can this log be trusted? All 1 checks passed" in " ".join(
        printed(replace(report, checks=checks[1:]), 80).split()
    )


def test_nothing_is_said_of_errors_where_there_is_no_signal(frame):
    text = printed(audit(frame.with_columns(reward=0.0), draws=60), 80)
    assert "No group has a signal" in text
    assert "MSE" not in text


def test_columns_without_numbers_are_left_out(frame):
    text = printed(audit(frame.filter(frame["prompt_id"] < 2), draws=60), 80)
    assert "95% interval]" not in text
    assert "Worth G" not in text
    heading = next(line for line in text.splitlines() if line.startswith("baseline"))
    assert re.split(r"\s{2,}", heading.strip()) == ["baseline", "value MSE", "MSE cut", "MSE cut", "grad. var"]


def test_control_characters_are_written_as_escapes(report):
    """Colours, titles and the clipboard of a terminal are out of reach of a log."""
    hostile = "\x1b]52;c;aGk=\x07\x9b31m\u202e"
    check = Check("one id a prompt", "suspect", hostile, hostile)
    text = printed(replace(report, source=hostile, notes=[hostile], verdict=hostile, checks=[check]), 200)
    assert not set(text) & set(hostile[:1] + "\x07\x9b\u202e")
    assert text.count("\\x1b]52;c;aGk=\\x07\\x9b31m\\u202e") == 5


def test_the_text_is_the_same_in_a_notebook(report, log, monkeypatch):
    """There rich shows what is printed at once, instead of writing it."""
    found = read_log(log)
    both = compare(found, found, draws=50)
    texts = [report.table(80), both.table(80)]
    monkeypatch.setattr(builtins, "get_ipython", type("ZMQInteractiveShell", (), {}), raising=False)
    assert Console().is_jupyter
    assert [report.table(80), both.table(80)] == texts
    assert all("value MSE" in text for text in texts)


def test_markup_in_a_file_name_is_text(report):
    assert printed(replace(report, source="[red]a[/red].csv"), 80).splitlines()[0] == "[red]a[/red].csv"


def test_warns_where_the_batch_mean_is_better(run, frame, tmp_path):
    rising = frame.with_columns(reward=(frame["step"] > pl.Series(np.random.default_rng(2).random(len(frame)) * 40)))
    rising.write_parquet(tmp_path / "rising.parquet")
    done = run("audit", tmp_path / "rising.parquet")
    assert "The batch mean has a smaller error still" in " ".join(done.out.split())


def on_terminal(launch, *arguments, **variables):
    """Standard error of a run, read from a terminal of 100 columns."""
    controller, terminal = pty.openpty()
    seen = []

    def listen():
        while True:
            try:
                seen.append(os.read(controller, 4096))
            except OSError:
                return

    listener = threading.Thread(target=listen)
    listener.start()
    before = f"import os; os.environ.update({ {'TERM': 'xterm', 'COLUMNS': '100', 'LINES': '30'} | variables })"
    options = {"capture_output": False, "stdout": -1, "stderr": terminal, "text": True}
    done = launch(*arguments, before=before, **options)
    os.close(terminal)
    listener.join(10)
    os.close(controller)
    return done, b"".join(seen).decode()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_on_a_terminal(launch, log):
    done, error = on_terminal(launch, "audit", log)
    assert done.returncode == 0
    assert "reading" in ANSI.sub("", error)
    assert "computing" in ANSI.sub("", error)
    assert "\x1b" not in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_errors_are_red_on_a_terminal(launch):
    done, error = on_terminal(launch, "audit", "none.csv")
    assert done.returncode == 2
    assert "\x1b[31merror: expected a log file or folder, but none.csv does not exist\x1b[0m\r\n" in error


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_errors_are_plain_where_colour_is_not_wanted(launch, variables):
    done, error = on_terminal(launch, "audit", "none.csv", **variables)
    assert done.returncode == 2
    assert "\x1b" not in error
    assert "error: expected a log file or folder" in error


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (999_999.4, 0, "999999"),
        (1e6, 2, "1e+06"),
        (-123_456_789.0, 0, "-1.23e+08"),
        (1e30, 4, "1e+30"),
        (12.345, 1, "12.3"),
    ],
)
def test_numbers_from_a_million_on_have_three_digits(value, decimals, text):
    assert _wording.number(value, decimals) == text


def test_rewards_of_any_size_keep_the_intervals(run, frame, tmp_path):
    frame.with_columns(reward=frame["reward"] * 1e9).write_csv(tmp_path / "log.csv")
    done = run("audit", tmp_path / "log.csv", "--draws", 60)
    assert done.code == 0
    assert "[95% interval]" in done.out
    assert re.search(r"\(all 0: \d+%, all 1e\+09: \d+%\)", " ".join(done.out.split()))


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.0, 1.0, ("0", "1")),
        (-1.0, 2.5, ("-1", "2.5")),
        (1 / 3, 2 / 3, ("0.3333", "0.6667")),
        (1e15, 1e15 + 1, ("1000000000000000", "1000000000000001")),
        (100000.0, 100001.0, ("100000", "100001")),
    ],
)
def test_two_rewards_are_told_apart(low, high, texts):
    assert apart(low, high) == texts
