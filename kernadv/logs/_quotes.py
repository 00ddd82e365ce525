"""Where the records of a csv with quotes end, found by a compiled loop."""

from __future__ import annotations

from typing import Any

from kernadv._jit import compiled

_QUOTE, _NEWLINE, _RETURN = b'"\n\r'
#: Where a byte may stand: at the start of a field, in one without quotes, in quotes, or after a quote that may close them.
_START, _PLAIN, _QUOTED, _CLOSED = range(4)


@compiled()
def scan(text: Any, delimiter: int, found: Any) -> None:
    """Find where the last record with an end has it, and whether the text ends in quotes: 1 or 0.

    A quote counts where a field starts, as in Arrow.
    """
    end, state = 0, _START
    for i in range(len(text)):
        byte = text[i]
        if state == _QUOTED:
            if byte == _QUOTE:
                state = _CLOSED
        elif byte in (_NEWLINE, _RETURN):
            end, state = i + 1, _START
        elif byte == delimiter:
            state = _START
        elif byte == _QUOTE and state != _PLAIN:
            state = _QUOTED
        else:
            state = _PLAIN
    found[0], found[1] = end, state == _QUOTED
