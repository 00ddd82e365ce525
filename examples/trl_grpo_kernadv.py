"""GRPO with one trace a prompt, on a CPU and offline: a tiny random model learns to answer with even bytes.

Sixteen prompts ask for shares of even bytes between 1/8 and 7/8, so some are easy from the start and some hard to the end.

    pip install ".[trl,audit]"    # in a checkout of kernadv
    python examples/trl_grpo_kernadv.py [FOLDER]
    kernadv audit FOLDER/completions

Two lines differ from plain TRL: the import of GRPOConfig and GRPOTrainer, and ``reuse``, which lets prompts come back.
"""

import sys
import tempfile
import warnings
from textwrap import fill

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, PrinterCallback, Qwen2Config, Qwen2ForCausalLM

from kernadv.adapters.trl import GRPOConfig, GRPOTrainer
from kernadv.auditing import audit
from kernadv.logs import read_log

SUMS = [(a, b) for a in range(4) for b in range(4)]


def tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer on a few sums."""
    bare = Tokenizer(models.BPE(unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator([f"What is {a}+{b}? {a + b}." for a, b in SUMS], trainer)
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=bare, padding_side="left", **special)


def model(words: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """Draw a random Qwen2 of two layers."""
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=128,
            pad_token_id=words.pad_token_id,
            eos_token_id=words.eos_token_id,
            bos_token_id=None,
        )
    )


def prompts() -> Dataset:
    """Sixteen sums, each with an id that stays the same when it comes back, and the larger the sum, the more is asked."""
    rows = [{"prompt": f"What is {a}+{b}?", "prompt_id": f"add-{a}-{b}", "asked": (1 + a + b) / 8} for a, b in SUMS]
    return Dataset.from_list(rows)


def even(completions: list[str], **_: object) -> list[float]:
    """Share of even bytes."""
    return [sum(byte % 2 == 0 for byte in text.encode()) / max(len(text.encode()), 1) for text in completions]


def enough(completions: list[str], asked: list[float], **_: object) -> list[float]:
    """1 where the share of even bytes is what the prompt asks for, else 0."""
    return [float(share >= least) for share, least in zip(even(completions), asked, strict=True)]


def main(folder: str, steps: int = 150) -> None:
    """Train, and say what happened."""
    words = tokenizer()
    config = GRPOConfig(
        output_dir=folder,
        num_generations=1,  # one trace a prompt; plain GRPO needs at least two
        per_device_train_batch_size=8,
        max_completion_length=12,
        max_steps=steps,
        learning_rate=5e-3,
        scale_rewards="none",
        loss_type="dr_grpo",
        beta=0.0,
        logging_steps=1,
        log_completions=True,
        num_completions_to_print=0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(model(words), enough, args=config, train_dataset=prompts(), processing_class=words, reuse=10)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    log, names = trainer.state.log_history[:-1], ("n_eff", "cold_fraction", "revisit_gap", "seconds")
    print("     steps  reward", *(f"{name:>14s}" for name in names))
    for first in range(0, steps, 15):
        rows = log[first : first + 15]
        reward = sum(row["reward"] for row in rows) / len(rows)
        last = (f"{rows[-1].get(f'kernadv/{name}', float('nan')):14.4f}" for name in names)
        print(f"{first + 1:4d}-{first + len(rows):4d}  {reward:6.3f}", *last)
    print(
        f"\n{fill(audit(read_log(f'{folder}/completions').groups).verdict, 100)}\n\nkernadv audit {folder}/completions"
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore", FutureWarning)  # of transformers, at every step
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
