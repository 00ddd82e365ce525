"""The fused kernels in Triton's interpreter; it is chosen before Triton is imported, hence a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
HERE = Path(__file__).parent
REHEARSED = HERE / "suite_device.py"


def interpreted(suites, **environment):
    """What pytest prints on suites that pass in the interpreter."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider",
               f"--rootdir={HERE.parents[1]}", *map(str, suites)]  # fmt: skip
    environment = {**os.environ, "TRITON_INTERPRET": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    return done.stdout


def test_the_suite_of_the_device_is_rehearsed():
    """Everything of it but the GPU: small sizes, the interpreter, operators on the CPU, no graph and no watch on waiting."""
    assert "skipped" not in interpreted([REHEARSED], KERNADV_REHEARSE="1", KERNADV_BACKEND="torch")


def test_kernels_in_the_interpreter():
    """All in one process: seven times Triton and torch are half a minute."""
    suites = sorted(HERE.glob("suite_*.py"))
    assert len(suites) >= 7
    interpreted(path for path in suites if path != REHEARSED)
