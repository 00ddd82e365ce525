"""Verify every fused kernel on this machine's GPU, then time it beside its peers.

Command: ``python -m benchmarks.gpu`` (or ``make gpu``).  First the suite of the kernels must pass on the device, for
all types and sizes, and once more under compute-sanitizer on a small part where that is installed; then every case is
timed, each provider after its numbers were compared, with inputs rotating through more than the second-level cache.  The
rows go to ``benchmarks/results/gpu_<name>_<date>.csv``.  Needs numpy, scipy, torch, Triton, numba, scikit-learn,
statsmodels and pytest; peers are used where they are found.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import RESULTS
from benchmarks.gpu.cases import TARGET, Case, Sizes, cases
from benchmarks.gpu.providers import largest_error
from benchmarks.gpu.timing import Peak, Row, events, graphed, measure_peak, median, quantile, rotations, wall, write
from kernadv.moments import triton_

ROOT = Path(__file__).resolve().parents[2]
SUITE = sorted(map(str, (ROOT / "tests" / "kernels").glob("suite_*.py")))
#: Peers whose version is recorded.
PACKAGES = ("torch", "triton", "numpy", "jax", "pykeops", "faiss", "cuml")


def main(
    arguments: list[str] | None = None, device: str = "cuda", sizes: Sizes = TARGET, results: Path = RESULTS
) -> None:
    """Command line; a test may run it elsewhere, with other sizes."""
    parser = argparse.ArgumentParser(description="Verify and time the fused kernels on this machine's GPU.")
    parser.add_argument("--only", help="cases whose name holds this text; writes nothing")
    parser.add_argument("--verify", action="store_true", help="verify only")
    chosen = parser.parse_args(arguments)
    reason = triton_.unavailable()
    if reason is not None:
        sys.exit(f"the kernels cannot be verified or timed here: {reason}")
    verify()
    if chosen.verify:
        return
    peak = measure_peak(torch.device(device))
    name = torch.cuda.get_device_name()
    print(f"{name}: copy {peak.bandwidth / 1e12:.2f} TB/s, float32 {peak.lanes / 1e12:.1f} T lanes/s, "
          f"bfloat16 {peak.tensor / 1e12:.0f} TFLOP/s, L2 {peak.l2 / 1e6:.0f} MB", flush=True)  # fmt: skip
    rows: list[Row] = []
    path = results / f"gpu_{slug(name)}_{datetime.date.today()}.csv"
    results.mkdir(exist_ok=True)
    for case in cases(torch.device(device), sizes):
        if not chosen.only or chosen.only in case.kernel:
            rows += time_case(case, peak)
            torch.cuda.empty_cache()
            if not chosen.only:
                write(rows, path)  # after every case: what ends the run does not take the rows with it
    if not chosen.only:
        print(f"wrote {path}")


def suite_command() -> list[str]:
    """Command that runs the suite on the device."""
    options = ["-q", "-W", "default", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    return [sys.executable, "-m", "pytest", *options, *SUITE]


def verify() -> None:
    """Run the suite on the device; under compute-sanitizer, a small part of it."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    suite = suite_command()
    if subprocess.run(suite, cwd=ROOT, env=environment).returncode:
        sys.exit("the kernels are not correct on this device: no time is worth printing")
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        print("compute-sanitizer is not installed: memory accesses were not watched")
        return
    small = ["-k", "test_group_sizes or test_flash_shapes or test_weights or test_number_of_bandwidths"]
    command = [sanitizer, "--tool", "memcheck", "--error-exitcode", "9", "--target-processes", "all", *suite, *small]
    environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"  # every tensor has bounds of its own
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if "Device not supported" in done.stdout + done.stderr:
        print("compute-sanitizer does not support this device here: memory accesses were not watched")
    elif done.returncode:
        sys.exit(f"compute-sanitizer found errors:\n{done.stdout[-4000:]}")
    else:
        print("compute-sanitizer: no invalid memory access")


def time_case(case: Case, peak: Peak) -> list[Row]:
    """Time every provider whose numbers agree; the others keep a row that says why they have no time."""
    floor = peak.floor_us(case.bytes, case.operations, case.products)
    sets = [case.make(seed) for seed in range(2 if case.eager else rotations(case.bytes, peak.l2))]
    names = list(case.providers)
    expected = None
    rows = [make_row(case, name, floor, [], "", None, why) for name, why in case.missing.items()]
    for name in names:
        call = case.providers[name]
        try:
            got = call(sets[0])
            expected = got if expected is None else expected
            error = largest_error(got, expected)
            if not error <= case.tolerance:
                raise ArithmeticError(f"differs from {names[0]} by {error:.1e}")
            times, mode, memory = measure(call, sets, eager=case.eager, outside="jax" in name)
            rows.append(make_row(case, name, floor, times, mode, memory, ""))
        except Exception as problem:  # a peer that fails is a row of the table, not the end of the run
            if name == names[0]:
                raise
            rows.append(
                make_row(case, name, floor, [], "", None, f"{type(problem).__name__}: {problem}".splitlines()[0])
            )
        print(describe(rows[-1]), flush=True)
    return rows


def measure(
    call: Callable[[Any], Any], sets: list[Any], *, eager: bool, outside: bool
) -> tuple[list[float], str, int | None]:
    """Times, how they were taken, and the most memory beyond the inputs."""
    if outside:
        return wall(call, sets, lambda: None), "host", None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call(sets[0])
    torch.cuda.synchronize()
    memory = torch.cuda.max_memory_allocated() - before
    if eager:
        return wall(call, sets, torch.cuda.synchronize), "host", memory
    try:
        captured = graphed(call, sets)
    except RuntimeError:
        torch.cuda.synchronize()
        return events(call, sets), "events", memory
    return events(captured, sets), "graph", memory


def make_row(
    case: Case, provider: str, floor: float, times: list[float], mode: str, memory: int | None, error: str
) -> Row:
    """The row of a provider."""
    middle = median(times) if times else float("nan")
    return Row(
        kernel=case.kernel,
        provider=provider,
        shapes=case.shapes,
        dtype=case.dtype,
        median_us=middle,
        p20_us=quantile(times, 0.2) if times else float("nan"),
        p80_us=quantile(times, 0.8) if times else float("nan"),
        bytes=case.bytes,
        flops=2 * case.operations + case.products,
        floor_us=floor,
        percent_of_floor=100.0 * floor / middle,
        peak_memory=memory,
        mode=mode,
        error=error,
        versions=versions(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        date=str(datetime.date.today()),
    )


def describe(row: Row) -> str:
    """A row as a line of text."""
    result = row.error or f"{row.median_us:10.1f} us, {row.percent_of_floor:5.1f} % of the floor, {row.mode}"
    return f"{row.kernel:32s} {row.shapes:30s} {row.provider:24s} {result}"


def versions() -> str:
    """Versions of what took part."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "; ".join(found)


def slug(name: str) -> str:
    """A device's name for a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
