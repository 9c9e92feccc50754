"""Trainings with the fitted score: what is logged, saved, evaluated, and resumed."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from safetensors.torch import load_file

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.analysis import words
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.measures import evaluate, mean_ndcg
from dupmae_toolkit.index.scoring import Scoring
from dupmae_toolkit.index.words import Bm25
from dupmae_toolkit.records import Ranking, Run
from dupmae_toolkit.training import finetune as finetuning
from dupmae_toolkit.training.data.bm25 import WordFrequencies
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.fitted_score import FILE, FittedScore
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.running import retrieval
from dupmae_toolkit.training.running.history import history
from dupmae_toolkit.training.running.retrieval import SmallCollection, evaluate_retrieval
from dupmae_toolkit.training.sources import DataSource
from tests.families import save_checkpoint, sentences, write_titled
from tests.support import Killed

START = [10.0, 1.0, 0.5]
SPEED = 50.0


@pytest.fixture(scope="module", autouse=True)
def few_texts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "PRIOR_TEXTS", 64)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A model, training texts, and a small judged collection."""
    folder = tmp_path_factory.mktemp("home")
    save_checkpoint(folder / "model")
    write_titled(folder / "train.jsonl", 40)
    (folder / "set" / "qrels").mkdir(parents=True)
    lines = {"corpus.jsonl": [], "queries.jsonl": []}
    rows = ["query-id\tcorpus-id\tscore"]
    for i in range(30):
        text = " ".join(sentences(1 + i % 4, seed=i, words=7))
        lines["corpus.jsonl"].append(json.dumps({"_id": f"d{i:02}", "title": "", "text": text}))
    for i in range(8):
        query = {"_id": f"q{i}", "text": sentences(3, seed=i, words=7)[0]}
        lines["queries.jsonl"].append(json.dumps(query))
        rows.append(f"q{i}\td{i:02}\t1")
    for name, written in lines.items():
        (folder / "set" / name).write_text("\n".join(written) + "\n", encoding="utf-8")
    (folder / "set" / "qrels" / "dev.tsv").write_text("\n".join(rows) + "\n")
    return folder


def recipe(home, output, **changes):
    settings = {
        "model": str(home / "model"),
        "output": str(output),
        "data": [DataSource(str(home / "train.jsonl"))],
        "steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "save_every": 2,
        "log_every": 1,
        "precision": "fp32",
        "query_length": 20,
        "document_length": 40,
        "encoder": {"normalize": True, "top_k": 30},
        "losses": {"joint": 1.0, "lexical": 0.5, "self_dense": 0.5},
        "active_terms": 20,
        "flops_document": 0.1,
        "score_weights": START,
        "learn_weights": SPEED,
        "eval_every": 3,
        "eval_data": str(home / "train.jsonl"),
        "eval_batches": 1,
        "eval_collection": str(home / "set"),
    }
    return FinetuneRecipe(**{**settings, **changes})


@pytest.fixture(scope="module")
def whole(home):
    heard = []
    output = finetune(recipe(home, home / "whole"), listen=heard.append, measure=mean_ndcg)
    return output.parent, heard


def test_learned_weights_move_are_logged_and_saved(whole):
    output, _ = whole
    entries = [entry for entry in history(output) if "loss" in entry]
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    first = [entries[0][f"weight_{part}"] for part in ("dense", "lexical", "bm25")]
    assert first == pytest.approx(START)
    assert all(entry["weight_bm25"] == 0.5 for entry in entries)
    for name in ("checkpoint-4", "checkpoint-6", "final"):
        found = DupMAEEncoder.from_pretrained(output / name).config
        dense, lexical, bm25 = found.fitted_weights
        assert bm25 == 0.5
        assert abs(math.log(dense / 10)) > 0.01
        assert abs(math.log(lexical)) > 0.01
        assert found.dense_weight == pytest.approx(dense / lexical)
        # Adam moves the logarithms by at most about speed × rate a step.
        assert abs(math.log(dense / 10)) < 6 * SPEED * 1e-3
        if name != "final":
            logs = load_file(output / name / FILE)["logs"].tolist()
            expected = [start * math.exp(SPEED * log) for start, log in zip(START, logs)]  # noqa: B905
            assert [dense, lexical] == pytest.approx(expected, rel=1e-5)
    assert not (output / "final" / FILE).exists()
    # The weights of step 5's log are those before it: the checkpoint of step 4 has them.
    config = DupMAEEncoder.from_pretrained(output / "checkpoint-4").config
    logged = [entries[4][f"weight_{part}"] for part in ("dense", "lexical", "bm25")]
    assert logged == pytest.approx(list(config.fitted_weights), rel=1e-5)


def test_an_index_takes_the_weights(whole):
    info = DupMAEEncoder.from_pretrained(whole[0] / "final").info
    assert Scoring.of(info, Bm25(5.0)).weights == info.fitted_weights
    assert len(info.fitted_weights) == 3


def test_evaluations_report_every_part(whole):
    output, heard = whole
    found = [entry for entry in heard if "hybrid_nDCG@10" in entry]
    assert [entry["step"] for entry in found] == [0, 3, 6]
    parts = {f"{mode}_nDCG@10" for mode in ("dense", "lexical", "bm25", "hybrid")}
    parts |= {"eval_joint", "eval_bm25", "eval_weight_dense", "active_document"}
    assert all(parts <= set(entry) for entry in found)
    # Nothing of BM25 is learned.
    assert len({entry["bm25_nDCG@10"] for entry in found}) == 1
    assert len({entry["eval_bm25"] for entry in found}) == 1
    assert [entry for entry in history(output) if "hybrid_nDCG@10" in entry] == found


def losses(folder):
    clock = ("runtime", "per_second", "seconds", "peak_share", "flops", "bytes")
    kept = [
        {k: v for k, v in entry.items() if not any(c in k for c in clock)}
        for entry in history(folder)
        if "preflight" not in entry
    ]
    return [entry for entry in kept if "train_loss" not in entry]


@pytest.mark.parametrize("moment", [0, 2, 5])
def test_a_training_that_was_killed_ends_as_an_undisturbed_one(home, tmp_path, whole, moment):
    def die(entry):
        if entry["step"] > moment:
            raise Killed

    with pytest.raises(Killed):
        finetune(recipe(home, tmp_path), listen=die, measure=mean_ndcg)
    output = finetune(recipe(home, tmp_path), resume=True, measure=mean_ndcg).parent
    for name in ("checkpoint-6", "final"):
        for path in (whole[0] / name).glob("*.safetensors"):
            assert (output / name / path.name).read_bytes() == path.read_bytes(), path
    configs = [DupMAEEncoder.from_pretrained(o / "final").config for o in (output, whole[0])]
    assert configs[0] == configs[1]
    assert losses(output) == losses(whole[0])


def test_a_resume_reads_what_it_would_have_to_count(home, tmp_path, monkeypatch):
    finetune(recipe(home, tmp_path, steps=2), measure=mean_ndcg)

    def never(*arguments):
        raise AssertionError

    monkeypatch.setattr(finetuning.Sample, "texts", never)
    monkeypatch.setattr(FittedScore, "count", never)
    finetune(recipe(home, tmp_path, steps=3), resume=True, measure=mean_ndcg)


@pytest.mark.parametrize("data", [None, b"", b'\x08\0\0\0\0\0\0\0{"a":{}}', b"[" * 5000])
def test_a_checkpoint_without_the_score_is_refused_in_one_line(home, tmp_path, data):
    plain = {"score_weights": [], "learn_weights": 0.0, "eval_every": 0}
    finetune(recipe(home, tmp_path, steps=2, **plain))
    if data is not None:
        (tmp_path / "checkpoint-2" / FILE).write_bytes(data)
    fixed = recipe(home, tmp_path, steps=4, learn_weights=0.0, eval_every=0)
    with pytest.raises(InputError, match=r"checkpoint-2: this training cannot go on from it") as e:
        finetune(fixed, resume=True)
    assert "\n" not in str(e.value)


def test_a_dry_run_counts_no_vectors_and_writes_nothing(home, tmp_path, monkeypatch):
    def never(*arguments):
        raise AssertionError

    monkeypatch.setattr(FittedScore, "count", never)
    heard = []
    made = recipe(home, tmp_path / "out")
    finetune(made, dry_run=True, listen=heard.append, measure=mean_ndcg)
    assert [entry["steps"] for entry in heard if "preflight" in entry] == [6]
    assert not (tmp_path / "out").exists()


def test_the_plain_score_leaves_no_trace(home, tmp_path):
    plain = {"score_weights": [], "learn_weights": 0.0}
    output = finetune(recipe(home, tmp_path, steps=2, **plain), measure=mean_ndcg)
    assert not (tmp_path / "checkpoint-2" / FILE).exists()
    assert not DupMAEEncoder.from_pretrained(output).config.fitted_weights
    names = {name for entry in history(tmp_path) for name in entry}
    assert not [name for name in names if "bm25" in name or name.startswith("weight_")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": {"lexical": 1.0}, "learn_weights": 0.0}, "no loss trains the joint score"),
        ({"idf_power": 0.5}, "search with --idf-power 0.5"),
    ],
)
def test_what_a_search_would_not_know_is_said(home, tmp_path, changes, message):
    heard = []
    made = recipe(home, tmp_path, eval_every=0, **changes)
    finetune(made, dry_run=True, listen=heard.append)
    (warning,) = [entry["warning"] for entry in heard if "warning" in entry]
    assert message in warning


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_retrieval_equals_a_plain_computation(home, monkeypatch, power):
    encoder = DupMAEEncoder.from_pretrained(home / "model", precision="fp32", top_k=12)
    monkeypatch.setattr(retrieval, "_WINDOW", 7)
    monkeypatch.setattr(retrieval, "_QUERIES", 3)
    collection = SmallCollection.open(str(home / "set"), "dev")
    made = recipe(home, home, idf_power=power)
    fitted = FittedScore(made, encoder.vocabulary_size, WordFrequencies.of([]))
    found = evaluate_retrieval(encoder, collection, mean_ndcg, fitted)
    again = evaluate_retrieval(encoder, collection, mean_ndcg, fitted)
    assert found == again

    def idf(frequency):
        return math.log(1 + (30 - frequency + 0.5) / (frequency + 0.5))

    texts, queries = collection.texts, [query.text for query in collection.queries]
    d, q = encoder.encode_documents(texts), encoder.encode_queries(queries)
    lexical = d.lexical.toarray()
    frequencies = (lexical > 0).sum(axis=0)
    weights = np.array([idf(frequency) for frequency in frequencies])
    weights = (weights / (weights @ frequencies / frequencies.sum())) ** power
    counts = [Counter(words(text)) for text in texts]
    mean = sum(count.total() for count in counts) / 30
    bm25 = np.zeros((8, 30))
    for i, query in enumerate(queries):
        for word in words(query):
            for j, count in enumerate(counts):
                norm = 0.9 * (0.6 + 0.4 * count.total() / mean)
                frequency = sum(word in each for each in counts)
                bm25[i, j] += idf(frequency) * count[word] / (count[word] + norm)
    tables = {
        "dense": q.dense @ d.dense.T,
        "lexical": (q.lexical.toarray() * weights) @ lexical.T,
        "bm25": bm25,
    }
    tables["hybrid"] = sum(w * table for w, table in zip(START, tables.values(), strict=True))
    for mode, table in tables.items():
        run = Run(
            {
                query.id: Ranking.sorted(list(collection.ids), row)
                for query, row in zip(collection.queries, table, strict=True)
            }
        )
        expected = evaluate(collection.qrels, run, ["nDCG@10"]).means["nDCG@10"]
        assert found[f"{mode}_nDCG@10"] == pytest.approx(expected), mode
