"""What tests/test_processes.py lets two processes do; torchrun starts this file."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import pytest
import torch

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.model.pretraining import DupMAEForPreTraining
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.pretrain import pretrain
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.running import processes
from dupmae_toolkit.training.sources import DataSource, TeacherSource

STEPS = 4


def recipe(home: Path, output: Path, **changes) -> PretrainRecipe:
    """Four steps of eight texts, of very different lengths, without dropout."""
    settings = {
        "model": str(home / "model"),
        "output": str(output),
        "data": [DataSource(str(home / "a.jsonl"))],
        "steps": STEPS,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "save_every": 2,
        "log_every": 1,
        "max_length": 40,
        "precision": "fp32",
    }
    return PretrainRecipe(**{**settings, **changes})


def pairs_recipe(home: Path, output: Path, **changes) -> FinetuneRecipe:
    """Four steps of eight groups of unequal size, every part of the score, two teachers."""
    settings = {
        "model": str(home / "model"),
        "output": str(output),
        "data": [DataSource(str(home / "groups.jsonl"), kind="groups")],
        "steps": STEPS,
        "batch_size": 8,
        "negatives": 2,
        "learning_rate": 1e-3,
        "dropout": 0.0,
        "query_length": 12,
        "document_length": 24,
        "chunk_size": 3,
        "losses": {"joint": 1.0, "lexical": 0.5, "teacher_dense": 0.5, "teacher_vector": 1.0},
        "teachers": [
            TeacherSource("bm25", scale=0.5),
            TeacherSource("dense", str(home / "model"), scale=5.0),
        ],
        "unigram_prior": 0.3,
        "active_terms": 20,
        "flops_query": 0.01,
        "flops_document": 0.01,
        "eval_every": 2,
        "eval_data": str(home / "groups.jsonl"),
        "save_every": 2,
        "log_every": 1,
        "precision": "fp32",
    }
    return FinetuneRecipe(**{**settings, **changes})


def refused(train) -> str:
    """The kind and the message of the error that ends a training."""
    try:
        train()
    except DupMAEError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def main(home: Path, output: Path) -> None:
    heard: list[dict[str, float]] = []
    pretrain(recipe(home, output / "two"), listen=heard.append)
    told = {"heard": len(heard), "size": processes.world_size()}
    pretrain(recipe(home, output / "moved"), resume=True)
    told["uneven"] = refused(lambda: pretrain(recipe(home, output / "uneven", batch_size=9)))

    original = DupMAEForPreTraining.forward

    def broken(self, *arguments, **options):
        result = original(self, *arguments, **options)
        bad = processes.process_number() == 1 and (output / "nan" / "checkpoint-2").exists()
        return result._replace(loss=result.loss * float("nan")) if bad else result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DupMAEForPreTraining, "forward", broken)
        told["nan"] = refused(lambda: pretrain(recipe(home, output / "nan")))

    save = torch.save

    def full(value, path, *arguments, **options):
        if "checkpoint-4" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(value, path, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", full)
        told["full"] = refused(lambda: pretrain(recipe(home, output / "full")))
    said: list[dict[str, float]] = []
    finetune(pairs_recipe(home, output / "tuned"), listen=said.append)
    told["said"] = len(said)
    (output / f"told-{processes.process_number()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
