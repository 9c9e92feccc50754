"""Studies: what is run once, what is compared, what a kill, a failure or a change leaves to do."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import ttest_rel

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.collection.opening import read_qrels
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.evaluation.cards import Draft
from dupmae_toolkit.evaluation.development import MemoryDataset
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.sweep.grid import grid_of
from dupmae_toolkit.evaluation.sweep.study_file import load_study
from dupmae_toolkit.evaluation.sweep.sweeping import run_sweep, unused
from dupmae_toolkit.index import build
from dupmae_toolkit.records import Document, Query
from tests.cli_support import run
from tests.support import HashingEncoder
from tests.test_beir import HEADER, make_zip, toy
from tests.test_report import check_alone

pytestmark = pytest.mark.java

STUDY = {
    "encoders": {"one": "one", "two": "two"},
    "scores": {"hybrid": "hybrid", "rrf": {"fusion": "rrf"}},
    "collections": {
        "left": {"path": "{data}/left.zip"},
        "right": {"path": "{data}/right.zip", "split": "train"},
    },
    "baseline": "one.flat.hybrid",
    "measures": ["nDCG@10", "R@5"],
    "k": 20,
}
LABELS = [f"{encoder}.flat.{score}" for encoder in ("one", "two") for score in ("hybrid", "rrf")]
TABLES = ("study.json", "study.csv", "study.md", "study.tex", "report.html")


class Counting(HashingEncoder):
    """Counts what it encodes; fails with ``error`` after ``limit`` texts."""

    def __init__(self, name: str, dim: int, limit: int | None = None, error=KeyboardInterrupt):
        super().__init__(dim=dim, name=name)
        self.encoded: list[str] = []
        self.limit, self.error = limit, error

    def encode_documents(self, texts, ids=None):
        if self.limit is not None and len(self.encoded) >= self.limit:
            raise self.error
        self.encoded += texts
        return super().encode_documents(texts, ids)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two collections; their zips, which hold times, are the same for all tests."""
    folder = tmp_path_factory.mktemp("data")
    make_zip(folder / "left.zip", toy("left"))
    make_zip(folder / "right.zip", toy("right", seed=1))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, data):
    """An empty folder to work in, with the collections beside it."""
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def study_of(changes: dict | None = None, path: str = "study.yaml"):
    Path(path).write_text(yaml.safe_dump(STUDY | (changes or {}), sort_keys=False), "utf-8")
    return load_study(path, "../data")


def encoders(limit: int | None = None) -> dict[str, Counting]:
    return {"one": Counting("one", 16, limit), "two": Counting("two", 24)}


def sweep(changes: dict | None = None, output: str = "out", **more):
    """Run a study, by default with new encoders and with cards."""
    study = study_of(changes)
    made = more.pop("made", None) or encoders()
    draft = Draft(["dupmae", "sweep", "study.yaml"], study.reads())
    more.setdefault("load", lambda entry: made[entry.model])
    return run_sweep(study, output, draft=draft, **more)


def contents(folder: Path, left_out: str = "card.json") -> dict[str, bytes]:
    """All files of a folder but cards, which have times, and what they are made with."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(left_out) and "work" not in path.parts
    }


@pytest.fixture
def counted_work(monkeypatch):
    """The searches of runs, and the builds of indexes, as they happen."""
    seen: dict[str, list] = {"searched": [], "built": []}
    searching, building = HybridIndex.run, build.build_index

    def search(self, queries, request=None, **more):
        seen["searched"].append((str(self.path), request.mode, request.fusion.method))
        return searching(self, queries, request, **more)

    def make(folder, *given, **more):
        seen["built"].append(str(folder))
        return building(folder, *given, **more)

    monkeypatch.setattr(HybridIndex, "run", search)
    monkeypatch.setattr(build, "build_index", make)
    return seen


# What is run once.


def test_each_text_is_encoded_each_index_built_and_each_run_searched_once(here, counted_work):
    made = encoders()
    found = sweep(made=made)
    for encoder in made.values():
        # 40 documents and 12 topics of one collection, 40 and 5 of the other; no text twice.
        assert len(encoder.encoded) == 40 + 12 + 40 + 5
    assert len(counted_work["built"]) == len(set(counted_work["built"])) == 4
    assert len(counted_work["searched"]) == len(set(counted_work["searched"])) == 8
    assert found.made.failures == []
    for name in ("left", "right"):
        assert list(found.made.runs[name]) == LABELS


def test_a_second_call_makes_nothing_and_writes_the_same(here, counted_work):
    sweep()
    before = contents(Path("out"))
    counted_work["searched"].clear()
    counted_work["built"].clear()
    again = encoders()
    found = sweep(made=again)
    assert [len(each.encoded) for each in again.values()] == [0, 0]
    assert counted_work == {"searched": [], "built": []}
    assert found.made.reused == 8
    assert contents(Path("out")) == before


def test_collections_of_one_data_set_share_its_documents(here):
    made = encoders()
    path = "{data}/left.zip"
    sweep({"collections": {"a": path, "b": {"path": path, "split": "train"}}}, made=made)
    assert len(made["one"].encoded) == 40 + 12 + 5


def test_indexes_share_the_vectors_and_passages_are_cut_once(here):
    made = encoders()
    indexes = {
        "flat": "Flat",
        "graph": {"faiss": "HNSW8", "bm25": False},
        "cut": {"passages": 5, "overlap": 0},
        "sum": {"passages": 5, "overlap": 0, "aggregate": "sum3"},
    }
    found = sweep({"indexes": indexes}, made=made)
    assert found.made.failures == []
    # 12 words a document: three passages of at most five.
    assert len(made["one"].encoded) == 40 + 12 + 40 + 5 + 2 * 3 * 40
    runs = [found.made.runs["left"][f"one.{name}.hybrid"].read_bytes() for name in indexes]
    assert len(set(runs)) > 2


def test_rankings_that_cannot_differ_are_one_run(here):
    scores = {"dense": "dense", "lexical": "lexical", "words": "bm25", "plain": "@plain"}
    indexes = {"flat": "Flat", "bare": {"bm25": False}, "graph": "HNSW8"}
    grid = grid_of(study_of({"scores": scores, "indexes": indexes, "baseline": "words"}))
    labels = {cell.label for cell in grid.cells if cell.encoder.name == "one"}
    assert labels == {
        *("one.flat.dense", "one.graph.dense", "one.flat.lexical", "one.bare.lexical", "words"),
        *("one.flat.plain", "one.graph.plain"),
    }
    assert "words" not in {cell.label for cell in grid.cells if cell.encoder.name == "two"}
    assert grid.same == {
        f"{encoder}.{one}": f"{encoder}.{other}"
        for encoder in ("one", "two")
        for one, other in [
            ("bare.dense", "flat.dense"),
            ("graph.lexical", "flat.lexical"),
            ("bare.plain", "flat.plain"),
        ]
    }
    # A label of the same ranking names the baseline, too.
    other = study_of({"scores": scores, "indexes": indexes, "baseline": "two.bare.dense"})
    assert grid_of(other).baseline == "two.flat.dense"


def test_rankings_that_are_taken_for_one_are_one(here):
    """Each index in a study of its own gives the same rankings."""
    scores = {"dense": "dense", "words": "bm25", "plain": "@plain"}
    rankings = {}
    for name, index in {"flat": {}, "bare": {"bm25": False}, "graph": {"faiss": "HNSW8"}}.items():
        own = {k: v for k, v in scores.items() if index.get("bm25", True) or k != "words"}
        changes = {"scores": own, "indexes": {name: index}, "baseline": f"one.{name}.dense"}
        found = sweep(changes, output=name)
        for label, path in found.made.runs["left"].items():
            read = read_run(path)
            rankings[label] = {topic: read[topic].ids for topic in read}
    assert rankings["one.flat.dense"] == rankings["one.bare.dense"]
    assert rankings["one.flat.plain"] == rankings["one.bare.plain"]
    # `words` was overwritten by each study: both had the encoder `one`, on other indexes.
    with HybridIndex.open(next(Path("graph").glob("work/left-*/*/index-????????"))) as index:
        topic = "q0"
        text = json.loads(toy("left")["left/queries.jsonl"].splitlines()[0])["text"]
        hits = [hit.id for hit in index.search(text, 20, mode="bm25")]
    assert hits == rankings["words"][topic]


# Figures.


def test_means_and_corrected_p_values_are_those_of_other_programs(here):
    found = sweep()
    record = json.loads(Path("out/study.json").read_text())
    assert record["baseline"] == "one.flat.hybrid"
    per_topic = {}
    for name in ("left", "right"):
        judged = read_qrels(str(Path("out/runs", name, f"{name}.qrels")))
        for label in LABELS:
            scores = evaluate(judged, read_run(Path("out/runs", name, f"{label}.trec")), ["R@5"])
            per_topic[name, label] = list(scores.per_topic["R@5"].values())
    entries = {(e["collection"], e["run"]): e for e in record["runs"]}
    for key, values in per_topic.items():
        assert entries[key]["measures"]["R@5"]["mean"] == pytest.approx(np.mean(values))
    others = [key for key in per_topic if key[1] != "one.flat.hybrid"]
    p = {k: ttest_rel(per_topic[k], per_topic[k[0], "one.flat.hybrid"]).pvalue for k in others}
    p = {key: 1.0 if np.isnan(value) else value for key, value in p.items()}
    largest = 0.0
    for place, key in enumerate(sorted(others, key=p.__getitem__)):
        largest = max(largest, min(1.0, (6 - place) * p[key]))  # over both collections
        tests = entries[key]["measures"]["R@5"]["tests"]["t"]
        assert tests["p"] == pytest.approx(p[key])
        assert tests["holm"] == pytest.approx(largest)
    means = {(each["run"], each["measure"]): each for each in record["means"]}
    for label in LABELS:
        both = [np.mean(per_topic[name, label]) for name in ("left", "right")]
        assert means[label, "R@5"]["mean"] == pytest.approx(np.mean(both))
    assert found.comparisons == 6


def test_the_tables_hold_the_record(here):
    sweep()
    record = json.loads(Path("out/study.json").read_text())
    with Path("out/study.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * 2
    for row in rows:
        (entry,) = [
            each
            for each in record["runs"]
            if (each["run"], each["collection"]) == (row["run"], row["collection"])
        ]
        told = entry["measures"][row["measure"]]
        assert float(row["mean"]) == told["mean"]
        assert bool(row["randomisation"]) == (row["run"] != "one.flat.hybrid")
        if row["randomisation"]:
            assert float(row["randomisation"]) == told["tests"]["randomisation"]["holm"]
    text, latex = Path("out/study.md").read_text(), Path("out/study.tex").read_text()
    for entry in record["runs"]:
        for told in entry["measures"].values():
            assert f"{told['mean']:.4f}" in text
            assert f"{told['mean']:.4f}" in latex
    assert latex.count("\\begin{tabular}{lrrr}") == latex.count("\\end{tabular}") == 2


def test_a_difference_that_is_sure_is_marked_in_every_table(here, monkeypatch):
    rows = [{"_id": f"d{n}", "title": "", "text": f"word{n} common"} for n in range(40)]
    asked = [{"_id": f"q{n}", "text": f"word{n}"} for n in range(40)]
    files = {
        "sure/corpus.jsonl": "\n".join(map(json.dumps, rows)),
        "sure/queries.jsonl": "\n".join(map(json.dumps, asked)),
        "sure/qrels/test.tsv": HEADER + "".join(f"q{n}\td{n}\t1\n" for n in range(40)),
    }
    make_zip(Path("../data/sure.zip"), files)

    class Blind(Counting):
        def encode_documents(self, texts, ids=None):
            return super().encode_documents(["nothing"] * len(texts), ids)

    made = {"one": Counting("one", 16), "two": Blind("two", 24)}
    changes = {"collections": {"sure": "{data}/sure.zip"}, "measures": ["RR@10"]}
    changes |= {"scores": {"lexical": "lexical"}, "baseline": "one.flat.lexical"}
    sweep(changes, made=made)
    text = Path("out/study.md").read_text()
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith("|")}
    assert "†" not in rows["one.flat.lexical"]
    assert rows["two.flat.lexical"].endswith("† |")
    assert "$^\\dagger$ \\\\" in Path("out/study.tex").read_text()
    page = check_alone(Path("out/report.html").read_text("utf-8"))
    assert "†" in page.text.split("two.flat.lexical")[1]


def test_the_page_is_one_of_dupmae_report_with_the_studys_table_first(here):
    sweep()
    text = Path("out/report.html").read_text("utf-8")
    page = check_alone(text)
    assert page.text.index("after Holm's correction over all") < page.text.index("Compared with")
    for label in LABELS:
        assert label in page.text
    assert page.tags.count("h2") == 2
    assert "Nothing is explained" not in page.text


def test_the_runs_alone_can_be_reported_too(here, capsys):
    sweep()
    code, _, err = run(capsys, "report", "out/runs", "--baseline", LABELS[1], "--topics", 0)
    assert code == 0, err
    assert "<h1>Runs of out</h1>" in Path("out/runs/report.html").read_text()
    code, _, err = run(capsys, "report", "out")
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith("no file that ends in .trec or .run; those of a study are in out/runs\n")


# Tests and choices.


def test_a_study_on_a_test_says_that_its_best_run_is_no_test_result(here):
    found = sweep()
    said = [note for note in found.notes() if "no test result" in note]
    assert len(said) == 1
    assert said[0].startswith("left is a test. The best of 4 runs")
    assert said[0] in json.loads(Path("out/study.json").read_text())["notes"]
    assert said[0] in Path("out/study.md").read_text()
    assert "no test result" in check_alone(Path("out/report.html").read_text("utf-8")).text


def test_a_study_without_a_test_does_not(here):
    found = sweep({"collections": {"right": {"path": "{data}/right.zip", "split": "train"}}})
    assert not any("no test result" in note for note in found.notes())
    assert "no test result" not in Path("out/report.html").read_text("utf-8")


# Cards.


def test_every_run_has_its_card_and_so_has_the_study(here):
    found = sweep()
    for by_label in found.made.runs.values():
        for label, path in by_label.items():
            card = json.loads(Path(f"{path}.card.json").read_text())
            assert (card["run"], card["outputs"][0]["path"]) == (label, path.name)
            assert card["study"]["sha256"] == found.study.sha256
            assert {entry["option"] for entry in card["inputs"]} >= {"STUDY", "collection left"}
    whole = json.loads(Path("out/card.json").read_text())
    assert len(whole["outputs"]) == len(whole["figures"]) == 8
    before = {path: path.read_bytes() for path in Path("out/runs").rglob("*.card.json")}
    sweep()
    assert all(path.read_bytes() == was for path, was in before.items())


def test_a_card_that_a_kill_prevented_or_that_is_of_another_run_is_written(here):
    sweep()
    cards = sorted(Path("out/runs").rglob("*.card.json"))
    cards[0].unlink()
    cards[1].write_text(cards[2].read_text())
    sweep()
    for path in cards[:2]:
        run_file = path.name.removesuffix(".card.json")
        assert json.loads(path.read_text())["outputs"][0]["path"] == run_file


# Kills.


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.98])
def test_a_sweep_killed_at_any_file_is_continued_to_the_same_bytes(
    here, monkeypatch, share, whole_sweep
):
    replaces, expected = whole_sweep
    kill = max(1, int(len(replaces) * share))
    left = [kill]
    real = os.replace

    def replace(one, other, **more):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(one, other, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            sweep()
    sweep()
    assert contents(Path("out")) == expected


@pytest.fixture(scope="module")
def whole_sweep(tmp_path_factory, data):
    """The renames of an undisturbed sweep, and the bytes that it leaves."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(data, folder / "data")
    (folder / "here").mkdir()
    seen: list[str] = []
    real = os.replace

    def replace(one, other, **more):
        seen.append(str(other))
        return real(one, other, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "here")
        patch.setattr(os, "replace", replace)
        sweep()
        found = contents(Path("out"))
    assert len(seen) > 60
    return seen, found


@pytest.mark.parametrize("limit", [10, 45])
def test_a_sweep_killed_while_it_encodes_is_continued_to_the_same_bytes(here, limit, whole_sweep):
    with pytest.raises(KeyboardInterrupt):
        sweep(made=encoders(limit))
    sweep()
    assert contents(Path("out")) == whole_sweep[1]


# Failures.


def test_a_run_that_fails_is_said_and_the_others_are_made(here):
    said: list[str] = []
    scores = {"hybrid": "hybrid", "wrong": {"weights": [1, 1]}, "rrf": {"fusion": "rrf"}}
    found = sweep({"scores": scores}, say=said.append)
    assert {each.run for each in found.made.failures} == {"one.flat.wrong", "two.flat.wrong"}
    assert len(said) == len(found.made.failures) == 4
    assert all("2 weights for the 3 parts" in line for line in said)
    assert [len(runs) for runs in found.made.runs.values()] == [4, 4]
    record = json.loads(Path("out/study.json").read_text())
    wrong = [each for each in record["runs"] if each["score"] == "wrong"]
    assert all(each["state"] == "failed" and "2 weights" in each["why"] for each in wrong)
    assert "| one.flat.wrong | failed | failed | failed |" in Path("out/study.md").read_text()
    assert "2 weights for the 3 parts" in check_alone(Path("out/report.html").read_text()).text
    assert not Path("out/card.json").exists()  # it could not be repeated
    sweep()
    assert Path("out/card.json").exists()


def test_fail_fast_stops_at_the_first_failure_and_keeps_what_was_made(here, counted_work):
    scores = {"hybrid": "hybrid", "wrong": {"weights": [1, 1]}, "rrf": {"fusion": "rrf"}}
    with pytest.raises(DupMAEError, match=r"left, one\.flat\.wrong: 2 weights") as caught:
        sweep({"scores": scores}, fail_fast=True)
    assert caught.value.exit_code == 1
    assert len(counted_work["searched"]) == 1
    found = sweep()
    assert found.made.reused == 1


@pytest.mark.parametrize("error", [InputError("no such model"), RuntimeError("out of\nmemory")])
def test_an_encoder_that_cannot_be_loaded_fails_its_runs_alone(here, error):
    made = encoders()

    def load(entry):
        if entry.name == "two":
            raise error
        return made[entry.name]

    said: list[str] = []
    found = sweep(load=load, say=said.append)
    assert len(said) == 2
    assert all("two.flat.hybrid and 1 more run" in line for line in said)
    assert all("\n" not in line for line in said)
    assert [list(runs) for runs in found.made.runs.values()] == [LABELS[:2]] * 2


def test_without_its_baseline_a_collection_is_not_compared(here):
    made = encoders()
    made["one"] = Counting("one", 16, 52, RuntimeError("broken"))  # after the first collection
    found = sweep(made=made)
    assert {(each.collection, each.run) for each in found.made.failures} == {
        ("right", label) for label in LABELS[:2]
    }
    assert found.comparisons == 3
    assert any(note.startswith("right: nothing is compared") for note in found.notes())
    means = json.loads(Path("out/study.json").read_text())["means"]
    assert all(each["mean"] is None for each in means if each["run"] in LABELS[:2])
    assert all(each["difference"] is None for each in means)
    check_alone(Path("out/report.html").read_text("utf-8"))


def test_a_study_without_any_run_still_writes_its_record(here):
    def load(entry):
        raise InputError("no such model")

    found = sweep(load=load)
    assert len(found.made.failures) == 8
    assert found.sections == {}
    assert json.loads(Path("out/study.json").read_text())["runs"][0]["state"] == "failed"
    check_alone(Path("out/report.html").read_text("utf-8"))


def test_broken_documents_fail_their_collection_alone(here):
    files = toy("left")
    files["left/corpus.jsonl"] += '{"_id": "x", "text": \n'
    make_zip(Path("../data/left.zip"), files)
    found = sweep()
    assert {each.collection for each in found.made.failures} == {"left"}
    assert all("left/corpus.jsonl:41" in each.why for each in found.made.failures)
    again = sweep({"collections": {"left": {"path": "{data}/left.zip", "skip_invalid": True}}})
    assert again.made.failures == []
    assert again.collections[0].said() == ["left: " + again.collections[0].facts["one"]["left_out"]]
    assert "1 line" in again.collections[0].said()[0]


@pytest.mark.parametrize(
    ("collection", "message"),
    [
        ({"path": "{data}/nowhere.zip"}, "collection a: ../data/nowhere.zip"),
        ({"path": "{data}/left.zip", "split": "dev"}, "collection a: .*no split 'dev'"),
        ({"kind": "demonstration"}, "collection a: there is no demonstration here"),
    ],
)
def test_collections_are_checked_before_anything_is_done(here, collection, message):
    with pytest.raises(InputError, match=message):
        sweep({"collections": {"b": "{data}/left.zip", "a": collection}}, load=None)
    assert not Path("out").exists()


# Changes.


def test_a_further_score_searches_alone(here, counted_work):
    sweep()
    before = contents(Path("out/runs"))
    counted_work["searched"].clear()
    counted_work["built"].clear()
    made = encoders()
    found = sweep({"scores": STUDY["scores"] | {"dense": "dense"}}, made=made)
    assert [len(each.encoded) for each in made.values()] == [0, 0]
    assert counted_work["built"] == []
    assert [mode for _, mode, _ in counted_work["searched"]] == ["dense"] * 4
    assert found.made.reused == 8
    after = contents(Path("out/runs"))
    assert {name: after[name] for name in before} == before


def test_a_score_that_changes_under_its_name_is_searched_again(here, counted_work):
    sweep()
    counted_work["searched"].clear()
    found = sweep({"scores": STUDY["scores"] | {"rrf": {"fusion": "rrf", "rrf_k": 1}}})
    assert [method for _, _, method in counted_work["searched"]] == ["rrf"] * 4
    assert found.made.reused == 4


def test_a_collection_whose_file_changes_is_made_again_alone(here):
    sweep()
    before = Path("../data/left.zip").read_bytes()
    make_zip(Path("../data/left.zip"), toy("left", seed=5))
    made = encoders()
    found = sweep(made=made)
    assert len(made["one"].encoded) == 40 + 12
    assert found.made.reused == 4
    (line,) = unused(found, Path("out"))
    assert line == "out/work: 2 folders of vectors and indexes that this study did not use"
    Path("../data/left.zip").write_bytes(before)
    again = encoders()
    sweep(made=again)
    assert again["one"].encoded == []


def test_an_encoder_that_changes_under_its_name_is_made_again_alone(here):
    sweep()
    made = encoders() | {"two": Counting("two", 32)}
    sweep(made=made)
    assert made["one"].encoded == []
    assert len(made["two"].encoded) == 40 + 12 + 40 + 5


def test_runs_of_an_earlier_form_of_the_study_are_not_shown_but_said(here):
    sweep()
    found = sweep({"scores": {"hybrid": "hybrid"}})
    assert unused(found, Path("out")) == [
        f"out/runs/{name}: 2 runs that this study did not make" for name in ("left", "right")
    ]
    assert "rrf" not in Path("out/report.html").read_text("utf-8")
    assert "rrf" not in Path("out/study.csv").read_text()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("study.json", '{"rule": 1}', "is not the record of a study"),
        ("study.json", "[]", "is not the record of a study"),
        ("study.json", "{", "not readable as JSON"),
        ("report.html", "<p>mine</p>", "is no report"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_alone(here, name, text, message):
    Path("out").mkdir()
    Path("out", name).write_text(text)
    with pytest.raises(InputError, match=message):
        sweep(load=None)
    assert contents(Path("out")) == {name: text.encode()}


def test_the_demonstration_is_a_collection(here):
    documents = [Document(f"d{n}", "", f"word{n} text") for n in range(6)]
    asked = [Query(f"q{n}", f"word{n}") for n in range(3)]
    judged = {f"q{n}": {f"d{n}": 1} for n in range(3)}
    changes = {"collections": {"demo": {"kind": "demonstration"}}, "k": 3}
    found = sweep(
        changes,
        demonstration=lambda: MemoryDataset("", "demonstration", documents, asked, judged),
    )
    assert found.made.failures == []
    assert found.value("one.flat.hybrid", "demo", "R@5") == 1.0
    assert found.difference("one.flat.rrf", "R@5").mean == 0.0


def test_an_encoder_or_an_index_with_another_name_makes_nothing_anew_but_runs(here, counted_work):
    sweep()
    counted_work["built"].clear()
    made = {"one": Counting("one", 16)}
    found = sweep(
        {"encoders": {"new": "one"}, "indexes": {"other": "Flat"}, "baseline": ""}, made=made
    )
    assert made["one"].encoded == []
    assert counted_work["built"] == []
    assert list(found.made.runs["left"]) == ["new.other.hybrid", "new.other.rrf"]


def test_another_precision_encodes_anew_beside_what_is_there(here):
    made = {"one": Counting("one", 16)}
    only = {"encoders": {"one": "one"}}
    sweep(only, made=made)
    made["one"].arithmetic, made["one"].query_arithmetic = "bf16", "fp32"
    found = sweep(only, made=made)
    assert found.made.failures == []
    assert len(made["one"].encoded) == 2 * (40 + 12 + 40 + 5)
    made["one"].arithmetic = made["one"].query_arithmetic = None
    sweep(only, made=made)
    assert len(made["one"].encoded) == 2 * (40 + 12 + 40 + 5)
