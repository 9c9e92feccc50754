"""Runs by blocks: read and written as line by line, or the block is left alone."""

from __future__ import annotations

import gzip
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae_toolkit.collection import run_blocks, trec
from dupmae_toolkit.collection.run_blocks import chunks, read_columns
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.collection.trec import read_run, write_run
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.records import Ranking, Run, falling_order

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
LIST = st.lists(FLOATS, min_size=0, max_size=12)


def run_of(scores: dict[str, list[float]], prefix: str = "d") -> Run:
    rankings = {}
    for topic, values in scores.items():
        array = np.sort(np.array(values, np.float32))[::-1]
        rankings[topic] = Ranking([f"{prefix}{i * 7 % 13}" for i in range(len(array))], array)
    return Run(rankings, tag="t")


def listed(run: Run) -> dict[str, tuple[list[str], list[float]]]:
    return {topic: (own.ids, own.scores.tolist()) for topic, own in run.topics.items()}


def line_by_line(monkeypatch):
    monkeypatch.setattr(run_blocks, "read_columns", lambda source: None)
    monkeypatch.setattr(run_blocks, "block_of", lambda *_: None)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.dictionaries(st.sampled_from(["1", "q2", "003", "é"]), LIST, min_size=1),
    lines=st.integers(1, 9),
    prefix=st.sampled_from(["d", "é", "a/b:"]),
)
def test_a_run_is_written_and_read_as_line_by_line(tmp_path_factory, scores, lines, prefix):
    folder = tmp_path_factory.mktemp("blocks")
    run = run_of(scores, prefix)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_blocks, "WRITE_LINES", lines)
        patch.setattr(run_blocks, "READ_BYTES", 10 * lines)
        try:
            write_run(run, folder / "blocks")
        except trec.DupMAEError as error:  # scores so small that none lies below
            with pytest.raises(trec.DupMAEError, match="beyond float32"):
                raise error
            return
        quick = read_run(folder / "blocks") if any(scores.values()) else None
    with pytest.MonkeyPatch.context() as patch:
        line_by_line(patch)
        write_run(run, folder / "lines")
        slow = read_run(folder / "lines") if any(scores.values()) else None
    assert (folder / "blocks").read_bytes() == (folder / "lines").read_bytes()
    if quick is not None and slow is not None:
        assert listed(quick) == listed(slow)
        assert (quick.tag, list(quick.topics)) == (slow.tag, list(slow.topics))


ODD = [
    "q Q0 a 1 2.5 t\nq Q0 b 2 1.5 t",  # the last line without its end
    "q\tQ0\ta\t1\t2.5\tt\n",
    "q  Q0 a 1 2.5 t\n",
    " q Q0 a 1 2.5 t\n",
    "q Q0 a 1 2.5 t \n",
    "q Q0 a 1 2.5 t\n\nq Q0 b 1 1.5 t\n",
    "q Q0 a 1 2.5 t\r\nq Q0 b 1 1.5 t\r\n",
    "\ufeffq Q0 a 1 2.5 t\n",
    "q Q0 é 1 2.5 t\n",
    'q Q0 "a 1 2.5 t\nq Q0 b" 2 1 t\n',
    "q Q0 a 1 2.5 t\np Q0 a 1 9 t\nq Q0 b 1 3 s\n",  # a topic in two stretches
    "q Q0 a 1 1e400 t\n",
    "q Q0 a 1 inf t\n",
    "q Q0 a 1 0x10 t\n",
    "q Q0 a 1 +1.5 t\n",
    "q Q0 a 1 .5 t\nq Q0 b 1 5. t\n",
    "q Q0 a 1 1e-320 t\nq Q0 b 1 2.2250738585072011e-308 t\n",
    "q Q0 a 1 0.1000000000000000055511151231257827 t\n",
    "q Q0 NULL 1 1 t\nq Q0 NA 2 1 t\nq Q0 null 3 1 t\n",
    "1 Q0 1 1 1 1\n1 Q0 01 1 1 1\n",
    "q Q0 a 1 2 t\nq Q0 a 1 3 t\n",
    "q Q0 a 1 t\n",
    "q Q0 a 1 2 t u\nq Q0 a 1\n",
    "q Q0 a 1 True t\n",
    "\n",
    " \n",
]


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("size", [1, 2**20])
@pytest.mark.parametrize("ties", ["id", "trec_eval"])
def test_odd_files_are_read_or_refused_as_line_by_line(tmp_path, text, size, ties, monkeypatch):
    path = tmp_path / "odd.trec"
    path.write_bytes(text.encode())
    monkeypatch.setattr(run_blocks, "READ_BYTES", size)

    def outcome():
        try:
            run = read_run(path, ties)
        except InputError as error:
            return str(error)
        return run.tag, listed(run)

    quick = outcome()
    line_by_line(monkeypatch)
    assert quick == outcome()


def test_ordinary_files_are_read_in_blocks(tmp_path):
    path = tmp_path / "a.trec"
    path.write_text("q Q0 a 1 2.5 t\nq Q0 b 2 1.5 t\np Q0 a 1 7 t\n")
    found, tag = read_columns(TextSource(path))
    assert {topic: (ids, scores.tolist()) for topic, (ids, scores) in found.items()} == {
        "q": (["a", "b"], [2.5, 1.5]),
        "p": (["a"], [7.0]),
    }
    assert tag == "t"
    packed = tmp_path / "a.trec.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_columns(TextSource(packed))[0].keys() == found.keys()


def test_a_packed_run_that_is_cut_off_is_refused(tmp_path):
    data = gzip.compress(b"".join(b"q Q0 d%d 1 %d t\n" % (i, 9000 - i) for i in range(9000)))
    (tmp_path / "a.trec.gz").write_bytes(data[:-20])
    with pytest.raises(InputError, match="damaged or cut off"):
        read_run(tmp_path / "a.trec.gz")


@pytest.mark.parametrize("sizes", [[], [0], [3], [3, 3, 3], [0, 9, 0, 1, 2, 30, 1]])
def test_chunks_hold_all_topics_in_order(sizes, monkeypatch):
    monkeypatch.setattr(run_blocks, "WRITE_LINES", 6)
    slices = list(chunks(sizes))
    assert [i for own in slices for i in range(len(sizes))[own]] == list(range(len(sizes)))
    assert all(sum(sizes[own]) <= 6 or own.stop - own.start == 1 for own in slices)


def blocks_of(monkeypatch, **rankings):
    """A run of which each topic is a block."""
    monkeypatch.setattr(run_blocks, "WRITE_LINES", 1)
    return Run({name: Ranking(*of) for name, of in rankings.items()}, tag="t")


GOOD = (["a", "b"], np.array([2.0, 1.0], np.float32))
RISING = (["a", "b"], np.array([1.0, 2.0], np.float32))
BROKEN = (["a", "b\nc"], np.array([2.0, 1.0], np.float32))


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
@pytest.mark.parametrize(
    ("rankings", "fault"),
    [
        ({"q0": GOOD, "q1": GOOD, "q2": BROKEN}, r"'b\\nc'"),
        ({"q0": GOOD, "q1": RISING, "q2": GOOD}, "topic q1"),
        ({"q0": BROKEN, "q1": RISING}, r"'b\\nc'"),
    ],
)
def test_of_many_blocks_the_first_fault_is_told_and_nothing_stays(
    tmp_path, monkeypatch, name, rankings, fault
):
    before = threading.active_count()
    with pytest.raises(DupMAEError, match=fault):
        write_run(blocks_of(monkeypatch, **rankings), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


def test_a_block_that_cannot_be_written_ends_the_writing(monkeypatch):
    written = []

    class Full:
        def write(self, block):
            if written:
                raise OSError(28, "No space left on device")
            written.append(bytes(block))

    run = blocks_of(monkeypatch, q0=GOOD, q1=GOOD, q2=GOOD)
    with pytest.raises(OSError, match="No space left"):
        trec._write_topics(Full(), run, "t")
    assert written == [b"q0 Q0 a 1 2 t\nq0 Q0 b 2 1 t\n"]


def test_without_another_thread_the_blocks_are_written_all_the_same(tmp_path, monkeypatch):
    run = blocks_of(monkeypatch, q0=GOOD, q1=GOOD, q2=GOOD)
    write_run(run, tmp_path / "usual.trec")

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    write_run(run, tmp_path / "alone.trec")
    usual, alone = ((tmp_path / f"{name}.trec").read_bytes() for name in ("usual", "alone"))
    assert usual == alone
    assert alone.count(b"\n") == 6


@given(st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(-3, 3)), max_size=30))
def test_the_falling_order_is_that_of_a_sort_by_score_and_id(pairs):
    ids = [f"{name}{i}" for i, (name, _) in enumerate(pairs)]
    scores = np.array([score for _, score in pairs], np.float64)
    expected = sorted(range(len(ids)), key=lambda i: (-scores[i], ids[i]))
    assert falling_order(ids, scores).tolist() == expected
    expected = sorted(range(len(ids)), key=lambda i: (scores[i], ids[i]), reverse=True)
    assert falling_order(ids, scores, ids_ascend=False).tolist() == expected
