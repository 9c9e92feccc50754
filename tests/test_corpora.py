"""Corpora: what is read, and what is refused, with file and line."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from dupmae_toolkit.collection import sources
from dupmae_toolkit.collection.opening import open_corpus, read_queries
from dupmae_toolkit.encoding.source import Memory
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document
from tests.packing import PACKERS

LINES = [
    {"_id": "001", "title": "One", "text": "first"},
    {"_id": "NA", "title": "", "text": "second é 漢 😀"},
    {"_id": "1e5", "title": "Three", "text": "third"},
]
DOCUMENTS = [
    Document("001", "One", "first"),
    Document("NA", "", "second é 漢 😀"),
    Document("1e5", "Three", "third"),
]


def as_jsonl(records: list[dict]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = data.encode("utf-8") if isinstance(data, str) else data
    path.write_bytes(PACKERS.get(path.suffix, bytes)(raw))
    return path


def write_zip(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def refusal(path: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        list(open_corpus(path))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "name", ["c.jsonl", "c.json", "C.JSONL.GZ", *(f"c.jsonl{end}" for end in PACKERS)]
)
def test_json_lines_are_read_plain_and_compressed(tmp_path, name):
    path = tmp_path / name
    raw = as_jsonl(LINES).encode()
    path.write_bytes(PACKERS.get(path.suffix.lower(), bytes)(raw))
    corpus = open_corpus(path)
    assert list(corpus) == DOCUMENTS
    assert list(corpus) == DOCUMENTS, "a corpus can be read again"
    assert corpus.count() == 3
    assert [number for number, _ in corpus.numbered()] == [1, 2, 3]


def test_a_beir_folder_and_zip_give_the_same_documents(tmp_path):
    folder = tmp_path / "toy"
    write(folder / "corpus.jsonl", as_jsonl(LINES))
    zipped = write_zip(tmp_path / "other-name.zip", {"toy/corpus.jsonl": as_jsonl(LINES)})
    flat = write_zip(tmp_path / "flat.zip", {"corpus.jsonl": as_jsonl(LINES)})
    packed = write(tmp_path / "packed" / "corpus.jsonl.gz", as_jsonl(LINES)).parent
    for source, name in ((folder, "toy"), (zipped, "toy"), (flat, "flat"), (packed, "packed")):
        corpus = open_corpus(str(source))
        assert list(corpus) == DOCUMENTS
        assert corpus.name == name
        assert corpus.count() == 3


def test_tsv_holds_an_id_and_a_text_and_quotation_marks_mean_nothing(tmp_path):
    path = write(tmp_path / "c.tsv", '7\t"quoted\n008\tit\'s "fine"\n')
    assert list(open_corpus(path)) == [
        Document("7", "", '"quoted'),
        Document("008", "", 'it\'s "fine"'),
    ]


@pytest.mark.parametrize(
    ("record", "document"),
    [
        ({"id": "a", "contents": "x"}, Document("a", "", "x")),
        ({"docid": "a", "body": "x", "title": None}, Document("a", "", "x")),
        ({"_id": 7, "text": "x"}, Document("7", "", "x")),
        ({"_id": "a", "title": "only a title", "text": ""}, Document("a", "only a title", "")),
        ({"_id": "a", "text": "x", "metadata": {"url": 1}}, Document("a", "", "x", {"url": 1})),
        ({"docno": "a", "content": "x", "headline": "T"}, Document("a", "T", "x")),
        ({"pid": 3, "passage": "x", "name": "T"}, Document("3", "T", "x")),
        ({"ID": "a", "Text": "x", "Title": "T"}, Document("a", "T", "x")),
        ({"identifier": "a", "document": "x", "n": [1]}, Document("a", "", "x", {"n": [1]})),
    ],
)
def test_the_usual_names_of_fields_are_known(tmp_path, record, document):
    assert list(open_corpus(write(tmp_path / "c.jsonl", as_jsonl([record])))) == [document]


def test_byte_order_mark_carriage_returns_and_blank_lines_are_no_content(tmp_path):
    text = "\ufeff" + as_jsonl(LINES).replace("\n", "\r\n\r\n \t\r\n")
    corpus = open_corpus(write(tmp_path / "c.jsonl", text))
    assert list(corpus) == DOCUMENTS
    assert corpus.count() == 3
    assert [number for number, _ in corpus.numbered()] == [1, 4, 7]


def test_only_line_feeds_end_lines(tmp_path):
    text = "a\u2028b\u2029c\x0bd\x0ce\x85f"
    path = write(tmp_path / "c.tsv", f"1\t{text}\n2\tg")
    assert [document.text for document in open_corpus(path)] == [text, "g"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"_id": "a", "text": ', "broken JSON"),
        ("not json", "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ('{"_id": ' + "9" * 5000 + ', "text": "x"}', "broken JSON"),
        ('["a", "x"]', "not a JSON object but a list"),
        ('"a"', "not a JSON object"),
        ('{"text": "x"}', "no id"),
        ('{"_id": "", "text": "x"}', "empty _id"),
        ('{"_id": null, "text": "x"}', "_id is null"),
        ('{"_id": 1.5, "text": "x"}', "_id is a fraction"),
        ('{"_id": true, "text": "x"}', "_id is true or false"),
        ('{"_id": ["a"], "text": "x"}', "_id is a list"),
        ('{"_id": " ab", "text": "x"}', "white space at an end of _id ' ab'"),
        ('{"_id": "ab\\u00a0", "text": "x"}', "white space at an end of _id"),
        ('{"_id": "a\\tb", "text": "x"}', "a control character in _id"),
        ('{"_id": "a\\u2028b", "text": "x"}', "a line break in _id"),
        ('{"_id": "a\\n", "text": "x"}', "a line break in _id"),
        ('{"_id": "a\\u0000", "text": "x"}', "a control character in _id"),
        ('{"_id": "a\\ud800", "text": "x"}', "a control character in _id"),
        ('{"_id": "\\ufeffa", "text": "x"}', "a control character in _id"),
        ('{"_id": "' + "a" * 32_767 + '", "text": "x"}', "more than 32,766 bytes"),
        ('{"_id": "a"}', "no text"),
        ('{"_id": "a", "title": "x"}', "no text"),
        ('{"_id": "a", "text": null}', "text is null"),
        ('{"_id": "a", "text": 3}', "text is a number"),
        ('{"_id": "a", "text": "x", "title": 3}', "title is a number"),
        ('{"_id": "a", "text": "", "title": " "}', "document a has no text"),
        ('{"_id": "a", "text": "\\u200b\\u00ad", "title": "\\ufeff"}', "document a has no text"),
        ('{"_id": "a", "text": "x \\udfff y"}', "half a surrogate pair (\\udfff) in text"),
    ],
)
def test_a_line_that_is_no_document_is_refused_with_file_and_line(tmp_path, line, fault):
    path = write(tmp_path / "c.jsonl", as_jsonl(LINES) + "\n" + line + "\n")
    message = refusal(path)
    assert message.startswith(f"{path}:5: ")
    assert fault in message


def test_a_line_in_a_zip_is_named_with_the_zip(tmp_path):
    path = write_zip(tmp_path / "z.zip", {"z/corpus.jsonl": "{}\n"})
    assert refusal(path).startswith(f"{path}/z/corpus.jsonl:1: no text")


def test_pairs_of_surrogates_in_json_are_one_character(tmp_path):
    path = write(tmp_path / "c.jsonl", '{"_id": "a", "text": "\\ud83d\\ude00"}\n')
    assert next(iter(open_corpus(path))).text == "😀"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("a", "1 column; expected two"),
        ("a\tb\tc", "3 columns; expected two"),
        ("\tb", "empty id"),
        (" ab\tc", "white space at an end of id"),
        ("a\t ", "document a has no text"),
    ],
)
def test_a_tsv_line_with_other_than_id_and_text_is_refused(tmp_path, line, fault):
    path = write(tmp_path / "c.tsv", f"x\ty\n{line}\n")
    message = refusal(path)
    assert message.startswith(f"{path}:2: ")
    assert fault in message


def test_invalid_lines_are_skipped_and_counted_only_when_asked(tmp_path):
    path = write(tmp_path / "c.jsonl", as_jsonl(LINES[:1]) + "broken\n{}\n" + as_jsonl(LINES[1:]))
    corpus = open_corpus(path, skip_invalid=True)
    assert list(corpus) == DOCUMENTS
    assert list(corpus) == DOCUMENTS
    assert corpus.skipped == 2
    assert corpus.left_out() == (
        f"2 lines that are not documents were skipped: {path}:2, {path}:3 (the first: "
        "broken JSON (Expecting value, column 1))"
    )
    assert corpus.count() is None
    with pytest.raises(InputError, match=r"no documents in it \(2 invalid lines skipped\)"):
        list(open_corpus(write(tmp_path / "d.jsonl", "broken\n{}\n"), skip_invalid=True))


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ('"_id": "a", "id": "b"', None),
        ('"id": "b", "_id": "a"', None),
        ('"_id": "1", "id": 2', None),
        ('"_id": "a", "id": "A"', None),
        ('"_id": "a", "id": ["a"]', None),
        ('"_id": "a", "id": ""', None),
        ('"_id": "a", "id": "a"', "a"),
        ('"_id": 7, "id": "7"', "7"),
        ('"_id": "a", "id": null', "a"),
        ('"_id": "a", "docid": "b"', "a"),
        ('"id": "a", "doc_id": "b"', "a"),
    ],
)
def test_two_ids_in_a_line_are_refused_where_they_differ(tmp_path, ids, wanted):
    path = write(tmp_path / "c.jsonl", '{"_id": "x", "text": "x"}\n{' + ids + ', "text": "y"}\n')
    queries = write(tmp_path / "q.jsonl", path.read_text())
    items = [json.loads(line) for line in path.read_text().splitlines()]
    if wanted is None:
        for name, read in (
            (path, lambda: list(open_corpus(path))),
            (queries, lambda: read_queries(queries)),
            ("the documents given", lambda: list(Memory(items).numbered())),
        ):
            with pytest.raises(InputError) as refused:
                read()
            assert str(refused.value).startswith(f"{name}:2: _id is ")
            assert " and id is " in str(refused.value)
        corpus = open_corpus(path, skip_invalid=True)
        assert [document.id for document in corpus] == ["x"]
        return
    assert [document.id for document in open_corpus(path)] == ["x", wanted]
    assert [query.id for query in read_queries(queries)] == ["x", wanted]
    assert [document.id for _, document in Memory(items).numbered()] == ["x", wanted]


def test_ids_that_differ_are_quoted_in_a_line_whatever_they_are(tmp_path):
    line = {"_id": "long " * 5000, "id": {"\x1b[31m": ["\n"] * 5000}, "text": "y"}
    message = refusal(write(tmp_path / "c.jsonl", as_jsonl([line])))
    assert message.startswith(f"{tmp_path / 'c.jsonl'}:1: _id is 'long long ")
    assert message.isprintable()
    assert len(message) < 500


@pytest.mark.parametrize("bad", [0, 1, 5, 6, 3000])
def test_the_first_lines_that_were_left_out_are_named(tmp_path, bad):
    lines = [as_jsonl(LINES[:1])] + ["broken\n" for _ in range(bad)]
    path = write(tmp_path / "c.jsonl", "\n" + "".join(lines))
    corpus = open_corpus(path, skip_invalid=True)
    assert corpus.left_out() == ""
    for _ in range(2):
        assert len(list(corpus)) == 1
        assert corpus.skipped == bad
        said = corpus.left_out()
        named = [int(number) for number in re.findall(rf"{re.escape(str(path))}:(\d+)", said)]
        assert named == list(range(3, 3 + bad))[:5]  # the first line is blank, the second good
        assert said.startswith({0: "", 1: "1 line that is no"}.get(bad, f"{bad:,} lines that"))
        more = {6: " and 1 more", 3000: " and 2,995 more"}.get(bad, "")
        why = {0: "", 1: " (broken JSON"}.get(bad, " (the first: broken JSON")
        assert f"{more}{why}" in said
        assert ("more" in said) == bool(more)


@pytest.mark.parametrize("content", ["", "\n\n  \n", "\ufeff"])
@pytest.mark.parametrize("name", ["c.jsonl", "c.tsv", "c.jsonl.gz"])
def test_an_empty_file_is_refused(tmp_path, name, content):
    path = write(tmp_path / name, content)
    assert refusal(path) == f"{path}: no documents in it"


def test_binary_files_are_refused_by_what_they_are(tmp_path):
    good = as_jsonl(LINES).encode()
    assert "NUL byte" in refusal(write(tmp_path / "a.jsonl", good + b"\x00\x01\x02\n"))
    assert ":4: not UTF-8 text (byte 1 " in refusal(write(tmp_path / "b.jsonl", good + b"\xff\n"))
    assert "UTF-16" in refusal(write(tmp_path / "c.jsonl", as_jsonl(LINES).encode("utf-16")))
    for ending, pack in PACKERS.items():
        assert f"({ending}) file; rename it" in refusal(write(tmp_path / "e.jsonl", pack(good)))
    zipped = write_zip(tmp_path / "f.zip", {"corpus.jsonl": good}).read_bytes()
    assert "zip" in refusal(write(tmp_path / "f.jsonl", zipped))
    overlong = b'{"_id": "a", "text": "\xc0\xaf"}\n'
    assert "not UTF-8" in refusal(write(tmp_path / "g.jsonl", overlong))


@pytest.mark.parametrize("ending", PACKERS)
def test_a_compressed_file_that_was_cut_off_is_refused(tmp_path, ending):
    whole = write(tmp_path / f"c.jsonl{ending}", as_jsonl(LINES * 500))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) - 20])
    assert "damaged or cut off" in refusal(whole)
    whole.write_bytes(b"no such format at all")
    assert "damaged or cut off" in refusal(whole)


def test_a_gzip_with_a_wrong_checksum_is_refused(tmp_path):
    path = write(tmp_path / "c.jsonl.gz", as_jsonl(LINES))
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF
    path.write_bytes(data)
    assert "damaged or cut off" in refusal(path)


def test_a_zip_that_is_none_or_damaged_or_without_a_corpus_is_refused(tmp_path):
    assert "not a readable zip" in refusal(write(tmp_path / "a.zip", b"PK\x03\x04 and no more"))
    assert "not a readable zip" in refusal(write(tmp_path / "b.zip", b""))
    assert "no corpus.jsonl in it" in refusal(write_zip(tmp_path / "c.zip", {"x.txt": "x"}))
    path = write_zip(tmp_path / "d.zip", {"corpus.jsonl": as_jsonl(LINES * 100)})
    data = bytearray(path.read_bytes())
    data[60:70] = b"\x55" * 10
    path.write_bytes(data)
    assert "damaged or cut off" in refusal(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "c.zip", {"corpus.jsonl": as_jsonl(LINES)})
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[central + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in refusal(path)


def test_names_that_lead_out_of_a_zip_are_never_looked_at(tmp_path):
    evil = as_jsonl([{"_id": "evil", "text": "x"}])
    members = {
        "../corpus.jsonl": evil,
        "/corpus.jsonl": evil,
        "a/../../corpus.jsonl": evil,
        "..\\corpus.jsonl": evil,
        "__MACOSX/corpus.jsonl": evil,
        "toy/corpus.jsonl": as_jsonl(LINES),
    }
    before = sorted(tmp_path.iterdir())
    path = write_zip(tmp_path / "c.zip", members)
    assert list(open_corpus(path)) == DOCUMENTS
    assert sorted(tmp_path.iterdir()) == [*before, path], "nothing is unpacked to the disk"


@pytest.mark.parametrize("ending", [*PACKERS, ".zip"])
def test_a_file_that_unpacks_beyond_reason_is_refused_early(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(sources, "BOMB_FLOOR_BYTES", 1 << 16)
    line = as_jsonl(LINES[:1])
    bomb = line * 20_000
    if ending == ".zip":
        path = write_zip(tmp_path / "c.zip", {"corpus.jsonl": bomb})
    else:
        path = write(tmp_path / f"c.jsonl{ending}", bomb)
    documents = iter(open_corpus(path))
    read: list[Document] = []
    with pytest.raises(InputError, match="unpacks to more than 200 times its size"):
        read.extend(documents)
    assert len(read) * len(line) <= max(1 << 16, 200 * path.stat().st_size)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 1 << 20)
    path = write(tmp_path / "c.jsonl.gz", b"a" * (3 << 20))
    assert f"{path}:1: a line longer than 1 MiB" in refusal(path)


def test_what_is_not_there_or_of_another_kind_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "missing.jsonl")
    assert "no such file or folder" in refusal(str(tmp_path / "missing.jsonl"))
    assert "no such file or folder" in refusal("no/such-data-set")
    assert "not the name of a file" in refusal("a\0b")
    assert "not the name of a file" in refusal("")
    assert "ir_datasets has no data set" in refusal("irds:no-such-data-set")
    assert "unknown corpus format" in refusal(write(tmp_path / "c.doc", "a,b\n"))
    (tmp_path / "folder.jsonl").mkdir()
    assert "no documents in it: no corpus.jsonl" in refusal(tmp_path / "folder.jsonl")


def test_several_data_sets_in_one_place_are_told_apart(tmp_path):
    members = {f"cqa/{name}/corpus.jsonl": as_jsonl(LINES) for name in ("android", "english")}
    path = write_zip(tmp_path / "cqa.zip", members)
    assert "several data sets in it (android, english)" in refusal(path)


def test_reading_stops_where_the_reader_stops(tmp_path):
    path = write(tmp_path / "c.jsonl", as_jsonl(LINES[:1]) + "broken\n")
    assert next(iter(open_corpus(path))) == DOCUMENTS[0]
