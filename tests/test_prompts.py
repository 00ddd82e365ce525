"""Ids of prompts: the same everywhere, whatever the padding."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernadv import ArgumentError, ArgumentTypeError, prompt_id

MESSAGES = [{"role": "user", "content": "What is 1+1?"}]


def test_the_definition():
    assert prompt_id("ab") == hashlib.sha256(b"text:ab").hexdigest()[:32]
    assert prompt_id([1]) == hashlib.sha256(b"tokens:" + bytes([1, 0, 0, 0, 0, 0, 0, 0])).hexdigest()[:32]


@pytest.mark.parametrize("seed", ["0", "1"])
def test_equal_in_every_process(seed):
    code = f"import kernadv; print(kernadv.prompt_id('é'), kernadv.prompt_id({MESSAGES!r}), kernadv.prompt_id([1, 2]))"
    env = {"PYTHONHASHSEED": seed, "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.split() == [prompt_id("é"), prompt_id(MESSAGES), prompt_id([1, 2])], done.stderr


@given(st.lists(st.integers(1, 2**40), min_size=1), st.integers(0, 5), st.integers(0, 5))
def test_padding_does_not_matter(tokens, left, right):
    padded = [0] * left + tokens + [0] * right
    assert prompt_id(padded, pad_id=0) == prompt_id(tokens)
    assert (prompt_id(padded) == prompt_id(tokens)) == (left + right == 0)


def test_padding_inside_stays():
    assert prompt_id([1, 0, 2], pad_id=0) != prompt_id([1, 2], pad_id=0)


@given(st.lists(st.text(min_size=1), unique=True, max_size=50))
def test_different_texts_differ(texts):
    assert len({prompt_id(text) for text in texts}) == len(texts)


def test_kinds_of_tokens_agree():
    torch = pytest.importorskip("torch")
    tokens = [5, 6, 7]
    for other in (tuple(tokens), np.array(tokens, np.int32), np.array(tokens, np.uint8), torch.tensor(tokens)):
        assert prompt_id(other) == prompt_id(tokens)


def test_messages_do_not_depend_on_the_order_of_keys():
    assert prompt_id(MESSAGES) == prompt_id([{"content": "What is 1+1?", "role": "user"}])
    assert prompt_id(MESSAGES) == prompt_id(tuple(MESSAGES)) == prompt_id(np.array(MESSAGES, dtype=object))
    assert prompt_id(MESSAGES) == prompt_id([{"name": None, **MESSAGES[0]}])  # filled in by Arrow
    assert prompt_id(MESSAGES) != prompt_id("What is 1+1?")
    assert prompt_id(MESSAGES * 2) != prompt_id(MESSAGES)


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ("", ArgumentError, "the prompt is empty"),
        ([], ArgumentError, "the prompt is empty"),
        ([0, 0], ArgumentError, "the prompt is empty"),
        ([[1, 2], [3, 4]], ArgumentError, "call it once a row"),
        ([[1, 2], [3]], ArgumentError, "different lengths"),
        (3, ArgumentError, "one dimension"),
        (None, ArgumentTypeError, "text, messages or token ids, got NoneType"),
        ([1.5], ArgumentTypeError, "text, messages or token ids"),
        (["a", "b"], ArgumentTypeError, "text, messages or token ids"),
        ([{"content": object()}], ArgumentTypeError, "messages must hold"),
    ],
)
def test_bad_input(prompt, error, message):
    with pytest.raises(error, match=message):
        prompt_id(prompt, pad_id=0)
