"""Do the pinned versions install where docs/installation.md says so?

Each cell of the table there is put to a resolver (uv), which asks the package index alone and takes wheels alone.  The rows
of a column that can share an environment are resolved at once, under both files of constraints; the others one by one, under
constraints.txt.  Where more resolves than the page claims, that is printed and fails nothing: an index grows.

Command: ``make resolve``.  Exit status: 1 if a cell claims too much, 2 if that cannot be told.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "installation.md"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
#: Columns of the table, as the resolver calls them.  torch's wheels want glibc 2.28, and macOS 14.
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux arm64": "aarch64-manylinux_2_28",
    "macOS arm64": "aarch64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
}
MACOS = "14.0"
#: The rows that are no extra: the package by itself, and the environment of the training frameworks.
PLAIN, FRAMEWORKS = "kernadv", "make frameworks"
#: verl needs an older tensordict than torchrl, and an older transformers than constraints-frameworks.txt has.
ALONE = {"verl"}
#: Packages without wheels: pip builds them, pycosat with a C compiler.
FROM_SOURCE = ("antlr4-python3-runtime", "cellpylib", "pycosat", "zss")


class Untold(Exception):
    """The question whether something resolves has no answer."""


def claims() -> dict[tuple[str, str], tuple[str, ...]]:
    """The Python versions that the page claims, by row and platform."""
    tables = [block for block in PAGE.read_text().split("\n\n") if all(platform in block for platform in PLATFORMS)]
    if len(tables) != 1:
        raise Untold(f"{PAGE} must have one table with the columns {', '.join(PLATFORMS)}")
    head, _, *rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in tables[0].strip().splitlines()
    ]
    claimed = {}
    for row in rows:
        for platform in PLATFORMS:
            cell = row[head.index(platform)]
            first, _, last = cell.partition(" to ")
            if cell != "no" and not {first, last or first} <= set(PYTHONS):
                raise Untold(f"{PAGE}: a cell is 'no', '3.11' or '3.11 to 3.14'; {row[0]} on {platform} has {cell!r}")
            span = () if cell == "no" else PYTHONS[PYTHONS.index(first) : PYTHONS.index(last or first) + 1]
            claimed[row[0], platform] = span
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    if missing := {PLAIN, FRAMEWORKS, *extras} ^ {row for row, _ in claimed}:
        raise Untold(f"{PAGE}: its table and the extras of pyproject.toml differ in {', '.join(sorted(missing))}")
    return claimed


def surroundings() -> dict[str, str]:
    """The environment of the resolver: the index and certificates that pip is told of, and no other source of packages."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    options = dict(line.split("=", 1) for line in listed.stdout.splitlines())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    for option, variable in {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}.items():
        for section in ("global", "install", ":env:"):  # pip lets the later one win
            if f"{section}.{option}" in options:
                kept[variable] = ast.literal_eval(options[f"{section}.{option}"])
    if "UV_CACHE_DIR" in os.environ:
        kept["UV_CACHE_DIR"] = os.environ["UV_CACHE_DIR"]
    return {**kept, "UV_HTTP_TIMEOUT": "120", "MACOSX_DEPLOYMENT_TARGET": MACOS}


class Resolver:
    """Answers whether rows of the table install together.

    Parameters
    ----------
    extras, packages : list of str
        What `make frameworks` installs: the extras, and the packages beside them.
    """

    def __init__(self, extras: list[str], packages: list[str]) -> None:
        self.extras, self.packages = extras, packages
        self.environment = surroundings()
        self.asked = 0

    def refusal(self, rows: list[str], python: str, platform: str) -> str | None:
        """Why these rows do not install together, in the resolver's words; None if they do."""
        self.asked += 1
        extras = {*rows} - {PLAIN, FRAMEWORKS}
        if FRAMEWORKS in rows:
            extras |= {*self.extras}
        files = ["constraints.txt"] if ALONE & {*rows} else ["constraints.txt", "constraints-frameworks.txt"]
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config", "--no-python-downloads"]
        command += ["--python-version", python, "--python-platform", PLATFORMS[platform], "--only-binary", ":all:"]
        command += [part for package in FROM_SOURCE for part in ("--no-binary", package)]
        command += [part for extra in sorted(extras) for part in ("--extra", extra)]
        command += [part for file in files for part in ("-c", file)]
        done = subprocess.run(
            [*command, "pyproject.toml", "-"],
            input="\n".join(self.packages if FRAMEWORKS in rows else []),
            cwd=ROOT, env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode != 0 and "No solution found" not in done.stderr:
            raise Untold(
                f"the resolver did not answer for {', '.join(rows)}, {platform}, Python {python}:\n{done.stderr}"
            )
        return done.stderr if done.returncode else None

    def column(self, python: str, platform: str, claimed: dict[str, bool]) -> tuple[list[str], list[str]]:
        """What is wrong with the claims for one Python version and platform, and which other rows resolve."""
        where = f"{platform}, Python {python}"
        together = [row for row in claimed if claimed[row] and row not in ALONE]
        wrong = []
        if all_at_once := self.refusal(together, python, platform):
            alone = {row: self.refusal([row], python, platform) for row in together}
            wrong = [f"{row} does not resolve on {where}: {reason}" for row, reason in alone.items() if reason]
            wrong = wrong or [f"{', '.join(together)} do not resolve together on {where}: {all_at_once}"]
        more = []
        for row in claimed:
            if row in ALONE or not claimed[row]:
                reason = self.refusal([row], python, platform)
                if claimed[row] and reason:
                    wrong.append(f"{row} does not resolve on {where}: {reason}")
                elif not claimed[row] and not reason:
                    more.append(f"{row} on {where}")
        return wrong, more


def main() -> int:
    """Ask for every Python version and platform; print what is wrong."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--extras", required=True, help="those that `make frameworks` installs, with commas")
    arguments.add_argument("--packages", required=True, help="what it installs beside them, with spaces")
    options = arguments.parse_args()
    start = time.perf_counter()
    try:
        claimed = claims()
        rows = [row for row, platform in claimed if platform == next(iter(PLATFORMS))]
        resolver = Resolver(options.extras.split(","), options.packages.split())
        columns = [(python, platform) for platform in PLATFORMS for python in PYTHONS]
        with ThreadPoolExecutor(4) as pool:
            answers = list(
                pool.map(lambda at: resolver.column(*at, {row: at[0] in claimed[row, at[1]] for row in rows}), columns)
            )
    except Untold as reason:
        print(f"cannot tell: {reason}", file=sys.stderr)
        return 2
    wrong, more = ([line for answer in answers for line in answer[k]] for k in (0, 1))
    print(*wrong, sep="\n\n", file=sys.stderr)
    for line in more:
        print(f"resolves, though {PAGE.name} does not say so: {line}")
    print(f"{len(columns)} columns, {resolver.asked} questions, {time.perf_counter() - start:.0f} s:", end=" ")
    print(f"{len(wrong)} claims of {PAGE.name} are wrong" if wrong else f"{PAGE.name} holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
