"""Porter's stemmer, as Lucene's PorterStemFilter applies it.

M.F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, with the two rules that his
own programs have since changed: bli → ble (the paper has abli → able), and logi → log, which is
new. Words of one or two letters are left alone. The numbers of the steps are the paper's.

The paper writes a word as [C](VC)^m[V], where C is a run of consonants, V a run of vowels, and m
the word's measure. Most rules ask for a measure of what precedes the suffix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: The rules of a step, (suffix, replacement), by the last letter but one of the suffix. Of two
#: suffixes that a word may end in, the longer stands first.
_Rules = Mapping[str, Sequence[tuple[str, str]]]

_STEP_2: _Rules = {
    "a": [("ational", "ate"), ("tional", "tion")],
    "c": [("enci", "ence"), ("anci", "ance")],
    "e": [("izer", "ize")],
    "g": [("logi", "log")],
    "l": [("bli", "ble"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous")],
    "o": [("ization", "ize"), ("ation", "ate"), ("ator", "ate")],
    "s": [("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous")],
    "t": [("aliti", "al"), ("iviti", "ive"), ("biliti", "ble")],
}

_STEP_3: _Rules = {
    "a": [("ical", "ic")],
    "s": [("ness", "")],
    "t": [("icate", "ic"), ("iciti", "ic")],
    "u": [("ful", "")],
    "v": [("ative", "")],
    "z": [("alize", "al")],
}

_STEP_4: _Rules = {
    "a": [("al", "")],
    "c": [("ance", ""), ("ence", "")],
    "e": [("er", "")],
    "i": [("ic", "")],
    "l": [("able", ""), ("ible", "")],
    "n": [("ant", ""), ("ement", ""), ("ment", ""), ("ent", "")],
    "o": [("ion", ""), ("ou", "")],
    "s": [("ism", "")],
    "t": [("ate", ""), ("iti", "")],
    "u": [("ous", "")],
    "v": [("ive", "")],
    "z": [("ize", "")],
}


def stem(word: str) -> str:
    """The stem of a word in lower case. A character that is not an English letter is a consonant.

    Lucene stems UTF-16: to get its stems of words with characters above U+FFFF, pass each of these
    as two surrogates.
    """
    if len(word) < 3:
        return word
    word = _step_1b(_step_1a(word))
    if word.endswith("y") and "v" in _shape(word[:-1]):  # step 1c
        word = word[:-1] + "i"
    word = _replace(word, _STEP_2, 1)
    word = _replace(word, _STEP_3, 1)
    word = _replace(word, _STEP_4, 2)
    return _step_5(word)


def _step_1a(word: str) -> str:
    """Plurals: caresses → caress, ponies → poni, cats → cat."""
    if word.endswith(("sses", "ies")):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def _step_1b(word: str) -> str:
    """Past tenses and participles: agreed → agree, plastered → plaster, hoping → hope."""
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix):
            rest = word[: -len(suffix)]
            return _mend(rest) if "v" in _shape(rest) else word
    return word


def _mend(word: str) -> str:
    """What stood before -ed or -ing: conflat → conflate, hopp → hop, fil → file."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    shape = _shape(word)
    if word[-2:-1] == word[-1] and shape[-1] == "c":
        return word if word[-1] in "lsz" else word[:-1]
    if shape.count("vc") == 1 and _ends_short(word, shape):
        return word + "e"
    return word


def _step_5(word: str) -> str:
    """A final -e, and one of two final l: probate → probat, controll → control."""
    if word.endswith("e"):
        shape = _shape(word[:-1])
        measure = shape.count("vc")
        if measure > 1 or (measure == 1 and not _ends_short(word[:-1], shape)):
            word = word[:-1]
    if word.endswith("ll") and _measure(word) > 1:
        return word[:-1]
    return word


def _replace(word: str, rules: _Rules, least: int) -> str:
    """Apply the rule for the word's suffix if what precedes that has a measure of ``least``."""
    for suffix, replacement in rules.get(word[-2:-1], ()):
        if word.endswith(suffix):
            rest = word[: -len(suffix)]
            if suffix == "ion" and not rest.endswith(("s", "t")):
                return word
            return rest + replacement if _measure(rest) >= least else word
    return word


def _measure(word: str) -> int:
    """The m of [C](VC)^m[V]."""
    return _shape(word).count("vc")


def _ends_short(word: str, shape: str) -> bool:
    """Whether it ends in consonant, vowel, consonant, the last not w, x or y: the paper's *o."""
    return shape.endswith("cvc") and word[-1] not in "wxy"


def _shape(word: str) -> str:
    """A "c" for every consonant of the word and a "v" for every vowel.

    y is a vowel after a consonant, and otherwise a consonant.
    """
    shape, last = "", "v"
    for letter in word:
        if letter in "aeiou" or (letter == "y" and last == "c"):
            last = "v"
        else:
            last = "c"
        shape += last
    return shape
