"""Sentences packed up to a length, against a plain loop, for each family's tokenizer."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.data.packing import Packer
from tests.families import make_tokenizer, sentences

KINDS = ("wordpiece", "bytes", "unigram")
kinds = pytest.mark.parametrize("kind", KINDS)


def texts(count: int, seed: int = 0) -> list[list[str]]:
    """Texts as lists of their sentences."""
    rng = random.Random(seed)
    return [sentences(rng.randint(1, 6), seed=seed + i, words=9) for i in range(count)]


def plain_packing(tokenizer, made, max_length: int, across: bool) -> list[list[int]]:
    """Sentence by sentence: another block where it does not fit."""
    first, last = tokenizer("a")["input_ids"][0], tokenizer("a")["input_ids"][-1]
    blocks: list[list[int]] = []
    current: list[int] = []
    for text in made:
        for number, sentence in enumerate(text):
            before = " " if number else ""
            ids = tokenizer(before + sentence, add_special_tokens=False)["input_ids"]
            if current and len(current) + len(ids) > max_length - 2:
                blocks.append(current)
                current = []
            for place in range(0, len(ids), max_length - 2):
                piece = ids[place : place + max_length - 2]
                if len(current) + len(piece) > max_length - 2:
                    blocks.append(current)
                    current = []
                current = current + piece
        if current and not across:
            blocks.append(current)
            current = []
    if current:
        blocks.append(current)
    return [[first, *block, last] for block in blocks]


@kinds
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("max_length", [8, 60, 500])
def test_blocks_are_those_of_a_plain_loop_over_sentences(kind, across, max_length):
    tokenizer = make_tokenizer(kind)
    made = texts(150)
    packer = Packer(tokenizer, max_length, across=across)
    found = [block.tolist() for block in packer(" ".join(text) for text in made)]
    assert found == plain_packing(tokenizer, made, max_length, across)
    assert max(map(len, found)) <= max_length
    assert all(block.dtype == np.int32 for block in packer(["One. Two."]))


@kinds
def test_no_token_is_lost_or_made_up(kind):
    tokenizer = make_tokenizer(kind)
    made = [
        "A b. C d!  e f? G\nh\n\n\nI j",
        "",
        " ",
        "x" * 300,
        "Mr. b. c.d.E 3.5 (F)",
        "água. Ém.",
    ]
    packer = Packer(tokenizer, 12, across=True)
    found = [i for block in packer(made) for i in block[1:-1].tolist()]
    expected = [i for t in made for i in tokenizer(t, add_special_tokens=False)["input_ids"]]
    assert found == expected


def test_sentences_end_at_marks_and_line_breaks():
    tokenizer = make_tokenizer()
    packer = Packer(tokenizer, 64, across=False)
    text = "A star e.g. the sun. Rain! Snow? ice\nmoon.day 3. Night"
    (split,) = packer._sentences([text])
    assert [tokenizer.decode(ids).replace(" ", "") for ids in split] == [
        *["astare.g.thesun.", "rain!", "snow?ice", "moon.day3.", "night"],
    ]


def test_nothing_gives_no_block():
    packer = Packer(make_tokenizer(), 10, across=True)
    assert list(packer([])) == []
    assert list(packer(["", "  \n "])) == []


def test_a_length_without_room_is_refused():
    with pytest.raises(InputError, match="max_length is 2; no token fits"):
        Packer(make_tokenizer(), 2, across=True)
