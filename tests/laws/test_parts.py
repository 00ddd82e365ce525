"""One trace counts once, in however many rows it comes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernadv._errors import ArgumentError, ArgumentTypeError, KernadvError
from kernadv.parts import Parts, read_parts

nan = np.nan

#: Four rows: two parts of x, one of y, one of z.
GOOD = {"trace": ["x", "y", "x", "z"], "prompt_ids": ["a", "a", "a", "b"], "rewards": [1.0, 0.0, 1.0, nan], "step": 3}
BAD = {
    "rewards": (
        {"rewards": [1.0, 0.0, 0.0, nan]},
        ArgumentError,
        r"rows 0 and 2 .* rewards differ: 1\.0 and 0\.0; give each part the reward",
    ),
    "a reward and none": ({"rewards": [1.0, 0.0, nan, nan]}, ArgumentError, r"rewards differ: 1\.0 and nan"),
    "rewards of one component": (
        {"rewards": [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]},
        ArgumentError,
        r"rows 0 and 2 .* rewards differ: \[1\. 1\.\] and \[1\. 0\.\]",
    ),
    "two prompts": (
        {"prompt_ids": ["a", "a", "b", "b"]},
        ArgumentError,
        "prompts differ: 'a' and 'b'; a trace answers",
    ),
    "two steps": ({"step": [3, 3, 2, 3]}, ArgumentError, "rows 0 and 2 .* steps differ: 3 and 2; give all parts"),
    "two weights": ({"weights": [1.0, 1.0, 2.0, 1.0]}, ArgumentError, r"weights differ: 1\.0 and 2\.0; give each"),
    "too few": ({"trace": ["x", "y", "x"]}, ArgumentError, "got 4 prompt ids and 3 trace ids"),
    "too many": ({"trace": ["x", "y", "x", "z", "z"]}, ArgumentError, "got 4 prompt ids and 5 trace ids"),
    "none": ({"trace": ["x", None, "x", "z"]}, ArgumentTypeError, "trace ids must be .* got NoneType in row 1"),
    "all none": ({"trace": [None] * 4}, ArgumentTypeError, "got NoneType in row 0"),
    "NaN": ({"trace": np.array([1, nan, 1, 2])}, ArgumentTypeError, "got float in row 0"),
    "NaN among text": ({"trace": ["x", nan, "x", "z"]}, ArgumentTypeError, "got float in row 1: nan; use the number"),
    "floats": ({"trace": [1.0, 2.0, 1.0, 3.0]}, ArgumentTypeError, "trace ids must be str or int, got float"),
    "masked": ({"trace": np.ma.array([1, 2, 1, 3], mask=[0, 1, 0, 0])}, ArgumentTypeError, "got NoneType in row 1"),
    "bools": ({"trace": [True, False, True, False]}, ArgumentTypeError, "got bool"),
    "text and numbers": ({"trace": ["x", 1, "x", 2]}, ArgumentError, "trace ids must all be str or all be int"),
    "one text": ({"trace": "xyxz"}, ArgumentTypeError, "trace must be a sequence of ids"),
    "a number": ({"trace": 3}, ArgumentTypeError, "trace must be a sequence of ids"),
    "a set": ({"trace": {"x", "y", "z", "w"}}, ArgumentTypeError, "trace must be a sequence of ids"),
    "a matrix": ({"trace": np.ones((4, 1), int)}, ArgumentError, "trace must have one dimension"),
    "too large": ({"trace": [2**70, 1, 2**70, 2]}, ArgumentError, "int trace ids must fit 64 bits"),
}


@pytest.mark.parametrize(("wrong", "error", "message"), BAD.values(), ids=BAD)
def test_bad_parts(wrong, error, message):
    assert issubclass(error, KernadvError)
    with pytest.raises(error, match=message):
        read_parts(**{**GOOD, **wrong})


@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [[1.0]] * 3, [], 1.0, [[[1.0]]] * 4, [[1.0], [1.0, 2.0]], "text"])
def test_bad_rewards(rewards):
    with pytest.raises(KernadvError):
        read_parts(**{**GOOD, "rewards": rewards})


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20), st.booleans())
@settings(max_examples=100, deadline=None)
def test_parts_are_those_of_a_dictionary(rows, text):
    """Traces in the order of their first rows, whatever the ids look like."""
    names = [f"{prompt}/{k}" if text else 7 * prompt + k for prompt, k in rows]
    z = [float(k) if k else nan for _, k in rows]
    parts = read_parts(names, [prompt for prompt, _ in rows], z, 1)
    order = list(dict.fromkeys(names))
    assert isinstance(parts, Parts)
    assert parts.of.tolist() == [order.index(name) for name in names]
    assert parts.first.tolist() == [names.index(name) for name in order]
    matrix = read_parts(names, [prompt for prompt, _ in rows], np.column_stack([z, np.ones(len(z))]), 1)
    assert all(map(np.array_equal, matrix, parts))


def test_weights_of_what_is_not_scored_do_not_matter():
    parts = read_parts([1, 1, 2, 2], list("aabb"), [nan, nan, 1.0, 1.0], 1, weights=[5.0, nan, 2.0, 2.0])
    assert parts.first.tolist() == [0, 2]
