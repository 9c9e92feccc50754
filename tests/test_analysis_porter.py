"""The stemmer: the examples of Porter's paper, and Lucene's stems of 100,000 words."""

from __future__ import annotations

import random

import pytest

from dupmae_toolkit.analysis import words
from dupmae_toolkit.analysis.porter import stem
from tests.analysis_support import anserini

#: From M.F. Porter, "An algorithm for suffix stripping", 1980: what all steps together make of the
#: words that illustrate single ones.
PAPER = """
caresses caress  ponies poni  ties ti  caress caress  cats cat  feed feed  agreed agre
plastered plaster  bled bled  motoring motor  sing sing  conflated conflat  troubled troubl
sized size  hopping hop  tanned tan  falling fall  hissing hiss  fizzed fizz  failing fail
filing file  happy happi  sky sky  relational relat  conditional condit  rational ration
valenci valenc  hesitanci hesit  digitizer digit  radicalli radic  differentli differ  vileli vile
analogousli analog  vietnamization vietnam  predication predic  operator oper  feudalism feudal
decisiveness decis  hopefulness hope  callousness callous  formaliti formal  sensitiviti sensit
sensibiliti sensibl  triplicate triplic  formative form  formalize formal  electriciti electr
electrical electr  hopeful hope  goodness good  revival reviv  allowance allow  inference infer
airliner airlin  gyroscopic gyroscop  adjustable adjust  defensible defens  irritant irrit
replacement replac  adjustment adjust  dependent depend  adoption adopt  homologou homolog
communism commun  activate activ  angulariti angular  homologous homolog  effective effect
bowdlerize bowdler  probate probat  rate rate  cease ceas  controll control  roll roll
generalizations gener  oscillators oscil
"""


@pytest.mark.parametrize(
    ("word", "expected"), [*zip(PAPER.split()[::2], PAPER.split()[1::2], strict=True)]
)
def test_the_papers_examples(word, expected):
    assert stem(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [("possibly", "possibl"), ("archaeology", "archaeolog"), ("as", "as"), ("s", "s"), ("", "")],
)
def test_what_porter_changed_since(word, expected):
    """bli → ble and logi → log; words of one or two letters stay."""
    assert stem(word) == expected


@pytest.mark.java
def test_words_like_english_ones_get_lucenes_stems():
    """100,000 of random beginnings and the suffixes of all rules, one to three after another."""
    draw = random.Random(11)
    suffixes = (
        "s es ies sses ss ed eed ing y e at bl iz ll l ational tional enci anci izer logi bli"
    )
    suffixes += " alli entli eli ousli ization ation ator alism iveness fulness ousness aliti iviti"
    suffixes += (
        " biliti icate ative alize iciti ical ful ness al ance ence er ic able ible ant ement"
    )
    suffixes += " ment ent sion tion ion ou ism ate iti ous ive ize"
    made = []
    for _ in range(100_000):
        letters = draw.choice(["aeiouybcdlnstwxz", "abcdefghijklmnopqrstuvwxyz", "aeyt"])
        start = "".join(draw.choices(letters, k=draw.randint(0, 6)))
        made.append(start + "".join(draw.choices(suffixes.split(), k=draw.randint(1, 3))))
    assert len(set(made)) > 75_000
    found = anserini(" ".join(made))
    assert words(" ".join(made)) == found
    # Stop words aside, each is one word.
    assert 99_000 < len(found) <= 100_000


@pytest.mark.java
def test_a_letter_beyond_the_basic_plane_is_two_consonants():
    """As in Lucene's UTF-16: so 𐐨s has three letters, and loses its s; 𐐨𐐨 is no double letter."""
    draw = random.Random(3)
    made = [
        "".join(draw.choices(["𐐨", "𐐩", "a", "o", "y", "b", "s"], k=draw.randint(1, 4)))
        + draw.choice(["", "s", "ed", "ing", "y", "e", "ll", "al", "ness", "ion"])
        for _ in range(3000)
    ]
    assert words(" ".join(made)) == anserini(" ".join(made))
    assert words("𐐨s as𐐨𐐨ed") == ["𐐨", "as𐐨𐐨"]
