"""Files that are whole or absent: written beside, flushed, renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch


def save(state: Any, path: Path) -> None:
    """A torch file."""
    _whole(path, lambda file: torch.save(state, file))


def load(path: Path) -> Any:
    """What `save` wrote: tensors, numbers, strings and containers of them."""
    return torch.load(path, map_location="cpu", weights_only=True)


def write_table(table: pa.Table, path: Path) -> None:
    """A parquet file."""
    _whole(path, lambda file: pq.write_table(table, file, compression="zstd", compression_level=19))


def _whole(path: Path, write: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
