"""verl: ``algorithm.adv_estimator=kernadv``, loaded with ``VERL_USE_EXTERNAL_MODULES=kernadv.adapters.verl``.

Importing registers the estimator and wraps four methods of verl's trainer, which otherwise tells an estimator neither the
prompt nor the step.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from verl.trainer.ppo.core_algos import register_adv_est

from kernadv._errors import ArgumentError
from kernadv.adapters._process import NAME, at_step, current, driver, use
from kernadv.adapters._tokens import spread, surprisal
from kernadv.adapters._verl_hooks import SEPARATOR, stable_uid  # wraps the trainer

__all__ = ["at_step", "driver", "kernel_advantage", "stable_uid", "use"]


@register_adv_est(NAME)
def kernel_advantage(token_level_rewards: Any, response_mask: Any, index: Any, config: Any = None, **_: Any) -> Any:
    """Advantages and returns, both (B, T).

    Of a session with several outputs the last one counts, once, and its advantage is that of them all.  A KL penalty in
    the reward stays out of the history: it is added to the advantage.  Padding rows get 0 and are not remembered.
    """
    call = current()
    padding = [re.fullmatch("pad[0-9a-f]{32}", str(uid)) is not None for uid in index]
    ids = [str(uid).rpartition(SEPARATOR)[0] for uid in index]
    bad = next((row for row, name in enumerate(ids) if not name and not padding[row]), None)
    if bad is not None:
        raise ArgumentError(f"a uid must be 'prompt{SEPARATOR}anything', got {index[bad]!r}; see stable_uid")
    data = {} if call.batch is None else call.batch
    scores = data.get("token_level_scores", token_level_rewards)
    given = (lambda: surprisal(data["old_log_probs"], response_mask)) if "old_log_probs" in data else None
    last = list(range(len(ids))) if call.keys is None else _last_outputs(call.keys)
    keep = torch.tensor([row == final and not padding[row] for row, final in enumerate(last)])
    rows = driver(config).rows(ids, scores.sum(-1).float().cpu(), call.step, surprisal=given, keep=keep)[last]
    rows = rows + (token_level_rewards - scores).sum(-1).float().cpu()
    out = spread(rows, token_level_rewards, response_mask)
    return out, out


def _last_outputs(keys: Any) -> list[int]:
    """Row of the last output of each row's session."""
    sessions = [key.rpartition("_")[0] for key in keys]
    order = sorted(range(len(keys)), key=lambda row: int(keys[row].rpartition("_")[2]))
    last = {sessions[row]: row for row in order}
    return [last[session] for session in sessions]
