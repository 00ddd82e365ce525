"""The benchmark of the GPU, as far as a machine without one can run it."""

import contextlib
import csv
import dataclasses
import importlib.metadata
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
from benchmarks.gpu import cases, providers, run, timing  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

#: Numerics that hold on a device only: the others are the same in their own arithmetic.
ROUGH = {"SDPA bfloat16": 2e-2}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_refuses_without_a_gpu():
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "the kernels cannot be verified or timed here: torch sees no GPU on this machine"


CASES = cases.cases(torch.device("cpu"), cases.TINY)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kernel)
def test_providers_agree(case):
    """All compute the same thing, so that their times may stand side by side."""
    held = case.make(0)
    first, *others = case.providers
    expected = case.providers[first](held)
    assert not torch.isnan(expected).all()
    for name in others:
        if "compile" not in name:  # the same function; compiled on a device only
            error = providers.largest_error(case.providers[name](held), expected)
            assert error <= ROUGH.get(name, 1e-4), f"{name} differs from {first} by {error:.1e}"


def test_sets_differ():
    one, two = (CASES[0].make(seed)["sample"] for seed in (0, 1))
    assert not torch.equal(one.s, two.s)


def test_floor_is_the_slowest_part():
    peak = timing.Peak(bandwidth=3e12, lanes=33e12, tensor=800e12, l2=50 * 10**6)
    assert peak.floor_us(3_000_000) == pytest.approx(1.0)
    assert peak.floor_us(3_000_000, operations=330_000_000) == pytest.approx(10.0)
    assert peak.floor_us(3_000_000, operations=330_000_000, products=80_000_000_000) == pytest.approx(100.0)


def test_inputs_are_larger_than_the_cache():
    for bytes_ in (10**5, 4 * 10**7, 10**9):
        count = timing.rotations(bytes_, 50 * 10**6)
        assert count >= 4
        assert count * bytes_ >= 4 * 50 * 10**6 or count == 64


def test_quantiles():
    times = [float(k) for k in range(100, 0, -1)]
    assert (timing.quantile(times, 0.2), timing.median(times), timing.quantile(times, 0.8)) == (21.0, 51.0, 81.0)


def test_rows_are_written(tmp_path):
    rows = [run.make_row(CASES[0], "ours", 10.0, [20.0, 20.0, 40.0], "graph", 5, ""),
            run.make_row(CASES[0], "KeOps", 10.0, [], "", None, "No module named 'pykeops'")]  # fmt: skip
    timing.write(rows, tmp_path / "out.csv")
    read = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["provider"] for row in read] == ["ours", "KeOps"]
    assert float(read[0]["percent_of_floor"]) == 50.0
    assert read[1]["median_us"] == "nan"
    assert "pykeops" in read[1]["error"]
    asked = {"kernel", "provider", "shapes", "dtype", "median_us", "p20_us", "p80_us", "bytes", "flops", "floor_us",
             "percent_of_floor", "peak_memory", "versions", "gpu"}  # fmt: skip
    assert asked <= set(read[0])


@pytest.fixture
def stopwatch(monkeypatch):
    """What a GPU would do of the timing, done by the host's clock; nothing is written that looks like a measurement."""
    device = {"synchronize": None, "empty_cache": None, "reset_peak_memory_stats": None, "memory_allocated": 0,
              "max_memory_allocated": 5, "get_device_name": "Stop Watch"}  # fmt: skip
    for name, value in device.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(run.dispatch, "unavailable", lambda: None)
    monkeypatch.setattr(run, "measure_peak", lambda device: timing.Peak(1e9, 1e9, 1e9, 1000))
    monkeypatch.setattr(run, "graphed", lambda call, sets: call)
    monkeypatch.setattr(run, "events", lambda call, sets: timing.wall(call, sets, lambda: None, 3))
    monkeypatch.setattr(run, "wall", lambda call, sets, wait: timing.wall(call, sets, wait, 3))
    monkeypatch.setattr(timing, "WARM_UP", 1)
    monkeypatch.setattr(providers, "_compiled", lambda function: function)


def table_of_the_page(path, folder, monkeypatch):
    """What the page of the kernels makes of a file of results."""
    cell = (ROOT / "docs" / "kernels.md").read_text().partition("{code-cell} python")[2].partition("```")[0]
    lines = [line for line in cell.splitlines() if not line.startswith(":")]
    assert lines[-1].startswith("Markdown(")
    (folder / "docs").mkdir()
    (folder / "benchmarks" / "results").mkdir(parents=True)
    (folder / "benchmarks" / "results" / path.name).write_text(path.read_text())
    monkeypatch.chdir(folder / "docs")
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(Markdown=str))
    seen = {}
    exec("\n".join(lines[:-1]), seen)
    return eval(lines[-1], seen)


def test_whole_run(stopwatch, monkeypatch, tmp_path, capsys):
    """From the command line to the file: every case and provider has its row, and every row what the page reads of it."""
    monkeypatch.setattr(run, "verify", lambda: print("verified"))
    run.main([], "cpu", cases.TINY, tmp_path)
    (path,) = tmp_path.glob("gpu_stop-watch_*.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert {(row["kernel"], row["shapes"], row["provider"]) for row in rows} == {
        (case.kernel, case.shapes, name) for case in CASES for name in [*case.providers, *case.missing]
    }
    for row in rows:
        missing = {name for case in CASES for name in case.missing}
        assert (row["error"] != "") == (row["provider"] in missing), row
        assert row["error"] or float(row["p20_us"]) <= float(row["median_us"]) <= float(row["p80_us"])
        assert row["gpu"] == "none"
    page = table_of_the_page(path, tmp_path, monkeypatch)
    assert page.count("\n| ") == len(rows) + 1  # a row each, also of those that could not run, and the heading
    assert "No run on a GPU is committed" not in page
    said = capsys.readouterr().out
    assert said.startswith("verified")
    assert f"wrote {path}" in said


def test_only_some_cases(stopwatch, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "verify", lambda: None)
    run.main(["--only", "prequential_cv_triangular"], "cpu", cases.TINY, tmp_path)
    run.main(["--verify"], "cpu", cases.TINY, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_was_timed_survives_a_failure(stopwatch, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "verify", lambda: None)
    cut = [CASES[0], dataclasses.replace(CASES[1], providers={"ours": lambda held: 1 / 0})]
    monkeypatch.setattr(run, "cases", lambda device, sizes: cut)
    with pytest.raises(ZeroDivisionError):
        run.main([], "cpu", cases.TINY, tmp_path)
    (path,) = tmp_path.glob("*.csv")
    assert path.read_text().count("\n") == 1 + len(CASES[0].providers) + len(CASES[0].missing)


#: All that a machine with a GPU needs to have, and what each of them brings.
NEEDED = ("numpy", "scipy", "torch", "triton", "numba", "scikit-learn", "statsmodels", "hypothesis", "pytest")

#: As if some modules were not installed.
BLOCKED = """
import sys
names = {names!r}
class Finder:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in names else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Finder, sys.meta_path)
"""


def needed():
    """Distributions behind `NEEDED`, and all that they require."""
    found, queue = set(), list(NEEDED)
    while queue:
        name = re.sub(r"[-_.]+", "-", queue.pop()).lower()
        if name in found:
            continue
        found.add(name)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for line in importlib.metadata.requires(name) or []:
                if "extra ==" not in line:
                    queue.append(re.match(r"[\w.-]+", line)[0])
    return found


def test_needs_nothing_else(tmp_path):
    """The suite of the GPU, the benchmark and its command run where nothing but `NEEDED` can be imported."""
    allowed = needed()
    names = {module for module, packages in importlib.metadata.packages_distributions().items()
             if not any(re.sub(r"[-_.]+", "-", package).lower() in allowed for package in packages)}  # fmt: skip
    assert {"polars", "safetensors", "matplotlib"} & names
    (tmp_path / "sitecustomize.py").write_text(BLOCKED.format(names=names - {"kernadv", "__editable___kernadv_finder"}))
    path = [str(tmp_path), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "TRITON_INTERPRET": "1",
                   "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # fmt: skip
    small = "test_number_of_bandwidths or test_flash_shapes or test_weights or gpu or captured"
    command = run.suite_command()
    assert command[0] == sys.executable
    done = subprocess.run([*command, "-k", small], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    del environment["TRITON_INTERPRET"]
    code = (
        "import torch; from benchmarks.gpu import run, cases\n"
        "for case in cases.cases(torch.device('cpu'), cases.TINY): case.providers[next(iter(case.providers))](case.make(0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_names_of_files():
    assert run.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
