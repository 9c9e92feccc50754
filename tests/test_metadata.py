"""Metadata of documents: their types, their way through encoding and index, and what is refused."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dupmae_toolkit import Document, HybridIndex
from dupmae_toolkit.collection.metadata import metadata_text, read_metadata_text
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.build import build_index
from dupmae_toolkit.index.documents import SegmentDocuments, write_documents
from dupmae_toolkit.index.health.repair import repair_index
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.updates import add_encoded
from dupmae_toolkit.records import as_json
from tests.cli_support import run
from tests.support import HashingEncoder

ENCODER = HashingEncoder(size=256, dim=16)
PARIS = timezone(timedelta(hours=2))
VALUES = [
    True,
    0,
    -(2**63),
    2**200,
    1.5,
    -0.0,
    5e-324,
    "",
    "a b\n\t\x00\u2028é𝟙",
    None,
    date(1, 1, 1),
    date(9999, 12, 31),
    datetime(2024, 2, 29, 23, 59, 59, 999999),
    datetime(2024, 2, 29, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 1, tzinfo=PARIS),
    [],
    ["a", 1, None, [True, {"b": [date(2020, 1, 1)]}]],
    {},
    {"$$time": "x", "$date": 5, "a": {"$date": "2020-01-01"}},
    {"$date": "2020-01-01"},
    {"$time": "no time"},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_as_they_were(value):
    text = metadata_text({"x": value, "$y": value}, "here", 1)
    back = read_metadata_text(text)
    assert repr(back["x"]) == repr(value)  # repr tells 1 from 1.0 and True, and 0.0 from -0.0
    assert repr(back["$y"]) == repr(value)
    assert type(back["x"]) is type(value)
    assert metadata_text(back, "here", 1) == text


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int32(7), 7),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([1, 2]), [1, 2]),
        (np.array(["2020-01-02"], "datetime64[ns]"), [datetime(2020, 1, 2)]),
        (np.datetime64("2020-01-02T03:04:05"), datetime(2020, 1, 2, 3, 4, 5)),
        (np.datetime64("NaT"), None),
        (float("nan"), None),
        (np.float32("nan"), None),
        ((1, ("a",)), [1, ["a"]]),
        (Decimal("1.50"), 1.5),
        (Decimal("NaN"), None),
        (pd.Timestamp("2020-01-02 03:04:05.123456789"), datetime(2020, 1, 2, 3, 4, 5, 123456)),
        (
            pd.Timestamp("2020-01-02", tz="Europe/Paris"),
            datetime(2020, 1, 2, tzinfo=timezone(timedelta(hours=1))),
        ),
        (pd.NaT, None),
        (pd.NA, None),
    ],
    ids=repr,
)
def test_values_of_libraries_become_plain(value, plain):
    back = read_metadata_text(metadata_text({"x": value}, "here", 1))["x"]
    assert (back, type(back)) == (plain, type(plain))


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"x": math.inf}, "an infinite number"),
        ({"x": [-math.inf]}, "an infinite number"),
        ({"x": Decimal("1e999")}, "an infinite number"),
        ({"x": b"bytes"}, "is of the type bytes"),
        ({"x": {1, 2}}, "is of the type set"),
        ({"x": object()}, "is of the type object"),
        ({"x": timedelta(1)}, "is of the type timedelta"),
        ({"x": {1: 2}}, "the key 1 of an object is no string"),
        ({1: 2}, "the field 1 is not named by a string"),
        ({"": 2}, "a field's name has 1 to 1000 characters, not 0"),
        ({"x" * 1001: 2}, "not 1001"),
        ({"x": "\ud800"}, "half a surrogate pair"),
        ({"\ud800": 1}, "half a surrogate pair"),
        ({"x": nested(40)}, "more than 32 deep"),
        ({"x": nested(5000)}, "more than 32 deep"),
        ({"x": 10**5000}, "cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(metadata, message):
    with pytest.raises(InputError, match="here:7: ") as raised:
        metadata_text(metadata, "here", 7)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_value_that_contains_itself_is_refused():
    value: list = []
    value.append(value)
    with pytest.raises(InputError, match="more than 32 deep"):
        metadata_text({"x": value}, "here", 1)


@pytest.mark.parametrize(
    "text", ["[]", "3", "{", '{"x": {"$date": "soon"}}', '{"x": {"$date": 3}}', "[" * 100_000]
)
def test_what_is_no_metadata_is_not_read(text):
    with pytest.raises((ValueError, TypeError)):
        read_metadata_text(text)


def test_json_for_people_has_iso_dates():
    value = {"a": [date(2020, 1, 2), datetime(2020, 1, 2, 3, tzinfo=UTC)], "b": {"c": None}}
    shown = {"a": ["2020-01-02", "2020-01-02T03:00:00+00:00"], "b": {"c": None}}
    assert as_json(value) == json.loads(json.dumps(as_json(value))) == shown


def documents_of(count: int, seed: int = 0) -> list[Document]:
    dice = random.Random(seed)
    documents = []
    for number in range(count):
        names = dice.sample("abcdefg", dice.randint(0, 5))
        metadata = {name: dice.choice(VALUES) for name in names}
        documents.append(Document(f"d{number:03}", "", f"word{number} text", metadata))
    return documents


def kept(index: HybridIndex) -> dict[str, str]:
    return {document.id: repr(dict(document.metadata)) for document in index.corpus()}


def expected(documents) -> dict[str, str]:
    return {d.id: repr(dict(sorted(d.metadata.items()))) for d in documents}


@pytest.mark.java
@pytest.mark.parametrize("source", ["list", "iterator", "dicts"])
def test_an_index_keeps_metadata_through_every_change(tmp_path, source):
    documents = documents_of(60)
    given = {
        "list": documents,
        "iterator": iter(documents),
        "dicts": [{"id": d.id, "text": d.text, **d.metadata} for d in documents],
    }[source]
    with HybridIndex.build(tmp_path / "index", given, ENCODER, segment_size=25) as index:
        assert kept(index) == expected(documents)
        for hit in index.search("word3 text", k=60):
            found = next(d for d in documents if d.id == hit.id)
            assert repr(dict(hit.metadata)) == expected([found])[hit.id]
        changed = [Document(d.id, "", d.text, {"new": 1}) for d in documents[:10]]
        index.add([*changed, Document("x", "", "no metadata")], replace=True)
        index.delete(["d020"])
        documents = [*changed, *documents[10:20], *documents[21:], Document("x")]
        assert kept(index) == expected(documents)
        index.compact()
        assert kept(index) == expected(documents)
        corpus = index.corpus()
        with HybridIndex.build(tmp_path / "again", corpus, ENCODER) as again:
            assert kept(again) == expected(documents)
    assert verify_index(tmp_path / "index") == []


@pytest.mark.java
def test_encoding_keeps_metadata_for_index_and_add(tmp_path):
    documents = documents_of(50)
    encoded = encode_corpus(documents[:30], ENCODER, tmp_path / "one", part_size=7)
    more = encode_corpus(documents[30:], ENCODER, tmp_path / "two", part_size=7)
    build_index(tmp_path / "index", encoded, vocabulary=ENCODER.vocabulary)
    add_encoded(tmp_path / "index", more)
    with HybridIndex.open(tmp_path / "index", ENCODER) as index:
        assert kept(index) == expected(documents)


def test_texts_without_metadata_are_written_as_before(tmp_path):
    plain = [Document(d.id, d.title, d.text) for d in documents_of(20)]
    encoded = encode_corpus(plain, ENCODER, tmp_path / "one")
    assert "metadata" not in pq.read_schema(encoded.files()[0]).names
    write_documents(tmp_path / "documents.parquet", ["a"], [""], ["x"], [""])
    assert pq.read_schema(tmp_path / "documents.parquet").names == ["id", "title", "text"]
    assert SegmentDocuments(tmp_path / "documents.parquet").get([0])[0].metadata == {}


def test_changed_metadata_are_other_texts_for_a_folder_that_was_begun(tmp_path):
    documents = documents_of(20)
    encode_corpus(documents, ENCODER, tmp_path / "one")
    assert encode_corpus(documents, ENCODER, tmp_path / "one").newly_encoded == 0
    documents[3] = Document(documents[3].id, "", documents[3].text, {"other": 1})
    with pytest.raises(InputError, match="made from other texts"):
        encode_corpus(documents, ENCODER, tmp_path / "one")


def with_column(folder, column) -> EncodedCorpus:
    encoded = encode_corpus(documents_of(2), ENCODER, folder)
    path = encoded.files()[0]
    table = pq.read_table(path)
    if "metadata" in table.column_names:
        table = table.drop_columns(["metadata"])
    pq.write_table(table.append_column("metadata", column), path)
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["parts"]:
        del entry["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return EncodedCorpus.open(folder)


@pytest.mark.parametrize(
    ("column", "metadata"),
    [
        (pa.array(['{"b":1, "a":[2.0]}', None]), ['{"a":[2.0],"b":1}', ""]),
        (pa.array(['{"b":1}', ""], pa.large_string()).dictionary_encode(), ['{"b":1}', ""]),
        (pa.array([{"y": 1}, {"y": None}]), ['{"y":1}', '{"y":null}']),
        (pa.array([{"d": date(2020, 1, 2)}, None]), ['{"d":{"$date":"2020-01-02"}}', ""]),
        (pa.nulls(2), ["", ""]),
    ],
)
def test_other_engines_give_metadata_as_json_or_as_structs(tmp_path, column, metadata):
    (part,) = with_column(tmp_path / "one", column).parts()
    assert part.metadata == metadata


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["{}", "{"]), "row 1 (from 0): metadata is no JSON object"),
        (pa.array(["[1]", ""]), "row 0 (from 0): metadata is no JSON object"),
        (pa.array([1, 2]), "row 0 (from 0): metadata is no JSON object"),
        (pa.array(['{"x": 1e999}', ""]), "an infinite number"),
        (pa.array(['{"x": "\\ud800"}', ""]), "half a surrogate pair"),
    ],
)
def test_metadata_that_are_none_are_refused_by_row(tmp_path, column, message):
    corpus = with_column(tmp_path / "one", column)
    with pytest.raises(InputError) as raised:
        list(corpus.parts())
    assert message in str(raised.value)
    assert "part-00000.parquet" in str(raised.value)


@pytest.mark.parametrize(
    "footer",
    [
        {"dupmae.fields": "["},
        {"dupmae.fields": "[3]"},
        {"dupmae.fields": '[["a", "float"]]'},
        {"dupmae.fields": '[["a", "nothing"]]'},
        {"dupmae.fields": '[["a", "int"], ["b", "int"]]'},
        {"dupmae.fields": '[[1, "int"]]'},
    ],
)
def test_a_damaged_footer_is_one_line(tmp_path, footer):
    path = tmp_path / "documents.parquet"
    write_documents(path, ["x"], [""], ["x"], ['{"a":1}'])
    pq.write_table(pq.read_table(path).replace_schema_metadata(footer), path)
    documents = SegmentDocuments(path)
    assert documents.get([0])[0].metadata == {"a": 1}
    with pytest.raises(InputError, match="not readable") as raised:
        _ = documents.fields
    assert "\n" not in str(raised.value)


def test_damaged_json_is_one_line(tmp_path):
    path = tmp_path / "documents.parquet"
    write_documents(path, ["x"], [""], ["x"], ['{"a":1}'])
    table = pq.read_table(path)
    place = table.column_names.index("metadata")
    broken = table.set_column(place, "metadata", pa.array(["{"], pa.large_string()))
    pq.write_table(broken, path)
    with pytest.raises(InputError, match="not readable"):
        SegmentDocuments(path).get([0])


@pytest.mark.java
def test_repair_keeps_metadata(tmp_path):
    documents = documents_of(30)
    HybridIndex.build(tmp_path / "index", documents, ENCODER).close()
    (path,) = (tmp_path / "index").glob("segments/*/faiss/docid")
    path.write_text("damage\n")
    assert repair_index(tmp_path / "index", ENCODER).whole
    with HybridIndex.open(tmp_path / "index", ENCODER) as index:
        assert kept(index) == expected(documents)
        assert index.fields()


# The command line.


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("metadata") / "index"
    documents = [
        Document(
            f"d{n}",
            f"Title {n}",
            "some words of a text",
            {"year": 2000 + n, "tags": ["x", "y"][: n % 3], "day": date(2020, 1, 1 + n)},
        )
        for n in range(20)
    ]
    HybridIndex.build(path, documents, ENCODER).close()
    return path


@pytest.fixture
def dupmae(capsys, monkeypatch, built):
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", lambda *a, **k: ENCODER)
    return lambda *words: run(capsys, *words)


@pytest.mark.java
def test_the_command_filters_pages_and_shows_fields(dupmae, built, tmp_path):
    ask = ("search", "--index", built, "some words", "--filter", "year >= 2010 and 'x' in tags")
    code, out, err = dupmae(*ask, "-k", 3, "--fields", "year,tags, day")
    assert code == 0
    assert out.split("\n")[0].split()[-6:] == ["year", "tags", "day", "title", "and", "text"]
    assert "2010" in out
    titled = dupmae(*ask, "-k", 3, "--fields", "title")[1].split("\n")[0]
    assert titled.split()[-4:] == ["title", "title", "and", "text"]
    assert "2020-01-11" in out
    assert err.strip() == "3 of 7 that match, of 20 documents, hybrid, exact top 3"
    code, out, err = dupmae(*ask, "-k", 3, "--offset", 3, "--json")
    answer = json.loads(out)
    assert (answer["offset"], answer["filter"], answer["matching"]) == (3, ask[-1], 7)
    assert [hit["rank"] for hit in answer["hits"]] == [4, 5, 6]
    assert answer["hits"][0]["metadata"]["day"].startswith("2020-01-")
    assert "exact, from rank 4" in dupmae(*ask, "-k", 3, "--offset", 3)[2]


@pytest.mark.java
def test_the_command_searches_among_ids(dupmae, built, tmp_path):
    file = tmp_path / "ids.txt"
    file.write_text("d1\nd2\nnowhere\n")
    code, _, err = dupmae("search", "--index", built, "some words", "--among", file)
    assert code == 0
    assert "2 of 2 that match, of 20 documents" in err
    assert "1 of 3 ids in --among are not in the index" in err
    queries = tmp_path / "queries.tsv"
    queries.write_text("1\tsome words\n")
    output = tmp_path / "run.trec"
    ask = ("search", "--index", built, "--queries", queries, "--output", output)
    code, _, err = dupmae(*ask, "--among", file, "--filter", "year < 2002")
    assert code == 0
    assert [line.split()[2] for line in output.read_text().splitlines()] == ["d1"]
    about = json.loads((tmp_path / "run.trec.json").read_text())
    assert about["among"] == {"ids": 3, "unknown": 1}
    assert (about["filter"], about["matching"]) == ("year < 2002", 1)
    assert "searched 1 of 20 documents" in err


@pytest.mark.java
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--filter", "yeer > 3"], "dupmae: no document has a field 'yeer'; did you mean 'year'?"),
        (["--filter", ""], "dupmae: the filter is empty"),
        (["--offset", "-1"], "dupmae: offset is -1"),
        (["--fields", "titel"], "dupmae: no document has a field 'titel'"),
        (["--fields", "yeer"], "dupmae: no document has a field 'yeer'"),
        (["--fields", "year", "--json"], "dupmae: --fields goes with the table"),
        (["--among", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--offset", "995", "--fusion", "rrf"], "go beyond the first 1000 documents"),
    ],
)
def test_the_command_refuses_in_one_line(dupmae, built, words, message):
    code, out, err = dupmae("search", "--index", built, "some words", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.java
def test_pyserinis_folders_have_no_filters(dupmae, built):
    folder = next(built.glob("segments/*/faiss"))
    for words in (["--filter", "year > 3"], ["--fields", "year"]):
        code, _, err = dupmae("search", "--index", folder, "some words", "--model", "x", *words)
        assert code == 2
        assert err.count("\n") == 1


@pytest.mark.java
def test_the_command_deletes_by_filter(dupmae, tmp_path):
    documents = [Document(f"d{n}", "", "word", {"n": n}) for n in range(9)]
    index = tmp_path / "index"
    HybridIndex.build(index, documents, ENCODER).close()
    code, _, err = dupmae("delete", "--index", index, "--filter", "n >= 4")
    assert (code, "5 deleted" in err) == (0, True)
    assert dupmae("delete", "--index", index, "--filter", "m >= 4")[0] == 2
    code, _, err = dupmae("delete", "--index", index, "d1", "--filter", "n >= 4")
    assert (code, "do not go together" in err) == (2, True)
    assert dupmae("delete", "--index", index)[0] == 2
