"""Batches of near texts, against a plain computation of the cosines."""

from __future__ import annotations

import math
import random
import re
from collections import Counter

import pytest

from dupmae_toolkit.training.data.neighbours import near_batches, word_vectors

THEMES = {
    "sea": ["whale", "harbour", "anchor", "sailor", "tide", "vessel"],
    "law": ["judge", "verdict", "court", "appeal", "statute", "lawyer"],
    "sky": ["comet", "planet", "orbit", "nebula", "meteor", "galaxy"],
}


def themed(count, seed=0):
    rng = random.Random(seed)
    names = [rng.choice(list(THEMES)) for _ in range(count)]
    return names, [" ".join(rng.choices(THEMES[name], k=8)) for name in names]


def test_word_vectors_are_tf_idf_rows_of_length_one():
    texts = ["the whale and the tide", "the court", "a of", "", "the whale whale court"]
    counts = [Counter(re.findall(r"\w{3,}", text)) for text in texts]
    vectors = word_vectors(texts).toarray()
    words = sorted({word for row in counts for word in row})
    for row, count in zip(vectors, counts, strict=True):
        plain = [
            (1 + math.log(count[w])) * math.log(len(texts) / sum(w in c for c in counts))
            if count[w]
            else 0.0
            for w in words
        ]
        length = math.sqrt(sum(x * x for x in plain)) or 1.0
        assert row.tolist() == pytest.approx([x / length for x in plain], abs=1e-6)


def test_batches_hold_texts_of_one_theme_and_each_text_once():
    names, texts = themed(96)
    batches = near_batches(texts, 8, random.Random(1))
    assert len(batches) == 12
    assert sorted(i for batch in batches for i in batch) == list(range(96))
    pure = sum(len({names[i] for i in batch}) == 1 for batch in batches)
    assert pure >= 9  # the last of each theme may be mixed
    shuffled = list(range(96))
    random.Random(2).shuffle(shuffled)
    assert not any(len({names[i] for i in shuffled[s : s + 8]}) == 1 for s in range(0, 96, 8))


def test_the_first_batch_is_the_seed_and_its_nearest():
    _, texts = themed(40, seed=3)
    vectors = word_vectors(texts).toarray()
    cosines = vectors @ vectors.T
    for batch in near_batches(texts, 40, random.Random(0)):
        found = [cosines[batch[0], i] for i in batch[1:]]
        assert found == sorted(found, reverse=True)


def test_the_same_seed_gives_the_same_batches():
    _, texts = themed(50)
    assert near_batches(texts, 6, random.Random(7)) == near_batches(texts, 6, random.Random(7))
    assert len(near_batches(texts, 6, random.Random(7))) == 8  # two texts are left over


def test_texts_without_words_and_too_few_texts():
    batches = near_batches(["", "a", "", "?"], 2, random.Random(0))
    assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3]
    assert near_batches(["one text"], 2, random.Random(0)) == []
    assert near_batches([], 2, random.Random(0)) == []
