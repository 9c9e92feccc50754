"""The stages of the paper's fine-tuning, a step each; and groups that a resume goes on with."""

from __future__ import annotations

import itertools
import json
import lzma
from pathlib import Path

import pytest

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.training import finetune as finetuning
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.recipe_files import load_recipe
from dupmae_toolkit.training.running.history import history
from dupmae_toolkit.training.sources import DataSource
from tests.families import save_checkpoint, sentences
from tests.support import Killed

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marco")
    save_checkpoint(folder / "model")
    texts = sentences(60, words=8)
    (folder / "collection.tsv").write_text("".join(f"{i}\t{t}\n" for i, t in enumerate(texts)))
    queries = "".join(f"{i}\t{texts[i][:20]}\n" for i in range(12))
    (folder / "queries.train.tsv").write_text(queries)
    (folder / "qrels.train.tsv").write_text("".join(f"{i}\t0\t{i}\t1\n" for i in range(12)))
    rows = [
        {
            "query_id": str(i),
            "query": texts[i][:20],
            "positives": [{"id": str(i), "title": "", "text": texts[i], "score": 9}],
            "negatives": [
                {"id": str(j), "title": "", "text": texts[j], "score": j / 10}
                for j in range(12 + 3 * i, 15 + 3 * i - i % 2)
            ],
        }
        for i in range(12)
    ]
    for name in ("negatives", "scored"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def one_step(home, output, **more):
    """What makes a recipe a step of four short texts on a small model."""
    return {
        "model": str(home / "model"),
        "output": str(output),
        "steps": "1",
        "log_every": "1",
        "batch_size": "4",
        "query_length": "16",
        "document_length": "32",
        "precision": "fp32",
        **more,
    }


@pytest.mark.parametrize(("stage", "loss"), [(1, "joint"), (2, "joint"), (3, "kl_joint")])
def test_each_stage_makes_a_step(home, tmp_path, stage, loss):
    changes = one_step(home, tmp_path / "out", chunk_size="3")
    path = RECIPES / f"finetune-stage{stage}.yaml"
    output = finetune(load_recipe(path, FinetuneRecipe, changes, str(home)))
    entry = next(e for e in history(tmp_path / "out") if "loss" in e)
    assert entry[loss] == pytest.approx(entry["loss"], rel=1e-4)
    assert entry["loss"] > 0
    encoder = DupMAEEncoder.from_pretrained(output)
    assert (encoder.dense_dim, encoder.config.top_k, encoder.config.normalize) == (384, 384, False)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """What the built-in encoder's recipes read: four files of texts, and a BEIR data set."""
    folder = tmp_path_factory.mktemp("texts")
    rows = [
        {"title": words[:20], "text": f"{words.capitalize()}. " * 4}
        for words in sentences(40, words=8)
    ]
    for name in ("arxiv-abstracts", "medline-abstracts", "medquad-pairs", "wikipedia-leads"):
        with lzma.open(folder / f"{name}.jsonl.xz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    for name, keys in (("docstrings", ("title", "text")), ("docstring-pairs", PAIR)):
        lines = [json.dumps(dict(zip(keys, row.values(), strict=True))) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    mined = [
        {
            "query": row["title"],
            "positives": [{"text": row["text"]}],
            "negatives": [{"text": other["text"]}],
        }
        for row, other in itertools.pairwise(rows)
    ]
    for name in ("mined-medquad", "mined-docstrings"):
        lines = [json.dumps(group) for group in mined]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "scifact" / "qrels").mkdir(parents=True)
    for name, key in (("corpus", "text"), ("queries", "title")):
        lines = [json.dumps({"_id": str(i), "text": row[key]}) for i, row in enumerate(rows)]
        (folder / "scifact" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    judged = "".join(f"{i}\t{i}\t1\n" for i in range(20))
    (folder / "scifact" / "qrels" / "fit.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return folder


PAIR = ("query", "positive")
BUILTIN = ["finetune", "distil", "near", "fitted", "joined", "further", "mined"]


@pytest.mark.parametrize("name", [f"builtin-{name}" for name in BUILTIN])
def test_each_recipe_of_the_builtin_encoder_makes_a_step_from_every_kind_of_source(
    home, texts, tmp_path, monkeypatch, name
):
    monkeypatch.setattr(finetuning, "JOINED_TEXTS", 400)  # at least the dimensions
    path = RECIPES / f"{name}.yaml"
    changes = one_step(home, tmp_path / "out", frozen_layers="0")
    plain = load_recipe(path, FinetuneRecipe, changes, str(texts))
    models = [i for i, teacher in enumerate(plain.teachers, 1) if teacher.kind != "bm25"]
    changes |= {f"teachers.{i}.model": str(home / "model") for i in models}
    for source in {source.kind: source for source in plain.data}.values():
        recipe = load_recipe(path, FinetuneRecipe, changes, str(texts))
        recipe.data, recipe.output = [source], str(tmp_path / source.kind)
        finetune(recipe)
        entry = next(e for e in history(Path(recipe.output)) if "loss" in e)
        assert set(recipe.used_losses) <= set(entry)
        assert entry["loss"] > 0


@pytest.mark.parametrize("name", ["builtin-fitted", "builtin-joined"])
def test_the_training_for_the_fitted_score_leaves_the_claims_that_choose_out(name):
    recipe = load_recipe(RECIPES / f"{name}.yaml", FinetuneRecipe, data="/texts")
    assert recipe.score_weights
    # Where they are not learned, the weights of a search are stated.
    assert bool(recipe.learn_weights) != ("fitted_weights" in recipe.encoder)
    assert not [source for source in recipe.data if source.kind == "beir"]
    assert {source.path.split("/")[2].split("-")[0] for source in recipe.data} == {
        "arxiv",
        "medline",
        "medquad",
        "wikipedia",
    }


def test_groups_in_chunks_go_on_as_if_nothing_had_happened(home, tmp_path):
    def recipe(name):
        return FinetuneRecipe(
            model=str(home / "model"),
            output=str(tmp_path / name),
            data=[DataSource(str(home / "scored.jsonl"), "groups")],
            steps=5,
            batch_size=4,
            save_every=2,
            log_every=1,
            query_length=16,
            document_length=32,
            precision="fp32",
            losses={"aggretriever": 1.0, "kl_joint": 1.0, "self_dense": 1.0},
            negatives=2,
            chunk_size=3,
            flops_document=0.1,
        )

    def die(entry):
        if entry["step"] > 2:
            raise Killed

    whole = finetune(recipe("whole"))
    with pytest.raises(Killed):
        finetune(recipe("killed"), listen=die)
    resumed = finetune(recipe("killed"), resume=True)
    for file in whole.glob("*.safetensors"):
        assert file.read_bytes() == (resumed / file.name).read_bytes()
    keys = ("step", "loss", "kl_joint")
    logs = [
        [[e.get(key) for key in keys] for e in history(tmp_path / name) if "preflight" not in e]
        for name in ("whole", "killed")
    ]
    assert logs[0] == logs[1]
