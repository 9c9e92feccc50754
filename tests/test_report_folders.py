"""What `dupmae report` reads of a folder: its runs, its cards, and nothing that lies elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dupmae_toolkit.collection.opening import read_qrels
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.evaluation.beir import BeirOptions, run_beir
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.report.folder import read_sections
from dupmae_toolkit.evaluation.self_matches import without_self_matches
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.model import loading
from tests.cli_support import run
from tests.support import HashingEncoder
from tests.test_beir import make_zip, toy
from tests.test_report import page_text, write

QUICK = ("--measures", "RR@10", "--topics", 1)


def beir(folder: Path, **options: object) -> Path:
    if not Path("toy.zip").exists():
        make_zip(Path("toy.zip"), toy())
    run_beir("toy.zip", HashingEncoder(), folder, BeirOptions(**({"k": 20} | options)))
    return folder


def sidecar(path: Path, **about: object) -> None:
    told = {"sha256": sha256_file(path)} | about
    path.with_name(f"{path.name}.json").write_text(json.dumps(told))


# Documents with the topic's own id.


def test_self_matches_are_left_out_as_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "r", one="++++")
    rows = [f"q{n} Q0 {d} {r} {9 - r} t" for n in range(4) for r, d in
            enumerate((f"q{n}", f"good{n}", f"bad{n}"), 1)]  # fmt: skip
    (folder / "own.trec").write_text("\n".join(rows) + "\n")
    qrels = read_qrels(folder / "all.qrels")
    whole = read_run(folder / "own.trec")
    for option, found in (("--drop-self", without_self_matches(whole)), ("--keep-self", whole)):
        _, out, _ = run(capsys, "report", folder, "--measures", "RR@10", option, "--json")
        (told,) = json.loads(out)["sets"]
        assert told["runs"]["own"] == evaluate(qrels, found, ["RR@10"]).means
    run(capsys, "report", folder, "--drop-self")
    assert "own: the document with the topic&#x27;s own id is left out in 4 topics." in (
        page_text(folder)
    )
    assert "<bdi>q0</bdi>: <small>" not in page_text(folder)
    err = run(capsys, "report", folder)[2]
    assert "own: the first hit of 4 of 4 topics is the document with the topic's own id" in err
    data = tmp_path / "arguana" / "qrels"
    data.mkdir(parents=True)
    lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\tgood{n}\t1" for n in range(4))]
    (data / "test.tsv").write_text("\n".join(lines) + "\n")
    words = ("report", folder, "--qrels", data / "test.tsv", "--measures", "RR@10", "--json")
    assert json.loads(run(capsys, *words)[1])["sets"][0]["runs"]["own"]["RR@10"] == 1


@pytest.mark.java
@pytest.mark.parametrize("drop", [True, False])
def test_a_folder_of_beir_is_measured_as_it_was(tmp_path, monkeypatch, drop):
    monkeypatch.chdir(tmp_path)
    make_zip(Path("toy.zip"), toy(self_matching=True))
    folder = beir(tmp_path / "runs", drop_self=drop)
    metrics = json.loads((folder / "metrics.json").read_text())
    (section,) = read_sections(folder)
    for mode, scores in section.measured.scores.items():
        assert scores.means["nDCG@10"] == pytest.approx(metrics[mode]["nDCG@10"])
    said = [note for note in section.notes if "own id" in note]
    assert all(("is left out in 12 topics" in note) == drop for note in said)
    assert said
    (section,) = read_sections(folder, drop_self=True)
    for scores in section.measured.scores.values():
        assert scores.means["nDCG@10"] < 1


# The runs of a folder that beir wrote.


@pytest.mark.java
def test_runs_that_metrics_do_not_name_are_left_out_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = beir(tmp_path / "runs", bm25=True)
    beir(folder, k=5)
    shutil.copy(folder / "toy.dense.trec", folder / "mine.trec")
    (section,) = read_sections(folder)
    assert set(section.runs) == {"dense", "lexical", "bm25", "hybrid"}
    assert any("mine.trec, toy.lucene-bm25.trec" in note for note in section.notes)
    _, out, _ = run(capsys, "report", folder, "--qrels", folder / "toy.qrels", *QUICK, "--json")
    assert len(json.loads(out)["sets"][0]["runs"]) == 6
    notes = json.loads(out)["sets"][0]["notes"]
    assert "toy.lucene-bm25 was made with 20 hits for each topic, not with 5." in notes


@pytest.mark.java
def test_a_split_does_not_take_the_runs_of_one_whose_name_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = toy()
    files["toy/qrels/test.small.tsv"] = files.pop("toy/qrels/train.tsv")
    make_zip(Path("toy.zip"), files)
    folder = beir(tmp_path / "runs", more_splits=("test.small",))
    sections = read_sections(folder)
    assert [section.name for section in sections] == ["toy.test", "toy.test.small"]
    assert [len(section.runs) for section in sections] == [4, 4]
    assert not any("Left out" in note for section in sections for note in section.notes)


@pytest.mark.java
def test_a_card_is_shown_where_its_runs_are_and_as_long_as_they_stay(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "load_encoder", lambda *_, **__: HashingEncoder())
    make_zip(tmp_path / "both.zip", toy("one") | toy("two", seed=1))
    assert run(capsys, "beir", "both.zip", "-o", "runs", "--measures", "RR@10", "-k", 5)[0] == 0
    assert [list(s.cards) for s in read_sections(Path("runs"))] == [["card.json"]] * 2
    with Path("runs/two/two.dense.trec").open("a") as file:
        file.write("q0 Q0 new 99 -9 t\n")
    one, two = read_sections(Path("runs"))
    assert (list(one.cards), list(two.cards)) == (["card.json"], [])
    assert "card.json is not shown: the runs are not those it names." in two.notes


@pytest.mark.java
@pytest.mark.parametrize("aggregate", ["max", "sum3"])
def test_sums_of_passages_are_explained(tmp_path, monkeypatch, capsys, aggregate):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "load_encoder", lambda *_, **__: HashingEncoder())
    make_zip(Path("toy.zip"), toy())
    words = ("--passages", 5, "--aggregate", aggregate, "-k", 20)
    assert run(capsys, "beir", "toy.zip", "-o", "runs", *words)[0] == 0
    err = run(capsys, "report", "runs", *QUICK)[2]
    assert "Nothing is explained" not in err
    assert "<details>" in page_text(Path("runs"))


# Files that a run names.


@pytest.mark.parametrize("how", ["outside", "dots", "link", "link inside", "inside", "below"])
def test_only_what_lies_with_the_runs_is_read(tmp_path, monkeypatch, capsys, how):
    here, away = tmp_path / "here", tmp_path / "away"
    folder = write(here / "r", a="++++")
    away.mkdir()
    secret = away / "secret.tsv"
    for path in (secret, folder / "in.tsv", here / "below.tsv"):
        path.write_text("q0\tthe secret text\n")
    (here / "link.tsv").symlink_to(secret)
    (here / "tree").mkdir()
    (here / "tree" / "queries.jsonl").symlink_to(secret)
    monkeypatch.chdir(here)
    stated = {
        "outside": str(secret),
        "dots": "r/../below.tsv",
        "link": "link.tsv",
        "link inside": "tree",
        "inside": str(folder / "in.tsv"),
        "below": "below.tsv",
    }[how]
    sidecar(folder / "a.trec", queries=stated, split=None)
    code, _, err = run(capsys, "report", folder)
    good = how in ("inside", "below")
    assert code == 0
    assert ("the secret text" in page_text(folder)) == good
    assert ("name the file with --queries" in err) == (not good)
    assert (f"read {stated}" in err) == good
    code, _, err = run(capsys, "report", folder, "--queries", secret)
    assert "the secret text" in page_text(folder)
    assert f"read {secret}" in err


def test_an_index_elsewhere_is_not_read(tmp_path, monkeypatch, capsys):
    folder = write(tmp_path / "here" / "r", a="++++")
    away = tmp_path / "away"
    away.mkdir()
    (away / "manifest.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "here")
    sidecar(folder / "a.trec", index=str(away), mode="bm25")
    err = run(capsys, "report", folder)[2]
    assert "Nothing is explained: " in err
    assert "name the index with --index" in err
    err = run(capsys, "report", folder, "--index", away)[2]
    assert f"read {away}" in err  # and found to be no index
    assert run(capsys, "report", folder, "--index", "none")[0] == 2
    assert run(capsys, "report", tmp_path / "here", "--index", away)[0] == 2
    assert run(capsys, "report", tmp_path / "here", "--queries", "q.tsv")[0] == 2


# Records of any kind.


@pytest.mark.parametrize(
    "about",
    [
        *({"index": "x" * 5000, "mode": "bm25"}, {"queries": "x" * 5000}, {"k": 10**400}),
        *({"topics_with_self_match": 10**400, "self_matches": "removed"}, {"index": "\0"}),
    ],
)
def test_huge_values_in_a_record_do_no_harm(tmp_path, monkeypatch, capsys, about):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "r", a="++++")
    sidecar(folder / "a.trec", **about)
    assert run(capsys, "report", folder)[0] == 0


@pytest.mark.java
@pytest.mark.parametrize(
    "changes",
    [
        {"lexical": {"frequencies": {"power": 10**400}}},
        {"depth": 10**400},
        {"passages": {"aggregate": 7}},
        {"passages": 7},
    ],
)
def test_huge_numbers_cost_only_the_explanations(tmp_path, monkeypatch, capsys, changes):
    monkeypatch.chdir(tmp_path)
    folder = beir(tmp_path / "runs")
    path = folder / "toy.hybrid.trec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    code, _, err = run(capsys, "report", folder, *QUICK)
    assert (code, "Nothing is explained" in err) == (0, "depth" not in changes)


def test_a_fused_run_is_said_to_name_no_index(tmp_path, capsys):
    folder = write(tmp_path / "r", a="++++", b="+-+-")
    assert (
        run(capsys, "fuse", folder / "a.trec", folder / "b.trec", "-o", folder / "f.trec")[0] == 0
    )
    (folder / "a.trec").unlink()
    err = run(capsys, "report", folder, "--baseline", "b")[2]
    assert "Nothing is explained: f names no index, as runs of `dupmae fuse` do not." in err


def test_a_card_with_a_huge_number_is_shown_without_it(tmp_path, capsys):
    folder = write(tmp_path / "r", a="++++")
    output = {"path": "a.trec", "sha256": sha256_file(folder / "a.trec")}
    told = {"card": 1, "command": ["dupmae", "fuse"], "inputs": [], "outputs": [output]}
    (folder / "a.trec.card.json").write_text(
        json.dumps(told | {"figures": {}, "seconds": 10**400, "started": "now"})
    )
    assert run(capsys, "report", folder)[0] == 0
    assert "dupmae fuse" in page_text(folder)
    assert "seconds" not in page_text(folder)
