"""Does kernadv install as the README says, and work from outside the checkout?

Installs the folder, a git URL and a wheel, into a fresh environment, with the pinned versions; each time
runs the command, the demo and a training loop in an empty folder.

Command: ``python .ci/install.py``; ``--every`` does so with every Python from 3.11 on that is on the PATH, ``make
install-test`` too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
#: pip before 24.1 wants a host; on Windows git would take it for that of a network share.
HOST = "" if os.name == "nt" else "localhost"
LOOP = """
import numpy as np
import kernadv
from kernadv import KernelValueEstimator

estimator = KernelValueEstimator()
for step in range(1, 6):
    advantages = estimator.advantages(["a", "a", "b"], np.array([1.0, 0.0, step > 2]), step)
estimator.save("state.safetensors")
again = KernelValueEstimator()
again.load("state.safetensors")
assert again.predict(["a"]).value == estimator.predict(["a"]).value
assert not kernadv.__file__.startswith(ROOT), kernadv.__file__
"""


def run(*command: str | Path, cwd: str | Path) -> str:
    """Output of a command that must succeed, in an environment that knows nothing of ours."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment |= {"PYTHONUTF8": "1", "COLUMNS": "100"}
    done = subprocess.run(command, cwd=cwd, env=environment, text=True, encoding="utf-8", stdout=-1, stderr=-2)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def interpreters() -> list[str]:
    """Every supported Python on the PATH that runs."""
    found = []
    for version in PYTHONS:
        path = shutil.which(f"python{version}")
        runs = path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0
        print(f"Python {version}: {path if runs else 'not here, passed over'}")
        found += [str(path)] if runs else []
    return found


def check(python: str) -> None:
    """Install and use each form of the package with one interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", "environment", cwd=folder)
        scripts = Path(folder) / "environment" / ("Scripts" if os.name == "nt" else "bin")
        pip = (scripts / "python", "-m", "pip", "--disable-pip-version-check")
        run(*pip, "wheel", "-q", "--no-deps", "-w", folder, str(ROOT), cwd=folder)
        (wheel,) = Path(folder).glob("kernadv-*.whl")
        shallow = run("git", "-C", ROOT, "rev-parse", "--is-shallow-repository", cwd=folder).strip() == "true"
        forms = {
            "folder": f"{ROOT}[audit]",
            "git URL": f"kernadv[audit] @ git+file://{HOST}{ROOT.as_uri().removeprefix('file://')}",
            "wheel": f"{wheel}[audit]",
        }
        if shallow:  # pip's partial clone of one asks git for the missing commits without end
            print(f"{python}, from a git URL: passed over, for this clone is shallow")
            del forms["git URL"]
        for form, what in forms.items():
            start, empty = time.perf_counter(), Path(folder) / form
            empty.mkdir()
            run(*pip, "uninstall", "-q", "-y", "kernadv", cwd=empty)
            run(*pip, "install", "-q", "-c", ROOT / "constraints.txt", what, cwd=empty)
            version = run(scripts / "kernadv", "--version", cwd=empty).strip()
            assert version == run(scripts / "python", "-m", "kernadv", "--version", cwd=empty).strip()
            assert "kernadv" in run(scripts / "kernadv", "audit", "--demo", "--html", "audit.html", cwd=empty)
            assert (empty / "audit.html").stat().st_size > 10_000
            run(scripts / "python", "-c", f"ROOT = {str(ROOT)!r}\n{LOOP}", cwd=empty)
            print(f"{python}, from a {form}: kernadv {version} works, after {time.perf_counter() - start:.0f} s")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", action="store_true", help="with every supported Python on the PATH")
    for python in interpreters() if parser.parse_args().every else [sys.executable]:
        check(python)


if __name__ == "__main__":
    main()
