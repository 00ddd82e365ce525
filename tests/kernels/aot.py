"""Compile the kernels as they are shipped for GPUs that are not here, and read what the machine code needs.

Command: ``python tests/kernels/aot.py`` prints every configuration on every target; ``--write`` renews ``budget.toml``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import triton
from suite_programs import CALLS, Sample
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernadv._arrays import LARGEST_REWARD
from kernadv._fused import Fused
from kernadv.device import triton_kernels, triton_programs
from kernadv.device.programs import PROGRAMS
from kernadv.kernels import KERNELS, Exponential
from kernadv.moments import triton_ragged
from kernadv.moments.launch import OPTIONS, device_code, real_type
from kernadv.regression.operators import (
    flash,
    local,
    triton_flash,
    triton_local,
    triton_prequential,
    triton_weights,
    weights,
)

BUDGET = Path(__file__).with_name("budget.toml")
NVIDIA = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
#: Arguments that are multiples of 16 (pointers of fresh tensors, sizes): loads are vectors then.
ALIGNED = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Configuration:
    """A kernel with everything that is compiled in; `on`: what is compiled instead on some targets.

    An argument that is a tuple has a tuple of types.
    """

    name: str
    kernel: Any
    types: dict[str, Any]
    constants: dict[str, Any]
    options: dict[str, int]
    sizes: tuple[str, ...] = ()
    tensor_cores: bool = False
    on: dict[str, Configuration] = field(default_factory=dict)


def configurations() -> Iterator[Configuration]:
    """Every configuration that the launchers choose, in float32 and float64, for kernels of each kind."""
    yield from _ragged()
    yield from _prequential()
    yield from _weights()
    yield from _local()
    yield from _device_history()
    yield from _programs()
    yield from _flash()


#: What continuous integration compiles; the rest is for the nightly run.
OFTEN = (
    "moments triangular H16 float32",
    "moments exponential H16 float32",
    "moments exponential H10 float64",
    "prequential triangular float32",
    "prequential exponential float32",
    "prequential triangular float64",
    "weights-ll triangular H16 float32",
    "weights-ll triangular H16 float64",
    "local-nw epanechnikov D1 H32 float32",
    "local-ll epanechnikov D5 H32 float64",
    "moments triangular H1 float64",
    "moments-nw triangular H16 float32",
    "moments-nw triangular H1 float64",
    "rows-nw",
    "rows-ll",
    "others K8",
    "enter",
    "arrange",
    "put R64",
    "errors",
    "totals",
    "program learned",
    "program evidence",
    "program posterior",
    "flash-plain gaussian bf16x3",
    "flash-ll gaussian bf16",
    "flash-ll gaussian ieee",
)


def _profile(code: Fused) -> dict[str, Any]:
    return {"WEIGHT": device_code(code.weight), "A": code.a, "B": code.b}


def _history(real: str) -> dict[str, str]:
    narrow = real == "float32"
    value = "*fp32" if narrow else "*fp64"
    return {
        "start": "*i64",
        "length": "*i32" if narrow else "*i64",
        "step": "*i32" if narrow else "*i64",
        "n": "*i32" if narrow else value,
        "s": value,
        "ss": value,
    }


def _windows(real: str) -> dict[str, str]:
    strides = dict.fromkeys(("width_q", "reach_q"), "i32")
    return {"at": "*i32" if real == "float32" else "*i64", "width": "*fp64", "reach": "*i64", **strides}


def _ragged() -> Iterator[Configuration]:
    cases = [(name, 16, "float32", 1) for name in KERNELS]
    cases += [("exponential", h, real, 1) for h in (1, 4, 10, 16) for real in ("float32", "float64")]
    cases += [("triangular", 16, "float32", 0)]
    cases += [("triangular", 1, "float64", degree) for degree in (0, 1)]  # the estimator's
    for name, grid, real, degree in dict.fromkeys(cases):
        bh, bn = triton_ragged.tile(grid, real, degree)
        kernel = KERNELS[name]
        yield Configuration(
            f"moments{'' if degree else '-nw'} {name} H{grid} {real}",
            triton_ragged.ragged_kernel,
            _history(real) | _windows(real) | {"moments": "*fp32" if real == "float32" else "*fp64"}
            | dict.fromkeys(("Q", "H"), "i32"),
            _profile(kernel.triton_profile())
            | {"EDGE": kernel.support != float("inf"), "NARROW": real == "float32", "REAL": real_type(real),
               "LEAST": triton_ragged.LEAST[real], "LINE": degree > 0, "BH": bh, "BN": bn, "width_h": 1,
               "reach_h": 1, "HALVINGS": triton_ragged.halvings(bh, bn)},
            {"num_warps": 1},
            ("Q", "H") if grid % 16 == 0 else ("Q",),
        )  # fmt: skip


def _prequential() -> Iterator[Configuration]:
    for name, real in [("triangular", "float32"), ("exponential", "float32"), ("uniform", "float32"),
                       ("cosine", "float32"), ("triangular", "float64"), ("exponential", "float64")]:  # fmt: skip
        kernel = KERNELS[name]
        bh, bq, bn = triton_prequential.blocks(16, real)
        out = "*fp32" if real == "float32" else "*fp64"
        yield Configuration(
            f"prequential {name} {real}",
            triton_prequential.prequential_kernel,
            _history(real) | {"slope": "*fp64", "floor": "*fp64", "asked": "*i1", "loss": out, "count": out, "H": "i32"},
            _profile(kernel.triton_profile())
            | {"SUPPORT": kernel.support, "CLOSED": kernel.closed, "NARROW": real == "float32",
               "REAL": real_type(real), "ASKED": False, "SPLIT": 1, "BH": bh, "BQ": bq, "BN": bn},
            {"num_warps": 1},
        )  # fmt: skip


def _weights() -> Iterator[Configuration]:
    for mode, name, grid, real in [("nw", "triangular", 16, "float32"), ("ll", "triangular", 16, "float32"),
                                   ("ll", "exponential", 16, "float32"), ("ll", "triangular", 16, "float64"),
                                   ("ll", "triangular", 1, "float64")]:  # fmt: skip
        kernel = KERNELS[name]
        history = _history(real)
        del history["s"], history["ss"]
        bh, bn, warps = triton_ragged.blocks(grid)
        yield Configuration(
            f"weights-{mode} {name} H{grid} {real}",
            triton_weights.weights_kernel,
            history | _windows(real) | {"first": "*i64", "out": "*fp32" if real == "float32" else "*fp64"}
            | dict.fromkeys(("H", "total"), "i32"),
            _profile(kernel.triton_profile())
            | {"EDGE": kernel.support != float("inf"), "REAL": real_type(real), "LINE": mode == "ll",
               "RANK": weights.RANK[real], "TINY": weights.UNDERFLOW[real], "LEAST": triton_ragged.LEAST[real],
               "BH": bh, "BN": bn, "width_h": 1, "reach_h": 1},
            {"num_warps": warps},
            ("H",) if grid % 16 == 0 else (),
        )  # fmt: skip


def _local() -> Iterator[Configuration]:
    cases = [("nw", "epanechnikov", d, 32, real) for d in (1, 5) for real in ("float32", "float64")]
    cases += [("ll", "epanechnikov", d, 32, real) for d in (1, 5) for real in ("float32", "float64")]
    cases += [("nw", "gaussian", 5, 1, real) for real in ("float32", "float64")]
    cases += [("nw", "tricube", 5, 1, "float64"), ("nw", "cosine", 1, 32, "float64")]
    for mode, name, dimensions, grid, real in cases:
        kernel, line, radial = KERNELS[name], mode == "ll", name == "tricube"
        sums = len(local.columns(dimensions, 2, int(line), torch.device("cpu")).channel)
        bk, bh, bq, bn = triton_local.tile(sums, grid, real)
        value = "*fp32" if real == "float32" else "*fp64"
        types = dict.fromkeys(("x", "at", "channels"), value) | dict.fromkeys(("inverse", "out"), "*fp64")
        types |= dict.fromkeys(("channel", "first", "second"), "*i64")
        types |= dict.fromkeys(("N", "M", "D", "H", "K", "OWN", "SPLIT", "inverse_h", "inverse_d", "inverse_q"), "i32")
        yield Configuration(
            f"local-{mode} {name} D{dimensions} H{grid} {real}",
            triton_local.local_kernel,
            types,
            _profile(kernel.triton_profile())
            | {"EDGE": local.edge(kernel, getattr(torch, real)), "RADIAL": radial, "SIDE": 0, "LEAVE": grid > 1,
               "LINE": line, "REAL": real_type(real), "BK": bk, "BH": bh, "BQ": bq, "BN": bn}
            | ({"D": 1} if dimensions == 1 else {}),
            {"num_warps": 1},
        )  # fmt: skip


def _device_history() -> Iterator[Configuration]:
    whole, real = "*i64", "*fp64"
    visits = {"step": whole, "n": "*i32", "first": real, "second": real, "size": whole, "newest": whole}
    table = dict.fromkeys(
        ("keys", "rows", "used", "ids", "row", "place", "rank", "blocks", "new_keys", "new_rows", "own"), whole
    )
    counts = dict.fromkeys(("B", "C", "P", "room", "BLOCKS"), "i32")
    for line in (False, True):
        yield Configuration(
            f"rows-{'ll' if line else 'nw'}",
            triton_kernels.rows_kernel,
            {"past": real, "z": real, "begin": whole, "end": whole, "out": real}
            | {"defined": "*i1", "stored": "*i1", "B": "i32"},
            {"LINE": line, "RANK": 1e-10, "TINY": 1e-140, "BLOCK": triton_kernels.BLOCK},
            {"num_warps": 4},
        )
    yield Configuration(
        "sums",
        triton_kernels.sums_kernel,
        dict.fromkeys(("z", "others", "whole", "once", "ends"), real)
        | {"begin": whole, "end": whole, "stored": "*i1", "B": "i32"},
        {"BLOCK": triton_kernels.BLOCK},
        {"num_warps": 4},
    )
    for columns in (4, 8):
        yield Configuration(
            f"others K{columns}",
            triton_kernels.others_kernel,
            {"parts": real, "begin": whole, "end": whole, "out": real, "B": "i32", "K": "i32"},
            {"COLUMNS": columns, "BLOCK": triton_kernels.BLOCK},
            {"num_warps": 4},
        )
    yield Configuration(
        "enter",
        triton_kernels.merge_kernel,
        table | {"hit": "*i1", "wanted": "*i1"} | counts,
        {"HALVINGS": 17, "SUMMED": triton_kernels.SUMMED, "BLOCK": triton_kernels.BLOCK},
        {"num_warps": 4},
    )
    yield Configuration(
        "find",
        triton_kernels.find_kernel,
        dict.fromkeys(("keys", "rows", "used", "ids", "row", "place"), whole) | {"hit": "*i1", "C": "i32", "B": "i32"},
        {"HALVINGS": 17, "BLOCK": triton_kernels.BLOCK},
        {"num_warps": 4},
    )
    yield Configuration(
        "settle",
        triton_kernels.settle_kernel,
        table | counts,
        {"BLOCK": triton_kernels.BLOCK},
        {"num_warps": 4},
    )
    yield Configuration(
        "rank",
        triton_kernels.rank_kernel,
        table | {"wanted": "*i1", "hit": "*i1"} | counts,
        {"BLOCK": triton_kernels.SUMMED},
        {"num_warps": 4},
    )
    places = ("keys", "order", "tick", "held", "rows", "used", "newest_of", "size_of", "begin", "end", "row", "place",
              "newest", "start", "length", "step", "from_", "to")  # fmt: skip
    for several in (False, True):
        yield Configuration(
            f"arrange{' steps' if several else ''}",
            triton_kernels.arrange_kernel,
            dict.fromkeys(places, whole) | dict.fromkeys(("refused", "first", "hit"), "*i1")
            | {"rewards": "*fp32", "z": real, "at": "i32"} | counts,
            {"SEVERAL": several, "LARGEST": LARGEST_REWARD, "HALVINGS": 17, "OWN": 17, "BLOCK": triton_kernels.BLOCK},
            {"num_warps": 4},
        )  # fmt: skip
    yield Configuration(
        "advantages",
        triton_kernels.advantages_kernel,
        {"z": real, "baseline": real, "refused": "*i1", "order": whole, "out": "*fp32", "B": "i32"},
        {"BLOCK": triton_kernels.BLOCK},
        {"num_warps": 4},
    )
    rows = {"begin": whole, "end": whole, "B": "i32", "BLOCKS": "i32"}
    size = {"BLOCK": triton_kernels.SUMMED}
    wide = {"VALUED": True, "WIDE": 128}
    for name, kernel, signature, constants, warps in (
        ("scan", triton_kernels.scan_kernel,
         dict.fromkeys(("parts", "sums", "blocks"), real) | dict.fromkeys(("B", "BLOCKS", "K"), "i32"), size, 4),
        ("elsewhere", triton_kernels.elsewhere_kernel,
         rows | dict.fromkeys(("sums", "blocks", "out"), real) | {"K": "i32"}, size, 4),
        ("scored", triton_kernels.scored_kernel,
         dict.fromkeys(("z", "sums", "blocks"), real) | {"B": "i32", "BLOCKS": "i32"}, size, 4),
        ("mean", triton_kernels.mean_kernel,
         rows | dict.fromkeys(("value", "sums", "blocks", "seen", "out"), real) | {"defined": "*i1"}, size, 4),
        ("reach", triton_kernels.reach_kernel, {"z": real, "refusals": "*i1", "blocks": real, "B": "i32"}, size, 4),
        ("errors", triton_kernels.errors_kernel,
         rows | dict.fromkeys(("z", "size", "sums", "value", "seen", "ends", "blocks", "out"), real), size | wide, 4),
        ("totals", triton_kernels.totals_kernel,
         dict.fromkeys(("seen", "ends", "errors", "blocks", "sums"), real) | {"refused": whole, "BLOCKS": "i32"},
         wide | {"KEEP": 0.98}, 1),
    ):  # fmt: skip
        yield Configuration(name, kernel, signature, constants, {"num_warps": warps})
    for room, noted in ((8, 0), (64, 0), (512, 0), (8, 74)):
        yield Configuration(
            f"put R{room}{' noted' if noted else ''}",
            triton_kernels.put_kernel,
            visits
            | {"rows": whole, "now": "*i1", "sums": real, "notes": real, "noted": real, "lost": whole}
            | dict.fromkeys(("B", "P", "at", "room"), "i32"),
            {"NOTED": noted, "BR": room, "BN": 128 if noted else 1},
            {"num_warps": 1 if room <= 256 else 4},
        )


def _programs() -> Iterator[Configuration]:
    """The programs of the pool, with the types of a call; a number that is 1 is compiled in."""
    kinds = {"f": "*fp64", "i": "*i64", "b": "*i1"}
    for name, make in CALLS.items():
        ((numbers, reads), *_), writes, sums = make(Sample(0, 33, 36))
        arrays = [kinds[x.dtype.kind] for x in (*reads, *writes)] + ["*fp64"] * (sums > 0)
        yield Configuration(
            f"program {name}",
            triton_programs.program_kernel,
            {"numbers": tuple("constexpr" if x == 1 else "i32" for x in numbers), "arrays": tuple(arrays)},
            {"PROGRAM": triton_programs.code(PROGRAMS[name]), "BLOCK": triton_programs.BLOCK},
            {"num_warps": triton_programs.BLOCK // 32},
        )


def _flash() -> Iterator[Configuration]:
    cases = [("gaussian", precision, mode) for precision in flash.PRECISIONS for mode in ("plain", "nw", "ll")]
    cases += [("epanechnikov", "bf16x3", "ll"), ("exponential", "bf16x3", "ll")]
    for name, precision, mode in cases:
        far, time = KERNELS[name], Exponential()
        code, clock = far.triton_profile(), time.triton_profile()
        kind = "fp32" if precision == "ieee" else "bf16"
        types = dict.fromkeys(("q_norm", "x_norm", "y", "width", "out"), "*fp32")
        types |= dict.fromkeys(("q_step", "x_step", "reach", "q_prompt", "x_prompt", "q_id", "x_id"), "*i32")
        types |= dict.fromkeys(("Q", "N", "D", "SPLIT"), "i32") | {"inverse": "fp32", "other": "fp32"}
        constants = {
            "FAR": device_code(code.log2 or code.weight), "FAR_A": code.a, "FAR_B": code.b,
            "FAR_LOG": code.log2 is not None, "SUPPORT": far.support, "CLOSED": far.closed,
            "TIME": device_code(clock.log2), "TIME_A": clock.a, "TIME_B": clock.b, "TIME_LOG": True,
            "TIMED": mode != "plain", "LINE": mode == "ll", "OWN": mode != "plain", "SAME": mode != "plain",
            "LOW": precision == "bf16x3", "WIDEN": False,
        }  # fmt: skip
        made = {}
        for hopper in (False, True):
            bq, bn, bd, warps, stages = triton_flash.tile(precision, mode != "plain", hopper)
            parts = {"q": bq, "q_low": bq, "x": bn, "x_low": bn}
            descriptors = hopper and precision != "ieee"
            if descriptors:
                parts = {part: f"tensordesc<{kind}[{rows}, {bd}]>" for part, rows in parts.items()}
            else:
                parts = dict.fromkeys(parts, f"*{kind}")
            made[hopper] = Configuration(
                f"flash-{mode} {name} {precision}",
                triton_flash.flash_kernel,
                types | parts,
                constants | {"DESCRIPTORS": descriptors, "BQ": bq, "BN": bn, "BD": bd},
                {"num_warps": warps, "num_stages": stages},
                ("Q", "N", "D"),
                tensor_cores=precision != "ieee",
            )
        yield replace(made[False], on={"sm_90": made[True]})


def build(configuration: Configuration, target: str) -> tuple[Any, dict[str, int]]:
    """Compile for a target; the compiled kernel and what it needs."""
    configuration = configuration.on.get(target, configuration)
    kernel, constants = configuration.kernel, configuration.constants
    names = list(kernel.arg_names)
    signature = {name: "constexpr" if name in constants else configuration.types[name] for name in names}
    places = {(at,): signature[name] for at, name in enumerate(names) if isinstance(signature[name], str)}
    places |= {
        (at, part): kind
        for at, name in enumerate(names)
        if isinstance(signature[name], tuple)
        for part, kind in enumerate(signature[name])
    }
    sizes = [(names.index(name),) for name in configuration.sizes]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): x for name, x in constants.items()}
        | {place: 1 for place, kind in places.items() if kind == "constexpr" and len(place) > 1},
        attrs={place: ALIGNED for place, kind in places.items() if kind.startswith("*") or place in sizes},
    )
    compiled = triton.compile(source, target=TARGETS[target], options=configuration.options | OPTIONS)
    return compiled, (_nvidia if target.startswith("sm") else _amd)(compiled)


def _nvidia(compiled: Any) -> dict[str, int]:
    """Registers a thread, bytes spilled, shared memory, instructions on tensor cores, in all and in the innermost loops."""
    usage, text = _dumped(compiled, "-res-usage"), _dumped(compiled, "-sass")
    registers = re.search(r"REG:(\d+)", usage)
    assert registers, usage
    code = machine_code(compiled)
    loops = loops_of(code)
    inner = [(low, high) for low, high in loops if not any(low <= a and b < high for a, b in loops)]
    return {
        "registers": int(registers[1]),
        "spills": len(re.findall(r"\b(?:STL|LDL)\b", text)),
        "shared": compiled.metadata.shared,
        "tensor_cores": len(re.findall(r"\bH(?:G)?MMA\b", text)),
        "instructions": len(code),
        "loops": sum(any(low <= at <= high for low, high in inner) for at, _ in code),
    }


def machine_code(compiled: Any) -> list[tuple[int, str]]:
    """Addresses and instructions up to the end of the kernel; what it calls on rare paths lies behind."""
    text = _dumped(compiled, "-sass")
    listed = [(int(at, 16), code) for at, code in re.findall(r"^\s+/\*([0-9a-f]{4,5})\*/\s+(.*?);", text, re.MULTILINE)]
    last = max(at for at, code in listed if "EXIT" in code)
    return [(at, code) for at, code in listed if at <= last and not code.startswith("NOP")]


def loops_of(code: list[tuple[int, str]]) -> list[tuple[int, int]]:
    """First and last address of each loop, in the order of the code."""
    ends: dict[int, int] = {}
    for at, text in code:
        jump = re.search(r"BRA(?:\.\S+)? (?:\S+, )?(?:\S+ )?(0x[0-9a-f]+)", text)
        if jump and int(jump[1], 16) < at:
            ends[int(jump[1], 16)] = at
    return sorted(ends.items())


def _dumped(compiled: Any, what: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        done = subprocess.run([NVIDIA / "cuobjdump", what, file.name], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def _amd(compiled: Any) -> dict[str, int]:
    code = compiled.asm["amdgcn"]

    def number(name: str) -> int:
        found = re.search(rf"\.{name}:\s*(\d+)", code)
        assert found, name
        return int(found[1])

    return {
        "registers": number("vgpr_count"),
        "spills": number("vgpr_spill_count"),
        "shared": compiled.metadata.shared,
        "tensor_cores": len(re.findall(r"\bv_mfma", code)),
    }


def budget() -> dict[str, dict[str, dict[str, int]]]:
    """Configuration -> target -> the most that `build` may say it needs."""
    return tomllib.loads(BUDGET.read_text())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compile every kernel for every target.")
    parser.add_argument("--write", action="store_true", help="renew budget.toml")
    parser.add_argument("--higher", action="store_true", help="lower nothing: for another version of Triton")
    parser.add_argument("--only", help="configurations whose name holds this text")
    arguments = parser.parse_args()
    found, names = budget(), []
    for configuration in configurations():
        names.append(configuration.name)
        if arguments.only and arguments.only not in configuration.name:
            continue
        for target in TARGETS:
            needs = build(configuration, target)[1]
            print(f"{configuration.name:42s} {target:7s} {needs}", flush=True)
            allowed = {"registers": min(needs["registers"] + 16, 255), "shared": needs["shared"]}  # compilers differ
            allowed |= {part: needs[part] * 9 // 8 for part in ("instructions", "loops") if part in needs}
            own = found.setdefault(configuration.name, {})
            before = own.get(target, {}) if arguments.higher else {}
            own[target] = {part: max(most, before.get(part, 0)) for part, most in allowed.items()}
    lines = [
        "# The most that a configuration may need: registers a thread, bytes of shared memory, instructions in all and in",
        "# its innermost loops.  Spills are not allowed.  Made by aot.py --write, then --higher with the oldest Triton.",
    ]
    for name in names:
        lines += ["", f'["{name}"]']
        for target, allowed in found[name].items():
            lines.append(f"{target} = {{ {', '.join(f'{part} = {most}' for part, most in allowed.items())} }}")
    if arguments.write:
        BUDGET.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
