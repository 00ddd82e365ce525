"""A stable id for a prompt, from its text, its messages or its tokens."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from kernadv._arrays import is_tensor
from kernadv._errors import ArgumentError, ArgumentTypeError

__all__ = ["prompt_id"]


def __dir__() -> list[str]:
    return __all__


#: Hexadecimal digits of an id: 128 bits, so a million prompts collide with probability 1e-27.
DIGITS = 32


def prompt_id(prompt: Any, pad_id: int | None = None) -> str:
    """Id of a prompt: a hash of what it says, equal in every process and every run.

    Two prompts that say the same get the same id, and so share one history: where equal texts have different answers,
    give them ids of their own, e.g. the row number in the data set.  Text, messages and tokens of one prompt have three
    different ids; a different chat template or tokenizer gives other ids for text and tokens, but not for messages.

    Parameters
    ----------
    prompt : str, sequence of mappings, or sequence, array or tensor of int  # (T,)
        Text; messages, e.g. ``[{"role": "user", "content": "..."}]``, whose entries that are None do not count (Arrow
        fills in those of other rows); or token ids.
    pad_id : int, optional
        Padding of token ids, stripped at both ends: the width of the padding changes from batch to batch.

    Returns
    -------
    str of 32 hexadecimal digits

    Raises
    ------
    ArgumentTypeError
        If the prompt is none of these, or its messages hold more than JSON can say (e.g. images).
    ArgumentError
        If it is empty, only padding, or a batch of several prompts.

    Examples
    --------
    >>> prompt_id("What is 1+1?") == prompt_id("What is 1+1?"), prompt_id("What is 1+1?") == prompt_id("What is 1+2?")
    (True, False)
    >>> prompt_id([0, 0, 5, 6], pad_id=0) == prompt_id([5, 6, 0], pad_id=0)
    True
    """
    if isinstance(prompt, np.ndarray) and prompt.dtype == object:
        prompt = prompt.tolist()
    if isinstance(prompt, str):
        kind, data = b"text:", prompt.encode("utf-8", "surrogatepass")
    elif isinstance(prompt, (list, tuple)) and prompt and all(hasattr(part, "keys") for part in prompt):
        kind, data = b"messages:", _messages(prompt)
    else:
        kind, data = b"tokens:", _tokens(prompt, pad_id)
    if not data:
        raise ArgumentError(f"the prompt is empty: got {prompt!r:.80}; give it an id of its own")
    return hashlib.sha256(kind + data).hexdigest()[:DIGITS]


def _messages(messages: Any) -> bytes:
    try:
        plain = [{key: value for key, value in message.items() if value is not None} for message in messages]
        return json.dumps(plain, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(
            f"messages must hold text, numbers, lists and mappings only, got {error}; give the prompt an id of its own"
        ) from None


def _tokens(tokens: Any, pad_id: int | None) -> bytes:
    array = tokens.detach().cpu().numpy() if is_tensor(tokens) else tokens
    try:
        array = np.asarray(array)
    except ValueError:
        raise ArgumentError("one prompt at a time: got sequences of different lengths") from None
    if array.size == 0 and array.ndim == 1:
        return b""
    if array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"a prompt is text, messages or token ids, got {type(tokens).__name__}: {tokens!r:.80}")
    if array.ndim != 1:
        raise ArgumentError(f"token ids of one prompt have one dimension, got shape {array.shape}; call it once a row")
    if pad_id is not None:
        kept = np.flatnonzero(array != pad_id)
        array = array[kept[0] : kept[-1] + 1] if len(kept) else array[:0]
    return array.astype("<i8").tobytes()
