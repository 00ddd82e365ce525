"""The table of the measured speeds, and whether their ratios are still what they were."""

from __future__ import annotations

from itertools import groupby
from typing import Any

#: A peer may come this much nearer before the check fails: others on the machine slow down now one, now the other.
SLACK = 3.0

Rows = list[dict[str, Any]]


def seconds(row: dict[str, Any], of: str = "median") -> float:
    """Median time of the whole, or another of its statistics: where a part was measured, that many times longer."""
    return float(row["stats"][of] * row["extra_info"].get("times", 1))


def cases(rows: Rows) -> list[tuple[str, Rows]]:
    """The measurements of each case, ours first."""
    order = list(dict.fromkeys(row["group"] for row in rows))
    ranked = sorted(rows, key=lambda row: (order.index(row["group"]), not row["name"].startswith("kernadv")))
    return [(case, list(part)) for case, part in groupby(ranked, key=lambda row: row["group"])]


def ratios(rows: Rows) -> dict[tuple[str, str], float]:
    """How many times as long as the fastest of ours each peer takes, by case and peer; of each, the fastest round.

    Others on the machine make rounds slower, never faster.
    """
    found = {}
    for case, measured in cases(rows):
        ours = [seconds(row, "min") for row in measured if row["name"].startswith("kernadv")]
        peers = [row for row in measured if not row["name"].startswith("kernadv")]
        found |= {(case, row["name"]): seconds(row, "min") / min(ours) for row in peers if ours}
    return found


def nearer(before: dict[tuple[str, str], float], now: dict[tuple[str, str], float]) -> list[str]:
    """A line for each peer that has come nearer by more than `SLACK`; peers that were not measured are passed over."""
    common = [key for key in now if key in before]
    if not common:
        return ["no peer was measured: nothing could be compared"]
    return [
        f"{case}: {peer} takes {times(now[case, peer])} times as long as ours, in the results {times(before[case, peer])}"
        for case, peer in common
        if now[case, peer] * SLACK < before[case, peer]
    ]


def page(found: dict[str, Any]) -> str:
    """Title, machine and table."""
    facts = ", ".join(f"{key} {value}" for key, value in found["machine_info"].items())
    lines = [
        f"# Speed and memory\n\nRemade by `make bench`. Medians after warm-up, on a shared machine: {facts}.\n",
        "| what | by | median | times ours | memory | target |",
        "|---|---|---:|---:|---|---|",
    ]
    for case, (ours, *others) in cases(found["benchmarks"]):
        for row in (ours, *others):
            what, ratio = (case, "") if row is ours else ("", times(seconds(row) / seconds(ours)))
            beside = (row["extra_info"].get(name, "") for name in ("memory", "target"))
            lines.append(f"| {' | '.join([what, row['name'], duration(seconds(row)), ratio, *beside])} |")
    return "\n".join(lines) + "\n"


def duration(s: float) -> str:
    """In seconds or milliseconds."""
    if s >= 0.5:
        return f"{s:.0f} s" if s >= 10 else f"{s:.2f} s"
    return f"{1e3 * s:.0f} ms" if s >= 0.01 else f"{1e3 * s:.1f} ms"


def times(ratio: float) -> str:
    """With a decimal where it is small."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
