"""Static pruning: what documents keep, and that all else is as before."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.health.repair import repair_index
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.prune import prune_index
from dupmae_toolkit.index.pruning import Pruning, largest
from dupmae_toolkit.records import Document
from tests.cli_support import run
from tests.index_support import contents, documents_of
from tests.support import HashingEncoder

pytestmark = pytest.mark.java

ODD = [Document("empty", "", "?!"), Document("stop", "", "the of"), Document("long", "", "w1 " * 9)]
RULES = [{"keep": 0.5}, {"keep": 1.0}, {"keep": 0.01}, {"terms": 3}, {"threshold": 120}]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("pruning") / "index"
    documents = [*documents_of(40), *ODD]
    with HybridIndex.build(path, documents, HashingEncoder(), segment_size=20) as built:
        built.delete(["d3"])
        yield built


def by_document(index, words):
    """The impacts of each document by term; words: those of words, else those of tokens."""
    tokens, found = index.manifest.encoder.vocabulary_size, {}
    for part, live in zip(index._snapshot.searched, index._snapshot.numbering.live, strict=True):
        for row, name in enumerate(part.ids):
            if live is not None and not live[row]:
                continue
            own = part.forward.impacts[row]
            named = {
                (part.words[column - tokens] if words else column): int(impact)
                for column, impact in zip(own.indices.tolist(), own.data.tolist(), strict=True)
                if (column >= tokens) == words
            }
            found[name] = named
    return found


def kept_of(impacts, rule):
    """By hand: of one document's impacts, those that a rule keeps."""
    order = sorted(impacts, key=lambda term: (-impacts[term], term))
    if "keep" in rule:
        order = order[: math.ceil(rule["keep"] * len(order))]
    elif "terms" in rule:
        order = order[: rule["terms"]]
    else:
        order = [term for term in order if impacts[term] >= rule["threshold"]]
    return {term: impacts[term] for term in order}


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_documents_keep_their_largest_impacts_and_all_else(index, tmp_path, rule, words):
    done = prune_index(index.path, tmp_path / "new", Pruning(**rule, words=words))
    with HybridIndex.open(tmp_path / "new", index.encoder) as new:
        for kind in (False, True):
            before, after = by_document(index, kind), by_document(new, kind)
            pruned = words or not kind
            wanted = {n: kept_of(own, rule) if pruned else own for n, own in before.items()}
            assert after == wanted
            counts = (done.words, done.words_before) if kind else (done.tokens, done.tokens_before)
            assert counts == tuple(sum(map(len, each.values())) for each in (after, before))
        assert new.get("d3") is None
        assert new.get("long") == index.get("long")
        dense = [hit.score for hit in index.search("w17 title", 60, "dense")]
        assert [hit.score for hit in new.search("w17 title", 60, "dense")] == dense
        assert new.manifest.mean_length == index.manifest.mean_length
        assert new.manifest.scale == index.manifest.scale
        assert new.manifest.documents == index.manifest.documents
        with HybridIndex.open(new.path, index.encoder, max_postings=0) as by_lucene:
            for mode in ("hybrid", "lexical", "bm25"):
                found = new.search("w17 title 3", 20, mode, exact=True)
                assert by_lucene.search("w17 title 3", 20, mode, exact=True) == found
        run_of = new.search_batch({"a": "w17"}, 5)
    stated = Pruning(**rule, words=words).to_dict()
    assert run_of.metadata["lexical"]["pruning"] == stated
    assert run_of.metadata["bm25"].get("pruning") == (stated if words else None)
    assert Manifest.load(tmp_path / "new").pruning == Pruning(**rule, words=words)
    assert not verify_index(tmp_path / "new")


def test_the_index_stays_as_it_is_and_two_copies_are_the_same(index, tmp_path):
    before = contents(index.path, lucene=True)
    for name in "ab":
        prune_index(index.path, tmp_path / name, Pruning(terms=4, words=True))
    assert contents(index.path, lucene=True) == before
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    manifests = [Manifest.load(tmp_path / name) for name in "ab"]
    assert [each.generation for each in manifests] == [0, 0]
    assert dataclasses.replace(manifests[0], checksums={}) == dataclasses.replace(
        manifests[1], checksums={}
    )


def test_documents_that_are_added_are_pruned_too_also_when_compacted(index, tmp_path):
    rule = {"terms": 4}
    prune_index(index.path, tmp_path / "new", Pruning(**rule, words=True))
    more = [Document("more", "title", " ".join(f"w{n}" for n in range(60)))]
    with HybridIndex.open(tmp_path / "new", HashingEncoder()) as new:
        new.add(more)
        assert len(by_document(new, False)["more"]) == len(by_document(new, True)["more"]) == 4
        assert new.manifest.drift
        before = [by_document(new, False), by_document(new, True)]
        new.compact()
        assert not new.manifest.drift
        assert by_document(new, False) == before[0]
        # The mean length is another now, so that impacts are too, but no more of them are kept.
        after = by_document(new, True)
        assert {name: len(own) for name, own in after.items()} == {
            name: len(own) for name, own in before[1].items()
        }
        assert new.manifest.pruning == Pruning(**rule, words=True)
    assert not verify_index(tmp_path / "new")


def test_a_repair_that_encodes_again_prunes_again(index, tmp_path):
    prune_index(index.path, tmp_path / "new", Pruning(keep=0.3, words=True))
    with HybridIndex.open(tmp_path / "new", HashingEncoder()) as new:
        before = [by_document(new, kind) for kind in (False, True)]
    for folder in (tmp_path / "new").glob("segments/*"):
        (folder / "forward" / "impacts-data.npy").write_bytes(b"lost")
        shutil.rmtree(folder / "lucene")
    repair_index(tmp_path / "new", encoder=HashingEncoder())
    assert not verify_index(tmp_path / "new")
    with HybridIndex.open(tmp_path / "new", HashingEncoder()) as new:
        assert [by_document(new, kind) for kind in (False, True)] == before


def test_passages_are_pruned_each_by_itself(tmp_path):
    texts = [
        Document(f"d{n}", "", " ".join(f"w{(n * 7 + i * i) % 50}" for i in range(30)))
        for n in range(5)
    ]
    HybridIndex.build(tmp_path / "i", texts, HashingEncoder(), passages=8, overlap=0).close()
    done = prune_index(tmp_path / "i", tmp_path / "new", Pruning(terms=2))
    assert done.manifest.documents == 5
    with HybridIndex.open(tmp_path / "new", HashingEncoder()) as new:
        assert {len(own) for own in by_document(new, False).values()} <= {1, 2}
        assert new.search("w7", 3)[0].passage is not None


def test_what_cannot_be_pruned_is_refused_and_nothing_written(index, tmp_path):
    def refused(fault, source=index.path, output=tmp_path / "new", rule=None):
        with pytest.raises(InputError, match=fault):
            prune_index(source, output, rule or Pruning(terms=3))

    there = [path.name for path in index.path.iterdir()]
    refused("an index is not pruned in place", output=index.path)
    refused("lies in the index itself", output=index.path / "new")
    refused("exists already", output=tmp_path)
    refused("no such index", source=tmp_path / "nowhere")
    refused("manifest.json|no index|not an index", source=tmp_path)
    with HybridIndex.build(tmp_path / "bare", ["w1 w2"], HashingEncoder(), bm25=False) as bare:
        refused("has no words", source=bare.path, rule=Pruning(terms=3, words=True))
        bare.delete(["0"])
        refused("all its documents are deleted", source=bare.path)
    prune_index(index.path, tmp_path / "once", Pruning(threshold=3))
    refused("is pruned already, to impacts of at least 3, of tokens", source=tmp_path / "once")
    damaged = tmp_path / "damaged"
    shutil.copytree(index.path, damaged)
    (next(damaged.glob("segments/*/forward")) / "impacts-data.npy").write_bytes(b"damage")
    refused("impacts-data.npy", source=damaged)
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".tmp-*"))
    assert [path.name for path in index.path.iterdir()] == there


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ({}, "none is given"),
        ({"keep": 0.5, "terms": 3}, "keep and terms"),
        ({"keep": 0}, "keep is 0"),
        ({"keep": 1.01}, "keep is 1.01"),
        ({"keep": math.nan}, "keep is nan"),
        ({"keep": "0.5"}, "keep is '0.5'"),
        ({"terms": 0}, "terms is 0"),
        ({"terms": 2.5}, "terms is 2.5"),
        ({"threshold": -1}, "threshold is -1"),
        ({"threshold": True}, "threshold is True"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule, fault):
    with pytest.raises(InputError, match=fault):
        Pruning(**rule)


@pytest.mark.parametrize(
    "given",
    [
        "all",
        {"keep": 2, "terms": None, "threshold": None, "words": False},
        {"keep": 0.5, "terms": None, "threshold": None, "words": 1},
        {"keep": 0.5},
    ],
)
def test_a_manifest_with_another_rule_is_refused(index, tmp_path, given):
    from dupmae_toolkit.index import manifest as module

    values = index.manifest.to_dict() | {"pruning": given}
    del values["sha256"]
    folder = tmp_path / "index"
    folder.mkdir()
    values["sha256"] = module._own_digest(values)
    (folder / "manifest.json").write_text(json.dumps(values))
    (folder / "segments").mkdir()
    with pytest.raises(InputError, match=r"manifest.json: not the manifest of an index"):
        Manifest.load(folder)


def test_the_largest_of_each_row_ties_by_the_first():
    impacts = random(50, 40, 0.3, format="csr", random_state=4)
    impacts.data = np.ceil(impacts.data * 5)  # many ties
    for most in (1, 3, 100):
        kept = largest(impacts.data, impacts.indptr, most)
        for row in range(50):
            span = slice(*impacts.indptr[row : row + 2])
            order = np.argsort(-impacts.data[span], kind="stable")[:most]
            assert set(np.flatnonzero(kept[span])) == set(order.tolist())
    assert not len(largest(np.zeros(0), np.zeros(4, int), 3))
    # 0.1 of 30 is 3, though 0.1 × 30 is a little more.
    ones = csr_matrix(np.ones((1, 30), np.uint8))
    assert Pruning(keep=0.1).pruned(ones).nnz == 3


def test_the_command_says_what_was_kept(index, tmp_path, capsys):
    new = tmp_path / "new"
    code, out, err = run(capsys, "prune", index.path, "--output", new, "--keep", 0.5)
    assert (code, out) == (0, "")
    assert err.startswith(f"{new}: 42 documents; impacts kept: ")
    assert "(100.0%) of words; " in err
    code, out, _ = run(capsys, "info", "--index", new)
    assert "pruned       to the largest 0.5 of a document's impacts, of tokens\n" in out
    code, out, err = run(
        capsys, "prune", index.path, "-o", tmp_path / "b", "--terms", 2, "--words", "--json"
    )
    found = json.loads(out)
    assert found["pruning"] == {"keep": None, "terms": 2, "threshold": None, "words": True}
    assert found["tokens"]["kept"] < found["tokens"]["of"]
    assert found["words"]["kept"] < found["words"]["of"]
    sizes = [path.stat().st_size for path in (tmp_path / "b").rglob("*") if path.is_file()]
    manifest = (tmp_path / "b" / "manifest.json").stat().st_size
    assert found["bytes"]["now"] == sum(sizes) - manifest
    code, out, err = run(capsys, "prune", index.path, "--output", new, "--keep", 0.5)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    code, _, err = run(capsys, "prune", index.path, "--output", tmp_path / "c")
    assert code == 2
    assert "give one rule of pruning" in err


def test_documents_that_keep_nothing_are_counted(index, tmp_path, capsys):
    had = by_document(index, False)
    lowest = min(max(impacts.values()) for impacts in had.values() if impacts)
    emptied = sum(bool(i) and max(i.values()) <= lowest for i in had.values())
    assert emptied
    words = ("--output", tmp_path / "new", "--threshold", lowest + 1)
    code, _, err = run(capsys, "prune", index.path, *words)
    assert code == 0
    keep = "document keeps" if emptied == 1 else "documents keep"
    assert f" of words; {emptied} {keep} no impact of tokens; " in err
