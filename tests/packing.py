"""Compressions by their suffixes, independent of how the toolkit packs and unpacks."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pyarrow

PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.Codec("zstd").compress(data, asbytes=True),
}
