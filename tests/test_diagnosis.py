"""What parts find: a collection where it is known by construction, and brute force."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from dupmae_toolkit import Document, HybridIndex, Query
from dupmae_toolkit.encoding.source import Memory
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.diagnosis import diagnose
from dupmae_toolkit.evaluation.part_rankings import drawn
from dupmae_toolkit.files import sha256_lines
from dupmae_toolkit.records import EncoderInfo, Representations
from tests.brute import BruteForce
from tests.cli_support import run
from tests.index_support import documents_of
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

SECOND = 1 / math.log2(3)
#: Text → its place in the dense space and its token's weight.
AXES = {"dense": 0, "both": 1, "harm": 2, "spare": 3}
TOKENS = ["lex", "all", "zero"]
DOCUMENTS = [Document(f"a{n:02}", "", f"filler{n}") for n in range(15)]
DOCUMENTS += [
    Document("z-dense", "", "unlike"),
    Document("z-lexical", "", "other"),
    Document("z-bm25", "", "gamma ray"),
    Document("z-all", "", "delta"),
    Document("z-harm", "", "epsilon"),
]
QUERIES = [
    Query("by dense", "nowhere"),
    Query("by lexical", "nothing"),
    Query("by bm25", "gamma"),
    Query("by all", "delta"),
    Query("harmed by dense", "epsilon"),
]
QRELS = {
    "by dense": {"z-dense": 1},
    "by lexical": {"z-lexical": 1, "a00": 0},
    "by bm25": {"z-bm25": 1},
    "by all": {"z-all": 2},
    "harmed by dense": {"z-harm": 1},
}
#: nDCG@10 of the sum, and without each part, topic by topic: a document that no part scores
#: comes after the fifteen that sort before it.
EXPECTED = {
    "hybrid": [1, 1, 1, 1, SECOND],
    "without dense": [0, 1, 1, 1, 1],
    "without lexical": [1, 0, 1, 1, SECOND],
    "without bm25": [1, 1, 0, 1, 0],
}


class TableEncoder:
    """Vectors by construction: each text has a place of its own."""

    vocabulary = TOKENS
    dense = {  # noqa: RUF012
        "nowhere": ("dense", 1.0),
        "unlike": ("dense", 1.0),
        "delta": ("both", 1.0),
        "epsilon query": ("harm", 1.0),
        "filler0": ("harm", 50.0),
    }
    lexical = {"nothing": "lex", "other": "lex", "delta": "all"}  # noqa: RUF012
    info = EncoderInfo(
        name="table",
        weights_sha256="0" * 64,
        vocabulary_sha256=sha256_lines(TOKENS),
        vocabulary_size=len(TOKENS),
        dense_dim=len(AXES),
        fitted_weights=(1.0, 1.0, 1.0),
        largest_weight=1.0,
    )

    def encode_documents(self, texts, ids=None, suffix="") -> Representations:
        dense = np.zeros((len(texts), len(AXES)), np.float32)
        lexical = np.zeros((len(texts), len(TOKENS)), np.float32)
        for row, text in enumerate(texts):
            axis, size = self.dense.get(text + suffix, self.dense.get(text, ("spare", 0.0)))
            dense[row, AXES[axis]] = size
            if text in self.lexical:
                lexical[row, TOKENS.index(self.lexical[text])] = 1.0
        names = ids or [str(row) for row in range(len(texts))]
        return Representations(names, dense, csr_matrix(lexical))

    def encode_queries(self, texts, ids=None) -> Representations:
        return replace(self.encode_documents(texts, ids, " query"), texts=list(texts))


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> HybridIndex:
    folder = tmp_path_factory.mktemp("known") / "index"
    return HybridIndex.build(folder, DOCUMENTS, TableEncoder())


def test_each_part_wins_the_topics_that_only_it_can_find(known):
    found = diagnose(known, QUERIES, QRELS)
    assert (found.topics, found.documents, found.left_out) == (5, 20, {})
    assert found.means["hybrid"].mean == pytest.approx(np.mean(EXPECTED["hybrid"]))
    for part in ("dense", "lexical", "bm25"):
        removal = found.removals[part]
        lacking = np.array(EXPECTED[f"without {part}"])
        gains = np.array(EXPECTED["hybrid"]) - lacking
        assert removal.without == pytest.approx(lacking.mean())
        assert removal.cost.mean == pytest.approx(gains.mean())
        assert (removal.won, removal.lost) == ((gains > 0).sum(), (gains < 0).sum())
        assert removal.won + removal.lost + removal.tied == 5
        assert removal.refitted is None
    assert {each.parts: (each.answers, each.kept) for each in found.found if each.answers} == {
        ("dense", "lexical", "bm25"): (1, 1),
        ("dense",): (1, 1),
        ("lexical",): (1, 1),
        ("bm25",): (2, 2),
    }


def test_examples_are_the_topics_won_and_lost_with_the_ranks_of_their_answers(known):
    examples = diagnose(known, QUERIES, QRELS).examples
    shown = {part: [each.topic for each in how["won"]] for part, how in examples.items()}
    assert shown == {
        "dense": ["by dense"],
        "lexical": ["by lexical"],
        "bm25": ["by bm25", "harmed by dense"],
    }
    (lost,) = examples["dense"]["lost"]
    assert (lost.topic, lost.query, lost.answer) == ("harmed by dense", "epsilon", "z-harm")
    assert (lost.value, lost.without) == (pytest.approx(SECOND), 1)
    assert lost.ranks == {
        "hybrid": 2,
        "without dense": 1,
        "dense": 19,  # by id: nothing but a00 scores
        "lexical": None,
        "bm25": 1,
    }
    assert not examples["lexical"]["lost"]
    none = diagnose(known, QUERIES, QRELS, examples=0).examples
    assert none["dense"] == {"won": [], "lost": []}


def test_groups_hold_the_topics_of_their_kind(known):
    groups = {(each.by, each.name): each for each in diagnose(known, QUERIES, QRELS).groups}
    unknown = groups["query has", "a word in no document"]
    assert unknown.topics == 2
    assert unknown.costs["dense"].mean == unknown.costs["lexical"].mean == 0.5
    assert unknown.costs["bm25"].mean == 0
    assert unknown.means["bm25"] == 0
    rare = groups["query has", "a rare word"]
    assert (rare.topics, rare.costs["bm25"].mean) == (3, pytest.approx((1 + SECOND) / 3))
    assert groups["query's words in the answer", "none"].topics == 2
    assert groups["query's words in the answer", "all"].topics == 3
    # The token "lex" stands in neither text, "all" in neither of "delta".
    assert groups["lexical score by expansion", "more than ¾"].topics == 2
    assert groups["lexical score by expansion", "no lexical score"].topics == 3
    assert groups["query length", "1–4 words"].topics == 5


def test_refitting_finds_what_other_weights_would_give(known):
    """Without bm25, no ratio helps; without lexical, a small weight of dense would."""
    weights = (1.0, 1.0, 1.0)
    found = diagnose(known, QUERIES, QRELS, weights=weights, refit=True)
    bm25, lexical = found.removals["bm25"], found.removals["lexical"]
    assert (bm25.refitted.mean, bm25.ratio) == (pytest.approx(bm25.cost.mean), 1.0)
    assert lexical.refitted.mean <= lexical.cost.mean + 1e-12
    for removal in found.removals.values():
        assert removal.refitted.mean <= removal.cost.mean + 1e-12


def test_a_weight_of_nothing_costs_nothing(known):
    found = diagnose(known, QUERIES, QRELS, weights=(1.0, 0.0, 1.0))
    removal = found.removals["lexical"]
    assert (removal.cost.mean, removal.won, removal.lost) == (0, 0, 0)
    with pytest.raises(InputError, match="nothing is left without one part"):
        diagnose(known, QUERIES, QRELS, weights=(1.0, 0.0, 0.0))


def test_what_cannot_be_used_is_counted(known):
    queries = [*QUERIES, Query("nobody judged", "this"), Query("no answer", "delta")]
    qrels = QRELS | {
        "no query": {"z-all": 1},
        "no answer": {"z-all": 0},
        "by all": {"z-all": 1, "gone": 1},
    }
    found = diagnose(known, queries, qrels)
    assert found.topics == 6
    assert found.left_out == {
        "queries without judgements": 1,
        "judged topics without a query": 1,
        "answers that the index lacks": 1,
        "topics without an answer": 1,
    }
    with pytest.raises(InputError, match="not one of the 5 queries is judged"):
        diagnose(known, QUERIES, {"else": {"z-all": 1}})


def test_a_topic_that_is_a_document_is_not_its_own_answer(known):
    queries, qrels = [Query("z-all", "delta")], {"z-all": {"z-all": 1}}
    queries.append(Query("z", "delta"))
    qrels["z"] = {"z-all": 1}
    kept = diagnose(known, queries, qrels).means["hybrid"].mean
    dropped = diagnose(known, queries, qrels, drop_self=True).means["hybrid"].mean
    assert (kept, dropped) == (1.0, 0.5)


def test_vectors_without_texts_are_refused(known):
    vectors = TableEncoder().encode_queries(["delta"], ["by all"])
    assert diagnose(known, vectors, QRELS).topics == 1
    vectors.texts = None
    with pytest.raises(InputError, match="text"):
        diagnose(known, vectors, QRELS)


# --- random documents, by brute force


def ndcg(ids, grades) -> float:
    gains = [grades.get(name, 0) / math.log2(rank + 1) for rank, name in enumerate(ids[:10], 1)]
    best = sorted(grades.values(), reverse=True)[:10]
    ideal = sum(grade / math.log2(rank + 1) for rank, grade in enumerate(best, 1))
    return sum(gains) / ideal


@pytest.mark.parametrize("most", [1 << 30, 0])
def test_costs_are_those_of_brute_force(tmp_path, most):
    encoder = HashingEncoder(largest_weight=4.0)
    documents = documents_of(80, seed=3)
    HybridIndex.build(tmp_path / "index", documents, encoder).close()
    queries = [Query(f"q{n}", " ".join(documents[n].text.split()[2:5])) for n in range(20)]
    dice = np.random.default_rng(0)
    qrels = {
        query.id: {documents[n].id: int(grade)}
        | {documents[m].id: 1 for m in dice.integers(0, 80, 4).tolist() if m != n}
        for n, (query, grade) in enumerate(zip(queries, dice.integers(1, 4, 20), strict=True))
    }
    weights = (3.0, 0.5, 1.0)
    with HybridIndex.open(tmp_path / "index", encoder, max_postings=most) as index:
        found = diagnose(index, queries, qrels, weights=weights)
        brute = BruteForce(documents, encoder, index.manifest)
    total = [
        ndcg([i for i, _ in brute.ranked(q.text, "hybrid", 10, weights)], qrels[q.id])
        for q in queries
    ]
    assert found.means["hybrid"].mean == pytest.approx(np.mean(total), abs=1e-6)
    for place, part in enumerate(("dense", "lexical", "bm25")):
        others = [0.0 if n == place else weight for n, weight in enumerate(weights)]
        lacking = [
            ndcg([i for i, _ in brute.ranked(q.text, "hybrid", 10, others)], qrels[q.id])
            for q in queries
        ]
        gains = np.array(total) - np.array(lacking)
        assert np.abs(gains).max() > 0.05
        removal = found.removals[part]
        assert removal.cost.mean == pytest.approx(gains.mean(), abs=1e-6)
        assert removal.won == (gains > 1e-6).sum()
        assert removal.lost == (gains < -1e-6).sum()
        alone = [ndcg([i for i, _ in brute.ranked(q.text, part, 10)], qrels[q.id]) for q in queries]
        assert found.means[part].mean == pytest.approx(np.mean(alone), abs=1e-6)


def test_an_index_without_bm25_has_two_parts(tmp_path):
    encoder, documents = HashingEncoder(largest_weight=4.0), documents_of(30)
    queries = [Query(f"q{n}", documents[n].text[:9]) for n in range(4)]
    qrels = {query.id: {documents[n].id: 1} for n, query in enumerate(queries)}
    with HybridIndex.build(tmp_path / "index", documents, encoder, bm25=False) as index:
        found = diagnose(index, queries, qrels)
    assert list(found.removals) == ["dense", "lexical"]
    assert not {"a rare word", "a word in no document"} & {each.name for each in found.groups}


# --- samples


def test_a_sample_depends_on_names_and_seed_alone():
    names = [f"t{n}" for n in range(100)]
    rows = list(range(100))
    some = drawn(rows, names, 10, 1)
    assert len(set(some)) == 10
    assert some == sorted(some)
    assert drawn(rows, names, 10, 2) != some
    backwards = drawn(rows, names[::-1], 10, 1)
    assert {names[::-1][row] for row in backwards} == {names[row] for row in some}
    assert drawn(rows, names, 100, 1) == drawn(rows, names, 1000, 1) == rows
    with pytest.raises(InputError, match="draw at least one"):
        drawn(rows, names, 0, 1)


# --- the command


@pytest.fixture
def files(tmp_path, known, monkeypatch):
    """The known collection as files, and its encoder at hand."""
    monkeypatch.setattr(
        "dupmae_toolkit.search.hybrid_index.load_encoder", lambda *_, **__: TableEncoder()
    )
    monkeypatch.setenv("COLUMNS", "80")
    queries, qrels = tmp_path / "q.jsonl", tmp_path / "q.qrels"
    queries.write_text(
        "".join(json.dumps({"_id": q.id.replace(" ", "-"), "text": q.text}) + "\n" for q in QUERIES)
    )
    lines = [
        f"{topic.replace(' ', '-')} 0 {name} {grade}\n"
        for topic, grades in QRELS.items()
        for name, grade in grades.items()
    ]
    qrels.write_text("".join(lines))
    return queries, qrels


def test_the_command_prints_tables_and_json(files, known, capsys):
    queries, qrels = files
    command = ["diagnose", "--index", known.path, "--queries", queries, "--qrels", qrels]
    code, out, err = run(capsys, *command)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("5 topics, 20 documents; hybrid = 1 × dense + 1 × lexical + 1 × ")
    (dense,) = [line.split() for line in lines if line.startswith("dense  ")]
    assert dense[5:7] == ["0.8000", "+0.1262"]
    assert ["only", "bm25", "2", "2"] in [line.split() for line in lines]
    assert "harmed-by-dense: epsilon → z-harm" in out
    code, out, err = run(capsys, *command, "--json", "--refit", "--examples", 1)
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert values["removals"]["bm25"]["won"] == 2
    assert values["removals"]["bm25"]["ratio"] == 1
    assert len(values["examples"]["bm25"]["won"]) == 1
    assert values["measure"] == "nDCG@10"


def test_the_command_takes_encoded_queries_and_samples(files, known, capsys, tmp_path):
    _, qrels = files
    topics = [Document(q.id.replace(" ", "-"), "", q.text) for q in QUERIES]
    encode_corpus(
        Memory([Query(t.id, t.text) for t in topics], "q"),
        TableEncoder(),
        tmp_path / "encoded",
        kind="queries",
    )
    command = ["diagnose", "--index", known.path, "--queries", tmp_path / "encoded"]
    code, out, err = run(capsys, *command, "--qrels", qrels, "--sample", 3, "--json")
    assert code == 0, err
    assert json.loads(out)["topics"] == 3
    assert "topics that were not drawn: 2" in err
    code, out, err = run(capsys, *command)
    assert (code, out) == (2, "")
    assert "--qrels" in err


def test_a_test_split_is_not_for_development(files, known, capsys, tmp_path):
    queries, _ = files
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "z-all", "text": "delta"}\n')
    (folder / "queries.jsonl").write_text(queries.read_text())
    for split in ("test", "dev"):
        rows = "query-id\tcorpus-id\tscore\nby-all\tz-all\t1\n"
        (folder / "qrels" / f"{split}.tsv").write_text(rows)
    command = ["diagnose", "--index", known.path, "--queries", folder, "--split"]
    assert "cannot be tested on these topics" in run(capsys, *command, "test")[2]
    assert run(capsys, *command, "dev")[2] == ""


def test_texts_cannot_play_with_the_terminal(known, capsys, tmp_path, files):
    queries, qrels = tmp_path / "q.tsv", tmp_path / "q.qrels"
    queries.write_text("1\tdelta [bold]\x1b[31m red\u202e\n2\tgamma\n")
    qrels.write_text("1 0 z-bm25 1\n2 0 z-bm25 1\n")
    command = ["diagnose", "--index", known.path, "--queries", queries, "--qrels", qrels]
    code, out, _ = run(capsys, *command)
    assert code == 0
    assert "\x1b" not in out
    assert "\u202e" not in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "name the judgements"),
        (["--examples", -1], "give 0 or more"),
        (["--weights", "1,0,0"], "nothing is left without one part"),
        (["--weights", "1,1"], "2 weights for the 3 parts"),
        (["--sample", 0], "draw at least one"),
        (["--idf-power", "nan"], "idf power nan"),
    ],
)
def test_wrong_options_are_refused_in_one_line(files, known, capsys, options, said):
    queries, qrels = files
    command = ["diagnose", "--index", known.path, "--queries", queries]
    given = ["--qrels", qrels, *options] if options else []
    code, out, err = run(capsys, *command, *given)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
