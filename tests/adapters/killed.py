"""Run by `test_trl.py`: a training run that is killed during its fifth step, or while it saves its fourth."""

import importlib.util
import os
import signal
import sys

from kernadv.adapters.trl import GRPOConfig, GRPOTrainer


def die(*_, **__):
    """End as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(example, folder, moment):
    """Train with the settings of the fixture `make`."""
    spec = importlib.util.spec_from_file_location("example", example)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)

    def even(completions, trainer_state, **_):
        if moment == "a step" and trainer_state.global_step == 4:
            die()
        return tiny.even(completions)

    words = tiny.tokenizer()
    config = GRPOConfig(
        output_dir=folder,
        num_generations=2,
        per_device_train_batch_size=8,
        max_completion_length=8,
        max_steps=6,
        learning_rate=1e-3,
        beta=0.0,
        scale_rewards="none",
        logging_steps=1,
        log_completions=True,
        num_completions_to_print=0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="steps",
        save_steps=1,
        disable_tqdm=True,
        seed=7,
    )
    trainer = GRPOTrainer(
        tiny.model(words), even, args=config, train_dataset=tiny.prompts(), processing_class=words, reuse=2
    )
    save = trainer._save_optimizer_and_scheduler
    if moment == "a save":
        trainer._save_optimizer_and_scheduler = lambda to: die() if to.endswith("checkpoint-4") else save(to)
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
