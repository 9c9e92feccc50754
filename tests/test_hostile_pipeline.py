"""Odd texts and ids are refused by file and line, or come out of a run file as they went in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.collection.opening import open_corpus, read_queries
from dupmae_toolkit.collection.trec import read_run, write_run
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.records import Document
from tests.support import HashingEncoder
from tests.tiny import save_tiny

ENCODER = HashingEncoder(size=64, dim=8)
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

IDS = [
    *("001", "1", "1.0", "1e5", "NA", "null", "None", "true", "-", "--help", "Q0", "0"),
    *("..", ".", "../../etc/passwd", "/", "a/b", "C:\\x", "a\\nb", "%00", "a|b", '"', "'", "\\"),
    *(
        "é",
        "e\u0301",
        "日本",
        "עברית",
        "العربية",
        "\u202eevil",
        "😀",
        "👩‍👩‍👧‍👦",
        "🇦🇶",
        "ﬁ",
        "İ",
        "ß",
    ),
    *(
        "\u200b",
        "a\u200db",
        "\ue000",
        "\U0010ffff",
        "␛",
        "␛41;",
        "#",
        "{}",
        "[1]",
        "$x",
        "`x`",
        "*",
    ),
    *(
        "a b",
        "notes/a b.md",
        "a\u00a0b",
        "a\u3000\u2003b",
        "Global warming:14",
        "100% sure",
        "a  b",
    ),
    *("a%20b", "a%%20b", "%%", "%%%41", "a% %b", "%%25 %20", "a%%C2%%A0b", "%%FF x"),
    *(
        "x" * 32_766,
        "日" * 10_922,
        "&amp;",
        "<b>",
        "a,b",
        "a;b",
        "http://a.b/c?d=e#f",
        "+1",
        "１",
        "٣",
    ),
]
TEXTS = [
    *(
        "plain words",
        "tab\tin it",
        "two\nlines",
        "alone\rreturn",
        "crlf\r\nend",
        "\u2028\u2029 seps",
    ),
    *(
        "nul \0 in it",
        "esc \x1b[2J bell \x07",
        "\x85\x1c\x1d next line",
        "שלום עולם",
        "مرحبا بالعالم",
    ),
    *(
        "e\u0301 combined, Z\u0351\u036b\u0343a\u0321lgo",
        "👩‍👩‍👧‍👦 family",
        "🇦🇶 flag",
        "\ufeffmark inside",
    ),
    *(
        "日本語のテキスト",
        "ไทยไม่มีช่องว่าง",
        "🏴\U000e0067\U000e007f",
    ),
    *(
        "[CLS] [SEP] [PAD] [MASK]",
        "!!! ??? ...",
        "\u200b\u200dx",
        "0",
        "-1e999 NaN",
        '{"_id": "x"}',
    ),
    *(
        "word " * 200_000,
        "x" * 1_000_000,
        "日" * 300_000,
        "' OR 1=1; --",
        "<script>",
        "%s {0} $(x)",
    ),
]


def documents() -> list[Document]:
    """Every id, and every text as a text and as a title."""
    found = []
    for number, name in enumerate(IDS):
        title = TEXTS[(number + 1) % len(TEXTS)] if number % 2 else ""
        found.append(Document(name, title[:500], TEXTS[number % len(TEXTS)]))
    return found


def write_lines(path: Path, items: list[Document], ascii_only: bool) -> Path:
    lines = [
        json.dumps({"_id": d.id, "title": d.title, "text": d.text}, ensure_ascii=ascii_only)
        for d in items
    ]
    path.write_bytes("\n".join(lines).encode())
    return path


def through(folder: Path, items: list[Document], encoder, ascii_only: bool = False) -> None:
    """corpus file -> index -> search -> run file, and every step gives back what was put in."""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_lines(folder / "corpus.jsonl", items, ascii_only)
    assert list(open_corpus(path)) == items
    index = HybridIndex.build(folder / "index", open_corpus(path), encoder)
    topics = [Query(d.id, d.contents) for d in items]
    path = folder / "queries.jsonl"
    path.write_text("\n".join(json.dumps({"_id": q.id, "text": q.text}) for q in topics))
    assert read_queries(path) == topics
    run = index.search_batch(topics, k=len(items) + 5)
    for name in ("run.trec", "run.trec.gz"):
        write_run(run, folder / name)
        again = read_run(folder / name)
        assert {t: again[t].ids for t in again} == {t: run[t].ids for t in run}
    # A dense search finds all, so that nothing can have been lost.
    assert {name for topic in run for name in run[topic].ids} == {d.id for d in items}
    assert all(len(run[topic]) == len(items) for topic in run)
    by_id = {d.id: d for d in items}
    for hit in index.search(topics[0].text, k=len(items)):
        assert (hit.title, hit.text) == (by_id[hit.id].title, by_id[hit.id].text)
    assert not index.delete([items[-1].id]).documents - (len(items) - 1)
    index.close()


@pytest.mark.java
@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf-8", "escapes"])
def test_every_odd_id_and_text_comes_through_the_whole_pipeline(tmp_path, ascii_only):
    through(tmp_path, documents(), ENCODER, ascii_only)


@pytest.mark.java
def test_so_they_do_with_a_network(tmp_path):
    save_tiny(tmp_path / "model")
    encoder = DupMAEEncoder.from_pretrained(tmp_path / "model", device="cpu", precision="fp32")
    through(tmp_path / "p", documents(), encoder)


CHARACTERS = st.characters(exclude_categories=["Cs"])
ANY_IDS = st.text(CHARACTERS, max_size=12)
ANY_TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=40),
    st.text(
        st.sampled_from('\t\r\n\x0b\x1c\x85\u2028\u202e\u200d\ufeff\0 a\u0301é😀\\"{},:'),
        max_size=20,
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(items=st.lists(st.tuples(ANY_IDS, ANY_TEXTS, ANY_TEXTS), min_size=1, max_size=5))
def test_any_document_is_refused_by_its_line_or_kept_whole(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("any")
    given_ = [Document(*item) for item in items]
    path = write_lines(folder / "c.jsonl", given_, ascii_only=True)
    message = ""
    try:
        encode_corpus(open_corpus(path), ENCODER, folder / "out", part_size=2)
    except InputError as error:
        message = str(error)
    if message:
        assert message.startswith(f"{path}:")
        assert message.split(":")[1].isdigit()
        assert not (folder / "out").exists()
        return
    parts = list(EncodedCorpus.open(folder / "out").parts())
    kept = [
        Document(*fields)
        for part in parts
        for fields in zip(part.ids, part.titles, part.texts, strict=True)
    ]
    assert kept == given_


@pytest.mark.java
@settings(max_examples=5, deadline=None, suppress_health_check=SLOW, database=None)
@given(items=st.lists(st.tuples(ANY_IDS, ANY_TEXTS), min_size=1, max_size=8))
def test_any_document_that_is_read_comes_through_the_whole_pipeline(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("all")
    kept: dict[str, Document] = {}
    for name, text in items:
        document = Document(name, "", text)
        path = write_lines(folder / "one.jsonl", [document], ascii_only=True)
        try:
            list(open_corpus(path))
        except InputError:
            continue
        kept[name] = document
    if kept:
        through(folder / "p", list(kept.values()), ENCODER)


GOOD = b'{"_id": "a", "text": "x"}'


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"_id": "", "text": "x"}', "empty _id"),
        (b'{"_id": " ", "text": "x"}', "white space at an end of _id"),
        (b'{"_id": "a ", "text": "x"}', "white space at an end of _id"),
        (b'{"_id": "a\\tb", "text": "x"}', "a control character in _id"),
        (b'{"_id": "a\\nb", "text": "x"}', "a line break in _id"),
        (b'{"_id": "a\\u2028b", "text": "x"}', "a line break in _id"),
        (b'{"_id": "a\\u0000b", "text": "x"}', "a control character in _id"),
        (b'{"_id": "a\\u001bb", "text": "x"}', "a control character in _id"),
        (b'{"_id": "\\ufeffa", "text": "x"}', "a control character in _id"),
        (b'{"_id": "\\ud800", "text": "x"}', "a control character in _id"),
        (b'{"_id": true, "text": "x"}', "_id is true or false"),
        (b'{"_id": 1.5, "text": "x"}', "_id is a fraction"),
        (b'{"_id": 1e3, "text": "x"}', "_id is a fraction"),
        (b'{"_id": null, "text": "x"}', "_id is null"),
        (b'{"_id": ["b"], "text": "x"}', "_id is a list"),
        (b'{"_id": {"$oid": "b"}, "text": "x"}', "_id is an object"),
        (b'{"_id": ' + b'"' + b"9" * 32_767 + b'", "text": "x"}', "more than 32,766 bytes"),
        (b'{"_id": ' + b"9" * 5000 + b', "text": "x"}', "broken JSON"),
        (b'{"_id": "b", "_id": "c", "text": "x"}', "the key '_id' occurs twice"),
        (b'{"_id": "b", "text": "x", "text": "y"}', "the key 'text' occurs twice"),
        (b'{"_id": "b", "text": "x", "m": {"k": 1, "k": 2}}', "the key 'k' occurs twice"),
        (b'{"text": "x"}', "no id"),
        (b'{"_id": "b"}', "no text"),
        (b'{"_id": "b", "text": null}', "text is null"),
        (b'{"_id": "b", "text": 5}', "text is a number"),
        (b'{"_id": "b", "text": ["x"]}', "text is a list"),
        (b'{"_id": "b", "title": 5, "text": "x"}', "title is a number"),
        (b'{"_id": "b", "text": " \\t\\n\\u3000"}', "has no text"),
        (b'{"_id": "b", "text": "\\ud800"}', "half a surrogate pair"),
        (b'{"_id": "b", "text": "\\udc00\\ud800"}', "half a surrogate pair"),
        (b'{"_id": "b", "title": "\\udfff", "text": "x"}', "half a surrogate pair"),
        (b'{"_id": "b", "text": "caf\xe9"}', "not UTF-8 text (byte "),
        (b'{"_id": "b", "text": "\xed\xa0\x80"}', "not UTF-8 text"),
        (b'{"_id": "b", "text": "\xc0\xaf"}', "not UTF-8 text"),
        (b'{"_id": "b", "text": "x\0"}', "a NUL byte"),
        (b'{"_id": "b", "text": "x\x01"}', "broken JSON"),
        (b'{"_id": "b", "text": "x"} {}', "broken JSON (Extra data"),
        (b"[" * 100_000, "broken JSON (nested too deeply"),
        (b'{"a":' * 100_000, "broken JSON"),
        (b'"a string"', "not a JSON object but a str"),
        (b"NaN", "not a JSON object but a float"),
        ('{"_id": "b", "text": "x"}'.encode("utf-16-le"), "a NUL byte"),
        ("\ufeff".encode() + GOOD, "broken JSON"),
    ],
)
def test_a_line_that_is_no_document_is_refused_by_file_and_line(tmp_path, line, fault):
    path = tmp_path / "c.jsonl"
    path.write_bytes(GOOD + b"\n\n" + line + b"\n")
    with pytest.raises(InputError) as caught:
        list(open_corpus(path))
    assert str(caught.value).startswith(f"{path}:3: ")
    assert fault in str(caught.value)
    assert len(str(caught.value)) <= 1100


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp500", "latin-1"]
)
def test_other_encodings_are_refused_and_not_read_as_something_else(tmp_path, encoding):
    path = tmp_path / "c.jsonl"
    path.write_bytes('{"_id": "ä", "text": "Übergröße"}\n'.encode(encoding))
    with pytest.raises(InputError, match=r"c\.jsonl:1: "):
        list(open_corpus(path))


def test_a_mark_of_byte_order_is_dropped_and_line_ends_of_all_systems_are_read(tmp_path):
    path = tmp_path / "c.jsonl"
    second = b'{"_id": "b", "text": "x\xe2\x80\xa8y"}'
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n" + second + b"\n\r\n  \n")
    assert list(open_corpus(path)) == [Document("a", "", "x"), Document("b", "", "x\u2028y")]


def test_lines_that_end_with_a_return_alone_are_one_line_and_refused(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_bytes(GOOD + b"\r" + GOOD.replace(b'"a"', b'"b"') + b"\r")
    with pytest.raises(InputError, match=r"c\.jsonl:1: broken JSON \(Extra data"):
        list(open_corpus(path))


def test_an_id_that_comes_twice_is_refused_with_both_lines_and_nothing_is_left(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"_id": 1, "text": "x"}\n' + GOOD + b'\n{"_id": "1", "text": "y"}\n')
    with pytest.raises(InputError, match=rf"{path}:3: the id '1' is already on line 1"):
        encode_corpus(open_corpus(path), ENCODER, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["x" * 5_000_000, "日" * 2_000_000, "a " * 2_000_000])
def test_a_line_of_megabytes_is_a_document(tmp_path, text):
    path = write_lines(tmp_path / "c.jsonl", [Document("long", "", text)], ascii_only=False)
    encoded = encode_corpus(open_corpus(path), ENCODER, tmp_path / "out")
    assert next(encoded.parts()).texts == [text]
