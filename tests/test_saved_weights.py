"""Weights that are kept in an index: searches use them, every change keeps them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.health.repair import repair_index
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.reweighing import save_weights
from dupmae_toolkit.index.scoring import Origin, Scoring
from tests.index_support import age
from tests.scoring_support import ENCODER
from tests.support import HashingEncoder
from tests.test_index_tuning import DOCUMENTS, QUERIES

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

ORIGIN = Origin("nDCG@10", "queries.tsv", 7)


@pytest.fixture
def own(tmp_path: Path) -> HybridIndex:
    return HybridIndex.build(tmp_path / "index", DOCUMENTS[:40], ENCODER)


def test_saved_weights_are_searched_with_and_outlive_every_change(own, tmp_path):
    path, weights = own.path, {"dense": 3.0, "lexical": 0.5, "bm25": 2.0}
    first = Manifest.load(path)
    before, after = save_weights(path, weights, 0.5, ORIGIN, ENCODER.info)
    assert before == first.scoring
    assert after == replace(before, weights=(3.0, 0.5, 2.0), idf_power=0.5, origin=ORIGIN)
    # What is open stays as it is until it is refreshed.
    request = own.request(5)
    assert request.fusion.weights == before.weights
    assert own.refresh()
    request = own.request(5)
    assert (request.fusion.weights, request.idf_power) == ((3.0, 0.5, 2.0), 0.5)
    by_default = own.search_batch(QUERIES, 5, exact=True)
    named = own.search_batch(QUERIES, 5, weights=(3, 0.5, 2), idf_power=0.5, exact=True)
    assert [r.ids for r in by_default.topics.values()] == [r.ids for r in named.topics.values()]
    tuned_on = by_default.metadata["fusion"]["weights_tuned_on"]
    assert tuned_on == {"measure": "nDCG@10", "queries": "queries.tsv", "topics": 7}
    other = own.search_batch(QUERIES, 5, weights=(1, 1, 1))
    assert "weights_tuned_on" not in other.metadata["fusion"]
    own.add(DOCUMENTS[40:60])
    own.delete([DOCUMENTS[0].id])
    own.compact()
    for damaged in path.glob("segments/*/faiss/docid"):
        damaged.write_text("nonsense\n")
    repair_index(path, ENCODER)
    assert Manifest.load(path).scoring.weights == (3.0, 0.5, 2.0)
    assert Manifest.load(path).scoring.origin == ORIGIN
    assert len(Manifest.load(path).segments) == 1


def test_parts_that_are_not_named_keep_their_weights(own):
    _, after = save_weights(own.path, {"lexical": 4.0}, 1.0, ORIGIN, ENCODER.info)
    before = own.manifest.scoring.weights
    assert after.weights == (before[0], 4.0, before[2])


@pytest.mark.parametrize("weights", [{"dense": float("nan")}, {"dense": -1}, {"lexical": 1e400}])
def test_weights_that_make_no_sense_leave_the_index_alone(own, weights):
    before = (own.path / "manifest.json").read_bytes()
    with pytest.raises(InputError, match=r"weights cannot be kept"):
        save_weights(own.path, weights, 1.0, ORIGIN, ENCODER.info)
    assert (own.path / "manifest.json").read_bytes() == before


def test_another_encoder_and_another_part_are_refused(tmp_path):
    path = tmp_path / "index"
    with HybridIndex.build(path, DOCUMENTS[:9], ENCODER, bm25=False):
        with pytest.raises(InputError, match="built with the encoder"):
            save_weights(path, {"dense": 1}, 1.0, ORIGIN, HashingEncoder(size=64).info)
        with pytest.raises(InputError, match="has no bm25 part"):
            save_weights(path, {"bm25": 1}, 1.0, ORIGIN, ENCODER.info)
    age(path, 2)
    manifest = Manifest.load(path)
    with pytest.raises(InputError, match="earlier version"):
        save_weights(path, {"dense": 1}, 1.0, ORIGIN, manifest.encoder)


def test_a_hostile_origin_is_refused(own):
    good = replace(own.manifest.scoring, origin=ORIGIN).to_dict()
    assert Scoring.from_dict(json.loads(json.dumps(good))).origin == ORIGIN
    for origin in (None, [], {}, {"measure": 1, "queries": "", "topics": 1}, "x", 3):
        with pytest.raises((ValueError, KeyError, TypeError)):
            Scoring.from_dict(good | {"origin": origin})
    for field, value in (("queries", "\ud800"), ("topics", -1), ("topics", True)):
        with pytest.raises(ValueError, match=r"surrogates|topics"):
            Scoring.from_dict(good | {"origin": ORIGIN.to_dict() | {field: value}})
