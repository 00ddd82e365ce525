"""What it costs to start: imports, the first call with and without compiled loops on disk, and the size on disk.

Command: ``python -m benchmarks.startup``, a minute; writes ``results/startup.md``.  Each number is the median of fresh
processes; the size is that of a new environment with `kernadv` alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median

from benchmarks import RESULTS

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
#: What is timed, inside a process that has done the first part.
CASES = {
    "`import numpy`": ("", "import numpy"),
    "`import kernadv`": ("", "import kernadv"),
    "`from kernadv import KernelValueEstimator`": ("", "from kernadv import KernelValueEstimator"),
    "`from kernadv import LocalLinear`": ("", "from kernadv import LocalLinear"),
    "first `advantages`, loops compiled before": ("from kernadv import KernelValueEstimator as K", "CALL"),
    "second `advantages`": ("from kernadv import KernelValueEstimator as K; CALL", "CALL"),
    "`kernadv.warmup()`, loops compiled before": ("import kernadv", "kernadv.warmup()"),
    "first `advantages` after it": ("from kernadv import KernelValueEstimator as K, warmup; warmup()", "CALL"),
}
COLD = {
    "first `advantages` on a new machine": ("from kernadv import KernelValueEstimator as K", "CALL"),
    "`kernadv.warmup()` on a new machine": ("import kernadv", "kernadv.warmup()"),
}
CALL = "K().advantages(['a', 'a', 'b'], [1.0, 0.0, 1.0], 1)"


def seconds(before: str, timed: str, cache: str) -> float:
    """Of one statement in a fresh process."""
    code = f"{before}\nimport time; start = time.perf_counter()\n{timed}\nprint(time.perf_counter() - start)"
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code.replace("CALL", CALL)]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def size() -> str:
    """Of a fresh environment with the package and what it requires, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        before = weight(Path(folder))
        pip = [
            Path(folder) / "bin" / "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "-c",
            ROOT / "constraints.txt",
        ]
        subprocess.run([*pip, ROOT], check=True, capture_output=True)
        return f"{(weight(Path(folder)) - before) / 1e6:.0f} MB"


def weight(folder: Path) -> int:
    """Bytes of all files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def main() -> None:
    """Measure and write the table."""
    lines = [
        "# Starting\n\nMade by `python -m benchmarks.startup`; medians of fresh processes.\n",
        "| what | |",
        "|---|---:|",
    ]
    with tempfile.TemporaryDirectory() as warm:
        for before, timed in CASES.values():
            seconds(before, timed, warm)
        for name, (before, timed) in CASES.items():
            lines.append(f"| {name} | {1e3 * median(seconds(before, timed, warm) for _ in range(ROUNDS)):.0f} ms |")
    for name, (before, timed) in COLD.items():
        with tempfile.TemporaryDirectory() as cold:
            lines.append(f"| {name} | {seconds(before, timed, cold):.1f} s |")
    lines.append(f"| `pip install .` in a new environment | {size()} |")
    (RESULTS / "startup.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
