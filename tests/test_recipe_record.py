"""Which recipe each step ran by, and which checkpoint a training that blew up goes back to."""

# ruff: noqa: F811  (a fixture of another file)

from __future__ import annotations

import json
import random

import pytest
import torch

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.pair_model import PairModel
from dupmae_toolkit.training.running.recipe_record import CHANGES, RECIPE, keep_recipe
from dupmae_toolkit.training.running.resuming import last_checkpoint
from tests.test_training import finetune_recipe, home  # noqa: F401


def changes(folder):
    path = folder / CHANGES
    return json.loads(path.read_text("utf-8"))["changes"] if path.exists() else []


def test_the_recipe_of_every_step_can_be_told_whatever_happened(tmp_path):
    """Random resumes, from any earlier step, killed between the writes or not."""
    dice = random.Random(5)
    for round in range(60):
        folder = tmp_path / str(round)
        folder.mkdir()
        ran = []  # by step, as it was
        recipe = {"seed": 1, "rate": 0.1, "data": ["a"], "output": "here"}
        keep_recipe(folder, recipe, None)
        for _ in range(dice.randint(1, 6)):
            ran += [dict(recipe)] * dice.randint(1, 4)
            step = dice.randint(0, len(ran))
            recipe = recipe | {
                "seed": dice.randint(1, 2),
                "data": dice.choice([["a"], ["b"]]),
                "output": dice.choice(["here", "there"]),
            }
            if dice.random() < 0.3:  # killed after the first write
                before = (folder / RECIPE).read_bytes()
                keep_recipe(folder, recipe, step)
                (folder / RECIPE).write_bytes(before)
                recipe = recipe | {"rate": dice.choice([0.1, 0.2])}
            keep_recipe(folder, recipe, step)
            del ran[step:]
        ran.append(dict(recipe))
        told = json.loads((folder / RECIPE).read_text("utf-8"))
        by_step = []
        undone = list(changes(folder))
        for step in reversed(range(len(ran))):
            while undone and undone[-1]["step"] > step:
                told |= {k: v["before"] for k, v in undone.pop()["changed"].items()}
            by_step.append(dict(told))
        for told, real in zip(reversed(by_step), ran, strict=True):
            assert told | {"output": ""} == real | {"output": ""}


def test_what_cannot_be_read_is_told_and_written_anew(tmp_path):
    assert keep_recipe(tmp_path, {"seed": 1}, None) == []
    for damage in (b"", b"[1]", b"{", b"\xff"):
        (tmp_path / RECIPE).write_bytes(damage)
        (line,) = keep_recipe(tmp_path, {"seed": 2}, 3)
        assert "recipe of the first 3 steps is not readable" in line
        assert json.loads((tmp_path / RECIPE).read_text()) == {"seed": 2}


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"changes": [1], "recipe": {}}', '{"changes": [{}], "recipe": {}}']
)
def test_a_damaged_record_is_put_aside_and_the_change_recorded(tmp_path, damage):
    keep_recipe(tmp_path, {"seed": 1}, None)
    (tmp_path / CHANGES).write_text(damage)
    lines = keep_recipe(tmp_path, {"seed": 2}, 3)
    assert len(lines) == 2
    assert "is not readable" in lines[0]
    assert (tmp_path / f"{CHANGES}.damaged").read_text() == damage
    assert changes(tmp_path) == [{"step": 3, "changed": {"seed": {"before": 1, "after": 2}}}]


def test_a_field_of_a_later_version_is_no_change(tmp_path):
    keep_recipe(tmp_path, {"seed": 1}, None)
    assert keep_recipe(tmp_path, {"seed": 1, "new": 5}, 3) == []


def test_a_training_that_goes_on_with_another_recipe_records_it(home, tmp_path):
    out, heard = tmp_path / "out", []
    finetune(finetune_recipe(home, out, steps=2))
    assert not (out / CHANGES).exists()
    other = {"seed": 9, "batch_size": 2, "losses": {"joint": 1.0}, "teachers": []}
    finetune(finetune_recipe(home, out, steps=4, **other), resume=True, listen=heard.append)
    (change,) = changes(out)
    assert change["step"] == 2
    assert set(change["changed"]) == {"seed", "batch_size", "losses", "teachers", "steps"}
    assert change["changed"]["batch_size"] == {"before": 4, "after": 2}
    (line,) = [entry["warning"] for entry in heard if "warning" in entry]
    assert "the recipe changes after step 2: " in line
    assert "batch_size 4 → 2" in line
    assert "\n" not in line
    heard.clear()
    finetune(finetune_recipe(home, out, steps=4, **other), resume=True, listen=heard.append)
    assert changes(out) == [change]
    assert not any("warning" in entry for entry in heard)


def blown_up_after(monkeypatch, step, value):
    """From the loss after so many updates on, all losses are ``value`` times as large."""
    original = PairModel.forward

    def forward(self, batch, at, steps):
        loss, parts = original(self, batch, at, steps)
        return (loss * value if at >= step else loss), parts

    monkeypatch.setattr(PairModel, "forward", forward)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_a_checkpoint_that_gave_no_sound_loss_is_not_gone_on_from(
    home,
    tmp_path,
    monkeypatch,
    value,
):
    blown_up_after(monkeypatch, 4, value)
    with pytest.raises(DupMAEError, match=r"at step 5; remove checkpoint-4, which may be") as error:
        finetune(finetune_recipe(home, tmp_path / "out"))
    assert f"go on from {tmp_path / 'out' / 'checkpoint-2'} with --resume" in str(error.value)
    # Whoever resumes from it all the same is told so again.
    with pytest.raises(DupMAEError, match=r"at step 5; remove checkpoint-4, which may be"):
        finetune(finetune_recipe(home, tmp_path / "out"), resume=True)
    monkeypatch.undo()
    torch.manual_seed(0)
    assert last_checkpoint(tmp_path / "out").name == "checkpoint-4"


def test_without_a_good_checkpoint_it_begins_again(home, tmp_path, monkeypatch):
    blown_up_after(monkeypatch, 2, float("nan"))
    with pytest.raises(DupMAEError, match="remove checkpoint-2, which may be ruined, and begin"):
        finetune(finetune_recipe(home, tmp_path / "out"))


def test_an_enormous_rate_is_found_out(home, tmp_path):
    recipe = finetune_recipe(
        home, tmp_path / "out", learning_rate=1e30, max_grad_norm=0, save_every=2, warmup=0
    )
    with pytest.raises(DupMAEError, match=r"at step [23]; ") as error:
        finetune(recipe)
    assert "go on from" not in str(error.value)
    assert "lower learning_rate" in str(error.value)


def test_losses_that_rise_within_reason_go_on(home, tmp_path, monkeypatch):
    blown_up_after(monkeypatch, 3, 20.0)
    assert finetune(finetune_recipe(home, tmp_path / "out")).is_dir()
