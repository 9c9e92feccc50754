"""The lexical leg in memory gives what Lucene gives, and both what scipy gives."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array, csr_matrix, random

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.index.lucene import LuceneImpacts, write_lucene
from dupmae_toolkit.search.inputs import rounded
from dupmae_toolkit.search.lexical import Postings, Terms
from dupmae_toolkit.search.snapshot import Shards
from tests.index_support import documents_of
from tests.support import HashingEncoder

TERMS = [f"t{number}" for number in range(80)]


def impacts_of(count: int, most: int = 255, seed: int = 0) -> csr_matrix:
    matrix = random(count, len(TERMS), 0.15, format="csr", random_state=seed)
    matrix.data = np.ceil(matrix.data * most)
    matrix[:, 7] = 0  # a term that no document has
    matrix.eliminate_zeros()
    if count > 5:
        matrix = csr_matrix(np.repeat(matrix.toarray(), 1, axis=0))
        matrix[5] = matrix[1]  # equal scores
        matrix[4] = 0
        matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix.astype(np.uint8 if most < 256 else np.uint16)


def queries_of(count: int, most: int = 255, seed: int = 1) -> csr_matrix:
    matrix = random(count, len(TERMS), 0.1, format="csr", random_state=seed, dtype=np.float32)
    matrix.data = round_weights(matrix.data * 3, most)
    matrix = matrix.tolil()
    matrix[0] = 0
    matrix[1] = 0
    matrix[1, 7] = 1
    return matrix.tocsr()


@pytest.mark.java
@pytest.mark.parametrize("count", [1, 6, 300])
@pytest.mark.parametrize("most", [255, 65_535])
def test_documents_and_scores_are_those_of_lucene_and_of_scipy(tmp_path, count, most):
    impacts, queries = impacts_of(count, most), queries_of(20, most)
    write_lucene(tmp_path / "lucene", [f"d{i:05}" for i in range(count)], impacts, TERMS)
    lucene = LuceneImpacts(tmp_path / "lucene", TERMS)
    exact = (queries.astype(np.float64) @ impacts.T.astype(np.float64)).toarray()
    postings = Postings(impacts)
    for k in (1, 7, 1000):
        theirs = lucene.search(queries, k)
        ours, every = postings.search(queries, k), postings.all_scores(queries)
        for number, ((rows, scores), (lucenes, float32s)) in enumerate(
            zip(ours, theirs, strict=True)
        ):
            np.testing.assert_array_equal(rows, lucenes)
            np.testing.assert_array_equal(scores.astype(np.float32), float32s)
            np.testing.assert_array_equal(scores, exact[number][rows])
            np.testing.assert_array_equal(every[number], exact[number])
    lucene.close()


def test_queries_of_as_many_terms_are_added_up_side_by_side():
    impacts = impacts_of(3000)
    postings = Postings(impacts)
    rng = np.random.default_rng(3)
    terms = [np.sort(rng.choice(len(TERMS), 9, replace=False)) for _ in range(400)]
    queries = csr_matrix(
        (np.ones(9 * 400, np.float32), np.concatenate(terms), np.arange(0, 9 * 401, 9)),
        shape=(400, len(TERMS)),
    )
    expected = (queries @ impacts.astype(np.float64).T).toarray()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: postings.all_scores(queries[i])[0], range(400)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", [csr_matrix, csr_array])
@pytest.mark.parametrize("numbers", [np.int8, np.int16, np.int64])
def test_queries_in_other_forms_of_csr_give_the_same(kind, numbers):
    postings = Postings(impacts_of(40))
    plain = queries_of(5)
    other = kind(plain)
    other.indices = other.indices.astype(numbers)
    given = rounded(other)
    assert type(given) is csr_matrix
    for mine, theirs in zip(postings.all_scores(given), postings.all_scores(plain), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert postings.all_scores(given[3])[0].any()
    # The last number that eight bits hold: what lies behind it is not its negative.
    wide = csr_matrix((np.ones(1, np.float32), np.array([127], np.int32), [0, 1]), shape=(1, 200))
    narrow = csr_matrix(wide)
    narrow.indices = narrow.indices.astype(np.int8)
    impacts = csr_matrix((np.full(1, 7, np.uint8), ([0], [127])), shape=(2, 200))
    assert Postings(impacts).all_scores(rounded(narrow))[0].tolist() == [7, 0]


def test_a_query_without_a_known_term_finds_nothing():
    found = Postings(impacts_of(30)).search(queries_of(2), 5)
    assert [len(rows) for rows, _ in found] == [0, 0]


def test_no_documents_with_terms_at_all():
    postings = Postings(csr_matrix((4, len(TERMS)), dtype=np.uint8))
    assert len(postings) == 4
    assert all(not len(rows) for rows, _ in postings.search(queries_of(5), 3))


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("postings") / "index"
    with_three = HybridIndex.build(path, documents_of(90), HashingEncoder(), segment_size=40)
    with_three.delete([document.id for document in documents_of(90)][5:20])
    with_three.close()
    return path


@pytest.mark.java
@pytest.mark.parametrize("mode", ["hybrid", "lexical"])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("fusion", ["sum", "rrf"])
def test_an_index_answers_the_same_with_lucene_and_in_memory(index, mode, exact, fusion):
    if exact and fusion == "rrf":
        pytest.skip("only sums are exact")
    texts = [document.contents for document in documents_of(90)][::4]
    texts += ["unheard", "w1 w1 w2"]
    found = []
    # All in memory, the smallest segment alone, and none.
    for most in (10**9, 400, 0):
        opened = HybridIndex.open(index, HashingEncoder(), max_postings=most)
        for k, depth in ((1, 100), (10, 100), (60, 100)):
            hits = opened.search(texts, k, mode=mode, exact=exact, depth=depth, fusion=fusion)
            one_by_one = [
                opened.search(text, k, mode=mode, exact=exact, depth=depth, fusion=fusion)
                for text in texts
            ]
            assert one_by_one == hits
            found.append((most, k, hits))
    for k in (1, 10, 60):
        whole, some, none = (hits for _, own, hits in found if own == k)
        assert whole == some == none


def test_the_smaller_segments_are_held_in_memory(index):
    opened = HybridIndex.open(index, HashingEncoder())
    segments = opened._snapshot.segments
    sizes = [segment.forward.impacts.nnz for segment in segments]
    assert [shard.in_memory for shard in Shards().lexical(segments, sum(sizes))] == [True] * len(
        sizes
    )
    most = sum(sizes) - 1
    shards = Shards().lexical(segments, most)
    assert sum(shard.in_memory for shard in shards) == len(sizes) - 1
    assert not shards[int(np.argmax(sizes))].in_memory
    query = Terms(np.array([0, 3]), np.float32([1, 2]))
    assert [len(shard.score(query, np.arange(2))) for shard in shards] == [2] * len(sizes)
    opened.close()


def test_a_search_in_memory_starts_no_java(index):
    script = (
        "from dupmae_toolkit import HybridIndex, jvm\n"
        "from tests.support import HashingEncoder\n"
        f"found = HybridIndex.open({str(index)!r}, HashingEncoder()).search('w1 w2', 3)\n"
        "assert found and not jvm.is_running(), found\n"
    )
    command = [sys.executable, "-c", script]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
