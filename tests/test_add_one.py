"""The examples of CONTRIBUTING, added to a copy of the package: each is one file, found and working."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kernadv

CONTRIBUTING = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"
EXAMPLE = re.compile(r"```python\n# (?:at the end of )?(kernadv/\S+\.py)\n(.*?)```", re.DOTALL)

#: What is done with each addition, in a process that imports the copy.
KERNEL = """
from scipy.integrate import quad

from kernadv import KernelValueEstimator, NadarayaWatson
from kernadv.kernels import get

kernel = get("smoothstep")
for k in range(4):
    assert abs(quad(lambda u: u**k * kernel.profile(u), 0, 1)[0] - kernel.moment(k)) < 1e-12
    assert abs(quad(lambda u: u**k * kernel.profile(u) ** 2, 0, 1)[0] - kernel.square_moment(k)) < 1e-12
estimator = KernelValueEstimator.kae(1.0, "smoothstep")
estimator.observe(["a", "a", "b"], [1.0, 0.0, 1.0], 1)
lag = float(kernel.profile(0.5))
assert estimator.values(["a"], [1.0], 2).value.tolist() == [0.5]
fit = NadarayaWatson(1.0, kernel="smoothstep").fit([[0.0], [0.5], [3.0]], [0.0, 1.0, 9.0])
assert abs(fit.predict([[0.0]])[0] - lag / (1 + lag)) < 1e-12
"""
BASELINE = """
import numpy as np

from kernadv.auditing import audit
from kernadv.groups import aggregate

rng = np.random.default_rng(0)
prompt, step = np.repeat(np.arange(6), 20), np.tile(np.arange(1, 21), 6)
s = rng.binomial(4, 0.5, 120).astype(float)
found = audit(aggregate(prompt, step, np.full(120, 4), s, s), draws=40, baselines=["half_way"])
assert found.finding("half_way").title == "half-way from RLOO to the batch mean"
assert 0 < found.finding("half_way").mse.estimate < found.finding("rloo").mse.estimate
"""
SELECTOR = """
import numpy as np

from kernadv import LocalLinear

x = np.random.default_rng(0).random((60, 1))
width = {name: LocalLinear(bandwidth=name).fit(x, x[:, 0] ** 2).bandwidth_ for name in ("wide", "rule_of_thumb")}
assert np.array_equal(width["wide"], 2 * width["rule_of_thumb"])
"""
LOG = """
from pathlib import Path

from kernadv.cli import main
from kernadv.logs import read_log

text = "".join(f"{step} {prompt} {int(step > k)}\\n" for step in range(1, 5) for prompt in "abcdef" for k in range(4))
Path("run.notebook").write_text(text)
assert read_log("run.notebook").format == "notebook"
assert read_log("run.notebook", format="notebook").groups.n.tolist() == [4] * 24
main(["audit", "run.notebook", "--draws", "40"])
"""
ADAPTER = """
import warnings

from kernadv import KernelValueEstimator, prompt_id
from kernadv.adapters.newcomer import TrainerMixin


class Trainer:
    step, saved = 1, None

    def save_checkpoint(self, folder):
        self.saved = folder


class Mine(TrainerMixin, Trainer):
    pass


warnings.simplefilter("ignore")
trainer = Mine()
prompts, rewards = ["1 + 1", "1 + 1", "2 + 2"], [1.0, 0.0, 1.0]
expected = KernelValueEstimator().advantages([prompt_id(prompt) for prompt in prompts], rewards, 1)
assert list(trainer.compute_advantages(prompts, rewards)) == list(expected)
trainer.save_checkpoint("checkpoint")
resumed = Mine()
resumed.kernadv.load("checkpoint")
assert resumed.kernadv.metrics()["kernadv/history_prompts"] == 2
assert trainer.saved == "checkpoint"
"""
USES = {
    "kernadv/kernels.py": KERNEL,
    "kernadv/baselines/half_way.py": BASELINE,
    "kernadv/regression/bandwidth/wide.py": SELECTOR,
    "kernadv/logs/notebook.py": LOG,
    "kernadv/adapters/newcomer.py": ADAPTER,
}


@pytest.fixture(scope="module")
def examples():
    """The path and the lines of each example."""
    if not CONTRIBUTING.exists():
        pytest.skip("CONTRIBUTING.md is not beside the tests")
    return dict(EXAMPLE.findall(CONTRIBUTING.read_text()))


@pytest.fixture(scope="module")
def copy(examples, tmp_path_factory):
    """A folder with a copy of the package, and in it every example: a new file, or lines at the end of an old one."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(Path(kernadv.__file__).parent, folder / "kernadv", ignore=shutil.ignore_patterns("__pycache__"))
    for path, lines in examples.items():
        with (folder / path).open("a") as file:
            file.write(f"\n\n{lines}")
    return folder


def run(folder, *arguments):
    """Run Python on the copy; its loops are not compiled anew."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_DISABLE_JIT": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("path", USES)
def test_an_addition_is_one_file(examples, copy, path):
    assert path in examples
    done = run(copy, "-c", USES[path])
    assert done.returncode == 0, done.stderr


def test_every_example_is_used(examples):
    assert examples.keys() == USES.keys()


def test_the_command_line_lists_them(copy):
    main = "import sys; from kernadv.cli import main; main(sys.argv[1:])"
    told = " ".join(run(copy, "-c", main, "audit", "--help").stdout.replace("│", " ").split())
    assert "smoothstep" in told
    assert "notebook" in told
    told = run(copy, "-c", main, "audit", "--demo", "--baseline", "?").stderr
    assert "half_way" in told
