"""What StandardTokenizer takes each character for: a letter, a digit, part of an emoji …

Lucene decides by the properties of Unicode 12.1, whichever version Java has. So does this module:
it reads them from ``characters.txt``, and asks neither the running Python nor a library. Characters
that Unicode has added since are separators, here as there.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The class of what is part of no token.
SEPARATOR = b" "
_FILE = Path(__file__).with_name("characters.txt")
_ALL = 0x110000


def code_points(text: str) -> NDArray[np.uint32]:
    """The text's code points, uint32 [n]; a lone surrogate counts as one."""
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def classes(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The class of each code point, uint8 [n]: the letter that ``characters.txt`` gives it."""
    found: NDArray[np.uint8] = _table()[codes]
    return found


@functools.cache
def _table() -> NDArray[np.uint8]:
    """The class of every code point, uint8 [0x110000]."""
    import numpy as np

    table = bytearray(SEPARATOR * _ALL)
    for line in _FILE.read_text("ascii").splitlines():
        if line.startswith("#") or not line:
            continue
        letter, *ranges = line.split(" ")
        for each in ranges:
            first, _, last = each.partition("-")
            start, end = int(first, 16), int(last or first, 16) + 1
            table[start:end] = letter.encode() * (end - start)
    return np.frombuffer(bytes(table), np.uint8)
