"""Long tables: one row a trace, or one row a group with counts or lists, in csv, parquet, jsonl or json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from kernadv._errors import LogError
from kernadv.logs import Chunk, File, Query, Reader, select
from kernadv.logs._files import shallowest
from kernadv.logs._splits import cut
from kernadv.logs._stream import ENDINGS, filled, stream


class Table(Reader):
    """A file, or part files of one ending, with columns for step, prompt and reward."""

    looks_for: ClassVar[str] = f"a file, or part files, ending in {', '.join(ENDINGS)}, also compressed"
    fallback: ClassVar[bool] = True

    def detect(self, files: Sequence[File]) -> bool:
        """Look at the file endings."""
        return bool(_files(files))

    def splits(self, query: Query) -> list[Sequence[File]]:
        """Take the files in the order of their names."""
        files = filled(_files(query.files), query, self.looks_for)
        endings = {file.ending for file in files}
        if len(endings) > 1:
            raise LogError(
                f"{query.source} holds files ending in {', '.join(sorted(endings))}; give one of them, or a pattern such as "
                f"'*{min(endings)}'"
            )
        return cut(files)

    def frames(self, query: Query) -> Iterator[Chunk]:
        """Yield the files as they are."""
        yield from stream(query.files, query, lambda found, file: select(query, found, file))


def _files(files: Sequence[File]) -> list[File]:
    """Part files; among others, or further down, a .json file is no data but a setting."""
    parts = shallowest(files, lambda file: file.ending in ENDINGS and file.ending != ".json")
    return parts or [file for file in files if file.ending == ".json" and not file.folders]
