"""Starting where little is given: folders that cannot be written, a system that is not POSIX."""

import os
import subprocess
import sys

import pytest


def run(code, **variables):
    """Words that a fresh process prints."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | variables
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("beside", "user", "places"), [(True, True, ["beside"]), (False, True, ["user"]), (False, False, [])]
)
def test_compiled_loops_are_kept_where_they_can_be(tmp_path, beside, user, places):
    """A file in the place of the cache folder: not even root can write there."""
    package = tmp_path / "beside"
    package.mkdir()
    (package / "loops.py").write_text(
        "from kernadv._jit import compiled\n\n\n@compiled()\ndef twice(x):\n    return 2 * x\n"
    )
    if not beside:
        (package / "__pycache__").touch()
    if not user:
        (tmp_path / "user").touch()
    code = f"import sys; sys.path.insert(0, {str(package)!r}); import loops; print(loops.twice(21))"
    kept = {"XDG_CACHE_HOME": str(tmp_path / "user"), "PYTHONDONTWRITEBYTECODE": "1"}
    assert run(code, **kept) == run(code, **kept) == ["42"]
    assert [path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.nbi")] == places


def test_the_library_of_values_needs_no_module_that_windows_lacks(tmp_path):
    code = f"""if True:
        import sys
        sys.modules |= dict.fromkeys(("fcntl", "grp", "pwd", "resource", "termios"))
        import kernadv.auditing, kernadv.baselines, kernadv.cli, kernadv.simulation
        est = kernadv.KernelValueEstimator()
        est.advantages(["a", "a", "b"], [1.0, 0.0, 1.0], 1)
        est.save({str(tmp_path / "state")!r})
        print(len(est))
    """
    assert run(code) == ["2"]
