"""`dupmae mine`: from a data set, an index or a run to examples and their report."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.collection.trec import read_metadata
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.mining.examples import read_examples
from dupmae_toolkit.mining.job import CandidateOptions, TopicOptions, mine_corpus
from dupmae_toolkit.mining.negative_filters import MiningOptions
from tests.cli_support import run
from tests.support import HashingEncoder

ENCODER = HashingEncoder(size=256, dim=16)
COLOURS = ["red", "green", "blue", "black", "white", "pink"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A BEIR folder: a document for each colour and number; queries name a colour."""
    home = tmp_path_factory.mktemp("mine")
    folder = home / "set"
    (folder / "qrels").mkdir(parents=True)
    documents = [
        {"_id": f"{colour}{n}", "title": f"{colour} thing {n}", "text": f"a {colour} text, no {n}"}
        for colour in COLOURS
        for n in range(6)
    ]
    documents.append({"_id": "untitled", "text": "no title, black"})
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    (folder / "corpus.jsonl").write_text(lines)
    queries = [{"_id": f"é{n}", "text": f"which {c}"} for n, c in enumerate(COLOURS)]
    queries.append({"_id": "test", "text": "a query of the test split"})
    (folder / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    judged = [f"é{n}\t{c}0\t1\n" for n, c in enumerate(COLOURS)] + [
        "é0\tred1\t0\n",
        "é0\tgone\t1\n",
    ]
    (folder / "qrels" / "train.tsv").write_text("".join(judged))
    (folder / "qrels" / "test.tsv").write_text("test\tred0\t1\n")
    return home


@pytest.fixture
def dupmae(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", lambda *a, **s: ENCODER)
    return partial(run, capsys, "mine")


@pytest.fixture
def trec(tmp_path):
    """A run that lists, for the first two topics, everything red or green in order."""
    lines = [
        f"é{topic} Q0 {colour}{n} 1 {20 - 3 * n - topic} t\n"
        for topic, colour in enumerate(COLOURS[:2])
        for n in range(6)
    ]
    path = tmp_path / "run.trec"
    path.write_text("".join(lines))
    return path


def test_a_run_is_mined_without_an_index(dupmae, home, trec, tmp_path):
    output = tmp_path / "new" / "mined.jsonl.gz"
    code, out, err = dupmae(home / "set", "--run", trec, "--output", output, "--margin", 4)
    assert (code, out) == (0, "")
    found = {example.query_id: example for _, example in read_examples(output)}
    assert list(found) == ["é0", "é1"]
    assert [(p.id, p.score) for p in found["é0"].positives] == [("red0", 20.0)]
    # red1, at 17, is nearer than 4; from there on all are kept.
    assert [(p.id, p.score, p.rank) for p in found["é0"].negatives] == [
        (f"red{n}", 20.0 - 3 * n, n + 1) for n in range(2, 6)
    ]
    assert found["é1"].negatives[0].text == "a green text, no 2"
    about = read_metadata(output)
    assert about["report"]["dropped"]["margin"] == 2
    assert about["report"]["positives_not_in_corpus"] == 1
    assert about["report"]["without_negatives"] == 4
    assert "6 queries" in " ".join(err.split())
    assert "left out: too near to the positive's score" in err
    assert err.splitlines()[-1] == f"{output}: 2 queries, 8 negatives"


def test_json_prints_what_lies_beside_the_file_and_the_same_bytes_come_twice(dupmae, home, trec):
    words = (home / "set", "--run", trec, "-n", 2, "--json")
    code, out, err = dupmae(*words, "--output", "a.jsonl")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(Path("a.jsonl.json").read_text())
    dupmae(*words, "--output", "b.jsonl")
    dupmae(*words, "--output", "c.jsonl", "--seed", 2)
    contents = {name: Path(f"{name}.jsonl").read_bytes() for name in "abc"}
    assert contents["a"] == contents["b"] != contents["c"]
    assert json.loads(out)["options"]["seed"] == 1


def test_earlier_examples_are_replaced_and_nothing_else_is(dupmae, home, trec):
    words = (home / "set", "--run", trec, "-n", 2, "--output")
    assert dupmae(*words, "a.jsonl")[0] == 0
    first = Path("a.jsonl").read_bytes()
    assert dupmae(*words, "a.jsonl", "--seed", 2)[0] == 0
    assert Path("a.jsonl").read_bytes() != first
    Path("topics.jsonl").write_text('{"_id": "q", "text": "which red"}\n')
    code, out, err = dupmae(*words, "topics.jsonl")
    assert (code, out) == (2, "")
    assert err.endswith("topics.jsonl: exists, and holds no examples; name another file\n")
    assert Path("topics.jsonl").read_text() == '{"_id": "q", "text": "which red"}\n'


def test_queries_and_qrels_of_files_and_a_teacher(dupmae, home, trec, tmp_path):
    (tmp_path / "q.tsv").write_text("é0\twhich red\né9\tnever judged\n")
    (tmp_path / "q.qrels").write_text("é0 0 red5 2\né0 0 red4 1\n")
    (tmp_path / "teacher.trec").write_text("é0 Q0 red5 1 0.5 t\né0 Q0 red0 1 0.9 t\n")
    words = ["--queries", tmp_path / "q.tsv", "--qrels", tmp_path / "q.qrels", "--grade", 2]
    words += ["--teacher-run", tmp_path / "teacher.trec", "--output", "o.jsonl"]
    assert dupmae(home / "set" / "corpus.jsonl", "--run", trec, *words)[0] == 0
    ((_, example),) = read_examples(tmp_path / "o.jsonl")
    assert [p.id for p in example.positives] == ["red5"]
    assert [p.id for p in example.negatives] == ["red1", "red2", "red3"]
    assert read_metadata(tmp_path / "o.jsonl")["report"]["dropped"]["teacher"] == 1


def test_the_library_writes_the_bytes_of_the_command(dupmae, home, trec, tmp_path):
    assert dupmae(home / "set", "--run", trec, "-n", 2, "--output", "a.jsonl")[0] == 0
    settings = MiningOptions(negatives=2, to_rank=200), TopicOptions(), CandidateOptions(run=trec)
    mined = mine_corpus(str(home / "set"), tmp_path / "b.jsonl", *settings)
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()
    assert mined.metadata == read_metadata(tmp_path / "a.jsonl")
    assert (mined.report.written, mined.notes) == (2, [])


def test_the_library_refuses_what_names_too_little(tmp_path, trec):
    output, titles = tmp_path / "o.jsonl", TopicOptions(pairs=True)
    with pytest.raises(InputError, match="there are no queries"):
        mine_corpus(None, output)
    with pytest.raises(InputError, match="nothing to mine"):
        mine_corpus(None, output, topics=titles)
    (tmp_path / "q.tsv").write_text("q\tword\n")
    (tmp_path / "q.qrels").write_text("q 0 d 1\n")
    files = TopicOptions(str(tmp_path / "q.tsv"), tmp_path / "q.qrels")
    with pytest.raises(InputError, match="documents of the run are missing"):
        mine_corpus(None, output, topics=files, candidates=CandidateOptions(run=trec))
    with pytest.raises(InputError, match="nothing to search"):
        mine_corpus(None, output, topics=files)
    with pytest.raises(InputError, match="examples are written as"):
        mine_corpus("set", tmp_path / "o.txt")
    assert not output.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["SET", "--output", "o.txt"],
            "o.txt: examples are written as .jsonl, plain or compressed (.jsonl.gz, .bz2, .xz",
        ),
        (["SET", "--output", "."], "is a folder"),
        (["--output", "o.jsonl"], "name a CORPUS"),
        (["SET", "--output", "o.jsonl", "--pairs", "--split", "dev"], "--pairs makes the queries"),
        (["SET", "--output", "o.jsonl", "--qrels", "q"], "--qrels goes with --queries"),
        (["SET", "--output", "o.jsonl", "--split", "dev"], "no split 'dev'"),
        (["SET", "--output", "o.jsonl", "--to-rank", 5, "--depth", 4], "beyond --depth 4"),
        (["SET", "--output", "o.jsonl", "--margin", "nan"], "finite"),
        (["SET", "--output", "o.jsonl", "-n", 0], "at least 1"),
        (["SET", "--output", "o.jsonl", "--run", "r", "--mode", "dense"], "replaces the search"),
        (["SET", "--output", "o.jsonl", "--run", "missing"], "missing: no such file"),
        (["SET", "--output", "o.jsonl", "--weights", "a"], "such as"),
        (["missing", "--output", "o.jsonl"], "missing: no such file"),
        (["--index", "nowhere", "--pairs", "--output", "o.jsonl"], "nowhere"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(dupmae, home, words, message, tmp_path):
    code, out, err = dupmae(*(home / "set" if word == "SET" else word for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_nothing_mined_is_refused_and_the_old_file_stays(dupmae, home, trec, tmp_path):
    words = (home / "set", "--run", trec, "--output", "o.jsonl")
    assert dupmae(*words)[0] == 0
    old = (tmp_path / "o.jsonl").read_text()
    code, _, err = dupmae(*words, "--from-rank", 150)
    assert (code, err.count("\n")) == (2, 1)
    assert "not one of 6 queries got a negative" in err
    (tmp_path / "bad.trec").write_text("é0 Q0 ghost 1 3 t\n")
    code, _, err = dupmae(home / "set", "--run", tmp_path / "bad.trec", "--output", "o.jsonl")
    assert code == 2
    assert "lists document 'ghost'" in err
    assert (tmp_path / "o.jsonl").read_text() == old
    there = ["bad.trec", "o.jsonl", "o.jsonl.json", "run.trec"]
    assert sorted(p.name for p in tmp_path.iterdir()) == there


@pytest.fixture(scope="module")
def index(home):
    from dupmae_toolkit.collection.opening import open_corpus

    path = home / "index"
    HybridIndex.build(path, open_corpus(home / "set"), ENCODER).close()
    return path


@pytest.mark.java
@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_an_index_gives_what_its_own_search_gives(dupmae, home, index, mode, tmp_path):
    words = ["--index", index, "--mode", mode, "--pick", "top", "-n", 5, "--output", "o.jsonl"]
    assert dupmae(home / "set", *words)[0] == 0
    opened = HybridIndex.open(index, ENCODER)
    judged = {f"é{n}": f"{c}0" for n, c in enumerate(COLOURS)}
    queries = {f"é{n}": f"which {c}" for n, c in enumerate(COLOURS)}
    run = opened.search_batch([Query(*pair) for pair in queries.items()], k=200, mode=mode)
    seen = 0
    for _, example in read_examples(tmp_path / "o.jsonl"):
        ranking = run[example.query_id]
        answer = judged[example.query_id]
        listed = zip(ranking.ids, ranking.scores, range(1, 201), strict=False)
        expected = [(n, np.float32(s), r) for n, s, r in listed if n != answer][:5]
        assert [(p.id, np.float32(p.score), p.rank) for p in example.negatives] == expected
        score = dict(zip(ranking.ids, ranking.scores, strict=True)).get(answer, 0.0)
        assert [(p.id, np.float32(p.score)) for p in example.positives] == [(answer, score)]
        seen += 1
    assert seen == 6
    about = read_metadata(tmp_path / "o.jsonl")
    assert (about["scores"], about["encoder"]["name"]) == (mode, "hashing")


@pytest.mark.java
def test_titles_are_queries_of_their_texts(dupmae, home, index, tmp_path):
    """With --pairs from an index alone, and from a corpus whose index is made for it."""
    assert dupmae("--index", index, "--pairs", "--output", "a.jsonl", "-n", 3)[0] == 0
    found = [example for _, example in read_examples(tmp_path / "a.jsonl")]
    assert len(found) == 36
    for example in found:
        (positive,) = example.positives
        assert positive.id == example.query_id
        assert example.query == f"{positive.id[:-1]} thing {positive.id[-1]}"
        assert {passage.title for passage in example.passages} == {""}
        assert positive.id not in {passage.id for passage in example.negatives}


@pytest.mark.java
def test_an_index_for_the_moment_is_built_and_removed(dupmae, home, tmp_path, monkeypatch):
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    monkeypatch.setattr("dupmae_toolkit.model.loading.load_encoder", lambda *a, **s: ENCODER)
    words = ["--pairs", "-n", 4, "--mode", "dense", "--pick", "top"]
    assert dupmae(home / "set", *words, "--output", "a.jsonl")[0] == 0
    assert list((tmp_path / "temp").iterdir()) == []
    texts = {f"{c}{n}": f"a {c} text, no {n}" for c in COLOURS for n in range(6)}
    texts["untitled"] = "no title, black"
    vectors = ENCODER.encode_documents(list(texts.values()), list(texts)).dense
    (_, example), *_ = read_examples(tmp_path / "a.jsonl")
    query = ENCODER.encode_queries([example.query]).dense[0]
    scores = dict(zip(texts, (vectors @ query).tolist(), strict=True))
    ranked = sorted(scores, key=lambda name: (-np.float32(scores[name]), name))
    assert [p.id for p in example.negatives] == [n for n in ranked if n != example.query_id][:4]
    assert example.positives[0].score == pytest.approx(scores[example.query_id], abs=1e-5)


def test_the_help_has_examples(capsys):
    code, out, _ = run(capsys, "mine", "--help")
    assert code == 0
    assert "Examples:" in out
