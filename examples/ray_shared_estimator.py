"""Four workers of Ray share one estimator; its actor is killed in the middle, and nothing is lost.

    pip install ".[ray,audit]"    # in a checkout of kernadv
    python examples/ray_shared_estimator.py [FOLDER]
    kernadv audit FOLDER --on-repeat merge    # several workers wrote it

Every worker generates traces at its own pace, as asynchronous trainers do.  The policy is simulated: a table of chances that
rise with the step.  On a cluster, give a folder that all its machines see, or a URL such as s3://bucket/run-42.
"""

import os
import signal
import sys
import tempfile

import numpy as np
import ray

from kernadv.adapters.remote import RemoteEstimator

PROMPTS, G, STEPS = 64, 4, 30


@ray.remote(num_cpus=0)
def worker(estimator: RemoteEstimator, number: int) -> float:
    """Generate batches of some prompts; returns the mean absolute advantage of the last ones."""
    rng = np.random.default_rng(number)
    size = []
    for step in range(1, STEPS + 1):
        prompts = rng.choice(PROMPTS, 8, replace=False).repeat(G)
        chance = 1 / (1 + np.exp(3 - prompts / 10 - step / 10))  # of a right answer, which differs between prompts
        rewards = (rng.random(len(prompts)) < chance).astype(float)
        ids = [f"question {k}" for k in prompts]
        advantages = estimator.advantages(ids, rewards, step, batch_id=f"worker {number}, step {step}")
        size.append(np.abs(advantages).mean())
    return float(np.mean(size[-5:]))


def main(folder: str) -> None:
    """Run four workers, and kill the actor while they work."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="warning")
    estimator = RemoteEstimator("run-42", {"allow_late": STEPS}, folder=folder, snapshot_every=20)
    workers = [worker.remote(estimator, number) for number in range(4)]
    ray.wait(workers, timeout=1.0)
    actor = ray.get_actor("run-42", namespace="kernadv")
    process = ray.get(actor.__ray_call__.remote(lambda shared: os.getpid()), timeout=300)
    os.kill(process, signal.SIGKILL)
    print("killed the actor")
    print("mean size of the last advantages:", np.round(ray.get(workers, timeout=600), 2).tolist())
    numbers = estimator.metrics()
    print(f"{numbers['batches']:.0f} batches of {4 * STEPS}, {numbers['history_prompts']:.0f} prompts")
    known = estimator.predict(["question 63", "question 0", "a new one"])
    for name, value, low, high in zip(("easy", "hard", "new"), known.value, known.low, known.high, strict=True):
        print(f"{name}: {value:.2f} [{low:.2f}, {high:.2f}]")
    estimator.stop()
    ray.shutdown()
    print(f"kernadv audit {folder} --on-repeat merge")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="kernadv-"))
