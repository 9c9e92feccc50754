"""The grammar of tokens: every character, and all short sequences of the kinds of characters."""

from __future__ import annotations

import itertools
import random
import sys

import pytest

from dupmae_toolkit.analysis import words
from dupmae_toolkit.analysis.characters import classes, code_points
from tests.analysis_support import anserini

pytestmark = pytest.mark.java

#: One of each class in characters.txt, and a separator.
KINDS = "aℹא1ア漢กั_:,.'\"\u0301\u200d\ufe0e\ufe0f\u20e3#😀\U0001f3fb\U0001f1e6\U000e0041\U000e007f "

#: Company in which each kind is told from every other.
COMPANY = ["b{}b", "1{}1", "א{}א", "א{}_", "😀{}x", "😀{}😀", "😀\ufe0f{}\U000e007f", "{}😀"]
COMPANY += ["{}b{}", "{}ア", "ア{}_ア", "ก{}ก", "#{}b", "#\u20e3{}b", "{}\u20e3", "\U0001f1e6{}b"]
COMPANY += ["😀\ufe0f\u200d{}b", "{}\u0301", "{0}{0}"]


def in_company(character: str) -> str:
    return "\n".join(each.format(*[character] * each.count("{")) for each in COMPANY)


def test_there_is_one_of_each_class():
    found = classes(code_points(KINDS)).tolist()
    every = classes(code_points("".join(map(chr, range(sys.maxunicode + 1))))).tolist()
    assert sorted(found) == sorted(set(every))


def test_the_company_tells_kinds_apart():
    found = {tuple(anserini(in_company(kind).replace(kind, f"{kind}"))) for kind in KINDS}
    assert len(found) == len(KINDS)


@pytest.mark.parametrize("plane", [*range(17)])
def test_every_character_is_what_lucene_takes_it_for(plane):
    """In Unicode 12.1, in either case: the words have Java's lower case."""
    step = 1 if plane in (0, 1, 14) else 251  # the others are ideographs or not assigned
    for start in range(plane << 16, (plane + 1) << 16, step << 13):
        block = [chr(code) for code in range(start, start + (step << 13), step)]
        text = "\n".join(in_company(character) for character in block if ord(character) >> 16 == plane)
        assert words(text) == anserini(text)
