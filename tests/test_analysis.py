"""Words of texts: what Anserini's analyser gives, for every text."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae_toolkit.analysis import count_words, filters, word_spans, words
from tests.analysis_support import anserini, anserini_offsets
from tests.demo_support import demo_documents

#: Each with its words, which the tests compare with Anserini's too.
CASES = {
    "": "",
    "  \n\t .,;:'\"_-/ ": "",
    "The boundary layer's pressures, in 1.5-inch wings": "boundari layer pressur 1.5 inch wing",
    # Signs between letters or digits
    "U.S.A. e.g. 3,000.5 1;2 a,b 1:2 a:b a;b AT&T C++ o'clock": (
        "u.s.a e.g 3,000.5 1;2 b 1 2 a:b b t c o'clock"
    ),
    "1'2 x'1 1'x a.1 1.a x..y x.'y": "1'2 x 1 1 x 1 1 x y x y",
    "snake_case __init__ _ ___ 1_000 a_'b _1_": "snake_cas __init__ 1_000 a_ b _1_",
    "2024-01-31T12:00 v1.2rc3 file.txt http://x.org/y?z=1": (
        "2024 01 31t12 00 v1.2rc3 file.txt http x.org y z 1"
    ),
    # Possessives, with each apostrophe; stop words after them
    "dog's dog’s dog＇s DOG'S dogs' it's that’s 's s's": "dog dog dog dog dog s s",
    "dog's\u0301 dog`s dog´s": "dog's\u0301 dog s dog s",
    # Lower case, as Java has it for each character
    "İSTANBUL ΟΔΟΣ ΣΑΣ Straße ẞ ǅ K Ω": "istanbul οδοσ σασ straße ß ǆ k ω",
    # What extends a letter stays with it, and keeps suffixes from being seen
    "re\u00adsume\u0301 run\u200dning \u0301x zero\u200bwidth x\ufeffy": (
        "re\u00adsume\u0301 run\u200dn x zero width x\ufeffy"
    ),
    # Other scripts
    "東京都に行く カタカナ ｶﾀｶﾅ ア_イ アa ー 한국어 々": (
        "東 京 都 に 行 く カタカナ ｶﾀｶﾅ ア_イ ア ー 한국어 々"
    ),
    "ภาษาไทย ลาว မြန်မာ ខ្មែរ ั": "ภาษาไทย ลาว မြန်မာ ខ្មែរ ั",
    'צה"ל ג\'ירפה א"ב"ג x:א"ב א\'': "צה\"ל ג'ירפה א\"ב ג x:א ב א'",
    "١٢٣ １２．３ ９,9 Ⅷ ½ ²": "١٢٣ １２．３ ９,9 ⅷ",
    # Emoji
    "😀😀 👨‍👩‍👧 👍🏽 🇩🇪🇫🇷🇬 3️⃣ #️⃣ *⃣ ☺︎ ©": "😀 😀 👨‍👩‍👧 👍🏽 🇩🇪 🇫🇷 3️⃣ #️⃣ *⃣ ☺ ©",
    "ℹ️x ℹ‍😀 Ⓜ 🏴\U000e0067\U000e0062\U000e007f x😀y": (
        "ℹ️x ℹ‍😀 ⓜ 🏴\U000e0067\U000e0062\U000e007f x 😀 y"
    ),
    # Characters beyond the basic plane, surrogates, controls, what Unicode 12.1 does not have
    "𝐁𝐨𝐥𝐝s 𐐀s 𠀀": "𝐁𝐨𝐥𝐝 𐐨 𠀀",
    "a\ud800b \udc00c d\ud83d\ude00e \x00f\x1fg\ufffdh": "b c d e f g h",
    "x\U0001fae8y \U0001e030z": "x \U0001fae8 y z",
}


@pytest.mark.parametrize("text", CASES)
def test_hard_cases(text):
    assert words(text) == CASES[text].split()


@pytest.mark.java
@pytest.mark.parametrize("text", CASES)
def test_hard_cases_in_anserini(text):
    assert words(text) == anserini(text)


@pytest.mark.java
@pytest.mark.parametrize("text", [*CASES, "x" * 600 + "'s " + "\u0301é" * 300 + " dogs", "_ a_ İs"])
def test_words_stand_where_lucene_finds_them(text):
    units = [0]  # UTF-16 units before each character
    for character in text:
        units.append(units[-1] + 1 + (character > "\uffff"))
    found = [(word, units[start], units[end]) for word, start, end in word_spans(text)]
    expected = anserini_offsets(text)
    plain = [each for each in found if max(each[0]) <= "\uffff"]
    assert plain == [each for each in expected if each[1:] in {own[1:] for own in plain}]
    assert [each[1:] for each in found] == [each[1:] for each in expected]


@pytest.mark.java
@pytest.mark.parametrize("letter", ["a", "é", "1", "_a", "𐐀", "ก", "ア", "😀\u200d", "a\u0301"])
def test_long_tokens_are_split_where_lucene_splits_them(letter):
    texts = [
        letter * count + tail
        for count in (*range(120, 133), *range(251, 262), 700)
        for tail in ("", "'s", "'b ing", "_", ".5", "\u0301", "𐐀𐐀s", " x")
    ]
    text = "\n".join(texts)
    assert words(text) == anserini(text)


@pytest.mark.java
def test_docstrings_and_sources():
    """Names with dots and low lines, numbers, and every script that somebody made a test of."""
    texts = [document.text for document in demo_documents()]
    assert len(texts) > 3000
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    texts += [source.read_text("utf-8") for source in sources]
    text = "\n".join(texts)
    found = [word for each in texts for word in words(each)]
    assert found == anserini(text)
    counts: Counter[str] = Counter()
    for each in texts:
        counts.update(count_words(each))
    assert counts == Counter(found)


@pytest.mark.java
@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(), max_size=200))
def test_any_text(text):
    assert words(text) == anserini(text)


HARD = list("aSsyi.:,;'’＇\"_-/ 01٣אבアー漢かกั한éİΣßſKℹ©#*😀👍👨𐐀𝐀\ud800\udc00\n\x00")
HARD += ["\u0301", "\u00ad", "\u200b", "\u200d", "\ufe0e", "\ufe0f", "\u20e3", "\U0001f3fb", "🇩"]
HARD += ["\U000e0067", "\U000e007f", "'s", "ing", "ed", "ational", "the", "x" * 120, "\u0301" * 90]


@pytest.mark.java
@settings(deadline=None, max_examples=700)
@given(st.lists(st.sampled_from(HARD), max_size=40).map("".join))
def test_mixtures_of_what_is_hard(text):
    assert words(text) == anserini(text)
    found = words(text)
    assert count_words(text) == Counter(found)
    assert [*count_words(text)] == [*dict.fromkeys(found)]


@pytest.mark.java
@pytest.mark.parametrize(
    "piece", ["_", "a'", "\u200d", "_\u0301", "😀\u200d", 'א"', "漢", "#\u0301"]
)
def test_a_huge_text_without_a_space(piece):
    text = piece * (100_000 // len(piece))
    assert words(text) == anserini(text)


def test_words_that_are_kept_are_bounded():
    """However many there are, and however long; and what was forgotten is computed again."""
    before = words("running horses")
    text = " ".join(f"w{n}s" for n in range(3 * filters._KEPT)) + " " + "z" * 200
    assert words(text) == [f"w{n}" for n in range(3 * filters._KEPT)] + ["z" * 200]
    assert len(filters._words) <= filters._KEPT
    assert all(len(token) <= filters._LONGEST_KEPT for token in filters._words)
    assert words("running horses") == before == ["run", "hors"]


def test_threads_that_share_what_is_kept(monkeypatch):
    monkeypatch.setattr(filters, "_KEPT", 50)
    texts = [" ".join(f"w{n * k}s" for n in range(200)) for k in range(1, 40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(words, texts * 5))
    assert found == [text.replace("s", "").split() for text in texts * 5]


def test_words_of_a_query_need_no_java_and_nothing_heavy():
    code = (
        "import sys\nfrom dupmae_toolkit.analysis import words\n"
        "assert words('how do I parse a date') == ['how', 'do', 'i', 'pars', 'date']\n"
        "assert not {'numpy', 'torch', 'jnius', 'scipy'} & set(sys.modules)\n"
        "assert words('naïve') == ['naïv']\n"
        "assert 'jnius' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
