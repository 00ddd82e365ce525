"""NeMo-RL: import this before ``grpo_train``; its factory of advantage estimators knows no others."""

from nemo_rl.algorithms import grpo

from kernadv import prompt_id
from kernadv.adapters import Driver


class KernelAdvantageEstimator:
    """What `grpo` calls once a step, on the driver.

    Parameters
    ----------
    pad_id : int
        Token that pads the prompts; the width of the padding changes from batch to batch.
    """

    def __init__(self, pad_id):
        self.driver, self.pad_id, self.step = Driver(), pad_id, 0

    def compute_advantage(self, prompt_ids, rewards, mask, valid_mask=None, **kwargs):
        """Advantages of rows with padded prompts (B, P), rewards (B,), mask (B, T)."""
        self.step += 1
        ids = [prompt_id(row, self.pad_id) if row.ndim else str(int(row)) for row in prompt_ids]
        keep = None if valid_mask is None else valid_mask.bool()
        rows = self.driver.rows(ids, rewards.float().cpu(), self.step, keep=keep)
        return rows.to(rewards.device).unsqueeze(-1).expand(mask.shape)


def install(pad_id):
    """Use the estimator in place of the configured one; keep what is returned to save and load it."""
    estimator = KernelAdvantageEstimator(pad_id)
    grpo._create_advantage_estimator = lambda *args, **kwargs: estimator
    return estimator
