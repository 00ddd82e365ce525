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

import polars as pl
from PIL import Image, ImageChops

from benchmarks import RESULTS
from benchmarks.policies.study import PANELS
from benchmarks.policies.tables import chosen_rates, differences, of_cell, shown
from benchmarks.speed.table import duration, seconds

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from kernadv.cli import main; main()", "audit", "--demo"]
#: Leaves of the page only the first four plots.
ONLY_PLOTS = "<style>main > :not(#plots), #plots figure:nth-of-type(n + 5) { display: none; }</style></head>"
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
    picture(ROOT / "docs" / "_static" / "audit.png")


if __name__ == "__main__":
    main()
