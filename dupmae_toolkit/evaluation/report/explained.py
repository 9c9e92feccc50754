"""Explanations of examples by the index that made the run, if it still exists."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.evaluation.part_rankings import take
from dupmae_toolkit.evaluation.report.examples import Example, shown_ids, wanted
from dupmae_toolkit.evaluation.report.folder import Section, readable_queries
from dupmae_toolkit.evaluation.report.named import Named, is_here
from dupmae_toolkit.index.layout import MANIFEST_FILE
from dupmae_toolkit.records import Query, Representations
from dupmae_toolkit.search.answers import WORDS

if TYPE_CHECKING:
    from dupmae_toolkit.search.answers import Request
    from dupmae_toolkit.search.hybrid_index import HybridIndex

#: How far an explained score may be from the run's, which is rounded to float32.
_TOLERANCE = 1e-4
#: What values of another kind or size in a record raise.
_BROKEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
_FITTED = {"linear", "rrf", "sum"}


def explain(section: Section, examples: Sequence[Example], named: Named | None = None) -> None:
    """Fill ``explained`` and ``titles`` of the examples, or say in a note why they stay empty.

    An index whose scores differ from the run's explains nothing. The network is not used: an
    encoder is loaded only if it is the built-in one or a folder. named: which index may be read;
    None: as for ``Named`` of the section's folder.
    """
    if not examples:
        return
    subject = examples[0].subject
    about = section.runs[subject].metadata
    named = named or Named(section.folder)
    try:
        place = _index_of(section, subject, about, named)
        section.read.append(str(place))
        _explain(section, examples, place, about, named)
    except (DupMAEError, OSError, *_BROKEN) as error:
        # Whatever is wrong with a sidecar or an index, the rest of the report is written.
        for example in examples:
            example.explained.clear()
            example.titles.clear()
        lacks = f"the metadata of {subject} lacks {error}."
        why = lacks if isinstance(error, KeyError) else str(error)
        section.notes.append(f"Nothing is explained: {why}")


def _index_of(section: Section, subject: str, about: dict[str, Any], named: Named) -> Path:
    """The index that is read. Raises DupMAEError with the reason if there is none."""
    if named.index is not None:
        return named.index
    stated = about.get("index")
    if not isinstance(stated, str) and "mode" not in about:
        raise DupMAEError(f"{subject} names no index, as runs of `dupmae fuse` do not.")
    places = [str(section.folder / "index"), *([stated] if isinstance(stated, str) else [])]
    for place in places:
        if is_here(place) and is_here(str(Path(place, MANIFEST_FILE))):
            if (why := named.refusal(place)) is not None:
                raise DupMAEError(f"{why}; name the index with --index (index=…).")
            return Path(place)
    raise DupMAEError("the index of the run is not on this machine.")


def _explain(
    section: Section, examples: Sequence[Example], place: Path, about: dict[str, Any], named: Named
) -> None:
    from dupmae_toolkit.search.hybrid_index import HybridIndex

    subject = examples[0].subject
    with contextlib.closing(HybridIndex.open(place)) as index:
        request = _request(index, about)
        stored = _stored(section, subject, named)
        if _is_here(index):
            with contextlib.suppress(DupMAEError):
                _ = index.encoder  # once loaded, it tells tokens of the text from expansions
        for example in examples:
            vectors = _vectors(index, request, example, stored)
            found = index.explanations(vectors, request, wanted(example))
            scores = section.runs[subject].of(example.topic).scores
            for each in found:
                score = math.nan if each.score is None else each.score
                if not math.isclose(score, scores[each.id], rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
                    raise DupMAEError(
                        f"{place} gives {each.id} {score:.4f} in topic {example.topic}, the run "
                        f"gives it {scores[each.id]:.4f}; the index has changed, or it is another."
                    )
            example.explained = list(found)
        documents = index.get(shown_ids(examples))
        for example in examples:
            example.titles = {name: each.title for name, each in documents.items() if each.title}


def _request(index: HybridIndex, about: dict[str, Any]) -> Request:
    """The request that a run's metadata describes."""
    from dupmae_toolkit.search.fusion import Fusion

    mode = about["mode"]
    frequencies = (about.get("lexical") or {}).get("frequencies") or {}
    power = float(frequencies.get("power", 0.0))
    revising = _revising(about)
    if mode == "bm25":
        return index.request(10, mode, **revising)
    if mode != "hybrid":
        power_of_mode = power if mode == "lexical" else None
        return index.request(10, mode, idf_power=power_of_mode, **revising)
    described = about["fusion"]
    method, norm = described["method"], described["normalisation"]
    fusion = Fusion(
        method,
        tuple(described["weights"]) if method in _FITTED else None,
        norm if method not in ("sum", "rrf") else None,
        rrf_k=described.get("rrf_k", 60.0),
    )
    plain = "bm25" not in described["lists"]
    depth = about.get("depth")
    return index.request(10, mode, fusion, depth, plain=plain, idf_power=power, **revising)


def _revising(about: dict[str, Any]) -> dict[str, Any]:
    """How queries were changed and passages combined, as ``request`` takes it."""
    from dupmae_toolkit.search.feedback import Feedback

    made: dict[str, Any] = {"aggregate": (about.get("passages") or {}).get("aggregate")}
    if given := about.get("feedback"):
        names = ("method", "documents", "terms", "weight")
        made["feedback"] = Feedback(*map(given.get, names))
        made["filter"] = about.get("filter")  # which held for the first ranking too
    if most := about.get("query_terms"):
        made["query_terms"] = most["most"]
    return made


def _is_here(index: HybridIndex) -> bool:
    """Whether the encoder can be loaded without the network."""
    name = index.manifest.encoder.name
    return name == "builtin" or Path(name).is_dir()


def _stored(section: Section, label: str, named: Named) -> Representations | None:
    """The topics' vectors that are known of a run, or that ``dupmae beir`` left in the folder."""
    folder = section.encoded.get(label) or readable_queries(section, named)
    if folder is None:
        return None
    from dupmae_toolkit.encoding.corpus import EncodedCorpus

    return EncodedCorpus.open(folder).representations()


def _vectors(
    index: HybridIndex, request: Request, example: Example, stored: Representations | None
) -> Representations:
    if stored is not None:
        one = take(stored, [stored.ids.index(example.topic)])
        assert isinstance(one, Representations)
        return index.vectors(one, request.parts)
    if not example.text:
        raise DupMAEError("the topics' texts were not found.")
    if request.parts != WORDS and not _is_here(index):
        name = index.manifest.encoder.name
        raise DupMAEError(f"the encoder {name} is not on this machine as a folder.")
    return index.vectors([Query(example.topic, example.text)], request.parts)
