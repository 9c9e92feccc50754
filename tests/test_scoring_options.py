"""Options of the fitted score: no BM25, powers and weights, queries without text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dupmae_toolkit import Document, HybridIndex
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.health.repair import repair_index
from dupmae_toolkit.index.manifest import Manifest
from tests.cli_support import run
from tests.index_support import contents
from tests.scoring_support import DOCUMENTS, ENCODER, TOPICS, encoded, expected, pairs

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

WORD_FILES = ("impacts-words.txt", "impacts-lengths.npy")


@pytest.fixture(autouse=True)
def at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder that the indexes name, for the commands."""
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", lambda *_, **__: ENCODER)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> HybridIndex:
    return HybridIndex.build(tmp_path_factory.mktemp("scoring") / "index", DOCUMENTS, ENCODER)


def refused(capsys, *command: object) -> str:
    code, out, err = run(capsys, *command)
    assert (code, out, err.count("\n")) == (2, "", 1), (code, out, err)
    return err


# --- without BM25


def test_an_index_without_bm25_from_its_build_to_its_compaction(tmp_path: Path, capsys) -> None:
    index, gone = tmp_path / "index", [DOCUMENTS[0].id, DOCUMENTS[45].id]
    first, second = (
        encoded(tmp_path / n, d) for n, d in (("1", DOCUMENTS[:40]), ("2", DOCUMENTS[40:]))
    )

    def looks(documents: list[Document]) -> None:
        assert run(capsys, "verify", "--index", index)[0] == 0
        assert not [path for name in WORD_FILES for path in index.rglob(name)]
        manifest = Manifest.load(index)
        assert (manifest.bm25, manifest.drift, manifest.word_error.weights) == (None, 0, 0)
        assert {(each.words, each.length) for each in manifest.segments} == {(0, 0)}
        for most in (1 << 30, 0):  # in memory, and by Lucene
            with HybridIndex.open(index, ENCODER, max_postings=most) as opened:
                for mode in ("dense", "lexical", "hybrid"):
                    assert pairs(opened, mode) == expected(documents, manifest, mode)

    code, out, err = run(capsys, "index", first, "--index", index, "--no-bm25")
    assert (code, out) == (0, "")
    assert "mean length" not in err
    looks(DOCUMENTS[:40])
    said = run(capsys, "info", "--index", index)[1]
    assert f"bm25{' ' * 9}none\n" in said
    assert "1 × dense + 1 × lexical, tokens' weights × (idf / mean idf) ^ 1; plain: " in said
    assert run(capsys, "add", second, "--index", index)[0] == 0
    looks(DOCUMENTS)
    assert run(capsys, "delete", *gone, "--index", index)[0] == 0
    left = [each for each in DOCUMENTS if each.id not in gone]
    looks(left)
    code, _, err = run(capsys, "compact", "--index", index)
    assert "58 rewritten" in err
    looks(left)
    HybridIndex.build(tmp_path / "fresh", left, ENCODER, bm25=False).close()
    ours, theirs = contents(index), contents(tmp_path / "fresh")
    assert list(ours.values()) == list(theirs.values())
    # Nothing is left to do.
    assert "nothing to do" in run(capsys, "compact", "--index", index)[2]
    # Repairing counts no words either.
    (index / Manifest.load(index).segments[0].path / "forward/impacts-data.npy").write_bytes(b"")
    assert repair_index(index).whole
    looks(left)


def test_without_bm25_there_is_no_such_mode_and_no_third_weight(tmp_path: Path, capsys) -> None:
    index = tmp_path / "index"
    source = encoded(tmp_path / "encoded", DOCUMENTS)
    said = refused(capsys, "index", source, "--index", index, "--no-bm25", "--mean-length", 9)
    assert "mean length 9.0: it must be a number of words above 0, for BM25" in said
    assert not index.exists()
    assert run(capsys, "index", source, "--index", index, "--no-bm25")[0] == 0
    search = ("search", "--index", index, "w1 w2")
    said = refused(capsys, *search, "--mode", "bm25")
    assert said == f"dupmae: {index}: was built without BM25; build it again with it\n"
    said = refused(capsys, *search, "--weights", "1,1,1")
    assert "3 weights for the 2 parts of the score; give one each for dense, lexical\n" in said
    code, out, _ = run(capsys, *search, "--weights", "2,1", "--json")
    answer = json.loads(out)
    assert (code, answer["parts"]) == (0, ["dense", "lexical"])
    assert {hit["bm25"] for hit in answer["hits"]} == {None}
    for hit in answer["hits"]:
        assert hit["score"] == pytest.approx(2 * hit["dense"] + hit["lexical"], rel=1e-6)


@pytest.mark.parametrize("length", ["0", "-3", "nan", "inf"])
def test_a_mean_length_that_is_none_is_refused(tmp_path: Path, capsys, length: str) -> None:
    source = encoded(tmp_path / "encoded", DOCUMENTS[:5])
    said = refused(capsys, "index", source, "--index", tmp_path / "i", f"--mean-length={length}")
    assert "it must be a number of words above 0" in said
    assert not (tmp_path / "i").exists()


# --- weights and powers


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--weights", "1,1"), "2 weights for the 3 parts of the score; give one each for dense, "),
        (("--weights", "1,1,1,1"), "4 weights for the 3 parts of the score"),
        (("--plain", "--weights", "1,1,1"), "3 weights for the 2 parts of the score"),
        (("--weights", "1,,1"), "are not numbers separated by commas"),
        (("--weights", "1,nan,1"), "weights"),
        (("--weights", "1,-1,1"), "weights"),
        (("--mode", "bm25", "--weights", "1,1,1"), "mode bm25 fuses nothing"),
        (("--mode", "bm25", "--plain"), "the plain score has no BM25"),
        (("--plain", "--idf-power", "1"), "the plain score has no frequencies"),
        (("--idf-power=-1",), "idf power -1.0; it must be a finite number of at least 0"),
        (("--idf-power", "nan"), "idf power nan"),
        (("--idf-power", "inf"), "idf power inf"),
        (("--idf-power", "much"), "Invalid value for '--idf-power'"),
    ],
)
def test_options_that_do_not_fit_are_refused(index, capsys, words, message) -> None:
    assert message in refused(capsys, "search", "--index", index.path, "w1", *words)


@pytest.mark.parametrize("power", [0, 0.5, 1, 2])
@pytest.mark.parametrize("most", [1 << 30, 0])
def test_the_power_of_frequencies_is_the_searchers(index, power: float, most: int) -> None:
    scoring = replace(index.manifest.scoring, idf_power=power)
    wanted = replace(index.manifest, scoring=scoring)
    with HybridIndex.open(index.path, ENCODER, max_postings=most) as opened:
        for mode in ("dense", "lexical", "bm25", "hybrid"):
            found = pairs(opened, mode, idf_power=power)
            assert found == expected(DOCUMENTS, wanted, mode), mode
        if power == 0:
            assert pairs(opened, "lexical", idf_power=0) == pairs(opened, "lexical", plain=True)


def test_the_power_is_in_the_metadata_and_in_json(index, capsys, tmp_path: Path) -> None:
    command = ("search", "--index", index.path, "w1 w2", "--json")
    for words, power in (((), 1.0), (("--idf-power", "0.5"), 0.5), (("--plain",), 0.0)):
        answer = json.loads(run(capsys, *command, *words)[1])
        assert answer["idf_power"] == power
        assert answer["parts"] == ["dense", "lexical", "bm25"][: 2 if "--plain" in words else 3]
    found = index.search_batch(TOPICS, 5, idf_power=0.5).metadata["lexical"]["frequencies"]
    assert found["power"] == 0.5
    assert index.search_batch(TOPICS, 5, plain=True).metadata["lexical"]["frequencies"] is None


def test_weights_of_the_searcher_are_those_of_three_parts(index) -> None:
    from dupmae_toolkit.search.fusion import Fusion

    for weights in ((3.0, 0.5, 2.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)):
        found = pairs(index, "hybrid", fusion=Fusion("sum", weights))
        assert found == expected(DOCUMENTS, index.manifest, "hybrid", weights=weights)


# --- queries without text


def test_vectors_without_texts_are_refused_only_where_words_are_searched(index) -> None:
    texts, ids = [each.text for each in TOPICS], [each.id for each in TOPICS]
    vectors = ENCODER.encode_queries(texts, ids)
    assert vectors.texts == texts
    no_texts = replace(vectors, texts=None)
    others = {
        "there are only vectors": [no_texts, replace(vectors, texts=texts[:-1])],
        "query 'q1' has vectors but no text": [
            replace(
                vectors,
                texts=[
                    text if name != "q1" else blank for name, text in zip(ids, texts, strict=True)
                ],
            )
            for blank in ("", " \t\u3000")
        ],
    }
    for message, given in others.items():
        for queries in given:
            for mode in ("hybrid", "bm25"):
                with pytest.raises(InputError, match=message) as raised:
                    index.search_batch(queries, 5, mode)
                assert "--plain, plain=True" in str(raised.value)
                assert "\n" not in str(raised.value)
            for mode in ("dense", "lexical"):
                wanted = index.search_batch(TOPICS, 5, mode)
                found = index.search_batch(queries, 5, mode)
                assert [found[t].ids for t in found] == [wanted[t].ids for t in wanted]
            wanted, found = (index.search_batch(q, 5, plain=True) for q in (TOPICS, queries))
            assert [found[t].scores.tolist() for t in found] == [
                wanted[t].scores.tolist() for t in wanted
            ]


def test_words_that_no_document_has_and_words_that_are_none(index) -> None:
    for text in ("zzzunheardof", "the of and", "!!! ???", "\ud800", "💩 \u200b"):
        assert index.search(text, mode="bm25") == []
        hits = index.search(text, k=60)
        assert len(hits) == 60
        assert {hit.bm25 for hit in hits} == {0.0}
