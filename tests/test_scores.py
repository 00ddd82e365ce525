"""Scores of traces against torch's own backward pass and against their definition."""

import numpy as np
import pytest

from kernadv import ArgumentError
from kernadv.gradient import gradient_variance
from kernadv.scores import last_layer_scores, logit_norms, logit_weights, trace_scores

torch = pytest.importorskip("torch")
VOCABULARY, WIDTH, LENGTH, ROWS = 7, 5, 4, 6


class Model(torch.nn.Module):
    """A small autoregressive model with a buffer: token -> running mean of embeddings -> logits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.middle = torch.nn.Linear(WIDTH, WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.register_buffer("scale", torch.tensor(1.5))

    def hidden(self, tokens):
        past = torch.cumsum(self.embedding(tokens), dim=-2)
        return torch.tanh(self.middle(past) * self.scale)

    def forward(self, tokens):
        return self.head(self.hidden(tokens))


@pytest.fixture
def model():
    return Model().double()


@pytest.fixture
def traces():
    rng = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, VOCABULARY, (ROWS, LENGTH + 1), generator=rng)
    mask = (torch.arange(LENGTH) < torch.tensor([4, 3, 1, 2, 4, 4])[:, None]).double()
    return tokens[:, :-1], tokens[:, 1:], mask


def log_prob(call, past, target, mask):
    logits = call(past)
    return (torch.log_softmax(logits, -1).gather(-1, target[..., None])[..., 0] * mask).sum()


def backward(model, traces, chosen=lambda name: True):
    """The same scores one by one."""
    out = []
    for row in zip(*traces, strict=True):
        model.zero_grad()
        log_prob(model, *row).backward()
        out.append(torch.cat([p.grad.flatten() for name, p in model.named_parameters() if chosen(name)]))
    return torch.stack(out).numpy()


def test_per_sample_gradients(model, traces):
    exact = backward(model, traces)
    np.testing.assert_allclose(trace_scores(model, log_prob, traces, chunk_size=4), exact, atol=1e-12)
    head = lambda name: name.startswith("head")
    np.testing.assert_allclose(trace_scores(model, log_prob, traces, parameters=head), backward(model, traces, head))


def test_frozen_parameters_are_left_out(model, traces):
    model.embedding.requires_grad_(False)
    assert trace_scores(model, log_prob, traces).shape == (ROWS, 30 + 35)


def test_projections_keep_inner_products_on_average(model, traces):
    exact = backward(model, traces)
    products = exact @ exact.T
    drawn = []
    for seed in range(40):
        found = trace_scores(model, log_prob, traces, projections=64, seed=seed)
        assert found.shape == (ROWS, 64)
        drawn.append(found @ found.T)
    error = (np.mean(drawn, 0) - products) / (np.std(drawn, 0, ddof=1) / np.sqrt(40))
    assert np.abs(error).max() < 4
    relative = np.std(drawn, 0, ddof=1).diagonal() / products.diagonal()
    assert (relative < 1.5 * np.sqrt(2 / 64)).all()


def test_last_layer_without_a_backward_pass(model, traces):
    past, target, mask = traces
    exact = backward(model, traces, lambda name: name.startswith("head"))
    products = exact @ exact.T
    with torch.no_grad():
        hidden, logits = model.hidden(past), model(past)
    drawn = []
    for seed in range(60):
        found = last_layer_scores(hidden, logits, target, mask, projections=128, seed=seed)
        drawn.append(found @ found.T)
    error = (np.mean(drawn, 0) - products) / (np.std(drawn, 0, ddof=1) / np.sqrt(60))
    assert np.abs(error).max() < 4
    many = last_layer_scores(hidden, logits, target, mask, projections=200_000)
    np.testing.assert_allclose(many @ many.T, products, atol=0.03 * products.max())


def test_logit_norms(model, traces):
    past, target, mask = traces
    logits = model(past).detach()
    p = torch.softmax(logits, -1)
    expected = [
        sum(
            float(mask[r, t]) * float(((torch.nn.functional.one_hot(target[r, t], VOCABULARY) - p[r, t]) ** 2).sum())
            for t in range(LENGTH)
        )
        for r in range(ROWS)
    ]
    np.testing.assert_allclose(logit_norms(logits, target, mask), expected)


def test_logit_weights_are_exact_where_the_tokens_of_a_trace_share_one_score():
    """Logits that are free parameters, and traces of n times the same token: the score is n (onehot - p)."""
    bias = torch.tensor([0.3, -1.0, 0.8])
    mask = (torch.arange(5) < torch.tensor([[1], [2], [5]])).double()
    target = torch.full((3, 5), 2)
    one = torch.nn.functional.one_hot(torch.tensor(2), 3) - torch.softmax(bias, -1)
    norms = (mask.sum(1, keepdim=True) * one).square().sum(1).numpy()
    weights = logit_weights(bias.expand(3, 5, 3), target, mask)
    np.testing.assert_allclose(weights / weights[0], norms / norms[0], rtol=1e-6)


def test_from_a_model_to_variances(model):
    """Sampled answers of the model: their scores have mean 0, and an added constant value does not change the gradient."""
    rng = torch.Generator().manual_seed(2)
    past = torch.tensor([[1], [4]]).repeat_interleave(400, 0)
    with torch.no_grad():
        target = torch.multinomial(torch.softmax(model(past)[:, 0], -1), 1, generator=rng)
    scores = trace_scores(model, log_prob, (past, target, torch.ones_like(target).double()), chunk_size=400)
    mean, spread = scores.mean(0), scores.std(0, ddof=1) / np.sqrt(len(scores))
    assert (np.abs(mean) <= 4.5 * spread + 1e-12).all()
    rewards = (target[:, 0] % 2).double().numpy()
    prompts = ["a"] * 400 + ["b"] * 400
    found = gradient_variance(
        scores, rewards, list(np.repeat(np.arange(200), 4)), {"half": np.full(800, 0.5)}, prompts=prompts, draws=20
    )
    assert found["b*"].variance.estimate < found["none"].variance.estimate
    assert found["b*"].gap_closed.estimate == 1


def test_bad_arguments(model, traces):
    past, target, mask = traces
    with pytest.raises(ArgumentError, match="no parameter is left"):
        trace_scores(model, log_prob, traces, parameters=lambda name: False)
    with pytest.raises(ArgumentError, match=r"one row a trace, got \[5, 6\] rows"):
        trace_scores(model, log_prob, (past[:5], target, mask))
    with pytest.raises(ArgumentError, match="projections must be a whole number"):
        trace_scores(model, log_prob, traces, projections=0)
    with pytest.raises(ArgumentError, match=r"logits must be \(R, T, vocabulary\)"):
        logit_norms(model(past)[:, 0], target, mask)
    with pytest.raises(ArgumentError, match=r"hidden must be \(R, T, d\)"):
        last_layer_scores(model.hidden(past)[:5], model(past), target, mask)
