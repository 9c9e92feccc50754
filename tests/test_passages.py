"""How texts are cut into passages, and how the rows that hold these are named."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest

from dupmae_toolkit.collection.passages import (
    Passages,
    as_passage,
    cut,
    document_of,
    passages_of,
    row_id,
    split_row_id,
    whole,
)
from dupmae_toolkit.encoding.passages import PassageSource
from dupmae_toolkit.encoding.source import as_source
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.tokens import token_offsets
from dupmae_toolkit.records import Document, Passage
from tests.tiny import tiny_lm, tiny_tokenizer


def words(text: str) -> list[tuple[int, int, int]]:
    return [(0, *found.span()) for found in re.finditer(r"\S+", text)]


def letters(text: str) -> list[tuple[int, int, int]]:
    """Each letter is three tokens, as bytes are to some tokenizers."""
    return [(0, place, place + 1) for place in range(len(text)) for _ in range(3)]


def pieces(text: str, size: int, overlap: int, tokens=words) -> list[str]:
    return [text[a:b] for a, b in cut(text, tokens(text), Passages(size, overlap))]


def test_a_short_text_is_one_passage():
    assert cut("", [], Passages(5, 1)) == [(0, 0)]
    assert pieces(" a b ", 2, 1) == [" a b "]
    assert pieces("a b", 2, 0) == ["a b"]


def test_passages_end_with_words_where_no_sentence_ends():
    assert pieces("a b c d e f g", 3, 1) == ["a b c ", "c d e ", "e f g"]
    assert pieces("a b c d e f g", 3, 0) == ["a b c ", "d e f ", "g"]


def test_passages_end_with_sentences_that_end_in_the_last_third():
    text = "a b c d e. f g h i j k l m. n o p"
    assert pieces(text, 6, 0)[0] == "a b c d e. "
    # The sentence ends too early: nearly half of the passage would be lost.
    assert pieces(text, 9, 0)[0] == "a b c d e. f g h i "
    # The next begins with a sentence if that shares at least half of the overlap.
    assert pieces(text, 9, 8)[1].startswith("f g h i j")
    assert pieces(text, 9, 5)[1].startswith("f g h i j")
    assert pieces("a b c d e f. g h i j k l m n", 7, 4)[1].startswith("c d e f. g")


@pytest.mark.parametrize("end", ["。", "！", "。」"])
def test_ideographic_sentences_end_without_white_space(end):
    text = f"一二三四五{end}六七八九十"
    assert pieces(text, 7, 0, lambda t: [(0, n, n + 1) for n in range(len(t))])[0].endswith(end)


def test_empty_lines_end_sentences():
    assert pieces("a b c d\n\ne f g", 5, 0) == ["a b c d\n\n", "e f g"]


def test_a_character_of_several_tokens_is_not_cut():
    found = pieces("abcdefgh", 7, 2, letters)
    assert "".join(dict.fromkeys("".join(found))) == "abcdefgh"
    assert all(found)


def test_words_are_not_cut_within():
    tokenizer = tiny_tokenizer()
    text = "w1p1p2 w2p3 " * 20
    found = pieces(text, 6, 3, lambda t: list(token_offsets(tokenizer, t)))
    assert len(found) > 5
    assert all(piece.startswith("w") and piece.endswith(" ") for piece in found)


@pytest.mark.parametrize("tokens", [words, letters])
def test_any_text_is_covered_by_passages_of_the_size(tokens):
    dice = random.Random(5)
    for _ in range(400):
        text = "".join(dice.choices("abc  .。!\n\u200b\u0301é😀", k=dice.randint(0, 120)))
        size = dice.randint(1, 12)
        overlap = dice.randint(0, size - 1)
        spans = cut(text, tokens(text), Passages(size, overlap))
        assert (spans[0][0], spans[-1][1]) == (0, len(text))
        starts = [start for _, start, _ in tokens(text)]
        for (start, end), (later, its_end) in pairwise(spans):
            assert start < later <= end < its_end
            shared = sum(later <= place < end for place in starts)
            assert shared <= overlap or tokens is letters
        if tokens is words and "\u200b" not in text:
            assert all(sum(a <= p < b for p in starts) <= size for a, b in spans)
        rows = [
            Document("d", "t", text[a:b], {"x": 1}, Passage(number, a, b))
            for number, (a, b) in enumerate(spans)
        ]
        dice.shuffle(rows)
        assert whole(rows) == Document("d", "t", text, {"x": 1})


def test_no_passage_is_blank():
    blank = "\u200b " * 6
    assert pieces(f"a b c {blank}d", 3, 0) == [f"a b c {blank}", "d"]
    assert pieces(f"{blank}c d", 3, 0) == [f"{blank}c d"]


@pytest.mark.parametrize("name", ["a", "a#00001", "#", "a#", "日本 b", "a#00000#00000"])
@pytest.mark.parametrize("number", [0, 12, 99_999, 100_000])
def test_the_id_of_a_row_gives_document_and_number_back(name, number):
    assert split_row_id(row_id(name, number)) == (name, number)
    assert document_of(row_id(name, number)) == name


def test_the_id_of_a_row_is_as_documented():
    assert row_id("doc", 12) == "doc#00012"


@pytest.mark.parametrize("name", ["", "a", "#00001", "a#1", "a#0000x", "a#00001 "])
def test_other_ids_are_refused(name):
    with pytest.raises(InputError, match="names no passage"):
        split_row_id(name)


@pytest.mark.parametrize(
    ("size", "overlap", "said"),
    [
        (0, 0, "at least 1"),
        (-3, 0, "at least 1"),
        (5, 5, "less than the 5"),
        (5, -1, "at least 0"),
        (2.5, 0, "whole number"),
        (True, 0, "whole number"),
        (5, "1", "whole number"),
    ],
)
def test_numbers_that_make_no_passages_are_refused(size, overlap, said):
    with pytest.raises(InputError, match=said):
        Passages(size, overlap)


def test_the_overlap_is_a_quarter_unless_given():
    assert passages_of(200, None) == Passages(200, 50)
    assert passages_of(1, None) == Passages(1, 0)
    assert passages_of(200, 0) == Passages(200, 0)
    assert passages_of(None, None) is None
    with pytest.raises(InputError, match="goes with passages"):
        passages_of(None, 10)


@pytest.mark.parametrize("values", [{}, [], "200", {"size": 5}, {"size": 5, "overlap": 9}])
def test_broken_settings_are_refused(values):
    with pytest.raises(ValueError, match=r"passages|overlap"):
        Passages.from_dict(values)


@pytest.mark.parametrize(
    "span",
    [None, [0], [0, 3, 3], [-1, 1, 2], [0.0, 2.0, 2], "abc", [True, 3, 3], [0, 2, 1]],
)
def test_a_row_with_a_wrong_span_is_refused(span):
    with pytest.raises(InputError, match="has no span"):
        as_passage(Document("d#00000", "", "ab", {"$passage": span}))


def test_a_row_of_an_unreleased_version_says_so():
    said = "as an unreleased version wrote it; build the index again"
    with pytest.raises(InputError, match=said):
        as_passage(Document("d#00000", "", "ab", {"$passage": [0, 2]}))


def test_a_gap_in_the_text_is_refused():
    rows = [
        Document("d", "", "ab", {}, Passage(0, 0, 2)),
        Document("d", "", "de", {}, Passage(1, 3, 5)),
    ]
    with pytest.raises(InputError, match="from 2 to 3 is in no passage"):
        whole(rows)


def test_passages_leave_room_for_the_title():
    config = DupMAEConfig(max_length=40)
    encoder = DupMAEEncoder(tiny_lm(), tiny_tokenizer(), config, "tiny", "fp32")
    text = " ".join(f"w{n % 50}" for n in range(150))
    for words_in_title, is_cut in ((0, False), (8, False), (20, False), (36, True)):
        title = " ".join(["w7"] * words_in_title)
        source = PassageSource(as_source([Document("d", title, text)]), Passages(30, 8), encoder)
        rows = [row for _, row in source.numbered()]
        encoded = encoder.encode_documents([row.contents for row in rows])
        assert (encoded.truncated > 0) == is_cut, title
        assert whole(map(as_passage, rows)).text == text
        longest = max(len(list(encoder.token_offsets(row.text))) for row in rows)
        assert longest == min(30, 40 - 2 - words_in_title) or is_cut
