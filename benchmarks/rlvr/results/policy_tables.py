"""The tables of the section "Policies", as Markdown."""

from __future__ import annotations

from typing import Any

import polars as pl

from benchmarks.policies.study import Panel
from benchmarks.policies.tables import Columns, chosen_rates, differences, of_cell, shown, summary
from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.training.panels import PANELS, TOKENS

COLUMNS = Columns(
    {"area": "area", "final": "final", "greedy": "greedy", "pass4": "pass@4", "reward": "reward"},
    {"entropy": "entropy", "norm": "gradient", "clipped": "clipped"},
)


def tables(runs: pl.DataFrame | None = None, panels: dict[str, Panel] = PANELS) -> dict[str, str]:
    """Title -> Markdown, of the cells of which two seeds have all their runs.

    Parameters
    ----------
    runs : polars.DataFrame, optional
        Default: those in the repository.
    panels : dict of Panel
    """
    if runs is None:
        runs = pl.read_parquet(RESULTS / "policies.parquet")
    found = {title(cell): summary(runs, panel, cell, COLUMNS) for panel in panels.values() for cell in panel.cells()}
    return {name: text for name, text in found.items() if text is not None}


def along_the_trace() -> str:
    """Markdown: the baselines that move along the trace against those of the trace."""
    runs = pl.read_parquet(RESULTS / "policies.parquet")
    lines = [
        "| | " + " | ".join(COLUMNS.shares.values()) + " | seeds |",
        "|---" + "|---:" * (len(COLUMNS.shares) + 1) + "|",
    ]
    for panel in TOKENS.values():
        for cell in panel.cells():
            tuned = chosen_rates(of_cell(runs, panel, cell))
            for own, reference in (("weighted-tokens", "weighted"), ("weighted-tokens-tilted", "weighted-tilted")):
                found = [100 * differences(tuned, own, reference, name) for name in COLUMNS.shares]
                if len(found[0]) > 1:
                    about = f"{title(cell)}{', both tilted' if 'tilted' in own else ''}"
                    lines.append(f"| {about} | " + " | ".join(map(shown, found)) + f" | {len(found[0])} |")
    return "\n".join(lines)


def title(cell: dict[str, Any]) -> str:
    """Of a cell's table."""
    clip = f"clipped at {cell['clip']:g}" if cell["clip"] else "not clipped"
    return f"{cell['task']}, G = {cell['group']}, {clip}"
