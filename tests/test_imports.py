"""The package imports lightly and lists what it has."""

import importlib
import inspect
import pkgutil
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


#: Modules that a user imports from, and those that are there for who looks inside.
PUBLIC = [
    *kernadv._MODULES,
    *("batch", "ids", "parts", "resampling", "tally", "regression.bandwidth", "regression.inference"),
    *("adapters.remote", "adapters.samplers", "adapters.slime", "adapters.torchrl", "adapters.trl"),
    *("adapters.trl_async", "adapters.verl"),
]


@pytest.mark.parametrize("name", PUBLIC)
def test_what_completion_shows_is_ours(name):
    """No `np`, `Any` or `ABC`: each name of `dir` exists, and is of this package."""
    try:
        module = importlib.import_module(f"kernadv.{name}")
    except ImportError as missing:
        pytest.skip(str(missing))
    assert set(module.__all__) <= set(dir(module))
    for shown in dir(module):
        found = getattr(module, shown)
        if inspect.ismodule(found):
            assert found.__name__ == f"{module.__name__}.{shown}"
        elif inspect.isclass(found) or inspect.isfunction(found):
            assert found.__module__.startswith("kernadv."), shown


def test_every_module_says_what_it_shows():
    internal = {"cli", "device"}
    top = {m.name for m in pkgutil.iter_modules(kernadv.__path__) if not m.name.startswith("_")}
    assert top - internal <= set(PUBLIC)


def test_functions_are_not_hidden_by_modules():
    code = (
        "import kernadv.auditing, kernadv.simulation, kernadv.logs; from kernadv import audit, read_log, simulate, warmup\n"
        "print(all(map(callable, (audit, read_log, simulate, warmup))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_modules_are_found_and_imported_on_first_use():
    code = (
        "import sys, kernadv; before = 'numpy' in sys.modules\n"
        "print(before, 'kernels' in dir(kernadv), kernadv.kernels.get('gaussian').name)\n"
        "import pkgutil; print({m.name for m in pkgutil.iter_modules(kernadv.__path__)} >= set(kernadv._MODULES))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True", "gaussian", "True"], done.stderr


def test_after_the_warm_up_no_call_compiles():
    code = """if True:
        import sys
        import numpy as np
        import kernadv
        def compiled():
            loops = [x for m in list(sys.modules.values()) if m.__name__.startswith("kernadv") for x in vars(m).values()]
            return sum(len(x.signatures) for x in loops if hasattr(x, "signatures") and hasattr(x, "py_func"))
        none = compiled()
        kernadv.warmup()
        ready = compiled()
        rng = np.random.default_rng(0)
        for est in (kernadv.KernelValueEstimator(), kernadv.KernelValueEstimator.kae()):
            for step in range(1, 9):
                ids = [f"p{k}" for k in rng.integers(0, 30, 200)]
                est.advantages(ids, rng.integers(0, 2, 200).astype(float), step)
            est.predict(ids), est.metrics(), est.course(ids[0])
        print(none, ready > 10, compiled() - ready)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["0", "True", "0"], done.stderr + done.stdout


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kernadv.nothing
