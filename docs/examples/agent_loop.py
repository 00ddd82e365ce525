"""Rollouts that come in several rows, versions of the policy, and a history that is there again after a restart."""

import random

import torch

from kernadv.adapters import Driver

FOLDER = "run/kernadv"  # or a URL, such as s3://bucket/run/kernadv
generator = random.Random(0)
driver = Driver(weights="none", allow_late=4).attach(FOLDER)  # loads what is there, then saves every 50 calls

for step in range(driver.step + 1, driver.step + 101):
    prompt_ids, rewards, trace, versions = [], [], [], []
    for rollout in range(32):
        prompt = generator.randrange(16)
        reward, turns = float(generator.random() < prompt / 16), generator.randint(1, 4)
        version = max(1, step - generator.randrange(4))  # asynchronous rollouts are of older policies
        prompt_ids += [f"task-{prompt}"] * turns
        rewards += [reward] * turns  # every turn has the reward of its rollout
        trace += [rollout] * turns  # and counts as a part of it
        versions += [version] * turns
    advantages = driver.rows(prompt_ids, torch.tensor(rewards), versions, trace=trace)  # (rows,): train on them
driver.finish()  # saves the last calls, too
print(f"step {driver.step}: {driver.metrics()['kernadv/history_prompts']:.0f} prompts")
