"""Every shipped pre-training recipe: it loads, its keys are explained, and it makes a step."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.pretrain import pretrain
from dupmae_toolkit.training.recipe import PretrainRecipe
from dupmae_toolkit.training.recipe_files import load_recipe
from tests.families import save_checkpoint, sentences

RECIPES = Path(__file__).parent.parent / "recipes"
SHIPPED = sorted(path.name for path in RECIPES.glob("*pretrain*.yaml"))
#: What each of the paper's own recipes says.
PAPERS = {
    "pretrain-general.yaml": {"max_length": 512, "batch_size": 256, "epochs": 8},
    "pretrain-msmarco.yaml": {"max_length": 150, "batch_size": 1024, "epochs": 20},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    save_checkpoint(folder / "model")
    with (folder / "a.jsonl").open("w", encoding="utf-8") as file:
        for i in range(60):
            file.write(json.dumps({"text": " ".join(sentences(4, seed=i))}) + "\n")
    return folder


def changes(home, output, **more):
    return {
        "model": str(home / "model"),
        "output": str(output),
        "data": json.dumps([str(home / "a.jsonl")]),
        "batch_size": "4",
        "max_length": "40",
        "precision": "fp32",
        **more,
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_makes_a_step(home, tmp_path, name):
    more = {"steps": "1", "epochs": "0", "fresh_head": "false", "head_steps": "0"}
    more |= {"eval_every": "1", "eval_share": "0.3", "mean_layer": "0"}
    known = PretrainRecipe.__dataclass_fields__
    more = {key: value for key, value in more.items() if key in known}
    recipe = load_recipe(
        RECIPES / name, PretrainRecipe, changes(home, tmp_path / "out", **more), data="none"
    )
    heard = []
    output = pretrain(recipe, listen=heard.append)
    assert (output / "model.safetensors").exists()
    assert [entry["step"] for entry in heard if "eval_loss" in entry] == [0, 1]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_key_of_a_shipped_recipe_stands_under_a_comment(name):
    lines = (RECIPES / name).read_text("utf-8").splitlines()
    values = yaml.safe_load("\n".join(lines))
    explained, since = set(), 99
    for line in lines:
        since = 0 if line.startswith("#") else since + 1
        # One comment may explain a few keys that belong together.
        if line and not line.startswith((" ", "-", "#")) and since <= 4:
            explained.add(line.split(":")[0])
    assert set(values) <= explained
    assert PAPERS.get(name, {}).items() <= values.items()


@pytest.mark.parametrize("packing", ["passage", "corpus"])
def test_epochs_are_as_many_steps_as_the_examples_fill(home, tmp_path, packing):
    more = {"epochs": "1.5", "packing": packing, "eval_every": "0", "eval_share": "0"}
    made = changes(home, tmp_path / "out", **more)
    recipe = load_recipe(RECIPES / "pretrain-beir.yaml", PretrainRecipe, made, data="none")
    assert (recipe.steps, recipe.epochs) == (0, 1.5)
    heard = []
    pretrain(recipe, listen=heard.append)
    count = 60
    if packing == "corpus":
        from dupmae_toolkit.training.data.packing import Packer
        from tests.families import make_tokenizer

        texts = [" ".join(sentences(4, seed=i)) for i in range(60)]
        count = len(list(Packer(make_tokenizer(), 40, across=True)(texts)))
    assert recipe.steps == math.ceil(1.5 * count / 4)
    written = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert written["steps"] == recipe.steps


def test_steps_and_epochs_together_are_refused(home, tmp_path):
    made = changes(home, tmp_path / "out", steps="5")
    with pytest.raises(InputError, match="steps is 5 and epochs 8; give one of them"):
        load_recipe(RECIPES / "pretrain-beir.yaml", PretrainRecipe, made, data="none")
    made["epochs"] = "0"
    made["steps"] = "0"
    with pytest.raises(InputError, match="steps is 0; at least 1 is needed"):
        load_recipe(RECIPES / "pretrain-beir.yaml", PretrainRecipe, made, data="none")


def test_texts_of_special_tokens_alone_are_refused(home, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "[SEP] [MASK]"}\n' * 5)
    made = changes(home, tmp_path / "out", steps="1", epochs="0")
    made["data"] = json.dumps([str(tmp_path / "a.jsonl")])
    recipe = load_recipe(RECIPES / "pretrain-msmarco.yaml", PretrainRecipe, made, data="none")
    with pytest.raises(InputError, match="its first 5 texts contain only special tokens"):
        pretrain(recipe)
    assert not (tmp_path / "out").exists()


def test_a_model_with_more_rows_than_its_tokenizer_has_tokens_is_trained(home, tmp_path):
    """As where rows were added for the hardware's sake; they stay without a token."""
    save_checkpoint(tmp_path / "wide", rows=200)
    made = changes(home, tmp_path / "out", steps="2", epochs="0", eval_every="1")
    made["model"] = str(tmp_path / "wide")
    recipe = load_recipe(RECIPES / "pretrain-beir.yaml", PretrainRecipe, made, data="none")
    heard = []
    pretrain(recipe, listen=heard.append)
    losses = [entry["eval_loss"] for entry in heard if "eval_loss" in entry]
    assert len(losses) == 3
    assert all(map(math.isfinite, losses))
