"""OpenPipe ART: call ``install(folder)`` before you train with ``TinkerNativeBackend``."""

from art.pipeline_trainer.trainer import PipelineTrainer
from art.tinker_native import backend, data

from kernadv import prompt_id
from kernadv.adapters import Driver
from kernadv.adapters._driver import check_groups

driver = Driver(allow_late=True)
_to_datums = data.trajectory_groups_to_datums


def install(folder):
    """Train with the advantages of kernadv; its state goes on from the newest in a folder of yours."""
    driver.attach(folder)
    backend.trajectory_groups_to_datums = trajectory_groups_to_datums
    PipelineTrainer._group_zero_variance = staticmethod(lambda group: False)  # equal rewards carry signal, too


def trajectory_groups_to_datums(trajectory_groups, renderer, tokenizer, normalize_advantages=True):
    """The data of a batch: one advantage a trajectory, whatever number of histories it has."""
    groups = [group for group in trajectory_groups if group.trajectories]
    rows = [row for group in groups for row in group.trajectories]
    ids = [name for group in groups for name in _ids(group)]
    versions = [row.initial_policy_version for row in rows]
    steps = None if None in versions else [version + 1 for version in versions]
    rewards = [row.reward for row in rows]
    advantages = iter(driver.rows(ids, rewards, steps, surprisal=lambda: _surprisal(rows, tokenizer)).tolist())
    centred, data.compute_advantages = data.compute_advantages, lambda own, _: [next(advantages) for _ in own]
    try:
        return _to_datums(groups, renderer, tokenizer, normalize_advantages)
    finally:
        data.compute_advantages = centred


def _ids(group):
    """The group's ``metadata["prompt_id"]`` if it has one, else what each trajectory says before the first choice."""
    if (name := group.metadata.get("prompt_id")) is not None:
        return [str(name)] * len(group.trajectories)
    ids = []
    for row in group.trajectories:
        first = next((k for k, x in enumerate(row.messages_and_choices) if isinstance(x, data.Choice)), None)
        ids.append(prompt_id(data.get_messages(row.messages_and_choices[:first])))
    check_groups(ids, len(ids))
    return ids


def _surprisal(rows, tokenizer):
    """Minus the log-probability of what ART trains on, the last choice of each history, and its number of tokens."""
    sums, tokens = [], []
    for row in rows:
        found = [data.find_last_choice(history.messages_and_choices) for history in data.iter_trajectory_histories(row)]
        logprobs = [x for last in found if last for x in data.extract_logprobs_from_choice(last[1], tokenizer)[1]]
        sums.append(-sum(logprobs))
        tokens.append(len(logprobs))
    return sums, tokens
