"""The built-in encoder's card: its commands and its Python lead from the base to such an encoder.

They run as they stand on the card, in a folder that has only what the card tells a reader to
bring: the base, a SPLADE model, and the texts. Models are tiny, and only a two-hundredth of the
steps are made.
"""

from __future__ import annotations

import json
import lzma
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.model.checkpoints import BUILTIN, quiet
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.recipe_files import load_recipe
from dupmae_toolkit.training.recipe_names import recipe_named
from dupmae_toolkit.training.running.resuming import last_checkpoint, steps_done
from dupmae_toolkit.training.running.step_trainer import StepTrainer
from tests.cli_support import run
from tests.families import make_tokenizer, save_checkpoint, sentences

CARD = (BUILTIN / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", CARD, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(line)
    for _, block in BLOCKS
    for line in re.sub(r"\n +", " ", block).splitlines()
    if line.startswith("dupmae ")
]
#: A recipe's keys that the size of a machine decides, and that no model learns from.
SMALL = {"batch_size": "4", "save_every": "1", "log_every": "1", "precision": "fp32"}


def sizes(**changes: int) -> dict[str, int]:
    """A backbone with enough layers to freeze two, and the base's positions for long texts."""
    return {"num_hidden_layers": 3, "max_position_embeddings": 512, **changes}


@pytest.fixture
def one_thread():
    """Several threads would mostly wait for each other in so small a model."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """What the card names, in the current folder."""
    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        **sizes(),
    )
    torch.manual_seed(0)
    with quiet():
        BertModel(config).save_pretrained(tmp_path / "MINILM")  # the base has no masked-LM head
    tokenizer.save_pretrained(tmp_path / "MINILM")
    save_checkpoint(tmp_path / "SPLADE", **sizes(num_hidden_layers=1))
    texts = tmp_path / "TEXTS"
    scifact = texts / "scifact"
    (scifact / "qrels").mkdir(parents=True)
    rows = [sentences(5, seed=i, words=9) for i in range(40)]
    documents = [{"title": title, "text": " ".join(rest)} for title, *rest in rows]
    for name in ("arxiv-abstracts", "medline-abstracts", "medquad-pairs", "wikipedia-leads"):
        with lzma.open(texts / f"{name}.jsonl.xz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(document) + "\n" for document in documents)
    corpus = [json.dumps({"_id": str(i), **row}) + "\n" for i, row in enumerate(documents)]
    (scifact / "corpus.jsonl").write_text("".join(corpus))
    queries = [json.dumps({"_id": str(i), "text": row[2]}) + "\n" for i, row in enumerate(rows)]
    (scifact / "queries.jsonl").write_text("".join(queries))
    judged = "".join(f"{i}\t{i}\t1\n" for i in range(30))
    (scifact / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_fit_split(home: Path) -> None:
    """The command in builtin-near's comment, which makes the judgements that it trains on."""
    (line,) = re.findall(
        r"^#   (awk .*)$", recipe_named("builtin-near").text.decode(), re.MULTILINE
    )
    subprocess.run(line, shell=True, check=True, cwd=home / "TEXTS")


def given(words: list[str]) -> dict[str, str]:
    """The values of a command's --set."""
    return dict(words[i + 1].partition("=")[::2] for i, word in enumerate(words) if word == "--set")


def shortened(words: list[str]) -> tuple[list[str], int]:
    """A command that makes a two-hundredth of its steps, and their number."""
    kind = {"pretrain": PretrainRecipe, "finetune": FinetuneRecipe}[words[1]]
    steps = max(2, load_recipe(words[2], kind, given(words), "TEXTS").steps // 200)
    changes = {**SMALL, "steps": str(steps)}
    if words[1] == "pretrain":
        changes["head_steps"] = "2"
    return [*words[1:], *(w for key in changes for w in ("--set", f"{key}={changes[key]}"))], steps


def python(number: int) -> str:
    """One of the card's blocks of Python."""
    return [block for language, block in BLOCKS if language == "python"][number]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(shutil.which("awk") is None, reason="a recipe's comment uses it")
def test_the_cards_commands_lead_from_the_base_to_such_an_encoder(home, capfd, monkeypatch):
    make_fit_split(home)
    fit = (home / "TEXTS/scifact/qrels/fit.tsv").read_text().splitlines()
    assert fit == ["query-id\tcorpus-id\tscore", *(f"{i}\t{i}\t1" for i in range(30) if i % 7)]
    assert {words[1] for words in COMMANDS} == {"pretrain", "finetune"}
    train = StepTrainer.training_step

    def until_a_checkpoint(self, *arguments, **options):
        if last_checkpoint(Path(self.args.output_dir)):
            raise KeyboardInterrupt
        return train(self, *arguments, **options)

    finals = []
    for number, words in enumerate(COMMANDS):
        small, steps = shortened(words)
        later = COMMANDS[number + 1] if number + 1 < len(COMMANDS) else []
        if "--resume" in later and later[2] == words[2]:
            with monkeypatch.context() as patch:
                patch.setattr(StepTrainer, "training_step", until_a_checkpoint)
                code, _, err = run(capfd, *small)
            assert code == 130, err
            assert "--resume continues from " in err
            continue
        code, out, err = run(capfd, *small)
        assert code == 0, err
        final = Path(out.strip())
        newest = last_checkpoint(final.parent)
        assert newest is not None
        assert steps_done(newest) == steps
        assert ("resumed" in err) == ("--resume" in words)
        finals.append(final)
        if words[1] == "finetune" and number + 1 < len(COMMANDS):
            exec(python(0).replace("RESULT", str(final)), {})
            assert b'"F16"' in (final / "model.safetensors").read_bytes()
            if "model=NEAR" in later:
                shutil.copytree(final, home / "NEAR")
    assert str(finals[0].parent) == "checkpoints/builtin-pretrain"
    assert len(set(finals)) == len(finals) == len(COMMANDS) - 1
    made = {"texts": [" ".join(sentences(3, seed=i)) for i in range(8)]}
    exec(python(1) + python(2), made)
    near, last = (DupMAEEncoder.from_pretrained(path) for path in (home / "NEAR", finals[-1]))
    result = DupMAEEncoder.from_pretrained(home / "builtin")
    for name, weight in result.state_dict().items():
        mean = (near.state_dict()[name].double() + last.state_dict()[name].double()) / 2
        torch.testing.assert_close(weight.double(), mean, rtol=1e-3, atol=1e-6)
    settings, shipped = (
        json.loads((folder / "config.json").read_text())["dupmae"]
        for folder in (home / "builtin", BUILTIN)
    )
    assert settings.pop("largest_weight") > 0
    assert shipped.pop("largest_weight") > 0
    assert settings == shipped
