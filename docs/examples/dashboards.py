"""The metrics of a run in TensorBoard and in Weights & Biases, whichever of them is installed."""

import importlib.util
import sys

from kernadv import KernelValueEstimator
from kernadv.simulation import simulate


def train(log, steps=60):
    """Stands for training: simulated rollouts, 4 a prompt; log(step, numbers) is called after each step."""
    estimator = KernelValueEstimator()
    for step, prompt_ids, rewards, _ in simulate("fast", "multi_pass", 4, seed=1).batches():
        estimator.advantages(prompt_ids, rewards, step)  # the update of the policy would come here
        log(step, {f"kernadv/{name}": number for name, number in estimator.metrics().items()})
        if step == steps:
            break


def tensorboard(folder):
    """Write event files; look at them with ``tensorboard --logdir FOLDER``."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        train(lambda step, numbers: [writer.add_scalar(name, number, step) for name, number in numbers.items()])


def wandb(folder):
    """Write a run without a connection; send it later with ``wandb sync FOLDER/wandb/offline-run-*``."""
    import wandb

    with wandb.init(project="kernadv", dir=folder, mode="offline") as run:
        train(lambda step, numbers: run.log(numbers, step=step))


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "runs"
    for package, write in (("tensorboard", tensorboard), ("wandb", wandb)):
        if importlib.util.find_spec(package):
            write(folder)
