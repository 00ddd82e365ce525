"""The kernels compile for GPUs that are not here, within their budget of registers and shared memory, without spills."""

import os
import re

import pytest

pytest.importorskip("triton")
import aot

CONFIGURATIONS = {configuration.name: configuration for configuration in aot.configurations()}
NIGHTLY = os.environ.get("KERNADV_NIGHTLY") == "1"
#: Where every configuration is compiled; one target suffices on each change.
TARGETS = list(aot.TARGETS) if NIGHTLY else ["sm_90"]
BUDGET = aot.budget()


def check(name, target):
    compiled, needs = aot.build(CONFIGURATIONS[name], target)
    allowed = BUDGET[name][target]
    assert needs["spills"] == 0
    assert all(needs[part] <= most for part, most in allowed.items()), f"{needs} is over the budget {allowed}"
    assert (needs["tensor_cores"] > 0) or not CONFIGURATIONS[name].tensor_cores
    return compiled


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CONFIGURATIONS if NIGHTLY else aot.OFTEN)
def test_compiles_within_its_budget(name, target):
    check(name, target)


@pytest.mark.parametrize("target", ["sm_80", "gfx942"])
@pytest.mark.parametrize("name", ["moments triangular H16 float32", "flash-plain gaussian bf16x3"])
def test_other_targets(name, target):
    check(name, target)


def test_every_configuration_has_a_budget():
    assert set(BUDGET) == set(CONFIGURATIONS)
    assert all(set(targets) == set(aot.TARGETS) for targets in BUDGET.values())
    assert set(aot.OFTEN) <= set(CONFIGURATIONS)
    assert all({"registers", "shared"} <= set(allowed) for targets in BUDGET.values() for allowed in targets.values())
    assert all({"instructions", "loops"} <= set(targets["sm_90"]) for targets in BUDGET.values())


@pytest.mark.parametrize("name", aot.OFTEN)
def test_addresses_have_64_bits(name):
    """Offsets into histories, features and results are safe beyond 2^31: no pointer moves by a 32-bit product."""
    compiled, _ = aot.build(CONFIGURATIONS[name], "sm_90")
    moves = re.findall(r"%(\w+) = tt\.addptr %(\w+), %(\w+) : .*?(i32|i64)>? ", compiled.asm["ttir"])
    assert moves
    for made, pointer, offset, kind in moves:
        if kind == "i32":  # the flash kernel's own rows and features are fewer than 2^31
            flash = name.startswith("flash") and offset.startswith(("rq", "rn", "a_", "b_"))
            # a number that the places of a program share, of the filters or of all: it moves the array's beginning
            shared = name.startswith("program") and re.fullmatch(r"arrays_\d+", pointer)
            # a member of the group; a visit among a prompt's own, whose length was given in 32 bits; a constant
            small = re.fullmatch(r"(k|r|column|cst|c\d+_i32|row\w*)(_\d+)?", offset)
            sums = offset.startswith(("cell", "added", "block", "refusals"))  # at most 16 for each 1024 rows
            sums &= name in ("errors", "totals", "enter")
            assert flash or shared or small or sums, f"{made} = {pointer} + {offset}"
