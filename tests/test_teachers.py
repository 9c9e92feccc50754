"""Teachers of a batch, against plain transformers and BM25's formula."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.tokens import pad, tokenize
from dupmae_toolkit.training.data.frequencies import TermFrequencies
from dupmae_toolkit.training.data.groups import Pair
from dupmae_toolkit.training.data.pair_collator import PairCollator
from dupmae_toolkit.training.pair_model import ask_teachers
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.sources import DataSource, TeacherSource
from dupmae_toolkit.training.teachers import Side, Teachers
from tests.families import save_checkpoint

QUERIES = ["river", "the star and the moon"]
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
