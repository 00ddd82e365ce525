"""The findings of an audit as a frame of polars."""

from __future__ import annotations

import polars as pl

from kernadv.auditing import Audit


def frame(audit: Audit) -> pl.DataFrame:
    """A row for each baseline; the estimate has the name of its field, its interval is in ``<field>_low`` and ``_high``."""
    rows = []
    for finding in audit.findings:
        row: dict[str, str | float | None] = {}
        for name, value in vars(finding).items():
            if name in ("mse", "excess", "vs_rloo", "vs_batch", "gradient_ratio"):
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), value or (None,) * 3, strict=True))
            else:
                row[name] = value
        rows.append(row)
    kinds = {name: pl.String if name in ("name", "title", "clock") else pl.Float64 for name in rows[0]}
    return pl.DataFrame(rows, schema=kinds)
