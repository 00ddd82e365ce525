"""REINFORCE with smoothed values, in plain PyTorch; a table of logits stands for the language model."""

import torch

from kernadv import KernelValueEstimator

torch.manual_seed(0)
prompts, answers, block, G = 64, 10, 16, 4
right = torch.randint(answers, (prompts,))
logits = torch.zeros(prompts, answers, requires_grad=True)
optimizer = torch.optim.Adam([logits], lr=0.05)
estimator = KernelValueEstimator()

for step in range(1, 201):  # steps start at 1
    first = (step - 1) // 10 * block % prompts  # a block of prompts stays for 10 steps
    prompt_ids = torch.arange(first, first + block).repeat_interleave(G)
    policy = torch.distributions.Categorical(logits=logits[prompt_ids])
    traces = policy.sample()
    rewards = (traces == right[prompt_ids]).float()
    advantages = estimator.advantages(prompt_ids, rewards, step)  # a tensor like rewards, without gradient
    loss = -(advantages * policy.log_prob(traces)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step}: mean reward {rewards.mean():.2f}, n_eff {estimator.metrics()['n_eff']:.0f}")
