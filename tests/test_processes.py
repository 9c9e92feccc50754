"""The same training in one process, in pieces, and in two processes that talk by gloo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.pretrain import StepModel, pretrain
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.running import processes
from dupmae_toolkit.training.running.history import history
from dupmae_toolkit.training.running.preflight import check_share
from dupmae_toolkit.training.running.processes import Shares
from dupmae_toolkit.training.running.resuming import whole_checkpoints
from dupmae_toolkit.training.sources import DataSource
from tests.families import save_checkpoint, sentences
from tests.two_processes import STEPS, pairs_recipe, recipe, refused

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    save_checkpoint(folder / "model", **NO_DROPOUT)
    with (folder / "a.jsonl").open("w", encoding="utf-8") as file:
        for i in range(24):
            texts = sentences(1 + i % 5, seed=i, words=7)
            file.write(json.dumps({"text": " ".join(texts)}) + "\n")
    with (folder / "groups.jsonl").open("w", encoding="utf-8") as file:
        for i in range(24):
            query, positive, *negatives = sentences(2 + i % 4, seed=100 + i, words=6)
            texts = [{"text": text} for text in negatives]
            group = {"query": query, "positives": [{"text": positive}], "negatives": texts}
            file.write(json.dumps(group) + "\n")
    return folder


def launch(module: str, *words: object) -> None:
    """Let a launcher start the processes of a training on the CPU, and see that they end well."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def one(home):
    """The training in one process, in one piece."""
    return pretrain(recipe(home, home / "one")).parent


@pytest.fixture(scope="module")
def two(home, one):
    """The folder in which two processes trained."""
    output = home / "pair"
    # What one process began, two shall end.
    shutil.copytree(one / "checkpoint-2", output / "moved" / "checkpoint-2")
    shutil.copy(one / "log.jsonl", output / "moved" / "log.jsonl")
    words = ["--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", "0"]
    words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    launch("torch.distributed.run", *words, "-m", "tests.two_processes", home, output)
    return output


PRETRAINED = ("loss", "mlm", "decoder", "bow", "active", "grad_norm", "learning_rate")
TUNED = ("loss", "joint", "lexical", "teacher_dense", "teacher_vector", "flops_query")
TUNED += ("flops_document", "active_query", "active_document", "grad_norm", "learning_rate")


def same_training(
    one: Path, other: Path, first: int = 1, names=PRETRAINED, files=("model", "decoder")
) -> None:
    """Losses, their parts and the weights are those of one process, but for rounding."""
    logs = [
        {entry["step"]: entry for entry in history(folder) if "loss" in entry}
        for folder in (one, other)
    ]
    assert list(logs[1]) == list(range(1, STEPS + 1))
    for step in range(first, STEPS + 1):
        for name in names:
            assert logs[1][step][name] == pytest.approx(logs[0][step][name], rel=2e-4), (step, name)
    for file in files:
        ours, theirs = (
            load_file(folder / "final" / f"{file}.safetensors") for folder in (other, one)
        )
        assert ours.keys() == theirs.keys()
        for name, weight in theirs.items():
            # A softmax does not see what is added to all keys: that gradient is nothing but
            # rounding, and Adam divides it by its own size.
            if not name.endswith("key.bias"):
                assert (ours[name] - weight).abs().max() < 3e-5, name


def test_a_batch_in_pieces_gives_the_loss_and_the_weights_of_the_whole(home, one):
    for accumulation in (2, 8):
        output = home / f"pieces-{accumulation}"
        pretrain(recipe(home, output, accumulation=accumulation))
        same_training(one, output)


def test_pieces_that_hold_more_tokens_count_more(home, one, monkeypatch):
    monkeypatch.delattr(StepModel, "counts")
    pretrain(recipe(home, home / "unweighed", accumulation=4))
    with pytest.raises(AssertionError):
        same_training(one, home / "unweighed")


def test_a_training_in_pieces_is_resumed_in_other_pieces(home, one, tmp_path):
    shutil.copytree(one / "checkpoint-2", tmp_path / "checkpoint-2")
    shutil.copy(one / "log.jsonl", tmp_path / "log.jsonl")
    pretrain(recipe(home, tmp_path, accumulation=4), resume=True)
    same_training(one, tmp_path, first=3)


@pytest.mark.slow
def test_two_processes_give_the_losses_and_the_weights_of_one(one, two):
    same_training(one, two / "two")


@pytest.mark.slow
def test_two_processes_go_on_with_what_one_began(one, two):
    same_training(one, two / "moved", first=3)


@pytest.mark.slow
def test_only_the_first_process_writes_and_listens(two):
    names = sorted(path.name for path in (two / "two").iterdir())
    assert names == ["checkpoint-2", "checkpoint-4", "final", "log.jsonl", "recipe.json"]
    assert [path.name for path in whole_checkpoints(two / "two")] == names[:2]
    told = [json.loads((two / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    assert [item["size"] for item in told] == [2, 2]
    assert told[0]["heard"] == STEPS + 2  # what it will take, each step, and the end
    assert told[1]["heard"] == 0
    plan = next(entry for entry in history(two / "two") if "preflight" in entry)
    assert (plan["processes"], plan["rows_at_once"], plan["batch_size"]) == (2, 4, 8)


@pytest.mark.slow
def test_what_stops_one_process_stops_both_with_the_reason_in_one(two):
    told = [json.loads((two / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    for item in told:
        assert item["uneven"].startswith(
            "InputError: batch_size 9 cannot be shared equally among 2"
        )
        assert (
            "the loss is not finite, or has blown up, at step 3; remove checkpoint-2" in item["nan"]
        )
    assert "checkpoint-4: cannot be written ([Errno 28] No space left on device)" in told[0]["full"]
    assert told[1]["full"].startswith("StoppedElsewhereError")
    assert [path.name for path in whole_checkpoints(two / "full")] == ["checkpoint-2"]


@pytest.mark.slow
def test_two_processes_fine_tune_as_one_does(home, two):
    said = []
    one = finetune(pairs_recipe(home, home / "tuned"), listen=said.append).parent
    same_training(one, two / "tuned", names=TUNED, files=("model",))
    evaluated = [
        {e["step"]: e["eval_loss"] for e in history(folder) if "eval_loss" in e}
        for folder in (one, two / "tuned")
    ]
    assert list(evaluated[0]) == [0, 2, 4]
    assert evaluated[1] == pytest.approx(evaluated[0], rel=2e-4)
    told = [json.loads((two / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    assert [item["said"] for item in told] == [len(said), 0]


ACCELERATED = """
import sys
from dupmae_cli.main import main
for command, recipe in (("pretrain", sys.argv[1]), ("finetune", sys.argv[2])):
    try:
        main([command, recipe])
    except SystemExit as stopped:
        assert not stopped.code, command
"""


@pytest.mark.slow
def test_accelerate_starts_what_torchrun_starts(home, two, tmp_path):
    pytest.importorskip("accelerate.commands.launch")
    (tmp_path / "both.py").write_text(ACCELERATED)
    made = {"two": recipe(home, tmp_path / "two"), "tuned": pairs_recipe(home, tmp_path / "tuned")}
    for name, values in made.items():
        keys = {k: v for k, v in asdict(values).items() if v}  # epochs and steps exclude each other
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(keys))
    # On a machine without GPUs, too, that is how it starts several processes; --cpu wants MPI.
    words = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port"]
    words += ["0", "--mixed_precision", "no", "--dynamo_backend", "no"]
    scripts = [tmp_path / name for name in ("both.py", "two.yaml", "tuned.yaml")]
    launch("accelerate.commands.launch", *words, *scripts)
    plan = next(entry for entry in history(tmp_path / "two") if "preflight" in entry)
    assert plan["processes"] == 2
    same_training(two / "two", tmp_path / "two")
    same_training(two / "tuned", tmp_path / "tuned", names=TUNED, files=("model",))


def test_pieces_are_the_rows_of_the_whole_batch_in_order(monkeypatch):
    def collate(examples):
        return {
            "ids": torch.tensor(examples)[:, None],
            "documents": torch.tensor([[e, k] for e in examples for k in range(3)]),
        }

    examples = list(range(12))
    seen = []
    monkeypatch.setattr(processes, "world_size", lambda: 3)
    for turn in range(2):
        for rank in range(3):
            monkeypatch.setattr(processes, "process_number", lambda rank=rank: rank)
            piece = Shares(collate, 2)(examples)[turn]
            seen += piece["ids"][:, 0].tolist()
            # The three documents of a query stay with it.
            assert piece["documents"][::3, 0].tolist() == piece["ids"][:, 0].tolist()
    assert seen == examples
    with pytest.raises(DupMAEError, match="'ids' has 12 rows for 5 examples"):
        Shares(lambda examples: {"ids": torch.zeros(12, 1)}, 1)(examples[:5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulation": 3}, "batch_size 8 cannot be cut into 3 equal pieces"),
        ({"accumulation": 0}, "accumulation is 0; at least 1 is needed"),
    ],
)
def test_pieces_that_are_not_equal_are_refused(home, changes, message):
    with pytest.raises(InputError, match=message):
        recipe(home, home / "unused", **changes)


def test_fine_tuning_in_pieces_is_refused_with_the_reason(home):
    with pytest.raises(InputError, match="each piece would see its own negatives only"):
        FinetuneRecipe(
            "model", "output", [DataSource(str(home / "a.jsonl"))], 1, batch_size=4, accumulation=2
        )


def test_batches_that_cannot_be_shared_are_refused(home, monkeypatch):
    monkeypatch.setattr(processes, "world_size", lambda: 3)
    plain = recipe(home, home / "unused", accumulation=2)
    assert "this training runs in one process" in refused(lambda: check_share(plain, object()))
    message = "batch_size 8 cannot be shared equally among 3 processes times 2 pieces; "
    assert message + "set it to a multiple of 6" in refused(lambda: check_share(plain, StepModel))
