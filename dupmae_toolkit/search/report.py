"""How rankings came about, for a run's metadata; nothing here depends on time or machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.search.engine import Answer, Request
from dupmae_toolkit.search.fusion import TIES


def describe(request: Request, index: Path, manifest: Manifest, documents: int) -> dict[str, Any]:
    """What the scores are, how they were fused, what a missing one counts as, how ties break."""
    described: dict[str, Any] = {
        "mode": request.mode,
        "k": request.k,
        "index": str(index),
        "documents": documents,
        "encoder": manifest.encoder.to_dict(),
        "exact": request.exact,
        "ties": TIES,
    }
    if request.mode == "hybrid":
        described["depth"] = request.depth
        described["fusion"] = {"lists": ["dense", "lexical"]} | request.fusion.describe(2, True)
    if request.mode != "lexical":
        described["dense"] = {
            "score": "inner product of query and document vector",
            "faiss": manifest.faiss_spec,
        }
    if request.mode != "dense":
        described["lexical"] = {
            "score": "sum over terms of query weight × impact / scale",
            "scale": manifest.scale,
            "max_impact": manifest.max_impact,
        }
    if request.mode == "lexical":
        described["lexical"]["missing"] = "documents without a term of the query are left out"
    return described


def proof(topics: Sequence[str], answers: Sequence[Answer]) -> dict[str, Any]:
    """How many rankings are proven, how deep the legs went for it, and which are not proven."""
    certificates = [answer.certificate for answer in answers]
    dense = [c.dense_depth for c in certificates if c.dense_depth is not None]
    lexical = [c.lexical_depth for c in certificates if c.lexical_depth is not None]
    return {
        "certified": sum(c.certified for c in certificates),
        "topics": len(certificates),
        "deepest_dense": max(dense, default=None),
        "deepest_lexical": max(lexical, default=None),
        "not_certified": [
            topic for topic, c in zip(topics, certificates, strict=True) if not c.certified
        ],
    }
