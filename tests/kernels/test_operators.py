"""The operators on the CPU: their references, their registration with torch, and what they refuse."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kernadv import KernadvError, Relative, Steps, Visits, kernels, moments, smoothers  # noqa: E402
from kernadv.device import groups, places, table, totals, visits  # noqa: E402
from kernadv.kernels import KERNELS, Kernel  # noqa: E402
from kernadv.moments import Histories, Moments, Windows, dispatch, ops, triton_  # noqa: E402
from kernadv.moments import numpy_ as reference  # noqa: E402
from kernadv.regression.operators import flash, local, nearest  # noqa: E402
from kernadv.regression.operators import ops as operators  # noqa: E402
from kernadv.regression.operators.prequential import half_widths  # noqa: E402

GRID = [Steps(20), Relative(0.2), Relative(1.0)]


def histories(seed=0, lengths=(0, 1, 3, 40, 17)):
    rng = np.random.default_rng(seed)
    lengths = np.array(lengths)
    step = np.concatenate([np.sort(rng.choice(400, size, replace=False) + 1) for size in lengths])
    n = rng.integers(1, 9, len(step)).astype(float)
    s = rng.normal(size=len(step)) * n
    return Histories(np.cumsum(lengths) - lengths, lengths, step, n, s, s * s / n + 1.0)


def tensors(arrays):
    return type(arrays)(*(torch.as_tensor(part) for part in arrays))


@pytest.fixture
def sample():
    return tensors(histories())


@pytest.fixture
def windows():
    at = np.array([390, 200, 401, 401, 350])
    return tensors(Windows.of(GRID, KERNELS["gaussian"], histories(), at))


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda k: k.name)
def test_reach_on_a_device(kernel):
    """Membership is decided on the same integers as on the CPU."""
    at = np.arange(1, 3000)
    grid = [Steps(0.5), Steps(3), Steps(np.inf), Relative(0.29), Relative(0.01, floor=3.0), Relative(1.0)]
    for bandwidth in grid:
        width = bandwidth.half_width(at, None)
        np.testing.assert_array_equal(kernel.reach(torch.as_tensor(width), torch).numpy(), kernel.reach(width))


def test_weights_give_the_value(sample, windows):
    for degree, name in enumerate(("nadaraya_watson", "local_linear")):
        got = operators.batched_kernel_weights(sample, windows, "gaussian", degree, "float64")
        made = reference.ragged_moments(Histories(*map(np.asarray, sample)), Windows(*map(np.asarray, windows)),
                                        KERNELS["gaussian"])  # fmt: skip
        mean = sample.s / sample.n
        expected = smoothers.get(name)(made).value
        for q in (2, 3, 4):
            own = slice(int(sample.start[q]), int(sample.start[q] + sample.length[q]))
            np.testing.assert_allclose(got[:, own] @ mean[own], expected[q], rtol=1e-8)


def test_kernel_without_a_profile_is_not_fused(sample, windows):
    """A kernel that only states its formula works in every operator."""

    class Plain(Kernel):
        name = "plain"

        def formula(self, u, xp):
            return 1.0 - u

        def moment(self, k):
            return KERNELS["triangular"].moment(k)

        def square_moment(self, k):
            return KERNELS["triangular"].square_moment(k)

    plain, fused = Plain(), KERNELS["triangular"]
    assert plain.triton_profile() is None
    windows = tensors(Windows.of(GRID, fused, histories(), windows.at.numpy()))
    for mine, theirs in zip(ops.ragged_moments(sample, windows, plain),
                            ops.ragged_moments(sample, windows, fused), strict=True):  # fmt: skip
        assert torch.equal(mine, theirs)
    scores = [operators.prequential_cv(sample, GRID, kernel).loss for kernel in (plain, fused)]
    assert torch.equal(*scores)


@pytest.fixture
def calls(sample, windows):
    """Every operator with arguments that leave no cell undefined."""
    key = ops.kernel_key("gaussian")
    sample = sample._replace(start=sample.start[3:].contiguous(), length=sample.length[3:].contiguous())
    windows = Windows(*(part[3:].contiguous() for part in windows))
    slope, floor = half_widths((Steps(30), Relative(0.1)), torch.device("cpu"))
    z, total = torch.rand((2, 4), dtype=torch.float64), int(sample.length.sum())
    q = flash.Points(torch.randn(7, 5), *[torch.arange(7)] * 3)
    x = flash.Points(torch.randn(9, 5), torch.zeros(9, dtype=torch.int64), *[torch.arange(9)] * 2)
    width, reach = torch.full((7,), 5.0), torch.full((7,), 2**62)
    return {
        ops._ragged_moments: (*sample, *windows, key, "float32"),
        operators._prequential_cv: (*sample, slope, floor, key, "float64"),
        operators._kernel_weights: (*sample, *windows, key, 1, total, "float64"),
        groups.smooth_rows: (
            torch.rand((9, 4), dtype=torch.float64) + 1.0,
            z[0],
            torch.tensor([0, 0, 2, 2]),
            torch.tensor([2, 2, 4, 4]),
            "nadaraya_watson",
        ),
        groups.sum_groups: (z[0], torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2, 4, 4])),
        groups.sum_elsewhere: (z, torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2, 4, 4])),
        groups.sum_of_groupmates: (
            torch.rand((3, 4), dtype=torch.float64),
            torch.tensor([0, 0, 2, 2]),
            torch.tensor([2, 2, 4, 4]),
        ),
        places.arrange_rows: (
            torch.tensor([3, 3, 5, 9]),
            torch.tensor([1, 0, 2, 3]),
            torch.tensor([1.0, 0.0, 0.5, 1.0], dtype=torch.float64),
            torch.tensor([0, 1, 1, 1]),
            torch.tensor([3, 5]),
            torch.tensor([1, 0]),
            torch.tensor(1),
            *torch.ones((2, 3), dtype=torch.int64),
            4,
            7,
        ),
        places.advantages_of_rows: (
            *z,
            torch.tensor([False, True, False, False]),
            torch.tensor([1, 0, 2, 3]),
            torch.float32,
        ),
        groups.fill_from_elsewhere: (
            z[0],
            torch.tensor([False, True, False, False]),
            z[1],
            torch.tensor([0, 0, 2, 2]),
            torch.tensor([2, 2, 4, 4]),
            torch.ones(2, dtype=torch.float64),
        ),
        totals.add_totals: (
            *(torch.zeros(many, dtype=torch.float64) for many in (2, 3, 12)),
            torch.tensor(0),
            z[0],
            torch.tensor([0, 0, 2, 2]),
            torch.tensor([2, 2, 4, 4]),
            *torch.ones((2, 4), dtype=torch.float64),
            z[1],
            torch.tensor([0, 1, 0, 2]),
            0.98,
        ),
        table.enter_ids: (
            torch.tensor([3, 5, 2**63 - 1, 2**63 - 1]),
            torch.tensor([1, 0, 0, 0]),
            torch.tensor(2),
            torch.tensor([4, 5]),
            torch.tensor([0, 0]),
            torch.tensor([False, True]),
            torch.tensor([1, 1]),
            torch.tensor([True, True]),
        ),
        visits.put_visits: (
            torch.zeros(9, dtype=torch.int64),
            torch.zeros(9, dtype=torch.int32),
            *torch.zeros((2, 9), dtype=torch.float64),
            *torch.zeros((2, 3), dtype=torch.int64),
            torch.zeros((3, 5), dtype=torch.float64),
            torch.tensor([0, 1]),
            torch.tensor([True, False]),
            torch.ones((3, 2), dtype=torch.float64),
            torch.ones((2, 5), dtype=torch.float64),
            7,
            4,
        ),
        operators._local_moments: (
            *torch.rand((3, 2, 9), dtype=torch.float64),
            torch.ones((4, 2, 1), dtype=torch.float64),
            *local.columns(2, 2, 1, torch.device("cpu")),
            key,
            True,
            "past",
            0,
        ),
        operators._flash_moments: (*q, *x, torch.randn(9), width, reach, 1.0, 0.5, key, key, 1, "bf16x3"),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opcheck(calls):
    for operator, arguments in calls.items():
        results = torch.library.opcheck(operator, arguments)
        assert set(results.values()) == {"SUCCESS"}, operator


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiles_without_a_break(sample, windows):
    points = flash.Points(torch.randn(9, 5))
    total = int(sample.length.sum())
    which = local.columns(5, 1, 0, torch.device("cpu"))

    def values(sample, windows, points):
        made = ops.ragged_moments(sample, windows, "gaussian")
        return (made.s0 + made.q2,
                operators.prequential_cv(sample, GRID, "cosine").loss,
                operators.batched_kernel_weights(sample, windows, "gaussian", 1, total=total),
                operators.flash_smoother(points, points, points.features.sum(1), flash.Windows(1.0), "gaussian",
                                         "uniform").value,
                operators.local_moments(points.features.T.contiguous(), points.features.T[:1].contiguous(),
                                        points.features.T.contiguous(), torch.ones((1, 5, 1), dtype=torch.float64),
                                        "gaussian", which))  # fmt: skip

    compiled = torch.compile(values, fullgraph=True, backend="aot_eager")
    arguments = sample, windows, points
    for mine, theirs in zip(compiled(*arguments), values(*arguments), strict=True):
        torch.testing.assert_close(mine, theirs, equal_nan=True)


def test_what_is_not_fused_is_said_once(monkeypatch):
    """Where a GPU would be: the reason in one sentence, and torch computes."""

    class Silent(Kernel):
        name = "silent"
        formula = moment = square_moment = None

    key = ops.kernel_key(Silent())
    ops.fused_module.cache_clear()
    with pytest.warns(UserWarning, match="with the silent kernel on the GPU, more slowly: it is not fused"):
        assert ops.fused_module("kernadv.moments.triton_ragged", key) is None
    assert ops.fused_module("kernadv.moments.triton_ragged", key) is None
    dispatch.triton_module.cache_clear()
    monkeypatch.setattr(dispatch, "unavailable", lambda: "triton is not installed")
    with pytest.warns(UserWarning, match="the ragged kernel on the GPU, more slowly: triton is not installed"):
        assert ops.fused_module("kernadv.moments.triton_ragged", ops.kernel_key("gaussian")) is None
    dispatch.triton_module.cache_clear()
    ops.fused_module.cache_clear()


def test_more_points_than_fit_32_bits():
    """Said before anything is computed; the tensors here take no memory."""
    many = flash.Points(torch.ones(1, 2).expand(2**31, 2))
    one = flash.Points(torch.ones(1, 2))
    with pytest.raises(KernadvError, match="at most 2147418112 queries at once, got 2147483648; split them"):
        operators.flash_smoother(many, one, torch.ones(1), flash.Windows(1.0), "gaussian", "uniform")


def brute(q, x, k, exclude=None):
    square = ((q[:, None] - x) ** 2).sum(2)
    if exclude is not None:
        square[torch.arange(len(q))[exclude >= 0], exclude[exclude >= 0]] = torch.inf
    order = square.sort(stable=True)
    return order.values[:, :k].sqrt(), order.indices[:, :k]


@pytest.mark.parametrize(("count", "total", "width", "k"), [(1, 1, 1, 1), (37, 203, 72, 5), (5, 64, 3, 64)])
def test_nearest(count, total, width, k, monkeypatch):
    made = torch.Generator().manual_seed(0)
    q, x = (torch.randn(size, width, generator=made, dtype=torch.float64) for size in (count, total))
    for pairs in (2**26, 64):
        monkeypatch.setattr(nearest, "PAIRS", pairs)
        distance, index = nearest.nearest(q, x, k)
        expected = brute(q, x, k)
        assert torch.equal(index, expected[1])
        torch.testing.assert_close(distance, expected[0])


def test_nearest_is_exact_where_products_round(monkeypatch):
    """Points that differ in the last digits of float32, far from the origin; ties go to the lower index."""
    made = torch.Generator().manual_seed(1)
    x = torch.randn(1, 16, generator=made).repeat(500, 1) * 100
    x += torch.randint(0, 4, (500, 16), generator=made) * 2e-4
    q = x[:50] + 1e-4
    q[0] += 1e4  # moves the centre of nothing, but makes the products large
    monkeypatch.setattr(nearest, "PAIRS", 5000)
    centre = x.mean(0)
    expected = brute(q - centre, x - centre, 20)
    distance, index = nearest.nearest(q, x, 20)
    assert torch.equal(index, expected[1])
    assert torch.equal(distance, expected[0])


def test_nearest_leaves_the_own_point_out():
    x = torch.randn(30, 4, dtype=torch.float64)
    own = torch.arange(30)
    own[3] = -1
    index = nearest.nearest(x, x, 6, exclude=own)[1]
    assert torch.equal(index, brute(x, x, 6, own)[1])
    assert index[3, 0] == 3


# ---------------------------------------------------------------- bad input
def changed(sample, **parts):
    return sample._replace(**parts)


@pytest.mark.parametrize(("field", "bad", "message"), [
    ("step", lambda t: t.double(), "step must be int64 or int32, got float64"),
    ("s", lambda t: t.long(), "s must be float64 or float32 or bfloat16 or float16, got int64"),
    ("n", lambda t: t[:-1], r"n must have shape \(61,\), got \(60,\)"),
    ("ss", lambda t: torch.stack([t, t], 1)[:, 0], r"ss must be contiguous, got strides \(2,\)"),
    ("length", lambda t: t[:, None], r"length must have shape \(5,\)"),
    ("start", lambda t: t.numpy(), "start must be a tensor, got ndarray"),
    ("n", lambda t: t.to("meta"), "all tensors must be on one device, got .* n on meta"),
])  # fmt: skip
def test_bad_samples(sample, windows, field, bad, message):
    broken = sample._replace(**{field: bad(getattr(sample, field))})
    with pytest.raises(KernadvError, match=message):
        ops.ragged_moments(broken, windows, "gaussian")


@pytest.mark.parametrize(("field", "bad", "message"), [
    ("width", lambda t: t[:, :0], "reach must be"),
    ("width", lambda t: t.long(), "width must be float64 or float32"),
    ("width", lambda t: t * 0, "bandwidth must be positive, got 0.0; inf weighs the whole past alike"),
    ("width", lambda t: -t, "bandwidth must be positive, got -20"),
    ("width", lambda t: t * float("nan"), "bandwidth must be positive, got nan"),
    ("reach", lambda t: t[:3], r"reach must be \(5, H\)"),
    ("at", lambda t: t[:3], r"at must have shape \(5,\)"),
    ("at", lambda t: t.to("meta"), "all tensors must be on one device"),
])  # fmt: skip
def test_bad_windows(sample, windows, field, bad, message):
    broken = windows._replace(**{field: bad(getattr(windows, field))})
    with pytest.raises(KernadvError, match=message):
        ops.ragged_moments(sample, broken, "gaussian")


def test_no_bandwidths_and_no_traces(sample, windows):
    none = Windows(windows.at, windows.width[:, :0], windows.reach[:, :0])
    with pytest.raises(KernadvError, match="at least one bandwidth, got H = 0"):
        ops.ragged_moments(sample, none, "gaussian")
    with pytest.raises(KernadvError, match="at least one bandwidth"):
        operators.prequential_cv(sample, [], "gaussian")
    with pytest.raises(KernadvError, match="Visits looks at the history"):
        operators.prequential_cv(sample, [Visits(3)], "gaussian")
    with pytest.raises(KernadvError, match="degree must be 0"):
        operators.batched_kernel_weights(sample, windows, "gaussian", 2)
    with pytest.raises(KernadvError, match="unknown dtype 'float16'; known: float32, float64"):
        ops.ragged_moments(sample, windows, "gaussian", "float16")
    with pytest.raises(KernadvError, match="degree must be 0 or 1, got 2"):
        ops.ragged_moments(sample, windows, "gaussian", degree=2)


def test_degree_0_leaves_the_line_out(sample, windows):
    line, mean = (ops.ragged_moments(sample, windows, "gaussian", "float64", degree) for degree in (1, 0))
    for name, full, part in zip(Moments._fields, line, mean, strict=True):
        assert torch.equal(part, full if name in ("s0", "t0", "q0", "r0") else torch.zeros_like(full))


def test_infinite_bandwidth_is_the_plain_mean(sample, windows):
    wide = windows._replace(width=torch.full_like(windows.width, torch.inf))
    made: Moments = ops.ragged_moments(sample, wide, "gaussian", "float64")
    assert made.s0[3, 0] == sample.n[sample.start[3] :][:40].sum()


@pytest.mark.parametrize(("change", "message"), [
    ({"bandwidth": 0.0}, "bandwidth of the features must be positive"),
    ({"other_prompt": 2.0}, r"other_prompt must lie in \[0, 1\], got 2.0"),
    ({"width": torch.ones(3)}, r"width must have shape \(4,\)"),
])  # fmt: skip
def test_bad_flash_windows(change, message):
    points = flash.Points(torch.randn(4, 3), *[torch.arange(4)] * 3)
    good = flash.Windows(1.0, torch.ones(4), torch.full((4,), 9), 1.0)
    with pytest.raises(KernadvError, match=message):
        operators.flash_smoother(points, points, torch.ones(4), good._replace(**change), "gaussian", "uniform")
    with pytest.raises(KernadvError, match="id must be given for the queries and the points, or for neither"):
        operators.flash_smoother(points._replace(id=None), points, torch.ones(4), good, "gaussian", "uniform")
    with pytest.raises(KernadvError, match="reach belongs to the steps: give both, or neither"):
        operators.flash_smoother(points, points, torch.ones(4), good._replace(reach=None), "gaussian", "uniform")
    narrow = points._replace(features=points.features[:, :2])
    with pytest.raises(KernadvError, match=r"features of the queries must be \(., D\)"):
        operators.flash_smoother(narrow, points, torch.ones(4), good, "gaussian", "uniform")


@pytest.mark.parametrize(("change", "message"), [
    ({"x": torch.ones(3)}, r"x must have 2 dimensions, got shape \(3,\)"),
    ({"x": torch.ones(2, 5).long()}, "x must be float64 or float32, got int64"),
    ({"at": torch.ones(2, 4, dtype=torch.float64)}, "at must be contiguous and of the type of x, torch.float32"),
    ({"at": torch.ones(4, 2).T}, "at must be contiguous"),
    ({"channels": torch.ones(2, 4)}, r"do not fit together: got \(2, 5\), \(2, 4\), \(2, 4\)"),
    ({"at": torch.ones(3, 4)}, "do not fit together"),
    ({"inverse": torch.ones(2, 2, 4, dtype=torch.float64)}, r"inverse must be \(H, 2, 1\) or \(1, 2, 4\), got \(2, 2, 4\)"),
    ({"inverse": torch.ones(1, 2, 1)}, "inverse must be float64, got float32"),
    ({"channels": torch.ones(2, 5, device="meta")}, "all tensors must be on one device"),
    ({"side": "future"}, "unknown side 'future'; known: before, both, past"),
    ({"at": torch.ones(2, 2**31, device="meta")}, "at may have at most 2147418112 columns, got 2147483648; split it"),
])  # fmt: skip
def test_bad_points_and_queries(change, message):
    good = {"x": torch.ones(2, 5), "channels": torch.ones(2, 5), "at": torch.ones(2, 4),
            "inverse": torch.ones(3, 2, 1, dtype=torch.float64), "kernel": "gaussian",
            "which": local.columns(2, 2, 0, torch.device("cpu"))}  # fmt: skip
    assert operators.local_moments(**good).shape == (2, 3, 4)
    with pytest.raises(KernadvError, match=message):
        operators.local_moments(**good | change)


def test_too_few_neighbours():
    x = torch.randn(3, 2)
    with pytest.raises(KernadvError, match="k is 3, but only 2 points can be found"):
        nearest.nearest(x, x, 3, exclude=torch.arange(3))
    with pytest.raises(KernadvError, match=r"queries and points must be \(., D\)"):
        nearest.nearest(x[0], x, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_triton_without_a_gpu(sample, windows):
    pytest.importorskip("triton")
    assert moments.select().name == "numba"
    with pytest.raises(KernadvError, match=r"backend 'triton' \(asked for by name\) cannot run: torch sees no GPU"):
        moments.select("triton")
    with pytest.raises(KernadvError, match="torch sees no GPU on this machine"):
        triton_.ragged_moments(sample, windows, KERNELS["gaussian"])
    assert "\n" not in triton_.unavailable()


def test_backend_follows_the_tensors(monkeypatch):
    """Chosen for tensors on a GPU; refused for those that are not there."""

    class OnGpu:
        is_cuda, device = True, "cuda:0"

    monkeypatch.setattr(dispatch, "unavailable", lambda: None)
    assert moments.select("auto", OnGpu()).name == "triton"
    with pytest.raises(KernadvError, match=r"'numba' .* cannot run: it runs on the CPU and the tensors are on cuda:0"):
        moments.select("numba", OnGpu())
    with pytest.raises(KernadvError, match=r"'triton' .* cannot run: it runs on a GPU and the tensors are on cpu"):
        moments.select("triton", torch.ones(3))
    monkeypatch.setattr(dispatch, "unavailable", lambda: "triton is not installed")
    chosen = moments.select("auto", OnGpu())
    assert chosen.name == "torch"
    assert "triton: triton is not installed" in chosen.reason


def test_old_triton_is_refused(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(dispatch.metadata, "version", lambda name: "3.5.1")
    assert dispatch.unavailable() == "triton 3.5.1 is older than 3.6: pip install --upgrade triton"


def test_every_kernel_is_fused():
    for name in KERNELS:
        assert kernels.get(name).triton_profile() is not None
