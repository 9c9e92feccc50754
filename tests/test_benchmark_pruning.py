"""The benchmark of pruning on a small collection: its settings, figures and table."""

from __future__ import annotations

import json

import pytest

from benchmarks import pruning
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.collection.opening import read_qrels
from dupmae_toolkit.evaluation.measures import evaluate
from tests.index_support import documents_of
from tests.support import HashingEncoder

pytestmark = pytest.mark.java


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    documents = documents_of(40)
    rows = [{"_id": d.id, "title": d.title, "text": d.text} for d in documents]
    queries = [
        {"_id": str(n), "text": " ".join(d.text.split()[:5])} for n, d in enumerate(documents[:6])
    ]
    for name, values in (("corpus", rows), ("queries", queries)):
        lines = "".join(json.dumps(value) + "\n" for value in values)
        (folder / f"{name}.jsonl").write_text(lines)
    judged = "".join(f"{n}\t{d.id}\t1\n" for n, d in enumerate(documents[:5]))
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return folder


def test_every_setting_is_measured_and_a_second_run_uses_the_indexes(beir, tmp_path):
    found = pruning.measure(str(beir), "test", tmp_path / "out", HashingEncoder())
    assert len(found) == 1 + 2 * len(pruning.SHARES) + len(pruning.QUERY_TERMS)
    by_name = {each.name: each for each in found}
    assert len(by_name) == len(found)
    tokens = [by_name[f"{share:.0%} of tokens"].size for share in pruning.SHARES]
    everything = [by_name[f"{share:.0%} of all"].size for share in pruning.SHARES]
    assert tokens == sorted(tokens, reverse=True)
    assert all(a < b < by_name["all"].size for a, b in zip(everything, tokens, strict=True))
    assert by_name["queries of 2"].size == by_name["all"].size
    for each in found:
        assert each.milliseconds > 0
    most = [by_name[f"queries of {n}"].postings for n in pruning.QUERY_TERMS]
    assert by_name["all"].postings >= most[0] > most[-1] > 0
    assert by_name["10% of all"].postings == by_name["10% of tokens"].postings < most[0]
    for share in pruning.SHARES:  # words stay where only tokens are pruned
        assert by_name[f"{share:.0%} of tokens"].mean["bm25"] == by_name["all"].mean["bm25"]
    qrels = read_qrels(str(beir), "test")
    with HybridIndex.open(tmp_path / "out" / "10-of-all", HashingEncoder()) as index:
        topics = {n: " ".join(d.text.split()[:5]) for n, d in enumerate(documents_of(40)[:5])}
        run = index.search_batch({str(n): text for n, text in topics.items()}, 100)
    own = evaluate(qrels, run, ["nDCG@10"]).means["nDCG@10"]
    assert by_name["10% of all"].mean["hybrid"] == pytest.approx(own)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("manifest.json")}
    again = pruning.measure(str(beir), "test", tmp_path / "out", HashingEncoder())
    assert [(each.name, each.mean, each.size) for each in again] == [
        (each.name, each.mean, each.size) for each in found
    ]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    lines = pruning.table(found).splitlines()
    assert len(lines) == len(found) + 2
    assert lines[2].startswith("| all | ")
    assert lines[2].endswith(" MiB (100%) |")


def test_the_figure_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    names = ["all", "50% of tokens", "50% of all", "queries of 4"]
    settings = [
        pruning.Setting(name, dict.fromkeys(pruning.MODES, 0.5), 10, 1.0, 1000) for name in names
    ]
    pruning.plot(settings, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text().lstrip().startswith("<?xml")
