"""`dupmae beir`: several splits, groups of sets, and judgements without a document or a topic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dupmae_cli import reproduce
from dupmae_cli.beir import _summary
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.collection.beir import open_beir_group
from dupmae_toolkit.collection.beir_sets import BEIR_SETS
from dupmae_toolkit.collection.trec import read_metadata, read_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.beir import BeirOptions, run_beir
from dupmae_toolkit.evaluation.missed import unknown_among, unknown_in
from dupmae_toolkit.evaluation.report.folder import read_sections
from dupmae_toolkit.model import loading
from tests.cli_support import run
from tests.support import HashingEncoder
from tests.test_beir import Counting, make_zip, toy

pytestmark = pytest.mark.java

HEADER = "query-id\tcorpus-id\tscore\n"


def test_splits_share_documents_and_index_and_equal_each_split_alone(tmp_path):
    source = make_zip(tmp_path / "toy.zip", toy())
    encoder = Counting()
    options = BeirOptions("test", more_splits=("train", "test"), k=10)
    results = run_beir(source, encoder, tmp_path / "both", options)
    assert [result.split for result in results] == ["test", "train"]
    assert encoder.encoded == 40 + 12 + 5
    metrics = json.loads((tmp_path / "both" / "metrics.json").read_text())
    for split in ("test", "train"):
        run_beir(source, HashingEncoder(), tmp_path / split, BeirOptions(split, k=10))
        alone = json.loads((tmp_path / split / "metrics.json").read_text())
        ours = metrics["splits"][split]
        assert ours["about"].pop("qrels")["sha256"] == alone["about"].pop("qrels")["sha256"]
        assert ours == alone
        for mode in ("dense", "lexical", "bm25", "hybrid"):
            both = tmp_path / "both" / f"toy.{split}.{mode}.trec"
            assert both.read_bytes() == (tmp_path / split / f"toy.{mode}.trec").read_bytes()
    again = run_beir(source, Counting(fail_after=0), tmp_path / "both", options)
    assert all({"queries", "dense", "hybrid"} <= set(result.reused) for result in again)


def test_each_split_is_a_section_of_the_report_and_the_card_repeats_both(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    source = make_zip(Path("toy.zip"), toy())
    monkeypatch.setattr(loading, "load_encoder", lambda *_, **__: HashingEncoder())
    words = ("beir", source, "--split", "test", "--split", "train", "--output", "runs")
    assert run(capsys, *words)[0] == 0
    sections = read_sections(Path("runs"))
    assert [section.name for section in sections] == ["toy.test", "toy.train"]
    metrics = json.loads(Path("runs/metrics.json").read_text())
    for section in sections:
        alone = metrics["splits"][section.about["split"]]
        assert set(section.runs) == {"dense", "lexical", "bm25", "hybrid"}
        assert section.texts.keys() >= section.qrels.keys()
        for mode, scores in section.measured.scores.items():
            assert scores.means["nDCG@10"] == pytest.approx(alone[mode]["nDCG@10"])
    told = json.loads(Path("runs/card.json").read_text())
    assert set(told["topics"]) == {"toy.test", "toy.train"}
    assert told["figures"]["toy.train hybrid"]["nDCG@10"] == pytest.approx(
        metrics["splits"]["train"]["hybrid"]["nDCG@10"]
    )
    asked: list[list[str]] = []
    monkeypatch.setattr(reproduce, "_repeat", asked.append)
    run(capsys, "reproduce", "runs", "--output", "again")
    ((*words, _, source),) = asked
    assert words[2:] == ["--split=test", "--split=train"]
    assert source == "toy.zip"


@pytest.mark.parametrize("aggregate", [None, "max", "sum3"])
def test_documents_are_ranked_by_their_passages(tmp_path, monkeypatch, capsys, aggregate):
    monkeypatch.chdir(tmp_path)
    source = make_zip(Path("toy.zip"), toy())
    encoder = HashingEncoder()
    monkeypatch.setattr(loading, "load_encoder", lambda *_, **__: encoder)
    how = [] if aggregate is None else ["--aggregate", aggregate]
    code, _, err = run(capsys, "beir", source, "-o", "runs", "--passages", 5, "-k", 20, *how)
    assert code == 0, err
    assert "toy, test: 40 documents, 12 topics" in err
    about = json.loads(Path("runs/metrics.json").read_text())["about"]
    assert about["passages"] == {"size": 5, "overlap": 1, "aggregate": aggregate or "max"}
    (data_set,) = open_beir_group(source)
    with HybridIndex.build("ix", data_set.corpus, encoder, passages=5) as index:
        assert index.manifest.live > 40
        for mode in ("dense", "lexical", "bm25", "hybrid"):
            wanted = index.search_batch(
                list(data_set.queries("test")), 20, mode=mode, aggregate=aggregate
            )
            found = read_run(f"runs/toy.{mode}.trec")
            for topic, ranking in wanted.topics.items():
                assert found[topic].ids == ranking.ids
    code, _, err = run(capsys, "beir", source, "-o", "runs", "-k", 20)
    assert code == 2
    assert "passages" in err
    code, _, err = run(capsys, "beir", source, "-o", "new", "--aggregate", "max")
    assert (code, err) == (2, "dupmae: --aggregate goes with --passages\n")


def test_a_split_that_is_missing_is_refused_before_the_others_are_run(tmp_path):
    source = make_zip(tmp_path / "toy.zip", toy())
    with pytest.raises(InputError, match="no split 'dev' in it; available: test, train"):
        run_beir(source, HashingEncoder(), tmp_path / "x", BeirOptions(more_splits=("dev",)))
    assert not (tmp_path / "x").exists()


def test_a_group_of_twelve_goes_on_where_it_was_stopped(tmp_path):
    forums = [f"forum{n:02}" for n in range(12)]
    files: dict[str, str] = {}
    for n, name in enumerate(forums):
        files |= {f"cqadupstack/{path}": text for path, text in toy(name, seed=n).items()}
    source = make_zip(tmp_path / "cqadupstack.zip", files)
    output = tmp_path / "runs"
    options = BeirOptions(k=5, words=False, measures=("nDCG@10",))
    with pytest.raises(KeyboardInterrupt):
        run_beir(source, Counting(fail_after=2 * 52 + 10), output, options)
    assert sorted(path.parent.name for path in output.rglob("metrics.json")) == forums[:2]
    encoder = Counting()
    results = run_beir(source, encoder, output, options)
    assert encoder.encoded == 10 * 52 - 40, "the third forum's documents are kept, too"
    assert [result.dataset for result in results] == forums
    assert all({"documents", "index", "hybrid"} <= set(r.reused) for r in results[:2])
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["about"]["means_of"] == 12
    for mode in ("dense", "lexical", "hybrid"):
        each = [metrics["datasets"][name][mode]["nDCG@10"] for name in forums]
        assert metrics[mode]["nDCG@10"] == pytest.approx(sum(each) / 12)


@pytest.fixture
def hashing(monkeypatch) -> None:
    """Commands load an encoder that needs no network."""
    monkeypatch.setattr(loading, "load_encoder", lambda *_, **__: HashingEncoder())


def test_the_table_shows_splits_and_sets_with_their_mean(hashing, tmp_path, capsys):
    source = make_zip(tmp_path / "cqa.zip", toy("cqa/a") | toy("cqa/b", seed=4))
    words = ("--no-bm25", "-k", "3", "--measures", "RR", "--split", "train", "--split", "test")
    code, out, _ = run(capsys, "beir", source, "-o", tmp_path / "out", *words)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["split", "data", "set", "mode", "RR"]
    titles = [tuple(line[:3]) for line in lines[1:]]
    assert titles == [
        (split, name, mode)
        for split in ("train", "test")
        for name in ("a", "b", "mean")
        for mode in ("dense", "lexical", "hybrid")
    ]


@pytest.fixture
def astray(tmp_path) -> Path:
    """A set whose judgements name two documents that the corpus lacks."""
    files = toy()
    files["toy/qrels/test.tsv"] += "q0\tno-1\t1\nq0\tno-2\t0\nq1\tno-1\t1\n"
    return make_zip(tmp_path / "toy.zip", files)


def test_judged_documents_that_the_corpus_lacks_are_counted_and_said(
    hashing, astray, tmp_path, capsys
):
    output = tmp_path / "out"
    words = ("beir", astray, "-o", output, "--measures", "RR", "--json")
    code, out, err = run(capsys, *words)
    assert code == 0
    about = json.loads(out)["about"]
    assert about["judged_not_in_corpus"] == 2
    total = about["judged_documents"]
    line = f"2 of {total} judged documents are not in the {{}}, 'no-1' first; are the ids of one"
    assert line.format("corpus") in err
    words = ("--queries", astray, "--split", "test", "-o", tmp_path / "r.trec")
    code, _, err = run(capsys, "search", "-i", output / "index", "--mode", "bm25", *words)
    assert code == 0
    assert line.format("index") in err
    metadata = read_metadata(tmp_path / "r.trec")
    assert (metadata["judged_documents"], metadata["judged_not_in_corpus"]) == (total, 2)


def test_one_document_is_said_in_the_singular_and_none_not_at_all():
    qrels = {"q": {"a": 1, "b": 0.5}, "r": {"a": 0}}
    assert unknown_in(qrels, {"a"}.__contains__).said("index") == (
        "1 of 2 judged documents is not in the index, 'b'"
    )
    assert unknown_in(qrels, {"a", "b"}.__contains__).said("index") == ""
    assert unknown_in({}, {"a"}.__contains__) == (0, 0, "")
    assert unknown_among(qrels, iter(["x", "a"])) == unknown_in(qrels, {"a"}.__contains__)
    assert unknown_among(qrels, ()) == (2, 2, "a")


def test_eval_counts_them_where_it_is_given_the_corpus(astray, tmp_path, capsys):
    (tmp_path / "r.trec").write_text("q0 Q0 001 1 1 t\n")
    words = ("eval", tmp_path / "r.trec", "--qrels", astray, "--split", "test", "--corpus", astray)
    code, _, err = run(capsys, *words)
    assert code == 0
    assert "2 of " in err
    assert "judged documents are not in the corpus, 'no-1' first; are the ids of one kind?" in err
    code, out, err = run(capsys, *words, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["judged_not_in_corpus"] == 2
    assert document["judged_documents"] > 2
    assert run(capsys, *words[:-1], tmp_path / "none.jsonl")[0] == 2


def test_documents_that_cannot_be_indexed_are_not_in_the_corpus_for_eval(tmp_path, capsys):
    (tmp_path / "c.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "b", "text": ""}\n')
    (tmp_path / "q.txt").write_text("q 0 a 1\nq 0 b 1\n")
    (tmp_path / "r.trec").write_text("q Q0 a 1 1 t\n")
    words = ("--qrels", tmp_path / "q.txt", "--corpus", tmp_path / "c.jsonl")
    code, _, err = run(capsys, "eval", tmp_path / "r.trec", *words)
    assert code == 0
    assert "1 of 2 judged documents is not in the corpus, 'b'\n" in err
    assert "skipped" in err


def test_grades_that_are_fractions_need_measures_that_take_them(tmp_path):
    files = toy()
    files["toy/qrels/test.tsv"] = HEADER + "q0\t001\t0.5\nq1\t002\t1\n"
    source = make_zip(tmp_path / "toy.zip", files)
    with pytest.raises(
        InputError, match=r"topic q0 judges 001 0.5, but R@100, RR@10, AP@1000 need"
    ):
        run_beir(source, HashingEncoder(), tmp_path / "x")
    with pytest.raises(InputError, match="'alpha_nDCG@5' needs judgements by subtopic"):
        run_beir(source, HashingEncoder(), tmp_path / "x", BeirOptions(measures=("alpha_nDCG@5",)))
    assert not (tmp_path / "x").exists()
    options = BeirOptions(measures=("nDCG",), words=False)
    (result,) = run_beir(source, HashingEncoder(), tmp_path / "x", options)
    assert 0 < result.scores["hybrid"].means["nDCG"] <= 1


@pytest.fixture
def irds(tmp_path):
    """A set of ir_datasets with a topic without judgements; and a group of two such sets."""
    import ir_datasets

    files = toy()
    documents = [json.loads(line) for line in files["toy/corpus.jsonl"].splitlines()]
    queries = [json.loads(line) for line in files["toy/queries.jsonl"].splitlines()][:3]
    texts = {
        "docs.tsv": "".join(f"{row['_id']}\t{row['text']}\n" for row in documents),
        "queries.tsv": "".join(f"{row['_id']}\t{row['text']}\n" for row in queries),
        "qrels.txt": "q0 0 001 1\nq2 0 002 1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    whole = ir_datasets.create_dataset(
        docs_tsv=str(tmp_path / "docs.tsv"),
        queries_tsv=str(tmp_path / "queries.tsv"),
        qrels_trec=str(tmp_path / "qrels.txt"),
    )
    corpus = ir_datasets.create_dataset(docs_tsv=str(tmp_path / "docs.tsv"))
    sets = {
        "toy-irds": corpus,
        "toy-irds/test": whole,
        "toy-irds/dl": whole,
        "beir/toy-group/one": whole,
        "beir/toy-group/two": whole,
    }
    for name, dataset in sets.items():
        ir_datasets.registry.register(name, dataset)
    yield "toy-irds"
    for name in sets:
        ir_datasets.registry._registered.pop(name)


def test_topics_without_judgements_are_searched_written_counted_and_not_measured(
    hashing, irds, tmp_path, capsys
):
    output = tmp_path / "out"
    words = ("--split", "dl", "--no-bm25", "--measures", "NumQ", "--json")
    code, out, err = run(capsys, "beir", irds, "-o", output, *words)
    assert code == 0
    metrics = json.loads(out)
    assert (metrics["about"]["topics"], metrics["about"]["topics_unjudged"]) == (2, 1)
    assert metrics["hybrid"]["NumQ"] == 2
    assert "2 topics; 1 topic without judgements searched but not measured" in err
    assert set(read_run(output / "toy-irds.hybrid.trec")) == {"q0", "q1", "q2"}


def test_cut_queries_are_counted_among_all_that_were_searched(irds, tmp_path):
    (result,) = run_beir(irds, HashingEncoder(), tmp_path / "out", BeirOptions("dl", words=False))
    result.texts["truncated"] |= {"queries": 3, "query_max_length": 8}
    assert "2 topics; " in _summary(result, None)
    assert "3 of 3 queries cut at 8 tokens" in _summary(result, None)


def test_a_group_of_ir_datasets_is_named_by_the_part_that_its_ids_share(irds, tmp_path):
    found = open_beir_group("beir/toy-group")
    assert [dataset.name for dataset in found] == ["beir-toy-group-one", "beir-toy-group-two"]
    assert [dataset.splits() for dataset in found] == [["test"], ["test"]]
    assert found[0].qrels("test") == {"q0": {"001": 1}, "q2": {"002": 1}}
    assert len(open_beir_group("beir/cqadupstack")) == 12
    with pytest.raises(InputError, match="not a data set of ir_datasets"):
        open_beir_group("beir/toy-grou")


def test_beirs_sets_are_listed_with_their_ids_and_splits_and_no_other_argument(capsys):
    code, out, err = run(capsys, "beir", "--list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == len(BEIR_SETS) == 19
    assert sum("not public" in line for line in lines) == 4
    assert [line.split()[0] for line in lines if line.endswith("--drop-self")] == [
        "ArguAna",
        "Quora",
    ]
    for each in BEIR_SETS:
        if each.id:
            for dataset in open_beir_group(each.id):
                assert tuple(dataset.splits()) == each.splits, each.name
