"""Runs: six columns that trec_eval reads as we mean them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae_toolkit.collection.identifiers import to_trec
from dupmae_toolkit.collection.trec import (
    falling_scores,
    read_metadata,
    read_run,
    sidecar_path,
    write_run,
)
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.records import Ranking, Run
from tests.packing import PACKERS


def ranking(*pairs: tuple[str, float]) -> Ranking:
    return Ranking([name for name, _ in pairs], np.array([score for _, score in pairs]))


def as_lists(run: Run) -> dict[str, list[str]]:
    return {topic: run[topic].ids for topic in run}


def order_of_trec_eval(path: Path) -> dict[str, list[str]]:
    """The order that trec_eval sees, told by measures: reciprocal rank with one judged document."""
    scores: dict[str, dict[str, float]] = {}
    for line in path.read_text("utf-8").splitlines():
        topic, _, document, _, score, _ = line.split(" ")
        scores.setdefault(topic, {})[document] = float(score)
    places: dict[str, dict[str, float]] = {}
    for topic, found in scores.items():
        for document in found:
            measure = pytrec_eval.RelevanceEvaluator({topic: {document: 1}}, {"recip_rank"})
            rank = 1 / measure.evaluate({topic: found})[topic]["recip_rank"]
            places.setdefault(topic, {})[document] = rank
    return {topic: sorted(found, key=found.__getitem__) for topic, found in places.items()}


def refusal(path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        read_run(path)
    return str(caught.value)


def test_metadata_that_nest_without_end_are_none(tmp_path):
    path = tmp_path / "a.trec"
    write_run(Run({"q": ranking(("d", 1.0))}), path)
    sidecar_path(path).write_text('{"sha256": ' + "[" * 100_000)
    assert read_metadata(path) is None
    assert read_run(path)["q"].ids == ["d"]


def test_a_run_has_six_columns_and_ranks_from_one(tmp_path):
    path = tmp_path / "a.trec"
    write_run(Run({"001": ranking(("NA", 2.5), ("1e5", 0.1)), "7": ranking(("é漢", -1.0))}), path)
    assert path.read_text("utf-8") == (
        "001 Q0 NA 1 2.5 dupmae\n001 Q0 1e5 2 0.1 dupmae\n7 Q0 é漢 1 -1 dupmae\n"
    )


@pytest.mark.parametrize("name", ["a.trec", *(f"a.trec{ending}" for ending in PACKERS)])
def test_what_is_written_is_read_again_with_its_metadata(tmp_path, name):
    scores = np.array([3.25, 0.1, 1e-20, -7.5e10], np.float32)
    run = Run(
        {"b": Ranking(["d1", "d2", "d3", "d4"], scores), "none": ranking(), "a": ranking(("x", 1))},
        tag="mine",
        metadata={"mode": "hybrid", "fusion": {"name": "sum"}},
    )
    write_run(run, tmp_path / name)
    again = read_run(tmp_path / name)
    assert as_lists(again) == {"b": ["d1", "d2", "d3", "d4"], "a": ["x"], "none": []}
    np.testing.assert_array_equal(again["b"].scores.astype(np.float32), scores)
    assert again.tag == "mine"
    assert again.metadata == run.metadata
    if name != "a.trec":
        magic = PACKERS[(tmp_path / name).suffix](b"")[:3]
        assert (tmp_path / name).read_bytes().startswith(magic)
        first = (tmp_path / name).read_bytes()
        write_run(run, tmp_path / name)
        assert (tmp_path / name).read_bytes() == first, "no time stamp in the header"


def test_metadata_lies_beside_the_run_and_is_only_believed_about_this_very_file(tmp_path):
    path = tmp_path / "a.trec"
    write_run(Run({"q": ranking(("d", 1.0))}, metadata={"mode": "dense"}), path)
    assert sidecar_path(path) == tmp_path / "a.trec.json"
    metadata = json.loads(sidecar_path(path).read_text("utf-8"))
    assert (metadata["mode"], metadata["topics"], metadata["hits"]) == ("dense", 1, 1)
    assert read_metadata(path) == metadata
    sidecar_path(path).write_text(json.dumps(metadata | {"topics_without_hits": None}), "utf-8")
    assert list(read_run(path).topics) == ["q"]
    path.write_text(path.read_text("utf-8").replace(" 1 1 ", " 1 2 "), "utf-8")
    assert read_metadata(path) is None
    assert read_run(path).metadata == {}
    sidecar_path(path).write_text("not json", "utf-8")
    assert read_metadata(path) is None
    sidecar_path(path).unlink()
    assert read_metadata(path) is None


def test_trec_eval_keeps_our_order_of_equal_scores(tmp_path):
    path = tmp_path / "a.trec"
    ids = ["a", "B", "é", "c", "10", "9"]
    write_run(Run({"q": Ranking(ids, np.full(6, 0.5)), "z": Ranking(ids, np.zeros(6))}), path)
    assert order_of_trec_eval(path) == {"q": ids, "z": ids}
    assert as_lists(read_run(path)) == {"q": ids, "z": ids}


def test_scores_that_differ_only_beyond_float32_keep_their_order(tmp_path):
    path = tmp_path / "a.trec"
    scores = np.array([1 + 3e-12, 1 + 2e-12, 1 + 1e-12, 1, 1 - 1e-12])
    write_run(Run({"q": Ranking(["a", "b", "c", "d", "e"], scores)}), path)
    assert order_of_trec_eval(path) == {"q": ["a", "b", "c", "d", "e"]}


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=4),
        st.one_of(
            st.sampled_from([0.0, -0.0, 0.5, 1.0, 1e-45]),
            st.floats(-1e30, 1e30, allow_nan=False),
            st.floats(0.5, 0.5000001),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_any_ranking_reaches_trec_eval_in_our_order(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("runs") / "a.trec"
    ours = Ranking.sorted(list(scores), np.array(list(scores.values())))
    write_run(Run({"q": ours}), path)
    assert order_of_trec_eval(path) == {"q": list(map(to_trec, ours.ids))}
    assert read_run(path)["q"].ids == ours.ids
    assert read_run(path, ties="id")["q"].ids == ours.ids


def test_scores_that_fall_are_written_as_they_are():
    scores = np.array([5, 4, 3.5, 0.1, -2], np.float32)
    np.testing.assert_array_equal(falling_scores(scores), scores)
    assert falling_scores(np.empty(0)).shape == (0,)


def test_a_score_is_lowered_no_more_than_it_must_be():
    falling = falling_scores(np.array([1.0, 1.0, 1.0, 0.5, 0.5], np.float32))
    one, half, down = np.float32(1), np.float32(0.5), np.float32(-np.inf)
    below = np.nextafter(one, down)
    expected = [one, below, np.nextafter(below, down), half, np.nextafter(half, down)]
    np.testing.assert_array_equal(falling, expected)


@pytest.mark.parametrize(
    ("scores", "fault"),
    [
        ([1.0, 2.0], "rise"),
        ([1.0, np.nan], "rise or are not numbers"),
        ([np.inf, 1.0], "infinite"),
        ([1.0, -np.inf], "infinite"),
        ([1e300, 1.0], "beyond float32"),
    ],
)
def test_rankings_that_cannot_be_written_leave_nothing_behind(tmp_path, scores, fault):
    with pytest.raises(DupMAEError, match=fault):
        write_run(Run({"q": Ranking(["a", "b"], np.array(scores))}), tmp_path / "a.trec")
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_cannot_carry_is_refused(tmp_path):
    path = tmp_path / "a.trec"
    for run in (
        Run({"q": ranking(("a\nb", 1.0))}),
        Run({"q\tr": ranking(("a", 1.0))}),
        Run({"q": ranking(("", 1.0))}),
        Run({"q": ranking(("a", 1.0))}, tag="my tag"),
        Run({"q": ranking(("a", 1.0), ("a", 0.5))}),
        Run({"q": Ranking(["a"], np.array([1.0, 2.0]))}),
    ):
        with pytest.raises(DupMAEError):
            write_run(run, path)
    with pytest.raises(InputError, match="a folder; name a file"):
        write_run(Run(), tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be created"):
        write_run(Run(), tmp_path / "file" / "a.trec")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_ranks_are_ignored_and_ties_break_by_id_or_as_trec_eval_breaks_them(tmp_path):
    path = tmp_path / "a.trec"
    text = (
        "q Q0 b 0 1.0 t\nq Q0 c 7 2 t\r\n\nq Q0 a 9 1e0 t\nr Q0 x 1 -3 t\nq Q0 d 1 1.000000001 t\n"
    )
    path.write_text(text, "utf-8")
    assert as_lists(read_run(path, ties="id")) == {"q": ["c", "d", "a", "b"], "r": ["x"]}
    assert as_lists(read_run(path)) == {"q": ["c", "d", "b", "a"], "r": ["x"]}
    packed = tmp_path / "b.trec.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert as_lists(read_run(packed)) == {"q": ["c", "d", "b", "a"], "r": ["x"]}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("q Q0 b 2 0.5", "5 columns; a run has six"),
        ("q Q0 b 2 0.5 t x", "7 columns; a run has six"),
        ("q b 0.5", "3 columns; a run has six"),
        ("q Q0 b 2 high t", "score 'high' is not a finite number"),
        ("q Q0 b 2 nan t", "score 'nan' is not a finite number"),
        ("q Q0 b 2 inf t", "score 'inf' is not a finite number"),
        ("q Q0 b 2 1_0 t", "score '1_0' is not a finite number"),
        ("q Q0 a 2 0.5 t", "topic q ranks a a second time"),
        ("q Q0 b 2 0.5 t\0", "NUL byte"),
    ],
)
def test_a_line_that_is_no_hit_is_refused_with_file_and_line(tmp_path, line, fault):
    path = tmp_path / "a.trec"
    message = refusal(path, f"q Q0 a 1 1.0 t\n{line}\n")
    assert message.startswith(f"{path}:2: ")
    assert fault in message


def test_an_empty_or_missing_run_is_refused(tmp_path):
    assert "an empty run" in refusal(tmp_path / "a.trec", "\n")
    with pytest.raises(InputError, match="no such file"):
        read_run(tmp_path / "missing.trec")
