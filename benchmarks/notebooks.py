"""Execute the notebooks and keep what they show, so that they are read with their pictures where nothing runs them.

Command: ``python -m benchmarks.notebooks [NOTEBOOK ...]`` (or ``make notebooks``), all of them without arguments; tests
check that what is kept belongs to the code. Of the two that take minutes the documentation shows what is kept, the others
it runs.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
#: Seconds that a cell may take.
TIMEOUT = 1200


def fingerprint(notebook: dict[str, Any]) -> str:
    """Hash of the code of a notebook, whether its cells are strings or lists of lines."""
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def smaller(picture: str) -> str:
    """A PNG, in base64, on white and with the 256 colours that suit it best: a third of the size."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA")
    page, found = Image.new("RGBA", image.size, "white"), io.BytesIO()
    page.alpha_composite(image)
    page.convert("RGB").quantize(256, kmeans=2).save(found, "png", optimize=True)
    return base64.b64encode(found.getvalue()).decode()


def execute(path: Path) -> None:
    """Run a notebook and write what its cells show into it; whatever else changes from run to run stays out.

    A cell that fails, or that writes to stderr, is an error and leaves the file as it is.
    """
    import nbformat  # of the extra `docs`, as the next one
    from nbclient import NotebookClient

    kept, ran = nbformat.read(path, 4), nbformat.read(path, 4)
    NotebookClient(ran, timeout=TIMEOUT, record_timing=False, resources={"metadata": {"path": str(FOLDER)}}).execute()
    for cell, done in zip(kept.cells, ran.cells, strict=True):
        if cell.cell_type != "code":
            continue
        cell.outputs = done.outputs
        for output in cell.outputs:
            if output.get("name") == "stderr":
                raise RuntimeError(f"{path.name}: cell {cell.id} writes to stderr: {output.text}")
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
            if "execution_count" in output:
                output.execution_count = None
    kept.metadata["executed"] = fingerprint(kept)
    nbformat.write(kept, path)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or sorted(map(str, FOLDER.glob("*.ipynb")))):
        start = time.perf_counter()
        execute(path)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)
