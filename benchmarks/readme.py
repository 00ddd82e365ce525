"""Put the audit of the shipped log, its picture and the measured speeds into README.md.

Command: ``python -m benchmarks.readme`` (or ``make readme``); a test checks that the audit's table is the current one.
The picture needs Chromium and stays as it is without.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from kernadv.cli import main; main()", "audit", "--demo"]
#: Leaves of the page only the first four plots.
ONLY_PLOTS = "<style>main > :not(#plots), #plots figure:nth-of-type(n + 5) { display: none; }</style></head>"
#: Pixels around them.
MARGIN = 20


def audit() -> str:
    """What `kernadv audit --demo` prints, up to what it takes to read the table, as a code block."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"})
    paragraphs = done.stdout.rstrip().split("\n\n")
    return "```\n" + "\n\n".join(paragraphs[:-1]) + "\n```"


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


def speed() -> str:
    """The table of the measured speeds."""
    text = (ROOT / "benchmarks" / "results" / "speed.md").read_text()
    return text[text.index("| what |") :].rstrip()


def fill(text: str, name: str, content: str) -> str:
    """Replace what stands between the two markers of a name."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    head, rest = text.split(begin)
    return head + begin + content + "\n" + end + rest.split(end)[1]


def main() -> None:
    """Rewrite README.md."""
    path = ROOT / "README.md"
    text = fill(path.read_text(), "audit", audit())
    path.write_text(fill(text, "speed", speed()))
    picture(ROOT / "docs" / "_static" / "audit.png")


if __name__ == "__main__":
    main()
