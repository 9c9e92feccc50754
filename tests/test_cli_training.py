"""`dupmae pretrain` and `dupmae finetune`: what they print, refuse, and leave behind."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from tests.cli_support import run
from tests.families import save_checkpoint, sentences

COMMANDS = ["pretrain", "finetune"]
both = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    save_checkpoint(folder / "model")
    (folder / "texts").mkdir()
    with (folder / "texts" / "a.jsonl").open("w", encoding="utf-8") as file:
        for i in range(20):
            title, *rest = sentences(6, seed=i)
            file.write(json.dumps({"title": title, "text": " ".join(rest)}) + "\n")
    return folder


@pytest.fixture
def recipe(home, tmp_path, command):
    values = {
        "model": str(home / "model"),
        "output": str(tmp_path / "out"),
        "data": ["{data}/a.jsonl"],
        "steps": 4,
        "batch_size": 3,
        "save_every": 2,
        "log_every": 2,
        "precision": "fp32",
    }
    lengths = {
        "pretrain": {"max_length": 30},
        "finetune": {"query_length": 20, "document_length": 30},
    }
    path = tmp_path / f"{command}.yaml"
    path.write_text(yaml.safe_dump(values | lengths[command]))
    return path


@both
def test_a_training_prints_its_checkpoint_and_tells_its_losses_aside(home, recipe, command, capfd):
    code, out, err = run(capfd, command, recipe, "--data", home / "texts")
    output = recipe.parent / "out"
    assert (code, out) == (0, f"{output / 'final'}\n")
    plan, lines = err.splitlines()[:3], err.splitlines()[3:]
    assert [line.split()[0] for line in plan] == ["steps", "time", "memory"]
    assert [line.split()[:2] for line in lines] == [["step", f"{n}/4"] for n in (2, 4, 4)]
    assert "  loss " in lines[0]
    assert {"pretrain": "mlm ", "finetune": "joint "}[command] in lines[0]
    assert (output / "final" / "model.safetensors").exists()


@both
def test_json_is_one_document(home, recipe, command, capfd):
    code, out, _ = run(capfd, command, recipe, "--data", home / "texts", "--json")
    assert code == 0
    assert json.loads(out) == {"checkpoint": str(recipe.parent / "out" / "final")}


@both
def test_a_dry_run_says_what_the_training_takes_and_leaves_nothing(home, recipe, command, capfd):
    words = [command, recipe, "--data", home / "texts", "--dry-run"]
    code, out, err = run(capfd, *words)
    assert (code, out) == (0, "")
    assert [line.split()[0] for line in err.splitlines()] == ["steps", "time", "memory"]
    assert err.startswith("steps    4 of 3 texts, ")
    code, out, _ = run(capfd, *words, "--json")
    assert code == 0
    plan = json.loads(out)
    assert plan["steps"] == plan["steps_to_go"] == 4
    assert plan["bytes_optimizer"] == 2 * plan["bytes_gradients"] == 8 * plan["parameters"]
    assert not (recipe.parent / "out").exists()


@both
def test_ctrl_c_says_where_a_training_goes_on(home, recipe, command, capfd, monkeypatch):
    from dupmae_toolkit.training.running.step_trainer import StepTrainer

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    words = [command, recipe, "--data", home / "texts"]
    with monkeypatch.context() as patch:
        patch.setattr(StepTrainer, "check_finite", interrupt)
        code, out, err = run(capfd, *words)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "dupmae: interrupted; no checkpoint was written yet"
    assert run(capfd, *words, "--resume")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", interrupt)
        code, out, err = run(capfd, *words, "--resume", "--set", "steps=6")
    assert code == 130
    newest = recipe.parent / "out" / "checkpoint-4"
    assert err.splitlines()[-1] == f"dupmae: interrupted; --resume continues from {newest}"


@both
def test_a_second_training_needs_resume(home, recipe, command, capfd):
    words = [command, recipe, "--data", home / "texts"]
    run(capfd, *words)
    code, out, err = run(capfd, *words)
    assert (code, out) == (2, "")
    assert (
        err
        == f"dupmae: {recipe.parent / 'out'}: holds a training; go on with --resume (resume=True), "
        + ("or remove it\n")
    )
    code, out, err = run(capfd, *words, "--resume", "--set", "steps=6")
    assert code == 0
    assert err.splitlines()[0].startswith("steps    6 (2 to go) of 3 texts, ")
    assert "the recipe changes after step 4: steps 4 → 6" in err.splitlines()[3]
    assert err.splitlines()[4] == "step 4/6  resumed 1"
    assert err.splitlines()[5].startswith("step 6/6  loss ")


@both
def test_set_overrides_the_recipe(home, recipe, command, capfd):
    elsewhere = recipe.parent / "elsewhere"
    words = ["--set", "steps=1", "--set", f"output={elsewhere}", "--set", "encoder.top_k=7"]
    code, out, _ = run(capfd, command, recipe, "--data", home / "texts", *words)
    assert (code, out) == (0, f"{elsewhere / 'final'}\n")
    assert json.loads((elsewhere / "recipe.json").read_text())["steps"] == 1
    config = json.loads((elsewhere / "final" / "config.json").read_text())
    assert config["dupmae"]["top_k"] == 7


@both
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "steps"], "--set steps: write it as KEY=VALUE"),
        (["--set", "=5"], "--set =5: write it as KEY=VALUE"),
        (["--set", "steps=0"], "steps is 0; at least 1 is needed"),
        (["--set", "steps=soon"], "steps is 'soon'; a value of type int is needed"),
        (["--set", "setps=5"], "unknown key 'setps'; did you mean 'steps'?"),
        (["--set", "data=[nowhere.jsonl]"], "nowhere.jsonl"),
        (["--set", "model=nowhere/at/all"], "nowhere/at/all: no such folder"),
        (["--set", "encoder.topk=5"], "no setting 'topk'; did you mean 'top_k'?"),
        (["--stes", "5"], "No such option"),
        (["--data", "nowhere"], "nowhere/a.jsonl"),
    ],
)
def test_every_mistake_is_one_line_and_exit_2(home, recipe, command, capfd, words, message):
    given = [] if "--data" in words else ["--data", home / "texts"]
    code, out, err = run(capfd, command, recipe, *given, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("dupmae: ")
    assert err.count("\n") == 1
    assert not (recipe.parent / "out").exists()


@both
def test_a_recipe_that_is_not_there_or_needs_data_is_named(recipe, command, capfd, tmp_path):
    code, _, err = run(capfd, command, tmp_path / "none.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert "none.yaml: cannot be read (No such file or directory)" in err
    code, _, err = run(capfd, command, recipe)
    assert (code, err) == (
        2,
        f"dupmae: {recipe}: uses {{data}}; give the folder with --data (data=…)\n",
    )


@both
def test_a_training_that_diverges_fails_with_one_line(home, recipe, command, capfd):
    words = ["--set", "learning_rate=1e38", "--set", "max_grad_norm=0"]
    code, out, err = run(capfd, command, recipe, "--data", home / "texts", *words)
    assert (code, out) == (1, "")
    assert "begin again with a lower learning_rate" in err.splitlines()[-1]
    assert "Traceback" not in err


@both
def test_help_has_examples(command, capfd):
    code, out, _ = run(capfd, command, "--help")
    assert code == 0
    assert "Examples:" in out
    assert f"dupmae {command} builtin-{command} --data" in out


def test_a_wrong_recipe_is_refused_without_loading_torch(tmp_path):
    (tmp_path / "recipe.yaml").write_text("steps: soon")
    script = (
        "import sys\nfrom dupmae_cli.main import main\n"
        f"try: main(['finetune', {str(tmp_path / 'recipe.yaml')!r}])\n"
        "except SystemExit as error: print(error.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "2 False\n"
