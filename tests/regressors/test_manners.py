"""What users of scikit-learn, pandas, polars and R expect: lines, Series, missing values, times, routing, pictures."""

import datetime
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score

from kernadv import ArgumentError
from kernadv.regression import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson

RNG = np.random.default_rng(2)
LINE = RNG.random(60)
Y = np.sin(6 * LINE) + 0.1 * RNG.standard_normal(60)
ASK = np.array([0.2, 0.5, 0.7])
EVERY = pytest.mark.parametrize(
    "regressor", [NadarayaWatson(0.3), LocalPolynomial(2, bandwidth=0.4), KNeighborsSmoother(9, degree=1)], ids=repr
)


def answers(fit, x, at):
    """Everything that takes queries, as arrays."""
    intervals = (*fit.interval(at)[:3], *fit.band(at)[:3])
    derivative = [] if fit.degree == 0 and not hasattr(fit, "bandwidth_") else [fit.derivative(at)]
    return [
        fit.predict(at),
        *fit.predict(at, return_std=True),
        fit.hat_matrix(at),
        fit.score(x, Y),
        *intervals,
        *derivative,
    ]


class TestLines:
    @EVERY
    @pytest.mark.parametrize("make", [np.array, list, pd.Series, pl.Series], ids=["array", "list", "pandas", "polars"])
    def test_one_column(self, regressor, make):
        expected = answers(clone(regressor).fit(LINE[:, None], Y), LINE[:, None], ASK[:, None])
        got = answers(clone(regressor).fit(make(LINE), make(Y)), make(LINE), make(ASK))
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(
            clone(regressor).fit(make(LINE), Y).loo_predict(), clone(regressor).fit(LINE[:, None], Y).loo_predict()
        )

    @pytest.mark.parametrize("make", [pd.Series, pl.Series])
    def test_the_name_of_a_series(self, make):
        named = make(LINE.tolist(), name="dose") if make is pd.Series else make("dose", LINE)
        fit = LocalLinear(0.3).fit(named, Y)
        assert fit.feature_names_in_.tolist() == ["dose"]
        other = named.rename("other")
        with pytest.raises(ValueError, match="feature names should match"):
            fit.predict(other)
        assert not hasattr(LocalLinear(0.3).fit(make(LINE), Y), "feature_names_in_")

    @pytest.mark.parametrize("backend", ["numba", "torch"])
    def test_tensors(self, backend):
        torch = pytest.importorskip("torch")
        fit = LocalLinear(0.3, backend=backend).fit(torch.tensor(LINE), torch.tensor(Y))
        expected = LocalLinear(0.3).fit(LINE, Y).predict(ASK)
        np.testing.assert_allclose(fit.predict(torch.tensor(ASK)).numpy(), expected, rtol=1e-7)
        np.testing.assert_allclose(fit.predict(ASK), expected, rtol=1e-7)

    def test_several_columns_need_rows(self):
        fit = LocalLinear(0.5).fit(np.column_stack([LINE, LINE**2]), Y)
        for ask in (fit.predict, fit.interval, fit.band, fit.derivative, fit.hat_matrix):
            with pytest.raises(
                ArgumentError, match=r"X is one-dimensional, and the fit had 2 columns\. Reshape your data"
            ):
                ask(ASK)

    def test_lengths(self):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            LocalLinear(0.3).fit(LINE, Y[1:])
        with pytest.raises(ValueError, match="dim 3"):
            LocalLinear(0.3).fit(LINE[:, None, None], Y)


GONE = np.zeros(60, bool)
GONE[[3, 7, 9, 20]] = True


class TestMissing:
    def holes(self, kind):
        x, y, weights, groups = LINE.copy(), Y.copy(), np.ones(60), np.repeat(["a", "b"], 30).astype(object)
        x[3], y[7], weights[9], groups[20] = np.nan, np.nan, np.nan, None
        if kind == "pandas":
            return (
                pd.DataFrame({"x": pd.array(x, dtype="Float64")}),
                pd.Series(y),
                pd.Series(weights),
                pd.Series(groups),
            )
        if kind == "polars":
            frame = pl.DataFrame({"x": [None if np.isnan(value) else value for value in x]})
            return frame, pl.Series(y), pl.Series(weights), pl.Series(groups.tolist())
        if kind == "masked":
            return np.ma.array(LINE, mask=np.isnan(x)), y, weights, groups
        return x, y, weights, groups

    @pytest.mark.parametrize("kind", ["array", "pandas", "polars", "masked"])
    def test_rows_are_left_out(self, kind):
        x, y, weights, groups = self.holes(kind)
        fit = LocalLinear(0.4, missing="drop").fit(x, y, weights, groups)
        names = np.repeat(["a", "b"], 30)
        less = LocalLinear(0.4).fit(LINE[~GONE], Y[~GONE], groups=names[~GONE])
        ask, who = np.array([0.2, 0.5, 0.7]), np.array(["a", "b", "a"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            np.testing.assert_array_equal(fit.predict(ask, groups=who), less.predict(ask, groups=who))
            hat = fit.hat_matrix(ask, groups=who)
        assert hat.shape == (3, 60)
        assert not hat[:, GONE].any()
        np.testing.assert_array_equal(hat[:, ~GONE], less.hat_matrix(ask, groups=who))
        loo = fit.loo_predict()
        assert np.isnan(loo[GONE]).all()
        np.testing.assert_array_equal(loo[~GONE], less.loo_predict())
        assert fit.n_missing_ == 4
        assert "Note: 4 rows with missing values were left out." in fit.summary()
        assert re.search("No. observations: +56 in 2 series", fit.summary())
        assert fit.score(x, y, weights, groups=groups) == less.score(LINE[~GONE], Y[~GONE], groups=names[~GONE])

    def test_queries(self):
        fit = LocalLinear(0.4, missing="drop").fit(LINE, Y)
        whole = LocalLinear(0.4).fit(LINE, Y)
        holes, left = np.array([np.nan, 0.2, 0.5, np.nan]), [1, 2]
        for name in ("predict", "derivative", "hat_matrix"):
            got = getattr(fit, name)(holes)
            assert np.isnan(got[[0, 3]]).all()
            np.testing.assert_array_equal(got[left], getattr(whole, name)(holes[left]))
        for name in ("interval", "band"):
            for part, other in zip(getattr(fit, name)(holes)[:3], getattr(whole, name)(holes[left])[:3], strict=True):
                assert np.isnan(part[[0, 3]]).all()
                np.testing.assert_array_equal(part[left], other)
        assert np.isnan(fit.predict([np.nan, np.nan])).all()
        with pytest.raises(ValueError, match="contains NaN"):
            whole.predict(holes)

    def test_in_scikit_learn(self):
        x, y = LINE.copy(), Y.copy()
        x[5], y[11] = np.nan, np.nan
        model = clone(LocalLinear(0.4, missing="drop"))
        search = GridSearchCV(model, {"bandwidth": [0.3, 0.6]}, cv=KFold(3), scoring=None).fit(x[:, None], y)
        assert search.best_estimator_.missing == "drop"
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    def test_errors(self):
        with pytest.raises(ArgumentError, match="unknown missing 'omit'; known: drop, raise"):
            LocalLinear(0.3, missing="omit").fit(LINE, Y)
        with pytest.raises(ArgumentError, match="each of the 60 rows has a missing value"):
            LocalLinear(0.3, missing="drop").fit(LINE * np.nan, Y)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            LocalLinear(0.3, missing="drop").fit(LINE, Y[1:])
        with pytest.raises(ValueError, match="infinity"):
            LocalLinear(0.3, missing="drop").fit(np.append(LINE[1:], np.inf), Y)


DATES = np.datetime64("2024-02-20") + np.arange(60).astype("timedelta64[D]")
TIMES = {
    "days": DATES,
    "microseconds": DATES.astype("datetime64[us]"),
    "nanoseconds": DATES.astype("datetime64[ns]"),
    "list of dates": DATES.astype(object).tolist(),
    "list with a zone": [datetime.datetime(d.year, d.month, d.day, tzinfo=datetime.UTC) for d in DATES.astype(object)],
    "pandas": pd.Series(DATES),
    "pandas ns": pd.Series(DATES.astype("datetime64[ns]")),
    "pandas index": pd.DatetimeIndex(DATES),
    "pandas zone": pd.Series(DATES).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
    "pandas frame": pd.DataFrame({0: DATES}),
    "polars date": pl.Series(DATES),
    "polars": pl.Series(DATES).cast(pl.Datetime("ms")),
    "polars zone": pl.Series(DATES).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
}


class TestTimes:
    @pytest.mark.parametrize("name", TIMES)
    def test_days_in_every_type(self, name):
        """The numbers of a fit of days since 1970-01-01, counted by Python."""
        days = np.array([(d - datetime.date(1970, 1, 1)).days for d in DATES.astype(object)], float)
        expected = LocalLinear(10.0).fit(days, Y).predict(days)
        for bandwidth in (10, datetime.timedelta(days=10), np.timedelta64(240, "h"), pd.Timedelta("10D")):
            fit = LocalLinear(bandwidth).fit(TIMES[name], Y)
            assert fit.bandwidth_.tolist() == [10.0]
            np.testing.assert_array_equal(fit.predict(TIMES[name]), expected)
        np.testing.assert_array_equal(fit.predict(days), expected)
        assert "Bandwidth 10 days" in fit.summary()

    def test_parts_of_a_day(self):
        stamp = np.datetime64("1969-12-31T06:00:00.000000")
        fit = NadarayaWatson(1.0).fit(stamp + np.arange(8).astype("timedelta64[h]"), np.arange(8.0))
        np.testing.assert_allclose(fit._smoother.x[:, 0], -0.75 + np.arange(8) / 24, rtol=1e-14)

    @pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
    def test_a_column_of_a_frame(self, frame):
        data = frame({"when": DATES, "dose": LINE})
        fit = LocalLinear([datetime.timedelta(days=20), 0.7]).fit(data, Y)
        assert fit.times_ == {0: "M"}
        assert "Bandwidth 20 days, 0.7" in fit.summary()
        number = np.column_stack([DATES.astype(int), LINE])
        np.testing.assert_array_equal(fit.predict(data), LocalLinear([20.0, 0.7]).fit(number, Y).predict(number))
        assert data["when"].dtype != float

    def test_durations(self):
        fit = LocalLinear(np.timedelta64(36, "h")).fit(DATES - DATES[0], Y)
        np.testing.assert_array_equal(fit.predict([3.0]), LocalLinear(1.5).fit(np.arange(60.0), Y).predict([3.0]))

    def test_missing_times(self):
        holes = DATES.astype("datetime64[us]")
        holes[4] = np.datetime64("NaT")
        fit = LocalLinear(10, missing="drop").fit(holes, Y)
        assert fit.n_missing_ == 1
        assert np.isnan(fit.predict(holes)).tolist() == np.isnat(holes).tolist()
        with pytest.raises(ValueError, match="contains NaN"):
            LocalLinear(10).fit(holes, Y)

    def test_errors(self):
        with pytest.raises(ArgumentError, match="is a duration, and column 0 holds no times"):
            LocalLinear(datetime.timedelta(days=1)).fit(LINE, Y)
        with pytest.raises(ArgumentError, match="column 0 was numbers in fitting, got times"):
            LocalLinear(0.3).fit(LINE, Y).predict(DATES)
        with pytest.raises(ArgumentError, match="column 0 was times in fitting, got durations"):
            LocalLinear(10).fit(DATES, Y).predict(DATES - DATES[0])
        with pytest.raises(ArgumentError, match="bandwidth must be positive"):
            LocalLinear(datetime.timedelta(days=-1)).fit(DATES, Y)


class TestRouting:
    """Groups through scikit-learn's metadata routing."""

    def test_series(self):
        """Each row is predicted from the other rows of its series; scores are those of a loop by hand."""
        names = np.tile(["a", "b"], 30)
        y, split = Y + 5.0 * (names == "b"), KFold(3, shuffle=True, random_state=0)
        with sklearn.config_context(enable_metadata_routing=True):
            model = NadarayaWatson(0.3).set_fit_request(groups=True).set_score_request(groups=True)
            model = model.set_predict_request(groups=True)
            search = GridSearchCV(model, {"bandwidth": [0.2, 0.4]}, cv=split).fit(LINE[:, None], y, groups=names)
            scores = cross_val_score(
                model.set_params(bandwidth=0.2), LINE[:, None], y, cv=split, params={"groups": names}
            )
        by_hand = []
        for train, test in split.split(LINE):
            fit = NadarayaWatson(0.2).fit(LINE[train], y[train], groups=names[train])
            rest = y[test] - fit.predict(LINE[test], groups=names[test])
            by_hand.append(1.0 - (rest**2).sum() / ((y[test] - y[test].mean()) ** 2).sum())
        np.testing.assert_allclose(scores, by_hand)
        np.testing.assert_allclose([search.cv_results_[f"split{k}_test_score"][0] for k in range(3)], by_hand)
        assert search.best_estimator_.groups_.tolist() == ["a", "b"]

    def test_folds_of_groups(self):
        """The groups go to the folds, and not to a fit that has no series."""
        names = np.arange(60) % 6
        with sklearn.config_context(enable_metadata_routing=True):
            model = NadarayaWatson(empty="nearest").set_fit_request(groups=False).set_score_request(groups=False)
            search = GridSearchCV(model, {"bandwidth": [0.1, 0.3, 1.0]}, cv=GroupKFold(3))
            search.fit(LINE[:, None], Y, groups=names)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.best_estimator_.groups_ is None

    def test_score_needs_the_groups(self):
        fit = NadarayaWatson(0.3).fit(LINE, Y, groups=np.arange(60) % 2)
        with pytest.raises(ArgumentError, match="name the group of each query"):
            fit.score(LINE, Y)


class TestNeighbours:
    """The default k."""

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"kernel": "uniform"},
            {"degree": 1, "ties": "distinct"},
            {"ties": "distinct"},
            {"scale": 2.0},
            {"metric": "manhattan"},
        ],
        ids=str,
    )
    def test_error_of_refits(self, settings):
        """The criterion at k is the mean square error of fits without the row, and the chosen k has the smallest."""
        x = np.round(LINE, 2)
        fit = KNeighborsSmoother(**settings).fit(x, Y)
        grid, curve = fit.selection_.grid[:, 0].astype(int), fit.selection_.curve
        assert fit.k_ == grid[np.flatnonzero(curve <= curve.min() * (1 + 1e-10))[-1]]
        for place in (int(np.argmin(curve)), len(grid) - 1):
            k = int(grid[place])
            errors = []
            for i in range(60):
                rest = np.arange(60) != i
                errors.append(Y[i] - KNeighborsSmoother(k, **settings).fit(x[rest], Y[rest]).predict(x[[i]])[0])
            np.testing.assert_allclose(curve[place], np.mean(np.square(errors)), rtol=1e-9)

    def test_names_and_report(self):
        fit = KNeighborsSmoother().fit(LINE, Y)
        assert fit.get_params()["k"] == "leave_one_out"
        assert f"neighbour {fit.k_} selected by leave-one-out" in fit.summary()
        for name in ("LOO", "cv", "k_neighbors", "knn"):
            assert KNeighborsSmoother(name).fit(LINE, Y).k_ == fit.k_
        assert KNeighborsSmoother(5).fit(LINE, Y).selection_ is None

    def test_large_samples(self):
        """More than 1000 rows: the k is as good as the best, by the error against the truth."""
        x = np.random.default_rng(1).random(4000)
        truth = np.sin(6 * x)
        y = truth + 0.3 * np.random.default_rng(2).standard_normal(4000)
        loss = lambda k: float(np.mean((KNeighborsSmoother(k).fit(x, y).predict(x) - truth) ** 2))
        assert loss("leave_one_out") < 1.25 * min(loss(k) for k in (100, 200, 300, 400, 600))

    def test_device(self):
        torch = pytest.importorskip("torch")
        fit = KNeighborsSmoother(backend="torch").fit(torch.tensor(LINE), torch.tensor(Y))
        assert fit.k_ == KNeighborsSmoother().fit(LINE, Y).k_

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"k": "gcv"}, "k must be a whole number >= 1, or a share between 0 and 1, or 'leave_one_out', got 'gcv'"),
            ({"kernel": "inverse_distance"}, "interpolates, so that no number of neighbours is chosen; give k"),
        ],
    )
    def test_errors(self, settings, message):
        with pytest.raises(ArgumentError, match=message):
            KNeighborsSmoother(**settings).fit(LINE, Y)
        with pytest.raises(ArgumentError, match="x is constant"):
            KNeighborsSmoother().fit(0 * LINE, Y)
        with pytest.raises(ArgumentError, match="needs at least 3 rows"):
            KNeighborsSmoother().fit(LINE[:2], Y[:2])


class TestPictures:
    @pytest.fixture
    def draw(self):
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        yield lambda fit: fit.plot()
        plt.close("all")

    def test_names_and_legend(self, draw):
        ax = draw(LocalLinear(0.4).fit(pd.Series(LINE, name="dose"), pd.Series(Y, name="pain")))
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "pain")
        ax.figure.canvas.draw()
        legend, inside = ax.get_legend().get_window_extent(), ax.get_window_extent()
        assert legend.y0 >= inside.y1 - 1  # above the axes
        assert legend.y1 <= ax.figure.bbox.y1
        assert legend.x1 <= ax.figure.bbox.x1
        assert ax.get_legend().get_title().get_text() == "interval and band cover the regression function"

    def test_dates(self, draw):
        ax = draw(LocalLinear(10).fit(DATES, Y))
        ax.figure.canvas.draw()
        assert any("Mar" in label.get_text() for label in ax.get_xticklabels())

    @pytest.mark.parametrize("estimator", [LocalLinear(0.3), KNeighborsSmoother(8)], ids=repr)
    def test_two_columns(self, draw, estimator):
        plane = pd.DataFrame(RNG.random((60, 2)), columns=["width", "height"])
        ax = draw(estimator.fit(plane, pd.Series(Y, name="pain")))
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("width", "height")
        bar = ax.figure.axes[1]
        assert bar.get_ylabel() == f"{type(estimator).__name__} of pain"
        assert len(ax.collections[-1].get_offsets()) == 60

    def test_neighbours(self, draw):
        assert draw(KNeighborsSmoother(9, degree=1).fit(LINE, Y)).get_legend() is not None
        assert len(draw(KNeighborsSmoother(4, kernel="inverse_distance").fit(LINE, Y)).collections) == 1

    def test_what_it_does_not_draw(self, draw):
        message = "plot draws one or two continuous columns, one response and no groups"
        table = np.column_stack([LINE, np.arange(60) % 2])
        for fit in (
            LocalLinear([0.3, 0.1], categorical={1: "unordered"}).fit(table, Y),
            LocalLinear(0.3).fit(LINE, np.column_stack([Y, Y])),
            LocalLinear(0.3).fit(LINE, Y, groups=np.arange(60) % 2),
            NadarayaWatson(2.0).fit(RNG.random((60, 3)), Y),
        ):
            with pytest.raises(ArgumentError, match=message):
                draw(fit)
