"""TRL, end to end on a CPU: what is logged is what the estimator says, and a resumed run goes on as if never stopped."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

trl = pytest.importorskip("trl", reason="TRL is not installed: make test-adapters")
pd = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from kernadv import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    ComponentValueEstimator,
    KernelValueEstimator,
    prompt_id,
)
from kernadv.adapters import _states
from kernadv.adapters._driver import PESSIMISM, STATE_FILE

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error::UserWarning:kernadv"),
]


def tables(folder):
    """The completions of each step."""
    return [pd.read_parquet(file) for file in sorted(Path(folder, "completions").glob("*.parquet"))]


def replay(folder, estimator, columns=("even",), weights=(1.0,)):
    """Largest difference between the logged advantages and those of an estimator fed with the log."""
    worst = 0.0
    for table in tables(folder):
        rewards = torch.tensor(table[list(columns)].to_numpy(), dtype=torch.float32)
        total = (rewards * torch.tensor(weights)).nansum(1)
        total[rewards.isnan().all(1)] = torch.nan
        said = estimator.advantages(table["prompt_id"].tolist(), total, int(table["policy_step"].iloc[0]))
        worst = max(worst, float((said - torch.tensor(table["advantage"].to_numpy())).abs().max()))
    return worst


def same_state(first, second):
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k], equal_nan=True) for k in one)


class Recording(KernelValueEstimator):
    """Notes the batches it is called with."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = []

    def advantages(self, prompt_ids, rewards, step, *, weights=None):
        self.calls.append((step, list(prompt_ids), rewards.clone(), weights))
        return super().advantages(prompt_ids, rewards, step, weights=weights)


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
@pytest.mark.parametrize("group", [1, 2, 4])
def test_replaying_the_log_gives_the_logged_advantages(make, kind, group):
    trainer = make(kind, num_generations=group, weights="none")
    trainer.train()
    log = tables(trainer.args.output_dir)
    assert [int(table["step"].iloc[0]) for table in log] == [1, 2, 3, 4, 5, 6]
    assert all(len(table) == 8 and table["prompt_id"].nunique() == 8 // group for table in log)
    again = KernelValueEstimator()
    assert replay(trainer.args.output_dir, again) == 0.0
    assert same_state(again, trainer.kernadv.estimator)
    assert np.std([table["advantage"] for table in log]) > 0


def test_the_loss_sees_what_is_logged(make):
    trainer = make(estimator=KernelValueEstimator.kae(0.5), max_steps=3)
    seen = []
    step = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: seen.append(inputs["advantages"]) or step(model, inputs)
    trainer.train()
    for used, table in zip(seen, tables(trainer.args.output_dir), strict=True):
        assert sorted(used.tolist()) == sorted(np.float32(table["advantage"]).tolist())


def test_audit_reads_the_log(make, tmp_path):
    trainer = make()
    trainer.train()
    report = tmp_path / "audit.json"
    command = [
        Path(sys.executable).parent / "kernadv",
        "audit",
        f"{trainer.args.output_dir}/completions",
        "--json",
        report,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read = json.loads(report.read_text())["audit"]
    assert (read["rows"], read["groups"], read["prompts"], read["steps"]) == (48, 24, 8, 6)


@pytest.mark.parametrize("stop", [3, 9], ids=["first epoch", "second epoch"])
@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_resume_goes_on_bit_for_bit(make, kind, stop, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": stop, "max_steps": stop + 3, "reuse": 2}  # 8 batches an epoch
    through = make(kind, output_dir=str(tmp_path / "through"), **settings)
    through.train()
    resumed = make(kind, output_dir=str(tmp_path / "resumed"), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "through" / f"checkpoint-{stop}"))
    for one, two in zip(tables(tmp_path / "through")[stop:], tables(tmp_path / "resumed"), strict=True):
        pd.testing.assert_frame_equal(one, two)
    assert same_state(through.kernadv.estimator, resumed.kernadv.estimator)
    for one, two in zip(through.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_evaluations_have_a_log_of_their_own(make, kind, example):
    trainer = make(
        kind,
        evaluation=example.prompts().remove_columns("prompt_id"),  # nobody needs to know them
        per_device_eval_batch_size=8,
        eval_strategy="steps",
        eval_steps=2,
        eval_on_start=True,
        logging_steps=1,
        weights="none",
    )
    trainer.train()
    again = KernelValueEstimator()
    assert replay(trainer.args.output_dir, again) == 0.0
    assert same_state(again, trainer.kernadv.estimator)
    apart = sorted(Path(trainer.args.output_dir, "eval_completions").glob("*"))
    assert [file.name for file in apart] == [f"completions_{step:05d}.parquet" for step in (0, 2, 4, 6)]
    assert all("prompt_id" not in pd.read_parquet(file) for file in apart)
    assert len(tables(trainer.args.output_dir)) == 6


def test_the_log_knows_the_step_of_the_generation(make, tmp_path):
    trainer = make(
        estimator=KernelValueEstimator.kae(0.9),
        per_device_train_batch_size=4,
        steps_per_generation=2,
        logging_steps=2,
        max_steps=8,
    )
    trainer.train()
    log = tables(trainer.args.output_dir)
    assert [(int(t["step"].iloc[0]), int(t["policy_step"].iloc[0])) for t in log] == [(2, 1), (4, 3), (6, 5), (8, 7)]
    assert replay(trainer.args.output_dir, KernelValueEstimator.kae(0.9)) == 0.0
    from kernadv.logs import read_log

    assert np.unique(read_log(tmp_path / "run").groups.step).tolist() == [1, 3, 5, 7]


def test_evaluation_leaves_the_history_alone(make, example):
    trainer = make(evaluation=example.prompts(), per_device_eval_batch_size=8, max_steps=2)
    trainer.train()
    before = trainer.kernadv.estimator.state_dict()
    trainer.evaluate()
    after = trainer.kernadv.estimator.state_dict()
    assert all(np.array_equal(before[k], after[k], equal_nan=True) for k in before)


def test_traces_without_a_reward_have_advantage_0(make):
    def some(completions, trainer_state, **_):
        step = trainer_state.global_step
        return [None if step == 1 or (step == 2 and k < 3) else float(k % 2) for k in range(len(completions))]

    trainer = make(rewards=some, max_steps=4)
    trainer.train()
    log = tables(trainer.args.output_dir)
    assert log[1]["some"].isna().all()
    assert (log[1]["advantage"] == 0).all()
    assert log[2]["some"].isna().sum() == 3
    assert (log[2]["advantage"][log[2]["some"].isna()] == 0).all()
    assert replay(trainer.args.output_dir, KernelValueEstimator(pessimism=PESSIMISM), ["some"]) == 0.0


def test_several_rewards_are_weighted(make, example):
    def short(completions, **_):
        return [None if k == 0 else 1.0 / (1 + len(text)) for k, text in enumerate(completions)]

    trainer = make(rewards=[example.even, short], reward_weights=[1.0, 0.5])
    trainer.train()
    assert (
        replay(trainer.args.output_dir, KernelValueEstimator(pessimism=PESSIMISM), ["even", "short"], [1.0, 0.5]) == 0.0
    )


def test_one_call_a_generation_at_the_step_of_the_policy(make):
    estimator = Recording()
    trainer = make(
        estimator=estimator, per_device_train_batch_size=4, steps_per_generation=2, num_iterations=2, max_steps=8
    )
    trainer.train()
    assert [step for step, *_ in estimator.calls] == [1, 5]
    assert len({tuple(ids) for _, ids, *_ in estimator.calls}) == 1  # reuse: the same prompts come back
    assert len(trainer.get_train_dataloader()) == 4 * 3 * 4 * 1  # blocks x reuse x repeats


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_epoch_has_the_length_of_the_schedule(make, accumulate):
    trainer = make(max_steps=-1, num_train_epochs=1, reuse=2, gradient_accumulation_steps=accumulate)
    trainer.train()
    generations = 2 * 16 // (8 * accumulate // 2)  # reuse x prompts / prompts a generation
    assert trainer.state.global_step == generations


def test_an_order_of_the_data_is_kept(make, example):
    trainer = make(shuffle_dataset=False, reuse=2, max_steps=4)
    trainer.train()
    names = example.prompts()["prompt_id"][:8]
    seen = [table["prompt_id"].unique().tolist() for table in tables(trainer.args.output_dir)]
    assert seen == [names[:4], names[:4], names[4:], names[4:]]


def test_data_that_no_schedule_fits(make, example):
    with pytest.raises(ArgumentError, match="a stream has no order to choose"):
        make(data=example.prompts().to_iterable_dataset())
    make(data=example.prompts().to_iterable_dataset(), reuse=1, max_steps=2).train()
    one = example.prompts().select([0])
    with pytest.raises(ArgumentError, match=r"takes 4 prompts .* has 1"):
        make(data=one, reuse=1)  # TRL alone would train 0 steps and say nothing
    trainer = make(data=one, num_generations=8)
    trainer.train()
    assert replay(trainer.args.output_dir, KernelValueEstimator(pessimism=PESSIMISM)) == 0.0
    with pytest.raises(ArgumentError, match="reuse must be a whole number"):
        make(reuse=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"bf16": True},
        {"fp16": True},
        {"dataloader_num_workers": 1},
        {"gradient_accumulation_steps": 2},
        {"mask_truncated_completions": True},
        {"scale_rewards": "group", "loss_type": "grpo"},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_settings_that_change_nothing_for_the_history(make, settings):
    trainer = make(**settings)
    trainer.train()
    again = KernelValueEstimator(pessimism=PESSIMISM)
    assert replay(trainer.args.output_dir, again) == 0.0
    assert same_state(again, trainer.kernadv.estimator)


def test_conversations_and_adapters_of_peft(make, example, tmp_path):
    peft = pytest.importorskip("peft")
    rows = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in example.prompts()]
    lora = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")

    def long(completions, **_):
        return [float(len(answer[0]["content"]) % 3) for answer in completions]

    settings = {"data": type(example.prompts()).from_list(rows), "rewards": long, "options": {"peft_config": lora}}
    trainer = make(**settings, template="{% for m in messages %}{{ m['content'] }}{% endfor %}", save_strategy="epoch")
    with pytest.warns(UserWarning, match="no column 'prompt_id'"):
        trainer.train()
    assert replay(trainer.args.output_dir, KernelValueEstimator(pessimism=PESSIMISM), ["long"]) == 0.0
    first = tables(trainer.args.output_dir)[0]
    assert first["prompt_id"].tolist() == [prompt_id(messages) for messages in first["prompt"]]
    assert (tmp_path / "run" / "checkpoint-6" / STATE_FILE).is_file()


def add(a: int, b: int) -> int:
    """Add.

    Args:
        a: first
        b: second
    """
    return a + b


class Environment:
    """Adds to each question what its reset observes."""

    def reset(self, **_):
        return " Please."

    def add(self, a: int) -> int:
        """Add one.

        Args:
            a: number
        """
        return a + 1


@pytest.mark.parametrize(
    "options", [{"tools": [add]}, {"environment_factory": Environment}], ids=lambda o: next(iter(o))
)
def test_tools_and_environments(make, example, options, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.chat_template_utils import qwen3_chat_template

    def some(completions, **_):
        return [None if k % 3 == 0 else float(k % 2) for k in range(len(completions))]

    rows = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in example.prompts()]
    tokens = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "</think>")
    settings = {"data": type(example.prompts()).from_list(rows), "rewards": some, "max_steps": 3}
    trainer = make(**settings, template=qwen3_chat_template, tokens=tokens, options=options)
    with pytest.warns(UserWarning, match="no column 'prompt_id'"):
        trainer.train()
    assert replay(trainer.args.output_dir, KernelValueEstimator(pessimism=PESSIMISM), ["some"]) == 0.0
    first = tables(trainer.args.output_dir)[0]
    assert first["prompt_id"].tolist() == [
        prompt_id(messages) for messages in first["prompt"]
    ]  # with what was observed


def test_pictures_need_an_id_of_their_own(make):
    shown = [{"role": "user", "content": [{"type": "image", "image": object()}]}]
    told = pytest.warns(UserWarning, match="no column 'prompt_id'")
    with told, pytest.raises(ArgumentTypeError, match="give the prompt an id of its own"):
        make().kernadv.ids([shown], None, "no column 'prompt_id'")


def test_two_trainers_in_one_process_know_nothing_of_each_other(make, tmp_path):
    first, second = (make(output_dir=str(tmp_path / name), seed=seed) for name, seed in (("a", 1), ("b", 2)))
    for trainer in (second, first):
        trainer.train()
        again = KernelValueEstimator(pessimism=PESSIMISM)
        assert replay(trainer.args.output_dir, again) == 0.0
        assert same_state(again, trainer.kernadv.estimator)


def test_training_again_goes_on(make, tmp_path):
    """Also from a checkpoint of the second training, whose steps of TRL begin at 1 again."""
    estimator = Recording()
    trainer = make(estimator=estimator, max_steps=3, save_strategy="steps", save_steps=3)
    for _ in range(2):
        trainer.train()
    assert [step for step, *_ in estimator.calls] == [1, 2, 3, 4, 5, 6]
    assert trainer.kernadv.metrics()["kernadv/history_visits"] == 6 * 4
    resumed = Recording()
    trainer = make(estimator=resumed, max_steps=4)
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    assert [step for step, *_ in resumed.calls] == [7]


def test_a_reward_that_is_no_number(make):
    trainer = make(rewards=lambda completions, **_: [float("inf")] * len(completions))
    before = trainer.kernadv.estimator.state_dict()
    with pytest.raises(ArgumentError, match="rewards must be finite"):
        trainer.train()
    assert all(np.array_equal(before[k], x, equal_nan=True) for k, x in trainer.kernadv.estimator.state_dict().items())


@pytest.mark.parametrize("moment", ["a step", "a save"])
def test_a_killed_run_resumes_bit_for_bit(make, moment, tmp_path):
    killed, script = tmp_path / "killed", Path(__file__).with_name("killed.py")
    example = Path(__file__).parents[2] / "examples" / "trl_grpo_kernadv.py"
    done = subprocess.run([sys.executable, script, example, killed, moment], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert (killed / "checkpoint-4" / "trainer_state.json").exists() == (moment == "a step")
    if moment == "a save":
        assert (killed / "checkpoint-4" / STATE_FILE).is_file()  # first: no checkpoint is whole without it
    whole = 4 if moment == "a step" else 3
    settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 6, "reuse": 2}
    through = make(output_dir=str(tmp_path / "through"), **settings)
    through.train()
    resumed = make(output_dir=str(killed), **settings)
    resumed.train(resume_from_checkpoint=str(killed / f"checkpoint-{whole}"))
    for one, two in zip(tables(tmp_path / "through"), tables(killed), strict=True):
        pd.testing.assert_frame_equal(one, two)
    assert same_state(through.kernadv.estimator, resumed.kernadv.estimator)
    for one, two in zip(through.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_groups_whose_rows_have_several_ids(make, example):
    count = iter(range(10**6))
    data = example.prompts().with_transform(
        lambda rows: {**rows, "prompt_id": [f"{name}-{next(count)}" for name in rows["prompt_id"]]}
    )
    trainer = make(data=data)
    with pytest.raises(ArgumentError, match=r"are of one group of 2, but their prompt ids are .* 'prompt_id'"):
        trainer.train()
    assert trainer.kernadv.metrics()["kernadv/history_visits"] == 0
    make(data=data, num_generations=1, max_steps=1).train()  # nothing to compare with


@pytest.mark.parametrize("group", [1, 2])
def test_different_rows_with_the_same_prompt(make, example, group):
    """Found at the first batch with both, or later: here each batch has one prompt only."""
    rows = [{"prompt": "Solve it.", "task": k} for k in range(4)]
    settings = {"num_generations": group, "max_steps": 3, "data": type(example.prompts()).from_list(rows), "reuse": 1}
    for batch in (4, group):
        trainer = make(**settings, per_device_train_batch_size=batch, options={"id_column": "number"})
        told = pytest.warns(UserWarning, match="no column 'number'")
        with told, pytest.raises(ArgumentError, match=r"different rows .* the same prompt .* add a column 'number'"):
            trainer.train()
        seen = trainer.kernadv.metrics()["kernadv/history_visits"]
        assert seen == (0 if batch == 4 else 1)


def test_equal_rows_are_one_prompt(make, example):
    rows = [{"prompt": f"What is {k % 2}?", "level": k % 2} for k in range(8)]
    trainer = make(data=type(example.prompts()).from_list(rows), max_steps=2)
    with pytest.warns(UserWarning, match="no column 'prompt_id'"):
        trainer.train()
    assert trainer.kernadv.metrics()["kernadv/history_prompts"] == 2


def test_different_rows_with_one_id_of_their_own_are_said_once(make, example):
    rows = [{**row, "prompt_id": f"about-{k % 2}"} for k, row in enumerate(example.prompts())]
    trainer = make(data=type(example.prompts()).from_list(rows), max_steps=3)
    with pytest.warns(UserWarning, match="share a history") as said:
        trainer.train()
    assert sum("share a history" in str(w.message) for w in said) == 1
    assert trainer.kernadv.metrics()["kernadv/history_prompts"] == 2


class Workspace(Environment):
    """Tells each rollout a folder of its own."""

    def reset(self, **_):
        return f" In /tmp/{next(FOLDERS)}."


class Hidden(Environment):
    """Tells nothing of the task."""

    def reset(self, **_):
        return None


class Drawn(Environment):
    """Draws the task of a group by itself, so that the data set has nothing to tell tasks apart by."""

    def reset(self, **_):
        return f" Task {next(FOLDERS) // 2 % 3}."


FOLDERS = iter(range(10**6))
ASKED = [{"role": "user", "content": "Solve the task."}]
TASKS = {
    "a folder for each rollout": (Workspace, [{"prompt": ASKED, "task": k} for k in range(16)], 2),
    "no prompt": (Hidden, [{"task": f"t{k}"} for k in range(16)], 2),
    "one prompt": (Hidden, [{"prompt": ASKED, "task": k} for k in range(16)], 2),
    "groups of one": (Workspace, [{"prompt": ASKED, "task": k} for k in range(16)], 1),
    "nothing in the rows": (Drawn, [{"prompt": ASKED}] * 16, 2),
}


@pytest.mark.parametrize("case", TASKS)
def test_environments_that_own_the_prompt(make, example, case, monkeypatch):
    """Each row of the data set is a prompt; where rows say nothing, what is asked does."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.chat_template_utils import qwen3_chat_template

    factory, rows, group = TASKS[case]
    tokens = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "</think>")
    trainer = make(
        data=type(example.prompts()).from_list(rows),
        rewards=lambda completions, **_: [float(k % 2) for k in range(len(completions))],
        template=qwen3_chat_template,
        tokens=tokens,
        options={"environment_factory": factory},
        num_generations=group,
        max_steps=3,
    )
    monkeypatch.setitem(globals(), "FOLDERS", iter(range(10**6)))
    with pytest.warns(UserWarning, match="no column 'prompt_id'"):
        trainer.train()
    log = tables(trainer.args.output_dir)
    seen = [table["prompt_id"].tolist() for table in log]
    assert all(ids[k] == ids[k - k % group] for ids in seen for k in range(8))
    prompts = 3 if factory is Drawn else 8 // group  # the same block three times
    assert trainer.kernadv.metrics()["kernadv/history_prompts"] == prompts
    assert trainer.kernadv.metrics()["kernadv/revisit_gap"] == 1


def test_a_row_is_told_by_what_it_holds():
    from kernadv.adapters._trl_rows import row_hash

    class Picture:
        def __init__(self, data):
            self.data = data

        def tobytes(self):
            return self.data

    row = {"prompt": "a", "answer": np.float32(1), "picture": Picture(b"x"), "other": object()}
    assert row_hash(row) == row_hash({**dict(reversed(row.items())), "picture": Picture(b"x"), "other": object()})
    others = [{"answer": np.float32(2)}, {"picture": Picture(b"y")}, {"prompt": "b"}, {"more": None}, {"other": 1}]
    assert len({row_hash({**row, **other}) for other in others} | {row_hash(row)}) == 6


def test_a_process_with_another_history_is_refused(make, monkeypatch):
    """As of a node whose disk lacks the checkpoint."""
    from kernadv.adapters import _trl_rows

    def gather(parts):
        told = parts[0]
        return [told, {**told, "the history": "8.0"}] if "the history" in told else parts

    monkeypatch.setattr(_trl_rows, "gather_object", gather)
    with pytest.raises(ArgumentError, match=r"disagree about the history: 0\.0 in process 0, 8\.0 in process 1"):
        make().train()


def remarks(caplog):
    return [record.message for record in caplog.records if record.name == "kernadv" and record.levelname == "WARNING"]


def test_nothing_is_said_of_recommended_settings(make, caplog):
    make(save_strategy="steps", save_steps=5, steps_per_generation=1)
    make(num_iterations=2, logging_steps=2, save_strategy="steps", save_steps=4)
    make("RLOO", log_completions=False, logging_steps=10)
    assert remarks(caplog) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scale_rewards": "group"}, "scale_rewards='group' has no effect"),
        ({"scale_rewards": "batch"}, "scale_rewards='batch' has no effect"),
        ({"logging_steps": 10}, r"will hold 1 of 10 .* set logging_steps=1$"),
        ({"logging_steps": 0.5}, r"will hold 1 of 3 .* set logging_steps=1$"),
        ({"logging_strategy": "epoch"}, r"will hold some generations only .* set logging_steps=1$"),
        ({"steps_per_generation": 2, "logging_steps": 4}, r"will hold 1 of 2 .* set logging_steps=2$"),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 1}, r"will hold 1 of 2 "),
        ({"steps_per_generation": 2, "logging_steps": 2, "save_strategy": "steps", "save_steps": 3}, "save_steps=3 saves"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_settings_without_effect_are_said_once(make, caplog, settings, said):
    make(**settings)
    assert len(remarks(caplog)) == 1
    assert re.search(said, remarks(caplog)[0])


def test_changed_weights_of_the_rewards_are_said_once(make, example, caplog):
    def twice(completions, **_):
        return [2 * x for x in example.even(completions)]

    trainer = make(rewards=[example.even, twice], weights="none", max_steps=4)

    class Change(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            trainer.reward_weights = trainer.reward_weights * 2 if state.global_step > 1 else trainer.reward_weights

    trainer.add_callback(Change())
    trainer.train()
    assert [message for message in remarks(caplog) if "reward_weights changed" in message] == remarks(caplog)
    assert len(remarks(caplog)) == 1


def test_each_component_is_smoothed_alone(make, example):
    """With what a function did not score; the advantages are summed with TRL's weights."""

    def some(completions, trainer_state, **_):
        none = trainer_state.global_step
        return [None if k in (none, 7) else float(k % 2) for k in range(len(completions))]

    def odd(completions, trainer_state, **_):
        return [None if k == 7 else 1.0 - x for k, x in enumerate(example.even(completions))]

    weights = [1.0, 0.5]
    trainer = make(rewards=[some, odd], estimator=ComponentValueEstimator(2), reward_weights=weights)
    trainer.train()
    alone = [KernelValueEstimator(), KernelValueEstimator()]
    for table in tables(trainer.args.output_dir):
        step = int(table["policy_step"].iloc[0])
        parts = [
            est.advantages(table["prompt_id"].tolist(), torch.tensor(table[name].to_numpy(), dtype=torch.float32), step)
            for est, name in zip(alone, ("some", "odd"), strict=True)
        ]
        np.testing.assert_allclose(table["advantage"], weights[0] * parts[0] + weights[1] * parts[1], atol=1e-7)
        assert table["advantage"][7] == 0
        assert table["advantage"].abs().max() > 0
    for one, two in zip(alone, trainer.kernadv.estimator.columns, strict=True):
        assert same_state(one, two)


def test_components_resume(make, example, tmp_path):
    settings = {"rewards": [example.even, example.even], "save_strategy": "steps", "save_steps": 2}
    through = make(estimator=ComponentValueEstimator(2), max_steps=4, output_dir=str(tmp_path / "through"), **settings)
    through.train()
    resumed = make(estimator=ComponentValueEstimator(2), max_steps=4, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "through" / "checkpoint-2"))
    assert same_state(through.kernadv.estimator, resumed.kernadv.estimator)


def test_components_that_do_not_fit(make, example):
    with pytest.raises(ArgumentError, match=r"3 components, .* 1 reward functions: build ComponentValueEstimator\(1\)"):
        make(estimator=ComponentValueEstimator(3))
    with pytest.raises(ArgumentError, match="reward_clip_range clips the sum"):
        make("RLOO", estimator=ComponentValueEstimator(1), reward_clip_range=(0.0, 1.0))


def test_each_batch_reaches_a_shared_estimator_once():
    from kernadv.adapters import Driver
    from kernadv.adapters.trl import _check_shared

    estimator = KernelValueEstimator()
    estimator.shared = True
    _check_shared(Driver(estimator), processes=1, replicated=True)
    _check_shared(Driver(estimator), processes=2, replicated=False)
    _check_shared(Driver(KernelValueEstimator()), processes=2, replicated=True)
    with pytest.raises(ArgumentError, match="set replicated=False"):
        _check_shared(Driver(estimator), processes=2, replicated=True)


def test_single_traces_with_any_configuration(example, tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    gmpo = pytest.importorskip("trl.experimental.gmpo")
    from kernadv.adapters.trl import ConfigMixin, TrainerMixin

    class Config(ConfigMixin, gmpo.GMPOConfig):
        pass

    class Trainer(TrainerMixin, gmpo.GMPOTrainer):
        pass

    words = example.tokenizer()
    config = Config(
        output_dir=str(tmp_path), num_generations=1, per_device_train_batch_size=8, max_completion_length=8, max_steps=2,
        use_cpu=True, bf16=False, report_to="none", save_strategy="no", scale_rewards="none", disable_tqdm=True,
    )  # fmt: skip
    assert config.num_generations == 1
    assert type(config.num_generations) is int
    trainer = Trainer(
        example.model(words),
        example.even,
        args=config,
        train_dataset=example.prompts(),
        processing_class=words,
        reuse=2,
    )
    trainer.train()
    assert trainer.kernadv.metrics()["kernadv/history_visits"] == 16


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_two_evaluations_have_files_of_their_own(make, example, kind):
    easy, hard = example.prompts().select(range(4)), example.prompts().select(range(4, 8))
    trainer = make(
        kind, evaluation={"easy": easy, "../hard": hard}, eval_strategy="steps", eval_steps=2, max_steps=2,
        per_device_eval_batch_size=8,
    )  # fmt: skip
    trainer.train()
    folder = Path(trainer.args.output_dir, "eval_completions")
    found = {str(file.relative_to(folder)): pd.read_parquet(file) for file in folder.rglob("*.parquet")}
    assert found.keys() == {"easy/completions_00002.parquet", "%2E%2E%2Fhard/completions_00002.parquet"}
    for table, rows in zip((found[name] for name in sorted(found, reverse=True)), (easy, hard), strict=True):
        assert set(table["prompt"]) == set(rows["prompt"])


def test_a_large_history_is_written_beside_the_model(make, monkeypatch, tmp_path):
    """And is there before TRL's own state, which says that a checkpoint is whole."""
    monkeypatch.setattr(_states, "LARGE", 0)
    write, began = _states.write, []

    def slow(folder, files):
        time.sleep(5)
        write(folder, files)

    monkeypatch.setattr(_states, "write", slow)
    trainer = make(save_strategy="steps", save_steps=1, max_steps=2, save_total_limit=1)
    save_model, rotate = trainer.save_model, transformers.trainer.rotate_checkpoints
    trainer.save_model = lambda *args, **options: (began.append(time.perf_counter()), save_model(*args, **options))
    before = []

    def checked(*args, **options):
        assert Path(trainer.args.output_dir, f"checkpoint-{trainer.state.global_step}", STATE_FILE).is_file()
        rotate(*args, **options)

    monkeypatch.setattr(transformers.trainer, "rotate_checkpoints", checked)
    save = trainer._save_checkpoint
    trainer._save_checkpoint = lambda *args: (before.append(time.perf_counter()), save(*args))
    trainer.train()
    assert max(then - start for start, then in zip(before, began, strict=True)) < 4
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-2"]


def test_an_older_trl_is_refused_with_what_is_needed(tmp_path):
    (tmp_path / "trl-1.12.0.dist-info").mkdir()
    (tmp_path / "trl-1.12.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 1.12.0\n")
    (tmp_path / "trl").mkdir()
    (tmp_path / "trl" / "__init__.py").write_text("raise ImportError('this version lacks what the adapter imports')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import kernadv.adapters.trl"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ArgumentError: kernadv needs trl >= 1.16, and 1.12.0 is installed" in done.stderr.splitlines()[-1]


def test_the_tested_versions_are_those_of_continuous_integration():
    root = Path(__file__).parents[2]
    pinned = re.search(r"^trl==(\d+)\.(\d+)\.", (root / "constraints-frameworks.txt").read_text(), re.M)
    least = re.search(r'"trl>=(\d+)\.(\d+)"', (root / "pyproject.toml").read_text())
    pin, low = (tuple(map(int, match.groups())) for match in (pinned, least))
    from kernadv.adapters.trl import TESTED

    assert (low, (pin[0], pin[1] + 1)) == TESTED


def test_without_ids_the_text_tells_prompts_apart(make, example):
    trainer = make(data=example.prompts().remove_columns("prompt_id"), max_steps=3)
    with pytest.warns(UserWarning, match="no column 'prompt_id'") as said:
        trainer.train()
    assert sum("no column" in str(w.message) for w in said) == 1
    for table in tables(trainer.args.output_dir):
        assert table["prompt_id"].tolist() == [prompt_id(text) for text in table["prompt"]]


def test_an_id_that_is_missing_in_a_row(make, example):
    rows = [{**row, "prompt_id": None} for row in example.prompts()]
    with pytest.raises(ArgumentError, match="row 0 has no prompt id"):
        make(data=type(example.prompts()).from_list(rows)).train()


def test_metrics_are_logged(make):
    trainer = make()
    trainer.train()
    last = trainer.state.log_history[-2]
    names = {"n_eff", "cold_fraction", "history_visits", "history_prompts", "revisit_gap", "seconds"}
    names |= {"value_mse", "rloo_mse", "batch_mean_mse", "gradient_ratio", "dead"}
    assert {f"kernadv/{name}" for name in names} <= last.keys()
    assert last["kernadv/history_prompts"] == 8


def test_a_wrong_number_of_rewards_changes_nothing(make):
    def wrong(completions, **_):
        return [1.0] * (len(completions) - 1)

    trainer = make(rewards=wrong)
    before = trainer.kernadv.estimator.state_dict()
    with pytest.raises(ValueError, match="returned 7 rewards"):
        trainer.train()
    assert all(np.array_equal(before[k], x, equal_nan=True) for k, x in trainer.kernadv.estimator.state_dict().items())


def test_checkpoints_that_do_not_fit(make, tmp_path):
    make(save_strategy="steps", save_steps=2, max_steps=2).train()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    with pytest.raises(CheckpointError, match="strict=False"):
        make(estimator=KernelValueEstimator.kae(0.3)).train(resume_from_checkpoint=str(checkpoint))
    later = KernelValueEstimator()
    later.observe(["add-0-0"], [1.0], 50)
    later.save(checkpoint / STATE_FILE)
    with pytest.raises(ArgumentError, match="step 3 lies before step 50"):
        make().train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / STATE_FILE).write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match="truncated or not a checkpoint"):
        make().train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / STATE_FILE).unlink()
    with pytest.raises(CheckpointError, match="resume_cold=True"):
        make().train(resume_from_checkpoint=str(checkpoint))
    trainer = make(max_steps=3, options={"resume_cold": True})
    with pytest.warns(UserWarning, match="goes on without a past"):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    assert trainer.kernadv.estimator.metrics()["history_prompts"] == 4


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("GRPO", {"multi_objective_aggregation": "normalize_then_sum"}),
        ("RLOO", {"beta": 0.1}),
        ("RLOO", {"normalize_advantages": True}),
    ],
)
def test_settings_that_would_be_dropped_are_refused(make, kind, settings):
    with pytest.raises(ArgumentError, match=r"beta=0|sum_then_normalize"):
        make(kind, **settings)


@pytest.mark.parametrize(("kind", "settings"), [("RLOO", {}), ("GRPO", {"steps_per_generation": 2})])
def test_a_weighted_estimator_gets_the_squared_surprisal(make, kind, settings):
    estimator = Recording(weighted=True)
    make(kind, estimator=estimator, max_steps=4, **settings).train()
    for *_, rewards, weights in estimator.calls:
        assert weights.shape == rewards.shape
        tokens = np.sqrt(weights) / np.log(300)  # a random model: 300 tokens about equally probable
        assert (np.abs(tokens - tokens.round()) < 0.3).all()
        assert (tokens.round() >= 1).all()
        assert (tokens.round() <= 8).all()


@pytest.mark.parametrize(
    ("kind", "settings", "loss"),
    [("RLOO", {}, "sum"), ("GRPO", {"steps_per_generation": 2}, "sum"),
     ("GRPO", {"steps_per_generation": 2, "loss_type": "grpo"}, "trace"), ("GRPO", {}, None)],
)  # fmt: skip
def test_the_default_is_weighted_where_there_are_log_probabilities(make, kind, settings, loss, caplog):
    """The values beside the baseline are those of an estimator that sees no weights."""
    trainer = make(kind, max_steps=4, **settings)
    trainer.train()
    assert trainer.kernadv.weighted == (loss is not None)
    said = [record.message for record in caplog.records if "no log-probabilities" in record.message]
    assert len(said) == (loss is None)
    if loss is not None:
        assert trainer.kernadv._surprisal.loss == loss
        assert trainer.kernadv.metrics()["kernadv/weights_kish"] > 0
    log, plain = tables(trainer.args.output_dir), KernelValueEstimator()
    for table in {int(t["policy_step"].iloc[0]): t for t in log}.values():
        plain.observe(table["prompt_id"].tolist(), table["even"].to_numpy(), int(table["policy_step"].iloc[0]))
    ids = sorted(set(log[0]["prompt_id"]))
    mine = trainer.kernadv.estimator.values(ids, np.full(len(ids), np.nan), 99).value
    np.testing.assert_array_equal(mine, plain.values(ids, np.full(len(ids), np.nan), 99).value)


def test_a_weighted_estimator_without_log_probabilities(make):
    with pytest.raises(ArgumentError, match="no log-probabilities"):
        make(estimator=KernelValueEstimator(weighted=True)).train()


def test_the_example_learns_and_its_own_log_shows_the_gain(example, tmp_path, capsys):
    """What the README says of it, as far as another machine's rounding lets it be."""
    example.main(str(tmp_path))
    rewards = [table["enough"].mean() for table in tables(tmp_path)]
    assert len(rewards) == 150
    assert np.mean(rewards[:15]) < 0.25
    assert np.mean(rewards[-15:]) > 0.85
    from kernadv.auditing import audit
    from kernadv.logs import read_log

    result = audit(read_log(tmp_path / "completions").groups)
    assert result.finding("kernadv").gradient_ratio.high < 0.9
    assert "below the batch mean's" in " ".join(capsys.readouterr().out.split())


def test_the_two_lines_of_the_readme(example, runs, tmp_path, monkeypatch):
    from functools import partial

    from kernadv.adapters import trl as adapter

    text = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"```python\n(from kernadv\.adapters\.trl.*?)```", text, re.DOTALL)
    words = example.tokenizer()
    words.save_pretrained(tmp_path / "model")
    example.model(words).save_pretrained(tmp_path / "model")
    here = {
        **runs.DEFAULTS,
        "output_dir": str(tmp_path / "run"),
        "max_steps": 3,
        "save_strategy": "no",
    }  # a short run on a CPU
    del here["num_generations"]
    monkeypatch.setattr(adapter, "GRPOConfig", partial(adapter.GRPOConfig, **here))
    given = {"model": str(tmp_path / "model"), "reward": example.even, "prompts": example.prompts()}
    exec(compile(code, "README.md", "exec"), given)
    given["trainer"].train()
    assert len(tables(tmp_path / "run")) == 3


def test_one_generation_is_still_refused_by_trl():
    """If this fails, TRL allows single traces: `_One` can go."""
    with pytest.raises(ValueError, match="at least 2 generations"):
        trl.GRPOConfig(num_generations=1, use_cpu=True, bf16=False)


@pytest.mark.parametrize("trainer", [trl.GRPOTrainer, trl.RLOOTrainer])
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("_calculate_rewards", ["self", "inputs", "prompts", "completions", "completion_ids_list"]),
        ("_generate_and_score_completions", ["self", "inputs"]),
        ("_get_train_sampler", ["self", "dataset"]),
        ("_save_checkpoint", ["self", "model", "trial"]),
        ("_load_optimizer_and_scheduler", ["self", "checkpoint"]),
        ("_get_output_dir", ["self", "trial"]),
        ("_save_rng_state", ["self", "output_dir"]),
        ("train", ["self", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"]),
        ("evaluate", ["self", "eval_dataset", "ignore_keys", "metric_key_prefix"]),
    ],
)
def test_methods_of_trl_that_are_relied_on(trainer, method, arguments):
    import inspect

    found = list(inspect.signature(getattr(trainer, method)).parameters)
    assert found == arguments, f"TRL changed {trainer.__name__}.{method}: expected {arguments}, found {found}"


@pytest.mark.parametrize(
    ("trainer", "key"),
    [(trl.GRPOTrainer, key) for key in ("advantages", "old_per_token_logps", "sampling_per_token_logps", "tool_mask")]
    + [(trl.RLOOTrainer, key) for key in ("advantages", "old_logps")]
    + [(kind, "completion_mask") for kind in (trl.GRPOTrainer, trl.RLOOTrainer)],
)
def test_outputs_of_trl_that_are_relied_on(trainer, key):
    import inspect

    source = inspect.getsource(trainer._generate_and_score_completions)
    assert f'"{key}"' in source, f"TRL's {trainer.__name__} no longer gives {key!r} with its completions"


def test_files_of_trl_that_are_relied_on():
    import inspect

    source = inspect.getsource(trl.GRPOTrainer.log)
    for text in ('"completions"', 'f"completions_{self.state.global_step:05d}.parquet"'):
        assert text in source, f"TRL's GRPOTrainer.log writes its completions elsewhere: {text} is not in it"
    assert "parquet" not in inspect.getsource(trl.RLOOTrainer.log), "TRL's RLOOTrainer writes completions by itself now"


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_attributes_of_trl_that_are_relied_on(make, kind):
    trainer = make(kind)
    names = [
        "_logs",
        "_metrics",
        "_pending_extra_logs",
        "reward_weights",
        "num_generations",
        "num_iterations",
        "accelerator",
        "shuffle_dataset",
        "train_dataset",
        "log_completions",
    ] + (["reward_clip_range"] if kind == "RLOO" else [])
    missing = [name for name in names if not hasattr(trainer, name)]
    assert not missing, f"TRL's {kind}Trainer has lost {missing}"
    assert trainer._logs["advantages"].maxlen == trainer.args.generation_batch_size, "TRL logs another number of rows"
    assert {"prompt", "rewards", "extra"} <= trainer._logs.keys(), "TRL renamed what it logs"
