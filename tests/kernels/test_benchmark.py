"""The benchmark of the GPU, as far as a machine without one can run it."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
GPU = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
if not GPU.exists():
    pytest.skip("the benchmarks are not beside these tests", allow_module_level=True)
import cases  # noqa: E402
import providers  # noqa: E402
import run  # noqa: E402
import timing  # noqa: E402

#: Numerics that hold on a device only: the others are the same in their own arithmetic.
ROUGH = {"SDPA bfloat16": 2e-2}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_refuses_without_a_gpu():
    done = subprocess.run([sys.executable, str(GPU / "run.py")], capture_output=True, text=True)
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


def test_names_of_files():
    assert run.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
