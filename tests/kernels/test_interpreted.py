"""The fused kernels in Triton's interpreter; it is chosen before Triton is imported, hence a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
HERE = Path(__file__).parent


def test_the_suite_of_the_device_is_rehearsed():
    """Everything of it but the GPU: small sizes, the interpreter, operators on the CPU, no graph and no watch on waiting."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider",
               f"--rootdir={HERE.parents[1]}", str(HERE / "suite_device.py")]  # fmt: skip
    environment = {**os.environ, "TRITON_INTERPRET": "1", "KERNADV_REHEARSE": "1", "KERNADV_BACKEND": "torch"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("suite", sorted(path.name for path in HERE.glob("suite_*.py") if path.stem != "suite_device"))
def test_kernels_in_the_interpreter(suite):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider",
               f"--rootdir={HERE.parents[1]}", str(HERE / suite)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert " failed" not in done.stdout
