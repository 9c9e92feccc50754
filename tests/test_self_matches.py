"""Topics that are documents: `beir`, `search`, `eval` and `compare` agree, and say what they do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dupmae_cli.runs import self_matches_line
from dupmae_cli.searching import _drops_self
from dupmae_toolkit import Document, HybridIndex
from dupmae_toolkit.collection.beir import calls_to_drop_self
from dupmae_toolkit.collection.trec import read_metadata, read_run
from dupmae_toolkit.encoding.source import Memory
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.evaluation.beir import BeirOptions, run_beir
from dupmae_toolkit.evaluation.self_matches import self_matches, settled
from dupmae_toolkit.model import loading
from dupmae_toolkit.records import Query, Ranking, Run
from tests.cli_support import run
from tests.support import HashingEncoder

pytestmark = pytest.mark.java

TEXTS = {
    "001": "red sea and blue sky",
    "002": "red sea and blue water",
    "003": "a green hill",
    "004": "a green hill far away",
}
#: The answer of 001 is 002, that of 003 is 004, and the other way round.
QRELS = "query-id\tcorpus-id\tscore\n001\t002\t1\n002\t001\t1\n003\t004\t1\n004\t003\t1\n"


def write_set(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    rows = "".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in TEXTS.items())
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / name).write_text(rows)
    (folder / "qrels" / "test.tsv").write_text(QRELS)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The same set under two names, and an index of its documents."""
    folder = tmp_path_factory.mktemp("self")
    for name in ("arguana", "like"):
        write_set(folder / name)
    documents = [Document(i, "", text) for i, text in TEXTS.items()]
    HybridIndex.build(folder / "index", documents, HashingEncoder()).close()
    return folder


@pytest.fixture(autouse=True)
def there(place, monkeypatch):
    monkeypatch.chdir(place)


def search(capsys, name: str, *words: str) -> tuple[Run, str]:
    """The run that a search with BM25 writes, and what it says. BM25 needs no encoder."""
    path = Path(f"{name}.trec")
    words = ("-o", path, "-k", "2", *(words if "--fusion" in words else ("--mode", "bm25", *words)))
    code, _, err = run(capsys, "search", "-i", "index", "--queries", name, *words)
    assert code == 0, err
    return read_run(path), err


def ndcg(capsys, *words: object) -> tuple[float, str]:
    code, out, err = run(capsys, "eval", *words, "--measures", "RR", "--format", "csv")
    assert code == 0
    return float(out.splitlines()[-1].rpartition(",")[2]), err


def line_of(drops: bool) -> str:
    if drops:
        return "left out the document with the topic's own id in 4 topics (--keep-self)"
    return (
        "the first hit of 4 of 4 topics is the document with the topic's own id, which "
        "--drop-self leaves out"
    )


@pytest.mark.parametrize(
    ("name", "given", "drops"),
    [
        ("arguana", None, True),
        ("arguana", False, False),
        ("like", None, False),
        ("like", True, True),
    ],
)
def test_search_and_eval_give_what_beir_gives_and_say_what_they_did(
    place, tmp_path, capsys, name, given, drops
):
    option = () if given is None else ("--drop-self",) if given else ("--keep-self",)
    options = BeirOptions(k=2, measures=("RR",), drop_self=given)
    (result,) = run_beir(name, HashingEncoder(), tmp_path / "out", options)
    assert result.about["self_matches"] == ("removed" if drops else "kept")
    assert result.about["topics_with_self_match"]["bm25"] == 4
    assert result.scores["bm25"].means["RR"] == (1.0 if drops else 0.5)
    assert self_matches_line(result.self_matches) == line_of(drops)
    (again,) = run_beir(name, HashingEncoder(), tmp_path / "out", options)
    assert (again.about, again.self_matches) == (result.about, result.self_matches)
    found, said = search(capsys, name, "--split", "test", *option)
    made = read_run(tmp_path / "out" / f"{name}.bm25.trec")
    assert {t: found[t].ids for t in found} == {t: made[t].ids for t in made}
    metadata = read_metadata(Path(f"{name}.trec"))
    assert metadata["k"] == 2
    assert metadata["topics_with_self_match"] == 4
    assert metadata["self_matches"] == ("removed, then cut at k" if drops else "kept")
    assert f"{name}.trec: {line_of(drops)}\n" in said
    value, said = ndcg(capsys, f"{name}.trec", "--qrels", name, "--split", "test", *option)
    assert value == result.scores["bm25"].means["RR"]
    assert ("own id" in said) is not drops  # there was none left to drop


def test_beir_says_it_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loading, "load_encoder", lambda *_, **__: HashingEncoder())
    words = ("-k", "2", "--measures", "RR", "--no-bm25", "--drop-self")
    code, _, err = run(capsys, "beir", "like", "-o", tmp_path / "out", *words)
    assert code == 0
    assert f"like, test: 4 documents, 4 topics; {line_of(True)}\n" in err


def test_eval_and_compare_drop_them_from_files_of_other_programs(capsys, tmp_path):
    kept = tmp_path / "kept.trec"
    rows = [f"{t} Q0 {d} 1 {9 - n} t\n" for t in TEXTS for n, d in enumerate([t, *TEXTS]) if n < 1]
    answers = {"001": "002", "002": "001", "003": "004", "004": "003"}
    rows += [f"{topic} Q0 {document} 2 1 t\n" for topic, document in answers.items()]
    kept.write_text("".join(rows))
    assert ndcg(capsys, kept, "--qrels", "arguana/qrels/test.tsv") == (
        1.0,
        f"{kept}: left out the document with the topic's own id in 4 topics (--keep-self)\n",
    )
    value, said = ndcg(capsys, kept, "--qrels", "like/qrels/test.tsv")
    assert value == 0.5
    assert "the first hit of 4 of 4 topics is the document with the topic's own id" in said
    words = ("eval", kept, "--qrels", "like/qrels/test.tsv", "--drop-self", "--json")
    (entry,) = json.loads(run(capsys, *words)[1])["runs"]
    assert (entry["self_matches"], entry["topics_with_self_match"]) == ("removed", 4)
    assert entry["measures"]["RR@10"] == 1
    words = ("compare", kept, kept, "--qrels", "like/qrels/test.tsv", "--measures", "RR", "--json")
    for option, mean, word in (((), 0.5, "kept"), (("--drop-self",), 1.0, "removed")):
        document = json.loads(run(capsys, *words, *option)[1])
        assert document["self_matches"] == word
        assert document["runs"][0]["mean"] == mean


def test_queries_of_a_file_belong_to_the_set_whose_folder_it_is(capsys):
    found, _ = search(capsys, "arguana/queries.jsonl")
    assert all(topic not in found[topic].ids for topic in found)
    Path("plain.tsv").write_text("".join(f"{i}\t{t}\n" for i, t in TEXTS.items()))
    found, said = search(capsys, "plain.tsv")
    assert all(topic == found[topic].ids[0] for topic in found)
    assert "--drop-self leaves out" in said


@pytest.fixture(scope="module")
def encoded(place) -> Path:
    """The queries of both sets, encoded into folders."""
    queries = [Query(i, text) for i, text in TEXTS.items()]
    for name in ("arguana", "like"):
        source = Memory(queries, f"/data/{name}.zip (test)")
        encode_corpus(source, HashingEncoder(), place / f"q-{name}", kind="queries")
    return place


@pytest.mark.parametrize(("name", "drops"), [("q-arguana", True), ("q-like", False)])
def test_encoded_queries_remember_their_set_and_a_depth_of_k_is_enough(
    encoded, capsys, name, drops
):
    found, _ = search(capsys, name, "--fusion", "rrf", "--depth", "2")
    assert any(topic in found[topic].ids for topic in found) is not drops
    assert all(len(found[topic]) == 2 for topic in found)


@pytest.mark.parametrize(
    "source", ["BEIR (2021)/arguana.zip (test)", "BEIR (2021)/arguana.zip", "/data/arguana (dev)"]
)
def test_only_the_split_is_taken_from_what_was_encoded(tmp_path, source):
    encode_corpus(Memory([Query("1", "a")], source), HashingEncoder(), tmp_path, kind="queries")
    assert _drops_self(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("red sea", "--drop-self"), "a question has no id; --drop-self and --keep-self go with"),
        (
            ("--queries", "arguana", "-o", "x.trec", "--offset", "2"),
            "arguana: the document with a topic's own id is left out, which does not go with",
        ),
        (
            ("--queries", "like", "-o", "x.trec", "--offset", "2", "--drop-self"),
            "add --keep-self, or leave out --offset",
        ),
        (
            ("--queries", "like", "-o", "x.trec", "--depth", "1", "-k", "2", "--drop-self"),
            "depth is 1; it must be at least k, which is 2",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(capsys, words, fault):
    code, out, err = run(capsys, "search", "-i", "index", *words)
    assert (code, out) == (2, "")
    assert fault in err
    assert not Path("x.trec").exists()


@pytest.mark.parametrize(
    ("name", "drops"),
    [
        ("arguana", True),
        ("arguana/queries.jsonl", True),
        ("arguana/qrels/test.tsv", True),
        ("arguana/corpus.jsonl", False),
        ("like", False),
        ("like/qrels/test.tsv", False),
        ("irds:beir/quora/test", True),
        ("beir/quora/dev", True),
        ("irds:beir/scifact/test", False),
        ("/home/quora/of/no/one.zip", False),
        ("/home/one/quora.zip", True),
        ("-", False),
    ],
)
def test_a_name_says_whether_a_set_calls_for_it(name, drops):
    assert calls_to_drop_self(name) is drops


def test_chance_matches_are_counted_but_not_talked_of():
    """Topics and documents of many sets are numbered from 1, without meaning anything by it."""
    ids = [str(n) for n in range(10)]
    run_ = Run({t: Ranking(ids, np.arange(10, 0, -1.0)) for t in ids} | {"x": _empty()})
    seen = self_matches(run_)
    assert (seen.found, seen.leading, seen.searched) == (10, 1, 10)
    assert self_matches_line(seen) == self_matches_line(self_matches(Run())) == ""
    kept, _ = settled(run_, 10, False)
    assert kept.metadata == {"self_matches": "kept", "topics_with_self_match": 10, "k": 10}
    dropped, _ = settled(run_, 9, True)
    assert all(len(dropped[topic]) == 9 and topic not in dropped[topic].ids for topic in ids)
    assert len(dropped["x"]) == 0


def _empty() -> Ranking:
    return Ranking([], np.empty(0))
