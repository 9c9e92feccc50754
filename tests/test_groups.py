"""Queries with positives and negatives: what files hold them, and what a batch draws from them."""

from __future__ import annotations

import gzip
import json
import random
from itertools import islice

import pytest

from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.data.group_files import parse_group, parse_texts
from dupmae_toolkit.training.data.group_sources import Opened, document_texts
from dupmae_toolkit.training.data.groups import Draw, Group, Pair, ScoredText, document_of
from dupmae_toolkit.training.data.line_files import LineFile
from dupmae_toolkit.training.data.streams import Batches, check_sources, pairs
from dupmae_toolkit.training.sources import DataSource

OURS = {
    "query_id": "7",
    "query": "a question",
    "positives": [{"id": "p", "title": "A title", "text": "the answer", "score": 9.5}],
    "negatives": [
        {"id": "n", "title": "", "text": "no answer", "score": -1, "rank": 3},
        {"id": "m", "text": "nothing"},
    ],
}
TEVATRON = {
    "query_id": "7",
    "query": "a question",
    "positive_passages": [{"docid": "p", "title": "A title", "text": "the answer"}],
    "negative_passages": [{"docid": "n", "title": None, "text": "no answer"}],
}
FLAG = {
    "query": "a question",
    "pos": ["the answer"],
    "neg": ["no answer", "nothing"],
    "pos_scores": [9.5],
    "neg_scores": [-1, 0.5],
}


def parsed(values, number=3):
    return parse_group(json.dumps(values), "a.jsonl", number)


def test_groups_are_read_in_three_forms():
    answer = ScoredText("A title the answer", 9.5)
    ours = Group(
        "a question", [answer], [ScoredText("no answer", -1), ScoredText("nothing")], "a.jsonl:3"
    )
    assert parsed(OURS) == ours
    assert parsed(TEVATRON) == Group(
        "a question", [ScoredText("A title the answer")], [ScoredText("no answer")], "a.jsonl:3"
    )
    negatives = [ScoredText("no answer", -1), ScoredText("nothing", 0.5)]
    assert parsed(FLAG) == Group(
        "a question", [ScoredText("the answer", 9.5)], negatives, "a.jsonl:3"
    )
    assert parsed({"query": "q", "pos": ["p"]}).negatives == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "not a JSON object"),
        ({"pos": ["a"]}, "no text (one of query"),
        ({"query": " ", "pos": ["a"]}, "the query is empty"),
        ({"query": "q"}, "no positives; expected a list under positives"),
        ({"query": "q", "pos": []}, "no positive for the query"),
        ({"query": "q", "positives": None}, "no positive for the query"),
        ({"query": "q", "pos": "a"}, "pos is not a list"),
        ({"query": "q", "pos": [5]}, "pos, number 1: not a string"),
        ({"query": "q", "pos": ["a", " "]}, "pos, number 2 is empty"),
        ({"query": "q", "pos": ["a"], "pos_scores": [1, 2]}, "1 texts and pos_scores 2 numbers"),
        ({"query": "q", "pos": ["a"], "pos_scores": ["1"]}, "score is '1', not a number"),
        ({"query": "q", "pos": ["a"], "pos_scores": [True]}, "score is True, not a number"),
        ({"query": "q", "pos": ["a"], "pos_scores": [float("nan")]}, "score is nan, not a number"),
        ({"query": "q", "pos": ["a"], "pos_scores": [10**400]}, "that float32 can hold"),
        ({"query": "q", "pos": ["a"], "pos_scores": [1e39]}, "is 1e+39, not a number that float32"),
        ({"query": "q", "positives": ["a"]}, "positives, number 1: not an object"),
        ({"query": "q", "positives": [{"title": "a"}]}, "text must be a string"),
        ({"query": "q", "positives": [{"text": ""}]}, "positives, number 1 is empty"),
        ({"query": "q", "positives": [{"text": "\ud800"}]}, "half a surrogate pair"),
    ],
)
def test_a_malformed_group_is_refused_with_its_line(values, message):
    with pytest.raises(InputError) as refusal:
        parsed(values)
    assert message in str(refusal.value)
    assert str(refusal.value).startswith("a.jsonl:3: ")
    assert len(str(refusal.value)) < 200


def test_pairs_and_triples_come_as_columns_or_as_json():
    triple = Group("q", [ScoredText("p")], [ScoredText("n")], "a:1")
    assert parse_texts("q\tp\tn", "a", 1, json=False, columns=3) == triple
    text = json.dumps({"anchor": "q", "positive": "p", "negative": "n"})
    assert parse_texts(text, "a", 1, json=True, columns=3) == triple
    assert parse_texts(text, "a", 1, json=True, columns=2).negatives == []
    for line, columns, message in (
        ("q\tp", 3, "a:1: 2 columns; expected query TAB positive TAB negative"),
        ("q", 2, "a:1: 1 column; expected query TAB positive"),
        ("q\t ", 2, "a:1: the positive is empty"),
    ):
        with pytest.raises(InputError, match=message):
            parse_texts(line, "a", 1, json=False, columns=columns)


def group(negatives=10):
    names = [ScoredText(f"n{i}", float(i)) for i in range(negatives)]
    return Group(
        "q", [ScoredText("p0", 50.0), ScoredText("p1", 51.0)], [*names, ScoredText("p1")], "here"
    )


def test_negatives_are_drawn_by_the_seed_without_repetition_and_never_an_answer():
    seen, positives = set(), set()
    for seed in range(200):
        example = Draw(group, seed).drawn(4, depth=6)
        assert example == Draw(group, seed).drawn(4, depth=6)
        positive, *negatives = example.documents
        positives.add(positive)
        seen |= set(negatives)
        assert len(set(negatives)) == 4
        by_text = {
            passage.text: passage.score for passage in (*group().negatives[:10], *group().positives)
        }
        assert example.scores == [by_text[text] for text in example.documents]
        assert example.answers == {"p0", "p1"}
        assert document_of(Draw(group, seed)) == positive
    assert seen == {f"n{i}" for i in range(6)}
    assert positives == {"p0", "p1"}
    assert set(Draw(group, 1).drawn(100).documents[1:]) == {f"n{i}" for i in range(10)}
    assert len(Draw(lambda: group(0), 1).drawn(3).documents) == 1
    assert document_of(Pair("q", "d")) == "d"


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def marco(tmp_path):
    """MS MARCO's files, made up: 40 passages, 20 queries."""
    write(tmp_path / "collection.tsv", [f"{i}\tpassage “{i}”" for i in range(40)])
    write(tmp_path / "queries.tsv", [f"{i:03}\tquery {i}" for i in range(20)])
    write(tmp_path / "triples.tsv", [f"{i:03}\t{i}\t{i + 20}" for i in range(20)])
    qrels = [f"{i:03} 0 {i} 1" for i in range(20)] + [f"{i:03} 0 {i + 1} 0" for i in range(20)]
    write(tmp_path / "qrels.txt", qrels)
    return tmp_path


def source(folder, name, kind, corpus="collection.tsv"):
    queries = str(folder / "queries.tsv")
    return DataSource(str(folder / name), kind, queries=queries, corpus=str(folder / corpus))


def rounds(given, count, negatives=1):
    stream = pairs(given, random.Random(0))
    return [draw.drawn(negatives) for draw in islice(stream, count)]


@pytest.mark.parametrize(
    ("name", "kind", "other"), [("triples.tsv", "id-triples", 20), ("qrels.txt", "qrels", 1)]
)
@pytest.mark.parametrize("corpus", ["plain", "packed"])
def test_ids_are_looked_up_in_the_collection(marco, name, kind, other, corpus):
    if corpus == "packed":
        data = (marco / "collection.tsv").read_bytes()
        (marco / "packed.tsv.gz").write_bytes(gzip.compress(data))
    path = {"plain": "collection.tsv", "packed": "packed.tsv.gz"}[corpus]
    expected = {(f"query {i}", f"passage “{i}”", f"passage “{i + other}”") for i in range(20)}
    for _ in range(2):
        examples = rounds(source(marco, name, kind, path), 20)
        assert {(e.query, *e.documents) for e in examples} == expected


def test_an_id_that_is_nowhere_is_named_with_its_line(marco):
    for line, message in (
        ("999\t1\t2", r"t\.tsv:1: query '999' is not in .*queries\.tsv"),
        ("001\tx\t2", r"t\.tsv:1: document 'x' is not in .*collection\.tsv"),
        ("001\t1", r"t\.tsv:1: 2 columns; expected query TAB positive TAB negative"),
    ):
        write(marco / "t.tsv", [line])
        with pytest.raises(InputError, match=message):
            check_sources([source(marco, "t.tsv", "id-triples")], need_pairs=True)
    bare = DataSource(str(marco / "triples.tsv"), "id-triples")
    with pytest.raises(InputError, match="needs the key 'queries'"):
        check_sources([bare], need_pairs=True)


def test_every_kind_of_file_gives_its_groups_in_each_round(tmp_path):
    lines = [json.dumps({"query": f"q{i}", "pos": [f"p{i}"], "neg": [f"n{i}"]}) for i in range(30)]
    tsv = [f"q{i}\tp{i}\tn{i}" for i in range(30)]
    files = [
        (write(tmp_path / "a.jsonl", lines), "groups"),
        (write(tmp_path / "a.tsv", tsv), "triples"),
        (write(tmp_path / "b.tsv", [line.rpartition("\t")[0] for line in tsv]), "pairs"),
    ]
    for name in ("a.jsonl", "a.tsv"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    files += [(str(tmp_path / "a.jsonl.gz"), "groups"), (str(tmp_path / "a.tsv.gz"), "triples")]
    for path, kind in files:
        stream = pairs(DataSource(path, kind), random.Random(3))
        orders = []
        for _ in range(3):
            examples = [draw.drawn(1) for draw in islice(stream, 30)]
            expected = {
                (f"q{i}", f"p{i}", f"n{i}")[: 2 if kind == "pairs" else 3] for i in range(30)
            }
            assert {(e.query, *e.documents) for e in examples} == expected
            orders.append([e.query for e in examples])
        assert orders[0] != orders[1]
    with pytest.raises(InputError, match=r"data of kind 'groups' comes as \.jsonl"):
        check_sources([DataSource(files[1][0], "groups")], need_pairs=True)
    write(tmp_path / "none.jsonl", [])
    with pytest.raises(InputError, match=r"none\.jsonl: not one pair of kind 'groups'"):
        check_sources([DataSource(str(tmp_path / "none.jsonl"), "groups")], need_pairs=True)


def test_batch_n_depends_on_the_seed_and_on_n_alone_and_skipping_reads_nothing(marco, monkeypatch):
    given = [source(marco, "triples.tsv", "id-triples"), source(marco, "qrels.txt", "qrels")]
    opened = Opened()

    def stream(skip=0):
        def collate(batch):
            return [draw.drawn(1) for draw in batch]

        batches = Batches(given, 4, 5, lambda s, rng: pairs(s, rng, opened), collate)
        batches.skip = skip
        return iter(batches)

    whole = list(islice(stream(), 12))
    for skip in (1, 7, 11):
        assert list(islice(stream(skip), 12 - skip)) == whole[skip:]
    read = []
    files = opened(given[0])
    monkeypatch.setattr(files, "read", lambda item: read.append(item))
    draws = files.draws(random.Random(0))
    assert len(list(draws)) == 20
    assert read == []


def test_lines_of_a_plain_file_are_those_of_a_reader(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes("\ufeffé one\r\n\r\n  \ntwo\u2028two\nthree".encode())
    source = TextSource(path)
    file = LineFile(source)
    lines = list(file.lines())
    assert [(line.number, file.text(line)) for line in reversed(lines)] == list(source.lines())[
        ::-1
    ]
    path.write_bytes(b"fine\n\xff\n\0\n")
    file = LineFile(source)
    _, broken, nul = file.lines()
    with pytest.raises(InputError, match=r"a\.tsv:2: not UTF-8 text"):
        file.text(broken)
    with pytest.raises(InputError, match=r"a\.tsv:3: a NUL byte"):
        file.text(nul)
    with pytest.raises(InputError, match="no such file"):
        list(LineFile(TextSource(tmp_path / "none.tsv")).lines())


def test_texts_are_found_by_id_whatever_their_hashes(tmp_path, monkeypatch):
    from dupmae_toolkit.training.data import line_files

    monkeypatch.setattr(line_files, "_MASK", 3)  # four different hashes
    write(tmp_path / "c.tsv", [f"d{i}\ttext {i}" for i in range(50)])
    find = document_texts(str(tmp_path / "c.tsv"))
    assert [find(f"d{i}") for i in range(50)] == [f"text {i}" for i in range(50)]
    assert find("d50") is None
    write(tmp_path / "c.jsonl", [json.dumps({"_id": "x", "title": "T", "text": "t"})])
    assert document_texts(str(tmp_path / "c.jsonl"))("x") == "T t"
    write(tmp_path / "bad.tsv", ["d0\tfine", "d1"])
    with pytest.raises(InputError, match=r"bad\.tsv:2: 1 column; expected two"):
        document_texts(str(tmp_path / "bad.tsv"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_corpus_is_looked_up_alike_whether_it_is_packed_or_not(tmp_path, packed):
    def corpus(*lines):
        text = "".join(f"{line}\n" for line in lines)
        path = tmp_path / ("c.tsv.gz" if packed else "c.tsv")
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        return str(path)

    find = document_texts(corpus(*[f"d{i}\ttext {i}" for i in range(30)]))
    assert [find(f"d{i}") for i in (29, 3, 3)] == ["text 29", "text 3", "text 3"]
    assert find("d30") is None
    with pytest.raises(InputError, match=r"c\.tsv.*:3: document d0 comes a second time"):
        document_texts(corpus("d0\ta", "d1\tb", "d0\tc"))
    with pytest.raises(InputError, match=r"c\.tsv.*: no documents in it"):
        document_texts(corpus())
