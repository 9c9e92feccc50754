"""Trainings that imitate vectors joined from several teachers: what is fitted, saved, resumed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training import finetune as finetuning
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.joined_vectors import FILE
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.running.history import history
from dupmae_toolkit.training.sources import DataSource, TeacherSource
from tests.families import save_checkpoint, write_titled
from tests.support import Killed


@pytest.fixture(scope="module", autouse=True)
def few_texts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "JOINED_TEXTS", 48)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    for name, seed in (("model", 0), ("one", 1), ("other", 2)):
        save_checkpoint(folder / name, seed=seed)
    write_titled(folder / "train.jsonl")
    return folder


def recipe(home, output, **changes):
    settings = {
        "model": str(home / "model"),
        "output": str(output),
        "data": [DataSource(str(home / "train.jsonl"))],
        "steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "save_every": 2,
        "log_every": 1,
        "precision": "fp32",
        "query_length": 20,
        "document_length": 40,
        "encoder": {"normalize": True, "lexical_head": "none"},
        "losses": {"teacher_vector": 1.0},
        "teachers": [
            TeacherSource("dense", str(home / "one"), vector=1.0),
            TeacherSource("dense", str(home / "other"), "cls", vector=0.5, prefix="the "),
        ],
    }
    return FinetuneRecipe(**{**settings, **changes})


@pytest.fixture(scope="module")
def whole(home):
    heard = []
    return finetune(recipe(home, home / "whole"), listen=heard.append).parent, heard


def losses(folder):
    return [entry["teacher_vector"] for entry in history(folder) if "loss" in entry]


def test_the_distance_falls_and_what_was_kept_is_said(whole):
    folder, heard = whole
    (kept,) = [entry["joined_kept"] for entry in heard if "joined_kept" in entry]
    assert 0 < kept <= 1
    found = losses(folder)
    assert found[-1] < found[0]
    assert not (folder / "final" / FILE).exists(), "only a resume needs it"


@pytest.mark.parametrize("moment", [3, 5])
def test_a_training_that_was_killed_goes_on_with_the_same_target(
    home, tmp_path, whole, monkeypatch, moment
):
    def die(entry):
        if entry.get("step") == moment and "loss" in entry:
            raise Killed

    with pytest.raises(Killed):
        finetune(recipe(home, tmp_path), listen=die)

    def never(*_, **__):
        raise AssertionError("the target was computed again")

    monkeypatch.setattr(finetuning.Teachers, "fit_joined", never)
    output = finetune(recipe(home, tmp_path), resume=True)
    assert losses(tmp_path) == pytest.approx(losses(whole[0]), rel=1e-5)
    ours, theirs = (load_file(f / "model.safetensors") for f in (output, whole[0] / "final"))
    for name, weights in ours.items():
        torch.testing.assert_close(weights, theirs[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fault", ["missing", "damaged", "fewer", "swapped", "share", "prefix"])
def test_a_checkpoint_without_the_target_is_refused_in_one_line(home, tmp_path, fault):
    finetune(recipe(home, tmp_path, steps=2))
    path = tmp_path / "checkpoint-2" / FILE
    changes = {}
    if fault == "missing":
        path.unlink()
    elif fault == "damaged":
        path.write_bytes(b"no such file format")
    else:
        one, other = recipe(home, tmp_path).teachers
        teachers = {
            "fewer": [one],
            "swapped": [replace(one, model=other.model), replace(other, model=one.model)],
            "share": [one, replace(other, vector=0.6)],
            "prefix": [one, replace(other, prefix="")],
        }
        changes = {"teachers": teachers[fault]}
    with pytest.raises(InputError, match="checkpoint-2"):
        finetune(recipe(home, tmp_path, steps=4, **changes), resume=True)


def test_one_teacher_with_a_share_is_only_centred_and_turned(home, tmp_path):
    teachers = [TeacherSource("dense", str(home / "one"), vector=2.0)]
    heard = []
    finetune(recipe(home, tmp_path, teachers=teachers), listen=heard.append)
    kept = [entry["joined_kept"] for entry in heard if "joined_kept" in entry]
    assert kept == [pytest.approx(1.0)]
