"""The ablation on tiny models: every stage runs, goes on where it was, and measures rightly."""

from __future__ import annotations

import json
import lzma

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from benchmarks import ablation
from tests.families import save_checkpoint, sentences


def test_memory_is_equal_for_every_way():
    width = 384  # of the start that the recipe names
    assert width * 2 == ablation.MEMORY
    assert ablation.MEMORY // ablation.TERM * ablation.TERM == ablation.MEMORY
    half = ablation.MEMORY // 2
    assert width * 1 + half // ablation.TERM * ablation.TERM == ablation.MEMORY


def test_the_strongest_terms_stay_and_ties_go_to_the_lower_term():
    weights = csr_matrix(np.array([[1, 3, 2, 3], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32))
    kept = ablation.strongest(weights, 2).toarray()
    assert kept.tolist() == [[0, 3, 0, 3], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert ablation.strongest(weights, 3).toarray()[0].tolist() == [0, 3, 2, 3]
    assert weights.nnz == 5


def test_bytes_lose_little_and_zeros_nothing():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 384)).astype(np.float32)
    vectors[3] = 0
    back = ablation.in_bytes(vectors)
    assert np.abs(back - vectors).max() <= np.abs(vectors).max() / 254 + 1e-6
    assert not back[3].any()


def test_the_interval_of_a_mean_is_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(0.5, 0.2, size=400)
    low, high = ablation.interval(values)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.003)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.003)
    assert (low, high) == ablation.interval(values)


def test_arms_are_compared_topic_by_topic():
    values = {
        "MLM": [0.1, 0.5],
        "RetroMAE": [0.2, 0.6],
        "bag of words": [1, 0],
        "DupMAE": [0.3, 0.7],
    }
    results = {
        (arm, "x"): {way: dict(zip("ab", own, strict=True)) for way in ablation.WAYS}
        for arm, own in values.items()
    }
    lines = ablation.comparison(results, ["x"]).splitlines()
    assert lines[2] == "| MLM | [CLS] | +0.200 (+0.200 to +0.200) |"
    assert lines[8] == "| bag of words | [CLS] | +0.000 (-0.700 to +0.700) |"


@pytest.mark.slow
def test_every_arm_is_trained_measured_and_not_done_twice(tmp_path, monkeypatch, capsys):
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("wikipedia-leads", "arxiv-abstracts", "medline-abstracts", "medquad-pairs"):
        rows = [sentences(6, seed=i, words=8) for i in range(12)]
        lines = [json.dumps({"title": r[0], "text": " ".join(r[1:])}) for r in rows]
        with lzma.open(texts / f"{name}.jsonl.xz", "wt", encoding="utf-8") as file:
            file.write("\n".join(lines))
    two = {arm: ablation.ARMS[arm] for arm in ("MLM", "DupMAE")}
    monkeypatch.setattr(ablation, "ARMS", two)
    small = tmp_path / "small"
    (small / "qrels").mkdir(parents=True)
    documents = [" ".join(sentences(3, seed=100 + i)) for i in range(8)]
    corpus = [json.dumps({"_id": f"d{i}", "text": text}) for i, text in enumerate(documents)]
    (small / "corpus.jsonl").write_text("\n".join(corpus))
    queries = [json.dumps({"_id": f"q{i}", "text": documents[i][:30]}) for i in range(3)]
    (small / "queries.jsonl").write_text("\n".join(queries))
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(3))
    (small / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    save_checkpoint(tmp_path / "start")
    command = ["ablation", "--data", str(texts), "--model", str(tmp_path / "start")]
    command += ["--collections", str(small), "--output", str(tmp_path / "out")]
    for key in ("steps=2", "batch_size=4", "max_length=40"):
        command += ["--set-pretrain", key]
    for key in ("steps=2", "batch_size=4", "document_length=40", "query_length=20"):
        command += ["--set-finetune", key]
    command += ["--set-finetune", "active_terms=10", "--plot", str(tmp_path / "plot.svg")]
    monkeypatch.setattr("sys.argv", command)
    ablation.main()
    first = capsys.readouterr().out
    rows = [line for line in first.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 2 * 3 + 2 + 1 * 3
    drawing = (tmp_path / "plot.svg").read_text()
    assert "MLM" in drawing
    arms = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert set(arms) == {"mlm", "dupmae"}
    kinds = {
        name: json.loads((path / "pretrain" / "recipe.json").read_text())["settings"]
        for name, path in arms.items()
    }
    assert kinds["mlm"] == {"bow_weight": 0.0, "decoder_weight": 0.0}
    assert kinds["dupmae"] == {"bow_weight": 1.0}
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
    ablation.main()
    assert [x for x in capsys.readouterr().out.splitlines() if x.startswith("|")] == rows
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}


def test_the_arms_are_the_papers():
    from dupmae_toolkit.model.presets import PreTrainingConfig

    trained = {}
    for arm, changes in ablation.ARMS.items():
        config = PreTrainingConfig.preset("official", **{"bow_weight": 1.0, **changes})
        trained[arm] = config.mlm_weight, config.decoder_weight, config.bow_weight
    assert trained == {
        "MLM": (1, 0, 0),
        "RetroMAE": (1, 1, 0),
        "bag of words": (1, 0, 1),
        "DupMAE": (1, 1, 1),
    }
