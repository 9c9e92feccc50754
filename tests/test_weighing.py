"""The largest weight that a training measures when it ends, and what its checkpoints state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.model.largest_weight import HEADROOM
from dupmae_toolkit.training import weighing
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.pretrain import pretrain
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.sources import DataSource
from tests.families import save_checkpoint, sentences

both_kinds = pytest.mark.parametrize("kind", ["pretrain", "finetune"])
DOCUMENTS = [(title, " ".join(rest)) for title, *rest in (sentences(5, seed=i) for i in range(12))]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that states a largest weight, and a file of texts."""
    folder = tmp_path_factory.mktemp("home")
    save_checkpoint(folder / "start")
    encoder = DupMAEEncoder.from_pretrained(folder / "start", precision="fp32", largest_weight=7.0)
    encoder.save_pretrained(folder / "model")
    lines = [json.dumps({"title": title, "text": text}) + "\n" for title, text in DOCUMENTS]
    (folder / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def train(kind: str, home: Path, output: Path, **changes: Any) -> Path:
    call = {key: changes.pop(key) for key in ("resume", "listen", "dry_run") if key in changes}
    settings = {
        "model": str(home / "model"),
        "output": str(output),
        "data": [DataSource(str(home / "a.jsonl"))],
        "steps": 4,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "save_every": 2,
        "precision": "fp32",
        "encoder": {"top_k": 30, "max_length": 24},
        **changes,
    }
    if kind == "pretrain":
        return pretrain(PretrainRecipe(**{"max_length": 40, **settings}), **call)
    lengths = {"query_length": 20, "document_length": 40}
    return finetune(FinetuneRecipe(**{**lengths, **settings}), **call)


def stated(folder: Path) -> float:
    return json.loads((folder / "config.json").read_text())["dupmae"]["largest_weight"]


@both_kinds
def test_it_is_that_of_the_result_on_the_documents_with_headroom(home, tmp_path, kind) -> None:
    output = train(kind, home, tmp_path / "out")
    encoder = DupMAEEncoder.from_pretrained(output, precision="fp32")
    # A pre-training has title and text as its documents, pairs of kind `title` the text.
    texts = [f"{title} {text}" if kind == "pretrain" else text for title, text in DOCUMENTS]
    largest = float(encoder.encode_documents(texts).lexical.data.max())
    assert stated(output) == pytest.approx(HEADROOM * largest, rel=0.005)
    assert encoder.info.largest_weight == stated(output) != 7
    # Neither what the model stated nor what the result has holds for a checkpoint before the end.
    assert stated(tmp_path / "out" / "checkpoint-2") == 0
    # Resumed, a finished training measures again.
    before = stated(output)
    assert stated(train(kind, home, tmp_path / "out", resume=True)) == before


def test_what_the_recipe_states_is_kept(home, tmp_path) -> None:
    output = train("pretrain", home, tmp_path / "out", steps=2, encoder={"largest_weight": 3.25})
    assert stated(output) == stated(tmp_path / "out" / "checkpoint-2") == 3.25
    with pytest.raises(InputError, match="largest_weight -1: give 0 or a positive number"):
        train("pretrain", home, tmp_path / "none", encoder={"largest_weight": -1})


def test_without_a_lexical_head_there_is_none(home, tmp_path) -> None:
    dense = {"encoder": {"lexical_head": "none"}, "losses": {"dense": 1.0}, "steps": 1}
    assert stated(train("finetune", home, tmp_path / "out", **dense)) == 0


@both_kinds
def test_a_dry_run_draws_no_texts(home, tmp_path, kind, monkeypatch) -> None:
    def never(self: Any) -> None:
        raise AssertionError("texts were drawn")

    monkeypatch.setattr(weighing.LargestWeight, "draw", never)
    train(kind, home, tmp_path / "out", dry_run=True)
    with pytest.raises(AssertionError, match="texts were drawn"):
        train(kind, home, tmp_path / "out")


def test_a_training_is_not_lost_with_its_measurement(home, tmp_path, monkeypatch) -> None:
    def fails(*_: Any) -> float:
        raise DupMAEError("the device has no memory left")

    monkeypatch.setattr(weighing, "measured_largest_weight", fails)
    heard: list[dict[str, Any]] = []
    output = train("finetune", home, tmp_path / "out", steps=1, listen=heard.append)
    assert stated(output) == 0
    said = [entry["warning"] for entry in heard if "warning" in entry]
    assert said == ["the largest weight is not known: the device has no memory left"]


@both_kinds
def test_it_is_measured_on_what_precedes_a_fault_in_the_data(home, tmp_path, kind) -> None:
    """Of a fault behind all that the training takes, nobody hears."""
    recipe = FinetuneRecipe if kind == "finetune" else PretrainRecipe
    encoder = DupMAEEncoder.from_pretrained(home / "model", precision="fp32")

    def make(source: Any, rng: Any) -> Any:
        yield "a river"
        yield "the moon and the star"
        raise InputError(f"{source.path}:3: broken JSON")

    made = recipe(str(home / "model"), str(tmp_path), [DataSource("x.jsonl")], 2)
    measuring = weighing.LargestWeight(encoder, made, make, str, lambda entry: None)
    assert encoder.config.largest_weight == 0
    measuring.draw()
    measuring.measure()
    weights = encoder.encode_documents(["a river", "the moon and the star"]).lexical.data
    assert encoder.config.largest_weight == pytest.approx(HEADROOM * weights.max(), rel=0.005)
