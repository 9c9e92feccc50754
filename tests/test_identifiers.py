"""Ids: any string that a line can hold; TREC files escape white space, and readers undo it."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae_toolkit.collection.identifiers import check_id, from_trec, to_trec
from dupmae_toolkit.collection.ids import read_ids
from dupmae_toolkit.collection.opening import read_qrels
from dupmae_toolkit.collection.trec import read_run, sidecar_path, write_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.records import Ranking, Run

WRITTEN = [
    ("d1", "d1"),
    ("notes/a b.md", "notes/a%%20b.md"),
    ("a\u00a0b", "a%%C2%%A0b"),
    ("a\u3000b", "a%%E3%%80%%80b"),
    # A percent sign alone is ordinary: ids of other tools stay as they are.
    ("100%", "100%"),
    ("100% sure", "100%%%20sure"),
    ("http://x/a%20b", "http://x/a%20b"),
    ("a%%b", "a%%b"),
    # What looks like an escape is escaped itself.
    ("a%%20b", "a%%25%20b"),
    ("%%%41", "%%%25%41"),
]


@pytest.mark.parametrize(("name", "column"), WRITTEN)
def test_only_white_space_and_what_looks_like_an_escape_is_escaped(name, column):
    assert to_trec(name) == column
    assert from_trec(column) == name


PIECES = st.sampled_from(["%", "%%", "2", "0", "5", "A", "C2", "A0", " ", "\u00a0", "\u2003", "x"])


@settings(max_examples=400)
@given(
    st.lists(PIECES, min_size=1, max_size=12).map("".join).filter(lambda name: name == name.strip())
)
def test_every_id_comes_back(name):
    if not name:
        return
    column = to_trec(check_id(name, "here", None))
    assert column.split() == [column]
    assert from_trec(column) == name


@given(st.text(min_size=1, max_size=30))
def test_every_string_is_an_id_or_refused_in_a_line(name):
    odd = {unicodedata.category(c) for c in name} & {"Cc", "Cs", "Zl", "Zp"}
    if odd or name != name.strip() or "\ufeff" in name:
        with pytest.raises(InputError, match=r"^here:3: [^\n]+$"):
            check_id(name, "here", 3)
        return
    assert check_id(name, "here", 3) == name
    assert len(f"{name}\n".splitlines()) == 1
    assert from_trec(to_trec(name)) == name


@pytest.mark.parametrize("column", ["a%%41", "%%FF", "%%0A", "%%C2", "%%2", "%%zz", "%%00x"])
def test_what_we_never_write_is_left_as_it_is(column):
    assert from_trec(column) == column


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "empty id"),
        (" a", "white space at an end of id"),
        ("a\u00a0", "white space at an end of id"),
        ("a\nb", "a line break in id"),
        ("a\rb", "a line break in id"),
        ("a\u2029b", "a line break in id"),
        ("a\tb", "a control character in id"),
        ("a\0b", "a control character in id"),
        ("a\udc80", "a control character in id"),
        ("x" * 32_767, "id of more than 32,766 bytes"),
        ("日" * 10_923, "id of more than 32,766 bytes"),
    ],
)
def test_what_no_line_or_term_can_hold_is_no_id(name, fault):
    with pytest.raises(InputError, match=fault):
        check_id(name, "here", None)
    check_id("日" * 10_922, "here", None)


def test_runs_and_judgements_with_spaces_meet(tmp_path):
    ids = ["notes/a b.md", "a%20b", "a b", "a%%20b", "plain"]
    topics = ["Global warming:14", "q%20"]
    run = Run({topic: Ranking(ids, np.arange(5.0, 0.0, -1)) for topic in topics})
    run.topics["no hits"] = Ranking([], np.empty(0))
    path = tmp_path / "a.trec"
    write_run(run, path)
    assert all(len(line.split()) == 6 for line in path.read_text().splitlines())
    again = read_run(path)
    assert {topic: again[topic].ids for topic in again} == {t: run[t].ids for t in run}
    assert json.loads(sidecar_path(path).read_text())["topics_without_hits"] == ["no hits"]
    beir = tmp_path / "test.tsv"
    beir.write_text("query-id\tcorpus-id\tscore\nGlobal warming:14\ta b\t1\nq%20\ta%20b\t1\n")
    trec = tmp_path / "qrels"
    trec.write_text("Global%%20warming:14 0 a%%20b 1\nq%20 0 a%20b 1\n")
    expected = {"Global warming:14": {"a b": 1}, "q%20": {"a%20b": 1}}
    assert read_qrels(beir) == read_qrels(trec) == expected
    scores = evaluate(expected, again, ["RR"])
    assert scores.means["RR"] == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_runs_of_other_tools_keep_their_percent_signs(tmp_path):
    path = tmp_path / "a.trec"
    path.write_text("q%20 Q0 http://x/a%20b 1 2.5 t\nq%20 Q0 50% 2 1.5 t\n")
    assert read_run(path)["q%20"].ids == ["http://x/a%20b", "50%"]


def test_ids_to_delete_hold_spaces(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("notes/a b.md\r\n  d2  \n\n日 本\n", "utf-8")
    assert read_ids(path) == ["notes/a b.md", "d2", "日 本"]
