"""The tools of scikit-learn, data frames and tensors around the regressors."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kernadv.kernels import Exponential
from kernadv.regression import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.bandwidth import get

RNG = np.random.default_rng(0)
X = RNG.random((90, 2))
Y = np.sin(6 * X[:, 0]) + X[:, 1] + 0.1 * RNG.normal(size=90)
EVERY = [NadarayaWatson(0.3), LocalLinear(0.5), LocalPolynomial(2, bandwidth=0.9), KNeighborsSmoother(8)]
every = pytest.mark.parametrize("regressor", EVERY, ids=repr)


def test_grid_search():
    search = GridSearchCV(LocalLinear(kernel="gaussian"), {"bandwidth": [0.1, 1.0, 5.0]}, cv=3).fit(X, Y)
    assert search.best_params_ == {"bandwidth": 0.1}
    search = GridSearchCV(KNeighborsSmoother(), {"k": [2, 8, 60], "degree": [0]}, cv=3).fit(X, Y)
    assert search.best_params_["k"] == 8


def test_pipeline():
    pipeline = make_pipeline(StandardScaler(), LocalLinear(0.4, kernel="gaussian"))
    assert cross_val_score(pipeline, X, Y, cv=3).mean() > 0.8
    weights = {"locallinear__sample_weight": np.ones(90)}
    np.testing.assert_allclose(pipeline.fit(X, Y, **weights).predict(X), pipeline.fit(X, Y).predict(X))


@every
def test_pickle_and_clone(regressor):
    regressor.fit(X, Y)
    again = pickle.loads(pickle.dumps(regressor))
    np.testing.assert_array_equal(again.predict(X), regressor.predict(X))
    assert repr(clone(regressor)) == repr(regressor)
    assert not hasattr(clone(regressor), "n_features_in_")


def test_objects_as_parameters():
    line = X[:, :1]
    fit = LocalLinear(get("gcv"), kernel=Exponential(0.5))
    parameters = fit.get_params()
    assert clone(fit).fit(line, Y).selection_.criterion.startswith("GCV") or clone(fit).fit(line, Y).selection_
    fit.fit(line, Y)
    assert all(fit.get_params()[name] is value for name, value in parameters.items())
    np.testing.assert_array_equal(
        fit.predict(line), LocalLinear("gcv", kernel=Exponential(0.5)).fit(line, Y).predict(line)
    )


@every
def test_float32(regressor):
    assert regressor.fit(X, Y).predict(X.astype(np.float32)).dtype == np.float32
    assert regressor.predict(X).dtype == np.float64
    assert regressor.predict((10 * X).astype(int) / 10).dtype == np.float64


def test_names_of_columns():
    frame = pytest.importorskip("polars").DataFrame({"time": X[:, 0], "size": X[:, 1]})
    fit = LocalLinear(0.5).fit(frame, Y)
    assert fit.feature_names_in_.tolist() == ["time", "size"]
    np.testing.assert_array_equal(fit.predict(frame), LocalLinear(0.5).fit(X, Y).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        fit.predict(frame.rename({"size": "length"}))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int64"])
def test_tensors(dtype):
    torch = pytest.importorskip("torch")
    kind = getattr(torch, dtype)
    x = torch.tensor(10 * X, requires_grad=dtype == "float64").to(kind)
    y = torch.tensor(Y)
    fit = LocalLinear(5.0).fit(x, y, torch.ones(90), groups=torch.zeros(90, dtype=torch.int64))
    value, error = fit.predict(x, return_std=True, groups=torch.zeros(90, dtype=torch.int64))
    assert value.dtype == error.dtype == (torch.float32 if dtype == "int64" else kind)
    assert value.device == x.device
    assert not value.requires_grad
    expected = LocalLinear(5.0).fit(x.detach().double().numpy(), Y).predict(x.detach().double().numpy())
    rtol = {"float64": 1e-12, "bfloat16": 1e-2}.get(dtype, 1e-5)
    np.testing.assert_allclose(value.double().numpy(), expected, rtol=rtol)
    assert fit.derivative(x, groups=torch.zeros(90, dtype=torch.int64)).shape == (90, 2)
    hat = fit.hat_matrix(x[:3], groups=torch.zeros(3, dtype=torch.int64))
    assert (hat.shape, hat.dtype) == ((3, 90), value.dtype)
    assert fit.loo_predict().dtype == torch.float64
    assert not LocalLinear(5.0).fit(x, y.requires_grad_()).loo_predict().requires_grad


def test_torch_is_not_imported():
    import subprocess
    import sys

    code = (
        "import sys; from kernadv import LocalLinear\n"
        "LocalLinear(1.0).fit([[0.0], [1.0], [2.0]], [0, 1, 2]).predict([[1.0]])\n"
        "print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
