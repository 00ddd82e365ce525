"""SkyRL 0.3: run this instead of its own entry point, with ``trainer.algorithm.advantage_estimator=kernadv``."""

import sys

import ray
from skyrl.train.config import SkyRLTrainConfig
from skyrl.train.entrypoints.main_base import BasePPOExp
from skyrl.train.trainer import RayPPOTrainer
from skyrl.train.utils import validate_cfg
from skyrl.train.utils.utils import initialize_ray

from kernadv.adapters import skyrl

skyrl.register()  # before the configuration is validated


class Trainer(skyrl.TrainerMixin, RayPPOTrainer):
    """The trainer, which says the step, and saves and loads the history."""


class Experiment(BasePPOExp):
    """The experiment with that trainer; call `kernadv.adapters.use(estimator)` here for another estimator."""

    def get_trainer(self, *args, **kwargs):
        """Make the trainer."""
        return Trainer(*args, **kwargs)


@ray.remote(num_cpus=1)
def run(cfg):
    """Train in Ray, where SkyRL's own entry point trains."""
    Experiment(cfg).run()


if __name__ == "__main__":
    configuration = SkyRLTrainConfig.from_cli_overrides(sys.argv[1:])
    validate_cfg(configuration)
    initialize_ray(configuration)
    ray.get(run.remote(configuration))
