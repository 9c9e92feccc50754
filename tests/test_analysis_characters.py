"""The grammar of tokens: every character, and all short sequences of the kinds of characters."""

from __future__ import annotations

import itertools
import random
import sys

import pytest

from dupmae_toolkit.analysis import words
from dupmae_toolkit.analysis.characters import classes, code_points
from tests.analysis_support import anserini

#: One of each class in characters.txt, the last a separator.
KINDS = "dℹא1ア漢กั_:,.'\"\u0301\u200d\ufe0e\ufe0f\u20e3#😀\U0001f3fb\U0001f1e6\U000e0041\U000e007f "

#: Company in which each kind is told from every other.
COMPANY = [
    "{}",
    "{0}{0}",
    "b{}b",
    "7{}7",
    "ב{}ב",
    "ב{}",
    "イ{}イ",
    "イ{}‿",
    "ข{}",
    "{}ข",
    "{}\u0302",
]
COMPANY += ["{}😎", "😎{}😎", "😎\ufe0f{}", "😎\ufe0f{}\U000e007f", "😎\ufe0f\u200d{}b"]
COMPANY += ["{}'", "7,{}", "😎{}\ufe0f", "😎\ufe0f\U000e0042{}", "{}\u20e3", "*{}", "\U0001f1e7{}"]


def in_company(character: str) -> list[str]:
    return [each.format(character, character) for each in COMPANY]


def test_there_is_one_of_each_class():
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    found = classes(code_points(KINDS)).tolist()
    assert sorted(found) == sorted(set(classes(code_points(every)).tolist()))


@pytest.mark.java
def test_the_company_tells_the_kinds_apart():
    """By the lengths of Lucene's words, so whatever the characters themselves are."""
    found = {
        kind: tuple(tuple(map(len, anserini(text))) for text in in_company(kind)) for kind in KINDS
    }
    assert len(set(found.values())) == len(KINDS), found


@pytest.mark.java
@pytest.mark.parametrize("plane", [*range(17)])
def test_every_character_is_what_lucene_takes_it_for(plane):
    """Whichever Unicode Java and Python have. It is in lower case, too.

    Of planes that hold ideographs or nothing every 251st character is tried.
    """
    step = 1 if plane in (0, 1, 14) else 251
    codes = range(plane << 16, (plane + 1) << 16, step)
    for start in range(0, len(codes), 8192):
        lines = [line for code in codes[start : start + 8192] for line in in_company(chr(code))]
        text = "\n".join(lines)
        assert words(text) == anserini(text)


@pytest.mark.java
@pytest.mark.parametrize("length", [1, 2, 3])
def test_all_short_sequences_of_kinds(length):
    text = "\n".join(map("".join, itertools.product(KINDS, repeat=length)))
    assert words(text) == anserini(text)


@pytest.mark.java
@pytest.mark.parametrize(
    "kinds", ["ℹ😀\u0301\u200d\ufe0f\U0001f3fb", "d😀\ufe0f\u200d\U000e0041\U000e007f", "dא1:,'\""]
)
def test_all_sequences_of_six_of_the_kinds_that_long_rules_are_about(kinds):
    text = "\n".join(map("".join, itertools.product(kinds, repeat=6)))
    assert words(text) == anserini(text)


@pytest.mark.java
@pytest.mark.parametrize("longest", [8, 40, 400, 1000])
def test_random_sequences_of_kinds(longest):
    """Few kinds at a time, so that rules meet; some are longer than what Lucene sees at once."""
    draw = random.Random(longest)
    for _ in range(60):
        kinds = [*draw.sample(KINDS, draw.randint(1, 8)), draw.choice("aS'_é𝐀𐐀")]
        lines = [
            "".join(draw.choices(kinds, k=draw.randint(1, longest))) for _ in range(4000 // longest)
        ]
        text = "\n".join(lines)
        assert words(text) == anserini(text), kinds
