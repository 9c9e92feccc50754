"""Study files: what they may say, and one line with file, line and key for everything else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dupmae_toolkit.collection.passages import Passages
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.sweep import grid, study_file
from dupmae_toolkit.evaluation.sweep.grid import grid_of
from dupmae_toolkit.evaluation.sweep.study import (
    StudyCollection,
    StudyEncoder,
    StudyIndex,
    StudyScore,
)
from dupmae_toolkit.evaluation.sweep.study_file import load_study
from tests.cli_support import run
from tests.support import HashingEncoder
from tests.test_beir import make_zip, toy

GOOD = """\
encoders: {one: builtin}
scores:
  hybrid: hybrid
collections:
  left: {path: "{data}/left.zip"}
"""


def study(tmp_path: Path, text: str, data: str = "d"):
    path = tmp_path / "study.yaml"
    path.write_text(text, "utf-8")
    return load_study(path, data)


def refusal(tmp_path: Path, text: str, data: str = "d") -> str:
    with pytest.raises(InputError) as caught:
        grid_of(study(tmp_path, text, data))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1200
    assert message.startswith(str(tmp_path / "study.yaml"))
    return message.removeprefix(str(tmp_path / "study.yaml"))


# What a study may say.


def test_all_keys_of_a_study(tmp_path):
    read = study(
        tmp_path,
        """
encoders:
  a: builtin
  b: {model: "{data}/mine", max_length: 128, dense: cls}
indexes:
  flat: Flat
  other: {faiss: "IVF4,Flat", bm25: false, passages: 100}
  plain:
scores:
  one: dense
  two: "@80,1,1.5^0.5"
  three: "@plain"
  four: {fusion: linear, norm: z-score, weights: [1, 2e0, 3], encoders: [a], indexes: [flat]}
  five: {fusion: rrf, rrf_k: 10}
  six: {mode: lexical, idf_power: 0, plain: true}
  seven: "^0.5"
collections:
  x: "{data}/x.zip"
  y: {path: y, split: dev, skip_invalid: true}
  z: {kind: demonstration}
baseline: a.flat.one
lucene_bm25: true
measures: nDCG@10 R@5
k: 50
""",
        data="here",
    )
    assert read.encoders == (
        StudyEncoder("a", "builtin"),
        StudyEncoder("b", "here/mine", 128, "cls"),
    )
    assert read.indexes == (
        StudyIndex("flat"),
        StudyIndex("other", "IVF4,Flat", False, 100),
        StudyIndex("plain"),
    )
    assert read.indexes[1].cut == Passages(100, 25)
    assert read.scores == (
        StudyScore("one", "dense"),
        StudyScore("two", weights=(80.0, 1.0, 1.5), idf_power=0.5),
        StudyScore("three", plain=True),
        StudyScore(
            "four",
            fusion="linear",
            norm="z-score",
            weights=(1.0, 2.0, 3.0),
            encoders=("a",),
            indexes=("flat",),
        ),
        StudyScore("five", fusion="rrf", rrf_k=10.0),
        StudyScore("six", "lexical", True, idf_power=0.0),
        StudyScore("seven", idf_power=0.5),
    )
    assert read.collections == (
        StudyCollection("x", "here/x.zip"),
        StudyCollection("y", "y", "dev", skip_invalid=True),
        StudyCollection("z", kind="demonstration"),
    )
    assert [each.judged_split for each in read.collections] == ["test", "dev", "development"]
    assert [each.tests for each in read.collections] == [True, False, False]
    assert (read.baseline, read.lucene_bm25, read.k) == ("a.flat.one", True, 50)
    assert read.measures == ("nDCG@10", "R@5")


def test_what_is_left_out_has_defaults(tmp_path):
    read = study(tmp_path, GOOD)
    assert read.indexes == (StudyIndex("flat"),)
    assert (read.k, read.measures[0], read.lucene_bm25) == (1000, "nDCG@10", False)
    assert grid_of(read).baseline == "one.flat.hybrid"
    assert grid_of(study(tmp_path, GOOD + "lucene_bm25: true\n")).baseline == "lucene-bm25"


# What it may not.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("encoder: {}\n" + GOOD, ":1: encoder: unknown key 'encoder'; did you mean 'encoders'?"),
        (GOOD + "kk: 3\n", ":6: kk: unknown key 'kk'"),
        (GOOD + "k: 0\n", ":6: k: k is 0; at least 1"),
        (GOOD + "k: ten\n", ":6: k: k is 'ten'; a value of type int is needed"),
        (GOOD + "k: true\n", ":6: k: k is True"),
        (GOOD + "measures: nDCH@10\n", ":6: measures: measure 'nDCH@10' is not known"),
        (GOOD + "measures: [1]\n", ":6: measures: [1] is no list of measures"),
        (GOOD + "measures: []\n", ":6: measures: no measure named"),
        (GOOD + "measures: NumRet\n", ":6: measures: measure 'NumRet' is a count"),
        (GOOD + "baseline: [a]\n", ":6: baseline: baseline is ['a']"),
        (
            GOOD + "baseline: one.hybrid\n",
            ": baseline 'one.hybrid' is no run; choose one.flat.hybrid",
        ),
        (GOOD + "indexes: {}\n", ":6: indexes: give a mapping of names to entries"),
        (GOOD + "indexes: Flat\n", ":6: indexes: give a mapping"),
        (GOOD + "indexes: {a: 5}\n", ":6: indexes.a: 5 is neither a text nor a mapping"),
        (GOOD + "indexes: {a: {fais: x}}\n", ":6: indexes.a.fais: unknown key 'fais'; did you"),
        (GOOD + "indexes: {a: {bm25: 1}}\n", ":6: indexes.a.bm25: bm25 is 1; a value of type bool"),
        (GOOD + "indexes: {a: {overlap: 5}}\n", ":6: indexes.a: an overlap goes with passages"),
        (GOOD + "indexes: {a: {passages: 5, overlap: 5}}\n", ":6: indexes.a: an overlap of 5"),
        (GOOD + "indexes: {a: {passages: -5}}\n", ":6: indexes.a: passages is -5"),
        (GOOD + "indexes: {a: {aggregate: max}}\n", ":6: indexes.a: aggregate goes with passages"),
        (GOOD + "indexes: {a/b: Flat}\n", ":6: indexes.a/b: the name 'a/b': use up to 40 letters"),
        (GOOD + "indexes: {..: Flat}\n", ":6: indexes...: the name '..'"),
        (GOOD + "indexes: {nul: Flat}\n", ":6: indexes.nul: the name 'nul'"),
        (GOOD + "indexes: {1: Flat}\n", ":6: indexes.1: the name 1: use up to 40"),
        (GOOD + f"indexes: {{{'a' * 41}: Flat}}\n", "the name 'aaa"),
        (GOOD + "indexes: {a: Flat, A: Flat}\n", ":6: indexes.A: two names differ in their case"),
        (GOOD + "indexes: {a: Flat, a: Flat}\n", ":6: not YAML (the key 'a' appears twice)"),
        (GOOD.replace("hybrid: hybrid", "a: hybrd"), ":3: scores.a: 'hybrd': write a mode"),
        (GOOD.replace("hybrid: hybrid", "a: '@1,x'"), ":3: scores.a: '@1,x': write a mode"),
        (GOOD.replace("hybrid: hybrid", "a: '@1,1'"), ":3: scores.a: candidate score@1,1: "),
        (GOOD.replace("hybrid: hybrid", "a: {mode: x}"), ":3: scores.a: mode is 'x'"),
        (GOOD.replace("hybrid: hybrid", "a: {fusion: x}"), ":3: scores.a: there is no fusion 'x'"),
        (GOOD.replace("hybrid: hybrid", "a: {fusion: borda}"), "a search of an index has no"),
        (GOOD.replace("hybrid: hybrid", "a: {weights: 3}"), ":3: scores.a.weights: weights is 3"),
        (GOOD.replace("hybrid: hybrid", "a: {weights: [x]}"), ":3: scores.a.weights: weights is"),
        (GOOD.replace("hybrid: hybrid", "a: {weights: [1, -1]}"), "each must be a finite number"),
        (GOOD.replace("hybrid: hybrid", "a: {weights: [1, 2, 3, 4]}"), "4 weights for the 3"),
        (GOOD.replace("hybrid: hybrid", "a: {rrf_k: 5}"), ":3: scores.a: rrf_k is for fusion rrf"),
        (GOOD.replace("hybrid: hybrid", "a: {mode: dense, fusion: rrf}"), "fusion is for mode h"),
        (GOOD.replace("hybrid: hybrid", "a: {mode: dense, plain: true}"), "plain is for modes"),
        (GOOD.replace("hybrid: hybrid", "a: {mode: bm25, idf_power: 1}"), "idf_power is for modes"),
        (GOOD.replace("hybrid: hybrid", "a: {plain: true, idf_power: 1}"), "leave out plain or"),
        (GOOD.replace("hybrid: hybrid", "a: {idf_power: -1}"), "idf power -1"),
        (GOOD.replace("hybrid: hybrid", "a: {idf_power: .nan}"), "idf power nan"),
        (GOOD.replace("hybrid: hybrid", "a: {fusion: rrf, exact: true}"), "cannot be certified"),
        (GOOD.replace("hybrid: hybrid", "lucene-bm25: dense"), "is the name of Lucene's own BM25"),
        (
            GOOD.replace("hybrid: hybrid", "a: {indexes: [flt]}"),
            ":3: scores.a.indexes: unknown name in indexes 'flt'; did you mean 'flat'?",
        ),
        (
            GOOD.replace("hybrid: hybrid", "a: bm25") + "indexes: {a: {bm25: false}}\n",
            "score a: no",
        ),
        (GOOD.replace("one: builtin", "one: {}"), ":1: encoders.one: the key 'model' is missing"),
        (GOOD.replace("one: builtin", "one: ''"), ":1: encoders.one: model is empty"),
        (GOOD.replace("one: builtin", "one: {model: x, max_length: -1}"), "max_length is -1"),
        (GOOD.replace("one: builtin", "one: {model: x, dense: y}"), "dense is 'y'; choose one of"),
        (GOOD.replace("left:", "mean:"), ":5: collections.mean: mean is the name of the column"),
        (GOOD.replace('path: "{data}/left.zip"', "kind: x"), ":5: collections.left: kind is 'x'"),
        (
            GOOD.replace('path: "{data}/left.zip"', "split: x"),
            ":5: collections.left: the key 'path'",
        ),
        (GOOD.replace("path:", "kind: demonstration, path:"), "has nothing but its kind"),
        (GOOD.replace("scores:", "sores:"), ":2: sores: unknown key"),
        ("encoders: {a: b}\n", ": the key 'scores' is missing"),
        ("[]", ": a study is a mapping of keys to values"),
        ("", ": a study is a mapping"),
        ("a: !!python/object/apply:os.system [ls]\n", ":1: not YAML"),
        ("? [a]\n: b\n", ": "),
        ("a: &a {<<: *a}\n", ": "),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_key(tmp_path, text, message):
    assert message in refusal(tmp_path, text)


def test_data_that_is_not_given_is_asked_for_where_it_is_used(tmp_path):
    message = refusal(tmp_path, GOOD, data="")
    assert message == ":5: collections.left.path: uses {data}; give the folder with --data (data=…)"


@pytest.mark.parametrize("key", ["choose", "best", "select", "tune", "rule"])
@pytest.mark.parametrize("place", ["{}: nDCG@10\n", "indexes: {{a: {{{}: x}}}}\n"])
def test_a_study_that_would_choose_is_sent_to_choose(tmp_path, key, place):
    message = refusal(tmp_path, GOOD + place.format(key))
    assert message.startswith(":6: ")
    assert "a study measures and never chooses; `dupmae choose` does" in message


def test_a_missing_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(InputError, match=r"no\.yaml: cannot be read .*; name a study"):
        load_study(tmp_path / "no.yaml")
    (tmp_path / "study.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_study(tmp_path / "study.yaml")


def test_a_grid_of_millions_is_refused_before_it_is_made(tmp_path, monkeypatch):
    entries = ", ".join(f"n{n}: dense" for n in range(120))
    text = f"encoders: {{{entries}}}\nindexes: {{{entries}}}\nscores: {{{entries}}}\n"
    text += "collections: {left: x}\n"
    monkeypatch.setattr(grid, "Cell", None)
    assert "its grid has 1,728,000 runs; a study has at most 10,000" in refusal(tmp_path, text)


def test_aliases_do_not_hide_lines_or_grow(tmp_path):
    text = GOOD + "indexes:\n  a: &a {faiss: Flat}\n  b: *a\n  c: {faiss: Flat, wrong: 1}\n"
    assert ":9: indexes.c.wrong: " in refusal(tmp_path, text)
    levels = "".join(
        f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" if n else "l0: &l0 [x]\n"
        for n in range(12)
    )
    assert "more than 100,000 values" in refusal(tmp_path, GOOD + levels)


def test_a_key_with_dots_has_its_own_line(tmp_path):
    """Keys are found as they are, not by their names joined by dots."""
    assert ":6: a.b: unknown key" in refusal(tmp_path, GOOD + "a.b: 1\n")


# The command.


@pytest.fixture
def here(tmp_path, monkeypatch):
    make_zip(tmp_path / "left.zip", toy("left"))
    (tmp_path / "study.yaml").write_text(GOOD + "measures: [nDCG@10]\nk: 20\n")
    monkeypatch.chdir(tmp_path)
    given = {}

    def load(model, **settings):
        given.setdefault(model, settings)  # a report may load it again
        return HashingEncoder(name=model)

    monkeypatch.setattr("dupmae_toolkit.model.loading.load_encoder", load)
    return given


@pytest.mark.java
def test_the_command_prints_its_table_and_what_it_wrote(here, capsys):
    code, out, err = run(capsys, "sweep", "study.yaml", "--data", ".", "-o", "out")
    assert code == 0, err
    mean = json.loads(Path("out/study.json").read_text())["means"][0]["mean"]
    assert f"one.flat.hybrid  {mean:.4f}" in out
    assert "left is a test. The best of 1 run there is no test result" in out
    assert err == "wrote out/report.html: 1 run\n"
    code, _, err = run(capsys, "sweep", "study.yaml", "--data", ".", "-o", "out")
    assert (code, err) == (0, "wrote out/report.html: 1 run, 1 of them reused\n")


@pytest.mark.java
def test_json_is_the_record_alone(here, capsys):
    words = ("study.yaml", "--data", ".", "-o", "out", "--query-length", 9, "--device", "cpu")
    code, out, _ = run(capsys, "sweep", *words, "--json")
    assert code == 0
    assert json.loads(out) == json.loads(Path("out/study.json").read_text())
    assert here["builtin"]["query_max_length"] == 9
    assert here["builtin"]["device"] == "cpu"
    assert here["builtin"]["max_length"] is None


@pytest.mark.java
def test_a_failed_run_ends_the_command_with_1(here, capsys):
    Path("study.yaml").write_text(
        GOOD.replace("hybrid: hybrid", "a: {weights: [1, 1]}\n  b: dense")
    )
    words = ("sweep", "study.yaml", "--data", ".", "-o", "out")
    code, out, err = run(capsys, *words)
    assert code == 1
    assert "one.flat.b" in out
    assert "failed: left, one.flat.a: 2 weights for the 3 parts" in err
    last = "dupmae: 1 of 2 runs failed; the same command tries them again\n"
    assert err.endswith(last)
    code, out, err = run(capsys, *words, "--fail-fast")
    assert (code, out) == (1, "")
    assert err.startswith("dupmae: left, one.flat.a: 2 weights")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("left.zip", "none.zip"), "collection left: "),
        ("k: 1\n", "study.yaml: the key"),
    ],
)
def test_a_refused_study_writes_nothing(here, capsys, text, message):
    Path("study.yaml").write_text(text)
    code, out, err = run(capsys, "sweep", "study.yaml", "--data", ".", "-o", "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not Path("out").exists()


@pytest.mark.java
def test_a_card_of_one_run_names_the_studys_folder(here, capsys):
    run(capsys, "sweep", "study.yaml", "--data", ".", "-o", "out")
    code, _, err = run(capsys, "reproduce", "out/runs/left/one.flat.hybrid.trec")
    assert code == 2
    assert "it made a whole study; reproduce the study's folder" in err


@pytest.mark.java
def test_a_card_whose_collection_has_changed_is_refused(here, capsys):
    run(capsys, "sweep", "study.yaml", "--data", ".", "-o", "out")
    make_zip(Path("left.zip"), toy("left", seed=3))
    code, _, err = run(capsys, "reproduce", "out")
    assert code == 2
    assert "left.zip: has changed since the card was written (collection left)" in err


@pytest.mark.java
def test_reproducing_a_study_runs_all_of_it_elsewhere(here, capsys, monkeypatch):
    """The command is run in this process, where its encoder is known."""
    run(capsys, "sweep", "study.yaml", "--data", ".", "-o", "out")
    commands = []

    def repeat(words):
        commands.append(words)
        assert run(capsys, *words)[0] == 0

    monkeypatch.setattr("dupmae_cli.reproduce._repeat", repeat)
    code, _, err = run(capsys, "reproduce", "out", "--output", "again")
    assert code == 0, err
    assert "runs/left/one.flat.hybrid.trec" in json.dumps(
        json.loads(Path("again/card.json").read_text())["outputs"]
    )
    ((command, *words),) = commands
    assert command == "sweep"
    assert f"--output={Path('again').absolute()}" in words
    assert Path("again/study.json").exists()
    shutil.rmtree("again")
    # A figure that the repetition does not give is told.
    card = json.loads(Path("out/card.json").read_text())
    card["figures"]["left one.flat.hybrid"]["nDCG@10"] += 0.1
    Path("out/card.json").write_text(json.dumps(card))
    assert run(capsys, "reproduce", "out", "--output", "again")[0] == 1


def test_the_example_of_the_module_is_a_study(tmp_path):
    example = study_file.__doc__.partition("\n\n")[2]
    read = study(tmp_path, example)
    assert grid_of(read).baseline == "builtin.flat.dense"
