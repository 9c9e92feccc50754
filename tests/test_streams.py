"""Streams of training texts: resumable, weighted, shuffled, and honest about what is empty."""

from __future__ import annotations

import gzip
import json
import lzma
import random
from collections import Counter
from itertools import islice

import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document
from dupmae_toolkit.training.data import streams
from dupmae_toolkit.training.data.groups import Pair
from dupmae_toolkit.training.data.streams import (
    Batches,
    check_sources,
    open_texts,
    pairs,
    sentence_pair,
    shuffled,
    title_pair,
    training_texts,
)
from dupmae_toolkit.training.sources import DataSource

TEXT = (
    "The river rose in the night of snow. A small city by the river lost its light. "
    "Nobody saw the ship that came with the wind. Old law had no word for such a war."
)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def corpus(tmp_path):
    rows = [{"title": f"Title {i}", "text": f"Number {i}. {TEXT}"} for i in range(25)]
    return write_lines(tmp_path / "corpus.jsonl", rows)


def texts(source, rng):
    """As pre-training makes its examples of whole texts."""
    return shuffled(lambda: training_texts(source.path), rng, source.path)


def batches(sources, make=texts, seed=1, size=4):
    return Batches(sources, size, seed, make, lambda batch: list(batch))


@pytest.mark.parametrize("make", [texts, pairs])
@pytest.mark.parametrize("kind", ["title", "sentence"])
def test_batch_n_depends_on_the_seed_and_on_n_alone(corpus, tmp_path, make, kind):
    other = write_lines(tmp_path / "other.jsonl", [{"title": "x", "text": TEXT}] * 7)
    sources = [DataSource(corpus, kind, 2), DataSource(other, "sentence")]
    whole = list(islice(batches(sources, make), 40))
    for skip in (1, 17, 39):
        resumed = batches(sources, make)
        resumed.skip = skip
        assert list(islice(resumed, 40 - skip)) == whole[skip:]
    assert list(islice(batches(sources, make), 40)) == whole
    assert list(islice(batches(sources, make, seed=2), 40)) != whole


def test_skipped_batches_are_not_collated(corpus):
    collated = []
    stream = Batches([DataSource(corpus)], 4, 1, texts, lambda batch: collated.append(batch))
    stream.skip = 10
    next(iter(stream))
    assert len(collated) == 1


def test_each_batch_comes_from_one_source_in_proportion_to_the_weights(tmp_path):
    sources = []
    for name, weight in (("a", 3.0), ("b", 1.0), ("c", 0.0)):
        rows = [{"text": f"{name} {i}"} for i in range(50)]
        sources.append(DataSource(write_lines(tmp_path / f"{name}.jsonl", rows), weight=weight))
    counts = Counter()
    for batch in islice(batches(sources), 400):
        (name,) = {text.split()[0] for text in batch}
        counts[name] += 1
    assert set(counts) == {"a", "b"}
    assert 240 < counts["a"] < 360


@pytest.mark.parametrize("buffer", [1, 3, 10, 11, 100])
def test_every_round_of_a_shuffle_has_every_item_once(monkeypatch, buffer):
    monkeypatch.setattr(streams, "BUFFER", buffer)
    stream = shuffled(lambda: range(10), random.Random(0))
    rounds = [list(islice(stream, 10)) for _ in range(5)]
    assert all(sorted(items) == list(range(10)) for items in rounds)
    if buffer > 1:
        assert len({tuple(items) for items in rounds}) > 1


def test_a_shuffle_of_nothing_is_refused_with_its_name():
    with pytest.raises(InputError, match=r"notes\.txt: no training data"):
        next(shuffled(list, random.Random(0), "notes.txt"))


def test_texts_need_no_ids_and_may_be_plain_lines(tmp_path):
    rows = [{"title": "A", "text": "b"}, {"text": "only text"}, {"contents": "c"}]
    expected = ["A b", "only text", "c"]
    plain = write_lines(tmp_path / "a.jsonl", rows)
    assert [d.contents for d in open_texts(plain)] == expected
    data = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(data))
    (tmp_path / "c.jsonl.xz").write_bytes(lzma.compress(data))
    (tmp_path / "d.txt").write_text("A b\n\nonly text\nc\n", encoding="utf-8")
    (tmp_path / "e.tsv").write_text("1\tA b\n2\tonly text\n3\tc\n", encoding="utf-8")
    for name in ("b.jsonl.gz", "c.jsonl.xz", "d.txt", "e.tsv"):
        assert [d.contents for d in open_texts(str(tmp_path / name))] == expected


def test_a_line_that_does_not_parse_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl:2: broken JSON"):
        list(open_texts(str(path)))
    path.write_text('{"text": "a"}\n{"title": "b"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl:2: no text"):
        list(open_texts(str(path)))


def test_a_title_pair_needs_both(corpus):
    assert title_pair(Document("1", " A ", " b "), random.Random(0)) == Pair("A", "b")
    assert title_pair(Document("1", "", "b"), random.Random(0)) is None
    assert title_pair(Document("1", "A", " "), random.Random(0)) is None
    drawn = {pair.query for pair in islice(pairs(DataSource(corpus), random.Random(0)), 25)}
    assert drawn == {f"Title {i}" for i in range(25)}


def test_a_sentence_pair_is_a_sentence_and_the_rest_of_its_text():
    document = Document("1", "Floods", TEXT)
    sentences = [f"{part}." for part in TEXT.rstrip(".").split(". ")]
    rng, kept, queries = random.Random(0), 0, set()
    for _ in range(500):
        pair = sentence_pair(document, rng)
        assert pair.query in sentences
        assert pair.document.startswith("Floods ")
        queries.add(pair.query)
        kept += pair.query in pair.document
        for part in pair.document.removeprefix("Floods ").rstrip(".").split(". "):
            assert f"{part}." in sentences
    assert queries == set(sentences)
    assert 40 < kept < 160


@pytest.mark.parametrize("text", ["", "One. Two. Three.", "No end here", "A b c d e. F g h i j."])
def test_a_text_of_few_or_odd_sentences_gives_no_pair(text):
    assert sentence_pair(Document("1", "T", text), random.Random(0)) is None


def test_documents_that_give_no_pair_are_passed_over(tmp_path):
    rows = [{"title": "", "text": "a"}] * 20 + [{"title": "T", "text": "b"}]
    source = DataSource(write_lines(tmp_path / "a.jsonl", rows))
    assert list(islice(pairs(source, random.Random(0)), 3)) == [Pair("T", "b")] * 3


def test_a_source_without_any_pair_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MOST_MISSES", 50)
    source = DataSource(write_lines(tmp_path / "a.jsonl", [{"text": "a"}]))
    with pytest.raises(InputError, match=r"a\.jsonl: 51 documents without a 'title' pair"):
        next(pairs(source, random.Random(0)))


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": f"T{i}", "text": f"text {i}"} for i in range(5)]
    write_lines(folder / "corpus.jsonl", documents)
    write_lines(
        folder / "queries.jsonl", [{"_id": f"q{i}", "text": f"query {i}"} for i in range(4)]
    )
    rows = ["query-id\tcorpus-id\tscore", "q0\td0\t1", "q0\td3\t2", "q1\td1\t0", "q2\tgone\t1"]
    (folder / "qrels" / "train.tsv").write_text("\n".join([*rows, "q3\td4\t1"]) + "\n")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t0\n")
    return str(folder)


def test_judged_groups_are_the_positive_judgements_whose_documents_exist(beir):
    both = frozenset({"T0 text 0", "T3 text 3"})
    expected = {
        ("query 0", "T0 text 0", both),
        ("query 0", "T3 text 3", both),
        ("query 3", "T4 text 4", frozenset({"T4 text 4"})),
    }
    stream = pairs(DataSource(beir, "beir"), random.Random(0))
    for _ in range(3):
        examples = [draw.drawn(0) for draw in islice(stream, 3)]
        assert {(e.query, e.documents[0], e.answers) for e in examples} == expected


def test_a_split_without_positive_judgements_is_refused(beir):
    with pytest.raises(InputError, match="split dev: no training data"):
        next(pairs(DataSource(beir, "beir", split="dev"), random.Random(0)))


def test_sources_are_checked_before_training_begins(tmp_path, corpus, beir):
    check_sources([DataSource(corpus), DataSource(beir, "anything")])
    check_sources(
        [DataSource(corpus), DataSource(corpus, "sentence"), DataSource(beir, "beir")],
        need_pairs=True,
    )
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    untitled = write_lines(tmp_path / "untitled.jsonl", [{"text": "a b c d e f."}] * 3)
    for source, need_pairs, message in (
        (DataSource(str(tmp_path / "none.jsonl")), False, "none.jsonl"),
        (DataSource(str(empty)), False, "empty.jsonl: not one text in it"),
        (DataSource(str(empty)), True, "empty.jsonl: not one pair of kind 'title'"),
        (DataSource(untitled), True, "untitled.jsonl: not one pair of kind 'title'"),
        (DataSource(untitled, "sentence"), True, "not one pair of kind 'sentence'"),
        (DataSource(corpus, "answer"), True, "kind 'answer': choose one of"),
        (DataSource(beir, "beir", split="test"), True, "test"),
        (DataSource(corpus, "beir"), True, "corpus.jsonl"),
    ):
        with pytest.raises(InputError) as refusal:
            check_sources([DataSource(corpus), source], need_pairs=need_pairs)
        assert message in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["title", "sentence", "phrase"])
def test_only_the_first_words_of_a_text_are_used(tmp_path, kind):
    text = " ".join(f"Word{i} has five more words here." for i in range(30))
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"title": "T", "text": text}) + "\n", "utf-8")
    source = DataSource(str(path), kind, words=25)
    for pair in islice(pairs(source, random.Random(1)), 20):
        found = set((pair.query + " " + pair.document).split()) - {"T"}
        assert found <= set(text.split()[:25]) | {word.rstrip(".") for word in text.split()[:25]}
    whole = DataSource(str(path), kind)
    longest = max(len(p.document.split()) for p in islice(pairs(whole, random.Random(1)), 20))
    assert longest > 25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "beir", "words": 5}, "words cuts the texts of kind title"),
        ({"words": -1}, "words is -1"),
    ],
)
def test_words_that_cut_nothing_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        DataSource("x", **settings)
