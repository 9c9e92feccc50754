"""What a program asks of an index every day, in the forms in which it has its texts and weights."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dupmae_toolkit import Document, HybridIndex, Query, load_encoder
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.search.answers import MODES
from dupmae_toolkit.search.fusion import METHODS, Fusion
from dupmae_toolkit.search.given import given_queries, shown_by, with_weights
from tests.support import HashingEncoder

pytestmark = pytest.mark.java

ENCODER = HashingEncoder(size=256, dim=16)
WORDS = ["blue", "sea", "sky", "zebra", "stone", "river"]
DOCUMENTS = [
    Document(f"d{n}", "", " ".join(np.random.default_rng(n).choice(WORDS, 4)), {"n": n})
    for n in range(30)
]
TEXTS = ["blue sea", "zebra", "stone river sky"]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("verbs") / "index"
    return HybridIndex.build(path, DOCUMENTS, ENCODER)


def ids(run):
    return {topic: ranking.ids for topic, ranking in run.topics.items()}


def ranked(run):
    return {
        topic: list(zip(ranking.ids, ranking.scores.tolist(), strict=True))
        for topic, ranking in run.topics.items()
    }


# Documents by id.


def test_an_id_is_in_the_index_or_not(index):
    assert "d3" in index
    assert "d30" not in index
    assert "" not in index


@pytest.mark.parametrize("wrong", [3, None, b"d3", ["d3"]])
def test_an_id_that_is_no_string_is_refused(index, wrong):
    for ask in (lambda: wrong in index, lambda: index.get([wrong])):
        with pytest.raises(InputError, match=r"^the id .* is an? \w+; ids are strings$"):
            ask()


def test_get_one_and_many(index):
    assert index.get("d3").text == DOCUMENTS[3].text
    assert index.get("nowhere") is None
    found = index.get(name for name in ("d3", "d3", "no", "d1"))
    assert sorted(found) == ["d1", "d3"]
    assert found["d1"].metadata == {"n": 1}
    assert index.get([]) == {}


def test_deleted_documents_are_not_in_the_index(tmp_path):
    with HybridIndex.build(tmp_path / "index", DOCUMENTS[:4], ENCODER) as small:
        small.delete(["d2"])
        assert "d2" not in small
        assert small.get("d2") is None
        assert list(small.get(["d2", "d3"])) == ["d3"]
        assert list(small.scores("blue", ["d2", "d3"])) == ["d3"]


# Scores of given documents.


def test_scores_are_those_of_a_search(index):
    hits = index.search("blue sea", k=30)
    scores = index.scores("blue sea", [hit.id for hit in hits] + ["nowhere"])
    assert scores == {hit.id: hit.score for hit in hits}


def test_scores_of_one_text_equal_those_of_many(index):
    names = ["d1", "d7", "d9"]
    many = index.scores(TEXTS, [names] * len(TEXTS))
    assert many == [index.scores(text, names) for text in TEXTS]
    assert many == index.scores(dict(enumerate_texts()), [names] * len(TEXTS))


def enumerate_texts():
    return [(f"q{n}", text) for n, text in enumerate(TEXTS)]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (("", ["d1"]), "no text"),
        (("blue", "d1"), "a list of strings, not 'd1'"),
        (("blue", [1]), "the id 1 is an int"),
        ((["blue"], [["d1"], ["d2"]]), "1 query with 2 lists"),
        ((7, ["d1"]), "the queries given: an int"),
    ],
)
def test_scores_of_wrong_forms_are_refused(index, given, fault):
    with pytest.raises(InputError, match=fault):
        index.scores(*given)


# Weights.


def test_weights_in_order_and_by_name_are_those_of_a_fusion(index):
    expected = index.search("blue sea", fusion=Fusion("sum", (0.0, 2.0, 0.5)))
    assert index.search("blue sea", weights=(0, 2, 0.5)) == expected
    assert index.search("blue sea", weights=np.array([0, 2, 0.5])) == expected
    assert index.search("blue sea", weights={"bm25": 0.5, "lexical": 2}) == expected
    (hit, *_) = expected
    assert hit.score == pytest.approx(2 * hit.lexical + 0.5 * hit.bm25)


def test_weights_of_a_linear_fusion(index):
    run = index.search_batch(TEXTS, fusion="linear", weights={"dense": 1, "lexical": 3})
    expected = index.search_batch(TEXTS, fusion=Fusion("linear", (1.0, 3.0, 0.0)))
    assert ranked(run) == ranked(expected)
    assert run.metadata["fusion"]["weights"] == [1.0, 3.0, 0.0]


def test_weights_of_the_plain_score(index):
    hits = index.search("blue sea", plain=True, weights=[0, 1])
    assert [hit.score for hit in hits] == [hit.lexical for hit in hits]


def test_an_explanation_takes_weights(index):
    explained = index.explain("blue sea", "d1", weights={"lexical": 2})
    (score,) = index.scores("blue sea", ["d1"], index.request(weights={"lexical": 2})).values()
    assert explained.score == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(
    "weights",
    [
        *((1, 2), (1, 2, 3, 4), [], {}, {"tokens": 1}, "1,2,3", 5, (1, "2", 3), (True, 1, 1)),
        *([float("nan")] * 3, [float("inf"), 0, 0], [-1, 1, 1]),
    ],
)
def test_wrong_weights_are_refused(index, weights):
    with pytest.raises(InputError, match="weight"):
        index.search("blue", weights=weights)


def test_weights_are_given_once_and_to_a_fusion(index):
    with pytest.raises(InputError, match="give them once"):
        index.search("blue", fusion=Fusion("sum", (1.0, 1.0, 1.0)), weights=(1, 1, 1))
    with pytest.raises(InputError, match="leave out weights"):
        index.search("blue", mode="dense", weights=(1, 1, 1))


@pytest.mark.parametrize("fusion", [3, ["sum"], None, b"sum"])
def test_a_fusion_of_a_wrong_type_is_refused(index, fusion):
    for weights in (None, (1, 1, 1)):
        with pytest.raises(InputError, match=f"fusion is an? {type(fusion).__name__}; give one of"):
            index.search("blue", fusion=fusion, weights=weights)


def test_weights_may_stay_in_their_order_without_an_index():
    fusion = with_weights("rrf", {"dense": 2}, ("dense", "lexical"), "hybrid")
    assert fusion == Fusion("rrf", (2.0, 0.0))


# Queries in every form.


def test_a_batch_of_any_form_is_the_same(index):
    named = dict(enumerate_texts())
    expected = index.search_batch([Query(name, text) for name, text in named.items()], k=5)
    frame = pd.DataFrame({"id": list(named), "text": TEXTS})
    dicts = [{"id": name, "text": text} for name, text in named.items()]
    for form in (named, frame, dicts, iter(dicts)):
        assert ranked(index.search_batch(form, k=5)) == ranked(expected)
    vectors = ENCODER.encode_queries(TEXTS, list(named))
    vectors.texts = TEXTS
    assert ids(index.search_batch(vectors, k=5)) == ids(expected)


def test_texts_without_ids_are_numbered(index):
    run = index.search_batch(TEXTS, k=3)
    assert list(run) == ["0", "1", "2"]
    for number, text in enumerate(TEXTS):
        assert ids(run)[str(number)] == [hit.id for hit in index.search(text, k=3)]


@pytest.mark.parametrize(
    "given", ["blue", b"blue", 3, None, Query("1", "blue"), Path("q.tsv"), [1], [["blue"]], [None]]
)
def test_what_holds_no_queries_is_refused_in_one_line(index, given):
    with pytest.raises(InputError, match="the queries given: ") as refused:
        index.search_batch(given)
    assert "mapping of ids to texts" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_queries_without_text_or_with_one_id_are_refused(index):
    for given in ([""], {"a": " "}, [Query("a", "x"), Query("a", "y")]):
        with pytest.raises(InputError):
            index.search_batch(given)


def test_queries_stay_what_they_are_if_they_are_ready():
    ready = [Query("a", "x")]
    assert given_queries(ready) == ready


# Encoders and progress.


def test_an_index_is_built_with_an_encoder_by_name(tmp_path):
    built = HybridIndex.build(tmp_path / "index", ["blue sea", "a zebra"], "builtin")
    assert built.search("zebra")[0].id == "1"
    assert built.manifest.encoder.name == "builtin"
    by_path = HybridIndex.open(tmp_path / "index", load_encoder("builtin"))
    assert by_path.search("zebra") == built.search("zebra")


@pytest.mark.parametrize("wrong", [3, None, object(), ["builtin"], dict])
def test_what_is_no_encoder_is_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(InputError, match=r"encoder is an? .*builtin"):
        HybridIndex.build(tmp_path / "index", ["blue"], wrong)
    assert not (tmp_path / "index").exists()


def test_an_index_is_not_opened_with_what_is_no_encoder(index):
    with pytest.raises(InputError, match="encoder is an int"):
        HybridIndex.open(index.path, 3)
    with pytest.raises(InputError, match=r"no/such/model"):
        HybridIndex.open(index.path, Path("no/such/model"))


@pytest.mark.parametrize("progress", [True, False, None])
def test_progress_may_be_true(tmp_path, index, progress, capsys):
    HybridIndex.build(tmp_path / "index", DOCUMENTS[:3], ENCODER, progress=progress).close()
    index.search_batch(TEXTS, progress=progress)
    assert capsys.readouterr() == ("", "")  # a bar is for a terminal


def test_progress_may_not_be_something_else(index):
    with pytest.raises(InputError, match="progress is a str; give True, False, or a function"):
        index.search_batch(TEXTS, progress="yes")
    assert shown_by(print) is print


# Hits and types.


def test_a_hit_is_written_as_json(tmp_path):
    documents = [Document("a", "T", "blue", {"day": date(2024, 5, 1), "tags": ["x"], "n": 1})]
    index = HybridIndex.build(tmp_path / "index", documents, ENCODER)
    (hit,) = index.search("blue")
    values = json.loads(json.dumps(hit.to_dict()))
    assert values["id"] == "a"
    assert values["score"] == hit.score
    assert values["metadata"] == {"day": "2024-05-01", "tags": ["x"], "n": 1}
    assert hit.metadata["day"] == date(2024, 5, 1)


def test_the_names_of_modes_and_fusions_are_typed():
    assert MODES == ("hybrid", "dense", "lexical", "bm25")
    assert METHODS == ("sum", "linear", "rrf", "combsum", "combmnz")


# Ids to search among.


def test_unknown_ids_of_among_are_counted_in_a_warning(index):
    with pytest.warns(UserWarning, match=r"^2 of 3 ids in among are not in the index$"):
        hits = index.search("blue", among=["d1", "x", "y"])
    assert [hit.id for hit in hits] == ["d1"]
    with pytest.warns(UserWarning, match=r"^1 of 1 id in among is not in the index$"):
        assert ids(index.search_batch(["blue"], among=["x"])) == {"0": []}


def test_known_ids_of_among_warn_of_nothing(index, recwarn):
    index.search("blue", among=["d1", "d2"])
    index.search_batch(["blue"], among=iter(["d1", "d2"]))
    assert not recwarn.list
