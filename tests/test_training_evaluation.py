"""Evaluation during training: what it finds, what it warns of, and that it changes nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.measures import evaluate, mean_ndcg
from dupmae_toolkit.model.pretraining import DupMAEForPreTraining
from dupmae_toolkit.records import Ranking, Run
from dupmae_toolkit.training.data import streams as training_streams
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.pretrain import StepModel, TextCollator, pretrain
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.running import evaluation, retrieval
from dupmae_toolkit.training.running.evaluation import collapse, untouched
from dupmae_toolkit.training.running.history import history
from dupmae_toolkit.training.running.retrieval import SmallCollection, evaluate_retrieval
from dupmae_toolkit.training.sources import DataSource
from tests.families import save_checkpoint, sentences, write_titled
from tests.support import Killed


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A model, training texts, held-out texts, and a small judged collection."""
    folder = tmp_path_factory.mktemp("home")
    save_checkpoint(folder / "model")
    for name, count in (("train", 40), ("held", 12)):
        write_titled(folder / f"{name}.jsonl", count, seed=1000 * count)
    (folder / "set" / "qrels").mkdir(parents=True)
    lines = {"corpus.jsonl": [], "queries.jsonl": []}
    rows = ["query-id\tcorpus-id\tscore"]
    for i in range(30):
        document = {"_id": f"d{i:02}", "title": "", "text": " ".join(sentences(3, seed=i, words=7))}
        lines["corpus.jsonl"].append(json.dumps(document))
    for i in range(8):
        query = {"_id": f"q{i}", "text": sentences(3, seed=i, words=7)[0]}
        lines["queries.jsonl"].append(json.dumps(query))
        rows.append(f"q{i}\td{i:02}\t1")
    for name, written in lines.items():
        (folder / "set" / name).write_text("\n".join(written) + "\n", encoding="utf-8")
    (folder / "set" / "qrels" / "dev.tsv").write_text("\n".join(rows) + "\n")
    return folder


def recipe(home, output, kind=PretrainRecipe, **changes):
    settings = {
        "model": str(home / "model"),
        "output": str(output),
        "data": [DataSource(str(home / "train.jsonl"))],
        "steps": 5,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "save_every": 2,
        "log_every": 2,
        "precision": "fp32",
    }
    if kind is PretrainRecipe:
        settings |= {"max_length": 40, "preset": "bow"}
    else:
        settings |= {"query_length": 20, "document_length": 40}
    return kind(**{**settings, **changes})


EVALUATED = {"eval_every": 2, "eval_batches": 2}


def everything(home):
    return {
        **EVALUATED,
        "eval_data": str(home / "held.jsonl"),
        "eval_collection": str(home / "set"),
    }


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def without_clock(entries):
    clock = ("runtime", "per_second", "seconds", "peak_share", "estimated", "flops", "bytes")
    kept = [{k: v for k, v in e.items() if not any(c in k for c in clock)} for e in entries]
    return [entry for entry in kept if len(entry) > 1]


@pytest.mark.parametrize("kind", [PretrainRecipe, FinetuneRecipe])
def test_evaluation_does_not_change_a_bit_of_the_training(home, tmp_path, kind):
    train = pretrain if kind is PretrainRecipe else finetune
    heard = []
    plain = train(recipe(home, tmp_path / "plain", kind))
    watched = train(
        recipe(home, tmp_path / "watched", kind, **everything(home)),
        listen=heard.append,
        measure=mean_ndcg,
    )
    assert weights(plain) == weights(watched)
    found = [entry for entry in heard if "hybrid_nDCG@10" in entry]
    assert [entry["step"] for entry in found] == [0, 2, 4, 5]
    parts = {"eval_loss", "dense_nDCG@10", "lexical_nDCG@10", "active_document", "active_query"}
    parts |= {"eval_mlm", "eval_bow"} if kind is PretrainRecipe else {"eval_joint"}
    assert all(parts <= set(entry) for entry in found)
    written = history(watched.parent)
    assert [entry for entry in written if "hybrid_nDCG@10" in entry] == found
    losses = [
        [entry["loss"] for entry in history(output.parent) if "loss" in entry]
        for output in (plain, watched)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("packing", ["passage", "corpus"])
def test_a_training_killed_at_any_step_goes_on_as_if_nothing_had_been(
    home, tmp_path, packing, seed
):
    """With packing, evaluation and a weight that decays; the moment is drawn."""
    settings = {**everything(home), "packing": packing, "steps": 6, "epochs": 0.0}
    whole = pretrain(recipe(home, tmp_path / "whole", **settings), measure=mean_ndcg)
    moment = random.Random(seed).randrange(1, 6)

    def die(entry):
        if entry["step"] >= moment and "preflight" not in entry:
            raise Killed

    killed = recipe(home, tmp_path / "killed", **settings)
    with pytest.raises(Killed):
        pretrain(killed, measure=mean_ndcg, listen=die)
    again = recipe(home, tmp_path / "killed", **settings)
    resumed = pretrain(again, measure=mean_ndcg, resume=True)
    assert weights(resumed) == weights(whole)
    entries = [without_clock(history(output.parent)) for output in (resumed, whole)]
    assert [e for e in entries[0] if "loss" in e or "eval_loss" in e] == [
        e for e in entries[1] if "loss" in e or "eval_loss" in e
    ]


def test_held_out_losses_are_those_of_the_model_on_the_held_out_batches(home, tmp_path):
    made = recipe(home, tmp_path / "out", steps=1, eval_data=str(home / "held.jsonl"), eval_every=1)
    made.eval_batches = 3
    heard = []
    pretrain(made, listen=heard.append)
    first = next(entry for entry in heard if "eval_loss" in entry)
    model = DupMAEForPreTraining.from_pretrained(
        home / "model", made.pretraining(), precision="fp32"
    )
    texts = [json.loads(line) for line in (home / "held.jsonl").read_text().splitlines()]
    texts = [f"{row['title']} {row['text']}" for row in texts]
    random.Random(f"{made.seed} 0").shuffle(texts)  # the whole file lies in the buffer
    collate = TextCollator(model.encoder, model.config, made)
    step = StepModel(model).eval()
    with torch.no_grad():
        losses = [step(collate(texts[i : i + 4]), 0, 1)[0].item() for i in (0, 4, 8)]
    assert first["eval_loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_a_share_is_held_out_and_never_trained_on(home, tmp_path, monkeypatch):
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    original = TextCollator.__call__

    def spy(self, batch):
        seen[monkeypatched["evaluating"]].update(batch)
        return original(self, batch)

    monkeypatched = {"evaluating": False}
    losses = evaluation.Evaluation._losses

    def evaluating(self, step):
        monkeypatched["evaluating"] = True
        found = losses(self, step)
        monkeypatched["evaluating"] = False
        return found

    monkeypatch.setattr(TextCollator, "__call__", spy)
    monkeypatch.setattr(evaluation.Evaluation, "_losses", evaluating)
    pretrain(recipe(home, tmp_path / "out", steps=12, eval_share=0.3, **EVALUATED))
    assert len(seen[True]) > 4
    assert len(seen[False]) > 20
    assert not seen[True] & seen[False]


def test_the_held_out_share_is_looked_for_once(home, tmp_path, monkeypatch):
    """Otherwise each evaluation would read a large corpus to its end."""
    given = training_streams.training_texts
    asked = []

    def spy(path, share=0.0, *, held_out=False):
        asked.append(held_out)
        return given(path, share, held_out=held_out)

    monkeypatch.setattr("dupmae_toolkit.training.pretrain.training_texts", spy)
    heard = []
    settings = {"eval_share": 0.3, "eval_every": 1, "eval_batches": 1, "steps": 3}
    pretrain(recipe(home, tmp_path / "out", **settings), listen=heard.append)
    assert sum("eval_loss" in entry for entry in heard) == 4
    assert asked.count(True) == 1


def test_held_out_data_is_read_though_the_first_source_has_no_weight(home, tmp_path):
    data = [
        DataSource(str(home / "train.jsonl"), weight=0.0),
        DataSource(str(home / "train.jsonl")),
    ]
    settings = {"eval_data": str(home / "held.jsonl"), "data": data, **EVALUATED}
    heard = []
    finetune(recipe(home, tmp_path / "out", FinetuneRecipe, **settings), listen=heard.append)
    assert any("eval_joint" in entry for entry in heard)


def test_an_encoder_without_a_lexical_head_has_no_terms_to_lose(home, tmp_path):
    heard = []
    settings = {"encoder": {"lexical_head": "none"}, "losses": {"dense": 1.0}, **everything(home)}
    finetune(
        recipe(home, tmp_path / "out", FinetuneRecipe, **settings),
        listen=heard.append,
        measure=mean_ndcg,
    )
    assert sum("dense_nDCG@10" in entry for entry in heard) == 4
    assert not [entry for entry in heard if "warning" in entry or "lexical_nDCG@10" in entry]


def test_retrieval_equals_a_plain_computation(home, monkeypatch):
    encoder = DupMAEEncoder.from_pretrained(
        home / "model", precision="fp32", top_k=12, dense_weight=0.5, lexical_weight=2.0
    )
    monkeypatch.setattr(retrieval, "_WINDOW", 7)
    monkeypatch.setattr(retrieval, "_QUERIES", 3)
    collection = SmallCollection.open(str(home / "set"), "dev")
    found = evaluate_retrieval(encoder, collection, mean_ndcg)
    assert encoder.config.top_k == 12
    d, q = (
        encoder.encode_documents(collection.texts),
        encoder.encode_queries([query.text for query in collection.queries]),
    )
    dense, lexical = q.dense @ d.dense.T, (q.lexical @ d.lexical.T).toarray()
    for mode, scores in (
        ("dense", dense),
        ("lexical", lexical),
        ("hybrid", 0.5 * dense + 2 * lexical),
    ):
        run = Run(
            {
                query.id: Ranking.sorted(list(collection.ids), row)
                for query, row in zip(collection.queries, scores, strict=True)
            }
        )
        expected = evaluate(collection.qrels, run, ["nDCG@10"]).means["nDCG@10"]
        assert found[f"{mode}_nDCG@10"] == pytest.approx(expected), mode
    encoder.config = encoder.config.but(top_k=0)
    whole = encoder.encode_documents(collection.texts)
    assert found["active_document"] == pytest.approx(whole.lexical.nnz / 30)


def test_a_query_that_is_a_document_is_no_answer_to_itself(home):
    encoder = DupMAEEncoder.from_pretrained(home / "model", precision="fp32")
    collection = SmallCollection.open(str(home / "set"), "dev")
    collection.ids = [f"q{i}" if i < 8 else name for i, name in enumerate(collection.ids)]
    vectors = encoder.encode_queries([query.text for query in collection.queries])
    documents = encoder.encode_documents(collection.texts)
    for drops in (False, True):
        collection.drops_self_matches = drops
        for run in retrieval.brute_force_runs(collection, vectors, documents, (1.0, 1.0)).values():
            itself = [name in ranking.ids for name, ranking in run.topics.items()]
            assert not any(itself) if drops else any(itself)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_split": "test"}, "no split 'test' in it; available: dev"),
        ({"eval_collection": "nowhere"}, "nowhere"),
        ({"eval_data": "nowhere.jsonl"}, "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_evaluated_on_is_refused_before_anything_is_written(
    home, tmp_path, changes, message
):
    made = recipe(home, tmp_path / "out", **{**everything(home), **changes})
    with pytest.raises(InputError, match=message):
        pretrain(made, measure=mean_ndcg)
    assert not (tmp_path / "out").exists()


def test_a_large_collection_is_refused(home, monkeypatch):
    monkeypatch.setattr(retrieval, "LARGEST", 20)
    with pytest.raises(InputError, match="more than 20 documents are too many"):
        SmallCollection.open(str(home / "set"), "dev")


def test_a_collapse_is_warned_of_once(home, tmp_path):
    for bias, word in ((50.0, "nearly every term"), (-50.0, "hardly any term")):
        encoder = DupMAEEncoder.from_pretrained(home / "model")
        with torch.no_grad():
            encoder.lm.get_output_embeddings().bias += bias
        encoder.save_pretrained(tmp_path / f"model{bias}")
        heard = []
        made = recipe(home, tmp_path / f"out{bias}", model=str(tmp_path / f"model{bias}"))
        output = pretrain(made, listen=heard.append)
        warnings = [entry for entry in heard if "warning" in entry]
        assert [entry["step"] for entry in warnings] == [2]
        assert word in warnings[0]["warning"]
        assert warnings[0] in history(output.parent)


@pytest.mark.parametrize(
    ("active", "warned"), [(0, True), (0.9, True), (1, False), (900, False), (960, True)]
)
def test_what_counts_as_a_collapse(active, warned):
    assert bool(collapse(active, 1000)) == warned


def test_nothing_is_left_changed_by_a_look():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(2, 2))
    module[1].eval()
    states = [torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()]
    with untouched(module):
        module.eval()
        torch.rand(3), np.random.rand(3), random.random()
    assert [module.training, module[0].training, module[1].training] == [True, True, False]
    assert torch.equal(states[0], torch.get_rng_state())
    assert [np.random.get_state()[1].tolist(), random.getstate()] == states[1:]
