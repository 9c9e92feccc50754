"""Filters: their language, what they match, and rankings under them beside brute force."""

from __future__ import annotations

import contextlib
import os
import random
import re
import sys
import warnings
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from dupmae_toolkit import Document, HybridIndex, Query
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index import fields
from dupmae_toolkit.search import filters, selection
from dupmae_toolkit.search.filters import parse_filter
from tests import filter_cases
from tests.filter_cases import ENCODER, KINDS

pytestmark = [
    pytest.mark.java,
    pytest.mark.filterwarnings("ignore:.* in among (is|are) not in the index"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("filters")


@pytest.fixture(scope="module")
def index(folder):
    documents = [
        Document("a", "", "word one", {"year": 2020, "dept": "sales", "größe": 1, "a.b": 1}),
        Document("b", "", "word two", {"year": 2021.5, "tags": ["x", 1], "day": date(2024, 2, 3)}),
        Document("c", "", "word three", {"year": "2020", "dept": None, "draft": True, "o": {}}),
        Document("d", "", "word four"),
        Document("e", "", "word five", {"dept": "lega'l \"", "tags": [], "ﬁeld": 2, "class": 3}),
    ]
    return HybridIndex.build(folder / "small", documents, ENCODER)


def ids(index, filter, **options):
    return sorted(hit.id for hit in index.search("word", filter=filter, k=1000, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_filtered_pages_equal_brute_force(folder, kind):
    each = filter_cases.searched(folder, 7, kind)
    found = filter_cases.compare(each, 240, 11)
    each.index.close()
    assert found > 120


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("year == 2020", "a"),
        ("year == '2020'", "c"),
        ("year != 2020", "b"),
        ("not year == 2020", "b"),
        ("2020 <= year < 2021.5", "a"),
        ("2020 <= year", "ab"),
        ("year in (2020, 2021.5, '2020')", "abc"),
        ("year in [2020]", "a"),
        ("year not in (2020,)", "b"),
        ("year in ()", ""),
        ("year not in ()", "abc"),
        ("year > -1", "ab"),
        ("dept is None", "bcd"),
        ("missing(dept)", "bcd"),
        ("dept is not None", "ae"),
        ("not missing(dept)", "ae"),
        ("draft", "c"),
        ("not draft", ""),
        ("draft == True", "c"),
        ("draft != True", ""),
        ("'x' in tags", "b"),
        ("1 in tags", "b"),
        ("1.0 in tags", "b"),
        ("'x' not in tags", "e"),
        ("contains(tags, 'x')", "b"),
        ("'al' in dept", "a"),
        ("startswith(dept, 'sa') or endswith(dept, '\"')", "ae"),
        ("dept == 'lega\\'l \"'", "e"),
        ("day >= '2024-02-03'", "b"),
        ("day == '2024-02-03T00:00'", "b"),
        ("day < '2024-02-03T00:00:00+01:00'", ""),
        ("größe == 1", "a"),
        ("ﬁeld == 2", "e"),
        ("field('ﬁeld') == 2", "e"),
        ("field('a.b') == 1", "a"),
        ("field('class') == 3", "e"),
        ("o is not None", "c"),
        ("id in ('a', 'd', 'nowhere')", "ad"),
        ("id > 'b' and text != 'word five'", "cd"),
        ("'e' in text", "abcde"[0] + "c" + "e"),
        ("title == ''", "abcde"),
        ("draft or year == 2020 and missing(tags)", "ac"),
        ("(draft or year == 2020) and missing(tags)", "ac"),
        ("  year   ==\t2020 ", "a"),
        ("'20' '20' == year", "c"),
        ("r'2020' == year", "c"),
    ],
)
def test_what_filters_match(index, filter, found):
    assert ids(index, filter) == sorted(found)


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        ("", "the filter is empty"),
        (" \t", "the filter is empty"),
        ("yeer > 3", "no document has a field 'yeer'; did you mean 'year'?"),
        ("zzz", "no document has a field 'zzz'; there are"),
        ("year > True", "True and False have no order"),
        ("dept == 3", "the field 'dept' holds text; it cannot equal 3"),
        ("dept in ('a', 3)", "the field 'dept' holds text"),
        ("dept", "the field 'dept' holds text; it is no condition without a comparison"),
        ("tags == 'x'", "holds lists; it cannot equal 'x'; write 'x' in tags"),
        ("True in tags", "the field 'tags' holds lists; it cannot contain True"),
        ("contains(day, 'x')", "the field 'day' holds dates; it cannot contain 'x'"),
        ("startswith(draft, 'x')", "the field 'draft' holds true or false; it cannot start"),
        ("day > 'soon'", "write dates as '2024-01-31'"),
        ("o == 1", "the field 'o' holds objects; it cannot equal 1"),
        ("year = 2020", "character 6: write == instead of ="),
        ("year === 2020", "character 8: write == instead of ="),
        ("draft && draft", "write and instead of &"),
        ("draft || draft", "write or instead of |"),
        ("!draft", "write not instead of !"),
        ("draft AND draft", "write and, or a field of this name as field(…)"),
        ("dept IS NULL", "write is, or a field"),
        ("dept is null", "write None, or a field"),
        ("draft == true", "write True, or a field"),
        ("dept == None", "nothing equals None; write is None"),
        ("dept in (None,)", "nothing equals None"),
        ("dept is 'sales'", "after is or is not stands None"),
        ("dept == sales", "write strings in quotes, as in 'sales'"),
        ("1 == 1", "a field is expected here"),
        ("'a' in ('a', 'b')", "a field is expected here"),
        ("dept in 'sales'", "after in stands a list of values"),
        ("dept in {'a'}", "'{' has no place in a filter"),
        ("class == 3", "character 1: 'class' cannot stand alone; write field('class')"),
        ("a.b == 1", "a name with a dot stands in quotes, as in field('a.b')"),
        ("year + 1 == 2021", "'+' has no place"),
        ("year - 1 == 2021", "a filter computes nothing"),
        ("year == --1", "a filter computes nothing"),
        ("year ** 2 == 4", "'**' has no place"),
        ("year == 1j", "a number, a string, True or False is expected"),
        ("year == 1e999", "a number too large"),
        ("year == (1, 2)", "a number, a string, True or False is expected"),
        ("year == ...", "'...' has no place"),
        ("year == b'x'", "only plain strings"),
        ("year == f'{year}'", "only plain strings|has no place"),
        ("year == '\\ud800'", "half a surrogate pair"),
        ("year == '\ud800'", "half a surrogate pair"),
        ("year == 'x", "not closed"),
        ("(year == 1", "not closed"),
        ("year == 1)", "character 10: this bracket closes none"),
        ("year == 1 # true", "has no place"),
        ("year == 1; draft", "';' has no place"),
        ("year == 1\nor draft", "several lines"),
        ("draft draft", "invalid syntax"),
        ("year >", "character 7: something is missing after >"),
        ("field(year) == 1", "write the name in quotes"),
        ("field('a', 'b') == 1", "write the name in quotes"),
        ("missing()", "write missing"),
        ("missing('dept')", "a field is expected"),
        ("contains(tags)", "write contains"),
        ("contains(tags, x='a')", "write == instead of ="),
        ("startswith(dept, 1)", "startswith takes a string"),
        ("True", "a condition is expected"),
        ("'dept'", "a condition is expected"),
        ("open('/etc/passwd')", "there is no function 'open'"),
        ("__import__('os').system('true')", "has no place|a name with a dot"),
        ("().__class__", "a name with a dot"),
        ("(lambda: 1)()", "'lambda' cannot stand alone"),
        ("[x for x in tags]", "'for' cannot stand alone"),
        ("draft if draft else draft", "'if' cannot stand alone"),
        ("(x := 1)", "':=' has no place"),
        ("tags[0] == 'x'", "a field is expected|a condition is expected"),
        ("*tags", "'*' has no place"),
        ("\0", "."),
        ("`dept`", "has no place"),
        ("dept == “sales”", "."),
        ("¬ draft", "."),
    ],
)
def test_what_is_no_filter_is_refused_in_one_line(index, filter, message):
    with pytest.raises(InputError, match=message if message == "." else None) as raised:
        index.search("word", filter=filter)
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 300
    if message != ".":
        assert any(part in text for part in message.split("|")), text


@pytest.mark.parametrize(
    "filter",
    [
        "(" * 30 + "draft" + ")" * 30,
        "(" * 4000 + "draft" + ")" * 4000,
        "[" * 9000,
        "not " * 2400 + "draft",
        "-" * 9000 + "1 == year",
        "year == " + "-" * 5000 + "1",
        "True" + "-True" * 1900 + " == year",
        "draft" + " and draft" * 1990,
        "year in (" + "1," * 3000 + ")",
        "year == " + "9" * 9000,
        "year == '" + "x" * 10_000 + "'",
        "x" * 10_001,
        "year" + ".a" * 4000,
        "f'{" * 3000,
        "draft" + " if draft else draft" * 400,
        "lambda: " * 1000 + "1",
        "draft" + " == draft" * 999,
        "startswith(" * 800 + "x" + ")" * 800,
        "\\" * 5000,
        "'" * 9999,
        "()" * 4000,
        "year <" * 1500 + " 1",
    ],
    ids=lambda text: text[:12],
)
def test_a_hostile_filter_ends_in_one_line(index, filter):
    limit = sys.getrecursionlimit()
    with pytest.raises(InputError) as raised:
        index.search("word", filter=filter)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("value", [3, b"year > 1", ["year > 1"], True])
def test_a_filter_is_a_string(index, value):
    with pytest.raises(InputError, match="a filter is a string"):
        index.search("word", filter=value)


def test_random_text_is_parsed_or_refused():
    dice = random.Random(1)
    pieces = (
        "year dept ( ) [ ] , < <= == != = - not and or in is None True 1 2.5 'a' \"b\" . : ; \\ "
    )
    pieces = [
        *pieces.split(" "),
        " ",
        "\t",
        "é",
        "field('x')",
        "missing",
        "lambda",
        "0x",
        "1e",
        "𝟙",
    ]
    good = 0
    for _ in range(3000):
        text = " ".join(dice.choices(pieces, k=dice.randint(1, 8)))
        with contextlib.suppress(InputError):
            parse_filter(text)
            good += 1
    assert good > 20


def test_nothing_runs_and_nothing_is_opened_while_a_filter_is_read(index, monkeypatch):
    seen: list[str] = []
    watched = ("open", "import", "exec", "os.system", "subprocess.Popen", "socket.connect")

    def hook(event, arguments):
        if event in watched and watching:
            seen.append(f"{event} {arguments}")

    watching: list[int] = []
    sys.addaudithook(hook)  # it cannot be removed; without ``watching`` it does nothing
    evil = ["__import__('os').system('x')", "open('x')", "exec('x')", "year > eval('1')"]
    for filter in [*evil, "year > 2000"]:
        watching.append(1)
        try:
            parse_filter(filter)
        except InputError:
            pass
        finally:
            watching.clear()
    assert seen == []


def test_unknown_escapes_give_no_warning(index):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(index, r"dept == '\d'") == []


def test_a_filter_changes_no_score(index):
    for mode in ("hybrid", "dense", "lexical", "bm25"):
        whole = {hit.id: hit for hit in index.search("word three", k=9, mode=mode)}
        for filter in ("year >= 2020", "draft", "missing(year)"):
            hits = index.search("word three", k=9, mode=mode, filter=filter)
            assert hits
            for hit in hits:
                alone = whole[hit.id]
                assert (hit.score, hit.dense, hit.lexical, hit.bm25, hit.text, hit.metadata) == (
                    *(alone.score, alone.dense, alone.lexical, alone.bm25),
                    *(alone.text, alone.metadata),
                )


def test_runs_say_what_was_searched(index):
    run = index.search_batch(
        [Query("1", "word")], 5, filter="year >= 2020", among=["a", "d", "x", "y"]
    )
    assert run["1"].ids == ["a"]
    about = run.metadata
    assert (about["filter"], about["matching"], about["documents"]) == ("year >= 2020", 1, 5)
    assert about["among"] == {"ids": 4, "unknown": 2}
    plain = index.search_batch([Query("1", "word")], 5).metadata
    assert not {"filter", "among", "matching", "offset"} & set(plain)


@pytest.mark.parametrize("among", ["a", [1], [None], [b"a"]])
def test_ids_to_search_among_are_strings(index, among):
    with pytest.raises(InputError, match="among is a list of ids"):
        index.search("word", among=among)


def test_no_ids_and_unknown_ids_find_nothing(index):
    for among in ([], ["nowhere"]):
        for mode in ("hybrid", "dense", "lexical", "bm25"):
            assert index.search("word", among=among, mode=mode) == []
        for fusion in ("sum", "rrf", "linear", "combmnz"):
            assert index.search("word", among=among, fusion=fusion) == []
        answer = index.answers([Query("q", "word")], index.request(among=among)).answers[0]
        assert answer.certificate.certified


def test_selections_are_kept_by_size(index, monkeypatch):
    index.search("word", filter="draft")
    selections = index._snapshot.selections
    first = selections.get("draft", None)
    assert selections.get("draft", None) is first
    monkeypatch.setattr(selection, "_BYTES", 1)
    selections.get("year > 3", None)
    assert selections.get("draft", None) is not first


def test_a_filter_sees_added_and_no_deleted_documents(tmp_path):
    documents = [Document(f"d{n}", "", "word", {"n": n}) for n in range(9)]
    with HybridIndex.build(tmp_path / "index", documents, ENCODER) as index:
        assert ids(index, "n >= 5") == ["d5", "d6", "d7", "d8"]
        index.add([Document("d5", "", "word", {"n": 0, "later": True})], replace=True)
        index.delete(["d6"])
        assert ids(index, "n >= 5") == ["d7", "d8"]
        assert ids(index, "later") == ["d5"]
        index.delete(filter="n > 7 or later")
        assert ids(index, "n >= 0") == ["d0", "d1", "d2", "d3", "d4", "d7"]
        index.delete(filter="n > 100")
        with pytest.raises(InputError, match="no document has a field 'm'"):
            index.delete(filter="m > 1")
        index.compact()
        assert ids(index, "n >= 0") == ["d0", "d1", "d2", "d3", "d4", "d7"]
        assert len(index) == 6


def test_rare_fields_beyond_the_columns_are_read_from_the_json(tmp_path, monkeypatch):
    monkeypatch.setattr(fields, "MOST_FIELDS", 2)
    documents = [Document(f"d{n}", "", "word", {"n": n, f"rare{n}": n, "m": 1}) for n in range(9)]
    documents += [Document("x", "", "word", {"rare3": "text", "n": 0})]
    with HybridIndex.build(tmp_path / "index", documents, ENCODER) as index:
        assert set(index.fields()) == {"n", "m", *(f"rare{n}" for n in range(9))}
        assert ids(index, "rare3 == 3") == ["d3"]
        assert ids(index, "rare3 is not None") == ["d3", "x"]
        assert ids(index, "n == 3 or rare4 == 4") == ["d3", "d4"]
        with pytest.raises(InputError, match="no document has a field 'rare9'"):
            ids(index, "rare9 == 3")


def test_an_index_without_metadata_says_so(tmp_path):
    with HybridIndex.build(tmp_path / "index", [Document("a", "", "word")], ENCODER) as index:
        assert index.fields() == {}
        assert index.search("word")[0].metadata == {}
        with pytest.raises(InputError, match="the documents have no metadata"):
            index.search("word", filter="year > 1")
        assert ids(index, "id == 'a'") == ["a"]


@pytest.mark.parametrize("spec", ["HNSW4", "IVF4,Flat", "PCA8,HNSW4", "SQ8", "PQ4x4", "NSG8"])
def test_an_approximate_search_finds_as_many_as_match(tmp_path, spec, monkeypatch):
    monkeypatch.setattr(selection, "FEW", 0)
    dice = random.Random(3)
    documents = [
        Document(f"d{n:03}", "", " ".join(dice.choices(filter_cases.WORDS, k=5)), {"n": n % 10})
        for n in range(400)
    ]
    with HybridIndex.build(tmp_path / "index", documents, ENCODER, faiss=spec) as index:
        for k in (1, 10, 40, 100):
            for filter, count in (("n == 3", 40), ("n != 3", 360), ("id == 'd007'", 1)):
                hits = index.search("word1 word2", k=k, mode="dense", filter=filter)
                assert len(hits) == min(k, count)
                assert len({hit.id for hit in hits}) == len(hits)
                good = ids(index, filter, mode="dense", exact=True)
                assert len(good) == count
                assert {hit.id for hit in hits} <= set(good)


# Pages.


@pytest.mark.parametrize("fusion", ["sum", "rrf", "linear", "combsum", "combmnz"])
@pytest.mark.parametrize("kind", ["Flat, memory", "HNSW8, Lucene, masked"])
def test_pages_joined_equal_one_long_list(folder, fusion, kind):
    each = filter_cases.searched(folder, 7, kind)
    for filter in (None, "year >= 2001"):
        for mode in ("hybrid", "dense", "lexical") if fusion == "sum" else ("hybrid",):
            ask = {"mode": mode, "fusion": fusion, "filter": filter}
            long = each.index.search("word1 word2 the", k=200, offset=0, **ask)
            assert [hit.rank for hit in long] == list(range(1, len(long) + 1))
            for size in (7, 50):
                pages = [
                    hit
                    for start in range(0, 200, size)
                    for hit in each.index.search(
                        "word1 word2 the", k=min(size, 200 - start), offset=start, **ask
                    )
                ]
                assert pages == long
    each.index.close()


def test_pages_beyond_the_end_are_empty_and_beyond_the_depth_refused(index):
    assert index.search("word", k=3, offset=5) == []
    assert index.search("word", k=3, offset=10**9) == []
    with pytest.raises(InputError, match="offset 995 and k 6 go beyond the first 1000 documents"):
        index.search("word", k=6, offset=995, fusion="rrf")
    assert index.search("word", k=5, offset=995, fusion="rrf") == []
    with pytest.raises(InputError, match="beyond the first 20 documents"):
        index.search("word", k=6, offset=15, fusion="rrf", depth=20)


@pytest.mark.parametrize("offset", [-1, 1.0, "1", True])
def test_an_offset_is_a_whole_number(index, offset):
    with pytest.raises(InputError, match="offset is"):
        index.search("word", offset=offset)


def test_ranks_go_on_in_hits_and_in_runs(index, tmp_path):
    from dupmae_toolkit.collection.trec import read_run, write_run

    assert [hit.rank for hit in index.search("word", k=2, offset=2)] == [3, 4]
    run = index.search_batch([Query("1", "word"), Query("2", "two")], 2, offset=2)
    assert run.metadata["offset"] == 2
    write_run(run, tmp_path / "run.trec")
    lines = [line.split() for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert [(line[0], line[3]) for line in lines] == [
        ("1", "3"),
        ("1", "4"),
        ("2", "3"),
        ("2", "4"),
    ]
    assert read_run(tmp_path / "run.trec")["1"].ids == run["1"].ids


def test_limits_are_as_documented():
    assert re.search("more than 10,000", message_of("x" * 10_001))
    assert parse_filter("(" * filters.MAX_DEPTH + "draft" + ")" * filters.MAX_DEPTH)
    assert "nested too deeply" in message_of("(" * 21 + "draft" + ")" * 21)
    assert "more than 2,000 words" in message_of("d" + " or d" * 1000)


def message_of(filter: str) -> str:
    with pytest.raises(InputError) as raised:
        parse_filter(filter)
    return str(raised.value)


def test_times_are_compared_as_times(tmp_path):
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    documents = [
        Document("a", "", "word", {"t": noon}),
        Document("b", "", "word", {"t": noon.replace(tzinfo=None)}),
        Document("c", "", "word", {"t": date(2024, 5, 2)}),
        Document("d", "", "word", {"t": "2024-05-01T12:00:00"}),
        Document("e", "", "word", {"t": datetime.min}),
        Document("f", "", "word", {"t": date.max}),
    ]
    with HybridIndex.build(tmp_path / "index", documents, ENCODER) as index:
        assert ids(index, "t == '2024-05-01T14:00:00+02:00'") == ["a", "b"]
        assert ids(index, "t == '2024-05-01T12:00:00'") == ["a", "b", "d"]
        assert ids(index, "t > '2024-05-01T12:00:00Z'") == ["c", "f"]
        assert ids(index, "t < '2000-01-01'") == ["e"]
        assert {hit.id: hit.metadata["t"] for hit in index.search("word")} == {
            document.id: document.metadata["t"] for document in documents
        }


def test_no_file_of_an_index_changes_by_searching(index, folder):
    before = {path: os.stat(path).st_mtime_ns for path in Path(folder / "small").rglob("*")}
    ids(index, "year > 2000")
    assert before == {path: os.stat(path).st_mtime_ns for path in Path(folder / "small").rglob("*")}


def test_a_documents_own_fields_go_before_metadata_of_the_same_names(tmp_path):
    documents = [Document("a", "", "word", {"id": 3, "text": "b", "title": None, "n": 1})]
    with HybridIndex.build(tmp_path / "index", documents, ENCODER) as index:
        assert ids(index, "id == 'a' and text == 'word' and title == ''") == ["a"]
        assert index.search("word")[0].metadata == documents[0].metadata
        assert set(index.fields()) == {"n"}
        with pytest.raises(InputError, match="the field 'id' holds text"):
            ids(index, "id == 3")


def test_values_that_a_filter_says_nothing_of_are_counted(tmp_path):
    values = [1, 2, "3", None, date(2020, 1, 1), True, ["1"], {"a": 1}]
    documents = [{"id": str(n), "text": "word", "x": value} for n, value in enumerate(values)]
    documents.append({"id": "none", "text": "word"})
    with HybridIndex.build(tmp_path / "index", documents, ENCODER) as opened:
        topics = [Query("0", "word")]

        def unread(filter):
            request = opened.request(10, filter=filter)
            return opened.described(opened.answers(topics, request), request).get("unread")

        assert unread("x >= 1") == {"x": 5}
        assert unread("x == '3'") == {"x": 6}
        assert unread("x in (1, '3')") == {"x": 4}
        assert unread("x >= '2019-01-01'") == {"x": 5}  # text and dates compare with it
        assert unread("x") == {"x": 6}
        assert unread("'1' in x") == {"x": 5}
        assert unread("startswith(x, '3')") == {"x": 6}
        assert unread("x is None") is None
        assert unread("id == '1' or x < 1") == {"x": 5}
        opened.delete(["4", "5", "6", "7"])
        assert unread("x >= 1") == {"x": 1}
        opened.delete(["2"])
        assert unread("not x < 1") is None
