"""verl's own training loop with kernadv, on a CPU: only the model and the inference engine are stand-ins.

    python examples/verl_v1_kernadv.py [sync | colocate_async | separate_async]

verl's trainer, its replay buffer, its queue and its checkpoints run as they do on GPUs.  The policy is a table: a prompt
asks for one of 8 answers, of which one is right, and each prompt starts with a chance of its own.  In the asynchronous modes
every fourth rollout is a long one: it ends only after the next update of the weights, and is late when it is trained on.
"""

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("VERL_USE_EXTERNAL_MODULES", "kernadv.adapters.verl")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import hydra
import ray
import torch
import transfer_queue as tq
import verl
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.ppo.v1.trainer_base import get_trainer_cls
from verl.trainer.ppo.v1.trainer_separate_async import HybridEngineMode
from verl.utils import tensordict_utils
from verl.utils.dataset.rl_dataset import collate_fn

from kernadv.adapters.verl import driver
from kernadv.schedule import block_reuse

PROMPTS, ANSWERS, BATCH, REUSE, PASSES, RATE = 16, 8, 8, 8, 2, 1.0
#: Updates between two versions that the rollouts see, and what else that mode asks for.
UPDATES = 4
SEPARATE = (
    f"trainer.v1.separate_async.parameter_sync_step={UPDATES}",
    "actor_rollout_ref.hybrid_engine=false",
    "actor_rollout_ref.rollout.nnodes=1",
    "actor_rollout_ref.rollout.n_gpus_per_node=1",
    "actor_rollout_ref.rollout.checkpoint_engine.backend=nccl",
)


class Policy:
    """Logits of the answers to each prompt, as trained and as the rollouts see them."""

    def __init__(self):
        chance = torch.linspace(0.05, 0.8, PROMPTS)
        self.logits = torch.zeros(PROMPTS, ANSWERS)
        self.logits[:, 0] = (chance / (1 - chance) * (ANSWERS - 1)).log()
        self.seen, self.version = self.logits.clone(), 0

    def accuracy(self):
        """Chance of the right answer, over all prompts."""
        return float(self.logits.softmax(-1)[:, 0].mean())


class Workers:
    """Train the table: what verl's actor workers do."""

    _dispatch_info = {"actor": [0]}  # noqa: RUF012  # one data-parallel rank, under verl's name

    def __init__(self, policy):
        self.policy = policy

    def update_actor(self, batch):
        """One step of REINFORCE with the advantages in the queue."""
        fields = ["prompts", "responses", "advantages", "response_mask"]
        data = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=fields
        ).to_padded_tensor()
        prompts, answers = data["prompts"][:, 0], data["responses"][:, -1]
        weight = (data["advantages"] * data["response_mask"])[:, -1]
        score = -self.policy.logits[prompts].softmax(-1)
        score[torch.arange(len(answers)), answers] += 1
        self.policy.logits.index_add_(0, prompts, RATE * weight[:, None] * score)
        return {"metrics": {"mfu": 0.0, "accuracy": self.policy.accuracy()}}

    def save_checkpoint(self, folder, *_, **__):
        """Write the table."""
        os.makedirs(folder, exist_ok=True)
        torch.save(self.policy.logits, os.path.join(folder, "logits.pt"))

    def load_checkpoint(self, local_path, **_):
        """Read it back."""
        self.policy.logits.copy_(torch.load(os.path.join(local_path, "logits.pt")))


class Rollouts:
    """Answer prompts: what verl's agent loops and inference engine do.  A session has two outputs if its number is odd."""

    def __init__(self, policy, n, late):
        self.policy, self.n, self.late, self.running, self.started = policy, n, late, [], 0

    def generate_sequences(self, batch):
        """Answer a batch of prompts; a long one goes on until the weights are updated."""
        step = int(batch["global_steps"])
        for uid, info in zip(
            tensordict_utils.get(batch, "uid"), tensordict_utils.get(batch, "extra_info"), strict=True
        ):
            self.started += 1
            tq.kv_batch_put(keys=[uid], partition_id="train", tags=[{"status": "running"}])
            rollout = (uid, int(info["index"]), step, self.policy.version, self.sample(int(info["index"])))
            if self.late and self.started % 4 == 0:
                self.running.append(rollout)
            else:
                self.finish(*rollout)

    def sample(self, prompt):
        """Answers of the sessions, and their log-probabilities."""
        log_probs = self.policy.seen[prompt].log_softmax(-1)
        answers = torch.multinomial(log_probs.exp(), self.n, replacement=True)
        return answers, log_probs[answers]

    def finish(self, uid, prompt, step, version, sampled):
        """Put the outputs into the queue, with keys, fields and tags as verl's agent loops do."""
        keys, fields, tags = [], [], []
        for session, (answer, log_prob) in enumerate(zip(*sampled, strict=True)):
            for output in range(1 + session % 2):
                keys.append(f"{uid}_{session}_{output}")
                fields.append(
                    {
                        "uid": uid,
                        "prompts": torch.tensor([prompt]),
                        "responses": answer[None],
                        "response_mask": torch.ones(1, dtype=torch.int64),
                        "rollout_log_probs": log_prob[None],
                        "rm_scores": (answer == 0).float()[None],
                        "num_turns": 1,
                    }
                )
                versions = {"min_global_steps": version, "max_global_steps": self.policy.version}
                tags.append({"status": "success", "global_steps": step, "seq_len": 2, **versions})
        tq.kv_batch_put(
            keys=keys, partition_id="train", tags=tags, fields=tensordict_utils.list_of_dict_to_tensordict(fields)
        )
        tq.kv_batch_put(keys=[uid], partition_id="train", tags=[{"status": "finished"}])


class Engine:
    """Bring the weights to the rollouts: what verl's checkpoint engine does."""

    def __init__(self, policy, rollouts):
        self.policy, self.rollouts = policy, rollouts

    def update_weights(self, step):
        """The rollouts see the newest table; long ones end."""
        self.policy.seen, self.policy.version = self.policy.logits.clone(), step
        running, self.rollouts.running = self.rollouts.running, []
        for rollout in running:
            self.rollouts.finish(*rollout)

    def sleep_replicas(self):
        """Nothing to free."""

    abort_replicas = resume_generation_replicas = sleep_replicas


class OnCpu:
    """Put it before one of verl's trainers: the stand-ins, in place of workers on GPUs."""

    def _setup(self):
        policy = Policy()
        self.rollouts = Rollouts(policy, self.config.actor_rollout_ref.rollout.n, late=self.trainer_mode != "sync")
        self.actor_rollout_wg, self.checkpoint_manager = Workers(policy), Engine(policy, self.rollouts)
        self.standalone_checkpoint_manager, self.current_mode = self.checkpoint_manager, HybridEngineMode.TRAINER
        self.tokenizer = SimpleNamespace(eos_token_id=0, pad_token_id=0, decode=lambda ids, **_: str(ids.tolist()))
        self.resource_pool_manager = SimpleNamespace(get_n_gpus=lambda: 1)
        self.reward_loop_manager = SimpleNamespace(reward_loop_worker_handles=[])
        order = block_reuse(PROMPTS, BATCH, REUSE, passes=PASSES, seed=0).ravel().tolist()
        rows = [
            {
                "raw_prompt": [{"role": "user", "content": f"prompt {i}"}],
                "data_source": "table",
                "extra_info": {"index": i},
                "reward_model": {"ground_truth": 0},
                "dummy": torch.zeros(1),
            }
            for i in order
        ]
        self.train_dataloader = StatefulDataLoader(
            rows, batch_size=self.config.data.gen_batch_size, collate_fn=collate_fn
        )
        self.train_dataloader_it, self.total_training_steps = None, self.config.trainer.total_training_steps
        self.steps_per_epoch = len(rows) // BATCH
        self._init_dump_executor()
        self._load_checkpoint()


def build(mode, folder, *settings):
    """A trainer of that mode, whose checkpoints and logs go into a folder."""
    torch.manual_seed(0)
    with hydra.initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        config = hydra.compose(
            "ppo_trainer",
            [
                "algorithm.adv_estimator=kernadv",
                "algorithm.rollout_correction.bypass_mode=true",  # old_log_probs are those of the rollouts
                f"trainer.v1.trainer_mode={mode}",
                f"trainer.default_local_dir={folder}/checkpoints",
                f"trainer.rollout_data_dir={folder}/rollouts",
                "trainer.total_training_steps=32",
                "trainer.logger=[]",
                "trainer.val_before_train=false",
                "trainer.test_freq=-1",
                "actor_rollout_ref.rollout.n=2",
                f"actor_rollout_ref.actor.ppo_mini_batch_size={BATCH // (UPDATES if mode == 'separate_async' else 1)}",
                *(SEPARATE if mode == "separate_async" else ()),
                f"data.train_batch_size={BATCH}",
                f"data.gen_batch_size={BATCH if mode == 'sync' else 1}",
                *settings,
            ],
        )
    base = get_trainer_cls(mode)
    trainer = type(base.__name__, (OnCpu, base), {})(config)
    trainer.replay_buffer.poll_interval = 0.01
    trainer.init()
    return trainer


def main(mode="sync", folder=None):
    """Train, and say what came of it."""
    folder = folder or tempfile.mkdtemp(prefix="verl_kernadv_")
    ray.init(num_cpus=32, include_dashboard=False, log_to_driver=False)  # logical CPUs, for the queue's actors
    tq.init()
    trainer = build(mode, folder)
    before = trainer.actor_rollout_wg.policy.accuracy()
    trainer.fit(trainer.rollouts)
    print(f"accuracy {before:.2f} -> {trainer.actor_rollout_wg.policy.accuracy():.2f}")
    for name, value in driver().metrics().items():
        print(f"{name} {value:.3g}")
    print(f"kernadv audit {folder}/rollouts")
    tq.close()
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
