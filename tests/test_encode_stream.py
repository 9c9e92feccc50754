"""Encoding streams, continues where it was, and refuses to mix what does not belong together."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest

from dupmae_toolkit.collection import duplicates
from dupmae_toolkit.collection.opening import open_corpus
from dupmae_toolkit.encoding import parquet
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import DupMAEError, EncoderMismatchError, InputError
from dupmae_toolkit.files import sha256_lines
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.records import Document, Query, Representations
from tests.support import HashingEncoder

DOCUMENTS = [Document(f"d{i}", f"Title {i}", f"some words and number {i} " * i) for i in range(25)]


class Counting(HashingEncoder):
    """Remembers what it was asked for."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked: list[str] = []

    def encode_documents(self, texts, ids=None):
        self.asked.extend(ids)
        return super().encode_documents(texts, ids)


def write_corpus(path, documents=DOCUMENTS):
    lines = [{"_id": d.id, "title": d.title, "text": d.text} for d in documents]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return open_corpus(path)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def encode(corpus, output, encoder=None, **options):
    return encode_corpus(corpus, encoder or HashingEncoder(), output, **{"part_size": 10} | options)


# What is written


def test_a_folder_holds_what_the_encoder_gave_in_the_order_of_the_corpus(tmp_path):
    encoded = encode(write_corpus(tmp_path / "c.jsonl"), tmp_path / "out")
    expected = HashingEncoder().encode_documents([d.contents for d in DOCUMENTS])
    read = EncodedCorpus.open(tmp_path / "out")
    assert len(encoded) == len(read) == encoded.newly_encoded == 25
    assert [len(part) for part in read.parts()] == [10, 10, 5]
    everything = read.representations()
    assert everything.ids == [d.id for d in DOCUMENTS]
    np.testing.assert_array_equal(everything.dense, expected.dense)
    assert (everything.lexical != expected.lexical).nnz == 0
    assert [t for part in read.parts() for t in part.titles] == [d.title for d in DOCUMENTS]
    assert [t for part in read.parts() for t in part.texts] == [d.text for d in DOCUMENTS]


def test_any_reader_of_parquet_can_read_a_part(tmp_path):
    encode(DOCUMENTS, tmp_path / "out")
    frame = pandas.read_parquet(tmp_path / "out" / "part-00002.parquet")
    expected = HashingEncoder().encode_documents([d.contents for d in DOCUMENTS[20:]])
    assert frame["id"].tolist() == [d.id for d in DOCUMENTS[20:]]
    np.testing.assert_array_equal(np.stack(frame["dense"]), expected.dense)
    row = expected.lexical[4]
    assert frame["terms"][4].tolist() == row.indices.tolist()
    assert frame["weights"][4].tolist() == row.data.tolist()


def test_the_manifest_says_what_is_in_the_folder_and_nothing_of_the_time(tmp_path):
    corpus = write_corpus(tmp_path / "c.jsonl")
    encode(corpus, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["format_version"] == 1
    assert manifest["kind"] == "documents"
    assert manifest["complete"] is True
    assert manifest["encoder"] == HashingEncoder().info.to_dict()
    assert manifest["source"] == corpus.source
    assert (manifest["count"], manifest["truncated"], manifest["part_size"]) == (25, 0, 10)
    assert manifest["dense_dtype"] == "float32"
    assert [(part["file"], part["count"]) for part in manifest["parts"]] == [
        ("part-00000.parquet", 10),
        ("part-00001.parquet", 10),
        ("part-00002.parquet", 5),
    ]
    encode(corpus, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_the_vocabulary_lies_beside_the_parts_whatever_is_in_it(tmp_path):
    encoder = HashingEncoder(size=4)
    encoder.vocabulary = ["a", "日本", "\ud800", "\n"]
    encoder.info = replace(encoder.info, vocabulary_sha256=sha256_lines(encoder.vocabulary))
    encode(DOCUMENTS, tmp_path / "out", encoder)
    assert EncodedCorpus.open(tmp_path / "out").vocabulary() == encoder.vocabulary


def test_float16_halves_the_dense_vectors_and_keeps_eleven_bits(tmp_path):
    encode(DOCUMENTS, tmp_path / "out", dense_dtype="float16")
    schema = pq.read_schema(tmp_path / "out" / "part-00000.parquet")
    assert str(schema.field("dense").type) == "fixed_size_list<element: halffloat>[16]"
    expected = HashingEncoder().encode_documents([d.contents for d in DOCUMENTS]).dense
    read = EncodedCorpus.open(tmp_path / "out").representations().dense
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, expected.astype(np.float16).astype(np.float32))


def test_queries_are_encoded_as_queries(tmp_path):
    class Queries(HashingEncoder):
        def encode_documents(self, texts, ids=None):
            raise AssertionError

        def encode_queries(self, texts, ids=None):
            assert texts == ["what is it", "and why"]
            return HashingEncoder.encode_documents(self, texts, ids)

    queries = [Query("001", "what is it"), Query("NA", "and why")]
    encoded = encode(queries, tmp_path / "out", Queries(), kind="queries")
    assert encoded.kind == "queries"
    (part,) = EncodedCorpus.open(tmp_path / "out").parts()
    assert part.ids == ["001", "NA"]
    assert part.texts == ["what is it", "and why"]
    assert part.titles == ["", ""]


def test_truncated_texts_are_counted_over_all_parts_also_those_of_an_earlier_call(tmp_path):
    class Cutting(HashingEncoder):
        def encode_documents(self, texts, ids=None):
            result = super().encode_documents(texts, ids)
            result.truncated = sum(len(text) > 300 for text in texts)
            return result

    expected = sum(len(d.contents) > 300 for d in DOCUMENTS)
    with pytest.raises(StoppedError):
        encode(DOCUMENTS, tmp_path / "out", stopping(Cutting, after=2)())
    encoded = encode(DOCUMENTS, tmp_path / "out", Cutting())
    assert encoded.manifest["truncated"] == expected > 10
    assert sum(part["truncated"] for part in encoded.manifest["parts"]) == expected


@pytest.mark.parametrize("part_size", [1, 24, 25, 26, 10_000])
def test_parts_of_any_size_hold_the_same_texts(tmp_path, part_size):
    encoded = encode(DOCUMENTS, tmp_path / "out", part_size=part_size)
    assert encoded.representations().ids == [d.id for d in DOCUMENTS]
    assert len(list(encoded.parts())) == -(-25 // part_size)


# What may be encoded


def test_lists_dicts_and_generators_are_encoded_as_a_corpus_is(tmp_path):
    encode(write_corpus(tmp_path / "c.jsonl"), tmp_path / "corpus")
    dicts = [{"id": d.id, "title": d.title, "text": d.text} for d in DOCUMENTS]
    forms = {
        "list": DOCUMENTS,
        "dicts": dicts,
        "generator": (d for d in DOCUMENTS),
        "generator of dicts": (d for d in dicts),
    }
    expected = contents(tmp_path / "corpus")
    del expected["manifest.json"]  # it names the source
    for name, form in forms.items():
        encode(form, tmp_path / name)
        found = contents(tmp_path / name)
        del found["manifest.json"]
        assert found == expected, name


def test_integer_ids_of_dicts_are_their_decimal_strings(tmp_path):
    encoded = encode([{"id": 0, "text": "zero"}, {"_id": 1, "contents": "one"}], tmp_path / "out")
    assert encoded.representations().ids == ["0", "1"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"text": "no id"}, "no id (one of"),
        ({"id": True, "text": "x"}, "id is true or false; an id is a string"),
        ({"id": 1.0, "text": "x"}, "id is a fraction; an id is a string"),
        ({"id": "a", "text": ["x"]}, "text is a list; a string is expected"),
        ({"id": "a", "title": 3, "text": "x"}, "title is a number; a string is expected"),
        ({"id": "a"}, "no text"),
        ({"id": "a", "text": " \n"}, "no text"),
        ({"id": "", "text": "x"}, "empty id"),
        ({"id": "a ", "text": "x"}, "white space"),
        ({"id": "a", "text": "half \ud800"}, "surrogate"),
        ({"id": "d0", "text": "x"}, "'d0' is already on line 1"),
        ("a string", "no id (one of"),
        (None, "neither a Document nor a dict"),
    ],
)
@pytest.mark.parametrize("form", [list, iter])
def test_what_is_no_document_is_refused_by_its_place_and_nothing_is_written(
    tmp_path, item, message, form
):
    with pytest.raises(InputError, match=r"given:26: ") as caught:
        encode(form([*DOCUMENTS, item]), tmp_path / "out")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", [list, iter])
def test_nothing_to_encode_is_refused(tmp_path, form):
    with pytest.raises(InputError, match="no documents in it"):
        encode(form([]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "c.jsonl:27: broken JSON"),
        ('{"text": "x"}', "c.jsonl:27: no id"),
        ('{"_id": "x"}', "c.jsonl:27: no text"),
        ('{"_id": "x", "text": ""}', "c.jsonl:27: "),
        ('{"_id": "d3", "text": "again"}', "c.jsonl:27: the id 'd3' is already on line 4"),
    ],
)
def test_a_bad_last_line_is_found_before_anything_is_encoded(tmp_path, line, message):
    write_corpus(tmp_path / "c.jsonl")
    with (tmp_path / "c.jsonl").open("a") as file:
        file.write(f"\n{line}\n")  # a blank line counts as a line
    encoder = Counting()
    with pytest.raises(InputError) as caught:
        encode(open_corpus(tmp_path / "c.jsonl"), tmp_path / "out", encoder)
    assert message in str(caught.value)
    assert encoder.asked == []
    assert not (tmp_path / "out").exists()


def test_two_ids_that_share_a_hash_are_both_encoded(tmp_path, monkeypatch):
    class Same:
        def __init__(self, data, digest_size):
            pass

        def digest(self):
            return bytes(8)

    monkeypatch.setattr(duplicates, "blake2b", Same)
    assert len(encode(DOCUMENTS, tmp_path / "out")) == 25
    with pytest.raises(InputError, match=":26: the id 'd7' is already on line 8"):
        encode([*DOCUMENTS, DOCUMENTS[7]], tmp_path / "other")


@pytest.mark.parametrize(
    "options", [{"part_size": 0}, {"dense_dtype": "float64"}, {"kind": "passages"}]
)
def test_wrong_options_are_refused_with_those_that_are_right(tmp_path, options):
    with pytest.raises(InputError, match=r"at least 1|choose one of"):
        encode(DOCUMENTS, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_memory_holds_a_part_and_not_the_corpus(tmp_path):
    def documents(count):
        for number in range(count):
            yield Document(f"d{number}", text=f"{number} " + "x" * 20_000)

    def peak(count):
        tracemalloc.start()
        encode(documents(count), tmp_path / f"{count}", part_size=20)
        _, result = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return result

    peak(20)  # imports
    few, many = peak(40), peak(400)
    assert many < 1.5 * few, (few, many)


# Continuing


class StoppedError(Exception):
    pass


def stopping(kind, after):
    """An encoder class that fails at its n-th part, as a machine does."""

    class Stopping(kind):
        calls = 0

        def encode_documents(self, texts, ids=None):
            self.calls += 1
            if self.calls > after:
                raise StoppedError
            return super().encode_documents(texts, ids)

    return Stopping


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_run_continues_after_the_last_whole_part(tmp_path, after):
    corpus = write_corpus(tmp_path / "c.jsonl")
    encode(corpus, tmp_path / "undisturbed")
    with pytest.raises(StoppedError):
        encode(corpus, tmp_path / "out", stopping(HashingEncoder, after)())
    with pytest.raises(InputError, match="was not finished; run the same"):
        EncodedCorpus.open(tmp_path / "out")
    encoder = Counting()
    encoded = encode(corpus, tmp_path / "out", encoder)
    assert encoder.asked == [d.id for d in DOCUMENTS[10 * after :]]
    assert encoded.newly_encoded == 25 - 10 * after
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_finished_folder_is_used_as_it_is(tmp_path):
    corpus = write_corpus(tmp_path / "c.jsonl")
    encode(corpus, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    encoder = Counting()
    encoded = encode(corpus, tmp_path / "out", encoder)
    assert encoder.asked == []
    assert encoded.newly_encoded == 0
    assert len(encoded) == 25
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert after == before


def test_a_part_that_was_removed_from_a_finished_folder_is_encoded_again(tmp_path):
    encode(DOCUMENTS, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "part-00001.parquet").unlink()
    encoder = Counting()
    assert encode(DOCUMENTS, tmp_path / "out", encoder).newly_encoded == 10
    assert encoder.asked == [d.id for d in DOCUMENTS[10:20]]
    assert contents(tmp_path / "out") == before


def test_an_encoder_of_another_name_with_the_same_vectors_continues(tmp_path):
    encode(DOCUMENTS, tmp_path / "out")
    before = contents(tmp_path / "out")
    other = HashingEncoder()
    other.info = replace(other.info, name="a copy")
    assert encode(DOCUMENTS, tmp_path / "out", other).newly_encoded == 0
    assert contents(tmp_path / "out") == before
    other.info = replace(other.info, dense_weight=2.0)
    assert encode(DOCUMENTS, tmp_path / "out", other).info.dense_weight == 2
    now = contents(tmp_path / "out")
    assert [name for name in now if now[name] != before[name]] == ["manifest.json"]


def test_the_same_texts_from_another_place_continue(tmp_path):
    encode(write_corpus(tmp_path / "c.jsonl"), tmp_path / "out")
    assert encode(write_corpus(tmp_path / "moved.jsonl"), tmp_path / "out").newly_encoded == 0


def begun(tmp_path, finished):
    if finished:
        encode(DOCUMENTS, tmp_path / "out")
    else:
        with pytest.raises(StoppedError):
            encode(DOCUMENTS, tmp_path / "out", stopping(HashingEncoder, 1)())
    return contents(tmp_path / "out")


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("options", "both"),
    [
        ({"part_size": 11}, ("part size 10", "11")),
        ({"dense_dtype": "float16"}, ("dense dtype float32", "float16")),
        ({"kind": "queries"}, ("kind documents", "queries")),
    ],
)
def test_other_options_are_refused_and_both_are_named(tmp_path, finished, options, both):
    before = begun(tmp_path, finished)
    with pytest.raises(InputError) as caught:
        encode(DOCUMENTS, tmp_path / "out", **options)
    assert all(word in str(caught.value) for word in both)
    assert "delete the folder or name another" in str(caught.value)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("finished", [True, False])
def test_another_encoder_is_refused_and_both_are_named(tmp_path, finished):
    before = begun(tmp_path, finished)
    with pytest.raises(EncoderMismatchError, match=r"hashing \(.*\), not with other \("):
        encode(DOCUMENTS, tmp_path / "out", HashingEncoder(name="other"))
    longer = HashingEncoder()
    longer.info = replace(longer.info, max_length=512)
    with pytest.raises(EncoderMismatchError, match=r"\(max_length 256\), .* \(max_length 512\)"):
        encode(DOCUMENTS, tmp_path / "out", longer)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda d: [replace(d[0], text="new"), *d[1:]], 1),
        (lambda d: [*d[:24], replace(d[24], title="new")], 21),
        (lambda d: [d[1], d[0], *d[2:]], 1),
        (lambda d: d[:24], 21),
        (lambda d: d[:20], 21),
        (lambda d: [*d, Document("more", text="more")], 21),
        (lambda d: [*d, *[Document(f"more{n}", text="x") for n in range(20)]], 21),
        (lambda d: [replace(d[0], title="", text=d[0].contents), *d[1:]], 1),
    ],
)
def test_texts_that_changed_are_refused_and_nothing_is_touched(tmp_path, finished, change, first):
    before = begun(tmp_path, finished)
    encoder = Counting()
    with pytest.raises(InputError, match=rf"other texts .* from text {first} on\); delete"):
        encode(change(DOCUMENTS), tmp_path / "out", encoder)
    assert encoder.asked == []
    assert contents(tmp_path / "out") == before


def test_a_corpus_that_changes_while_it_is_read_is_refused(tmp_path):
    class Changing:
        source = "changing"
        reads = 0

        def count(self):
            return None

        def numbered(self):
            self.reads += 1
            for number, document in enumerate(DOCUMENTS, 1):
                late = self.reads > 1 and number > 20
                yield number, replace(document, text="changed") if late else document

    with pytest.raises(InputError, match="changing: changed while it was read"):
        encode(Changing(), tmp_path / "out")
    with pytest.raises(InputError, match="was not finished"):
        EncodedCorpus.open(tmp_path / "out")


# Refusing what stands in the way


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="not empty, and not an encoded corpus"):
        encode(DOCUMENTS, output)
    (output / "manifest.json").write_text('{"segments": []}')
    with pytest.raises(InputError, match="names no encoder"):
        encode(DOCUMENTS, output)
    assert len(contents(output)) == 2


def test_an_encoded_corpus_of_another_engine_is_refused_and_left_alone(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    manifest = {"format_version": 1, "encoder": HashingEncoder().info.to_dict()}
    (output / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="another engine"):
        encode(DOCUMENTS, output)
    assert len(contents(output)) == 1


@pytest.mark.parametrize("change", [{"parts": [5]}, {"parts": 5}, {"complete": None}])
def test_a_manifest_that_was_meddled_with_is_refused(tmp_path, change):
    output = tmp_path / "out"
    encode(DOCUMENTS, output)
    manifest = json.loads((output / "manifest.json").read_text())
    (output / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(InputError, match="another engine"):
        encode(DOCUMENTS, output)


def test_an_empty_folder_and_leftovers_of_a_killed_process_are_no_obstacle(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / ".tmp-abc.parquet").write_text("half")
    encode(DOCUMENTS, output)
    encode(DOCUMENTS, tmp_path / "other")
    assert contents(output) == contents(tmp_path / "other")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(InputError, match="cannot be created"):
        encode(DOCUMENTS, tmp_path / "out")
    with pytest.raises(InputError, match="cannot be created"):
        encode(DOCUMENTS, tmp_path / "out" / "below")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_damaged_part_is_refused_by_its_name(tmp_path):
    with pytest.raises(StoppedError):
        encode(DOCUMENTS, tmp_path / "out", stopping(HashingEncoder, 2)())
    path = tmp_path / "out" / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"part-00001\.parquet: not readable .*; delete it"):
        encode(DOCUMENTS, tmp_path / "out")
    path.unlink()
    assert encode(DOCUMENTS, tmp_path / "out").newly_encoded == 15
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(
        InputError, match=r"part-00001\.parquet: was changed or damaged .its checksum"
    ):
        encode(DOCUMENTS, tmp_path / "out")


def test_a_part_from_another_folder_is_refused(tmp_path):
    for name, options in {
        "other texts": {"corpus": DOCUMENTS[::-1]},
        "another encoder": {"encoder": HashingEncoder(name="x")},
    }.items():
        output = tmp_path / name
        with pytest.raises(StoppedError):
            encode(DOCUMENTS, output, stopping(HashingEncoder, 2)())
        encode(**{"corpus": DOCUMENTS} | options, output=tmp_path / f"from {name}")
        stray = tmp_path / f"from {name}" / "part-00001.parquet"
        (output / "part-00001.parquet").write_bytes(stray.read_bytes())
        with pytest.raises(InputError, match=rf"part-00001\.parquet: made .* {name}"):
            encode(DOCUMENTS, output)


def test_a_second_process_on_the_same_folder_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with (
        exclusive(tmp_path / "out"),
        pytest.raises(InputError, match="another process is writing there"),
    ):
        encode(DOCUMENTS, tmp_path / "out")
    assert contents(tmp_path / "out") == {}
    encode(DOCUMENTS, tmp_path / "out")


def test_a_full_disk_is_said_in_one_line_and_the_run_can_continue(tmp_path, monkeypatch):
    write, written = parquet.write_part, []

    def full(path, *arguments):
        if written:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, *arguments)

    monkeypatch.setattr(parquet, "write_part", full)
    with pytest.raises(DupMAEError, match=r"No space left on device\).* run the same command"):
        encode(DOCUMENTS, tmp_path / "out")
    monkeypatch.undo()
    assert encode(DOCUMENTS, tmp_path / "out").newly_encoded == 15
    encode(DOCUMENTS, tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


# Encoders


class Broken(HashingEncoder):
    def __init__(self, breaks):
        super().__init__()
        self.breaks = breaks

    def encode_documents(self, texts, ids=None):
        result = super().encode_documents(texts, ids)
        return self.breaks(result) or result


def set_value(array, at, value):
    array[at] = value


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda r: set_value(r.dense, (3, 0), np.nan), "dense vector of 'd3'"),
        (lambda r: set_value(r.dense, (3, 0), np.inf), "dense vector of 'd3'"),
        (lambda r: set_value(r.lexical.data, 0, np.nan), "gave 'd0' the term weight nan"),
        (lambda r: set_value(r.lexical.data, -1, -1), "gave 'd9' the term weight -1"),
        (lambda r: Representations(r.ids, r.dense[1:], r.lexical), "vectors of shapes"),
        (lambda r: Representations(r.ids[::-1], r.dense, r.lexical), "other texts"),
        (lambda r: Representations(r.ids, r.dense, r.lexical[:, 1:]), "vectors of shapes"),
    ],
)
def test_an_encoder_that_gives_no_vectors_fails_by_the_document(tmp_path, breaks, message):
    with pytest.raises(DupMAEError, match=message) as caught:
        encode(DOCUMENTS, tmp_path / "out", Broken(breaks))
    assert caught.value.exit_code == 1
    assert list((tmp_path / "out").glob("*.parquet")) == []


def test_a_value_beyond_float16_is_refused_there_and_kept_in_float32(tmp_path):
    encoder = Broken(lambda r: set_value(r.dense, (3, 0), 1e5))
    with pytest.raises(DupMAEError, match="'d3' does not fit into float16; choose float32"):
        encode(DOCUMENTS, tmp_path / "half", encoder, dense_dtype="float16")
    assert len(encode(DOCUMENTS, tmp_path / "single", encoder)) == 25


def test_progress_counts_every_text_once(tmp_path):
    seen = []

    @contextlib.contextmanager
    def progress(description, total=None):
        done = []
        yield done.append
        seen.append((description, total, sum(done)))

    class Reporting(HashingEncoder):
        def encode_documents(self, texts, ids=None, progress=None):
            with progress("inner", len(texts)) as advance:
                for _ in texts:
                    advance(1)
            return super().encode_documents(texts, ids)

    for encoder in (HashingEncoder(), Reporting()):
        seen.clear()
        output = tmp_path / type(encoder).__name__
        encode(DOCUMENTS, output, encoder, progress=progress)
        assert seen == [("reading the documents given", 25, 25), ("encoding", 25, 25)]
        (output / "part-00002.parquet").unlink()
        seen.clear()
        encode(DOCUMENTS, output, encoder, progress=progress)
        assert seen[1:] == [("encoding", 5, 5)]


def test_the_arithmetic_of_an_encoder_belongs_to_what_must_not_be_mixed(tmp_path, monkeypatch):
    encode(DOCUMENTS, tmp_path / "out")
    monkeypatch.setattr(HashingEncoder, "arithmetic", "bf16", raising=False)
    with pytest.raises(InputError, match="made with precision None, not bf16"):
        encode(DOCUMENTS, tmp_path / "out")
