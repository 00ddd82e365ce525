"""What goes wrong is said in one line, with exit code 2, and leaves nothing behind."""

import gzip
import os
import subprocess
import sys

import polars as pl
import pytest
import typer

from kernadv.cli import _parsing as parsing
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
    (["LOG", "LOG", "LOG"], "give one log, or two to compare, got 3"),
    (["LOG", "LOG", "--html", "DIR/x.html"], "is for one log, not for two that are compared"),
    (["LOG", "LOG", "--prompts", "DIR/x.csv"], "is for one log, not for two that are compared"),
    (["LOG", "LOG", "--baseline", "dbb"], "is for one log, not for two that are compared"),
    (["LOG", "--prompts", "DIR/x.txt"], "expected a file ending in .parquet or .csv, got x.txt"),
    (["LOG", "--prompts", "LOG"], "is also the log; choose another file"),
    (["LOG", "--json", "-"], "standard output has the report; name a file to write"),
    (["LOG", "--group", "4"], "belongs to --prompts; give a file to write"),
    (["LOG", "--group", "0"], "'--group'"),
]

KNOWN = [
    (["DIR/none.parquet"], "expected a log file or folder, but DIR/none.parquet does not exist"),
    (["LOG", "--map", "prize=reward"], "unknown role of a column 'prize'; known: prompt, reward, step, value, weight"),
    (["LOG", "--map", "step=iteration"], "no column 'iteration' (for step)"),
    (["LOG", "--kernel", "round"], "unknown kernel 'round'; known: biweight"),
    (["LOG", "--baseline", "nothing"], "unknown baseline 'nothing'; known: "),
    (["LOG", "--baseline", "spo"], "the audit cannot replay spo: it needs 8 rollouts of every prompt from before"),
    (
        ["LOG", "--baseline", "opo_loo"],
        "replay opo_loo: it needs a weight a trace, e.g. its response length (--map weight=",
    ),
    (["LOG", "--counts", "a,b", "--baseline", "qae_loo"], "replay qae_loo: it needs single traces in the order"),
    (
        ["LOG", "--counts", "a,b", "--map", "weight=c"],
        "a weight is that of a trace, but counts or traces make a row a group",
    ),
    (["LOG", "--map", "weight=prompt_id"], "column 'prompt_id' must hold a positive weight for each trace"),
    (["LOG", "DIR/none.parquet"], "expected a log file or folder, but DIR/none.parquet does not exist"),
    (["LOG", "--prompts", "DIR/no/p.csv"], "DIR/no: no such file or directory; choose a folder that exists"),
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
    monkeypatch.setattr(command, "audit_log", lambda *a, **k: pytest.fail("computed first"))
    assert run("audit", log, "--html", tmp_path / "no" / "page.html").code == 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(run, log, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    done = run("audit", log, "--html", locked / "page.html")
    assert done.code == 2
    assert "permission denied" in done.err


def test_broken_log(run, tmp_path):
    (tmp_path / "log.parquet").write_bytes(b"PAR1 and no more")
    done = run("audit", tmp_path / "log.parquet")
    assert done.code == 2
    assert done.err.startswith("error: ")


def test_unknown_errors_keep_their_traceback(log, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(command, "audit_log", broken)
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
    "while computing": "import kernadv.cli.command as m; m.audit_log = stop",
    "while drawing": "import kernadv.report.page as m; m.plots = stop",
    "while writing": "import os; os.fsync = stop",
    "while loading": "import sys; sys.meta_path.insert(0, type('Finder', (), {'find_spec': stop}))",
}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("moment", INTERRUPTS)
def test_interrupt(launch, log, tmp_path, moment, name):
    stop = f"import os, signal, time\ndef stop(*a, **k):\n    os.kill(os.getpid(), signal.{name})\n    time.sleep(9)\n"
    done = launch("audit", log, "--html", "page.html", "--draws", 60, before=stop + INTERRUPTS[moment])
    assert done.returncode == 130
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


CODE = [sys.executable, "-P", "-W", "error", "-c", "from kernadv.cli import main; main()"]


def test_reader_of_the_pipe_is_gone(log, tmp_path):
    """The report was read as far as wanted, and the page is written: no error."""
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [*CODE, "audit", str(log), "--draws", "60", "--html", str(tmp_path / "p.html")]
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "p.html").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_no_standard_output(log, tmp_path):
    arguments = [
        "sh",
        "-c",
        '"$@" >&-',
        "sh",
        *CODE,
        "audit",
        str(log),
        "--draws",
        "60",
        "--json",
        str(tmp_path / "a.json"),
    ]
    done = subprocess.run(arguments, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a.json").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk(log):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*CODE, "audit", str(log), "--draws", "60"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert done.returncode == 2
    assert done.stderr == "error: cannot write the report to standard output: no space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_error_that_cannot_be_written_is_still_an_exit_code(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*CODE, "audit", str(tmp_path / "none.csv")], stdout=subprocess.PIPE, stderr=full, timeout=120
        )
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_links_in_a_circle(run, log, tmp_path):
    (tmp_path / "a.csv").symlink_to("b.csv")
    (tmp_path / "b.csv").symlink_to("a.csv")
    done = run("audit", tmp_path / "a.csv")
    assert (done.code, done.err.count("\n")) == (2, 1)
    done = run("audit", log, "--draws", 60, "--html", tmp_path / "a.csv")
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_no_output_replaces_a_part_of_the_log(launch, frame, tmp_path):
    """Neither in a folder, nor below it, nor by another name of it; a page is no part of any log."""
    (tmp_path / "runs").mkdir()
    for part in ("a.csv", "b.csv"):
        frame.write_csv(tmp_path / "runs" / part)
    (tmp_path / "other").symlink_to("runs")
    before = (tmp_path / "runs" / "b.csv").read_bytes()
    for target in ("runs/b.csv", "other/b.csv", "runs/new.json", "runs/sub/../b.csv"):
        done = launch("audit", "runs", "--json", target, "--draws", 60)
        assert done.returncode == 2, target
        assert "log" in unboxed(done.stderr)
    assert (tmp_path / "runs" / "b.csv").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a.csv", "b.csv"]
    frame.write_csv(tmp_path / "runs" / "b.csv")


def test_outputs_and_patterns(tmp_path, monkeypatch):
    """No file that a log was found in, however it was found, may be written; beside the files of a pattern all is free."""
    monkeypatch.chdir(tmp_path)
    part, page = tmp_path / "runs" / "sub" / "a.csv", tmp_path / "runs" / "page.html"
    part.parent.mkdir(parents=True)
    part.touch()
    (tmp_path / "link.csv").symlink_to(part)
    (tmp_path / "lost.csv").symlink_to("nowhere")
    for log in ("runs", "run*", "runs/sub/*.csv", "runs/**/*.csv", str(part), "link.csv", "*.csv", str(tmp_path)):
        with pytest.raises(typer.BadParameter, match="is also the log"):
            parsing.outputs({"--json": part}, log)
        assert parsing.outputs({"--html": page}, log) == {"--html": page}
    beside = tmp_path / "runs" / "sub" / "a.json"
    assert parsing.outputs({"--json": beside}, "runs/sub/*.csv") == {"--json": beside}
    for log in ("runs", "run*", str(tmp_path)):
        with pytest.raises(typer.BadParameter, match="is inside the log"):
            parsing.outputs({"--json": beside}, log)
    for log in ("-", "s3://bucket/runs", "https://host/a.csv"):
        assert parsing.outputs({"--json": part}, log) == {"--json": part}


def test_control_characters_of_a_log_do_not_reach_the_terminal(run, tmp_path):
    (tmp_path / "log.csv").write_text("step,\x1b[31mprompt,reward\n1,a,0\n")
    done = run("audit", tmp_path / "log.csv")
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "\\x1b[31mprompt" in done.err


def test_what_the_output_cannot_encode_is_written_as_escapes(launch, frame, tmp_path):
    frame.with_columns(
        prompt_id="é" + frame["prompt_id"].cast(str) + pl.Series([" ", ""] * (len(frame) // 2))
    ).write_csv(tmp_path / "日.csv")
    done = launch("audit", "日.csv", "--draws", 60, before="import sys; sys.stdout.reconfigure(encoding='ascii')")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("\\u65e5.csv\n")
    assert "'\\xe90 ' and '\\xe90'" in done.stdout


def test_an_endless_row_of_a_csv_ends_with_an_error(launch, tmp_path):
    """A thread that reads ahead must not keep the process from ending."""
    head = gzip.compress(b'step,prompt,reward\n1,"')
    (tmp_path / "log.csv.gz").write_bytes(head + 16 * gzip.compress(b"a" * (1 << 26), 1))
    for _ in range(3):
        done = launch("audit", "log.csv.gz")
        assert done.returncode == 2
        assert "a row has more than 2 MiB, or a quote that is not closed" in done.stderr
        assert done.stderr.count("\n") == 1


def test_rewards_without_squares(run, frame, tmp_path):
    for power, code in ((-140, 0), (-160, 2), (-300, 2)):
        frame.with_columns(reward=frame["reward"] * 10.0**power).write_csv(tmp_path / "log.csv")
        done = run("audit", tmp_path / "log.csv", "--draws", 60)
        assert done.code == code, power
        assert ("multiply them by a constant" in done.err) is (code == 2)
