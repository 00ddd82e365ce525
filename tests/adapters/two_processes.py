"""Run by `test_two_processes.py` under torchrun: two processes train together and say what each of them remembers."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np


def digest(estimator):
    """Hash of an estimator's state."""
    total = hashlib.sha256()
    for name, array in sorted(estimator.state_dict().items()):
        total.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def main(example, folder):
    """Train, and write the hash of this process's state."""
    spec = importlib.util.spec_from_file_location("example", example)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    words = tiny.tokenizer()
    config = tiny.GRPOConfig(
        output_dir=folder,
        num_generations=2,
        per_device_train_batch_size=4,
        max_completion_length=8,
        max_steps=4,
        beta=0.0,
        scale_rewards="none",
        logging_steps=1,
        log_completions=True,
        num_completions_to_print=0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_steps=2,
        disable_tqdm=True,
    )
    trainer = tiny.GRPOTrainer(
        tiny.model(words), tiny.even, args=config, train_dataset=tiny.prompts(), processing_class=words, reuse=2
    )
    seen = []
    loss = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: seen.append(inputs["advantages"].tolist()) or loss(model, inputs)
    trainer.train()
    process = trainer.accelerator.process_index
    Path(folder, f"process_{process}.json").write_text(json.dumps([digest(trainer.kernadv.estimator), seen]))


if __name__ == "__main__":
    main(*sys.argv[1:])
