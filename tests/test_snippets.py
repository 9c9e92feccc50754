"""Where a query's terms stand in a text, and which passage is shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dupmae_toolkit.analysis import word_spans, words
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.search.snippets import Match, Matcher, _best_window

MATCHER = Matcher({"pars": 2.0, "date": 3.0, "sort": 1.0})
FILLER = "There is nothing to be seen in this one. "


def marked(snippet) -> list[str]:
    return [snippet.text[start:end] for start, end in snippet.highlights]


def test_a_short_text_is_shown_whole():
    snippet = MATCHER.snippet("Parsing of dates,\nand more")
    assert (snippet.text, snippet.before, snippet.after) == (
        "Parsing of dates,\nand more",
        False,
        False,
    )
    assert marked(snippet) == ["Parsing", "dates"]
    assert str(snippet) == snippet.text


def test_the_passage_holds_the_most_weight_of_different_terms():
    once = "Sorting, sorted, sorts. "
    text = FILLER * 9 + once * 4 + FILLER * 9 + "How to parse a date. " + FILLER * 9 + "A date. "
    snippet = MATCHER.snippet(text, 80)
    assert marked(snippet) == ["parse", "date"]
    assert snippet.before
    assert snippet.after
    assert text[snippet.start : snippet.end] == snippet.text
    # The last of the sentences that begin near, and whole ones.
    assert snippet.text == "How to parse a date. There is nothing to be seen in this one."


def test_of_equal_passages_the_first_is_shown():
    text = FILLER * 5 + "One date. " + FILLER * 9 + "Two dates. " + FILLER * 5
    assert "One date" in MATCHER.snippet(text, 60).text


def test_what_repeats_leaves_room_for_the_beginning_of_the_sentence():
    text = FILLER * 9 + "This is a rather long sentence about a date. " + "A date. " * 30
    snippet = MATCHER.snippet(text, 100)
    assert snippet.text.startswith("This is a rather long sentence about a date. A date. A date.")


def test_a_text_without_terms_gives_its_beginning():
    snippet = MATCHER.snippet(FILLER * 20, 50)
    assert (snippet.text, snippet.highlights) == ("There is nothing to be seen in this one.", ())
    assert not snippet.before
    assert snippet.after


def test_ends_are_those_of_words_where_no_sentence_is_near():
    text = "lorem ipsum dolor " * 30 + "date " + "amet consectetur " * 30
    snippet = MATCHER.snippet(text, 100)
    assert 70 < len(snippet.text) <= 100
    assert text[snippet.start - 1] == text[snippet.end] == " "
    assert not snippet.text[0].isspace()
    assert not snippet.text[-1].isspace()


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\u200b", "…", "date" * 200, "日" * 500])
def test_texts_without_a_place_to_cut(text):
    snippet = MATCHER.snippet(text, 40)
    assert len(snippet.text) <= 40
    assert snippet.text == text[snippet.start : snippet.end]


def test_scripts_without_spaces():
    matcher = Matcher({"東": 1.0, "京": 1.0})
    text = "何もない文です。" * 60 + "ここは東京です。" + "何もない文です。" * 60
    snippet = matcher.snippet(text, 60)
    assert marked(snippet) == ["東京"]
    assert snippet.text.startswith("ここは東京です。")
    assert snippet.text.endswith("。")
    without = "何もない文です" * 60 + "東京" + "何もない文です" * 60
    snippet = matcher.snippet(without, 60)
    assert marked(snippet) == ["東京"]
    assert len(snippet.text) == 60
    assert not snippet.text.startswith("東")


def test_no_mark_is_parted_from_its_letter():
    letter = "e\u0301\u0323"
    for length in range(20, 30):
        snippet = MATCHER.snippet(f"{letter * 50}date{letter * 50}", length)
        assert unicodedata.combining(snippet.text[0]) == 0
        after = f"{letter * 50}date{letter * 50}"[snippet.end :]
        assert not after or unicodedata.combining(after[0]) == 0
    family = "👨‍👩‍👧"
    for length in range(20, 30):
        text = "🙂" + family * 60
        snippet = MATCHER.snippet(text, length)
        assert text[snippet.end - 1] != "\u200d"
        assert text[snippet.end] != "\u200d"


def test_offsets_count_code_points():
    text = "😀𐐀 Date, İstanbul: date’s ＤＡＴＥ dates"
    spans = Matcher({"date": 1.0}).highlights(text)
    assert [text[start:end] for start, end in spans] == ["Date", "date’s", "dates"]


def test_a_word_that_is_longer_than_the_passage_does_not_hide_others():
    long = "x" * 90
    matcher = Matcher({long: 5.0, "date": 1.0})
    snippet = matcher.snippet(f"{long} " + FILLER * 4 + "A date here. " + FILLER * 4, 60)
    assert marked(snippet) == ["date"]


@pytest.mark.parametrize("length", [0, -1, 1.5, True, None, "9"])
def test_lengths_that_are_none(length):
    with pytest.raises(InputError, match=r"a snippet of length .*; it must be a whole number"):
        MATCHER.snippet("date", length)


def test_a_huge_text_is_read_to_its_end():
    text = "word " * 400_000 + "a date " + "word " * 1000
    snippet = MATCHER.snippet(text)
    assert marked(snippet) == ["date"]
    assert snippet.start > 1_999_000


PIECES = ["date", "Parse ", "sorted", " ", ". ", "\n", "\n\n", "é", "e\u0301", "日", "。", "x" * 30]
PIECES += [
    "\u202e",
    "\x1b[31m",
    "😀",
    "👨\u200d👩\u200d👧",
    "\ud800",
    "… ",
    '." ',
    "İ",
    "'s",
    "\xa0",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


@settings(deadline=None, max_examples=400)
@given(TEXTS, st.integers(1, 70))
@example("date " * 9, 1)
def test_any_snippet_is_a_passage_with_its_highlights(text, length):
    snippet = MATCHER.snippet(text, length)
    assert snippet.text == text[snippet.start : snippet.end]
    assert len(snippet.text) <= length
    assert (snippet.before, snippet.after) == (snippet.start > 0, snippet.end < len(text))
    everywhere = MATCHER.highlights(text)
    inside = {i for a, b in everywhere for i in range(a, b) if snippet.start <= i < snippet.end}
    assert inside == {
        i + snippet.start for start, end in snippet.highlights for i in range(start, end)
    }
    ends = [place for span in snippet.highlights for place in span]
    assert ends == sorted(set(ends))
    if any(end - start <= length for start, end in everywhere):
        assert snippet.highlights


WEIGHTS = {"a": 1.0, "b": 2.5, "c": 0.25, "d": 4.0, "e": 1.0}
PLACES = st.lists(
    st.tuples(st.integers(0, 80), st.integers(1, 25), st.sampled_from("abcde")), max_size=25
)


def weight_of(matches: list[Match], start: int, end: int) -> float:
    held = {match.key for match in matches if match.start >= start and match.end <= end}
    return sum(WEIGHTS[str(key)] for key in held)


@settings(deadline=None, max_examples=300)
@given(PLACES, st.integers(1, 9), st.integers(1, 40))
def test_no_window_weighs_more(places, size, length):
    matches = sorted(Match(start, start + size, WEIGHTS[key], key) for start, _, key in places)
    start, end = _best_window(matches, length)
    assert end - start <= length
    best = max((weight_of(matches, m.start, m.start + length) for m in matches), default=0.0)
    assert weight_of(matches, start, end) == pytest.approx(best)


@settings(deadline=None, max_examples=200)
@given(PLACES, st.integers(1, 40))
def test_a_window_holds_a_term_if_any_fits(places, length):
    """Words, and tokens within them, overlap, and begin in another order than they end."""
    matches = sorted(Match(start, start + size, WEIGHTS[key], key) for start, size, key in places)
    start, end = _best_window(matches, length)
    assert end - start <= length
    fits = any(match.end - match.start <= length for match in matches)
    assert (weight_of(matches, start, end) > 0) == fits


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=80) | TEXTS)
def test_words_with_offsets_are_the_words(text):
    assert [word for word, *_ in word_spans(text)] == words(text)
    last = 0
    for _, start, end in word_spans(text):
        assert last <= start < end <= len(text)
        last = end
