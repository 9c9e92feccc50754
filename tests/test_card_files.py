"""Whether a card belongs to the files beside it, and what of it must not be run or fetched."""

from __future__ import annotations

import io
import json
import math
import shutil
import sys
from pathlib import Path

import pytest

from dupmae_cli import reproduce as command
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.card_reading import find_card, read_card, without_card
from dupmae_toolkit.evaluation.reproducing import Outcome
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.model import loading
from tests.cli_support import run
from tests.support import HashingEncoder
from tests.test_beir import make_zip, toy

FUSE = ("fuse", "a.trec", "b.trec", "--output")


@pytest.fixture
def fused(tmp_path, monkeypatch, capsys):
    """A run that was fused from two, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        rows = [f"q{n} Q0 {name}{d} {d} {9 - d} t" for n in range(3) for d in range(1, 4)]
        Path(f"{name}.trec").write_text("\n".join(rows) + "\n")
    assert run(capsys, *FUSE, "f.trec")[0] == 0
    return Path("f.trec")


def card(path: str, **values: object) -> Path:
    """A card that is good but for the values given."""
    told = {"card": 1, "inputs": [], "outputs": [{"path": "x.trec", "sha256": "0" * 64}]}
    Path(path).write_text(json.dumps(told | {"figures": {}} | values))
    return Path(path)


@pytest.fixture
def never(monkeypatch):
    """No command may be repeated."""

    def started(*_, **__):
        raise AssertionError("a command was repeated")

    monkeypatch.setattr(command, "_repeat", started)


# The file that is there.


def test_a_run_that_is_not_its_cards_is_told(fused, capsys):
    fused.write_text(fused.read_text().replace("a1", "z9"))
    here = sha256_file(fused)
    code, out, _ = run(capsys, "reproduce", "f.trec", "--json")
    told = json.loads(out)
    assert (code, told["same"]) == (1, False)
    first, second = told["outcomes"]
    assert (first["name"], first["now"], first["same"]) == ("f.trec", here, False)
    assert first["detail"] == "the file here is not the card's"
    assert second["same"]  # the command still gives what the card says
    assert run(capsys, "reproduce", "f.trec")[2].endswith("1 of 2 differ from the card\n")


def test_a_run_that_is_gone_is_made_again(fused, capsys):
    fused.unlink()
    assert run(capsys, "reproduce", "f.trec.card.json")[0] == 0


@pytest.mark.parametrize("form", ["csv", "jsonl", "trec"])
def test_an_earlier_runs_card_goes_with_it_and_stays_with_it(fused, capsys, form, monkeypatch):
    from dupmae_toolkit.collection import trec

    def broken(*_):
        raise InputError("the disk is full")

    monkeypatch.setattr(trec, "write_run", broken)
    code, _, _ = run(capsys, *FUSE, "f.trec", "--format", form)
    assert code == (2 if form == "trec" else 0)
    assert Path("f.trec.card.json").exists() == (form == "trec")  # whose run is still there


def test_a_file_that_only_has_the_name_of_a_card_is_left_alone(fused, capsys):
    Path("f.csv.card.json").write_text('{"mine": 1}')
    assert run(capsys, *FUSE, "f.csv", "--format", "csv")[0] == 0
    assert Path("f.csv.card.json").read_text() == '{"mine": 1}'


def test_a_folders_card_stays_if_nothing_was_written(tmp_path):
    digest = {"path": "x.trec", "sha256": sha256_file(_written(tmp_path / "x.trec", "one"))}
    path = card(str(tmp_path / "card.json"), command=["dupmae", "beir"], outputs=[digest])
    before = path.read_bytes()

    def refused(text: str) -> None:
        with without_card(tmp_path):
            assert not path.exists()
            (tmp_path / "x.trec").write_text(text)
            raise InputError("refused")

    def fails(text: str) -> None:
        with pytest.raises(InputError, match="refused"):
            refused(text)

    fails("one")
    assert path.read_bytes() == before
    fails("two")
    assert not path.exists()


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# Which card a run has.


def test_a_folders_card_is_not_that_of_every_run_in_it(fused, capsys):
    runs = [{"path": "x.trec", "sha256": "0"}, {"path": "forum/y.trec", "sha256": "0"}]
    card("card.json", command=["dupmae", "beir"], outputs=runs)
    Path("forum").mkdir()
    for name in ("x.trec", "forum/y.trec", "mine.trec", "forum/mine.trec"):
        Path(name).write_text("")
    assert find_card(Path("x.trec")) == Path("card.json")
    assert find_card(Path("forum/y.trec").absolute()) == Path("card.json").absolute()
    assert find_card(Path("forum/y.trec")).samefile("card.json")
    assert find_card(Path("f.trec")) == Path("f.trec.card.json")
    for name in ("mine.trec", "forum/mine.trec"):
        code, out, err = run(capsys, "reproduce", name)
        assert (code, out) == (2, "")
        assert err == f"dupmae: {name}: no card beside it, as in mine.trec.card.json\n"


def test_a_run_may_end_like_a_card(fused, capsys):
    shutil.copy("f.trec", "bare.json")
    code, _, err = run(capsys, "reproduce", "bare.json")
    assert (code, err) == (2, "dupmae: bare.json: no card beside it, as in bare.json.card.json\n")
    assert run(capsys, *FUSE, "g.json")[0] == 0
    assert run(capsys, "reproduce", "g.json")[0] == 0
    shutil.copy("f.trec.card.json", "renamed.json")  # a card under another name is one still
    assert run(capsys, "reproduce", "renamed.json")[0] == 0


@pytest.mark.java
def test_a_groups_card_is_found_from_its_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "load_encoder", lambda *_, **__: HashingEncoder())
    make_zip(tmp_path / "both.zip", toy("one") | toy("two", seed=1))
    words = ("beir", "both.zip", "-o", "runs", "--measures", "RR@10", "-k", 5)
    assert run(capsys, *words)[0] == 0
    asked: list[list[str]] = []
    monkeypatch.setattr(command, "_repeat", asked.append)
    run(capsys, "reproduce", "runs/two/two.hybrid.trec", "-o", "again")
    assert [words[0] for words in asked] == ["beir"]
    before = Path("runs/card.json").read_bytes()
    monkeypatch.setattr(loading, "load_encoder", lambda *_, **__: HashingEncoder(dim=8))
    assert run(capsys, *words)[0] == 2  # made with another encoder
    assert Path("runs/card.json").read_bytes() == before


# What is not run.


@pytest.mark.parametrize(
    "words",
    [
        *(["beir", "--list"], ["beir", "toy", "--output", "x", "--list"], ["fuse", "-hh"]),
        *(["search", "-k5h"], ["search", "-h"], ["fuse", "a.trec", "b.trec", "-o", "x", "--help"]),
    ],
)
def test_what_ends_while_it_is_read_is_refused(tmp_path, monkeypatch, capsys, never, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "reproduce", card("c.card.json", command=["dupmae", *words]))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "its command is not repeated: " in err


@pytest.mark.java
def test_a_question_from_standard_input_gets_no_card(tmp_path, monkeypatch, capsys, never):
    monkeypatch.chdir(tmp_path)
    HybridIndex.build("ix", {"a": "sea", "b": "sand"}, HashingEncoder()).close()
    words = ("search", "-i", "ix", "--mode", "bm25", "-o", "q.trec", "--format", "trec")
    assert run(capsys, *words, "sea")[0] == 0
    assert Path("q.trec.card.json").exists()
    monkeypatch.setattr(sys, "stdin", io.StringIO("sand\n"))
    code, _, err = run(capsys, *words, "-")
    assert code == 0
    assert "q.trec: gets no card, since a question from standard input is in no file" in err
    assert Path("q.trec").read_text().startswith("0 Q0 b 1 ")
    assert not Path("q.trec.card.json").exists()
    old = card("old.card.json", command=["dupmae", *words, "-"])
    code, _, err = run(capsys, "reproduce", old)
    assert (code, "its question came from standard input, and is gone" in err) == (2, True)


def test_a_data_set_is_fetched_only_if_that_is_allowed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked: list[list[str]] = []
    monkeypatch.setattr(command, "_repeat", asked.append)
    inputs = [{"option": "DATASET", "path": "beir/nfcorpus", "sha256": None}]
    path = card("c.json", command=["dupmae", "beir", "beir/nfcorpus", "-o", "x"], inputs=inputs)
    code, out, err = run(capsys, "reproduce", path)
    assert (code, out, err.count("\n"), asked) == (2, "", 1, [])
    assert "DATASET beir/nfcorpus is no file here" in err
    assert "--download" in err
    _, _, err = run(capsys, "reproduce", path, "--download", "--output", "again")
    assert "not checked, no such file on this machine: DATASET beir/nfcorpus" in err
    assert len(asked) == 1


# Figures and paths.


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"figures": {"a": {"b": 10**400}}}, "a damaged card"),
        ({"figures": {"a": {"b": "nan"}}}, "a damaged card"),
        ({"figures": {"a": {"b": True}}}, "a damaged card"),
        ({"outputs": [{"path": "x" * 5000, "sha256": "0"}]}, "a damaged card"),
        ({"outputs": [{"path": "x/" * 2500 + "y", "sha256": "0"}]}, "a damaged card"),
        ({"command": ["dupmae", "beir", "x" * 5000, "-o", "y"]}, "is not among its inputs"),
        ({"command": ["dupmae", "beir", "z", "-o", "y", "-m", "x" * 5000]}, "is not among"),
        ({"command": ["dupmae", "beir", "z", "-o", "y", "-k", "1" + "0" * 400]}, "is not among"),
    ],
)
def test_huge_values_are_refused_in_a_line(tmp_path, monkeypatch, capsys, never, values, fault):
    monkeypatch.chdir(tmp_path)
    path = card("c.card.json", **({"command": ["dupmae", "fuse"]} | values))
    code, out, err = run(capsys, "reproduce", path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert fault in err


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        *((math.nan, math.nan, True), (math.nan, 0.5, False), (0.5, math.nan, False)),
        *((0.5, 0.5, True), (math.nan, None, False), ("nan", math.nan, False)),
    ],
)
def test_figures_without_a_value_are_the_same(before, now, same):
    assert Outcome("RR@10", before, now).same is same


def test_a_figure_without_a_value_can_be_read_back(tmp_path):
    path = card(
        str(tmp_path / "c.json"), command=["dupmae", "fuse"], figures={"a": {"b": math.nan}}
    )
    assert math.isnan(read_card(path).figures["a"]["b"])
