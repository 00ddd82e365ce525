"""Run by `test_trl.py`: a training run that is killed during its fifth step, or while it saves its fourth."""

import os
import signal
import sys

from two_processes import build, load


def die():
    """End as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(example, folder, moment):
    """Train with the settings of the fixture `make`."""
    tiny = load(example)

    def even(completions, trainer_state, **_):
        if moment == "a step" and trainer_state.global_step == 4:
            die()
        return tiny.even(completions)

    settings = {"per_device_train_batch_size": 8, "max_steps": 6, "learning_rate": 1e-3, "seed": 7, "save_steps": 1}
    trainer = build(tiny, folder, even, **settings)
    save = trainer._save_optimizer_and_scheduler
    if moment == "a save":
        trainer._save_optimizer_and_scheduler = lambda to: die() if to.endswith("checkpoint-4") else save(to)
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
