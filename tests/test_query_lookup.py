"""Queries whose term weights come from a table, without the network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from dupmae_toolkit import HybridIndex, Query, load_encoder
from dupmae_toolkit.errors import EncoderMismatchError, InputError
from dupmae_toolkit.model.lookup import LOOKUP_FILE, read_lookup, write_lookup
from dupmae_toolkit.model.lookup_dense import RIDGE, fit_table
from dupmae_toolkit.model.lookup_derivation import derive_lookup
from dupmae_toolkit.records import Document, Representations
from dupmae_toolkit.training.data.query_texts import query_texts
from tests.cli_support import run
from tests.test_lean_encoder import SPECIAL, TEXTS, WORDS, make_checkpoint

DOCUMENTS = [
    Document("a", "", "the river and the war"),
    Document("b", "", "sun sun day"),
    Document("c", "", "a day at the river"),
    Document("é", "", "日 本 war"),
]


@pytest.fixture(scope="module")
def derived(tmp_path_factory):
    """A checkpoint with the table that its network gives."""
    folder = make_checkpoint(tmp_path_factory.mktemp("lookup") / "model")
    derive_lookup(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(derived, tmp_path_factory):
    """The same with a weight for every ordinary token; a random network gives most of them none."""
    folder = shutil.copytree(derived, tmp_path_factory.mktemp("lookup") / "full")
    weights = np.random.default_rng(3).uniform(0.5, 2, len(table_of(folder)))
    weights[[0, 2, 3, 4]] = 0
    write_lookup(folder / LOOKUP_FILE, read_lookup(folder).info, weights)
    return folder


@pytest.fixture
def copied(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


class Counting:
    """Under the checkpoint's name, gives documents how often each token occurs: easily foretold."""

    def __init__(self, folder):
        encoder = load_encoder(folder)
        self.info, self.vocabulary = encoder.info, encoder.vocabulary
        self._tokenizer = encoder.tokenizer

    def encode_documents(self, texts, ids=None):
        counts = np.zeros((len(texts), self.info.vocabulary_size), np.float32)
        for row, made in enumerate(self._tokenizer(list(texts), True, 64).encodings):
            for token in made.ids[1:-1]:
                counts[row, token] += 1
        dense = np.ones((len(texts), self.info.dense_dim), np.float32)
        return Representations(list(ids), dense, csr_matrix(counts))


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    """An index of four documents."""
    path = tmp_path_factory.mktemp("lookup") / "index"
    HybridIndex.build(path, DOCUMENTS, Counting(checkpoint)).close()
    return path


def table_of(folder):
    return load_file(folder / LOOKUP_FILE)["weights"].astype(np.float32)


def test_a_weight_is_that_of_a_query_of_the_token_alone(derived):
    encoder, table = load_encoder(derived, precision="fp32"), table_of(derived)
    size = len(SPECIAL) + len(WORDS)
    assert len(table) == size + 3  # the model has three rows more than tokens
    for token in range(size):
        ids = torch.tensor([[2, token, 3]])
        with torch.inference_mode():
            expected = float(encoder(ids, torch.ones_like(ids)).lexical[0, token])
        if token in (0, 2, 3, 4):  # special ones; [UNK] is ordinary
            expected = 0.0
        assert table[token] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert not table[size:].any()
    assert (table > 0).sum() > 3


def test_a_query_has_the_weights_of_its_different_tokens(checkpoint):
    lookup, table = read_lookup(checkpoint), table_of(checkpoint)
    found = lookup.encode_queries(TEXTS)
    network = load_encoder(checkpoint).tokenizer
    for row, text in enumerate(TEXTS):
        clean = text.replace("\ud800", "\ufffd")
        (made,) = network([clean], True, lookup.info.query_max_length).encodings
        expected = np.where(np.isin(np.arange(len(table)), made.ids), table, 0)
        np.testing.assert_array_equal(found.lexical[row].toarray()[0], expected)
    assert found.lexical.data.all()
    assert found.dense.shape == (len(TEXTS), lookup.info.dense_dim)
    assert not found.dense.any()
    assert found.truncated == 1  # "river " * 300
    assert found.texts == TEXTS


def test_no_queries_give_an_empty_matrix(checkpoint):
    found = read_lookup(checkpoint).encode_queries([])
    assert found.lexical.shape[0] == len(found) == found.lexical.nnz == 0


def test_repeating_a_token_changes_nothing(checkpoint):
    once, often = read_lookup(checkpoint).encode_queries(["sun war", "sun sun war sun"]).lexical
    assert once.nnz == 2
    assert (once != often).nnz == 0


def test_pruning_keeps_the_largest_weights_and_of_equal_ones_the_lower_term(copied):
    lookup = read_lookup(copied)
    weights = np.zeros(lookup.info.vocabulary_size, np.float32)
    weights[5:9] = [1, 3, 1, 2]  # river, war, sun, day
    write_lookup(copied / LOOKUP_FILE, lookup.info, weights)
    pruned = read_lookup(copied).fitted_to(replace(lookup.info, query_top_k=3))
    found = pruned.encode_queries(["sun river day war"]).lexical
    assert dict(zip(found.indices.tolist(), found.data.tolist(), strict=True)) == {5: 1, 6: 3, 8: 2}


@pytest.mark.java
def test_hybrid_scores_are_lexical_and_bm25_with_the_indexs_weights(checkpoint, folder):
    text = "the river war"
    with HybridIndex.open(folder, query_encoder="lookup") as index:
        scoring = index.manifest.scoring
        hits = index.search(text, k=4)
        frequencies = index._snapshot.frequencies
        query = read_lookup(checkpoint).encode_queries([text]).lexical.toarray()[0]
        factors = frequencies.factors(scoring.idf_power)
        encoded = Counting(checkpoint).encode_documents([d.contents for d in DOCUMENTS], "abcd")
        lexical = encoded.lexical.toarray() @ (query * factors)
        words = {hit.id: hit.score for hit in index.search(text, k=4, mode="bm25")}
    assert (lexical > 0).sum() == 3
    assert len(hits) == 4
    for hit in hits:
        row = [document.id for document in DOCUMENTS].index(hit.id)
        assert hit.dense is None
        assert hit.lexical == pytest.approx(lexical[row], rel=0.02, abs=0.02)
        assert hit.bm25 == pytest.approx(words.get(hit.id, 0.0))
        _, w_lexical, w_bm25 = scoring.weights
        assert hit.score == pytest.approx(w_lexical * hit.lexical + w_bm25 * hit.bm25, rel=1e-5)


@pytest.mark.java
def test_a_fresh_process_searches_without_torch(folder):
    code = (
        "import sys; from dupmae_toolkit import HybridIndex\n"
        f"index = HybridIndex.open({str(folder)!r}, query_encoder='lookup'); index.warm()\n"
        "print(len(index.search('river war')))\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["4", "[]"]


@pytest.mark.java
def test_a_runs_metadata_name_the_table(folder):
    with HybridIndex.open(folder, query_encoder="lookup") as index:
        about = index.search_batch([Query("1", "river")], 2).metadata
    assert about["query_encoder"]["kind"] == "lookup"
    assert about["query_encoder"]["dense"] is False
    assert about["fusion"]["lists"] == ["lexical", "bm25"]
    assert about["precision"]["queries"] is None
    with HybridIndex.open(folder) as index:
        assert "query_encoder" not in index.search_batch([Query("1", "river")], 2).metadata


@pytest.mark.java
def test_what_needs_dense_vectors_is_refused(checkpoint, folder, tmp_path):
    with HybridIndex.open(folder, query_encoder="lookup") as index:
        with pytest.raises(InputError, match="without dense vectors; choose mode hybrid"):
            index.search("river", mode="dense")
        with pytest.raises(InputError, match="choose mode lexical"):
            index.search("river", plain=True)
        assert index.search("river", mode="lexical", plain=True)
        with pytest.raises(InputError, match="these have dense vectors"):
            index.search_batch(load_encoder(checkpoint).encode_queries(["river"]), 2)
        vectors = index.vectors([Query("1", "river")])
        assert len(index.search_batch(vectors, 2)["1"]) == 2
    with pytest.raises(InputError, match="there is no query encoder 'lokup'"):
        HybridIndex.open(folder, query_encoder="lokup")


@pytest.mark.java
def test_documents_are_added_by_the_network(checkpoint, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "index")
    with HybridIndex.open(copy, str(checkpoint), query_encoder="lookup") as index:
        index.add([Document("new", "", "sun sun sun war")])
        assert index.get(["new"])
        assert len(index.search("sun", k=10)) == 5


@pytest.mark.java
def test_a_table_of_other_weights_is_refused(copied, folder):
    lookup = read_lookup(copied)
    other = replace(lookup.info, weights_sha256="0" * 64)
    write_lookup(copied / LOOKUP_FILE, other, table_of(copied))
    with pytest.raises(EncoderMismatchError, match="differ in weights_sha256"):
        HybridIndex.open(folder, str(copied), query_encoder="lookup")


def test_a_missing_table_is_one_line_with_the_command(copied):
    (copied / LOOKUP_FILE).unlink()
    with pytest.raises(InputError, match=f"no lookup table; `dupmae derive-lookup {copied}` makes"):
        read_lookup(copied)


def _with(tensors=None, **metadata):
    def damage(path, info, weights):
        given = {"weights": weights} if tensors is None else tensors(weights)
        described = {"encoder": json.dumps(info.to_dict())} | metadata
        save_file(given, path, metadata=described)

    return damage


DAMAGE = {
    "cut": lambda path, info, weights: path.write_bytes(path.read_bytes()[:40]),
    "empty": lambda path, info, weights: path.write_bytes(b""),
    "pointer": lambda path, info, weights: path.write_bytes(b"version https://git-lfs\n"),
    "no weights": _with(lambda weights: {"other": weights}),
    "short": _with(lambda weights: {"weights": weights[:-1]}),
    "square": _with(lambda weights: {"weights": weights[:, None]}),
    "whole": _with(lambda weights: {"weights": weights.astype(np.int32)}),
    "negative": _with(lambda weights: {"weights": weights - 9}),
    "infinite": _with(lambda weights: {"weights": weights + np.float32(np.inf)}),
    "not JSON": _with(encoder="{"),
    "no mapping": _with(encoder="[1]"),
    "no encoder": _with(encoder="{}"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_table_is_refused_in_one_line(copied, name):
    path = copied / LOOKUP_FILE
    DAMAGE[name](path, read_lookup(copied).info, table_of(copied))
    with pytest.raises(InputError, match="makes it again") as raised:
        read_lookup(copied)
    assert str(path) in str(raised.value)


def test_another_tokenizer_is_refused(copied):
    path = copied / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"river"', '"rivet"'), "utf-8")
    with pytest.raises(InputError, match="made with another tokenizer"):
        read_lookup(copied)


def test_a_tokenizer_of_another_kind_is_refused_before_the_work(copied):
    (copied / "tokenizer_config.json").write_text('{"tokenizer_class": "Other"}', "utf-8")
    (copied / LOOKUP_FILE).unlink()
    with pytest.raises(InputError, match="tokenizer of BERT's kind"):
        derive_lookup(copied)
    assert not (copied / LOOKUP_FILE).exists()


def test_a_table_encodes_no_documents(checkpoint):
    with pytest.raises(InputError, match="queries only"):
        read_lookup(checkpoint).encode_documents(["river"])


@pytest.mark.java
def test_the_commands_make_a_table_and_search_with_it(copied, folder, capsys, tmp_path):
    (copied / LOOKUP_FILE).unlink()
    search = ("search", "--index", folder, "--model", copied, "--query-encoder", "lookup")
    code, out, err = run(capsys, *search, "river war")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "derive-lookup" in err
    code, out, _ = run(capsys, "derive-lookup", copied, "--json")
    made = json.loads(out)
    assert code == 0
    assert made["tokens"] == len(WORDS) + 1
    assert made["without_weight"] == made["tokens"] - np.count_nonzero(table_of(copied))
    code, out, _ = run(capsys, *search, "river war", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["query_encoder"]["kind"] == "lookup"
    assert answer["parts"] == ["lexical", "bm25"]
    for words in (["--device", "cpu"], ["--precision", "fp32"], ["--mode", "dense"]):
        code, out, err = run(capsys, *search, "river war", *words)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1


# --- dense vectors


def slow_vector(table, tokens):
    """What ``lookup_dense`` says, token by token."""
    summed = np.zeros(table["dense_vectors"].shape[1])
    for token in set(tokens):
        summed += table["dense_scales"][token] * table["dense_vectors"][token].astype(float)
    return summed / len(set(tokens)) ** 0.5 + table["dense_bias"]


@pytest.fixture(scope="module")
def fitted(derived, tmp_path_factory):
    """A checkpoint with a table that was fitted to texts."""
    folder = shutil.copytree(derived, tmp_path_factory.mktemp("lookup") / "fitted")
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(400)]
    return folder, derive_lookup(folder, texts), texts


def test_the_table_is_the_ridge_regression_that_its_equations_give():
    rng = np.random.default_rng(0)
    rows = [sorted(set(rng.integers(0, 12, rng.integers(1, 5)).tolist())) for _ in range(80)]
    rows = [[token for token in row if token != 7] or [3] for row in rows]
    vectors, alone = rng.normal(size=(80, 6)), rng.normal(size=(12, 6))
    table, bias = fit_table(rows, vectors.astype("f4"), alone.astype("f4"))
    design = np.zeros((80, 12))
    for number, row in enumerate(rows):
        design[number, row] = 1 / np.sqrt(len(row))
    mean = vectors.mean(0)
    left = design.T @ design + RIDGE * np.eye(12)
    expected = np.linalg.solve(left, design.T @ (vectors - mean) + RIDGE * (alone - mean))
    np.testing.assert_allclose(bias, mean, atol=1e-6)
    np.testing.assert_allclose(table, expected, atol=0.02)
    np.testing.assert_allclose(table[7], alone[7] - mean, atol=1e-5)  # in no text
    none, zero = fit_table([], vectors[:0].astype("f4"), alone.astype("f4"))
    assert not none.any()
    assert not zero.any()


def test_a_fitted_query_is_the_sum_of_its_different_tokens(fitted):
    folder, made, _ = fitted
    lookup, table = read_lookup(folder), load_file(folder / LOOKUP_FILE)
    assert lookup.has_dense
    assert (made.texts, made.held_out) == (380, 20)
    assert table["dense_vectors"].dtype == np.int8
    found = lookup.encode_queries([*TEXTS, "sun sun war", "sun war", ""])
    tokenizer = load_encoder(folder).tokenizer
    for row, text in enumerate(TEXTS):
        clean = text.replace("\ud800", "\ufffd")
        (encoded,) = tokenizer([clean], True, lookup.info.query_max_length).encodings
        tokens = encoded.ids[1:-1]
        expected = slow_vector(table, tokens) if tokens else np.zeros(found.dense.shape[1])
        np.testing.assert_allclose(found.dense[row], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.dense[-3], found.dense[-2])
    assert not found.dense[-1].any()
    # The same weights as without texts.
    np.testing.assert_array_equal(table["weights"], load_file(folder / LOOKUP_FILE)["weights"])


def test_fitting_brings_the_vectors_nearer_to_the_networks(fitted):
    folder, made, texts = fitted
    others = [f"{one} {two}" for one in WORDS[:6] for two in WORDS[6:12]]
    network = load_encoder(folder, precision="fp32").encode_queries(others).dense
    lookup = read_lookup(folder)
    near = lookup.encode_queries(others).dense
    mean = np.broadcast_to(load_file(folder / LOOKUP_FILE)["dense_bias"], near.shape)
    assert np.square(near - network).sum() < np.square(mean - network).sum()
    held = [text for number, text in enumerate(texts) if number % 20 == 19]
    one = lookup.encode_queries(held).dense
    other = load_encoder(folder).encode_queries(held).dense
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert made.cosine == pytest.approx(cosines.mean(), abs=2e-3)


def test_fitting_again_gives_the_same_table(fitted, tmp_path):
    folder, _, texts = fitted
    again = shutil.copytree(folder, tmp_path / "again")
    derive_lookup(again, texts)
    one, other = load_file(again / LOOKUP_FILE), load_file(folder / LOOKUP_FILE)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    derive_lookup(again)  # without texts: the dense part is gone
    assert not read_lookup(again).has_dense


@pytest.mark.java
def test_hybrid_scores_have_a_dense_part_if_the_table_has(fitted, tmp_path):
    folder, _, _ = fitted
    path = tmp_path / "index"
    with HybridIndex.build(path, DOCUMENTS, load_encoder(folder)) as network:
        documents = network._snapshot
        vectors = load_encoder(folder).encode_documents([d.contents for d in DOCUMENTS]).dense
        assert documents is not None
    text = "the river war"
    query = read_lookup(folder).encode_queries([text]).dense[0]
    with HybridIndex.open(path, str(folder), query_encoder="lookup") as index:
        for hit in index.search(text, k=4):
            row = [document.id for document in DOCUMENTS].index(hit.id)
            assert hit.dense == pytest.approx(float(vectors[row] @ query), rel=1e-2, abs=1e-3)
        ranked = [hit.id for hit in index.search(text, k=4, mode="dense")]
        assert ranked == [DOCUMENTS[row].id for row in np.argsort(-(vectors @ query))]
        about = index.search_batch([Query("1", text)], 2).metadata
        assert about["query_encoder"]["dense"] is True
        assert about["fusion"]["lists"] == ["dense", "lexical", "bm25"]
        digest = about["query_encoder"]["table_sha256"]
        own = index.vectors([Query("1", text)])
        assert len(index.search_batch(own, 2)["1"]) == 2
        with pytest.raises(InputError, match="these have dense vectors"):
            index.search_batch(load_encoder(folder).encode_queries([text]), 2)
    with HybridIndex.open(path, str(folder), query_encoder="lookup-terms") as index:
        assert {hit.dense for hit in index.search(text, k=4)} == {None}
        with pytest.raises(InputError, match="without dense vectors; choose mode hybrid"):
            index.search(text, mode="dense")
        about = index.search_batch([Query("1", text)], 2).metadata["query_encoder"]
        assert about["dense"] is False
        assert about["table_sha256"] != digest


def _dense(**changes):
    def damage(path, info, weights):
        tensors = load_file(path) | changes
        kept = {name: found for name, found in tensors.items() if found is not None}
        save_file(kept, path, metadata={"encoder": json.dumps(info.to_dict())})

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _dense(dense_bias=None),
        _dense(dense_vectors=None),
        _dense(dense_scales=np.ones(3, np.float32)),
        _dense(dense_bias=np.ones(3, np.float32)),
        _dense(dense_vectors=np.ones((3, 3), np.int8)),
        _dense(dense_vectors=np.ones((3, 3), np.float32)),
    ],
)
def test_a_damaged_dense_table_is_refused_in_one_line(fitted, tmp_path, damage):
    folder = shutil.copytree(fitted[0], tmp_path / "copy")
    lookup = read_lookup(folder)
    damage(folder / LOOKUP_FILE, lookup.info, None)
    with pytest.raises(InputError, match=r"holds no dense_.*makes it again") as raised:
        read_lookup(folder)
    assert str(folder / LOOKUP_FILE) in str(raised.value)


def test_a_dense_table_with_infinite_numbers_is_refused(fitted, tmp_path):
    folder = shutil.copytree(fitted[0], tmp_path / "copy")
    lookup, table = read_lookup(folder), load_file(fitted[0] / LOOKUP_FILE)
    broken = table["dense_bias"] + np.float32(np.inf)
    _dense(dense_bias=broken)(folder / LOOKUP_FILE, lookup.info, None)
    with pytest.raises(InputError, match="dense_bias that are not finite"):
        read_lookup(folder)


@pytest.mark.java
def test_the_command_fits_to_texts_and_queries(derived, capsys, tmp_path):
    folder = shutil.copytree(derived, tmp_path / "model")
    corpus, queries = tmp_path / "corpus.jsonl", tmp_path / "queries.tsv"
    rows = [
        {"id": str(n), "title": f"the {WORDS[n]}", "text": " ".join(WORDS[:15]) + "."}
        for n in range(12)
    ]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries.write_text("".join(f"{n}\t{WORDS[n]} and {WORDS[n + 1]}\n" for n in range(10)))
    command = ("derive-lookup", folder, "--texts", corpus, "--queries", queries)
    code, out, _ = run(capsys, *command, "--json")
    made = json.loads(out)
    assert code == 0
    assert 20 < made["fitted_texts"] + made["held_out_texts"] <= 34
    assert -1 <= made["held_out_cosine"] <= 1
    code, out, err = run(capsys, *command, "--most", "8")
    assert code == 0
    assert "dense vectors fitted to 8 texts; no text was held out" in out + err
    code, out, err = run(capsys, "derive-lookup", folder)
    assert "no dense vectors; --texts CORPUS fits them" in out + err
    before = (folder / LOOKUP_FILE).read_bytes()
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"id": "1", "text": "a b"}\n')
    none = tmp_path / "none"
    for words in (["--texts", empty], ["--texts", none], ["--queries", none]):
        code, out, err = run(capsys, "derive-lookup", folder, *words)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
    assert (folder / LOOKUP_FILE).read_bytes() == before


def test_texts_like_queries_are_the_same_sample_each_time(tmp_path):
    path = tmp_path / "corpus.jsonl"
    rows = [{"id": str(n), "title": f"title {n}", "text": f"one {n} two. " * 9} for n in range(50)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    everything = query_texts([str(path)])
    assert {f"title {n}" for n in range(50)} < set(everything)
    assert len(everything) > 90
    some = query_texts([str(path)], most=20)
    assert len(some) == 20
    assert set(some) < set(everything)
    assert some == query_texts([str(path)], most=20)
    assert some != query_texts([str(path)], most=20, seed=2)
    queries = tmp_path / "queries.tsv"
    queries.write_text("1\tfirst question\n2\tsecond question\n3\tfirst question\n")
    both = query_texts([str(path)], [str(queries)], most=20)
    assert both[:2] == ["first question", "second question"]
    assert len(both) == 20
