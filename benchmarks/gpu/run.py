"""Verify every fused kernel on this machine's GPU, then time it beside its peers.

Command: ``python -m benchmarks.gpu`` (or ``make gpu``), or three that take less than ten minutes each::

    python -m benchmarks.gpu --verify --out DIR --minutes 9
    python -m benchmarks.gpu --only ours --out DIR --minutes 9
    python -m benchmarks.gpu --only peers --out DIR --minutes 9

The first runs the suite of the kernels on the device, for all types and sizes, and a small part once more under
compute-sanitizer where that is installed.  The others time every case, each provider after its numbers were compared,
with inputs rotating through more than the second-level cache.  All write as they go: ``verify.txt``, and rows by kernel,
provider and shape in ``gpu_<name>_<date>.csv``, where a later row takes the place of an earlier one.  A failure is a row.
``--merge`` brings files of several folders together and needs no GPU.  Needs numpy, scipy, torch, Triton, numba,
scikit-learn, statsmodels, hypothesis and pytest; peers, and pytest-xdist, are used where they are found.
"""

from __future__ import annotations

import argparse
import datetime
import faulthandler
import importlib.metadata
import importlib.util
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import RESULTS
from benchmarks.gpu.cases import TARGET, Case, Sizes, cases
from benchmarks.gpu.providers import largest_error
from benchmarks.gpu.timing import (
    Peak,
    Row,
    add,
    clocks,
    events,
    graphed,
    measure_peak,
    median,
    quantile,
    read,
    rotations,
    wall,
)
from kernadv.moments import dispatch

ROOT = Path(__file__).resolve().parents[2]
SUITE = sorted(map(str, (ROOT / "tests" / "kernels").glob("suite_*.py")))
#: Peers whose version is recorded.
PACKAGES = ("torch", "triton", "numpy", "jax", "pykeops", "faiss", "cuml")
#: The most valuable first.
PARTS = ("ours", "peers")
#: What is named in a message of a command that ends badly.
MOST_NAMED = 8


def main(arguments: list[str] | None = None, device: str = "cuda", sizes: Sizes = TARGET) -> None:
    """Command line; a test may run it elsewhere, with other sizes."""
    parser = argparse.ArgumentParser(description="Verify and time the fused kernels on this machine's GPU.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of what is written")
    parser.add_argument("--verify", action="store_true", help="verify only")
    parser.add_argument("--skip-verify", action="store_true", help="time only")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="time only ours, peers, or cases whose name holds this text",
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after that; end soon after")
    parser.add_argument("--resume", action="store_true", help="leave out what today's file holds already")
    parser.add_argument(
        "--merge", nargs="+", type=Path, metavar="FILE", help="add the rows of these files; time nothing"
    )
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.merge:
        for file in chosen.merge:
            add(list(read(file).values()), chosen.out / file.name)
        return
    reason = dispatch.unavailable()
    if reason is not None:
        sys.exit(f"the kernels cannot be verified or timed here: {reason}")
    end = time.monotonic() + 60 * chosen.minutes
    if chosen.minutes < math.inf:  # also where a compiler or a device hangs: what is written stays
        faulthandler.dump_traceback_later(60 * chosen.minutes + 30, exit=True, file=2)
    try:
        failed = [] if chosen.only or chosen.skip_verify or verify(chosen.out, end) else ["the kernels' suite"]
        if not chosen.verify:
            failed += time_cases(chosen, torch.device(device), sizes, end)
    finally:
        faulthandler.cancel_dump_traceback_later()
    if failed:
        more = f" and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
        sys.exit(f"failed: {', '.join(failed[:MOST_NAMED])}{more}")


# ---------------------------------------------------------------- verifying
def suite_command() -> list[str]:
    """Command that runs the suite on the device."""
    options = ["-v", "-W", "default", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    return [sys.executable, "-m", "pytest", *options, *SUITE]


def verify(out: Path, end: float = math.inf) -> bool:
    """Run the suite on the device; under compute-sanitizer, a small part of it.  Whether nothing failed."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }
    suite = suite_command()
    several = ["-n", "8"] if importlib.util.find_spec("xdist") else []  # compiling takes most of the time
    said = run([*suite, *several, f"--junitxml={out / 'verify.xml'}"], environment, out / "verify.txt", end)
    print(f"the kernels' suite: {said or 'passed'}; see {out / 'verify.txt'}", flush=True)
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        print("compute-sanitizer is not installed: memory accesses were not watched")
        return not said
    small = ["-k", "test_group_sizes or test_flash_shapes or test_weights or test_number_of_bandwidths"]
    command = [sanitizer, "--tool", "memcheck", "--error-exitcode", "9", "--target-processes", "all", *suite, *small]
    environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"  # every tensor has bounds of its own
    watched = run(command, environment, out / "sanitizer.txt", end)
    if watched and "Device not supported" in (out / "sanitizer.txt").read_text():
        watched = "does not support this device: memory accesses were not watched"
    print(f"compute-sanitizer: {watched or 'no invalid memory access'}", flush=True)
    return not said and not watched.startswith("failed")


def run(command: list[str], environment: dict[str, str], log: Path, end: float) -> str:
    """Run a command, its output into a file as it comes; empty if it went well, else how it ended."""
    left = None if end == math.inf else max(end - time.monotonic(), 1.0)
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(left)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and its workers
            process.wait()
            return "cut, no time was left"
    return f"failed with {code}: {log.read_text().strip()[-1500:]}" if code else ""


# ---------------------------------------------------------------- timing
def time_cases(chosen: argparse.Namespace, device: torch.device, sizes: Sizes, end: float) -> list[str]:
    """Time what was chosen, a row at a time into the file; our providers that failed, and whether time was short."""
    peak = measure_peak(device)
    name = torch.cuda.get_device_name()
    print(f"{name}: copy {peak.bandwidth / 1e12:.2f} TB/s, float32 {peak.lanes / 1e12:.1f} T lanes/s, "
          f"bfloat16 {peak.tensor / 1e12:.0f} TFLOP/s, L2 {peak.l2 / 1e6:.0f} MB; {clocks()}", flush=True)  # fmt: skip
    path = chosen.out / f"gpu_{slug(name)}_{datetime.date.today()}.csv"
    done = set(read(path)) if chosen.resume else set()
    texts = [text for text in chosen.only if text not in PARTS]
    failed = []
    for part in [part for part in PARTS if part in chosen.only] or PARTS:
        for case in cases(device, sizes):
            if texts and not any(text in case.kernel for text in texts):
                continue
            names = [name for name in case.names(part) if (case.kernel, name, case.shapes) not in done]
            for row in time_case(case, names, peak, end):
                add([row], path)
                print(describe(row), flush=True)
                if row.error and part == "ours":
                    failed.append(f"{row.kernel} {row.provider}")
                if row.error and row.provider not in case.missing and not usable(device):
                    again(chosen, end)
            if time.monotonic() > end:
                return [*failed, f"no time was left after {case.kernel}, {part}: go on with --resume"]
            torch.cuda.empty_cache()
    print(f"wrote {path}")
    return failed


def usable(device: torch.device) -> bool:
    """Whether the device still works in this process; an invalid access ends that."""
    try:
        torch.cuda.synchronize()
        return bool(torch.ones(1, device=device).item())
    except RuntimeError:
        return False


def again(chosen: argparse.Namespace, end: float) -> None:
    """Go on in a fresh process, after what has its row already."""
    print("the device no longer works in this process: going on in another", flush=True)
    options = ["--skip-verify", "--resume", "--out", str(chosen.out)]
    if chosen.only:
        options += ["--only", *chosen.only]
    if end < math.inf:
        options += ["--minutes", str(max(end - time.monotonic(), 0.0) / 60)]
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks.gpu", *options])


def time_case(case: Case, names: list[str], peak: Peak, end: float = math.inf) -> Iterator[Row]:
    """Rows of the providers: a time where the numbers agree with the reference's, else why there is none."""
    for name in names:
        if name in case.missing:
            yield make_row(case, name, peak, error=case.missing[name])
    names = [name for name in names if name not in case.missing]
    if not names:
        return
    try:
        sets = [case.make(seed) for seed in range(2 if case.eager else rotations(case.bytes, peak.l2))]
    except Exception as problem:  # whatever it is, the other cases go on
        for name in names:
            yield make_row(case, name, peak, error=f"its inputs: {told(problem)}")
        return
    try:
        expected = case.providers[case.reference](sets[0])
    except Exception as problem:  # whatever it is, the others are timed, and marked
        print(f"{case.kernel}: nothing to compare with, {case.reference}: {told(problem)}", flush=True)
        expected = None
    for name in names:
        if time.monotonic() > end:
            return
        call = case.providers[name]
        try:
            known = name == case.reference and expected is not None  # an estimator learns: a second call differs
            verified = compared(case, name, expected if known else call(sets[0]), expected)
            times, mode, memory = measure(call, sets, eager=case.eager, outside="jax" in name)
        except Exception as problem:  # a provider that fails is a row of the table, not the end of the run
            yield make_row(case, name, peak, error=told(problem))
            continue
        yield make_row(case, name, peak, times=times, mode=mode, memory=memory, verified=verified)


def compared(case: Case, name: str, got: Any, expected: Any) -> str:
    """What the numbers were compared with; an error where they differ."""
    if expected is None:
        return "no"
    error = largest_error(got, expected, case.rows)
    if not error <= case.tolerance:
        raise ArithmeticError(f"differs from {case.reference} by {error:.1e}")
    return "itself" if name == case.reference else case.reference


def told(problem: Exception) -> str:
    """An error in a line."""
    return next(iter(f"{type(problem).__name__}: {problem}".splitlines()), "")


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
    case: Case,
    provider: str,
    peak: Peak,
    *,
    times: Sequence[float] = (),
    mode: str = "",
    memory: int | None = None,
    verified: str = "no",
    error: str = "",
) -> Row:
    """The row of a provider."""
    middle = median(times) if times else math.nan
    floor = peak.floor_us(case.bytes, case.operations, case.products)
    return Row(
        kernel=case.kernel,
        provider=provider,
        shapes=case.shapes,
        dtype=case.dtype,
        median_us=middle,
        p20_us=quantile(times, 0.2) if times else math.nan,
        p80_us=quantile(times, 0.8) if times else math.nan,
        repeats=len(times),
        bytes=case.bytes,
        flops=2 * case.operations + case.products,
        floor_us=floor,
        percent_of_floor=100.0 * floor / middle,
        peak_memory=memory,
        mode=mode,
        verified=verified,
        error=error,
        clocks=clocks() if times else "",
        versions=versions(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        date=str(datetime.date.today()),
    )


def describe(row: Row) -> str:
    """A row as a line of text."""
    unverified = ", unverified" if row.verified == "no" else ""
    result = (
        row.error or f"{row.median_us:10.1f} us, {row.percent_of_floor:5.1f} % of the floor, {row.mode}{unverified}"
    )
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
