"""Another distribution adds baselines by an entry point, for Python and for the command."""

import sys

import pytest
from typer.testing import CliRunner

from kernadv import ArgumentError
from kernadv.auditing import audit, further_baselines
from kernadv.baselines import Tuned, discover, discover_tuned
from kernadv.cli.command import app
from kernadv.logs import read_log

FAMILY = """
from kernadv.baselines import NOTHING, LinearBaseline
from kernadv.baselines.constant import Zero


class Half(LinearBaseline):
    name, title = "half", "one half"

    def __init__(self, value=0.5, name="half"):
        self.value, self.name = value, name

    def replay(self, groups, side=NOTHING):
        zero = Zero().replay(groups)
        return zero._replace(level=zero.level + self.value)


BASELINES = (Half(),)
TUNED = {"halves": (Half(0.4, "a"), Half(0.6, "b"))}
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a module and the metadata of its distribution where Python finds them."""

    def _install(name, code, value=None):
        (tmp_path / f"{name}.py").write_text(code)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[kernadv.baselines]\n{name} = {value or name}\n")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield _install
    for name in set(sys.modules) - before:
        if name.startswith("family_"):
            del sys.modules[name]


def test_a_distribution_adds_baselines(install, tmp_path):
    before = discover()
    assert "half" not in before
    install("family_half", FAMILY)
    found = discover()
    assert [name for name in found if name not in before] == ["half"]
    assert isinstance(discover_tuned()["halves tuned"], Tuned)
    (one,) = further_baselines(["half"])
    assert one.name == "half"
    log = tmp_path / "log.csv"
    rows = [
        f"{step},{prompt},{(step + prompt + g) % 2}" for step in range(1, 9) for prompt in range(6) for g in range(2)
    ]
    log.write_text("step,prompt_id,reward\n" + "\n".join(rows))
    # each group has a right and a wrong trace: a squared error of 1/4 each, and a variance of 1/2
    finding = audit(read_log(log).groups, baselines=["half"], draws=20).finding("half")
    assert finding.mse.estimate == pytest.approx(0.25 - 0.5)


def test_the_command_knows_it(install, tmp_path):
    install("family_half", FAMILY)
    log = tmp_path / "log.csv"
    rows = [
        f"{step},{prompt},{(step * prompt + g) % 2}" for step in range(1, 9) for prompt in range(6) for g in range(2)
    ]
    log.write_text("step,prompt_id,reward\n" + "\n".join(rows))
    done = CliRunner().invoke(app, ["audit", str(log), "--baseline", "half", "--draws", "40"])
    assert done.exit_code == 0, done.output
    assert "one half" in done.output


@pytest.mark.parametrize(
    ("code", "value", "message"),
    [
        ("1 / 0", None, r"entry point family_odd = family_odd of family_odd cannot be loaded: ZeroDivisionError"),
        ("", "family_missing", "cannot be loaded: ModuleNotFoundError"),
        ("BASELINES = [1]", None, r"must name a module with a tuple BASELINES of Baseline objects, got \[1\]"),
        ("BASELINES = (1,)", None, r"must name a module with a tuple BASELINES of Baseline objects, got \(1,\)"),
        ("from kernadv.baselines.constant import BASELINES", None, "has a baseline 'zero', a name that is taken"),
    ],
)
def test_what_cannot_be_used_is_named(install, code, value, message):
    install("family_odd", code, value)
    with pytest.raises(ArgumentError, match=message):
        discover()
