"""Digests of what a result was made from."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.records import Encoder


def digest_of(encoded: EncodedCorpus) -> str:
    """A digest of an encoded corpus, from the checksums of its parts."""
    return digest([entry["sha256"] for entry in encoded.manifest["parts"]])


def vectors_key(encoder: Encoder) -> str:
    """A digest of what the vectors and the score of an encoder's documents depend on."""
    from dupmae_toolkit.encoding.resume import precision_of

    info = encoder.info.to_dict()
    kept = {key: info[key] for key in info if key not in ("name", "query_max_length")}
    return digest([kept, precision_of(encoder, "documents")])[:16]


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
