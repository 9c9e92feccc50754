"""The loss on term weights: against its formula, for a share of the batch, in whole trainings."""

from __future__ import annotations

import json

import pytest
import torch

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.tokens import pad, tokenize
from dupmae_toolkit.training import pair_model
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.losses import relative_error
from dupmae_toolkit.training.pair_model import with_lexical
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.running.history import history
from dupmae_toolkit.training.sources import DataSource, TeacherSource
from dupmae_toolkit.training.teachers import Side, Teachers
from tests.families import save_checkpoint, sentences, write_titled
from tests.support import Killed


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    for name, seed in (("model", 0), ("other", 1)):
        save_checkpoint(folder / name, seed=seed)
    write_titled(folder / "train.jsonl")
    return folder


def recipe(home, output, teacher="other", **changes):
    settings = {
        "model": str(home / "model"),
        "output": str(output),
        "data": [DataSource(str(home / "train.jsonl"))],
        "steps": 8,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "save_every": 4,
        "log_every": 1,
        "precision": "fp32",
        "dropout": 0.0,
        "query_length": 20,
        "document_length": 40,
        "losses": {"teacher_terms": 1.0},
        "teachers": [TeacherSource("lexical", str(home / teacher), scale=0)],
    }
    return FinetuneRecipe(**{**settings, **changes})


def errors(folder):
    return [entry["teacher_terms"] for entry in history(folder) if "loss" in entry]


def test_the_error_is_relative_to_the_teachers_weights():
    mine = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.0, 0.0], [3.0, 4.0, 0.0]])
    theirs = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    assert relative_error(mine, theirs).tolist() == pytest.approx([8 / 5, 0.25, 0.0])


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_model_that_is_its_own_teacher_starts_without_error(home, tmp_path, share):
    finetune(recipe(home, tmp_path, "model", steps=1, lexical_share=share))
    assert errors(tmp_path) == [pytest.approx(0, abs=1e-8)]


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_the_model_learns_the_teachers_weights(home, tmp_path, share):
    output = finetune(recipe(home, tmp_path, lexical_share=share, steps=12))
    found = errors(tmp_path)
    assert found[-1] < 0.8 * found[0]
    texts = sentences(4, seed=77, words=9)
    other, before, after = (
        DupMAEEncoder.from_pretrained(folder, precision="fp32").encode_documents(texts).lexical
        for folder in (home / "other", home / "model", output)
    )
    assert abs(after - other).sum() < abs(before - other).sum()


def test_the_first_error_is_that_of_the_encoders_own_vectors(home, tmp_path):
    """One batch holds all texts, so its loss can be computed from vectors that are encoded."""
    with (home / "train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(8), strict=False)]
    path = tmp_path / "eight.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    finetune(recipe(home, tmp_path / "out", data=[DataSource(str(path))], steps=1))
    ours, theirs = (
        DupMAEEncoder.from_pretrained(
            home / name, precision="fp32", max_length=40, query_max_length=20, top_k=0
        )
        for name in ("model", "other")
    )
    means = []
    for side, key in (("encode_queries", "title"), ("encode_documents", "text")):
        texts = [row[key] for row in rows]
        a, b = (getattr(e, side)(texts).lexical.toarray().astype("f8") for e in (ours, theirs))
        means.append((((a - b) ** 2).sum(1) / (b**2).sum(1)).mean())
    assert errors(tmp_path / "out") == [pytest.approx(sum(means) / 2, rel=1e-4)]


def test_a_share_leaves_the_other_losses_as_they_are(home, tmp_path):
    teachers = [
        TeacherSource("dense", str(home / "other")),
        TeacherSource("lexical", str(home / "model"), scale=0),
    ]
    losses = {"dense": 1.0, "teacher_dense": 1.0, "teacher_vector": 1.0, "teacher_terms": 1.0}
    seen = []
    for name, share in (("all", 1.0), ("some", 0.3), ("chunks", 0.3)):
        chunk = 3 if name == "chunks" else 0
        changes = {"teachers": teachers, "losses": losses, "lexical_share": share}
        finetune(recipe(home, tmp_path / name, steps=1, chunk_size=chunk, **changes))
        (entry,) = [e for e in history(tmp_path / name) if "grad_norm" in e]
        seen.append([entry[key] for key in losses])
    assert seen[1] == pytest.approx(seen[0], rel=1e-5, abs=1e-8)
    assert seen[2] == pytest.approx(seen[1], rel=1e-5, abs=1e-8)


def test_a_teacher_that_is_only_imitated_does_not_score(home, tmp_path):
    dense = TeacherSource("dense", str(home / "other"))
    found = []
    for name, scale in (("without", None), ("silent", 0.0), ("heard", 1.0)):
        more = [] if scale is None else [TeacherSource("lexical", str(home / "other"), scale=scale)]
        losses = {"teacher_dense": 1.0} | ({"teacher_terms": 1.0} if more else {})
        finetune(recipe(home, tmp_path / name, teachers=[dense, *more], losses=losses, steps=1))
        (entry,) = [e for e in history(tmp_path / name) if "grad_norm" in e]
        found.append(entry["teacher_dense"])
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[2] != pytest.approx(found[0], rel=1e-3)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.3, 0.01])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_texts_with_terms_are_the_same_ones_over_any_number_of_processes(
    monkeypatch, share, parts
):
    whole = with_lexical(32, share).tolist()
    assert len(whole) in (int(32 * share), int(32 * share) + 1)
    found = []
    for part in range(parts):
        monkeypatch.setattr(pair_model, "own_part", lambda part=part: part)
        here = with_lexical(32 // parts, share).tolist()
        assert here, "a process has at least one, so that all compute alike"
        found += [part * 32 // parts + row for row in here]
    if 32 // parts * share >= 1:
        assert found == whole


def test_a_killed_training_goes_on_as_if_nothing_had_happened(home, tmp_path):
    def die(entry):
        if entry.get("step") == 5 and "loss" in entry:
            raise Killed

    whole, halved = (
        recipe(home, tmp_path / name, lexical_share=0.25) for name in ("whole", "halved")
    )
    finetune(whole)
    with pytest.raises(Killed):
        finetune(halved, listen=die)
    finetune(halved, resume=True)
    assert errors(tmp_path / "halved") == pytest.approx(errors(tmp_path / "whole"), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lexical_share": 0.0}, "lexical_share is 0"),
        ({"lexical_share": 1.5}, "lexical_share"),
        ({"lexical_share": -0.1}, "lexical_share"),
        ({"lexical_share": 0.5, "losses": {"joint": 1.0}}, "joint needs the lexical"),
        ({"lexical_share": 0.5, "losses": {"lexical": 1.0, "dense": 1.0}}, "lexical needs the"),
        ({"lexical_share": 0.5, "losses": {"self_dense": 1.0}}, "self_dense needs the lexical"),
        ({"lexical_share": 0.5, "flops_document": 0.1}, "flops_document needs the lexical"),
        ({"lexical_share": 0.5, "l1_query": 0.1}, "l1_query needs the lexical"),
        ({"lexical_share": 0.5, "score_weights": [30, 1, 1]}, "score_weights needs the lexical"),
        ({"lexical_share": 0.5, "losses": {"teacher_dense": 1.0}}, "above 0"),
        ({"losses": {"teacher_dense": 1.0, "teacher_terms": 1.0}}, "teacher_dense needs a teacher"),
        ({"teachers": [TeacherSource("bm25")]}, "teacher_terms needs a teacher of kind 'lexical'"),
        ({"teachers": []}, "needs teachers"),
    ],
)
def test_what_a_share_cannot_serve_is_refused(home, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        recipe(home, tmp_path, **changes)


def test_a_model_without_a_lexical_head_is_refused(home, tmp_path):
    with pytest.raises(InputError, match="teacher_terms needs a lexical head"):
        finetune(recipe(home, tmp_path, encoder={"lexical_head": "none"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": {"activation": "relu"}}, "activation is 'relu'"),
        ({"encoder": {"lexical_head": "projection"}}, "lexical_head is 'projection'"),
        ({"prune": True}, "prune is True"),
    ],
)
def test_a_model_that_could_not_keep_its_own_terms_is_refused(home, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        finetune(recipe(home, tmp_path, **changes))


def test_a_share_without_the_loss_is_refused(home, tmp_path):
    with pytest.raises(InputError, match="only the loss teacher_terms"):
        recipe(home, tmp_path, losses={"dense": 1.0}, lexical_share=0.5)


def test_the_builtin_encoder_teaches_by_its_name():
    """The package's recipes name it so."""
    encoder = DupMAEEncoder.from_pretrained("builtin", precision="fp32")
    teacher = Teachers([TeacherSource("lexical", "builtin", scale=0)], encoder).lexical
    texts = ["the star and the moon", "a river of water"]
    ids, mask = pad(tokenize(encoder.tokenizer, texts, 20).ids, encoder.pad_id)
    with torch.no_grad():
        expected = encoder(ids, mask).lexical
    torch.testing.assert_close(teacher(Side(ids, mask)), expected)
