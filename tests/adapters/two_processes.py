"""Run by `test_two_processes.py` under torchrun: two processes train together and say what each of them remembers."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

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
    said = digest(first.kernadv.estimator), seen, digest(resumed.kernadv.estimator), digest(split.kernadv.estimator)
    said += (digest(weighted.kernadv), weighted.kernadv.weighted)
    Path(folder, f"process_{process}.json").write_text(json.dumps(said))


def some(completions, trainer_state, **_):
    """Rewards, of which some traces have none: others on each process."""
    process = trainer_state.is_world_process_zero
    return [None if k == process else float(k % 2) for k in range(len(completions))]


def train(tiny, folder, checkpoint=None, **settings):
    """Train into the second pass over the prompts; return the trainer, and the advantages that its loss saw."""
    trainer, seen = build(tiny, folder, [tiny.even, some], reward_weights=[1.0, 0.5], save_steps=3, **settings), []
    loss = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: seen.append(inputs["advantages"].tolist()) or loss(model, inputs)
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer, seen


def build(tiny, folder, rewards, weights="surprisal", **settings):
    """Make a trainer of the tiny model that saves and logs."""
    words = tiny.tokenizer()
    config = tiny.GRPOConfig(output_dir=folder, **(DEFAULTS | settings))
    data = tiny.prompts()
    return tiny.GRPOTrainer(
        tiny.model(words), rewards, args=config, train_dataset=data, processing_class=words, reuse=2, weights=weights
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
