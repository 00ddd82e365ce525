"""SkyRL 0.3: run this instead of its own entry points, with ``trainer.algorithm.advantage_estimator=kernadv``.

``trainer.fully_async.enabled=true`` takes the fully asynchronous trainer.
"""

import sys

import ray
from skyrl.train.entrypoints.main_base import BasePPOExp
from skyrl.train.fully_async_trainer import FullyAsyncRayPPOTrainer
from skyrl.train.trainer import RayPPOTrainer
from skyrl.train.utils import validate_cfg
from skyrl.train.utils.utils import initialize_ray

from kernadv.adapters import skyrl

skyrl.register()  # before the configuration is validated


class Trainer(skyrl.TrainerMixin, RayPPOTrainer):
    """The trainer, which says the step, and saves and loads the history."""


class FullyAsyncTrainer(skyrl.TrainerMixin, FullyAsyncRayPPOTrainer):
    """The same, with the step at which each group was scheduled."""


class Experiment(BasePPOExp):
    """The experiment with these trainers; call `kernadv.adapters.use(estimator)` here for another estimator."""

    def get_trainer(self, cfg, **rest):
        """Make the trainer."""
        kind = FullyAsyncTrainer if cfg.trainer.fully_async.enabled else Trainer
        return kind(cfg=cfg, **rest)


@ray.remote(num_cpus=1)
def run(cfg):
    """Train in Ray, where SkyRL's own entry point trains."""
    Experiment(cfg).run()


if __name__ == "__main__":
    configuration = skyrl.Config.from_cli_overrides(sys.argv[1:])
    validate_cfg(configuration)
    initialize_ray(configuration)
    ray.get(run.remote(configuration))
