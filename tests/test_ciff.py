"""CIFF: an exported file, read by a plain reader of the specification, gives the same scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.interop import ciff_postings, live_rows
from dupmae_toolkit.interop.ciff_postings import decode_postings, encode_postings
from dupmae_toolkit.interop.ciff_read import read_ciff
from dupmae_toolkit.interop.ciff_write import write_ciff
from dupmae_toolkit.interop.importing import import_index
from dupmae_toolkit.interop.live_rows import IndexRows
from dupmae_toolkit.interop.wire import read_varints, varint, varint_sizes
from tests import ciff_support as plain
from tests.cli_support import run
from tests.index_support import documents_of
from tests.support import HashingEncoder

ENCODER = HashingEncoder()
TEXTS = ["w3 w17 w3", "the same", "title 3 w200 w201 w202"]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """An index of several segments, with deleted documents in two of them."""
    path = tmp_path_factory.mktemp("ciff") / "index"
    documents = documents_of(60)
    with HybridIndex.build(path, documents[:25], ENCODER) as opened:
        opened.add(documents[25:50])
        opened.add(documents[50:])
        opened.delete([documents[3].id, documents[30].id, documents[31].id])
        assert len(opened.manifest.segments) > 1
    return path


@pytest.fixture(scope="module")
def exported(index, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    for kind in ("tokens", "words", "both"):
        write_ciff(index, folder / kind, kind, block=100)
    return {kind: folder / kind for kind in ("tokens", "words", "both")}


def lexical_scores(index: Path, mode: str = "lexical") -> dict[str, dict[str, float]]:
    with HybridIndex.open(index, ENCODER) as opened:
        topics = [Query(str(n), text) for n, text in enumerate(TEXTS)]
        found = opened.search_batch(topics, k=1000, mode=mode, idf_power=0.0)
        return {
            topic: dict(zip(found[topic].ids, found[topic].scores.tolist(), strict=True))
            for topic in found
        }


def brute(lists: dict, documents: list, weights: dict[str, float]) -> dict[str, float]:
    """Σ weight × tf of every document that has a term."""
    names = {docid: name for docid, name, _ in documents}
    scores: dict[str, float] = {}
    for term, weight in weights.items():
        for docid, tf in lists.get(term, (0, 0, []))[2]:
            scores[names[docid]] = scores.get(names[docid], 0.0) + weight * tf
    return scores


def test_a_plain_reader_finds_the_same_scores(index, exported):
    _, lists, documents = plain.read(exported["tokens"].read_bytes())
    with HybridIndex.open(index, ENCODER) as opened:
        scale = opened.manifest.scale
    ours = lexical_scores(index)
    vectors = ENCODER.encode_queries(TEXTS).lexical
    for topic, scores in ours.items():
        row = vectors[int(topic)]
        weights = {f"t{c}": float(w) for c, w in zip(row.indices, row.data, strict=True)}
        theirs = brute(lists, documents, weights)
        assert len(scores) > 3
        assert scores.keys() == theirs.keys()
        for name, score in scores.items():
            assert score == pytest.approx(theirs[name] / scale, rel=1e-4)


def test_the_file_counts_what_it_holds(index, exported):
    dead = {documents_of(60)[place].id for place in (3, 30, 31)}
    header, lists, documents = plain.read(exported["tokens"].read_bytes())
    names = [name for _, name, _ in documents]
    assert names == sorted({each.id for each in documents_of(60)} - dead)
    assert [docid for docid, _, _ in documents] == list(range(57))
    assert header[1] == 1
    assert (header[3], header[5]) == (57, 57)
    assert header[2] == header[4] == len(lists)
    assert list(lists) == sorted(lists)
    lengths = dict.fromkeys(range(57), 0)
    for df, cf, pairs in lists.values():
        assert (df, cf) == (len(pairs), sum(tf for _, tf in pairs))
        assert [docid for docid, _ in pairs] == sorted({docid for docid, _ in pairs})
        for docid, tf in pairs:
            lengths[docid] += tf
    assert [length for _, _, length in documents] == list(lengths.values())
    assert header[6] == sum(lengths.values())
    assert np.frombuffer(header[7]) == sum(lengths.values()) / 57


def test_words_are_written_plain_alone_and_marked_beside_tokens(exported):
    tokens, words, both = (
        plain.read(exported[kind].read_bytes())[1] for kind in ("tokens", "words", "both")
    )
    assert "w200" in words
    assert "t5" not in words
    assert both == tokens | {f"␛w;{word}": entry for word, entry in words.items()}
    assert list(both) == sorted(both)


def test_words_score_as_bm25(index, exported):
    _, lists, documents = plain.read(exported["words"].read_bytes())
    ours = lexical_scores(index, "bm25")["0"]
    theirs = brute(lists, documents, {"w3": 1.0})
    # One word: all scores have one factor, its idf.
    alone = {name for name in theirs if name not in brute(lists, documents, {"w17": 1.0})}
    factors = [ours[name] / theirs[name] for name in alone]
    assert len(factors) > 0
    assert factors == pytest.approx([factors[0]] * len(factors), rel=1e-4)


def test_blocks_of_terms_change_nothing(index, exported, tmp_path):
    for block in (1, 10**9):
        write_ciff(index, tmp_path / "whole", "both", block=block)
        assert (tmp_path / "whole").read_bytes() == exported["both"].read_bytes()


@pytest.mark.parametrize("block", [1, 500, 10**9])
def test_impacts_are_read_twice_however_many_blocks_there_are(index, tmp_path, monkeypatch, block):
    """Once to count them, once to write them; nothing is left beside the file."""
    reads, read = [], IndexRows.impacts
    monkeypatch.setattr(IndexRows, "impacts", lambda *given: reads.append(1) or read(*given))
    write_ciff(index, tmp_path / "whole", "both", block=block)
    assert len(reads) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("block", [1, 10**9])
def test_documents_without_terms_are_written_too(tmp_path, monkeypatch, block):
    """Of the words, some blocks of rows have none."""
    monkeypatch.setattr(live_rows, "_ROWS", 1)
    texts = {"a": "w1 w2", "b": "?", "c": "the", "d": "w2"}
    HybridIndex.build(tmp_path / "i", texts, ENCODER).close()
    write_ciff(tmp_path / "i", tmp_path / "c", "words", block=block)
    _, lists, documents = plain.read((tmp_path / "c").read_bytes())
    held = {term: [docid for docid, _ in pairs] for term, (_, _, pairs) in lists.items()}
    assert held == {"w1": [0], "w2": [0, 3]}
    assert [name for _, name, _ in documents] == list("abcd")


def test_googles_library_reads_the_same(exported):
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="ciff.proto", package="c", syntax="proto3")
    kinds = {"int": 5, "long": 3, "double": 1, "string": 9}
    for name, fields in {
        "Header": ["int"] * 5 + ["long", "double", "string"],
        "Posting": ["int", "int"],
        "List": ["string", "long", "long", "Posting"],
        "Record": ["int", "string", "int"],
    }.items():
        made = file.message_type.add(name=name)
        for place, kind in enumerate(fields, 1):
            one = made.field.add(name=f"f{place}", number=place, label=1, type=kinds.get(kind, 11))
            if kind == "Posting":
                one.label, one.type_name = 3, ".c.Posting"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    make = {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"c.{name}"))
        for name in ("Header", "List", "Record")
    }
    data = exported["both"].read_bytes()
    stream, written = plain.Stream(data), b""

    def following(kind: str):
        body = stream.take(stream.number())
        found = make[kind].FromString(body)
        nonlocal written
        written += plain.number(len(body)) + found.SerializeToString(deterministic=True)
        return found

    _, lists, documents = plain.read(data)
    head = following("Header")
    assert "tokens and words" in head.f8
    assert head.f7 > 0
    for _ in range(head.f2):
        found = following("List")
        assert (found.f2, found.f3) == lists[found.f1][:2]
        numbers = np.cumsum([each.f1 for each in found.f4]).tolist()
        assert numbers == [docid for docid, _ in lists[found.f1][2]]
        assert [each.f2 for each in found.f4] == [tf for _, tf in lists[found.f1][2]]
    assert [(r.f1, r.f2, r.f3) for r in (following("Record") for _ in documents)] == documents
    assert written == data  # not only the same values: the same bytes


def test_an_index_of_the_file_ranks_by_query_vectors(index, exported, tmp_path, capsys):
    code, out, err = run(capsys, "import", exported["tokens"], "--output", tmp_path / "i", "--json")
    assert code == 0, err
    assert "no texts" in err
    assert json.loads(out)["parts"] == ["lexical"]
    vectors = ENCODER.encode_queries(TEXTS).lexical
    (tmp_path / "q.tsv").write_text("".join(f"{n}\t{text}\n" for n, text in enumerate(TEXTS)))
    with (tmp_path / "v.jsonl").open("w") as file:
        for n, row in enumerate(vectors):
            vector = {f"t{c}": float(w) for c, w in zip(row.indices, row.data, strict=True)}
            print(json.dumps({"id": str(n), "vector": vector}), file=file)
    words = ("--queries", tmp_path / "q.tsv", "--query-vectors", tmp_path / "v.jsonl")
    words += ("--output", tmp_path / "run.trec", "--idf-power", "0", "--mode", "lexical")
    code, _, err = run(capsys, "search", "--index", tmp_path / "i", *words)
    assert code == 0, err
    with HybridIndex.open(index, ENCODER) as opened:
        scale = opened.manifest.scale
    found = read_run(tmp_path / "run.trec")
    for topic, scores in lexical_scores(index).items():
        ranking = found[topic]
        assert set(ranking.ids) == set(scores)
        for name, score in zip(ranking.ids, ranking.scores.tolist(), strict=True):
            assert score / scale == pytest.approx(scores[name], rel=1e-4)


class LexicalEncoder(HashingEncoder):
    """Lexical vectors alone."""

    def __init__(self, largest_weight: float = 0.0) -> None:
        super().__init__(dim=0, largest_weight=largest_weight)
        object.__setattr__(self.info, "pooling", "none")


@pytest.mark.parametrize("largest", [0.0, 2.7])
def test_with_its_encoder_an_index_comes_back_from_the_file(tmp_path, largest):
    encoder = LexicalEncoder(largest)
    documents = documents_of(40)
    with HybridIndex.build(tmp_path / "a", documents, encoder, bm25=False) as opened:
        scale = opened.manifest.scale
        wanted = opened.search_batch([Query("1", TEXTS[2])], k=100)["1"]
    write_ciff(tmp_path / "a", tmp_path / "c.ciff")
    given = None if largest else scale
    made, notes = import_index(tmp_path / "c.ciff", tmp_path / "b", encoder=encoder, scale=given)
    assert made.scale == scale
    assert any("divided by" in note for note in notes)
    with HybridIndex.open(tmp_path / "b", encoder) as opened:
        found = opened.search_batch([Query("1", TEXTS[2])], k=100)["1"]
    assert found.ids == wanted.ids
    assert found.scores.tolist() == wanted.scores.tolist()


def test_a_wrong_encoder_is_refused(exported, tmp_path):
    with pytest.raises(InputError, match="lexical vectors alone"):
        import_index(exported["tokens"], tmp_path / "i", encoder=ENCODER)
    with pytest.raises(InputError, match="not in the encoder's vocabulary, as '0'"):
        import_index(exported["words"], tmp_path / "i", encoder=LexicalEncoder())
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_lacks_such_terms_is_refused(tmp_path):
    HybridIndex.build(tmp_path / "i", documents_of(5), LexicalEncoder(), bm25=False).close()
    for kind in ("words", "both"):
        with pytest.raises(InputError, match="export its tokens"):
            write_ciff(tmp_path / "i", tmp_path / "out", kind)
    with pytest.raises(InputError, match="choose one of tokens"):
        write_ciff(tmp_path / "i", tmp_path / "out", "letters")
    assert not (tmp_path / "out").exists()


def test_varints_of_an_array_are_those_of_single_numbers(monkeypatch):
    edges = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21, 2**28 - 1, 2**28, 2**31 - 1]
    rng = np.random.default_rng(3)
    values = np.array([*edges, *(2 ** rng.uniform(0, 31, 500)).astype(np.int64)], np.int64)
    assert varint_sizes(values).tolist() == [len(plain.number(v)) for v in values.tolist()]
    assert b"".join(map(varint, values.tolist())) == b"".join(map(plain.number, values.tolist()))
    gaps, impacts = np.maximum(values[::-1], 0), np.maximum(values, 1)
    monkeypatch.setattr(ciff_postings, "_PIECE", 7)
    data, ends = encode_postings(gaps, impacts)
    wanted = [
        plain.field(4, (plain.field(1, gap) if gap else b"") + plain.field(2, tf))
        for gap, tf in zip(gaps.tolist(), impacts.tolist(), strict=True)
    ]
    assert data.tobytes() == b"".join(wanted)
    assert np.diff(ends, prepend=0).tolist() == list(map(len, wanted))
    found = read_varints(np.frombuffer(b"".join(map(plain.number, values.tolist())), np.uint8))
    assert found is not None
    assert found[0].tolist() == values.tolist()


def test_a_file_of_another_program_is_read(tmp_path):
    (tmp_path / "f").write_bytes(b"".join(plain.GOOD))
    found = read_ciff(tmp_path / "f")
    assert found.ids == ["a", "b c", "é"]
    assert found.terms == ["one", "zwölf\n\x00 ␛"]
    assert found.impacts.toarray().tolist() == [[2, 0], [0, 300], [1, 0]]
    assert (found.description, found.other_totals) == ("x", 0)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_files_may_be_compressed(index, exported, tmp_path, suffix):
    path = tmp_path / f"c.ciff{suffix}"
    write_ciff(index, path)
    assert path.stat().st_size < exported["tokens"].stat().st_size
    packed, plainly = read_ciff(path), read_ciff(exported["tokens"])
    assert (packed.ids, packed.terms) == (plainly.ids, plainly.terms)
    assert (packed.impacts != plainly.impacts).nnz == 0
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"c\.ciff"):
        read_ciff(path)
    path.write_bytes(exported["tokens"].read_bytes())
    with pytest.raises(InputError, match=r"c\.ciff"):
        read_ciff(path)


def test_other_files_of_vectors_are_sent_elsewhere(tmp_path):
    (tmp_path / "v.jsonl").write_text('{"id": "a", "vector": {"t": 1}}\n')
    with pytest.raises(InputError, match=r"`dupmae index CORPUS --vectors .*v.jsonl` takes"):
        read_ciff(tmp_path / "v.jsonl")


def test_a_description_cannot_manipulate_the_terminal(tmp_path, capsys):
    hostile = plain.field(8, b"\x1b[31mred")
    size, *rest = plain.GOOD
    head = plain.Stream(size)
    body = head.take(head.number()) + hostile
    (tmp_path / "f").write_bytes(b"".join((plain.number(len(body)) + body, *rest)))
    code, _, err = run(capsys, "import", tmp_path / "f", "--output", tmp_path / "i")
    assert code == 0, err
    assert "\x1b" not in err
    assert r"\x1b[31mred" in err


def test_passages_are_called_passages(tmp_path, capsys):
    texts = {"a": " ".join(f"w{n}" for n in range(40)), "b": "w1 w2"}
    HybridIndex.build(tmp_path / "i", texts, ENCODER, passages=10, overlap=2).close()
    words = ("export", tmp_path / "i", "--format", "ciff", "--output", tmp_path / "c", "--json")
    code, out, err = run(capsys, *words)
    assert code == 0, err
    told = json.loads(out)
    assert (told["passages"], told["documents"]) == (True, 6)
    assert "c: 6 passages, " in err
    assert "each document is a passage" in told["description"]
    assert [name for _, name, _ in plain.read((tmp_path / "c").read_bytes())[2]][-1] == "b#00000"


def test_terms_with_control_characters_can_be_searched(tmp_path):
    (tmp_path / "f").write_bytes(b"".join(plain.GOOD))
    made, _ = import_index(tmp_path / "f", tmp_path / "i")
    assert made.max_impact == 300
    with HybridIndex.open(tmp_path / "i") as opened:
        assert opened.manifest.vocabulary(tmp_path / "i") == ["one", "zwölf\n\x00 ␛"]
        assert [opened.get(name).id for name in ("a", "b c", "é")] == ["a", "b c", "é"]


def test_unusual_forms_of_messages_are_read(tmp_path):
    """Fields in another order, repeated, unknown, or written where they could be left out."""
    odd = plain.field(4, plain.field(2, 7) + plain.field(1, 1) + plain.field(9, b"new"))
    twice = plain.field(4, plain.field(1, 5) + plain.field(1, 1) + plain.field(2, 8))
    late = plain.message(odd, twice, plain.field(2, 2), plain.field(3, 99), plain.field(1, b"t"))
    records = [plain.record(n, name) for n, name in ((2, b"c"), (0, b"a"), (1, b"b"))]
    (tmp_path / "f").write_bytes(b"".join((plain.header(1, 3), late, *records)))
    found = read_ciff(tmp_path / "f")
    assert found.ids == ["a", "b", "c"]
    assert found.impacts.toarray().tolist() == [[0], [7], [8]]
    assert found.other_totals == 1


@pytest.mark.parametrize("piece", [40, 41, 1 << 22])
def test_both_ways_of_reading_postings_agree(tmp_path, monkeypatch, piece):
    """A field that no reader knows sends a list the slow way."""
    monkeypatch.setattr(ciff_postings, "_BYTES", piece)
    rng = np.random.default_rng(5)
    docids = np.flatnonzero(rng.random(5000) < 0.3)
    docids = docids if piece % 2 else np.append(0, docids[docids > 0])
    gaps, impacts = np.diff(docids, prepend=0), rng.integers(1, 65535, len(docids))
    pairs = list(zip(gaps.tolist(), impacts.tolist(), strict=True))
    records = b"".join(plain.record(n, f"{n}".encode()) for n in range(5000))
    plainly = plain.postings(b"t", *pairs)
    written = b"".join(plain.posting(*pair) for pair in pairs)
    assert decode_postings(np.frombuffer(written, np.uint8)) is not None
    stream = plain.Stream(plainly)
    slow = plain.message(stream.take(stream.number()), plain.field(20, 1))
    for name, one in (("quick", plainly), ("slow", slow)):
        (tmp_path / name).write_bytes(plain.header(1, 5000) + one + records)
    quick, slowly = read_ciff(tmp_path / "quick"), read_ciff(tmp_path / "slow")
    assert (quick.impacts != slowly.impacts).nnz == 0
    assert quick.impacts.indices.size == len(docids)
