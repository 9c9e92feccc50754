"""Building an index: what it holds, what it refuses, and that nothing half-built is left."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from dupmae_toolkit.analysis import words
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import DupMAEError, EncoderMismatchError, InputError
from dupmae_toolkit.index import segment as segment_module
from dupmae_toolkit.index.build import BuildOptions, build_index, index_corpus
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.index.info import index_info
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.segment import Segment
from dupmae_toolkit.index.vocabulary import lucene_terms
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.records import Document
from tests.index_support import contents, documents_of, encode
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]
ENCODER = HashingEncoder()
VOCABULARY = ENCODER.vocabulary


def segments(index: Path) -> list[Segment]:
    manifest = Manifest.load(index)
    terms = lucene_terms(manifest.vocabulary(index))
    return [Segment.open(index / s.path, terms) for s in manifest.segments]


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def without_lucene(manifest: Manifest) -> dict:
    values = manifest.to_dict()
    values.pop("sha256")
    values["checksums"] = {
        name: value for name, value in values["checksums"].items() if "/lucene/" not in name
    }
    return values


@pytest.mark.parametrize("segment_size", [50, 100, 20, 7])
def test_every_part_of_a_segment_holds_the_same_documents_in_the_order_of_ids(
    tmp_path: Path, segment_size: int
) -> None:
    build_index(
        tmp_path / "index",
        encode(tmp_path / "enc"),
        vocabulary=VOCABULARY,
        segment_size=segment_size,
    )
    by_id = {document.id: document for document in documents_of(50)}
    seen: list[str] = []
    for segment in segments(tmp_path / "index"):
        ids = segment.ids
        assert ids == sorted(ids)
        assert len(segment) == len(ids) <= segment_size
        assert segment.lucene.ids() == segment.documents.ids() == ids
        assert segment.documents.get(range(len(ids))) == [by_id[name] for name in ids]
        wanted = ENCODER.encode_documents([by_id[name].contents for name in ids])
        np.testing.assert_array_equal(segment.forward.dense(np.arange(len(ids))), wanted.dense)
        np.testing.assert_array_equal(segment.faiss.vectors(), wanted.dense)
        tokens = segment.forward.impacts[:, : len(VOCABULARY)]
        assert (tokens.indices == wanted.lexical.indices).all()
        assert segment.words == sorted({w for name in ids for w in words(by_id[name].contents)})
        for row, name in enumerate(ids):
            columns = segment.forward.impacts[row].indices[tokens[row].nnz :] - len(VOCABULARY)
            found = [segment.words[column] for column in columns]
            assert found == sorted(set(words(by_id[name].contents)))
            assert segment.lengths[row] == len(words(by_id[name].contents))
        counted = (segment.forward.impacts > 0).sum(axis=0)
        np.testing.assert_array_equal(segment.frequencies, np.asarray(counted).ravel())
        seen += ids
    assert sorted(seen) == sorted(by_id)
    assert verify_index(tmp_path / "index") == []


def test_no_segment_is_too_small_to_train_on_because_it_is_the_last(tmp_path: Path) -> None:
    options = {"faiss_spec": "IVF16,Flat", "segment_size": 49}
    encoded = encode(tmp_path / "enc")
    manifest = build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY, **options)
    assert [segment.count for segment in manifest.segments] == [25, 25]


def test_lexical_scores_over_the_scale_are_near_the_weights_product(tmp_path: Path) -> None:
    manifest = build_index(tmp_path / "index", encode(tmp_path / "enc"), vocabulary=VOCABULARY)
    segment = segments(tmp_path / "index")[0]
    by_id = {document.id: document.contents for document in documents_of(50)}
    weights = ENCODER.encode_documents([by_id[name] for name in segment.ids]).lexical
    query = ENCODER.encode_queries(["w1 w2 w3 title the same"]).lexical
    query = csr_matrix((round_weights(query.data), query.indices, query.indptr), shape=query.shape)
    exact = (weights @ query.T.toarray()).ravel()
    docs, scores = segment.lucene.search(query, 50)[0]
    again = segment.forward.lexical_scores(query.indices, query.data, docs)
    np.testing.assert_array_equal(again.astype(np.float32), scores)
    bound = query.data.sum() * manifest.error.max_absolute
    assert np.abs(scores / manifest.scale - exact[docs]).max() <= bound + 1e-5
    assert manifest.error.max_absolute <= 0.5 / manifest.scale * 1.0001
    assert manifest.error.clipped == 0


def test_the_scale_of_the_first_segment_is_kept_for_the_others(tmp_path: Path) -> None:
    words = " ".join(["heavy"] * 200)
    documents = [Document(f"d{n}", "", "light words") for n in range(4)]
    documents += [Document("z", "", words)]
    encoded = encode_corpus(documents, ENCODER, tmp_path / "enc")
    manifest = build_index(
        tmp_path / "index", encoded, vocabulary=VOCABULARY, segment_size=4, max_impact=100
    )
    assert [segment.error.clipped for segment in manifest.segments] == [0, 1]
    assert [segment.count for segment in manifest.segments] == [3, 2]
    assert verify_index(tmp_path / "index") == []


def test_the_vectors_of_an_approximate_index_are_kept_beside_it(tmp_path: Path) -> None:
    encoded = encode(tmp_path / "enc")
    build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY, faiss_spec="SQ8")
    segment = segments(tmp_path / "index")[0]
    assert segment.faiss.vectors() is None
    assert segment.forward.dense_matrix is not None
    whole = ENCODER.encode_documents([d.contents for d in segment.documents.get(range(50))])
    np.testing.assert_array_equal(segment.forward.dense_matrix, whole.dense)
    assert verify_index(tmp_path / "index") == []


def test_two_builds_differ_only_in_lucenes_files(tmp_path: Path) -> None:
    encoded = encode(tmp_path / "enc")
    one = build_index(tmp_path / "one", encoded, vocabulary=VOCABULARY, segment_size=20)
    two = build_index(tmp_path / "two", encoded, vocabulary=VOCABULARY, segment_size=20)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert without_lucene(one) == without_lucene(two)


def test_the_parts_of_the_encoded_corpus_do_not_show_in_the_index(tmp_path: Path) -> None:
    for size in (5, 64):
        build_index(
            tmp_path / f"index-{size}",
            encode(tmp_path / f"enc-{size}", part_size=size),
            vocabulary=VOCABULARY,
            segment_size=20,
        )
    assert contents(tmp_path / "index-5") == contents(tmp_path / "index-64")


def test_one_document_without_any_term_is_an_index(tmp_path: Path) -> None:
    encoded = encode_corpus([Document("only", "", "…")], ENCODER, tmp_path / "enc")
    manifest = build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY)
    assert (manifest.count, manifest.error.weights) == (1, 0)
    assert verify_index(tmp_path / "index") == []


def test_an_existing_index_is_refused_with_the_way_to_replace_it(tmp_path: Path) -> None:
    encoded = encode(tmp_path / "enc")
    build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY)
    before = contents(tmp_path / "index", lucene=True)
    with pytest.raises(InputError, match=r"index of 50 documents; pass --overwrite"):
        build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY)
    assert contents(tmp_path / "index", lucene=True) == before


def test_overwriting_leaves_only_the_new_index(tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_index(index, encode(tmp_path / "one"), vocabulary=VOCABULARY, segment_size=20)
    other = HashingEncoder(size=300, name="other")
    encoded = encode_corpus(documents_of(10), other, tmp_path / "two")
    for _ in range(3):
        manifest = build_index(index, encoded, vocabulary=other.vocabulary, overwrite=True)
        assert Manifest.load(index) == manifest
        assert manifest.count == 10
        assert verify_index(index) == []
        assert listing(index) == sorted(["manifest.json", "segments", manifest.vocabulary_file])
        assert listing(index / "segments") == [manifest.segments[0].name]
        assert index_info(index)["leftovers"] == []


def test_an_index_that_fails_to_be_replaced_stays(tmp_path: Path, monkeypatch) -> None:
    index = tmp_path / "index"
    build_index(index, encode(tmp_path / "one"), vocabulary=VOCABULARY)
    before = contents(index, lucene=True)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segment_module, "write_lucene", fail)
    encoded = encode(tmp_path / "two", seed=1)
    with pytest.raises(DupMAEError, match="make room and run the same command"):
        build_index(index, encoded, vocabulary=VOCABULARY, overwrite=True)
    assert verify_index(index) == []
    monkeypatch.undo()
    assert {k: v for k, v in contents(index, lucene=True).items() if k in before} == before
    build_index(index, encoded, vocabulary=VOCABULARY, overwrite=True)
    assert verify_index(index) == []
    assert listing(index) == ["manifest.json", "segments", "vocabulary.json"]


def test_whole_segments_of_an_interrupted_build_are_kept(tmp_path: Path, monkeypatch) -> None:
    encoded = encode(tmp_path / "enc")
    written: list[int] = []
    real = segment_module.write_lucene

    def counting(folder, ids, *rest):
        written.append(len(ids))
        if len(written) == 3:
            raise KeyboardInterrupt
        real(folder, ids, *rest)

    monkeypatch.setattr(segment_module, "write_lucene", counting)
    options = {"vocabulary": VOCABULARY, "segment_size": 20}
    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path / "index", encoded, **options)
    with pytest.raises(InputError, match="its build was interrupted"):
        Manifest.load(tmp_path / "index")
    manifest = build_index(tmp_path / "index", encoded, **options)
    assert written == [17, 17, 16, 16]
    assert verify_index(tmp_path / "index") == []
    whole = build_index(tmp_path / "whole", encoded, **options)
    assert contents(tmp_path / "index") == contents(tmp_path / "whole")
    assert without_lucene(manifest) == without_lucene(whole)


@pytest.mark.parametrize(
    "change", [{"segment_size": 25}, {"max_impact": 100}, {"faiss_spec": "SQ8"}, "corpus"]
)
def test_what_another_build_left_is_not_used(tmp_path: Path, monkeypatch, change) -> None:
    index = tmp_path / "index"
    options = {"vocabulary": VOCABULARY, "segment_size": 20}
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_index(index, encode(tmp_path / "enc"), **options)
    if change == "corpus":
        encoded = encode(tmp_path / "other", seed=1)
    else:
        encoded = EncodedCorpus.open(tmp_path / "enc")
        options |= change
    build_index(index, encoded, **options)
    build_index(tmp_path / "whole", encoded, **options)
    assert contents(index) == contents(tmp_path / "whole")
    assert verify_index(index) == []


def test_a_build_that_was_killed_while_tidying_up_is_over_at_once(tmp_path, monkeypatch) -> None:
    from dupmae_toolkit.index.staging import Staging

    encoded = encode(tmp_path / "enc")
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "tidy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY)
    assert index_info(tmp_path / "index")["leftovers"] == [".building"]
    before = (tmp_path / "index" / "manifest.json").read_bytes()
    build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY)
    assert (tmp_path / "index" / "manifest.json").read_bytes() == before
    assert listing(tmp_path / "index") == ["manifest.json", "segments", "vocabulary.json"]


def test_leftovers_of_killed_processes_go(tmp_path: Path) -> None:
    index = tmp_path / "index"
    for place in (index / ".tmp-abc", index / "segments" / ".tmp-def" / "lucene"):
        place.mkdir(parents=True)
    (index / ".building").mkdir()
    build_index(index, encode(tmp_path / "enc"), vocabulary=VOCABULARY)
    assert listing(index) == ["manifest.json", "segments", "vocabulary.json"]
    assert listing(index / "segments") == ["000001"]


@pytest.mark.parametrize("what", ["file", "folder with things", "encoded corpus", "root of a file"])
def test_a_place_that_is_something_else_is_refused_and_left_alone(
    tmp_path: Path, what: str
) -> None:
    encoded = encode(tmp_path / "enc")
    target = tmp_path / "target"
    if what == "file":
        target.write_text("mine")
    elif what == "folder with things":
        target.mkdir()
        (target / "thesis.tex").write_text("mine")
    elif what == "encoded corpus":
        target = tmp_path / "enc"
    else:
        target.write_text("mine")
        target = target / "index"
    before = contents(tmp_path)
    with pytest.raises(InputError, match=str(tmp_path)):
        build_index(target, encoded, vocabulary=VOCABULARY, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", ["manifest", "no manifest", "segment", "vocabulary"])
def test_a_damaged_index_can_be_overwritten(tmp_path: Path, damage: str) -> None:
    index, encoded = tmp_path / "index", encode(tmp_path / "enc")
    build_index(index, encoded, vocabulary=VOCABULARY)
    if damage == "manifest":
        (index / "manifest.json").write_text("nonsense")
    elif damage == "no manifest":
        (index / "manifest.json").unlink()
    elif damage == "segment":
        shutil.rmtree(index / "segments" / "000001" / "faiss")
    else:
        (index / "vocabulary.json").unlink()
    with pytest.raises(InputError):
        build_index(index, encoded, vocabulary=VOCABULARY)
    build_index(index, encoded, vocabulary=VOCABULARY, overwrite=True)
    assert verify_index(index) == []
    assert listing(index) == ["manifest.json", "segments", "vocabulary.json"]


def test_an_interrupted_overwriting_is_not_continued_unasked(tmp_path: Path, monkeypatch) -> None:
    index, documents = tmp_path / "index", documents_of(20)
    index_corpus(index, documents_of(30, seed=1), ENCODER)
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            index_corpus(index, documents, ENCODER, overwrite=True)
    assert verify_index(index) == []
    with pytest.raises(InputError, match="index of 30 documents"):
        index_corpus(index, documents, ENCODER)
    assert index_corpus(index, documents, ENCODER, overwrite=True).count == 20
    assert listing(index) == ["manifest.json", "segments", "vocabulary.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    encoded = encode(tmp_path / "enc")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be"):
            build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    "options",
    [
        {"segment_size": 0},
        {"max_impact": 0},
        {"max_impact": 70_000},
        {"faiss_spec": "Nonsense"},
        {"faiss_spec": "PQ5"},
    ],
)
def test_bad_options_leave_nothing(tmp_path: Path, options: dict) -> None:
    encoded = encode(tmp_path / "enc")
    with pytest.raises(InputError):
        build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY, **options)
    assert not (tmp_path / "index").exists()


def test_a_spec_that_needs_more_vectors_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="should be at least as large as number of clusters"):
        build_index(
            tmp_path / "index",
            encode(tmp_path / "enc"),
            vocabulary=VOCABULARY,
            faiss_spec="IVF99,Flat",
        )
    assert not (tmp_path / "index").exists()


def test_another_vocabulary_and_queries_are_refused(tmp_path: Path) -> None:
    encoded = encode(tmp_path / "enc")
    for wrong in (VOCABULARY[:-1], VOCABULARY[::-1]):
        with pytest.raises(EncoderMismatchError, match="whose vocabulary of 512 entries"):
            build_index(tmp_path / "index", encoded, vocabulary=wrong)
    queries = encode_corpus(documents_of(5), ENCODER, tmp_path / "queries", kind="queries")
    with pytest.raises(InputError, match="holds queries"):
        build_index(tmp_path / "index", queries, vocabulary=VOCABULARY)
    assert not (tmp_path / "index").exists()


def test_a_part_that_is_damaged_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    encoded = encode(tmp_path / "enc")
    part = tmp_path / "enc" / "part-00002.parquet"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"part-00002\.parquet"):
        build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY, segment_size=10)
    assert not (tmp_path / "index").exists()


def test_two_builds_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    encoded = encode(tmp_path / "enc")
    (tmp_path / "index").mkdir()
    with (
        exclusive(tmp_path / "index"),
        pytest.raises(InputError, match=rf"is writing there \({os.getpid()}: .*python"),
    ):
        build_index(tmp_path / "index", encoded, vocabulary=VOCABULARY)


def test_a_corpus_becomes_an_index_in_one_go(tmp_path: Path) -> None:
    documents = documents_of(50)
    manifest = index_corpus(tmp_path / "one", iter(documents), ENCODER, part_size=16)
    assert listing(tmp_path / "one") == ["manifest.json", "segments", "vocabulary.json"]
    encoded = encode(tmp_path / "enc")
    build_index(tmp_path / "two", encoded, vocabulary=VOCABULARY)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert manifest.source == "the documents given"


def test_bad_documents_leave_nothing(tmp_path: Path) -> None:
    twice = [Document("a", "", "x"), Document("a", "", "y")]
    for bad in (twice, [], [Document("a", "", "")]):
        with pytest.raises(InputError):
            index_corpus(tmp_path / "index", bad, ENCODER)
        assert not (tmp_path / "index").exists()


def test_what_was_encoded_is_kept_for_another_spec(tmp_path: Path) -> None:
    class Counting(HashingEncoder):
        encoded = 0

        def encode_documents(self, texts, ids=None):
            Counting.encoded += len(texts)
            return super().encode_documents(texts, ids)

    documents = documents_of(50)
    with pytest.raises(InputError, match="does not suit 50 vectors"):
        index_corpus(tmp_path / "index", documents, Counting(), BuildOptions("IVF99,Flat"))
    index_corpus(tmp_path / "index", documents, Counting(), BuildOptions("IVF2,Flat"))
    assert Counting.encoded == 50
    assert verify_index(tmp_path / "index") == []


def test_a_build_of_something_else_is_started_over_only_when_asked(tmp_path: Path) -> None:
    index = tmp_path / "index"
    with pytest.raises(InputError):
        index_corpus(index, documents_of(50), ENCODER, BuildOptions("IVF99,Flat"))
    with pytest.raises(InputError, match="a different build was interrupted there"):
        index_corpus(index, documents_of(30, seed=2), ENCODER)
    assert (index / ".building" / "encoded" / "manifest.json").exists()
    manifest = index_corpus(index, documents_of(30, seed=2), ENCODER, overwrite=True)
    assert manifest.count == 30
    assert listing(index) == ["manifest.json", "segments", "vocabulary.json"]


def test_a_corpus_encoded_by_another_engine_is_indexed(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    encode(tmp_path / "enc")
    folder = tmp_path / "other"
    shutil.copytree(tmp_path / "enc", folder)
    values = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(
        json.dumps({k: values[k] for k in ("encoder", "format_version")})
    )
    for path in folder.glob("*.parquet"):
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    manifest = build_index(tmp_path / "index", EncodedCorpus.open(folder), vocabulary=VOCABULARY)
    assert manifest.count == 50
    assert manifest.truncated is None
    assert verify_index(tmp_path / "index") == []
