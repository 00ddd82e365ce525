"""The findings of an audit as a frame of polars."""

from __future__ import annotations

import polars as pl

from kernadv.audit import Audit, Interval


def frame(audit: Audit) -> pl.DataFrame:
    """A row for each baseline; the estimate has the name of its field, its interval is in ``<field>_low`` and ``_high``."""
    rows = []
    for finding in audit.findings:
        row: dict[str, str | float | None] = {}
        for name, value in vars(finding).items():
            ends = value if isinstance(value, Interval) else Interval(value, None, None)  # type: ignore[arg-type]
            row[name] = ends.estimate
            if name in ("mse", "excess", "vs_rloo", "vs_batch", "gradient_ratio"):
                row |= {f"{name}_low": ends.low, f"{name}_high": ends.high}
        rows.append(row)
    kinds = {name: pl.String if name in ("name", "title", "clock") else pl.Float64 for name in rows[0]}
    return pl.DataFrame(rows, schema=kinds)
