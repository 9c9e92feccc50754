"""Recipes that grow, that repeat keys, or that ask for Python's objects are refused at once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.recipe import PretrainRecipe
from dupmae_toolkit.training.recipe_files import load_recipe

GOOD = "model: builtin\noutput: out\nsteps: 5\ndata: [c.jsonl]\n"
LEVELS = "abcdefghijkl"


def doubling(first: str, each: str) -> str:
    """Twelve lines that stand for ten values to the power of eleven."""
    lines = [f"{LEVELS[0]}: &{LEVELS[0]} {first}"]
    for below, name in itertools.pairwise(LEVELS):
        lines.append(f"{name}: &{name} " + each.format(", ".join([f"*{below}"] * 10)))
    return "\n".join(lines) + "\n"


def refusal(tmp_path: Path, text: str, changes: dict[str, str] | None = None) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        load_recipe(path, PretrainRecipe, changes)
    assert len(str(caught.value)) < 1200
    return str(caught.value)


def test_a_recipe_without_any_of_this_is_read(tmp_path):
    (tmp_path / "recipe.yaml").write_text("\ufeff" + GOOD, "utf-8")
    assert load_recipe(tmp_path / "recipe.yaml", PretrainRecipe).steps == 5


@pytest.mark.parametrize("key", ["data", "model", "settings", "encoder"])
def test_aliases_that_stand_for_billions_of_values_are_counted_not_made(tmp_path, key):
    bomb = doubling("[x, x, x, x, x, x, x, x, x, x]", "[{}]")
    text = bomb + GOOD.replace("data: [c.jsonl]\n", "") + "data: [c.jsonl]\n"
    text += f"more: {{{key}: *l}}\n"
    assert "more than 100,000 values" in refusal(tmp_path, text)


def test_mappings_that_merge_mappings_are_refused(tmp_path):
    bomb = doubling("{x: 1}", "{{<<: [{}]}}")
    assert "merges mappings" in refusal(tmp_path, bomb + GOOD)


@pytest.mark.parametrize(
    "text",
    [GOOD + "steps: 7\n", GOOD + "encoder: {top_k: 5, 'top_k': 6}\n", "steps: 1\n" + GOOD],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path, text):
    message = refusal(tmp_path, text)
    assert "appears twice" in message
    assert "recipe.yaml:" in message


@pytest.mark.parametrize("tag", ["object/apply:os.system", "object/new:list", "name:os.system"])
def test_tags_of_python_make_nothing(tmp_path, tag):
    trace = tmp_path / "trace"
    text = GOOD + f"seed: !!python/{tag} ['touch {trace}']\n"
    assert "could not determine a constructor" in refusal(tmp_path, text)
    assert "could not determine" in refusal(
        tmp_path, GOOD, {"seed": f"!!python/{tag} ['touch {trace}']"}
    )
    assert not trace.exists()


def test_a_file_of_megabytes_is_no_recipe(tmp_path):
    assert "are too many for a recipe" in refusal(tmp_path, GOOD + "# " + "x" * (1 << 20))


@pytest.mark.parametrize("value", ["x" * 100_000, "[" + "[], " * 900 + "]", "9" * 5000])
def test_a_value_of_any_length_gives_one_short_line(tmp_path, value):
    for key in ("steps", "model", "precision", "warmup", "data"):
        text = "\n".join(line for line in GOOD.split("\n") if not line.startswith(key))
        refusal(tmp_path, f"{text}\n{key}: {value}\nunknown: 1\n")
