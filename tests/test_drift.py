"""The drift of documents' mean length from the one that BM25 was fixed with."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import Document, HybridIndex
from dupmae_toolkit.index.health.verify import verify_index
from tests.cli_support import run
from tests.index_support import contents
from tests.scoring_support import ENCODER, encoded, expected, pairs

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]


def of_lengths(prefix: str, *lengths: int) -> list[Document]:
    """Documents of so many words, which are no stop words."""
    return [
        Document(f"{prefix}{n}", "", " ".join(f"w{word}" for word in range(length)))
        for n, length in enumerate(lengths)
    ]


def drift_told(said: str) -> list[tuple[str, str]]:
    return re.findall(r"documents are (\d+%) (longer|shorter) on average than when BM25's", said)


def test_drift_is_told_past_a_tenth_and_renewed_by_compacting(tmp_path: Path, capsys) -> None:
    index = tmp_path / "index"
    first = of_lengths("a", *[10] * 10)
    source = encoded(tmp_path / "a", first)
    err = run(capsys, "index", source, "--index", index)[2]
    assert "mean length 10.0 words" in err
    said = run(capsys, "info", "--index", index)[1]
    assert "mean length 10.0 words, now 10.0 (+0.0%)" in said
    assert "renews" not in said

    # (100 + 20) / 11 = 10.9
    added = of_lengths("b", 20)
    err = run(capsys, "add", encoded(tmp_path / "b", added), "--index", index)[2]
    assert drift_told(err) == []
    said = run(capsys, "info", "--index", index)[1]
    assert "mean length 10.0 words, now 10.9 (+9.1%)" in said
    assert "; `dupmae compact` renews the mean length\n" in said

    # (120 + 24) / 12 = 12
    more = of_lengths("c", 24)
    command = ("add", encoded(tmp_path / "c", more), "--index", index)
    err = run(capsys, *command)[2]
    assert drift_told(err) == [("20%", "longer")]
    assert err.endswith("was fixed; `dupmae compact` renews it\n")
    values = json.loads(run(capsys, "info", "--index", index, "--json")[1])
    assert (values["mean_length"], values["drift"]) == (12.0, pytest.approx(0.2))
    assert values["scoring"]["bm25"]["mean_length"] == 10.0
    # Scores are by the mean length of the build until then.
    everything = [*first, *added, *more]
    opened = HybridIndex.open(index, ENCODER)
    assert pairs(opened, "bm25") == expected(everything, opened.manifest, "bm25")
    before = pairs(opened, "bm25")

    # Deleting counts as well: (144 - 20 - 24) / 10 = 10.
    err = run(capsys, "delete", "b0", "c0", "--index", index)[2]
    assert drift_told(err) == []
    code, out, _ = run(capsys, *command, "--json")
    assert json.loads(out)["drift"] == pytest.approx(124 / 110 - 1)
    assert run(capsys, "add", tmp_path / "b", "--index", index)[0] == 0

    code, out, err = run(capsys, "compact", "--index", index)
    assert (code, out, drift_told(err)) == (0, "", [])
    assert "mean length 12.0 words, now 12.0 (+0.0%)" in run(capsys, "info", "--index", index)[1]
    assert opened.refresh()
    assert pairs(opened, "bm25") == expected(everything, opened.manifest, "bm25") != before
    assert verify_index(index) == []
    fresh = HybridIndex.build(tmp_path / "fresh", everything, ENCODER)
    assert fresh.manifest.scoring == opened.manifest.scoring
    for mode in ("bm25", "hybrid"):
        assert pairs(fresh, mode) == pairs(opened, mode)
    opened.close()
    fresh.close()


def test_compacting_one_segment_without_deletions_renews_a_given_mean_length(
    tmp_path: Path,
) -> None:
    documents = of_lengths("a", 4, 8, 12)
    index, fresh = tmp_path / "index", tmp_path / "fresh"
    with contextlib.closing(
        HybridIndex.build(index, documents, ENCODER, mean_length=100.0)
    ) as opened:
        assert opened.manifest.drift == pytest.approx(8 / 100 - 1)
        assert pairs(opened, "bm25") == expected(documents, opened.manifest, "bm25")
        assert opened.compact().merged == 3
        assert opened.manifest.bm25.mean_length == 8.0
        assert opened.compact().merged == 0
    HybridIndex.build(fresh, documents, ENCODER).close()
    assert list(contents(index).values()) == list(contents(fresh).values())


def test_deleted_documents_do_not_count_in_the_mean_length(tmp_path: Path) -> None:
    documents = of_lengths("a", 4, 8, 12, 40)
    with HybridIndex.build(tmp_path / "index", documents, ENCODER) as opened:
        assert opened.delete(["a3"]).drift == pytest.approx(8 / 16 - 1)
        assert opened.manifest.mean_length == 8.0
        left = documents[:3]
        assert pairs(opened, "bm25") == expected(left, opened.manifest, "bm25")
        assert opened.add(of_lengths("b", 16)).drift == pytest.approx(10 / 16 - 1)
        assert opened.compact().merged == 4
        assert opened.manifest.bm25.mean_length == 10.0


def test_shorter_documents_are_told_too_and_no_words_at_all_are_no_drift(
    tmp_path: Path, capsys
) -> None:
    index = tmp_path / "index"
    source = encoded(tmp_path / "a", of_lengths("a", 10, 10))
    assert run(capsys, "index", source, "--index", index)[0] == 0
    more = encoded(tmp_path / "b", of_lengths("b", 1, 1))
    assert drift_told(run(capsys, "add", more, "--index", index)[2]) == [("45%", "shorter")]
    # Stop words alone: the mean length of no words is 1, and nothing divides by 0.
    with HybridIndex.build(tmp_path / "stop", [Document("s", "", "the of and")], ENCODER) as stop:
        assert (stop.manifest.bm25.mean_length, stop.manifest.drift) == (1.0, 0)
        assert stop.search("the", mode="bm25") == []
        assert len(stop.search("the of", k=5)) == 1
        assert verify_index(tmp_path / "stop") == []
        stop.add(of_lengths("n", 3))
        assert np.isfinite(stop.search("w1", mode="bm25")[0].score)
        stop.delete(["s", "n0"])
        assert (len(stop), stop.manifest.drift) == (0, 0)
        assert stop.search("w1", mode="bm25") == stop.search("w1") == []
        assert stop.compact().merged == 0
