"""BM25 alone needs no vectors: no encoder is called or loaded, and no query is cut."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.collection.trec import read_metadata, read_run
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.interop.pyserini import LexicalQueryEncoder
from dupmae_toolkit.mining.candidates import IndexCandidates
from dupmae_toolkit.mining.topics import Topic
from dupmae_toolkit.records import Representations
from tests.cli_support import run
from tests.index_support import documents_of
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

DOCUMENTS = documents_of(40, seed=8)
TOPICS = [Query("a", DOCUMENTS[3].text), Query("b", "w1 w2 w1"), Query("none", "unheard-of")]


class Silent(HashingEncoder):
    """Encodes documents, and no query."""

    def encode_queries(self, texts, ids=None):
        raise AssertionError("a query was encoded")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """An index whose encoder is not on this machine."""
    folder = tmp_path_factory.mktemp("texts") / "index"
    HybridIndex.build(folder, DOCUMENTS, HashingEncoder()).close()
    return folder


def pairs(found):
    return {topic: list(zip(found[topic].ids, found[topic].scores, strict=True)) for topic in found}


def test_the_library_calls_no_encoder_and_finds_the_same(path):
    encoder = HashingEncoder()
    vectors = encoder.encode_queries([t.text for t in TOPICS], [t.id for t in TOPICS])
    with HybridIndex.open(path, Silent()) as index, HybridIndex.open(path) as unnamed:
        wanted = pairs(index.search_batch(vectors, 10, "bm25"))
        assert [len(wanted[topic.id]) > 0 for topic in TOPICS] == [True, True, False]
        for opened in (index, unnamed):
            assert pairs(opened.search_batch(TOPICS, 10, "bm25")) == wanted
            hits = opened.search(TOPICS[0].text, mode="bm25")
            assert [(hit.id, hit.score) for hit in hits] == wanted["a"]
            assert {(hit.dense, hit.lexical) for hit in hits} == {(None, None)}
            request = opened.request(mode="bm25")
            ids = [[name for name, _ in wanted[topic.id]] for topic in TOPICS]
            scores = opened.scores(TOPICS, ids, request)
            assert [list(each.items()) for each in scores] == [wanted[t.id] for t in TOPICS]
            mined = IndexCandidates(opened, request)([Topic(TOPICS[0], ("d1",), frozenset({"d1"}))])
            assert mined[0].ranking.ids == [name for name, _ in wanted["a"]]
        assert index.search_batch([], 10, "bm25").topics == {}
        with pytest.raises(AssertionError, match="was encoded"):
            index.search("w1")
        with pytest.raises(InputError, match="its encoder 'hashing' is not found"):
            unnamed.search("w1")


def test_texts_beside_vectors_of_any_width_are_enough(path, tmp_path):
    ids, texts = [t.id for t in TOPICS], [t.text for t in TOPICS]
    narrow = HashingEncoder(size=32, dim=4, name="other")
    encode_corpus(TOPICS, narrow, tmp_path / "queries", kind="queries")
    encode_corpus(DOCUMENTS, narrow, tmp_path / "documents")
    with HybridIndex.open(path) as index:
        wanted = pairs(index.search_batch(TOPICS, 10, "bm25"))
        given = narrow.encode_queries(texts, ids)
        assert pairs(index.search_batch(given, 10, "bm25")) == wanted
        folder = EncodedCorpus.open(tmp_path / "queries")
        assert pairs(index.search_batch(folder, 10, "bm25")) == wanted
        with pytest.raises(InputError, match="holds documents"):
            index.search_batch(EncodedCorpus.open(tmp_path / "documents"), 10, "bm25")
        for bad in (None, texts[:2], [*texts[:2], " "], [*texts[:2], None]):
            vectors = Representations(ids, given.dense, given.lexical, texts=bad)
            with pytest.raises(InputError, match="BM25 needs"):
                index.search_batch(vectors, 10, "bm25")
        for queries in ([Query("a", "w1"), Query("a", "w2")], [Query("a", " \t")]):
            with pytest.raises(InputError, match=r"comes twice|has no text"):
                index.search_batch(queries, 10, "bm25")


def test_stock_pyserini_gets_the_words_without_an_encoder(path):
    with HybridIndex.open(path) as index:
        silent, none = (LexicalQueryEncoder(e, index=index, mode="bm25") for e in (Silent(), None))
        assert silent.encode("w1 w2 w1") == none.encode("w1 w2 w1") != {}
        with pytest.raises(InputError, match="mode lexical needs an encoder"):
            LexicalQueryEncoder(None, index=index)


def test_neither_the_library_nor_the_command_loads_torch(path, tmp_path):
    (tmp_path / "q.tsv").write_text("a\tw1 w2\n")
    code = (
        "import sys\n"
        "from dupmae_cli.main import main\n"
        "from dupmae_toolkit import HybridIndex\n"
        "path, queries, output = sys.argv[1:]\n"
        "index = HybridIndex.open(path)\n"
        "for _ in range(8): assert index.search('w1 w2', mode='bm25')\n"
        "for given in (['w1 w2'], ['--queries', queries, '--output', output]):\n"
        "    try: main(['search', '--index', path, '--mode', 'bm25', *given])\n"
        "    except SystemExit as stopped: assert stopped.code == 0\n"
        "assert not {'torch', 'transformers', 'jnius'} & set(sys.modules)\n"
    )
    given = (str(path), str(tmp_path / "q.tsv"), str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert len(read_run(tmp_path / "run")["a"]) > 0


def test_nothing_is_said_to_be_cut_and_options_without_use_are_named(path, capsys, tmp_path):
    search = ("search", "--index", path, "--mode", "bm25")
    text = " ".join(f"w{number}" for number in range(900))
    code, out, said = run(capsys, *search, text, "--json")
    assert (code, said) == (0, "")
    answer = json.loads(out)
    assert answer["truncated"] == {
        "queries": 0,
        "query_max_length": None,
        "documents": 0,
        "max_length": None,
    }
    assert answer["precision"] == {"queries": None, "documents": None}
    unused = ("--model", "nowhere", "--query-length", 9, "--device", "tpu", "--precision", "fp32")
    code, out, said = run(capsys, *search, text, *unused)
    assert code == 0
    first = said.splitlines()[0]
    assert first == (
        "mode bm25 encodes nothing: --model, --query-length, --device, --precision not used"
    )
    assert "cut at" not in said
    (tmp_path / "q.tsv").write_text(f"a\t{text}\n")
    many = ("--queries", tmp_path / "q.tsv", "--output", tmp_path / "run")
    code, _, said = run(capsys, *search, *many)
    assert (code, "cut at" in said, "not used" in said) == (0, False, False)
    assert read_metadata(tmp_path / "run")["truncated"] == answer["truncated"]
