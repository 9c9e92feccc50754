"""Runs, BM25 and encoders as teachers: their scores against plain computations."""

from __future__ import annotations

import numpy as np
import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.bm25 import bm25_run
from dupmae_toolkit.mining.examples import Example, Passage
from dupmae_toolkit.mining.teachers.bm25 import LuceneBm25
from dupmae_toolkit.mining.teachers.encoder import EncoderTeacher
from dupmae_toolkit.mining.teachers.runs import RunsTeacher
from dupmae_toolkit.records import Document, Query
from dupmae_toolkit.search.fusion import Fusion
from tests.support import HashingEncoder


def example(query, names, query_id="q", texts=None):
    passages = [Passage(name, "", (texts or {}).get(name, f"text {name}")) for name in names]
    return Example(query_id, query, passages[:1], passages[1:])


@pytest.fixture
def runs(tmp_path):
    first = {"q": {"a": 9.0, "b": 5.0, "é": 1.0}, "only": {"a": 2.0}}
    second = {"q": {"b": 0.9, "d": 0.5, "a": 0.1}}
    paths = []
    for number, topics in enumerate((first, second)):
        path = tmp_path / f"{number}.trec"
        lines = [f"{t} Q0 {d} 1 {s} t\n" for t, found in topics.items() for d, s in found.items()]
        path.write_text("".join(lines))
        paths.append(path)
    return paths, (first, second)


ASKED = ["b", "a", "d", "é", "nowhere"]


def test_runs_are_fused_as_the_formula_says(runs):
    paths, topics = runs
    teacher = RunsTeacher(paths, Fusion("linear", (0.3, 0.7), "min-max"))
    expected = np.zeros(len(ASKED))
    for weight, found in zip((0.3, 0.7), topics, strict=True):
        scores = found["q"]
        low, high = min(scores.values()), max(scores.values())
        # What a run lacks counts as its smallest, which min-max makes 0.
        expected += [weight * (scores.get(name, low) - low) / (high - low) for name in ASKED]
    np.testing.assert_allclose(teacher.score([example("x", ASKED)]), expected)
    z = RunsTeacher(paths, Fusion("linear", (1.0, 2.0), "z-score"))
    expected = np.zeros(len(ASKED))
    for weight, found in zip((1.0, 2.0), topics, strict=True):
        values = np.array(list(found["q"].values()))
        least = values.min()
        own = np.array([found["q"].get(name, least) for name in ASKED])
        expected += weight * (own - values.mean()) / values.std()
    np.testing.assert_allclose(z.score([example("x", ASKED)]), expected)


def test_ranks_are_those_of_the_whole_lists(runs):
    teacher = RunsTeacher(runs[0], Fusion("rrf"))
    ranks = {"b": (2, 1), "a": (1, 3), "d": (0, 2), "é": (3, 0), "nowhere": (0, 0)}
    expected = [sum(1 / (60 + rank) for rank in ranks[name] if rank) for name in ASKED]
    np.testing.assert_allclose(teacher.score([example("x", ASKED)]), expected)


def test_what_a_run_lacks_can_be_left_out(runs):
    paths, _ = runs
    teacher = RunsTeacher(paths, missing="drop")
    scores = teacher.score([example("x", ASKED)])
    assert np.isnan(scores).tolist() == [False, False, True, True, True]
    whole = RunsTeacher(paths).score([example("x", ASKED)])
    np.testing.assert_array_equal(scores[:2], whole[:2])
    assert teacher.describe()["fusion"]["missing"] == "left out"
    assert "smallest" in RunsTeacher(paths).describe()["fusion"]["missing"]


def test_queries_that_runs_lack(runs):
    for missing in ("min", "drop"):
        teacher = RunsTeacher(runs[0], missing=missing)
        nobody = example("x", ASKED, "nobody")
        one = example("x", ASKED, "only")
        scores = teacher.score([nobody, one, example("x", ASKED)]).reshape(3, -1)
        assert np.isnan(scores[0]).all()
        assert np.isnan(scores[1]).all() == (missing == "drop")
        assert not np.isnan(scores[2][:2]).any()
    assert RunsTeacher(runs[0]).score([]).shape == (0,)


def test_one_run_gives_its_own_scores(runs):
    teacher = RunsTeacher(runs[0][:1])
    np.testing.assert_array_equal(teacher.score([example("x", ASKED)]), [5, 9, 1, 1, 1])
    described = teacher.describe()
    assert described["runs"][0]["tag"] == "t"
    assert described["fusion"]["method"] == "sum"


def test_runs_that_cannot_teach_are_refused(runs, tmp_path):
    with pytest.raises(InputError, match="3 given for 2 lists"):
        RunsTeacher(runs[0], Fusion("linear", (1.0, 1.0, 1.0)))
    with pytest.raises(InputError, match="min, drop"):
        RunsTeacher(runs[0], missing="zero")
    (tmp_path / "bad").write_text("q Q0 a 1 x t\n")
    with pytest.raises(InputError, match="bad:1"):
        RunsTeacher([tmp_path / "bad"])
    (tmp_path / "huge").write_text("q Q0 a 1 3e38 t\n")
    teacher = RunsTeacher([tmp_path / "huge"] * 2, Fusion("sum"))
    with pytest.raises(InputError, match="topic q: the fused scores are too large"):
        teacher.score([example("x", ["a"])])


@pytest.mark.parametrize("part", ["joint", "dense", "lexical"])
def test_an_encoder_scores_texts_by_its_vectors(part):
    encoder = HashingEncoder(size=128, dim=8)
    encoder.info = encoder.info.from_dict(
        encoder.info.to_dict() | {"dense_weight": 0.3, "lexical_weight": 1.7}
    )
    texts = {name: f"w{n % 4} w{n} common" for n, name in enumerate("abcdef")}
    examples = [
        example("w1 w2 common", list("abc"), "1", texts),
        example("w3", list("cdef"), "2", texts),
    ]
    expected = []
    for each in examples:
        query = encoder.encode_queries([each.query])
        for passage in each.passages:
            document = encoder.encode_documents([passage.contents])
            dense = query.dense[0].astype(np.float64) @ document.dense[0]
            lexical = query.lexical.toarray()[0].astype(np.float64) @ document.lexical.toarray()[0]
            expected.append(
                {"joint": 0.3 * dense + 1.7 * lexical, "dense": dense, "lexical": lexical}[part]
            )
    teacher = EncoderTeacher(encoder, part)
    np.testing.assert_allclose(teacher.score(examples), expected, rtol=1e-6, atol=1e-9)
    assert teacher.describe()["part"] == part
    assert teacher.describe()["encoder"]["name"] == "hashing"


def test_parts_that_an_encoder_does_not_have_are_refused():
    encoder = HashingEncoder()
    with pytest.raises(InputError, match="joint, dense, lexical"):
        EncoderTeacher(encoder, "sparse")
    encoder.info = encoder.info.from_dict(encoder.info.to_dict() | {"lexical_head": "none"})
    with pytest.raises(InputError, match="use the part dense"):
        EncoderTeacher(encoder)


@pytest.mark.java
def test_bm25_scores_every_document_as_its_search_does(tmp_path):
    draw = np.random.default_rng(0)
    words = ["wing", "flow", "pressure", "heat", "漢字", "naïve", "😀"]
    ids = ["é", "日本😀", '"', "d\\0", "NA", "+x:y*", "AND"] + [f"d{n}" for n in range(520)]
    documents = [
        Document(name, str(draw.choice(words)), " ".join(draw.choice(words, 3 + n % 17)))
        for n, name in enumerate(ids)
    ]
    queries = [
        Query("1", "wing pressure wing"),
        Query("2", "naïve 漢字 flow"),
        Query("3", "the of"),
    ]
    run = bm25_run(documents, queries, len(ids), tmp_path / "index")
    teacher = LuceneBm25(documents, tmp_path / "index")
    asked = [*ids, "ghost", ids[0]]
    found = teacher.score([example(query.text, asked, query.id) for query in queries])
    for query, scores in zip(queries, found.reshape(3, -1), strict=True):
        ranking = run[query.id]
        expected = dict.fromkeys(ids, 0.0) | dict(
            zip(ranking.ids, ranking.scores.tolist(), strict=True)
        )
        assert scores.tolist()[:-2] == [expected[name] for name in ids]
        assert np.isnan(scores[-2])
        assert scores[-1] == scores[0]
    assert teacher.describe()["kind"] == "bm25"
    teacher.close()
