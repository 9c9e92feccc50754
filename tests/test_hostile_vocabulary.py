"""A vocabulary of 250,000 entries, odd ones among them, through Lucene as scipy computes it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.lucene import LuceneImpacts, write_lucene
from dupmae_toolkit.index.vocabulary import lucene_terms, unescape, write_vocabulary

SIZE = 250_000
ODD = [
    *("", "", " ", "  ", "\t", "\n", "\r", "\r\n", "\0", "\x01", "\x1c", "\x7f", "\x85", "\xa0"),
    *("\u2028", "\u2029", "\u200b", "\u200d", "\ufeff", "\u3000", "\u202e", "\ud800", "\udfff"),
    *("\ud800a", "😀", "👩‍👩‍👧", "\U0010ffff", "\uffff", "\ufffe", "e\u0301", "é"),
    *("a b", " a", "a ", "a\nb", "a\0b", "a\x01b", "|", "a|5", "^", "a^2", "a\x015", "~", "*", "?"),
    *("+", "-", "!", "(", ")", "{", "}", "[", "]", '"', ":", "\\", "/", "&&", "||", "AND", "OR"),
    *("NOT", "TO", "a:b", "id:1", "[CLS]", "[unused1]", "##a", "▁", "▁a", "Ġ", "Ġa", "</w>", "<s>"),
    *("␛", "␛;", "␛20;", "␛#1;", "a␛20;b", "x" * 8000, "日" * 3000, "pad", "pad", "pad", "İ", "ß"),
]


def vocabulary() -> list[str]:
    """Odd entries, spread over ordinary ones of several scripts."""
    alphabets = [
        "abcdefghij",
        "абвгдежзий",
        "あいうえおかきくけこ",
        "אבגדהוזחטי",
        "🌀🌁🌂🌃🌄🌅🌆🌇🌈🌉",
    ]
    tokens = []
    for number in range(SIZE - len(ODD)):
        letters = alphabets[number % len(alphabets)]
        tokens.append("".join(letters[int(digit)] for digit in str(number)))
    places = np.linspace(0, len(tokens), len(ODD)).astype(int)
    for place, token in sorted(zip(places.tolist(), ODD, strict=True), reverse=True):
        tokens.insert(place, token)
    return tokens


TOKENS = vocabulary()


def test_every_entry_has_a_term_of_its_own_that_gives_it_back():
    terms = lucene_terms(TOKENS)
    assert len(set(terms)) == len(TOKENS) == SIZE
    assert [unescape(term) for term in terms] == TOKENS


def test_the_vocabulary_is_written_and_read_again(tmp_path):
    from dupmae_toolkit.files import read_json

    write_vocabulary(tmp_path / "vocabulary.json", TOKENS)
    assert read_json(tmp_path / "vocabulary.json") == TOKENS
    with pytest.raises(InputError, match="two surrogates in a row"):
        write_vocabulary(tmp_path / "other.json", ["a", "\ud83d\ude00"])


@pytest.mark.java
def test_lucene_gives_the_dot_products_of_scipy_over_the_whole_vocabulary(tmp_path):
    dice = np.random.default_rng(5)
    odd = np.flatnonzero(np.isin(np.array(TOKENS, dtype=object), list(set(ODD))))
    rows = []
    for _ in range(60):
        terms = np.unique(np.concatenate([dice.integers(0, SIZE, 3000), dice.choice(odd, 40)]))
        values = dice.integers(1, 256, len(terms)).astype(np.uint8)
        rows.append(csr_matrix((values, terms, [0, len(terms)]), shape=(1, SIZE)))
    # A document for each odd entry, with nothing else in it.
    single = csr_matrix(
        (np.arange(1, len(odd) + 1).astype(np.uint8), odd, np.arange(len(odd) + 1)),
        shape=(len(odd), SIZE),
    )
    impacts = csr_matrix(vstack([*rows, single]))
    ids = [f"d{n:04}" for n in range(impacts.shape[0])]
    write_lucene(tmp_path / "lucene", ids, impacts, lucene_terms(TOKENS))
    lucene = LuceneImpacts(tmp_path / "lucene", lucene_terms(TOKENS))
    queries = [csr_matrix(([1.0], [term], [0, 1]), shape=(1, SIZE)) for term in odd]
    everything = np.ones(SIZE, np.float32)
    queries.append(csr_matrix((everything, np.arange(SIZE), [0, SIZE]), shape=(1, SIZE)))
    few = np.sort(dice.choice(SIZE, 400, replace=False))
    weights = (dice.integers(1, 64, 400) / 8).astype(np.float32)
    queries.append(csr_matrix((weights, few, [0, 400]), shape=(1, SIZE)))
    stacked = csr_matrix(vstack(queries), dtype=np.float32)
    expected = (stacked.astype(np.float64) @ impacts.astype(np.float64).T).toarray()
    for row, (found, scores) in enumerate(lucene.search(stacked, len(ids))):
        products = expected[row].astype(np.float32)
        best = np.argsort(-products, kind="stable")
        best = best[products[best] > 0]
        assert found.tolist() == best.tolist()
        assert scores.tolist() == products[best].tolist()
    lucene.close()
