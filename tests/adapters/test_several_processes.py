"""The loop of the page on several processes, in two processes of gloo."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make test")

from kernadv import KernelValueEstimator

ROOT = Path(__file__).parents[2]


def test_every_rank_knows_the_rows_of_all(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    checkpoint = tmp_path / "kernadv.safetensors"
    done = subprocess.run(
        [*launch, ROOT / "docs" / "examples" / "ddp_loop.py"],
        env={**os.environ, "CHECKPOINT": str(checkpoint), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    visits = re.findall(r"rank (\d): (\d+) visits of 64 prompts", done.stdout)
    assert sorted(visits) == [("0", "3200"), ("1", "3200")]  # 200 steps of 16 prompts, whose groups are split
    first, last = (float(x) for x in re.findall(r"step (?:40|200): mean reward ([.\d]+)", done.stdout))
    assert last > first + 0.3
    estimator = KernelValueEstimator()
    estimator.load(checkpoint)
    assert estimator.metrics()["history_visits"] == 3200


@pytest.mark.parametrize("words", ["multi-gpu", "ddp", "torchrun", "several machines", "ray"])
def test_the_page_is_found_by_what_people_search_for(words):
    page = (ROOT / "docs" / "several_processes.md").read_text().lower()
    assert words in page
    assert "several_processes" in (ROOT / "docs" / "index.md").read_text()
