"""The recipes of `examples/recipes`, against stand-ins with the signatures that the frameworks publish.

OpenRLHF 0.11.2, ms-swift 4.6.0 and AReaL 1.0.4 by their wheels, whose sources are read below, since they do not import
without GPU libraries; NeMo-RL by its source of August 2026.
"""

import ast
import asyncio
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kernadv import KernelValueEstimator, prompt_id
from kernadv.adapters._driver import PESSIMISM

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


@pytest.fixture
def load(monkeypatch):
    """Import a recipe from its file, with stand-ins for the framework's modules: dotted name -> attributes."""

    def load(name, **modules):
        for dotted, attributes in modules.items():
            dotted = dotted.replace("__", ".")
            parent, _, child = dotted.rpartition(".")
            for above in [parent.rsplit(".", k)[0] for k in range(parent.count("."), -1, -1)]:
                monkeypatch.setitem(sys.modules, above, sys.modules.get(above) or ModuleType(above))
            module = ModuleType(dotted)
            vars(module).update(attributes)
            monkeypatch.setitem(sys.modules, dotted, module)
            monkeypatch.setattr(sys.modules[parent], child, module, raising=False)
        spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_openrlhf(load):
    class RemoteExperienceMaker:
        def compute_advantages_and_returns(self, experiences):
            return experiences

    recipe = load(
        "openrlhf_kernadv",
        openrlhf__trainer__ppo_utils__experience_maker={"RemoteExperienceMaker": RemoteExperienceMaker},
        openrlhf__trainer__ppo_trainer={"RemoteExperienceMaker": RemoteExperienceMaker},
    )
    maker = sys.modules["openrlhf.trainer.ppo_trainer"].RemoteExperienceMaker()
    assert type(maker) is recipe.KernelExperienceMaker
    again, mask = KernelValueEstimator(pessimism=PESSIMISM), torch.tensor([[1, 1, 0], [1, 1, 1]])
    for step in (1, 2):
        rewards = torch.tensor([1.0, 0.0, float(step), 0.0])
        experiences = [
            SimpleNamespace(prompts=list(texts), rewards=part, action_mask=mask)
            for texts, part in zip(["ab", "aa"], rewards.split(2), strict=True)
        ]
        out = maker.compute_advantages_and_returns(experiences)
        want = again.advantages([prompt_id(text) for text in "abaa"], rewards, step).split(2)
        for experience, rows in zip(out, want, strict=True):
            assert torch.equal(experience.advantages, rows[:, None] * mask)
            assert torch.equal(experience.returns, experience.advantages)


def test_nemo_rl(load):
    recipe = load("nemo_rl_kernadv", nemo_rl__algorithms__grpo={"_create_advantage_estimator": None})
    estimator = recipe.install(pad_id=0)
    assert sys.modules["nemo_rl.algorithms.grpo"]._create_advantage_estimator({}) is estimator
    again, mask = KernelValueEstimator(pessimism=PESSIMISM), torch.ones(3, 4)
    for step, width in ((1, 3), (2, 5)):  # the padding grows
        prompts = torch.zeros(3, width, dtype=torch.long)
        prompts[:, -2:] = torch.tensor([[5, 6], [5, 6], [7, 8]])
        rewards = torch.tensor([1.0, 0.0, 1.0])
        valid = torch.tensor([1.0, 1.0, 0.0])
        got = estimator.compute_advantage(prompts, rewards, mask, valid_mask=valid, repeated_batch={})
        want = again.advantages([prompt_id([5, 6])] * 2, rewards[:2], step)
        assert torch.equal(got[:2], want[:, None].expand(2, 4))
        assert not got[2].any()
    assert estimator.compute_advantage(torch.tensor([3, 3, 4]), rewards, mask).shape == mask.shape


def test_ms_swift(load, tmp_path):
    class GRPOTrainer:
        def __init__(self):
            self.model, self.state = SimpleNamespace(training=True), SimpleNamespace(global_step=0)
            self.reward_weights, self._metrics = (
                torch.tensor([1.0, 0.5]),
                {"train": __import__("collections").defaultdict(list)},
            )
            self.args = SimpleNamespace(should_save=True, output_dir=str(tmp_path))

        def _compute_advantages(self, samples, rewards_per_func, batch_encoded_inputs):
            return torch.full((len(samples),), 9.0)

        def _save_checkpoint(self, model, trial):
            (tmp_path / f"checkpoint-{self.state.global_step}").mkdir()

    mapping = {}
    recipe = load(
        "ms_swift_kernadv",
        accelerate__utils={"gather_object": lambda rows: rows},
        swift__rlhf_trainers__grpo_trainer={"GRPOTrainer": GRPOTrainer},
        swift__trainers__trainer_factory={"TrainerFactory": SimpleNamespace(TRAINER_MAPPING=mapping)},
    )
    assert mapping == {"grpo": "ms_swift_kernadv.KernelGRPOTrainer"}
    trainer = recipe.KernelGRPOTrainer()
    question = [{"role": "user", "content": "1+1"}]
    samples = [
        SimpleNamespace(extra={"prompt_id": 7}, messages=question),
        SimpleNamespace(extra={}, messages=[*question, {"role": "assistant", "content": "2"}]),
        SimpleNamespace(extra={}, messages=[*question, {"role": "assistant", "content": "3"}]),
    ]
    rewards = torch.tensor([[1.0, 1.0], [0.0, torch.nan], [torch.nan, torch.nan]])
    got = trainer._compute_advantages(samples, rewards, [])
    name = prompt_id(question)
    want = KernelValueEstimator().advantages(["7", name, name], torch.tensor([1.5, 0.0, torch.nan]), 1)
    assert torch.equal(got, want)
    assert trainer._metrics["train"]["kernadv/history_prompts"] == [2.0]
    trainer._save_checkpoint(None, None)
    assert (tmp_path / "checkpoint-0" / "kernadv.safetensors").is_file()
    trainer.model.training = False
    assert (trainer._compute_advantages(samples, rewards, []) == 9.0).all()


def test_areal(load):
    class Workflow:
        async def arun_episode(self, engine, data):
            if data["id"] == "rejected":
                return None
            return {"rewards": torch.tensor([data["z"]]), "versions": torch.tensor([[-1, data["v"]]])}

    recipe = load("areal_kernadv", areal__api__workflow_api={"RolloutWorkflow": object})
    workflow, again = recipe.KernelWorkflow(Workflow()), KernelValueEstimator(allow_late=True)
    for name, z, version in [("a", 1.0, 0), ("b", 0.0, 2), ("a", 0.0, 1)]:  # the last one is late
        out = asyncio.run(workflow.arun_episode(None, {"id": name, "z": z, "v": version}))
        assert out["rewards"].tolist() == again.advantages([name], torch.tensor([z]), version + 1).tolist()
    assert asyncio.run(workflow.arun_episode(None, {"id": "rejected"})) is None


def source_of(package, end):
    """Text of a file of an installed package, which is not imported."""
    try:
        files = importlib.metadata.files(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed: make test-adapters")
    return next(file for file in files if str(file).endswith(end)).locate().read_text()


@pytest.mark.parametrize(
    ("package", "file", "owner", "method", "arguments"),
    [
        (
            "openrlhf",
            "openrlhf/trainer/ppo_utils/experience_maker.py",
            "RemoteExperienceMaker",
            "compute_advantages_and_returns",
            ["self", "experiences"],
        ),
        (
            "ms-swift",
            "swift/rlhf_trainers/grpo_trainer.py",
            "GRPOTrainer",
            "_compute_advantages",
            ["self", "samples", "rewards_per_func", "batch_encoded_inputs"],
        ),
        ("areal", "areal/api/workflow_api.py", "RolloutWorkflow", "arun_episode", ["self", "engine", "data"]),
    ],
)
def test_signatures_that_recipes_rely_on(package, file, owner, method, arguments):
    classes = [node for node in ast.walk(ast.parse(source_of(package, file))) if isinstance(node, ast.ClassDef)]
    body = next(node.body for node in classes if node.name == owner)
    found = next(([a.arg for a in node.args.args] for node in body if getattr(node, "name", "") == method), None)
    assert found == arguments, f"{package} changed {owner}.{method}: expected {arguments}, found {found}"


@pytest.mark.parametrize(
    ("package", "file", "text"),
    [
        ("openrlhf", "openrlhf/trainer/ppo_trainer.py", "import RemoteExperienceMaker"),
        ("openrlhf", "openrlhf/trainer/ppo_utils/experience.py", "prompts: "),
        ("openrlhf", "openrlhf/trainer/ppo_utils/experience_maker.py", '"flash_reinforce"'),
        ("ms-swift", "swift/trainers/trainer_factory.py", "TRAINER_MAPPING = {"),
        ("ms-swift", "swift/rlhf_trainers/grpo_trainer.py", "self.reward_weights.unsqueeze(0)"),
        ("areal", "areal/workflow/rlvr.py", '"versions"'),
        ("areal", "areal/workflow/rlvr.py", '"rewards"'),
    ],
)
def test_names_that_recipes_rely_on(package, file, text):
    assert text in source_of(package, file), f"{package} changed {file}: {text!r} is no longer in it"


def test_every_recipe_is_tested():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    in_their_own_files = {"skyrl", "prime_rl"}
    files = {file.stem.removesuffix("_kernadv") for file in RECIPES.glob("*.py")}
    assert files - in_their_own_files <= tested
    assert np.isin(["openrlhf", "nemo_rl", "ms_swift", "areal"], list(tested)).all()
