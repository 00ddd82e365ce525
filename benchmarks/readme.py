"""Put into README.md what the package and the committed results say today, and draw its pictures.

Command: ``python -m benchmarks.readme`` (or ``make readme``); tests check that all but the pictures is current.
The picture of the audit needs Chromium and stays as it is without.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from PIL import Image, ImageChops

from benchmarks import RESULTS
from benchmarks.policies.study import PANELS
from benchmarks.policies.tables import chosen_rates, differences, of_cell, shown
from benchmarks.speed.table import duration, seconds
from kernadv import KernelValueEstimator

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from kernadv.cli import main; main()", "audit", "--demo"]
#: Leaves of the page only the first four plots.
ONLY_PLOTS = "<style>main > :not(#plots), #plots figure:nth-of-type(n + 5) { display: none; }</style></head>"
#: Rises from never solved to mostly solved, and is followed neither best nor worst.
PROMPT = "323-70="
#: Pixels around them.
MARGIN = 20


def demo(found: dict[str, Any]) -> str:
    """The demo's baselines that a reader knows, with the better of the two ways to choose KAE's window in hindsight."""
    rows = {row["name"]: row for row in found["findings"]}
    best = min((row for name, row in rows.items() if name.startswith("kae")), key=lambda row: row["mse"]["estimate"])
    named = {
        "no baseline": rows["zero"],
        "mean of all rollouts of the step": rows["batch_mean"],
        "RLOO: mean of the prompt's other rollouts": rows["rloo"],
        "the paper's estimator, as published (h = 0.5)": rows["kae h=0.5"],
        f"the paper's estimator, best window in hindsight ({best['title'].removeprefix('KAE ')})": best,
        "**kernadv**": rows["kernadv"],
    }
    lines = [
        "| baseline | squared error of the value | 95% interval | as good as RLOO with | true error |",
        "|---|---:|---|---:|---:|",
    ]
    for title, row in named.items():
        error = row["mse"]
        cells = [
            f"{error['estimate']:.4f}",
            f"{error['low']:.4f} to {error['high']:.4f}",
            f"{row['worth']:.1f} rollouts",
            f"{row['true_mse']:.4f}",
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def audited() -> dict[str, Any]:
    """The numbers of `kernadv audit --demo`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.json"
        subprocess.run([*COMMAND, "--json", path], capture_output=True, check=True)
        return json.loads(path.read_text())["audit"]


def training(runs: pl.DataFrame) -> str:
    """Accuracy of RLOO over a training, and what others add to it, from the runs of the policy study."""
    panel = PANELS["groups"]
    others = {
        "none, 1 rollout": ("none", 1),
        "the paper's, 1 rollout": ("kae", 1),
        "kernadv, 1 rollout": ("weighted-tilted", 1),
        "kernadv, 4 rollouts": ("weighted-tilted", 4),
    }
    lines = [
        f"| success rate at the start | RLOO, 4 rollouts | {' | '.join(others)} |",
        "|---|" + "---:|" * (1 + len(others)),
    ]
    for start in panel.vary["start"]:
        cells = {g: chosen_rates(of_cell(runs, panel, {"start": start, "group": g})) for g in (1, 4)}
        rloo = cells[4].filter(pl.col("method") == "rloo").with_columns(method=pl.lit("reference"))
        row = [f"{rloo['first'].mean():.0%}", f"{100 * rloo['area'].mean():.1f}"]
        for method, group in others.values():
            row.append(shown(100 * differences(pl.concat([cells[group], rloo]), method, "reference", "area")))
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def fit_time() -> str:
    """Of local lines at every one of 100,000 points, on one core."""
    rows = json.loads((RESULTS / "speed.json").read_text())["benchmarks"]
    (row,) = (
        row
        for row in rows
        if row["group"] == "LL exact, Epanechnikov, n = m = 100,000" and row["name"] == "kernadv, one thread"
    )
    return duration(seconds(row))


def hero(path: Path) -> None:
    """One prompt of the shipped log: what RLOO and kernadv knew at each of its visits, and the truth."""
    log = pl.read_parquet(ROOT / "kernadv" / "data" / "tiny_rlvr.parquet")
    estimator, known = KernelValueEstimator(), []
    for (step,), rows in log.group_by("step", maintain_order=True):
        if PROMPT in rows["prompt_id"]:
            said = estimator.predict([PROMPT], int(step))
            known.append((said.value[0], said.low[0], said.high[0]))
        estimator.advantages(rows["prompt_id"].to_list(), rows["reward"].to_numpy().astype(float), int(step))
    value, low, high = np.array(known).T
    mine = log.filter(pl.col("prompt_id") == PROMPT)
    rewards, truth = (mine[name].to_numpy().reshape(len(value), -1) for name in ("reward", "value"))
    visit, traces = np.arange(1, len(value) + 1), rewards.shape[1]
    others = (rewards.sum(1, keepdims=True) - rewards) / (traces - 1)
    beside = visit[:, None] + np.linspace(-0.25, 0.25, traces)

    plt.style.use(ROOT / "notebooks" / "figures.mplstyle")
    figure, ax = plt.subplots(figsize=(9, 3.4))
    ax.scatter(beside, others, s=14, color="#d95f02", alpha=0.7, lw=0, label="RLOO: mean of the three other rollouts")
    ax.plot(visit, value, color="#1f6fb4", lw=2, label="kernadv: value before the visit")
    ax.fill_between(visit, low, high, color="#1f6fb4", alpha=0.18, lw=0, label="its 95% interval")
    ax.plot(visit, truth[:, 0], color="black", lw=1.2, label="true success rate")
    for end in range(10, len(visit), 10):
        ax.axvline(end + 0.5, color="0.85", lw=0.8, zorder=0)
    ax.set(
        xlabel=f"visits of the prompt {PROMPT}, in rounds of ten", ylabel="success rate", xlim=(0.4, len(visit) + 0.6)
    )
    figure.legend(loc="outside upper center", ncols=4, fontsize=9, columnspacing=1.4, handlelength=1.6)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=140, metadata={"Software": None})
    plt.close(figure)


def picture(path: Path) -> None:
    """Screenshot of the first plots of the HTML report."""
    browser = shutil.which("chromium")
    if browser is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "audit.html", Path(folder) / "audit.png"
        subprocess.run([*COMMAND, "--html", page], capture_output=True, check=True)
        page.write_text(page.read_text(encoding="utf-8").replace("</head>", ONLY_PLOTS), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        size = [f"--user-data-dir={folder}/profile", "--window-size=1200,1600", "--hide-scrollbars"]
        subprocess.run([browser, *flags, *size, f"--screenshot={shot}", page.as_uri()], capture_output=True, check=True)
        image = Image.open(shot).convert("RGB")
        left, top, right, bottom = ImageChops.difference(
            image, Image.new("RGB", image.size, image.getpixel((0, 0)))
        ).getbbox()
        image = image.crop((left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN))
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(path, optimize=True)


def filled(text: str) -> str:
    """README.md with everything between its markers made anew."""
    runs = pl.read_parquet(RESULTS / "policies.parquet")
    for name, content in {"demo": demo(audited()), "training": training(runs)}.items():
        text = fill(text, name, f"\n{content}\n")
    return fill(text, "fit", fit_time())


def fill(text: str, name: str, content: str) -> str:
    """Replace what stands between the two markers of a name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, rest = text.split(begin)
    return head + begin + content + end + rest.split(end)[1]


def main() -> None:
    """Rewrite README.md."""
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))
    hero(ROOT / "docs" / "_static" / "hero.png")
    picture(ROOT / "docs" / "_static" / "audit.png")


if __name__ == "__main__":
    main()
