"""Kinds of topics: what a query has, and how its answer matches it."""

from __future__ import annotations

import numpy as np
import pytest

from dupmae_toolkit.evaluation import topic_traits as traits
from dupmae_toolkit.evaluation.topic_traits import Vocabulary

BERT = ["[CLS]", "the", "heart", "rate", "##s", "car", "##dio", "##gram", "b", "##12", "-", "2024"]
SPACED = ["<s>", "▁the", "▁heart", "s", "▁car", "dio", "gram"]


def names(groups) -> list[str]:
    return [group.name for group in groups]


@pytest.mark.parametrize(
    ("word", "split"),
    [("heart", False), ("hearts", True), ("cardiogram", True), ("dio", True), ("2024", False)],
)
def test_a_word_is_split_unless_it_is_a_token(word, split):
    assert Vocabulary(BERT).splits(word) is split


def test_pieces_inside_words_begin_no_word_in_a_vocabulary_that_marks_spaces():
    vocabulary = Vocabulary(SPACED)
    assert not vocabulary.splits("heart")
    assert vocabulary.splits("dio")
    assert vocabulary.splits("s")


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("The heart-rate", ["the", "heart", "rate", "-"]),
        ("Cardiograms!", ["car", "##s", "##dio", "##gram"]),
        ("a car", ["car"]),
        ("HÉART", ["heart"]),
        ("vitamin B12", ["b", "##12"]),
        ("", []),
    ],
)
def test_tokens_stand_in_a_text_as_words_or_as_pieces(text, there):
    vocabulary = Vocabulary(BERT)
    found = vocabulary.stands_in(np.arange(len(BERT)), text)
    # "vitamin" is split too: no token of these is in it but "##s" of none.
    assert [BERT[place] for place in np.flatnonzero(found)] == sorted(there, key=BERT.index)


def test_what_a_query_has():
    vocabulary = Vocabulary(BERT)

    def has(text, frequencies=None):
        return names(traits.term_groups(text, vocabulary, frequencies, 1000))

    assert has("the heart rate") == ["common words only"]
    assert has("the heart", {"heart": 2}) == ["a rare word"]
    assert has("the heart", {"heart": 3}) == ["common words only"]
    assert has("the heart", {"heart": 0}) == ["a word in no document"]
    assert has("the cardiogram") == ["a split word"]
    assert has("the heart 2024") == ["a number"]
    # Digits are a number, and not a word that was split.
    assert has("heart b12") == ["a number"]
    assert has("the Heart") == ["a name"]
    assert has("The heart") == ["common words only"]
    assert has("  The heart") == ["common words only"]
    assert has("THE heart") == ["a name"]
    assert has("B12 cardiogram", {"b12": 1, "cardiogram": 0}) == [
        "a rare word",
        "a word in no document",
        "a split word",
        "a number",
    ]


def test_in_a_tiny_collection_one_document_is_rare():
    vocabulary = Vocabulary(BERT)
    for documents in (1, 5, 499):
        found = traits.term_groups("heart", vocabulary, {"heart": 1}, documents)
        assert names(found) == ["a rare word"]
        found = traits.term_groups("heart", vocabulary, {"heart": 2}, documents)
        assert names(found) == ["common words only"]


@pytest.mark.parametrize(
    ("query", "answer", "group"),
    [
        ("parse dates", "Parsing a date.", "all"),
        ("parse dates quickly today", "date, parse, quickly", "more than half"),
        ("parse dates", "a date", "at most half"),
        ("parse dates", "nothing of it", "none"),
        ("parse dates", "", "none"),
    ],
)
def test_words_match_as_bm25_counts_them(query, answer, group):
    assert traits.match_group(query, answer) == traits.Group(traits.MATCHED, group)


def test_a_query_without_words_matches_nothing_and_is_in_no_such_group():
    assert traits.match_group("what is this, to be or not", "this") is not None
    assert traits.match_group("to be or not", "to be") is None


@pytest.mark.parametrize(
    ("literal", "whole", "name"),
    [
        (4.0, 4.0, "at most ¼"),
        (3.0, 4.0, "at most ¼"),
        (2.0, 4.0, "¼ to ½"),
        (1.0, 4.0, "½ to ¾"),
        (0.0, 4.0, "more than ¾"),
        (0.0, 0.0, "no lexical score"),
    ],
)
def test_shares_of_expansion(literal, whole, name):
    assert traits.expansion_group(literal, whole).name == name


def test_lengths():
    def binned(query: int, answer: int | None) -> list[str]:
        text = None if answer is None else "w " * answer
        return names(traits.length_groups("w " * query, text))

    assert binned(1, 50) == ["1–4 words", "1–50 words"]
    assert binned(5, 51) == ["5–8 words", "51–100 words"]
    assert binned(16, 200) == ["9–16 words", "101–200 words"]
    assert binned(17, 100_000) == ["17 words or more", "201 words or more"]
    assert binned(3, None) == ["1–4 words"]
    assert traits.length("snake_case, it's 3.5 %") == 6


def test_every_group_is_listed_once():
    assert len(set(traits.ORDER)) == len(traits.ORDER)
    vocabulary = Vocabulary(BERT)
    every = {
        *traits.term_groups("The x B12 Heart", vocabulary, {"x": 0, "y": 1}, 9),
        *traits.term_groups("heart", vocabulary, None, 9),
        *(traits.expansion_group(n, 8.0) for n in range(9)),
        traits.expansion_group(0.0, 0.0),
        *(traits.match_group("one two three four", a) for a in ("one", "one two three", "no")),
        traits.match_group("one", "one"),
        *(g for n in range(1, 300) for g in traits.length_groups("w " * n, "w " * n)),
    }
    assert every == set(traits.ORDER)
