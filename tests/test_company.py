"""A text's vectors hardly depend on the texts that it is encoded with: how much, for real weights.

docs/reliability.md states the bounds that are tested here.
"""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch

from dupmae_toolkit import DupMAEEncoder, HybridIndex, load_encoder
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.info import index_info
from dupmae_toolkit.index.manifest import Manifest, _own_digest
from dupmae_toolkit.index.updates import add_encoded
from dupmae_toolkit.model import inference_copy
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.lean import encoder as lean_encoder
from dupmae_toolkit.model.lean.bf16 import LEAN
from dupmae_toolkit.model.lean.encoder import LeanEncoder
from dupmae_toolkit.records import Document, Query
from tests.cli_support import run
from tests.families import make_lm, make_tokenizer, save_checkpoint, sentences
from tests.support import HashingEncoder
from tests.test_lean_encoder import make_checkpoint

#: In float32, relative to the largest number of a vector, or to the best score of a query.
CLOSE = 1e-5
#: The same in bf16: of vectors, and of scores.
VECTORS_BF16, SCORES_BF16 = 5e-2, 2e-2

QUESTIONS = [
    "how do I parse a date",
    "date",
    "what is the difference between a list and a tuple, and when is either of them to be preferred",
    "remember the results of an expensive function",
    "does aspirin reduce the risk of heart attacks in women over sixty-five?",
    "look things up in several dictionaries as if they were one " * 4,
    "zzz qqq xkcd ½ naïve café",
]
#: Short and long, and none a copy of another.
TEXTS = [
    *QUESTIONS,
    *(one.__doc__ for one in (json.loads, np.einsum, np.linalg.svd, sorted, torch.optim.Adam)),
    *(np.__dict__[name].__doc__ for name in ("concatenate", "where", "unique", "histogram")),
    *(str.__dict__[name].__doc__ for name in ("split", "join", "strip", "encode", "casefold")),
]


def alone(encode, texts):
    """Dense float [n, d] and lexical float [n, |V|], each text encoded by itself."""
    found = [encode([text]) for text in texts]
    dense = np.concatenate([one.dense for one in found])
    return dense, np.concatenate([one.lexical.toarray() for one in found])


def off(found, expected):
    """The largest difference in each row, relative to the row's largest number."""
    return (abs(found - expected).max(axis=1) / abs(expected).max(axis=1)).max()


@pytest.fixture(scope="module")
def builtin():
    return {name: load_encoder("builtin", precision=name, device="cpu") for name in LEAN}


# --- the bounds


@pytest.mark.slow
@pytest.mark.parametrize("load", [load_encoder, DupMAEEncoder.from_pretrained])
def test_a_query_has_the_same_vectors_alone_and_in_a_file(load, monkeypatch):
    # Also where documents are computed in bf16, whatever this machine would choose.
    monkeypatch.setattr("dupmae_toolkit.model.precision.has_bf16", lambda kind="cpu": True)
    encoder = load("builtin", device="cpu")
    together = encoder.encode_queries(TEXTS)
    again = encoder.encode_queries(TEXTS[::-2])
    some = slice(None, None, -2)
    for found, rows in (
        (alone(encoder.encode_queries, TEXTS), slice(None)),
        ((again.dense, again.lexical.toarray()), some),
    ):
        assert off(found[0], together.dense[rows]) < CLOSE
        assert off(found[1], together.lexical.toarray()[rows]) < CLOSE


@pytest.mark.slow
def test_documents_depend_on_their_company_within_the_stated_bounds(builtin):
    queries = builtin["fp32"].encode_queries(QUESTIONS)
    for precision, of_vectors, of_scores in (
        ("fp32", CLOSE, CLOSE),
        ("bf16", VECTORS_BF16, SCORES_BF16),
    ):
        encoder = builtin[precision]
        together = encoder.encode_documents(TEXTS)
        dense, lexical = alone(encoder.encode_documents, TEXTS)
        assert off(dense, together.dense) < of_vectors
        assert off(lexical, together.lexical.toarray()) < of_vectors
        weight = encoder.info.dense_weight

        def score(dense, lexical, weight=weight):
            products = queries.dense.astype(float) @ dense.T.astype(float)
            return weight * products + queries.lexical.astype(float) @ lexical.T.astype(float)

        expected = score(together.dense, together.lexical.toarray())
        assert off(score(dense, lexical), expected) < of_scores


@pytest.mark.slow
@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_adding_one_by_one_gives_the_scores_of_building_at_once(builtin, precision, tmp_path):
    encoder = builtin[precision]
    weights = encoder.encode_documents(TEXTS).lexical.max(axis=1).toarray().ravel()
    # The heaviest first, which fix the scale of the impacts where the first build does.
    documents = [Document(f"d{n:02}", "", TEXTS[n]) for n in np.argsort(-weights)]
    queries = builtin["fp32"].encode_queries(QUESTIONS)
    ids = [[document.id for document in documents]] * len(QUESTIONS)
    with HybridIndex.build(tmp_path / "at once", documents, encoder) as index:
        expected = {mode: scores(index, queries, ids, mode) for mode in ("dense", "lexical")}
        hybrid, scale = scores(index, queries, ids, "hybrid"), index.manifest.scale
        assert index.manifest.precision == {precision: len(documents)}
    with HybridIndex.build(tmp_path / "one by one", documents[:-6], encoder) as index:
        for document in documents[-6:]:
            index.add([document])
        found = {mode: scores(index, queries, ids, mode) for mode in ("dense", "lexical")}
        assert index.manifest.precision == {precision: len(documents)}
        if precision == "bf16":
            assert off(scores(index, queries, ids, "hybrid"), hybrid) < SCORES_BF16
            return
    assert off(found["dense"], expected["dense"]) < CLOSE
    # An impact may be rounded to the next integer: one step of one term, of a query's heaviest.
    step = queries.lexical.max() / scale
    lexical = abs(found["lexical"] - expected["lexical"])
    assert (lexical < CLOSE * expected["lexical"].max() + step).all()


def scores(index, queries, ids, mode):
    found = index.scores(queries, ids, index.request(mode=mode))
    return np.array([[row[name] for name in ids[0]] for row in found])


@pytest.mark.slow
@pytest.mark.java
def test_a_question_has_the_same_scores_alone_and_among_queries(capsys, tmp_path):
    """With the default precision, from index to run, as a user types it."""
    dupmae, asked = partial(run, capsys), QUESTIONS[::2]
    rows = [{"_id": f"d{n}", "text": text} for n, text in enumerate(TEXTS)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "q.tsv").write_text("".join(f"q{n}\t{q}\n" for n, q in enumerate(asked)))
    where = ("--index", tmp_path / "index")
    dupmae("index", tmp_path / "c.jsonl", *where)
    many = ("--queries", tmp_path / "q.tsv", "--output", tmp_path / "run", "-k", 10)
    assert dupmae("search", *where, *many)[0] == 0
    found = read_run(tmp_path / "run")
    for number, question in enumerate(asked):
        _, out, _ = dupmae("search", *where, question, "--json")
        answer = json.loads(out)
        assert answer["precision"]["queries"] == found.metadata["precision"]["queries"] == "fp32"
        assert answer["precision"]["documents"] == index_info(tmp_path / "index")["precision"]
        ranking = found[f"q{number}"]
        assert [hit["id"] for hit in answer["hits"]] == ranking.ids
        scores = np.array([hit["score"] for hit in answer["hits"]])
        assert abs(scores - ranking.scores).max() < CLOSE * scores[0]


# --- which precision computes what


@pytest.fixture
def plain(tmp_path):
    """A checkpoint that is read without transformers."""
    return make_checkpoint(tmp_path / "plain")


@pytest.fixture
def checkpoint(tmp_path):
    return save_checkpoint(tmp_path / "bert")


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("fast", [False, True])
def test_auto_computes_queries_in_float32_and_documents_as_the_hardware_likes(
    lean, fast, plain, checkpoint, monkeypatch
):
    monkeypatch.setattr("dupmae_toolkit.model.precision.has_bf16", lambda kind="cpu": fast)
    texts = sentences(9)
    source = plain if lean else checkpoint
    auto, fp32, bf16 = (
        load_encoder(source, device="cpu", precision=name, pooling="cls")
        for name in ("auto", "fp32", "bf16")
    )
    assert isinstance(auto, LeanEncoder) == lean
    assert (auto.arithmetic, auto.query_arithmetic) == ("bf16" if fast else "fp32", "fp32")
    assert (fp32.arithmetic, fp32.query_arithmetic) == ("fp32", "fp32")
    assert (bf16.arithmetic, bf16.query_arithmetic) == ("bf16", "bf16")
    like = bf16 if fast else fp32
    for _ in range(2):  # by turns
        documents, queries = auto.encode_documents(texts), auto.encode_queries(texts)
        assert (documents.dense == like.encode_documents(texts).dense).all()
        assert (queries.dense == fp32.encode_queries(texts).dense).all()
        assert (queries.lexical != fp32.encode_queries(texts).lexical).nnz == 0
        assert (documents.precision, queries.precision) == (like.arithmetic, "fp32")
    assert (bf16.encode_queries(texts).dense != queries.dense).any()


def test_layers_are_prepared_once_for_each_precision(checkpoint, monkeypatch):
    made = []

    class Noted(inference_copy.InferenceCopy):
        @classmethod
        def of(cls, lm, dtype, made_from):
            made.append(dtype)
            return super().of(lm, dtype, made_from)

    monkeypatch.setattr("dupmae_toolkit.model.encoder.InferenceCopy", Noted)
    monkeypatch.setattr("dupmae_toolkit.model.precision.has_bf16", lambda kind="cpu": True)
    tokenizer = make_tokenizer()
    encoder = DupMAEEncoder(make_lm("bert", tokenizer), tokenizer, DupMAEConfig()).eval()
    for _ in range(3):
        encoder.encode_documents(sentences(4))
        encoder.encode_queries(sentences(4))
    assert made == [torch.bfloat16, None]
    with torch.no_grad():
        encoder.lm.get_input_embeddings().weight.mul_(1.5)
    encoder.encode_queries(sentences(4))
    assert list(encoder._inference_copies) == [None]  # the stale one takes no memory
    encoder.encode_documents(sentences(4))
    assert made == [torch.bfloat16, None, None, torch.bfloat16]


def test_a_lean_encoder_packs_what_it_needs_when_it_needs_it(plain, monkeypatch):
    made = []

    def noting(kind):
        def pack(*given):
            made.append(kind)
            return LEAN[kind](*given)

        return pack

    monkeypatch.setattr(lean_encoder, "LEAN", {kind: noting(kind) for kind in LEAN})
    monkeypatch.setattr("dupmae_toolkit.model.precision.has_bf16", lambda kind="cpu": True)
    encoder = load_encoder(plain, device="cpu")
    assert made == []
    for _ in range(2):
        encoder.encode_queries(sentences(40))
    assert made == ["fp32"]
    for _ in range(2):
        encoder.encode_documents(sentences(40))
        encoder.encode_queries(sentences(4))
    assert made == ["fp32", "bf16"]


# --- what is written about it


def test_encoded_folders_say_the_precision_of_their_kind(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("dupmae_toolkit.model.precision.has_bf16", lambda kind="cpu": True)
    encoder = load_encoder(checkpoint, device="cpu")
    documents = encode_corpus([Document("d", "", "river")], encoder, tmp_path / "d")
    queries = encode_corpus([Query("q", "river")], encoder, tmp_path / "q", kind="queries")
    assert (documents.precision, queries.precision) == ("bf16", "fp32")
    bf16 = load_encoder(checkpoint, device="cpu", precision="bf16")
    with pytest.raises(InputError, match="made with precision fp32, not bf16"):
        encode_corpus([Query("q", "river")], bf16, tmp_path / "q", kind="queries")


@pytest.mark.parametrize("stated", [None, "fp8", 5, ["fp32"], {}, "", "BF16"])
def test_a_folder_that_does_not_say_it_is_of_unknown_precision(stated, tmp_path):
    encode_corpus([Document("d", "", "river")], HashingEncoder(), tmp_path / "d")
    path = tmp_path / "d" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": stated}))
    assert EncodedCorpus.open(tmp_path / "d").precision == "unknown"


class Stating(HashingEncoder):
    """Says that its vectors are of a precision."""

    arithmetic = query_arithmetic = "fp32"


class StatingBf16(Stating):
    arithmetic = "bf16"


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
def test_an_index_counts_its_documents_by_precision(tmp_path, capsys):
    texts = [Document(f"d{n}", "", f"text number {n}") for n in range(9)]
    path = tmp_path / "index"
    HybridIndex.build(path, texts[:4], StatingBf16()).close()
    assert Manifest.load(path).precision == {"bf16": 4}
    for encoder, more in ((Stating(), texts[4:6]), (HashingEncoder(), texts[6:9])):
        with HybridIndex.open(path, encoder) as index:
            index.add(more)
    counts = {"bf16": 4, "fp32": 2, "unknown": 3}
    with HybridIndex.open(path, Stating()) as index:
        assert index.manifest.precision == counts
        # Documents that were added are counted, whatever becomes of them.
        index.delete(["d0", "d5"])
        index.compact()
        index.add([texts[1]], replace=True)
        counts["fp32"] += 1
        metadata = index.search_batch([Query("q", "text")], k=3).metadata
    assert Manifest.load(path).precision == index_info(path)["precision"] == counts
    assert metadata["precision"] == {"queries": None, "documents": counts}
    _, out, _ = run(capsys, "info", "--index", path)
    (line,) = [line for line in out.splitlines() if line.startswith("precision")]
    said = "documents ever added: 4 in bf16, 3 in fp32, 3 not known"
    assert line.removeprefix("precision").strip() == said
    assert json.loads(run(capsys, "info", "--index", path, "--json")[1])["precision"] == counts


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
def test_an_index_of_an_earlier_version_is_of_unknown_precision(tmp_path):
    path = tmp_path / "index"
    HybridIndex.build(path, [Document("a", "", "one"), Document("b", "", "two")], Stating()).close()
    values = json.loads((path / "manifest.json").read_text())
    del values["sha256"], values["precision"]
    values["sha256"] = _own_digest(values)
    (path / "manifest.json").write_text(json.dumps(values))
    assert Manifest.load(path).precision == {"unknown": 2}
    with HybridIndex.open(path, Stating()) as index:
        index.add([{"id": "c", "text": "three"}])
    assert Manifest.load(path).precision == {"unknown": 2, "fp32": 1}


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
def test_a_corpus_that_counted_no_cut_texts_makes_the_indexs_count_unknown(tmp_path):
    path, folder = tmp_path / "index", tmp_path / "more"
    HybridIndex.build(path, [Document("a", "", "one")], HashingEncoder()).close()
    assert Manifest.load(path).truncated == 0
    encode_corpus([Document("b", "", "two")], HashingEncoder(), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"truncated": None}))
    add_encoded(path, EncodedCorpus.open(folder))
    assert Manifest.load(path).truncated is None
