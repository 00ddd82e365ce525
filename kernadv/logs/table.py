"""Long tables: one row a trace, or one row a group with counts, in csv, parquet or jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from kernadv._errors import LogError
from kernadv.logs import Chunk, Query, Reader, select
from kernadv.logs._files import ENDINGS, column_names, filled, inside, stream


class Table(Reader):
    """A file, or a folder of part files of one ending, with columns for step, prompt and reward."""

    looks_for: ClassVar[str] = f"a file, or a folder of part files, ending in {', '.join(ENDINGS)}"
    fallback: ClassVar[bool] = True

    def detect(self, path: Path) -> bool:
        """Look at the file endings."""
        return bool(_files(path))

    def frames(self, query: Query) -> Iterator[Chunk]:
        """Yield the files in the order of their names."""
        files = filled(_files(query.path), query.path, self.looks_for)
        endings = {file.suffix.lower() for file in files}
        if len(endings) > 1:
            raise LogError(
                f"{query.path} holds files ending in {', '.join(sorted(endings))}; give one of them, or a folder with one "
                "ending"
            )
        yield from stream(files, select(query, column_names(files[0]), files[0]))


def _files(path: Path) -> list[Path]:
    candidates = inside(path) if path.is_dir() else [path]
    return [file for file in candidates if file.suffix.lower() in ENDINGS]
