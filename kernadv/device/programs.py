"""The programs of `kernadv.pooling` on a device: an operator of torch, on a GPU by Triton."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kernadv.moments.dispatch import fused_operator
from kernadv.pooling._words import LOOPS

#: By name.
PROGRAMS: dict[str, Callable[..., None]] = {program.__name__: program for program in LOOPS}


def over_rows(
    program: str, numbers: Sequence[int], reads: Sequence[Tensor], writes: Sequence[Tensor], sums: int
) -> Tensor:
    """As `ArrayNamespace.rows`, of contiguous tensors; in main memory by numba."""
    added = torch.zeros(sums, dtype=torch.float64)
    arrays = [x.view(-1).numpy() for x in (*reads, *writes, *([added] if sums else ()))]
    LOOPS[PROGRAMS[program]](*numbers, *arrays)
    return added


#: `over_rows`, on a GPU by the fused kernels.
run_rows = fused_operator(
    "over_rows",
    over_rows,
    "kernadv.device.triton_programs",
    like=lambda program, numbers, reads, writes, sums: reads[0].new_empty(sums, dtype=torch.float64),
    mutates=("writes",),
)
