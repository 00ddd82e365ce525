"""Characters and their numbers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

FILLERS = "abcdefgh"
ALPHABET = " .0123456789+%=#;?," + FILLERS
PAD, END = ALPHABET.index(" "), ALPHABET.index(".")

_NUMBER = {character: number for number, character in enumerate(ALPHABET)}


def encode(texts: Iterable[str]) -> Tensor:
    """Texts of one length as character numbers.  # (B, T) int64"""
    return torch.tensor([[_NUMBER[character] for character in text] for text in texts])


def decode(tokens: Tensor) -> list[str]:
    """Back to texts, each cut after its first end mark."""
    texts = ["".join(ALPHABET[number] for number in row) for row in tokens.tolist()]
    return [text[: text.find(".") + 1] or text for text in texts]


def counted(tokens: Tensor) -> Tensor:
    """Whether a character belongs to the trace: all up to and with the first end mark.  # (B, T) -> (B, T) bool"""
    ends = (tokens == END).int()
    return ends.cumsum(-1) - ends == 0
