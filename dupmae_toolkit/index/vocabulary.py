"""The vocabulary's file, and its tokens as terms that Lucene's whitespace tokenizer does not split.

An ordinary token is its own term, so that stock Pyserini finds it. Only what Lucene would split or
change is escaped: white space, control characters, lone surrogates, the empty token, a token that
occurs twice in the vocabulary, and the escape character itself.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import atomic_file

#: U+241B SYMBOL FOR ESCAPE. It starts ``␛HEX;`` (a code point), ``␛;`` (the empty token),
#: ``␛#N;`` (the N-th repetition of a token) and ``␛w;WORD`` (a word that BM25 counts).
ESCAPE = "␛"
#: Lucene's limit for a term, in bytes of UTF-8.
LONGEST_TERM = 32_766

#: How the term of every word begins, and that of no token.
WORD = f"{ESCAPE}w;"
_ESCAPED = re.compile(f"{ESCAPE}(#?)([0-9a-f]*);")


def write_vocabulary(path: Path, tokens: list[str]) -> None:
    """Write tokens as a JSON list in ASCII, which can hold even lone surrogates.

    Raises InputError for a token with two surrogates in a row, which JSON would join into one
    character.
    """
    text = json.dumps(tokens, indent=0) + "\n"
    if json.loads(text) != tokens:
        raise InputError.at(
            path, None, "a token has two surrogates in a row; use another tokenizer"
        )
    with atomic_file(path) as temporary:
        temporary.write_text(text, "ascii")


def lucene_terms(vocabulary: Sequence[str]) -> list[str]:
    """The term of each token, in the vocabulary's order: all different, each reversible.

    Raises InputError for a token that is longer than Lucene allows.
    """
    terms: list[str] = []
    seen: dict[str, int] = {}
    for number, token in enumerate(vocabulary):
        term = escape(token)
        times = seen[term] = seen.get(term, -1) + 1
        if times:
            term += f"{ESCAPE}#{times:x};"
        if len(term) > LONGEST_TERM // 4 and len(term.encode()) > LONGEST_TERM:
            raise InputError(
                f"vocabulary entry {number} has {len(token):,} characters: Lucene's terms have "
                f"at most {LONGEST_TERM:,} bytes; use another tokenizer"
            )
        terms.append(term)
    return terms


def word_terms(words: Sequence[str]) -> list[str]:
    """The term of each word. No token has such a term: w is no hexadecimal digit."""
    return [WORD + escape(word) for word in words]


def words_of(terms: Sequence[str]) -> list[str]:
    """The words of terms that ``word_terms`` gave, in the order of their code points."""
    return sorted(unescape(term.removeprefix(WORD)) for term in terms)


def escape(token: str) -> str:
    """The term of one token."""
    if token.isascii() and token.isalnum():
        return token
    if not token:
        return f"{ESCAPE};"
    return "".join(f"{ESCAPE}{ord(c):x};" if _is_fragile(c) else c for c in token)


def unescape(term: str) -> str:
    """The token of a term: the inverse of ``lucene_terms`` for each entry."""
    if ESCAPE not in term:
        return term
    return _ESCAPED.sub(lambda m: chr(int(m[2], 16)) if m[2] and not m[1] else "", term)


def _is_fragile(character: str) -> bool:
    # Cc: control; Cs: lone surrogates; Z*: Unicode's separators, most of them white space to Java.
    return (
        character == ESCAPE
        or character.isspace()
        or unicodedata.category(character) in ("Cc", "Cs", "Zs", "Zl", "Zp")
    )
