"""The benchmarks: choosing and printing rows, and each subject's own arithmetic, without peers."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from benchmarks import __main__ as command
from benchmarks import (
    by_passage,
    encoding,
    engines,
    fusing,
    growth,
    memory,
    one_query,
    synthetic,
    updates,
)
from benchmarks import rows as turns_of
from benchmarks.collection import Collection, quality, sample, share_of_best
from benchmarks.processes import run_python
from benchmarks.rows import (
    NoPeerError,
    Row,
    Sizes,
    against,
    each_in_turn,
    in_turns,
    peer_import,
    percentiles,
    table,
)
from dupmae_toolkit.collection.opening import read_qrels
from dupmae_toolkit.records import Ranking, Run


def test_a_row_without_a_peer_has_no_ratio_and_is_shown():
    rows = [Row("a", "p", 2.0, 5.0, "same"), Row("b", "q", None, None, "peer not installed")]
    rows += [Row("c", "r", 0.00123, 4567.8, "same", "ms")]
    assert [row.ratio for row in rows] == [2.5, None, pytest.approx(4567.8 / 0.00123)]
    lines = table(rows).splitlines()
    assert lines[2] == "| a | p | 2.00 s | 5.00 s | 2.50× | same |"
    assert lines[3] == "| b | q | – | – | – | peer not installed |"
    assert lines[4].startswith("| c | r | 0.00123 ms | 4,568 ms |")
    assert len({line.count("|") for line in lines}) == 1


def test_rows_go_through_json_unchanged():
    row = Row("work", "peer", 1.0, None, "é", "MiB", {"p50_ms": 1.5})
    assert Row.from_dict(json.loads(json.dumps(row.to_dict()))) == row


def test_a_peer_that_is_missing_broken_or_fails_gives_a_row_that_says_so(tmp_path, monkeypatch):
    (tmp_path / "broken_peer.py").write_text("raise RuntimeError('no licence\\nat all')")
    (tmp_path / "needs_other.py").write_text("import nowhere_to_be_found")
    monkeypatch.syspath_prepend(tmp_path)

    def importing(name: str):
        def measure() -> Row:
            with peer_import(name):
                __import__(name.replace("-", "_"))
            return Row("w", "p", 1, 1, "same")

        return against("w", name, measure)[0]

    missing = importing("nowhere-to-be-found")
    assert missing.same == "peer not installed: pip install nowhere-to-be-found"
    assert missing.ours is None
    assert importing("broken-peer").same == "peer cannot be imported: no licence at all"
    assert "nowhere_to_be_found" in importing("needs-other").same
    assert "pip install" not in importing("needs-other").same
    assert importing("json").same == "same"
    assert against("w", "p", lambda: 1 / 0)[0].same == "failed: ZeroDivisionError: division by zero"


def test_turns_alternate_and_the_best_counts(monkeypatch):
    monkeypatch.setattr(turns_of, "TURN", 3)
    calls: list[str] = []
    results, best = in_turns(3, lambda: calls.append("a"), lambda: calls.append("b") or len(calls))
    assert calls == list("ababab")
    assert results == [None, 6]
    assert all(seconds >= 0 for seconds in best)
    asked: list[tuple[str, int]] = []
    found, seconds = each_in_turn(
        4, lambda n: asked.append(("a", n)) or n, lambda n: asked.append(("b", n)) or -n, warm=1
    )
    turns = [[0, 0, 1, 2], [3, 3]]  # the first of each is not timed
    assert asked == [(name, n) for turn in turns for name in "ab" for n in turn]
    assert found == [[0, 1, 2, 3], [0, -1, -2, -3]]
    assert seconds.shape == (2, 4)
    assert percentiles(np.arange(101) / 1000) == {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99}


def test_subjects_are_chosen_and_sizes_handed_on(tmp_path, monkeypatch, capsys):
    seen: list[tuple[str, Sizes]] = []

    def module(name: str):
        def measure(folder, sizes):
            assert folder.is_dir()
            seen.append((name, sizes))
            return [Row(name, "peer", 1.0, 2.0, "same", details={"n": sizes.documents})]

        return SimpleNamespace(measure=measure)

    monkeypatch.setattr(command.importlib, "import_module", lambda name: module(name))
    answer = tmp_path / "rows.json"
    assert command.main(["hybrid", "--documents", "7", "--json", str(answer)]) == 0
    assert seen == [("benchmarks.hybrid", Sizes(7, command.SUBJECTS["hybrid"].queries))]
    assert "| benchmarks.hybrid | peer | 1.00 s |" in capsys.readouterr().out
    rows = json.loads(answer.read_text())["rows"]
    assert rows[0]["ratio"] == 2.0
    assert rows[0]["details"] == {"n": 7}


def test_all_subjects_run_by_default_each_in_a_process_and_one_that_dies_is_a_row(
    monkeypatch, capsys
):
    ran: list[list[str]] = []

    def run(words, **_):
        ran.append(words[3:])
        if words[3] != "growth":
            with open(words[words.index("--json") + 1], "w") as file:
                json.dump({"rows": [Row(words[3], "p", 1.0, 1.0, "same").to_dict()]}, file)
        return SimpleNamespace(returncode=-11)

    monkeypatch.setattr(command.subprocess, "run", run)
    assert command.main(["--queries", "3", "--large"]) == 1
    assert [words[0] for words in ran] == list(command.SUBJECTS)
    assert all(words[3:] == ["--queries", "3", "--large"] for words in ran)
    out = capsys.readouterr().out
    assert "| growth | – | – | – | – | ended with -11 and no answer |" in out
    assert out.count("| 1.00× | same |") == len(command.SUBJECTS) - 1


@pytest.mark.parametrize("words", [["nothing"], ["hybrid", "--documents", "0"], ["--queries", "x"]])
def test_what_cannot_be_run_is_refused(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(words)
    assert stopped.value.code == 2
    assert words[-1] in capsys.readouterr().err


def test_every_subject_has_a_module_that_measures():
    for name in command.SUBJECTS:
        module = command.importlib.import_module(f"benchmarks.{name}")
        assert callable(module.measure)


def test_synthetic_documents_do_not_depend_on_how_they_are_asked_for():
    encoder = synthetic.Ready()
    numbers = [2000, 3, 1024, 1023]
    together = encoder.encode_documents([str(n) for n in numbers])
    for row, number in enumerate(numbers):
        alone = encoder.encode_documents([str(number)])
        assert np.array_equal(alone.dense[0], together.dense[row])
        assert (alone.lexical[0] != together.lexical[row]).nnz == 0
    np.testing.assert_allclose(np.linalg.norm(together.dense, axis=1), 1, rtol=1e-6)
    assert together.lexical.data.min() >= 1
    assert together.lexical.data.max() <= 255
    assert (together.lexical.data == np.rint(together.lexical.data)).all()
    nothing = encoder.encode_documents([])
    assert nothing.dense.shape == (0, synthetic.WIDTH)
    assert nothing.lexical.shape == (0, synthetic.TERMS)
    # The first document of each block carries the largest impact: an index's scale is 1.
    assert encoder.encode_documents(["0"]).lexical.max() == 255


def test_dense_vectors_lie_near_a_plane_that_queries_share():
    vectors = np.concatenate([synthetic.dense(200, 1), synthetic.dense(200, 2)])
    values = np.linalg.svd(vectors, compute_uv=False) ** 2
    assert values[: synthetic.RANK].sum() > 0.95 * values.sum()


def test_the_share_of_the_best_counts_ties_and_only_the_first_k():
    scores = np.array([5.0, 3.0, 3.0, 1.0, 0.0])
    assert share_of_best(scores, np.array([0, 2]), 2) == 1.0  # 1 and 2 tie
    assert share_of_best(scores, np.array([3, 0, 1]), 2) == 0.5
    assert share_of_best(scores, np.array([], int), 2) == 0.0
    assert share_of_best(scores, np.arange(5), 99) == 1.0
    assert sample(1000, 3) == [0, 499, 999]
    assert sample(2) == [0, 1]


def toy(count: int = 40, topics: int = 6) -> Collection:
    """A collection without an index: its vectors, queries and weights alone."""
    encoder = synthetic.Ready()
    names = [f"d{i:03}" for i in range(count)]
    vectors = encoder.encode_documents([str(i) for i in range(count)], names)
    manifest = SimpleNamespace(encoder=encoder.info, scale=1.0)
    index = SimpleNamespace(manifest=manifest)
    return Collection(index, synthetic.query_vectors(topics), vectors)  # type: ignore[arg-type]


def test_quality_is_one_for_the_exact_ranking_and_less_for_another():
    collection = toy()
    exact, wrong = {}, {}
    for number, topic in enumerate(collection.queries.ids):
        lexical = collection.vectors.lexical.toarray() @ collection.queries.lexical[
            number
        ].toarray()[0].astype(np.float64)
        scores = 20_000 * (collection.vectors.dense @ collection.queries.dense[number]) + lexical
        np.testing.assert_allclose(collection.scores(number), scores, rtol=1e-4)
        order = np.argsort(-collection.scores(number))
        ids = [collection.vectors.ids[i] for i in order]
        exact[topic] = Ranking(ids[:10], collection.scores(number)[order[:10]])
        wrong[topic] = Ranking(ids[-10:], np.zeros(10))
    assert quality(collection, exact, 10) == (1.0, 1.0)
    assert quality(collection, wrong, 10) == (0.0, 0.0)


def test_reciprocal_ranks_are_those_of_both_legs(monkeypatch):
    collection = toy()
    monkeypatch.setattr(one_query, "DEPTH", 7)
    for number in range(3):
        fused = one_query.reciprocal(collection, number)
        inner = collection.vectors.dense @ collection.queries.dense[number]
        expected = dict.fromkeys(range(40), 0.0)
        for scores in (inner, collection.overlaps(number)):
            for rank, row in enumerate(sorted(range(40), key=lambda i: (-scores[i], i))[:7], 1):
                expected[row] += 1 / (60 + rank) if scores is inner or scores[row] > 0 else 0
        np.testing.assert_allclose(fused, list(expected.values()), rtol=1e-12)


def test_the_product_of_everything_ranks_as_a_sort_does():
    rng = np.random.default_rng(3)
    documents = csr_matrix(rng.integers(0, 3, size=(150, 20)).astype(np.float32))
    queries = csr_matrix((rng.random((130, 20)) < 0.2).astype(np.float32))
    found = engines.by_product(queries, csr_matrix(documents.T), 150)
    scores = (queries @ documents.T).toarray()
    for row, (rows, values) in enumerate(found):
        order = np.lexsort((np.arange(150), -scores[row]))
        order = order[scores[row][order] > 0]
        assert rows.tolist() == order.tolist()
        assert values.tolist() == scores[row][order].tolist()
    for k in (1, 7):
        short = engines.by_product(queries, csr_matrix(documents.T), k)
        best = [values.tolist() for _, values in short]
        assert best == [values[:k].tolist() for _, values in found]


def test_operations_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        attn_implementation="eager",
    )
    model = BertForMaskedLM(config).eval()
    for length in (3, 11):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.ones(1, length, dtype=torch.int64))
        assert encoding.flop(config, 50, [length], special=0) == counter.get_total_flops()
    head = 2 * (16 * 16 + 16 * 50)
    whole = encoding.flop(config, 50, [3, 11], special=0)
    assert encoding.flop(config, 50, [3, 11]) == whole - 4 * head
    assert encoding.flop(config, 50, [1]) == encoding.flop(config, 50, [1], special=1)


def test_vectors_agree_but_for_rounding_and_terms_at_the_edge():
    dense = np.array([[0.6, 0.8]], np.float32)
    terms = csr_matrix(np.array([[2.0, 1.0, 0.5, 0.0]], np.float32))

    def verdict(other: list[float], vector: np.ndarray = dense) -> str:
        return encoding.agreement(dense, terms, vector, csr_matrix([other]), 1e-3)

    yes, no = "both vectors the same for 1 of 1", "both vectors the same for 0 of 1"
    assert verdict([2.0, 1.0, 0.5, 0.0]).startswith(yes)
    assert verdict([2.001, 1.0, 0.5, 0.0]).startswith(yes)
    assert verdict([2.0, 1.0, 0.0, 0.5]).startswith(yes)  # another term as heavy as the lightest
    assert verdict([2.0, 1.1, 0.5, 0.0]).startswith(no)
    assert verdict([2.0, 0.0, 0.5, 0.0]).startswith(no)
    assert verdict([2.0, 1.0, 0.5, 0.0], np.array([[0.6, 0.81]], np.float32)).startswith(no)


def test_synthetic_runs_are_rankings_that_overlap_without_ties():
    runs = [fusing.synthetic_run(5, 20, 100, seed) for seed in (1, 2)]
    shared = []
    for topic in runs[0]:
        first, second = (run[topic] for run in runs)
        for ranking in (first, second):
            assert len(set(ranking.ids)) == 20
            assert (np.diff(ranking.scores) < 0).all()
        shared.append(len(set(first.ids) & set(second.ids)))
    assert 5 < np.mean(shared) < 15


class PlainPeer:
    """Reciprocal rank fusion in plain Python, in the place of a library's."""

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong

    def load(self, run: Run) -> dict[str, list[str]]:
        return {topic: ranking.ids for topic, ranking in run.topics.items()}

    def read(self, path) -> dict[str, list[str]]:
        ranked: dict[str, list[str]] = {}
        for line in path.read_text().splitlines():
            ranked.setdefault(line.split()[0], []).append(line.split()[2])
        return ranked

    def fuse(self, runs):
        fused: dict[str, dict[str, float]] = {}
        for run in runs:
            for topic, ids in run.items():
                scores = fused.setdefault(topic, {})
                for rank, document in enumerate(ids, 1):
                    scores[document] = scores.get(document, 0.0) + 1 / (60 + rank)
        if self.wrong:
            fused[self.wrong].popitem()
        return fused

    def write(self, run, path) -> None:
        path.write_text(json.dumps(run))

    def scores(self, run, topics):
        return {topic: run[topic] for topic in topics}


@pytest.mark.parametrize("reading", [False, True])
def test_fusing_is_compared_number_by_number(tmp_path, reading):
    runs = [fusing.synthetic_run(5, 20, 100, seed) for seed in (1, 2)]
    paths = [tmp_path / f"{run.tag}.trec" for run in runs]
    for run, path in zip(runs, paths, strict=True):
        fusing.write_run(run, path)
    row = fusing._fusing("w", "plain", PlainPeer(), runs, paths, reading, tmp_path)
    assert row.same == "the same documents and scores for 5 of 5 topics looked at"
    assert row.ratio is not None
    assert (tmp_path / "ours.trec").exists()
    other = fusing._fusing("w", "plain", PlainPeer("q3"), runs, paths, reading, tmp_path)
    assert other.same.startswith("the same documents and scores for 4 of 5")


@pytest.mark.parametrize("reading", [False, True])
def test_measuring_gives_what_ir_measures_gives(tmp_path, reading):
    run = fusing.synthetic_run(6, 30, 100, 1)
    fusing.write_run(run, tmp_path / "run.trec")
    row = fusing._measuring("w", run, tmp_path / "run.trec", reading)
    assert row.same == "4 measures, at most 0.0e+00 apart"
    judged = read_qrels(tmp_path / "qrels.tsv")
    assert {topic: len(grades) for topic, grades in judged.items()} == dict.fromkeys(run, 10)


def test_a_process_tells_its_output_its_time_and_its_peak(tmp_path):
    held = run_python(["-c", "x = bytearray(b'1') * 200_000_000; print(len(x))"])
    assert held.output == "200000000\n"
    assert held.peak_mib > 190
    assert held.seconds > 0
    with pytest.raises(NoPeerError, match="ended with 3: no"):
        run_python(["-c", "import sys; print('no', file=sys.stderr); sys.exit(3)"])


def test_the_random_encoder_gives_both_vectors_of_made_up_texts(tmp_path):
    from dupmae_toolkit import DupMAEEncoder

    memory.save_encoder(tmp_path / "model", words=40)
    memory.write_corpus(tmp_path / "corpus.jsonl", 1003)
    lines = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"d{i:08}" for i in range(1003)]
    assert {len(line["text"].split()) for line in lines} == {memory.WORDS_EACH}
    encoder = DupMAEEncoder.from_pretrained(tmp_path / "model")
    found = encoder.encode_documents(["w1 w2 w3", "w39 w0"])
    assert found.dense.shape == (2, 32)
    assert (np.diff(found.lexical.indptr) > 0).all()


def test_growth_counts_building_by_the_document_and_draws_two_sizes(tmp_path, monkeypatch):
    def point(folder, count, topics):
        return {
            "documents": count,
            "build_s": count / 100,
            "build_peak_mib": 100.0,
            "index_mib": count / 10,
            "p50_ms": 1.0,
            "p95_ms": 2.0,
            "p99_ms": 3.0,
            "resident_mib": 50.0,
            "same_as_exact": 4,
            "proven": 4,
            "search_peak_mib": 60.0,
        }

    monkeypatch.setattr(growth, "point", point)
    rows = growth.measure(tmp_path, Sizes(100, 5, large=True))
    assert [row.details["documents"] for row in rows[::2]] == [100, 1_000, 10_000]
    assert [row.ratio for row in rows] == [1.0] * 6
    assert growth.plot(rows[:2], tmp_path / "one.png").startswith("nothing drawn")
    assert not (tmp_path / "one.png").exists()
    if growth.plot(rows, tmp_path / "growth.png").startswith("drew"):
        assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert growth.plot(rows, tmp_path / "two.png") == "nothing drawn: pip install matplotlib"


@pytest.mark.java
@pytest.mark.slow
def test_a_small_collection_grows_and_is_searched_exactly(tmp_path):
    assert growth.build(tmp_path / "index", 60)["seconds"] > 0
    found = growth.search(tmp_path / "index", 4)
    assert (found["same_as_exact"], found["proven"]) == (4, 4)
    collection = Collection.build(tmp_path / "other", 60, 4)
    run = collection.index.search_batch(collection.queries, 20, plain=True)
    assert quality(collection, run.topics, 20) == (1.0, 1.0)
    lexical = engines.ours(collection, 10)
    assert engines.recall(collection, engines._rows(collection, lexical), 10) == 1.0
    assert engines._scipy(collection, "w", 10).same == "the same scores for 4 of 4"


def test_the_page_on_performance_tells_how_to_repeat_every_subject():
    from pathlib import Path

    page = (Path(command.__file__).parents[1] / "docs" / "performance.md").read_text("utf-8")
    for name in command.SUBJECTS:
        assert f"\n## `{name}`" in page
        assert f"python -m benchmarks {name}" in page


def test_vectors_that_are_held_are_those_that_are_drawn():
    held, ready = synthetic.Held(30), synthetic.Ready()
    mine, theirs = (each.encode_documents(["17", "3"], ["a", "b"]) for each in (held, ready))
    assert mine.ids == theirs.ids
    assert np.array_equal(mine.dense, theirs.dense)
    assert (mine.lexical != theirs.lexical).nnz == 0
    assert held.info == ready.info


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
def test_additions_are_measured_and_give_the_results_of_an_index_built_at_once(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "qdrant_edge", None)
    rows = updates.measure(tmp_path, Sizes(60, 3))
    assert [row.work.split(",")[0] for row in rows] == [
        "an addition of 1 to 60 documents",
        "an addition of 10 to 60 documents",
        "documents rewritten for each one added",
        "documents rewritten for each one added",
        *(f"one {mode} query" for mode in updates.MODES for _ in updates.DEPTHS),
    ]
    assert "peer" in rows[0].same
    assert rows[0].details["additions"] == rows[0].details["added"] == 6
    # Six single ones: the first four become one segment.
    assert (rows[2].ours, rows[2].details["segments"]) == (4 / 6, 4)
    assert (rows[3].ours, rows[3].details["additions"]) == (0, 1)
    for row in rows[4:]:
        assert row.same.startswith("the same ids and scores for 3 and, compacted, 3 of 3"), row


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
def test_documents_by_passage_are_those_of_the_plain_index_grouped(tmp_path, monkeypatch):
    monkeypatch.setattr(by_passage, "INDEXES", {"Flat": ("Flat", 10**12)})
    rows = by_passage.measure(tmp_path, Sizes(195, 4))
    assert [row.work.split(": ")[0] for row in rows] == ["Flat, max"] * 2 + ["Flat, sum3"] * 2
    assert rows[0].work.endswith(": 200 passages, one query")
    assert rows[0].same == rows[1].same == "4 of 4 proven; 4 as the peer's passages, grouped"
    assert rows[2].same == "4 of 4 proven"
