"""Put the audit of the shipped log and the measured speeds into README.md.

Command: ``python benchmarks/readme.py`` (or ``make readme``); a test checks that the audit's table is the current one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def audit() -> str:
    """What `kernadv audit --demo` prints, up to the verdict, as a code block."""
    command = [sys.executable, "-c", "from kernadv.cli import main; main()", "audit", "--demo"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"})
    paragraphs = done.stdout.rstrip().split("\n\n")
    return "```\n" + "\n\n".join(paragraphs[:3]) + "\n```"


def speed() -> str:
    """The table of the measured speeds."""
    text = (ROOT / "benchmarks" / "results" / "speed.md").read_text()
    return text[text.index("| what") :].rstrip()


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


if __name__ == "__main__":
    main()
