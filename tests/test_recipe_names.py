"""Recipes by name: which there are, what a name or a path means, and how a training uses both."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dupmae_cli.main import main
from dupmae_cli.recipes import complete_recipe
from dupmae_toolkit import __version__
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training import recipe_names
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.recipe_files import load_recipe
from dupmae_toolkit.training.recipe_names import by_name
from tests.cli_support import run
from tests.families import save_checkpoint, sentences

FILES = {path.stem: path for path in (Path(__file__).parents[1] / "recipes").iterdir()}
CLASSES = {"pretrain": PretrainRecipe, "finetune": FinetuneRecipe}
OTHER = {"pretrain": "finetune", "finetune": "pretrain"}


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def listed(capfd) -> list[dict[str, str]]:
    code, out, err = run(capfd, "recipes", "--json")
    assert (code, err) == (0, "")
    return json.loads(out)["recipes"]


def test_recipes_lists_every_file_on_a_line(empty, capfd):
    code, out, err = run(capfd, "recipes")
    assert (code, err) == (0, "")
    rows = [line.split(maxsplit=2) for line in out.splitlines()]
    assert [row[0] for row in rows] == sorted(FILES)
    assert rows == [[one["name"], one["command"], one["about"]] for one in listed(capfd)]
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_line_says_what_the_file_begins_with_and_which_command_takes_it(name, capfd):
    (one,) = [entry for entry in listed(capfd) if entry["name"] == name]
    assert 30 < len(one["about"]) <= 130
    comment = FILES[name].read_text("utf-8").partition("\n\n")[0]
    assert " ".join(comment.replace("\n#", "").split()).startswith(f"# {one['about']}")
    command = one["command"]
    assert load_recipe(name, CLASSES[command], data="x") == load_recipe(
        FILES[name], CLASSES[command], data="x"
    )
    with pytest.raises(InputError, match=f"^{name}: this recipe is for `dupmae {command}`, not"):
        load_recipe(name, CLASSES[OTHER[command]], data="x")
    with pytest.raises(InputError):
        load_recipe(FILES[name], CLASSES[OTHER[command]], data="x")
    output = yaml.safe_load(FILES[name].read_bytes())["output"]
    assert recipe_names.recipe_named(name).output == output


@pytest.mark.parametrize("name", sorted(FILES))
def test_recipes_prints_a_file_byte_for_byte(name, empty, capfdbinary):
    code, out, err = run(capfdbinary, "recipes", name)
    assert (code, out, err) == (0, FILES[name].read_bytes(), b"")
    code, out, _ = run(capfdbinary, "recipes", name, "--json")
    found = json.loads(out)
    assert found["name"] == name
    assert found["text"].encode() == FILES[name].read_bytes()
    assert found["command"] in CLASSES


def test_no_line_end_or_encoding_of_stdout_changes_it(monkeypatch):
    """As on Windows, and in a notebook whose stdout takes only text."""
    for stream in (io.TextIOWrapper(io.BytesIO(), "latin-1", newline="\r\n"), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as stopped:
            main(["recipes", "finetune-stage1"])
        assert stopped.value.code == 0
        text = FILES["finetune-stage1"].read_bytes()
        if isinstance(stream, io.StringIO):
            assert stream.getvalue().encode() == text
        else:
            assert stream.buffer.getvalue() == text


def test_a_printed_recipe_is_a_recipe_to_change(empty, capfdbinary):
    (empty / "my.yaml").write_bytes(run(capfdbinary, "recipes", "pretrain-beir")[1])
    mine = load_recipe("my.yaml", PretrainRecipe, data="x")
    assert mine == load_recipe("pretrain-beir", PretrainRecipe, data="x")


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("builtin-naer", ["builtin-near"]),
        ("BUILTIN-NEAR", ["builtin-near"]),
        ("builtin-near.yaml", ["builtin-near"]),
        ("recipes/builtin-near.yaml", ["builtin-near"]),
        ("msmarco", ["pretrain-msmarco"]),
        ("stage2", ["finetune-stage2"]),
        ("pretrain", [name for name in FILES if "pretrain" in name]),
        ("beir pretrain", ["pretrain-beir"]),
        ("zzz", []),
        ("a", []),
        ("", []),
        ("..", []),
        ("../../../../etc/passwd", []),
        ("../recipes/../recipe_names.py", []),
        ("*", []),
        ("x\ny\x1b[31m", []),
        ("x\0y", []),
        ("n" * 5000, []),
        ("é\udcff", []),
    ],
)
def test_a_name_that_there_is_not_is_refused_in_one_line_with_near_ones(empty, capfd, given, near):
    code, out, err = run(capfd, "recipes", given)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert len(err) < 1200
    assert "no recipe has this name; " in err
    assert all(name in err for name in near)
    if near:
        assert err.endswith("? `dupmae recipes` lists all\n")
    else:
        assert err.endswith("no recipe has this name; `dupmae recipes` lists them\n")


def test_a_file_wins_over_a_name_and_a_folder_does_not(empty):
    given = "builtin-near"
    named = by_name(given)
    assert named is not None
    assert named.text == FILES[given].read_bytes()
    assert by_name(Path(given)) == named
    # A training with `output: builtin-near` makes such a folder; the name must work for --resume.
    (empty / given).mkdir()
    assert by_name(given) == named
    (empty / given).rmdir()
    (empty / given).write_text("model: m\noutput: o\nsteps: 3\ndata: [d]\n")
    assert by_name(given) is None
    assert load_recipe(given, FinetuneRecipe).steps == 3


@pytest.mark.parametrize(
    "given", ["./x", "x/y", "x.yaml", "x.YML", "recipe.json", "/nowhere/at/all", "n" * 5000 + "/x"]
)
def test_what_looks_like_a_path_is_one_even_if_it_is_not_there(empty, given):
    assert by_name(given) is None
    with pytest.raises(InputError, match="cannot be read") as caught:
        load_recipe(given, PretrainRecipe)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "given", ["builtin-near.yaml", "recipes/builtin-near.yaml", "./builtin-near"]
)
def test_a_missing_file_that_is_called_like_a_recipe_gets_its_name(empty, given):
    with pytest.raises(InputError) as caught:
        load_recipe(given, FinetuneRecipe)
    assert str(caught.value) == (
        f"{given}: no such file; the recipe that comes with the package is called builtin-near"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("builtin-naer", "builtin-naer: no such file, and no recipe has this name; did you mean"),
        (".", ".: is a folder, and no recipe has this name; `dupmae recipes` lists them"),
        ("", "'': no such file, and no recipe has this name; `dupmae recipes` lists them"),
        ("x\0y", r"x\x00y: no such file, and no recipe has this name"),
        ("n" * 5000, "n: no such file, and no recipe has this name"),
    ],
)
def test_an_unknown_recipe_of_a_training_is_refused_in_one_line(empty, capfd, given, message):
    for command in CLASSES:
        code, out, err = run(capfd, command, given)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
    assert list(empty.iterdir()) == []


def test_an_installation_without_recipes_says_so(empty, capfd, monkeypatch):
    """As where a checkout has a text file in place of the link."""
    for folder in (empty / "nowhere", Path(__file__)):
        monkeypatch.setattr(recipe_names, "_FOLDER", folder)
        code, out, err = run(capfd, "recipes", "builtin-near")
        assert (code, out) == (2, "")
        assert err.endswith(
            ": no recipe has this name; this installation has no recipes: name a file\n"
        )
        code, out, err = run(capfd, "recipes")
        assert (code, out) == (2, "")
        assert err.startswith("dupmae: this installation has no recipes; the repository's folder ")


def test_a_shell_completes_names():
    assert complete_recipe("") == sorted(FILES)
    assert complete_recipe("finetune-") == [f"finetune-stage{i}" for i in (1, 2, 3)]
    assert complete_recipe("zzz") == []


def test_recipes_loads_nothing_heavy():
    script = (
        "import sys\nfrom dupmae_cli.main import main\n"
        "try: main(['recipes'])\n"
        "except SystemExit as error: print(error.code, {'torch', 'numpy'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 set()"


@pytest.fixture
def texts(empty):
    """A start and texts, in the current folder."""
    save_checkpoint(empty / "model")
    with (empty / "texts.jsonl").open("w", encoding="utf-8") as file:
        for i in range(20):
            title, *rest = sentences(5, seed=i)
            file.write(json.dumps({"title": title, "text": " ".join(rest)}) + "\n")
    return empty


TRAININGS = {
    "pretrain-beir": [
        *("pretrain", "--data", "texts.jsonl"),
        *("epochs=0", "max_length=30", "eval_every=0", "save_every=1"),
    ],
    "finetune-stage1": [
        *("finetune", "data=[{path: texts.jsonl, kind: title}]"),
        *("query_length=20", "document_length=30", "active_terms=10", "save_every=1"),
    ],
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_by_name_is_that_of_the_file(texts, capfd, name):
    command, *changes = TRAININGS[name]

    def words(recipe, steps=2, **more):
        given = [*changes, f"steps={steps}", "model=model", "batch_size=4", "precision=fp32"]
        given += [f"{key}={value}" for key, value in more.items()]
        sets = [w for one in given if "=" in one for w in ("--set", one)]
        return [command, recipe, *(one for one in given if "=" not in one), *sets]

    said = (
        f"recipe   {name}, from dupmae-toolkit {__version__}; relative paths in it start at {texts}"
    )
    code, out, err = run(capfd, *words(name), "--dry-run")
    assert (code, out) == (0, "")
    assert err.splitlines()[0] == said
    assert err.count("recipe   ") == 1
    assert {path.name for path in texts.iterdir()} == {"model", "texts.jsonl"}
    output = Path(recipe_names.recipe_named(name).output)
    code, out, err = run(capfd, *words(name))
    assert (code, out) == (0, f"{output / 'final'}\n")
    assert err.splitlines()[0] == said
    code, _, err = run(capfd, *words(name, steps=4), "--resume")
    assert code == 0
    assert err.splitlines()[0] == said
    assert "step 2/4  resumed 1" in err
    code, _, err = run(capfd, *words(FILES[name], steps=2, output="by-path"))
    assert (code, "recipe   " in err) == (0, False)
    code, _, err = run(capfd, *words(FILES[name], steps=4, output="by-path"), "--resume")
    assert code == 0
    one, other = (folder / "final/model.safetensors" for folder in (output, Path("by-path")))
    assert one.read_bytes() == other.read_bytes()


def test_a_file_that_hides_a_recipe_is_said(texts, capfd):
    (texts / "finetune-stage1").write_text(
        "model: model\noutput: mine\nsteps: 1\ndata: [texts.jsonl]\nbatch_size: 2\n"
        "query_length: 20\ndocument_length: 30\n"
    )
    code, out, err = run(capfd, "finetune", "finetune-stage1", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["steps"] == 1
    assert err.splitlines()[0] == (
        "recipe   the file finetune-stage1 in this folder, not the package's recipe of that name"
    )


@pytest.mark.parametrize(
    ("command", "name", "before"),
    [
        ("pretrain", "pretrain-msmarco", "pretrain pretrain-general"),
        ("finetune", "finetune-stage1", "pretrain pretrain-msmarco"),
        ("finetune", "finetune-stage3", "finetune finetune-stage2"),
        ("finetune", "builtin-near", "finetune builtin-distil"),
    ],
)
def test_a_step_that_was_skipped_is_named(empty, capfd, command, name, before):
    model = load_recipe(name, CLASSES[command], data="x").model
    (empty / "copy.yaml").write_bytes(FILES[name].read_bytes())
    for recipe in (name, "copy.yaml"):
        code, out, err = run(capfd, command, recipe, "--data", "x")
        assert (code, out) == (2, "")
        assert err == (
            f"dupmae: {model}: no such folder in {empty}; `dupmae {before}`, run there, makes it; "
            "or name another start with --set model=FOLDER (changes=…)\n"
        )
    assert [path.name for path in empty.iterdir()] == ["copy.yaml"]


def test_the_data_that_a_recipe_needs_is_asked_for_by_its_name(empty, capfd):
    code, out, err = run(capfd, "finetune", "finetune-stage2")
    assert (code, out) == (2, "")
    assert err == ("dupmae: finetune-stage2: uses {data}; give the folder with --data (data=…)\n")


def test_a_start_that_no_recipe_makes_is_refused_as_ever(texts, capfd):
    words = ["--data", "texts.jsonl", "--set", "model=checkpoints/of/mine"]
    code, _, err = run(capfd, "pretrain", "pretrain-beir", *words)
    assert code == 2
    assert err == (
        "dupmae: checkpoints/of/mine: no such folder; name a checkpoint's folder or a hub id\n"
    )
