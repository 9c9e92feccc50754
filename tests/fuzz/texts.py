"""Readers of text files: collections, judgements, runs, training data, recipes."""

from __future__ import annotations

import gzip
import json
import lzma
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dupmae_toolkit.collection.beir import open_beir
from dupmae_toolkit.collection.corpora import line_parser
from dupmae_toolkit.collection.identifiers import check_id
from dupmae_toolkit.collection.ids import read_ids
from dupmae_toolkit.collection.lines import check_text
from dupmae_toolkit.collection.opening import open_corpus, read_qrels, read_queries
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.collection.trec import read_metadata, read_run, write_run
from dupmae_toolkit.files import read_json
from dupmae_toolkit.mining.examples import read_examples
from dupmae_toolkit.records import Document, Query, Ranking, Run
from dupmae_toolkit.training.data.group_files import parse_group, parse_texts
from dupmae_toolkit.training.data.line_files import TextStore
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.recipe_files import load_recipe
from tests.fuzz.readers import Reader

DOCUMENTS = [
    {"_id": f"d{n}", "title": f"Title {n}", "text": f"words of text {n} \u65e5\u672c"}
    for n in range(12)
]
QUERIES = [{"_id": f"q{n}", "text": f"question {n}"} for n in range(5)]


def lines(records: Iterable[dict]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


CORPUS, TOPICS = lines(DOCUMENTS), lines(QUERIES)
TSV = b"".join(f"d{n}\tsome text {n}\n".encode() for n in range(12))
CSV = b"id,title,text\n" + b"".join(
    f'd{n},"Title, {n}","text ""{n}""\nof two lines"\n'.encode() for n in range(12)
)
ARRAY = json.dumps(DOCUMENTS, indent=1).encode()
NESTED = json.dumps({f"q{n}": {f"d {n}": n % 3} for n in range(5)}, indent=1).encode()
QRELS = b"query-id\tcorpus-id\tscore\n" + b"".join(
    b"q%d\td%d\t%d\n" % (n, n, n % 3) for n in range(5)
)
GROUP = {"query": "a b", "positives": [{"id": "d1", "title": "", "text": "a", "score": 1.5}]}
GROUP |= {"query_id": "q1", "negatives": [{"id": "d2", "title": "t", "text": "c", "score": None}]}
PAIRS = {"query": "a", "pos": ["b", "c"], "neg": ["d"], "pos_scores": [1, 2.5], "neg_scores": [0]}
RECIPE = """\
# Comments are kept out.
model: builtin
output: out
steps: 100
batch_size: 8
learning_rate: 1e-4
warmup: 0.1
precision: fp32
encoder: {top_k: 64, max_length: 128}
data:
  - path: corpus.jsonl
    weight: 2
  - path: more.tsv
    weight: 0.5
"""
PRETRAIN = RECIPE + "preset: official\nsettings: {}\nmax_length: 64\n"
FINETUNE = RECIPE + (
    "losses: {joint: 1.0, teacher_joint: 0.5}\n"
    "teachers:\n  - {kind: bm25, scale: 2.0}\ndense_sizes: [32, 64]\nnegatives: 3\n"
)


def write(name: str, data: bytes):
    def make(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return make


def corpus(name: str):
    def read(folder: Path) -> list[tuple[str, str, str]]:
        found = [_sound(document) for document in open_corpus(folder / name)]
        lenient = open_corpus(folder / name, skip_invalid=True)
        kept = [_sound(document) for document in lenient]
        assert kept == found
        assert not lenient.skipped
        return found

    return read


def _sound(document: Document) -> tuple[str, str, str]:
    check_id(document.id, "fuzz", None)
    for text in (document.title, document.text):
        check_text(text, "fuzz", None, "text")
    assert document.contents.strip()
    return document.id, document.title, document.text


def topics(name: str):
    def read(folder: Path) -> list[tuple[str, str]]:
        return _topics(read_queries(folder / name))

    return read


def _topics(found: list[Query]) -> list[tuple[str, str]]:
    assert found
    assert len({query.id for query in found}) == len(found)
    for query in found:
        check_id(query.id, "fuzz", None)
        check_text(query.text, "fuzz", None, "text")
        assert query.text.strip()
    return [(query.id, query.text) for query in found]


def qrels(folder: Path):
    found = read_qrels(folder / "qrels.tsv")
    assert all(type(grade) is int for judged in found.values() for grade in judged.values())
    return found


def make_beir(folder: Path) -> None:
    with zipfile.ZipFile(folder / "toy.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy/corpus.jsonl", CORPUS)
        archive.writestr("toy/queries.jsonl.gz", gzip.compress(TOPICS, mtime=0))
        archive.writestr("toy/qrels/test.tsv", QRELS)
        archive.writestr("toy/qrels/train.tsv.xz", lzma.compress(QRELS))


def beir(folder: Path):
    data = open_beir(folder / "toy.zip")
    found = [_sound(document) for document in data.corpus]
    return found, [(s, data.qrels(s), _topics(data.queries(s))) for s in data.splits()]


def make_run(folder: Path) -> None:
    run = Run(tag="t", metadata={"k": 3})
    for topic in range(4):
        run.topics[f"q{topic}"] = Ranking([f"d{n}" for n in range(topic)], -np.arange(topic) / 3)
    write_run(run, folder / "run.trec")


def run(folder: Path):
    found = read_run(folder / "run.trec")
    read_run(folder / "run.trec", ties="trec_eval")
    for ranking in found.topics.values():
        assert np.isfinite(ranking.scores).all()
        assert (np.diff(ranking.scores) <= 0).all()
        assert len(set(ranking.ids)) == len(ranking.ids) == len(ranking.scores)
    return [(t, r.ids, r.scores.tolist()) for t, r in found.topics.items()], repr(found.metadata)


def groups(folder: Path):
    file = TextSource(folder / "groups.jsonl")
    found = [parse_group(text, file, number) for number, text in file.lines()]
    for group in found:
        for passage in (*group.positives, *group.negatives):
            assert passage.text.strip()
            assert passage.score is None or math.isfinite(passage.score)
    return repr(found)


def examples(folder: Path):
    found = [example for _, example in read_examples(folder / "groups.jsonl")]
    assert all(example.positives for example in found)
    return [example.to_json() for example in found], repr(read_metadata(folder / "groups.jsonl"))


def triples(folder: Path):
    file = TextSource(folder / "triples.tsv")
    return repr(
        [parse_texts(text, file, number, json=False, columns=3) for number, text in file.lines()]
    )


def looked_up(folder: Path):
    lines = line_parser(open_corpus(folder / "corpus.jsonl"))
    if lines is None:  # its first line is broken
        return list(open_corpus(folder / "corpus.jsonl"))
    file, parse = lines

    def pair(text: str, number: int) -> tuple[str, str]:
        document = parse(text, number)
        return document.id, document.contents

    store = TextStore(file, pair)
    return [store.get(f"d{n}") for n in range(12)]


def ids(folder: Path):
    return read_ids(folder / "ids.txt")


def recipe(kind):
    def read(folder: Path) -> str:
        return repr(load_recipe(folder / "recipe.yaml", kind))

    return read


def any_json(folder: Path) -> str:
    return repr(read_json(folder / "any.json"))


READERS = [
    Reader("corpus.jsonl", write("c.jsonl", CORPUS), ["c.jsonl"], corpus("c.jsonl")),
    Reader("corpus.tsv", write("c.tsv", TSV), ["c.tsv"], corpus("c.tsv")),
    Reader(
        "corpus.jsonl.gz",
        write("c.jsonl.gz", gzip.compress(CORPUS, mtime=0)),
        ["c.jsonl.gz"],
        corpus("c.jsonl.gz"),
        text=False,
    ),
    Reader(
        "corpus.jsonl.xz",
        write("c.jsonl.xz", lzma.compress(CORPUS)),
        ["c.jsonl.xz"],
        corpus("c.jsonl.xz"),
        text=False,
    ),
    Reader("beir.zip", make_beir, ["toy.zip"], beir, text=False),
    Reader("corpus.csv", write("c.csv", CSV), ["c.csv"], corpus("c.csv")),
    Reader("corpus.json", write("c.json", ARRAY), ["c.json"], corpus("c.json")),
    Reader("qrels.json", write("qrels.tsv", NESTED), ["qrels.tsv"], qrels),
    Reader("queries.jsonl", write("q.jsonl", TOPICS), ["q.jsonl"], topics("q.jsonl")),
    Reader("queries.tsv", write("q.tsv", TSV), ["q.tsv"], topics("q.tsv")),
    Reader("qrels", write("qrels.tsv", QRELS), ["qrels.tsv"], qrels),
    Reader("run", make_run, ["run.trec", "run.trec.json"], run),
    Reader("groups", write("groups.jsonl", lines([GROUP, PAIRS])), ["groups.jsonl"], groups),
    Reader("examples", write("groups.jsonl", lines([GROUP] * 3)), ["groups.jsonl"], examples),
    Reader("triples", write("triples.tsv", b"a b\tc\td\n" * 5), ["triples.tsv"], triples),
    Reader("texts by id", write("corpus.jsonl", CORPUS), ["corpus.jsonl"], looked_up),
    Reader("ids to delete", write("ids.txt", b"d1\nd2\r\n\xc3\xa9\n"), ["ids.txt"], ids),
    Reader(
        "recipe of pre-training",
        write("recipe.yaml", PRETRAIN.encode()),
        ["recipe.yaml"],
        recipe(PretrainRecipe),
    ),
    Reader(
        "recipe of fine-tuning",
        write("recipe.yaml", FINETUNE.encode()),
        ["recipe.yaml"],
        recipe(FinetuneRecipe),
    ),
    Reader("json", write("any.json", b'{"a": [1, 2.5, "x"], "b": {}}'), ["any.json"], any_json),
]
