"""Digests of what a result was made from."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dupmae_toolkit.encoding.corpus import EncodedCorpus


def digest_of(encoded: EncodedCorpus) -> str:
    """A digest of an encoded corpus, from the checksums of its parts."""
    return digest([entry["sha256"] for entry in encoded.manifest["parts"]])


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
