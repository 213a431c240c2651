"""A random policy and a few problems: enough to run every path of the trainer in seconds, without a base model.

One torch thread everywhere: the same numbers on every run, and no fight over two cores.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, settings
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from study.cluster import prepare_environment
from tests.study import postgres
from trainer.config import TrainerConfig

torch.set_num_threads(1)
# No test is timed: a busy machine is no failure.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
prepare_environment(local=True)  # vLLM imports ray where it is installed, and its tests may run before Ray's


def remember_migrations() -> None:
    """Optuna runs its twelve migration scripts anew at each opening of a database, to learn the newest of them: 50 ms,
    a quarter of the unit tests' time. Here they run once in each process."""
    read, known = ScriptDirectory.from_config, {}

    def from_config(config):
        place = config.get_main_option("script_location")
        if place not in known:
            known[place] = read(config)
        return known[place]

    ScriptDirectory.from_config = from_config


remember_migrations()
SYMBOLS = ["<pad>", "<eos>", "\\boxed{", "}", "+", "=", *"0123456789"]


def save_random_model(directory: Path, *, seed: int = 0) -> Path:
    """A Qwen2 model with random weights and a character tokenizer, in Hugging Face format."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(SYMBOLS), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # a random net is nearly uniform; this gives it opinions to be wrong about
    model.save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel({symbol: index for index, symbol in enumerate(SYMBOLS)}, unk_token="="))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<pad>"}  # Qwen2's own would be a 17th id
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def guessing_model(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model after a second of training: it answers in a box, with any digit, so some answers are right."""
    directory = Path(shutil.copytree(random_model, tmp_path_factory.mktemp("guessing") / "model"))
    model, ids = AutoModelForCausalLM.from_pretrained(directory), {each: at for at, each in enumerate(SYMBOLS)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    generator = random.Random(0)
    for _ in range(60):
        digits = [[str(generator.randint(0, most)) for most in (4, 4, 9)] for _ in range(32)]
        texts = [[a, "+", b, "=", "\\boxed{", c, "}", "<eos>"] for a, b, c in digits]
        tokens = torch.tensor([[ids[symbol] for symbol in text] for text in texts])
        logits = model(input_ids=tokens[:, :-1]).logits[:, 3:]  # from the answer's first token on
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 4:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def problems_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One-digit answers, so that a guessing policy is right now and then and groups are informative."""
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    rows = [{"problem": f"{a}+{b}=", "answer": str(a + b)} for a in range(5) for b in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A PostgreSQL server whose password the environment holds."""
    if not postgres.PROGRAMS:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with pytest.MonkeyPatch.context() as patch, postgres.server() as started:
        patch.setenv("PGPASSWORD", postgres.PASSWORD)
        yield started


@pytest.fixture
def small_config(guessing_model: Path, problems_file: Path) -> TrainerConfig:
    """Two steps of a real run on the guessing policy."""
    return TrainerConfig.model_validate(
        {
            "steps": 2,
            "model": {"path": str(guessing_model)},
            "data": {"train": str(problems_file)},
            "rollout": {"prompts_per_step": 8, "group_size": 4, "max_response_length": 12},
            "optimizer": {"prompts_per_minibatch": 4, "micro_batch_tokens": 200, "learning_rate": 1e-2},
            "evaluation": {
                "sets": [
                    {"name": "select", "path": str(problems_file), "samples": 2, "every": 1},
                    {"name": "report", "path": str(problems_file), "samples": 2, "every": None},
                ]
            },
        }
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first, so that the processes of `make test` end together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None and item.get_closest_marker("browser") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """With FIPO_CI=1 a skipped test fails, unless it says that no CI machine can run it (`needs a GPU`)."""
    report = yield
    if report.skipped and os.environ.get("FIPO_CI") and "needs a GPU" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"
    return report
