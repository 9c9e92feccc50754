"""`dupmae beir`: from a data set to runs and metrics, done once and found done afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytrec_eval

from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.errors import EncoderMismatchError, InputError
from dupmae_toolkit.evaluation.beir import BeirOptions, run_beir
from dupmae_toolkit.evaluation.self_matches import without_self_matches
from dupmae_toolkit.records import Ranking, Run
from dupmae_toolkit.search.fusion import Fusion
from tests.cli_support import run
from tests.support import HashingEncoder

pytestmark = pytest.mark.java

WORDS = [f"word{n}" for n in range(60)]
HEADER = "query-id\tcorpus-id\tscore\n"


def toy(name: str = "toy", seed: int = 0, self_matching: bool = False) -> dict[str, str]:
    """A data set of 40 documents, 12 test topics and 5 train topics, as BEIR lays them out."""
    draw = np.random.default_rng(seed)
    texts = {f"{n:03}": " ".join(draw.choice(WORDS, 12)) for n in range(40)}
    topics = [f"{n:03}" if self_matching else f"q{n}" for n in range(17)]
    queries = {topic: " ".join(draw.choice(WORDS, 3)) for topic in topics}
    if self_matching:
        queries = {topic: texts[topic] for topic in topics}
    judged = {topic: draw.choice(sorted(texts), 3, replace=False) for topic in topics}
    lines = ["".join(f"{t}\t{d}\t{g}\n" for g, d in enumerate(judged[t], 1)) for t in topics]
    rows = [json.dumps({"_id": i, "title": "", "text": t}) for i, t in texts.items()]
    asked = [json.dumps({"_id": i, "text": t}) for i, t in queries.items()]
    return {
        f"{name}/corpus.jsonl": "\n".join(rows) + "\n",
        f"{name}/queries.jsonl": "\n".join(asked) + "\n",
        f"{name}/qrels/test.tsv": HEADER + "".join(lines[:12]),
        f"{name}/qrels/train.tsv": HEADER + "".join(lines[12:]),
    }


def make_zip(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


class Counting(HashingEncoder):
    """Counts the texts that it encodes; can be told to fail after so many."""

    def __init__(self, fail_after: int | None = None) -> None:
        super().__init__()
        self.encoded = 0
        self.fail_after = fail_after

    def encode_documents(self, texts, ids=None):
        if self.fail_after is not None and self.encoded >= self.fail_after:
            raise KeyboardInterrupt
        self.encoded += len(texts)
        return super().encode_documents(texts, ids)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return make_zip(tmp_path_factory.mktemp("data") / "toy.zip", toy())


@pytest.fixture(scope="module")
def done(source, tmp_path_factory):
    """A finished output folder, and the result."""
    output = tmp_path_factory.mktemp("runs") / "toy"
    (result,) = run_beir(source, HashingEncoder(), output, BeirOptions(bm25=True))
    return SimpleNamespace(output=output, result=result)


def trec_eval(path: Path, qrels_text: str, measure: str) -> float:
    """The mean that trec_eval gives for a run file, over all judged topics."""
    qrels: dict[str, dict[str, int]] = {}
    for line in qrels_text.splitlines()[1:]:
        topic, document, grade = line.split("\t")
        qrels.setdefault(topic, {})[document] = int(grade)
    run: dict[str, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        topic, _, document, _, score, _ = line.split()
        run.setdefault(topic, {})[document] = float(score)
    found = pytrec_eval.RelevanceEvaluator(qrels, {measure}).evaluate(run)
    return sum(v[measure.replace(".", "_")] for v in found.values()) / len(qrels)


def state(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def runs_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.trec")}


def test_runs_of_all_modes_and_their_metrics_are_written(done):
    modes = ["dense", "lexical", "bm25", "hybrid", "lucene-bm25"]
    assert list(done.result.scores) == modes
    metrics = json.loads((done.output / "metrics.json").read_text())
    assert list(metrics) == [*modes, "about"]
    qrels = toy()["toy/qrels/test.tsv"]
    for mode in modes:
        path = done.output / f"toy.{mode}.trec"
        assert path.with_name(f"toy.{mode}.trec.json").exists()
        assert metrics[mode]["nDCG@10"] == pytest.approx(trec_eval(path, qrels, "ndcg_cut.10"))
        assert metrics[mode]["R@100"] == pytest.approx(trec_eval(path, qrels, "recall.100"))
        assert metrics[mode]["AP@1000"] == pytest.approx(trec_eval(path, qrels, "map_cut.1000"))
        assert set(read_run(path)) == {f"q{n}" for n in range(12)}
    about = metrics["about"]
    assert (about["dataset"], about["split"]) == ("toy", "test")
    assert (about["documents"], about["topics"], about["skipped"]) == (40, 12, 0)
    assert about["topics_with_hits"]["dense"] == 12
    assert about["encoder"] == "hashing"
    assert about["fusion"]["method"] == "sum"
    assert about["self_matches"] == "kept"


def test_the_dense_run_is_brute_force(done):
    encoder, files = HashingEncoder(), toy()
    rows = [json.loads(line) for line in files["toy/corpus.jsonl"].splitlines()]
    asked = [json.loads(line) for line in files["toy/queries.jsonl"].splitlines()][:12]
    documents = encoder.encode_documents([row["text"] for row in rows]).dense.astype(float)
    queries = encoder.encode_queries([row["text"] for row in asked]).dense.astype(float)
    run = read_run(done.output / "toy.dense.trec")
    for topic, scores in zip(asked, queries @ documents.T, strict=True):
        best = Ranking.sorted([row["_id"] for row in rows], scores)
        np.testing.assert_allclose(run[topic["_id"]].scores, best.scores, rtol=1e-5, atol=1e-6)


def test_metadata_tells_how_each_run_came_about(done):
    hybrid = read_run(done.output / "toy.hybrid.trec").metadata
    assert (hybrid["dataset"], hybrid["split"], hybrid["mode"]) == ("toy", "test", "hybrid")
    assert hybrid["k"] == 1000
    for name in ("bm25", "lucene-bm25"):
        told = read_run(done.output / f"toy.{name}.trec").metadata
        told = told["bm25"] if name == "bm25" else told
        assert (told["k1"], told["b"]) == (0.9, 0.4)
    ours, theirs = (read_run(done.output / f"toy.{m}.trec") for m in ("bm25", "lucene-bm25"))
    for topic in theirs:  # our impacts are rounded to 255ths, Lucene's lengths to a byte
        scores = dict(zip(ours[topic].ids, ours[topic].scores.tolist(), strict=True))
        assert set(scores) == set(theirs[topic].ids)
        found = [scores[name] for name in theirs[topic].ids]
        np.testing.assert_allclose(found, theirs[topic].scores, rtol=0.03)


def test_a_second_call_uses_what_stands(source, done):
    before = state(done.output)
    encoder = Counting()
    (again,) = run_beir(source, encoder, done.output, BeirOptions(bm25=True))
    assert again.reused == [
        "documents",
        "index",
        "queries",
        "dense",
        "lexical",
        "bm25",
        "hybrid",
        "lucene-bm25",
    ]
    assert again.metrics() == done.result.metrics()
    assert encoder.encoded == 0
    after = state(done.output)
    changed = {path for path in after if after[path] != before.get(path)}
    assert {Path(path).name for path in changed} == {"metrics.json"}


def test_another_split_k_or_fusion_does_only_what_is_new(source, tmp_path):
    output = tmp_path / "runs"
    run_beir(source, HashingEncoder(), output, BeirOptions(k=10))
    encoder = Counting()
    (train,) = run_beir(source, encoder, output, BeirOptions("train", k=10))
    assert train.reused == ["documents", "index"]
    assert encoder.encoded == 5
    assert set(read_run(output / "toy.hybrid.trec")) == {f"q{n}" for n in range(12, 17)}
    (deeper,) = run_beir(source, encoder, output, BeirOptions("train", k=20))
    assert deeper.reused == ["documents", "index", "queries"]
    assert len(read_run(output / "toy.dense.trec")["q12"]) == 20
    (fused,) = run_beir(source, encoder, output, BeirOptions("train", k=20, fusion=Fusion("rrf")))
    assert fused.reused == ["documents", "index", "queries", "dense", "lexical", "bm25"]
    assert encoder.encoded == 5


def test_exact_proves_every_hybrid_ranking(source, tmp_path):
    run_beir(source, HashingEncoder(), tmp_path, BeirOptions(k=5, exact=True))
    certificate = read_run(tmp_path / "toy.hybrid.trec").metadata["certificate"]
    assert certificate["certified"] == certificate["topics"] == 12
    again = run_beir(source, HashingEncoder(), tmp_path, BeirOptions(k=5))[0]
    assert "hybrid" not in again.reused


def test_a_run_that_was_changed_is_made_anew(source, tmp_path):
    output = tmp_path / "runs"
    run_beir(source, HashingEncoder(), output)
    first = runs_of(output)
    path = output / "toy.dense.trec"
    path.write_text(path.read_text().replace("q0 ", "q9 ", 1))
    (output / "toy.lexical.trec.json").unlink()
    (again,) = run_beir(source, HashingEncoder(), output)
    assert again.reused == ["documents", "index", "queries", "bm25", "hybrid"]
    assert runs_of(output) == first


def test_an_index_of_unknown_origin_is_built_again(source, tmp_path):
    output = tmp_path / "runs"
    run_beir(source, HashingEncoder(), output)
    first = runs_of(output)
    (output / "index-inputs.json").write_text("{}")
    for path in output.glob("*.trec"):
        path.unlink()
    (again,) = run_beir(source, HashingEncoder(), output)
    assert again.reused == ["documents", "queries"]
    assert runs_of(output) == first


def test_another_encoder_or_other_texts_are_refused_and_change_nothing(source, done, tmp_path):
    before = state(done.output)
    with pytest.raises(EncoderMismatchError, match=r"hashing.*other"):
        run_beir(source, HashingEncoder(name="other"), done.output)
    changed = make_zip(tmp_path / "toy.zip", toy(seed=1))
    with pytest.raises(InputError, match="other texts"):
        run_beir(changed, HashingEncoder(), done.output)
    assert state(done.output) == before


@pytest.mark.parametrize("mode", ["dense", "lexical", "bm25", "hybrid", "lucene-bm25"])
def test_a_topic_that_is_a_document_is_no_answer_to_itself(tmp_path_factory, mode):
    folder = tmp_path_factory.getbasetemp() / "self-matches"
    if not folder.exists():
        for name in ("arguana", "toy"):
            files = toy(name, self_matching=True)
            path = make_zip(tmp_path_factory.mktemp("data") / f"{name}.zip", files)
            run_beir(path, HashingEncoder(), folder / name, BeirOptions(k=5, bm25=True))
    without = read_run(folder / "arguana" / f"arguana.{mode}.trec")
    assert all(topic not in without[topic].ids for topic in without)
    assert all(len(without[topic]) == 5 for topic in without), "cut after it was removed"
    within = read_run(folder / "toy" / f"toy.{mode}.trec")
    assert all(within[topic].ids[0] == topic for topic in within)
    assert all(within[topic].ids[1:] == without[topic].ids[:4] for topic in within)


def test_self_matches_are_removed_before_the_cut():
    run = Run({"b": Ranking(["a", "b", "c", "d"], np.array([4.0, 3, 2, 1]))}, tag="t")
    kept = without_self_matches(run, 2)
    assert (kept["b"].ids, kept["b"].scores.tolist(), kept.tag) == (["a", "c"], [4.0, 2.0], "t")
    assert without_self_matches(run, 9)["b"].ids == ["a", "c", "d"]


def test_of_several_data_sets_the_means_of_the_means_are_told(tmp_path):
    files = toy("cqa/android") | toy("cqa/english", seed=4)
    path = make_zip(tmp_path / "cqa.zip", files)
    results = run_beir(path, HashingEncoder(), tmp_path / "runs", BeirOptions(k=10))
    assert [result.dataset for result in results] == ["android", "english"]
    metrics = json.loads((tmp_path / "runs" / "metrics.json").read_text())
    one, two = (metrics["datasets"][name] for name in ("android", "english"))
    for mode in ("dense", "lexical", "bm25", "hybrid"):
        for name, value in metrics[mode].items():
            assert value == pytest.approx((one[mode][name] + two[mode][name]) / 2)
    assert (tmp_path / "runs" / "english" / "english.hybrid.trec").exists()
    assert json.loads((tmp_path / "runs" / "english" / "metrics.json").read_text()) == two


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (BeirOptions("dev"), "no split 'dev' in it; available: test, train"),
        (BeirOptions(k=0), "k is 0"),
        (BeirOptions(measures=("nonsense",)), "measure 'nonsense' is not known"),
        (BeirOptions(measures=()), "no measure named"),
        (BeirOptions(faiss="nonsense"), "nonsense"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(source, tmp_path, options, fault):
    with pytest.raises(InputError, match=fault):
        run_beir(source, HashingEncoder(), tmp_path / "runs", options)
    assert not (tmp_path / "runs").exists()


def test_documents_without_text_are_refused_or_skipped_and_counted(tmp_path):
    files = toy()
    files["toy/corpus.jsonl"] += '{"_id": "empty", "title": "", "text": ""}\n'
    path = make_zip(tmp_path / "toy.zip", files)
    with pytest.raises(InputError, match=r"corpus.jsonl:41: document empty has no text"):
        run_beir(path, HashingEncoder(), tmp_path / "runs")
    assert not list(tmp_path.rglob("*.trec"))
    (result,) = run_beir(path, HashingEncoder(), tmp_path / "runs", skip_invalid=True)
    assert (result.skipped, result.documents) == (1, 40)
    assert result.metrics()["about"]["skipped"] == 1
    assert result.left_out.startswith("1 line that is not a document was skipped: ")
    assert result.left_out.endswith("corpus.jsonl:41 (document empty has no text)")


@pytest.mark.parametrize("after", [0, 40])
def test_a_call_that_was_interrupted_continues_to_the_same_runs(source, done, tmp_path, after):
    output = tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        run_beir(source, Counting(fail_after=after), output, BeirOptions(bm25=True))
    assert not list(output.glob("*.trec"))
    encoder = Counting()
    run_beir(source, encoder, output, BeirOptions(bm25=True))
    assert encoder.encoded == 52 - after
    assert runs_of(output) == runs_of(done.output)


SCRIPT = """
import sys
from dupmae_toolkit.evaluation.beir import BeirOptions, run_beir
from tests.support import HashingEncoder
print("started", flush=True)
run_beir(sys.argv[1], HashingEncoder(), sys.argv[2], BeirOptions(bm25=True))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_continues_to_the_same_runs(source, done, tmp_path):
    output = tmp_path / "runs"
    command = [sys.executable, "-c", SCRIPT, str(source), str(output)]
    root = Path(__file__).parent.parent
    for awaited in ("index", "toy.dense.trec", "bm25"):
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        deadline = time.monotonic() + 60
        while not (output / awaited).exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
    assert runs_of(output) == runs_of(done.output)
    ours = json.loads((output / "metrics.json").read_text())
    assert ours == json.loads((done.output / "metrics.json").read_text())
    assert not [path for path in output.rglob(".tmp-*") if path.parent != output / "encoded"]


@pytest.fixture
def command(monkeypatch, capsys):
    """`dupmae beir` with a small encoder instead of a model."""

    def load_encoder(name, **settings):
        if name != "builtin":
            raise InputError(f"{name}: no such model")
        return HashingEncoder()

    stand_in = SimpleNamespace(load_encoder=load_encoder)
    monkeypatch.setitem(sys.modules, "dupmae_toolkit.model.loading", stand_in)
    return partial(run, capsys, "beir")


def test_the_command_prints_a_table_of_modes(command, source, done):
    code, out, err = command(source, "--output", done.output, "--bm25")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["mode", "nDCG@10", "R@100", "RR@10", "AP@1000"]
    modes = ["dense", "lexical", "bm25", "hybrid", "lucene-bm25"]
    assert [row[0] for row in rows[1:]] == modes
    value = done.result.scores["hybrid"].means["nDCG@10"]
    assert rows[4][1] == f"{value:.4f}"
    assert "40 documents, 12 topics" in err
    assert "reused: documents, index, queries, dense" in err


def test_the_command_prints_one_json_document(command, source, done):
    code, out, _ = command(source, "--output", done.output, "--bm25", "--json")
    assert code == 0
    assert json.loads(out) == done.result.metrics()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--split", "dev"], "no split 'dev' in it; available: test, train"),
        (["-k", "0"], "k is 0"),
        (["--model", "nowhere"], "nowhere: no such model"),
        (["--weights", "1,x"], "1,x"),
        (["--fusion", "nonsense"], "nonsense"),
        (["--measures", "nDCG@0"], "cutoff must be a whole number from"),
    ],
)
def test_the_command_refuses_bad_input_in_one_line(command, source, tmp_path, words, fault):
    code, out, err = command(source, "--output", tmp_path / "runs", *words)
    assert (code, out) == (2, "")
    assert fault in err
    assert err.count("\n") == 1
    assert not os.listdir(tmp_path)


def test_a_place_that_cannot_be_written_is_refused(command, source, tmp_path):
    (tmp_path / "file").write_text("x")
    code, _, err = command(source, "--output", tmp_path / "file" / "runs")
    assert code == 2
    assert "cannot be created" in err
    assert os.listdir(tmp_path) == ["file"]


def test_the_help_has_examples(command):
    code, out, _ = command("--help")
    assert code == 0
    assert "Examples:" in out
    assert "dupmae beir scifact.zip --output runs/scifact" in out
