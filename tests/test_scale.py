"""One scale of impacts for all indexes of an encoder: whatever comes first, scores are the same."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack

from dupmae_toolkit import Document, HybridIndex, Query
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import write_json
from dupmae_toolkit.index.build import build_index
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.impacts import calibrate
from dupmae_toolkit.index.info import index_info
from dupmae_toolkit.index.manifest import Manifest, _own_digest
from dupmae_toolkit.model.checkpoints import BUILTIN
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.largest_weight import (
    HEADROOM,
    measured_largest_weight,
    with_headroom,
)
from dupmae_toolkit.model.loading import load_encoder
from dupmae_toolkit.records import Encoder, Representations
from tests.cli_support import run
from tests.support import HashingEncoder

MODES = ("dense", "lexical", "bm25", "hybrid")


def stating(largest_weight: float) -> HashingEncoder:
    """An encoder that states its largest weight."""
    return HashingEncoder(size=128, dim=8, largest_weight=largest_weight)


def rows(*values: list[float]) -> csr_matrix:
    return csr_matrix(np.array(values, np.float32))


class Once:
    """An encoder whose vectors of a text do not depend on the texts beside it: each is alone.

    Otherwise a weight's last digits could, and so an impact.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._known: dict[str, Representations] = {}
        self.info = encoder.info
        self.vocabulary = encoder.vocabulary

    def encode_documents(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        for text in texts:
            if text not in self._known:
                self._known[text] = self._encoder.encode_documents([text])
        found = [self._known[text] for text in texts]
        return Representations(
            ids or [str(i) for i in range(len(texts))],
            np.concatenate([each.dense for each in found]),
            csr_matrix(vstack([each.lexical for each in found], format="csr")),
        )

    def encode_queries(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        return self._encoder.encode_queries(texts, ids)


@pytest.fixture(scope="module")
def builtin() -> Any:
    return load_encoder("builtin", device="cpu", precision="fp32")


# --- what an encoder states


def test_a_scale_is_the_largest_impact_over_the_stated_weight_whatever_the_documents_weigh() -> (
    None
):
    for lexical in (rows([0.5, 0.0]), rows([70.0, 1.0]), csr_matrix((2, 3), dtype=np.float32)):
        assert calibrate(lexical, 255, 2.5) == 102.0
        assert calibrate(lexical, 65_535, 2.5) == 26_214.0


def test_without_a_stated_weight_the_scale_leaves_room_above_the_documents() -> None:
    assert calibrate(rows([0.5, 2.0]), 255) == 255 / (2 * HEADROOM)
    assert calibrate(csr_matrix((2, 3), dtype=np.float32), 255) == 255.0
    assert HEADROOM > 1


@pytest.mark.parametrize("stated", [5e-324, float("nan"), float("inf"), -2.0])
def test_a_stated_weight_that_gives_no_scale_is_refused_in_one_line(stated: float) -> None:
    with pytest.raises(InputError, match=r"states a largest weight of .*set it to 0") as caught:
        calibrate(rows([1.0]), 65_535, stated)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "3", True, None, [3.0]])
def test_a_checkpoint_states_a_number_or_nothing(bad: Any) -> None:
    with pytest.raises(InputError, match=r"largest_weight .*: give 0 or a positive number"):
        DupMAEConfig(largest_weight=bad)
    assert DupMAEConfig.from_dict({"top_k": 5}).largest_weight == 0
    assert DupMAEConfig.from_dict({"largest_weight": 3}).largest_weight == 3


def test_another_head_or_activation_makes_other_weights() -> None:
    known = DupMAEConfig(largest_weight=3.0)
    assert known.but(top_k=7, prefix="x", activation="log1p_relu", max_length=9) == DupMAEConfig(
        top_k=7, prefix="x", max_length=9, largest_weight=3.0
    )
    for changes in ({"activation": "relu"}, {"lexical_head": "projection"}):
        assert known.but(**changes).largest_weight == 0
        assert known.but(**changes, largest_weight=40.0).largest_weight == 40
    assert known.but(largest_weight=0.0).largest_weight == 0


def test_it_is_no_part_of_an_encoders_identity(tmp_path: Path) -> None:
    documents = [Document(f"d{n}", "", f"word{n}") for n in range(6)]
    silent = stating(0.0)
    assert silent.info.same_vectors_as(stating(4.0).info)
    encode_corpus(documents, silent, tmp_path / "encoded")
    assert encode_corpus(documents, stating(4.0), tmp_path / "encoded").newly_encoded == 0


def test_it_is_measured_with_headroom_and_changes_nothing_else(builtin: Any) -> None:
    texts = ["a zebra in the grass", "zebra", "", "the the the", "how boundary layers separate"]
    lexical = builtin.encode_documents(texts).lexical
    before = builtin.config
    wanted = with_headroom(float(lexical.data.max()))
    assert measured_largest_weight(builtin, texts) == pytest.approx(wanted, rel=0.005)
    assert builtin.config is before
    assert measured_largest_weight(builtin, [""]) == measured_largest_weight(builtin, []) == 0


def test_an_encoder_that_fails_keeps_its_settings(builtin: Any) -> None:
    before = builtin.config
    with pytest.raises(InputError):
        measured_largest_weight(builtin, [None])  # type: ignore[list-item]
    assert builtin.config is before


# --- the built-in encoder


def test_the_built_in_encoder_states_what_hardly_any_text_exceeds(builtin: Any) -> None:
    """Words by themselves weigh most: none of these was in the measured documents."""
    stated = json.loads((BUILTIN / "config.json").read_text())["dupmae"]["largest_weight"]
    assert builtin.info.largest_weight == stated > 0
    words = [token for token in builtin.vocabulary if token.isalpha()]
    texts = [*random.Random(3).sample(words, 300), "zebra " * 60, "!!! ???", "日本語 текст"]
    texts += [" ".join(random.Random(n).choices(words, k=40)) for n in range(20)]
    largest = float(builtin.encode_documents(texts).lexical.data.max())
    assert stated / 2 < largest < stated


LIGHT = "and so it was on that day when they went there"


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
@pytest.mark.slow
def test_a_heavy_document_scores_the_same_whether_it_is_built_or_added(tmp_path, capsys) -> None:
    """As a user types it, with the built-in encoder."""
    for name, text in (("a", LIGHT), ("b", "zebra")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": name, "text": text}) + "\n")
    both = (tmp_path / "a.jsonl").read_text() + (tmp_path / "b.jsonl").read_text()
    (tmp_path / "both.jsonl").write_text(both)
    words = ("--precision", "fp32")
    for name, corpus in (("once", "both"), ("grown", "a")):
        done = run(capsys, "index", tmp_path / f"{corpus}.jsonl", "-i", tmp_path / name, *words)
        assert done[0] == 0
        assert "weights clipped" in done[2]
    code, _, err = run(capsys, "add", tmp_path / "b.jsonl", "-i", tmp_path / "grown", *words)
    assert code == 0
    assert ", 0 of " in err
    assert "weights clipped" in err
    scores = []
    for name in ("once", "grown"):
        question = ("--mode", "lexical", "--json", "zebra")
        code, out, _ = run(capsys, "search", "--index", tmp_path / name, *question)
        assert code == 0
        scores.append({hit["id"]: hit["score"] for hit in json.loads(out)["hits"]})
        assert "the encoder's scale" in run(capsys, "info", "--index", tmp_path / name)[1]
    assert "b" in scores[0]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


#: The largest weight of each is larger than that of those before it.
GROWING = [
    "so it was",
    "they went there",
    LIGHT,
    "zebra",
    "a herd of zebras crossed the river near the camp at dawn",
    "zebra stripes",
    "cans",
]
TOPICS = [Query("z", "zebra"), Query("r", "river animal"), Query("w", "they went there")]


def answers(index: HybridIndex) -> dict[tuple[str, str], list[tuple[str, float]]]:
    found = {}
    for mode in MODES:
        searched = index.search_batch(TOPICS, 10, mode, exact=True)
        for topic in searched:
            ranking = searched[topic]
            found[mode, topic] = list(zip(ranking.ids, ranking.scores.tolist(), strict=True))
    return found


def token_impacts(index: HybridIndex) -> dict[str, dict[int, int]]:
    """The impacts of each live document, by the number of the token."""
    found = {}
    size = index.manifest.encoder.vocabulary_size  # columns from here on are words
    for entry in index.manifest.segments:
        folder = index.path / entry.path
        starts, columns, values = (
            np.load(folder / "forward" / f"impacts-{name}.npy")
            for name in ("indptr", "indices", "data")
        )
        dead = np.load(index.path / entry.deletions).tolist() if entry.deletions else []
        for row, name in enumerate((folder / "faiss" / "docid").read_text().split()):
            span = slice(starts[row], starts[row + 1])
            pairs = zip(columns[span].tolist(), values[span].tolist(), strict=True)
            if row not in dead:
                found[name] = {column: value for column, value in pairs if column < size}
    return found


def grown(
    folder: Path, documents: list[Document], encoder: Encoder, mean_length: float, dice: Any
) -> HybridIndex:
    """An index that the documents came into by and by, some of them twice.

    mean_length: BM25's; otherwise it would be that of the documents that come first.
    """
    order = dice.sample(documents, len(documents))
    first = dice.randint(1, len(order) - 1)
    index = HybridIndex.build(folder, order[:first], encoder, mean_length=mean_length)
    while order[first:]:
        count = dice.randint(1, len(order) - first)
        index.add(order[first : first + count])
        first += count
    again = dice.choice(documents)
    index.add([again], replace=True)
    if dice.random() < 0.5:
        index.compact()
    return index


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
@pytest.mark.slow
def test_the_order_of_adding_makes_no_difference_with_the_built_in_weights(tmp_path, builtin):
    encoder = Once(builtin)
    documents = [Document(f"d{n}", "", text) for n, text in enumerate(GROWING)]
    weights = [float(encoder.encode_documents([text]).lexical.data.max()) for text in GROWING]
    assert weights == sorted(set(weights))
    once = HybridIndex.build(tmp_path / "once", documents, encoder)
    wanted, tokens = answers(once), token_impacts(once)
    mean = once.manifest.mean_length
    assert {name for name, _ in wanted["lexical", "z"]} >= {"d3", "d4", "d5"}
    # The impacts, from the weights alone.
    scale = 255 / builtin.config.largest_weight
    for document in documents:
        row = encoder.encode_documents([document.text]).lexical
        rounded = np.clip(np.rint(row.data.astype(np.float64) * scale), 1, 255)
        assert tokens[document.id] == dict(zip(row.indices, rounded, strict=True))
    orders = [random.Random(seed) for seed in range(8)]
    for number, dice in enumerate(orders):
        index = grown(tmp_path / f"grown{number}", documents, encoder, mean, dice)
        assert index.manifest.scale == once.manifest.scale == scale
        assert index.manifest.scale_source == "encoder"
        assert token_impacts(index) == tokens
        assert answers(index) == wanted
        assert verify_index(index.path) == []
        index.close()
    once.close()
    # With a scale of its first documents, an index gives other scores, and clips.
    encoder.info = replace(encoder.info, largest_weight=0.0)
    index = HybridIndex.build(tmp_path / "first", documents[:2], encoder, mean_length=mean)
    assert index.add(documents[2:]).error.clipped > 0
    assert answers(index) != wanted
    index.close()


# --- indexes of other encoders


HEAVY = [
    *(Document(f"a{n}", "", f"word{n} word{n + 1}") for n in range(8)),
    *(Document(f"h{n}", "", f"word{n} " * (20 * n + 2)) for n in range(1, 6)),
]


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("max_impact", [255, 1000, 65_535])
def test_heavier_documents_may_come_later_where_the_encoder_states_a_weight(tmp_path, max_impact):
    encoder = stating(9.0)
    once = HybridIndex.build(tmp_path / "once", HEAVY, encoder, max_impact=max_impact)
    same: dict[str, Any] = {"max_impact": max_impact, "mean_length": once.manifest.mean_length}
    light = HybridIndex.build(tmp_path / "grown", HEAVY[:8], encoder, **same)
    for document in reversed(HEAVY[8:]):
        assert light.add([document]).error.clipped == 0
    assert light.manifest.scale == once.manifest.scale == max_impact / 9
    questions = [Query(f"q{n}", f"word{n} word{n + 1}") for n in range(6)]
    for mode in MODES:
        one, other = (each.search_batch(questions, 20, mode) for each in (once, light))
        for topic in one:
            assert one[topic].ids == other[topic].ids
            assert one[topic].scores.tolist() == other[topic].scores.tolist()
    assert index_info(light.path)["impacts"]["scale_source"] == "encoder"


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
def test_where_it_states_none_the_first_build_measures_and_says_so(tmp_path) -> None:
    silent = stating(0.0)
    index = HybridIndex.build(tmp_path / "index", HEAVY[:8], silent)
    largest = silent.encode_documents([d.text for d in HEAVY[:8]]).lexical.data.max()
    scale = 255 / (HEADROOM * float(largest))
    assert index.manifest.scale == pytest.approx(scale)
    values = index_info(index.path)["impacts"]
    assert (values["scale_source"], values["error"]["clipped"]) == ("first build", 0)

    done = index.add(HEAVY[8:])
    weights = silent.encode_documents([d.text for d in HEAVY[8:]]).lexical.data.astype(np.float64)
    impacts = np.clip(np.rint(weights * scale), 1, 255)
    above = int((np.rint(weights * scale) > 255).sum())
    assert above > 0
    assert (done.error.weights, done.error.clipped) == (len(weights), above)
    assert done.error.mean_absolute == pytest.approx(np.abs(impacts / scale - weights).mean())
    assert index_info(index.path)["impacts"]["error"]["clipped"] == above
    assert index.delete(["a0"]).error.weights == 0
    # The scale stays, also for documents of an encoder that states its weight by now.
    index.compact()
    add = HybridIndex.open(index.path, stating(9.0)).add([Document("new", "", "word3 word4")])
    assert add.added == 1
    manifest = Manifest.load(index.path)
    assert (manifest.scale_source, manifest.scale) == ("first build", index.manifest.scale)


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
def test_every_segment_of_a_build_has_the_scale_of_the_encoder(tmp_path) -> None:
    encoder = stating(2.0)
    encoded = encode_corpus(HEAVY, encoder, tmp_path / "encoded")
    manifest = build_index(
        tmp_path / "index", encoded, vocabulary=encoder.vocabulary, segment_size=4
    )
    assert manifest.scale == 255 / 2
    weights = encoder.encode_documents([d.text for d in HEAVY]).lexical.data.astype(np.float64)
    clipped = int((np.rint(weights * 255 / 2) > 255).sum())
    assert manifest.error.clipped == clipped > 0
    assert len(manifest.segments) == 4


def test_a_manifest_of_earlier_versions_keeps_its_scale(tmp_path) -> None:
    from tests.test_manifest import manifest

    saved = manifest(scale_source="encoder")
    saved.save(tmp_path)
    assert Manifest.load(tmp_path) == saved
    for version in (1, 2):
        values = saved.to_dict() | {"format_version": version}
        del values["sha256"], values["impacts"]["scale_source"]
        del values["encoder"]["largest_weight"]
        write_json(tmp_path / "manifest.json", values | {"sha256": _own_digest(values)})
        read = Manifest.load(tmp_path)
        assert (read.scale, read.scale_source) == (saved.scale, "first build")
        assert read.encoder == saved.encoder
        values["impacts"]["scale_source"] = "elsewhere"
        write_json(tmp_path / "manifest.json", values | {"sha256": _own_digest(values)})
        with pytest.raises(InputError, match="scale_source is 'elsewhere'"):
            Manifest.load(tmp_path)
