"""Re-ranking with a cross-encoder: orders and scores against plain transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from dupmae_toolkit.collection.trec import read_metadata, read_run, write_run
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.mining.teachers.cross_encoder import CrossEncoder
from dupmae_toolkit.records import Document, Query, Ranking, Run
from dupmae_toolkit.search import reranking
from dupmae_toolkit.search.reranking import rerank
from tests.cli_support import run as dupmae
from tests.test_cross_encoder import pair_tokenizer, save_classifier

DICE = np.random.default_rng(3)
TEXTS = {f"d{n}": " ".join(f"w{k}" for k in DICE.integers(0, 50, 3 + n)) for n in range(20)}
TEXTS |= {"empty": "", "twin-b": "w1 w2", "twin-a": "w1 w2"}
QUERIES = {"1": "w3 w4", "02": "w7p3", "none": "w9"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cross")
    return folder, save_classifier(folder)


def first_run():
    ids = sorted(TEXTS)
    made = Run(tag="first", metadata={"mode": "hybrid"})
    made.topics["1"] = Ranking(ids[::-1], np.arange(len(ids), 0, -1, dtype=np.float32))
    made.topics["none"] = Ranking([], np.empty(0))
    made.topics["02"] = Ranking(ids[3:8], np.linspace(2, 1, 5, dtype=np.float32))
    return made


def by_transformers(classifier, query, names):
    """Names by descending score, then by descending name, and the scores; one pair at a time."""
    scores = {}
    for name in names:
        inputs = pair_tokenizer()(
            [query],
            [f"title {TEXTS[name]}" if name == "d5" else TEXTS[name]],
            truncation="longest_first",
            max_length=40,
            return_tensors="pt",
        )
        with torch.no_grad():
            scores[name] = float(classifier(**inputs).logits[0, 0])
    # A batch's padding moves the last digits.
    order = sorted(names, key=lambda name: (round(scores[name], 5), name), reverse=True)
    return order, scores


def corpus():
    return [Document(name, "title" if name == "d5" else "", text) for name, text in TEXTS.items()]


@pytest.mark.parametrize("depth", [1, 4, 23, 1000])
def test_the_first_are_in_the_order_of_transformers_and_the_others_below(model, depth):
    folder, classifier = model
    first = first_run()
    scorer = CrossEncoder(folder, precision="fp32")
    queries = [Query(name, text) for name, text in QUERIES.items()]
    made = rerank(first, queries, corpus(), scorer, depth)
    assert list(made.topics) == ["1", "none", "02"]
    assert made["none"].ids == []
    for topic in ("1", "02"):
        ids = first[topic].ids
        order, scores = by_transformers(classifier, QUERIES[topic], ids[:depth])
        assert made[topic].ids == [*order, *ids[depth:]]
        top = made[topic].scores[: len(order)]
        assert top == pytest.approx([scores[name] for name in order], abs=1e-5)
        assert (np.diff(made[topic].scores) <= 0).all()
        below = made[topic].scores[len(order) :]
        assert below == pytest.approx(top[-1] - np.arange(1, len(below) + 1))
    assert made.tag == "first-reranked"
    about = made.metadata["reranked"]
    assert about["pairs"] == min(depth, len(TEXTS)) + min(depth, 5)
    assert about["depth"] == depth
    assert about["by"]["weights_sha256"]
    assert made.metadata["first"] == {"tag": "first", "mode": "hybrid"}


class Fixed:
    """Gives the scores that it was made with, and keeps the pairs."""

    def __init__(self, score):
        self.score, self.pairs = score, []

    def score_pairs(self, pairs):
        self.pairs.append(len(pairs))
        return np.array([self.score(query, text) for query, text in pairs], np.float64)

    def describe(self):
        return {"kind": "fixed"}


def test_equal_scores_and_scores_equal_as_float32_go_by_id_descending():
    found = Run()
    found.topics["1"] = Ranking(["c", "a", "b"], np.array([3.0, 2, 1], np.float32))
    texts = {"a": 1.0, "b": 1.0, "c": 1.0 + 1e-12}
    documents = [Document(name, "", name) for name in texts]
    made = rerank(found, [Query("1", "q")], documents, Fixed(lambda _, text: texts[text]))
    assert made["1"].ids == ["c", "b", "a"]  # as trec_eval orders them


def test_topics_are_scored_in_groups_with_the_same_result(monkeypatch):
    def score(query, text):
        return (len(text) * 7 + len(query)) % 11

    first = first_run()
    queries = [Query(name, text) for name, text in QUERIES.items()]
    whole = rerank(first, queries, corpus(), Fixed(score))
    monkeypatch.setattr(reranking, "_PAIRS", 1)
    scorer = Fixed(score)
    apart = rerank(first, queries, corpus(), scorer)
    assert scorer.pairs == [23, 5]
    for topic in first.topics:
        assert apart[topic].ids == whole[topic].ids
        assert apart[topic].scores.tolist() == whole[topic].scores.tolist()


def test_a_run_without_hits_is_given_back():
    nothing = Run(topics={"1": Ranking([], np.empty(0))})
    made = rerank(nothing, [Query("1", "q")], [], Fixed(lambda *_: 0))
    assert made["1"].ids == []


def test_what_cannot_be_scored_is_refused_before_anything_is():
    first, scorer = first_run(), Fixed(lambda *_: 0)
    queries = [Query(name, text) for name, text in QUERIES.items()]
    with pytest.raises(InputError, match="the run: no query for 1 topic: '02'; give the queries"):
        rerank(first, [queries[0], queries[2]], corpus(), scorer)
    lacking = [each for each in corpus() if each.id not in ("d9", "d0")]
    with pytest.raises(InputError, match=r"the corpus lacks 2 documents: 'd9' and 1 more; give"):
        rerank(first, queries, lacking, scorer)
    assert scorer.pairs == []
    # Below the depth, texts are not needed.
    assert rerank(first, queries, lacking, scorer, 3)["1"].ids[3:] == first["1"].ids[3:]
    for depth in (0, -1, 2.5, True, "3"):
        with pytest.raises(InputError, match="depth is"):
            rerank(first, queries, corpus(), scorer, depth)
    for bad in (np.nan, np.inf, 1e300):
        with pytest.raises(DupMAEError, match="not one number for each pair"):
            rerank(first, queries, corpus(), Fixed(lambda *_, bad=bad: bad))


@pytest.fixture
def files(tmp_path):
    write_run(first_run(), tmp_path / "first.trec")
    lines = [json.dumps({"id": d.id, "title": d.title, "text": d.text or "-"}) for d in corpus()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    rows = "".join(f"{name}\t{text}\n" for name, text in QUERIES.items())
    (tmp_path / "queries.tsv").write_text(rows)
    return tmp_path


def test_the_command_writes_the_run_and_how_it_was_made(files, model, capsys):
    words = ["--corpus", files / "corpus.jsonl", "--queries", files / "queries.tsv"]
    words += ["--cross-encoder", model[0], "--precision", "fp32", "--depth", 4]
    out = files / "out.trec"
    code, shown, err = dupmae(capsys, "rerank", files / "first.trec", *words, "-o", out)
    assert (code, shown) == (0, "")
    assert f"{out}: 3 topics, 28 hits, the first 4 ranked again" in err
    made = read_run(out)
    order, _ = by_transformers(model[1], QUERIES["02"], first_run()["02"].ids[:4])
    assert made["02"].ids == [*order, first_run()["02"].ids[4]]
    about = read_metadata(out)
    assert about["reranked"]["by"]["model"] == str(model[0])
    assert about["reranked"]["cut"] == 0
    assert about["first"]["mode"] == "hybrid"
    assert about["topics_without_hits"] == ["none"]
    card = json.loads((files / "out.trec.card.json").read_text())
    assert {each["option"]: each["sha256"] is not None for each in card["inputs"]} == {
        "RUN": True,
        "--corpus": True,
        "--queries": True,
        "--cross-encoder": True,
    }
    code, _, err = dupmae(capsys, "reproduce", files / "out.trec.card.json")
    assert code == 0, err
    same = ["--depth", 4, "--output", "-"]
    code, shown, _ = dupmae(capsys, "rerank", files / "first.trec", *words, *same)
    assert code == 0
    assert shown == out.read_text()


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"--cross-encoder": "nowhere"}, "nowhere"),
        ({"--corpus": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"--queries": "nowhere.tsv"}, "nowhere.tsv"),
        ({"--output": "first.trec"}, "is the run to be ranked again"),
        ({"--max-length": "3"}, "max length 3; give"),
        ({"--depth": "0"}, "--depth"),
    ],
)
def test_a_fault_is_one_line_and_nothing_is_written(files, model, capsys, changed, fault):
    given = {
        "--corpus": str(files / "corpus.jsonl"),
        "--queries": str(files / "queries.tsv"),
        "--cross-encoder": str(model[0]),
        "--output": str(files / "out.trec"),
    }
    given |= {k: str(files / v) if k == "--output" else v for k, v in changed.items()}
    before = sorted(path.name for path in files.iterdir())
    words = [word for pair in given.items() for word in pair]
    code, out, err = dupmae(capsys, "rerank", files / "first.trec", *words)
    assert (code, out) == (2, "")
    assert fault in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in files.iterdir()) == before
