"""Where queries are cut is the searcher's choice: an index takes any length, and cuts are said."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest

from dupmae_toolkit import DupMAEEncoder, HybridIndex, Query, load_encoder
from dupmae_toolkit.collection.trec import read_metadata, read_run
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import EncoderMismatchError, InputError
from dupmae_toolkit.evaluation.beir import BeirOptions, mean_of_means, run_beir
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.records import Document, Representations
from dupmae_toolkit.search.queries import said_cut
from tests.cli_support import run
from tests.families import WORDS, make_lm, make_tokenizer, save_checkpoint
from tests.support import HashingEncoder

ROOM = 128  # positions of the small models here
LONGER = f"--query-length keeps more, up to {ROOM}"
#: Words are one token each, and there are two special tokens.
DOCUMENTS = [Document(f"d{n}", "", " ".join(WORDS[n : n + 12])) for n in range(24)]


def words(count: int) -> str:
    return " ".join((WORDS * 9)[:count])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder like one from the hub: nothing of ours in its config.json."""
    folder = tmp_path_factory.mktemp("model") / "bert"
    return save_checkpoint(folder, max_position_embeddings=ROOM)


@pytest.fixture(scope="module")
def index(model, tmp_path_factory):
    """An index whose manifest says 10, as those of earlier versions say 64."""
    path = tmp_path_factory.mktemp("index") / "index"
    encoder = load_encoder(model, query_max_length=10, precision="fp32")
    HybridIndex.build(path, DOCUMENTS, encoder).close()
    return path


# --- encoders


@pytest.mark.parametrize("load", [load_encoder, DupMAEEncoder.from_pretrained])
def test_the_default_is_as_long_as_the_backbone_allows_up_to_512(load, model, tmp_path):
    assert load(model, device="cpu").info.query_max_length == ROOM
    roomy = save_checkpoint(tmp_path / "roomy", max_position_embeddings=700)
    encoder = load(roomy, device="cpu")
    assert (encoder.info.query_max_length, encoder.info.max_length) == (512, 256)
    assert load(model, device="cpu", query_max_length=10_000).info.query_max_length == ROOM
    assert load("builtin", device="cpu").info.query_max_length == 512


def test_an_encoder_made_of_a_model_in_memory_has_no_more_room_than_the_model():
    tokenizer = make_tokenizer()
    lm = make_lm("bert", tokenizer, max_position_embeddings=20)
    encoder = DupMAEEncoder(lm, tokenizer, DupMAEConfig(), precision="fp32").eval()
    assert (encoder.config.max_length, encoder.config.query_max_length) == (20, 20)
    assert encoder.encode_queries([words(100)]).truncated == 1
    assert encoder.encode_documents([words(100)]).max_length == 20


@pytest.mark.parametrize("prefix", ["", "old sun "])
def test_a_query_of_exactly_the_limit_is_whole_and_a_prefix_counts(model, prefix):
    encoder = load_encoder(model, query_max_length=12, query_prefix=prefix, pooling="cls")
    room = 12 - 2 - len(prefix.split())
    fits, too_long = (
        encoder.encode_queries([words(room)]),
        encoder.encode_queries([words(room + 1)]),
    )
    assert (fits.truncated, too_long.truncated) == (0, 1)
    assert fits.max_length == too_long.max_length == 12
    np.testing.assert_array_equal(fits.dense, too_long.dense)  # the last word was cut off
    longer = load_encoder(model, query_max_length=13, query_prefix=prefix, pooling="cls")
    other = longer.encode_queries([words(room + 1)])
    assert other.truncated == 0
    assert abs(other.dense - too_long.dense).max() > 1e-3


def test_two_encoders_that_differ_in_the_length_of_queries_fit_the_same_index(model):
    info = load_encoder(model).info
    assert info.differences(replace(info, query_max_length=7)) == []
    assert info.same_vectors_as(replace(info, query_max_length=7))
    assert info.differences(replace(info, max_length=7)) == ["max_length"]
    assert info.differences(replace(info, query_top_k=7, query_prefix="x")) == [
        "query_top_k",
        "query_prefix",
    ]


# --- encoded folders


def test_a_folder_of_queries_belongs_to_one_length_and_one_of_documents_to_any(model, tmp_path):
    short, long = (load_encoder(model, query_max_length=n, precision="fp32") for n in (10, 20))
    topics = [Query("q", words(15))]
    encode_corpus(topics, short, tmp_path / "queries", kind="queries")
    with pytest.raises(EncoderMismatchError) as refused:
        encode_corpus(topics, long, tmp_path / "queries", kind="queries")
    assert "query_max_length 10" in str(refused.value)
    assert "query_max_length 20" in str(refused.value)
    assert encode_corpus(topics, short, tmp_path / "queries", kind="queries").newly_encoded == 0
    encode_corpus(DOCUMENTS, short, tmp_path / "documents", part_size=10)
    again = encode_corpus(DOCUMENTS, long, tmp_path / "documents", part_size=10)
    assert again.newly_encoded == 0
    (tmp_path / "documents" / "part-00001.parquet").unlink()
    again = encode_corpus(DOCUMENTS, long, tmp_path / "documents", part_size=10)
    assert again.newly_encoded == 10
    assert EncodedCorpus.open(tmp_path / "documents").representations().max_length == 128


def test_a_folder_that_counted_nothing_does_not_claim_that_nothing_was_cut(model, tmp_path):
    encoder = load_encoder(model, query_max_length=10)
    folder = tmp_path / "queries"
    encode_corpus([Query("q", words(15))], encoder, folder, kind="queries")
    read = EncodedCorpus.open(folder).representations()
    assert (read.truncated, read.max_length, read.precision) == (1, 10, "fp32")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"truncated": None}))
    read = EncodedCorpus.open(folder).representations()
    assert (read.truncated, read.max_length) == (0, None)


# --- searching


@pytest.mark.java
def test_an_index_cuts_where_its_manifest_says_unless_it_is_told_otherwise(index, model):
    text = words(30)
    for length, kept in ((None, 10), (20, 20), (32, 32), (500, ROOM)):
        with HybridIndex.open(index, query_max_length=length, precision="fp32") as opened:
            found = opened.search_batch([Query("q", text), Query("short", words(3))], k=5)
            expected = load_encoder(model, query_max_length=kept, precision="fp32")
            vectors = expected.encode_queries([text, words(3)], ["q", "short"])
            wanted = opened.search_batch(vectors, k=5)
        assert found["q"].ids == wanted["q"].ids
        np.testing.assert_array_equal(found["q"].scores, wanted["q"].scores)
        cut = {"queries": int(kept < 32), "query_max_length": kept}
        assert found.metadata["truncated"] == cut | {"documents": 0, "max_length": ROOM}
        assert found.metadata["encoder"]["query_max_length"] == kept
    assert Manifest.load(index).encoder.query_max_length == 10


@pytest.mark.java
def test_an_encoder_of_any_length_may_be_given_to_an_index(index, model):
    encoder = load_encoder(model, query_max_length=20, precision="fp32")
    with HybridIndex.open(index, encoder) as opened:
        found = opened.search_batch([Query("q", words(30))], k=5)
        assert found.metadata["truncated"]["query_max_length"] == 20
        assert opened.add([{"id": "new", "text": words(9)}]).added == 1
        opened.delete(["new"])
    with HybridIndex.open(index, encoder, query_max_length=20) as opened:
        assert len(opened.search(words(18), k=3)) == 3
    with pytest.raises(InputError, match="30, but the encoder is loaded already and cuts queries"):
        HybridIndex.open(index, encoder, query_max_length=30)


@pytest.mark.java
@pytest.mark.parametrize("length", [2, 0, -1, 1.5, True, "64"])
def test_a_length_that_cannot_be_is_refused_when_the_index_is_opened(index, length):
    with pytest.raises(InputError, match=f"query_max_length {length!r}: at least 3 tokens"):
        HybridIndex.open(index, query_max_length=length)


@pytest.mark.java
def test_three_tokens_are_one_word(index):
    with HybridIndex.open(index, query_max_length=3, precision="fp32") as opened:
        one = opened.search_batch([Query("a", WORDS[5])], k=5)["a"]
        cut = opened.search_batch([Query("a", " ".join(WORDS[5:9]))], k=5)
    np.testing.assert_array_equal(cut["a"].scores, one.scores)
    assert cut.metadata["truncated"]["queries"] == 1


@pytest.mark.java
def test_vectors_made_by_hand_are_not_said_to_be_whole(index, model):
    made = load_encoder(model).encode_queries([words(200)])
    by_hand = Representations(made.ids, made.dense, made.lexical, texts=made.texts)
    with HybridIndex.open(index) as opened:
        known = opened.search_batch(made, k=3).metadata
        unknown = opened.search_batch(by_hand, k=3).metadata
    assert known["truncated"]["queries"] == 1
    assert known["truncated"]["query_max_length"] == ROOM
    assert unknown["truncated"]["queries"] is unknown["truncated"]["query_max_length"] is None
    assert unknown["precision"]["queries"] is None
    assert unknown["truncated"]["documents"] == 0


# --- the command line


@pytest.fixture
def dupmae(capsys, index):
    return lambda *given: run(capsys, given[0], "--index", index, *given[1:])


@pytest.mark.java
def test_a_question_that_was_cut_is_said_to_be(dupmae):
    _, _, said = dupmae("search", words(30))
    assert said.endswith(f"\nthe query was cut at 10 tokens; {LONGER}\n")
    _, _, said = dupmae("search", words(8))
    assert "cut" not in said
    _, _, said = dupmae("search", words(30), "--query-length", 32)
    assert "cut" not in said
    code, out, said = dupmae("search", words(200), "--query-length", 500, "--json")
    assert code == 0
    assert f"has room for {ROOM} tokens, not for --query-length 500" in said
    assert json.loads(out)["truncated"] == {
        "queries": 1,
        "query_max_length": ROOM,
        "documents": 0,
        "max_length": ROOM,
    }


@pytest.mark.java
def test_where_the_model_reads_no_more_no_longer_query_is_suggested(dupmae, tmp_path):
    _, _, said = dupmae("search", words(200), "--query-length", ROOM - 1)
    assert said.endswith(f"\nthe query was cut at {ROOM - 1} tokens; {LONGER}\n")
    _, _, said = dupmae("search", words(200), "--query-length", ROOM)
    assert said.endswith(f"\nthe query was cut at {ROOM} tokens; the model reads no more\n")
    (tmp_path / "q.tsv").write_text(f"a\t{words(200)}\nb\t{words(9)}\n")
    where = ("--queries", tmp_path / "q.tsv", "--output", tmp_path / "run")
    _, _, said = dupmae("search", *where, "--query-length", 500)
    assert f"\n1 of 2 queries was cut at {ROOM} tokens; the model reads no more\n" in said
    assert "keeps more" not in said


@pytest.mark.java
def test_the_library_warns_of_a_question_that_was_cut(index):
    with HybridIndex.open(index, precision="fp32") as opened:
        told = "the query was cut at 10 tokens; a larger query_max_length keeps more, up to 128"
        with pytest.warns(UserWarning, match="was cut") as caught:
            opened.search(words(30), k=3)
        assert [str(each.message) for each in caught] == [told]
        assert caught[0].filename == __file__
        with pytest.warns(UserWarning, match="^2 of 3 queries were cut at 10 tokens; a larger"):
            opened.search([words(30), words(9), words(8)], k=3)
    with HybridIndex.open(index, query_max_length=ROOM, precision="fp32") as opened:
        with pytest.warns(UserWarning, match=f"cut at {ROOM} tokens; the model reads no more$"):
            opened.search(words(200), k=3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(opened.search(words(30), k=3)) == 3
            assert len(opened.search(words(200), k=3, mode="bm25")) == 3


def test_a_cut_of_unknown_length_is_not_told():
    vectors = load_encoder("builtin", device="cpu").encode_queries(["one two"])
    assert said_cut(None, "x") == said_cut(vectors, "x") == ""
    assert said_cut(replace(vectors, truncated=1, max_length=None), "x") == ""
    cut = replace(vectors, truncated=1, room=None)
    assert said_cut(cut, "x").endswith("; x keeps more, as far as the model reads")


@pytest.mark.java
def test_a_run_counts_the_queries_that_were_cut(dupmae, tmp_path):
    asked = {"a": words(30), "b": words(9), "c": words(8)}
    (tmp_path / "q.tsv").write_text("".join(f"{t}\t{text}\n" for t, text in asked.items()))
    where = ("search", "--queries", tmp_path / "q.tsv", "--output", tmp_path / "run")
    _, _, said = dupmae(*where)
    assert said.endswith(f"\n2 of 3 queries were cut at 10 tokens; {LONGER}\n")
    assert read_metadata(tmp_path / "run")["truncated"]["queries"] == 2
    _, _, said = dupmae(*where, "--query-length", 11)
    assert said.endswith(f"\n1 of 3 queries was cut at 11 tokens; {LONGER}\n")
    _, out, said = dupmae(*where, "--query-length", 32, "--json")
    assert "cut" not in said
    assert json.loads(out)["truncated"]["queries"] == 0


@pytest.mark.java
def test_queries_that_were_encoded_at_another_length_are_taken(dupmae, capsys, model, tmp_path):
    (tmp_path / "q.tsv").write_text(f"a\t{words(30)}\n")
    code, *_ = run(
        *(capsys, "encode", tmp_path / "q.tsv", "--queries", "--output", tmp_path / "long"),
        *("--model", model, "--max-length", 24),
    )
    assert code == 0
    where = ("search", "--queries", tmp_path / "long", "--output", tmp_path / "encoded")
    code, _, said = dupmae(*where)
    assert code == 0
    longer = "`dupmae encode --max-length` keeps more, as far as the model reads"
    assert f"query was cut at 24 tokens; {longer}\n" in said
    texts = ("--queries", tmp_path / "q.tsv", "--output", tmp_path / "texts")
    dupmae("search", *texts, "--query-length", 24)
    assert read_run(tmp_path / "texts")["a"].ids == read_run(tmp_path / "encoded")["a"].ids
    code, out, said = dupmae(*where, "--query-length", 30)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert "holds encoded queries; leave out --query-length" in said


@pytest.mark.java
@pytest.mark.parametrize("length", ["2", "0", "-5", "many"])
def test_a_length_that_cannot_be_is_one_line(dupmae, length, tmp_path):
    (tmp_path / "q.tsv").write_text("a\tsun\n")
    for asked in (("sun",), ("--queries", tmp_path / "q.tsv", "--output", tmp_path / "run")):
        code, out, said = dupmae("search", *asked, "--query-length", length)
        assert (code, out, said.count("\n")) == (2, "", 1)
        assert not (tmp_path / "run").exists()


@pytest.mark.java
def test_documents_that_were_cut_are_counted_too(model, capsys, tmp_path):
    encoder = load_encoder(model, max_length=8, precision="fp32")
    HybridIndex.build(tmp_path / "index", DOCUMENTS, encoder).close()
    (tmp_path / "q.tsv").write_text("a\tsun\n")
    where = ("--index", tmp_path / "index", "--queries", tmp_path / "q.tsv")
    _, _, said = run(capsys, "search", *where, "--output", tmp_path / "run")
    assert said.endswith("\n24 documents cut at 8 tokens\n")
    cut = read_metadata(tmp_path / "run")["truncated"]
    assert (cut["documents"], cut["max_length"]) == (24, 8)


# --- BEIR, with an encoder that needs no torch


class Cutting(HashingEncoder):
    """Cuts queries at so many words, and counts them."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.info = replace(self.info, query_max_length=length)

    def encode_queries(self, texts, ids=None):
        cut = [" ".join(text.split()[: self.info.query_max_length]) for text in texts]
        found = self.encode_documents(cut, ids)
        found.truncated = sum(one != text for one, text in zip(cut, texts, strict=True))
        return found


@pytest.fixture
def data_set(tmp_path):
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": d.id, "text": d.text} for d in DOCUMENTS]
    asked = [{"_id": f"q{n}", "text": words(n + 4)} for n in range(5)]
    for name, values in (("corpus", rows), ("queries", asked)):
        lines = "".join(json.dumps(value) + "\n" for value in values)
        (folder / f"{name}.jsonl").write_text(lines)
    (folder / "qrels" / "test.tsv").write_text("".join(f"q{n}\td{n}\t1\n" for n in range(5)))
    return folder


@pytest.mark.java
def test_beir_counts_what_it_cut_and_encodes_queries_of_another_length_again(data_set, tmp_path):
    output = tmp_path / "out"
    (short,) = run_beir(data_set, Cutting(6), output, BeirOptions(k=10))
    cut = {"queries": 2, "query_max_length": 6, "documents": 0, "max_length": 256}
    assert short.metrics()["about"]["truncated"] == cut
    assert json.loads((output / "metrics.json").read_text())["about"]["truncated"] == cut
    assert read_metadata(output / "set.hybrid.trec")["truncated"] == cut
    before = (output / "set.dense.trec").read_bytes()
    (long,) = run_beir(data_set, Cutting(7), output, BeirOptions(k=10))
    assert long.reused == ["documents", "index"]
    assert long.metrics()["about"]["truncated"]["queries"] == 1
    assert (output / "set.dense.trec").read_bytes() != before
    (again,) = run_beir(data_set, Cutting(7), output, BeirOptions(k=10))
    assert {"documents", "queries", "dense", "hybrid"} <= set(again.reused)
    assert "truncated" not in mean_of_means([short, long])["about"]


@pytest.mark.java
def test_beir_still_refuses_queries_of_another_encoder_or_other_texts(data_set, tmp_path):
    output = tmp_path / "out"
    run_beir(data_set, Cutting(6), output, BeirOptions(k=10))
    encoded = output / "encoded" / "queries-test"
    changed = (data_set / "queries.jsonl").read_text().replace("the", "a", 1)
    (data_set / "queries.jsonl").write_text(changed)
    with pytest.raises(InputError, match="made from other texts"):
        run_beir(data_set, Cutting(6), output, BeirOptions(k=10))
    other = Cutting(7)
    other.info = replace(other.info, weights_sha256="0" * 64)
    with pytest.raises(EncoderMismatchError):
        run_beir(data_set, other, output, BeirOptions(k=10))
    assert EncodedCorpus.open(encoded).info.query_max_length == 6


@pytest.mark.java
def test_beir_says_what_was_cut(model, data_set, tmp_path, capsys):
    where = ("beir", data_set, "--output", tmp_path / "out", "--model", model, "-k", 5)
    code, _, said = run(capsys, *where, "--query-length", 7)
    assert code == 0
    assert "5 topics; 3 of 5 queries cut at 7 tokens (--query-length)\n" in said
    _, _, said = run(capsys, *where, "--query-length", 1000)
    assert f"has room for {ROOM} tokens, not for --query-length 1000" in said
    assert "queries cut" not in said
    path = data_set / "queries.jsonl"
    path.write_text(path.read_text().replace(words(8), words(200)))
    where = ("beir", data_set, "--output", tmp_path / "long", "--model", model, "-k", 5)
    _, _, said = run(capsys, *where)
    assert f"5 topics; 1 of 5 queries cut at {ROOM} tokens\n" in said


# --- mining


@pytest.mark.java
def test_mining_searches_with_queries_of_the_length_it_is_given(model, index, data_set, tmp_path):
    from dupmae_toolkit.mining.job import CandidateOptions, TopicOptions, mine_corpus

    folder = shutil.copytree(data_set, tmp_path / "copy")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q0", "text": words(40)}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("q0\td0\t1\n")
    scores = []
    for where in ({"index": index}, {"model": str(model)}):
        for length in (10, 42):
            candidates = CandidateOptions(**where, query_max_length=length, precision="fp32")
            output = tmp_path / f"mined-{len(scores)}.jsonl"
            mine_corpus(str(folder), output, None, TopicOptions(split="test"), candidates)
            (line,) = output.read_text().splitlines()
            scores.append([each["score"] for each in json.loads(line)["positives"]])
    expected = []
    for length in (10, 42):
        with HybridIndex.open(index, query_max_length=length, precision="fp32") as opened:
            expected.append(opened.search(words(40), k=24))
    assert scores[0] != scores[1]
    for found, hits in zip(scores, expected * 2, strict=True):
        (of_positive,) = [hit.score for hit in hits if hit.id == "d0"]
        assert found == [pytest.approx(of_positive, rel=1e-5)]


def test_mining_from_a_run_searches_with_no_queries(capsys, tmp_path):
    (tmp_path / "run.trec").write_text("q Q0 d 1 1.0 x\n")
    given = ("set", "--run", tmp_path / "run.trec", "--output", tmp_path / "out.jsonl")
    code, out, said = run(capsys, "mine", *given, "--query-length", 30)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert "--run replaces the search; leave out" in said
