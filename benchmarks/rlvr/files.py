"""Torch and parquet files that are whole or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from kernadv._checkpoint import replacing


def save(state: Any, path: Path) -> None:
    """A torch file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside, beside.open("wb") as file:
        torch.save(state, file)


def load(path: Path) -> Any:
    """What `save` wrote: tensors, numbers, strings and containers of them."""
    return torch.load(path, map_location="cpu", weights_only=True)


def write_table(table: pa.Table, path: Path) -> None:
    """A parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        pq.write_table(table, beside, compression="zstd", compression_level=19)
