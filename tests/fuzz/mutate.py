"""Ways to damage a file: bits, lengths, pieces, and the tokens of JSON and of YAML."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

_TOKEN = re.compile(
    rb'"(?:[^"\\\n]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\btrue\b|\bfalse\b|\bnull\b'
)
#: What may replace a number, a string or a word: wrong types, edge cases, paths out of a folder.
TOKENS = [
    *(b"null", b"true", b"false", b'""', b"[]", b"{}", b"[[]]", b'{"a": {"a": null}}'),
    *(b"0", b"-0.0", b"-1", b"1e999", b"-1e999", b"NaN", b"Infinity", b"1e-400", b"0.5"),
    *(b"255", b"65536", b"2147483648", b"4294967296", b"9223372036854775808", b"1" + b"0" * 30),
    b"9" * 5000,
    *(b'"../../etc/passwd"', b'"/etc/passwd"', b'"."', b'".."', b'"a/b"', b'"a\\u0000b"'),
    *(b'"\\ud800"', b'"\\u202e"', b'"\\u001b[2J"', b'"\xff"', b'" "', b'"\\n"', b'"nan"'),
    *(b'"' + b"x" * 3000 + b'"', '"\u65e5\u672c \U0001f600"'.encode(), b"[" * 3000),
]
_NUMBERS = [0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63]
_CRUMBS = [b"\0", b"\n", b"\r", b"\r\n", b"\t", b" ", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8"]
_CRUMBS += [b"{", b"}", b'"', b",", b":", b"&a ", b"*a", b"!!python/object:os.system ", b"<<: "]

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def flip_bits(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    for _ in range(dice.choice((1, 1, 1, 2, 8, 64))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def flip_near_an_end(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    """Headers and footers say how the rest is to be read."""
    reach = min(len(data), 128)
    place = dice.randrange(reach)
    data[place if dice.random() < 0.5 else len(data) - 1 - place] = dice.randrange(256)


def write_number(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    width = dice.choice((1, 2, 4, 8))
    number = dice.choice(_NUMBERS) % 2 ** (8 * width)
    place = dice.randrange(len(data))
    data[place : place + width] = number.to_bytes(width, dice.choice(("little", "big")))


def cut_off(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    del data[dice.randrange(len(data)) :]


def leave_out(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    place = dice.randrange(len(data))
    del data[place : place + dice.choice((1, 2, 8, 100))]


def repeat(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    place = dice.randrange(len(data))
    piece = data[place : place + dice.choice((1, 8, 100, 1000))]
    data[place:place] = piece * dice.choice((1, 1, 10))


def insert(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    place = dice.randrange(len(data) + 1)
    data[place:place] = dice.choice((*_CRUMBS, dice.randbytes(dice.choice((1, 4, 64)))))


def splice(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    """The beginning of this file, and the end of another."""
    other = dice.choice(others)
    data[dice.randrange(len(data)) :] = other[dice.randrange(len(other) + 1) :]


def swap_tokens(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    found = list(_TOKEN.finditer(bytes(data)))
    for match in sorted(dice.sample(found, min(len(found), dice.choice((1, 1, 2)))), key=_end)[
        ::-1
    ]:
        if dice.random() < 0.3:  # another token of the same file, as if two keys had been swapped
            token = dice.choice(found)[0]
        else:
            token = dice.choice(TOKENS)
        data[match.start() : match.end()] = token


def _end(match: re.Match[bytes]) -> int:
    return match.end()


BINARY: tuple[Mutation, ...] = (
    *(flip_bits, flip_bits, flip_near_an_end, flip_near_an_end, write_number, write_number),
    *(cut_off, leave_out, repeat, insert, splice),
)
TEXT: tuple[Mutation, ...] = (*BINARY, *[swap_tokens] * 12)


def mutate(data: bytes, dice: random.Random, others: Sequence[bytes], text: bool) -> bytes:
    """``data`` damaged once or several times.

    others: files to splice with. text: whether ``data`` has tokens that can be swapped.
    """
    damaged = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        if damaged:
            dice.choice(TEXT if text else BINARY)(damaged, dice, others)
    return bytes(damaged)
