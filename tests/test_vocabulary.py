"""Every entry of every vocabulary has a term of its own that Lucene leaves whole."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.vocabulary import ESCAPE, escape, lucene_terms, unescape

#: Java's Character.isWhitespace and Unicode's White_Space, over the whole of Unicode.
JAVA_WHITE_SPACE = [*range(0x09, 0x0E), *range(0x1C, 0x21), 0x1680, *range(0x2000, 0x2007)]
JAVA_WHITE_SPACE += [*range(0x2008, 0x200B), 0x2028, 0x2029, 0x205F, 0x3000]

nasty = st.one_of(
    st.text(),
    st.text(st.characters()),  # lone surrogates too
    st.text(st.sampled_from(f" \t\n\x00\x01\x1c\x85\u00a0\u2028\u3000|^▁{ESCAPE};#0aé😀\ud800")),
)


def byte_alphabet() -> list[str]:
    """The characters that stand for bytes in byte-level BPE, as GPT-2 and RoBERTa have them."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [chr(256 + n) for n in range(256 - len(printable))]
    return [chr(code) for code in printable] + others


@pytest.mark.parametrize(
    "token",
    [
        "the",
        "##ing",
        "[CLS]",
        "[unused12]",
        "<s>",
        "|",
        "^",
        "a|b",
        "▁the",
        "Ġthe",
        "é",
        "日本",
        "😀",
        *string.punctuation,
    ],
)
def test_ordinary_tokens_are_their_own_terms(token: str) -> None:
    assert lucene_terms([token]) == [token]


def test_the_alphabet_of_byte_level_bpe_is_its_own_terms() -> None:
    assert lucene_terms(byte_alphabet()) == byte_alphabet()


@given(st.lists(nasty, max_size=40))
def test_terms_are_different_and_give_back_their_tokens(vocabulary: list[str]) -> None:
    terms = lucene_terms(vocabulary)
    assert len(set(terms)) == len(vocabulary)
    assert [unescape(term) for term in terms] == vocabulary


@given(nasty)
def test_a_term_is_whole_for_every_splitter_and_can_be_written(token: str) -> None:
    term = escape(token)
    assert term
    assert term.split() == [term]
    assert not any(ord(character) in JAVA_WHITE_SPACE for character in term)
    assert all(
        character == " " or character.isprintable() or ord(character) > 0x9F for character in term
    )
    term.encode("utf-8")


@pytest.mark.parametrize("code", [*JAVA_WHITE_SPACE, 0xA0, 0x2007, 0x202F, 0x85, 0x7F, 0, 1])
def test_white_space_of_java_and_of_unicode_is_escaped(code: int) -> None:
    assert chr(code) not in escape(f"a{chr(code)}b")


def test_the_escape_of_a_token_never_meets_a_token_that_looks_like_it() -> None:
    vocabulary = [
        "",
        "a b",
        escape("a b"),
        escape(""),
        escape(escape("a b")),
        f"{ESCAPE}#1;",
        "x",
        "x",
    ]
    terms = lucene_terms(vocabulary)
    assert len(set(terms)) == len(vocabulary)
    assert [unescape(term) for term in terms] == vocabulary


def test_a_token_that_occurs_many_times_has_a_term_each_time() -> None:
    terms = lucene_terms(["pad"] * 300)
    assert terms[0] == "pad"
    assert len(set(terms)) == 300
    assert {unescape(term) for term in terms} == {"pad"}


def test_a_token_beyond_lucenes_limit_is_refused_with_its_number() -> None:
    assert lucene_terms(["x" * 32_766])
    with pytest.raises(InputError, match="entry 1 has 32,767 characters"):
        lucene_terms(["x", "x" * 32_767])
    with pytest.raises(InputError, match="entry 0 has 10,923 characters"):
        lucene_terms(["日" * 10_923])
