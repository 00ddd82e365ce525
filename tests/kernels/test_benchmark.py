"""The benchmark of the GPU, as far as a machine without one can run it."""

import contextlib
import csv
import dataclasses
import importlib.metadata
import json
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
RESULTS = ROOT / "benchmarks" / "results"

#: Numerics that hold on a device only: the others are the same in their own arithmetic.
ROUGH = {"SDPA bfloat16": 2e-2, "FlexAttention bfloat16": 2e-2}


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
    expected = case.providers[case.reference](held)
    assert not torch.isnan(expected).all()
    for name in case.providers:
        if "compile" not in name and name != case.reference:  # the same function; compiled on a device only
            error = providers.largest_error(case.providers[name](held), expected, case.rows)
            assert error <= ROUGH.get(name, 1e-4), f"{name} differs from {case.reference} by {error:.1e}"
    assert case.reference in case.providers
    assert set(case.names("ours")) | set(case.names("peers")) == {*case.providers, *case.missing}
    assert not set(case.names("ours")) & set(case.names("peers"))


def test_compiled_peers_take_every_set(monkeypatch):
    """A provider is compiled at its first call, for each case once; another set of inputs is no reason to do it again."""
    count = []

    def graph(made, example):
        count.append(made)
        return made.forward

    def compiled(function):
        return torch.compile(function, dynamic=False, backend=graph)

    monkeypatch.setattr(providers, "_compiled", compiled)
    torch.compiler.reset()
    made = cases.cases(torch.device("cpu"), cases.TINY)
    flex = providers.flex_providers()
    made = [(case, {**case.providers, **(flex if case.kernel.startswith("flash") else {})}) for case in made]
    ever = 0
    for case, found in made:
        sets = [case.make(seed) for seed in range(4)]
        expected = case.providers[case.reference](sets[0])
        for name in found:
            if "compile" in name or "Flex" in name:
                count.clear()
                error = providers.largest_error(found[name](sets[0]), expected, case.rows)
                assert error <= ROUGH.get(name, 1e-4)
                first, ever = len(count), ever + len(count)
                for held in sets[1:] * 2:
                    found[name](held)
                assert len(count) == first, f"{name} was compiled again"
    assert ever
    torch.compiler.reset()


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


PEAK = timing.Peak(bandwidth=3e12, lanes=33e12, tensor=800e12, l2=50 * 10**6)


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_rows_are_written(tmp_path):
    path = tmp_path / "out.csv"
    one = run.make_row(CASES[0], "ours", PEAK, times=[20.0, 20.0, 40.0], mode="graph", memory=5, verified="torch")
    timing.add([one, run.make_row(CASES[0], "KeOps", PEAK, error="No module named 'pykeops'")], path)
    read = rows_of(path)
    assert [row["provider"] for row in read] == ["ours", "KeOps"]
    assert float(read[0]["percent_of_floor"]) == pytest.approx(5 * float(read[0]["floor_us"]))
    assert (read[0]["repeats"], read[0]["verified"], read[1]["verified"]) == ("3", "torch", "no")
    assert read[1]["median_us"] == "nan"
    assert "pykeops" in read[1]["error"]
    asked = {"kernel", "provider", "shapes", "dtype", "median_us", "p20_us", "p80_us", "bytes", "flops", "floor_us",
             "percent_of_floor", "peak_memory", "versions", "gpu", "clocks"}  # fmt: skip
    assert asked <= set(read[0])


def test_a_later_row_takes_the_place_of_an_earlier_one(tmp_path):
    path, other = tmp_path / "gpu_x.csv", tmp_path / "elsewhere" / "gpu_x.csv"
    other.parent.mkdir()
    timing.add([run.make_row(case, "ours", PEAK, error="no") for case in CASES[:2]], path)
    timing.add(
        [run.make_row(CASES[1], "ours", PEAK, times=[1.0]), run.make_row(CASES[1], "torch", PEAK, times=[2.0])], other
    )
    run.main(["--merge", str(path), str(other), "--out", str(tmp_path / "all")])  # needs no GPU
    read = rows_of(tmp_path / "all" / "gpu_x.csv")
    assert [(row["kernel"], row["provider"], row["error"]) for row in read] == [
        (CASES[0].kernel, "ours", "no"), (CASES[1].kernel, "ours", ""), (CASES[1].kernel, "torch", "")]  # fmt: skip
    assert not list(tmp_path.glob("**/*.part"))


def test_repeats_are_bounded_by_time(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def call(seconds):
        calls.append(seconds)
        now[0] += seconds

    for seconds, many in ((1e-4, 100), (0.05, 30), (10.0, 5)):
        calls.clear()
        assert len(timing.wall(call, [seconds, seconds], lambda: None)) == many
        assert len(calls) <= many + 2 + timing.WARM_UP
    assert timing.warmed(call, [1.0], lambda: None) == 5


def test_clocks(monkeypatch, tmp_path):
    assert timing.clocks() == "" or torch.cuda.is_available()
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '1980, 3201, 41, 350.10'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="1-2"))
    assert timing.clocks() == "1980 MHz, memory 3201 MHz, 41 C, 350.10 W"


@pytest.fixture
def stopwatch(monkeypatch):
    """What a GPU would do of the timing, done by the host's clock; nothing is written that looks like a measurement."""
    device = {"synchronize": None, "empty_cache": None, "reset_peak_memory_stats": None, "memory_allocated": 0,
              "max_memory_allocated": 5, "get_device_name": "Stop Watch"}  # fmt: skip
    for name, value in device.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(run.dispatch, "unavailable", lambda: None)
    watch = types.SimpleNamespace(dump_traceback_later=lambda *_, **__: None, cancel_dump_traceback_later=lambda: None)
    monkeypatch.setattr(run, "faulthandler", watch)  # it is also that of the tests
    monkeypatch.setattr(run, "measure_peak", lambda device: timing.Peak(1e9, 1e9, 1e9, 1000))
    monkeypatch.setattr(run, "graphed", lambda call, sets: call)
    monkeypatch.setattr(run, "events", lambda call, sets: timing.wall(call, sets, lambda: None))
    monkeypatch.setattr(timing, "WARM_UP", 1)
    monkeypatch.setattr(timing, "REPEATS", 3)
    monkeypatch.setattr(timing, "FEWEST", 3)
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


def everything(*parts):
    return {
        (case.kernel, case.shapes, name) for case in CASES for part in parts or run.PARTS for name in case.names(part)
    }


def keys(rows):
    return {(row["kernel"], row["shapes"], row["provider"]) for row in rows}


def test_three_commands(stopwatch, monkeypatch, tmp_path, capsys):
    """From the command line to the file: every case and provider has its row, and every row what the page reads of it."""
    monkeypatch.setattr(run, "verify", lambda out, end: print("verified") or True)
    out = tmp_path / "new" / "folder"
    run.main(["--verify", "--out", str(out), "--minutes", "9"], "cpu", cases.TINY)
    assert not list(out.iterdir())
    run.main(["--only", "ours", "--out", str(out)], "cpu", cases.TINY)
    (path,) = out.glob("gpu_stop-watch_*.csv")
    assert keys(rows_of(path)) == everything("ours")
    run.main(["--only", "peers", "--out", str(out), "--minutes", "9"], "cpu", cases.TINY)
    rows = rows_of(path)
    assert len(rows) == len(everything())
    assert keys(rows) == everything()
    missing = {name for case in CASES for name in case.missing}
    references = {case.reference for case in CASES}
    for row in rows:
        assert (row["error"] != "") == (row["provider"] in missing), row
        assert row["error"] or float(row["p20_us"]) <= float(row["median_us"]) <= float(row["p80_us"])
        assert row["error"] or row["verified"] in references | {"itself"}
        assert row["gpu"] == "none"
    page = table_of_the_page(path, tmp_path, monkeypatch)
    assert page.count("\n| ") == len(rows) + 1  # a row each, also of those that could not run, and the heading
    assert "No run on a GPU is committed" not in page
    said = capsys.readouterr().out
    assert said.count("verified") == 1
    assert said.count(f"wrote {path}") == 2


def test_only_some_cases(stopwatch, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "verify", lambda out, end: pytest.fail("this is not verified again"))
    run.main(["--only", "cv_triangular", "moments", "ours", "--out", str(tmp_path)], "cpu", cases.TINY)
    (path,) = tmp_path.glob("*.csv")
    wanted = {made for made in everything("ours") if "cv_triangular" in made[0] or "moments" in made[0]}
    assert keys(rows_of(path)) == wanted


def failing(*unused):
    raise MemoryError("out of it\nand more")


def test_failures_are_rows(stopwatch, monkeypatch, tmp_path):
    """Ours, the inputs, the reference, wrong numbers, the suite: everything else is timed, and the command ends badly."""
    monkeypatch.setattr(run, "verify", lambda out, end: False)
    first, second, third, fourth, fifth = cases.cases(torch.device("cpu"), cases.TINY)[:5]
    wrong = {**third.providers, "ours": lambda held: third.providers["torch"](held) + 1.0}
    cut = [
        dataclasses.replace(first, providers={**first.providers, "ours": failing}),
        dataclasses.replace(second, make=failing),
        dataclasses.replace(third, providers=wrong),
        dataclasses.replace(fourth, providers={**fourth.providers, "torch": failing}),
        fifth,
    ]
    monkeypatch.setattr(run, "cases", lambda device, sizes: cut)
    with pytest.raises(SystemExit, match=r"^failed: the kernels' suite, ragged_moments_triangular_full ours, ragged"):
        run.main(["--out", str(tmp_path)], "cpu", cases.TINY)
    (path,) = tmp_path.glob("*.csv")
    rows = {(row["kernel"], row["provider"]): row for row in rows_of(path)}
    assert len(rows) == sum(len(case.providers) + len(case.missing) for case in cut)
    assert rows[first.kernel, "ours"]["error"] == "MemoryError: out of it"
    assert {rows[second.kernel, name]["error"] for name in second.providers} == {"its inputs: MemoryError: out of it"}
    assert rows[third.kernel, "ours"]["error"].startswith("ArithmeticError: differs from torch by")
    assert rows[third.kernel, "ours"]["median_us"] == "nan"
    unverified = rows[fourth.kernel, "ours"]
    assert (unverified["error"], unverified["verified"]) == ("", "no")
    assert float(unverified["median_us"]) > 0
    assert all(not rows[fifth.kernel, name]["error"] for name in fifth.providers)
    assert "unverified" in table_of_the_page(path, tmp_path, monkeypatch)


def test_a_device_that_stops_working(stopwatch, monkeypatch, tmp_path):
    """An invalid access ends the process's use of the device: another process goes on behind the row that failed."""
    broken = dataclasses.replace(CASES[0], providers={**CASES[0].providers, "ours": failing})
    monkeypatch.setattr(run, "cases", lambda device, sizes: [broken, CASES[1]])
    monkeypatch.setattr(run, "usable", lambda device: False)

    def replaced(program, command):
        raise InterruptedError(command)

    monkeypatch.setattr(run.os, "execv", replaced)
    monkeypatch.setattr(run.os, "chdir", lambda folder: None)
    with pytest.raises(InterruptedError) as seen:
        run.main(["--only", "ours", "moments", "--out", str(tmp_path), "--minutes", "9"], "cpu", cases.TINY)
    command = seen.value.args[0]
    assert command[:3] == [sys.executable, "-m", "benchmarks.gpu"]
    assert 8.0 < float(command[-1]) <= 9.0
    monkeypatch.setattr(run, "usable", lambda device: True)
    run.main(command[3:], "cpu", cases.TINY)
    (path,) = tmp_path.glob("*.csv")
    assert [(row["kernel"], row["error"] != "") for row in rows_of(path)] == [
        (CASES[0].kernel, True), (CASES[1].kernel, False)]  # fmt: skip


def test_no_time_is_left(stopwatch, monkeypatch, tmp_path):
    """What was not reached has no row, and another command goes on from there."""
    monkeypatch.setattr(run, "cases", lambda device, sizes: CASES[:2])
    with pytest.raises(SystemExit, match="no time was left after ragged_moments_triangular_full, ours"):
        run.main(["--only", "ours", "--out", str(tmp_path), "--minutes", "0"], "cpu", cases.TINY)
    assert not list(tmp_path.glob("*.csv"))
    run.main(["--only", "ours", "--out", str(tmp_path)], "cpu", cases.TINY)
    (path,) = tmp_path.glob("*.csv")
    kept = path.read_text()
    run.main(["--only", "ours", "--out", str(tmp_path), "--resume"], "cpu", cases.TINY)
    assert path.read_text() == kept


SUITES = {
    "passes": ("def test_one():\n    print('one')", "passed"),
    "fails": ("def test_one():\n    assert 0", "failed with 1"),
    "hangs": ("import time\ndef test_zero():\n    pass\ndef test_one():\n    time.sleep(60)", "cut, no time was left"),
}


@pytest.mark.parametrize("kind", SUITES)
def test_verification_leaves_what_it_has(kind, monkeypatch, tmp_path, capsys):
    text, said = SUITES[kind]
    (tmp_path / "test_small.py").write_text(text)
    monkeypatch.setattr(run, "SUITE", [str(tmp_path / "test_small.py")])
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run.shutil, "which", lambda name: None)
    end = run.time.monotonic() + 8 if kind == "hangs" else run.math.inf
    assert run.verify(tmp_path, end) == (kind == "passes")
    assert f"the kernels' suite: {said}" in capsys.readouterr().out
    log = (tmp_path / "verify.txt").read_text()
    assert "PASSED" in log if kind != "fails" else "FAILED" in log


ENDS = [
    ("", "", True),
    ("", "cut, no time was left", True),
    ("failed with 1: x", "", False),
    ("", "failed with 9: x", False),
]


@pytest.mark.parametrize(("first", "second", "good"), ENDS)
def test_what_verification_runs(first, second, good, monkeypatch, tmp_path):
    """On several processes where that is possible, in the time that is left; then memory accesses are watched."""
    ran = []

    def pretended(command, environment, log, end):
        log.write_text("")
        ran.append((command, environment, log.name, end))
        return (first, second)[len(ran) - 1]

    monkeypatch.setattr(run, "run", pretended)
    monkeypatch.setattr(run.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: name == "xdist")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert run.verify(tmp_path, 7.0) == good
    (suite, environment, log, end), (watched, _, other, _) = ran
    assert suite[:3] == [sys.executable, "-m", "pytest"]
    assert suite[suite.index("-n") + 1] == "8"
    assert "TRITON_INTERPRET" not in environment
    assert (log, other, end) == ("verify.txt", "sanitizer.txt", 7.0)
    assert watched[0] == "/bin/compute-sanitizer"
    assert "-n" not in watched


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
    assert names
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
        "for case in cases.cases(torch.device('cpu'), cases.TINY):\n"
        "    case.providers['ours' if 'ours' in case.providers else 'ours bf16'](case.make(0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


# ---------------------------------------------------------------- the prediction
NAMES = ("moments triangular H16 float32", "prequential triangular float32", "flash-plain gaussian bf16x3")


@pytest.fixture(scope="module")
def predict():
    pytest.importorskip("triton")
    from benchmarks.gpu import predict

    return predict


def test_counts_of_machine_code(predict):
    """A loop within a loop, code on the way, and what lies behind the end."""
    code = [(0x00, "MOV R1, R2"), (0x10, "LDGSTS.E.BYPASS.128 [R1], desc[UR1][R2.64]"), (0x20, "@!P1 MUFU.EX2 R1, R2"),
            (0x30, "HGMMA.64x128x16.F32.BF16 R1, R2, gdesc[UR1], R1"), (0x40, "LDGSTS.E.BYPASS.128 [R1], desc[UR1][R2.64]"),
            (0x50, "@P0 BRA 0x30"), (0x60, "DADD R2, R2, R4"), (0x70, "@!P0 BRA 0x20"), (0x80, "EXIT")]  # fmt: skip
    assert predict.aot.loops_of(code) == [(0x20, 0x70), (0x30, 0x50)]
    found = predict.counted(code, lambda depth, count: [{1: 3, 2: 12}[depth]], "this")
    assert found == predict.Count(3 + 3 * 3 + 3 * 12, 3, 3, 12 * 512, 12 * 2 * 64 * 128 * 16 / 4)
    with pytest.raises(ValueError, match="this: 1 loops at depth 2, but 2 are known"):
        predict.counted(code, lambda depth, count: [1.0] * depth, "this")


@pytest.mark.parametrize("name", NAMES)
def test_bounds_stay_within_the_page(name, predict):
    """Counted again, from what the code is now: at most a tenth above what is committed."""
    configuration = next(each for each in predict.aot.configurations() if each.name == name)
    committed = {(row["case"], row["gpu"]): row for row in json.loads((RESULTS / "gpu_predicted.json").read_text())}
    for row in predict.bounds(configuration):
        assert row.bound_us <= 1.1 * committed[row.case, row.gpu]["bound_us"], "benchmarks/gpu/predict.py --write"
        assert row.bound_us >= 0.9 * row.floor_us
        assert row.spills == 0


def test_every_configuration_is_predicted(predict):
    rows = json.loads((RESULTS / "gpu_predicted.json").read_text())
    names = {case for each in predict.aot.configurations() for case, _ in predict.sizes(each)}
    assert {row["case"] for row in rows} == names | {"plain call", "pooled call", "pooled call of 2 steps"}
    assert all({"case", "gpu", "bound_us", "floor_us", "target_us", "registers", "spills"} <= set(row) for row in rows)
    assert {row["gpu"] for row in rows} == {"H100", "H200"}
    page = (RESULTS / "gpu_predicted.md").read_text()
    assert page == predict.page([predict.Bound(**row) for row in rows])
    assert all(line.endswith("|  |  |") for line in page.splitlines()[2:])  # nothing was measured


def test_launches_of_a_call(predict):
    """As the page says; the fused kernels are among them."""
    rows = json.loads((RESULTS / "gpu_predicted.json").read_text())
    committed = {row["case"]: row["launches"] for row in rows if row["launches"]}
    assert committed == {row.case: row.launches for row in predict.calls()}
    page = (ROOT / "docs" / "kernels.md").read_text()
    plain, pooled, two = (committed[case] for case in ("plain call", "pooled call", "pooled call of 2 steps"))
    assert f"A plain call launches {plain} times" in page
    assert f"{pooled:,} times" in page
    assert f"{two - pooled} more for each further step" in page
    launches = predict.of_a_call(predict.KernelValueEstimator.kae)
    kernels = {name for name in launches if name.endswith("_kernel")}
    assert {"ragged_kernel", "rows_kernel", "arrange_kernel", "merge_kernel", "put_kernel", "totals_kernel"} <= kernels
    assert f"{sum(launches[name] for name in kernels)} of these are the fused" in page.replace("\n", " ")


@pytest.mark.parametrize("precision", ["bf16x3", "bf16"])
def test_tiles_by_descriptors_are_counted(precision, predict):
    """Those of an H100, in bfloat16, once or as two parts; every tile of the points for every tile of the queries."""
    configuration = next(
        each for each in predict.aot.configurations() if each.name == f"flash-plain gaussian {precision}"
    )
    size = dict(predict.sizes(configuration))[f"flash-plain gaussian {precision} D256"]
    bq, bn, bd, *_ = predict.aot.triton_flash.tile(precision, timed=False, descriptors=True)
    assert size.programs == -(-8192 // bq)
    parts = 2 if precision == "bf16x3" else 1
    assert size.copied == -(-100_000 // bn) * (256 // bd) * (bq + bn) * bd * 2 * parts


def test_prediction_from_the_command_line():
    """As a script, from anywhere."""
    script = ROOT / "benchmarks" / "gpu" / "predict.py"
    done = subprocess.run(
        [sys.executable, str(script), "--json", "--only", "enter"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert [(row["case"], row["gpu"], row["spills"]) for row in json.loads(done.stdout)] == [
        ("enter", "H100", 0), ("enter", "H200", 0)]  # fmt: skip


def test_names_of_files():
    assert run.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
