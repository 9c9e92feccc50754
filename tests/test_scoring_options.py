"""Options of the fitted score: no BM25, powers and weights, queries without text, drift."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import Document, HybridIndex, Query
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.health.repair import repair_index
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.manifest import Manifest
from tests.brute import BruteForce
from tests.cli_support import run
from tests.index_support import contents, documents_of
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

#: Of one scale, whatever it is built of.
ENCODER = HashingEncoder(largest_weight=4.0)
DOCUMENTS = documents_of(60, seed=4)
TOPICS = [Query(f"q{n}", DOCUMENTS[n].text[:14]) for n in range(5)]
TOPICS += [Query("copies", "the same"), Query("none", "nothing-known")]
WORD_FILES = ("impacts-words.txt", "impacts-lengths.npy")


@pytest.fixture(autouse=True)
def at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder that the indexes name, for the commands."""
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", lambda *_, **__: ENCODER)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> HybridIndex:
    return HybridIndex.build(tmp_path_factory.mktemp("scoring") / "index", DOCUMENTS, ENCODER)


def encoded(folder: Path, documents: list[Document]) -> Path:
    """What `dupmae encode` would write."""
    encode_corpus(documents, ENCODER, folder)
    return folder


def pairs(opened: HybridIndex, mode: str, **settings) -> dict[str, list[tuple[str, float]]]:
    found = opened.search_batch(TOPICS, 25, mode, exact=True, **settings)
    return {t: list(zip(found[t].ids, found[t].scores.tolist(), strict=True)) for t in found}


def expected(documents, manifest: Manifest, mode: str, **settings) -> dict:
    brute = BruteForce(documents, ENCODER, manifest)
    return {topic.id: brute.ranked(topic.text, mode, 25, **settings) for topic in TOPICS}


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


# --- the drift of the mean length


def of_lengths(prefix: str, *lengths: int) -> list[Document]:
    """Documents of so many words, which are no stop words."""
    return [
        Document(f"{prefix}{n}", "", " ".join(f"w{word}" for word in range(length)))
        for n, length in enumerate(lengths)
    ]


def drift_told(said: str) -> list[tuple[str, str]]:
    return re.findall(r"documents are (\d+%) (longer|shorter) on average than when BM25's", said)


def test_drift_is_told_past_a_tenth_and_renewed_by_compacting(tmp_path: Path, capsys) -> None:
    index = tmp_path / "index"
    first = of_lengths("a", *[10] * 10)
    source = encoded(tmp_path / "a", first)
    err = run(capsys, "index", source, "--index", index)[2]
    assert "mean length 10.0 words" in err
    said = run(capsys, "info", "--index", index)[1]
    assert "mean length 10.0 words, now 10.0 (+0.0%)" in said
    assert "renews" not in said

    # (100 + 20) / 11 = 10.9
    added = of_lengths("b", 20)
    err = run(capsys, "add", encoded(tmp_path / "b", added), "--index", index)[2]
    assert drift_told(err) == []
    said = run(capsys, "info", "--index", index)[1]
    assert "mean length 10.0 words, now 10.9 (+9.1%)" in said
    assert "; `dupmae compact` renews the mean length\n" in said

    # (120 + 24) / 12 = 12
    more = of_lengths("c", 24)
    command = ("add", encoded(tmp_path / "c", more), "--index", index)
    err = run(capsys, *command)[2]
    assert drift_told(err) == [("20%", "longer")]
    assert err.endswith("was fixed; `dupmae compact` renews it\n")
    values = json.loads(run(capsys, "info", "--index", index, "--json")[1])
    assert (values["mean_length"], values["drift"]) == (12.0, pytest.approx(0.2))
    assert values["scoring"]["bm25"]["mean_length"] == 10.0
    # Scores are by the mean length of the build until then.
    everything = [*first, *added, *more]
    opened = HybridIndex.open(index, ENCODER)
    assert pairs(opened, "bm25") == expected(everything, opened.manifest, "bm25")
    before = pairs(opened, "bm25")

    # Deleting counts as well: (144 - 20 - 24) / 10 = 10.
    err = run(capsys, "delete", "b0", "c0", "--index", index)[2]
    assert drift_told(err) == []
    code, out, _ = run(capsys, *command, "--json")
    assert json.loads(out)["drift"] == pytest.approx(124 / 110 - 1)
    assert run(capsys, "add", tmp_path / "b", "--index", index)[0] == 0

    code, out, err = run(capsys, "compact", "--index", index)
    assert (code, out, drift_told(err)) == (0, "", [])
    assert "mean length 12.0 words, now 12.0 (+0.0%)" in run(capsys, "info", "--index", index)[1]
    assert opened.refresh()
    assert pairs(opened, "bm25") == expected(everything, opened.manifest, "bm25") != before
    assert verify_index(index) == []
    fresh = HybridIndex.build(tmp_path / "fresh", everything, ENCODER)
    assert fresh.manifest.scoring == opened.manifest.scoring
    for mode in ("bm25", "hybrid"):
        assert pairs(fresh, mode) == pairs(opened, mode)
    opened.close()
    fresh.close()


def test_compacting_one_segment_without_deletions_renews_a_given_mean_length(
    tmp_path: Path,
) -> None:
    documents = of_lengths("a", 4, 8, 12)
    index, fresh = tmp_path / "index", tmp_path / "fresh"
    with contextlib.closing(
        HybridIndex.build(index, documents, ENCODER, mean_length=100.0)
    ) as opened:
        assert opened.manifest.drift == pytest.approx(8 / 100 - 1)
        assert pairs(opened, "bm25") == expected(documents, opened.manifest, "bm25")
        assert opened.compact().merged == 3
        assert opened.manifest.bm25.mean_length == 8.0
        assert opened.compact().merged == 0
    HybridIndex.build(fresh, documents, ENCODER).close()
    assert list(contents(index).values()) == list(contents(fresh).values())


def test_deleted_documents_do_not_count_in_the_mean_length(tmp_path: Path) -> None:
    documents = of_lengths("a", 4, 8, 12, 40)
    with HybridIndex.build(tmp_path / "index", documents, ENCODER) as opened:
        assert opened.delete(["a3"]).drift == pytest.approx(8 / 16 - 1)
        assert opened.manifest.mean_length == 8.0
        left = documents[:3]
        assert pairs(opened, "bm25") == expected(left, opened.manifest, "bm25")
        assert opened.add(of_lengths("b", 16)).drift == pytest.approx(10 / 16 - 1)
        assert opened.compact().merged == 4
        assert opened.manifest.bm25.mean_length == 10.0


def test_shorter_documents_are_told_too_and_no_words_at_all_are_no_drift(
    tmp_path: Path, capsys
) -> None:
    index = tmp_path / "index"
    source = encoded(tmp_path / "a", of_lengths("a", 10, 10))
    assert run(capsys, "index", source, "--index", index)[0] == 0
    more = encoded(tmp_path / "b", of_lengths("b", 1, 1))
    assert drift_told(run(capsys, "add", more, "--index", index)[2]) == [("45%", "shorter")]
    # Stop words alone: the mean length of no words is 1, and nothing divides by 0.
    with HybridIndex.build(tmp_path / "stop", [Document("s", "", "the of and")], ENCODER) as stop:
        assert (stop.manifest.bm25.mean_length, stop.manifest.drift) == (1.0, 0)
        assert stop.search("the", mode="bm25") == []
        assert len(stop.search("the of", k=5)) == 1
        assert verify_index(tmp_path / "stop") == []
        stop.add(of_lengths("n", 3))
        assert np.isfinite(stop.search("w1", mode="bm25")[0].score)
        stop.delete(["s", "n0"])
        assert (len(stop), stop.manifest.drift) == (0, 0)
        assert stop.search("w1", mode="bm25") == stop.search("w1") == []
        assert stop.compact().merged == 0
