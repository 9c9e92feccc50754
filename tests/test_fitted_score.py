"""The fitted score in training: BM25, factors, weights, against an index and plain computations."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional

from dupmae_toolkit import Document, HybridIndex, Query
from dupmae_toolkit.analysis import words
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.data.bm25 import WordFrequencies
from dupmae_toolkit.training.data.groups import Pair
from dupmae_toolkit.training.data.pair_collator import PairCollator
from dupmae_toolkit.training.fitted_score import FittedScore, saved_words
from dupmae_toolkit.training.pair_model import PairModel
from dupmae_toolkit.training.running.chunks import encode_in_chunks
from tests.test_pair_model import BATCH, divergence, encoder_of, recipe_of

RNG = random.Random(8)
#: Of very different lengths, with words that repeat.
TEXTS = [" ".join(f"w{RNG.randrange(50)}" for _ in range(RNG.randint(2, 34))) for _ in range(24)]
QUERIES = [" ".join(RNG.sample(text.split(), min(4, len(text.split())))) for text in TEXTS]
SCORE = {"score_weights": [30.0, 0.7, 1.3], "query_length": 40, "document_length": 40}


def idf(frequency: float, texts: int) -> float:
    return math.log(1 + (texts - frequency + 0.5) / (frequency + 0.5))


def plain_bm25(query: str, document: str, texts: list[str]) -> float:
    """By the definition, word by word."""
    lengths = [len(words(text)) for text in texts]
    counts, total = Counter(words(document)), 0.0
    norm = 0.9 * (0.6 + 0.4 * counts.total() / (sum(lengths) / len(lengths)))
    for word in words(query):
        frequency = max(1, sum(word in words(text) for text in texts))
        total += idf(frequency, len(texts)) * counts[word] / (counts[word] + norm)
    return total


def fitted_of(encoder, recipe, texts=TEXTS) -> FittedScore:
    fitted = FittedScore(recipe, encoder.vocabulary_size, WordFrequencies.of(texts))
    fitted.count(encoder, list(texts))
    return fitted


def scores_of(encoder, recipe, fitted, items):
    """The scores of a batch, and the batch."""
    batch = PairCollator(encoder, recipe, fitted.words if fitted else None)(items)
    query, document = (
        encode_in_chunks(
            encoder, batch[f"{name}_ids"], batch[f"{name}_mask"], top_k=top_k if recipe.prune else 0
        )
        for name, top_k in (("query", 0), ("document", encoder.config.top_k))
    )
    return PairModel(encoder, recipe, None, fitted).scores(query, document, batch, None), batch


# --- BM25 and factors


def test_bm25_is_what_its_formula_says():
    texts = ["The river's wars", "river river of stars", "Proteins", "", "naïve Ströme 水 w_1"]
    queries = ["rivers of war river", "unseen words", "", "the of", "proteins 水 naïve NAÏVE"]
    documents = [*texts, "unseen unseen text", "word " * 5000]
    found = WordFrequencies.of(texts).scores(queries, documents)
    expected = [[plain_bm25(query, document, texts) for document in documents] for query in queries]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[0, 0] > found[0, 1] > 0
    assert not found[2:4].any()
    # A word of no text that was counted weighs as much as one of a single text.
    assert 2 * idf(1, 5) > found[1, 5] > idf(1, 5) / 2


def test_bm25_of_nothing_is_nothing():
    frequencies = WordFrequencies.of(["", "of the"])
    assert (frequencies.texts, frequencies.words, frequencies.mean_length) == (2, 0, 1.0)
    assert WordFrequencies.of([]).scores(["a river"], ["", "a river"]).shape == (1, 2)
    assert frequencies.scores([], ["river"]).shape == (0, 1)
    assert frequencies.scores(["river"], []).shape == (1, 0)


@pytest.mark.parametrize("documents", [{}, {"river": 3, "\ud800x": 1, "水": 2}])
def test_words_survive_being_written(documents):
    frequencies = WordFrequencies(documents, 9, 55)
    again = WordFrequencies.of_arrays(*frequencies.arrays().values())
    assert (again.documents, again.texts, again.words) == (documents, 9, 55)
    arrays = frequencies.arrays()
    arrays["word_documents"] = np.append(arrays["word_documents"], 1)
    with pytest.raises(ValueError, match="zip"):
        WordFrequencies.of_arrays(*arrays.values())


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_factors_are_those_of_the_lexical_vectors_that_are_kept(power):
    encoder = encoder_of(top_k=12)
    fitted = fitted_of(encoder, recipe_of(**SCORE, idf_power=power))
    held = encoder.encode_documents(TEXTS).lexical.toarray() > 0
    assert (held.sum(axis=1) <= 12).all()
    weights = np.array([idf(int(count), len(TEXTS)) for count in held.sum(axis=0)])
    mean = sum(weights[row].sum() for row in held) / held.sum()
    np.testing.assert_allclose(fitted.factors, (weights / mean) ** power, rtol=1e-5)
    assert len(set(fitted.factors.tolist())) == (1 if power == 0 else len(set(held.sum(axis=0))))


def test_without_any_term_factors_are_finite_and_huge_powers_are_refused():
    encoder = encoder_of()
    with torch.no_grad():
        encoder.lm.get_output_embeddings().bias -= 1e4
    assert torch.isfinite(fitted_of(encoder, recipe_of(**SCORE)).factors).all()
    with pytest.raises(InputError, match="idf_power 1e\\+06 gives infinite factors; lower it"):
        fitted_of(encoder_of(top_k=12), recipe_of(**SCORE, idf_power=1e6))


# --- the score


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
def test_the_joint_score_is_that_of_an_index_of_the_training_texts(tmp_path):
    encoder = encoder_of(top_k=12, max_length=40)
    recipe = recipe_of(**SCORE, losses={"joint": 1.0}, prune=True)
    fitted = fitted_of(encoder, recipe)
    pairs = [Pair(query, text) for query, text in zip(QUERIES, TEXTS, strict=True)]
    with torch.no_grad():
        scores, _ = scores_of(encoder, recipe, fitted, pairs)
    fitted.state_in(encoder, recipe)
    documents = [Document(f"d{i:02}", "", text) for i, text in enumerate(TEXTS)]
    topics = [Query(str(i), query) for i, query in enumerate(QUERIES)]
    with HybridIndex.build(tmp_path / "index", documents, encoder) as index:
        manifest = index.manifest
        found = {
            mode: index.search_batch(topics, len(TEXTS), mode, exact=True)
            for mode in ("dense", "lexical", "bm25", "hybrid")
        }
    assert manifest.scoring.weights == (30.0, 0.7, 1.3)
    assert manifest.bm25.mean_length == fitted.words.mean_length
    tables = {}
    for mode, run in found.items():
        tables[mode] = np.zeros((len(topics), len(TEXTS)))
        for topic, ranking in run.topics.items():
            places = [int(name[1:]) for name in ranking.ids]
            tables[mode][int(topic), places] = ranking.scores
    # An impact is off by half a step; no weight here is so small that it was raised to 1.
    held = encoder.encode_documents(TEXTS).lexical.toarray() > 0
    lexical = encoder.encode_queries(QUERIES).lexical.toarray() * fitted.factors.numpy()
    of_lexical = 0.51 * lexical @ held.T / manifest.scale + 1e-3
    asked, _ = fitted.words.weighed(QUERIES, [])
    of_bm25 = 0.51 * np.asarray(asked.sum(axis=1)) / manifest.max_impact + 1e-3
    allowed = {
        "dense": np.full_like(of_bm25, 1e-4),
        "lexical": of_lexical,
        "bm25": of_bm25,
        "hybrid": 3e-3 + 0.7 * of_lexical + 1.3 * of_bm25,
    }
    ours = {
        "dense": scores.dense[0] / 3.0,
        "lexical": scores.lexical,
        "bm25": scores.bm25,
        "hybrid": scores.joint,
    }
    for mode, table in tables.items():
        assert (np.abs(ours[mode].numpy() - table) <= allowed[mode]).all(), mode
        assert (allowed[mode] < 0.1 * np.abs(table).max()).all(), mode


def test_every_loss_reads_the_fitted_score():
    encoder = encoder_of()
    names = ("joint", "lexical", "dense", "self_lexical", "self_dense", "kl_joint", "aggretriever")
    recipe = recipe_of(**SCORE, losses=dict.fromkeys(names, 1.0))
    fitted = fitted_of(encoder, recipe)
    model = PairModel(encoder, recipe, None, fitted)
    batch = PairCollator(encoder, recipe, fitted.words)(BATCH)
    _, parts = model(batch, 2, 4)
    with torch.no_grad():
        query, document = (
            encoder(batch[f"{name}_ids"], batch[f"{name}_mask"]) for name in ("query", "document")
        )
    cosines = (
        functional.normalize(query.dense, dim=1) @ functional.normalize(document.dense, dim=1).T
    )
    lexical = (query.lexical * fitted.factors) @ document.lexical.T
    examples = [item.drawn(2) for item in BATCH]
    texts = [text for e in examples for text in (e.documents + e.documents[-1:])[:3]]
    bm25 = torch.tensor([[plain_bm25(e.query, text, TEXTS) for text in texts] for e in examples])
    joint = 30 * cosines + 0.7 * lexical + 1.3 * bm25
    tables = {"joint": joint, "lexical": lexical, "dense": 3 * cosines, "bm25": 1.3 * bm25}
    expected = {
        name: functional.cross_entropy(table.masked_fill(batch["same"], -math.inf), batch["target"])
        for name, table in tables.items()
    }
    seen = ~batch["repeated"][0]
    for name in ("lexical", "dense"):
        rows = zip(tables[name][:, seen], joint[:, seen], strict=True)
        expected[f"self_{name}"] = sum(divergence(*row) for row in rows) / 4
    own = [(joint[i][batch["own"][i]], batch["scores"][i]) for i in range(4)]
    own[1] = own[1][0][:2], own[1][1][:2]  # its third document fills up
    expected["kl_joint"] = sum(divergence(*row) for row in own) / 4
    extra = expected["lexical"] + expected["dense"]
    expected["aggretriever"] = expected["joint"] + 0.5 * extra
    for name, value in expected.items():
        assert parts[name] == pytest.approx(float(value), rel=2e-3, abs=1e-4), name
    assert [parts[f"weight_{part}"] for part in ("dense", "lexical", "bm25")] == pytest.approx(
        SCORE["score_weights"]
    )


def test_without_score_weights_the_joint_score_is_the_plain_sum_to_the_bit():
    encoder, recipe = encoder_of(), recipe_of()
    scores, batch = scores_of(encoder, recipe, None, BATCH)
    assert torch.equal(scores.joint, scores.lexical + scores.dense[0])
    assert scores.bm25 is None
    assert "bm25" not in batch
    model = PairModel(encoder, recipe)
    assert [name for name, _ in model.named_parameters()] == [
        f"encoder.{name}" for name, _ in encoder.named_parameters()
    ]
    assert not [name for name in model(batch, 0, 4)[1] if "weight" in name or "bm25" in name]


def test_fixed_weights_add_nothing_to_train():
    encoder, recipe = encoder_of(), recipe_of(**SCORE)
    model = PairModel(encoder, recipe, None, fitted_of(encoder, recipe))
    assert len(list(model.parameters())) == len(list(encoder.parameters()))


def test_without_bm25_and_factors_the_fitted_score_is_the_plain_one():
    encoder = encoder_of()
    recipe = recipe_of(score_weights=[3.0, 1.0, 0.0], idf_power=0.0)
    fitted, _ = scores_of(encoder, recipe, fitted_of(encoder, recipe), BATCH)
    plain, _ = scores_of(encoder, recipe_of(), None, BATCH)
    torch.testing.assert_close(fitted.joint, plain.joint)


# --- learned weights


def test_learned_weights_get_the_gradient_of_the_loss_by_their_logarithms():
    encoder = encoder_of()
    recipe = recipe_of(
        score_weights=[3.0, 0.5, 1.3], learn_weights=20.0, losses={"joint": 1.0, "kl_joint": 0.5}
    )
    fitted = fitted_of(encoder, recipe)
    with torch.no_grad():
        fitted.logs.copy_(torch.tensor([0.01, -0.02]))
    model = PairModel(encoder, recipe, None, fitted)
    batch = PairCollator(encoder, recipe, fitted.words)(BATCH)
    model(batch, 0, 4)[0].backward()
    slopes = fitted.logs.grad.clone()
    assert fitted.numbers == pytest.approx((3 * math.exp(0.2), 0.5 * math.exp(-0.4), 1.3), rel=1e-5)
    for place in range(2):
        losses = []
        for move in (1, -1):
            other = fitted_of(encoder, recipe)
            with torch.no_grad():
                other.logs.copy_(fitted.logs)
                other.logs[place] += move * 0.02 / 20  # moves the logarithm by 0.02
                losses.append(PairModel(encoder, recipe, None, other)(batch, 0, 4)[0].item())
        assert slopes[place].item() == pytest.approx((losses[0] - losses[1]) / 0.04, rel=0.02)
        assert abs(slopes[place]) > 1e-3


def test_the_state_is_read_as_it_was_written_and_another_vocabulary_is_refused(tmp_path):
    encoder = encoder_of(top_k=12)
    recipe = recipe_of(**SCORE, learn_weights=5.0)
    fitted = fitted_of(encoder, recipe)
    with torch.no_grad():
        fitted.logs.copy_(torch.tensor([0.125, -0.3]))
    fitted.save(tmp_path, "these texts")
    other = FittedScore(recipe, encoder.vocabulary_size, WordFrequencies.of([]))
    other.load(tmp_path)
    assert torch.equal(other.factors, fitted.factors)
    assert other.numbers == fitted.numbers != tuple(SCORE["score_weights"])
    assert saved_words(tmp_path, "these texts").documents == fitted.words.documents
    assert saved_words(tmp_path, "other texts") is None
    assert saved_words(tmp_path / "none", "these texts") is None
    with pytest.raises(ValueError, match="another vocabulary"):
        FittedScore(recipe, 7, fitted.words).load(tmp_path)


def test_what_the_recipe_sets_for_searching_stays():
    encoder = encoder_of()
    recipe = recipe_of(**SCORE, encoder={"dense_weight": 9.0, "fitted_weights": [1, 2, 3]})
    encoder.config = encoder.config.but(**recipe.encoder)
    fitted_of(encoder, recipe).state_in(encoder, recipe)
    assert (encoder.config.dense_weight, encoder.config.fitted_weights) == (9.0, (1, 2, 3))
    fitted_of(encoder, recipe_of(**SCORE)).state_in(encoder, recipe_of(**SCORE))
    assert encoder.config.fitted_weights == (30.0, 0.7, 1.3)
    assert encoder.config.dense_weight == pytest.approx(30 / 0.7)


def test_a_model_without_a_lexical_head_has_no_such_score():
    encoder = encoder_of(lexical_head="none")
    recipe = recipe_of(**SCORE, losses={"dense": 1.0})
    with pytest.raises(InputError, match="score_weights needs a lexical head; the model has none"):
        PairModel(encoder, recipe)
