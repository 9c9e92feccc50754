"""Building an index and searching it, compared with brute force over all documents."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from dupmae_toolkit import Document, HybridIndex, Query, Representations
from dupmae_toolkit.collection.trec import read_run, write_run
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import DupMAEError, EncoderMismatchError, InputError
from dupmae_toolkit.search.fusion import Fusion
from tests.brute import MODES, BruteForce
from tests.support import HashingEncoder

pytestmark = pytest.mark.java

WORDS = [f"word{i}" for i in range(400)]
ENCODER = HashingEncoder(size=256, dim=16)


def corpus(count: int = 170, seed: int = 0) -> list[Document]:
    """Documents of random words; every tenth is a copy of one text, ids are in no order."""
    dice = random.Random(seed)
    names = [f"d{i}" for i in range(count)]
    dice.shuffle(names)
    documents = []
    for number, name in enumerate(names):
        words = " ".join(dice.choices(WORDS, k=dice.randint(3, 30)))
        text = "the very same words in each" if number % 10 == 0 else words
        documents.append(Document(name, f"Title of {name}" if number % 2 else "", text))
    return documents


DOCUMENTS = corpus()
TOPICS = [Query(f"q{i}", " ".join(random.Random(i).choices(WORDS, k=6))) for i in range(12)]
TOPICS += [Query("copies", "the same words"), Query("007", "nothing-known-here-at-all")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("indexes")


@pytest.fixture(scope="module")
def index(folder):
    return HybridIndex.build(folder / "one", DOCUMENTS, ENCODER)


@pytest.fixture(scope="module")
def segmented(folder):
    return HybridIndex.build(folder / "several", iter(DOCUMENTS), ENCODER, segment_size=60)


@pytest.fixture(scope="module")
def approximate(folder):
    return HybridIndex.build(folder / "hnsw", DOCUMENTS, ENCODER, faiss="HNSW4")


def pairs(ranking):
    return list(zip(ranking.ids, ranking.scores.tolist(), strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [1, 10, 1000])
def test_exact_search_equals_brute_force(index, segmented, approximate, mode, k):
    brute = BruteForce(DOCUMENTS, ENCODER, index.manifest)
    found = index.search_batch(TOPICS, k, mode, exact=True, depth=k)
    for topic in TOPICS:
        assert pairs(found[topic.id]) == brute.ranked(topic.text, mode, k)
    proven = found.metadata["certificate"]
    assert proven["certified"] == proven["topics"] == len(TOPICS)
    assert proven["not_certified"] == []
    graph = approximate.search_batch(TOPICS, k, mode, exact=True, depth=k)
    assert [pairs(graph[t]) for t in graph] == [pairs(found[t]) for t in found]
    # The scale is that of the first segment, so another quantisation: only its own oracle will do.
    brute = BruteForce(DOCUMENTS, ENCODER, segmented.manifest)
    pieces = segmented.search_batch(TOPICS, k, mode, exact=True, depth=k)
    for topic in TOPICS:
        assert pairs(pieces[topic.id]) == brute.ranked(topic.text, mode, k)


def test_hits_carry_their_parts_and_their_documents(index):
    hits = index.search("word1 word2 the same words", k=20)
    by_id = {document.id: document for document in DOCUMENTS}
    assert [hit.rank for hit in hits] == list(range(1, 21))
    for hit in hits:
        assert hit.title == by_id[hit.id].title
        assert hit.text == by_id[hit.id].text
        assert hit.score == pytest.approx(hit.dense + hit.lexical + hit.bm25, rel=1e-6)
    assert index.search("word1", mode="dense")[0].lexical is None
    assert index.search("word1", mode="lexical")[0].dense is None
    several = index.search(["word1", "word2"], k=3)
    assert several == [index.search("word1", k=3), index.search("word2", k=3)]


def test_documents_of_any_segment_come_with_their_texts(segmented):
    by_id = {document.id: document for document in DOCUMENTS}
    for hit in segmented.search("word1 word2 word3", k=100):
        assert (hit.title, hit.text) == (by_id[hit.id].title, by_id[hit.id].text)


@pytest.mark.parametrize("mode", MODES)
def test_a_score_does_not_depend_on_the_queries_beside_it(index, segmented, mode):
    for searched in (index, segmented):
        together = searched.search_batch(TOPICS, 50, mode)
        for topic in TOPICS:
            alone = searched.search_batch([topic], 50, mode)
            assert pairs(alone[topic.id]) == pairs(together[topic.id])


def test_the_same_search_writes_the_same_bytes(index, folder, tmp_path):
    for name in ("a", "b"):
        opened = HybridIndex.open(folder / "one", ENCODER)
        write_run(opened.search_batch(TOPICS, 20, tag="t"), tmp_path / name)
    for suffix in ("", ".json"):
        first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
        assert first == second
    assert list(read_run(tmp_path / "a")) == [topic.id for topic in TOPICS]


def test_metadata_say_how_scores_came_about(index):
    described = index.search_batch(TOPICS, 5, fusion=Fusion("linear", (0.2, 0.7, 0.1))).metadata
    assert described["mode"] == "hybrid"
    assert described["fusion"]["normalisation"] == "min-max"
    assert described["fusion"]["weights"] == [0.2, 0.7, 0.1]
    assert "completed" in described["fusion"]["missing"]
    assert "id ascending" in described["fusion"]["ties"]
    assert described["encoder"]["name"] == "hashing"
    assert described["lexical"]["scale"] == index.manifest.scale
    assert described["certificate"]["certified"] == 0
    assert "left out" in index.search_batch(TOPICS, 5, "lexical").metadata["lexical"]["missing"]


def test_metadata_describe_the_state_that_was_searched(tmp_path):
    index = HybridIndex.build(tmp_path / "index", DOCUMENTS, ENCODER)
    request = index.request(5)
    found = index.answers(TOPICS, request)
    before = index.run_of(found, request).metadata
    rebuilt = HybridIndex.build(
        tmp_path / "index", DOCUMENTS[:50], ENCODER, max_impact=1000, overwrite=True
    )
    assert index.refresh()
    assert index.run_of(found, request).metadata == before
    assert index.search_batch(TOPICS, 5).metadata["lexical"]["max_impact"] == 1000
    rebuilt.close()
    index.close()


def test_every_fusion_sees_completed_scores(index):
    vectors = ENCODER.encode_queries([TOPICS[0].text])
    by_depth = {}
    for method in ("sum", "linear", "combsum", "combmnz", "rrf"):
        hits = index.search(TOPICS[0].text, k=10, fusion=method, depth=10)
        assert len(hits) == 10
        for hit in hits:
            document = next(d for d in DOCUMENTS if d.id == hit.id)
            dense = ENCODER.encode_documents([document.contents]).dense[0]
            assert hit.dense == pytest.approx(float(dense @ vectors.dense[0]), abs=1e-6)
            assert hit.lexical is not None
        by_depth[method] = [hit.id for hit in hits]
    assert len({tuple(ids) for ids in by_depth.values()}) > 1


def test_the_weights_of_the_checkpoint_are_the_default(folder):
    encoder = HashingEncoder(size=256, dim=16)
    encoder.info = type(encoder.info)(
        **encoder.info.to_dict() | {"dense_weight": 0.25, "lexical_weight": 3.0}
    )
    weighted = HybridIndex.build(folder / "weighted", DOCUMENTS, encoder)
    found = weighted.search_batch(TOPICS, 10, exact=True)
    plain = weighted.search_batch(TOPICS, 10, exact=True, plain=True)
    brute = BruteForce(DOCUMENTS, ENCODER, weighted.manifest)
    for topic in TOPICS:
        assert pairs(found[topic.id]) == brute.ranked(topic.text, "hybrid", 10, (0.25, 3.0, 1.0))
        expected = brute.ranked(topic.text, "hybrid", 10, (0.25, 3.0), plain=True)
        assert pairs(plain[topic.id]) == expected
    assert found.metadata["fusion"]["weights"] == [0.25, 3.0, 1.0]
    assert plain.metadata["fusion"]["weights"] == [0.25, 3.0]


def test_deleted_documents_are_not_found(folder, segmented):
    opened = HybridIndex.open(folder / "several", ENCODER)
    gone = sorted(hit.id for hit in opened.search(TOPICS[0].text, k=7))
    shutil.copytree(folder / "several", folder / "fewer")
    HybridIndex.open(folder / "fewer", ENCODER).delete(gone)
    opened = HybridIndex.open(folder / "fewer", ENCODER)
    assert len(opened) == len(DOCUMENTS) - 7
    left = [document for document in DOCUMENTS if document.id not in gone]
    brute = BruteForce(left, ENCODER, opened.manifest)
    for mode in MODES:
        run = opened.search_batch(TOPICS[:1], 10, mode, exact=True)
        assert pairs(run["q0"]) == brute.ranked(TOPICS[0].text, mode, 10)


def test_encoded_queries_give_the_run_of_their_texts(index, tmp_path):
    vectors = ENCODER.encode_queries([t.text for t in TOPICS], [t.id for t in TOPICS])
    encoded = encode_corpus(TOPICS, ENCODER, tmp_path / "queries", kind="queries")
    expected = index.search_batch(TOPICS, 10)
    for queries in (vectors, encoded):
        found = index.search_batch(queries, 10)
        assert [pairs(found[t]) for t in found] == [pairs(expected[t]) for t in expected]


@pytest.mark.parametrize("asked", [None, 5, b"war", [None], ["war", 5], {"war": 1}])
def test_what_is_no_text_and_no_list_of_texts_is_refused(index, asked):
    with pytest.raises(InputError, match="takes a text, or a list of texts"):
        index.search(asked)


def test_searching_with_vectors_imports_no_torch(index, tmp_path):
    encode_corpus(TOPICS, ENCODER, tmp_path / "queries", kind="queries")
    program = (
        "import sys; from dupmae_toolkit import HybridIndex;"
        "from dupmae_toolkit.encoding.corpus import EncodedCorpus;"
        "index = HybridIndex.open(sys.argv[1]);"
        "run = index.search_batch(EncodedCorpus.open(sys.argv[2]), 5);"
        "assert len(run) == 14 and len(run['q0']) == 5;"
        "assert not {'torch', 'transformers', 'pyserini'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", program, str(index.path), str(tmp_path / "queries")]
    subprocess.run(command, check=True)


def test_another_encoder_is_refused_with_both_names(index, tmp_path):
    other = HashingEncoder(size=256, dim=16, name="other")
    with pytest.raises(EncoderMismatchError, match=r"'hashing'.*'other'"):
        HybridIndex.open(index.path, other)
    encoded = encode_corpus(TOPICS, other, tmp_path / "queries", kind="queries")
    with pytest.raises(EncoderMismatchError, match=r"'other'.*'hashing'"):
        index.search_batch(encoded)
    documents = encode_corpus(DOCUMENTS, ENCODER, tmp_path / "documents")
    with pytest.raises(InputError, match="holds documents"):
        index.search_batch(documents)


def test_an_encoder_that_is_not_there_is_told_with_the_way_out(index, monkeypatch):
    def load(name, info, **settings):
        raise InputError(f"{name}: no such model")

    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", load)
    with pytest.raises(InputError, match="--model"):
        HybridIndex.open(index.path).search("word1")


def test_the_name_of_a_folder_is_not_looked_up_on_the_network(index, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(InputError, match=r"'hashing' is not found by that name.* --model"):
        HybridIndex.open(index.path).search("word1")


def test_vectors_that_do_not_fit_are_refused(index):
    good = ENCODER.encode_queries(["word1", "word2"], ["a", "b"])
    bad = [
        (Representations(["a", "b"], good.dense[:, :8], good.lexical), "16 dimensions"),
        (Representations(["a", "b"], good.dense, good.lexical[:, :9]), "256 terms"),
        (Representations(["a"], good.dense, good.lexical), "for 1 queries"),
        (Representations(["a", "a"], good.dense, good.lexical), "'a' comes twice"),
        (Representations(["a", "b"], good.dense * np.nan, good.lexical), "NaN"),
        (Representations(["a", "b"], good.dense, csr_matrix(-good.lexical)), "negative"),
    ]
    for vectors, words in bad:
        with pytest.raises(InputError, match=words):
            index.search_batch(vectors)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": -1}, "k is -1"),
        ({"mode": "both"}, "hybrid, dense, lexical"),
        ({"mode": ""}, "hybrid, dense, lexical"),
        ({"fusion": "mean"}, "sum, linear, rrf"),
        ({"fusion": "rrf", "exact": True}, "cannot be certified"),
        ({"depth": 3}, "at least k"),
    ],
)
def test_bad_requests_are_refused(index, settings, words):
    with pytest.raises(InputError, match=words):
        index.search("word1", **settings)


def test_empty_texts_and_repeated_ids_are_refused(index):
    for text in ("", " \n\t"):
        with pytest.raises(InputError, match="no text"):
            index.search(text)
    with pytest.raises(InputError, match="comes twice"):
        index.search_batch([Query("a", "x"), Query("a", "y")])
    assert len(index.search_batch([])) == 0


def test_a_missing_index_is_refused(tmp_path):
    with pytest.raises(InputError, match="dupmae index"):
        HybridIndex.open(tmp_path / "nothing")


def test_an_index_that_stands_is_replaced_only_on_request(tmp_path):
    path = tmp_path / "index"
    HybridIndex.build(path, [{"id": "a", "text": "one"}], ENCODER)
    with pytest.raises(InputError, match="overwrite"):
        HybridIndex.build(path, [{"id": "b", "text": "two"}], ENCODER)
    replaced = HybridIndex.build(path, [{"id": "b", "text": "two"}], ENCODER, overwrite=True)
    assert [hit.id for hit in replaced.search("two", exact=True)] == ["b"]


def test_a_failed_build_leaves_no_index_and_the_next_one_works(tmp_path):
    path = tmp_path / "index"
    twice = [{"id": "a", "text": "one"}, {"id": "a", "text": "two"}]
    with pytest.raises(InputError, match="unique"):
        HybridIndex.build(path, twice, ENCODER)
    with pytest.raises(InputError, match="FAISS"):
        HybridIndex.build(path, twice, ENCODER, faiss="Nonsense")
    assert not path.exists()
    # A killed build of other documents left these vectors behind.
    encode_corpus([Document("z", "", "old")], ENCODER, path / ".building" / "encoded")
    documents = [{"id": "a", "title": "New", "text": "one"}]
    with pytest.raises(InputError, match="overwrite"):
        HybridIndex.build(path, documents, ENCODER)
    built = HybridIndex.build(path, documents, ENCODER, overwrite=True)
    assert [hit.title for hit in built.search("one")] == ["New"]
    assert not (path / ".building").exists()


def test_a_score_that_is_no_number_is_refused_as_damage(tmp_path):
    HybridIndex.build(tmp_path / "index", DOCUMENTS, ENCODER).close()
    file = tmp_path / "index" / "segments" / "000001" / "faiss" / "index"
    data = bytearray(file.read_bytes())
    # A flat FAISS index ends with its vectors: here, the first number of the last one.
    data[-16 * 4 : -15 * 4] = np.float32(np.inf).tobytes()
    file.write_bytes(data)
    with contextlib.closing(HybridIndex.open(tmp_path / "index", ENCODER, check="sizes")) as index:
        queries = ENCODER.encode_queries([topic.text for topic in TOPICS])
        with pytest.raises(DupMAEError, match="dupmae verify"):
            index.search_batch(queries, k=3, mode="dense")


def test_a_closed_index_says_so(tmp_path):
    index = HybridIndex.build(tmp_path / "index", DOCUMENTS, ENCODER)
    before = (tmp_path / "index" / "manifest.json").read_bytes()
    index.close()
    index.close()
    for use in (
        lambda: index.search("a"),
        lambda: index.search_batch([Query("1", "a")]),
        lambda: index.add([Document("new", "text")]),
        lambda: index.delete([DOCUMENTS[0].id]),
        lambda: index.compact(),
        lambda: index.refresh(),
        lambda: index.warm(),
    ):
        with pytest.raises(DupMAEError, match="was closed; open the index again"):
            use()
    assert (tmp_path / "index" / "manifest.json").read_bytes() == before


def test_an_index_that_was_opened_before_a_fork_says_so(tmp_path, monkeypatch):
    with HybridIndex.build(tmp_path / "index", DOCUMENTS, ENCODER) as index:
        assert index.search("a", mode="dense")
        # As the child sees it; forking the tests' own process would take its threads along.
        monkeypatch.setattr("os.getpid", lambda: -1)
        with pytest.raises(DupMAEError, match="the encoder, after forking"):
            index.search("a")
        monkeypatch.undo()
        assert index.search("a", mode="dense")


def test_its_repr_is_a_line_that_tells_what_it_is_and_reads_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "a\nfolder"
    index = HybridIndex.build(folder, DOCUMENTS, ENCODER)
    start = f"<HybridIndex {str(folder)!r}: "
    assert "\n" not in start
    assert repr(index) == start + "170 documents, open>"
    assert repr(HybridIndex.build(tmp_path / "one", DOCUMENTS[:1], ENCODER)).endswith(
        ": 1 document, open>"
    )
    index.delete([DOCUMENTS[0].id])
    shutil.rmtree(folder)
    assert f"{index}" == start + "169 documents, open>"
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: -1)
        assert repr(index) == start + "169 documents, opened in another process>"
    index.close()
    assert repr(index) == start + "169 documents, closed>"


def test_an_index_that_could_not_be_opened_has_a_repr(tmp_path):
    seen = []

    class Watched(HybridIndex):
        def __init__(self, *given, **settings):
            seen.append(self)
            super().__init__(*given, **settings)

    with pytest.raises(InputError):
        Watched.open(tmp_path / "nowhere")
    assert repr(seen[0]) == f"<Watched {str(tmp_path / 'nowhere')!r}: not opened>"
    assert repr(HybridIndex.__new__(HybridIndex)) == "<HybridIndex '': not opened>"
