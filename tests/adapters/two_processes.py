"""Run by `test_two_processes.py` under torchrun: two processes train together and say what each of them remembers."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

from kernadv import KernelValueEstimator

#: Settings of every tiny run.
DEFAULTS = {
    "num_generations": 2,
    "per_device_train_batch_size": 4,
    "max_completion_length": 8,
    "max_steps": 10,
    "beta": 0.0,
    "scale_rewards": "none",
    "logging_steps": 1,
    "log_completions": True,
    "num_completions_to_print": 0,
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "disable_tqdm": True,
}


def digest(estimator):
    """Hash of an estimator's state."""
    total = hashlib.sha256()
    for name, array in sorted(estimator.state_dict().items()):
        total.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def load(example):
    """Import the example from its file."""
    spec = importlib.util.spec_from_file_location("example", example)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    return tiny


def main(example, folder):
    """Train, train again from a checkpoint, and write the hashes of this process's states."""
    tiny = load(example)
    first, seen = train(tiny, folder)
    resumed, _ = train(tiny, f"{folder}/resumed", checkpoint=f"{folder}/checkpoint-6")
    split, _ = train(  # groups of 4 traces, two on each process; each generation is used for 4 steps
        tiny,
        f"{folder}/split",
        num_generations=4,
        per_device_train_batch_size=2,
        steps_per_generation=2,
        num_iterations=2,
        weights="none",
    )
    weighted, _ = train(tiny, f"{folder}/weighted", max_steps=4, steps_per_generation=2)
    process = first.accelerator.process_index
    Path(folder, f"errors_{process}.json").write_text(json.dumps(errors(tiny, folder, process)))
    Path(folder, f"kept_{process}.json").write_text(json.dumps(kept(tiny, folder)))
    said = digest(first.kernadv.estimator), seen, digest(resumed.kernadv.estimator), digest(split.kernadv.estimator)
    said += (digest(weighted.kernadv), weighted.kernadv.weighted)
    Path(folder, f"process_{process}.json").write_text(json.dumps(said))


def kept(tiny, folder):
    """Train with the history in the first process only: hashes of the states, and the visits that are remembered."""
    runs = {
        "run": train(tiny, f"{folder}/kept", replicated=False),
        "resumed": train(tiny, f"{folder}/kept_resumed", f"{folder}/kept/checkpoint-6", replicated=False),
        "of one process": train(tiny, f"{folder}/kept_alone", f"{folder}/alone/checkpoint-3", replicated=False),
        "weighted": train(tiny, f"{folder}/kept_weighted", max_steps=4, steps_per_generation=2, replicated=False),
    }
    return {
        name: (digest(trainer.kernadv), trainer.kernadv.metrics()["kernadv/history_visits"], seen)
        for name, (trainer, seen) in runs.items()
    }


def errors(tiny, folder, process):
    """What is raised where only one process finds a fault, or the processes differ."""
    estimator = KernelValueEstimator.kae(0.3 + process / 10)
    unnamed = [{**row, "prompt_id": None if k == 5 else row["prompt_id"]} for k, row in enumerate(tiny.prompts())]

    broken = KernelValueEstimator()
    if process == 1:
        broken.load_state_dict = lambda state: KernelValueEstimator.load_state_dict(
            broken, {}
        )  # as from a damaged file

    def infinite(completions, **_):
        return [float("inf")] * len(completions)

    trials = {
        "estimators": {"estimator": estimator},
        "settings": {"weights": ("none", "surprisal")[process]},
        "checkpoint": {"estimator": broken, "checkpoint": f"{folder}/checkpoint-3"},
        "ids": {"data": tiny.Dataset.from_list(unnamed)},
        "rewards": {"rewards": infinite, "replicated": False},
    }
    said = {}
    for name, settings in trials.items():
        try:
            train(tiny, f"{folder}/errors", **settings)
            said[name] = "nothing"
        except Exception as error:  # whatever it is, the test sees its name
            said[name] = f"{type(error).__name__}: {error}"
    return said


def alone(example, folder):
    """Train in one process, to be resumed in two."""
    train(load(example), folder, per_device_train_batch_size=8, max_steps=4)


def some(completions, trainer_state, **_):
    """Rewards, of which some traces have none: others on each process."""
    process = trainer_state.is_world_process_zero
    return [None if k == process else float(k % 2) for k in range(len(completions))]


def train(tiny, folder, checkpoint=None, rewards=None, **settings):
    """Train into the second pass over the prompts; return the trainer, and the advantages that its loss saw."""
    rewards = [tiny.even, some] if rewards is None else [rewards, some]
    trainer, seen = build(tiny, folder, rewards, reward_weights=[1.0, 0.5], save_steps=3, **settings), []
    loss = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: seen.append(inputs["advantages"].tolist()) or loss(model, inputs)
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer, seen


def build(tiny, folder, rewards, *, weights="surprisal", estimator=None, data=None, replicated=True, **settings):
    """Make a trainer of the tiny model that saves and logs."""
    words = tiny.tokenizer()
    config = tiny.GRPOConfig(output_dir=folder, **(DEFAULTS | settings))
    return tiny.GRPOTrainer(
        tiny.model(words),
        rewards,
        args=config,
        train_dataset=tiny.prompts() if data is None else data,
        processing_class=words,
        reuse=2,
        weights=weights,
        estimator=estimator,
        replicated=replicated,
    )


if __name__ == "__main__":
    {"main": main, "alone": alone}[sys.argv[1]](*sys.argv[2:])
