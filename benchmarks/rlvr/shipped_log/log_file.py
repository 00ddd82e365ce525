"""The reward log as a parquet file."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from run import Run
from train import Config

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
        "command": f"python benchmarks/tiny_rlvr/make_log.py --seed {seed}",
        "seed": str(seed),
        "config": json.dumps(dataclasses.asdict(config)),
        "versions": json.dumps(versions),
        "license": "Apache-2.0",
    }
    return pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(metadata))


def write(table: pa.Table, out: Path) -> None:
    """Write beside ``out``, flush to disk, then rename: ``out`` is never half a file."""
    part = out.with_name(out.name + ".part")
    with part.open("wb") as file:
        pq.write_table(table, file, compression="zstd", compression_level=19)
        file.flush()
        os.fsync(file.fileno())
    part.replace(out)
