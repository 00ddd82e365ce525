"""Residual correlation against statsmodels, series by series."""

import numpy as np
import pytest
from statsmodels.stats.diagnostic import acorr_ljungbox
from statsmodels.tsa.stattools import acf

from kernadv._errors import ArgumentError
from kernadv.regression.inference.diagnostics import autocorrelation, ljung_box


def sample(correlation=0.5, series=8, seed=0):
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(series) * 3, rng.integers(20, 60, series))
    e = rng.normal(size=len(label))
    for t in range(1, len(e)):
        e[t] += correlation * e[t - 1] * (label[t] == label[t - 1])
    order = rng.permutation(len(label))
    return e[order], np.arange(len(e), dtype=float)[order], label[order]


@pytest.mark.parametrize("lags", [1, 5, 10])
@pytest.mark.parametrize("fitted", [0, 1])
def test_statsmodels(lags, fitted):
    e, time, label = sample()
    correlation = autocorrelation(e, time, lags, label)
    if fitted < lags:
        test = ljung_box(e, time, lags, label, fitted)
        np.testing.assert_array_equal(test.series, np.unique(label))
    for s, name in enumerate(np.unique(label)):
        mine = label == name
        one = e[mine][np.argsort(time[mine])]
        np.testing.assert_allclose(correlation.correlation[s], acf(one, nlags=lags, fft=False)[1:], atol=1e-12)
        if fitted < lags:
            expected = acorr_ljungbox(one, [lags], model_df=fitted)
            np.testing.assert_allclose(test.statistic[s], expected["lb_stat"].iloc[0], rtol=1e-10)
            np.testing.assert_allclose(test.p_value[s], expected["lb_pvalue"].iloc[0], rtol=1e-9)


def test_pooled():
    e, time, label = sample(series=300)
    got = autocorrelation(e, time, 3, label)
    np.testing.assert_allclose(got.pooled, np.average(got.correlation, axis=0, weights=got.points), rtol=1e-12)
    assert got.pooled[0] == pytest.approx(0.5, abs=0.08)


def test_size_and_power():
    """5% of independent series are rejected; most correlated ones are."""
    e, time, label = sample(0.0, 2000)
    assert (ljung_box(e, time, 5, label).p_value < 0.05).mean() == pytest.approx(0.05, abs=0.015)
    e, time, label = sample(0.7, 500)
    assert (ljung_box(e, time, 5, label).p_value < 0.05).mean() > 0.8


def test_laws():
    e, time, label = sample()
    one = ljung_box(e, time, 4, label)
    order = np.random.default_rng(1).permutation(len(e))
    mixed = ljung_box(3 - 2 * e[order], time[order], 4, label[order])
    np.testing.assert_allclose(mixed.statistic, one.statistic, rtol=1e-9)
    alone = ljung_box(e[label == 3], time[label == 3], 4)
    np.testing.assert_allclose(alone.statistic[0], one.statistic[1], rtol=1e-12)


def test_constant_and_short_series():
    e = np.array([0.1, 0.1, 0.1, 1.0, 2.0, 0.5, -1.0, 2.0])
    label = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    got = autocorrelation(e, np.arange(8.0), 2, label)
    assert np.isnan(got.correlation[0]).all()
    assert np.isfinite(got.correlation[1:, 0]).all()
    assert np.isnan(got.correlation[1, 1])
    assert np.isnan(ljung_box(e, np.arange(8.0), 2, label).p_value).tolist() == [True, True, False]
    assert np.isnan(autocorrelation(e[:1], np.zeros(1), 3).pooled).all()


def test_bad_input():
    e, time, label = sample()
    with pytest.raises(ArgumentError, match="one residual, time and series"):
        autocorrelation(e, time[1:])
    with pytest.raises(ArgumentError, match="must be finite"):
        autocorrelation(e * np.nan, time)
    with pytest.raises(ArgumentError, match="lags must be"):
        autocorrelation(e, time, 0)
    with pytest.raises(ArgumentError, match="between 0 and lags - 1"):
        ljung_box(e, time, 2, label, 2)
