"""Values over time against numbers of other programs."""

import numpy as np
import pytest

from kernadv import KernelValueEstimator, Steps
from kernadv.kernels import Exponential


def close(got, expected, rtol):
    got, expected = np.asarray(got), np.asarray(expected, float)
    assert (np.abs(got - expected) / (1 + np.abs(expected)) <= rtol).all()


def test_kae_brute_force(oracle):
    record = oracle("kae_triangular_bruteforce")
    for key, expected in {**record["expected"], **record["expected_exp"]}.items():
        name, h = key.split("_h")
        kernel = "triangular" if name == "tri" else Exponential(float(name.removeprefix("rho")))
        est = KernelValueEstimator.kae(float(h), kernel)
        steps, z = np.array(record["I"]), np.array(record["Z"])
        for step in np.unique(steps):
            est.observe(["x"] * int((steps == step).sum()), z[steps == step], int(step))
        got = est.values(["x"] * 4, record["current"], record["step"])
        for value, defined, want in zip(got.value, got.defined, expected, strict=True):
            assert defined == (want is not None)
            assert want is None or value == pytest.approx(want, rel=record["rtol"])


@pytest.mark.parametrize("backend", ["numba", "numpy", "torch"])
def test_exponential_smoothing_of_pandas(oracle, backend):
    """ewm(adjust=True) is the one-sided exponential kernel, the current point included: values right after observing."""
    record = oracle("pandas_ewm_onesided")
    expected = record["expected"]
    for clock, rho, mean in (
        (np.arange(1, len(record["y"]) + 1), record["rho"], expected["mean_regular"]),
        (np.array(record["t_irregular"]), record["rho_irregular"], expected["mean_irregular"]),
    ):
        est = KernelValueEstimator(Steps(1), Exponential(rho), backend=backend)
        value, variance, n_eff = [], [], []
        for step, z in zip(clock.tolist(), record["y"], strict=True):
            est.observe(["x"], [z], step)
            now = est.values(["x"], [np.nan], step)
            value.append(now.value[0]), variance.append(now.variance[0]), n_eff.append(now.n_eff[0])
        close(value, mean, record["rtol"])
        if clock[-1] == len(clock):  # pandas' unbiased variance is that of one observation
            close(np.array(variance)[1:] * np.array(n_eff)[1:], expected["var_unbiased_regular"][1:], record["rtol"])


def test_local_linear_at_the_newest_step_of_nprobust(oracle):
    record = oracle("nprob_bern200_onesided_ll")
    est = KernelValueEstimator(Steps(record["bandwidth_canonical"]), record["kernel"], smoother="local_linear")
    for step, z in zip(record["x"], record["y"], strict=True):
        est.observe(["x"], [z], step)
    got = est.values(["x"], [np.nan], record["x"][-1])
    close(got.value[0], record["expected"]["nn"]["tau_us"][-1], record["rtol"])
