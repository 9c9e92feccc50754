"""BM25: what stock Anserini gives, to the last place of its rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import jvm
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import bm25
from dupmae_toolkit.evaluation.bm25 import bm25_run
from dupmae_toolkit.records import Document, Query

pytestmark = pytest.mark.java

WORDS = ["wing", "flow", "pressure", "boundary", "layer", "heat", "shock", "supersonic"]
WORDS += ["plate", "theory", "漢字", "naïve", "😀"]


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    draw = np.random.default_rng(3)
    return [
        Document(f"d{n:03}", str(draw.choice(WORDS)), " ".join(draw.choice(WORDS, 3 + n % 17)))
        for n in range(300)
    ]


QUERIES = [
    Query("001", "the boundary layers and the pressures"),
    Query("NA", "naïve 漢字 theory"),
    Query("x", "shock shock heated"),
    Query("none", "the of and"),
    Query("odd", '+(wing OR "flow"~2) -heat^3 contents:shock /'),
    Query("long", " ".join(f"w{n}" for n in range(3000)) + " plate"),
    Query("emoji", "😀 wing"),
]


@pytest.fixture(scope="module")
def folder(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bm25") / "index"
    bm25_run(documents, QUERIES, 5, folder)
    return folder


def test_rankings_equal_those_of_anserinis_own_searcher(documents, folder):
    run = bm25_run(documents, QUERIES, 40, folder)
    searcher = jvm.autoclass("io.anserini.search.SimpleSearcher")(str(folder / "lucene"))
    searcher.set_bm25(bm25.K1, bm25.B)
    for query in QUERIES:
        if query.id == "emoji":
            continue  # pyjnius cannot hand the character over to the stock searcher
        hits = searcher.search(query.text, 40)
        ours = run[query.id]
        # Anserini rounds to four places, and then tells ties apart by a millionth each.
        assert {hit.docid for hit in hits if hit.score > ours.scores[-1] + 1e-3} <= set(ours.ids)
        np.testing.assert_allclose([hit.score for hit in hits], ours.scores, atol=2e-4)
    assert len(run["none"]) == 0
    assert len(run["emoji"]) == 40


def test_scores_equal_the_formula(tmp_path):
    """idf · tf / (tf + k1 (1 - b + b · length / mean)); lengths below 40 are kept exactly."""
    draw = np.random.default_rng(5)
    texts = [list(draw.choice(["flow", "wing", "heat", "plate"], 1 + n)) for n in range(30)]
    documents = [Document(f"d{n}", text[0], " ".join(text[1:])) for n, text in enumerate(texts)]
    found = bm25_run(documents, [Query("q", "flow")], 30, tmp_path / "index")["q"]
    holding = sum("flow" in text for text in texts)
    idf = np.log(1 + (30 - holding + 0.5) / (holding + 0.5))
    mean = np.mean([len(text) for text in texts])
    expected = {}
    for document, text in zip(documents, texts, strict=True):
        tf = text.count("flow")
        expected[document.id] = idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * len(text) / mean))
    assert len(found) == holding
    assert found.scores == pytest.approx([expected[name] for name in found.ids], rel=1e-5)


def test_equal_scores_are_ordered_by_id(tmp_path):
    documents = [Document(name, "", "same words here") for name in ("b", "10", "a", "9", "é", "B")]
    run = bm25_run(documents, [Query("q", "words")], 4, tmp_path / "index")
    assert run["q"].ids == ["10", "9", "B", "a"]
    assert len(set(run["q"].scores)) == 1


def test_the_index_is_used_again_for_the_same_documents_and_made_anew_for_others(tmp_path):
    one, two = [Document("a", "", "alpha")], [Document("b", "", "beta")]
    query = [Query("q", "alpha beta")]
    folder = tmp_path / "index"
    assert bm25_run(one, query, 5, folder)["q"].ids == ["a"]
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    assert bm25_run(one, query, 5, folder)["q"].ids == ["a"]
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    assert bm25_run(two, query, 5, folder)["q"].ids == ["b"]
    assert bm25_run(iter(one), query, 5, folder, fingerprint="mine")["q"].ids == ["a"]
    assert bm25_run([], query, 5, folder, fingerprint="mine")["q"].ids == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a BM25 index"):
        bm25_run([Document("a", "", "x")], [], 5, tmp_path)
    (tmp_path / "manifest.json").write_text('{"kind": "documents"}')
    with pytest.raises(InputError, match="something other than a BM25 index"):
        bm25_run([Document("a", "", "x")], [], 5, tmp_path)
    with pytest.raises(InputError, match="k is 0"):
        bm25_run([Document("a", "", "x")], [], 0, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_relative_folder_is_the_callers_not_the_java_machines(
    documents, folder, tmp_path, monkeypatch
):
    """Java keeps the working directory that it was started in."""
    jvm.start()
    monkeypatch.chdir(tmp_path)
    run = bm25_run(documents[:20], QUERIES[:1], 5, Path("index"))
    assert (tmp_path / "index" / "lucene").is_dir()
    assert len(run["001"]) == 5
