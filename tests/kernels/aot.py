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

import triton
from suite_programs import CALLS, Sample
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernadv._fused import Fused
from kernadv.device import triton_kernels, triton_programs
from kernadv.device.programs import PROGRAMS
from kernadv.kernels import KERNELS, Exponential
from kernadv.moments import triton_ragged
from kernadv.moments.launch import OPTIONS, device_code, real_type
from kernadv.regression.operators import flash, triton_flash, triton_prequential, triton_weights

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
    yield from _device_history()
    yield from _programs()
    yield from _flash()


#: What continuous integration compiles; the rest is for the nightly run.
OFTEN = (
    "moments triangular H16 float32",
    "moments exponential H16 float32",
    "moments exponential H16 float64",
    "prequential triangular float32",
    "weights-ll triangular H16 float32",
    "moments triangular H1 float64",
    "moments-nw triangular H16 float32",
    "moments-nw triangular H1 float64",
    "rows-nw",
    "rows-ll",
    "others K8",
    "enter",
    "put R64",
    "program learned",
    "program evidence",
    "program posterior",
    "flash-plain gaussian bf16x3",
    "flash-ll gaussian bf16",
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
            _history(real) | {"slope": "*fp64", "floor": "*fp64", "loss": out, "count": out, "H": "i32"},
            _profile(kernel.triton_profile())
            | {"SUPPORT": kernel.support, "CLOSED": kernel.closed, "NARROW": real == "float32",
               "REAL": real_type(real), "SPLIT": 1, "BH": bh, "BQ": bq, "BN": bn},
            {"num_warps": 1},
        )  # fmt: skip


def _weights() -> Iterator[Configuration]:
    for mode, name in [("nw", "triangular"), ("ll", "triangular"), ("ll", "exponential")]:
        kernel = KERNELS[name]
        constants = _profile(kernel.triton_profile())
        history = _history("float32")
        del history["s"], history["ss"]
        bh, bn, warps = triton_ragged.blocks(16)
        yield Configuration(
            f"weights-{mode} {name} H16 float32",
            triton_weights.weights_kernel,
            history | _windows("float32") | {"first": "*i64", "out": "*fp32", "H": "i32", "total": "i32"},
            constants | {"EDGE": kernel.support != float("inf"), "REAL": real_type("float32"), "LINE": mode == "ll",
                         "RANK": 1e-5, "TINY": 1e-18, "BH": bh, "BN": bn, "width_h": 1, "reach_h": 1},
            {"num_warps": warps},
            ("H",),
        )  # fmt: skip


def _device_history() -> Iterator[Configuration]:
    whole, real = "*i64", "*fp64"
    visits = {"step": whole, "n": "*i32", "first": real, "second": real, "size": whole, "newest": whole}
    table = dict.fromkeys(("keys", "rows", "used", "ids", "row", "place", "rank", "new_keys", "new_rows", "own"), whole)
    for line in (False, True):
        yield Configuration(
            f"rows-{'ll' if line else 'nw'}",
            triton_kernels.rows_kernel,
            {"past": real, "z": real, "begin": whole, "end": whole, "out": real, "B": "i32"},
            {"LINE": line, "RANK": 1e-10, "TINY": 1e-140, "BLOCK": triton_kernels.BLOCK},
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
        table | {"hit": "*i1", "fresh": "*i1", "C": "i32", "B": "i32"},
        {"HALVINGS": 17, "BLOCK": triton_kernels.BLOCK},
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
        dict.fromkeys(("keys", "rows", "used", "new_keys", "new_rows", "rank"), whole) | {"C": "i32", "B": "i32"},
        {"BLOCK": triton_kernels.BLOCK},
        {"num_warps": 4},
    )
    rows = {"begin": whole, "end": whole, "B": "i32", "BLOCKS": "i32"}
    size = {"BLOCK": triton_kernels.SUMMED}
    wide = {"VALUED": True, "WIDE": 128}
    for name, kernel, signature, constants, warps in (
        ("scan", triton_kernels.scan_kernel, {"z": real, "scans": real, "blocks": real, "B": "i32", "BLOCKS": "i32"},
         size, 4),
        ("mean", triton_kernels.mean_kernel, rows | dict.fromkeys(("scans", "blocks", "otherwise", "out"), real), size, 4),
        ("reach", triton_kernels.reach_kernel, {"z": real, "blocks": real, "B": "i32"}, size, 4),
        ("errors", triton_kernels.errors_kernel,
         rows | dict.fromkeys(("z", "size", "sums", "value", "seen", "ends", "blocks", "out"), real), size | wide, 4),
        ("totals", triton_kernels.totals_kernel,
         dict.fromkeys(("seen", "ends", "errors", "blocks", "sums"), real) | {"BLOCKS": "i32"}, wide | {"KEEP": 0.98}, 1),
    ):  # fmt: skip
        yield Configuration(name, kernel, signature, constants, {"num_warps": warps})
    for room in (8, 64, 512):
        yield Configuration(
            f"put R{room}",
            triton_kernels.put_kernel,
            visits
            | {"rows": whole, "now": "*i1", "sums": real, "lost": whole}
            | dict.fromkeys(("B", "P", "at", "room"), "i32"),
            {"BR": room},
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
            triton_programs.kernel,
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
    """Registers a thread, bytes spilled, shared memory and tensor-core instructions."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = _run(NVIDIA / "cuobjdump", "-res-usage", file.name)
        code = _run(NVIDIA / "cuobjdump", "-sass", file.name)
    registers = re.search(r"REG:(\d+)", usage)
    assert registers, usage
    return {
        "registers": int(registers[1]),
        "spills": len(re.findall(r"\b(?:STL|LDL)\b", code)),
        "shared": compiled.metadata.shared,
        "tensor_cores": len(re.findall(r"\bH(?:G)?MMA\b", code)),
        **_instructions(code),
    }


def _instructions(code: str) -> dict[str, int]:
    """Instructions in all, and in the longest loop."""
    listed = re.findall(r"^\s+/\*([0-9a-f]{4,5})\*/\s+(.*?);", code, re.MULTILINE)
    jumps = [(int(at, 16), re.search(r"BRA (?:\S+ )?(0x[0-9a-f]+)", text)) for at, text in listed]
    loops = [(at - int(to[1], 16)) // 16 + 1 for at, to in jumps if to and int(to[1], 16) < at]
    return {"instructions": sum(not text.startswith("NOP") for _, text in listed), "loop": max(loops, default=0)}


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


def _run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def budget() -> dict[str, dict[str, dict[str, int]]]:
    """Configuration -> target -> most registers, most shared memory."""
    return tomllib.loads(BUDGET.read_text())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compile every kernel for every target.")
    parser.add_argument("--write", action="store_true", help="renew budget.toml")
    parser.add_argument("--only", help="configurations whose name holds this text")
    arguments = parser.parse_args()
    lines = [
        "# Most registers a thread and most bytes of shared memory; spills are not allowed.  Made by aot.py --write."
    ]
    for configuration in configurations():
        if arguments.only and arguments.only not in configuration.name:
            continue
        lines += ["", f'["{configuration.name}"]']
        for target in TARGETS:
            needs = build(configuration, target)[1]
            print(f"{configuration.name:42s} {target:7s} {needs}", flush=True)
            room = min(needs["registers"] + 16, 255)  # compilers differ
            lines.append(f"{target} = {{ registers = {room}, shared = {needs['shared']} }}")
    if arguments.write:
        BUDGET.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
