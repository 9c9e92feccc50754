"""How a run was made, in words for its metadata; nothing here depends on time or machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.records import EncoderInfo
from dupmae_toolkit.search.answers import PARTS, WORDS, Answer, Request
from dupmae_toolkit.search.fusion import TIES

if TYPE_CHECKING:
    from dupmae_toolkit.index.manifest import Manifest
    from dupmae_toolkit.model.lookup import LookupEncoder


def metadata_of(
    request: Request, index: Path, documents: int, encoder: EncoderInfo | None
) -> dict[str, Any]:
    """The beginning of every run's metadata. It has filter and offset only if they were given.

    truncated: how many queries and documents were cut, and at how many tokens; precision: that of
    their encoding. None: not known, or nothing was encoded.
    """
    given = {"filter": request.filter, "offset": request.offset}
    return {
        "mode": request.mode,
        "k": request.k,
        **{name: value for name, value in given.items() if value is not None},
        "index": str(index),
        "documents": documents,
        "encoder": encoder.to_dict() if encoder else None,
        "exact": request.exact,
        "ties": TIES,
        "truncated": {
            "queries": None,
            "query_max_length": None,
            "documents": None,
            "max_length": None,
        },
        "precision": {"queries": None, "documents": None},
    }


def index_metadata(
    request: Request, index: Path, documents: int, manifest: Manifest, lookup: LookupEncoder | None
) -> dict[str, Any]:
    """How scores are computed and fused, what a missing one counts as, and how ties break.

    documents: how many can be found. lookup: what encodes the queries, if the encoder does not.
    """
    described = metadata_of(request, index, documents, manifest.encoder)
    if manifest.passages is not None:
        described["passages"] = {
            **manifest.passages.to_dict(),
            "count": manifest.live,
            "aggregate": request.aggregate,
        }
    if lookup is not None:
        described["query_encoder"] = lookup.describe()
    if request.parts == WORDS:  # BM25 counts the words of whole texts; nothing is encoded
        described["truncated"] |= {"queries": 0, "documents": 0}
    else:
        described["precision"]["documents"] = manifest.precision
        described["truncated"]["documents"] = manifest.truncated
        described["truncated"]["max_length"] = manifest.encoder.max_length
    if request.mode == "hybrid":
        described["depth"] = request.depth
        lists = {"lists": list(request.parts)}
        described["fusion"] = lists | request.fusion.describe(len(request.parts), True)
        scoring = manifest.scoring
        if scoring is not None and scoring.origin is not None and _own(request, scoring.weights):
            described["fusion"]["weights_tuned_on"] = scoring.origin.to_dict()
    if "dense" in request.parts:
        described["dense"] = {
            "score": "inner product of query and document vector",
            "faiss": manifest.faiss_spec,
        }
    if "lexical" in request.parts:
        described["lexical"] = {
            "score": "sum over terms of query weight × impact / scale",
            "scale": manifest.scale,
            "max_impact": manifest.max_impact,
        }
        described["lexical"]["frequencies"] = (
            {"function": "(idf / mean idf) ^ power", "power": request.idf_power}
            if request.idf_power
            else None
        )
        if manifest.pruning is not None:
            described["lexical"]["pruning"] = manifest.pruning.to_dict()
    if "bm25" in request.parts and manifest.bm25 is not None:
        described["bm25"] = {
            "score": "sum over words of idf × impact / scale",
            "scale": manifest.max_impact,
            **manifest.bm25.to_dict(),
        }
        if manifest.pruning is not None and manifest.pruning.words:
            described["bm25"]["pruning"] = manifest.pruning.to_dict()
    if request.mode in ("lexical", "bm25"):
        described[request.mode]["missing"] = "documents without a term of the query are left out"
    return described


def _own(request: Request, weights: Sequence[float]) -> bool:
    """Whether a request sums all parts with the weights of the index."""
    given = [weights[PARTS.index(part)] for part in request.parts]
    return request.fusion.is_sum and request.fusion.weights == tuple(given)


def proof(topics: Sequence[str], answers: Sequence[Answer]) -> dict[str, Any]:
    """How many rankings are proven, how deep the legs had to go, and which are not proven."""
    certificates = [answer.certificate for answer in answers]
    deepest = {
        f"deepest_{part}": max(
            (c.depths[part] for c in certificates if part in c.depths), default=None
        )
        for part in PARTS
    }
    unproven = [
        topic
        for topic, certificate in zip(topics, certificates, strict=True)
        if not certificate.certified
    ]
    counts = {"certified": len(certificates) - len(unproven), "topics": len(certificates)}
    return counts | deepest | {"not_certified": unproven}
