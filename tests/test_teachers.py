"""Teachers of a batch, against plain transformers and BM25's formula."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.tokens import pad, tokenize
from dupmae_toolkit.training.data.frequencies import TermFrequencies
from dupmae_toolkit.training.data.groups import Pair
from dupmae_toolkit.training.data.pair_collator import PairCollator
from dupmae_toolkit.training.joined_vectors import JoinedVectors
from dupmae_toolkit.training.pair_model import ask_teachers
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.sources import DataSource, TeacherSource
from dupmae_toolkit.training.teachers import Side, Teachers
from tests.families import save_checkpoint

QUERIES = ["river", "the star and the moon"]
WORDS = ["river", "water", "star", "moon", "war", "the", "and"]
DOCUMENTS = ["war of the star and the moon", "river river water", "moon"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("teacher"), seed=5)


@pytest.fixture(scope="module")
def encoder(folder):
    return DupMAEEncoder.from_pretrained(folder)


def side(encoder, texts):
    return Side(*pad(tokenize(encoder.tokenizer, texts, 20).ids, encoder.pad_id))


def scores(encoder, *sources):
    teachers = Teachers(sources, encoder, TermFrequencies.of(encoder, DOCUMENTS, 20))
    return teachers(side(encoder, QUERIES), side(encoder, DOCUMENTS)).logits


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_dense_teacher_gives_cosines_of_pooled_states(folder, encoder, pooling):
    lm = AutoModelForMaskedLM.from_pretrained(folder).eval()

    def vector(text):
        with torch.no_grad():
            hidden = lm.bert(**encoder.tokenizer([text], return_tensors="pt"))[0][0]
        return hidden.mean(0) if pooling == "mean" else hidden[0]

    found = scores(encoder, TeacherSource("dense", str(folder), pooling, scale=2.0))
    for i, query in enumerate(QUERIES):
        for j, document in enumerate(DOCUMENTS):
            wanted = torch.cosine_similarity(vector(query), vector(document), dim=0)
            assert found[i, j].item() == pytest.approx(2 * wanted.item(), abs=1e-5)


def test_a_lexical_teacher_gives_dot_products_of_splade_weights(folder, encoder):
    lm = AutoModelForMaskedLM.from_pretrained(folder).eval()

    def weights(text):
        with torch.no_grad():
            logits = lm(**encoder.tokenizer([text], return_tensors="pt")).logits[0, 1:-1]
        return torch.log1p(torch.relu(logits)).amax(0)

    found = scores(encoder, TeacherSource("lexical", str(folder), scale=0.5))
    for i, query in enumerate(QUERIES):
        for j, document in enumerate(DOCUMENTS):
            wanted = 0.5 * weights(query) @ weights(document)
            assert found[i, j].item() == pytest.approx(wanted.item(), rel=1e-4, abs=1e-5)


def test_a_bm25_teacher_follows_the_formula(encoder):
    ids = [encoder.tokenizer(text)["input_ids"] for text in DOCUMENTS]
    special = set(encoder.tokenizer.all_special_ids) - {encoder.tokenizer.unk_token_id}
    mean = sum(map(len, ids)) / len(ids)

    def wanted(query, document):
        total = 0.0
        for term in encoder.tokenizer(query)["input_ids"]:
            if term in special:
                continue
            frequency = sum(term in row for row in ids)
            idf = math.log(1 + (len(ids) - frequency + 0.5) / (frequency + 0.5))
            count = document.count(term)
            norm = 0.9 * (1 - 0.4 + 0.4 * len(document) / mean)
            total += idf * count * 1.9 / (count + norm)
        return total

    found = scores(encoder, TeacherSource("bm25", scale=3.0))
    for i, query in enumerate(QUERIES):
        for j, row in enumerate(ids):
            assert found[i, j].item() == pytest.approx(3 * wanted(query, row), rel=1e-4, abs=1e-5)


def test_what_several_teachers_say_is_added(folder, encoder):
    sources = [
        TeacherSource("dense", str(folder), scale=3.0),
        TeacherSource("lexical", str(folder), scale=0.2),
        TeacherSource("bm25", scale=0.5),
    ]
    alone = sum(scores(encoder, source) for source in sources)
    torch.testing.assert_close(scores(encoder, *sources), alone)


def test_under_autocast_the_models_read_in_bf16_and_scores_are_float32(folder, encoder):
    for source, moves in (
        (TeacherSource("dense", str(folder), scale=3.0), True),
        (TeacherSource("lexical", str(folder), scale=0.2), True),
        (TeacherSource("bm25", scale=0.5), False),
    ):
        exact = scores(encoder, source)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = scores(encoder, source)
        assert found.dtype == torch.float32
        assert torch.equal(found, exact) != moves
        torch.testing.assert_close(found, exact, rtol=0.03, atol=0.03)


def test_the_first_dense_teachers_vectors_are_handed_on(folder, encoder):
    bm25, dense = TeacherSource("bm25"), TeacherSource("dense", str(folder), scale=3.0)
    sides = side(encoder, QUERIES), side(encoder, DOCUMENTS)
    frequencies = TermFrequencies.of(encoder, DOCUMENTS, 20)
    taught = Teachers([bm25, dense], encoder, frequencies)(*sides)
    assert taught.query.shape == (2, 16)
    torch.testing.assert_close(3 * taught.query @ taught.document.T, scores(encoder, dense))
    assert Teachers([bm25], encoder, frequencies)(*sides).query is None


@pytest.mark.parametrize(
    ("family", "prefixes"),
    [("roberta", ("", "")), ("bert", ("river ", "")), ("roberta", ("a ", "the "))],
)
def test_a_dense_teacher_reads_by_its_own_tokenizer(tmp_path, encoder, family, prefixes):
    folder = save_checkpoint(tmp_path / "own", family, seed=8)
    source = TeacherSource("dense", str(folder), "mean", 2.0, *prefixes)
    teachers = Teachers(
        [TeacherSource("bm25"), source], encoder, TermFrequencies.of(encoder, DOCUMENTS, 20)
    )
    recipe = FinetuneRecipe(
        str(folder), "out", [DataSource("x")], 1, query_length=20, document_length=20
    )
    batch = PairCollator(encoder, recipe, own_tokens=teachers.own_tokens)(
        [Pair(*pair) for pair in zip(QUERIES, DOCUMENTS, strict=False)]
    )
    found = ask_teachers(teachers, batch)
    lm = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def vector(text):
        with torch.no_grad():
            hidden = lm.base_model(**tokenizer([text], return_tensors="pt"))[0][0]
        return torch.nn.functional.normalize(hidden.mean(0), dim=0)

    queries = torch.stack([vector(prefixes[0] + text) for text in QUERIES])
    documents = torch.stack([vector(prefixes[1] + text) for text in DOCUMENTS[: len(QUERIES)]])
    torch.testing.assert_close(found.query, queries)
    torch.testing.assert_close(found.document, documents)
    bm25 = Teachers([TeacherSource("bm25")], encoder, TermFrequencies.of(encoder, DOCUMENTS, 20))
    torch.testing.assert_close(
        found.logits, 2 * queries @ documents.T + ask_teachers(bm25, batch).logits
    )


def test_a_teacher_of_the_students_vocabulary_reads_the_students_tokens(folder, encoder):
    assert not Teachers([TeacherSource("dense", str(folder))], encoder).own_tokens


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "sparse"}, "kind is 'sparse'; choose one of"),
        ({"kind": "dense"}, "a teacher of kind 'dense' needs a model"),
        ({"kind": "bm25", "model": "x"}, "a teacher of kind 'bm25' takes no model"),
        ({"kind": "dense", "model": "x", "pooling": "max"}, "pooling is 'max'; choose one of"),
        ({"kind": "bm25", "scale": -1.0}, "scale is -1.0; at least 0"),
        ({"kind": "bm25", "query_prefix": "q "}, "a teacher of kind 'bm25' takes no prefixes"),
        ({"kind": "lexical", "model": "x", "prefix": "d "}, "'lexical' takes no prefixes"),
    ],
)
def test_wrong_teachers_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TeacherSource(**settings)


def test_joined_vectors_have_the_inner_products_of_the_centred_teachers():
    draw = torch.Generator().manual_seed(3)
    common = torch.randn(8, generator=draw) * 3  # as E5's vectors have
    texts, new = 200, 30
    pairs = [
        (torch.randn(n, 6, generator=draw), torch.randn(n, 8, generator=draw) + common)
        for n in (texts, new)
    ]
    student = torch.nn.functional.normalize(torch.randn(texts, 14, generator=draw), dim=-1)
    joined = JoinedVectors([6, 8], [1.0, 0.5], 14)  # no dimension is lost
    assert joined.fit(pairs[0], student) == pytest.approx(1.0)
    one, other = (normalised(new - old.mean(0)) for old, new in zip(*pairs, strict=True))
    wanted = (one @ one.T + 0.5 * other @ other.T) / 1.5
    found = joined(pairs[1])
    assert torch.allclose(found.norm(dim=-1), torch.ones(new))
    assert torch.allclose(found @ found.T, wanted, atol=1e-5)
    # No turn brings them nearer to the student's vectors.
    known = joined(pairs[0])
    nearness = (known * student).sum()
    for _ in range(200):
        turn, _ = torch.linalg.qr(torch.eye(14) + 0.2 * torch.randn(14, 14, generator=draw))
        assert (known @ turn * student).sum() <= nearness + 1e-4


def normalised(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


def test_the_projection_keeps_as_much_as_principal_axes_do():
    draw = torch.Generator().manual_seed(4)
    scales = torch.linspace(3, 0.1, 10)
    vectors = [torch.randn(300, 10, generator=draw) * scales, torch.randn(300, 5, generator=draw)]
    joined = JoinedVectors([10, 5], [1.0, 1.0], 4)
    kept = joined.fit(vectors, torch.randn(300, 4, generator=draw))
    rows = torch.cat([normalised(own - own.mean(0)) for own in vectors], dim=-1)
    values = np.linalg.svd(rows.numpy(), compute_uv=False) ** 2
    assert kept == pytest.approx(values[:4].sum() / values.sum(), rel=1e-4)
    assert torch.allclose(joined.projection.T @ joined.projection, torch.eye(4), atol=1e-5)


def test_joined_vectors_are_saved_and_only_loaded_where_they_fit(tmp_path):
    draw = torch.Generator().manual_seed(5)
    vectors = [torch.randn(50, 6, generator=draw), torch.randn(50, 8, generator=draw)]
    joined, again = (JoinedVectors([6, 8], [1.0, 0.5], 5) for _ in range(2))
    joined.fit(vectors, torch.randn(50, 5, generator=draw))
    joined.save(tmp_path)
    again.load(tmp_path)
    assert torch.equal(again(vectors), joined(vectors))
    with pytest.raises(ValueError, match="other teachers"):
        JoinedVectors([6, 9], [1.0, 0.5], 5).load(tmp_path)
    with pytest.raises(InputError, match="have 14 dimensions together and the model's 15"):
        JoinedVectors([6, 8], [1.0, 0.5], 15)


def test_teachers_join_what_each_of_them_gives_alone(folder, tmp_path):
    other = save_checkpoint(tmp_path, seed=6)
    encoder = DupMAEEncoder.from_pretrained(folder)
    sources = [
        TeacherSource("dense", str(folder), vector=1.0),
        TeacherSource("dense", str(other), "cls", vector=0.5, prefix="river "),
    ]
    teachers = Teachers(sources, encoder)
    texts = [" ".join(random.Random(n).choices(WORDS, k=6)) for n in range(80)]
    assert 0 < teachers.fit_joined(encoder, texts, 20) <= 1.0 + 1e-6
    apart = []
    for source in sources:
        alone = Teachers([dataclasses.replace(source, vector=0.0)], encoder)
        own = {
            n: tokens.sides([QUERIES, DOCUMENTS], [20, 20])
            for n, tokens in alone.own_tokens.items()
        }
        taught = alone(side(encoder, QUERIES), side(encoder, DOCUMENTS), own)
        apart.append((taught.query, taught.document))
    own = {
        n: tokens.sides([QUERIES, DOCUMENTS], [20, 20]) for n, tokens in teachers.own_tokens.items()
    }
    taught = teachers(side(encoder, QUERIES), side(encoder, DOCUMENTS), own)
    for found, place in ((taught.query, 0), (taught.document, 1)):
        wanted = teachers.joined([each[place] for each in apart])
        assert torch.allclose(found, wanted, atol=1e-5)
    # Without the loss on vectors there is nothing to join.
    assert Teachers(sources, encoder, vectors=False).joined is None


def asked(teachers: Teachers, encoder: DupMAEEncoder):
    both = [QUERIES, DOCUMENTS]
    own = {n: tokens.sides(both, [20, 20]) for n, tokens in teachers.own_tokens.items()}
    return teachers(side(encoder, QUERIES), side(encoder, DOCUMENTS), own)


@pytest.mark.parametrize("kind", ["bm25", "lexical"])
def test_only_a_dense_teacher_has_a_vector(kind):
    with pytest.raises(InputError, match="has no dense vector to imitate"):
        TeacherSource(kind, "m" if kind == "lexical" else "", vector=1.0)
