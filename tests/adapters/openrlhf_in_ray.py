"""OpenRLHF's own trainer in an actor of Ray, with the recipe; models and engines are stand-ins.

The argument is a folder.  There, what the trainer hands to the actor model is appended to ``sync/batches.jsonl`` and
``async/batches.jsonl``, one batch a line, beside the checkpoints.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import ray
import torch
from openrlhf.trainer import ppo_trainer, ppo_trainer_async
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).parents[2]
PROMPTS, GROUP, WIDTH = 4, 2, 3


def import_file(path):
    """Import a module from its file, as of a script: under a name that other processes do not know."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Group:
    """In place of the processes that hold the actor model."""

    def __init__(self, folder):
        self.folder = folder

    def async_run_method_batch(self, method_name, **lists):
        """One call a micro batch."""
        if method_name == "append":
            with (self.folder / "batches.jsonl").open("a") as file:
                rows = [
                    {"id": label["prompt_id"], "reward": reward, "advantages": row}
                    for e in lists["experience"]
                    for label, reward, row in zip(e.labels, e.rewards.tolist(), e.advantages.tolist(), strict=True)
                ]
                print(json.dumps(rows), file=file)
            return [ray.put(None)]
        return [ray.put([-torch.ones(mask.shape)]) for mask in lists["action_mask"]]  # log-probabilities

    def async_run_method(self, method_name, **options):
        """One call."""
        if method_name == "save_checkpoint":
            (self.folder / "_actor").mkdir(exist_ok=True)
            torch.save(options["client_states"], self.folder / "_actor" / "states.pt")
        states = {}
        if method_name == "get_checkpoint_states":
            states = torch.load(self.folder / "_actor" / "states.pt", weights_only=False)
        return [ray.put(states)]


class Loader(list):
    """In place of a data loader: its rows, in order."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Strategy:
    """In place of DeepSpeed."""

    def __init__(self, args):
        self.args = args

    def is_rank_0(self):
        return True

    def print(self, *args):
        pass

    def setup_dataloader(self, dataset, batch_size, pin_memory, shuffle, collate_fn, **options):
        return Loader(collate_fn([dataset[k]]) for k in range(len(dataset)))


@ray.remote(num_cpus=0)
class Engine:
    """In place of vLLM: every second answer to an even prompt is right."""

    def get_num_unfinished_requests(self):
        return 0

    def generate_responses(self, prompt, label, num_samples, **options):
        even = int(label["prompt_id"]) % 2 == 0
        return [
            {
                "prompt": prompt,
                "label": label,
                "reward": float(even and k % 2 == 0),
                "scores": None,
                "observation_tokens": list(range(1 + WIDTH)),
                "action_ranges": [(1, 1 + WIDTH)],
                "rollout_log_probs": None,
            }
            for k in range(num_samples)
        ]


def settings(folder, episodes):
    """What OpenRLHF reads of its arguments."""
    space = SimpleNamespace
    return space(
        actor=space(loss_agg_mode="token-mean", policy_loss_type="ppo", num_nodes=1, num_gpus_per_node=1),
        algo=space(
            advantage=space(estimator="flash_reinforce", gamma=1.0, lambd=1.0, is_correction_level="off"),
            kl=space(init_coef=0.0, target=None, horizon=1, use_loss=False, estimator="k1"),
            dynamic_filtering_enable=False,
        ),
        ckpt=space(save_steps=2, path=str(folder), load_enable=True, best_metric_key=""),
        critic=space(freezing_steps=-1),
        data=space(
            prompt_dataset=str(folder / "prompts.jsonl"),
            prompt_probs="1.0",
            prompt_split="train",
            max_samples=PROMPTS,
            input_template=None,
            input_key="input",
            label_key="label",
            apply_chat_template=False,
            dataloader_num_workers=0,
            disable_fast_tokenizer=False,
        ),
        ds=space(ring_attn_size=1, tensor_parallel_size=1, enable_sleep=False),
        eval=space(steps=-1, dataset=None),
        logger=space(wandb=space(key=None), tensorboard_dir=None, logging_steps=1),
        reward=space(clip_range=None, overlong_buffer_len=None, stop_properly_penalty_coef=None),
        rollout=space(
            batch_size=PROMPTS // 2,
            n_samples_per_prompt=GROUP,
            micro_batch_size=2,
            max_new_tokens=WIDTH,
            vllm_generate_batch_size=None,
        ),
        train=space(
            seed=1,
            batch_size=4,
            num_episodes=episodes,
            max_epochs=1,
            dynamic_batch_enable=False,
            colocate_all=False,
            colocate_actor_ref=False,
            async_queue_size=1,
            partial_rollout_enable=False,
        ),
        vllm=space(enable_sleep=False),
    )


def train(actor, folder, episodes):
    """Train in an actor of Ray, from the checkpoint in the folder, if there is one."""
    folder.mkdir(exist_ok=True)
    rows = [{"input": "the same text", "label": {"prompt_id": str(k)}} for k in range(PROMPTS)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = WordLevel({f"w{k}": k for k in range(1 + WIDTH)}, unk_token="w0")
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token="w0").save_pretrained(folder / "words")
    strategy, group, engines = Strategy(settings(folder, episodes)), Group(folder), [Engine.remote()]
    trainer = actor.remote(str(folder / "words"), strategy, group, None, None, None, engines, max_len=64)
    ray.get(trainer.fit.remote())
    ray.kill(trainer)


def main(folder):
    """Two episodes, then a third after a restart; then two with rollouts that are made while it trains."""
    import_file(ROOT / "examples" / "recipes" / "openrlhf_kernadv.py").replace()
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    for episodes in (2, 3):
        train(ppo_trainer.PPOTrainer, Path(folder) / "sync", episodes)
    train(ppo_trainer_async.PPOTrainerAsync, Path(folder) / "async", 2)
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
