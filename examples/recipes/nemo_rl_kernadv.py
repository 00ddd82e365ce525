"""NeMo-RL: call `install` before ``grpo_train``; its factory of advantage estimators knows no others."""

import sys

from nemo_rl.algorithms import grpo

from kernadv.adapters import Driver
from kernadv.adapters._driver import check_groups, surprisal

#: Modules that have taken the factory over if they were imported before.
USERS = ("nemo_rl.algorithms.grpo", "nemo_rl.algorithms.grpo_sync")


class KernelAdvantageEstimator:
    """What `grpo` calls once a step, on the driver.

    Parameters
    ----------
    pad_id : int
        Token that pads the prompts; the width of the padding changes from batch to batch.
    folder : str
        Where the history is loaded from when a run goes on, and saved.
    driver : Driver, optional
        With an estimator of your own.
    """

    def __init__(self, pad_id, folder, driver=None):
        self.pad_id, self.folder, self.driver = pad_id, folder, driver
        self.size, self.last_metrics = None, {}

    def make(self, master_config):
        """In place of NeMo-RL's factory: read the settings, load the history."""
        self.size = master_config.grpo.num_generations_per_prompt
        loss = "sum" if master_config.loss_fn.token_level_loss else "trace"
        self.driver = (self.driver or Driver(loss=loss)).attach(self.folder)
        return self

    def compute_advantage(self, prompt_ids, rewards, mask, repeated_batch=None, logprobs_policy=None, **kwargs):
        """Advantages of rows with padded prompts (B, P), rewards (B,), mask (B, T).

        ``extra_env_info["prompt_id"]`` of the rows, if all have it, tells prompts apart; else their tokens do.
        """
        infos = (repeated_batch or {}).get("extra_env_info") or [None]
        given = [info["prompt_id"] for info in infos] if all(info and "prompt_id" in info for info in infos) else None
        tokens = [row[row != self.pad_id] for row in prompt_ids] if given is None else [None] * len(rewards)
        ids = self.driver.ids(tokens, given, "no 'prompt_id' in extra_env_info")
        check_groups(ids, self.size, column="extra_env_info.prompt_id")
        known = logprobs_policy is not None and logprobs_policy.any()  # NeMo-RL may skip them, and hands zeros over
        weigh = (lambda: surprisal(logprobs_policy, mask)) if known else None
        rows = self.driver.rows(ids, rewards.float().cpu(), surprisal=weigh)
        self.last_metrics = self.driver.metrics()
        return rows.to(rewards.device).unsqueeze(-1).expand(mask.shape)


def install(pad_id, folder, driver=None):
    """Use the estimator in place of the configured one; `last_metrics` of what is returned are for your logger."""
    estimator = KernelAdvantageEstimator(pad_id, folder, driver)
    for name in USERS:
        if name in sys.modules:
            sys.modules[name]._create_advantage_estimator = estimator.make
    plain = grpo.run_nemo_gym_rollout_sync

    def keeping_infos(*args, input_batch, **kwargs):
        result = plain(*args, input_batch=input_batch, **kwargs)
        result.final_batch["extra_env_info"] = input_batch["extra_env_info"]  # NeMo-Gym drops it; rows keep their order
        return result

    grpo.run_nemo_gym_rollout_sync = keeping_infos
    return estimator
