"""Every kind of bad input gets a clear error, and a failed call changes nothing."""

import numpy as np
import pytest

from kernadv import KernadvError, KernelValueEstimator, Relative, Steps, Visits
from kernadv.auditing import audit
from kernadv.gradient import gradient_variance, implied_ratio
from kernadv.logs import read_log
from kernadv.schedule import ScheduledDataset, block_reuse, revisit_gap, rolling_reuse
from kernadv.scores import last_layer_scores, logit_norms, trace_scores
from kernadv.simulation import Process, Schedule, simulate

IDS, Z = ["a", "b"], [1.0, 0.0]

CASES = {
    "empty batch": (([], [], 10), "the batch is empty"),
    "fewer rewards": ((IDS, [1.0], 10), "2 prompt ids and 1 rewards"),
    "more rewards": ((IDS, [1.0, 0.0, 1.0], 10), "2 prompt ids and 3 rewards"),
    "step NaN": ((IDS, Z, float("nan")), "steps must be whole numbers, got nan"),
    "step inf": ((IDS, Z, float("inf")), "steps must be whole numbers, got inf"),
    "step fraction": ((IDS, Z, 10.5), "steps must be whole numbers, got 10.5"),
    "step 0": ((IDS, Z, 0), "steps start at 1.*got 0; add 1 to a clock that starts at 0"),
    "step negative": ((IDS, Z, -3), "steps start at 1.*got -3"),
    "step huge": ((IDS, Z, 2**60), "end at 2.53"),
    "step text": ((IDS, Z, "10"), "step must be a whole number"),
    "step None": ((IDS, Z, None), "step must be a whole number"),
    "step bool": ((IDS, Z, True), "step must be a whole number"),
    "steps too few": ((IDS, Z, [10]), "2 rows and 1 steps"),
    "steps 2-D": ((IDS, Z, [[10], [10]]), "step must be a whole number or one a row"),
    "step back": ((IDS, Z, 4), "step 4 lies before step 5, the newest seen; pass allow_late=True"),
    "one step back": ((IDS, Z, [10, 4]), "step 4 lies before step 5"),
    "reward inf": ((IDS, [1.0, np.inf], 10), "must be finite .*, or NaN .* row 1 is inf"),
    "reward -inf": ((IDS, [-np.inf, 0], 10), "row 0 is -inf"),
    "reward text": ((IDS, ["1", "x"], 10), "rewards must be numbers"),
    "reward None": ((IDS, None, 10), "rewards must"),
    "reward huge": ((IDS, [1.0, 1e200], 10), "up to 1e.100.*row 1 is 1e.200"),
    "reward beyond floats": ((IDS, [1.0, 10**400], 10), "rewards must be numbers"),
    "reward date": ((IDS, np.array(["2020-01-01", "2021-01-01"], "datetime64[D]"), 10), "rewards must be numbers"),
    "reward digits": ((IDS, ["1", "0"], 10), "rewards must be numbers"),
    "reward complex": ((IDS, [1j, 0], 10), "rewards must be numbers"),
    "ids in a set": (({"a", "b"}, Z, 10), "must be a sequence of ids"),
    "ids in a dict": (({"a": 1, "b": 2}, Z, 10), "must be a sequence of ids"),
    "step masked": ((IDS, Z, np.ma.array([10, 10], mask=[0, 1])), "steps must not be masked"),
    "step beyond 2^53": ((IDS, Z, 2**53 + 1), "end at 2.53"),
    "rewards 2-D": ((IDS, np.ones((2, 3)), 10), r"one dimension, one a row, got shape \(2, 3\)"),
    "rewards 0-D": ((IDS, 1.0, 10), r"one dimension, one a row, got shape \(\)"),
    "mixed ids": ((["a", 1], Z, 10), "all be str or all be int, got both in one batch"),
    "other id type": (([1, 2], Z, 10), "the history holds str ids, the batch brings int"),
    "list id": ((["a", ["b"]], Z, 10), r"must be str or int, got list in row 1"),
    "dict id": (([{}, "a"], Z, 10), "must be str or int, got dict in row 0"),
    "None id": ((["a", None], Z, 10), "must be str or int, got NoneType in row 1"),
    "float id": (([1.0, 2.0], Z, 10), "must be str or int, got float in row 0"),
    "bool id": (([True, False], Z, 10), "must be str or int, got bool in row 0"),
    "one string": (("ab", Z, 10), "must be a sequence of ids"),
    "number as ids": ((7, Z, 10), "must be a sequence of ids"),
    "ids 2-D": ((np.ones((2, 2), int), Z, 10), "one dimension"),
    "huge id": (([2**70, 1], Z, 10), "must fit 64 bits"),
}


@pytest.mark.parametrize("call", ["values", "observe", "advantages"])
@pytest.mark.parametrize("case", CASES)
def test_bad_batch(case, call):
    args, message = CASES[case]
    est = KernelValueEstimator()
    est.advantages(["a", "a", "b"], [1.0, 0.0, 1.0], 5)
    before, metrics = est.state_dict(), est.metrics()
    with pytest.raises(KernadvError, match=message):
        getattr(est, call)(*args)
    after = est.state_dict()
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])
    assert est.metrics() == metrics
    est.advantages(["a", "new"], [1.0, 0.0], 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bandwidth": 0.5}, r"bandwidth must be Relative\(h\), Steps\(w\) or Visits\(k\), got 0.5"),
        ({"bandwidth": "prequential"}, "bandwidth must be"),
        ({"bandwidth": Steps(9), "kernel": "box"}, "unknown kernel 'box'; known: biweight"),
        ({"bandwidth": Steps(9), "kernel": 3}, "kernel must be a name or a Kernel, got 3; names: biweight"),
        ({"smoother": "spline"}, "unknown smoother 'spline'; known: local_linear, nadaraya_watson"),
        ({"backend": "cuda"}, "unknown backend 'cuda'; known: auto, numba, numpy, torch"),
        ({"cold_start": "mean"}, "cold_start must be 'batch_mean', 'error' or a finite number, got 'mean'"),
        ({"cold_start": float("nan")}, "cold_start must be"),
        ({"cold_start": None}, "cold_start must be"),
        ({"allow_late": -1}, "allow_late must be a whole number"),
        ({"allow_late": 0.5}, "allow_late must be a whole number"),
        ({"max_visits": 0}, "max_visits must be a whole number >= 1"),
        ({"max_total": -5}, "max_total must be a whole number >= 1"),
        ({"bandwidth": Visits(1)}, r"Visits\(1\) gives the only visit the weight K\(1\) = 0"),
    ],
)
def test_bad_construction(arguments, message):
    with pytest.raises(KernadvError, match=message):
        KernelValueEstimator(**arguments)


@pytest.mark.parametrize("bad", [True, 10**400, [1.0]])
def test_bandwidths_are_numbers(bad):
    with pytest.raises(KernadvError, match="bandwidth must be a number"):
        Steps(bad)
    with pytest.raises(KernadvError, match="bandwidth must be a number"):
        Relative(bad)


@pytest.mark.parametrize("h", [0, -0.3, float("nan")])
def test_bad_relative_bandwidth(h):
    with pytest.raises(
        KernadvError, match=r"bandwidth must be positive.*got .*Relative\(h\) takes a fraction of the step"
    ):
        KernelValueEstimator.kae(h)


def test_late_rows_beyond_what_is_allowed():
    est = KernelValueEstimator(Steps(5), allow_late=2)
    est.observe(["a"], [1.0], 10)
    est.observe(["a"], [1.0], 8)
    with pytest.raises(KernadvError, match="step 7 lies before step 10, the newest seen; allow_late=2 allows 2 steps"):
        est.observe(["a"], [1.0], 7)


def test_errors_are_also_the_builtin_kind():
    with pytest.raises(ValueError, match="empty"):
        KernelValueEstimator().values([], [], 1)
    with pytest.raises(TypeError, match="str or int"):
        KernelValueEstimator().values([[1]], [1.0], 1)
    assert issubclass(KernadvError, Exception)
    assert Relative(0.1).label == "h=0.1"


OTHERS = {
    "count of an array": (lambda: block_reuse(np.ones(2), 2, 1), "n must be a whole number >= 1, got array"),
    "count beyond 64 bits": (lambda: block_reuse(4, 2, 2**70), "reuse must be a whole number >= 1 that fits 64 bits"),
    "seed text": (lambda: block_reuse(4, 2, 1, "x"), "seed must be a whole number >= 0, got 'x'"),
    "seed negative": (lambda: rolling_reuse(4, 2, 1, (0, -1)), "seed must be a whole number >= 0, got -1"),
    "schedule flat": (lambda: revisit_gap(["ab", "cd"]), "a schedule is batches of prompt ids.* got .'ab', 'cd'."),
    "schedule of a line": (lambda: revisit_gap(np.arange(4)), "a schedule is batches of prompt ids"),
    "schedule None": (lambda: revisit_gap(None), "a schedule is batches of prompt ids.* got None"),
    "schedule a frame": (lambda: revisit_gap(pandas_frame()), "a schedule is batches of prompt ids"),
    "data frame as data set": (
        lambda: ScheduledDataset(pandas_frame(), [[0]]),
        "a data set has a length and rows by n",
    ),
    "set as data set": (lambda: ScheduledDataset({1, 2}, [[0]]), "a data set has a length and rows by number, got set"),
    "schedule ragged": (lambda: ScheduledDataset("abc", [[0, 1], [2]]), "got rows of several lengths"),
    "floor huge": (lambda: Relative(0.5, 10**400), "floor must be a number, got 1000"),
    "choice an array": (lambda: simulate(np.ones(3)), "unknown process array"),
    "parameter huge": (lambda: Process(start=10**400), "start must be a number, got 1000"),
    "noise text": (lambda: implied_ratio("x", 1.0), "noise must be a number, got 'x'"),
    "values no mapping": (lambda: gradient_variance(Z, Z, IDS, Z), "values must be a mapping from names to values"),
    "scores text": (lambda: gradient_variance("x", Z, IDS, {}), "scores must be numbers, got 'x'"),
}


def pandas_frame():
    return pytest.importorskip("pandas").DataFrame({"a": [1, 2], "b": ["x", "y"]})


@pytest.mark.parametrize("case", OTHERS)
def test_bad_arguments_of_functions(case):
    call, message = OTHERS[case]
    with pytest.raises(KernadvError, match=message):
        call()


@pytest.mark.parametrize("weights", [10**400, np.array(["2020-01-01"] * 2, "datetime64[D]"), ["1", "2"], {1.0}])
def test_weights_that_are_no_numbers(weights):
    with pytest.raises(KernadvError, match="weights must be numbers, got"):
        KernelValueEstimator(weighted=True).advantages(IDS, Z, 1, weights=weights)


def test_numbers_of_numpy_are_numbers():
    assert Process(start=np.float32(0.5)) == Process(start=0.5)
    assert (block_reuse(np.int32(4), np.uint8(2), np.array(1)) == block_reuse(4, 2, 1)).all()
    assert Relative(0.5, np.float32(2)) == Relative(0.5, 2.0)


def test_scores_of_what_is_no_tensor():
    torch = pytest.importorskip("torch")
    logits, tokens, mask = torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3)
    with pytest.raises(KernadvError, match=r"logits must be a tensor, got ndarray; torch.as_tensor makes one"):
        logit_norms(logits.numpy(), tokens, mask)
    with pytest.raises(
        KernadvError, match=r"tokens must be whole numbers from 0 to 4, also outside the mask, .* -100 to 0"
    ):
        logit_norms(logits, tokens.index_fill(1, torch.tensor([2]), -100), mask)
    with pytest.raises(KernadvError, match="seed must be a whole number"):
        last_layer_scores(logits, logits, tokens, mask, seed=None)
    with pytest.raises(
        KernadvError, match=r"expected a torch.nn.Module and a callable log_prob, got str and builtin_f"
    ):
        trace_scores("model", len, [logits])
    with pytest.raises(KernadvError, match="inputs must be a list of tensors"):
        trace_scores(torch.nn.Linear(2, 1), len, logits)


RUN = simulate("calib", Schedule(batch=4, stay=2, blocks=2, steps=8), 2)

AUDITS = {
    "audit a path": (
        lambda: audit("log.csv"),
        r"audit takes what .*read_log returned.*got str; of a file give read_log",
    ),
    "audit groups again": (
        lambda: audit(RUN.groups, on_repeat="last"),
        "on_repeat is for a frame or arrays, got Groups",
    ),
    "value short": (lambda: audit(RUN.groups, value=[0.5]), "value must have one number a group, 32, got 1"),
    "value text": (lambda: audit(RUN.groups, value="x"), "value must be numbers, got 'x'"),
    "bandwidths numbers": (lambda: audit(RUN.groups, bandwidths=[0.5]), r"bandwidths must be a list such as .Relative"),
    "bandwidths one": (lambda: audit(RUN.groups, bandwidths=Steps(3)), r"bandwidths must be a list such as .Relative"),
    "draws 0": (lambda: audit(RUN.groups, draws=0), "draws must be a whole number >= 1, got 0"),
    "audit's seed": (lambda: audit(RUN.groups, seed=None), "seed must be a whole number >= 0, got None"),
    "path None": (lambda: read_log(None), "path must be a file, a folder, or a list of them, got None"),
    "columns": (lambda: read_log(".", columns=["acc"]), r"columns must be a mapping such as .*, got \['acc'\]"),
    "counts": (
        lambda: read_log(".", counts="right"),
        r"counts must be a pair of columns, \(correct, all\), got 'right'",
    ),
    "rewards": (lambda: read_log(".", rewards=1), "rewards must be columns, or a mapping of columns to weights, got 1"),
}


@pytest.mark.parametrize("case", AUDITS)
def test_bad_arguments_of_audits(case):
    call, message = AUDITS[case]
    with pytest.raises(KernadvError, match=message):
        call()
