"""docs/training.md: its tables are those of the code, and its first commands run as they stand."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import torch
import typer
import yaml
from transformers import BertConfig, BertForSequenceClassification

from dupmae_cli.main import app, main
from dupmae_toolkit.collection.beir import open_beir
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.presets import PRESETS
from dupmae_toolkit.training.loss_table import LOSSES
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe, Recipe
from dupmae_toolkit.training.sources import PAIR_KINDS, DataSource, TeacherSource
from tests.families import make_tokenizer, save_checkpoint, sentences

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "training.md").read_text("utf-8")
SHARED = {field.name for field in fields(Recipe)}
KEYS = {
    "### Keys of every recipe": Recipe,
    "### Keys of pre-training": PretrainRecipe,
    "### Keys of fine-tuning": FinetuneRecipe,
    "### `encoder`": DupMAEConfig,
    "## Data": DataSource,
    "### Teachers in the batch": TeacherSource,
}


def table(heading: str, number: int = 0) -> list[list[str]]:
    """The cells of a table under the heading that begins so, without its head."""
    (after,) = re.split(rf"^{re.escape(heading)}.*$", PAGE, flags=re.MULTILINE)[1:]
    section = re.split(r"^#", after, flags=re.MULTILINE)[0]
    found = re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)[number]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()]
    return rows[2:]


def written(value) -> str:
    """A value as a recipe has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:g}"
    return '""' if value == "" else str(value)


def default(field) -> str:
    if field.default_factory is not MISSING:
        return f"`{written(field.default_factory())}`"
    return "needed" if field.default is MISSING else f"`{written(field.default)}`"


def code_words(cells) -> list[str]:
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize(("heading", "kind"), KEYS.items())
def test_every_key_stands_on_the_page_with_its_default(heading, kind):
    inherited = issubclass(kind, Recipe) and kind is not Recipe
    own = [f for f in fields(kind) if not (inherited and f.name in SHARED)]
    rows = table(heading)
    assert [row[:2] for row in rows] == [[f"`{f.name}`", default(f)] for f in own]
    assert all(row[2] for row in rows)


def test_the_losses_and_the_kinds_of_data_are_those_of_the_code():
    assert sorted(code_words(row[0] for row in table("## Losses of fine-tuning"))) == sorted(LOSSES)
    assert sorted(code_words(row[0] for row in table("## Data", 1))) == sorted(PAIR_KINDS)


def test_the_presets_are_those_of_the_code():
    rows = table("## Presets of pre-training")
    names = [name for name in PRESETS if f"| `{name}` |" in PAGE]
    assert names == list(PRESETS)
    assert rows == [
        [f"`{field.name}`", *(f"`{written(getattr(p, field.name))}`" for p in PRESETS.values())]
        for field in fields(PRESETS["official"])
    ]


def test_every_shipped_recipe_stands_on_the_page():
    shipped = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
    assert sorted(code_words(row[0] for row in table("## The recipes"))) == shipped


def mined(text: str) -> list[str]:
    """What `dupmae mine` is told with -n, for each time that a text has the command."""
    words = re.sub(r"\n#?\s+--", " --", text)
    return [
        re.search(r"-n (\d+)|$", line)[1]
        for line in re.findall(r"^(?:#\s+)?dupmae mine .*$", words, flags=re.MULTILINE)
    ]


def test_as_many_negatives_are_mined_as_the_recipes_draw_from():
    depths = {}
    for path in sorted((ROOT / "recipes").glob("finetune*.yaml")):
        text = path.read_text("utf-8")
        depths[path.name] = yaml.safe_load(text).get("negative_depth")
        if depths[path.name]:
            told = mined(text) or re.findall(r"dupmae mine -n (\d+)", text)
            assert told == [str(depths[path.name])], path.name
    assert depths["finetune-stage2.yaml"] == depths["finetune-stage3.yaml"] == 200
    written = mined("\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)))
    assert written == ["200", "200"]


def commands(number: int) -> list[list[str]]:
    """The commands of one of the page's blocks, as words."""
    block = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)[number]
    lines = [line for line in block.splitlines() if line and not line.startswith("#")]
    return [shlex.split(line) for line in lines]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """What the page names, in the current folder: texts, a collection, a start, a cross-encoder."""
    with (tmp_path / "texts.jsonl").open("w", encoding="utf-8") as file:
        for i in range(24):
            title, *rest = sentences(4, seed=i)
            file.write(json.dumps({"id": str(i), "title": title, "text": " ".join(rest)}) + "\n")
    folder = tmp_path / "collection"
    (folder / "qrels").mkdir(parents=True)
    texts = (tmp_path / "texts.jsonl").read_text("utf-8")
    (folder / "corpus.jsonl").write_text(texts.replace('"id"', '"_id"'), "utf-8")
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "river war star"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t3\t1\n")
    assert open_beir(str(folder)).qrels("test")
    save_checkpoint(tmp_path / "start")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path / "my-cross-encoder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "my-cross-encoder")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.java
def test_the_commands_lead_from_texts_to_a_measured_encoder(here):
    """As they stand, but for the names of start and collection, and smaller numbers."""
    small = {
        "pretrain": ["epochs=0", "steps=2", "batch_size=4", "max_length=40", "eval_every=1"],
        "finetune": ["steps=2", "batch_size=4", "query_length=20", "document_length=40"],
    }
    small["finetune"] += ["encoder.max_length=40", "encoder.query_max_length=20"]
    names = {"model=bert-base-uncased": "model=start", "scifact.zip": "collection"}
    for _, *words in commands(0):
        words = [names.get(word, word) for word in words]
        for change in small.get(words[0], []):
            words += ["--set", change]
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 0, words
    metrics = json.loads((here / "runs" / "stage3" / "metrics.json").read_text())
    assert set(metrics) == {"dense", "lexical", "bm25", "hybrid", "lucene-bm25", "about"}
    scored = [json.loads(line) for line in (here / "trained" / "scored.jsonl").open()]
    assert len(scored) == 24
    assert all(len(line["negatives"]) == 23 for line in scored)


def test_every_command_names_recipes_and_options_that_exist():
    known = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in typer.main.get_command(app).commands.items()
    }
    for program, command, *words in [*commands(0), *commands(1)]:
        assert program == "dupmae"
        assert {word for word in words if word.startswith("-")} <= known[command]
        if command in ("pretrain", "finetune"):
            assert (ROOT / "recipes" / f"{words[0]}.yaml").is_file()
