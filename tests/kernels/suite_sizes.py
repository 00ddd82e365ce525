"""Any size, support, width and type: the fused operators of regression against their references in float64; any batch of the
pool's programs.

With ``TRITON_INTERPRET=1`` in Triton's interpreter on the CPU, else on the GPU.
"""

import numpy as np
import pytest
import torch

pytest.importorskip("hypothesis", reason="a bare machine with a GPU has none, and the other suites run there")
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import ALL, DEVICE, INTERPRETED, MARKS, close, cloud, flash_windows, histories, tensors
from suite_programs import CALLS, Sample, agree

from kernadv.clock import Relative, Steps
from kernadv.regression.operators import flash, prequential, triton_flash, triton_prequential

pytestmark = MARKS
EXAMPLES = 8 if INTERPRETED else 200
COMPACT = [kernel for kernel in ALL if kernel.support < np.inf]
#: From one that holds nothing to one that holds all; wide enough for weights that float32 can hold.
BANDWIDTHS = [Steps(1e-300), Steps(0.5), Steps(1), Steps(64), Steps(1000), Steps(np.inf), Relative(0.29), Relative(1.0)]


@given(
    lengths=st.lists(st.sampled_from([0, 1, 2, 7, 8, 9, 31, 32, 33, 65]), min_size=1, max_size=2),
    bandwidths=st.lists(st.sampled_from(BANDWIDTHS), min_size=1, max_size=9),
    kernel=st.sampled_from(COMPACT),
    dtype=st.sampled_from(["float32", "float64"]),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_prequential(lengths, bandwidths, kernel, dtype):
    sample = histories(sum(lengths), lengths, last=100)
    slope, floor = prequential.half_widths(tuple(bandwidths), torch.device(DEVICE))
    expected = prequential.prequential_cv(tensors(sample), slope, floor, kernel)
    loss, count = triton_prequential.prequential_cv(tensors(sample, dtype), slope, floor, kernel, dtype)
    close(count, expected[1], 0.0)
    close(loss, expected[0], 1e-5 if dtype == "float32" else 1e-12)


@given(
    sizes=st.tuples(*[st.sampled_from([1, 2, 15, 16, 17, 31, 33, 64])] * 3),
    far=st.sampled_from(ALL),
    time=st.sampled_from(ALL),
    width=st.sampled_from([0.5, 20.0, np.inf]),
    precision=st.sampled_from(flash.PRECISIONS[:2]),
    degree=st.sampled_from([0, 1]),
    split=st.sampled_from([1, 3]),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_flash(sizes, far, time, width, precision, degree, split):
    queries, points, y, step = cloud(*sizes)
    windows = flash_windows(torch.full_like(step, width), time, 1.5, 0.25)
    call = [queries, points, y, windows, far, time]
    got = triton_flash.flash_moments(*call, precision, degree, split).double()
    expected = flash.flash_moments(*call)
    assert not got.isnan().any()
    some = expected[0] > 1e-2
    close(got[3, some] / got[0, some], expected[3, some] / expected[0, some], 1e-3)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.sampled_from([1, 2, 31, 33]), st.sampled_from([1, 2, 3])),
    first=st.booleans(),
    span=st.sampled_from([0.0, 1e-90, 1.0, 1e6]),
    shares=st.fixed_dictionaries(
        {name: st.sampled_from([0.0, 0.5, 1.0]) for name in ("known", "stale", "late", "empty")}
    ),
    turns=st.sampled_from([1, 2, 4]),
    weights=st.sampled_from([-1.0, 0.0, 0.5]),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_programs(seed, sizes, first, span, shares, turns, weights):
    for name in CALLS:
        agree(name, Sample(seed, *sizes, first=first, span=span, turns=turns, weights=weights, **shares))
