"""Times on a device, and the row that is written of each."""

from __future__ import annotations

import csv
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

#: Calls of a measurement, and the seconds that they may take together; few are made however long they take.
WARM_UP, REPEATS, FEWEST = 10, 100, 5
SECONDS = 1.5


@dataclass(frozen=True)
class Row:
    """One provider on one case; times in microseconds, memory in bytes.

    Attributes
    ----------
    verified : str
        The provider whose numbers it gave, within the case's tolerance; "no" where there was none to compare with.
    clocks : str
        Of the device, right after the measurement.
    """

    kernel: str
    provider: str
    shapes: str
    dtype: str
    median_us: float
    p20_us: float
    p80_us: float
    repeats: int
    bytes: int
    flops: int
    floor_us: float
    percent_of_floor: float
    peak_memory: int | None
    mode: str
    verified: str
    error: str
    clocks: str
    versions: str
    gpu: str
    date: str


@dataclass(frozen=True)
class Peak:
    """What the device can do, measured in the same run where that is possible.

    Attributes
    ----------
    bandwidth : float
        Bytes a second, read and written, of a copy.
    lanes : float
        float32 operations a second, a fused multiply-add counting as one: lanes x clock.
    tensor : float
        bfloat16 floating-point operations a second of an 8192^3 product, a fused multiply-add counting as two.
    l2 : int
        Bytes of the second-level cache.
    """

    bandwidth: float
    lanes: float
    tensor: float
    l2: int

    def floor_us(self, bytes_: int, operations: int = 0, products: int = 0) -> float:
        """Least time in microseconds: the slowest of memory, lanes and tensor cores, as if each ran alone."""
        return 1e6 * max(bytes_ / self.bandwidth, operations / self.lanes, products / self.tensor)


def measure_peak(device: torch.device) -> Peak:
    """Measure a device."""
    properties = torch.cuda.get_device_properties(device)
    buffers = torch.empty((2, 2**29), dtype=torch.float32, device=device)
    copy = median(events(lambda pair: pair[0].copy_(pair[1]), [buffers]))
    square = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    product = median(events(lambda a: a @ a, [square]))
    clock = 1e3 * getattr(properties, "clock_rate", 1_755_000)  # kHz; an H100's boost where torch does not tell
    lanes = properties.multi_processor_count * 128 * clock
    return Peak(buffers.nbytes / copy * 1e6, lanes, 2 * 8192**3 / product * 1e6, properties.L2_cache_size)


def rotations(bytes_: int, l2: int) -> int:
    """Sets of inputs to rotate through, so that together they are four times the second-level cache."""
    return max(4, min(64, -(-4 * l2 // max(bytes_, 1))))


def warmed(call: Callable[[Any], Any], sets: Sequence[Any], wait: Callable[[], None]) -> int:
    """Warm up; the number of calls that may be measured in `SECONDS`."""
    call(sets[0])
    wait()
    begin = time.perf_counter()
    call(sets[-1])
    wait()
    once = time.perf_counter() - begin
    many = int(SECONDS / max(once, 1e-9))
    for k in range(min(WARM_UP, many // 4)):
        call(sets[k % len(sets)])
    wait()
    return min(max(many, FEWEST), REPEATS)


def events(call: Callable[[Any], Any], sets: Sequence[Any]) -> list[float]:
    """Times between two events on the device around each call, in microseconds."""
    repeats = warmed(call, sets, torch.cuda.synchronize)
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for k, (begin, end) in enumerate(marks):
        begin.record()
        call(sets[k % len(sets)])
        end.record()
    torch.cuda.synchronize()
    return [1e3 * begin.elapsed_time(end) for begin, end in marks]


def graphed(call: Callable[[Any], Any], sets: Sequence[Any]) -> Callable[[Any], Any]:
    """The call as captured graphs, one a set of inputs: without the host's time of launching."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call(sets[0])
    torch.cuda.current_stream().wait_stream(side)
    graphs = {}
    pool = torch.cuda.graph_pool_handle()  # one after the other, they may share their memory
    for one in sets:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            call(one)
        graphs[id(one)] = graph
    return lambda one: graphs[id(one)].replay()


def wall(call: Callable[[Any], Any], sets: Sequence[Any], wait: Callable[[], None]) -> list[float]:
    """Times of the host until everything is done, in microseconds."""
    out = []
    for k in range(warmed(call, sets, wait)):
        begin = time.perf_counter()
        call(sets[k % len(sets)])
        wait()
        out.append(1e6 * (time.perf_counter() - begin))
    return out


def quantile(times: Sequence[float], q: float) -> float:
    """Quantile of measured times."""
    ordered = sorted(times)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


def median(times: Sequence[float]) -> float:
    """Median of measured times."""
    return quantile(times, 0.5)


def clocks() -> str:
    """Clocks, temperature and power of the first device as nvidia-smi tells them; empty where it does not."""
    try:
        device = f"--id=GPU-{torch.cuda.get_device_properties(0).uuid}"
        asked = "--query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw"
        command = ["nvidia-smi", device, asked, "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        core, memory, degrees, watts = (part.strip() for part in done.stdout.split(","))
    except (OSError, subprocess.SubprocessError, AttributeError, AssertionError, RuntimeError, ValueError):
        return ""  # not installed, a part of a device, or no device at all
    return f"{core} MHz, memory {memory} MHz, {degrees} C, {watts} W"


Key = tuple[str, str, str]


def key(row: dict[str, Any]) -> Key:
    """What a row is about: a later row about the same takes its place."""
    return row["kernel"], row["provider"], row["shapes"]


def read(path: Path) -> dict[Key, dict[str, Any]]:
    """The rows of a file, none where there is no file."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {key(row): row for row in csv.DictReader(file)}


def add(rows: Sequence[Row] | Sequence[dict[str, Any]], path: Path) -> None:
    """Add rows to a file of one column a field; what ends the run on the way leaves the file as it was."""
    held = read(path)
    for row in rows:
        made = asdict(row) if isinstance(row, Row) else row
        held[key(made)] = made
    fresh = path.with_suffix(".part")
    with fresh.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(held.values())
    fresh.replace(path)
