"""What an earlier call left is used again only where it is the same, and replaced only if ours."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dupmae_toolkit.collection.trec import read_run, write_run
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.beir import BeirOptions, run_beir
from dupmae_toolkit.evaluation.candidates import Candidate, Rankings
from dupmae_toolkit.evaluation.cards import fingerprint
from dupmae_toolkit.evaluation.development import MemoryDataset
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.sweep.grid import grid_of
from dupmae_toolkit.evaluation.sweep.study_file import load_study
from dupmae_toolkit.records import Document, Query, Ranking, Run
from dupmae_toolkit.search.hybrid_index import HybridIndex
from tests.support import HashingEncoder
from tests.test_beir import make_zip, runs_of, toy


class Weighted(HashingEncoder):
    """An encoder whose weights are the same whatever the weights of its score are."""

    def __init__(self, **changes):
        super().__init__()
        self.info = dataclasses.replace(self.info, **changes)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_zip(tmp_path / "toy.zip", toy())


# An encoder's weights of the score.

LIGHT, HEAVY = {"fitted_weights": (1.0, 1.0, 1.0)}, {"fitted_weights": (70.0, 2.0, 3.0)}


@pytest.mark.java
@pytest.mark.parametrize("changes", [HEAVY, {"largest_weight": 9.0}, {"dense_weight": 7.0}])
def test_other_weights_of_the_score_build_the_index_anew(source, changes):
    options = BeirOptions(words="dense_weight" not in changes)
    run_beir(source, Weighted(**LIGHT), "out", options)
    (found,) = run_beir(source, Weighted(**LIGHT | changes), "out", options)
    run_beir(source, Weighted(**LIGHT | changes), "fresh", options)
    assert "documents" in found.reused
    assert "index" not in found.reused
    assert runs_of(Path("out")) == runs_of(Path("fresh"))
    with HybridIndex.open("out/index") as index:
        told = index.manifest.encoder
    assert {name: getattr(told, name) for name in changes} == changes
    (again,) = run_beir(source, Weighted(**LIGHT | changes), "out", options)
    assert again.reused == ["documents", "index", "queries", *again.scores]


def test_an_encoded_corpus_takes_the_weights_of_the_last_call(tmp_path):
    documents = [Document("a", "", "one text"), Document("b", "", "another")]
    encode_corpus(documents, Weighted(**LIGHT), tmp_path / "e")
    before = (tmp_path / "e" / "part-00000.parquet").read_bytes()
    found = encode_corpus(documents, Weighted(**HEAVY), tmp_path / "e")
    assert (found.newly_encoded, found.info.fitted_weights) == (0, HEAVY["fitted_weights"])
    assert (tmp_path / "e" / "part-00000.parquet").read_bytes() == before


@pytest.mark.java
def test_candidates_with_the_same_weights_and_other_settings_are_apart(tmp_path):
    made = {"light": Weighted(**LIGHT), "heavy": Weighted(**HEAVY), "cut": Weighted(top_k=2)}
    texts = ["cat dog", "dog bird", "bird cat fish", "fish"]
    documents = [Document(f"d{n}", "", text) for n, text in enumerate(texts)]
    dataset = MemoryDataset("set", "s", documents, [Query("q", "cat fish")], {"q": {"d2": 1}})
    rankings = Rankings(tmp_path, made.__getitem__, 4)
    scores = {}
    for name in made:
        run = rankings.run(Candidate(name, name, None), dataset, "hybrid")
        scores[name] = run.topics["q"].scores.tolist()
        told = rankings._of(Candidate(name, name, None), dataset).index.manifest.encoder
        assert (told.fitted_weights, told.top_k) == (
            made[name].info.fitted_weights,
            made[name].info.top_k,
        )
    rankings.close()
    assert scores["light"] != scores["heavy"]


# Runs without any hit.


def test_a_run_without_hits_is_read_as_it_was_written(tmp_path):
    empty = {topic: Ranking([], []) for topic in ("a", "b")}
    run = Run(tag="t", topics=empty, metadata={"mode": "bm25"})
    write_run(run, tmp_path / "r.trec")
    again = read_run(tmp_path / "r.trec")
    assert (again.tag, list(again.topics), again.metadata) == ("t", ["a", "b"], {"mode": "bm25"})
    assert evaluate({"a": {"d": 1}}, again, ["nDCG@10"]).means == {"nDCG@10": 0.0}
    (tmp_path / "r.trec.json").unlink()
    with pytest.raises(InputError, match="an empty run"):
        read_run(tmp_path / "r.trec")


# What is not ours stays.


@pytest.mark.parametrize("name", ["metrics.json"])
@pytest.mark.parametrize("content", ["[1]", '{"mine": 1}', "no JSON"])
def test_beir_replaces_no_file_of_others(source, name, content):
    Path("out").mkdir()
    Path("out", name).write_text(content)
    with pytest.raises(InputError, match=rf"{name}: "):
        run_beir(source, HashingEncoder(), "out")
    assert Path("out", name).read_text() == content
    assert len(list(Path("out").iterdir())) == 1


# Checksums of corpora.


def test_all_files_of_a_corpus_of_ones_own_are_in_its_checksum(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes/qrels").mkdir(parents=True)
    for name in ("a.jsonl", "manifest.json", "config.json", "qrels/t.tsv", ".hidden"):
        Path("notes", name).write_text("{}")
    assert "of" not in fingerprint("notes")
    for name, counts in (("a.jsonl", True), ("qrels/t.tsv", True), (".hidden", False)):
        before = fingerprint("notes")
        Path("notes", name).write_text('{"other": 1}')
        assert (fingerprint("notes") != before) == counts, name
    before = fingerprint("notes/**/*.tsv")
    assert before["files"] == 1
    Path("notes/qrels/t.tsv").write_text("third")
    assert fingerprint("notes/**/*.tsv") != before
    assert fingerprint("notes/*.none") is None


def test_absolute_patterns_hidden_folders_and_circles_of_links(tmp_path):
    notes = tmp_path / "notes"
    (notes / ".cache").mkdir(parents=True)
    (notes / "a.md").write_text("one")
    (notes / ".cache" / "corpus.jsonl").write_text("{}")
    (notes / "one").symlink_to(notes)
    (notes / "two").symlink_to(notes)
    before = [fingerprint(str(each)) for each in (notes, notes / "*.md", notes / "**/*.md")]
    assert [each["files"] for each in before] == [1, 1, 1]
    (notes / "a.md").write_text("two")
    now = [fingerprint(str(each)) for each in (notes, notes / "*.md", notes / "**/*.md")]
    assert all(one != other for one, other in zip(before, now, strict=True))


# Studies.


def test_bm25_over_passages_is_that_of_one_encoder(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "encoders: {a: builtin, b: builtin}\n"
        "indexes: {flat: Flat, cut: {passages: 50}}\n"
        "scores: {bm25: bm25}\n"
        "collections: {x: x.zip}\n"
    )
    found = grid_of(load_study(path))
    assert [cell.label for cell in found.cells] == ["bm25", "a.cut.bm25", "b.cut.bm25"]
    assert found.same == {}


def test_a_study_named_like_the_baseline_is_refused_in_any_case(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "encoders: {a: builtin}\nscores: {Lucene-BM25: bm25}\ncollections: {x: x.zip}\n"
    )
    with pytest.raises(InputError, match="is the name of Lucene's own BM25"):
        load_study(path)


def test_a_mean_of_several_sets_says_nothing_of_one_of_them_alone(tmp_path):
    make_zip(tmp_path / "two.zip", {**toy("one"), **toy("two", 1)})
    run_beir(tmp_path / "two.zip", HashingEncoder(), tmp_path / "out", BeirOptions(words=False))
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert told["about"]["means_of"] == 2
    alone = {"qrels", "topics_with_self_match", "judged_documents", "judged_not_in_corpus"}
    assert alone.isdisjoint(told["about"])
    assert alone <= told["datasets"]["one"]["about"].keys()
