"""TRL's asynchronous GRPO on a CPU: its own trainer and queue, with a stand-in for the worker that needs vLLM.

A stand-in, too, for the attention kernel, which runs on GPUs only.
"""

import asyncio
import contextlib
import copy
import dataclasses
import itertools
import pickle
import queue
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

trl = pytest.importorskip("trl", reason="TRL is not installed: make test-adapters")
torch = pytest.importorskip("torch")
datasets = pytest.importorskip("datasets")

from accelerate import PartialState
from transformers import TrainerCallback
from trl.experimental.async_grpo import AsyncGRPOConfig, async_grpo_trainer, packing
from trl.experimental.async_grpo.async_rollout_worker import (
    AsyncRolloutWorker,
    RolloutGroup,
    RolloutSample,
    TurnRecord,
    _AsyncRolloutLoop,
    _chain_to_sequences,
)

from kernadv import ArgumentError, CheckpointError, ComponentValueEstimator, KernelValueEstimator, prompt_id
from kernadv.adapters import Driver
from kernadv.adapters import trl_async as adapter
from kernadv.adapters._driver import STATE_FILE

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error::UserWarning:kernadv"),
]
LETTERS = "abcd"


def attention(query, key, value, starts_q, starts_k, longest_q, longest_k, *, softmax_scale, **_):
    """Causal attention of packed sequences: the queries are the last of their keys.  # (N, H, D)"""
    out = torch.empty_like(query)
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    for q0, q1, k0, k1 in zip(starts_q, starts_q[1:], starts_k, starts_k[1:], strict=False):
        scores = torch.einsum("qhd,khd->hqk", query[q0:q1], key[k0:k1]) * softmax_scale
        seen = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool).tril(k1 - k0 - (q1 - q0))
        out[q0:q1] = torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), value[k0:k1])
    return out


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    """The attention kernel of TRL's packed rows, in plain torch."""
    kernel = type("Kernel", (), {"flash_attn_varlen_func": staticmethod(attention)})
    monkeypatch.setattr(packing, "_flash_attn", lambda: kernel)
    monkeypatch.setattr(async_grpo_trainer, "get_peak_flops_per_device", lambda *_: None)  # asks a GPU for its name


def sample(group, version, prompt, reward, tokens, *, completion="x", **more):
    """The rows of a rollout, as TRL's worker makes them of turns of (prompt, sampled) tokens."""
    turns = [TurnRecord(list(before), list(out), [-0.5] * len(out)) for before, out in tokens]
    rows, _ = _chain_to_sequences(turns, "unknown to the trainer", fork_threshold=1)
    return [
        RolloutSample(
            prompt=[{"role": "user", "content": prompt}],
            completion=[{"role": "assistant", "content": completion}],
            input_ids=np.asarray(row.input_ids),
            completion_mask=np.asarray(row.completion_mask),
            old_log_probs=np.asarray(row.old_log_probs, np.float32),
            advantage=9.0,
            model_version=version,
            group_id=group,
            metrics={"reward": float(reward), "reward_std": 0.5, "rewards/even": float(reward), **more},
        )
        for row in rows
    ]


ONCE = [([5, 6], [7, 8])]  # one turn, one row
TWICE = [([5, 6], [7, 8]), ([5, 6, 9, 9], [7])]  # the second turn rewrites the first: two rows


class Worker:
    """What `RolloutWorkerProtocol` asks for; its queue makes a group whenever it is empty."""

    def __init__(self, groups):
        self.rollout_buffer, self.metrics_queue = queue.Queue(), queue.Queue()
        self.version, self.versions, self._groups = 0, [], groups
        self.rollout_buffer.get = self._get

    def _get(self, timeout=None):
        if not self.rollout_buffer.qsize():
            for row in next(self._groups)(self.version):
                self.rollout_buffer.put(copy.deepcopy(row))  # as out of another process: nothing is shared
        return queue.Queue.get(self.rollout_buffer, block=False)

    def start(self):
        """Nothing to start."""

    def stop(self):
        """Nothing to stop."""

    def update_model_version(self, version):
        """What the trainer says."""
        self.version = version
        self.versions.append(version)

    def check_health(self, stale_after_s):
        """An empty queue would stay empty."""
        raise AssertionError("the trainer waits for a queue that is empty")


class NoTransfer:
    """Weights that go nowhere: the stand-in samples nothing with them."""

    def init_weight_transfer(self):
        """Nothing to set up."""

    def pause(self):
        """Nothing to pause."""

    def send_weights(self, weights):
        """Nothing to send."""

    def resume(self):
        """Nothing to resume."""

    def destroy(self):
        """Nothing to release."""


def rollouts(seed=0, first=0, lag=(0,), group=2):
    """Endless groups: prompts in turn, versions that lag behind in turn, each first rollout forked into two rows."""
    random = np.random.default_rng(seed)
    for number in itertools.count(first):
        rewards = random.random(group) < 0.5

        def rows(version, number=number, rewards=rewards):
            at = max(version - lag[number % len(lag)], 0)
            prompt = LETTERS[number % len(LETTERS)]
            turns = [TWICE] + [ONCE] * (group - 1)
            return [row for z, t in zip(rewards, turns, strict=True) for row in sample(number, at, prompt, z, t)]

        yield rows


@pytest.fixture
def make(example, tmp_path):
    """Build a trainer: the worker's groups, options of the adapter, then settings of TRL's configuration."""
    words = example.tokenizer()
    example.model(words).save_pretrained(tmp_path / "model")

    def make(groups=None, options=None, data=None, **settings):
        config = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 3,
            "max_steps": 8,
            "num_generations": 2,
            "token_budget": 0,  # a fixed number of rows
            "logging_steps": 1,
            "save_strategy": "no",
            "use_cpu": True,
            "bf16": False,
            "dtype": "float32",
            "gradient_checkpointing": False,
            "report_to": "none",
            "disable_tqdm": True,
            **settings,
        }
        rows = [{"prompt": [{"role": "user", "content": x}], "prompt_id": f"id-{x}"} for x in LETTERS]
        return adapter.AsyncGRPOTrainer(
            str(tmp_path / "model"),
            args=AsyncGRPOConfig(**config),
            train_dataset=datasets.Dataset.from_list(rows) if data is None else data,
            processing_class=words,
            rollout_worker=Worker(rollouts() if groups is None else groups),
            weight_transfer=NoTransfer(),
            **(options or {}),
        )

    return make


def bare(estimator, *, version=0, group=2, staleness=4, sample_id=lambda row: row.prompt[0]["content"], weights="none"):
    """The adapter without a model, and its queue, to be filled by hand."""
    trainer = adapter.TrainerMixin.__new__(adapter.TrainerMixin)
    trainer.kernadv, trainer._kernadv_ids, trainer.id_column = Driver(estimator, weights), sample_id, "prompt_id"
    trainer.model_version = version
    trainer.args = SimpleNamespace(num_generations=group, max_staleness=staleness)
    trainer._metrics = {"train": defaultdict(list)}
    samples = queue.Queue()
    return trainer, adapter._Groups(trainer, samples), samples


def drain(groups):
    """All samples that leave."""
    out = []
    with contextlib.suppress(queue.Empty):
        while True:
            out.append(groups.get(timeout=0.01))
    return out


def test_a_run_trains_on_the_advantages_of_kernadv(make, monkeypatch):
    """Versions out of order, each first rollout in two rows: as an estimator fed with one row a rollout says."""
    trained, pack = [], packing.TreeRow.pack
    monkeypatch.setattr(packing.TreeRow, "pack", lambda row: trained.extend(row.samples) or pack(row))
    given, lag = [], (0, 2, 0, 1)

    class Noting(KernelValueEstimator):
        def advantages(self, prompt_ids, rewards, step, **rest):
            given.append((list(prompt_ids), [float(z) for z in rewards], list(step)))
            return super().advantages(prompt_ids, rewards, step, **rest)

    trainer = make(rollouts(lag=lag), {"estimator": Noting(allow_late=4)})
    trainer.train()
    again, want = KernelValueEstimator(allow_late=4), []
    for number, (ids, rewards, steps) in enumerate(given):
        assert set(ids) == {f"id-{LETTERS[number % 4]}"}  # of the data set's column
        rows = slice(None) if len(rewards) == 2 else [0, 2]  # of three rows, two are of the first rollout
        one = again.advantages(np.array(ids)[rows].tolist(), np.array(rewards)[rows], np.array(steps)[rows])
        want += [(number, float(np.float32(x))) for x in (one[0], one[0], one[1])]
    steps = [step[0] for *_, step in given]
    assert steps != sorted(steps)
    got = sorted((row["group_id"], float(np.float32(row["advantage"]))) for row in trained)
    assert len(got) in (24, 27)  # eight steps of three rows, and what was fetched ahead: whole groups
    assert got == sorted(want[: len(got)])
    visits = trainer.kernadv.estimator.metrics()["history_visits"]
    assert visits == again.metrics()["history_visits"]
    assert {"kernadv/n_eff", "kernadv/revisit_gap"} <= trainer.state.log_history[-2].keys()


def test_the_law_with_rollouts_in_several_rows():
    """E[A | z = 1] - E[A | z = 0] = 1 for the rollout in two rows and for the others, over all outcomes."""
    chances = (0.3, 0.6, 0.8)
    turns = (TWICE, ONCE, ONCE)
    means = np.zeros((3, 2))
    for outcome in itertools.product((0, 1), repeat=3):
        _, groups, samples = bare(KernelValueEstimator(allow_late=4), version=2, group=3)
        for number, (prompt, version, rewards) in enumerate(
            [("a", 1, (1, 0, 0)), ("b", 0, (1, 1, 0)), ("a", 0, outcome)]
        ):
            for z, t in zip(rewards, turns, strict=True):
                for row in sample(number, version, prompt, z, t):
                    samples.put(row)
        rows = drain(groups)[-4:]
        assert rows[0].advantage == rows[1].advantage
        chance = np.prod([p if z else 1 - p for p, z in zip(chances, outcome, strict=True)])
        for k, row in enumerate(rows[1:]):
            means[k, outcome[k]] += chance * row.advantage / (chances[k] if outcome[k] else 1 - chances[k])
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1.0, atol=1e-12)


def test_samples_as_trls_worker_scores_them():
    """Its own scoring, without vLLM: forks are told apart from rollouts after the samples went to another process."""
    PartialState(cpu=True)  # what it logs asks for it
    loop = _AsyncRolloutLoop.__new__(_AsyncRolloutLoop)
    loop.reward_funcs, loop.reward_func_names, loop._env_reward_types = [lambda **_: [1.0, None, 0.0]], ["right"], []
    turns = [[TurnRecord(*turn, [-0.5] * len(turn[1])) for turn in rollout] for rollout in (TWICE, TWICE, ONCE)]
    scored = RolloutGroup(
        prompts=[[{"role": "user", "content": "a"}]] * 3,
        reward_kwargs={},
        completions=[[{"role": "assistant", "content": "x"}]] * 3,
        completions_ids=[[7]] * 3,
        completions_sequences=[_chain_to_sequences(rollout, "", fork_threshold=1)[0] for rollout in turns],
        tool_call_counts=[0] * 3,
        tool_failure_counts=[0] * 3,
        model_version=1,
        group_id=0,
        env_rewards=[None] * 3,
        rollout_rewards=[None] * 3,
    )
    trainer, groups, samples = bare(KernelValueEstimator(), version=1, group=3)
    for row in asyncio.run(loop._score_group(scored)):
        samples.put(pickle.loads(pickle.dumps(row)))
    want = KernelValueEstimator().advantages(["a"] * 3, [1.0, np.nan, 0.0], 2)
    assert [row.advantage for row in drain(groups)] == want[[0, 0, 1, 1, 2]].tolist()
    assert trainer.kernadv.estimator.explain("a")["traces"].tolist() == [2]


def test_two_rollouts_that_say_the_same_are_two():
    trainer, groups, samples = bare(KernelValueEstimator(), group=4)
    for turns in (TWICE, TWICE, ONCE, ONCE):
        for row in sample(0, 0, "a", 1.0, turns):
            samples.put(row)
    assert len(drain(groups)) == 6
    assert trainer.kernadv.estimator.explain("a")["traces"].tolist() == [4]


def test_a_rollout_without_a_reward_has_advantage_0_and_is_not_remembered():
    trainer, groups, samples = bare(KernelValueEstimator())
    for row in sample(0, 0, "a", np.nan, TWICE) + sample(0, 0, "a", 1.0, ONCE):
        samples.put(row)
    rows = drain(groups)
    assert [row.advantage for row in rows[:2]] == [0.0, 0.0]
    assert trainer.kernadv.estimator.metrics()["history_visits"] == 1


def test_rollouts_are_weighed_by_all_their_rows():
    seen = []

    def weights(surprisal, tokens):
        seen.append((surprisal.tolist(), tokens.tolist()))
        return np.ones(len(tokens))

    _, groups, samples = bare(KernelValueEstimator(weighted=True), weights=weights)
    for row in sample(0, 0, "a", 1.0, TWICE) + sample(0, 0, "a", 0.0, ONCE):
        samples.put(row)
    drain(groups)
    ((surprisal, tokens),) = seen  # 0.5 a token; three tokens in two rows, and two in one
    assert sorted(set(zip(tokens, surprisal, strict=True))) == [(2.0, 1.0), (3.0, 1.5)]


def test_what_is_staler_than_trl_takes_is_left_to_trl_and_not_remembered():
    trainer, groups, samples = bare(KernelValueEstimator(allow_late=1), version=6, staleness=1)
    for number, version in enumerate((6, 4, 5)):
        for row in sample(number, version, "a", 1.0, ONCE) + sample(number, version, "a", 0.0, ONCE):
            samples.put(row)
    rows = drain(groups)
    assert [row.advantage == 9.0 for row in rows] == [False, False, True, True, False, False]
    assert trainer.kernadv.estimator.explain("a")["steps"].tolist() == [6, 7]


def test_a_group_that_is_whole_does_not_wait_for_the_next_one():
    _, groups, samples = bare(KernelValueEstimator())
    first, second = sample(0, 0, "a", 1.0, TWICE), sample(0, 0, "a", 0.0, ONCE)
    for row in first:
        samples.put(row)
    assert not drain(groups)  # a rollout is missing
    assert groups.qsize() == 2
    samples.put(*second)
    assert len(drain(groups)) == 3
    assert groups.qsize() == 0


def test_groups_are_checked():
    """Rollouts of two prompts in one group, or a group in pieces, are refused, and nothing is remembered."""
    trainer, groups, samples = bare(KernelValueEstimator())
    for row in sample(0, 0, "a", 1.0, ONCE) + sample(0, 0, "b", 0.0, ONCE):
        samples.put(row)
    with pytest.raises(ArgumentError, match=r"of one group of 2, but their prompt ids are 'a' and 'b'.*prompt_id"):
        groups.get(timeout=0.01)
    assert trainer.kernadv.estimator.metrics()["history_visits"] == 0
    trainer, groups, samples = bare(KernelValueEstimator())
    for number in (0, 1, 0):
        samples.put(*sample(number, 0, "a", 1.0, ONCE))
    with pytest.raises(ArgumentError, match="group 0 came in pieces"):
        drain(groups)
    _, groups, samples = bare(KernelValueEstimator())
    for row in sample(0, 0, "a", 1.0, ONCE) * 2:
        samples.put(dataclasses.replace(row, metrics={}))
    with pytest.raises(ArgumentError, match=r"needs metrics\['reward'\]"):
        groups.get(timeout=0.01)


def ids(data, worker=None, environments=None):
    """What tells the ids of samples."""
    trainer = SimpleNamespace(train_dataset=data, rollout_worker=worker, kernadv=Driver())
    return adapter._ids_of(trainer, "prompt_id", environments)


def chats(*rows):
    """A data set of prompts and ids."""
    prompts = [{"prompt": [{"role": "user", "content": text}], "prompt_id": name} for text, name in rows]
    return datasets.Dataset.from_list(prompts)


def test_ids_come_from_the_column_by_the_prompt_or_by_the_row_of_trls_worker():
    of = ids(chats(("x", 7), ("y", 8)))
    assert of(*sample(5, 0, "y", 1.0, ONCE)) == 8
    with pytest.raises(ArgumentError, match=r"no row of the data set has the prompt.*sample_id"):
        of(*sample(5, 0, "z", 1.0, ONCE))
    with pytest.raises(ArgumentError, match="row 1 of the data set has the prompt of another row"):
        ids(chats(("x", 7), ("x", 8)))
    own = AsyncRolloutWorker.__new__(AsyncRolloutWorker)  # it starts with vLLM only
    own._loop_kwargs = {"dataset_start_index": 0}
    of = ids(chats(("x", 7), ("x", 8), ("y", 9)), own, environments=object)
    assert [of(*sample(group, 0, "whatever", 1.0, ONCE)) for group in (0, 1, 2, 4)] == [7, 8, 9, 8]
    own._loop_kwargs["dataset_start_index"] = 2  # of a run that was resumed
    assert of(*sample(0, 0, "whatever", 1.0, ONCE)) == 9


def test_without_a_column_the_prompts_are_told_apart_by_a_hash_unless_an_environment_writes_them():
    bare_data = chats(("x", 7)).remove_columns("prompt_id")
    row = sample(0, 0, "x", 1.0, ONCE)[0]
    of = ids(bare_data)
    with pytest.warns(UserWarning, match="no column 'prompt_id'"):
        assert of(row) == prompt_id(row.prompt)
    with pytest.raises(ArgumentError, match="needs a column 'prompt_id'"):
        ids(bare_data, environments=object)
    with pytest.raises(ArgumentError, match="pass sample_id"):
        ids(chats(("x", 7)).to_iterable_dataset())


def test_an_estimator_takes_rewards_as_late_as_trl_does(make):
    with pytest.raises(ArgumentError, match="allow_late=4"):
        make(options={"estimator": KernelValueEstimator()})
    with pytest.raises(ArgumentError, match="allow_late=6"):
        make(options={"estimator": KernelValueEstimator(allow_late=5)}, max_staleness=6)


class Watching(TrainerCallback):
    """Notes the state and the version with which the training begins."""

    def on_train_begin(self, *_, **__):
        """Before the first rollout."""
        self.state, self.version = self.trainer.kernadv.state_dict(), self.trainer.model_version


def test_resume_goes_on_with_history_and_versions(make, tmp_path):
    first = make(max_steps=4, save_strategy="steps", save_steps=4)
    first.train()
    assert first.model_version == 5  # one when it began, one a step
    saved, checkpoint = first.kernadv.state_dict(), tmp_path / "run" / "checkpoint-4"
    resumed, begun = make(rollouts(first=20), max_steps=6), Watching()
    begun.trainer = resumed
    resumed.callback_handler.callbacks.insert(0, begun)  # TRL's own lets the worker start
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert begun.version == 5
    assert begun.state.keys() == saved.keys()
    assert all(np.array_equal(saved[name], x, equal_nan=True) for name, x in begun.state.items())
    assert resumed.rollout_worker.versions == [5, 6, 7, 8]
    assert resumed.kernadv.metrics()["kernadv/history_visits"] > first.kernadv.metrics()["kernadv/history_visits"]

    (checkpoint / STATE_FILE).unlink()
    with pytest.raises(CheckpointError, match="resume_cold"):
        make(max_steps=6).train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / adapter.VERSION_FILE).unlink()
    cold = make(options={"resume_cold": True}, max_steps=5)
    with pytest.warns(UserWarning, match="without a past"):
        cold.train(resume_from_checkpoint=str(checkpoint))
    assert cold.rollout_worker.versions == [1, 2]


def test_several_rewards_have_a_value_each():
    estimator = ComponentValueEstimator(2, allow_late=4)
    _, groups, samples = bare(estimator)
    again = ComponentValueEstimator(2, allow_late=4)
    for number in range(2):
        for z, t in ((1.0, TWICE), (0.0, ONCE)):
            for row in sample(number, number, "a", z, t, **{"rewards/short": 0.25 * z}):
                samples.put(row)
        rows = drain(groups)
        want = again.advantages(["a", "a"], [[1.0, 0.25], [0.0, 0.0]], number + 1).sum(1)
        assert [row.advantage for row in rows] == pytest.approx([want[0], want[0], want[1]], abs=1e-12)
