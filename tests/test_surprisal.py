"""Weights from log-probabilities."""

import numpy as np
import pytest

from kernadv import ArgumentError, ArgumentTypeError
from kernadv.scores import Surprisal

torch = pytest.importorskip("torch", reason="torch is not installed")

LOG_PROBS = np.array([[-1.0, -2.0, -0.5], [-0.1, np.nan, 7.0], [-3.0, -3.0, -1e9]])
MASK = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]])


def test_squares_of_the_surprisal_inside_the_mask():
    np.testing.assert_allclose(Surprisal(np.inf)(LOG_PROBS, MASK), [3.5**2, 0.1**2, 36.0])
    np.testing.assert_allclose(Surprisal(np.inf, "trace")(LOG_PROBS, MASK), [(3.5 / 3) ** 2, 0.1**2, 9.0])


def test_the_cap_is_so_many_running_means():
    weigh = Surprisal(3.0)
    first = weigh.of_traces([1.0, 1.0, 2.0], [1, 1, 1])
    np.testing.assert_allclose(first, [1.0, 1.0, 4.0])  # the mean is 2
    second = weigh.of_traces([1.0, 10.0], [1, 1])
    np.testing.assert_allclose(second, [1.0, 6.0])
    assert weigh.metrics() == pytest.approx({"weights_kish": 49 / (2 * 37), "weights_capped": 0.5})
    third = weigh.of_traces([100.0], [1])
    np.testing.assert_allclose(third, 3 * (0.9 * 2.0 + 0.1 * 3.5))


def test_the_first_cap_is_that_of_its_own_mean():
    """m is the mean of the weights capped at 3 m, which one huge trace cannot lift."""
    x = np.ones(32)
    x[5] = 1e3
    w = Surprisal()(-x[:, None], np.ones((32, 1)))
    assert w[5] == pytest.approx(3 * w.mean(), rel=1e-5)
    assert w.mean() == pytest.approx(31 / 29, rel=1e-5)


@pytest.mark.parametrize("size", [1, 2])
def test_few_traces_are_not_capped_away(size):
    np.testing.assert_allclose(Surprisal().of_traces(np.full(size, 2.0), np.ones(size)), 4.0)


def test_traces_without_tokens_or_surprise_weigh_nothing():
    weigh = Surprisal(loss="trace")
    np.testing.assert_array_equal(weigh(np.zeros((2, 3)), np.zeros((2, 3))), 0.0)
    np.testing.assert_array_equal(weigh(np.zeros((2, 3)), np.ones((2, 3))), 0.0)
    assert weigh.metrics() == {"weights_kish": 0.0, "weights_capped": 0.0}
    np.testing.assert_allclose(weigh(-np.ones((2, 3)), np.ones((2, 3))), 1.0)  # and leave no cap of 0
    assert len(weigh(np.zeros((0, 3)), np.zeros((0, 3)))) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("loss", ["sum", "trace"])
def test_tensors_give_the_numbers_of_arrays(dtype, loss):
    rng = np.random.default_rng(0)
    ours, theirs = Surprisal(loss=loss), Surprisal(loss=loss)
    for _ in range(3):
        x = torch.as_tensor(-rng.exponential(1.0, (6, 9))).to(dtype)
        mask = torch.as_tensor(rng.random((6, 9)) < 0.8)
        found = theirs(x, mask)
        assert isinstance(found, torch.Tensor)
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found.numpy(), ours(x.double().numpy(), mask.numpy()), rtol=1e-12)
    assert theirs.state_dict()["mean"] == pytest.approx(ours.state_dict()["mean"], rel=1e-12)


def test_parts_of_a_batch_give_the_weights_of_the_whole():
    x, mask = -np.random.default_rng(0).exponential(1.0, (8, 5)), np.ones((8, 5))
    whole, parts = Surprisal(), Surprisal()
    sums = [Surprisal.sums(x[rows], mask[rows]) for rows in (slice(0, 3), slice(3, 8))]
    gathered = [np.concatenate(part) for part in zip(*sums, strict=True)]
    np.testing.assert_array_equal(whole(x, mask), parts.of_traces(*gathered))


def test_the_state_goes_on():
    rng = np.random.default_rng(0)
    one, other = Surprisal(), Surprisal()
    one(-rng.exponential(1.0, (8, 5)), np.ones((8, 5)))
    other.load_state_dict(one.state_dict())
    x = -rng.exponential(3.0, (8, 5))
    np.testing.assert_array_equal(one(x, np.ones((8, 5))), other(x, np.ones((8, 5))))


@pytest.mark.parametrize(
    ("log_probs", "mask", "words"),
    [
        ([[0.5]], [[1]], "not above 0, got 0.5 in row 0"),
        ([[-1.0], [np.nan]], [[1], [1]], "got nan in row 1"),
        ([[-np.inf]], [[1]], "finite"),
        ([[-1.0]], [[1, 1]], r"\(1, 1\) and \(1, 2\)"),
        ([-1.0], [1], r"\(B, T\)"),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_log_probabilities_that_are_none_are_refused(kind, log_probs, mask, words):
    weigh = Surprisal()
    with pytest.raises(ArgumentError, match=words):
        weigh(kind(np.array(log_probs)), kind(np.array(mask)))
    assert weigh.state_dict()["mean"].tolist() == [0.0]


@pytest.mark.parametrize(
    ("surprisal", "lengths", "words"),
    [([-1.0], [1], "not negative"), ([1.0], [np.nan], "finite"), ([1.0, 2.0], [1], "one length a trace")],
)
def test_sums_that_are_none_are_refused(surprisal, lengths, words):
    with pytest.raises(ArgumentError, match=words):
        Surprisal().of_traces(surprisal, lengths)


def test_settings_are_checked():
    with pytest.raises(ArgumentError, match="cap"):
        Surprisal(0.5)
    with pytest.raises(ArgumentTypeError, match="cap"):
        Surprisal("3")
    with pytest.raises(ArgumentError, match="loss"):
        Surprisal(loss="mean")
    with pytest.raises(ArgumentTypeError, match="numbers"):
        Surprisal()([["a"]], [[1]])
