"""What commands print for programs: formats, standard output, results alone, short options."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from dupmae_cli.main import app
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.measures import parse_measures
from tests.cli_support import run
from tests.support import HashingEncoder

ENCODER = HashingEncoder(size=256, dim=16)
LONG = "an/id/that/is/far/longer/than/eighty/characters/" + "x" * 60
DOCUMENTS = [
    {"id": LONG, "title": "A, title", "text": 'blue "sea"\nand sky', "year": 2020},
    {"id": "b", "text": "blue zebra", "year": 2021},
    {"id": "ü", "text": "Größe"},
]
RUN = "1 Q0 b 1 2.5 t\n1 Q0 a 2 1.25 t\n2 Q0 c 1 9 t\n"
QRELS = "1 0 a 1\n2 0 c 2\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("output") / "index"
    HybridIndex.build(path, DOCUMENTS, ENCODER)
    return path


@pytest.fixture
def search(capsys, monkeypatch, index):
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", lambda *_, **__: ENCODER)
    return lambda *words: run(capsys, "search", "-i", index, *words)


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").write_text(RUN)
    (tmp_path / "qrels").write_text(QRELS)
    (tmp_path / "queries.tsv").write_text("1\tblue sea\nnone\tnothing at all\n02\tzebra\n")
    return tmp_path


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.java
class TestSearch:
    def test_every_form_of_a_question_has_the_same_hits(self, search):
        _, whole, _ = search("blue sea", "--format", "json")
        hits = json.loads(whole)["hits"]
        assert whole == search("blue sea", "--json")[1]
        lines = search("blue sea", "-f", "jsonl")[1].splitlines()
        assert [json.loads(line) for line in lines] == hits
        rows = rows_of(search("blue sea", "-f", "csv", "--fields", "year")[1])
        assert [(row["id"], float(row["score"]), row["text"]) for row in rows] == [
            (hit["id"], hit["score"], hit["text"]) for hit in hits
        ]
        assert [row["year"] for row in rows] == [
            str(hit["metadata"].get("year", "")) for hit in hits
        ]
        titled = search("blue sea", "-f", "csv", "--fields", "year,title,id")[1]
        assert rows_of(titled) == rows
        assert titled.split("\n")[0].count("title") == 1
        columns = [line.split() for line in search("blue sea", "-f", "trec")[1].splitlines()]
        assert [(row[0], row[2], int(row[3])) for row in columns] == [
            ("0", hit["id"], hit["rank"]) for hit in hits
        ]

    def test_a_file_gets_what_standard_output_gets(self, search, files):
        for form in ("json", "jsonl", "csv"):
            code, out, _ = search("blue", "-f", form, "-o", files / form)
            assert (code, out) == (0, "")
            assert (files / form).read_text("utf-8") == search("blue", "-f", form, "-o", "-")[1]

    def test_a_piped_table_has_whole_ids_and_numbers(self, search, monkeypatch):
        for columns in ("", "40", "80"):
            monkeypatch.setenv("COLUMNS", columns)
            lines = search("blue sea")[1].splitlines()
            assert "…" not in "".join(lines)
            assert [line for line in lines if LONG in line]

    def test_a_run_of_every_form_says_the_same(self, search, files):
        search("--queries", files / "queries.tsv", "-o", files / "run.trec")
        wanted = read_run(files / "run.trec")
        expected = [
            (topic, place, name)
            for topic, found in wanted.topics.items()
            for place, name in enumerate(found.ids, 1)
        ]
        for form in ("jsonl", "csv", "json"):
            out = search("--queries", files / "queries.tsv", "-o", "-", "-f", form)[1]
            if form == "json":
                found = [
                    {"topic": each["topic"], **hit}
                    for each in json.loads(out)["rankings"]
                    for hit in each["hits"]
                ]
                assert [each["topic"] for each in json.loads(out)["rankings"]] == [
                    "1",
                    "none",
                    "02",
                ]
            elif form == "csv":
                found = [row | {"rank": int(row["rank"])} for row in rows_of(out)]
            else:
                found = [json.loads(line) for line in out.splitlines()]
            assert [(each["topic"], each["rank"], each["id"]) for each in found] == expected
        out = search("--queries", files / "queries.tsv", "-o", "-")[1]
        assert out == (files / "run.trec").read_text("utf-8")
        assert not (files / "-").exists()
        assert not (files / "-.json").exists()

    @pytest.mark.parametrize(
        ("words", "fault"),
        [
            (("x", "--json", "-f", "csv"), "--json and --format csv do not go together"),
            (("x", "-o", "out"), "a question's hits with --format json"),
            (("x", "-f", "csv", "--tag", "t"), "choose --format trec too"),
            (("x", "-f", "jsonl", "--fields", "year"), "JSON has all metadata"),
            (("--queries", "queries.tsv"), "or - for standard output"),
            (("--queries", "queries.tsv", "-o", "out", "-f", "table"), "a run is no table"),
            (("--queries", "queries.tsv", "-o", "-", "--json"), "where the run goes"),
            (("x", "-f", "xml"), "'xml'"),
        ],
    )
    def test_options_that_contradict_each_other_are_refused(self, search, files, words, fault):
        before = sorted(files.iterdir())
        code, out, err = search(*words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert fault in err
        assert sorted(files.iterdir()) == before

    def test_quiet_leaves_results_and_errors(self, search, files):
        for word in ("-q", "--quiet"):
            code, out, err = search("blue sea", word)
            assert (code, err) == (0, "")
            assert LONG in out
        assert search("blue sea", "-q", "--mode", "wrong")[2].count("\n") == 1
        assert search("--queries", files / "queries.tsv", "-o", files / "r", "-q")[1:] == ("", "")
        assert "documents" in search("blue sea")[2]
        # After --, it is a question.
        assert json.loads(search("--json", "--", "-q")[1])["query"] == "-q"


class TestEval:
    def test_every_form_has_the_same_values(self, files, capsys):
        words = ("eval", "--qrels", "qrels", "run", "--measures", "RR", "--per-topic")
        whole = json.loads(run(capsys, *words, "--json")[1])["runs"][0]
        assert whole["measures"] == {"RR": 0.75}
        wanted = [("1", "RR", 0.5), ("2", "RR", 1.0), ("all", "RR", 0.75)]
        rows = rows_of(run(capsys, *words, "-f", "csv")[1])
        assert [(r["topic"], r["measure"], float(r["value"])) for r in rows] == wanted
        lines = [json.loads(line) for line in run(capsys, *words, "-f", "jsonl")[1].splitlines()]
        assert [(r["topic"], r["measure"], r["value"]) for r in lines] == wanted
        columns = [line.split("\t") for line in run(capsys, *words, "-f", "trec")[1].splitlines()]
        assert [(topic, name.strip(), float(v)) for name, topic, v in columns] == wanted

    def test_repeated_measures_add_up_and_libraries_print_elsewhere(self, files, capfd):
        words = ("eval", "--qrels", "qrels", "run", "--json", "--measures", "official")
        code, out, _ = run(capfd, *words, "--measures", "nDCG@10 R@100", "--measures", "nDCG@10")
        assert code == 0
        names = list(json.loads(out)["runs"][0]["measures"])
        assert names[-2:] == ["nDCG@10", "R@100"]
        assert "P@5" in names

    def test_a_piped_table_of_many_measures_is_whole(self, files, capsys):
        (files / LONG.replace("/", "-")).write_text(RUN)
        words = ("eval", "--qrels", "qrels", LONG.replace("/", "-"), "--measures", "official")
        head, *rows = run(capsys, *words)[1].rstrip("\n").split("\n")
        assert len(head.split()) == len(rows[0].split()) > 25
        assert len(rows) == 1

    def test_runs_come_from_standard_input(self, files, capsys, monkeypatch):
        plain = run(capsys, "eval", "--qrels", "qrels", "run", "-f", "csv")[1]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(RUN.encode())))
        piped = run(capsys, "eval", "--qrels", "qrels", "-", "-f", "csv")[1]
        assert piped.replace("\n-,", "\nrun,") == plain

    def test_trecs_columns_take_one_run(self, files, capsys):
        code, out, err = run(capsys, "eval", "--qrels", "qrels", "run", "run", "-f", "trec")
        assert (code, out) == (2, "")
        assert "no column for the run" in err


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ndcg@10", "nDCG@10"),
        ("NDGC@10", "nDCG@10"),
        ("ndcg_10", "nDCG@10"),
        ("recall@100", "R@100"),
        ("mrr@10", "RR@10"),
        ("hits@3", "Success@3"),
        ("prec@5", "P@5"),
        ("judgd@10", "Judged@10"),
    ],
)
def test_an_unknown_measure_gets_a_suggestion_that_can_be_typed(name, meant):
    with pytest.raises(InputError, match=rf"measure '{name}' is not known; did you mean {meant}\?"):
        parse_measures([name])
    parse_measures([meant])


@pytest.mark.parametrize("name", ["foo", "@10", "漢@1", "P(rel=2)@", "x" * 500])
def test_where_nothing_is_near_the_way_of_writing_is_shown(name):
    with pytest.raises(InputError, match="write them as ir_measures does"):
        parse_measures([name])


class TestFuse:
    def test_forms_and_standard_output(self, files, capsys):
        assert run(capsys, "fuse", "run", "run", "-o", "out")[0] == 0
        code, out, err = run(capsys, "fuse", "run", "run", "-o", "-")
        assert (code, out) == (0, (files / "out").read_text())
        assert err.startswith("standard output: 2 topics, 3 hits")
        rows = rows_of(run(capsys, "fuse", "run", "run", "-o", "-", "--format", "csv")[1])
        assert [(row["topic"], row["id"]) for row in rows] == [("1", "b"), ("1", "a"), ("2", "c")]
        assert not (files / "-").exists()

    def test_commands_that_write_folders_do_not_write_one_named_dash(self, files, capsys):
        (files / "texts.jsonl").write_text('{"id": "1", "text": "x"}\n')
        for command in (("encode", "texts.jsonl"), ("mine", "texts.jsonl"), ("beir", "set.zip")):
            code, out, err = run(capsys, *command, "--output", "-")
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert "standard output is not taken here" in err
        assert not (files / "-").exists()


def test_what_c_code_and_other_processes_print_goes_to_stderr(tmp_path):
    program = (
        "import os, sys, subprocess\n"
        "from dupmae_cli import console\n"
        "with console.results_alone():\n"
        "    os.write(1, b'from C\\n'); print('from Python')\n"
        "    subprocess.run([sys.executable, '-c', 'print(\"from a child\")'])\n"
        "    console.print_json({'a': 'ü'})\n"
        "print('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode() == '{\n  "a": "ü"\n}\nafter\n'
    said = done.stderr.decode()
    assert all(f"from {who}\n" in said for who in ("C", "Python", "a child"))


def test_a_reader_that_went_away_ends_a_command_without_a_word(files):
    (files / "long").write_text("".join(f"{n} Q0 d 1 1 t\n" for n in range(20_000)))
    command = [sys.executable, "-m", "dupmae_toolkit", "fuse", "long", "long", "-o", "-", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read()
        assert (process.wait(), said) == (1, b"")


def options() -> list[tuple[str, str, list[str]]]:
    """Command, short option and the long ones with which it is declared."""
    group = get_command(app)
    commands = {"": group, **group.commands}  # type: ignore[attr-defined]
    return [
        (name, word, [long for long in param.opts if long.startswith("--")])
        for name, command in commands.items()
        for param in command.params
        for word in param.opts
        if not word.startswith("--") and word.startswith("-")
    ]


def test_a_short_option_means_the_same_in_every_command():
    meanings: dict[str, set[str]] = {}
    for _, short, long in options():
        meanings.setdefault(short, set()).update(long)
    assert {short: len(long) for short, long in meanings.items()} == dict.fromkeys(meanings, 1)
    assert {"-i", "-k", "-o", "-m", "-f", "-n", "-q"} <= meanings.keys()


def test_an_option_that_has_a_short_form_has_it_in_every_command():
    short_of = {name: short for _, short, long in options() for name in long}
    group = get_command(app)
    for command in group.commands.values():  # type: ignore[attr-defined]
        for param in command.params:
            for name in param.opts:
                assert name not in short_of or short_of[name] in param.opts, (command.name, name)
