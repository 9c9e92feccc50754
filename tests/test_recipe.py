"""Recipes: what is read, what is overridden, and how each mistake is named in one line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.recipe_files import load_recipe
from dupmae_toolkit.training.sources import DataSource, TeacherSource

RECIPES = Path(__file__).parent.parent / "recipes"
SMALL = """\
model: here
output: there
steps: 10
data:
  - "{data}/a.jsonl"
  - {path: b.jsonl, kind: sentence, weight: 2}
"""


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path, kind=FinetuneRecipe, changes=None, data="texts"):
    with pytest.raises(InputError) as error:
        load_recipe(path, kind, changes, data)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_recipe_is_read_with_its_defaults(tmp_path):
    recipe = load_recipe(write(tmp_path, SMALL), FinetuneRecipe, data="/texts")
    assert recipe.model == "here"
    assert recipe.data == [
        DataSource("/texts/a.jsonl", "title", 1.0, "train"),
        DataSource("b.jsonl", "sentence", 2.0, "train"),
    ]
    assert recipe.learning_rate == 1e-4
    assert recipe.losses == {"joint": 1.0}
    written = asdict(recipe)
    assert written["data"][1] == {
        "path": "b.jsonl",
        "kind": "sentence",
        "weight": 2.0,
        "split": "train",
        "queries": "",
        "corpus": "",
        "words": 0,
        "id": "",
        "title": "",
        "text": "",
        "teacher_scales": [],
    }
    assert FinetuneRecipe(**{**written, "data": recipe.data}) == recipe


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (path.name, PretrainRecipe if "pretrain" in path.name else FinetuneRecipe)
        for path in sorted(RECIPES.glob("*.yaml"))
    ],
)
def test_every_shipped_recipe_is_one(name, kind):
    recipe: Any = load_recipe(RECIPES / name, kind, data="/texts")
    assert recipe.steps > 0 or recipe.epochs > 0
    assert all("{" not in source.path for source in recipe.data)


def test_numbers_that_yaml_reads_as_texts_are_numbers(tmp_path):
    recipe = load_recipe(write(tmp_path, SMALL + "learning_rate: 1e-3\n"), PretrainRecipe, data="x")
    assert recipe.learning_rate == 1e-3
    assert isinstance(recipe.learning_rate, float)
    recipe = load_recipe(write(tmp_path, SMALL + "warmup: 1\n"), PretrainRecipe, data="x")
    assert isinstance(recipe.warmup, float)


def test_weights_of_the_score_are_numbers_however_they_are_written(tmp_path):
    changes = {"score_weights": "[3e1, 1, 0]", "idf_power": "0"}
    recipe = load_recipe(write(tmp_path, SMALL), FinetuneRecipe, changes, "x")
    assert recipe.score_weights == [30.0, 1.0, 0.0]
    assert all(isinstance(weight, float) for weight in recipe.score_weights)
    empty = load_recipe(write(tmp_path, SMALL + "score_weights: []\n"), FinetuneRecipe, data="x")
    assert empty.score_weights == []


@pytest.mark.parametrize("name", [p.name for p in sorted(RECIPES.glob("*finetune*.yaml"))])
def test_the_papers_recipes_train_the_plain_score(name):
    recipe = load_recipe(RECIPES / name, FinetuneRecipe, data="/texts")
    assert (recipe.score_weights, recipe.learn_weights) == ([], 0)


def test_set_overrides_keys_nested_ones_too(tmp_path):
    changes = {
        "steps": "20",
        "losses.lexical": "0.5",
        "encoder.top_k": "64",
        "learning_rate": "3e-5",
        "teachers": "[{kind: bm25, scale: 0.3}]",
        "teachers.1.scale": "2",
        "encoder.prefix": "'passage: '",
    }
    recipe = load_recipe(write(tmp_path, SMALL), FinetuneRecipe, changes, "x")
    assert recipe.steps == 20
    assert recipe.losses == {"lexical": 0.5}
    assert recipe.encoder == {"top_k": 64, "prefix": "passage: "}
    assert recipe.learning_rate == 3e-5
    assert recipe.teachers == [TeacherSource("bm25", scale=2.0)]
    data = {"data": "[{path: '{data}/c.jsonl', kind: beir, split: dev}]"}
    recipe = load_recipe(write(tmp_path, SMALL), FinetuneRecipe, data, "x")
    assert recipe.data == [DataSource("x/c.jsonl", "beir", 1.0, "dev")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"setps": "5"}, "unknown key 'setps'; did you mean 'steps'?"),
        ({"zzz": "5"}, "unknown key 'zzz'; known are model, output, data, steps"),
        ({"model.name": "x"}, "--set model.name (changes=…): model has no keys of its own"),
        ({"data.0": "x"}, "--set data.0 (changes=…): a list of 2 has no entry '0'; count from 1"),
        ({"steps": "[1"}, "--set steps=[1 (changes=…): not YAML ("),
        ({"steps": "[" * 1500}, "not YAML ("),
        ({"steps": "2001-99-99"}, "--set steps=2001-99-99 (changes=…): not YAML ("),
        ({"": "5"}, "unknown key ''"),
        ({"steps": ""}, "the key 'steps' is missing"),
        ({"steps": "0"}, "steps is 0; at least 1 is needed"),
        ({"steps": "-3"}, "steps is -3; at least 1 is needed"),
        ({"steps": "1.5"}, "steps is 1.5; a value of type int is needed"),
        ({"steps": "many"}, "steps is 'many'; a value of type int is needed"),
        ({"steps": "true"}, "steps is True; a value of type int is needed"),
        ({"steps": ".inf"}, "steps is inf; a value of type int is needed"),
        ({"steps": "{a: 1}"}, "steps is {'a': 1}; a value of type int is needed"),
        ({"batch_size": "0"}, "batch_size is 0"),
        ({"seed": "-1"}, "seed is -1"),
        ({"seed": "4294967296"}, "seed is 4294967296"),
        ({"learning_rate": ".nan"}, "learning_rate is nan"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; a value of type float is needed"),
        ({"learning_rate": "true"}, "learning_rate is True"),
        ({"warmup": "1.1"}, "warmup is 1.1; give a share between 0 and 1"),
        ({"precision": "fp16"}, "precision is 'fp16'; choose one of ['auto', 'fp32', 'bf16']"),
        ({"model": "5"}, "model is 5; a value of type str is needed"),
        ({"model": ""}, "the key 'model' is missing"),
        ({"fresh_head": "1"}, "fresh_head is 1; a value of type bool is needed"),
        ({"data": "a.jsonl"}, "data is a list of sources"),
        ({"data": "[]"}, "the key 'data' is missing"),
        ({"data": "[{kind: title}]"}, "source 1 under data: has no path"),
        ({"data": "[a, 5]"}, "source 2 under data: has no path"),
        ({"data": "[{path: 5}]"}, "source 1 under data: path is 5"),
        ({"data": "[{path: a, wieght: 5}]"}, "unknown key 'wieght'; did you mean 'weight'?"),
        ({"data": "[{path: a, weight: -1}]"}, "source 1 under data: weight is -1"),
        ({"data": "[{path: a, weight: 0}]"}, "data has no source with a positive weight"),
        ({"data": "[{path: a, kind: answer}]"}, "kind is 'answer'; choose one of ['title', "),
        ({"encoder.topk": "5"}, "encoder: an encoder has no setting 'topk'; did you mean 'top_k'?"),
        ({"encoder": "[a]"}, "encoder is ['a']; a value of type dict"),
        ({"encoder": "{5: 6}"}, "encoder is {5: 6}; a value of type dict"),
        ({"encoder.activation": "tanh"}, "encoder: activation 'tanh'"),
        ({"encoder.max_length": "long"}, "encoder: max_length 'long'"),
        ({"losses": "{}"}, "losses: none has a positive weight"),
        ({"losses.joint": "0"}, "losses: none has a positive weight"),
        ({"losses.joint": "-1"}, "losses: joint is -1.0; give 0 or a positive number"),
        ({"losses.joint": "x"}, "losses is {'joint': 'x'}; a value of type dict[str, float]"),
        ({"losses.jiont": "1"}, "unknown loss 'jiont'; did you mean 'joint'?"),
        ({"losses.teacher_dense": "1"}, "a teacher's loss needs teachers"),
        ({"losses.kl_dense": "1"}, "kl_dense needs a teacher's scores, and texts/a.jsonl has none"),
        (
            {"in_batch": "false"},
            "negatives is 0; in_batch: false compares the documents of a query's own",
        ),
        ({"negatives": "-1"}, "negatives is -1"),
        ({"chunk_size": "-1"}, "chunk_size is -1"),
        ({"dense_sizes": "5"}, "dense_sizes is 5; give a list of different whole numbers"),
        ({"dense_sizes": "[5, 5]"}, "dense_sizes is [5, 5]"),
        ({"dense_sizes": "[0]"}, "dense_sizes is [0]"),
        ({"l1_query": "-1"}, "l1_query is -1"),
        ({"flops_ramp": "2"}, "flops_ramp is 2.0; give a share"),
        ({"query_length": "2"}, "query_length is 2; at least 3"),
        ({"active_terms": "-1"}, "active_terms is -1"),
        ({"score_weights": "5"}, "score_weights is 5; give three numbers of 0 or more: d"),
        ({"score_weights": "abc"}, "score_weights is 'abc'; give three numbers"),
        ({"score_weights": "[1, 2]"}, "score_weights is [1, 2]; give three numbers"),
        ({"score_weights": "[1, 2, x]"}, "score_weights is [1, 2, 'x']; give three numbers"),
        ({"score_weights": "[1, true, 1]"}, "score_weights is [1, True, 1]; give three numbers"),
        ({"score_weights": "[1, -1, 1]"}, "score_weights is [1, -1, 1]; give three numbers"),
        ({"score_weights": "[.inf, 1, 1]"}, "score_weights is [inf, 1, 1]; give three numbers"),
        ({"score_weights": "[.nan, 1, 1]"}, "score_weights is [nan, 1, 1]; give three numbers"),
        ({"score_weights": "{dense: 1}"}, "score_weights is {'dense': 1}; give three numbers"),
        ({"score_weights": "[0, 0, 1]"}, "[0, 0, 1]; without dense and lexical there is n"),
        ({"learn_weights": "5"}, "learn_weights is 5, which only the fitted score has; give score"),
        ({"learn_weights": "true"}, "learn_weights is True; a value of type float"),
        ({"learn_weights": "-1"}, "learn_weights is -1.0; at least 0"),
        ({"idf_power": "0.5"}, "idf_power is 0.5, which only the fitted score has"),
        ({"idf_power": ".nan"}, "idf_power is nan"),
        (
            {"score_weights": "[1, 1, 0]", "learn_weights": "5"},
            "[1.0, 1.0, 0.0]; a weight of 0 would stay there, so learn_weights needs three above 0",
        ),
    ],
)
def test_every_wrong_value_is_refused_in_one_line(tmp_path, changes, message):
    path = write(tmp_path, SMALL)
    text = refusal(path, changes=changes)
    assert message in text
    assert text.startswith((str(path), "--set"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"preset": "bert"},
            "settings: preset 'bert': choose one of ['official', 'paper', 'retromae'",
        ),
        ({"settings.bow_wieght": "1"}, "settings: pre-training has no setting 'bow_wieght'"),
        ({"settings.bow_weight": "heavy"}, "settings: {'bow_weight': 'heavy'} do not fit"),
        ({"settings.mask_pool": "0"}, "settings: mask_pool 0"),
        ({"max_length": "2"}, "max_length is 2; at least 3"),
        ({"head_steps": "-1"}, "head_steps is -1"),
        ({"losses.joint": "1"}, "unknown key 'losses'"),
    ],
)
def test_the_settings_of_pre_training_are_checked_too(tmp_path, changes, message):
    assert message in refusal(write(tmp_path, SMALL), PretrainRecipe, changes)


def test_pre_training_does_not_look_at_the_kind_of_its_sources(tmp_path):
    text = SMALL.replace("sentence", "anything")
    recipe = load_recipe(write(tmp_path, text), PretrainRecipe, data="x")
    assert recipe.data[1].kind == "anything"


@pytest.mark.parametrize("key", ["model", "output", "steps", "data"])
def test_a_missing_key_is_named(tmp_path, key):
    lines = [line for line in SMALL.splitlines() if not line.startswith(key)]
    if key == "data":
        lines = lines[:3]
    path = write(tmp_path, "\n".join(lines))
    assert refusal(path) == f"{path}: the key {key!r} is missing"


def test_data_in_braces_needs_a_folder(tmp_path):
    path = write(tmp_path, SMALL)
    assert refusal(path, data="") == f"{path}: uses {{data}}; give the folder with --data (data=…)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [1", "not YAML ("),
        ("a: b: c", ":1: not YAML (mapping values are not allowed here)"),
        ("- a\n- b\n", "a recipe is a mapping of keys to values"),
        ("", "a recipe is a mapping of keys to values"),
        ("just words", "a recipe is a mapping of keys to values"),
        ("model: \x01", "not YAML ("),
        ("model: !!python/object/apply:os.system [ls]", "not YAML ("),
        ("a: " + "[" * 1500, "not YAML ("),
        ("a: &a [*a]\n" + SMALL, "more than 100,000 values"),
        ("1: 2\n" + SMALL, "unknown key 1"),
        ("? [a, b]\n: c\n" + SMALL, "not YAML ("),
        ("steps: 2001-99-99\n", "not YAML ("),
    ],
)
def test_files_that_are_no_recipes_are_refused(tmp_path, text, message):
    path = write(tmp_path, text)
    found = refusal(path)
    assert message in found
    assert found.startswith(str(path))


def test_a_recipe_that_cannot_be_read_is_named(tmp_path):
    assert "cannot be read (No such file or directory)" in refusal(tmp_path / "none.yaml")
    assert "cannot be read (Is a directory)" in refusal(tmp_path)
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00model")
    assert "not YAML (" in refusal(path)
