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

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from kernadv.cli import main; main()", "audit", "--demo"]
#: Where the plots stand on the page, in pixels.
PLOTS = (40, 1873, 1160, 2838)


def audit() -> str:
    """What `kernadv audit --demo` prints, up to what it takes to read the table, as a code block."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"})
    paragraphs = done.stdout.rstrip().split("\n\n")
    return "```\n" + "\n\n".join(paragraphs[:-1]) + "\n```"


def picture(path: Path) -> None:
    """Screenshot of the plots of the HTML report."""
    browser = shutil.which("chromium")
    if browser is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "audit.html", Path(folder) / "audit.png"
        subprocess.run([*COMMAND, "--html", page], capture_output=True, check=True)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        size = [f"--user-data-dir={folder}/profile", "--window-size=1200,4200", "--hide-scrollbars"]
        subprocess.run([browser, *flags, *size, f"--screenshot={shot}", page.as_uri()], capture_output=True, check=True)
        Image.open(shot).crop(PLOTS).convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(path, optimize=True)


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
