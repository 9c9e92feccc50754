"""Indexes of formats 1 and 2: searched as before, told apart, and brought up by compacting."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import Document, HybridIndex, Query, load_encoder
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.health.repair import repair_index
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.info import index_info
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.updates import compact_index
from dupmae_toolkit.search.fusion import Fusion
from tests.brute import MODES, BruteForce
from tests.cli_support import run
from tests.index_support import age, contents, documents_of
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

ENCODER = HashingEncoder()
DOCUMENTS = documents_of(60, seed=2)
TOPICS = [Query(f"q{n}", DOCUMENTS[n].text[:14]) for n in range(5)]
TOPICS += [Query("copies", "the same"), Query("none", "nothing-known")]
#: In memory, and by Lucene.
ENGINES = pytest.mark.parametrize("max_postings", [1 << 30, 0])


@pytest.fixture(scope="module", params=[1, 2], ids=["format 1", "format 2"])
def aged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two segments."""
    path = tmp_path_factory.mktemp("aged") / "index"
    HybridIndex.build(path, DOCUMENTS, ENCODER, segment_size=40, bm25=False).close()
    age(path, request.param)
    return path


@pytest.fixture
def index(aged: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(aged, tmp_path / "index"))


def pairs(opened: HybridIndex, mode: str, **settings) -> dict[str, list[tuple[str, float]]]:
    found = opened.search_batch(TOPICS, 25, mode, exact=True, **settings)
    return {t: list(zip(found[t].ids, found[t].scores.tolist(), strict=True)) for t in found}


def expected(documents: list[Document], index: HybridIndex, mode: str, plain: bool) -> dict:
    brute = BruteForce(documents, ENCODER, index.manifest)
    return {topic.id: brute.ranked(topic.text, mode, 25, plain=plain) for topic in TOPICS}


@ENGINES
@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_they_are_searched_by_the_plain_score(aged: Path, mode: str, max_postings: int) -> None:
    with HybridIndex.open(aged, ENCODER, max_postings=max_postings, check="full") as opened:
        wanted = expected(DOCUMENTS, opened, mode, plain=True)
        assert pairs(opened, mode) == pairs(opened, mode, plain=True) == wanted
        told = opened.search_batch(TOPICS, 5, mode).metadata
        assert "bm25" not in told
        if mode != "dense":
            assert told["lexical"]["frequencies"] is None
        if mode == "hybrid":
            assert told["fusion"]["lists"] == ["dense", "lexical"]
        assert {hit.bm25 for hit in opened.search(TOPICS[0].text, mode=mode)} == {None}


@ENGINES
def test_frequencies_are_counted_when_they_are_asked_for(aged: Path, max_postings: int) -> None:
    """No file of theirs has any."""
    with HybridIndex.open(aged, ENCODER, max_postings=max_postings) as opened:
        vectors = ENCODER.encode_documents([each.contents for each in DOCUMENTS]).lexical
        impacts = np.rint(vectors.toarray().astype(np.float64) * opened.manifest.scale)
        with_token = (impacts > 0).sum(axis=0)
        idf = np.log(1 + (len(DOCUMENTS) - with_token + 0.5) / (with_token + 0.5))
        weights = ENCODER.encode_queries([TOPICS[0].text]).lexical.toarray()[0]
        weights = weights * idf / (idf @ with_token / with_token.sum())
        scores = impacts @ weights.astype(np.float64) / opened.manifest.scale
        hits = opened.search(TOPICS[0].text, k=60, mode="lexical", idf_power=1)
        by_id = {d.id: score for d, score in zip(DOCUMENTS, scores, strict=True) if score > 0}
        assert {hit.id for hit in hits} == set(by_id)
        assert [hit.score for hit in hits] == pytest.approx([by_id[h.id] for h in hits], rel=1e-3)


def test_info_and_refusals_say_the_way_out(aged: Path, capsys) -> None:
    before = contents(aged, lucene=True), (aged / "manifest.json").read_bytes()
    assert index_info(aged)["scoring"] is None
    code, out, _ = run(capsys, "info", "--index", aged)
    assert code == 0
    version = Manifest.load(aged).format_version
    assert f"(format {version})\n" in out
    plain = (
        "1 × dense + 1 × lexical (plain: an earlier version built it; `dupmae compact` adds BM25)"
    )
    assert plain in out
    assert f"bm25{' ' * 9}none\n" in out
    assert "queries of up to 64 unless" in out
    assert "60 not known" in out
    values = json.loads(run(capsys, "info", "--index", aged, "--json")[1])
    assert (values["scoring"], values["mean_length"], values["drift"]) == (None, None, 0)
    assert run(capsys, "verify", "--index", aged)[0] == 0
    with HybridIndex.open(aged, ENCODER) as opened:
        fault = "was built by an earlier version, without BM25; `dupmae compact` adds it"
        with pytest.raises(InputError, match=fault):
            opened.search("w1", mode="bm25")
        for weights, message in (("1,1,1", "3 weights for the 2 parts"), ("1", "1 weight for")):
            given = tuple(map(float, weights.split(",")))
            with pytest.raises(InputError, match=message):
                opened.search("w1", fusion=Fusion("sum", given))
    code, out, err = run(capsys, "search", "--index", aged, "w1", "--mode", "bm25")
    assert (code, out, err) == (2, "", f"dupmae: {aged}: {fault}\n")
    assert (contents(aged, lucene=True), (aged / "manifest.json").read_bytes()) == before


def test_they_are_changed_and_stay_plain_until_they_are_compacted(index: Path) -> None:
    more = [Document("new", "title 3", "w1 w2 the same"), Document("d5", "", "w5 alone")]
    documents = {each.id: each for each in DOCUMENTS}
    gone = [DOCUMENTS[0].id, DOCUMENTS[1].id]
    with HybridIndex.open(index, ENCODER) as opened:
        opened.add(more, replace=True)
        opened.delete(gone)
        documents |= {each.id: each for each in more}
        left = [each for each in documents.values() if each.id not in gone]
        assert Manifest.load(index).format_version == 3
        assert Manifest.load(index).scoring is None
        for mode in ("dense", "lexical", "hybrid"):
            assert pairs(opened, mode) == expected(left, opened, mode, plain=True)
        assert verify_index(index) == []
        opened.compact()
        assert opened.manifest.scoring is not None
        for mode in MODES:
            assert pairs(opened, mode) == expected(left, opened, mode, plain=False)
        assert pairs(opened, "hybrid", plain=True) == expected(left, opened, "hybrid", plain=True)
    assert verify_index(index) == []
    # The lengths are those of the documents that are left.
    assert Manifest.load(index).drift == 0


@pytest.mark.parametrize("segment_size", [40, 100])
def test_compacting_gives_the_index_that_is_built_at_once(
    tmp_path: Path, segment_size: int
) -> None:
    """File by file, and whether there is anything else to compact or not."""
    for version in (1, 2):
        index, fresh = tmp_path / f"{version}", tmp_path / f"fresh-{version}"
        settings = {"segment_size": segment_size}
        HybridIndex.build(index, DOCUMENTS, ENCODER, bm25=False, **settings).close()
        age(index, version)
        done = compact_index(index)
        assert (done.merged, done.documents, done.drift) == (60, 60, 0)
        HybridIndex.build(fresh, DOCUMENTS, ENCODER, **settings).close()
        assert verify_index(index) == verify_index(fresh) == []
        ours, theirs = contents(index), contents(fresh)
        if segment_size == 100:  # otherwise each has its own division into two segments
            assert list(ours.values()) == list(theirs.values())
            assert [path.split("/")[2:] for path in ours] == [p.split("/")[2:] for p in theirs]
        mine, other = Manifest.load(index), Manifest.load(fresh)
        assert (mine.scoring, mine.scale, mine.format_version) == (other.scoring, other.scale, 3)
        assert mine.mean_length == other.mean_length
        assert mine.word_error.weights == other.word_error.weights
        with (
            contextlib.closing(HybridIndex.open(index, ENCODER)) as opened,
            contextlib.closing(HybridIndex.open(fresh, ENCODER)) as built,
        ):
            for mode in MODES:
                assert pairs(opened, mode) == pairs(built, mode)
                assert pairs(opened, mode) == expected(DOCUMENTS, opened, mode, plain=False)
        # Nothing is left to do, and the generation says so.
        assert compact_index(index).generation == done.generation


def test_the_command_compacts_and_then_bm25_is_there(index: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", lambda *_, **__: ENCODER)
    code, out, err = run(capsys, "compact", "--index", index)
    assert (code, out) == (0, "")
    assert "60 rewritten in merging; 60 documents, change 1" in err
    out = run(capsys, "info", "--index", index)[1]
    assert "(format 3)" in out
    assert "1 × dense + 1 × lexical + 1 × bm25, tokens' weights" in out
    code, out, _ = run(capsys, "search", "--index", index, "w1 w2", "--mode", "bm25", "--json")
    assert code == 0
    assert json.loads(out)["parts"] == ["bm25"]


@pytest.mark.slow
def test_compacting_takes_the_fitted_weights_that_the_encoder_states_by_now(
    tmp_path: Path,
) -> None:
    """Manifests of formats 1 and 2 have none: today's built-in encoder states some."""
    builtin = load_encoder("builtin", device="cpu", precision="fp32")
    documents = DOCUMENTS[:6]
    fresh = HybridIndex.build(tmp_path / "fresh", documents, builtin).manifest
    assert len(set(fresh.scoring.weights)) > 1
    for name, wanted in (("now", fresh.scoring.weights), ("changed", (30.0, 1.0, 1.0))):
        index = tmp_path / name
        HybridIndex.build(index, documents, builtin, bm25=False).close()
        age(index, 2)
        if name == "changed":  # the weights were chosen for other vectors than the index has
            manifest = Manifest.load(index)
            manifest.encoder = replace(manifest.encoder, weights_sha256="0" * 64)
            manifest.save(index)
        compact_index(index)
        assert Manifest.load(index).scoring.weights == wanted
    index = tmp_path / "gone"
    elsewhere = HashingEncoder(name=str(tmp_path / "no such folder"))
    HybridIndex.build(index, documents, elsewhere, bm25=False).close()
    age(index, 2)
    compact_index(index)
    assert Manifest.load(index).scoring.weights == (1.0, 1.0, 1.0)


def test_damage_is_repaired_as_before(index: Path) -> None:
    with HybridIndex.open(index, ENCODER) as opened:
        before = pairs(opened, "hybrid")
    for segment, name in (("000001", "forward/impacts-data.npy"), ("000002", "faiss/docid")):
        path = index / "segments" / segment / name
        path.write_bytes(path.read_bytes()[:-1])
    done = repair_index(index)
    assert done.whole
    assert [each.source for each in done.rebuilt] == ["the postings in lucene", "documents.parquet"]
    assert verify_index(index) == []
    with HybridIndex.open(index, ENCODER) as opened:
        assert pairs(opened, "hybrid") == before
