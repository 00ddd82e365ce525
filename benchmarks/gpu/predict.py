"""The least time of the fused kernels on GPUs that are not here, counted from their machine code.

Command: ``python benchmarks/gpu/predict.py`` (``--json``; ``--write`` renews ``benchmarks/results/gpu_predicted.md`` and
``.json``).  Every shipped configuration is compiled ahead of time, the instructions of a program are counted, each loop as
often as a program of that size runs it, and divided by what a GPU can do at its highest clock.  Nothing runs: a bound knows
no latency, so the time on a device will be longer.  Needs no GPU.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kernels")]

from benchmarks import RESULTS  # noqa: E402
from benchmarks.gpu.cases import COLUMN_OPERATIONS, CV_OPERATIONS, MOMENT_OPERATIONS, TARGET  # noqa: E402
from benchmarks.gpu.timing import Peak  # noqa: E402
from kernadv import KernelValueEstimator  # noqa: E402
from kernadv.clock import Relative  # noqa: E402

aot = importlib.import_module("aot")
of_a_call = importlib.import_module("launches").of_a_call

TARGET_GPU = "sm_90"
#: Both have 132 multiprocessors of four schedulers; at their highest clock, in Hz.
MULTIPROCESSORS, CLOCK = 132, 1.98e9
#: Bytes a second from the second-level cache to the multiprocessors, about.
CACHE = 5.8e12
#: What a launch takes of the device at least, in microseconds.
LAUNCH = 2.0
#: bfloat16 operations a second at the highest clock; a product of 8192^3 reaches less, and the floors take that.
TENSOR = MULTIPROCESSORS * 4096 * CLOCK
GPUS = {
    name: Peak(bandwidth, MULTIPROCESSORS * 128 * CLOCK, 798e12, 50 * 2**20)
    for name, bandwidth in (("H100", 3.0e12), ("H200", 4.3e12))
}
#: float32 operations of a weight where no line is asked for.
LEVEL_OPERATIONS = 7
#: Rows of a call of the estimator.
ROWS = TARGET.prompts * TARGET.group


@dataclass(frozen=True)
class Count:
    """What a warp issues: instructions, those of the special functions and of float64, and what warps copy and multiply."""

    issued: float = 0.0
    special: float = 0.0
    double: float = 0.0
    copied: float = 0.0
    products: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def times(self, factor: float) -> Count:
        """As often as that."""
        return Count(*(factor * part for part in asdict(self).values()))


@dataclass(frozen=True)
class Size:
    """How often a kernel runs what, and the least work: bytes, float32 operations and operations of products.

    Attributes
    ----------
    programs : int
    loops : callable
        (depth, number of loops there) -> how often a program runs each of them.
    copied : float
        Bytes that tensor descriptors bring to a program; the machine code does not show them.
    """

    programs: int
    loops: Callable[[int, int], list[float]]
    floor: tuple[int, int, int]
    target: float | None = None
    share: float | None = None
    copied: float = 0.0


# ---------------------------------------------------------------- the machine code
def one(text: str) -> Count:
    """Of an instruction."""
    name = re.sub(r"^@!?U?P\S+\s+", "", text).split()[0]
    width = re.search(r"LDGSTS\S*\.(64|128)", name)
    copied = 32 * (int(width[1]) // 8 if width else 4) if name.startswith("LDGSTS") else 0
    shape = re.match(r"HGMMA\.(\d+)x(\d+)x(\d+)", name)
    products = 2 * math.prod(map(int, shape.groups())) / 4 if shape else 0.0  # four warps do one together
    double = name.startswith(("DFMA", "DADD", "DMUL", "DSETP", "DMNMX"))
    return Count(1, name.startswith("MUFU"), double, copied, products)


def counted(code: list[tuple[int, str]], often: Callable[[int, int], list[float]], name: str) -> Count:
    """What a warp of a program issues in all."""
    loops = aot.loops_of(code)
    around = {loop: [other for other in loops if other[0] <= loop[0] and loop[1] <= other[1]] for loop in loops}

    def depth(at: int) -> int:
        return sum(first <= at <= last for first, last in loops)

    runs: dict[tuple[int, int], float] = {}
    for level in sorted({len(held) for held in around.values()}):
        there = [loop for loop in loops if len(around[loop]) == level]
        found = often(level, len(there))
        if len(found) != len(there):
            raise ValueError(f"{name}: {len(there)} loops at depth {level}, but {len(found)} are known: see `sizes`")
        runs |= dict(zip(there, found, strict=True))
    copies = max((depth(at) for at, text in code if "LDGSTS" in text), default=0)  # those ahead of a loop save its last
    total = Count()
    for at, text in code:
        inner = [loop for loop in loops if loop[0] <= at <= loop[1]]
        this = one(text)
        if depth(at) < copies:
            this = replace(this, copied=0.0)
        total += this.times(runs[max(inner, key=lambda loop: len(around[loop]))] if inner else 1.0)
    return total


# ---------------------------------------------------------------- how often what runs
def sizes(configuration: Any) -> Iterator[tuple[str, Size]]:
    """The sizes of a configuration's cases, with their names."""
    name, tile = configuration.name, configuration.on.get(TARGET_GPU, configuration).constants
    prompts, visits, real = TARGET.prompts, TARGET.visits, 8 if "float64" in name else 4
    grid = int(found[1]) if (found := re.search(r"H(\d+)", name)) else TARGET.bandwidths
    slower = real // 4  # half of the lanes work in float64
    kind = name.split()[0]
    blocks = -(-grid // tile.get("BH", 1))
    cells = prompts * grid
    read = 4 * real * prompts * visits

    def passes(depth: int, count: int) -> list[float]:
        return [-(-visits // tile["BN"])] * (count if kind.startswith("weights") else 1)

    if kind.startswith("moments"):
        level = kind == "moments-nw"
        work = prompts * visits * grid * (LEVEL_OPERATIONS if level else MOMENT_OPERATIONS) * slower
        aim = (30.0 if level else 58.0) if name.endswith("triangular H16 float32") else None
        yield name, Size(prompts * blocks, passes, (read + (16 + 9 * real) * cells, work, 0), aim)
    elif kind == "prequential":

        def pairs(depth: int, count: int) -> list[float]:
            queries, points = -(-visits // tile["BQ"]), tile["BQ"] / tile["BN"]
            before = points * queries * (queries - 1) / 2
            if depth == 1:
                return [queries]
            return [before + points * queries] if count == 1 else [before, points * queries]  # the diagonal apart

        work = prompts * visits * (visits - 1) // 2 * grid * CV_OPERATIONS * slower
        aim = 5000.0 if real == 4 and name.split()[1] in ("triangular", "exponential") else None
        yield name, Size(prompts * blocks, pairs, (read + 2 * real * cells, work, 0), aim)
    elif kind.startswith("weights"):
        written = real * visits * cells
        yield name, Size(prompts * blocks, passes, (read // 2 + written + 16 * cells, 0, 0))
    elif kind.startswith("local"):
        dimensions = int(name.split()[2][1:])
        sums = 2 if kind == "local-nw" else (dimensions + 1) * (dimensions + 2) // 2 + dimensions + 1

        def columns(depth: int, count: int) -> list[float]:
            return [-(-TARGET.points // tile["BN"]) * (dimensions if depth == 2 else 1)] * count

        weights = TARGET.queries * TARGET.points * grid
        moved = real * (TARGET.queries + TARGET.points) * (dimensions + 1) + 8 * sums * grid * TARGET.queries
        programs = -(-TARGET.queries // tile["BQ"]) * blocks * -(-sums // tile["BK"])
        work = weights * (COLUMN_OPERATIONS * dimensions + sums) * slower
        yield name, Size(programs, columns, (moved, work, 0))
    elif kind.startswith("flash"):
        for width in TARGET.features:

            def tiles(depth: int, count: int, width: int = width) -> list[float]:
                points = -(-TARGET.points // tile["BN"])
                return [points if depth == 1 else points * -(-width // tile["BD"])] * count

            pairs_ = TARGET.queries * TARGET.points * width
            precise = name.split()[-1]
            bytes_ = (2 if precise == "bf16" else 4) * (TARGET.queries + TARGET.points) * width
            least = {"ieee": (bytes_, pairs_, 0), "bf16x3": (bytes_, 0, 6 * pairs_), "bf16": (bytes_, 0, 2 * pairs_)}
            share = 0.7 if name == "flash-plain gaussian bf16x3" and width == 256 else None
            copied = 0.0
            if tile["DESCRIPTORS"]:
                each = 2 * (tile["BQ"] + tile["BN"]) * tile["BD"] * (2 if tile["LOW"] else 1)
                copied = each * tiles(2, 1)[0]
            programs = -(-TARGET.queries // tile["BQ"])
            yield f"{name} D{width}", Size(programs, tiles, least[precise], share=share, copied=copied)
    else:  # the kernels of a history on a device, each loop at least once
        programs = prompts if kind == "put" else -(-ROWS // tile.get("BLOCK", 128))
        yield name, Size(programs, lambda depth, count: [1.0] * count, (0, 0, 0))


# ---------------------------------------------------------------- the table
@dataclass(frozen=True)
class Bound:
    """A row of the table; `limit` is what takes longest."""

    case: str
    gpu: str
    bound_us: float
    limit: str
    floor_us: float | None
    target_us: float | None
    registers: int | None
    spills: int | None
    launches: int | None = None


def bounds(configuration: Any) -> Iterator[Bound]:
    """Compile a configuration; its cases on every GPU."""
    configuration = configuration.on.get(TARGET_GPU, configuration)
    compiled, needs = aot.build(configuration, TARGET_GPU)
    code = aot.machine_code(compiled)
    for name, size in sizes(configuration):
        warps = configuration.options["num_warps"] * size.programs
        all_ = counted(code, size.loops, name).times(warps)
        for gpu, peak in GPUS.items():
            floor = peak.floor_us(*size.floor)
            times = {
                "instructions": all_.issued / (MULTIPROCESSORS * 4 * CLOCK),
                "special functions": all_.special / (MULTIPROCESSORS * 0.5 * CLOCK),
                "float64": all_.double / (MULTIPROCESSORS * 2 * CLOCK),
                "copies through the cache": (all_.copied + size.copied * size.programs) / CACHE,
                "products": all_.products / TENSOR,
                "memory": size.floor[0] / peak.bandwidth,
            }
            limit = max(times, key=lambda part: times[part])
            target = floor / size.share if size.share else size.target
            least = 1e6 * times[limit]
            yield Bound(name, gpu, least, limit, floor or None, target, needs["registers"], needs["spills"])


def calls() -> Iterator[Bound]:
    """Whole calls of the estimator."""
    for name, make, steps, target in (
        ("plain call", partial(KernelValueEstimator, Relative(0.5)), 1, 300.0),
        ("pooled call", KernelValueEstimator, 1, None),
        ("pooled call of 2 steps", KernelValueEstimator, 2, None),
    ):
        launches = sum(of_a_call(make, steps).values())
        for gpu in GPUS:
            yield Bound(name, gpu, LAUNCH * launches, "launches", None, target, None, None, launches)


def page(rows: list[Bound]) -> str:
    """The table as text, the last of the GPUs deciding the columns that name none; measured times stay empty."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"

    heading = ["case", *(f"least on an {gpu}, us" for gpu in GPUS), "set by", "floor, us", "aim, us", "registers", "spills",
               "launches", *(f"measured on an {gpu}, us" for gpu in GPUS)]  # fmt: skip
    lines = ["| " + " | ".join(heading) + " |", "|---|" + "---:|" * len(GPUS) + "---|" + "---:|" * (5 + len(GPUS))]
    for case in dict.fromkeys(row.case for row in rows):
        on = [row for row in rows if row.case == case]
        last = on[-1]
        cells = [case, *(number(row.bound_us) for row in on), last.limit, number(last.floor_us), number(last.target_us)]
        cells += ["" if part is None else str(part) for part in (last.registers, last.spills, last.launches)]
        lines.append("| " + " | ".join([*cells, *("" for _ in on)]) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="The least time of every fused kernel, counted from its machine code.")
    parser.add_argument("--json", action="store_true", help="print a list instead of a table")
    parser.add_argument("--write", action="store_true", help="renew the files in benchmarks/results")
    parser.add_argument("--only", default="", help="configurations whose name holds this text")
    chosen = parser.parse_args(arguments)
    rows = [row for each in aot.configurations() if chosen.only in each.name for row in bounds(each)]
    rows += [row for row in calls() if chosen.only in row.case]
    text = json.dumps([asdict(row) for row in rows], indent=1)
    print(text if chosen.json else page(rows))
    if chosen.write:
        (RESULTS / "gpu_predicted.md").write_text(page(rows))
        (RESULTS / "gpu_predicted.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
