"""The reward log as a table."""

from __future__ import annotations

import dataclasses
import json
import platform

import numpy as np
import pyarrow as pa
import torch

from benchmarks.rlvr.shipped_log.experiment import Config, Run

SCHEMA = pa.schema(
    [("step", pa.int32()), ("prompt_id", pa.string()), ("reward", pa.float32()), ("value", pa.float32())]
)


def to_table(result: Run, config: Config, seed: int) -> pa.Table:
    """One row a trace, sorted by step (1-based); the traces of a group are neighbours."""
    steps, prompts, group = result.rewards.shape
    columns = [
        np.repeat(np.arange(1, steps + 1), prompts * group),
        np.repeat(result.prompts.ravel(), group),
        result.rewards.ravel(),
        np.repeat(result.values.ravel(), group),
    ]
    arrays = [pa.array(column).cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyarrow": pa.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    metadata = {
        "command": f"python -m benchmarks.rlvr.shipped_log --seed {seed}",
        "seed": str(seed),
        "config": json.dumps(dataclasses.asdict(config)),
        "versions": json.dumps(versions),
        "license": "Apache-2.0",
    }
    return pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(metadata))
