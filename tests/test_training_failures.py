"""What stops a training, of either kind: one line that says why, and the last checkpoint whole."""

from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import AutoModelForMaskedLM

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.training.data import streams
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.pair_model import PairModel
from dupmae_toolkit.training.pretrain import StepModel, pretrain
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.running.history import history
from dupmae_toolkit.training.running.resuming import whole_checkpoints
from dupmae_toolkit.training.sources import DataSource
from tests.families import save_checkpoint, sentences

SPECIAL = "[SEP] [MASK] [CLS]"
KINDS = ("pretrain", "finetune")
both_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    save_checkpoint(folder / "model")
    write(folder / "a.jsonl", rows(30))
    return folder


def rows(count):
    """Titles and texts."""
    made = [sentences(5, seed=i) for i in range(count)]
    return [{"title": title, "text": " ".join(rest)} for title, *rest in made]


def write(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def train(kind, home, output, *, resume=False, listen=lambda entry: None, **changes):
    settings = {
        "model": str(home / "model"),
        "output": str(output),
        "data": [DataSource(str(home / "a.jsonl"))],
        "steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "save_every": 2,
        "log_every": 1,
        "precision": "fp32",
        **changes,
    }
    if kind == "pretrain":
        recipe = PretrainRecipe(**{"max_length": 40, **settings})
        return pretrain(recipe, resume=resume, listen=listen)
    lengths = {"query_length": 20, "document_length": 40}
    sparsity = {"flops_query": 0.1, "flops_document": 0.1}
    recipe = FinetuneRecipe(**{**lengths, **sparsity, **settings})
    return finetune(recipe, resume=resume, listen=listen)


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def whole(output, *names):
    """Those checkpoints are there and can be read; nothing half-written lies beside them."""
    assert [path.name for path in whole_checkpoints(output)] == list(names)
    assert not [path for path in output.iterdir() if path.name.startswith(".tmp")]
    for name in names:
        AutoModelForMaskedLM.from_pretrained(output / name)
        encoder = DupMAEEncoder.from_pretrained(output / name)
        assert all(bool(torch.isfinite(weight).all()) for weight in encoder.parameters())


@both_kinds
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_the_way_back_leads_on(
    home, tmp_path, monkeypatch, kind, bad
):
    module = PairModel if kind == "finetune" else StepModel
    original = module.forward

    def broken(self, batch, step, *rest):
        loss, parts = original(self, batch, step, *rest)
        return (loss * bad if step == 3 else loss), parts

    with monkeypatch.context() as patch:
        patch.setattr(module, "forward", broken)
        with pytest.raises(DupMAEError, match=f"the loss is {bad} at step 4; go on from ") as error:
            train(kind, home, tmp_path / "out")
    assert "checkpoint-2 with --resume" in one_line(error)
    whole(tmp_path / "out", "checkpoint-2")
    train(kind, home, tmp_path / "out", resume=True)
    steps = [entry["step"] for entry in history(tmp_path / "out") if "loss" in entry]
    assert steps == [1, 2, 3, 4, 5, 6]


@both_kinds
def test_a_gradient_that_is_not_finite_is_never_saved(home, tmp_path, monkeypatch, kind):
    module = PairModel if kind == "finetune" else StepModel
    original = module.forward

    def poisonous(self, batch, step, *rest):
        loss, parts = original(self, batch, step, *rest)
        if step == 3:  # the loss is fine, its gradient is not
            bias = next(p for n, p in self.named_parameters() if n.endswith("predictions.bias"))
            loss = loss + torch.sqrt(bias - bias).sum()
        return loss, parts

    monkeypatch.setattr(module, "forward", poisonous)
    with pytest.raises(DupMAEError, match=r"not finite after step 4; go on from .*checkpoint-2"):
        train(kind, home, tmp_path / "out")
    whole(tmp_path / "out", "checkpoint-2")


@both_kinds
@pytest.mark.parametrize("content", ["", "\n\n", '{"title": "", "text": ""}\n'])
def test_a_data_set_without_a_text_is_refused_and_leaves_nothing(home, tmp_path, kind, content):
    (tmp_path / "empty.jsonl").write_text(content)
    data = [DataSource(str(home / "a.jsonl")), DataSource(str(tmp_path / "empty.jsonl"))]
    with pytest.raises(
        InputError, match=r"empty\.jsonl: not one (text|pair of kind 'title') in it"
    ):
        train(kind, home, tmp_path / "out", data=data, model="no such model")
    assert not (tmp_path / "out").exists()


@both_kinds
@pytest.mark.parametrize("columns", [("title", "text"), ("text",)], ids=str)
def test_texts_of_special_tokens_alone_are_refused(home, tmp_path, kind, columns):
    if kind == "pretrain" and columns == ("text",):
        pytest.skip("title and text are one text there")
    made = [{**row, **dict.fromkeys(columns, SPECIAL)} for row in rows(9)]
    path = write(tmp_path / "special.jsonl", made)
    with pytest.raises(
        InputError, match=r"special\.jsonl: .*first 9 .* contain only special tokens"
    ) as error:
        train(kind, home, tmp_path / "out", data=[DataSource(str(path))])
    assert "there is nothing to learn" in one_line(error)
    assert not (tmp_path / "out").exists()


@both_kinds
def test_some_texts_of_special_tokens_alone_do_no_harm(home, tmp_path, kind):
    empty = [{"title": SPECIAL, "text": SPECIAL}, {"title": "[MASK]", "text": "river"}]
    path = write(tmp_path / "mixed.jsonl", [*rows(2), *empty * 6])
    changes = {"data": [DataSource(str(path))], "batch_size": 2, "steps": 8}
    output = train(kind, home, tmp_path / "out", **changes)
    found = [entry for entry in history(output.parent) if "loss" in entry]
    assert len(found) == 8
    assert all(math.isfinite(value) for entry in found for value in entry.values())
    encoder = DupMAEEncoder.from_pretrained(output)
    assert all(bool(torch.isfinite(weight).all()) for weight in encoder.parameters())


@both_kinds
def test_rows_without_a_token_are_trained_along_and_kept(home, tmp_path, kind):
    """A vocabulary matrix larger than the tokenizer, as where rows were added for the hardware."""
    save_checkpoint(tmp_path / "wide", rows=200)
    changes = {"model": str(tmp_path / "wide")}
    if kind == "finetune":
        changes |= {"active_terms": 150, "unigram_prior": 0.5}
    output = train(kind, home, tmp_path / "out", **changes)
    encoder = DupMAEEncoder.from_pretrained(output)
    assert encoder.vocabulary_size == 200 > len(encoder.tokenizer)
    found = [entry["loss"] for entry in history(output.parent) if "loss" in entry]
    assert all(map(math.isfinite, found))
    resumed = train(kind, home, tmp_path / "out", resume=True, **changes, steps=7)
    assert DupMAEEncoder.from_pretrained(resumed).vocabulary_size == 200


@both_kinds
def test_a_tokenizer_with_more_tokens_than_rows_is_refused(home, tmp_path, kind):
    save_checkpoint(tmp_path / "narrow")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "narrow")
    size = len(tokenizer)
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(tmp_path / "narrow")
    with pytest.raises(InputError, match=f"knows {size + 1} tokens and the model only {size}") as e:
        train(kind, home, tmp_path / "out", model=str(tmp_path / "narrow"))
    assert str(tmp_path / "narrow") in one_line(e)
    assert not (tmp_path / "out").exists()


@both_kinds
def test_a_broken_line_far_into_the_data_stops_with_its_number(home, tmp_path, monkeypatch, kind):
    """Beyond the texts that are looked at before the first step."""
    monkeypatch.setattr(streams, "BUFFER", 4)
    made = [{"title": f"river {i}", "text": f"the star and the moon {i}"} for i in range(280)]
    path = write(tmp_path / "late.jsonl", made)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"title": "T", "text": \n')
    changes = {"data": [DataSource(str(path))], "batch_size": 64}
    with pytest.raises(InputError, match=r"late\.jsonl:281: broken JSON") as error:
        train(kind, home, tmp_path / "out", **changes)
    one_line(error)
    whole(tmp_path / "out", "checkpoint-2", "checkpoint-4")
    write(path, made)
    train(kind, home, tmp_path / "out", **changes, resume=True)
