"""Where an encoder's tokens stand in a text, for each kind of tokenizer."""

from __future__ import annotations

import pytest

from dupmae_toolkit import load_encoder
from dupmae_toolkit.model import tokens
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.tokens import token_offsets, tokenize
from dupmae_toolkit.search.snippets import Matcher
from tests.families import make_tokenizer, sentences

KINDS = ("wordpiece", "bytes", "unigram")
TEXTS = [
    "",
    " ",
    "River and mountain.",
    "  a  river,\n\ta MOUNTAIN  ",
    "rivér İstanbul 😀 star 日本 🇩🇪 blood’s",
    "e\u0301nergy \u200b light\u00ad \x00 wave",
    "unknownword [SEP] <s> ##ing",
    "lone \ud800 surrogate",
    " ".join(sentences(40)),
]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return make_tokenizer(request.param)


@pytest.mark.parametrize("text", TEXTS)
def test_they_are_the_tokens_of_the_whole_text(tokenizer, text):
    found = list(token_offsets(tokenizer, text))
    clean = text.replace("\ud800", "\ufffd")
    plain = tokenizer(clean, add_special_tokens=False, return_offsets_mapping=True)
    expected = [
        (number, start, end)
        for number, (start, end) in zip(plain["input_ids"], plain["offset_mapping"], strict=True)
        if end > start
    ]
    assert found == expected
    assert all(0 <= start < end <= len(text) for _, start, end in found)


def test_each_token_stands_where_it_says(tokenizer):
    for text in (TEXTS[2], TEXTS[-1]):
        names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        for number, start, end in token_offsets(tokenizer, text):
            token = names[number].replace("##", "").replace("Ġ", " ").replace("▁", " ")
            assert text[start:end].strip().lower() == token.strip().lower()


def test_a_text_in_blocks_has_the_same_tokens(tokenizer, monkeypatch):
    text = " ".join(sentences(60))
    whole = list(token_offsets(tokenizer, text))
    for block in (40, 64, 1001):
        monkeypatch.setattr(tokens, "_BLOCK", block)
        assert list(token_offsets(tokenizer, text)) == whole
    monkeypatch.setattr(tokens, "_BLOCK", 16)
    spans = [(start, end) for _, start, end in token_offsets(tokenizer, "x" * 100)]
    assert spans[0][0] == 0
    assert spans[-1][1] == 100


def test_encoding_still_cuts_where_it_cut(tokenizer):
    text = " ".join(sentences(20))
    before = tokenize(tokenizer, [text], 16)
    assert len(before.ids[0]) == 16
    assert len(list(token_offsets(tokenizer, text))) > 100
    assert tokenize(tokenizer, [text], 16) == before


def test_spaces_that_belong_to_a_token_are_not_highlighted(tokenizer):
    text = "the river of  stars"
    every = {number: 1.0 for number, *_ in token_offsets(tokenizer, text)}
    spans = Matcher({}, every, lambda text: token_offsets(tokenizer, text)).highlights(text)
    assert [text[start:end] for start, end in spans] == text.split()


def test_encoders_with_and_without_transformers_agree():
    lean, full = load_encoder("builtin"), DupMAEEncoder.from_pretrained("builtin")
    assert type(lean) is not type(full)
    for text in (*TEXTS, "tokenisation of unbelievableness " * 900):
        assert list(lean.token_offsets(text)) == list(full.token_offsets(text))
    vocabulary = lean.vocabulary
    text = "How do I parse a date?"
    shown = [(vocabulary[row], text[a:b]) for row, a, b in lean.token_offsets(text)]
    assert ("date", "date") in shown
    assert shown[-1] == ("?", "?")
