"""What a command says when Ctrl-C has ended it is so at that moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from dupmae_cli import console


@pytest.fixture(autouse=True)
def _nothing_to_tell_afterwards():
    yield
    console.if_interrupted()


def test_a_file_that_was_written_before_the_report_is_not_called_unwritten(tmp_path: Path) -> None:
    for stood in (False, True):
        path = tmp_path / f"{stood}.jsonl"
        if stood:
            path.write_text("old")
        console.if_interrupted(console.whether_written(path))
        assert console.interrupted() == f"interrupted; {path} was not written"
        fresh = tmp_path / "fresh"
        fresh.write_text("new")
        fresh.replace(path)
        assert console.interrupted() == f"interrupted; {path} was written"


def test_a_note_cannot_manipulate_the_terminal(capsys) -> None:
    console.say("a\x1b[31mred\x1b]0;title\x07\u202e and\r\nmore é 日本 🙂")
    said = capsys.readouterr().err
    assert said == ("a\\x1b[31mred\\x1b]0;title\\x07\\u202e and\\r\\nmore é 日本 🙂\n")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_cannot_be_told_or_is_interrupted_once_more_ends_in_one_word(error) -> None:
    def tell() -> str:
        raise error

    console.if_interrupted(tell)
    assert console.interrupted() == "interrupted"


@pytest.mark.parametrize(
    ("piece", "whole"),
    [
        ("encoded/part-00000.parquet", True),
        ("segment-000001.json", True),
        ("index/segments/000001/ids", True),
        ("scores-000000.npy", True),
        ("nfcorpus.hybrid.trec", True),
        ("encoded/manifest.json", False),
        ("build.json", False),
        ("index/segments/.tmp-1/ids", False),
        ("encoded/.tmp-1.parquet", False),
        ("", False),
    ],
)
def test_work_is_called_kept_where_any_of_it_is(tmp_path: Path, piece: str, whole: bool) -> None:
    folder = tmp_path / "work"
    assert console.kept(folder) == "run the same command again: it starts over, unless all was done"
    (folder / piece).parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    if piece:
        (folder / piece).write_text("x")
    kept = f"finished work is kept in {folder}; run the same command to continue"
    nothing = "there is no finished work to keep; run the same command to start over"
    assert console.kept(folder) == (kept if whole else nothing)
