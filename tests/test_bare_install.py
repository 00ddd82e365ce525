"""What `pip install kernadv` brings without extras: four requirements, and all that a training loop needs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kernadv

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = {"numpy", "scipy", "numba", "safetensors"}

pytestmark = pytest.mark.skipif(
    Path(kernadv.__file__).parents[1] != ROOT, reason="builds a wheel of the checkout, and here one is tested already"
)


def run(*command, **options):
    """Output of a command that must succeed, away from this environment's packages."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, env=environment, text=True, stdout=-1, stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Python of a fresh environment with the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("bare")
    source = folder / "source"
    shutil.copytree(ROOT / "kernadv", source / "kernadv", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source)
    run(sys.executable, "-m", "venv", folder / "environment")
    python = folder / "environment" / "bin" / "python"
    (wheel,) = folder.glob("kernadv-*.whl")
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", wheel)
    return python


def test_four_requirements(bare):
    listed = {package["name"] for package in json.loads(run(bare, "-m", "pip", "list", "--format=json"))}
    assert listed - {"kernadv", "pip", "setuptools"} == REQUIREMENTS | {"llvmlite"}  # the last one is numba's


def test_the_description_has_no_relative_links(bare, tmp_path):
    code = "from importlib.metadata import metadata; print(metadata('kernadv').get_payload())"
    text = run(bare, "-c", code, cwd=tmp_path)
    assert text.strip().startswith("# kernadv")
    links = re.findall(r"\]\(([^)]+)", text)
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_training_loop_of_the_readme(bare, tmp_path):
    (code,) = re.findall(r"```python\n(from kernadv import Kernel.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert "n_eff" in run(bare, "-c", f"rollouts = lambda step: (['a', 'b'], [0.0, 1.0])\n{code}", cwd=tmp_path)
    assert (tmp_path / "kernadv.safetensors").exists()


def test_the_command_says_what_it_is_and_what_it_needs(bare, tmp_path):
    command = bare.parent / "kernadv"
    assert (
        run(command, "--version").strip()
        == run(bare, "-m", "kernadv", "--version", cwd=tmp_path).strip()
        == kernadv.__version__
    )
    for options in ([], ["--help"], ["audit", "--help"]):
        assert 'pip install "kernadv[audit]"' in " ".join(run(command, *options).split())
    done = subprocess.run([command, "audit", "log.csv"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(
        'error: the command line needs typer, which is not installed; run: pip install "kernadv['
    )


def test_the_library_of_values_stands_alone(bare):
    code = """
        import kernadv.auditing, kernadv.baselines, kernadv.estimator, kernadv.pooling, kernadv.simulation, pkgutil
        print(len(kernadv.baselines.discover()))
    """
    assert int(run(bare, "-c", "\n".join(line.strip() for line in code.splitlines()))) > 30


def test_kernel_regression_names_its_extra(bare):
    code = "try:\n    from kernadv import LocalLinear\nexcept ImportError as error:\n    print(error)"
    expected = 'kernel regression needs sklearn, which is not installed; run: pip install "kernadv[regression]"'
    assert run(bare, "-c", code).strip() == expected
