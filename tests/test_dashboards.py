"""The metrics on dashboards: the example of the page writes real files, and what is read back is what was logged."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "docs" / "examples"))
import dashboards

RUNNING = {"value_mse", "rloo_mse", "batch_mean_mse", "gradient_ratio", "dead", "dead_0", "dead_1"}


@pytest.fixture(scope="module")
def logged():
    """Numbers of each step."""
    steps = {}
    dashboards.train(steps.__setitem__)
    return steps


def test_what_is_logged(logged):
    assert len(logged) == 60
    assert all({f"kernadv/{name}" for name in RUNNING} <= numbers.keys() for numbers in logged.values())
    assert logged[60]["kernadv/value_mse"] < logged[60]["kernadv/rloo_mse"]


def test_tensorboard(logged, tmp_path):
    """Events as TensorBoard itself reads them."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    dashboards.tensorboard(str(tmp_path))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set().union(*logged.values())
    for name in events.Tags()["scalars"]:
        expected = {step: numbers[name] for step, numbers in logged.items() if name in numbers}
        found = {event.step: event.value for event in events.Scalars(name)}
        assert found == pytest.approx(expected, rel=1e-6)  # stored in float32


def test_wandb(tmp_path, monkeypatch):
    """The run that was written without a connection names each metric once a step or more often."""
    pytest.importorskip("wandb", reason="wandb is not installed: pip install wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    dashboards.wandb(str(tmp_path))
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    data = file.read_bytes()
    assert all(data.count(f"kernadv/{name}".encode()) >= 59 for name in RUNNING)  # one may lie across two blocks
