"""Names of the selectors, and what a rule chooses for a design of few values."""

import warnings

import numpy as np
import pytest

from kernadv import ArgumentError
from kernadv.regression import BandwidthWarning, EmptyWindowWarning, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.bandwidth import ALIASES, SELECTORS, get

RNG = np.random.default_rng(0)
BINARY = RNG.integers(0, 2, 80).astype(float)
Y = BINARY + 0.1 * RNG.standard_normal(80)


@pytest.mark.parametrize(
    ("name", "selector"),
    [
        ("LOO", "leave_one_out"),
        ("cv", "leave_one_out"),
        ("LSCV", "leave_one_out"),
        ("cv.ls", "leave_one_out"),
        ("cv_ls", "leave_one_out"),
        ("AIC", "aicc"),
        ("cv.aic", "aicc"),
        ("AICc", "aicc"),
        ("GCV", "gcv"),
        ("dpill", "plug_in"),
        ("RSW", "plug_in"),
        ("plug-in", "plug_in"),
        ("rot", "rule_of_thumb"),
        ("Rule of thumb", "rule_of_thumb"),
        ("mse-dpi", "mse_optimal"),
        ("mse-rot", "mse_rule"),
        ("imse-rot", "quartic_rule"),
        (" One-Sided ", "one_sided"),
        ("K-fold", "k_fold"),
    ],
)
def test_usual_names(name, selector):
    assert get(name) is SELECTORS[selector]


def test_the_table_of_names():
    """Each leads to a selector, and none hides one."""
    assert set(ALIASES.values()) <= set(SELECTORS)
    assert not set(ALIASES) & set(SELECTORS)
    assert all(get(alias.upper()) is SELECTORS[name] for alias, name in ALIASES.items())


@pytest.mark.parametrize(
    ("name", "guess"),
    [("leave_one_ot", "leave_one_out"), ("dpil", "plug_in"), ("Silvermann", "silverman"), ("aiccc", "aicc")],
)
def test_the_nearest_name(name, guess):
    with pytest.raises(
        ArgumentError, match=f"unknown bandwidth selector '{name}'; known: aicc, .*did you mean '{guess}'"
    ):
        LocalLinear(name).fit(BINARY, Y)


def test_no_name_is_near():
    with pytest.raises(ArgumentError, match=r"unknown bandwidth selector 'xyzzy'; known: [a-z_, ]*$"):
        get("xyzzy")


@pytest.mark.parametrize("selector", ["rule_of_thumb", "silverman"])
@pytest.mark.parametrize("degree", [1, 2])
def test_a_rule_for_few_values(selector, degree):
    """Windows around 0 and 1 hold one place: said in fitting, unless something stands in."""
    with pytest.warns(
        BandwidthWarning, match="no wider than the gaps between the values of X: no window around one of them"
    ):
        fit = LocalPolynomial(degree, bandwidth=selector).fit(BINARY, Y)
    with pytest.warns(EmptyWindowWarning):
        assert np.isnan(fit.predict([0.0, 1.0])).all()
    with pytest.warns(BandwidthWarning, match="holds the 2 places that degree 1 needs") as caught:
        LocalLinear(selector).fit(RNG.integers(0, 2, (80, 2)), Y)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sound in (
            NadarayaWatson(selector).fit(BINARY, Y),
            LocalPolynomial(degree, bandwidth=selector, fall_back=True).fit(BINARY, Y),
            LocalLinear(selector, empty="widen").fit(BINARY, Y),
            LocalLinear(selector, kernel="gaussian").fit(BINARY, Y),
            LocalLinear(selector).fit(RNG.random(80), Y),
        ):
            assert np.isfinite(sound.predict([0.0, 1.0])).all()


@pytest.mark.parametrize("selector", ["one_sided", "leave_one_out"])
@pytest.mark.parametrize("seed", [4, 7])
def test_units_of_whole_numbers(selector, seed):
    """The search begins in the middle of a bracket: rounding, which depends on the unit, must not choose the side."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 10**12, 20_000 if selector == "one_sided" else 2000)
    y = np.sin(8 * z / 1e12) + 0.3 * rng.standard_normal(len(z))
    h = [LocalLinear(selector).fit(z * unit, y).bandwidth_[0] / unit for unit in (1, 1e-12, 1 / 3)]
    np.testing.assert_allclose(h, h[0], rtol=1e-11)
