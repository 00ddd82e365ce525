"""Characters and their numbers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Alphabet:
    """A vocabulary of single characters.

    Parameters
    ----------
    characters : str
        In the order of their numbers.  The space pads; the full stop ends a trace.
    """

    def __init__(self, characters: str) -> None:
        self._characters = characters
        self._number = {character: number for number, character in enumerate(characters)}
        self.pad, self.end = self._number[" "], self._number["."]

    def __len__(self) -> int:
        return len(self._characters)

    def encode(self, texts: Iterable[str]) -> Tensor:
        """Texts of one length as character numbers.  # (B, T) int64"""
        return torch.tensor([[self._number[character] for character in text] for text in texts])

    def decode(self, tokens: Tensor) -> list[str]:
        """Back to texts, each cut after its first end mark."""
        texts = ["".join(self._characters[number] for number in row) for row in tokens.tolist()]
        return [text[: text.find(".") + 1] or text for text in texts]

    def counted(self, tokens: Tensor) -> Tensor:
        """Whether a character belongs to the trace: all up to and with the first end mark.  # (B, T) -> (B, T) bool"""
        ends = (tokens == self.end).int()
        return ends.cumsum(-1) - ends == 0


FILLERS = "abcdefgh"
#: Of the study's tasks.
ALPHABET = Alphabet(" .0123456789+%=#;?," + FILLERS)
