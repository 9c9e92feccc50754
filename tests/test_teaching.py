"""Teachers' scores into examples: what is written, left out, gone on with."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.mining import teaching
from dupmae_toolkit.mining.examples import Example, Passage, read_examples, short, write_examples
from dupmae_toolkit.mining.teaching import TeachingOptions, teach


class Hashing:
    """Scores by a hash of query and text; stops where it is told to, knows not what it is told."""

    def __init__(self, name="hashing", stop=None, unknown=()):
        self.name, self.stop, self.unknown, self.scored = name, stop, unknown, 0

    def describe(self):
        return {"kind": "hashing", "name": self.name}

    @staticmethod
    def of(query, text):
        digest = hashlib.sha256(f"{query} {text}".encode()).digest()
        return float(np.float32(int.from_bytes(digest[:4]) / 2**28 - 8))

    def score(self, examples):
        scores = []
        for example in examples:
            if self.scored == self.stop:
                raise KeyboardInterrupt
            self.scored += 1
            for p in example.passages:
                known = p.id not in self.unknown
                scores.append(self.of(example.query, p.contents) if known else np.nan)
        return np.array(scores)


@pytest.fixture
def mined(tmp_path, monkeypatch):
    monkeypatch.setattr(teaching, "BLOCK", 4)
    examples = [
        Example(
            f"é{n}",
            f"query {n}",
            [Passage(f"p{n}", "T", "right", 3.0), Passage(f"P{n}", "", "also")][: 1 + n % 2],
            [Passage(f"n{n}-{m}", "", f"wrong {m}", 1.0, m + 1) for m in range(n % 4)],
            {"kept": n},
        )
        for n in range(15)
    ]
    path = tmp_path / "mined.jsonl"
    write_examples(path, examples, lambda: {"kind": "mined examples"})
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_text_gets_its_score_and_all_else_stays(mined, tmp_path):
    about = teach(mined, tmp_path / "taught.jsonl", Hashing())
    before = [example for _, example in read_examples(mined)]
    after = [example for _, example in read_examples(tmp_path / "taught.jsonl")]
    for old, new in zip(before, after, strict=True):
        for passage in old.passages:
            passage.score = short(Hashing.of(old.query, passage.contents))
        assert new == old
    assert about == json.loads((tmp_path / "taught.jsonl.json").read_text())
    assert about["teacher"]["name"] == "hashing"
    assert about["mined"]["kind"] == "mined examples"
    margins = [max(p.score for p in e.positives) - n.score for e in after for n in e.negatives]
    assert about["report"]["negatives"] == len(margins)
    assert about["report"]["negatives_above_positive"] == sum(m < 0 for m in margins)
    assert about["report"]["margins"]["median"] == pytest.approx(np.median(margins), rel=1e-5)
    assert names(tmp_path) == [
        "mined.jsonl", "mined.jsonl.json", "taught.jsonl", "taught.jsonl.json"
    ]  # fmt: skip


@pytest.mark.parametrize("stop", [0, 3, 4, 9, 14])
def test_interrupted_work_goes_on_and_ends_with_the_same_bytes(mined, tmp_path, stop):
    teach(mined, tmp_path / "whole.jsonl.gz", Hashing())
    output = tmp_path / "taught.jsonl.gz"
    with pytest.raises(KeyboardInterrupt):
        teach(mined, output, Hashing(stop=stop))
    assert not output.exists()
    (tmp_path / "taught.jsonl.gz.part" / ".tmp-half").write_bytes(b"half")
    again = Hashing()
    teach(mined, output, again)
    assert again.scored == 15 - stop // 4 * 4
    assert output.read_bytes() == (tmp_path / "whole.jsonl.gz").read_bytes()
    assert not (tmp_path / "taught.jsonl.gz.part").exists()


def test_a_damaged_block_is_scored_again(mined, tmp_path):
    output = tmp_path / "taught.jsonl"
    with pytest.raises(KeyboardInterrupt):
        teach(mined, output, Hashing(stop=8))
    (tmp_path / "taught.jsonl.part" / "scores-000000.npy").write_bytes(b"\x93NUMPY")
    again = Hashing()
    teach(mined, output, again)
    assert again.scored == 11


def test_the_work_of_another_teacher_is_refused_unless_told(mined, tmp_path):
    output = tmp_path / "taught.jsonl"
    with pytest.raises(KeyboardInterrupt):
        teach(mined, output, Hashing(stop=8))
    refused = r"taught\.jsonl\.part: unfinished scores of another .*--restart"
    with pytest.raises(InputError, match=refused):
        teach(mined, output, Hashing("other"))
    other = Hashing("other")
    assert teach(mined, output, other, restart=True)["teacher"]["name"] == "other"
    assert other.scored == 15
    (tmp_path / "x.jsonl.part").mkdir()
    (tmp_path / "x.jsonl.part" / "mine.txt").write_text("mine")
    for restart in (False, True):
        with pytest.raises(InputError, match="holds something else"):
            teach(mined, tmp_path / "x.jsonl", Hashing(), restart=restart)
    assert names(tmp_path / "x.jsonl.part") == ["mine.txt"]


def test_a_file_can_be_taught_in_its_place(mined, tmp_path):
    teach(mined, tmp_path / "other.jsonl", Hashing())
    teach(mined, mined, Hashing())
    assert mined.read_bytes() == (tmp_path / "other.jsonl").read_bytes()


def test_what_the_teacher_does_not_know_is_left_out(mined, tmp_path):
    unknown = {"p2", "p3", "n5-0", "n6-0", "n6-1"}
    about = teach(mined, tmp_path / "o.jsonl", Hashing(unknown=unknown))
    found = {example.query_id: example for _, example in read_examples(tmp_path / "o.jsonl")}
    # é2 had one positive; é5 one negative; é6 two, of two; é3 keeps its second positive.
    assert set(found) == {f"é{n}" for n in range(15)} - {"é2", "é5", "é6"}
    assert [p.id for p in found["é3"].positives] == ["P3"]
    assert found["é4"].negatives == []
    assert about["report"]["left_out"] == 3
    assert about["report"]["texts_unknown_to_teacher"] == 5
    options = TeachingOptions(keep_bare=True)
    teach(mined, tmp_path / "o.jsonl", Hashing(unknown=unknown), options)
    kept = {example.query_id for _, example in read_examples(tmp_path / "o.jsonl")}
    assert kept == {f"é{n}" for n in range(15)} - {"é2"}


@pytest.mark.parametrize(("margin", "ratio"), [(0.0, None), (2.0, None), (None, 0.2), (1.0, 0.2)])
def test_negatives_near_the_positive_are_left_out(mined, tmp_path, margin, ratio):
    teach(mined, tmp_path / "all.jsonl", Hashing())
    options = TeachingOptions(margin, ratio, keep_bare=True)
    about = teach(mined, tmp_path / "o.jsonl", Hashing(), options)
    dropped = 0
    for (_, full), (_, got) in zip(
        read_examples(tmp_path / "all.jsonl"), read_examples(tmp_path / "o.jsonl"), strict=True
    ):
        best = max(p.score for p in full.positives)
        expected = [
            n
            for n in full.negatives
            if (margin is None or n.score <= best - margin)
            and (ratio is None or n.score <= best - ratio * abs(best))
        ]
        assert got.negatives == expected
        dropped += len(full.negatives) - len(expected)
    assert about["report"]["negatives_too_near"] == dropped > 0


def test_nothing_left_keeps_the_old_output(mined, tmp_path):
    output = tmp_path / "o.jsonl"
    output.write_text("old")
    everything = {p.id for _, e in read_examples(mined) for p in e.passages}
    with pytest.raises(InputError, match="nothing is left of 15"):
        teach(mined, output, Hashing(unknown=everything))
    assert output.read_text() == "old"


def test_a_broken_line_is_found_before_anything_is_scored(mined, tmp_path):
    mined.write_text(mined.read_text() + '{"query_id": "x"}\n')
    teacher = Hashing()
    with pytest.raises(InputError, match=r"mined\.jsonl:16: no text"):
        teach(mined, tmp_path / "o.jsonl", teacher)
    assert teacher.scored == 0
    assert names(tmp_path) == ["mined.jsonl", "mined.jsonl.json"]


@pytest.mark.parametrize("wrong", [np.inf, "short"])
def test_a_teacher_without_a_score_for_each_text_is_an_error(mined, tmp_path, wrong):
    class Bad(Hashing):
        def score(self, examples):
            scores = super().score(examples)
            return scores[:-1] if wrong == "short" else np.full(len(scores), wrong)

    with pytest.raises(DupMAEError, match="must give a finite score, or NaN, for each of"):
        teach(mined, tmp_path / "o.jsonl", Bad())
    assert not (tmp_path / "o.jsonl").exists()
