"""Small logs, a runner of the command line in this process and in another, and a reader of the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from kernadv.cli import main

PROMPTS, STEPS, PER_STEP = 30, 40, 10


def make_log(group: int = 4, seed: int = 0) -> pl.DataFrame:
    """A run of `STEPS` steps: values drift upwards, every prompt comes back every third step."""
    rng = np.random.default_rng(seed)
    start = rng.normal(-1.0, 1.5, PROMPTS)
    prompt = np.arange(STEPS * PER_STEP) % PROMPTS
    step = np.repeat(np.arange(1, STEPS + 1), PER_STEP)
    value = 1.0 / (1.0 + np.exp(-(start[prompt] + 2.0 * step / STEPS)))
    rows = {"step": step, "prompt_id": prompt, "value": value}
    frame = pl.DataFrame({name: np.repeat(column, group) for name, column in rows.items()})
    reward = (rng.random(len(frame)) < frame["value"].to_numpy()).astype(float)
    return frame.with_columns(reward=reward)


@pytest.fixture
def frame():
    """The rows of `log`."""
    return make_log()


@pytest.fixture
def log(tmp_path, frame):
    """A log with groups of four and the true values."""
    path = tmp_path / "log.parquet"
    frame.write_parquet(path)
    return path


@pytest.fixture
def single(tmp_path):
    """A log with one trace a group."""
    path = tmp_path / "single.parquet"
    make_log(group=1, seed=1).write_parquet(path)
    return path


@pytest.fixture
def run(capsys):
    """Run the command line here: exit code, standard output, standard error."""

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=stop.value.code, out=out, err=err)

    return call


@pytest.fixture
def launch(tmp_path):
    """Run the command line in another process; `before` is Python to run first."""

    def call(*arguments, before="", **options):
        code = f"from kernadv.cli import main\n{before}\nmain()"
        command = [sys.executable, "-P", "-W", "error", "-c", code, *map(str, arguments)]
        options = {"capture_output": True, "text": True, "cwd": tmp_path, "timeout": 120} | options
        colours = {"FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "COLUMNS"}
        environment = {name: value for name, value in os.environ.items() if name not in colours}
        return subprocess.run(command, env={**environment, "PYTHONUTF8": "1"}, **options)

    return call


class PageReader(HTMLParser):
    """Collects what the tests ask of a page."""

    def __init__(self, text):
        super().__init__()
        self.numbers = {}
        self.ids = []
        self.figures = {}
        self.links = []
        self.scripts = {}
        self.text = ""
        self._number = self._script = self._figure = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "figure":
            self._figure = found["id"]
            self.figures[self._figure] = 0
        if tag == "svg" and self._figure:
            self.figures[self._figure] += 1
        self.links += [(tag, name, value) for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag == "script":
            self._script = found.get("id", "")
            self.scripts[self._script] = ""
        if "data-field" in found:
            self._number = (found["data-name"], found["data-field"])

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None
        if tag == "span":
            self._number = None
        if tag == "figure":
            self._figure = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts[self._script] += data
        elif self._number is not None:
            self.numbers[self._number] = self.numbers.get(self._number, "") + data
        else:
            self.text += data

    @property
    def document(self):
        """The JSON inside the page."""
        return json.loads(self.scripts["kernadv-audit"])


@pytest.fixture
def read_page():
    """Return the class that reads a page."""
    return PageReader


@pytest.fixture
def assert_numbers_equal():
    """Every number of the table is that of the JSON, as precisely as it is written; no number is left out."""

    def check(page, document):
        audit = document["audit"]
        for finding in audit["findings"]:
            fields = {}
            for field, value in finding.items():
                if isinstance(value, dict):
                    fields |= {f"{field}.{part}": number for part, number in value.items()}
                elif field in ("worth", "true_mse"):
                    fields[field] = value
            for field, number in fields.items():
                text = page.numbers.get((finding["name"], field))
                if text is None:
                    estimate = fields.get(f"{field.partition('.')[0]}.estimate")
                    hidden = field.startswith("excess") and audit["noise"] is not None
                    absent = field in ("worth", "true_mse") and number is None
                    assert hidden or absent or number == pytest.approx(estimate, abs=0.0101), (finding["name"], field)
                elif number is None:
                    assert text == "-".replace("-", "−")
                else:
                    shown = text.replace("−", "-").removesuffix("%").removesuffix(" times")
                    column = field.partition(".")[0]
                    cuts = [fields[f"{column}.{end}"] for end in ("estimate", "low")] if field.startswith("vs_") else []
                    if any(
                        cut is not None and cut < -2 for cut in cuts
                    ):  # written as a factor, its ends the other way round
                        ends = {"low": "high", "high": "low", "estimate": "estimate"}
                        name, _, part = field.partition(".")
                        expected = 1.0 - fields[f"{name}.{ends[part]}"]
                    else:
                        expected = (100 if text.endswith("%") else 1) * number
                    half = 0.5 * 10.0 ** -len(shown.partition(".")[2])
                    assert abs(float(shown) - expected) <= half * (1 + 1e-9), (finding["name"], field)
        names = {finding["name"] for finding in audit["findings"]}
        assert {name for name, _ in page.numbers} == names

    return check
