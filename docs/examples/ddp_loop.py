"""REINFORCE with smoothed values on several GPUs, or processes: DistributedDataParallel, one estimator a process.

    torchrun --nproc_per_node=2 docs/examples/ddp_loop.py    # gloo on CPUs, NCCL where there are GPUs

A table of logits stands for the language model.  The rows of all processes are gathered before the estimator is called.
"""

import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from kernadv import KernelValueEstimator

gpus = torch.cuda.is_available()
dist.init_process_group("nccl" if gpus else "gloo")
rank, world = dist.get_rank(), dist.get_world_size()
device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpus else torch.device("cpu")

prompts, answers, block, G = 64, 10, 16, 4
right = torch.randint(answers, (prompts,), generator=torch.Generator().manual_seed(0)).to(device)
torch.manual_seed(rank)  # each process samples its own traces
table = torch.nn.Embedding(prompts, answers).to(device)
model = DistributedDataParallel(table)
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
estimator = KernelValueEstimator()  # the same on every process

for step in range(1, 201):
    first = (step - 1) // 10 * block % prompts
    prompt_ids = torch.arange(first, first + block, device=device).repeat_interleave(G)[rank::world]  # groups are split
    policy = torch.distributions.Categorical(logits=model(prompt_ids))
    traces = policy.sample()
    rewards = (traces == right[prompt_ids]).float()

    gathered = [None] * world  # every process gets the rows of all, in the same order
    dist.all_gather_object(gathered, (prompt_ids.tolist(), rewards.tolist()))
    all_ids = [prompt for ids, _ in gathered for prompt in ids]
    all_rewards = [reward for _, part in gathered for reward in part]
    everyone = estimator.advantages(all_ids, all_rewards, step)
    before = sum(len(ids) for ids, _ in gathered[:rank])
    advantages = torch.as_tensor(everyone[before : before + len(rewards)], dtype=rewards.dtype, device=device)

    loss = -(advantages * policy.log_prob(traces)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 0 and step % 40 == 0:
        print(f"step {step}: mean reward {sum(all_rewards) / len(all_rewards):.2f}")

print(f"rank {rank}: {estimator.metrics()['history_visits']:.0f} visits of {prompts} prompts", flush=True)
if rank == 0:
    estimator.save(os.environ.get("CHECKPOINT", "kernadv.safetensors"))  # one process saves, all load
dist.barrier()
dist.destroy_process_group()
