"""Judgements: strings stay strings, grades are integers, and contradictions are refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from dupmae_toolkit import Query, Run, evaluate, tune
from dupmae_toolkit.collection.beir import keep_judged
from dupmae_toolkit.collection.opening import read_qrels
from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError, InputWarning
from dupmae_toolkit.records import Ranking
from tests.cli_support import run

HEADER = "query-id\tcorpus-id\tscore\n"


def write(path: Path, text: str) -> Path:
    raw = text.encode("utf-8")
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_qrels(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ["test.tsv", "test.tsv.gz", "qrels.txt", "qrels"])
@pytest.mark.parametrize("header", [HEADER, "", "\ufeff" + HEADER, "Topic\tDoc\tGrade\r\n"])
def test_beirs_three_columns_are_read_with_and_without_a_header(tmp_path, name, header):
    path = write(tmp_path / name, header + "001\tNA\t2\r\n\n001\t1e5\t0\nNA\t001\t1\n")
    assert read_qrels(path) == {"001": {"NA": 2, "1e5": 0}, "NA": {"001": 1}}


def test_trecs_four_columns_are_read_with_negative_grades(tmp_path):
    path = write(tmp_path / "qrels.txt", "001 0 NA 2\n001 Q0 b -2\n7 0 c +1\n")
    assert read_qrels(str(path)) == {"001": {"NA": 2, "b": -2}, "7": {"c": 1}}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("q d", "2 columns after lines of 4"),
        ("q 0 d", "3 columns after lines of 4"),
        ("q 0 d 1 x", "5 columns after lines of 4"),
        ("q 0 d 0.5", "grade '0.5' is a fraction; grades are integers"),
        ("q 0 d 1e0", "grade '1e0' is a fraction"),
        ("q 0 d 1.01", "is a fraction"),
        ("q 0 d x", "grade 'x' is not an integer"),
        ("q 0 d 1_0", "grade '1_0' is not an integer"),
        ("q 0 d ١", "is not an integer"),
        ("q 0 d 99999999999", "beyond 10,000"),
        ("q 0 d -20000", "beyond 10,000"),
        ("a 0 b 2", "topic a judges b again with a different grade, 2 after 1 in line 1"),
    ],
)
def test_a_line_that_is_no_judgement_is_refused_with_file_and_line(tmp_path, line, fault):
    path = write(tmp_path / "qrels.txt", f"a 0 b 1\n\n{line}\n")
    message = refusal(path)
    assert message.startswith(f"{path}:3: ")
    assert fault in message


@pytest.mark.parametrize("line", ["q\td", "q", "query-id\tcorpus-id", "a b c d e"])
def test_two_columns_are_refused_at_once(tmp_path, line):
    path = write(tmp_path / "test.tsv", line + "\n")
    message = refusal(path)
    assert message.startswith(f"{path}:1: {len(line.split())} column")
    assert "expected three (topic, document, grade) or TREC's four" in message


def test_the_same_judgement_twice_is_no_contradiction(tmp_path):
    assert read_qrels(write(tmp_path / "q.tsv", "a\tb\t1\na\tb\t1\n")) == {"a": {"b": 1}}


def test_a_first_line_with_a_broken_grade_is_not_taken_for_a_header(tmp_path):
    assert "grade 'l' is not an integer" in refusal(write(tmp_path / "q.tsv", "a\tb\tl\nc\td\t1\n"))


@pytest.mark.parametrize("text", ["", "\n", HEADER])
def test_a_file_without_judgements_is_refused(tmp_path, text):
    assert "no judgements in it" in refusal(write(tmp_path / "q.tsv", text))


def test_what_is_no_text_file_is_refused(tmp_path):
    (tmp_path / "b.tsv").write_bytes(b"a\0b\t1\n")
    assert "NUL byte" in refusal(tmp_path / "b.tsv")
    assert "no such file" in refusal(tmp_path / "missing")
    assert "a folder; name a file of judgements, or a split of a BEIR data set" in refusal(tmp_path)
    assert "a zip; name a file of judgements, or a split of a" in refusal(tmp_path / "x.zip")


@pytest.mark.parametrize(("grade", "value"), [("1.0", 1), ("2.", 2), ("-1.000", -1), ("+3.0", 3)])
@pytest.mark.parametrize("form", ["q 0 d {}\n", "q\td\t{}\n", '{{"q": {{"d": "{}"}}}}'])
def test_a_grade_without_a_fraction_is_an_integer(tmp_path, grade, value, form):
    assert read_qrels(write(tmp_path / "qrels", form.format(grade))) == {"q": {"d": value}}


def test_comments_are_told_from_ids_that_begin_with_a_hash(tmp_path):
    text = (
        "# judgements of 2020\n# a 0 b 1\n#made by hand\n#7 0 d1 1\nq 0 #d 2\n# end\n#7 0 #e 1.0\n"
    )
    expected = {"#7": {"d1": 1, "#e": 1}, "q": {"#d": 2}}
    assert read_qrels(write(tmp_path / "qrels", text)) == expected
    tabs = text.replace(" 0 ", "\t0\t").replace("d1 1", "d1\t1").replace("#d 2", "#d\t2")
    tabs = tabs.replace("#e 1.0", "#e\t1.0")
    assert read_qrels(write(tmp_path / "qrels", tabs)) == expected


def test_tabs_keep_spaces_in_ids_with_and_without_a_header(tmp_path):
    lines = "0\tGlobal warming:14\t1\n0\tx  y\t0\n"
    expected = {"0": {"Global warming:14": 1, "x  y": 0}}
    for text in (lines, HEADER + lines, lines.replace("\n", "\r\n")):
        assert read_qrels(write(tmp_path / "test.tsv", text)) == expected
    four = "topic a\t0\tdoc b\t1\n"
    assert read_qrels(write(tmp_path / "four.tsv", four)) == {"topic a": {"doc b": 1}}
    # Tabs that only align columns.
    assert read_qrels(write(tmp_path / "q", "a\t\t0\td\t1\nb 0\te\t2\n")) == {
        "a": {"d": 1},
        "b": {"e": 2},
    }


RECORDS = [
    {"query-id": "a b", "corpus-id": "d 1", "score": 1},
    {"query-id": "c", "corpus-id": "7", "score": 0},
]
FOUND = {"a b": {"d 1": 1}, "c": {"7": 0}}


def test_judgements_come_as_json_csv_parquet_and_frames(tmp_path):
    frame = pd.DataFrame(RECORDS)
    frame.to_parquet(tmp_path / "q.parquet")
    frame.to_csv(tmp_path / "q.csv", index=False)
    frame.to_json(tmp_path / "q.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "list.json", orient="records")
    nested = {"a b": {"d 1": 1}, "c": {"7": 0.0}}
    (tmp_path / "q.json").write_text(json.dumps(nested))
    (tmp_path / "pretty.tsv").write_text(json.dumps(nested, indent=1))
    for name in ("q.parquet", "q.csv", "q.jsonl", "list.json", "q.json", "pretty.tsv"):
        assert read_qrels(tmp_path / name) == FOUND, name
    assert read_qrels(frame) == read_qrels(RECORDS) == FOUND


def test_topics_without_judgements_are_ignored_and_counted(tmp_path, capsys):
    judged = {"a": {}, "q": {"d": 1}, "b": {}}
    path = write(tmp_path / "q.json", json.dumps(judged))
    said = r"2 topics without judgements ignored \('a', …\)"
    with pytest.warns(InputWarning, match=rf"q\.json: {said}"):
        assert read_qrels(path) == {"q": {"d": 1}}
    with pytest.warns(InputWarning, match=said):
        assert Qrels.from_dict(judged) == {"q": {"d": 1}}
    (tmp_path / "r.trec").write_text("q Q0 d 1 1 t\na Q0 d 1 1 t\n")
    words = ("eval", "--qrels", path, tmp_path / "r.trec", "--measures", "nDCG@10", "--json")
    code, out, err = run(capsys, *words)
    assert code == 0
    assert "warning: " in err
    assert "2 topics without judgements ignored" in err
    assert json.loads(out)["runs"][0]["measures"] == {"nDCG@10": 1.0}
    with pytest.raises(InputError, match="no judgements in it"), pytest.warns(InputWarning):
        read_qrels(write(tmp_path / "e.json", '{"a": {}}'))


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("q.json", '{"q": {"d": 0.5}}', "member 1: grade '0.5' is a fraction"),
        ("q.json", '{"q": {"d": true}}', "grade 'True' is not an integer"),
        ("q.json", '{"q": {"d": 1}, "r": 3}', "a number; expected {topic: {document: grade}}"),
        ("q.json", '{"q": {"d": 1}', "broken JSON"),
        ("q.json", "{}", "no judgements in it"),
        ("q.jsonl", '{"qid": "a", "docid": "b"}', ":1: no grade (one of score, grade"),
        ("q.jsonl", '{"qid": 1.5, "docid": "b", "rel": 1}', ":1: qid is a fraction"),
        ("q.csv", "query_id,doc_id,rel\na,b,x\n", ":2: grade 'x' is not an integer"),
        ("q.tsv", "[a] 0 b x\n", ":1: grade 'x' is not an integer"),
    ],
)
def test_what_is_no_judgement_in_other_forms_is_refused(tmp_path, name, text, fault):
    path = write(tmp_path / name, text)
    message = refusal(path)
    assert message.startswith(str(path))
    assert fault in message


def test_what_stands_in_the_place_of_judgements_is_guessed(tmp_path):
    for line, said in (
        ("q1 Q0 d1 1 2.5 tag", "6 columns; expected three (topic, document, grade) or TREC's four"),
        ("q1 Q0 d1 1 2.5 tag", "this looks like a line of a run"),
        ("q1 0 garden/Slug control.md 2", "write a blank as %%20, or put tabs between"),
    ):
        path = tmp_path / "q.qrels"
        path.write_text(line + "\n")
        with pytest.raises(InputError) as caught:
            read_qrels(path)
        assert said in str(caught.value)
    path.write_text("q1\t0\tgarden/Slug control.md\t2\nq2\t0\ta b\t1\n")
    assert read_qrels(path) == {"q1": {"garden/Slug control.md": 2}, "q2": {"a b": 1}}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("corpus-id\tquery-id\tscore", ["d 1\tq1\t2", "q1\td 1\t0"]),
        ("Doc Topic Grade", ["d%%201 q1 2", "q1 d%%201 0"]),
        ("docno iteration qid rel", ["d%%201 0 q1 2", "q1 0 d%%201 0"]),
    ],
)
def test_names_in_the_first_line_say_which_column_is_which(tmp_path, header, rows, end):
    path = write(tmp_path / "q.tsv", end.join([header, *rows]) + end)
    assert read_qrels(path) == {"q1": {"d 1": 2}, "d 1": {"q1": 0}}


@pytest.mark.parametrize(
    "lines",
    [
        "docid\tqid\titer\trel\nd1\tq1\t0\t1\n",
        "qid docid iter rel\nq1 d1 0 1\n",
        "iter docid qid rel\n0 d1 q1 1\n",
    ],
)
def test_names_in_another_order_are_refused(tmp_path, lines):
    names = lines.split("\n")[0].split()
    fault = refusal(write(tmp_path / "q.txt", lines))
    assert f"q.txt:1: names its columns {', '.join(names)}; the topic belongs" in fault


@pytest.mark.parametrize("header", ["a b score", "id docno rel", "query-id 0 id score", "q d rel"])
def test_names_that_are_not_known_change_nothing(tmp_path, header):
    row = "q1 d1 1" if len(header.split()) == 3 else "q1 0 d1 1"
    assert read_qrels(write(tmp_path / "q.txt", f"{header}\n{row}\n")) == {"q1": {"d1": 1}}


def test_exchanged_topics_and_documents_are_recognised():
    qrels = {"d1": {"q1": 1, "q2": 0}, "d2": {"q2": 1, "q9": 1}}
    run = Run({"q1": Ranking(["d1"], [1.0]), "q2": Ranking(["d2"], [1.0])})
    may_be = "the qrels may have topics and documents exchanged, since 'q1' is a document there"
    with pytest.raises(InputError, match=f"none of the run's 2 topics is judged .*; {may_be}"):
        evaluate(qrels, run, ["nDCG@10"])
    with pytest.raises(InputError, match=may_be):
        tune(qrels, [run, run])
    with pytest.raises(InputError, match=may_be):
        keep_judged([Query("q1", "a"), Query("q2", "b")], qrels, "set", "dev")


@pytest.mark.parametrize(
    "qrels",
    [
        {str(topic): {str(doc): 1 for doc in range(50)} for topic in range(301, 310)},
        {"301": {"5": 1, "9": 0, "20": 1}},
    ],
)
def test_numbers_that_are_both_are_not_taken_for_exchanged(qrels):
    run = Run({str(topic): Ranking(["3", "900"], [1.0, 0.5]) for topic in range(1, 225)})
    with pytest.raises(InputError, match="they belong to different sets"):
        evaluate(qrels, run, ["nDCG@10"])


def test_documents_that_are_queries_too_are_not_taken_for_exchanged():
    qrels = {"1": {"2": 1}, "2": {"1": 1}, "101": {"1": 1}}
    with pytest.raises(InputError, match="no text, '101' first; they belong to different sets"):
        keep_judged([Query("1", "a"), Query("2", "b")], qrels, "set", "dev")
