"""What the TRL adapter adds to a training step: medians over the tiny run of the example, on this machine.

    OMP_NUM_THREADS=1 .venv-frameworks/bin/python -m benchmarks.adapters

Of each step: the whole step, and what the two overridden methods take beyond those of TRL that they call.
"""

import importlib.util
import platform
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import trl

from kernadv import KernelValueEstimator
from kernadv.adapters.trl import GRPOConfig, GRPOTrainer

METHODS = ("_calculate_rewards", "_generate_and_score_completions")
STEPS = 60
WARM_UP = 10


class Timed(GRPOTrainer):
    """Times every call of the methods, the adapter's and TRL's."""

    spent: list[float]

    def training_step(self, *args, **options):
        """Time the step and what the adapter adds to it."""
        self.inside = dict.fromkeys(("ours", "theirs"), 0.0)
        start = time.perf_counter()
        out = super().training_step(*args, **options)
        added = self.inside["ours"] - self.inside["theirs"]
        self.seconds.append((time.perf_counter() - start, self.kernadv.seconds, added - self.kernadv.seconds))
        return out


def timed(method, key):
    """Add the time of a call to the trainer's account."""

    def call(self, *args, **options):
        start = time.perf_counter()
        out = method(self, *args, **options)
        self.inside[key] += time.perf_counter() - start
        return out

    return call


def run(example, estimator, group):
    """Median step, the estimator's part of it, and what the adapter adds around the estimator, in milliseconds."""
    words = example.tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            num_generations=group,
            per_device_train_batch_size=8,
            max_completion_length=12,
            max_steps=STEPS,
            beta=0.0,
            scale_rewards="none",
            logging_steps=1,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = Timed(
            example.model(words),
            example.even,
            args=config,
            train_dataset=example.prompts(),
            processing_class=words,
            estimator=estimator,
            reuse=10,
        )
        trainer.seconds = []
        trainer.log = lambda *args, **options: None
        trainer.train()
    return [1e3 * statistics.median(column) for column in zip(*trainer.seconds[WARM_UP:], strict=True)]


def main():
    """Print one line an estimator and group size."""
    warnings.simplefilter("ignore")
    path = Path(__file__).parents[1] / "examples" / "trl_grpo_kernadv.py"
    spec = importlib.util.spec_from_file_location("example", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    for name in METHODS:
        setattr(trl.GRPOTrainer, name, timed(getattr(trl.GRPOTrainer, name), "theirs"))
        setattr(Timed, name, timed(getattr(GRPOTrainer, name), "ours"))
    print(f"trl {trl.__version__}, {platform.processor() or platform.machine()}, medians of {STEPS - WARM_UP} steps")
    for label, make in {"pooled": KernelValueEstimator, "kae(0.5)": KernelValueEstimator.kae}.items():
        for group in (1, 4):
            step, estimator, around = run(example, make(), group)
            print(
                f"{label:9s} G={group}  step {step:6.1f} ms  estimator {estimator:6.3f} ms ({estimator / step:.2%})",
                end="",
            )
            print(f"  adapter around it {around:6.3f} ms ({around / step:.2%}; target < 1%)")


if __name__ == "__main__":
    main()
