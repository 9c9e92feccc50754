"""A training that is killed at any step, or finds the disk full, and goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.pretrain import pretrain
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.recipe_files import load_recipe
from dupmae_toolkit.training.running.history import history
from dupmae_toolkit.training.running.resuming import last_checkpoint, whole_checkpoints
from tests.cli_support import run
from tests.families import save_checkpoint, sentences

KINDS = {"pretrain": (pretrain, PretrainRecipe), "finetune": (finetune, FinetuneRecipe)}
both_kinds = pytest.mark.parametrize("kind", KINDS)
STEPS = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a model that drops out, texts, and a recipe of each kind."""
    folder = tmp_path_factory.mktemp("home")
    save_checkpoint(folder / "model")
    with (folder / "a.jsonl").open("w", encoding="utf-8") as file:
        for i in range(30):
            title, *rest = sentences(6, seed=i)
            file.write(json.dumps({"title": title, "text": " ".join(rest)}) + "\n")
    for kind in KINDS:
        values = {
            "model": str(folder / "model"),
            "output": str(folder / kind),
            "data": [str(folder / "a.jsonl")],
            "steps": STEPS,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "save_every": 3,
            "log_every": 1,
            "precision": "fp32",
        }
        if kind == "pretrain":
            values |= {"max_length": 30, "accumulation": 2}
        else:
            values |= {"query_length": 20, "document_length": 30}
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump(values))
    return folder


def train(home, kind, output, resume=False, **options):
    work, recipe = KINDS[kind]
    loaded = load_recipe(home / f"{kind}.yaml", recipe, {"output": str(output)})
    return work(loaded, resume=resume, **options)


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


SLOWLY = """
import sys, time
from dupmae_cli.main import main
from transformers import TrainerCallback
from dupmae_toolkit.training.running.history import LogCallback
LogCallback.on_step_begin = lambda *a, **o: time.sleep(0.05)
main(sys.argv[1:])
"""


def kill_after(home: Path, kind: str, output: Path, steps: int, delay: float) -> None:
    """Start a training in another process, and kill it some time after so many steps."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, kind, f"{home / kind}.yaml", "--set", f"output={output}"],
        stderr=subprocess.PIPE,
        # Sums over other numbers of threads are other sums.
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    deadline = time.monotonic() + 400
    with process:
        while process.poll() is None and time.monotonic() < deadline:
            if sum("loss" in entry for entry in history(output)) >= steps:
                time.sleep(delay)
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        errors = process.stderr.read().decode() if process.stderr else ""
    assert process.returncode == -signal.SIGKILL, errors


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
@both_kinds
def test_a_training_killed_at_a_random_step_ends_with_the_same_bits(home, tmp_path, kind):
    moment = random.Random()
    steps, delay = moment.randrange(1, STEPS - 1), 0.06 * moment.random()
    kill_after(home, kind, tmp_path / "out", steps, delay)
    last = last_checkpoint(tmp_path / "out")
    output = train(home, kind, tmp_path / "out", resume=True)
    undisturbed = train(home, kind, tmp_path / "undisturbed")
    assert weights(output) == weights(undisturbed), (steps, delay, last)
    seen = [entry["step"] for entry in history(output.parent) if "loss" in entry]
    assert seen == list(range(1, STEPS + 1))
    assert not [path for path in output.parent.iterdir() if path.name.startswith(".tmp")]


@both_kinds
@pytest.mark.parametrize("what", ["torch.save", "safetensors.torch.save_file", "log"])
def test_a_disk_that_fills_up_stops_with_one_line_and_exit_1(
    home, tmp_path, monkeypatch, capfd, kind, what
):
    place = "log.jsonl" if what == "log" else "checkpoint-6"

    def no_room():
        if (tmp_path / "out" / "checkpoint-3").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if what == "torch.save":
        original = torch.save

        def save(value, path, *arguments, **options):
            no_room()
            original(value, path, *arguments, **options)

        monkeypatch.setattr(torch, "save", save)
    elif what == "log":
        opened = Path.open

        def open_(path, *arguments, **options):
            if path.name == "log.jsonl" and arguments[:1] == ("a",):
                no_room()
            return opened(path, *arguments, **options)

        monkeypatch.setattr(Path, "open", open_)
    else:
        # transformers has its own name for safetensors' writer.
        from transformers import PreTrainedModel

        written = PreTrainedModel.save_pretrained

        def save_pretrained(model, folder, *arguments, **options):
            no_room()
            written(model, folder, *arguments, **options)

        monkeypatch.setattr(PreTrainedModel, "save_pretrained", save_pretrained)
    words = [kind, home / f"{kind}.yaml", "--set", f"output={tmp_path / 'out'}"]
    code, out, err = run(capfd, *words)
    assert (code, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith(f"dupmae: {tmp_path / 'out' / place}: cannot be written (")
    assert last.endswith("make room there and go on with --resume (resume=True)")
    assert "No space left on device" in last
    assert "Traceback" not in err
    monkeypatch.undo()
    assert [path.name for path in whole_checkpoints(tmp_path / "out")] == ["checkpoint-3"]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".tmp")]
    code, *_ = run(capfd, *words, "--resume")
    assert code == 0


@contextlib.contextmanager
def small_disk(folder: Path, size: int):
    """A file system in memory that holds so many bytes; skips where none can be made."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        pytest.skip("no mount")
    if done.returncode:
        pytest.skip("a file system can be mounted by root only")
    try:
        yield
    finally:
        # At once for all who look, although the error's traceback may hold a file open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_really_full(home, tmp_path, capfd):
    kind = "pretrain"
    words = [kind, home / f"{kind}.yaml", "--set"]
    assert run(capfd, *words, f"output={tmp_path / 'out'}", "--set", "steps=3")[0] == 0
    pages = [
        4096 * math.ceil(path.stat().st_size / 4096)
        for path in (tmp_path / "out" / "checkpoint-3").iterdir()
    ]
    with small_disk(tmp_path / "disk", int(1.6 * sum(pages))):
        output = tmp_path / "disk" / "out"
        code, out, err = run(capfd, *words, f"output={output}")
        assert (code, out) == (1, "")
        assert f"{output / 'checkpoint-6'}: cannot be written (" in err.splitlines()[-1]
        assert "Traceback" not in err
        assert [path.name for path in whole_checkpoints(output)] == ["checkpoint-3"]
        assert not [path for path in output.iterdir() if path.name.startswith(".tmp")]
        shutil.copytree(output, tmp_path / "roomier")
    # What the full disk was left with is enough to end the training elsewhere.
    assert run(capfd, *words, f"output={tmp_path / 'roomier'}", "--resume")[0] == 0
