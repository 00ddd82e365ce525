"""The package imports lightly and lists what it has."""

import subprocess
import sys

import pytest

import kernadv

HEAVY = [
    "torch",
    "triton",
    "numba",
    "scipy",
    "sklearn",
    "statsmodels",
    "matplotlib",
    "polars",
    "pyarrow",
    "typer",
    "rich",
]


def test_import_is_light():
    code = f"import sys, kernadv; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_estimator_does_not_import_torch():
    code = (
        "import sys; from kernadv import KernelValueEstimator\n"
        "KernelValueEstimator().advantages(['a'], [1.0], 1)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_reading_a_log_does_not_load_what_the_audit_computes_with(tmp_path):
    pytest.importorskip("polars")
    path = tmp_path / "log.csv"
    path.write_text("step,prompt,reward\n1,a,1\n1,a,0\n2,a,1\n2,a,1\n3,a,0\n3,a,1\n")
    code = (
        "import sys; from kernadv.logs import read_log\n"
        f"read_log({str(path)!r}); print([m for m in ('numba', 'scipy') if m in sys.modules])\n"
        "import kernadv.auditing; print('scipy.stats' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"], done.stderr


def test_public_names_exist():
    for name in kernadv.__all__:
        assert getattr(kernadv, name) is not None
    assert set(kernadv.__all__) <= set(dir(kernadv))


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kernadv.nothing
