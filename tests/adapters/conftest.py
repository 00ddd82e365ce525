"""A tiny random model under TRL, from the example that users run."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

EXAMPLE = Path(__file__).parents[2] / "examples" / "trl_grpo_kernadv.py"


def import_file(path):
    """Import a module from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def example():
    """The module of the example, imported from its file."""
    pytest.importorskip("trl", reason="TRL is not installed: make test-adapters")
    return import_file(EXAMPLE)


@pytest.fixture(scope="session")
def runs():
    """The script that runs in two processes."""
    return import_file(EXAMPLE.parents[1] / "tests" / "adapters" / "two_processes.py")


@pytest.fixture
def make(example, runs, tmp_path):
    """Build a trainer: kind, estimator, ..., `options` of the trainer itself, then settings of its configuration."""
    from kernadv.adapters import trl as adapter

    def make(
        kind="GRPO",
        estimator=None,
        *,
        rewards=example.even,
        data=None,
        reuse=3,
        evaluation=None,
        template=None,
        tokens=(),
        weights="surprisal",
        options=None,
        **settings,
    ):
        words = example.tokenizer()
        words.chat_template = template
        words.add_special_tokens({"additional_special_tokens": list(tokens)})
        config = {
            **runs.DEFAULTS,
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 8,
            "max_steps": 6,
            "learning_rate": 1e-3,
            "save_strategy": "no",
            "seed": 7,
            **settings,
        }
        if kind == "RLOO":
            del config["scale_rewards"]
        return getattr(adapter, f"{kind}Trainer")(
            example.model(words),
            rewards,
            args=getattr(adapter, f"{kind}Config")(**config),
            train_dataset=example.prompts() if data is None else data,
            eval_dataset=evaluation,
            processing_class=words,
            estimator=estimator,
            reuse=reuse,
            weights=weights,
            **(options or {}),
        )

    return make
