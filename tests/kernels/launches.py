"""How often a call of the estimator launches something on a device, counted without one."""

from collections import Counter
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import torch
from waiting import Dispatched, Unanswered, fake

from kernadv.device import batch, history, namespace, state, table, triton_kernels, triton_programs
from kernadv.moments import ops, triton_ragged

#: Where the estimator finds its operators, and the launcher of each.
LAUNCHERS = {
    **{(batch, name): getattr(triton_kernels, name)
       for name in ("smooth_rows", "sum_groups", "sum_of_groupmates", "fill_from_elsewhere", "add_totals",
                    "advantages_of_rows")},
    **{(history, name): getattr(triton_kernels, name) for name in ("arrange_rows", "enter_ids", "put_visits")},
    (table, "find_ids"): triton_kernels.find_ids,
    (namespace, "run_rows"): triton_programs.over_rows,
    (namespace, "sum_elsewhere"): triton_kernels.sum_elsewhere,
    (ops, "trusted_moments"): triton_ragged.ragged_moments,
}  # fmt: skip


@contextmanager
def fused():
    """Within, the estimator calls the launchers instead of torch's operators, wherever the tensors are."""
    with ExitStack() as stack:
        for (module, name), launcher in LAUNCHERS.items():
            stack.enter_context(patch.object(module, name, launcher))
        yield


@contextmanager
def recorded():
    """Within, the fused kernels are not run: the list of their launches, as (kernel, grid)."""
    launched = []

    def run(self, *arguments, grid, **options):
        launched.append((self, grid))

    with patch.object(type(triton_kernels.put_kernel), "run", run):
        yield launched


def of_a_call(make, steps=1):
    """Launches of a call of the estimator that `make(backend=...)` gives, by name: an operator of torch counts as one."""
    estimator, ids, z = make(backend="torch"), torch.arange(60) // 4, torch.arange(60) % 3 / 2.0
    estimator.advantages(ids, z, 1)  # from which the pool learns in main memory
    learned = estimator.state_dict()
    with ExitStack() as stack:
        for module in (history, state):
            stack.enter_context(patch.object(module, "Bound", Unanswered))
        stack.enter_context(fused())
        launched = stack.enter_context(recorded())
        stack.enter_context(fake())
        estimator = make(backend="torch")
        estimator.load_state_dict(learned)
        ids, z = torch.arange(60) // 4, torch.rand(60)
        estimator.advantages(ids, z, 2)
        launched.clear()
        with Dispatched() as watch:
            estimator.advantages(ids, z, 3 + np.arange(60) % steps)
    return watch.operators + Counter(kernel.fn.__name__ for kernel, _ in launched)
