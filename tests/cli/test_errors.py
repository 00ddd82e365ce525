"""What goes wrong is said in one line, with exit code 2, and leaves nothing behind."""

import os
import subprocess
import sys

import polars as pl
import pytest

from kernadv.cli import command

USAGE = [
    ([], "give either a LOG or --demo"),
    (["LOG", "--demo"], "give either a LOG or --demo, not both"),
    (["LOG", "--map", "step"], "expected ROLE=COLUMN, e.g. step=iteration, got 'step'"),
    (["LOG", "--map", "=step"], "expected ROLE=COLUMN"),
    (["LOG", "--map", "step=a", "--map", "step=b"], "step is given twice"),
    (["LOG", "--counts", "right"], "expected two columns, CORRECT,TRACES"),
    (["LOG", "--counts", "right,"], "expected two columns"),
    (["LOG", "--counts", "a,b,c"], "expected two columns"),
    (["LOG", "--reward", "reward=much"], "expected COLUMN or COLUMN=WEIGHT"),
    (["LOG", "--reward", "reward=nan"], "expected COLUMN or COLUMN=WEIGHT"),
    (["LOG", "--reward", "=1"], "expected COLUMN or COLUMN=WEIGHT"),
    (["LOG", "--reward", "reward", "--reward", "reward=2"], "column 'reward' is given twice"),
    (["LOG", "--draws", "5"], "'--draws'"),
    (["LOG", "--seed", "-1"], "'--seed'"),
    (["LOG", "--html", "LOG"], "is also the log; choose another file"),
    (["LOG", "--html", "DIR/x", "--json", "DIR/x"], "is also --html; choose another file"),
]

KNOWN = [
    (["DIR/none.parquet"], "expected a log file or folder, but DIR/none.parquet does not exist"),
    (["LOG", "--map", "prize=reward"], "unknown role of a column 'prize'; known: prompt, reward, step, value"),
    (["LOG", "--map", "step=iteration"], "no column 'iteration' (for step)"),
    (["LOG", "--kernel", "round"], "unknown kernel 'round'; known: biweight"),
    (["LOG", "--baseline", "nothing"], "unknown baseline 'nothing'; known: "),
    (["LOG", "--baseline", "spo"], "the audit cannot replay spo: it needs 8 rollouts of every prompt from before"),
    (["LOG", "--format", "xml"], "unknown log format 'xml'; known: "),
    (["LOG", "--counts", "a,b", "--reward", "c"], "counts and rewards both say where the rewards are"),
    (["LOG", "--html", "DIR/no/page.html"], "DIR/no: no such file or directory; choose a folder that exists"),
    (["LOG", "--json", "LOG/a.json"], "LOG: not a directory; choose a folder"),
    (["LOG", "--html", "DIR"], "cannot write --html DIR: it is not a file"),
    (["LOG", "--json", os.devnull], "it is not a file"),
]


@pytest.fixture
def fill(log, tmp_path):
    """Put the paths of this test into a text."""
    return lambda text: text.replace("LOG", str(log)).replace("DIR", str(tmp_path))


def unboxed(text):
    """Words of a message that was wrapped in a box."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(("arguments", "message"), USAGE)
def test_usage(launch, fill, arguments, message):
    done = launch("audit", *map(fill, arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    assert message.replace(" ", "") in unboxed(done.stderr).replace(" ", "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("arguments", "message"), KNOWN)
def test_known_errors(run, fill, arguments, message):
    done = run("audit", *map(fill, arguments))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert fill(message) in done.err


def test_outputs_are_checked_before_the_work(run, log, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "audit_groups", lambda *a, **k: pytest.fail("computed first"))
    assert run("audit", log, "--html", tmp_path / "no" / "page.html").code == 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(run, log, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    done = run("audit", log, "--html", locked / "page.html")
    assert done.code == 2
    assert "permission denied" in done.err


def test_one_visit_a_prompt(run, frame, tmp_path):
    once = frame.with_columns(prompt_id=pl.col("prompt_id") + 1000 * pl.col("step"))
    once.write_parquet(tmp_path / "once.parquet")
    done = run("audit", tmp_path / "once.parquet")
    assert done.code == 2
    assert "visited at one step only" in done.err


def test_broken_log(run, tmp_path):
    (tmp_path / "log.parquet").write_bytes(b"PAR1 and no more")
    done = run("audit", tmp_path / "log.parquet")
    assert done.code == 2
    assert done.err.startswith("error: ")


def test_unknown_errors_keep_their_traceback(log, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(command, "audit_groups", broken)
    with pytest.raises(ZeroDivisionError):
        command.app(["audit", str(log)])


@pytest.mark.parametrize("missing", ["typer", "rich", "polars", "pyarrow", "matplotlib", "jinja2"])
def test_missing_extra(launch, log, tmp_path, missing):
    done = launch("audit", log, "--html", "page.html", before=f"import sys; sys.modules[{missing!r}] = None")
    assert done.returncode == 2
    assert 'pip install "kernadv[audit]"' in done.stderr
    assert missing in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


INTERRUPTS = {
    "while reading": "import kernadv.logs as m; m.read_log = stop",
    "while computing": "import kernadv.cli.command as m; m.audit_groups = stop",
    "while drawing": "import kernadv.report.page as m; m.plots = stop",
    "while writing": "import os; os.fsync = stop",
    "while loading": "import sys; sys.meta_path.insert(0, type('Finder', (), {'find_spec': stop}))",
}


@pytest.mark.parametrize("moment", INTERRUPTS)
def test_interrupt(launch, log, tmp_path, moment):
    stop = "import os, signal, time\ndef stop(*a, **k):\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(9)\n"
    done = launch("audit", log, "--html", "page.html", "--draws", 60, before=stop + INTERRUPTS[moment])
    assert done.returncode == 130
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def test_reader_of_the_pipe_is_gone(log):
    code = "from kernadv.cli import main; main()"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-P", "-c", code, "audit", str(log), "--draws", "60"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""
