"""Scales of the teachers that a source sets for its own batches."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.training.data.frequencies import TermFrequencies
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.recipe_files import load_recipe
from dupmae_toolkit.training.running.history import history
from dupmae_toolkit.training.sources import DataSource, TeacherSource
from dupmae_toolkit.training.teachers import DenseTeacher, Teachers
from tests.test_imitated_terms import home, recipe  # noqa: F401
from tests.test_teachers import DOCUMENTS, QUERIES, encoder, folder, side  # noqa: F401


def taught_by(home, output, scales, own=None, **changes):  # noqa: F811
    """A recipe with a dense, a lexical and a bm25 teacher, whose source sets ``scales``."""
    teachers = [
        TeacherSource("dense", str(home / "other")),
        TeacherSource("lexical", str(home / "other")),
        TeacherSource("bm25"),
    ]
    for teacher, scale in zip(teachers, own or [], strict=False):
        teacher.scale = scale
    source = DataSource(str(home / "train.jsonl"), teacher_scales=scales)
    settings = {"data": [source], "teachers": teachers, "losses": {"teacher_joint": 1.0}}
    return recipe(home, output, **{**settings, "steps": 2, **changes})


def trained(given):
    return load_file(finetune(given) / "model.safetensors")


def same(one, other):
    return all(torch.equal(weights, other[name]) for name, weights in one.items())


def test_scores_are_added_up_with_the_scales_of_the_batch(encoder, folder):  # noqa: F811
    sources = [
        TeacherSource("dense", str(folder), scale=5),
        TeacherSource("lexical", str(folder), scale=7),
        TeacherSource("bm25", scale=9),
    ]
    teachers = Teachers(sources, encoder, TermFrequencies.of(encoder, DOCUMENTS, 20))
    sides = side(encoder, QUERIES), side(encoder, DOCUMENTS)
    alone = [teachers(*sides, None, [float(n == one) for n in range(3)]).logits for one in range(3)]
    for scales in ([1.5, 0.0, 2.0], [0.0, 0.25, 0.0], [5.0, 7.0, 9.0]):
        expected = sum(scale * each for scale, each in zip(scales, alone, strict=True))
        torch.testing.assert_close(teachers(*sides, None, scales).logits, expected)
    torch.testing.assert_close(teachers(*sides).logits, expected)


def test_a_teacher_without_a_scale_does_not_run(encoder, folder, monkeypatch):  # noqa: F811
    sources = [TeacherSource("dense", str(folder)), TeacherSource("bm25")]
    frequencies = TermFrequencies.of(encoder, DOCUMENTS, 20)
    imitated = Teachers(sources, encoder, frequencies)
    only_scores = Teachers(sources, encoder, frequencies, vectors=False)
    sides = side(encoder, QUERIES), side(encoder, DOCUMENTS)
    runs = []
    plain = DenseTeacher.forward
    monkeypatch.setattr(
        DenseTeacher, "forward", lambda self, side: runs.append(1) or plain(self, side)
    )
    assert only_scores(*sides, None, [0.0, 1.0]).query is None
    assert not runs
    assert imitated(*sides, None, [0.0, 1.0]).query is not None
    assert len(runs) == 2


def test_a_sources_scales_train_as_the_teachers_own_would(home, tmp_path):  # noqa: F811
    scales = [3.0, 0.0, 0.5]
    by_source = trained(taught_by(home, tmp_path / "source", scales))
    by_teacher = trained(taught_by(home, tmp_path / "teacher", [], own=scales))
    others = trained(taught_by(home, tmp_path / "others", [1.0, 1.0, 1.0]))
    assert same(by_source, by_teacher)
    assert not same(by_source, others)


def test_two_sources_of_one_file_each_have_their_scales(home, tmp_path):  # noqa: F811
    """Each batch has the loss that it has in a training where all sources set its scales."""
    path = str(home / "train.jsonl")

    def trained_losses(name, *scales, kind="title"):
        data = [DataSource(path, kind, teacher_scales=list(each)) for each in scales]
        given = taught_by(home, tmp_path / name, [], data=data, steps=6, learning_rate=0.0)
        finetune(given)
        return losses(tmp_path / name)

    one, other = (4.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    mixed = trained_losses("mixed", one, other)
    first = trained_losses("first", one, one)
    second = trained_losses("second", other, other)
    assert mixed not in (first, second)
    assert all(loss in pair for loss, *pair in zip(mixed, first, second, strict=True))


def test_groups_have_them_too(home, tmp_path):  # noqa: F811
    groups = tmp_path / "groups.jsonl"
    line = '{"query": "river", "pos": ["river w1"], "neg": ["moon", "w2"]}\n'
    groups.write_text(line * 8)

    def with_scales(name, scales, own=None):
        data = [DataSource(str(groups), "groups", teacher_scales=scales)]
        return trained(taught_by(home, tmp_path / name, [], own, data=data, negatives=2))

    assert same(with_scales("a", [0.0, 0.5, 0.0]), with_scales("b", [], [0.0, 0.5, 0.0]))


def test_the_teachers_that_run_are_those_with_a_scale_for_some_source(home, tmp_path):  # noqa: F811
    own = [0.0, 2.0, 0.0]
    found = taught_by(home, tmp_path, [0.0, 0.0, 3.0], own)
    assert [teacher.kind for teacher in found.used_teachers] == ["bm25"]
    found.data.append(DataSource("more.jsonl"))
    assert [teacher.kind for teacher in found.used_teachers] == ["lexical", "bm25"]
    assert found.used_scales() == [2.0, 0.0]
    assert found.used_scales(found.data[0].teacher_scales) == [0.0, 3.0]
    found.data[1].weight = 0.0
    assert [teacher.kind for teacher in found.used_teachers] == ["bm25"]


def losses(folder):  # noqa: F811
    return [entry["loss"] for entry in history(folder) if "loss" in entry]


def test_a_resumed_training_has_the_scales_of_its_new_recipe(home, tmp_path):  # noqa: F811
    """The learning rate is 0, so that each loss depends on the scales of its step alone."""
    still = {"learning_rate": 0.0, "save_every": 1}
    first, second = [0.0, 3.0, 0.0], [2.0, 0.0, 1.0]
    finetune(taught_by(home, tmp_path / "changed", first, steps=1, **still))
    finetune(taught_by(home, tmp_path / "changed", second, steps=2, **still), resume=True)
    for name, scales in (("first", first), ("second", second)):
        finetune(taught_by(home, tmp_path / name, scales, steps=2, **still))
    expected = [losses(tmp_path / "first")[0], losses(tmp_path / "second")[1]]
    assert losses(tmp_path / "changed") == expected
    assert losses(tmp_path / "first")[1] != expected[1]
    changes = json.loads((tmp_path / "changed" / "recipe-changes.json").read_text())
    assert [change["step"] for change in changes["changes"]] == [1]


def test_keys_that_an_earlier_recipe_did_not_have_are_no_change(home, tmp_path):  # noqa: F811
    told = []
    finetune(taught_by(home, tmp_path, [], steps=1, save_every=1))
    path = tmp_path / "recipe.json"
    earlier = json.loads(path.read_text())
    for source in earlier["data"]:
        del source["teacher_scales"]
    for teacher in earlier["teachers"]:
        del teacher["vector"]
    path.write_text(json.dumps(earlier))
    finetune(taught_by(home, tmp_path, [], steps=1, save_every=1), resume=True, listen=told.append)
    assert not [entry for entry in told if "changes" in str(entry)]
    assert not (tmp_path / "recipe-changes.json").exists()
    scaled = taught_by(home, tmp_path, [1.0, 2.0, 3.0], steps=1, save_every=1)
    finetune(scaled, resume=True)
    assert (tmp_path / "recipe-changes.json").exists()


def test_held_out_losses_have_the_scales_of_the_first_source(home, tmp_path):  # noqa: F811
    """Also if no batch comes from it."""
    path = str(home / "train.jsonl")
    first = DataSource(path, weight=0.0, teacher_scales=[0.0, 2.0, 0.0])
    other = DataSource(path, teacher_scales=[0.0, 0.0, 1.0])
    held_out = {"eval_every": 1, "eval_data": path, "eval_batches": 1, "steps": 1}

    def eval_loss(name, *data):
        finetune(taught_by(home, tmp_path / name, [], [0.0] * 3, data=list(data), **held_out))
        return next(e["eval_loss"] for e in history(tmp_path / name) if "eval_loss" in e)

    assert eval_loss("both", first, other) == eval_loss("first", replace(first, weight=1.0))


def test_the_estimate_counts_all_teachers_that_some_source_uses(home, tmp_path):  # noqa: F811
    """The first batch is of one source, which may need few of them."""
    path = str(home / "train.jsonl")

    def flops(*scales):
        data = [DataSource(path, teacher_scales=list(each)) for each in scales]
        plans = []
        given = taught_by(home, tmp_path / "never", [], data=data)
        finetune(given, dry_run=True, listen=plans.append)
        (plan,) = [entry for entry in plans if "preflight" in entry]
        return plan["flops_a_step"]

    one, all_three = (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)
    assert flops(one, one) < flops(all_three, all_three)
    assert flops(one, all_three) == flops(all_three, one) == flops(all_three, all_three)


def test_a_teacher_that_no_source_hears_is_named(home, tmp_path):  # noqa: F811
    told = []
    finetune(taught_by(home, tmp_path, [1.0, 0.0, 1.0], steps=1), listen=told.append)
    (warning,) = [entry["warning"] for entry in told if "warning" in entry]
    assert warning.startswith("teacher 2 (lexical ")
    assert warning.endswith("is not run: teacher_scales is 0 for it everywhere")


def test_pretraining_refuses_scales():
    with pytest.raises(InputError, match=r"x\.jsonl: teacher_scales is for fine-tuning"):
        PretrainRecipe("m", "o", [DataSource("x.jsonl", teacher_scales=[1.0])], 1)


def test_a_folder_named_builtin_is_not_the_builtin_encoder(home, tmp_path, monkeypatch):  # noqa: F811
    shutil.copytree(home / "model", tmp_path / "builtin")
    monkeypatch.chdir(tmp_path)
    found = DupMAEEncoder.from_pretrained("./builtin")
    assert found.vocabulary_size == DupMAEEncoder.from_pretrained(home / "model").vocabulary_size
    teachers = Teachers([TeacherSource("lexical", "./builtin")], found)
    assert same(teachers.lexical.lm.state_dict(), found.lm.state_dict())


@pytest.mark.parametrize(
    ("scales", "words"),
    [
        ("[1, 2]", "teacher_scales has 2 numbers, and the recipe has 3 teachers"),
        ("[0, 0, 0]", "one scale above 0 is needed"),
        ("[1, -1, 0]", "give a number of 0 or more for each teacher"),
        ("[1, .nan, 0]", "give a number of 0 or more for each teacher"),
        ("[1, .inf, 0]", "give a number of 0 or more for each teacher"),
        ("[1, many, 0]", "give a number of 0 or more for each teacher"),
        ("[1, true, 0]", "give a number of 0 or more for each teacher"),
        ("3", "teacher_scales"),
        ("{a: 1}", "teacher_scales"),
    ],
)
def test_wrong_scales_are_one_line(tmp_path, scales, words):
    path = tmp_path / "r.yaml"
    path.write_text(
        "model: m\noutput: o\nsteps: 1\nlosses: {teacher_joint: 1}\n"
        "teachers: [{kind: dense, model: a}, {kind: lexical, model: b}, {kind: bm25}]\n"
        f"data: [{{path: some.jsonl, teacher_scales: {scales}}}]\n"
    )
    with pytest.raises(InputError) as caught:
        load_recipe(path, FinetuneRecipe)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scales_that_nothing_uses_are_refused(home, tmp_path):  # noqa: F811
    with pytest.raises(InputError, match="the recipe has none; leave it out"):
        taught_by(home, tmp_path, [1.0, 1.0, 1.0], losses={"teacher_vector": 1.0})


def test_every_source_needs_a_teacher_that_scores(home, tmp_path):  # noqa: F811
    own = [0.0, 0.0, 0.0]
    with pytest.raises(InputError, match="a teacher with a scale above 0"):
        taught_by(home, tmp_path, [], own)
    data = [DataSource("a.jsonl", teacher_scales=[1.0, 0.0, 0.0]), DataSource("b.jsonl")]
    with pytest.raises(InputError, match=r"number 2 \(b\.jsonl\): has no teacher_scales, and all"):
        taught_by(home, tmp_path, [], own, data=data)
    assert taught_by(home, tmp_path, [1.0, 0.0, 0.0], own).used_scales([1.0, 0.0, 0.0]) == [1.0]
